//! Runs Linux containers: takes an image in any of its forms, makes a root image of it, and puts that beside the
//! programs of Tessera into one file to boot.
//!
//! [`source`] tells what was given. It is unpacked into a tree in memory ([`root`]), never onto this machine's file
//! system, and written as a root image, which is kept: the same input is not unpacked twice. [`note`] decides what is
//! run in it, and [`system`] gives the programs of Tessera, which are built once for all containers.

mod asker;
mod authority;
mod blobs;
pub mod debian;
mod decode;
pub mod demo;
mod folder;
pub mod launch;
mod layer;
mod log;
mod look;
mod note;
mod package;
mod ports;
mod program;
mod registry;
mod root;
mod session;
mod settings;
mod source;
mod store;
mod system;
#[cfg(test)]
mod testing;
mod volume;

use std::fs;
use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::{Deserialize, Serialize};
use tessera_rootfs::Image;
use tessera_rootfs::container::{NOTE_MEMBER, Note, ROOT_MEMBER};

use crate::devices::Device;
use crate::image::{self, Description, Memory};
use crate::symbols::Symbols;
use crate::workspace;

pub use authority::{Authority, Grant};
pub use look::Look;
pub use ports::PortMapping;
pub use source::Source;
pub use system::DESCRIPTION;
use system::System;
pub use volume::{Mode, Volume};

use store::Kept;

/// What the command line changes about an image.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub words: Vec<String>,
    pub environment: Vec<String>,
    pub directory: Option<String>,
    pub user: Option<String>,
    pub entrypoint: Option<String>,
    pub host_name: Option<String>,
    pub ports: Vec<PortMapping>,
    pub volumes: Vec<Volume>,
    pub authority: Authority,
    pub grace: Option<u32>,
    /// The kind of this terminal, if the program is to have one.
    pub terminal: Option<String>,
    pub input: bool,
    /// Fetch again what may have changed where it came from.
    pub renew: bool,
}

/// A container that is ready to boot.
pub struct Container {
    pub name: String,
    /// The file to boot.
    pub image: PathBuf,
    pub symbols: Symbols,
    /// What is run, as the guest reads it.
    pub note: String,
    /// Bytes of the root image.
    pub root: u64,
    pub memory: Memory,
    /// The system that it runs on.
    pub system: Description,
    /// The devices of its volumes.
    pub volumes: Vec<Device>,
}

/// Memory for the kernel and the container's programs, in MiB, beside the image with its files and the other domains: what is given by default,
/// and what the smallest programs need.
const PROGRAMS: u64 = 172;
const LEAST: u64 = 2;

impl Container {
    /// The program and its arguments.
    pub fn arguments(&self) -> Vec<String> {
        let arguments = tessera_rootfs::container::Container::new(self.note.as_bytes()).arguments();
        arguments.map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
    }
}

/// What is kept beside a file to boot.
#[derive(Deserialize, Serialize)]
struct Made {
    note: String,
    root: u64,
}

/// Makes a container ready. `system` is the description of Tessera's own programs.
pub fn prepare(
    source: &Source,
    overrides: &Overrides,
    system: &Description,
    memory: Option<Memory>,
) -> Result<Container> {
    overrides.ports.iter().try_for_each(PortMapping::check_free)?;
    if !overrides.ports.is_empty() && !overrides.authority.has_network() {
        return Err(miette!(
            help =
                "leave out `-p`, or the `--deny net`; `--deny net=*:*:*` takes only what the container itself begins",
            "a port cannot lead to a container without a network"
        ));
    }
    let (live, copies) = volume::part(&overrides.volumes)?;
    let volumes = live.iter().map(|volume| volume.device()).collect::<Result<_>>()?;
    let kept = store::root(source, &copies, overrides.renew)?;
    let description = overrides.authority.narrow(system, &live)?;
    let system = system::base(&description)?;
    let name = source.name();
    let key = {
        let overrides = Overrides { renew: false, ..overrides.clone() };
        let text = format!("{}\n{}\n{overrides:?}", kept.path.display(), blake3::hash(&system.file));
        blake3::hash(text.as_bytes()).to_hex().get(..32).unwrap_or_default().to_owned()
    };
    // Commands that run one image with different words at the same time each boot their own file.
    let path = workspace::target().join("tessera/containers").join(format!("{name}-{key}.elf"));
    let made = match known(&path) {
        Some(made) => made,
        None => make(&kept, overrides, &live, &system.file, &path)?,
    };
    let memory = choose_memory(memory, system.file.len() as u64, made.root, &description)?;
    let System { symbols, .. } = system;
    Ok(Container { name, image: path, symbols, note: made.note, root: made.root, memory, system: description, volumes })
}

/// What a container runs, and the bytes of its files.
pub fn told(source: &Source, words: &[String]) -> Result<(Vec<String>, u64)> {
    let kept = store::root(source, &[], false)?;
    let cannot = || format!("cannot read {}", kept.path.display());
    let bytes = fs::read(&kept.path).into_diagnostic().wrap_err_with(cannot)?;
    let root = Image::new(&bytes).into_diagnostic().wrap_err("the root image is not what was written")?;
    let overrides = Overrides { words: words.to_vec(), ..Overrides::default() };
    Ok((note::note(&root, &kept.settings, &overrides, &[])?.arguments, bytes.len() as u64))
}

/// The root image of `source` as a file that is kept.
pub fn root_image(source: &Source) -> Result<PathBuf> {
    root_image_with(source, &[])
}

/// The same with copies of `volumes` in it.
pub fn root_image_with(source: &Source, volumes: &[Volume]) -> Result<PathBuf> {
    Ok(store::root(source, &volumes.iter().collect::<Vec<_>>(), false)?.path)
}

/// The file to boot, if it was made before.
fn known(path: &Path) -> Option<Made> {
    let made = serde_json::from_slice(&fs::read(path.with_extension("json")).ok()?).ok()?;
    store::touch(path);
    path.exists().then_some(made)
}

/// Makes the file to boot.
fn make(kept: &Kept, overrides: &Overrides, live: &[&Volume], system: &[u8], path: &Path) -> Result<Made> {
    let bytes =
        fs::read(&kept.path).into_diagnostic().wrap_err_with(|| format!("cannot read {}", kept.path.display()))?;
    let root = Image::new(&bytes).into_diagnostic().wrap_err("the root image is not what was written")?;
    let note: Note = note::note(&root, &kept.settings, overrides, live)?;
    let note = note.to_text().map_err(|text| {
        miette!(help = "leave the NUL character out", "{text:?} cannot be passed to a program of Linux")
    })?;
    let file = image::extend(system, &[(ROOT_MEMBER, &bytes), (NOTE_MEMBER, note.as_bytes())])?;
    image::write(path, &file)?;
    let made = Made { note, root: bytes.len() as u64 };
    // The record comes last: without it the file does not count.
    image::write(&path.with_extension("json"), &serde_json::to_vec(&made).into_diagnostic()?)?;
    path.parent().inspect(|folder| store::forget(folder, "elf"));
    Ok(made)
}

/// The machine's memory: the image with its files lies in it, and it holds what the system's other domains are given.
fn choose_memory(given: Option<Memory>, system: u64, root: u64, description: &Description) -> Result<Memory> {
    let (least, most) = description.fixed_memory();
    // Where all are one domain, none has something for itself.
    let least = if description.is_in_kernel() { 0 } else { least };
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let memory = |mebibytes: u64| format!("{mebibytes}M").parse().map_err(|error: String| miette!("{error}"));
    let usual: Memory = memory((mebibytes(root) + mebibytes(most) + PROGRAMS).next_multiple_of(32))?;
    let Some(given) = given else { return Ok(usual) };
    // The kernel's tables come on top, a tenth at most.
    let needed: Memory = memory((mebibytes(system + root + least) + LEAST) * 10 / 9 + 1)?;
    if given.bytes() < needed.bytes() {
        let (system, root, least) = (mebibytes(system), mebibytes(root), mebibytes(least));
        return Err(miette!(
            help = format!("give at least `--memory {needed}`, or leave it out for {usual}"),
            "{given} is too little memory: the files of the image take {root} MiB of it, the system {system} MiB, \
             and its drivers and the network {least} MiB"
        ));
    }
    Ok(given)
}
