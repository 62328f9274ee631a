//! Works and calls a server beside a domain that takes all it can get, and looks how much is left for it.
//!
//! All is told in shares of the time that passed, so that it does not matter how fast the machine is. Its last line is `N passed, N failed`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use tessera_interfaces::{DomainReport, Echo, Supervisor};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::{exit, log, own, thread};

/// What the component uses, by the names in its component.toml.
pub struct Uses {
    /// The server, which the hog floods.
    pub echo: Route<dyn Echo>,
    /// Who tells how much time and memory each domain takes.
    pub supervisor: Route<dyn Supervisor>,
}

/// The component.
#[derive(Debug)]
pub struct Bystander;

/// How long it works, and how often it calls.
const WORK: u64 = 400_000_000;
const CALLS: u32 = 5;
/// The hog's period, in which it has a fifth of the time.
const PERIOD: u64 = 100_000_000;

fn now() -> u64 {
    own::clock().now().unwrap_or(0)
}

impl Bystander {
    /// Constructs it; the tests run in a thread.
    pub fn new(_: Context, uses: Uses) -> Result<Arc<Bystander>, StartError> {
        thread::spawn(move || {
            let mut failed = 0;
            for (name, outcome) in
                [("a-hog-leaves-the-processor", work(&uses)), ("a-hog-leaves-the-server", call(&uses))]
            {
                match outcome {
                    Ok(told) => log!("test {name} ... ok: {told}"),
                    Err(why) => {
                        failed += 1;
                        log!("test {name} ... FAILED: {why}");
                    }
                }
            }
            log!("{} passed, {failed} failed", 2 - failed);
            exit(failed)
        })?;
        Ok(Arc::new(Bystander))
    }
}

fn report(uses: &Uses, name: &str) -> Result<DomainReport, String> {
    uses.supervisor.cap.report(name).map_err(|error| format!("no report on {name}: {error:?}"))
}

/// Computes for a while: the hog, with threads enough to take nearly all of the time, gets what its limit says and the rest is here.
fn work(uses: &Uses) -> Result<String, String> {
    let (hog, own) = (report(uses, "hog")?.time, report(uses, "bystander")?.time);
    let begun = now();
    while now() < begun + WORK {
        core::hint::spin_loop();
    }
    let (hog, own) = (report(uses, "hog")?.time - hog, report(uses, "bystander")?.time - own);
    let passed = now() - begun;
    let told = format!("the hog had {} and this {} of 100", hog * 100 / passed, own * 100 / passed);
    // Around the begin of a period a budget may be used twice in a row.
    if hog * 10 > passed * 3 || own * 10 < passed * 6 { Err(told) } else { Ok(told) }
}

/// Calls the server that the hog floods: each call is answered, if not at once, and the server lives.
fn call(uses: &Uses) -> Result<String, String> {
    let mut longest = 0;
    for number in 0..CALLS {
        let (from, mut into) = ([number as u8; 64], [0; 64]);
        let begun = now();
        let answer = uses.echo.cap.echo(&from, &mut into);
        longest = longest.max(now() - begun);
        if answer != Ok(64) || into != from {
            return Err(format!("call {number} was answered with {answer:?}"));
        }
    }
    let (server, hog) = (report(uses, "echo")?, report(uses, "hog")?);
    let told =
        format!("the longest of {CALLS} calls took {} ms; {} pages of the server", longest / 1_000_000, server.pages);
    // The server works on the hog's time before its turn comes: a few periods.
    let fine = longest < 20 * PERIOD && server.starts == 1 && hog.starts == 1;
    if fine { Ok(told) } else { Err(told) }
}
