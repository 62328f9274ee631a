//! The Linux personality, seen by static programs of ours that ask what Linux promises.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use miette::{IntoDiagnostic, Result, miette};

use super::Case;
use super::outcome::{Outcome, count};
use crate::container::{self, Overrides, Source, launch};
use crate::image::{Description, MachineKind, Memory, Placement, Processors};
use crate::progress::Step;
use crate::qemu::{Boot, Ending, Engine};
use crate::workspace;

/// The folder of the program that asks for what is promised.
const CALLS: &str = "tests/linux";

/// The folder of the one that uses up what there is.
const HOSTILE: &str = "tests/linux/hostile";

pub fn cases() -> Vec<Case> {
    use Placement::{Libos, Monolith, Unikernel};
    let calls = |name: &str, placement, processors| {
        Case::new(name, move |step| ask(CALLS, &On { processors, placement, ..On::default() }, step))
    };
    vec![
        calls("linux-keeps-its-promises-to-programs", None, 1),
        calls("linux-keeps-its-promises-on-4-processors", None, 4),
        calls("linux-keeps-its-promises-as-libos", Some(Libos), 1),
        calls("linux-keeps-its-promises-as-monolith", Some(Monolith), 1),
        calls("linux-keeps-its-promises-as-monolith-on-4-processors", Some(Monolith), 4),
        calls("linux-keeps-its-promises-as-unikernel", Some(Unikernel), 1),
        calls("linux-keeps-its-promises-as-unikernel-on-4-processors", Some(Unikernel), 4),
        Case::new("linux-outlives-programs-that-use-up-everything", |step| {
            let memory = Some("192M".parse().map_err(|error: String| miette!(error))?);
            ask(HOSTILE, &On { memory, ..On::default() }, step)
        }),
    ]
}

/// The machine that a container is booted on.
pub struct On {
    pub processors: i64,
    /// Its memory, if not what containers get anyway.
    pub memory: Option<Memory>,
    /// The placement, if not what the system's description says.
    pub placement: Option<Placement>,
    pub engine: Engine,
    /// Of this machine's time.
    pub limit: Duration,
}

impl Default for On {
    fn default() -> On {
        On { processors: 1, memory: None, placement: None, engine: Engine::Tcg, limit: Duration::from_secs(900) }
    }
}

/// Boots a container; answers how it ended and its console.
pub fn boot(source: &Source, overrides: &Overrides, on: &On, step: &mut Step) -> Result<(Ending, String)> {
    let mut system = Description::read(&workspace::root().join(container::DESCRIPTION))?;
    system.place(on.placement);
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
        devices: launch::devices(MachineKind::Q35, &container.system, &[], &container.volumes)?,
        keys_go_to_the_guest: false,
    };
    let mut console = Vec::new();
    let ending = boot.run(container.symbols, false, &mut console)?;
    Ok((ending, String::from_utf8_lossy(&console).into_owned()))
}

/// Builds a program of ours with the C compiler, and runs it.
fn ask(folder: &str, on: &On, step: &mut Step) -> Result<Outcome> {
    let sources = fs::read_dir(workspace::root().join(folder)).into_diagnostic()?;
    let sources =
        sources.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "c"));
    let folder = tempfile::tempdir().into_diagnostic()?;
    let program = folder.path().join("program");
    let built =
        Command::new("cc").args(["-O1", "-static", "-pthread", "-o"]).arg(&program).args(sources).arg("-lrt").output();
    match built {
        Ok(output) if output.status.success() => {}
        _ => return Ok(Outcome::skipped("the C compiler here makes no static programs")),
    }
    let source = Source::of(&shown(&program))?;
    let (ending, console) = boot(&source, &Overrides::default(), on, step)?;
    let counts = count(&console);
    if ending != Ending::Guest(0) || counts.failed > 0 || counts.passed == 0 {
        return Ok(Outcome::failed(format!("it ended with {ending}"), console));
    }
    Ok(Outcome::passed(counts.passed))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
