//! The web server under load from this machine, while the drivers of its machine's network and disk are killed: not one request may fail, and none of
//! those to the disk that a component makes all the time.
//!
//! All goes through QEMU's network in user space. It lets one connection at a time wait to be taken, and what comes beyond is tried again after
//! seconds: so connections are opened one after the other, each with a first request.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, miette};
use rustix::process::{Pid, Signal, kill_process};

use super::Case;
use super::outcome::Outcome;
use crate::image::{self, Description};
use crate::progress::Step;
use crate::workspace;

const IMAGE: &str = "images/web-under-fire.toml";
/// What every answer ends with.
const END: &[u8] = b"</p>\n";
/// How long one answer may take. A lost frame is sent again after a second or more.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long booting may take.
const BOOT: Duration = Duration::from_secs(120);
/// Connections at once.
const CONNECTIONS: usize = 200;
/// Requests on new connections, and at the least on open ones.
const NEW: usize = 1000;
const REQUESTS: usize = 3000;
/// How often each driver is killed.
const KILLS: usize = 100;

pub fn case() -> Case {
    Case::new("a-web-server-fails-no-request-while-two-drivers-are-killed-100-times-each", run)
}

/// A guest that ends with this value.
struct Guest {
    command: Child,
    web: u16,
    saboteur: u16,
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The command ends QEMU when it is asked to end.
        if let Some(id) = i32::try_from(self.command.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(id, Signal::TERM);
        }
        let _ = self.command.wait();
    }
}

/// A port that nobody has at this moment.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).into_diagnostic()?;
    Ok(listener.local_addr().into_diagnostic()?.port())
}

fn run(step: &mut Step) -> Result<Outcome> {
    step.note("building");
    image::build_to_target(&Description::read(&workspace::root().join(IMAGE))?)?;
    let console = workspace::target().join("tessera/web-under-fire.log");
    let outcome = load(&console, step);
    let printed = std::fs::read_to_string(&console).unwrap_or_default();
    Ok(match outcome {
        Ok(()) => Outcome::passed(1),
        Err(report) => Outcome::failed(format!("{report:?}"), printed),
    })
}

fn load(console: &std::path::Path, step: &mut Step) -> Result<()> {
    let (web, saboteur) = (free_port()?, free_port()?);
    let log = File::create(console).into_diagnostic()?;
    let mut command = Command::new("/proc/self/exe");
    command.current_dir(workspace::root()).args(["run", IMAGE, "--accel", "tcg", "--timeout", "900"]);
    command.args(["-p", &format!("{web}:80"), "-p", &format!("{saboteur}:81")]);
    command.stdin(Stdio::null()).stderr(log.try_clone().into_diagnostic()?).stdout(log);
    let mut guest = Guest { command: command.spawn().into_diagnostic()?, web, saboteur };

    step.note("booting");
    let mut control = Control::connect(&mut guest)?;
    step.note("asking on new connections");
    for _ in 0..NEW {
        request(&mut open(web)?)?;
    }
    step.note("opening connections");
    let before = volley(web, REQUESTS, || Ok(()))?;
    let (healthy, disk) = (control.report("net")?, control.disk()?);
    step.note("killing drivers");
    let under_fire = volley(web, REQUESTS, || {
        control.kill("virtio-net", KILLS)?;
        control.kill("virtio-blk", KILLS)
    })?;
    let disk = control.disk()?.saturating_sub(disk);
    if disk < KILLS {
        return Err(miette!("only {disk} requests to the disk under fire"));
    }
    // Nothing is left of 200 connections and 100 drivers.
    let end = Instant::now() + PATIENCE;
    loop {
        let after = control.report("net")?;
        if after.objects <= healthy.objects && after.pages <= healthy.pages + healthy.pages / 20 {
            break;
        }
        if Instant::now() > end {
            return Err(miette!("`net` grew: {healthy:?} became {after:?}"));
        }
        thread::sleep(Duration::from_millis(500));
    }
    control.ask("end").ok();
    step.note(&format!("{NEW} and {before} requests, and {under_fire} and {disk} to the disk under fire"));
    let status = guest.command.wait().into_diagnostic()?;
    if status.success() { Ok(()) } else { Err(miette!("the guest ended with {status}")) }
}

/// Opens all connections and asks on all of them at once until there were so many requests and `meanwhile` is over. Answers how
/// many there were.
fn volley(port: u16, requests: usize, meanwhile: impl FnOnce() -> Result<()>) -> Result<usize> {
    let mut visitors = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut visitor = open(port)?;
        request(&mut visitor)?;
        visitors.push(visitor);
    }
    let (count, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let (count, over) = (&count, &over);
        let asking: Vec<_> = visitors
            .into_iter()
            .map(|mut visitor| {
                scope.spawn(move || -> Result<()> {
                    while count.fetch_add(1, Ordering::Relaxed) < requests || !over.load(Ordering::Relaxed) {
                        request(&mut visitor)?;
                    }
                    Ok(())
                })
            })
            .collect();
        let outcome = meanwhile();
        over.store(true, Ordering::Relaxed);
        let mut failed: Vec<_> =
            asking.into_iter().filter_map(|visitor| visitor.join().expect("a visitor does not panic").err()).collect();
        outcome?;
        let count = failed.len();
        match failed.pop() {
            Some(error) => Err(error.wrap_err(format!("{count} of {CONNECTIONS} visitors failed"))),
            None => Ok(()),
        }
    })?;
    Ok(count.into_inner())
}

fn open(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, PATIENCE).into_diagnostic()?;
    stream.set_read_timeout(Some(PATIENCE)).into_diagnostic()?;
    stream.set_nodelay(true).into_diagnostic()?;
    Ok(stream)
}

/// Asks for the page, and reads all of it.
fn request(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: tessera\r\n\r\n").into_diagnostic()?;
    let mut answer = Vec::new();
    let mut bytes = [0; 2048];
    while !answer.ends_with(END) {
        let length = stream.read(&mut bytes).into_diagnostic()?;
        if length == 0 {
            return Err(miette!("the answer ended early: {:?}", String::from_utf8_lossy(&answer)));
        }
        answer.extend_from_slice(bytes.get(..length).unwrap_or_default());
    }
    if !answer.starts_with(b"HTTP/1.1 200 OK\r\n") {
        return Err(miette!("another answer: {:?}", String::from_utf8_lossy(&answer)));
    }
    Ok(())
}

/// What a domain uses.
#[derive(Debug, Clone, Copy)]
struct Usage {
    pages: u64,
    objects: u64,
}

/// The connection to the component that kills, which itself goes through what it kills.
struct Control(BufReader<TcpStream>);

impl Control {
    /// Connects when the guest is up. QEMU takes connections before that, and ends them.
    fn connect(guest: &mut Guest) -> Result<Control> {
        let until = Instant::now() + BOOT;
        while Instant::now() < until {
            if let Some(status) = guest.command.try_wait().into_diagnostic()? {
                return Err(miette!("the guest ended with {status}"));
            }
            if let Ok(stream) = open(guest.saboteur) {
                let mut control = Control(BufReader::new(stream));
                if control.report("net").is_ok() {
                    return Ok(control);
                }
            }
            thread::sleep(Duration::from_millis(200));
        }
        Err(miette!("the guest cannot be reached at port {} or {}", guest.saboteur, guest.web))
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).into_diagnostic()?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).into_diagnostic()?;
        Ok(answer.trim().to_owned())
    }

    fn report(&mut self, name: &str) -> Result<Usage> {
        let answer = self.ask(&format!("report {name}"))?;
        let mut numbers = answer.split(' ').filter_map(|word| word.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(pages), Some(objects)) => Ok(Usage { pages, objects }),
            _ => Err(miette!("no report: `{answer}`")),
        }
    }

    /// How many requests to the disk were fine. An error if one was not.
    fn disk(&mut self) -> Result<usize> {
        let answer = self.ask("disk")?;
        let count = answer.strip_prefix("disk: ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        count.ok_or_else(|| miette!("{answer}"))
    }

    fn kill(&mut self, name: &str, times: usize) -> Result<()> {
        let answer = self.ask(&format!("kill {name} {times}"))?;
        if answer.starts_with("killed") { Ok(()) } else { Err(miette!("{answer}")) }
    }
}
