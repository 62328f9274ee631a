//! One object of a file system, and what may be done with it.
//!
//! Locks: the file system's `names` lock is taken first by everything that changes which names there are; then at most one
//! object's `state` at a time. Nothing waits for the outside while it holds either.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};

use tessera_interfaces::{
    AttributeChange, Attributes, Changes, FileError, FileSystemStatistics, NodeKind, Owner, Rename, SetAttribute, Time,
    Unlink,
};
use tessera_runtime::abi::PAGE;
use tessera_runtime::object::Vmo;
use tessera_runtime::sync::{Mutex, MutexGuard};

use crate::account::Charge;
use crate::content::Content;
use crate::directory::Directory;
use crate::image::Extended;
use crate::system::FileSystem;

/// The longest name, in bytes (`NAME_MAX` of Linux).
pub const NAME_LIMIT: usize = 255;
/// The longest target of a symbolic link, in bytes (`PATH_MAX` of Linux without its NUL).
pub const TARGET_LIMIT: usize = 4095;
/// The most links of one object.
const LINK_LIMIT: u32 = 1 << 20;
/// The longest extended attribute's value and name, in bytes (`XATTR_SIZE_MAX`, `XATTR_NAME_MAX` of Linux).
const ATTRIBUTE_LIMIT: usize = 64 << 10;
const MODE_BITS: u32 = 0o7777;

/// A file, directory, symbolic link or special file.
#[derive(Debug)]
pub struct Inode {
    number: u64,
    kind: NodeKind,
    /// Which device a device file names.
    device: u64,
    system: Arc<FileSystem>,
    state: Mutex<State>,
    _charge: Charge,
}

/// What changes about an object.
#[derive(Debug)]
pub struct State {
    pub mode: u32,
    pub owner: Owner,
    pub links: u32,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
    pub attributes: Extended,
    pub body: Body,
}

/// What an object holds, by its kind.
#[derive(Debug)]
pub enum Body {
    /// A regular file.
    File(Content),
    /// A directory.
    Directory {
        /// The directory that it is in; its own when it is the root.
        parent: Weak<Inode>,
        entries: Directory,
        /// The directory of the image whose entries have not been read yet.
        pending: Option<tessera_rootfs::Inode>,
    },
    /// A symbolic link.
    Link(Box<[u8]>),
    /// A device, pipe or socket: its meaning is the client's.
    Special,
}

impl Inode {
    /// Bytes of the heap that an object with its name is charged as.
    pub const CHARGE: u64 = 1024;

    /// An object that nobody names yet.
    ///
    /// # Errors
    /// `NoSpace` when the file system has used up its share of the heap.
    pub fn new(
        system: Arc<FileSystem>,
        number: u64,
        kind: NodeKind,
        device: u64,
        state: State,
    ) -> Result<Arc<Inode>, FileError> {
        let charge = Charge::new(system.account(), Inode::CHARGE)?;
        Ok(Arc::new(Inode { number, kind, device, system, state: Mutex::new(state), _charge: charge }))
    }

    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// The state, with a directory's entries read from the image.
    fn directory(self: &Arc<Self>) -> Result<MutexGuard<'_, State>, FileError> {
        if self.kind != NodeKind::Directory {
            return Err(FileError::NotDirectory);
        }
        let mut state = self.state.lock();
        if let Body::Directory { entries, pending, .. } = &mut state.body
            && let Some(place) = *pending
        {
            self.system.load(self, &place, entries)?;
            *pending = None;
        }
        Ok(state)
    }

    /// All that is known about it.
    pub fn attributes(&self) -> Attributes {
        let state = self.state.lock();
        let (size, charged) = match &state.body {
            Body::File(content @ Content::Image(_)) => (content.size(), content.size()),
            Body::File(content) => (content.size(), content.charged()),
            Body::Directory { .. } => (PAGE, PAGE),
            Body::Link(target) => (target.len() as u64, 0),
            Body::Special => (0, 0),
        };
        Attributes {
            kind: self.kind,
            mode: state.mode,
            owner: state.owner,
            links: state.links,
            size,
            blocks: charged.div_ceil(512),
            number: self.number,
            device: self.device,
            accessed: state.accessed,
            modified: state.modified,
            changed: state.changed,
        }
    }

    /// Changes what `change` names.
    pub fn change(&self, change: &AttributeChange) -> Result<(), FileError> {
        if change.which & !Changes::ALL != 0 {
            return Err(FileError::InvalidArgument);
        }
        let now = self.system.now();
        let mut state = self.state.lock();
        if change.which & Changes::SIZE != 0 {
            match &mut state.body {
                Body::File(content) => content.resize(self.system.source(), change.size)?,
                Body::Directory { .. } => return Err(FileError::IsDirectory),
                _ => return Err(FileError::InvalidArgument),
            }
            state.modified = now;
        }
        if change.which & Changes::MODE != 0 {
            state.mode = change.mode & MODE_BITS;
        }
        if change.which & Changes::USER != 0 {
            state.owner.user = change.owner.user;
        }
        if change.which & Changes::GROUP != 0 {
            state.owner.group = change.owner.group;
        }
        if change.which & Changes::ACCESSED != 0 {
            state.accessed = change.accessed;
        }
        if change.which & Changes::MODIFIED != 0 {
            state.modified = change.modified;
        }
        state.changed = now;
        Ok(())
    }

    /// The entry of a name.
    pub fn lookup(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Inode>, FileError> {
        check_name(name)?;
        match &self.directory()?.body {
            Body::Directory { entries, .. } => entries.get(name).cloned().ok_or(FileError::NotFound),
            _ => Err(FileError::NotDirectory),
        }
    }

    /// Calls `visit` with cookie, name and object of each entry behind `cookie`, until it answers false.
    pub fn entries(
        self: &Arc<Self>,
        cookie: u64,
        mut visit: impl FnMut(u64, &[u8], &Arc<Inode>) -> bool,
    ) -> Result<(), FileError> {
        let now = self.system.now();
        let mut state = self.directory()?;
        state.accessed = now;
        if let Body::Directory { entries, .. } = &state.body {
            let _ = entries.after(cookie).all(|(cookie, name, inode)| visit(cookie, name, inode));
        }
        Ok(())
    }

    /// Enters a new object under a free name; the caller holds the `names` lock.
    fn enter(self: &Arc<Self>, name: &[u8], inode: &Arc<Inode>) -> Result<(), FileError> {
        let now = self.system.now();
        let mut state = self.directory()?;
        if state.links == 0 {
            return Err(FileError::NotFound);
        }
        let Body::Directory { entries, .. } = &mut state.body else { return Err(FileError::NotDirectory) };
        if entries.get(name).is_some() {
            return Err(FileError::AlreadyExists);
        }
        entries.insert(name, inode.clone());
        if inode.kind == NodeKind::Directory {
            state.links = state.links.saturating_add(1);
        }
        (state.modified, state.changed) = (now, now);
        Ok(())
    }

    /// Makes an object under a free name.
    pub fn create(
        self: &Arc<Self>,
        name: &[u8],
        kind: NodeKind,
        mode: u32,
        owner: Owner,
        device: u64,
        target: &[u8],
    ) -> Result<Arc<Inode>, FileError> {
        check_name(name)?;
        if target.len() > TARGET_LIMIT || target.contains(&0) || (target.is_empty() && kind == NodeKind::SymbolicLink) {
            return Err(if target.len() > TARGET_LIMIT { FileError::NameTooLong } else { FileError::NotFound });
        }
        let _names = self.system.names();
        let body = match kind {
            NodeKind::File => Body::File(Content::empty(self.system.account())?),
            NodeKind::Directory => {
                Body::Directory { parent: Arc::downgrade(self), entries: Directory::default(), pending: None }
            }
            NodeKind::SymbolicLink => Body::Link(target.into()),
            _ => Body::Special,
        };
        let links = if kind == NodeKind::Directory { 2 } else { 1 };
        let inode = self.system.make(kind, mode & MODE_BITS, owner, links, device, body)?;
        self.enter(name, &inode)?;
        Ok(inode)
    }

    /// Makes a file that has no name, of mode `mode`; `link` can give it one.
    pub fn create_unnamed(self: &Arc<Self>, mode: u32, owner: Owner) -> Result<Arc<Inode>, FileError> {
        drop(self.directory()?);
        self.system.make(
            NodeKind::File,
            mode & MODE_BITS,
            owner,
            0,
            0,
            Body::File(Content::empty(self.system.account())?),
        )
    }

    /// Gives an object of this file system one more name.
    pub fn link(self: &Arc<Self>, name: &[u8], to: &Arc<Inode>) -> Result<(), FileError> {
        check_name(name)?;
        if !Arc::ptr_eq(&self.system, &to.system) {
            return Err(FileError::CrossDevice);
        }
        if to.kind == NodeKind::Directory {
            return Err(FileError::NotPermitted);
        }
        let _names = self.system.names();
        if to.state.lock().links >= LINK_LIMIT {
            return Err(FileError::TooManyLinks);
        }
        self.enter(name, to)?;
        let mut state = to.state.lock();
        state.links = state.links.saturating_add(1);
        state.changed = self.system.now();
        Ok(())
    }

    /// Takes a name away.
    pub fn unlink(self: &Arc<Self>, name: &[u8], how: Unlink) -> Result<(), FileError> {
        check_name(name)?;
        let _names = self.system.names();
        let inode = self.lookup(name)?;
        inode.check_removal(how)?;
        self.take(name, &inode)
    }

    /// Whether its name may be taken away in this way.
    fn check_removal(self: &Arc<Self>, how: Unlink) -> Result<(), FileError> {
        match (self.kind, how) {
            (NodeKind::Directory, Unlink::File) => Err(FileError::IsDirectory),
            (NodeKind::Directory, Unlink::Directory) => match &self.directory()?.body {
                Body::Directory { entries, .. } if !entries.is_empty() => Err(FileError::NotEmpty),
                _ => Ok(()),
            },
            (_, Unlink::File) => Ok(()),
            (_, Unlink::Directory) => Err(FileError::NotDirectory),
        }
    }

    /// Takes the name of `inode` away; the caller holds the `names` lock and has checked that it may go.
    fn take(self: &Arc<Self>, name: &[u8], inode: &Arc<Inode>) -> Result<(), FileError> {
        let now = self.system.now();
        let is_directory = inode.kind == NodeKind::Directory;
        {
            let mut state = self.directory()?;
            let Body::Directory { entries, .. } = &mut state.body else { return Err(FileError::NotDirectory) };
            entries.remove(name);
            if is_directory {
                state.links = state.links.saturating_sub(1);
            }
            (state.modified, state.changed) = (now, now);
        }
        inode.lost_name(now);
        Ok(())
    }

    fn lost_name(self: &Arc<Self>, now: Time) {
        let mut state = self.state.lock();
        state.links = if self.kind == NodeKind::Directory { 0 } else { state.links.saturating_sub(1) };
        state.changed = now;
        let gone = state.links == 0;
        drop(state);
        if gone {
            self.system.forget(self.number);
        }
    }

    /// Moves a name. What stood under the new one goes, stays and refuses, or takes the old one, as `how` says.
    pub fn rename(
        self: &Arc<Self>,
        name: &[u8],
        into: &Arc<Inode>,
        new_name: &[u8],
        how: Rename,
    ) -> Result<(), FileError> {
        check_name(name)?;
        check_name(new_name)?;
        if !Arc::ptr_eq(&self.system, &into.system) {
            return Err(FileError::CrossDevice);
        }
        let _names = self.system.names();
        let inode = self.lookup(name)?;
        let other = match into.lookup(new_name) {
            Err(FileError::NotFound) => None,
            found => Some(found?),
        };
        if into.state.lock().links == 0 {
            return Err(FileError::NotFound);
        }
        if inode.is_above(into) {
            return Err(FileError::InvalidArgument);
        }
        match (&other, how) {
            (Some(_), Rename::NoReplace) => return Err(FileError::AlreadyExists),
            (None, Rename::Exchange) => return Err(FileError::NotFound),
            (Some(other), Rename::Exchange) if other.is_above(self) => return Err(FileError::InvalidArgument),
            (Some(other), Rename::Replace) if Arc::ptr_eq(other, &inode) => return Ok(()),
            (Some(other), Rename::Replace) => {
                let directory = inode.kind == NodeKind::Directory;
                other.check_removal(if directory { Unlink::Directory } else { Unlink::File })?;
            }
            _ => {}
        }
        // Nothing is refused from here on.
        let now = self.system.now();
        let replaced = into.put(new_name, &inode, now)?;
        match (replaced, how) {
            (Some(other), Rename::Exchange) => {
                self.put(name, &other, now)?;
                other.moved(self, now);
            }
            (replaced, _) => {
                self.pull(name, &inode, now)?;
                if let Some(other) = replaced {
                    other.lost_name(now);
                }
            }
        }
        inode.moved(into, now);
        Ok(())
    }

    /// Enters `inode` in place of what is there, and counts subdirectories.
    fn put(self: &Arc<Self>, name: &[u8], inode: &Arc<Inode>, now: Time) -> Result<Option<Arc<Inode>>, FileError> {
        let mut state = self.directory()?;
        let Body::Directory { entries, .. } = &mut state.body else { return Err(FileError::NotDirectory) };
        let before = entries.insert(name, inode.clone());
        if inode.kind == NodeKind::Directory {
            state.links = state.links.saturating_add(1);
        }
        if before.as_ref().is_some_and(|before| before.kind == NodeKind::Directory) {
            state.links = state.links.saturating_sub(1);
        }
        (state.modified, state.changed) = (now, now);
        Ok(before)
    }

    /// Takes a name out that now stands elsewhere.
    fn pull(self: &Arc<Self>, name: &[u8], inode: &Arc<Inode>, now: Time) -> Result<(), FileError> {
        let mut state = self.directory()?;
        let Body::Directory { entries, .. } = &mut state.body else { return Err(FileError::NotDirectory) };
        entries.remove(name);
        if inode.kind == NodeKind::Directory {
            state.links = state.links.saturating_sub(1);
        }
        (state.modified, state.changed) = (now, now);
        Ok(())
    }

    /// After its name moved to `into`.
    fn moved(&self, into: &Arc<Inode>, now: Time) {
        let mut state = self.state.lock();
        state.changed = now;
        if let Body::Directory { parent, .. } = &mut state.body {
            *parent = Arc::downgrade(into);
        }
    }

    /// Whether `other` is this directory or lies below it; the caller holds the `names` lock.
    fn is_above(self: &Arc<Self>, other: &Arc<Inode>) -> bool {
        if self.kind != NodeKind::Directory {
            return false;
        }
        let mut at = other.clone();
        loop {
            if Arc::ptr_eq(self, &at) {
                return true;
            }
            let above = match &at.state.lock().body {
                Body::Directory { parent, .. } => parent.upgrade(),
                _ => None,
            };
            match above {
                Some(above) if !Arc::ptr_eq(&above, &at) => at = above,
                _ => return false,
            }
        }
    }

    /// Copies from a file; answers how many bytes there were.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<usize, FileError> {
        let now = self.system.now();
        let mut state = self.state.lock();
        let count = match &state.body {
            Body::File(content) => content.read(self.system.source(), at, into)?,
            Body::Directory { .. } => return Err(FileError::IsDirectory),
            _ => return Err(FileError::InvalidArgument),
        };
        state.accessed = now;
        Ok(count)
    }

    /// Copies into a file; answers how many bytes found room.
    pub fn write(&self, at: u64, from: &[u8]) -> Result<usize, FileError> {
        self.write_at(Some(at), from).map(|(_, count)| count)
    }

    /// Copies behind the end of a file; answers where that was, and how many bytes found room.
    pub fn append(&self, from: &[u8]) -> Result<(u64, usize), FileError> {
        self.write_at(None, from)
    }

    fn write_at(&self, at: Option<u64>, from: &[u8]) -> Result<(u64, usize), FileError> {
        let now = self.system.now();
        let mut state = self.state.lock();
        let written = match &mut state.body {
            Body::File(content) => {
                let at = at.unwrap_or(content.size());
                (at, content.write(self.system.source(), at, from)?)
            }
            Body::Directory { .. } => return Err(FileError::IsDirectory),
            _ => return Err(FileError::InvalidArgument),
        };
        (state.modified, state.changed) = (now, now);
        Ok(written)
    }

    /// The memory object that holds a file's pages, and where in it the file begins.
    pub fn memory(&self) -> Result<(Vmo, u64), FileError> {
        match &mut self.state.lock().body {
            Body::File(content) => content.memory(self.system.source()),
            Body::Directory { .. } => Err(FileError::IsDirectory),
            _ => Err(FileError::InvalidArgument),
        }
    }

    /// Copies a symbolic link's target; answers its length.
    pub fn target(&self, into: &mut [u8]) -> Result<usize, FileError> {
        match &self.state.lock().body {
            Body::Link(target) => {
                for (to, from) in into.iter_mut().zip(target) {
                    *to = *from;
                }
                Ok(target.len())
            }
            _ => Err(FileError::InvalidArgument),
        }
    }

    /// Copies an extended attribute's value; answers its length. An empty `into` asks for the length.
    pub fn extended(&self, name: &[u8], into: &mut [u8]) -> Result<usize, FileError> {
        copy_out(self.state.lock().attributes.get(name).ok_or(FileError::NoAttribute)?, into)
    }

    /// Sets an extended attribute.
    pub fn set_extended(&self, name: &[u8], value: &[u8], how: SetAttribute) -> Result<(), FileError> {
        if name.is_empty() || name.len() > NAME_LIMIT || value.len() > ATTRIBUTE_LIMIT {
            return Err(FileError::TooLarge);
        }
        let now = self.system.now();
        let mut state = self.state.lock();
        let there = state.attributes.contains_key(name);
        if there && how == SetAttribute::Create {
            return Err(FileError::AlreadyExists);
        }
        if !there && how == SetAttribute::Replace {
            return Err(FileError::NoAttribute);
        }
        let held: usize = state.attributes.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum();
        if held.saturating_add(value.len()) > 2 * ATTRIBUTE_LIMIT {
            return Err(FileError::NoSpace);
        }
        state.attributes.insert(name.into(), value.into());
        state.changed = now;
        Ok(())
    }

    /// Takes an extended attribute away.
    pub fn remove_extended(&self, name: &[u8]) -> Result<(), FileError> {
        let mut state = self.state.lock();
        state.attributes.remove(name).ok_or(FileError::NoAttribute)?;
        state.changed = self.system.now();
        Ok(())
    }

    /// Copies the names of all extended attributes, each with a NUL behind it; answers their length.
    pub fn extended_names(&self, into: &mut [u8]) -> Result<usize, FileError> {
        let state = self.state.lock();
        let names: alloc::vec::Vec<u8> =
            state.attributes.keys().flat_map(|name| name.iter().copied().chain([0])).collect();
        copy_out(&names, into)
    }

    /// Sizes of the file system that it is in.
    pub fn statistics(&self) -> FileSystemStatistics {
        self.system.statistics()
    }
}

fn copy_out(value: &[u8], into: &mut [u8]) -> Result<usize, FileError> {
    if !into.is_empty() {
        into.get_mut(..value.len()).ok_or(FileError::BufferTooSmall)?.copy_from_slice(value);
    }
    Ok(value.len())
}

/// Whether `name` can be a directory's entry.
fn check_name(name: &[u8]) -> Result<(), FileError> {
    if name.len() > NAME_LIMIT {
        return Err(FileError::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(FileError::InvalidArgument);
    }
    Ok(())
}
