//! Kills domains as a test outside asks, over a connection that goes through what it kills. All the while it writes to a disk and to files, and reads back.
//!
//! It takes one connection at a time on port 81 and answers each line: `kill NAMES TIMES` with `killed NAMES: starts FROM to TO` when they run again after the
//! last time (names that are joined by `+` are killed at the same moment; the starts are those of the first); `report NAME` with `NAME: pages P objects O starts S`; `disk` with `disk: N requests`; `files` with
//! `files: N rounds, M broken`; `end` ends the machine. What it cannot do it answers with `failed: WHY`. When the network ends it begins to listen anew.
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
    Address, Block, Cap, DomainPhase, DomainReport, Family, FileError, Network, NetworkError, Node, NodeKind, Owner,
    Readiness, Supervisor, Unlink, contents, ready,
};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{exit, log, own, thread};

/// What the component uses, by the names in its component.toml.
pub struct Uses {
    /// The disk that it uses.
    pub block: Route<dyn Block>,
    /// The files that it uses.
    pub files: Route<dyn Node>,
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
        let done = Arc::new(Done { disk: Mutex::new(Ok(0)), files: Mutex::new(Ok((0, 0))) });
        let (block, told) = (Retried::new(uses.block.cap.clone()), done.clone());
        thread::spawn(move || use_disk(&block, &told.disk))?;
        let (files, told) = (uses.files.cap.clone(), done.clone());
        thread::spawn(move || use_files(&files, &told.files))?;
        thread::spawn(move || {
            loop {
                let outcome = obey(&uses, port, &done);
                log!("saboteur: {outcome:?}");
                let _ = uses.network.restarted.wait(Some(now() + 100_000_000));
            }
        })?;
        Ok(Arc::new(Saboteur))
    }
}

/// What was done all the while, or what was wrong with it.
struct Done {
    /// Requests to the disk.
    disk: Mutex<Result<u64, String>>,
    /// Rounds with files, and how many more were broken by the end of the file system.
    files: Mutex<Result<(u64, u64), String>>,
}

/// Blocks that are written and read at once.
const BLOCKS: u64 = 16;

/// Writes to a disk and reads back what it wrote, until something is wrong.
fn use_disk(block: &dyn Block, disk: &Mutex<Result<u64, String>>) {
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

/// Makes a file, writes to it, reads back what it wrote and takes it away, until something is wrong. A round that ends with the file system is a broken one.
fn use_files(root: &Cap<dyn Node>, files: &Mutex<Result<(u64, u64), String>>) {
    for round in 0_u64.. {
        let wanted = vec![(round % 251) as u8; 5000];
        let outcome = one_file(root, &wanted);
        let mut files = files.lock();
        match (outcome, &mut *files) {
            (Ok(read), Ok((rounds, _))) if read == wanted => *rounds += 1,
            // The file goes with its file system. Reading it begins anew by itself, and finds nothing.
            (Err(FileError::Transport(_) | FileError::NotFound), Ok((_, broken))) => *broken += 1,
            (outcome, _) => {
                *files = Err(format!("round {round}: {outcome:?}"));
                return;
            }
        }
    }
}

fn one_file(root: &Cap<dyn Node>, wanted: &[u8]) -> Result<Vec<u8>, FileError> {
    const NAME: &[u8] = b"file";
    match root.unlink(NAME, Unlink::File) {
        Ok(()) | Err(FileError::NotFound) => {}
        Err(error) => return Err(error),
    }
    let file = root.create(NAME, NodeKind::File, 0o644, Owner { user: 0, group: 0 }, 0)?;
    let mut at = 0;
    while let Some(rest) = wanted.get(at..).filter(|rest| !rest.is_empty()) {
        at += file.write(at as u64, rest)? as usize;
    }
    contents(root, NAME, wanted.len())
}

fn obey(uses: &Uses, port: u16, done: &Done) -> Result<(), NetworkError> {
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
                Ok("disk") => done.disk.lock().clone().map(|count| format!("disk: {count} requests")),
                Ok("files") => {
                    done.files.lock().clone().map(|(rounds, broken)| format!("files: {rounds} rounds, {broken} broken"))
                }
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
            Ok(format!("{name}: pages {} objects {} starts {}", report.pages, report.objects, report.starts))
        }
        _ => Err(format!("what is `{line}`?")),
    }
}

fn report(supervisor: &dyn Supervisor, name: &str) -> Result<DomainReport, String> {
    supervisor.report(name).map_err(|error| format!("{name}: {error:?}"))
}

fn kill(supervisor: &dyn Supervisor, names: &str, times: u32) -> Result<String, String> {
    let starts_of = |name: &str| report(supervisor, name).map(|report| report.starts);
    let names: Vec<&str> = names.split('+').collect();
    let first = names.iter().map(|name| starts_of(name)).collect::<Result<Vec<u32>, String>>()?;
    for _ in 0..times {
        let before = names.iter().map(|name| starts_of(name)).collect::<Result<Vec<u32>, String>>()?;
        for name in &names {
            supervisor.kill(name).map_err(|error| format!("{name}: {error:?}"))?;
        }
        let end = now() + PATIENCE;
        for (name, before) in names.iter().zip(before) {
            loop {
                let report = report(supervisor, name)?;
                if report.starts > before && report.phase == DomainPhase::Running {
                    break;
                }
                if now() > end {
                    return Err(format!("{name} does not come back"));
                }
                let _ = tessera_runtime::object::park(Some(now() + 1_000_000));
            }
        }
        let _ = tessera_runtime::object::park(Some(now() + PAUSE));
    }
    let last = names.iter().map(|name| starts_of(name)).collect::<Result<Vec<u32>, String>>()?;
    Ok(format!("killed {}: starts {first:?} to {last:?}", names.join("+")))
}
