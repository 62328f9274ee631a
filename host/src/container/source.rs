//! What can be given to `tessera run` besides images of Tessera itself, and how each is told from the others.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use super::blobs::Blobs;
use super::decode::{Packing, decoded};
use super::layer::{self, Flavour};
use super::look::read_head;
use super::root::{Building, Unpacked};
use super::settings::Settings;
use super::{debian, folder, package, program};
use crate::progress::Step;
use crate::workspace;

const DEBIAN: &str = "debian:";
const REGISTRY: &str = "docker://";

/// Where a container's files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Packages of Debian, by name.
    Debian(Vec<String>),
    /// A name in a registry.
    Registry(String),
    /// A folder: an OCI layout, or a root file system.
    Folder(PathBuf),
    /// A program for Linux.
    Program(PathBuf),
    /// A tar file, packed or not: a saved image, an OCI archive, or a root file system.
    Tar(PathBuf),
}

impl Source {
    /// Tells what `given` is.
    pub fn of(given: &str) -> Result<Self> {
        if let Some(packages) = given.strip_prefix(DEBIAN) {
            return debian::names(packages).map(Self::Debian);
        }
        if let Some(name) = given.strip_prefix(REGISTRY) {
            return Ok(Self::Registry(name.to_owned()));
        }
        let path = PathBuf::from(given);
        let cannot = || format!("cannot read {}", path.display());
        let found = match fs::metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(miette!(
                    help = format!(
                        "give a file or folder that is there; `docker://{given}` pulls an image from a registry, \
                            `debian:PACKAGE` takes packages of Debian"
                    ),
                    "there is no file {}",
                    path.display()
                ));
            }
            Err(error) => return Err(error).into_diagnostic().wrap_err_with(cannot),
        };
        if found.is_dir() {
            return Ok(Self::Folder(path));
        }
        let mut file = File::open(&path).into_diagnostic().wrap_err_with(cannot)?;
        let head = read_head(&mut file, 512).into_diagnostic().wrap_err_with(cannot)?;
        if head.starts_with(b"\x7fELF") {
            return Ok(Self::Program(path));
        }
        match Packing::of(&head) {
            Packing::Foreign(program) => Err(miette!(
                help = format!("unpack it first: {program} -d {given}"),
                "{given} is packed with {program}; what is read here is tar, gzip and Zstandard"
            )),
            Packing::None if head.get(257..262) != Some(b"ustar") && !is_old_tar(&head) => Err(miette!(
                help = "`./tessera run --help` names all that can be run",
                "{given} is neither an image, nor a tar file, nor a program"
            )),
            _ => Ok(Self::Tar(path)),
        }
    }

    /// A name for the container and for files that are made of it.
    pub fn name(&self) -> String {
        let text = match self {
            Self::Debian(packages) => packages.first().cloned().unwrap_or_default(),
            Self::Registry(name) => name.rsplit('/').next().unwrap_or_default().to_owned(),
            Self::Folder(path) | Self::Program(path) | Self::Tar(path) => {
                let path = path.canonicalize().unwrap_or_else(|_| path.clone());
                path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
        };
        let text = text.split(['.', ':', '@', '=']).next().unwrap_or_default().to_lowercase();
        let allowed = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let name: String = text.chars().map(allowed).take(40).collect();
        if name.is_empty() { "container".to_owned() } else { name }
    }

    /// Takes the files; with `renew`, packages are looked up anew.
    pub fn unpack(&self, step: &mut Step, renew: bool) -> Result<Unpacked> {
        match self {
            Self::Debian(packages) => debian::unpack(packages, step, renew),
            Self::Registry(name) => super::registry::unpack(name, step),
            Self::Program(path) => program::unpack(path),
            Self::Folder(path) => {
                let blobs = Blobs::folder(path.clone());
                if package::is_image(&blobs) { package::unpack(&blobs, step) } else { folder::unpack(path, step) }
            }
            Self::Tar(path) => unpack_tar(path, step),
        }
        .wrap_err_with(|| format!("{} cannot be made a root file system", self.told()))
    }

    fn told(&self) -> String {
        match self {
            Self::Debian(packages) => format!("{DEBIAN}{}", packages.join(",")),
            Self::Registry(name) => format!("{REGISTRY}{name}"),
            Self::Folder(path) | Self::Program(path) | Self::Tar(path) => path.display().to_string(),
        }
    }
}

/// Tar files from before POSIX have no mark, only a checksum over the head (tar's manual, "Basic Tar Format").
fn is_old_tar(head: &[u8]) -> bool {
    let Some(head) = head.first_chunk::<512>() else { return false };
    let written = tar::Header::from_byte_slice(head).cksum();
    let sum = |head: &[u8]| head.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let spaces = 8 * u32::from(b' ');
    written.is_ok_and(|written| written == sum(&head[..148]) + spaces + sum(&head[156..]) && head[0] != 0)
}

fn unpack_tar(path: &Path, step: &mut Step) -> Result<Unpacked> {
    step.note("reading");
    let open = || File::open(path).into_diagnostic().wrap_err_with(|| format!("cannot read {}", path.display()));
    let spool = || tempfile::tempfile_in(workspace::target()).into_diagnostic();
    let blobs = Blobs::tar(open()?, spool)?;
    if package::is_image(&blobs) {
        return package::unpack(&blobs, step);
    }
    let mut building = Building::new()?;
    layer::add(&mut building, decoded(open()?).into_diagnostic()?, Flavour::Plain)?;
    building.finish()?;
    Ok(Unpacked { building, settings: Settings::shell() })
}
