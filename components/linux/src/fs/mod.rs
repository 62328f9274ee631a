//! What every file system gives: [`Inode`], one trait for files, directories, links and devices; and the paths that lead to them.
//!
//! An inode knows nothing of who asks: permissions are checked where paths are walked and files opened ([`path`]), from the
//! attributes. Nothing here waits for the outside world: what would have to wait answers `EAGAIN`.

pub mod devices;
pub mod path;
pub mod proc;
pub mod ram;
pub mod volume;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::file::transfer::{Sink, Source};
use crate::memory::Memory;
use crate::task::Context;
use crate::task::credentials::{Credentials, capability};

pub use path::{FsContext, Mounts, Place, Walk};

/// What an inode is; the numbers are those of `S_IFMT >> 12`, which are those of `d_type` too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Fifo = 1,
    Character = 2,
    Directory = 4,
    Block = 6,
    Regular = 8,
    Link = 10,
    Socket = 12,
}

impl Kind {
    /// The kind in the upper bits of a mode; no bits mean a regular file, as for mknod(2).
    pub fn of_mode(mode: u32) -> Result<Kind> {
        Ok(match mode >> 12 & 15 {
            0 | 8 => Kind::Regular,
            1 => Kind::Fifo,
            2 => Kind::Character,
            4 => Kind::Directory,
            6 => Kind::Block,
            10 => Kind::Link,
            12 => Kind::Socket,
            _ => return Err(Errno::EINVAL),
        })
    }

    /// Its bits of a mode.
    pub fn mode(self) -> u32 {
        (self as u32) << 12
    }
}

/// A point in time: nanoseconds since 1970.
pub type Time = i64;

/// What `stat` tells.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    pub kind: Kind,
    /// The lower twelve bits of the mode.
    pub permissions: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub links: u32,
    /// The inode's number, and its file system's.
    pub number: u64,
    pub device: u64,
    /// What a device node names (`makedev`).
    pub names_device: u64,
    /// Of 512 bytes.
    pub blocks: u64,
    pub block_size: u32,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
}

impl Attributes {
    /// Those of a file that is in no file system: a pipe, a socket, an event.
    pub fn anonymous(kind: Kind, permissions: u32, number: u64) -> Attributes {
        Attributes {
            kind,
            permissions,
            uid: 0,
            gid: 0,
            size: 0,
            links: 1,
            number,
            device: 14,
            names_device: 0,
            blocks: 0,
            block_size: 4096,
            accessed: 0,
            modified: 0,
            changed: 0,
        }
    }

    /// The permissions that are left when someone changes the content: without the bits that lend the owner's rights to whoever
    /// executes it. None: they stay.
    pub fn without_privileges(&self, who: &Credentials) -> Option<u32> {
        let group = if self.permissions & 0o010 != 0 { 0o2000 } else { 0 };
        let lost = self.permissions & (0o4000 | group);
        (lost != 0 && !who.has(capability::FSETID)).then_some(self.permissions & !lost)
    }

    /// The mode with kind and permissions.
    pub fn mode(&self) -> u32 {
        self.kind.mode() | self.permissions
    }
}

/// A change of attributes: what is `None` stays.
#[derive(Clone, Copy, Default, Debug)]
pub struct Change {
    pub permissions: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<Time>,
    pub modified: Option<Time>,
    /// The time of the change itself.
    pub changed: Option<Time>,
}

/// Who owns what is made.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// What a new inode is to be.
#[derive(Clone, Copy, Debug)]
pub struct Creation {
    pub kind: Kind,
    pub permissions: u32,
    pub owner: Owner,
    pub names_device: u64,
    pub time: Time,
}

/// One name of a directory.
pub struct Entry<'a> {
    pub name: &'a [u8],
    pub number: u64,
    pub kind: Kind,
    /// The position behind it.
    pub next: u64,
}

/// How `rename` treats what is at its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rename {
    Replace,
    NoReplace,
    Exchange,
}

/// `F_SEAL_*`: what can be done to a memory file no more.
pub mod seal {
    pub const SEAL: u32 = 1;
    pub const SHRINK: u32 = 2;
    pub const GROW: u32 = 4;
    pub const WRITE: u32 = 8;
    pub const FUTURE_WRITE: u32 = 16;
    pub const ALL: u32 = 31;
}

/// What `statfs` tells.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    pub magic: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub free: u64,
    pub files: u64,
    pub files_free: u64,
    pub name_length: u64,
}

/// An object of a file system. Methods that do not apply to its kind answer the error that Linux gives.
pub trait Inode: Send + Sync + Any {
    fn attributes(&self) -> Result<Attributes>;

    fn change(&self, _change: &Change) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Whether each change of its names, its permissions and its link is told ([`path::known::changed`]).
    fn is_steady(&self) -> bool {
        false
    }

    // Directories.

    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }

    /// Makes what `creation` says under a name that is free (else `EEXIST`).
    fn create(&self, _name: &[u8], _creation: &Creation) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }

    /// Makes a regular file without a name (`O_TMPFILE`), which `link` can give one.
    fn create_unnamed(&self, _creation: &Creation) -> Result<Arc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }

    fn symlink(&self, _name: &[u8], _target: &[u8], _creation: &Creation) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }

    fn link(&self, _name: &[u8], _to: &Arc<dyn Inode>, _time: Time) -> Result<()> {
        Err(Errno::EROFS)
    }

    /// Removes a name: of an empty directory if `directory`, else of anything but a directory.
    fn unlink(&self, _name: &[u8], _directory: bool, _time: Time) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn rename(&self, _name: &[u8], _into: &Arc<dyn Inode>, _new_name: &[u8], _how: Rename, _time: Time) -> Result<()> {
        Err(Errno::EROFS)
    }

    /// Calls `each` with the names from a position on, until it answers false. `.` and `..` are not among them.
    fn entries(&self, _from: u64, _each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    // Links.

    fn target(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// The text of a link as this process sees it: that of `/proc/self` depends on who asks.
    fn target_for(&self, _context: &Context) -> Result<Vec<u8>> {
        self.target()
    }

    /// The place that the link leads to by itself, whatever its text says (`/proc/self/fd/3`).
    fn jump(&self, _context: &Context) -> Option<Result<Arc<Place>>> {
        None
    }

    // Files.

    /// Reads from a byte on; 0 at the end.
    fn read_at(&self, _at: u64, _to: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn write_at(&self, _at: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// The file's pages, which shared mappings show. They stay the file's: a write to either is seen by both.
    fn memory(&self) -> Result<Arc<Memory>> {
        Err(Errno::ENODEV)
    }

    /// The memory in which the content lies as nobody has changed it yet, and where in it: for private mappings, which go on showing that. Others
    /// take [`Inode::memory`].
    fn lies_in(&self) -> Result<Option<(Arc<Memory>, u64)>> {
        Ok(None)
    }

    /// Zeroes in place of what is in a range of a file, whose size stays (`FALLOC_FL_PUNCH_HOLE`).
    fn punch(&self, _start: u64, _end: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The seals of a memory file (`F_GET_SEALS`); none: it is no memory file.
    fn seals(&self) -> Option<u32> {
        None
    }

    /// Adds seals.
    fn seal(&self, _seals: u32) -> Result<()> {
        Err(Errno::EINVAL)
    }

    fn synchronise(&self) -> Result<()> {
        Ok(())
    }

    /// Whether nobody may change its content, whatever the permissions say (`EROFS`).
    fn is_read_only(&self) -> bool {
        false
    }

    /// What opening it gives, where that is not the inode itself: a device, a pipe. `flags` are those of open(2).
    fn open(self: Arc<Self>, _context: &Context, _flags: u32) -> Result<Option<Arc<dyn OpenFile>>> {
        Ok(None)
    }

    // Extended attributes.

    fn attribute(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::ENODATA)
    }

    fn set_attribute(&self, _name: &[u8], _value: &[u8], _flags: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn remove_attribute(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::ENODATA)
    }

    /// All names, each ended by a zero byte.
    fn attribute_names(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn statistics(&self) -> Result<Statistics> {
        Ok(Statistics {
            magic: 0x0102_1994,
            block_size: 4096,
            blocks: 0,
            free: 0,
            files: 0,
            files_free: 0,
            name_length: 255,
        })
    }
}

/// The concrete file system's node, if this is one.
pub fn concrete<T: Inode>(inode: &Arc<dyn Inode>) -> Option<Arc<T>> {
    let any: Arc<dyn Any + Send + Sync> = inode.clone();
    any.downcast().ok()
}

/// An open file without a file system as the end of a path: `/proc/self/fd/3` of a pipe. Opening it gives the file itself.
pub struct OpenInode(pub Arc<dyn OpenFile>);

impl Inode for OpenInode {
    fn attributes(&self) -> Result<Attributes> {
        self.0.attributes()
    }

    fn open(self: Arc<Self>, _context: &Context, _flags: u32) -> Result<Option<Arc<dyn OpenFile>>> {
        match self.attributes()?.kind {
            Kind::Socket => Err(Errno::ENXIO),
            _ => Ok(Some(self.0.clone())),
        }
    }
}
