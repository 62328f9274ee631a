//! Tells the trespasser what to try, and looks at what came of it: each attempt must end it by a fault, and be told.
//!
//! Its last line is `N passed, N failed`, and its exit code says the same.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use tessera_interfaces::{Echo, EchoError, Supervisor};
use tessera_plan::{Ending, State};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::park;
use tessera_runtime::{Kind, TransportError, exit, log, own, thread};

/// What it is to reach, beyond handles.
const ATTEMPTS: [&str; 7] =
    ["the kernel's text", "all memory", "a page table", "its own text", "a port", "interrupts", "control registers"];
/// What a domain that was given nothing has handles to: itself, what it made, and where it is called.
const OWN: [Kind; 9] = [
    Kind::Pool,
    Kind::Vmo,
    Kind::Space,
    Kind::Process,
    Kind::Thread,
    Kind::Budget,
    Kind::Endpoint,
    Kind::Session,
    Kind::Event,
];
/// How long a report may take, in nanoseconds.
const PATIENCE: u64 = 20_000_000_000;

/// What the component uses, by the names in its component.toml.
pub struct Uses {
    /// Who tries.
    pub echo: Route<dyn Echo>,
    /// Who knows how it ended.
    pub supervisor: Route<dyn Supervisor>,
}

/// The component.
#[derive(Debug)]
pub struct Warden;

impl Warden {
    /// Constructs it; the tests run in a thread.
    pub fn new(_: Context, uses: Uses) -> Result<Arc<Warden>, StartError> {
        thread::spawn(move || {
            let (mut passed, mut failed) = (0, 0);
            let mut count = |name: &str, outcome| match outcome {
                Ok(()) => {
                    log!("test a trespasser does not reach {name} ... ok");
                    passed += 1;
                }
                Err(why) => {
                    let why: String = why;
                    log!("test a trespasser does not reach {name} ... FAILED: {why}");
                    failed += 1;
                }
            };
            count("handles of others", handles(&uses));
            for name in ATTEMPTS {
                count(name, attempt(&uses, name));
            }
            log!("{passed} passed, {failed} failed");
            exit(u64::from(failed != 0 || passed == 0))
        })?;
        Ok(Arc::new(Warden))
    }
}

fn told(what: &str, error: impl core::fmt::Debug) -> String {
    format!("{what}: {error:?}")
}

/// Of all numbers, those that name something for it name what any domain has.
fn handles(uses: &Uses) -> Result<(), String> {
    let mut kinds = vec![0; 1024];
    let count = uses.echo.cap.echo(b"handles", &mut kinds).map_err(|error| told("no answer", error))?;
    kinds.truncate(count as usize);
    let found: Vec<Option<Kind>> = kinds.iter().map(|kind| Kind::from_code((*kind).into())).collect();
    if !found.contains(&Some(Kind::Process)) {
        return Err("it did not even find its own process".into());
    }
    let of = |kind| found.iter().filter(|found| **found == Some(kind)).count();
    match found.iter().find(|kind| !kind.is_some_and(|kind| OWN.contains(&kind))) {
        Some(other) => Err(told("it has", other)),
        None if of(Kind::Process) > 1 || of(Kind::Space) > 1 => Err("it has another domain's process or space".into()),
        None => Ok(()),
    }
}

/// How often it ended, and how the last time, as the manager tells.
fn endings(uses: &Uses) -> Result<(usize, Option<Ending>), String> {
    let mut encoded = vec![0; 64 << 10];
    let length = uses.supervisor.cap.state(&mut encoded).map_err(|error| told("no state", error))?;
    let state = State::decode(encoded.get(..length as usize).unwrap_or(&[])).map_err(|error| told("state", error))?;
    Ok((state.reports.len(), state.reports.last().map(|report| report.ending)))
}

fn attempt(uses: &Uses, name: &str) -> Result<(), String> {
    let before = endings(uses)?.0;
    match uses.echo.cap.echo(name.as_bytes(), &mut []) {
        Err(EchoError::Transport(TransportError::PeerDied)) => {}
        other => return Err(told("it lives, and answers", other)),
    }
    let end = own::clock().now().unwrap_or(0) + PATIENCE;
    loop {
        let now = own::clock().now().unwrap_or(0);
        match endings(uses)? {
            (count, Some(Ending::Fault { .. })) if count > before => return Ok(()),
            (count, other) if count > before || now > end => return Err(told("it did not end by a fault", other)),
            _ => {
                let _ = park(Some(now + 1_000_000));
            }
        }
    }
}
