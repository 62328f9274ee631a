//! The objects as clients call them.

use alloc::sync::Arc;

use tessera_interfaces::{
    Appended, AttributeChange, Attributes, Cap, Entries, FileError, FileSystemStatistics, Memory, Node, NodeKind,
    Owner, Rename, SetAttribute, Time, Unlink,
};

use crate::tree::{Object, Tree};
use crate::{Disk, header};

/// Bytes before a name in a packed entry.
const HEAD: usize = 18;

/// A capability to one object.
pub struct Handle {
    files: Arc<Files>,
    number: usize,
}

/// What all objects share.
struct Files {
    disk: Disk,
    tree: Tree,
}

/// The root of a tree whose files are on `disk`.
pub fn root(disk: Disk, tree: Tree) -> Handle {
    Handle { files: Arc::new(Files { disk, tree }), number: 0 }
}

impl Handle {
    fn object(&self) -> Result<&Object, FileError> {
        self.files.tree.get(self.number).ok_or(FileError::Stale)
    }

    /// The object, which must be of this kind.
    fn as_kind(&self, kind: NodeKind, otherwise: FileError) -> Result<&Object, FileError> {
        let object = self.object()?;
        if object.kind == kind { Ok(object) } else { Err(otherwise) }
    }

    fn length(object: &Object) -> u64 {
        match object.kind {
            NodeKind::SymbolicLink => object.target.len() as u64,
            _ => object.bytes.end.saturating_sub(object.bytes.start),
        }
    }
}

impl Node for Handle {
    fn attributes(&self) -> Result<Attributes, FileError> {
        let object = self.object()?;
        let size = Handle::length(object);
        let time = Time { seconds: i64::try_from(object.modified).unwrap_or(i64::MAX), nanoseconds: 0 };
        Ok(Attributes {
            kind: object.kind,
            mode: object.mode,
            owner: Owner { user: object.owner.0, group: object.owner.1 },
            size,
            links: 1,
            number: (self.number as u64).saturating_add(1),
            device: 0,
            blocks: size.div_ceil(header::BLOCK as u64),
            accessed: time,
            modified: time,
            changed: time,
        })
    }

    fn lookup(&self, name: &[u8]) -> Result<Cap<dyn Node>, FileError> {
        self.as_kind(NodeKind::Directory, FileError::NotDirectory)?;
        let number = self.files.tree.find(self.number, name).ok_or(FileError::NotFound)?;
        Ok(Cap::local(Arc::new(Handle { files: self.files.clone(), number }) as Arc<dyn Node>))
    }

    fn entries(&self, from: u64, into: &mut [u8]) -> Result<Entries, FileError> {
        let object = self.as_kind(NodeKind::Directory, FileError::NotDirectory)?;
        let (mut used, mut next) = (0_usize, from);
        let rest = object.children.iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
        for (name, number) in rest {
            let Some(child) = self.files.tree.get(*number) else { continue };
            let after = next.saturating_add(1);
            let head = [(*number as u64).saturating_add(1).to_le_bytes(), after.to_le_bytes()];
            let kind = [child.kind as u8, name.len() as u8];
            let end = used.saturating_add(HEAD).saturating_add(name.len());
            let Some(place) = into.get_mut(used..end) else {
                if used == 0 {
                    return Err(FileError::BufferTooSmall);
                }
                break;
            };
            for (to, from) in place.iter_mut().zip(head.as_flattened().iter().chain(&kind).chain(name)) {
                *to = *from;
            }
            (used, next) = (end, after);
        }
        Ok(Entries { bytes: u32::try_from(used).unwrap_or(u32::MAX), next })
    }

    fn target(&self, into: &mut [u8]) -> Result<u64, FileError> {
        let object = self.as_kind(NodeKind::SymbolicLink, FileError::InvalidArgument)?;
        let to = into.get_mut(..object.target.len()).ok_or(FileError::BufferTooSmall)?;
        to.copy_from_slice(&object.target);
        Ok(object.target.len() as u64)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<u64, FileError> {
        let object = match self.object()? {
            object if object.kind == NodeKind::File => object,
            object if object.kind == NodeKind::Directory => return Err(FileError::IsDirectory),
            _ => return Err(FileError::InvalidArgument),
        };
        let left = Handle::length(object).saturating_sub(at);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let start = object.bytes.start.checked_add(at).ok_or(FileError::InvalidArgument)?;
        let into = into.get_mut(..count).unwrap_or_default();
        if !into.is_empty() {
            self.files.disk.read(start, into).map_err(|_| FileError::Device)?;
        }
        Ok(count as u64)
    }

    fn memory(&self) -> Result<Memory, FileError> {
        Err(FileError::NotSupported)
    }

    fn synchronise(&self) -> Result<(), FileError> {
        Ok(())
    }

    fn attribute(&self, _name: &[u8], _into: &mut [u8]) -> Result<u64, FileError> {
        Err(FileError::NoAttribute)
    }

    fn attribute_names(&self, _into: &mut [u8]) -> Result<u64, FileError> {
        Ok(0)
    }

    fn statistics(&self) -> Result<FileSystemStatistics, FileError> {
        Ok(FileSystemStatistics {
            // Linux knows no file system like this.
            magic: 0,
            block_size: header::BLOCK as u32,
            blocks: self.files.disk.length().div_ceil(header::BLOCK as u64),
            free_blocks: 0,
            nodes: self.files.tree.count() as u64,
            free_nodes: 0,
            longest_name: 255,
            read_only: true,
        })
    }

    // What would change something:

    fn set_attributes(&self, _: AttributeChange) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }

    fn create(&self, _: &[u8], _: NodeKind, _: u32, _: Owner, _: u64) -> Result<Cap<dyn Node>, FileError> {
        Err(FileError::ReadOnly)
    }

    fn create_unnamed(&self, _: u32, _: Owner) -> Result<Cap<dyn Node>, FileError> {
        Err(FileError::ReadOnly)
    }

    fn symlink(&self, _: &[u8], _: &[u8], _: Owner) -> Result<Cap<dyn Node>, FileError> {
        Err(FileError::ReadOnly)
    }

    fn link(&self, _: &[u8], _: Cap<dyn Node>) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }

    fn unlink(&self, _: &[u8], _: Unlink) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }

    fn rename(&self, _: &[u8], _: Cap<dyn Node>, _: &[u8], _: Rename) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<u64, FileError> {
        Err(FileError::ReadOnly)
    }

    fn append(&self, _: &[u8]) -> Result<Appended, FileError> {
        Err(FileError::ReadOnly)
    }

    fn set_attribute(&self, _: &[u8], _: &[u8], _: SetAttribute) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }

    fn remove_attribute(&self, _: &[u8]) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }
}
