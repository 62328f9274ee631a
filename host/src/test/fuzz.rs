//! The fuzz suite: libFuzzer searches for a bounded time, guided by coverage.
//!
//! The targets are those of `kernel/core/fuzz` (the layout of cargo-fuzz, which works there too). They are built here
//! with the flags that cargo-fuzz would give, so that neither it nor a nightly compiler is needed. The search starts
//! from the corpus that is kept in the checkout; what it finds goes to the target folder, and the checkout stays clean.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use miette::{IntoDiagnostic, Result, WrapErr};

use super::command::run;
use super::host::cargo;
use super::outcome::Outcome;
use super::{Case, Lane, Suite};
use crate::progress::Step;
use crate::workspace;

/// How long one target is searched in a run of all tests.
const SECONDS: u32 = 45;
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Coverage counters and traced comparisons for libFuzzer. No sanitizer: what is fuzzed forbids `unsafe`. Arithmetic
/// and assertions are checked as in a test.
const FLAGS: [&str; 9] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions=yes",
    "-Coverflow-checks=yes",
];

pub fn suite() -> Suite {
    let folder = workspace::root().join("kernel/core/fuzz");
    let cases = targets(&folder).into_iter().map(|target| {
        let folder = folder.clone();
        Case::new(target.clone(), move |step| search(&folder, &target, step))
    });
    Suite { name: "fuzz", about: "a fuzzer finds nothing in a bounded time", lane: Lane::Host, cases: cases.collect() }
}

fn search(folder: &Path, target: &str, step: &mut Step) -> Result<Outcome> {
    if Command::new("c++").arg("--version").output().is_err() {
        return Ok(Outcome::skipped("there is no C++ compiler, which libFuzzer needs"));
    }
    let built = workspace::target().join("fuzz");
    let mut build = cargo();
    build.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}")).args(["build", "--release", "--target", TARGET]);
    build.arg("--manifest-path").arg(folder.join("Cargo.toml")).arg("--target-dir").arg(&built).args(["--bin", target]);
    let finished = run(&mut build, step)?;
    if !finished.succeeded {
        return Ok(Outcome::failed("the fuzz target cannot be built", finished.output));
    }
    let found = workspace::target().join("tessera/fuzz").join(target);
    fs::create_dir_all(&found).into_diagnostic().wrap_err("cannot make a folder for what the fuzzer finds")?;
    let mut search = Command::new(built.join(TARGET).join("release").join(target));
    search
        .arg(format!("-max_total_time={SECONDS}"))
        .arg("-seed=1")
        .arg(format!("-artifact_prefix={}/failure-", found.display()));
    search.arg(found.join("corpus")).args(Some(folder.join("corpus").join(target)).filter(|corpus| corpus.exists()));
    fs::create_dir_all(found.join("corpus")).into_diagnostic()?;
    Ok(run(&mut search, step)?.outcome())
}

/// The fuzz targets: one source file each.
fn targets(folder: &Path) -> Vec<String> {
    let Ok(entries) = folder.join("fuzz_targets").read_dir() else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let sources = paths.filter(|path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs"));
    let mut names: Vec<String> = sources.filter_map(|path| path.file_stem()?.to_str().map(str::to_owned)).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_file_is_a_target() {
        let folder = tempfile::tempdir().unwrap();
        assert!(targets(folder.path()).is_empty());
        fs::create_dir(folder.path().join("fuzz_targets")).unwrap();
        for name in ["b.rs", "a.rs", "notes.md"] {
            fs::write(folder.path().join("fuzz_targets").join(name), "").unwrap();
        }
        assert_eq!(targets(folder.path()), ["a", "b"]);
    }
}
