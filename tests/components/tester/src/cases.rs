//! What is tested, in this order.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use tessera_interfaces::{DomainPhase, DomainReport, EchoError, SupervisorError};
use tessera_plan::State;
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
/// Pages of heaps and stacks that may be touched by one life and not by another: which thread answers is chance. Thirty
/// bytes lost at each of a thousand kills would be more.
const SLACK: u64 = 8;
/// Kills before anything is compared.
const WARM_UP: u64 = 100;

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

/// Pages and kernel objects that the manager uses, all pools together.
fn of_manager(uses: &Uses) -> Result<(u64, u64), String> {
    let mut encoded = vec![0; 64 << 10];
    let length = uses.supervisor.cap.state(&mut encoded).map_err(|error| told("no state", error))?;
    let state = State::decode(encoded.get(..length as usize).unwrap_or(&[])).map_err(|error| told("state", error))?;
    Ok((state.memory.1, state.manager_objects))
}

/// Waits until the victim uses no more than `pages` and `objects`; what is over is given back a little after a process ended.
fn settles(uses: &Uses, first: &DomainReport, manager: (u64, u64)) -> Result<(), String> {
    let end = now() + PATIENCE;
    loop {
        let (report, of_manager) = (report(uses)?, of_manager(uses)?);
        let victim_settled = report.pages <= first.pages + SLACK && report.objects <= first.objects;
        if victim_settled && of_manager.0 <= manager.0 + SLACK && of_manager.1 <= manager.1 {
            return Ok(());
        }
        if now() > end {
            return Err(format!("{first:?} became {report:?}; the manager's {manager:?} became {of_manager:?}"));
        }
        let _ = park(Some(now() + 1_000_000));
    }
}

fn killed_again_and_again(uses: &Uses, kills: u64) -> Result<(), String> {
    say(uses, b"before").map_err(|error| told("before", error))?;
    // The heap's and the report ring's first growth is no leak.
    for _ in 0..WARM_UP {
        uses.supervisor.cap.kill(VICTIM).map_err(|error| told("cannot kill", error))?;
        let _ = say(uses, b"hello");
    }
    say(uses, b"warm").map_err(|error| told("warm", error))?;
    let (first, manager) = (report(uses)?, of_manager(uses)?);
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
    settles(uses, &first, manager)
}
