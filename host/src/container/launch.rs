//! Boots a container: its machine, its network, its log, and the time line of it all.

use std::env;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, miette};
use serde_json::json;

use super::asker::{Answer, Asker};
use super::log::Log;
use super::session::{Heard, Manner, Session};
use super::{Authority, Container, DESCRIPTION, Overrides, PortMapping, Source, prepare};
use crate::accelerator;
use crate::cli::{Build, ContainerOptions, Machine, Run};
use crate::devices::{self, Device, Forwarding};
use crate::guests::Registered;
use crate::image::{Description, MachineKind, Placement, Processors};
use crate::qemu::{Boot, Ending};
use crate::workspace;

/// The description of the system for a container.
pub fn system(given: Option<&PathBuf>, placement: Option<Placement>) -> Result<Description> {
    let mut system = Description::read(&given.cloned().unwrap_or_else(|| workspace::root().join(DESCRIPTION)))?;
    system.place(placement);
    Ok(system)
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
            authority: Authority { allowed: options.allow.clone(), denied: options.deny.clone() },
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
    pub placement: Option<Placement>,
    pub seconds: Option<u64>,
    /// Whether the log of the kernel and the components is shown.
    pub shows_log: bool,
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
    first_log: Option<Instant>,
    ended: Instant,
    /// What the guest told of itself.
    heard: Heard,
    /// The last lines of the log, and where all of it is.
    last_of_log: String,
    log: PathBuf,
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
        placement: run.placement,
        seconds: run.timeout,
        shows_log: options.log,
        answered: (options.timing || options.json).then_some(|| ()),
    })?;
    match outcome.ending {
        Ending::Guest(_) | Ending::Interrupted => {}
        Ending::TimedOut => eprintln!("tessera: killed the container after {} s", run.timeout.unwrap_or_default()),
        Ending::Killed => eprintln!("tessera: killed the container, which did not end when it was asked to"),
        other => {
            eprint!("{}", outcome.last_of_log);
            eprintln!("tessera: the container ended with {other}; all of its log is in {}", outcome.log.display());
        }
    }
    if options.timing {
        outcome.print_times();
    }
    if options.json {
        eprintln!("{}", outcome.to_json());
    }
    Ok(outcome.ending.exit_code())
}

/// Makes the container ready and boots it, its output on standard output.
pub fn boot(request: &Request) -> Result<Outcome> {
    let begun = Instant::now();
    let system = system(request.system, request.placement)?;
    let container = prepare(request.source, request.overrides, &system, request.machine.memory)?;
    let system = &container.system;
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
        devices: devices(machine, system, ports, &[&[Device::Attached], container.volumes.as_slice()].concat())?,
        keys_go_to_the_guest: false,
    };
    let guest = Registered::new(&container.name, &boot.image)?;
    boot.devices.extend(guest.arguments(machine));
    let mut log = Log::new(&container.name, request.shows_log)?;
    let note = tessera_rootfs::container::Container::new(container.note.as_bytes());
    let manner = Manner {
        terminal: note.has_terminal(),
        input: note.has_input(),
        stop_signal: u8::try_from(note.stop_signal()).unwrap_or_default(),
        grace: Duration::from_secs(note.grace().into()),
    };
    let (session, socket) = Session::open(manner)?;
    let started = Instant::now();
    let asker = request.answered.and_then(|answered| Asker::start(ports, answered));
    let ending = boot.run_attached(container.symbols.clone(), socket, &mut log);
    let heard = session.finish();
    let ended = Instant::now();
    devices::remove_scratch();
    let answer = asker.and_then(Asker::finish);
    let ending = match (ending?, heard.code) {
        // The machine's own code says less: it is no larger than 125.
        (Ending::Guest(_), Some(code)) => Ending::Guest(code),
        _ if heard.was_killed => Ending::Killed,
        (ending, _) => ending,
    };
    let (first_log, last_of_log, log) = log.finish();
    Ok(Outcome { container, ending, answer, begun, started, first_log, ended, heard, last_of_log, log })
}

impl Outcome {
    /// Where to look for what went wrong.
    pub fn hint(&self) -> String {
        format!("its output above may say why, or the log in {}", self.log.display())
    }

    /// When the kernel was entered: not after it said something.
    fn entry(&self) -> Option<Instant> {
        let entry = self.heard.entry()?;
        Some(self.first_log.map_or(entry, |first| entry.min(first)))
    }

    /// What happened when, in order.
    fn times(&self) -> Vec<(Instant, String)> {
        let mut times = vec![(self.started, "QEMU starts".to_owned()), (self.ended, "end".to_owned())];
        if let Some(entry) = self.entry() {
            times.push((entry, "the kernel is entered".to_owned()));
            times.extend(self.heard.marks.iter().map(|mark| (entry + mark.since_entry, mark.what.clone())));
        }
        times.extend(self.first_log.map(|time| (time, "the kernel starts the manager".to_owned())));
        times.extend(self.answer.as_ref().map(|answer| (answer.first, "the first byte of an answer".to_owned())));
        times.sort_by_key(|(time, _)| *time);
        times
    }

    /// Prints the time line on standard error. Times count from the start of QEMU.
    pub fn print_times(&self) {
        for (time, what) in self.times() {
            eprintln!("tessera: {:>8.1} ms  {what}", milliseconds(self.started, time));
        }
        let before = milliseconds(self.begun, self.started);
        eprintln!("tessera: {before:>8.1} ms  went by before, making the container ready");
    }

    /// The same and more, for programs. Times count from the start of this command's work.
    fn to_json(&self) -> serde_json::Value {
        let since = |time: Instant| (milliseconds(self.begun, time) * 10.0).round() / 10.0;
        let times: Vec<_> =
            self.times().into_iter().map(|(time, what)| json!({"at": since(time), "what": what})).collect();
        json!({
            "name": self.container.name,
            "root_bytes": self.container.root,
            "memory_bytes": self.container.memory.bytes(),
            "arguments": self.container.arguments(),
            "exit_code": self.ending.exit_code(),
            "ending": self.ending.to_string(),
            "log": self.log.display().to_string(),
            "milliseconds": {
                "boot": since(self.started),
                "kernel": self.entry().map(since),
                "answer": self.answer.as_ref().map(|answer| since(answer.first)),
                "end": since(self.ended),
            },
            "times": times,
        })
    }
}

fn milliseconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}

/// The machine's devices: those that the system's description names, `more`, and a network if ports are to lead into it.
pub fn devices(
    machine: MachineKind,
    system: &Description,
    ports: &[PortMapping],
    more: &[Device],
) -> Result<Vec<String>> {
    let mut devices = system.devices()?;
    if !ports.is_empty() && !devices.contains(&Device::Network) {
        devices.push(Device::Network);
    }
    devices.extend_from_slice(more);
    let ports: Vec<Forwarding> = ports.iter().map(|mapping| Forwarding { rule: mapping.rule() }).collect();
    let arguments = devices::arguments(machine, system.name(), &devices, &ports)?;
    Ok([devices::firmware(machine), arguments].concat())
}

/// Writes the file to boot to where it is wanted, or says where it is.
pub fn build(build: &Build, source: &Source) -> Result<u8> {
    let overrides = Overrides::of(&build.container, &build.words);
    let container = prepare(source, &overrides, &system(build.container.system.as_ref(), build.placement)?, None)?;
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
