//! Open files: what a descriptor leads to.
//!
//! [`OpenFile`] is what can be read, written, watched; [`Description`] adds what open(2) made: position and flags, shared by the
//! descriptors that dup(2) and fork(2) make; [`Table`] is a process's descriptors. No method of an open file waits: it answers
//! `EAGAIN`, and the caller waits on the file's [`WaitQueue`] if its descriptor is a blocking one.

pub mod console;
pub mod epoll;
pub mod event;
pub mod inet;
pub mod inotify;
pub mod lock;
pub mod netlink;
pub mod pidfd;
pub mod pipe;
pub mod regular;
pub mod signal;
pub mod socket;
pub mod table;
pub mod terminal;
pub mod timer;
pub mod told;
pub mod transfer;
pub mod unix;

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};

use tessera_runtime::sync::Mutex;

use crate::errno::{Errno, Result};
use crate::fs::{Attributes, Inode, Place};
use crate::memory::Memory;
use crate::task::{Context, WaitQueue};

pub use table::Table;
#[cfg(test)]
use transfer::Bytes;
pub use transfer::{Sink, Source};

/// What a file is ready for: the bits of poll(2).
pub mod ready {
    pub const IN: u32 = 1;
    pub const PRIORITY: u32 = 2;
    pub const OUT: u32 = 4;
    pub const ERROR: u32 = 8;
    pub const HANGUP: u32 = 0x10;
    pub const INVALID: u32 = 0x20;
    pub const READ_CLOSED: u32 = 0x2000;
}

/// The flags of open(2).
pub mod open {
    pub const ACCESS: u32 = 3;
    pub const READ_ONLY: u32 = 0;
    pub const WRITE_ONLY: u32 = 1;
    pub const READ_WRITE: u32 = 2;
    pub const CREATE: u32 = 0o100;
    pub const EXCLUSIVE: u32 = 0o200;
    pub const NO_TERMINAL: u32 = 0o400;
    pub const TRUNCATE: u32 = 0o1000;
    pub const APPEND: u32 = 0o2000;
    pub const NON_BLOCKING: u32 = 0o4000;
    pub const DIRECT: u32 = 0o40000;
    pub const LARGE_FILE: u32 = 0o100000;
    pub const DIRECTORY: u32 = 0o200000;
    pub const NO_FOLLOW: u32 = 0o400000;
    pub const NO_ACCESS_TIME: u32 = 0o1000000;
    pub const CLOSE_ON_EXEC: u32 = 0o2000000;
    pub const PATH: u32 = 0o10000000;
    pub const UNNAMED: u32 = 0o20000000;
    /// `O_DSYNC`, and what `O_SYNC` adds to it; `O_ASYNC`.
    const SYNCHRONOUS: u32 = 0o10000 | 0o4000000;
    pub const ASYNCHRONOUS: u32 = 0o20000;
    /// All that there are.
    pub const KNOWN: u32 = ACCESS
        | CREATE
        | EXCLUSIVE
        | NO_TERMINAL
        | TRUNCATE
        | APPEND
        | NON_BLOCKING
        | ASYNCHRONOUS
        | DIRECT
        | LARGE_FILE
        | NO_FOLLOW
        | NO_ACCESS_TIME
        | CLOSE_ON_EXEC
        | PATH
        | SYNCHRONOUS
        | UNNAMED;
}

/// Something open.
pub trait OpenFile: Send + Sync + Any {
    /// Reads; `at` counts only where [`OpenFile::is_seekable`]. 0 is the end.
    fn read(&self, _at: u64, _to: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes; may take only a part.
    fn write(&self, _at: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Whether there are positions in it.
    fn is_seekable(&self) -> bool {
        false
    }

    /// Whether its position is 0 for good: lseek(2) comes to that whatever it asks for, as in `/dev/null`.
    fn stays_at_its_start(&self) -> bool {
        false
    }

    /// What can be done without waiting, as [`ready`] bits.
    fn ready(&self) -> u32 {
        ready::IN | ready::OUT
    }

    /// Woken whenever `ready` may have changed. None: it never waits (regular files, which `epoll` refuses).
    fn queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// How many nanoseconds a read waits at most, and then answers 0 bytes (`VTIME` without `VMIN`, termios(3)). None: without end.
    fn patience(&self) -> Option<u64> {
        None
    }

    /// Whether the caller may read, or write, at all now: a terminal stops who is not in front.
    fn admit(&self, _context: &Context, _writes: bool) -> Result<()> {
        Ok(())
    }

    /// `ioctl`; the argument is a number or a guest's address.
    fn control(&self, _context: &mut Context, _request: u32, _argument: u64) -> Result<u64> {
        Err(Errno::ENOTTY)
    }

    /// What fstat(2) tells.
    fn attributes(&self) -> Result<Attributes>;

    /// What fstat(2) tells, if it is a regular file.
    fn regular(&self) -> Result<Option<Attributes>> {
        Ok(None)
    }

    /// The inode behind it, for files of a file system.
    fn inode(&self) -> Option<Arc<dyn Inode>> {
        None
    }

    /// Memory for mmap(2).
    fn memory(&self) -> Result<Arc<Memory>> {
        self.inode().ok_or(Errno::ENODEV)?.memory()
    }

    /// What `/proc/PID/fd/N` shows for what has no path: `pipe:[17]`.
    fn label(&self) -> alloc::string::String {
        alloc::string::String::from("anon_inode:[file]")
    }

    /// What `/proc/PID/fdinfo/N` tells beside position and flags.
    fn information(&self) -> alloc::string::String {
        alloc::string::String::new()
    }

    /// The socket that it is.
    fn socket(self: Arc<Self>) -> Option<Arc<dyn socket::Socket>> {
        None
    }

    /// A descriptor of a process was closed (locks of that process go, dnotify, ...).
    fn closed_by(&self, _process: i32) {}

    /// `O_NONBLOCK` or `O_ASYNC` changed.
    fn flags_changed(&self, _flags: u32) {}
}

/// What open(2) made.
pub struct Description {
    pub file: Arc<dyn OpenFile>,
    /// Where it was found, for what has a path.
    pub place: Option<Arc<Place>>,
    /// The next byte. Held while a file is read or written, so that two threads do not read the same.
    pub position: Mutex<u64>,
    flags: AtomicU32,
    /// Who is told by signals, once somebody asked for that.
    pub told: Mutex<Option<Arc<told::Told>>>,
}

impl Description {
    /// Opens at position 0.
    pub fn new(file: Arc<dyn OpenFile>, place: Option<Arc<Place>>, flags: u32) -> Arc<Description> {
        let flags =
            flags & !(open::CREATE | open::EXCLUSIVE | open::NO_TERMINAL | open::TRUNCATE | open::CLOSE_ON_EXEC);
        Arc::new(Description {
            file,
            place,
            position: Mutex::new(0),
            flags: AtomicU32::new(flags),
            told: Mutex::new(None),
        })
    }

    /// The flags of open(2) as they are now.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// `F_SETFL`: changes the flags that can be changed.
    pub fn set_flags(&self, flags: u32) {
        const CHANGEABLE: u32 =
            open::APPEND | open::NON_BLOCKING | open::DIRECT | open::NO_ACCESS_TIME | open::ASYNCHRONOUS;
        let flags = self.flags() & !CHANGEABLE | flags & CHANGEABLE;
        self.flags.store(flags, Ordering::Relaxed);
        self.file.flags_changed(flags);
    }

    pub fn is_path_only(&self) -> bool {
        self.flags() & open::PATH != 0
    }

    pub fn is_readable(&self) -> bool {
        let flags = self.flags();
        flags & open::ACCESS != open::WRITE_ONLY && flags & open::PATH == 0
    }

    pub fn is_writable(&self) -> bool {
        let flags = self.flags();
        matches!(flags & open::ACCESS, open::WRITE_ONLY | open::READ_WRITE) && flags & open::PATH == 0
    }

    pub fn is_blocking(&self) -> bool {
        self.flags() & open::NON_BLOCKING == 0
    }

    /// What stands in the file system: the file itself, or the device node that it was opened by.
    pub fn inode(&self) -> Option<Arc<dyn Inode>> {
        self.file.inode().or_else(|| self.place.as_ref().map(|place| place.inode.clone()))
    }

    /// What fstat(2) tells.
    pub fn attributes(&self) -> Result<Attributes> {
        match (&self.place, self.file.inode()) {
            (Some(place), None) => place.inode.attributes(),
            _ => self.file.attributes(),
        }
    }

    /// Whose locks those of this description are.
    fn owners(&self) -> [lock::Owner; 2] {
        let address = core::ptr::from_ref(self).addr();
        [lock::Owner::Description(address), lock::Owner::Whole(address)]
    }

    /// The file as a concrete type, if it is one.
    pub fn concrete<T: OpenFile>(&self) -> Option<Arc<T>> {
        let any: Arc<dyn Any + Send + Sync> = self.file.clone();
        any.downcast().ok()
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        if inotify::is_any()
            && let Some(place) = self.place.as_ref().filter(|_| !self.is_path_only())
        {
            let event = if self.is_writable() { inotify::event::CLOSE_WRITTEN } else { inotify::event::CLOSE };
            inotify::tell(place, event);
        }
        if lock::is_any()
            && let Ok(attributes) = self.file.attributes()
        {
            for owner in self.owners() {
                lock::clear_all((attributes.device, attributes.number), owner);
            }
        }
    }
}
