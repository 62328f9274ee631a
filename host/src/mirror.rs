//! The workspace in which bare-metal code is built: the checkout's, seen through links, with the programs of an image's domains
//! beside it.
//!
//! A domain's program is made by this command, so that it has no place in the checkout. It is built as a member of one workspace
//! with everything else all the same: one call of cargo and one lock file, and what cargo mixes into names of symbols is a path
//! inside that workspace, never one of this machine, so that images are the same to the byte wherever they are built.
//! Nothing but this folder is written to.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use crate::{lock, workspace};

/// The folder of the domains' packages inside the workspace.
const DOMAINS: &str = "domains";
/// The line of the root Cargo.toml behind which the domains' packages are listed.
const MEMBERS: &str = "members = [\n";

/// The files of a package that was made: their paths inside the package, and their contents.
pub type Files = BTreeMap<&'static str, String>;

/// A package that has no place in the checkout.
pub struct Made {
    /// Equal names, equal packages: images whose domains are alike share what was built for one of them.
    pub name: String,
    pub files: Files,
}

/// The workspace, held until what was asked for is built: two commands do not lay it out at once.
pub struct Mirror {
    folder: PathBuf,
    _lock: File,
}

impl Mirror {
    /// Where the workspace is, whether or not it was laid out.
    pub fn folder() -> PathBuf {
        workspace::target().join("tessera/workspace")
    }

    /// Lays the workspace out with `packages`.
    pub fn lay_out(packages: &[Made]) -> Result<Self> {
        let folder = Self::folder();
        let cannot = || format!("cannot lay out the build folder {}", folder.display());
        fs::create_dir_all(&folder).into_diagnostic().wrap_err_with(cannot)?;
        let lock = lock::hold(&folder.with_extension("lock"), "builds")?;
        lay_out(&folder, packages).into_diagnostic().wrap_err_with(cannot)?;
        let manifest = workspace::root().join("Cargo.toml");
        let manifest = fs::read_to_string(&manifest).into_diagnostic().wrap_err_with(cannot)?;
        write(&folder.join("Cargo.toml"), &with_members(&manifest, packages)?).into_diagnostic()?;
        Ok(Self { folder, _lock: lock })
    }

    /// The workspace's root folder.
    pub fn root(&self) -> &Path {
        &self.folder
    }
}

fn lay_out(folder: &Path, packages: &[Made]) -> io::Result<()> {
    let root = workspace::root();
    link(&root, folder)?;
    // Cargo adds the made packages to its copy and takes every version from it.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;

    // The packages of other images stay: whoever asks for one of them again need not have it built again.
    for Made { name, files } in packages {
        for (path, contents) in files {
            write(&folder.join(DOMAINS).join(name).join(path), contents)?;
        }
    }
    Ok(())
}

/// Makes `folder` show what is in the checkout's root, by links.
fn link(root: &Path, folder: &Path) -> io::Result<()> {
    let is_shown = |name: &OsStr| {
        let hidden = name.as_encoded_bytes().starts_with(b".");
        !hidden && name != "target" && name != "Cargo.toml" && name != "Cargo.lock"
    };
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let gone = path.file_name().is_none_or(|name| !root.join(name).exists());
        if path.is_symlink() && gone {
            fs::remove_file(path)?;
        }
    }
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let link = folder.join(entry.file_name());
        if !is_shown(&entry.file_name()) || fs::read_link(&link).is_ok_and(|to| to == entry.path()) {
            continue;
        }
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        symlink(entry.path(), link)?;
    }
    Ok(())
}

/// Writes a file, unless it is so already: its time tells cargo whether to build anew.
fn write(path: &Path, contents: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == contents.as_bytes()) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, contents)
}

/// The root manifest with more members.
fn with_members(manifest: &str, packages: &[Made]) -> Result<String> {
    let (before, after) = manifest
        .split_once(MEMBERS)
        .ok_or_else(|| miette!("the root Cargo.toml has no line `{}`", MEMBERS.trim_end()))?;
    let members: String = packages.iter().map(|package| format!("    \"{DOMAINS}/{}\",\n", package.name)).collect();
    Ok(format!("{before}{MEMBERS}{members}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_added_to_the_roots() {
        let manifest = "[workspace]\nmembers = [\n    \"abi\",\n]\n";
        let packages = ["a", "b"].map(|name| Made { name: name.to_owned(), files: Files::new() });
        let with = with_members(manifest, &packages).unwrap();
        assert_eq!(with, "[workspace]\nmembers = [\n    \"domains/a\",\n    \"domains/b\",\n    \"abi\",\n]\n");
        assert!(with_members("[workspace]\n", &[]).is_err());
    }

    #[test]
    fn links_follow_the_checkout() {
        let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["abi", "target", ".git"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        fs::write(root.path().join("Cargo.toml"), "").unwrap();
        let shown = || {
            link(root.path(), folder.path()).unwrap();
            let mut names: Vec<_> =
                fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(shown(), ["abi"]);
        fs::rename(root.path().join("abi"), root.path().join("kernel")).unwrap();
        assert_eq!(shown(), ["kernel"]);
        assert_eq!(shown(), ["kernel"]);
    }

    #[test]
    fn an_unchanged_file_keeps_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("src/main.rs");
        write(&path, "one").unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        write(&path, "one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), time);
        write(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    }
}
