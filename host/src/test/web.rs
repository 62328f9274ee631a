//! The web server under load from this machine, while what it stands on is killed.
//!
//! Its pages lie on a disk. While the drivers, their bus and the file system on the disk are killed, not one request may fail, and none of those to another disk that a
//! component makes all the time; each end of the file system in memory may break one round of its client. When the network stack itself is killed, its connections end:
//! each visitor loses one for each kill at most, and new ones are served. Afterwards no domain, and not the manager, may use more than before.
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

pub const IMAGE: &str = "images/web-under-fire.toml";
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
/// How often each driver is killed, and the file system in memory.
const KILLS: usize = 100;
/// Starts before those, whose memory all later ones are held against.
const MEASURED: usize = 4;
const ALL: &str = "pci+virtio-net+virtio-blk+virtio-blk-2+tar-files";
/// What is killed while no request may fail, and how often: the servers above the drivers, the bus, and all of them at once.
const UNNOTICED: [(&str, usize); 6] =
    [("virtio-net", KILLS), ("virtio-blk", KILLS), ("virtio-blk-2", 10), ("tar-files", 20), ("pci", 2), (ALL, 2)];
/// How often the network stack is killed, and how many visitors it has meanwhile.
const NETWORK_KILLS: usize = 10;
const VISITORS: usize = 8;
/// Everything that may not have grown at the end.
const DOMAINS: [&str; 10] =
    ["pci", "virtio-net", "virtio-blk", "virtio-blk-2", "tar-files", "files", "net", "web", "saboteur", "manager"];

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
    // Those that are measured were started under fire, as all later ones are: it differs from start to start how many threads answer at once.
    let mut healthy = vec![Usage::default(); DOMAINS.len()];
    let before = volley(web, REQUESTS, || {
        for _ in 0..MEASURED {
            control.kill(ALL, 1)?;
            for (most, name) in healthy.iter_mut().zip(DOMAINS) {
                let now = control.report(name)?;
                *most = Usage { pages: most.pages.max(now.pages), objects: most.objects.max(now.objects), ..now };
            }
        }
        Ok(())
    })?;
    let (disk, (rounds, broken)) = (control.disk()?, control.files()?);
    let under_fire = volley(web, REQUESTS, || {
        for (names, times) in UNNOTICED {
            step.note(&format!("killing {names}"));
            control.kill(names, times)?;
        }
        step.note("killing the file system in memory");
        control.kill("files", KILLS)
    })?;
    let disk = control.disk()?.saturating_sub(disk);
    if disk < KILLS {
        return Err(miette!("only {disk} requests to the disk under fire"));
    }
    let (more_rounds, more_broken) = control.files()?;
    let (rounds, broken) = (more_rounds.saturating_sub(rounds), more_broken.saturating_sub(broken));
    if broken > KILLS || rounds < KILLS {
        return Err(miette!("{broken} rounds with files were broken by {KILLS} kills, and {rounds} were fine"));
    }
    step.note("killing the network stack");
    let mut control = kill_the_network(web, &mut guest, control)?;
    for (name, healthy) in DOMAINS.iter().zip(healthy) {
        control.settles(name, healthy)?;
    }
    control.ask("end").ok();
    step.note(&format!(
        "{NEW} and {before} requests, and {under_fire}, {disk} to the disk and {rounds} rounds with files under fire"
    ));
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

/// Kills the network stack again and again under visitors, who see their connections end and open others. Answers the connection to whom kills: it has lost its
/// own each time too.
fn kill_the_network(port: u16, guest: &mut Guest, mut control: Control) -> Result<Control> {
    let (served, broken, over) =
        ([const { AtomicUsize::new(0) }; VISITORS], [const { AtomicUsize::new(0) }; VISITORS], AtomicBool::new(false));
    let (served, broken, over) = (&served, &broken, &over);
    thread::scope(|scope| {
        for (served, broken) in served.iter().zip(broken) {
            scope.spawn(move || visit(port, served, broken, over));
        }
        let mut kills = || {
            for _ in 0..NETWORK_KILLS {
                let starts = control.report("net")?.starts;
                control.send("kill net 1")?;
                control = Control::connect(guest)?;
                let now = control.report("net")?.starts;
                if now != starts + 1 {
                    return Err(miette!("`net` was started {} times for one kill", now - starts));
                }
                // Everybody is served again before the next time.
                let before: Vec<usize> = served.iter().map(|count| count.load(Ordering::Relaxed)).collect();
                let end = Instant::now() + PATIENCE;
                while served.iter().zip(&before).any(|(count, before)| count.load(Ordering::Relaxed) == *before) {
                    if Instant::now() > end {
                        return Err(miette!("a visitor is not served any more after the network stack was killed"));
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            }
            Ok(())
        };
        let outcome = kills();
        over.store(true, Ordering::Relaxed);
        outcome
    })?;
    let most = broken.iter().map(|count| count.load(Ordering::Relaxed)).max().unwrap_or_default();
    if most > NETWORK_KILLS {
        return Err(miette!("a visitor lost {most} connections by {NETWORK_KILLS} kills"));
    }
    Ok(control)
}

/// Asks on one connection after the other until it is over. Counts the answers, and the connections that ended after they had served.
fn visit(port: u16, served: &AtomicUsize, broken: &AtomicUsize, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = open(port) else {
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        // What the stack had acknowledged when it was killed nobody answers: the visitor is the one to give up.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut has_served = false;
        while !over.load(Ordering::Relaxed) && request(&mut stream).is_ok() {
            served.fetch_add(1, Ordering::Relaxed);
            has_served = true;
        }
        if has_served && !over.load(Ordering::Relaxed) {
            broken.fetch_add(1, Ordering::Relaxed);
        }
    }
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
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    pages: u64,
    objects: u64,
    starts: u64,
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

    fn send(&mut self, line: &str) -> Result<()> {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).into_diagnostic()
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        self.send(line)?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).into_diagnostic()?;
        Ok(answer.trim().to_owned())
    }

    fn report(&mut self, name: &str) -> Result<Usage> {
        let answer = self.ask(&format!("report {name}"))?;
        let mut numbers = answer.split(' ').filter_map(|word| word.parse().ok());
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(pages), Some(objects), Some(starts)) => Ok(Usage { pages, objects, starts }),
            _ => Err(miette!("no report: `{answer}`")),
        }
    }

    /// Waits until a domain uses no more than before. What its threads keep for the next request differs by a few pages; what leaks with each kill is more.
    fn settles(&mut self, name: &str, healthy: Usage) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let after = self.report(name)?;
            if after.objects <= healthy.objects && after.pages <= healthy.pages + (healthy.pages / 20).max(8) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(miette!("`{name}` grew: {healthy:?} became {after:?}"));
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// How many requests to the disk were fine. An error if one was not.
    fn disk(&mut self) -> Result<usize> {
        let answer = self.ask("disk")?;
        let count = answer.strip_prefix("disk: ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        count.ok_or_else(|| miette!("{answer}"))
    }

    /// How many rounds with the files in memory were fine, and how many were broken. An error if one was wrong.
    fn files(&mut self) -> Result<(usize, usize)> {
        let answer = self.ask("files")?;
        let mut numbers = answer.split(' ').filter_map(|word| word.parse().ok());
        match (answer.starts_with("files: "), numbers.next(), numbers.next()) {
            (true, Some(rounds), Some(broken)) => Ok((rounds, broken)),
            _ => Err(miette!("{answer}")),
        }
    }

    fn kill(&mut self, name: &str, times: usize) -> Result<()> {
        let answer = self.ask(&format!("kill {name} {times}"))?;
        if answer.starts_with("killed") { Ok(()) } else { Err(miette!("{answer}")) }
    }
}
