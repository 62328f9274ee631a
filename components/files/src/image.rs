//! The read-only image that a file system begins with: see crate `tessera-rootfs` for its format.
//!
//! Its bytes never change, so what they say is read where they lie; they may still say anything, and a damaged image gives
//! errors for the objects it spoils.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use tessera_interfaces::{FileError, NodeKind, Owner, Time};
use tessera_rootfs::{Inode, Kind, NodeNumber};
use tessera_runtime::Object;
use tessera_runtime::object::Vmo;

/// Extended attributes by name.
pub type Extended = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// An image, and the memory object that it lies in.
#[derive(Debug)]
pub struct Image {
    image: tessera_rootfs::Image<'static>,
    vmo: Vmo,
    offset: u64,
}

fn damaged(_: tessera_rootfs::Error) -> FileError {
    FileError::Device
}

impl Image {
    /// Takes an image whose bytes begin at `offset` of `vmo`, which nobody can write.
    pub fn new(bytes: &'static [u8], vmo: Vmo, offset: u64) -> Result<Image, tessera_rootfs::Error> {
        Ok(Image { image: tessera_rootfs::Image::new(bytes)?, vmo, offset })
    }

    /// Its root directory.
    pub fn root(&self) -> NodeNumber {
        self.image.root()
    }

    /// An object of it.
    pub fn node(&self, number: NodeNumber) -> Result<Inode, FileError> {
        self.image.inode(number).map_err(damaged)
    }

    /// Calls `visit` with each entry of a directory.
    pub fn entries(
        &self,
        directory: &Inode,
        mut visit: impl FnMut(&[u8], NodeNumber) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        for entry in self.image.entries(directory, 0).map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            if entry.name != b"." && entry.name != b".." {
                visit(entry.name, entry.number)?;
            }
        }
        Ok(())
    }

    /// Copies from a file.
    pub fn read(&self, file: &Inode, at: u64, into: &mut [u8]) -> Result<usize, FileError> {
        self.image.read(file, at, into).map_err(damaged)
    }

    /// A symbolic link's target.
    pub fn target(&self, link: &Inode) -> Result<&[u8], FileError> {
        self.image.link_target(link).map_err(damaged)
    }

    /// The extended attributes of an object.
    pub fn extended(&self, node: &Inode) -> Result<Extended, FileError> {
        let mut all = BTreeMap::new();
        for attribute in self.image.attributes(node).map_err(damaged)? {
            let attribute = attribute.map_err(damaged)?;
            let name: Vec<u8> = attribute.prefix.iter().chain(attribute.name).copied().collect();
            all.insert(name.into(), attribute.value.into());
        }
        Ok(all)
    }

    /// The memory object and the place in it where a file's pages lie, if they lie together and can be mapped.
    pub fn memory(&self, file: &Inode) -> Result<Option<(Vmo, Range<u64>)>, FileError> {
        let Some(extent) = self.image.data_extent(file).map_err(damaged)? else { return Ok(None) };
        let place = |at: u64| self.offset.checked_add(at).ok_or(FileError::Device);
        let range = place(extent.start)?..place(extent.end)?;
        if !range.start.is_multiple_of(tessera_rootfs::PAGE) {
            return Ok(None);
        }
        Ok(Some((self.vmo.try_clone().map_err(|_| FileError::NoSpace)?, range)))
    }
}

/// The kind of an object as clients know it.
pub fn kind(node: &Inode) -> NodeKind {
    match node.kind() {
        Kind::Regular => NodeKind::File,
        Kind::Directory => NodeKind::Directory,
        Kind::Link => NodeKind::SymbolicLink,
        Kind::CharacterDevice => NodeKind::CharacterDevice,
        Kind::BlockDevice => NodeKind::BlockDevice,
        Kind::Fifo => NodeKind::Pipe,
        Kind::Socket => NodeKind::Socket,
    }
}

/// Who owns an object.
pub fn owner(node: &Inode) -> Owner {
    Owner { user: node.uid, group: node.gid }
}

/// When an object was modified.
pub fn modified(node: &Inode) -> Time {
    Time { seconds: i64::try_from(node.mtime).unwrap_or(i64::MAX), nanoseconds: node.mtime_nanoseconds }
}

/// The device that a device file names, as Linux encodes it for `st_rdev`.
pub fn device(node: &Inode) -> u64 {
    let Some((major, minor)) = node.device() else { return 0 };
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & 0xfff) << 8 | (major & !0xfff) << 32 | minor & 0xff | (minor & !0xff) << 12
}
