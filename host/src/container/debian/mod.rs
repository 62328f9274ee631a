//! Root file systems put together from Debian's packages, for machines that reach only a mirror of Debian.
//!
//! apt resolves what the packages need and fetches it, with a state of its own under the target folder: nothing is
//! installed on this machine, and no superuser is needed. The files go from the packages straight into the tree. The
//! maintainers' scripts are programs of the guest and are **not run**; [`setup`] does in their place what most of them
//! are for.

mod apt;
mod scripts;
mod setup;

use std::process::{Command, Stdio};

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use tessera_rootfs::build::Content;

use super::layer::{self, Flavour};
use super::root::{Building, Unpacked};
use super::settings::{DEFAULT_PATH, Settings};
use crate::process::Running;
use crate::progress::Step;
use apt::{Apt, Package};

/// Directories that every Debian has, and that packages expect to be links since its release 12.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
const DIRECTORIES: [(&str, u16); 14] = [
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("usr/lib", 0o755),
    ("usr/lib64", 0o755),
    ("usr/local/bin", 0o755),
    ("var/lib/dpkg", 0o755),
    ("var/cache", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
    ("root", 0o700),
    ("home", 0o755),
    ("mnt", 0o755),
    ("srv", 0o755),
    ("tmp", 0o1777),
];

/// Reads a list of packages: `NAME`, or `NAME=VERSION`, with commas between.
pub fn names(text: &str) -> Result<Vec<String>> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    for name in &names {
        // Debian Policy, 5.6.1 and 5.6.12.
        let (package, version) = name.split_once('=').unwrap_or((name, "0"));
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_name = package.len() >= 2
            && package.bytes().next().is_some_and(plain)
            && package.bytes().all(|byte| plain(byte) || b"+-.".contains(&byte));
        let is_version = version.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
            && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-:~".contains(&byte));
        if !is_name || !is_version {
            return Err(miette!(
                help = "write names of packages with commas between, such as `debian:nginx-light,curl`",
                "`{name}` is not the name of a Debian package"
            ));
        }
    }
    Ok(names)
}

/// What decides which packages are taken: as long as it stays the same, so does the root file system.
pub fn stamp() -> Result<Option<String>> {
    Apt::new()?.stamp()
}

/// Fetches one package without what it needs: of those that come with `name`, the one that `is_wanted` tells.
pub fn fetch_alone(name: &str, is_wanted: impl Fn(&str) -> bool, step: &mut Step) -> Result<Package> {
    Apt::new()?.fetch_alone(name, is_wanted, step)
}

/// Puts the root file system together.
pub fn unpack(names: &[String], step: &mut Step, renew: bool) -> Result<Unpacked> {
    let apt = Apt::new()?;
    let packages = apt.fetch(&with_shell(names), step, renew)?;
    let mut building = Building::new()?;
    for (path, permissions) in DIRECTORIES {
        building.put(path, permissions, Content::Directory(Default::default()))?;
    }
    for path in MERGED {
        building.put(path, 0o777, Content::Link(format!("usr/{path}").into_bytes()))?;
    }
    let mut setup = setup::Setup::default();
    for (index, package) in packages.iter().enumerate() {
        step.note(&format!("package {} of {}: {}", index + 1, packages.len(), package.name));
        let told = || format!("the package {} cannot be unpacked", package.file.display());
        let mut command = Command::new("dpkg-deb");
        command.arg("--fsys-tarfile").arg(&package.file).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut running = Running::start(&mut command, None).into_diagnostic().wrap_err("cannot start dpkg-deb")?;
        if let Some(files) = running.child().stdout.take() {
            layer::add(&mut building, files, Flavour::Package).wrap_err_with(told)?;
        }
        let (status, _) = running.wait().into_diagnostic()?;
        if !status.success() {
            return Err(miette!(help = "remove the file; it will be fetched again", "dpkg-deb failed"))
                .wrap_err_with(told);
        }
        setup.take(package)?;
    }
    setup.finish(&mut building)?;
    building.finish()?;
    let shell = [("usr/bin/bash", "/bin/bash"), ("usr/bin/sh", "/bin/sh")];
    let shell = shell.iter().find(|(path, _)| building.tree.find(path.as_bytes(), true).is_ok());
    let settings = Settings {
        command: shell.map(|(_, shell)| vec![(*shell).to_owned()]).unwrap_or_default(),
        environment: vec![DEFAULT_PATH.to_owned()],
        directory: "/root".to_owned(),
        ..Settings::default()
    };
    Ok(Unpacked { building, settings })
}

/// A shell comes along, unless one is named: packages may use the system's without saying so (Debian Policy, 3.8), and C
/// programs do through `system` and `popen`. Other essential packages are as large as most programs: whoever needs them
/// names them.
fn with_shell(names: &[String]) -> Vec<String> {
    const SHELL: &str = "dash";
    let is_shell = |name: &String| {
        let name = name.split('=').next().unwrap_or_default();
        matches!(name, SHELL | "busybox" | "busybox-static")
    };
    let shell = (!names.iter().any(is_shell)).then(|| SHELL.to_owned());
    names.iter().cloned().chain(shell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_comes_along_unless_one_is_named() {
        let names = |text: &str| with_shell(&names(text).unwrap()).join(" ");
        assert_eq!(names("nginx-light"), "nginx-light dash");
        assert_eq!(names("busybox-static"), "busybox-static");
        assert_eq!(names("curl,dash=0.5"), "curl dash=0.5");
    }

    #[test]
    fn names_of_packages_are_checked_before_apt_sees_them() {
        assert_eq!(
            names("nginx-light, g++,libc6=2.36-9+deb12u10").unwrap(),
            ["nginx-light", "g++", "libc6=2.36-9+deb12u10"]
        );
        for wrong in ["", "x", "nginx,", "-o=1", "--help", "a b", "../x", "nginx=", "nginx=-1", "NGINX"] {
            assert!(names(wrong).is_err(), "{wrong}");
        }
    }
}
