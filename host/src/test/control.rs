//! A guest that runs on while it is looked at from outside: `tessera ps`, `inspect`, `kill` and `restart`, as a user gives them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, miette};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Case;
use super::outcome::Outcome;
use crate::progress::Step;
use crate::workspace;

pub const IMAGE: &str = "images/control.toml";
/// How long building, booting and each change may take.
const PATIENCE: Duration = Duration::from_secs(240);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a-running-guest-is-looked-at-and-its-domains-are-killed-from-outside", |step| {
            within_folder(|folder| look_within(folder, step))
        }),
        Case::new("components-have-the-same-authority-in-every-placement", |step| {
            within_folder(|folder| compare_authority(folder, step))
        }),
    ]
}

/// A guest that ends with this value.
struct Guest<'a> {
    command: Child,
    runtime: &'a Path,
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        // The command ends QEMU when it is asked to end.
        if let Some(id) = i32::try_from(self.command.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(id, Signal::TERM);
        }
        let _ = self.command.wait();
    }
}

/// This command with the guests of `runtime` alone.
fn command(runtime: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.current_dir(workspace::root()).env("XDG_RUNTIME_DIR", runtime).args(arguments).stdin(Stdio::null());
    command
}

impl Guest<'_> {
    /// What a command prints, or says if it fails.
    fn ask(&self, arguments: &[&str]) -> Result<std::result::Result<String, String>> {
        let output = command(self.runtime, arguments).output().into_diagnostic()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) })
    }

    /// The state of domain `name` in what `ps --json` prints.
    fn domain(&self, name: &str) -> Option<Value> {
        let text = self.ask(&["ps", "--json"]).ok()?.ok()?;
        let state: Value = serde_json::from_str(&text).ok()?;
        state["domains"].as_array()?.iter().find(|domain| domain["name"] == name).cloned()
    }

    /// Waits until `name` has been started so many times and runs.
    fn wait(&mut self, name: &str, starts: u64, step: &mut Step) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            step.note(&format!("waiting for `{name}` to be started {starts} times"));
            if let Some(domain) = self.domain(name)
                && domain["starts"].as_u64() >= Some(starts)
                && domain["phase"] == "running"
            {
                return Ok(());
            }
            if let Some(status) = self.command.try_wait().into_diagnostic()? {
                return Err(miette!("the guest ended with {status}"));
            }
            thread::sleep(Duration::from_millis(200));
        }
        Err(miette!("`{name}` was not started {starts} times: {:?}", self.domain(name)))
    }
}

fn within_folder(test: impl FnOnce(&Path) -> Result<Outcome>) -> Result<Outcome> {
    // In the system's folder for such things, as the path of a socket is short. Each case has its own: both ask for the one guest there is.
    test(tempfile::tempdir().into_diagnostic()?.path())
}

/// Boots the image, in a placement.
fn start<'a>(runtime: &'a Path, placement: &str) -> Result<Guest<'a>> {
    let mut run = command(runtime, &["run", IMAGE, "--placement", placement, "--accel", "tcg", "--timeout", "300"]);
    let run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().into_diagnostic()?;
    Ok(Guest { command: run, runtime })
}

/// What a guest that runs says of each component: what it uses of whom, what it holds, what it provides.
fn compare_authority(runtime: &Path, step: &mut Step) -> Result<Outcome> {
    let mut found: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for (placement, domain) in
        [("isolated", "echo"), ("libos", "program"), ("monolith", "system"), ("unikernel", "system")]
    {
        let mut guest = start(runtime, placement)?;
        guest.wait(domain, 1, step)?;
        let text = guest.ask(&["inspect", "--json"])?.map_err(|error| miette!("`inspect` as {placement}: {error}"))?;
        let state: Value = serde_json::from_str(&text).into_diagnostic()?;
        let domains = state["domains"].as_array().cloned().unwrap_or_default();
        let components = domains.iter().filter_map(|domain| domain["components"].as_array()).flatten();
        let named = components.map(|component| (component["name"].to_string(), component.clone()));
        found.insert(placement, named.collect());
        // A domain in the kernel's mode is ended and started again like any other.
        let _ = guest.ask(&["restart", domain])?;
        guest.wait(domain, 2, step)?;
    }
    let mut all = found.values();
    let first = all.next().cloned().unwrap_or_default();
    if first.len() < 3 || all.any(|other| *other != first) {
        return Ok(Outcome::failed("what components may reach depends on the placement", format!("{found:#?}")));
    }
    Ok(Outcome::passed(1))
}

fn look_within(runtime: &Path, step: &mut Step) -> Result<Outcome> {
    let mut guest = start(runtime, "isolated")?;
    guest.wait("echo", 1, step)?;

    let expect = |what: &str, found: std::result::Result<String, String>, part: &str| match found {
        Ok(text) if text.contains(part) => Ok(()),
        other => Err(miette!("`{what}` did not print `{part}`: {other:?}")),
    };
    expect("ps", guest.ask(&["ps"])?, "COMPONENTS")?;
    expect(
        "inspect",
        guest.ask(&["inspect", "control"])?,
        "uses console: Console of serial.console (in the domain serial)",
    )?;
    expect("inspect", guest.ask(&["inspect", "serial"])?, "ports 0x2f8 to 0x2ff")?;
    if guest.ask(&["kill", "nobody"])?.is_ok() {
        return Ok(Outcome::failed("a domain that does not exist was killed", ""));
    }
    for starts in 2..12 {
        expect("kill", guest.ask(&["kill", "echo"])?, "")?;
        guest.wait("echo", starts, step)?;
    }
    expect("inspect", guest.ask(&["inspect", "echo"])?, "life 10 was killed")?;
    // Also of what the question itself passes through.
    for name in ["serial", "control"] {
        let _ = guest.ask(&["restart", name])?;
        guest.wait(name, 2, step)?;
    }
    expect("top", guest.ask(&["top", "-n", "1"])?, "CPU %")?;
    Ok(Outcome::passed(1))
}
