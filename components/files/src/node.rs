//! The objects as clients call them.

use alloc::sync::Arc;
use core::any::Any;

use tessera_interfaces::{
    Appended, AttributeChange, Attributes, Cap, Entries, FileError, FileSystemStatistics, Memory, Node, NodeKind,
    Owner, Rename, SetAttribute, Unlink,
};

use crate::inode::Inode;

/// A capability to one object of the file system.
#[derive(Debug)]
pub struct Handle(Arc<Inode>);

impl Handle {
    /// One to `inode`, as it is.
    pub fn new(inode: Arc<Inode>) -> Handle {
        Handle(inode)
    }

    /// One to `inode`.
    pub fn of(inode: Arc<Inode>) -> Cap<dyn Node> {
        Cap::local(Arc::new(Handle(inode)))
    }

    /// The object behind a capability that this component gave out.
    fn inode(of: &Cap<dyn Node>) -> Result<Arc<Inode>, FileError> {
        let object: &dyn Any = &**of;
        object.downcast_ref::<Handle>().map(|handle| handle.0.clone()).ok_or(FileError::CrossDevice)
    }
}

impl Node for Handle {
    fn attributes(&self) -> Result<Attributes, FileError> {
        Ok(self.0.attributes())
    }

    fn set_attributes(&self, change: AttributeChange) -> Result<(), FileError> {
        self.0.change(&change)
    }

    fn lookup(&self, name: &[u8]) -> Result<Cap<dyn Node>, FileError> {
        self.0.lookup(name).map(Handle::of)
    }

    fn create(
        &self,
        name: &[u8],
        kind: NodeKind,
        mode: u32,
        owner: Owner,
        device: u64,
    ) -> Result<Cap<dyn Node>, FileError> {
        if kind == NodeKind::SymbolicLink {
            return Err(FileError::InvalidArgument);
        }
        self.0.create(name, kind, mode, owner, device, &[]).map(Handle::of)
    }

    fn create_unnamed(&self, mode: u32, owner: Owner) -> Result<Cap<dyn Node>, FileError> {
        self.0.create_unnamed(mode, owner).map(Handle::of)
    }

    fn symlink(&self, name: &[u8], target: &[u8], owner: Owner) -> Result<Cap<dyn Node>, FileError> {
        self.0.create(name, NodeKind::SymbolicLink, 0o777, owner, 0, target).map(Handle::of)
    }

    fn link(&self, name: &[u8], to: Cap<dyn Node>) -> Result<(), FileError> {
        self.0.link(name, &Handle::inode(&to)?)
    }

    fn unlink(&self, name: &[u8], kind: Unlink) -> Result<(), FileError> {
        self.0.unlink(name, kind)
    }

    fn rename(&self, name: &[u8], into: Cap<dyn Node>, new_name: &[u8], how: Rename) -> Result<(), FileError> {
        self.0.rename(name, &Handle::inode(&into)?, new_name, how)
    }

    fn entries(&self, from: u64, into: &mut [u8]) -> Result<Entries, FileError> {
        let (mut used, mut next, mut is_too_small) = (0_usize, from, false);
        self.0.entries(from, |cookie, name, inode| {
            let head = [inode.number().to_le_bytes(), cookie.to_le_bytes()];
            let kind = [inode.kind() as u8, name.len() as u8];
            let bytes = head.as_flattened().iter().chain(&kind).chain(name);
            let end = used.saturating_add(18).saturating_add(name.len());
            let Some(place) = into.get_mut(used..end) else {
                is_too_small = used == 0;
                return false;
            };
            for (to, from) in place.iter_mut().zip(bytes) {
                *to = *from;
            }
            (used, next) = (end, cookie);
            true
        })?;
        if is_too_small {
            return Err(FileError::BufferTooSmall);
        }
        Ok(Entries { bytes: u32::try_from(used).unwrap_or(u32::MAX), next })
    }

    fn target(&self, into: &mut [u8]) -> Result<u64, FileError> {
        self.0.target(into).map(|length| length as u64)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<u64, FileError> {
        self.0.read(at, into).map(|count| count as u64)
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<u64, FileError> {
        self.0.write(at, from).map(|count| count as u64)
    }

    fn append(&self, from: &[u8]) -> Result<Appended, FileError> {
        let (at, count) = self.0.append(from)?;
        Ok(Appended { at, bytes: count as u64 })
    }

    fn memory(&self) -> Result<Memory, FileError> {
        let (vmo, offset) = self.0.memory()?;
        Ok(Memory { vmo, offset })
    }

    fn synchronise(&self) -> Result<(), FileError> {
        // All there is lies in memory: nothing lasts longer than the file system.
        Ok(())
    }

    fn attribute(&self, name: &[u8], into: &mut [u8]) -> Result<u64, FileError> {
        self.0.extended(name, into).map(|length| length as u64)
    }

    fn set_attribute(&self, name: &[u8], value: &[u8], how: SetAttribute) -> Result<(), FileError> {
        self.0.set_extended(name, value, how)
    }

    fn remove_attribute(&self, name: &[u8]) -> Result<(), FileError> {
        self.0.remove_extended(name)
    }

    fn attribute_names(&self, into: &mut [u8]) -> Result<u64, FileError> {
        self.0.extended_names(into).map(|length| length as u64)
    }

    fn statistics(&self) -> Result<FileSystemStatistics, FileError> {
        Ok(self.0.statistics())
    }
}
