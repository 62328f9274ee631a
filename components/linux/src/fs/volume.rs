//! Files of another component as a file system: volumes of the container, each behind a capability to its root ([`Node`]).
//!
//! What can be done there is decided by who gave the capability: one that is read-only answers every change with `EROFS`. Nothing is kept
//! here, so what somebody else changes is seen at once; but a mapping shows the file as it was when it was mapped, and is not written back.

use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_interfaces::{
    AttributeChange, Cap, Changes, FileError, Node, NodeKind, SetAttribute, Time as NodeTime, Unlink,
};

use super::{Attributes, Change, Creation, Entry, Inode, Kind, Owner, Rename, Statistics, Time, concrete};
use crate::errno::{Errno, Result};
use crate::file::transfer::{Sink, Source};
use crate::memory::{Memory, PAGE};

/// Bytes that one call carries.
const PIECE: usize = 64 << 10;
/// The largest file that is mapped.
const MAPPED: u64 = 256 << 20;
/// The longest target of a link, and list of extended attributes.
const LONGEST_TARGET: usize = 4095;
const LONGEST_LIST: u64 = 64 << 10;
/// Bytes before a name in a packed entry.
const HEAD: usize = 18;
const SECOND: i64 = 1_000_000_000;

/// Something in a volume.
pub struct VolumeInode {
    node: Cap<dyn Node>,
    /// `st_dev` of the volume.
    device: u64,
}

/// What a refusal means to a Linux program.
fn refused(error: FileError) -> Errno {
    match error {
        // What this machine does not permit, it mostly does not permit this command's user.
        FileError::NotPermitted => Errno::EACCES,
        error => Errno::from_number(error.errno()),
    }
}

fn kind_of(kind: NodeKind) -> Kind {
    match kind {
        NodeKind::Pipe => Kind::Fifo,
        NodeKind::CharacterDevice => Kind::Character,
        NodeKind::Directory => Kind::Directory,
        NodeKind::BlockDevice => Kind::Block,
        NodeKind::File => Kind::Regular,
        NodeKind::SymbolicLink => Kind::Link,
        NodeKind::Socket => Kind::Socket,
    }
}

fn node_kind(kind: Kind) -> NodeKind {
    match kind {
        Kind::Fifo => NodeKind::Pipe,
        Kind::Character => NodeKind::CharacterDevice,
        Kind::Directory => NodeKind::Directory,
        Kind::Block => NodeKind::BlockDevice,
        Kind::Regular => NodeKind::File,
        Kind::Link => NodeKind::SymbolicLink,
        Kind::Socket => NodeKind::Socket,
    }
}

fn time(time: NodeTime) -> Time {
    time.seconds.saturating_mul(SECOND).saturating_add(time.nanoseconds.into())
}

fn node_time(time: Time) -> NodeTime {
    NodeTime { seconds: time.div_euclid(SECOND), nanoseconds: time.rem_euclid(SECOND) as u32 }
}

fn node_owner(owner: Owner) -> tessera_interfaces::Owner {
    tessera_interfaces::Owner { user: owner.uid, group: owner.gid }
}

impl VolumeInode {
    /// The root of a volume.
    pub fn root(node: Cap<dyn Node>, device: u64) -> Arc<VolumeInode> {
        Arc::new(VolumeInode { node, device })
    }

    fn of(&self, node: core::result::Result<Cap<dyn Node>, FileError>) -> Result<Arc<dyn Inode>> {
        Ok(Arc::new(VolumeInode { node: node.map_err(refused)?, device: self.device }))
    }

    fn other(inode: &Arc<dyn Inode>) -> Result<Cap<dyn Node>> {
        Ok(concrete::<VolumeInode>(inode).ok_or(Errno::EXDEV)?.node.clone())
    }

    /// Reads a list of unknown length: first its length, then all of it.
    fn list(read: impl Fn(&mut [u8]) -> core::result::Result<u64, FileError>) -> Result<Vec<u8>> {
        let length = read(&mut []).map_err(refused)?.min(LONGEST_LIST);
        let mut bytes = alloc::vec![0; length as usize];
        if length > 0 {
            let read = read(&mut bytes).map_err(refused)?;
            bytes.truncate(read as usize);
        }
        Ok(bytes)
    }
}

impl Inode for VolumeInode {
    fn attributes(&self) -> Result<Attributes> {
        let known = self.node.attributes().map_err(refused)?;
        Ok(Attributes {
            kind: kind_of(known.kind),
            permissions: known.mode & 0o7777,
            uid: known.owner.user,
            gid: known.owner.group,
            size: known.size,
            links: known.links,
            number: known.number,
            device: self.device,
            names_device: known.device,
            blocks: known.blocks,
            block_size: PAGE as u32,
            accessed: time(known.accessed),
            modified: time(known.modified),
            changed: time(known.changed),
        })
    }

    fn change(&self, change: &Change) -> Result<()> {
        // The time of a write is set by whoever keeps the file.
        let is_write = change.accessed.is_none() && change.modified == change.changed;
        let bits = [
            (change.permissions.is_some(), Changes::MODE),
            (change.uid.is_some(), Changes::USER),
            (change.gid.is_some(), Changes::GROUP),
            (change.size.is_some(), Changes::SIZE),
            (change.accessed.is_some(), Changes::ACCESSED),
            (change.modified.is_some() && !is_write, Changes::MODIFIED),
        ];
        let which = bits.iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, bit)| all | bit);
        if which == 0 {
            return Ok(());
        }
        let change = AttributeChange {
            which,
            mode: change.permissions.unwrap_or_default(),
            owner: node_owner(Owner { uid: change.uid.unwrap_or_default(), gid: change.gid.unwrap_or_default() }),
            size: change.size.unwrap_or_default(),
            accessed: node_time(change.accessed.unwrap_or_default()),
            modified: node_time(change.modified.unwrap_or_default()),
        };
        self.node.set_attributes(change).map_err(refused)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.of(self.node.lookup(name))
    }

    fn create(&self, name: &[u8], creation: &Creation) -> Result<Arc<dyn Inode>> {
        let Creation { kind, permissions, owner, names_device, .. } = *creation;
        self.of(self.node.create(name, node_kind(kind), permissions, node_owner(owner), names_device))
    }

    fn create_unnamed(&self, creation: &Creation) -> Result<Arc<dyn Inode>> {
        self.of(self.node.create_unnamed(creation.permissions, node_owner(creation.owner)))
    }

    fn symlink(&self, name: &[u8], target: &[u8], creation: &Creation) -> Result<Arc<dyn Inode>> {
        self.of(self.node.symlink(name, target, node_owner(creation.owner)))
    }

    fn link(&self, name: &[u8], to: &Arc<dyn Inode>, _time: Time) -> Result<()> {
        self.node.link(name, Self::other(to)?).map_err(refused)
    }

    fn unlink(&self, name: &[u8], directory: bool, _time: Time) -> Result<()> {
        let kind = if directory { Unlink::Directory } else { Unlink::File };
        self.node.unlink(name, kind).map_err(refused)
    }

    fn rename(&self, name: &[u8], into: &Arc<dyn Inode>, new_name: &[u8], how: Rename, _time: Time) -> Result<()> {
        let how = match how {
            Rename::Replace => tessera_interfaces::Rename::Replace,
            Rename::NoReplace => tessera_interfaces::Rename::NoReplace,
            Rename::Exchange => tessera_interfaces::Rename::Exchange,
        };
        self.node.rename(name, Self::other(into)?, new_name, how).map_err(refused)
    }

    fn entries(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        let mut from = from;
        let mut packed = alloc::vec![0; PIECE];
        loop {
            let entries = self.node.entries(from, &mut packed).map_err(refused)?;
            let mut rest = packed.get(..entries.bytes as usize).ok_or(Errno::EIO)?;
            if rest.is_empty() {
                return Ok(());
            }
            while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
                let word = |at: usize| {
                    head.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word))
                };
                let (kind, length) = (head.get(16).copied(), head.get(17).copied());
                let kind = Kind::of_mode(u32::from(kind.unwrap_or_default()) << 12).unwrap_or(Kind::Regular);
                let (name, after) = after.split_at_checked(length.unwrap_or_default().into()).ok_or(Errno::EIO)?;
                if !each(Entry { name, number: word(0), kind, next: word(8) }) {
                    return Ok(());
                }
                rest = after;
            }
            from = entries.next;
        }
    }

    fn target(&self) -> Result<Vec<u8>> {
        let mut target = alloc::vec![0; LONGEST_TARGET];
        let length = self.node.target(&mut target).map_err(refused)?;
        target.truncate(length as usize);
        Ok(target)
    }

    fn read_at(&self, at: u64, to: &mut dyn Sink) -> Result<usize> {
        let mut buffer = alloc::vec![0; to.room().min(PIECE)];
        let mut done = 0_usize;
        while to.room() > 0 {
            let most = to.room().min(buffer.len());
            let place = buffer.get_mut(..most).unwrap_or_default();
            let read = match self.node.read(at.saturating_add(done as u64), place) {
                Ok(0) => break,
                Ok(read) => read as usize,
                Err(_) if done > 0 => break,
                Err(error) => return Err(refused(error)),
            };
            let stored = to.put(place.get(..read).ok_or(Errno::EIO)?)?;
            done += stored;
            if stored < read || read < most {
                break;
            }
        }
        Ok(done)
    }

    fn write_at(&self, at: u64, from: &mut dyn Source) -> Result<usize> {
        let mut buffer = alloc::vec![0; from.left().min(PIECE)];
        let mut done = 0_usize;
        while from.left() > 0 {
            let taken = match from.take(&mut buffer) {
                Ok(0) => break,
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let mut rest = buffer.get(..taken).unwrap_or_default();
            while !rest.is_empty() {
                match self.node.write(at.saturating_add(done as u64), rest) {
                    Ok(written) if written > 0 => {
                        done += written as usize;
                        rest = rest.get(written as usize..).ok_or(Errno::EIO)?;
                    }
                    Err(error) if done == 0 => return Err(refused(error)),
                    _ => return Ok(done),
                }
            }
        }
        Ok(done)
    }

    fn memory(&self) -> Result<Arc<Memory>> {
        let size = self.attributes()?.size;
        if size > MAPPED {
            return Err(Errno::ENOMEM);
        }
        let memory = Memory::new(size.max(1).next_multiple_of(PAGE))?;
        let mut piece = alloc::vec![0; PIECE];
        let mut at = 0_u64;
        while at < size {
            let read = self.node.read(at, &mut piece).map_err(refused)?;
            let bytes = piece.get(..(read as usize).min((size - at) as usize)).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            memory.vmo().write(at, bytes)?;
            at += bytes.len() as u64;
        }
        Ok(memory)
    }

    fn synchronise(&self) -> Result<()> {
        self.node.synchronise().map_err(refused)
    }

    fn attribute(&self, name: &[u8]) -> Result<Vec<u8>> {
        Self::list(|into| self.node.attribute(name, into))
    }

    fn set_attribute(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        let how = match flags {
            0 => SetAttribute::Any,
            1 => SetAttribute::Create,
            2 => SetAttribute::Replace,
            _ => return Err(Errno::EINVAL),
        };
        self.node.set_attribute(name, value, how).map_err(refused)
    }

    fn remove_attribute(&self, name: &[u8]) -> Result<()> {
        self.node.remove_attribute(name).map_err(refused)
    }

    fn attribute_names(&self) -> Result<Vec<u8>> {
        Self::list(|into| self.node.attribute_names(into))
    }

    fn statistics(&self) -> Result<Statistics> {
        let known = self.node.statistics().map_err(refused)?;
        Ok(Statistics {
            magic: known.magic,
            block_size: known.block_size.into(),
            blocks: known.blocks,
            free: known.free_blocks,
            files: known.nodes,
            files_free: known.free_nodes,
            name_length: known.longest_name.into(),
        })
    }
}
