//! Builds the kernel and the native programs: cargo with the flags that make code for bare metal.
//!
//! The kernel and every program are built with the same flags, so that the same object code can later run in ring 3
//! or in ring 0. The result depends on the sources and the tool chain alone: every path of this machine that could
//! reach the output is renamed.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use console::strip_ansi_codes;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::Deserialize;

use crate::mirror::{Made, Mirror};
use crate::process::Running;
use crate::progress::Step;
use crate::toolchain::BareToolChain;
use crate::workspace;

/// The one bare-metal target: soft float, no red zone.
pub const TARGET: &str = "x86_64-unknown-none";
/// The prefix that stands for the checkout in the files that are built.
pub const ROOT_IN_OUTPUT: &str = "/tessera";

/// One program that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    pub package: String,
    pub bin: String,
    /// The ELF file, with symbols and line tables; the static library of a domain that is yet to be linked with a program.
    pub path: PathBuf,
}

/// What cargo prints, as far as it is used here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    target: Option<Target>,
    manifest_path: Option<PathBuf>,
}

impl Message {
    /// What was built, if it is a program or a static library.
    fn built(&self) -> Option<&PathBuf> {
        let library = || self.filenames.iter().find(|path| path.extension().is_some_and(|extension| extension == "a"));
        self.executable.as_ref().or_else(library)
    }
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// A package of the workspace.
#[derive(Debug)]
pub struct Package {
    pub name: String,
    pub manifest: PathBuf,
    /// The names of its programs.
    pub bins: Vec<String>,
    pub has_library: bool,
    /// Whether it is built for bare metal: the kernel, the runtime, and what is built on the runtime.
    pub is_bare: bool,
    /// Whether its tests run on the host: every library does but the kernel's, those of components on the host build of the runtime.
    pub is_tested_on_host: bool,
}

/// The packages of the checkout's workspace.
pub fn packages() -> Result<Vec<Package>> {
    packages_in(&workspace::root())
}

/// The packages of the workspace in `folder`.
fn packages_in(folder: &Path) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Listed>,
    }
    #[derive(Deserialize)]
    struct Listed {
        name: String,
        manifest_path: PathBuf,
        targets: Vec<ListedTarget>,
        dependencies: Vec<Dependency>,
    }
    #[derive(Deserialize)]
    struct Dependency {
        name: String,
    }
    #[derive(Deserialize)]
    struct ListedTarget {
        name: String,
        kind: Vec<String>,
    }

    let tool_chain = BareToolChain::find()?;
    let output = cargo(&tool_chain)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(folder)
        .output()
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot start {}", tool_chain.cargo.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(miette!(help = said, "cargo cannot read the workspace"));
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).into_diagnostic().wrap_err("cannot read cargo's metadata")?;
    const BARE: [&str; 2] = ["tessera-kernel", "tessera-runtime"];
    let is_kind = |target: &ListedTarget, wanted: &str| target.kind.iter().any(|kind| kind == wanted);
    let packages = metadata.packages.into_iter().map(|listed| {
        let is_one = |name: &str| BARE.contains(&name);
        let is_bare = is_one(&listed.name) || listed.dependencies.iter().any(|other| is_one(&other.name));
        let has_library = listed.targets.iter().any(|target| is_kind(target, "lib"));
        Package {
            is_bare,
            is_tested_on_host: !is_bare || has_library,
            has_library: has_library || listed.targets.iter().any(|target| is_kind(target, "proc-macro")),
            bins: listed.targets.iter().filter(|target| is_kind(target, "bin")).map(|bin| bin.name.clone()).collect(),
            name: listed.name,
            manifest: listed.manifest_path,
        }
    });
    Ok(packages.collect())
}

/// Builds `names`, packages of the workspace or of `made`, and answers with all their programs. `made` are packages that have no
/// place in the checkout.
pub fn build(names: &BTreeSet<String>, made: &[Made]) -> Result<Vec<Executable>> {
    let tool_chain = BareToolChain::find()?;
    let mirror = Mirror::lay_out(made)?;
    let mut command = cargo(&tool_chain);
    command.current_dir(mirror.root());
    command.args(["build", "--profile", "bare", "--message-format", "json-render-diagnostics"]);
    command.args(build_arguments());
    if console::Term::stderr().is_term() {
        command.arg("--color=always");
    }
    for name in names {
        command.args(["--package", name]);
    }
    let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()), None)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot start {}", tool_chain.cargo.display()))?;
    let messages = running.child().stdout.take().map(|pipe| thread::spawn(move || read_messages(pipe)));
    let step = Step::start(format!("building the kernel and {} more", names.len().saturating_sub(1)));
    let said = running.child().stderr.take().map(|pipe| follow(pipe, step)).unwrap_or_default();
    let messages = messages.and_then(|thread| thread.join().ok()).unwrap_or_default();
    let (status, _) = running.wait().into_diagnostic()?;
    for line in said.iter().filter(|line| !is_status(line)) {
        eprintln!("{line}");
    }
    if !status.success() {
        return Err(miette!(
            help = "cargo's messages above say why",
            "the bare-metal build of {} failed",
            names.iter().cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    Ok(executables(messages, &packages_in(mirror.root())?))
}

/// The arguments of cargo that select the target and build the library for it.
pub fn build_arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [
        "-Zbuild-std=core,alloc,compiler_builtins",
        "-Zbuild-std-features=compiler-builtins-mem",
        "--target",
        TARGET,
        "--target-dir",
    ]
    .iter()
    .map(OsString::from)
    .collect();
    arguments.push(workspace::bare_target().into());
    arguments
}

fn cargo(tool_chain: &BareToolChain) -> Command {
    with_environment(Command::new(&tool_chain.cargo), tool_chain)
}

/// `command` in the workspace, with what the bare-metal tool chain needs in its environment.
pub fn with_environment(mut command: Command, tool_chain: &BareToolChain) -> Command {
    clean_environment(&mut command, tool_chain);
    command.current_dir(workspace::root()).env("CARGO_ENCODED_RUSTFLAGS", flags(tool_chain).join("\u{1f}"));
    command
}

/// Lets cargo use the bare-metal tool chain, and nothing that the user's environment says of another.
pub fn clean_environment(command: &mut Command, tool_chain: &BareToolChain) {
    for variable in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS"] {
        command.env_remove(variable);
    }
    command
        .env("RUSTC", &tool_chain.rustc)
        // `-Zbuild-std` is refused by a released cargo without it. The language features used are the stable ones.
        .env("RUSTC_BOOTSTRAP", "1");
}

fn flags(tool_chain: &BareToolChain) -> Vec<String> {
    let mut flags = vec![
        format!("-Clinker={}", tool_chain.linker.display()),
        "-Clinker-flavor=ld.lld".to_owned(),
        "-Crelocation-model=pic".to_owned(),
        // Crash reports walk the frame pointers: no unwinder is needed in the kernel.
        "-Cforce-frame-pointers=yes".to_owned(),
        "-Clink-args=--no-dynamic-linker".to_owned(),
    ];
    flags.extend(renamed_paths(tool_chain));
    flags
}

/// The flags by which no path of this machine comes into what is built.
pub fn renamed_paths(tool_chain: &BareToolChain) -> Vec<String> {
    let mut flags = Vec::new();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let mut rename = |path: &Path, name: &str| flags.push(format!("--remap-path-prefix={}={name}", path.display()));
    // The last match wins: the checkout comes after what it may lie in, its mirror after the checkout.
    if let Some(home) = cargo_home {
        rename(&home, "/cargo");
    }
    if let Some(sysroot) = tool_chain.sysroot() {
        let sources = sysroot.join("lib/rustlib/src/rust");
        if let Ok(real) = sources.canonicalize() {
            rename(&real, "/rust");
        }
        rename(&sources, "/rust");
    }
    rename(&workspace::root(), ROOT_IN_OUTPUT);
    rename(&Mirror::folder(), ROOT_IN_OUTPUT);
    flags
}

/// Reads the messages that name a program.
fn read_messages(pipe: impl Read) -> Vec<Message> {
    let lines = BufReader::new(pipe).lines().map_while(Result::ok);
    lines
        .filter_map(|line| serde_json::from_str::<Message>(&line).ok())
        .filter(|message| message.reason == "compiler-artifact" && message.built().is_some())
        .collect()
}

/// Shows cargo's progress and keeps all that it said.
pub fn follow(pipe: impl Read, mut step: Step) -> Vec<String> {
    let mut said = Vec::new();
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        if is_status(&line) {
            step.note(strip_ansi_codes(line.trim()).trim());
        }
        said.push(line);
    }
    said
}

/// Whether a line is cargo's news of a step that is going well: a verb, aligned to the right.
pub fn is_status(line: &str) -> bool {
    const VERBS: [&str; 9] =
        ["Compiling", "Finished", "Downloading", "Downloaded", "Updating", "Locking", "Adding", "Blocking", "Fresh"];
    let plain = strip_ansi_codes(line);
    plain.split_whitespace().next().is_some_and(|verb| VERBS.contains(&verb))
}

fn executables(messages: Vec<Message>, packages: &[Package]) -> Vec<Executable> {
    let found = messages.into_iter().filter_map(|message| {
        let path = message.built()?.clone();
        let manifest = message.manifest_path?;
        let package = packages.iter().find(|package| package.manifest == manifest)?;
        Some(Executable { package: package.name.clone(), bin: message.target?.name, path })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_told_from_warnings() {
        assert!(is_status("   Compiling core v0.0.0 (/rust/library/core)"));
        assert!(is_status("\u{1b}[1m\u{1b}[92m    Finished\u{1b}[0m `bare` profile"));
        assert!(!is_status("warning: unused variable: `x`"));
        assert!(!is_status("  --> kernel/src/main.rs:3:9"));
    }

    #[test]
    fn only_messages_that_name_a_program_are_kept() {
        let text = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"tessera_abi"},"executable":null,"manifest_path":"/a"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"kernel"},"executable":"/k","manifest_path":"/b"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
            "\n",
        );
        let packages = [Package {
            name: "tessera-kernel".into(),
            manifest: "/b".into(),
            bins: vec!["kernel".into()],
            has_library: false,
            is_bare: true,
            is_tested_on_host: false,
        }];
        let found = executables(read_messages(text.as_bytes()), &packages);
        let expected = Executable { package: "tessera-kernel".into(), bin: "kernel".into(), path: PathBuf::from("/k") };
        assert_eq!(found, [expected]);
    }
}
