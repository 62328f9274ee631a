//! Boots a container: its machine, its network, its console, and the time line of it all.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, miette};
use serde_json::json;

use super::asker::{Answer, Asker};
use super::{Container, DESCRIPTION, Overrides, PortMapping, Source, prepare};
use crate::accelerator;
use crate::cli::{Build, ContainerOptions, Machine, Run};
use crate::devices::{self, Device, Forwarding};
use crate::guests::Registered;
use crate::image::{Description, MachineKind, Processors};
use crate::qemu::{Boot, Ending};
use crate::workspace;

/// Firmware that starts a PC in half the time, where QEMU's own package has it. It leaves PCI devices without addresses, so
/// it serves machines without any.
const QUICK_FIRMWARE: &str = "/usr/share/qemu/qboot.rom";

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
pub fn with_value(entry: &str) -> String {
    match env::var(entry) {
        Ok(value) if !entry.contains('=') => format!("{entry}={value}"),
        _ => entry.to_owned(),
    }
}

/// What is to be booted.
pub struct Request<'a> {
    pub source: &'a Source,
    pub overrides: &'a Overrides,
    pub machine: &'a Machine,
    pub system: Option<&'a PathBuf>,
    pub seconds: Option<u64>,
    /// If the first mapped port is to be asked until it answers: what to do then.
    pub answered: Option<fn()>,
}

/// What came of it.
pub struct Outcome {
    container: Container,
    pub ending: Ending,
    pub answer: Option<Answer>,
    /// When the command began with it, when it was ready to boot, when the guest's console spoke, when it was over.
    begun: Instant,
    started: Instant,
    console: Option<Instant>,
    ended: Instant,
}

/// Runs a container to its end, and answers with the command's exit code.
pub fn run(run: &Run, source: &Source) -> Result<u8> {
    let options = &run.container;
    if options.tty && options.interactive && !io::stdin().is_terminal() {
        return Err(miette!(
            help = "leave `-t` out: `-i` alone passes the input on",
            "the input of this command is not a terminal"
        ));
    }
    let outcome = boot(&Request {
        source,
        overrides: &Overrides::of(options, &run.words),
        machine: &run.machine,
        system: options.system.as_ref(),
        seconds: run.timeout,
        answered: (options.timing || options.json).then_some(|| ()),
    })?;
    match outcome.ending {
        Ending::Guest(_) | Ending::Interrupted => {}
        Ending::TimedOut => eprintln!("tessera: killed the container after {} s", run.timeout.unwrap_or_default()),
        other => eprintln!("tessera: the container ended with {other}"),
    }
    if options.timing {
        outcome.print_times();
    }
    if options.json {
        eprintln!("{}", outcome.to_json());
    }
    Ok(outcome.ending.exit_code())
}

/// Makes the container ready and boots it, its console on standard output.
pub fn boot(request: &Request) -> Result<Outcome> {
    let begun = Instant::now();
    let system = system(request.system);
    let container = prepare(request.source, request.overrides, &system, request.machine.memory)?;
    let system = Description::read(&system)?;
    let machine = request.machine.machine.unwrap_or(system.machine());
    let default = if request.machine.icount { Processors::default() } else { system.processors() };
    let ports = &request.overrides.ports;
    let mut boot = Boot {
        image: container.image.clone(),
        machine,
        memory: container.memory,
        processors: request.machine.processors.unwrap_or(default),
        engine: accelerator::choose(request.machine.accel, request.machine.icount)?,
        limit: request.seconds.map(Duration::from_secs),
        words: Vec::new(),
        devices: devices(machine, &system, ports)?,
        keys_go_to_the_guest: request.overrides.terminal.is_some() && request.overrides.input,
    };
    if machine == MachineKind::Q35 && boot.devices.is_empty() && Path::new(QUICK_FIRMWARE).exists() {
        boot.devices.extend(["-bios", QUICK_FIRMWARE].map(str::to_owned));
    }
    let guest = Registered::new(&container.name, &boot.image)?;
    boot.devices.extend(guest.arguments(machine));
    let mut console = Watched { first: None };
    let started = Instant::now();
    let asker = request.answered.and_then(|answered| Asker::start(ports, answered));
    let ending = boot.run(container.symbols.clone(), request.overrides.input, &mut console);
    let ended = Instant::now();
    devices::remove_scratch();
    let answer = asker.and_then(Asker::finish);
    Ok(Outcome { container, ending: ending?, answer, begun, started, console: console.first, ended })
}

impl Outcome {
    /// Prints the time line on standard error. Times count from the start of QEMU.
    pub fn print_times(&self) {
        let times = [
            ("QEMU starts", Some(self.started)),
            ("first sign of the kernel", self.console),
            ("first byte of an answer", self.answer.as_ref().map(|answer| answer.first)),
            ("end", Some(self.ended)),
        ];
        for (what, time) in times {
            if let Some(time) = time {
                eprintln!("tessera: {:>8.1} ms  {what}", milliseconds(self.started, time));
            }
        }
        let before = milliseconds(self.begun, self.started);
        eprintln!("tessera: {before:>8.1} ms  went by before, making the container ready");
    }

    /// The same and more, for programs. Times count from the start of this command's work.
    fn to_json(&self) -> serde_json::Value {
        let since = |time: Option<Instant>| time.map(|time| (milliseconds(self.begun, time) * 10.0).round() / 10.0);
        json!({
            "name": self.container.name,
            "root_bytes": self.container.root,
            "memory_bytes": self.container.memory.bytes(),
            "arguments": self.container.arguments(),
            "exit_code": self.ending.exit_code(),
            "ending": self.ending.to_string(),
            "milliseconds": {
                "boot": since(Some(self.started)),
                "kernel": since(self.console),
                "answer": since(self.answer.as_ref().map(|answer| answer.first)),
                "end": since(Some(self.ended)),
            },
        })
    }
}

fn milliseconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}

/// The machine's devices: those that the system's description names, and a network if ports are to lead into it.
pub fn devices(machine: MachineKind, system: &Description, ports: &[PortMapping]) -> Result<Vec<String>> {
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

/// Writes the file to boot to where it is wanted, or says where it is.
pub fn build(build: &Build, source: &Source) -> Result<u8> {
    let overrides = Overrides::of(&build.container, &build.words);
    let container = prepare(source, &overrides, &system(build.container.system.as_ref()), None)?;
    let file = std::fs::read(&container.image).into_diagnostic()?;
    let path = match &build.output {
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
