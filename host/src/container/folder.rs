//! A folder of this machine as a root file system.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use rustix::fs::{lgetxattr, llistxattr, major, minor};
use tessera_rootfs::Kind;
use tessera_rootfs::build::{Attributes, Content, Existing, Metadata, Node};

use super::root::{Building, Unpacked};
use super::settings::Settings;
use crate::progress::Step;

/// Takes the folder as it is. Files of the user who runs this command become the superuser's, unless that is who it is.
pub fn unpack(folder: &Path, step: &mut Step) -> Result<Unpacked> {
    let mut building = Building::new()?;
    add(&mut building, folder, b"", step)?;
    building.finish()?;
    Ok(Unpacked { building, settings: Settings::shell() })
}

/// Puts what is in `folder` below `place`.
pub fn add(building: &mut Building, folder: &Path, place: &[u8], step: &mut Step) -> Result<()> {
    let mut known: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    // Not by recursion: folders may be nested deeper than a stack goes.
    let mut waiting = vec![(folder.to_owned(), place.to_vec())];
    while let Some((path, place)) = waiting.pop() {
        let cannot = || format!("cannot read {}", path.display());
        let found = fs::symlink_metadata(&path).into_diagnostic().wrap_err_with(cannot)?;
        let kind = found.file_type();
        if !kind.is_dir() && found.nlink() > 1 {
            if let Some(first) = known.get(&(found.dev(), found.ino())) {
                building.tree.hard_link(&place, first).map_err(|error| miette!("{error}"))?;
                continue;
            }
            known.insert((found.dev(), found.ino()), place.clone());
        }
        let (major, minor) = (major(found.rdev()), minor(found.rdev()));
        let content = if kind.is_dir() {
            let mut entries: Vec<_> = fs::read_dir(&path)
                .into_diagnostic()?
                .collect::<Result<_, _>>()
                .into_diagnostic()
                .wrap_err_with(cannot)?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries.into_iter().rev() {
                waiting.push((entry.path(), [&place, b"/".as_slice(), entry.file_name().as_bytes()].concat()));
            }
            Content::Directory(Default::default())
        } else if kind.is_symlink() {
            Content::Link(fs::read_link(&path).into_diagnostic()?.as_os_str().as_bytes().to_vec())
        } else if kind.is_file() {
            step.note(&path.display().to_string());
            Content::Regular(building.add(&mut File::open(&path).into_diagnostic().wrap_err_with(cannot)?)?)
        } else if kind.is_char_device() {
            Content::Special(Kind::CharacterDevice, major, minor)
        } else if kind.is_block_device() {
            Content::Special(Kind::BlockDevice, major, minor)
        } else if kind.is_fifo() {
            Content::Special(Kind::Fifo, 0, 0)
        } else {
            // A socket is nothing without the program that listens.
            continue;
        };
        let node = Node { metadata: metadata(&path, &found)?, content };
        building.tree.put(&place, node, Existing::Replace).map_err(|error| miette!("{error}"))?;
    }
    Ok(())
}

fn metadata(path: &Path, found: &fs::Metadata) -> Result<Metadata> {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owner = |id: u32, own: u32| if id == own { 0 } else { id };
    Ok(Metadata {
        permissions: (found.mode() & 0o7777) as u16,
        uid: owner(found.uid(), own.0),
        gid: owner(found.gid(), own.1),
        mtime: u64::try_from(found.mtime()).unwrap_or(0),
        mtime_nanoseconds: u32::try_from(found.mtime_nsec()).unwrap_or(0),
        attributes: attributes(path),
    })
}

/// The extended attributes; where there is no support for them, there are none.
fn attributes(path: &Path) -> Attributes {
    let mut attributes = Attributes::new();
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return attributes };
    let mut names = vec![0u8; 1 << 16];
    let Ok(length) = llistxattr(&path, names.as_mut_slice()) else { return attributes };
    let mut value = vec![0u8; 1 << 16];
    for name in names.get(..length).unwrap_or_default().split_inclusive(|byte| *byte == 0) {
        if let Ok(name) = CStr::from_bytes_with_nul(name)
            && let Ok(length) = lgetxattr(&path, name, value.as_mut_slice())
        {
            attributes.insert(name.to_bytes().to_vec(), value.get(..length).unwrap_or_default().to_vec());
        }
    }
    attributes
}
