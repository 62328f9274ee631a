//! Boots a container: its machine, its network, its console, and the time line of it all.

use std::env;
use std::io::{self, IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, miette};
use serde_json::json;
use tessera_rootfs::container::Protocol;

use super::{Container, DESCRIPTION, Overrides, PortMapping, Source, prepare};
use crate::accelerator;
use crate::cli::{ContainerOptions, Run};
use crate::devices::{self, Device, Forwarding};
use crate::image::{Description, MachineKind, Processors};
use crate::qemu::{Boot, Ending};
use crate::workspace;

/// How often the first answer is asked for.
const ASK: Duration = Duration::from_millis(2);
const ANSWER: Duration = Duration::from_secs(5);

/// The file that describes the system for a container.
pub fn system(given: Option<&PathBuf>) -> PathBuf {
    given.cloned().unwrap_or_else(|| workspace::root().join(DESCRIPTION))
}

impl Overrides {
    /// What the command line says.
    pub fn of(options: &ContainerOptions, words: &[String]) -> Self {
        Self {
            words: words.to_vec(),
            environment: options.environment.iter().map(|entry| with_value(entry)).collect(),
            directory: options.workdir.clone(),
            user: options.user.clone(),
            entrypoint: options.entrypoint.clone(),
            host_name: options.hostname.clone(),
            ports: options.ports.clone(),
            volumes: options.volumes.clone(),
            grace: options.stop_timeout,
            terminal: options.tty.then(|| env::var("TERM").unwrap_or_else(|_| "xterm".to_owned())),
            input: options.interactive,
            renew: options.pull,
        }
    }
}

/// As Docker does: a name alone passes this machine's value on, if it has one.
fn with_value(entry: &str) -> String {
    match env::var(entry) {
        Ok(value) if !entry.contains('=') => format!("{entry}={value}"),
        _ => entry.to_owned(),
    }
}

/// Runs a container to its end, and answers with the command's exit code.
pub fn run(run: &Run, source: &Source) -> Result<u8> {
    let begun = Instant::now();
    let options = &run.container;
    if options.tty && options.interactive && !io::stdin().is_terminal() {
        return Err(miette!(
            help = "leave `-t` out: `-i` alone passes the input on",
            "the input of this command is not a terminal"
        ));
    }
    let system = system(options.system.as_ref());
    let container = prepare(source, &Overrides::of(options, &run.words), &system, run.machine.memory)?;
    let boot = boot(run, &container, &Description::read(&system)?)?;
    let mut console = Watched { first: None };
    let started = Instant::now();
    let asker = (options.timing || options.json).then(|| Asker::start(&options.ports)).flatten();
    let ending = boot.run(container.symbols.clone(), options.interactive, &mut console);
    let ended = Instant::now();
    devices::remove_scratch();
    let ending = ending?;
    let answered = asker.and_then(Asker::finish);
    match ending {
        Ending::Guest(_) | Ending::Interrupted => {}
        Ending::TimedOut => eprintln!("tessera: killed the container after {} s", run.timeout.unwrap_or_default()),
        other => eprintln!("tessera: the container ended with {other}"),
    }
    let times = [
        ("ready to boot", Some(started)),
        ("first sign of the kernel", console.first),
        ("first byte of an answer", answered),
        ("end", Some(ended)),
    ];
    if options.timing {
        for (what, time) in times {
            if let Some(time) = time {
                let since_boot = time.saturating_duration_since(started).as_secs_f64() * 1e3;
                eprintln!("tessera: {since_boot:>8.1} ms  {what}");
            }
        }
        let before = started.saturating_duration_since(begun).as_secs_f64() * 1e3;
        eprintln!("tessera: {before:>8.1} ms  were spent before, on making the container ready");
    }
    if options.json {
        let milliseconds = |time: Option<Instant>| {
            time.map(|time| (time.saturating_duration_since(begun).as_secs_f64() * 1e4).round() / 10.0)
        };
        let object = json!({
            "name": container.name,
            "root_bytes": container.root,
            "memory_bytes": container.memory.bytes(),
            "arguments": container.arguments(),
            "exit_code": ending.exit_code(),
            "ending": ending.to_string(),
            "milliseconds": {
                "boot": milliseconds(Some(started)),
                "kernel": milliseconds(console.first),
                "answer": milliseconds(answered),
                "end": milliseconds(Some(ended)),
            },
        });
        eprintln!("{object}");
    }
    Ok(ending.exit_code())
}

fn boot(run: &Run, container: &Container, system: &Description) -> Result<Boot> {
    let machine = run.machine.machine.unwrap_or(system.machine());
    let default = if run.machine.icount { Processors::default() } else { system.processors() };
    Ok(Boot {
        image: container.image.clone(),
        machine,
        memory: container.memory,
        processors: run.machine.processors.unwrap_or(default),
        engine: accelerator::choose(run.machine.accel, run.machine.icount)?,
        limit: run.timeout.map(Duration::from_secs),
        words: Vec::new(),
        devices: devices(machine, system, &run.container.ports)?,
        keys_go_to_the_guest: run.container.tty && run.container.interactive,
    })
}

/// The machine's devices: those that the system's description names, and a network if ports are to lead into it.
fn devices(machine: MachineKind, system: &Description, ports: &[PortMapping]) -> Result<Vec<String>> {
    let mut devices = system.devices()?;
    if !ports.is_empty() && !devices.contains(&Device::Network) {
        devices.push(Device::Network);
    }
    let ports: Vec<Forwarding> = ports.iter().map(|mapping| Forwarding { rule: mapping.rule() }).collect();
    devices::arguments(machine, system.name(), &devices, &ports)
}

/// Standard output, with the time of its first byte.
struct Watched {
    first: Option<Instant>,
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.first.get_or_insert_with(Instant::now);
        }
        io::stdout().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// Asks the first port that speaks TCP until it answers. Something that answers only to its own protocol is never found
/// to; nothing else depends on this.
struct Asker {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Option<Instant>>,
}

impl Asker {
    fn start(ports: &[PortMapping]) -> Option<Self> {
        let mapping = ports.iter().find(|mapping| mapping.protocol == Protocol::Tcp)?;
        let address = SocketAddr::new(mapping.address, mapping.host);
        let over = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !watched.load(Ordering::Relaxed) {
                if ask(address).is_ok_and(|length| length > 0) {
                    return Some(Instant::now());
                }
                thread::sleep(ASK);
            }
            None
        });
        Some(Self { over, thread })
    }

    fn finish(self) -> Option<Instant> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().ok().flatten()
    }
}

/// Sends a request and answers how many bytes came back at first.
fn ask(address: SocketAddr) -> io::Result<usize> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    stream.read(&mut [0; 1])
}

/// Writes the file to boot to `output`, or says where it is.
pub fn build(source: &Source, system: Option<&PathBuf>, output: Option<&PathBuf>) -> Result<u8> {
    let container = prepare(source, &Overrides::default(), &self::system(system), None)?;
    let file = std::fs::read(&container.image).into_diagnostic()?;
    let path = match output {
        Some(path) => {
            crate::image::write(path, &file)?;
            path.clone()
        }
        None => container.image,
    };
    let (size, root) = (file.len().div_ceil(1024), container.root.div_ceil(1024));
    let shown = workspace::shown(&path);
    println!("{shown} ({size} KiB, {root} of them files of the container, BLAKE3 {})", blake3::hash(&file));
    Ok(0)
}
