//! Programs of Debian's: each a script in `tests/linux/programs`, which runs in a container of the packages that its head names and must print
//! what its head expects.
//!
//! The head is made of comments, up to the first other line: `# packages:` what it needs; `# expect:` a part of a line that it
//! prints, in this order; `# run:` what runs it, if not `sh`; `# memory:` what the machine has, if not what containers get anyway; `# exit:`
//! its exit code, if not 0; `# long:` why it takes long, and therefore runs only when it is asked for; `# limit:` the seconds that it may take, if more
//! than others.
//!
//! The machine counts instructions: its clock does not depend on how busy this one is, and nobody waits for a sleep.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use super::linux::{On, boot};
use super::outcome::{Outcome, count};
use super::{Case, Lane, Suite, command, redis};
use crate::container::{Overrides, Source};
use crate::image::Memory;
use crate::progress::Step;
use crate::qemu::{Ending, Engine};
use crate::workspace;

/// Where the scripts are.
const FOLDER: &str = "tests/linux/programs";
/// Set, it lets the long ones run.
const ASKED: &str = "TESSERA_LONG_PROGRAMS";
/// The program of Rust's that the host's compiler makes.
const RUST: &str = "tests/linux/rust/main.rs";
const LIMIT: Duration = Duration::from_secs(900);

/// A script's head, and its text.
#[derive(Debug, PartialEq)]
struct Script {
    packages: String,
    run: Vec<String>,
    expected: Vec<String>,
    memory: Option<String>,
    code: u8,
    long: Option<String>,
    limit: Duration,
    text: String,
}

impl Script {
    fn parse(text: &str) -> Result<Script> {
        let mut script = Script {
            packages: String::new(),
            run: vec!["sh".to_owned()],
            expected: Vec::new(),
            memory: None,
            code: 0,
            long: None,
            limit: LIMIT,
            text: text.to_owned(),
        };
        for line in text.lines().map_while(|line| line.strip_prefix("# ")) {
            match line.split_once(": ") {
                Some(("packages", value)) => value.clone_into(&mut script.packages),
                Some(("run", value)) => script.run = value.split(' ').map(str::to_owned).collect(),
                Some(("expect", value)) => script.expected.push(value.to_owned()),
                Some(("memory", value)) => script.memory = Some(value.to_owned()),
                Some(("long", value)) => script.long = Some(value.to_owned()),
                Some(("limit", value)) => {
                    let seconds = value.parse().into_diagnostic().wrap_err("in `# limit:`")?;
                    script.limit = Duration::from_secs(seconds);
                }
                Some(("exit", value)) => script.code = value.parse().into_diagnostic().wrap_err("in `# exit:`")?,
                _ => {}
            }
        }
        if script.packages.is_empty() || script.expected.is_empty() {
            return Err(miette!(
                help = "see host/src/test/programs.rs",
                "the script's head names no packages, or nothing to expect"
            ));
        }
        Ok(script)
    }

    /// The first expectation that the console does not meet, in order.
    fn missing<'a>(&'a self, console: &str) -> Option<&'a str> {
        let mut lines = console.lines();
        self.expected.iter().map(String::as_str).find(|part| !lines.any(|line| line.contains(part)))
    }
}

/// A case for each script, by name.
pub fn suite() -> Result<Suite> {
    let folder = workspace::root().join(FOLDER);
    let entries = fs::read_dir(&folder).into_diagnostic().wrap_err_with(|| format!("{}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let case = |path: PathBuf| {
        let name = path.file_stem()?.to_str()?.to_owned();
        Some(Case::new(name, move |step| run(&path, step)))
    };
    let mut cases: Vec<Case> = paths.into_iter().filter_map(case).collect();
    cases.push(Case::new("rust-has-its-standard-library", rust));
    cases.push(redis::case());
    Ok(Suite { name: "programs", about: "programs of Debian's compute what they should", lane: Lane::Guests, cases })
}

fn run(path: &Path, step: &mut Step) -> Result<Outcome> {
    if Command::new("apt-get").arg("--version").output().is_err() {
        return Ok(Outcome::skipped("there is no apt-get to fetch Debian's packages with"));
    }
    let text = fs::read_to_string(path).into_diagnostic()?;
    let script = Script::parse(&text).wrap_err_with(|| format!("{}", path.display()))?;
    if let Some(why) = &script.long
        && env::var_os(ASKED).is_none()
    {
        return Ok(Outcome::skipped(format!("{why}: {ASKED}=1 runs it")));
    }
    let source = Source::of(&format!("debian:{}", script.packages))?;
    let words = [script.run.clone(), vec!["-c".to_owned(), script.text.clone()]].concat();
    let overrides = Overrides { words, ..Overrides::default() };
    let memory = script.memory.as_deref().map(str::parse::<Memory>).transpose();
    let memory = memory.map_err(|error| miette!("`# memory:`: {error}"))?;
    let on = On { memory, engine: Engine::Counting, limit: script.limit, ..On::default() };
    let (ending, console) = boot(&source, &overrides, &on, step)?;
    Ok(if let Some(missing) = script.missing(&console) {
        Outcome::failed(format!("it did not print `{missing}` where that was expected"), console)
    } else if ending != Ending::Guest(script.code) {
        Outcome::failed(format!("it ended with {ending}"), console)
    } else {
        Outcome::passed(1)
    })
}

/// A static program, made by the compiler that makes this command.
fn rust(step: &mut Step) -> Result<Outcome> {
    let folder = tempfile::tempdir().into_diagnostic()?;
    let program = folder.path().join("program");
    let cargo = env::var_os("CARGO").map(PathBuf::from).unwrap_or_default();
    let mut compiler = Command::new(cargo.with_file_name("rustc"));
    compiler.args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"]).arg(&program);
    let built = command::run(compiler.arg(workspace::root().join(RUST)), step)?;
    if !built.succeeded {
        return Ok(Outcome::failed("it cannot be compiled", built.output));
    }
    let on = On { engine: Engine::Counting, limit: LIMIT, ..On::default() };
    let source = Source::of(&program.display().to_string())?;
    let (ending, console) = boot(&source, &Overrides::default(), &on, step)?;
    let counts = count(&console);
    Ok(match (ending, counts.failed) {
        (Ending::Guest(0), 0) if counts.passed > 0 => Outcome::passed(counts.passed),
        _ => Outcome::failed(format!("it ended with {ending}"), console),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_is_needed_and_expected() {
        let text = "# packages: a,b\n# run: busybox sh\n# expect: one: two\n# expect: three\n# exit: 7\n# limit: 1800\necho\n# expect: no\n";
        let script = Script::parse(text).unwrap();
        assert_eq!((script.packages.as_str(), script.code), ("a,b", 7));
        assert_eq!(script.limit, Duration::from_secs(1800));
        assert_eq!(
            (script.run.concat(), script.expected.join("|")),
            ("busyboxsh".to_owned(), "one: two|three".to_owned())
        );
        assert_eq!(script.missing("x\none: two\nthree\n"), None);
        assert_eq!(script.missing("three\none: two\n"), Some("three"));
        assert!(Script::parse("# packages: a\necho\n").is_err());
        assert!(Script::parse("# packages: a\n# expect: b\n# limit: soon\n").is_err());
    }

    #[test]
    fn every_script_has_a_head() {
        let folder = workspace::root().join(FOLDER);
        for entry in fs::read_dir(folder).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            Script::parse(&text).unwrap();
        }
    }
}
