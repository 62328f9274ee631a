//! The Linux personality, seen by static programs of ours that ask what Linux promises.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use miette::{IntoDiagnostic, Result, miette};

use super::Case;
use super::outcome::{Outcome, count};
use crate::container::{self, Overrides, Source, launch};
use crate::image::{Description, MachineKind, Memory, Processors};
use crate::progress::Step;
use crate::qemu::{Boot, Ending, Engine};
use crate::workspace;

/// The program that asks for what is promised.
const CALLS: &str = "tests/linux/calls.c";

/// The one that uses up what there is.
const HOSTILE: &str = "tests/linux/hostile.c";

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("linux-keeps-its-promises-to-programs", |step| ask(CALLS, 1, None, step)),
        Case::new("linux-keeps-its-promises-on-4-processors", |step| ask(CALLS, 4, None, step)),
        Case::new("linux-outlives-programs-that-use-up-everything", |step| ask(HOSTILE, 1, Some("192M"), step)),
    ]
}

/// The machine that a container is booted on.
pub struct On {
    pub processors: i64,
    /// Its memory, if not what containers get anyway.
    pub memory: Option<Memory>,
    pub engine: Engine,
    /// Seconds of this machine's time.
    pub limit: Duration,
}

/// Boots a container; answers how it ended and its console.
pub fn boot(source: &Source, overrides: &Overrides, on: &On, step: &mut Step) -> Result<(Ending, String)> {
    let system = workspace::root().join(container::DESCRIPTION);
    let container = container::prepare(source, overrides, &system, None)?;
    step.note("booting");
    let boot = Boot {
        image: container.image,
        machine: MachineKind::Q35,
        memory: on.memory.unwrap_or(container.memory),
        processors: Processors::try_from(on.processors).map_err(|error: String| miette!(error))?,
        engine: on.engine,
        limit: Some(on.limit),
        words: Vec::new(),
        devices: launch::devices(MachineKind::Q35, &Description::read(&system)?, &[])?,
        keys_go_to_the_guest: false,
    };
    let mut console = Vec::new();
    let ending = boot.run(container.symbols, false, &mut console)?;
    Ok((ending, String::from_utf8_lossy(&console).into_owned()))
}

/// Builds a program of ours with the C compiler, and runs it.
fn ask(program: &str, processors: i64, memory: Option<&str>, step: &mut Step) -> Result<Outcome> {
    let memory = memory.map(str::parse).transpose().map_err(|error: String| miette!(error))?;
    let folder = tempfile::tempdir().into_diagnostic()?;
    let source = workspace::root().join(program);
    let program = folder.path().join("program");
    let built =
        Command::new("cc").args(["-O1", "-static", "-pthread", "-o"]).arg(&program).arg(source).arg("-lrt").output();
    match built {
        Ok(output) if output.status.success() => {}
        _ => return Ok(Outcome::skipped("the C compiler here makes no static programs")),
    }
    let source = Source::of(&shown(&program))?;
    let on = On { processors, memory, engine: Engine::Tcg, limit: Duration::from_secs(900) };
    let (ending, console) = boot(&source, &Overrides::default(), &on, step)?;
    let counts = count(&console);
    if ending != Ending::Guest(0) || counts.failed > 0 || counts.passed == 0 {
        return Ok(Outcome::failed(format!("it ended with {ending}"), console));
    }
    Ok(Outcome::passed(counts.passed))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
