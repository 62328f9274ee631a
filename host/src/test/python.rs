//! CPython's own regression tests, as far as they concern the operating system, against what passes of them on Linux.
//!
//! `tests/linux/python/passes.txt` names the cases that pass in a Debian root on Linux, made by the same `regress.py`;
//! `tests/linux/python/differences.txt` those of them that do not pass here, with the reason: it may only shrink. They take long, so the suite runs
//! them when `TESSERA_PYTHON_TESTS` is set: to `1`, or to the modules to run. The machine counts instructions, so that no time-out depends on how
//! busy this one is.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use super::linux::{On, boot};
use super::outcome::Outcome;
use super::{Case, Lane, Suite};
use crate::container::{Overrides, Source};
use crate::progress::Step;
use crate::qemu::Engine;
use crate::workspace;

const SWITCH: &str = "TESSERA_PYTHON_TESTS";
const PACKAGES: &str = "debian:python3,libpython3.11-testsuite,bash,coreutils,procps,net-tools,media-types,tar";
const FOLDER: &str = "tests/linux/python";
/// For the longest module on a machine that does other things too.
const LIMIT: Duration = Duration::from_secs(3600);

/// Names of cases, by their modules.
type Cases = BTreeMap<String, BTreeSet<String>>;

/// A case for each module.
pub fn suite() -> Result<Suite> {
    let modules: Vec<String> = list("passes.txt")?.into_keys().collect();
    let cases = modules.into_iter().map(|module| Case::new(name(&module), move |step| run(&module, step))).collect();
    Ok(Suite {
        name: "python",
        about: "CPython's tests of the operating system pass as on Linux",
        lane: Lane::Guests,
        cases,
    })
}

/// `test_os` as a case's name.
fn name(module: &str) -> String {
    module.replace('_', "-")
}

/// Reads a list: a case `MODULE:CASE` a line, and what stands behind two spaces is a remark.
fn list(file: &str) -> Result<Cases> {
    let path = workspace::root().join(FOLDER).join(file);
    let text = fs::read_to_string(&path).into_diagnostic().wrap_err_with(|| format!("{}", path.display()))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Cases {
    let mut cases = Cases::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split("  ").next().unwrap_or_default().trim();
        if let Some((module, _)) = name.split_once(':') {
            cases.entry(module.to_owned()).or_default().insert(name.to_owned());
        }
    }
    cases
}

/// The cases that the console says passed.
fn passed(console: &str) -> BTreeSet<String> {
    let words = console.lines().filter_map(|line| line.trim().strip_prefix("case ")?.split_once(' '));
    words.filter(|(_, outcome)| matches!(*outcome, "passed" | "expected")).map(|(name, _)| name.to_owned()).collect()
}

fn run(module: &str, step: &mut Step) -> Result<Outcome> {
    let wanted = env::var(SWITCH).unwrap_or_default();
    if wanted != "1" && !wanted.split_whitespace().any(|word| word == module) {
        return Ok(Outcome::skipped(format!("takes long: set {SWITCH}")));
    }
    let runner = workspace::root().join(FOLDER).join("regress.py");
    let overrides = Overrides {
        words: ["python3", "/regress.py", module].map(str::to_owned).to_vec(),
        environment: vec!["LANG=C.UTF-8".to_owned()],
        volumes: vec![format!("{}:/regress.py:ro", runner.display()).parse().map_err(|error: String| miette!(error))?],
        ..Overrides::default()
    };
    let memory = "1G".parse().map_err(|error: String| miette!(error))?;
    let on = On { memory: Some(memory), engine: Engine::Counting, limit: LIMIT, ..On::default() };
    let (_, console) = boot(&Source::of(PACKAGES)?, &overrides, &on, step)?;
    let of_module = |file| Ok::<_, miette::Report>(list(file)?.remove(module).unwrap_or_default());
    judge(&of_module("passes.txt")?, &of_module("differences.txt")?, &console)
}

/// Every case that passes on Linux passes, but for the known differences, which do not.
fn judge(on_linux: &BTreeSet<String>, known: &BTreeSet<String>, console: &str) -> Result<Outcome> {
    let here = passed(console);
    let lost: Vec<&String> = on_linux.difference(&here).filter(|case| !known.contains(*case)).collect();
    let won: Vec<&String> = known.intersection(&here).collect();
    Ok(if let Some(first) = lost.first() {
        Outcome::failed(format!("{} cases that pass on Linux do not, such as {first}", lost.len()), console)
    } else if let Some(first) = won.first() {
        Outcome::failed(format!("{first} passes now: strike it from the differences"), console)
    } else {
        Outcome::passed(on_linux.intersection(&here).count() as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_cases_by_module_and_remarks() {
        let cases = parse("# of all\ntest_a:B.c\ntest_a:B.d  because\n\ntest_e:f\n");
        assert_eq!(cases.len(), 2);
        assert_eq!(cases["test_a"].iter().collect::<Vec<_>>(), ["test_a:B.c", "test_a:B.d"]);
    }

    #[test]
    fn what_is_lost_or_won_against_linux_fails() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let console = "noise\ncase m:a passed\r\ncase m:b failed\ncase m:c expected\ncase m:d skipped\n";
        let all = set(&["m:a", "m:b", "m:c"]);
        assert_eq!(judge(&all, &set(&["m:b"]), console).unwrap(), Outcome::passed(2));
        assert!(judge(&all, &set(&[]), console).unwrap().failure.unwrap().contains("m:b"));
        assert!(judge(&all, &set(&["m:a", "m:b"]), console).unwrap().failure.unwrap().contains("m:a passes now"));
    }
}
