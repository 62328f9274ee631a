//! What servers cost under the load of a client on this machine: instructions for each request, and requests in a second.
//!
//! Instructions are QEMU's own count of those that were executed (`info replay` of its monitor, which tells it while a run is recorded), so that a
//! guest that waits costs nothing. The same packages of Debian, with the same files and words, run as a container in each placement
//! and as the only program of Debian's kernel.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Report, Result, WrapErr, miette};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::linux::Peer;
use super::{Figure, LIMIT};
use crate::container::{self, Mode, Overrides, PortMapping, Source, Volume, launch};
use crate::devices::Device;
use crate::image::{MachineKind, Memory, Placement, Processors};
use crate::process;
use crate::progress::Step;
use crate::qemu::{Boot, Engine};
use crate::workspace;

/// Connections that are open at once.
const CONNECTIONS: usize = 8;
/// Rounds of a request on each connection: before counting begins, and those that are counted.
const WARM: usize = 4;
const COUNTED: usize = 16;
/// How long requests are counted by the clock, and how often: what counts is the best time, in which this machine did least beside.
const PLAIN: Duration = Duration::from_secs(2);
const TIMES: usize = 3;
/// What an answer may take to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where the files of the measured servers are, here and in the guest.
const FILES: (&str, &str) = ("bench/servers", "/bench");

/// A program that serves.
pub struct Server {
    name: &'static str,
    packages: &'static str,
    words: &'static [&'static str],
    port: u16,
    loads: &'static [Load],
}

/// One kind of request.
struct Load {
    name: &'static str,
    request: &'static str,
    /// How the right answer begins.
    answer: &'static str,
    /// Requests that are sent together.
    pipelined: usize,
    /// Whether each has a connection of its own.
    connects: bool,
}

const PAGE: &str = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
const PAGE_FOUND: &str = "HTTP/1.1 200 OK";
const SET: &str = "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$3\r\nabc\r\n";
const GET: &str = "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n";

pub const NGINX: Server = Server {
    name: "nginx",
    packages: "debian:nginx-light",
    words: &["/usr/sbin/nginx", "-c", "/bench/nginx.conf"],
    port: 80,
    loads: &[
        Load { name: "request", request: PAGE, answer: PAGE_FOUND, pipelined: 1, connects: false },
        Load { name: "connection", request: PAGE, answer: PAGE_FOUND, pipelined: 1, connects: true },
    ],
};

const REDIS: Server = Server {
    name: "redis",
    packages: "debian:redis-server",
    words: &["/usr/bin/redis-server", "--protected-mode", "no", "--save", ""],
    port: 6379,
    loads: &[
        Load { name: "set", request: SET, answer: "+OK", pipelined: 1, connects: false },
        Load { name: "get", request: GET, answer: "$3\r\nabc", pipelined: 1, connects: false },
        Load { name: "get-pipelined", request: GET, answer: "$3\r\nabc", pipelined: 16, connects: false },
    ],
};

pub const SERVERS: [Server; 2] = [NGINX, REDIS];

impl Server {
    fn volumes() -> Vec<Volume> {
        vec![Volume { host: workspace::root().join(FILES.0), guest: FILES.1.to_owned(), mode: Mode::Copy }]
    }

    /// A free port of this machine that leads to the server.
    pub fn port(&self) -> Result<PortMapping> {
        PortMapping::free(self.port)
    }

    /// The figures of the server as a container.
    pub fn measure(&self, placement: Placement, how: How) -> Result<Vec<Figure>> {
        let port = self.port()?;
        let boot = self.contained(&Source::of(self.packages)?, placement, port, None)?;
        self.observe(boot, placement.word(), port.host, how)
    }

    /// The server of `source` as a container, in the memory that is given or the usual one.
    pub fn contained(
        &self,
        source: &Source,
        placement: Placement,
        port: PortMapping,
        memory: Option<Memory>,
    ) -> Result<Boot> {
        let overrides = Overrides {
            words: self.words.iter().map(|word| (*word).to_owned()).collect(),
            ports: vec![port],
            volumes: Self::volumes(),
            ..Overrides::default()
        };
        let system = launch::system(None, Some(placement))?;
        let container = container::prepare(source, &overrides, &system, memory)?;
        // Nobody reads what the container says.
        let unread =
            |argument: String| match argument.strip_suffix(",fd=0").and_then(|rest| rest.strip_prefix("socket,")) {
                Some(console) => format!("null,{console}"),
                None => argument,
            };
        let devices = launch::devices(MachineKind::Q35, &container.system, &[port], &[Device::Attached])?;
        Ok(Boot {
            image: container.image,
            machine: MachineKind::Q35,
            memory: container.memory,
            processors: Processors::default(),
            engine: Engine::Tcg,
            limit: Some(LIMIT),
            words: Vec::new(),
            devices: devices.into_iter().map(unread).collect(),
            keys_go_to_the_guest: false,
        })
    }

    /// The figures of the server on Debian's kernel.
    pub fn measure_peer(&self, peer: &Peer, how: How) -> Result<Vec<Figure>> {
        let port = self.port()?;
        let boot = self.on_peer(&Source::of(self.packages)?, peer, port)?;
        self.observe(boot, &peer.name, port.host, how)
    }

    /// The server of `source` on Debian's kernel.
    pub fn on_peer(&self, source: &Source, peer: &Peer, port: PortMapping) -> Result<Boot> {
        let root = container::root_image_with(source, &Self::volumes())?;
        peer.running(self.name, &root, self.words, &[port])
    }

    fn observe(&self, mut boot: Boot, guest: &str, port: u16, how: How) -> Result<Vec<Figure>> {
        let mut step = Step::start("measuring");
        step.note(&format!("{} on {guest}, {}", self.name, how.word()));
        let folder = tempfile::tempdir().into_diagnostic()?;
        let monitor = folder.path().join("monitor");
        boot.devices.extend(how.arguments(&boot.devices, folder.path(), &monitor));
        if let How::Plain { processors } = how {
            boot.processors = processors;
        }
        while_it_serves(&boot, &monitor, |ended| self.converse(port, &monitor, how, ended))
            .map_err(|(error, console)| miette!(help = console, "{} on {guest}: {error:?}", self.name))
    }

    /// Boots the server and waits for its first answer. The error says why there was none in time.
    pub fn answers(&self, mut boot: Boot, port: PortMapping, patience: Duration) -> Result<()> {
        let Some(first) = self.loads.first() else { return Ok(()) };
        let folder = tempfile::tempdir().into_diagnostic()?;
        let monitor = folder.path().join("monitor");
        boot.devices.extend(with_monitor(&monitor));
        while_it_serves(&boot, &monitor, |ended| first_answer(port.host, first, patience, ended))
            .map_err(|(error, console)| miette!(help = console, "{error:?}"))
    }

    /// How often QEMU emptied a table of translated addresses, which it does when a page table is loaded, for each request that the server answered. They
    /// come one at a time, so that each wakes the guest whatever else this machine does.
    pub fn flushes(&self, placement: Placement) -> Result<f64> {
        let Some(first) = self.loads.first() else { return Ok(0.0) };
        let port = self.port()?;
        let mut boot = self.contained(&Source::of(self.packages)?, placement, port, None)?;
        let folder = tempfile::tempdir().into_diagnostic()?;
        let monitor = folder.path().join("monitor");
        boot.devices.extend(with_monitor(&monitor));
        let counted = while_it_serves(&boot, &monitor, |ended| {
            first_answer(port.host, first, LIMIT, ended)?;
            let mut client = Client::open(port.host, first)?;
            client.streams.truncate(1);
            client.rounds(WARM)?;
            let before = Monitor::open(&monitor)?.flushes()?;
            client.rounds(COUNTED)?;
            Ok(Monitor::open(&monitor)?.flushes()?.saturating_sub(before))
        });
        let count =
            counted.map_err(|(error, console)| miette!(help = console, "{} on {placement:?}: {error:?}", self.name))?;
        Ok(count as f64 / (COUNTED * first.pipelined) as f64)
    }

    fn converse(&self, port: u16, monitor: &Path, how: How, ended: &AtomicBool) -> Result<Vec<Figure>> {
        let Some(first) = self.loads.first() else { return Ok(Vec::new()) };
        first_answer(port, first, LIMIT, ended)?;
        let mut figures = Vec::new();
        let count = || Monitor::open(monitor)?.instructions();
        if how == How::Counted {
            figures.push(self.figure("first-byte", count()? as f64, "ticks"));
        }
        for load in self.loads {
            let mut client = Client::open(port, load)?;
            client.rounds(WARM)?;
            figures.push(match how {
                How::Counted => {
                    let before = count()?;
                    client.rounds(COUNTED)?;
                    let requests = COUNTED * CONNECTIONS * load.pipelined;
                    self.figure(load.name, ((count()? - before) as f64 / requests as f64).round(), "ticks")
                }
                How::Plain { processors } => {
                    let mut best = 0.0_f64;
                    for _ in 0..TIMES {
                        let begun = Instant::now();
                        let requests = client.ask_for(PLAIN)? as f64;
                        best = best.max(requests / begun.elapsed().as_secs_f64());
                    }
                    let name = match processors.count() {
                        1 => format!("{}s-a-second", load.name),
                        more => format!("{}s-a-second-{more}-processors", load.name),
                    };
                    self.figure(&name, best.round(), "1/s")
                }
            });
        }
        Ok(figures)
    }

    fn figure(&self, what: &str, value: f64, unit: &str) -> Figure {
        Figure { name: format!("{}-{what}", self.name), value, unit: unit.to_owned() }
    }
}

/// How a server is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Instructions, of one processor.
    Counted,
    /// Requests in a second.
    Plain { processors: Processors },
}

impl How {
    fn word(self) -> String {
        match self {
            Self::Counted => "counting instructions".to_owned(),
            Self::Plain { processors } => format!("plain, processors: {}", processors.count()),
        }
    }

    /// QEMU's arguments beside the guest's own `devices`.
    fn arguments(self, devices: &[String], folder: &Path, monitor: &Path) -> Vec<String> {
        match self {
            Self::Counted => counting(devices, folder, monitor),
            Self::Plain { .. } => with_monitor(monitor),
        }
    }
}

fn with_monitor(monitor: &Path) -> Vec<String> {
    vec!["-monitor".to_owned(), format!("unix:{},server=on,wait=off", monitor.display())]
}

/// QEMU's arguments by which its monitor tells how many instructions were executed, beside the guest's own `devices`. The record goes to `folder`.
pub fn counting(devices: &[String], folder: &Path, monitor: &Path) -> Vec<String> {
    let mut arguments = with_monitor(monitor);
    let record = folder.join("record");
    arguments.extend(["-icount".to_owned(), format!("shift=0,rr=record,rrfile={}", record.display())]);
    // A network's packets are recorded by a filter, which QEMU asks for.
    let networks = devices.iter().filter_map(|argument| argument.strip_prefix("user,id=")?.split(',').next());
    for network in networks {
        arguments.extend(["-object".to_owned(), format!("filter-replay,id=recorded,netdev={network}")]);
    }
    arguments
}

/// QEMU's monitor for people, the one that tells how many instructions were executed.
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    pub fn open(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).into_diagnostic().wrap_err("cannot reach QEMU's monitor")?;
        stream.set_read_timeout(Some(PATIENCE)).into_diagnostic()?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    fn tell(&mut self, what: &str) -> Result<()> {
        self.stream.get_mut().write_all(format!("{what}\n").as_bytes()).into_diagnostic()
    }

    /// Ends QEMU, and waits for that: who leaves before is not listened to.
    fn quit(&mut self) -> Result<()> {
        self.tell("quit")?;
        self.stream.read_to_end(&mut Vec::new()).into_diagnostic()?;
        Ok(())
    }

    pub fn instructions(&mut self) -> Result<u64> {
        self.tell("info replay")?;
        self.read(instruction_count)
    }

    /// How often one of the tables of translated addresses was emptied in which there was something. There is one for each mode of the processor, and more than
    /// a PC has: it is never all of them, which would be counted elsewhere.
    fn flushes(&mut self) -> Result<u64> {
        self.tell("info jit")?;
        self.read(flush_count)
    }

    /// What the first line says in which there is something.
    fn read(&mut self, there: impl Fn(&str) -> Option<u64>) -> Result<u64> {
        loop {
            let mut line = String::new();
            let length = self.stream.read_line(&mut line).into_diagnostic().wrap_err("QEMU's monitor is silent")?;
            if length == 0 {
                return Err(miette!("QEMU ended"));
            }
            if let Some(count) = there(&line) {
                return Ok(count);
            }
        }
    }
}

/// Reads `Recording execution '…': instruction count = 12`.
fn instruction_count(line: &str) -> Option<u64> {
    line.split_once("instruction count = ")?.1.trim().parse().ok()
}

/// Reads `TLB partial flushes 12`.
fn flush_count(line: &str) -> Option<u64> {
    line.trim().strip_prefix("TLB partial flushes")?.trim().parse().ok()
}

/// Boots a guest and does `work` with it; it serves until its machine is taken away through QEMU's `monitor`. An error comes with what it said.
fn while_it_serves<T: Send>(
    boot: &Boot,
    monitor: &Path,
    work: impl FnOnce(&AtomicBool) -> Result<T> + Send,
) -> std::result::Result<T, (Report, String)> {
    let ended = AtomicBool::new(false);
    let mut console = Vec::new();
    let done = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let done = work(&ended);
            Monitor::open(monitor).and_then(|mut monitor| monitor.quit()).ok();
            done
        });
        let ending = boot.run(crate::symbols::Symbols::default(), false, &mut console);
        ended.store(true, Ordering::Relaxed);
        let done = client.join().unwrap_or_else(|_| Err(miette!("the client panicked")));
        ending.and(done)
    });
    done.map_err(|error| (error, String::from_utf8_lossy(&console).into_owned()))
}

/// Waits for the server's first answer.
fn first_answer(port: u16, load: &Load, patience: Duration, ended: &AtomicBool) -> Result<()> {
    let until = Instant::now() + patience;
    loop {
        // A connection that begins before the guest listens may never get an answer.
        let asked = connect(port).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(1))).into_diagnostic()?;
            whole_answer(&mut stream, load)
        });
        match asked {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > until || ended.load(Ordering::Relaxed) || process::interrupted() => {
                return Err(error.wrap_err("the server did not answer"));
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).into_diagnostic()?;
    stream.set_nodelay(true).into_diagnostic()?;
    stream.set_read_timeout(Some(PATIENCE)).into_diagnostic()?;
    Ok(stream)
}

/// Asks once, and reads until nothing more comes: the answer's length in bytes.
fn whole_answer(stream: &mut TcpStream, load: &Load) -> Result<usize> {
    const QUIET: Duration = Duration::from_millis(300);
    let mut bytes = vec![0; 64 << 10];
    stream.write_all(load.request.repeat(load.pipelined).as_bytes()).into_diagnostic()?;
    let mut length = stream.read(&mut bytes).into_diagnostic()?;
    stream.set_read_timeout(Some(QUIET)).into_diagnostic()?;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) | Err(_) => break,
            Ok(more) => length += more,
        }
    }
    stream.set_read_timeout(Some(PATIENCE)).into_diagnostic()?;
    check(bytes.get(..length).unwrap_or_default(), load)?;
    Ok(length)
}

fn check(answer: &[u8], load: &Load) -> Result<()> {
    if answer.starts_with(load.answer.as_bytes()) {
        return Ok(());
    }
    Err(miette!("the answer is not `{}`, but `{}`", load.answer.escape_debug(), answer.escape_ascii()))
}

/// A client that asks on all its connections.
struct Client<'a> {
    port: u16,
    load: &'a Load,
    request: Vec<u8>,
    streams: Vec<TcpStream>,
    /// Answers to one request are all of one length.
    answer: Vec<u8>,
}

impl<'a> Client<'a> {
    fn open(port: u16, load: &'a Load) -> Result<Self> {
        let request = load.request.repeat(load.pipelined).into_bytes();
        let length = whole_answer(&mut connect(port)?, load)?;
        let mut client = Self { port, load, request, streams: Vec::new(), answer: vec![0; length] };
        // One after the other: QEMU's network holds one connection that it has not taken yet, and others wait for seconds.
        for _ in 0..if load.connects { 0 } else { CONNECTIONS } {
            let stream = client.connected()?;
            client.streams.push(stream);
        }
        Ok(client)
    }

    /// A new connection, asked once.
    fn connected(&mut self) -> Result<TcpStream> {
        let mut stream = connect(self.port)?;
        stream.write_all(&self.request).into_diagnostic()?;
        self.receive(&mut stream)?;
        Ok(stream)
    }

    fn receive(&mut self, stream: &mut TcpStream) -> Result<()> {
        stream.read_exact(&mut self.answer).into_diagnostic().wrap_err("the server fell silent")?;
        check(&self.answer, self.load)
    }

    /// Asks for so long, on each connection anew as soon as it has its answer, as `wrk` does; answers how many requests that were. Those that have a
    /// connection each come one after the other.
    fn ask_for(&mut self, time: Duration) -> Result<usize> {
        let begun = Instant::now();
        let mut rounds = 0;
        if self.load.connects {
            while begun.elapsed() < time {
                self.connected()?;
                rounds += 1;
            }
            return Ok(rounds);
        }
        let patience = Timespec::try_from(PATIENCE).into_diagnostic()?;
        // Of each connection, its answer and how much of that has come.
        let mut asked = Vec::new();
        for stream in &mut self.streams {
            stream.write_all(&self.request).into_diagnostic()?;
            asked.push((stream, self.answer.clone(), 0));
        }
        while !asked.is_empty() {
            let mut waiting: Vec<PollFd> =
                asked.iter().map(|(stream, ..)| PollFd::new(&**stream, PollFlags::IN)).collect();
            if poll(&mut waiting, Some(&patience)).into_diagnostic()? == 0 {
                return Err(miette!("the server fell silent"));
            }
            let are_ready: Vec<bool> = waiting.iter().map(|waiting| !waiting.revents().is_empty()).collect();
            for (index, _) in are_ready.iter().enumerate().rev().filter(|(_, is_ready)| **is_ready) {
                let Some((stream, answer, length)) = asked.get_mut(index) else { continue };
                let more = stream.read(answer.get_mut(*length..).unwrap_or_default()).into_diagnostic()?;
                if more == 0 {
                    return Err(miette!("the server ended a connection"));
                }
                *length += more;
                if *length < answer.len() {
                    continue;
                }
                check(answer, self.load)?;
                rounds += 1;
                *length = 0;
                if begun.elapsed() < time {
                    stream.write_all(&self.request).into_diagnostic()?;
                } else {
                    asked.swap_remove(index);
                }
            }
        }
        Ok(rounds * self.load.pipelined)
    }

    /// Asks on all connections and then reads all answers, so many times: what is counted in this way is the same each time.
    fn rounds(&mut self, rounds: usize) -> Result<()> {
        for _ in 0..rounds {
            if self.load.connects {
                for _ in 0..CONNECTIONS {
                    self.connected()?;
                }
                continue;
            }
            let mut streams = std::mem::take(&mut self.streams);
            for stream in &mut streams {
                stream.write_all(&self.request).into_diagnostic()?;
            }
            for stream in &mut streams {
                self.receive(stream)?;
            }
            self.streams = streams;
        }
        Ok(())
    }
}

impl PortMapping {
    /// A free port of this machine that leads to the guest's `guest`.
    fn free(guest: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).into_diagnostic()?;
        let host = listener.local_addr().into_diagnostic()?.port();
        format!("{host}:{guest}").parse().map_err(|error: String| miette!(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monitors_line_has_the_count_at_its_end() {
        let line = "Recording execution 'a = 7': instruction count = 41043625\r\n";
        assert_eq!(instruction_count(line), Some(41_043_625));
        assert_eq!(instruction_count("(qemu) info replay\r\n"), None);
    }

    #[test]
    fn the_count_of_flushes_is_read() {
        assert_eq!(flush_count("TLB partial flushes 162\r\n"), Some(162));
        assert_eq!(flush_count("TLB elided flushes  3298\r\n"), None);
    }

    #[test]
    fn each_network_is_recorded() {
        let devices = ["-netdev", "user,id=device3,hostfwd=tcp:127.0.0.1:1-:80"].map(str::to_owned);
        let arguments = How::Counted.arguments(&devices, Path::new("/tmp"), Path::new("/tmp/monitor"));
        assert!(arguments.contains(&"filter-replay,id=recorded,netdev=device3".to_owned()), "{arguments:?}");
    }

    #[test]
    fn an_answer_of_another_kind_is_an_error() {
        let load = &SERVERS[0].loads[0];
        assert!(check(b"HTTP/1.1 200 OK\r\n", load).is_ok());
        assert!(check(b"HTTP/1.1 404 Not Found\r\n", load).is_err());
    }

    #[test]
    fn the_page_has_the_size_that_is_compared() {
        let page = std::fs::read(workspace::root().join(FILES.0).join("site/index.html")).unwrap();
        assert_eq!(page.len(), 612);
    }
}
