//! Rust programs with the standard library, built and run as a user would, and used from outside.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use miette::{IntoDiagnostic, Result, miette};
use rustix::process::{Pid, Signal, kill_process};

use super::Case;
use super::command::{self, Finished};
use super::outcome::Outcome;
use crate::image::Placement;
use crate::progress::Step;
use crate::workspace;

/// The program that checks what it runs on.
pub const TESTER: &str = "tests/native";
/// What it prints when all is well.
const CHECKED: &str = "all 19 checks passed";
/// Bytes that the smallest image of a Rust program may have: the kernel and the program's domain.
const SMALLEST: u64 = 300_000;
/// How long building and booting may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// The machine's code when a domain that must not end was ended by a fault.
const FAULTED: i32 = 101;

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Placement::value_variants()
        .iter()
        .map(|placement| {
            let name = format!("a-rust-program-has-what-its-standard-library-promises-as-{}", placement.word());
            Case::new(name, move |step| checks(*placement, step))
        })
        .collect();
    cases.extend([
        Case::new("a-rust-program-that-gives-up-says-why-and-ends-with-its-code", endings),
        Case::new("a-web-server-made-of-crates-answers-this-machine", server),
        Case::new("the-smallest-rust-program-is-small", smallest),
        Case::new("sqlite-keeps-a-table-in-a-file-of-a-rust-program", sqlite),
        Case::new("c-code-that-calls-another-system-is-refused", other_system),
    ]);
    cases
}

fn tessera(words: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.current_dir(workspace::root()).args(words);
    command
}

/// Runs the program that checks, with a word that says what it is to do.
fn tester(word: &str, placement: Placement, step: &mut Step) -> Result<Finished> {
    let options = ["run", TESTER, "--accel", "tcg", "--timeout", "400", "--placement", placement.word(), "--", word];
    command::run(&mut tessera(&options), step)
}

fn checks(placement: Placement, step: &mut Step) -> Result<Outcome> {
    let finished = tester("check", placement, step)?;
    let passed = finished.output.lines().filter(|line| line.starts_with("ok: ")).count() as u64;
    let whole = finished.succeeded && finished.output.lines().any(|line| line == CHECKED);
    Ok(if whole {
        Outcome::passed(passed)
    } else {
        Outcome::failed(format!("{passed} checks passed"), finished.output)
    })
}

fn endings(step: &mut Step) -> Result<Outcome> {
    let mut passed = 0;
    for placement in [Placement::Isolated, Placement::Unikernel] {
        for (word, code, line) in [
            ("panic", 101, "this is meant to fail"),
            ("exit", 7, ""),
            // The page below a stack is not there, in neither mode of the processor.
            ("overflow", FAULTED, "crashed at"),
        ] {
            let finished = tester(word, placement, step)?;
            if finished.code != Some(code) || !finished.output.contains(line) {
                let placement = placement.word();
                let why =
                    format!("as {placement}, `{word}` ended with {:?}, not with {code} and `{line}`", finished.code);
                return Ok(Outcome::failed(why, finished.output));
            }
            passed += 1;
        }
    }
    Ok(Outcome::passed(passed))
}

/// A guest that ends with this value.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // The command ends QEMU when it is asked to end.
        if let Some(id) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(id, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

fn server(step: &mut Step) -> Result<Outcome> {
    let log = workspace::target().join("tessera/http-server.log");
    let outcome = ask_server(&log, step);
    let printed = fs::read_to_string(&log).unwrap_or_default();
    Ok(match outcome {
        Ok(answers) => Outcome::passed(answers),
        Err(report) => Outcome::failed(format!("{report:?}"), printed),
    })
}

fn ask_server(log: &std::path::Path, step: &mut Step) -> Result<u64> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .into_diagnostic()?
        .port();
    let file = fs::File::create(log).into_diagnostic()?;
    let mut command =
        tessera(&["run", "examples/http-server", "--accel", "tcg", "--timeout", "900", "-p", &format!("{port}:80")]);
    command.stdin(Stdio::null()).stderr(file.try_clone().into_diagnostic()?).stdout(file);
    let mut guest = Guest(command.spawn().into_diagnostic()?);
    step.note("building and booting");
    let end = Instant::now() + PATIENCE;
    let page = loop {
        if let Some(status) = guest.0.try_wait().into_diagnostic()? {
            return Err(miette!("the guest ended with {status}"));
        }
        match get(port, "/") {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => break answer,
            _ if Instant::now() > end => return Err(miette!("the server does not answer")),
            _ => thread::sleep(Duration::from_millis(300)),
        }
    };
    let site = fs::read_to_string(workspace::root().join("examples/http-server/site/index.html")).into_diagnostic()?;
    let expect = |what: &str, holds: bool, answer: &str| {
        if holds { Ok(()) } else { Err(miette!(help = answer.to_owned(), "{what}")) }
    };
    expect("the page is not the file's", page.ends_with(&site), &page)?;
    let primes = get(port, "/primes/10000")?;
    expect("there are 1229 primes below 10000", primes.ends_with("1229\n"), &primes)?;
    let missing = get(port, "/missing")?;
    expect("a missing file is not found", missing.starts_with("HTTP/1.1 404"), &missing)?;
    let status = get(port, "/status")?;
    let body = status.split("\r\n\r\n").nth(1).unwrap_or_default();
    let body: serde_json::Value = serde_json::from_str(body).into_diagnostic()?;
    let is_recent = body["date"].as_u64().is_some_and(|date| date > 1_700_000_000);
    expect("the server knows the date", is_recent && body["requests"].as_u64() >= Some(4), &status)?;
    // Many at once, each on a connection of its own, opened one after the other: QEMU takes one at a time.
    step.note("asking 40 times at once");
    let mut open = Vec::new();
    for _ in 0..40 {
        let mut stream = connect(port)?;
        stream.write_all(request("/primes/1000").as_bytes()).into_diagnostic()?;
        open.push(stream);
    }
    for mut stream in open {
        let answer = read(&mut stream)?;
        expect("there are 168 primes below 1000", answer.ends_with("168\n"), &answer)?;
    }
    Ok(44)
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: tessera\r\nConnection: close\r\n\r\n")
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).into_diagnostic()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).into_diagnostic()?;
    Ok(stream)
}

fn read(stream: &mut TcpStream) -> Result<String> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).into_diagnostic()?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = connect(port)?;
    stream.write_all(request(path).as_bytes()).into_diagnostic()?;
    read(&mut stream)
}

fn smallest(step: &mut Step) -> Result<Outcome> {
    let file = workspace::target().join("tessera/smallest.elf");
    let path = file.display().to_string();
    let finished = command::run(&mut tessera(&["build", "examples/hello", "-o", &path]), step)?;
    if !finished.succeeded {
        return Ok(finished.outcome());
    }
    let size = fs::metadata(&file).into_diagnostic()?.len();
    if size > SMALLEST {
        return Ok(Outcome::failed(format!("it is {size} bytes, more than {SMALLEST}"), finished.output));
    }
    let ran = command::run(&mut tessera(&["run", &path, "--accel", "tcg", "--timeout", "60", "--memory", "4M"]), step)?;
    let greets = ran.output.lines().any(|line| line == "Hello from Rust's standard library!");
    Ok(if ran.succeeded && greets { Outcome::passed(1) } else { Outcome::failed("it does not greet", ran.output) })
}

fn sqlite(step: &mut Step) -> Result<Outcome> {
    let mut passed = 0;
    for placement in [Placement::Unikernel, Placement::Isolated] {
        let options = ["run", "examples/sqlite", "--accel", "tcg", "--timeout", "400", "--placement", placement.word()];
        let finished = command::run(&mut tessera(&options), step)?;
        for line in ["Helgoland    7.49", "a storm at night; 19 letters in a date", "2880 readings, integrity: ok"] {
            if !finished.succeeded || !finished.output.lines().any(|other| other == line) {
                return Ok(Outcome::failed(format!("as {}: no `{line}`", placement.word()), finished.output));
            }
            passed += 1;
        }
    }
    Ok(Outcome::passed(passed))
}

/// A program whose C code calls `fork`, for which musl would call Linux, and `strlen`, for which it only computes.
fn other_system(step: &mut Step) -> Result<Outcome> {
    let folder = tempfile::tempdir().into_diagnostic()?;
    let files = [
        (
            "Cargo.toml",
            "[package]\nname = \"forking\"\nedition = \"2024\"\n[build-dependencies]\ncc = \"1\"\n[workspace]\n",
        ),
        ("build.rs", "fn main() { cc::Build::new().file(\"src/forks.c\").compile(\"forks\"); }\n"),
        (
            "src/forks.c",
            "#include <string.h>\n#include <unistd.h>\nint forks(const char *text) { return strchr(text, 'x') ? fork() : 0; }\n",
        ),
        (
            "src/main.rs",
            "unsafe extern \"C\" { fn forks(text: *const std::ffi::c_char) -> i32; }\n\
             fn main() { std::process::exit(unsafe { forks(c\"text\".as_ptr()) }) }\n",
        ),
    ];
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(&path)).into_diagnostic()?;
        fs::write(path, text).into_diagnostic()?;
    }
    // The crates that the tests were locked with.
    let lock = workspace::root().join(TESTER).join("Cargo.lock");
    fs::copy(lock, folder.path().join("Cargo.lock")).into_diagnostic()?;
    let path = folder.path().display().to_string();
    let finished = command::run(&mut tessera(&["build", &path, "-o", &format!("{path}/forking.elf")]), step)?;
    let words: Vec<&str> = finished.output.split_whitespace().collect();
    let is_told = words.join(" ").contains("the program needs what is not there: fork help:");
    Ok(if !finished.succeeded && is_told {
        Outcome::passed(1)
    } else {
        Outcome::failed("it is not refused for what it calls", finished.output)
    })
}
