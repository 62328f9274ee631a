//! Reads an `image.toml` and checks it like code: every mistake is told with its file, its line and its mend.
//!
//! There are two kinds of images. One of programs names the first process, which starts the others:
//!
//! ```toml
//! name = "hello"
//!
//! [machine]                      # what `tessera run` gives the image; each key has a default
//! memory = "64M"
//! processors = 1
//! machine = "q35"
//! iommu = true                   # on a q35 only
//!
//! [init]
//! program = "tessera-hello"      # a package of the workspace; its program becomes the first process
//! arguments = []
//!
//! [[program]]                    # any number of further programs
//! name = "echo"                  # placed as bin/echo
//! package = "tessera-echo"
//! bin = "echo"                   # only if the package has several
//! ```
//!
//! One of components says in what domains they are placed, who calls whom and what each may use. Its first process is the manager.
//! What the keys mean is written in `written.rs`; that the whole makes sense is checked in `system.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, NamedSource, Report, Result, WrapErr};
use serde::Deserialize;
use toml::Spanned;

use super::archive::Members;
use super::mistake::{check_name, closest, listed, report, unreadable};
use super::sizes::{Amount, MachineKind, Memory, Processors, Size};
use super::written::{DeviceKind, Placement, Routes, WrittenComponent, WrittenDevice, WrittenDomain, WrittenFile};
use crate::bare::Package;
use crate::devices::{Device, Disk};
use crate::workspace;

/// A checked description of an image.
#[derive(Debug)]
pub struct Description {
    /// Where the file is, or was said to be.
    path: PathBuf,
    file: Written,
    source: NamedSource<String>,
    /// Whether its placement is another one than the file says.
    placed: bool,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Spanned<String>,
    #[serde(default)]
    machine: WrittenMachine,
    init: Option<Spanned<WrittenInit>>,
    #[serde(default, rename = "program")]
    programs: Vec<WrittenProgram>,
    #[serde(default, rename = "file")]
    files: Vec<WrittenFile>,
    #[serde(default, rename = "device")]
    devices: Vec<WrittenDevice>,
    placement: Option<Spanned<Placement>>,
    #[serde(default, rename = "component")]
    components: Vec<WrittenComponent>,
    #[serde(default, rename = "domain")]
    domains: BTreeMap<Spanned<String>, WrittenDomain>,
    #[serde(default, rename = "route")]
    routes: Routes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenMachine {
    memory: Memory,
    processors: Processors,
    machine: MachineKind,
    iommu: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenInit {
    program: Spanned<String>,
    #[serde(default)]
    arguments: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProgram {
    name: Spanned<String>,
    package: Spanned<String>,
    bin: Option<Spanned<String>>,
}

/// The name that the first process has in reports, which no other program may take.
pub const INIT: &str = "init";
/// The package of the first process of an image of components.
const MANAGER: &str = "tessera-manager";

/// One program of an image.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its process's name in crash reports.
    pub name: &'a str,
    pub package: &'a str,
    pub bin: Option<&'a str>,
}

impl Program<'_> {
    /// Whether it is the first process.
    pub fn is_first(&self) -> bool {
        self.name == INIT
    }

    /// Its path in the archive.
    pub fn member(&self) -> String {
        if self.is_first() { INIT.to_owned() } else { format!("bin/{}", self.name) }
    }
}

impl Description {
    /// Reads and checks the file at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot read the image description {}", path.display()))?;
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Self::parse(&path, text)
    }

    /// Checks `text`, the contents of the file at `path`.
    pub fn parse(path: &Path, text: String) -> Result<Self> {
        let source = NamedSource::new(workspace::shown(path), text.clone()).with_language("TOML");
        let file: Written = toml::from_str(&text).map_err(|error| unreadable(&source, &error))?;
        let description = Self { path: path.to_owned(), file, source, placed: false };
        description.check()?;
        Ok(description)
    }

    fn check(&self) -> Result<()> {
        check_name(&self.source, &self.file.name)?;
        match (&self.file.init, self.file.components.first()) {
            (None, None) => {
                let mend = "add an [init] with the program that runs first, or a [[component]]; the book, \"Images\", shows both";
                let what = "nothing says what runs: there is neither an [init] nor a [[component]]";
                return Err(self.wrong(self.file.name.span(), what, mend));
            }
            (Some(init), Some(_)) => {
                let mend = "remove it: the manager is the first process of an image of components, and starts them";
                return Err(self.wrong(init.span(), "this image has both an [init] and a [[component]]", mend));
            }
            _ => {}
        }
        let machine = &self.file.machine;
        if let Some(iommu) = machine.iommu.as_ref().filter(|iommu| *iommu.get_ref())
            && machine.machine == MachineKind::Microvm
        {
            let mend = "remove it, or write `machine = \"q35\"`";
            return Err(self.wrong(iommu.span(), "a microvm has no IOMMU", mend));
        }
        let arguments = self.init().into_iter().flat_map(|init| &init.arguments);
        let arguments = arguments.chain(self.file.components.iter().flat_map(|component| &component.arguments));
        for argument in arguments {
            if argument.get_ref().contains('\0') {
                let mend = "leave the NUL character out: it separates the arguments in the archive";
                return Err(self.wrong(argument.span(), "this argument contains a NUL character", mend));
            }
        }
        let mut seen = BTreeSet::from([INIT]);
        for program in &self.file.programs {
            check_name(&self.source, &program.name)?;
            let name = program.name.get_ref().as_str();
            if !seen.insert(name) {
                let mend = if name == INIT {
                    "choose another: the first process has this name"
                } else {
                    "choose another: each program of an image has a name of its own"
                };
                return Err(self.wrong(program.name.span(), &format!("the name `{name}` is taken"), mend));
            }
        }
        Ok(())
    }

    fn init(&self) -> Option<&WrittenInit> {
        self.file.init.as_ref().map(Spanned::as_ref)
    }

    /// Checks that every program can be built from `packages`, those of the workspace.
    pub fn check_packages(&self, packages: &[Package]) -> Result<()> {
        let init = self.init().map(|init| (&init.program, None));
        let others = self.file.programs.iter().map(|program| (&program.package, program.bin.as_ref()));
        for (name, bin) in init.into_iter().chain(others) {
            let Some(package) = packages.iter().find(|package| package.name == *name.get_ref()) else {
                let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
                let mend = format!("{}name a package that the root Cargo.toml lists", closest(name.get_ref(), &names));
                let what = format!("the workspace has no package `{}`", name.get_ref());
                return Err(self.wrong(name.span(), &what, &mend));
            };
            let bins: Vec<&str> = package.bins.iter().map(String::as_str).collect();
            match bin {
                Some(bin) if !bins.contains(&bin.get_ref().as_str()) => {
                    let what = format!("the package `{}` has no program `{}`", package.name, bin.get_ref());
                    let mend = format!("{}it has: {}", closest(bin.get_ref(), &bins), listed(&bins));
                    return Err(self.wrong(bin.span(), &what, &mend));
                }
                None if bins.len() != 1 => {
                    let what = format!("the package `{}` has {} programs, not one", package.name, bins.len());
                    let mend = format!("place it as a [[program]] and choose with `bin`; it has: {}", listed(&bins));
                    return Err(self.wrong(name.span(), &what, &mend));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A mistake at `place`.
    pub fn wrong(&self, place: Range<usize>, what: &str, mend: &str) -> Report {
        report(&self.source, place, what, mend)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's contents.
    pub fn text(&self) -> &str {
        self.source.inner()
    }

    /// A path that begins at the folder of this file.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    pub fn source(&self) -> &NamedSource<String> {
        &self.source
    }

    /// Chooses another placement than the file does.
    pub fn place(&mut self, placement: Option<Placement>) {
        if let Some(placement) = placement {
            self.placed = self.file.placement.as_ref().is_none_or(|written| *written.get_ref() != placement);
            self.file.placement = Some(Spanned::new(self.file.name.span(), placement));
        }
    }

    /// The name of the file that the image is built into: another one for each placement.
    pub fn file_stem(&self) -> String {
        match &self.file.placement {
            Some(placement) if self.placed => format!("{}-{}", self.name(), placement.get_ref().word()),
            _ => self.name().to_owned(),
        }
    }

    pub fn placement(&self) -> Option<&Spanned<Placement>> {
        self.file.placement.as_ref()
    }

    /// Whether components are placed in the kernel's mode of the processor, together, if nothing else is said of them.
    pub fn is_in_kernel(&self) -> bool {
        self.placement().is_some_and(|placement| placement.get_ref().is_kernel())
    }

    pub fn components(&self) -> &[WrittenComponent] {
        &self.file.components
    }

    pub fn domains(&self) -> &BTreeMap<Spanned<String>, WrittenDomain> {
        &self.file.domains
    }

    pub fn routes(&self) -> &Routes {
        &self.file.routes
    }

    /// Bytes of memory that domains are given whatever there is, at least and at most, if each component that names none has one of its own.
    pub fn fixed_memory(&self) -> (u64, u64) {
        let names = self.components().iter().map(|component| component.domain.as_ref().unwrap_or(&component.name));
        let names: BTreeSet<&str> = names.map(|name| name.get_ref().as_str()).collect();
        let of = |name: &str| {
            let memory = self.domains().get(name).and_then(|domain| domain.memory.as_ref());
            memory.map_or(Amount::DEFAULT, |memory| *memory.get_ref())
        };
        let all: Vec<Amount> = names.into_iter().map(of).filter(|memory| *memory != Amount::REST).collect();
        let sum = |of: fn(&Amount) -> Size| all.iter().map(|memory| of(memory).bytes()).sum();
        (sum(|memory| memory.least), sum(|memory| memory.most))
    }

    /// Where the image's name is written.
    pub fn name_place(&self) -> Range<usize> {
        self.file.name.span()
    }

    pub fn name(&self) -> &str {
        self.file.name.get_ref()
    }

    pub fn memory(&self) -> Memory {
        self.file.machine.memory
    }

    pub fn processors(&self) -> Processors {
        self.file.machine.processors
    }

    pub fn machine(&self) -> MachineKind {
        self.file.machine.machine
    }

    /// All programs, the first process's first.
    pub fn programs(&self) -> impl Iterator<Item = Program<'_>> {
        let package = self.init().map_or(MANAGER, |init| init.program.get_ref());
        let init = Program { name: INIT, package, bin: None };
        let others = self.file.programs.iter().map(|program| Program {
            name: program.name.get_ref(),
            package: program.package.get_ref(),
            bin: program.bin.as_ref().map(|bin| bin.get_ref().as_str()),
        });
        [init].into_iter().chain(others)
    }

    /// The first process's arguments, separated by NUL; nothing if there are none.
    pub fn packed_arguments(&self) -> Option<Vec<u8>> {
        let arguments = self.init().into_iter().flat_map(|init| &init.arguments);
        let arguments: Vec<&str> = arguments.map(|argument| argument.get_ref().as_str()).collect();
        (!arguments.is_empty()).then(|| arguments.join("\0").into_bytes())
    }

    /// The devices of the virtual machine.
    pub fn devices(&self) -> Result<Vec<Device>> {
        let iommu = self.file.machine.iommu.as_ref().is_none_or(|iommu| *iommu.get_ref());
        let iommu = iommu.then_some(Ok(Device::Iommu));
        iommu.into_iter().chain(self.file.devices.iter().map(|device| self.device(device))).collect()
    }

    fn device(&self, written: &WrittenDevice) -> Result<Device> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let disk = match (&written.size, &written.path) {
            (Some(size), None) => Some(Disk::Scratch(size.get_ref().bytes())),
            (None, Some(path)) => Some(match folder.join(path.get_ref()) {
                path if path.is_dir() => Disk::Folder(path),
                path => Disk::File { path, read_only: written.read_only },
            }),
            (None, None) => None,
            (Some(size), Some(_)) => {
                let mend = "keep `size` for a disk of zeros, or `path` for one with contents";
                return Err(self.wrong(size.span(), "this disk has both a size and a path", mend));
            }
        };
        if let Some(tap) = &written.tap {
            // Linux's names of interfaces have up to 15 bytes.
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            let name = tap.get_ref();
            if *written.kind.get_ref() != DeviceKind::Network {
                let mend = "remove it, or write `kind = \"network\"`";
                return Err(self.wrong(tap.span(), "only a network has an interface of this machine", mend));
            }
            if !(1..16).contains(&name.len()) || !name.bytes().all(plain) {
                let mend = "name one that `ip tuntap` lists: letters, digits, `-`, `_` and `.`, up to 15 of them";
                return Err(self.wrong(tap.span(), &format!("no interface is called `{name}`"), mend));
            }
        }
        match (*written.kind.get_ref(), disk) {
            (DeviceKind::Network, None) => {
                Ok(written.tap.as_ref().map_or(Device::Network, |tap| Device::Tap(tap.get_ref().clone())))
            }
            (DeviceKind::Entropy, None) => Ok(Device::Entropy),
            (DeviceKind::Disk, Some(disk)) => Ok(Device::Disk(disk)),
            (DeviceKind::Disk, None) => {
                let mend = "add `size = \"64M\"` for a disk of zeros, or `path` for one with contents";
                Err(self.wrong(written.kind.span(), "this disk has neither a size nor a path", mend))
            }
            (DeviceKind::Network | DeviceKind::Entropy, Some(_)) => {
                let what = "only a disk has a size or a path";
                Err(self.wrong(written.kind.span(), what, "remove them, or write `kind = \"disk\"`"))
            }
        }
    }

    /// Adds the files that the image names to the members of its archive.
    pub fn add_files(&self, members: &mut Members) -> Result<()> {
        for file in &self.file.files {
            let name = file.name.get_ref();
            let parts_are_names = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
            if !parts_are_names || name.len() > 90 || members.contains_key(name) {
                let mend = "choose a path inside the archive, of at most 90 bytes, that no program or other file has";
                return Err(self.wrong(file.name.span(), &format!("`{name}` cannot be a member"), mend));
            }
            let path = self.path.parent().unwrap_or(Path::new("")).join(file.path.get_ref());
            let contents = fs::read(&path).map_err(|error| {
                let mend = format!("the path begins at the folder of this file; it leads to {}", path.display());
                self.wrong(file.path.span(), &format!("this file cannot be read: {error}"), &mend)
            })?;
            members.insert(name.clone(), contents.into());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "description_tests.rs"]
mod tests;
