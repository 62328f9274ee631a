//! The tests of the `nix` crate, which call much of what Linux has, in a container.
//!
//! They lie in the crate's package and are built from it, as one static program. What passes on Linux itself, in a minimal guest, is
//! to pass here too, but for what `nix_known_failures.tsv` lists with its reason. That list may only shrink: what is in it and passes
//! fails this case.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde_json::Value;

use super::Case;
use super::command::{self, Finished};
use super::linux::{On, boot};
use super::outcome::Outcome;
use crate::container::{Overrides, Source};
use crate::progress::Step;
use crate::workspace;

/// Names the crate and its version.
const FETCHED: &str = "tests/linux/nix/Cargo.toml";
/// What each test came to on Linux, and those that may fail here.
const REFERENCE: &str = "tests/linux/nix_reference.tsv";
const KNOWN: &str = "tests/linux/nix_known_failures.tsv";
/// The target, named so that the flags are the program's and not those of build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What the tests' own programs need, and a shell to be the container's first process: signals to a group or to all are tested too.
const PACKAGES: &str = "debian:busybox-static,dash,coreutils";
const SCRIPT: &str = "busybox setsid sh -c '/tests/nix --test-threads=1 --skip fanotify; exit $?'; exit $?";

pub fn cases() -> Vec<Case> {
    vec![Case::new("the-tests-of-the-nix-crate-pass-as-on-linux", run)]
}

fn cargo(step: &mut Step, arguments: &[&str], folder: &Path) -> Result<Finished> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env_remove("CARGO_TARGET_DIR");
    command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    command::run(&mut command, step)
}

/// The text from the first `{` on: what cargo says in JSON, without what it said before.
fn json_lines(output: &str) -> impl Iterator<Item = Value> {
    output.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// Fetches the crate, and builds its tests in a copy of the package; none: there is no way to the registry.
fn build(step: &mut Step) -> Result<Option<PathBuf>> {
    let manifest = workspace::root().join(FETCHED);
    let shown = manifest.display().to_string();
    let told =
        cargo(step, &["metadata", "--format-version", "1", "--locked", "--manifest-path", &shown], &workspace::root())?;
    if !told.succeeded {
        return Ok(None);
    }
    let packages = json_lines(&told.output).find_map(|told| told.get("packages").cloned());
    let packages = packages.ok_or_else(|| miette!("cargo metadata named no packages"))?;
    let package = packages.as_array().into_iter().flatten().find(|package| package["name"] == "nix");
    let package = package.ok_or_else(|| miette!("{FETCHED} does not lead to the nix crate"))?;
    let (version, at) = (package["version"].as_str(), package["manifest_path"].as_str());
    let (Some(version), Some(at)) = (version, at) else { return Err(miette!("cargo metadata of nix lacks its place")) };
    let from = Path::new(at).parent().unwrap_or(Path::new("/"));
    let copy = workspace::target().join("nix").join(version);
    if !copy.is_dir() {
        // A copy that is whole or not there: made beside its place first.
        let beside = copy.with_extension("new");
        let _ = fs::remove_dir_all(&beside);
        copy_folder(from, &beside).into_diagnostic().wrap_err("the package of nix cannot be copied")?;
        // It is no member of the workspace around it.
        let manifest = beside.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).into_diagnostic()?;
        fs::write(&manifest, text + "\n[workspace]\n").into_diagnostic()?;
        fs::rename(&beside, &copy).into_diagnostic()?;
    }
    let arguments = [
        "test",
        "--no-run",
        "--locked",
        "--all-features",
        "--target",
        TARGET,
        "--test",
        "test",
        "--message-format=json",
    ];
    let built = cargo(step, &arguments, &copy)?;
    if !built.succeeded {
        return Err(miette!("the tests of nix cannot be built:\n{}", built.output));
    }
    let program = json_lines(&built.output).find_map(|told| told["executable"].as_str().map(PathBuf::from));
    program.map(Some).ok_or_else(|| miette!("cargo built no program"))
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The first column of a table, of the rows whose second is `state` if one is asked for.
fn names(path: &str, state: Option<&str>) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(workspace::root().join(path)).into_diagnostic().wrap_err_with(|| path.to_owned())?;
    let rows = text.lines().filter_map(|line| line.split_once('\t'));
    Ok(rows.filter(|row| state.is_none_or(|state| row.1 == state)).map(|row| row.0.to_owned()).collect())
}

/// The tests that the list at the end names: `failures:` stands before the outputs and again before the names.
fn failures(console: &str) -> BTreeSet<String> {
    // The console ends its lines as a terminal does.
    let console = console.replace('\r', "");
    let list = console.rsplit_once("\nfailures:\n").map_or("", |parts| parts.1);
    list.lines().take_while(|line| line.starts_with("    ")).map(|line| line.trim().to_owned()).collect()
}

fn run(step: &mut Step) -> Result<Outcome> {
    if Command::new("apt-get").arg("--version").output().is_err() {
        return Ok(Outcome::skipped("there is no apt-get to fetch Debian's packages with"));
    }
    let Some(program) = build(step)? else { return Ok(Outcome::skipped("the crate cannot be fetched here")) };
    let folder = tempfile::tempdir().into_diagnostic()?;
    fs::copy(&program, folder.path().join("nix")).into_diagnostic()?;
    let volume = format!("{}:/tests:copy", folder.path().display());
    let volumes = vec![volume.parse().map_err(|error: String| miette!("{error}"))?];
    let source = Source::of(PACKAGES)?;
    let words = ["/bin/sh", "-c", SCRIPT].map(str::to_owned).to_vec();
    let overrides = Overrides { words, volumes, ..Overrides::default() };
    let (ending, console) = boot(&source, &overrides, &On::default(), step)?;
    if !console.contains("\ntest result: ") {
        return Ok(Outcome::failed(format!("the tests did not come to their end: {ending}"), console));
    }
    let (passing, known) = (names(REFERENCE, Some("ok"))?, names(KNOWN, None)?);
    let failed = failures(&console);
    let unexpected: Vec<&str> =
        failed.intersection(&passing).filter(|name| !known.contains(*name)).map(String::as_str).collect();
    if !unexpected.is_empty() {
        return Ok(Outcome::failed(format!("these pass on Linux: {}", unexpected.join(", ")), console));
    }
    let mended: Vec<&str> = known.difference(&failed).map(String::as_str).collect();
    if !mended.is_empty() {
        return Ok(Outcome::failed(format!("these pass: take them out of {KNOWN}: {}", mended.join(", ")), console));
    }
    Ok(Outcome::passed((passing.len() - known.len()) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_list_of_failures_counts() {
        let console = "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\n    no name\n\n\nfailures:\n    a\n    b::c\n\ntest result: FAILED.";
        assert_eq!(failures(console).into_iter().collect::<Vec<_>>(), ["a", "b::c"]);
        assert_eq!(failures(&console.replace('\n', "\r\n")).len(), 2);
        assert!(failures("test result: ok.").is_empty());
    }

    #[test]
    fn what_is_known_to_fail_passes_on_linux_and_has_a_reason() {
        let passing = names(REFERENCE, Some("ok")).unwrap();
        assert_eq!(passing.len(), 361);
        for name in names(KNOWN, None).unwrap() {
            assert!(passing.contains(&name), "{name} is not among those that pass on Linux");
        }
        let text = fs::read_to_string(workspace::root().join(KNOWN)).unwrap();
        assert!(text.lines().all(|line| line.split_once('\t').is_some_and(|(_, reason)| reason.len() > 10)));
    }
}
