//! Images: one ELF file that holds the kernel and the archive of the first programs.
//!
//! [`description`] reads and checks an `image.toml`; [`system`] puts its components together, [`generate`] makes the domains'
//! programs and [`plan`] what the manager is told; [`archive`] packs the programs, [`elf`] puts kernel and archive together. An image depends on the sources and the tool chain alone: built twice, it is the same to the byte.

mod archive;
mod description;
mod elf;
mod explain;
mod generate;
mod language;
mod link;
mod manifest;
mod mistake;
mod placement;
mod plan;
mod sizes;
mod soundness;
mod system;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use miette::{IntoDiagnostic, Result, WrapErr, miette};

pub use description::Description;
pub use elf::is_image;
pub use explain::picture;
use manifest::Manifests;
pub use mistake::unreadable;
pub use sizes::{MachineKind, Memory, Processors, Size};
use system::System;
use tessera_plan::Level;
pub use written::Placement;

use crate::bare::{self, Executable};
use crate::image::archive::Members;
use crate::mirror::Made;
use crate::native;
use crate::symbols::{self, Symbols};
use crate::workspace;

/// The package and the program that is the kernel.
const KERNEL: (&str, &str) = ("tessera-kernel", "kernel");

/// An image that was built.
pub struct Image {
    /// The ELF file that QEMU boots.
    pub file: Vec<u8>,
    /// Where crash reports find names and lines.
    pub symbols: Symbols,
}

/// What cargo builds for an image.
struct Programs {
    system: Option<System>,
    /// The packages of the system's domains, in their order.
    made: Vec<Made>,
    /// All packages.
    names: BTreeSet<String>,
}

impl Programs {
    fn of(description: &Description) -> Result<Self> {
        description.check_packages(&bare::packages()?)?;
        let system = System::new(description, &Manifests::find())?;
        let domains = system.iter().flat_map(|system| &system.domains);
        let made: Vec<Made> = domains.map(|domain| generate::package(domain, &workspace::root())).collect();
        let alone = system.as_ref().is_some_and(|system| system.alone().is_some());
        let written = description.programs().filter(|program| !(alone && program.is_first()));
        let written = written.map(|program| program.package.to_owned());
        let names =
            written.chain(made.iter().map(|package| package.name.clone())).chain([KERNEL.0.to_owned()]).collect();
        Ok(Self { system, made, names })
    }
}

/// Builds the programs of several images at once, which takes less time than one image after the other: what is left of building
/// one of them is to put it together.
pub fn build_programs(descriptions: &[Description]) -> Result<()> {
    let (mut names, mut made) = (BTreeSet::new(), BTreeMap::new());
    for description in descriptions {
        let programs = Programs::of(description)?;
        names.extend(programs.names);
        made.extend(programs.made.into_iter().map(|package| (package.name.clone(), package)));
    }
    bare::build(&names, &made.into_values().collect::<Vec<_>>()).map(drop)
}

/// Builds the image that `description` describes.
pub fn build(description: &Description) -> Result<Image> {
    let Programs { system, made, names } = Programs::of(description)?;
    let executables = bare::build(&names, &made)?;

    let kernel = find(&executables, KERNEL.0, Some(KERNEL.1))?;
    let kernel_file = read(&kernel.path)?;
    let mut symbols = BTreeMap::from([(symbols::KERNEL.to_owned(), kernel.path.clone())]);
    let mut members = Members::new();
    let alone = system.as_ref().and_then(System::alone);
    for program in description.programs().filter(|program| !(alone.is_some() && program.is_first())) {
        let executable = find(&executables, program.package, program.bin)?;
        // The first process of a system of components, its manager, stays in user mode: nothing waits for it.
        let level =
            if system.is_none() && program.is_first() { placement::first_level(description) } else { Level::User };
        let linked = link::link(&read(&executable.path)?, &kernel_file, level)?;
        members.insert(program.member(), elf::loadable_part(&linked)?.into());
        symbols.insert(program.name.to_owned(), executable.path.clone());
    }
    for (domain, package) in system.iter().flat_map(|system| &system.domains).zip(&made) {
        let executable = find(&executables, &package.name, None)?;
        let path = match domain.program() {
            None => executable.path.clone(),
            Some(project) => with_program(&executable.path, project)?,
        };
        let linked = link::link(&read(&path)?, &kernel_file, domain.settings.level)?;
        let member = if alone.is_some() { description::INIT.to_owned() } else { format!("bin/{}", domain.name) };
        members.insert(member, elf::loadable_part(&linked)?.into());
        symbols.insert(domain.name.clone(), path);
    }
    if let Some(domain) = alone {
        // What the kernel reports of the first process is this domain's.
        symbols.extend(symbols.get(&domain.name).cloned().map(|path| (description::INIT.to_owned(), path)));
        members.insert("arguments".to_owned(), domain.started_with().join("\0").into_bytes().into());
    } else if let Some(system) = &system {
        members.insert(tessera_plan::MEMBER.to_owned(), plan::plan(description.name(), system).encode().into());
    }
    if let Some(arguments) = description.packed_arguments() {
        members.insert("arguments".to_owned(), arguments.into());
    }
    description.add_files(&mut members)?;
    let file = elf::with_archive(&kernel_file, &archive::pack(&members)?)
        .wrap_err_with(|| format!("{} cannot carry an archive", kernel.path.display()))?;
    Ok(Image { file, symbols: Symbols::new(symbols) })
}

/// The image `base` with further members in its archive.
pub fn extend(base: &[u8], more: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut members = archive::unpack(elf::archive(base)?)?;
    members.extend(more.iter().map(|(name, contents)| ((*name).to_owned(), (*contents).into())));
    elf::replace_archive(base, &archive::pack(&members)?)
}

/// The domain in the static library `domain`, linked with the program of a project.
fn with_program(domain: &Path, project: &Path) -> Result<PathBuf> {
    let object = native::build(project)?;
    // Other programs may be linked with the same domain.
    let hash = blake3::hash(project.as_os_str().as_encoded_bytes()).to_hex();
    let path = domain.with_extension(format!("{}.linked", hash.get(..8).unwrap_or_default()));
    native::link::link(domain, &object, &path)?;
    Ok(path)
}

/// Builds `description` and writes the image where `run`, `test` and `bench` look for it.
pub fn build_to_target(description: &Description) -> Result<(PathBuf, Symbols)> {
    let image = build(description)?;
    let path = workspace::built_images().join(format!("{}.elf", description.file_stem()));
    write(&path, &image.file)?;
    Ok((path, image.symbols))
}

/// Writes `file` whole or not at all; an unchanged file is left alone.
pub fn write(path: &Path, file: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == file) {
        return Ok(());
    }
    let cannot = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).into_diagnostic().wrap_err_with(cannot)?;
    }
    // Another command may boot the old file at this moment: it keeps that one. Another thread may write it too.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let partial = path.with_extension(format!("partial-{}-{number}", std::process::id()));
    fs::write(&partial, file).into_diagnostic().wrap_err_with(cannot)?;
    fs::rename(&partial, path).into_diagnostic().wrap_err_with(cannot)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).into_diagnostic().wrap_err_with(|| format!("cannot read {}", path.display()))
}

/// The program `bin` of `package`, or its only one.
fn find<'a>(executables: &'a [Executable], package: &str, bin: Option<&str>) -> Result<&'a Executable> {
    executables
        .iter()
        .find(|executable| executable.package == package && bin.is_none_or(|bin| executable.bin == bin))
        .ok_or_else(|| miette!("cargo built no program of the package `{package}`"))
}
