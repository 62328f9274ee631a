//! Runs Linux containers: takes an image in any of its forms, makes a root image of it, and puts that beside the
//! programs of Tessera into one file to boot.
//!
//! [`source`] tells what was given. It is unpacked into a tree in memory ([`root`]), never onto this machine's file
//! system, and written as a root image, which is kept: the same input is not unpacked twice. [`note`] decides what is
//! run in it, and [`system`] gives the programs of Tessera, which are built once for all containers.

mod blobs;
mod debian;
mod decode;
mod folder;
pub mod launch;
mod layer;
mod look;
mod note;
mod package;
mod ports;
mod program;
mod registry;
mod root;
mod settings;
mod source;
mod store;
mod system;
#[cfg(test)]
mod testing;

use std::path::PathBuf;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use tessera_rootfs::Image;
use tessera_rootfs::container::{NOTE_MEMBER, Note, ROOT_MEMBER};

use crate::image::{self, Memory};
use crate::symbols::Symbols;
use crate::workspace;

pub use ports::PortMapping;
pub use source::Source;
pub use system::DESCRIPTION;

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
    pub grace: Option<u32>,
    pub terminal: bool,
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
    pub note: Note,
    /// Bytes of the root image.
    pub root: u64,
    pub memory: Memory,
}

/// Memory for programs beside the root image, in MiB: what is given by default, and what they need at least.
const PROGRAMS: u64 = 256;
const LEAST: u64 = 64;

/// Makes a container ready. `system` is the description of Tessera's own programs.
pub fn prepare(
    source: &Source,
    overrides: &Overrides,
    system: &std::path::Path,
    memory: Option<Memory>,
) -> Result<Container> {
    overrides.ports.iter().try_for_each(PortMapping::check_free)?;
    let kept = store::root(source, overrides.renew)?;
    let bytes =
        std::fs::read(&kept.path).into_diagnostic().wrap_err_with(|| format!("cannot read {}", kept.path.display()))?;
    let root = Image::new(&bytes).into_diagnostic().wrap_err("the root image is not what was written")?;
    let note = note::note(&root, &kept.settings, overrides)?;
    let memory = choose_memory(memory, bytes.len() as u64)?;
    let packed = note.to_bytes().map_err(|text| {
        miette!(help = "leave the NUL character out", "{text:?} cannot be passed to a program of Linux")
    })?;
    let system = system::base(system)?;
    let file = image::extend(&system.file, &[(ROOT_MEMBER, &bytes), (NOTE_MEMBER, &packed)])?;
    let name = source.name();
    let path = workspace::target().join("tessera/containers").join(format!("{name}.elf"));
    image::write(&path, &file)?;
    Ok(Container { name, image: path, symbols: system.symbols, note, root: bytes.len() as u64, memory })
}

/// The machine's memory: the root image lies in it.
fn choose_memory(given: Option<Memory>, root: u64) -> Result<Memory> {
    let root = root.div_ceil(1 << 20);
    let whole = |mebibytes: u64| -> Result<Memory> {
        let text = format!("{}M", mebibytes.next_multiple_of(32));
        text.parse().map_err(|error: String| miette!("{error}"))
    };
    let Some(given) = given else { return whole(root + PROGRAMS) };
    let least = whole(root + LEAST)?;
    if given.bytes() < least.bytes() {
        return Err(miette!(
            help = format!("give at least `--memory {least}`, or leave it out for {}", whole(root + PROGRAMS)?),
            "{given} is too little memory: the files of the image take {root} MiB of it"
        ));
    }
    Ok(given)
}
