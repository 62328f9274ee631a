//! Kills domains as a test outside asks, over a connection that goes through what it kills. All the while it writes to a disk and reads back.
//!
//! It takes one connection on port 81 and answers each line: `kill NAME TIMES` with `killed NAME: starts FROM to TO` when it runs again after the
//! last time; `report NAME` with `NAME: pages P objects O`; `disk` with `disk: N requests`; `end` ends the machine. What it cannot do it answers with `failed: WHY`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use tessera_block_retry::Retried;
use tessera_interfaces::{
    Address, Block, DomainPhase, DomainReport, Family, Network, NetworkError, Readiness, Supervisor, ready,
};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{exit, log, own, thread};

/// What the component uses, by the names in its component.toml.
pub struct Uses {
    /// The disk that it uses.
    pub block: Route<dyn Block>,
    /// Where it is asked.
    pub network: Route<dyn Network>,
    /// Who kills.
    pub supervisor: Route<dyn Supervisor>,
}

/// The component.
#[derive(Debug)]
pub struct Saboteur;

/// How long a killed domain may take to come back, in nanoseconds.
const PATIENCE: u64 = 20_000_000_000;
/// How long it runs before it is killed again.
const PAUSE: u64 = 20_000_000;

fn now() -> u64 {
    own::clock().now().unwrap_or(0)
}

impl Saboteur {
    /// Constructs it.
    pub fn new(context: Context, uses: Uses) -> Result<Arc<Saboteur>, StartError> {
        let port = context.parsed("port", 81)?;
        let disk = Arc::new(Mutex::new(Ok(0)));
        let (block, done) = (Retried::new(uses.block.cap.clone()), disk.clone());
        thread::spawn(move || use_disk(&block, &done))?;
        thread::spawn(move || {
            let error = obey(&uses, port, &disk);
            log!("saboteur: {error:?}");
            exit(1)
        })?;
        Ok(Arc::new(Saboteur))
    }
}

/// How many requests to the disk were fine, or what was wrong with one.
type Disk = Mutex<Result<u64, String>>;

/// Blocks that are written and read at once.
const BLOCKS: u64 = 16;

/// Writes to a disk and reads back what it wrote, until something is wrong.
fn use_disk(block: &dyn Block, disk: &Disk) {
    let bytes = BLOCKS as usize * 512;
    let mut read = vec![0; bytes];
    for round in 0_u64.. {
        let place = round % 64 * BLOCKS;
        let wanted = vec![(round % 251) as u8; bytes];
        let outcome = block.write(place, &wanted).and_then(|()| block.read(place, &mut read));
        let mut disk = disk.lock();
        match (outcome, &mut *disk) {
            (Ok(()), Ok(done)) if read == wanted => *done += 2,
            (Ok(()), _) => {
                *disk = Err(format!("round {round}: block {place} was not read as it was written"));
                return;
            }
            (Err(error), _) => {
                *disk = Err(format!("round {round}: {error:?}"));
                return;
            }
        }
    }
}

fn obey(uses: &Uses, port: u16, disk: &Disk) -> Result<(), NetworkError> {
    let network = &*uses.network.cap;
    let table = Readiness::of(network)?;
    let listener = network.tcp(Family::V4)?;
    listener.bind(Address { ip: [0; 16], port, family: Family::V4 })?;
    listener.listen(1)?;
    log!("saboteur: waiting");
    let socket = loop {
        match ready(listener.accept())? {
            Some(socket) => break socket,
            None => table.wait(None),
        }
    };
    let mut asked = Vec::new();
    let mut bytes = [0; 256];
    loop {
        match ready(socket.receive(&mut bytes))? {
            Some(0) => return Ok(()),
            Some(count) => asked.extend(bytes.iter().take(count as usize)),
            None => table.wait(None),
        }
        while let Some(end) = asked.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = asked.drain(..=end).collect();
            let answer = match core::str::from_utf8(&line).map(str::trim) {
                Ok("end") => exit(0),
                Ok("disk") => disk.lock().clone().map(|done| format!("disk: {done} requests")),
                Ok(line) => act(&*uses.supervisor.cap, line),
                Err(_) => Err("not text".into()),
            };
            let answer = answer.unwrap_or_else(|why| format!("failed: {why}"));
            socket.send(format!("{answer}\n").as_bytes())?;
        }
    }
}

fn act(supervisor: &dyn Supervisor, line: &str) -> Result<String, String> {
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next().map(str::parse)) {
        (Some("kill"), Some(name), Some(Ok(times))) => kill(supervisor, name, times),
        (Some("report"), Some(name), None) => {
            let report = report(supervisor, name)?;
            Ok(format!("{name}: pages {} objects {}", report.pages, report.objects))
        }
        _ => Err(format!("what is `{line}`?")),
    }
}

fn report(supervisor: &dyn Supervisor, name: &str) -> Result<DomainReport, String> {
    supervisor.report(name).map_err(|error| format!("{name}: {error:?}"))
}

fn kill(supervisor: &dyn Supervisor, name: &str, times: u32) -> Result<String, String> {
    let first = report(supervisor, name)?.starts;
    let mut starts = first;
    for _ in 0..times {
        supervisor.kill(name).map_err(|error| format!("{name}: {error:?}"))?;
        let end = now() + PATIENCE;
        loop {
            let report = report(supervisor, name)?;
            if report.starts > starts && report.phase == DomainPhase::Running {
                starts = report.starts;
                break;
            }
            if now() > end {
                return Err(format!("{name} does not come back"));
            }
            let _ = tessera_runtime::object::park(Some(now() + 1_000_000));
        }
        let _ = tessera_runtime::object::park(Some(now() + PAUSE));
    }
    Ok(format!("killed {name}: starts {first} to {starts}"))
}
