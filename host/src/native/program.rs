//! Builds a Cargo project into one relocatable object: the program and its `std`, without what they run on.
//!
//! The project's own tool chain is not used, but the one that builds Tessera, as it has the sources of `std`. The object depends on the
//! project and the tool chain alone, and is made anew when the project has changed; linking it with Tessera is a matter of milliseconds.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::Deserialize;

use super::c;
use crate::bare;
use crate::explain::linked::{Packages, Part};
use crate::process::Running;
use crate::progress::Step;
use crate::toolchain::BareToolChain;
use crate::workspace;

/// The target whose `std` calls C functions for everything.
pub const TARGET: &str = "x86_64-unknown-hermit";
/// The profile, which is the project's `release` with what the target needs.
const PROFILE: &str = "tessera";
/// The folder of all projects' builds: they share one `std`.
const FOLDER: &str = "native";

/// What cargo prints, as far as it is used here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds the program of the project in `folder`; answers the object's file.
pub fn build(folder: &Path) -> Result<PathBuf> {
    let tool_chain = BareToolChain::find()?;
    let target = workspace::target().join(FOLDER);
    let cannot = || format!("cannot write to {}", target.display());
    fs::create_dir_all(&target).into_diagnostic().wrap_err_with(cannot)?;
    // Programs of equal names have one place there: until this one is copied, no other is built.
    let lock = File::create(target.join("lock")).into_diagnostic().wrap_err_with(cannot)?;
    lock.lock().into_diagnostic().wrap_err_with(cannot)?;
    let mut command = command(&tool_chain, folder, &target);
    let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(pipes, None)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot start {}", tool_chain.cargo.display()))?;
    let messages = running.child().stdout.take().map(|pipe| thread::spawn(move || read_messages(pipe)));
    let said = running.child().stderr.take().map(|pipe| bare::follow(pipe, step(folder))).unwrap_or_default();
    let built = messages.and_then(|thread| thread.join().ok()).unwrap_or_default();
    let (status, _) = running.wait().into_diagnostic()?;
    for line in said.iter().filter(|line| !bare::is_status(line)) {
        eprintln!("{line}");
    }
    if !status.success() {
        return Err(miette!(
            help = "cargo's messages above say why; the book, \"Native programs\", says what `std` has here",
            "the build of {} failed",
            workspace::shown(folder)
        ));
    }
    let object = only(folder, built)?;
    let hash = blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex();
    let kept = target.join("objects").join(format!("{}.o", &hash.as_str()[..32]));
    let bytes = fs::read(&object).into_diagnostic().wrap_err_with(|| format!("cannot read {}", object.display()))?;
    crate::image::write(&kept, &bytes)?;
    Ok(kept)
}

/// What is linked into the program of the project in `folder`, besides Rust's own library.
pub fn linked(folder: &Path) -> Result<Vec<Part>> {
    let packages = Packages::read(folder, TARGET, "hermit")?;
    Ok(packages.own_program())
}

fn step(folder: &Path) -> Step {
    Step::start(format!("building {} (the first program takes the standard library along)", workspace::shown(folder)))
}

fn command(tool_chain: &BareToolChain, folder: &Path, target: &Path) -> Command {
    let mut command = Command::new(&tool_chain.cargo);
    bare::clean_environment(&mut command, tool_chain);
    c::give_compiler(&mut command, tool_chain);
    command.current_dir(folder).env("CARGO_ENCODED_RUSTFLAGS", flags(tool_chain).join("\u{1f}"));
    command.args(["build", "--profile", PROFILE, "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    command.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=compiler-builtins-mem"]);
    command.arg("--target-dir").arg(target);
    for (key, value) in [
        ("inherits", "\"release\""),
        ("lto", "\"fat\""),
        ("codegen-units", "1"),
        // Unwinding needs tables that take as much room as the code.
        ("panic", "\"abort\""),
        ("debug", "\"line-tables-only\""),
    ] {
        command.arg("--config").arg(OsString::from(format!("profile.{PROFILE}.{key}={value}")));
    }
    if console::Term::stderr().is_term() {
        command.arg("--color=always");
    }
    command
}

fn flags(tool_chain: &BareToolChain) -> Vec<String> {
    let mut flags = vec![
        format!("-Clinker={}", tool_chain.linker.display()),
        "-Clinker-flavor=ld.lld".to_owned(),
        // One object, to be linked with what it runs on. What is left out shows then.
        "-Clink-args=-r --no-pie --no-gc-sections".to_owned(),
        // In the kernel's mode an interrupt uses the stack from where it is.
        "-Cno-redzone=yes".to_owned(),
        "-Cforce-frame-pointers=yes".to_owned(),
        "-Cforce-unwind-tables=no".to_owned(),
    ];
    flags.extend(bare::renamed_paths(tool_chain));
    flags
}

fn read_messages(pipe: impl Read) -> Vec<(String, PathBuf)> {
    let lines = BufReader::new(pipe).lines().map_while(Result::ok);
    lines
        .filter_map(|line| serde_json::from_str::<Message>(&line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter_map(|message| Some((message.target?.name, message.executable?)))
        .collect()
}

/// The one program of a project.
fn only(folder: &Path, built: Vec<(String, PathBuf)>) -> Result<PathBuf> {
    let names: Vec<&str> = built.iter().map(|(name, _)| name.as_str()).collect();
    match built.as_slice() {
        [(_, path)] => Ok(path.clone()),
        [] => Err(miette!(help = "add a src/main.rs", "{} has no program to run", workspace::shown(folder))),
        _ => Err(miette!(
            help = "give a project with one program",
            "{} has several programs: {}",
            workspace::shown(folder),
            names.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_one_program() {
        let one = ("a".to_owned(), PathBuf::from("/a"));
        assert_eq!(only(Path::new("p"), vec![one.clone()]).unwrap(), Path::new("/a"));
        assert!(only(Path::new("p"), vec![]).unwrap_err().to_string().contains("no program"));
        let two = vec![one, ("b".to_owned(), PathBuf::from("/b"))];
        assert!(only(Path::new("p"), two).unwrap_err().to_string().contains("a, b"));
    }
}
