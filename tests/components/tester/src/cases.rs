//! What is tested, in this order.

use alloc::format;
use alloc::string::String;

use tessera_interfaces::{DomainPhase, DomainReport, EchoError, SupervisorError};
use tessera_runtime::TransportError;
use tessera_runtime::object::park;
use tessera_runtime::own;

use crate::Uses;

/// A test: what it is called with says how often to kill.
type Case = fn(&Uses, u64) -> Result<(), String>;

/// The component that is crashed and killed.
const VICTIM: &str = "fragile";
/// How long something may take, in nanoseconds.
const PATIENCE: u64 = 20_000_000_000;

pub const CASES: [(&str, Case); 7] = [
    ("a-call-crosses-domains", a_call_crosses_domains),
    ("a-crash-reaches-the-caller-as-an-error-and-the-next-call-is-answered", a_crash_is_survived),
    ("an-exit-is-a-crash-too", an_exit_is_survived),
    ("a-fault-is-survived", a_fault_is_survived),
    ("the-client-is-told-of-a-restart", the_client_is_told),
    ("an-unknown-name-is-refused", an_unknown_name_is_refused),
    ("killed-again-and-again-it-comes-back-and-nothing-leaks", killed_again_and_again),
];

fn now() -> u64 {
    own::clock().now().unwrap_or(0)
}

fn told(what: &str, error: impl core::fmt::Debug) -> String {
    format!("{what}: {error:?}")
}

fn say(uses: &Uses, words: &[u8]) -> Result<u64, EchoError> {
    let mut answer = [0; 64];
    let length = uses.echo.cap.echo(words, &mut answer)?;
    if answer.get(..length as usize) == Some(words) { Ok(length) } else { Err(EchoError::TooLong) }
}

fn report(uses: &Uses) -> Result<DomainReport, String> {
    uses.supervisor.cap.report(VICTIM).map_err(|error| told("no report", error))
}

fn a_call_crosses_domains(uses: &Uses, _: u64) -> Result<(), String> {
    if !uses.echo.cap.is_remote() {
        return Err("the echo is in this domain".into());
    }
    let length = say(uses, b"hello").map_err(|error| told("no answer", error))?;
    if length == 5 { Ok(()) } else { Err(format!("{length} bytes came back")) }
}

/// Says something that ends the server; then the same route must work.
fn survives(uses: &Uses, words: &[u8]) -> Result<(), String> {
    let before = report(uses)?.starts;
    match say(uses, words) {
        Err(EchoError::Transport(TransportError::PeerDied)) => {}
        other => return Err(format!("the call that ends the server came back with {other:?}")),
    }
    say(uses, b"again").map_err(|error| told("the call after it", error))?;
    let after = report(uses)?;
    if after.starts == before + 1 && after.phase == DomainPhase::Running {
        Ok(())
    } else {
        Err(format!("{} starts became {after:?}", before))
    }
}

fn a_crash_is_survived(uses: &Uses, _: u64) -> Result<(), String> {
    survives(uses, b"crash")
}

fn an_exit_is_survived(uses: &Uses, _: u64) -> Result<(), String> {
    survives(uses, b"exit")
}

fn a_fault_is_survived(uses: &Uses, _: u64) -> Result<(), String> {
    survives(uses, b"fault")
}

fn the_client_is_told(uses: &Uses, _: u64) -> Result<(), String> {
    uses.echo.restarted.take();
    uses.supervisor.cap.kill(VICTIM).map_err(|error| told("cannot kill", error))?;
    uses.echo.restarted.wait(Some(now() + PATIENCE)).map_err(|error| told("it was not told", error))?;
    if uses.echo.restarted.take() {
        return Err("it was told twice".into());
    }
    say(uses, b"there again").map(|_| ()).map_err(|error| told("no answer", error))
}

fn an_unknown_name_is_refused(uses: &Uses, _: u64) -> Result<(), String> {
    match uses.supervisor.cap.kill("nobody") {
        Err(SupervisorError::NotFound) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Waits until the victim uses no more than `pages` and `objects`; what is over is given back a little after a process ended.
fn settles(uses: &Uses, pages: u64, objects: u64) -> Result<(), String> {
    let end = now() + PATIENCE;
    loop {
        let report = report(uses)?;
        if report.pages <= pages && report.objects <= objects {
            return Ok(());
        }
        if now() > end {
            return Err(format!("{pages} pages and {objects} objects became {report:?}"));
        }
        let _ = park(Some(now() + 1_000_000));
    }
}

fn killed_again_and_again(uses: &Uses, kills: u64) -> Result<(), String> {
    say(uses, b"before").map_err(|error| told("before", error))?;
    let first = report(uses)?;
    let (mut answered, mut died) = (0_u64, 0_u64);
    for kill in 0..kills {
        uses.supervisor.cap.kill(VICTIM).map_err(|error| told("cannot kill", error))?;
        match say(uses, b"hello") {
            Ok(_) => answered += 1,
            Err(EchoError::Transport(TransportError::PeerDied)) => died += 1,
            Err(error) => return Err(format!("after kill {kill}: {error:?}")),
        }
    }
    say(uses, b"after").map_err(|error| told("after", error))?;
    let last = report(uses)?;
    if answered + died != kills {
        return Err(format!("{answered} answers and {died} deaths in {kills} kills"));
    }
    let lives = u64::from(last.starts - first.starts);
    if lives == 0 || lives > kills {
        return Err(format!("{kills} kills made {lives} new lives"));
    }
    settles(uses, first.pages, first.objects)
}
