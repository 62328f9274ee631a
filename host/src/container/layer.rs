//! Puts tar files into a tree: one layer of a container's image, a whole root file system, or a Debian package.
//!
//! The archive may come from anyone. Nothing is written to this machine's file system; a name that could lead outside,
//! or a link to what is not there, refuses the archive with the name told.

use std::io::{self, Read};

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use tar::{Archive, Entry, EntryType};
use tessera_rootfs::Kind;
use tessera_rootfs::build::{Content, Existing, Metadata, Node, TreeError};

use super::root::Building;

/// What the names of a tar file mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// A layer: names `.wh.NAME` hide what lower layers have (OCI image specification, "Layer Filesystem Changeset").
    Layer,
    /// Names are names.
    Plain,
    /// A Debian package: a directory may be a link on the system.
    Package,
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const XATTR: &str = "SCHILY.xattr.";

/// Puts all of `from`, a tar file that is not packed, into the tree.
pub fn add(building: &mut Building, from: impl Read, flavour: Flavour) -> Result<()> {
    let mut archive = Archive::new(from);
    archive.set_ignore_zeros(false);
    let entries = archive.entries().into_diagnostic().wrap_err("it is not a tar file")?;
    for entry in entries {
        let mut entry = entry.into_diagnostic().wrap_err("the tar file is damaged")?;
        let path = entry.path_bytes().into_owned();
        put(building, &mut entry, &path, flavour)
            .wrap_err_with(|| format!("the entry `{}` cannot be taken", String::from_utf8_lossy(&path)))?;
    }
    Ok(())
}

fn put<R: Read>(building: &mut Building, entry: &mut Entry<R>, path: &[u8], flavour: Flavour) -> Result<()> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
        return Ok(());
    }
    if flavour == Flavour::Layer {
        let (parent, name) = split(path);
        if name == OPAQUE {
            return building.tree.hide_contents(parent).map_err(refused);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            // Names of the format's own that are not whiteouts, such as those of an old union file system.
            if hidden.starts_with(WHITEOUT) {
                return Ok(());
            }
            return building.tree.hide(&[parent, b"/", hidden].concat()).map_err(refused);
        }
    }
    if flavour == Flavour::Package && is_documentation(path) {
        return Ok(());
    }
    let target = entry.link_name_bytes().map(|target| target.into_owned());
    let target = || target.clone().ok_or_else(|| miette!("it is a link without a target"));
    if kind == EntryType::Link {
        return building.tree.hard_link(path, &target()?).map_err(refused);
    }
    let metadata = metadata(entry)?;
    let device = |entry: &Entry<R>| -> Result<(u32, u32)> {
        let header = entry.header();
        let (major, minor) = (header.device_major().into_diagnostic()?, header.device_minor().into_diagnostic()?);
        Ok((major.unwrap_or(0), minor.unwrap_or(0)))
    };
    let content = match kind {
        EntryType::Directory => Content::Directory(Default::default()),
        // Old tar files have no other sign of a directory.
        EntryType::Regular if path.ends_with(b"/") => Content::Directory(Default::default()),
        EntryType::Symlink => Content::Link(target()?),
        EntryType::Char => {
            let (major, minor) = device(entry)?;
            Content::Special(Kind::CharacterDevice, major, minor)
        }
        EntryType::Block => {
            let (major, minor) = device(entry)?;
            Content::Special(Kind::BlockDevice, major, minor)
        }
        EntryType::Fifo => Content::Special(Kind::Fifo, 0, 0),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Content::Regular(building.add(entry)?),
        other => return Err(miette!("it is of a kind that is not known ({:?})", other.as_byte() as char)),
    };
    let existing = if flavour == Flavour::Package { Existing::KeepLink } else { Existing::Replace };
    building.tree.put(path, Node { metadata, content }, existing).map(|_| ()).map_err(refused)
}

/// Whether a file of a package is one that programs do not read: what `debian:bookworm-slim` leaves out too. Licences
/// stay.
fn is_documentation(path: &[u8]) -> bool {
    const FOLDERS: [&str; 7] = ["doc", "groff", "info", "linda", "lintian", "locale", "man"];
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let Some(rest) = path.strip_prefix(b"usr/share/") else { return false };
    let folder = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
    FOLDERS.iter().any(|name| name.as_bytes() == folder) && !path.ends_with(b"/copyright")
}

/// Divides a path into its parent and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let path = &path[..end];
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn refused(error: TreeError) -> miette::Report {
    miette!("{error}")
}

fn metadata<R: Read>(entry: &mut Entry<R>) -> Result<Metadata> {
    let header = entry.header();
    let id = |id: u64| u32::try_from(id).map_err(|_| miette!("its owner's number {id} is too large"));
    // Some tools leave out what they do not know.
    let or_zero = |raw: &[u8], number: io::Result<u64>, what: &str| {
        let is_blank = raw.iter().all(|byte| matches!(byte, 0 | b' '));
        if is_blank { Ok(0) } else { number.into_diagnostic().wrap_err_with(|| format!("its {what} is damaged")) }
    };
    let raw = header.as_old();
    let mut metadata = Metadata {
        permissions: (or_zero(&raw.mode, header.mode().map(u64::from), "mode")? & 0o7777) as u16,
        uid: id(or_zero(&raw.uid, header.uid(), "owner")?)?,
        gid: id(or_zero(&raw.gid, header.gid(), "group")?)?,
        mtime: or_zero(&raw.mtime, header.mtime(), "time")?,
        ..Metadata::default()
    };
    let Some(extensions) = entry.pax_extensions().into_diagnostic().wrap_err("its extended header is damaged")? else {
        return Ok(metadata);
    };
    for extension in extensions {
        let extension = extension.into_diagnostic().wrap_err("its extended header is damaged")?;
        let (Ok(key), value) = (extension.key(), extension.value_bytes()) else { continue };
        let number = || extension.value().ok().and_then(|value| value.parse::<u64>().ok());
        match key {
            "uid" => metadata.uid = number().map(id).transpose()?.unwrap_or(metadata.uid),
            "gid" => metadata.gid = number().map(id).transpose()?.unwrap_or(metadata.gid),
            "mtime" => {
                // Times before 1970 have a sign: they become 1970.
                let text = extension.value().unwrap_or("0");
                let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
                metadata.mtime = seconds.parse().unwrap_or(0);
                let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
                metadata.mtime_nanoseconds = digits.parse().unwrap_or(0);
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    metadata.attributes.insert(name.as_bytes().to_vec(), value.to_vec());
                }
            }
        }
    }
    Ok(metadata)
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
