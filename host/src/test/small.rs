//! A container on a small machine: nginx, with the libraries that it needs and nothing else of Debian, in as little memory as is promised.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result};

use super::Case;
use super::command as run;
use super::outcome::Outcome;
use super::redis::Container;
use super::slim;
use crate::bench::servers::NGINX;
use crate::container::{self, Source};
use crate::image::Placement;
use crate::progress::Step;
use crate::workspace;

/// Debian's package, its program, and its configuration and page among the files of this checkout.
const PACKAGE: &str = "debian:nginx-light";
const PROGRAM: &str = "/usr/sbin/nginx";
const FILES: &str = "bench/servers";
/// How long the page may take to come.
const PATIENCE: Duration = Duration::from_secs(120);
/// Clients that ask at the same time, pages that each asks for on one connection, then pages with a connection for each, and bytes of each page.
const CLIENTS: usize = 8;
const KEPT: usize = 50;
const PAGES: usize = 25;
const PAGE: usize = 612;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("nginx-serves-in-16-mib-as-unikernel", |step| serves("unikernel", "16M", step)),
        Case::new("nginx-serves-in-21-mib-isolated", |step| serves("isolated", "21M", step)),
        Case::new("too-little-memory-for-a-container-is-told", told),
        Case::new("a-unikernel-serves-on-one-page-table", one_table),
    ]
}

/// A root file system of nginx alone, in `folder`.
pub fn nginx_alone(folder: &Path) -> Result<()> {
    slim::write(&container::root_image(&Source::of(PACKAGE)?)?, PROGRAM, folder)?;
    for made in ["etc", "tmp", "var/log/nginx", "var/lib/nginx"] {
        fs::create_dir_all(folder.join(made)).into_diagnostic()?;
    }
    fs::write(folder.join("etc/passwd"), "root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n").into_diagnostic()?;
    fs::write(folder.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").into_diagnostic()
}

/// A command about the container of nginx in `folder`.
fn command(what: &[&str], folder: &Path, placement: &str, port: u16) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(what).args(["--placement", placement]);
    command.arg(folder).args(["-p", &format!("{port}:80"), "-v"]);
    command.arg(format!("{}:/bench:copy", workspace::root().join(FILES).display()));
    command.args(["--", PROGRAM, "-c", "/bench/nginx.conf"]);
    command
}

/// `run` of nginx in `folder`, which is filled; all is built before.
fn container(folder: &Path, placement: &str, memory: &str, port: u16, step: &mut Step) -> Result<Command> {
    nginx_alone(folder)?;
    let built = folder.with_extension("elf");
    let output = built.display().to_string();
    run::run(&mut command(&["build", "--output", &output], folder, placement, port), step)?;
    // What is kept of it is the system, and the file to boot.
    let _ = fs::remove_file(built);
    Ok(command(&["run", "--timeout", "300", "--accel", "tcg", "--memory", memory], folder, placement, port))
}

/// A request that nginx answers as unikernel needs no other page table than the one before did, though it wakes the guest; isolated, it crosses domains.
/// Where each switch of threads loads a table it is six a request.
fn one_table(step: &mut Step) -> Result<Outcome> {
    if let Err(error) = container::root_image(&Source::of(PACKAGE)?) {
        return if missing(&error) { Ok(Outcome::skipped("Debian's packages cannot be had here")) } else { Err(error) };
    }
    step.note("booting");
    let [unikernel, isolated] = [Placement::Unikernel, Placement::Isolated].map(|placement| NGINX.flushes(placement));
    let (unikernel, isolated) = (unikernel?, isolated?);
    Ok(if unikernel < 1.0 && isolated > 1.0 {
        Outcome::passed(1)
    } else {
        let said = format!("unikernel {unikernel:.2}, isolated {isolated:.2}");
        Outcome::failed(format!("page tables loaded for a request: {said}"), "")
    })
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).into_diagnostic()?;
    Ok(listener.local_addr().into_diagnostic()?.port())
}

/// Why Debian's packages cannot be had here, if they cannot.
fn missing(error: &miette::Report) -> bool {
    let text = format!("{error:?}");
    ["apt, which this machine does not have", "packages cannot be fetched"].iter().any(|reason| text.contains(reason))
}

fn serves(placement: &str, memory: &str, step: &mut Step) -> Result<Outcome> {
    let folder = tempfile::tempdir().into_diagnostic()?;
    let port = free_port()?;
    let mut command = match container(folder.path(), placement, memory, port, step) {
        Err(error) if missing(&error) => return Ok(Outcome::skipped("Debian's packages cannot be had here")),
        command => command?,
    };
    step.note("booting");
    let output = folder.path().join("output");
    let writer = fs::File::create(&output).into_diagnostic()?;
    let errors = writer.try_clone().into_diagnostic()?;
    command.stdin(Stdio::null()).stdout(writer).stderr(errors);
    let mut container = Container(command.spawn().into_diagnostic()?);
    let served = ask_all(port, &mut container);
    drop(container);
    Ok(match served {
        Ok(()) => Outcome::passed(1),
        Err(error) => Outcome::failed(error, fs::read_to_string(&output).unwrap_or_default()),
    })
}

/// Asks for all pages; the first one may take its time.
fn ask_all(port: u16, container: &mut Container) -> std::result::Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while let Err(error) = ask(port, 1) {
        if let Ok(Some(status)) = container.0.try_wait() {
            return Err(format!("the container ended with {status}"));
        }
        if Instant::now() > end {
            return Err(format!("the server does not answer: {error}"));
        }
        thread::sleep(Duration::from_millis(200));
    }
    let client = move || {
        ask(port, KEPT)?;
        (0..PAGES).try_for_each(|page| ask(port, 1).map_err(|error| format!("page {page}: {error}")))
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(client)).collect();
    let outcomes = clients.into_iter().map(|client| client.join().unwrap_or_else(|_| Err("a client broke".to_owned())));
    // All are waited for.
    outcomes.collect::<Vec<_>>().into_iter().collect()
}

/// Asks for so many pages on one connection.
fn ask(port: u16, pages: usize) -> std::result::Result<(), String> {
    let connect = || {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(BufReader::new(stream))
    };
    let mut stream = connect().map_err(|error: io::Error| error.to_string())?;
    (0..pages).try_for_each(|_| {
        let answer = page(&mut stream).map_err(|error| error.to_string())?;
        let body = answer.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
        let is_right = answer.starts_with("HTTP/1.1 200 OK") && body == PAGE;
        if is_right { Ok(()) } else { Err(format!("it answers `{answer}`")) }
    })
}

/// Asks for a page, and answers with its head and its contents.
fn page(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: small\r\n\r\n")?;
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        if stream.read_line(&mut answer)? == 0 {
            return Ok(answer);
        }
    }
    let length = answer.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    stream.take(length.unwrap_or_default()).read_to_string(&mut answer)?;
    Ok(answer)
}

fn told(step: &mut Step) -> Result<Outcome> {
    let folder = tempfile::tempdir().into_diagnostic()?;
    let mut command = match container(folder.path(), "unikernel", "8M", free_port()?, step) {
        Err(error) if missing(&error) => return Ok(Outcome::skipped("Debian's packages cannot be had here")),
        command => command?,
    };
    let finished = run::run(&mut command, step)?;
    let told =
        finished.output.contains("8M is too little memory") && finished.output.contains("give at least `--memory");
    Ok(if told && !finished.succeeded {
        Outcome::passed(1)
    } else {
        Outcome::failed("it does not say so", finished.output)
    })
}
