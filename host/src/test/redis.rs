//! A server in a container under the load of a client on this machine: Redis, and `redis-benchmark`.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, miette};
use rustix::process::{Pid, Signal, kill_process};

use super::Case;
use super::command::{self, Finished};
use super::outcome::Outcome;
use crate::progress::Step;

const CLIENT: &str = "redis-benchmark";
/// Requests of each kind.
const REQUESTS: &str = "2000";
/// How long the server may take to answer at first, and for one answer.
const BOOT: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(60);

pub fn case() -> Case {
    Case::new("redis-serves-the-benchmark-of-this-machine", run)
}

/// A container that ends with this value.
pub struct Container(pub Child);

impl Drop for Container {
    fn drop(&mut self) {
        // The command ends QEMU when it is asked to end.
        if let Some(id) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(id, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

fn run(step: &mut Step) -> Result<Outcome> {
    let folders = env::var_os("PATH").unwrap_or_default();
    if !env::split_paths(&folders).any(|folder| folder.join(CLIENT).exists()) {
        return Ok(Outcome::skipped(format!("there is no {CLIENT} here; Debian's package redis-tools has it")));
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).into_diagnostic()?;
    let port = listener.local_addr().into_diagnostic()?.port();
    drop(listener);
    let mut command = Command::new("/proc/self/exe");
    command.args(["run", "--timeout", "600", "debian:redis-server", "-p", &format!("{port}:6379"), "--"]);
    command.args(["redis-server", "--protected-mode", "no", "--save", ""]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut container = Container(command.spawn().into_diagnostic()?);
    step.note("booting");
    let end = Instant::now() + BOOT;
    while !ask(port, "PING").is_ok_and(|answer| answer == "+PONG") {
        if let Some(status) = container.0.try_wait().into_diagnostic()? {
            return Ok(Outcome::failed(format!("the container ended with {status}"), String::new()));
        }
        if Instant::now() > end {
            return Ok(Outcome::failed("the server does not answer", String::new()));
        }
        thread::sleep(Duration::from_millis(300));
    }
    for pipelined in ["1", "16"] {
        let finished = load(port, pipelined, step)?;
        if !finished.succeeded {
            return Ok(Outcome::failed(format!("{CLIENT} failed"), finished.output));
        }
    }
    // What the benchmark's requests come to, each of them twice.
    for (question, answer) in
        [("GET counter:__rand_int__", "4000"), ("LLEN mylist", ":4000"), ("STRLEN key:__rand_int__", ":3")]
    {
        let told = ask(port, question)?;
        if told != answer {
            return Ok(Outcome::failed(format!("`{question}` is answered `{told}`, not `{answer}`"), String::new()));
        }
    }
    Ok(Outcome::passed(1))
}

fn load(port: u16, pipelined: &str, step: &mut Step) -> Result<Finished> {
    let mut client = Command::new(CLIENT);
    client.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "-c", "8", "-n", REQUESTS, "-P", pipelined]);
    command::run(client.args(["-t", "set,get,incr,lpush"]), step)
}

/// The first line of an answer; of a text, the text.
fn ask(port: u16, question: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).into_diagnostic()?;
    stream.set_read_timeout(Some(PATIENCE)).into_diagnostic()?;
    stream.write_all(format!("{question}\r\n").as_bytes()).into_diagnostic()?;
    let mut lines = BufReader::new(stream).lines();
    let mut next = || lines.next().ok_or_else(|| miette!("the server hangs up"))?.into_diagnostic();
    let first = next()?;
    if first.starts_with('$') { next() } else { Ok(first) }
}
