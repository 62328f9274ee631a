//! The suites that need no guest: format, lint, licences, the tests that run on the host.
//!
//! The workspace's packages are of two kinds. Those of the bare-metal side (the kernel, the runtime, and whatever is
//! built on the runtime) are checked with the bare-metal tool chain, all others with the host's. Libraries on the runtime are
//! checked with both: their tests run on the host.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use miette::Result;

use super::command::run;
use super::outcome::{Outcome, count};
use super::{Case, Lane, Suite, fuzz};
use crate::bare::{self, Package};
use crate::toolchain::BareToolChain;
use crate::workspace;

/// The cargo of the host's tool chain, in the workspace. The entry script names it.
pub fn cargo() -> Command {
    let program = env::var_os("TESSERA_HOST_CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(&program);
    command.current_dir(workspace::root()).env("CARGO_TERM_COLOR", "never");
    // The command may itself have been started by a cargo, whose choices are not ours.
    command.env_remove("CARGO");
    // A cargo finds its rustc on the search path: the one beside it is to come first.
    if let Some(folder) = Path::new(&program).parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let rest = env::var_os("PATH").unwrap_or_default();
        let folders = [folder.to_owned()].into_iter().chain(env::split_paths(&rest));
        if let Ok(path) = env::join_paths(folders) {
            command.env("PATH", path);
        }
    }
    command
}

/// Whether the host's cargo has the subcommand `name`.
fn has(name: &str) -> bool {
    let output = cargo().args([name, "--version"]).output();
    output.is_ok_and(|output| output.status.success())
}

/// `--package NAME` for each package of one kind.
fn selection<'a>(packages: impl Iterator<Item = &'a Package>) -> Vec<String> {
    packages.flat_map(|package| ["--package".to_owned(), package.name.clone()]).collect()
}

pub fn format() -> Suite {
    let case = Case::new("rustfmt", |step| {
        if !has("fmt") {
            return Ok(Outcome::skipped("rustfmt is not installed"));
        }
        Ok(run(cargo().args(["fmt", "--all", "--check"]), step)?.outcome())
    });
    Suite { name: "format", about: "the source is formatted", lane: Lane::Host, cases: vec![case] }
}

pub fn lint(packages: &[Package]) -> Suite {
    let host = selection(packages.iter().filter(|package| package.is_tested_on_host));
    let bare = selection(packages.iter().filter(|package| package.is_bare));
    let on_host = Case::new("clippy-host", move |step| {
        if !has("clippy") {
            return Ok(Outcome::skipped("clippy is not installed"));
        }
        let mut command = cargo();
        command.args(["clippy", "--keep-going"]).args(&host).args(["--all-targets", "--", "-D", "warnings"]);
        Ok(run(&mut command, step)?.outcome())
    });
    let on_bare = Case::new("clippy-bare", move |step| {
        let tool_chain = BareToolChain::find()?;
        if bare.is_empty() {
            return Ok(Outcome::skipped("the workspace has no bare-metal package"));
        }
        // Called by its path: cargo would find rustup's clippy first, which belongs to another tool chain.
        let Some(clippy) = tool_chain.companion("cargo-clippy") else {
            return Ok(Outcome::skipped("the bare-metal tool chain has no clippy"));
        };
        let mut command = bare::with_environment(Command::new(clippy), &tool_chain);
        command.env("CARGO", &tool_chain.cargo).env("CARGO_TERM_COLOR", "never");
        command.args(["clippy", "--keep-going", "--profile", "bare"]).args(bare::build_arguments()).args(&bare);
        command.args(["--", "-D", "warnings"]);
        Ok(run(&mut command, step)?.outcome())
    });
    Suite { name: "lint", about: "clippy has nothing to say", lane: Lane::Host, cases: vec![on_host, on_bare] }
}

pub fn deny() -> Suite {
    let rules = Case::new("licences-and-sources", |step| {
        if !has("deny") {
            return Ok(Outcome::skipped("cargo-deny is not installed"));
        }
        Ok(run(cargo().args(["deny", "--workspace", "check", "bans", "licenses", "sources"]), step)?.outcome())
    });
    let advisories = Case::new("advisories", |step| {
        if !has("deny") {
            return Ok(Outcome::skipped("cargo-deny is not installed"));
        }
        let finished = run(cargo().args(["deny", "--workspace", "check", "advisories"]), step)?;
        if !finished.succeeded && finished.output.contains("failed to fetch advisory database") {
            return Ok(Outcome::skipped("the advisory database cannot be fetched"));
        }
        Ok(finished.outcome())
    });
    Suite {
        name: "deny",
        about: "the dependencies may be used (deny.toml)",
        lane: Lane::Host,
        cases: vec![rules, advisories],
    }
}

pub fn host(packages: &[Package]) -> Suite {
    let all = selection(packages.iter().filter(|package| package.is_tested_on_host));
    let libraries = selection(packages.iter().filter(|package| package.is_tested_on_host && package.has_library));
    let units = Case::new("tests", move |step| {
        let mut command = cargo();
        if has("nextest") {
            command.args(["nextest", "run", "--no-fail-fast", "--status-level", "fail"]).args(&all);
        } else {
            command.args(["test", "--no-fail-fast", "--tests"]).args(&all);
        }
        let finished = run(&mut command, step)?;
        Ok(Outcome::of_runner(finished.succeeded, count(&finished.output), finished.output))
    });
    let examples = Case::new("documentation-examples", move |step| {
        if libraries.is_empty() {
            return Ok(Outcome::skipped("the workspace has no library for the host"));
        }
        let finished = run(cargo().args(["test", "--doc"]).args(&libraries), step)?;
        let counted = count(&finished.output);
        if finished.succeeded && counted.passed == 0 {
            return Ok(Outcome::skipped("there are none"));
        }
        Ok(Outcome::of_runner(finished.succeeded, counted, finished.output))
    });
    Suite {
        name: "host",
        about: "unit and property tests that run on the host",
        lane: Lane::Host,
        cases: vec![units, examples],
    }
}

/// The suites that need no guest, in the order in which a mistake is found soonest.
pub fn suites() -> Result<Vec<Suite>> {
    let packages = bare::packages()?;
    Ok(vec![format(), lint(&packages), deny(), host(&packages), fuzz::suite()])
}
