//! The Linux personality, seen by unmodified programs: a static one of ours that asks what Linux promises, and Debian's.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use miette::{IntoDiagnostic, Result};

use super::Case;
use super::outcome::{Outcome, count};
use crate::container::{self, Overrides, Source};
use crate::devices;
use crate::image::{Description, MachineKind, Processors};
use crate::progress::Step;
use crate::qemu::{Boot, Ending, Engine};
use crate::workspace;

/// The system that runs containers.
const SYSTEM: &str = "images/container.toml";
/// The folder of the program of our own.
const CALLS: &str = "tests/linux";

/// A program of Debian's: the packages, what is run, what it prints (each is part of a line, in this order), its exit code.
struct Program {
    name: &'static str,
    packages: &'static str,
    words: &'static [&'static str],
    lines: &'static [&'static str],
    code: u8,
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "busybox-runs-a-script",
        packages: "debian:busybox-static",
        words: &[
            "busybox",
            "sh",
            "-c",
            "x=5; echo $((x * 7)); (exit 3); echo status $?; mkdir -p /tmp/a/b && echo text > /tmp/a/b/c && cat /tmp/a/b/c; exit 7",
        ],
        lines: &["35", "status 3", "text"],
        code: 7,
    },
    Program {
        name: "bash-and-coreutils-work-together",
        packages: "debian:bash,coreutils,grep,sed",
        words: &[
            "bash",
            "-c",
            "seq 1 100 | sort -rn | head -1; for i in 1 2 3; do echo $i; done | sed s/2/two/ | tr '\\n' ' '; echo; ls / | grep -c e; trap 'echo caught' USR1; kill -USR1 $$; wait",
        ],
        lines: &["100", "1 two 3", "caught"],
        code: 0,
    },
    Program {
        name: "python-has-threads-and-children",
        packages: "debian:python3,dash,coreutils",
        words: &[
            "python3",
            "-c",
            "import subprocess, threading, asyncio, hashlib\n\
             found = []\n\
             threads = [threading.Thread(target=lambda n=n: found.append(n * n)) for n in range(20)]\n\
             [thread.start() for thread in threads]; [thread.join() for thread in threads]\n\
             print('sum', sum(found))\n\
             print(subprocess.run('echo a b | tr a-z A-Z', shell=True, capture_output=True).stdout)\n\
             async def main(): await asyncio.gather(*[asyncio.sleep(0.01) for _ in range(10)]); return 'slept'\n\
             print(asyncio.run(main()))\n\
             print(hashlib.sha256(bytes(1000000)).hexdigest())",
        ],
        lines: &["sum 2470", "b'A B\\n'", "slept", "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025"],
        code: 0,
    },
];

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("linux-keeps-its-promises-to-programs", |step| calls(1, step)),
        Case::new("linux-keeps-its-promises-on-4-processors", |step| calls(4, step)),
    ];
    cases.extend(PROGRAMS.iter().map(|program| Case::new(program.name, move |step| run(program, step))));
    cases
}

/// Boots a container; answers how it ended and its console.
fn boot(source: &Source, words: &[&str], processors: i64, step: &mut Step) -> Result<(Ending, String)> {
    let overrides = Overrides { words: words.iter().map(|word| (*word).to_owned()).collect(), ..Overrides::default() };
    boot_with(source, &overrides, processors, 120, step)
}

/// The same with more said, for at most `seconds`.
pub fn boot_with(
    source: &Source,
    overrides: &Overrides,
    processors: i64,
    seconds: u64,
    step: &mut Step,
) -> Result<(Ending, String)> {
    let container = container::prepare(source, overrides, &workspace::root().join(SYSTEM), None)?;
    let description = Description::read(&workspace::root().join(SYSTEM))?;
    step.note("booting");
    let boot = Boot {
        image: container.image,
        machine: MachineKind::Q35,
        memory: container.memory,
        processors: Processors::try_from(processors).map_err(|error: String| miette::miette!(error))?,
        engine: Engine::Tcg,
        limit: Some(Duration::from_secs(seconds)),
        words: Vec::new(),
        devices: devices::arguments(MachineKind::Q35, description.name(), &description.devices()?, &[])?,
        keys_go_to_the_guest: false,
    };
    let mut console = Vec::new();
    let ending = boot.run(container.symbols, false, &mut console)?;
    Ok((ending, String::from_utf8_lossy(&console).into_owned()))
}

/// Builds our program with the C compiler, and runs it.
fn calls(processors: i64, step: &mut Step) -> Result<Outcome> {
    let folder = tempfile::tempdir().into_diagnostic()?;
    let program = folder.path().join("calls");
    let sources = fs::read_dir(workspace::root().join(CALLS)).into_diagnostic()?;
    let sources =
        sources.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "c"));
    let built =
        Command::new("cc").args(["-O1", "-static", "-pthread", "-o"]).arg(&program).args(sources).arg("-lrt").output();
    match built {
        Ok(output) if output.status.success() => {}
        _ => return Ok(Outcome::skipped("the C compiler here makes no static programs")),
    }
    let source = Source::of(&shown(&program))?;
    let (ending, console) = boot(&source, &[], processors, step)?;
    let counts = count(&console);
    if ending != Ending::Guest(0) || counts.failed > 0 || counts.passed == 0 {
        return Ok(Outcome::failed(format!("it ended with {ending}"), console));
    }
    Ok(Outcome::passed(counts.passed))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn run(program: &Program, step: &mut Step) -> Result<Outcome> {
    if Command::new("apt-get").arg("--version").output().is_err() {
        return Ok(Outcome::skipped("there is no apt-get to fetch Debian's packages with"));
    }
    let source = Source::of(program.packages)?;
    let (ending, console) = boot(&source, program.words, 1, step)?;
    let mut lines = console.lines();
    if let Some(missing) = program.lines.iter().find(|part| !lines.any(|line| line.contains(**part))) {
        return Ok(Outcome::failed(format!("it did not print `{missing}` where that was expected"), console));
    }
    if ending != Ending::Guest(program.code) {
        return Ok(Outcome::failed(format!("it ended with {ending}"), console));
    }
    Ok(Outcome::passed(1))
}
