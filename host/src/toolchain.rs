//! Finds a tool chain that can build for bare metal: a rustc with the sources of its library, the cargo beside it,
//! and an lld.
//!
//! The entry script makes the same choice in the same order (`find_bare_tool_chain` there) and hands it over in
//! `TESSERA_BARE_CARGO`, `TESSERA_BARE_RUSTC` and `TESSERA_BARE_LINKER`; this file looks for itself only when the
//! command was started without the script. It only looks: nothing is installed from here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use miette::{Result, miette};

/// The oldest rustc that builds Tessera, as `(major, minor)`; `rust-version` in the root `Cargo.toml` says the same.
const OLDEST: (u32, u32) = (1, 95);

/// The programs of one tool chain that builds for bare metal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BareToolChain {
    pub cargo: PathBuf,
    pub rustc: PathBuf,
    pub linker: PathBuf,
}

impl BareToolChain {
    /// Finds the tool chain: the script's choice, else the first candidate that has all parts.
    pub fn find() -> Result<Self> {
        let given = |name: &str| env::var_os(name).map(PathBuf::from);
        if let (Some(cargo), Some(rustc), Some(linker)) =
            (given("TESSERA_BARE_CARGO"), given("TESSERA_BARE_RUSTC"), given("TESSERA_BARE_LINKER"))
        {
            return Ok(Self { cargo, rustc, linker });
        }
        candidates().iter().find_map(|folder| Self::in_folder(folder)).ok_or_else(|| {
            miette!(
                help = "`./tessera doctor` shows what is missing, and any other `./tessera` command offers to \
                        install it; by hand: `rustup component add rust-src`, or on Debian \
                        `apt-get install rustc-web cargo-web rust-web-src lld`",
                "no tool chain on this machine can build for bare metal: none has rustc {}.{} or newer, the sources \
                 of its library (rust-src) and an lld",
                OLDEST.0,
                OLDEST.1
            )
        })
    }

    /// The tool chain whose programs are in `folder`, if it is complete and new enough.
    fn in_folder(folder: &Path) -> Option<Self> {
        let (cargo, rustc) = (folder.join("cargo"), folder.join("rustc"));
        let sysroot = folder.parent()?;
        if !cargo.exists() || !rustc.exists() || !has_sources(sysroot) || !is_new_enough(&rustc) {
            return None;
        }
        let linker = linker_of(sysroot).or_else(system_linker)?;
        Some(Self { cargo, rustc, linker })
    }

    /// A program of this tool chain that is not always installed, such as `cargo-clippy`.
    pub fn companion(&self, name: &str) -> Option<PathBuf> {
        let program = self.cargo.parent()?.join(name);
        program.exists().then_some(program)
    }

    /// The folder that holds the tool chain's libraries and their sources.
    pub fn sysroot(&self) -> Option<&Path> {
        self.rustc.parent()?.parent()
    }
}

/// Folders that may hold a tool chain's programs, in the order of preference: the active rustup tool chain, the
/// other ones, the system's.
fn candidates() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let active = Command::new("rustc").args(["--print", "sysroot"]).current_dir(crate::workspace::root()).output();
    if let Ok(output) = active
        && output.status.success()
    {
        found.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join("bin"));
    }
    let rustup = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup")));
    if let Some(entries) = rustup.and_then(|folder| fs::read_dir(folder.join("toolchains")).ok()) {
        let mut others: Vec<PathBuf> = entries.flatten().map(|entry| entry.path().join("bin")).collect();
        others.sort();
        found.extend(others);
    }
    found.push(PathBuf::from("/usr/bin"));
    found
}

fn has_sources(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
}

fn is_new_enough(rustc: &Path) -> bool {
    let Ok(output) = Command::new(rustc).arg("--version").output() else {
        return false;
    };
    release(&String::from_utf8_lossy(&output.stdout)).is_some_and(|release| release >= OLDEST)
}

/// The release in what `rustc --version` prints, such as `rustc 1.96.0 (…)`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The `rust-lld` that rustup ships inside a tool chain.
fn linker_of(sysroot: &Path) -> Option<PathBuf> {
    let linker = sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld");
    linker.exists().then_some(linker)
}

/// An `ld.lld`, `ld.lld-NN` (the newest) or `rust-lld` on the search path.
fn system_linker() -> Option<PathBuf> {
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    let plain = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|path| path.exists());
    plain("ld.lld").or_else(|| plain("rust-lld")).or_else(|| {
        let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let numbered = entries.filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.strip_prefix("ld.lld-")?.parse().ok()?;
            entry.path().exists().then(|| (version, entry.path()))
        });
        numbered.max().map(|(_, path)| path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_from_both_kinds_of_version_line() {
        assert_eq!(release("rustc 1.95.0 (59807616e 2026-04-14)"), Some((1, 95)));
        assert_eq!(release("rustc 1.98.0-nightly (abc 2026-06-01)"), Some((1, 98)));
        assert_eq!(release("error: no default tool chain"), None);
    }

    #[test]
    fn an_incomplete_folder_is_no_tool_chain() {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("bin");
        fs::create_dir_all(&programs).unwrap();
        fs::write(programs.join("cargo"), "").unwrap();
        fs::write(programs.join("rustc"), "").unwrap();
        assert_eq!(BareToolChain::in_folder(&programs), None, "it has no library sources");
    }
}
