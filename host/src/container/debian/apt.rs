//! apt with a state of its own: which packages are needed, and their files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use crate::process::Running;
use crate::progress::Step;
use crate::{lock, workspace};

/// The release that is taken where this machine's own sources name none of Debian.
const RELEASE: &str = "bookworm";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One package, fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub file: PathBuf,
}

/// The private state.
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    pub fn new() -> Result<Self> {
        let folder = workspace::target().join("tessera/debian");
        let cannot = || format!("cannot write to {}", folder.display());
        for below in ["lists/partial", "archives/partial", "etc"] {
            fs::create_dir_all(folder.join(below)).into_diagnostic().wrap_err_with(cannot)?;
        }
        // Nothing is installed: every package that is needed is answered.
        fs::write(folder.join("status"), b"").into_diagnostic().wrap_err_with(cannot)?;
        Ok(Self { folder })
    }

    /// Changes when the lists of packages or the sources do; `None` before the lists were fetched.
    pub fn stamp(&self) -> Result<Option<String>> {
        let Ok(sources) = fs::read_to_string(self.sources()) else { return Ok(None) };
        let mut lists: Vec<String> = Vec::new();
        for entry in fs::read_dir(self.folder.join("lists")).into_diagnostic()?.flatten() {
            let found = entry.metadata().into_diagnostic()?;
            let time = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            if found.is_file() && found.len() > 0 {
                lists.push(format!("{:?} {} {}", entry.file_name(), found.len(), time.as_nanos()));
            }
        }
        lists.sort();
        Ok(lists.iter().any(|list| list.contains("Packages")).then(|| sources + &lists.join("\n")))
    }

    /// Fetches `names` and all that they need. What is there already is not fetched again.
    pub fn fetch(&self, names: &[String], step: &mut Step, renew: bool) -> Result<Vec<Package>> {
        self.with_lists(step, renew, |step| self.try_fetch(names, step))
    }

    /// Fetches one package without what it needs: of those that come with `name`, the one that `is_wanted` tells.
    pub fn fetch_alone(&self, name: &str, is_wanted: impl Fn(&str) -> bool, step: &mut Step) -> Result<Package> {
        self.with_lists(step, false, |step| {
            let listed = self.run(&["install", "-qq", "--yes", "--simulate", "--", name])?;
            let mut packages = listed.lines().filter_map(|line| simulated(line, &self.folder.join("archives")));
            let package = packages.find(|package| is_wanted(&package.name));
            let package = package.ok_or_else(|| miette!("{name} of this release brings no package that is meant"))?;
            if !package.file.exists() {
                step.note(&format!("fetching {}", package.name));
                self.run(&["download", "-qq", "--", &package.name])?;
            }
            Ok(package)
        })
    }

    /// Does something that needs the lists of packages, which are fetched first if they are not there.
    fn with_lists<T>(&self, step: &mut Step, renew: bool, fetch: impl Fn(&mut Step) -> Result<T>) -> Result<T> {
        if !Path::new("/usr/bin/apt-get").exists() {
            return Err(miette!(
                help = "take an image from a registry (`docker://debian:12`) or a file (`docker save`), or run this on \
                        Debian or Ubuntu",
                "packages of Debian are fetched by apt, which this machine does not have"
            ));
        }
        // apt gives up where another holds its state.
        let _lock = lock::hold(&self.folder.with_extension("lock"), "fetches packages")?;
        if renew || self.stamp()?.is_none() {
            self.update(step)?;
        }
        match fetch(step) {
            // Lists that are old name files that are gone.
            Err(_) if !crate::process::interrupted() => {
                self.update(step)?;
                fetch(step)
            }
            other => other,
        }
    }

    fn update(&self, step: &mut Step) -> Result<()> {
        step.note("fetching the lists of packages");
        fs::write(self.sources(), sources()).into_diagnostic()?;
        self.run(&["update", "-qq"]).map(|_| ()).wrap_err("the lists of Debian's packages cannot be fetched")
    }

    fn try_fetch(&self, names: &[String], step: &mut Step) -> Result<Vec<Package>> {
        step.note("finding out what the packages need");
        let mut arguments = vec!["install", "-qq", "--yes", "--simulate", "--"];
        arguments.extend(names.iter().map(String::as_str));
        let listed = self.run(&arguments).wrap_err("apt cannot put these packages together")?;
        step.note("fetching packages");
        if let Some(simulate) = arguments.iter_mut().find(|argument| **argument == "--simulate") {
            *simulate = "--download-only";
        }
        self.run(&arguments).wrap_err("the packages cannot be fetched")?;
        let packages = listed.lines().filter_map(|line| simulated(line, &self.folder.join("archives")));
        let packages: Vec<Package> = packages.collect();
        match packages.iter().find(|package| !package.file.exists()) {
            Some(missing) => Err(miette!("apt did not fetch {}", missing.file.display())),
            None => Ok(packages),
        }
    }

    fn sources(&self) -> PathBuf {
        self.folder.join("etc/sources.list")
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let folder = self.folder.display();
        let mut command = Command::new("/usr/bin/apt-get");
        for option in [
            format!("Dir::State={folder}"),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::State::status={folder}/status"),
            format!("Dir::State::extended_states={folder}/extended_states"),
            format!("Dir::Cache={folder}"),
            format!("Dir::Cache::archives={folder}/archives"),
            "Dir::Cache::pkgcache=pkgcache.bin".to_owned(),
            "Dir::Cache::srcpkgcache=srcpkgcache.bin".to_owned(),
            format!("Dir::Log={folder}/log"),
            format!("Dir::Etc::sourcelist={}", self.sources().display()),
            "Dir::Etc::sourceparts=-".to_owned(),
            "Dir::Etc::preferences=-".to_owned(),
            "Dir::Etc::preferencesparts=-".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            "APT::Install-Recommends=false".to_owned(),
            "APT::Install-Suggests=false".to_owned(),
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Debug::NoLocking=true".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        // `download` puts its file into the current folder.
        command.current_dir(self.folder.join("archives"));
        command.args(arguments).env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        let mut running =
            Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()), None)
                .into_diagnostic()
                .wrap_err("cannot start apt-get")?;
        let errors =
            running.child().stderr.take().map(|pipe| std::thread::spawn(move || std::io::read_to_string(pipe)));
        let output = running.child().stdout.take().map(std::io::read_to_string).transpose().into_diagnostic()?;
        let errors = errors.and_then(|thread| thread.join().ok()).and_then(Result::ok).unwrap_or_default();
        let (status, _) = running.wait().into_diagnostic()?;
        if !status.success() {
            let said: Vec<&str> = errors.lines().filter(|line| line.starts_with("E:")).collect();
            let mend =
                if errors.contains("Unable to locate package") || errors.contains("has no installation candidate") {
                    "look the name up on https://packages.debian.org; `apt-cache search WORD` finds names"
                } else {
                    "see that this machine reaches the mirror that its apt uses; its proxy settings are used here too"
                };
            return Err(miette!(help = mend, "apt-get says: {}", said.join("; ")));
        }
        Ok(output.unwrap_or_default())
    }
}

/// Reads a line of a simulation: `Inst NAME (VERSION RELEASE [ARCHITECTURE])`.
fn simulated(line: &str, archives: &Path) -> Option<Package> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    let version = rest.split_whitespace().next()?;
    // What follows the parenthesis are packages that are not configured yet at this step.
    let architecture = rest.split(')').next()?.rsplit_once('[')?.1.split(']').next()?;
    // As apt names files: the colon of an epoch is escaped.
    let file = archives.join(format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a")));
    Some(Package { name: name.to_owned(), file })
}

/// The sources: Debian's own among those of this machine's apt, which knows the mirror that can be reached; else the
/// usual ones.
fn sources() -> String {
    let format = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)";
    let listed = Command::new("/usr/bin/apt-get")
        .args(["indextargets", "--format", format, "Created-By: Packages", "Origin: Debian"])
        .output();
    let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let signed = if Path::new(KEYRING).exists() { format!(" signed-by={KEYRING}") } else { String::new() };
    let mut lines: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (uri, release, component) = (words.next()?, words.next()?, words.next()?);
            (words.next()? == "Debian").then(|| format!("deb [arch=amd64{signed}] {uri} {release} {component}\n"))
        })
        .collect();
    lines.sort();
    lines.dedup();
    if lines.is_empty() {
        let line = |place: &str, release: &str| {
            format!("deb [arch=amd64{signed}] http://deb.debian.org/{place} {release} main\n")
        };
        lines = vec![line("debian", RELEASE), line("debian-security", &format!("{RELEASE}-security"))];
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_names_the_files() {
        let archives = Path::new("/a");
        let line = "Inst redis-server (5:7.0.15-1~deb12u1 Debian:12.10/oldstable, Debian-Security:12/x [amd64])";
        let package = simulated(line, archives).unwrap();
        assert_eq!(package.name, "redis-server");
        assert_eq!(package.file, Path::new("/a/redis-server_5%3a7.0.15-1~deb12u1_amd64.deb"));
        let line = "Inst libgcc-s1 (12.2.0-14+deb12u1 Debian:12.12/oldstable [amd64]) [libc6:amd64 ]";
        assert_eq!(simulated(line, archives).unwrap().file, Path::new("/a/libgcc-s1_12.2.0-14+deb12u1_amd64.deb"));
        assert_eq!(simulated("Conf libc6 (2.36 Debian:12 [amd64])", archives), None);
        assert_eq!(simulated("Inst ", archives), None);
    }
}
