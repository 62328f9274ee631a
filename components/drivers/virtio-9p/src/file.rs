//! A file or directory of the server, as clients hold it.

use alloc::sync::Arc;
use core::any::Any;

use tessera_interfaces::{
    Appended, AttributeChange, Attributes, Cap, Changes, Entries, FileError, FileSystemStatistics, Memory, Node,
    NodeKind, Owner, Rename, SetAttribute, Time, Unlink,
};
use tessera_runtime::sync::Mutex;

use crate::message::{Answer, Request, kind};
use crate::session::{Fid, LONGEST_NAME, check_name};

/// The flags of open(2).
const READ_ONLY: u32 = 0;
const WRITE_ONLY: u32 = 1;
const READ_WRITE: u32 = 2;
const EXCLUSIVE: u32 = 0o200;
const CREATE: u32 = 0o100;
const NO_FOLLOW: u32 = 0o400_000;
/// `AT_REMOVEDIR` of unlinkat(2).
const REMOVE_DIRECTORY: u32 = 0x200;
/// All that can be asked for of attributes (`P9_STATS_BASIC`), and bits of what is changed (`P9_ATTR_...`).
const BASIC: u64 = 0x7ff;
const SET_MODE: u32 = 1;
const SET_USER: u32 = 2;
const SET_GROUP: u32 = 4;
const SET_SIZE: u32 = 8;
const SET_ACCESSED: u32 = 0x10 | 0x80;
const SET_MODIFIED: u32 = 0x20 | 0x100;
/// Bytes in a request or an answer beside the data that is read or written.
const AROUND: usize = 4 + 8 + 4;
/// Messages in a row that may tell of nothing but `.` and `..`.
const TRIES: usize = 4;
/// Bytes of the largest list of attributes' names, or attribute.
const LONGEST_ATTRIBUTE: u64 = 64 << 10;

/// A capability to something that the server has.
pub struct File {
    /// Never opened, so that it can be walked from.
    fid: Arc<Fid>,
    kind: NodeKind,
    is_read_only: bool,
    opened: Mutex<Opened>,
}

/// Fids that were opened, when they were first needed.
#[derive(Default)]
struct Opened {
    to_read: Option<Arc<Fid>>,
    to_write: Option<Arc<Fid>>,
}

impl File {
    /// The root of a session.
    ///
    /// # Errors
    /// The server's.
    pub fn root(fid: Fid, is_read_only: bool) -> Result<File, FileError> {
        File::of(fid, is_read_only)
    }

    fn of(fid: Fid, is_read_only: bool) -> Result<File, FileError> {
        let fid = Arc::new(fid);
        let kind = attributes(&fid)?.kind;
        Ok(File { fid, kind, is_read_only, opened: Mutex::new(Opened::default()) })
    }

    fn ask<R>(&self, request: Request, read: impl FnOnce(Answer<'_>) -> Result<R, FileError>) -> Result<R, FileError> {
        self.fid.session().ask(request, read)
    }

    /// Asks for something that has no answer but that it was done.
    fn order(&self, request: Request) -> Result<(), FileError> {
        self.ask(request, |_| Ok(()))
    }

    fn change(&self) -> Result<(), FileError> {
        if self.is_read_only { Err(FileError::ReadOnly) } else { Ok(()) }
    }

    fn find(&self, name: &[u8]) -> Result<Cap<dyn Node>, FileError> {
        let fid = self.fid.session().walk(&self.fid, Some(name))?;
        Ok(Cap::local(Arc::new(File::of(fid, self.is_read_only)?) as Arc<dyn Node>))
    }

    /// The file behind a capability that this component gave out, of the same session.
    fn other<'a>(&self, of: &'a Cap<dyn Node>) -> Result<&'a File, FileError> {
        let object: &dyn Any = &**of;
        let file = object.downcast_ref::<File>().ok_or(FileError::CrossDevice)?;
        if Arc::ptr_eq(file.fid.session(), self.fid.session()) { Ok(file) } else { Err(FileError::CrossDevice) }
    }

    fn open(&self, flags: u32) -> Result<Arc<Fid>, FileError> {
        let fid = self.fid.session().walk(&self.fid, None)?;
        self.order(Request::new(kind::OPEN).u32(fid.number()).u32(flags | NO_FOLLOW))?;
        Ok(Arc::new(fid))
    }

    fn to_read(&self) -> Result<Arc<Fid>, FileError> {
        match self.kind {
            NodeKind::File | NodeKind::Directory => {}
            // Opening a pipe or a device of the server's machine is not what anybody wants.
            _ => return Err(FileError::NotSupported),
        }
        let mut opened = self.opened.lock();
        if let Some(fid) = &opened.to_read {
            return Ok(fid.clone());
        }
        let fid = self.open(READ_ONLY)?;
        opened.to_read = Some(fid.clone());
        Ok(fid)
    }

    fn to_write(&self) -> Result<Arc<Fid>, FileError> {
        self.change()?;
        match self.kind {
            NodeKind::File => {}
            NodeKind::Directory => return Err(FileError::IsDirectory),
            _ => return Err(FileError::NotSupported),
        }
        let mut opened = self.opened.lock();
        if let Some(fid) = &opened.to_write {
            return Ok(fid.clone());
        }
        let fid = self.open(READ_WRITE).or_else(|_| self.open(WRITE_ONLY))?;
        opened.to_write = Some(fid.clone());
        Ok(fid)
    }

    fn read_from(&self, fid: &Fid, at: u64, into: &mut [u8]) -> Result<u64, FileError> {
        let most = self.fid.session().room(4).min(into.len());
        let count = u32::try_from(most).map_err(|_| FileError::InvalidArgument)?;
        let request = Request::new(kind::READ).u32(fid.number()).u64(at).u32(count);
        self.ask(request, |mut answer| {
            let count = answer.u32()? as usize;
            let bytes = answer.bytes(count)?;
            let place = into.get_mut(..count).filter(|_| count <= most).ok_or(FileError::Device)?;
            place.copy_from_slice(bytes);
            Ok(count as u64)
        })
    }

    /// Reads all of an extended attribute, or the list of their names.
    fn read_attribute(&self, name: &[u8], into: &mut [u8]) -> Result<u64, FileError> {
        let (fid, size) = self.fid.session().walk_attribute(&self.fid, name)?;
        if size > LONGEST_ATTRIBUTE {
            return Err(FileError::Device);
        }
        if into.is_empty() {
            return Ok(size);
        }
        let place = into.get_mut(..size as usize).ok_or(FileError::BufferTooSmall)?;
        let mut done = 0_usize;
        while done < place.len() {
            let rest = place.get_mut(done..).unwrap_or_default();
            let read = self.read_from(&fid, done as u64, rest)?;
            if read == 0 {
                return Err(FileError::Device);
            }
            done = done.saturating_add(read as usize);
        }
        Ok(size)
    }

    /// The names of this directory from a position on: as much as fits into one message.
    fn read_directory(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<bool, FileError> {
        let fid = self.to_read()?;
        let count = self.fid.session().room(4);
        let request = Request::new(kind::READ_DIRECTORY).u32(fid.number()).u64(from).u32(count as u32);
        self.ask(request, |mut answer| {
            let count = answer.u32()? as usize;
            let mut rest = Answer::of(answer.bytes(count)?);
            let mut some = false;
            while !rest.rest().is_empty() {
                let (_, number) = identity(&mut rest)?;
                let (next, kind, name) = (rest.u64()?, rest.u8()?, rest.text()?);
                some = true;
                if name.len() > LONGEST_NAME {
                    return Err(FileError::Device);
                }
                if !each(Entry { number, next, kind, name }) {
                    break;
                }
            }
            Ok(some)
        })
    }
}

/// One name of a directory.
struct Entry<'a> {
    number: u64,
    next: u64,
    kind: u8,
    name: &'a [u8],
}

/// A `qid[13]`: what kind of file it is, and its number.
fn identity(answer: &mut Answer<'_>) -> Result<(u8, u64), FileError> {
    let (kind, _version) = (answer.u8()?, answer.u32()?);
    Ok((kind, answer.u64()?))
}

fn kind_of(number: u32) -> Result<NodeKind, FileError> {
    Ok(match number {
        1 => NodeKind::Pipe,
        2 => NodeKind::CharacterDevice,
        4 => NodeKind::Directory,
        6 => NodeKind::BlockDevice,
        8 => NodeKind::File,
        10 => NodeKind::SymbolicLink,
        12 => NodeKind::Socket,
        _ => return Err(FileError::Device),
    })
}

fn attributes(fid: &Fid) -> Result<Attributes, FileError> {
    let request = Request::new(kind::GET_ATTRIBUTES).u32(fid.number()).u64(BASIC);
    fid.session().ask(request, |mut answer| {
        let _valid = answer.u64()?;
        let (_, number) = identity(&mut answer)?;
        let (mode, user, group) = (answer.u32()?, answer.u32()?, answer.u32()?);
        let (links, device, size) = (answer.u64()?, answer.u64()?, answer.u64()?);
        let (_block_size, blocks) = (answer.u64()?, answer.u64()?);
        let mut time = || -> Result<Time, FileError> {
            let (seconds, nanoseconds) = (answer.u64()?, answer.u64()?);
            Ok(Time { seconds: seconds as i64, nanoseconds: (nanoseconds % 1_000_000_000) as u32 })
        };
        let (accessed, modified, changed) = (time()?, time()?, time()?);
        Ok(Attributes {
            kind: kind_of(mode >> 12)?,
            mode: mode & 0o7777,
            owner: Owner { user, group },
            size,
            links: u32::try_from(links).unwrap_or(u32::MAX),
            number,
            device,
            blocks,
            accessed,
            modified,
            changed,
        })
    })
}

impl Node for File {
    fn attributes(&self) -> Result<Attributes, FileError> {
        attributes(&self.fid)
    }

    fn set_attributes(&self, change: AttributeChange) -> Result<(), FileError> {
        self.change()?;
        let bits = [
            (Changes::MODE, SET_MODE),
            (Changes::USER, SET_USER),
            (Changes::GROUP, SET_GROUP),
            (Changes::SIZE, SET_SIZE),
            (Changes::ACCESSED, SET_ACCESSED),
            (Changes::MODIFIED, SET_MODIFIED),
        ];
        let which = bits.iter().filter(|(ours, _)| change.which & ours != 0).fold(0, |all, (_, its)| all | its);
        let mut request = Request::new(kind::SET_ATTRIBUTES)
            .u32(self.fid.number())
            .u32(which)
            .u32(change.mode)
            .u32(change.owner.user)
            .u32(change.owner.group)
            .u64(change.size);
        for time in [change.accessed, change.modified] {
            request = request.u64(time.seconds as u64).u64(time.nanoseconds.into());
        }
        self.order(request)
    }

    fn lookup(&self, name: &[u8]) -> Result<Cap<dyn Node>, FileError> {
        check_name(name)?;
        self.find(name)
    }

    fn create(
        &self,
        name: &[u8],
        kind: NodeKind,
        mode: u32,
        owner: Owner,
        device: u64,
    ) -> Result<Cap<dyn Node>, FileError> {
        check_name(name)?;
        self.change()?;
        match kind {
            NodeKind::File => {
                // The fid becomes that of the new file, opened.
                let fid = self.fid.session().walk(&self.fid, None)?;
                let request = Request::new(kind::CREATE).u32(fid.number()).text(name);
                self.order(request.u32(CREATE | EXCLUSIVE | READ_WRITE).u32(mode).u32(owner.group))?;
            }
            NodeKind::Directory => {
                let request = Request::new(kind::MAKE_DIRECTORY).u32(self.fid.number()).text(name);
                self.order(request.u32(mode).u32(owner.group))?;
            }
            NodeKind::SymbolicLink => return Err(FileError::InvalidArgument),
            other => {
                let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xffff_ff00);
                let request = Request::new(kind::MAKE_NODE).u32(self.fid.number()).text(name);
                let request = request.u32(mode | (other as u32) << 12).u32(major as u32).u32(minor as u32);
                self.order(request.u32(owner.group))?;
            }
        }
        self.find(name)
    }

    fn create_unnamed(&self, _mode: u32, _owner: Owner) -> Result<Cap<dyn Node>, FileError> {
        Err(FileError::NotSupported)
    }

    fn symlink(&self, name: &[u8], target: &[u8], owner: Owner) -> Result<Cap<dyn Node>, FileError> {
        check_name(name)?;
        self.change()?;
        let request = Request::new(kind::SYMLINK).u32(self.fid.number()).text(name).text(target);
        self.order(request.u32(owner.group))?;
        self.find(name)
    }

    fn link(&self, name: &[u8], to: Cap<dyn Node>) -> Result<(), FileError> {
        check_name(name)?;
        self.change()?;
        let to = self.other(&to)?.fid.number();
        self.order(Request::new(kind::LINK).u32(self.fid.number()).u32(to).text(name))
    }

    fn unlink(&self, name: &[u8], kind: Unlink) -> Result<(), FileError> {
        check_name(name)?;
        self.change()?;
        let flags = if kind == Unlink::Directory { REMOVE_DIRECTORY } else { 0 };
        self.order(Request::new(kind::UNLINK).u32(self.fid.number()).text(name).u32(flags))
    }

    fn rename(&self, name: &[u8], into: Cap<dyn Node>, new_name: &[u8], how: Rename) -> Result<(), FileError> {
        check_name(name)?;
        check_name(new_name)?;
        self.change()?;
        let into = self.other(&into)?;
        match how {
            Rename::Replace => {}
            // The protocol can only replace. Somebody on the server's machine may come between the question and the deed.
            Rename::NoReplace => match into.fid.session().walk(&into.fid, Some(new_name)) {
                Ok(_) => return Err(FileError::AlreadyExists),
                Err(FileError::NotFound) => {}
                Err(error) => return Err(error),
            },
            Rename::Exchange => return Err(FileError::InvalidArgument),
        }
        let request = Request::new(kind::RENAME).u32(self.fid.number()).text(name);
        self.order(request.u32(into.fid.number()).text(new_name))
    }

    fn entries(&self, from: u64, into: &mut [u8]) -> Result<Entries, FileError> {
        if self.kind != NodeKind::Directory {
            return Err(FileError::NotDirectory);
        }
        let (mut used, mut next, mut is_too_small) = (0_usize, from, false);
        for _ in 0..TRIES {
            let at = next;
            let mut put = |entry: Entry<'_>| {
                if entry.name == b"." || entry.name == b".." {
                    next = entry.next;
                    return true;
                }
                let end = used.saturating_add(18).saturating_add(entry.name.len());
                let Some(place) = into.get_mut(used..end) else {
                    is_too_small = used == 0;
                    return false;
                };
                let head = [entry.number.to_le_bytes(), entry.next.to_le_bytes()];
                let tail = [entry.kind, entry.name.len() as u8];
                let bytes = head.as_flattened().iter().chain(&tail).chain(entry.name);
                for (to, from) in place.iter_mut().zip(bytes) {
                    *to = *from;
                }
                (used, next) = (end, entry.next);
                true
            };
            let some = self.read_directory(at, &mut put)?;
            if is_too_small {
                return Err(FileError::BufferTooSmall);
            }
            // A message with nothing but `.` and `..` is not the end.
            if !some || used > 0 {
                return Ok(Entries { bytes: u32::try_from(used).unwrap_or(u32::MAX), next });
            }
        }
        Err(FileError::Device)
    }

    fn target(&self, into: &mut [u8]) -> Result<u64, FileError> {
        if self.kind != NodeKind::SymbolicLink {
            return Err(FileError::InvalidArgument);
        }
        self.ask(Request::new(kind::READ_LINK).u32(self.fid.number()), |mut answer| {
            let target = answer.text()?;
            into.get_mut(..target.len()).ok_or(FileError::BufferTooSmall)?.copy_from_slice(target);
            Ok(target.len() as u64)
        })
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<u64, FileError> {
        if self.kind == NodeKind::Directory {
            return Err(FileError::IsDirectory);
        }
        // Who can write it may not be able to read it, and the other way round.
        let fid = self.to_read()?;
        let mut done = 0_usize;
        while done < into.len() {
            let rest = into.get_mut(done..).unwrap_or_default();
            let read = self.read_from(&fid, at.saturating_add(done as u64), rest)?;
            if read == 0 {
                break;
            }
            done = done.saturating_add(read as usize);
        }
        Ok(done as u64)
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<u64, FileError> {
        let fid = self.to_write()?;
        let room = self.fid.session().room(AROUND);
        let part = from.get(..room).unwrap_or(from);
        let request = Request::new(kind::WRITE).u32(fid.number()).u64(at).u32(part.len() as u32).bytes(part);
        self.ask(request, |mut answer| {
            let count = answer.u32()? as usize;
            if count <= part.len() { Ok(count as u64) } else { Err(FileError::Device) }
        })
    }

    fn append(&self, from: &[u8]) -> Result<Appended, FileError> {
        // The protocol has no such thing: what somebody else appends between the two is overwritten.
        let at = self.attributes()?.size;
        let bytes = self.write(at, from)?;
        Ok(Appended { at, bytes })
    }

    fn memory(&self) -> Result<Memory, FileError> {
        Err(FileError::NotSupported)
    }

    fn synchronise(&self) -> Result<(), FileError> {
        let fid = {
            let opened = self.opened.lock();
            opened.to_write.clone()
        };
        match fid {
            Some(fid) => self.order(Request::new(kind::SYNCHRONISE).u32(fid.number()).u32(0)),
            None => Ok(()),
        }
    }

    fn attribute(&self, name: &[u8], into: &mut [u8]) -> Result<u64, FileError> {
        self.read_attribute(name, into)
    }

    fn set_attribute(&self, name: &[u8], value: &[u8], how: SetAttribute) -> Result<(), FileError> {
        self.change()?;
        let fid = self.fid.session().walk(&self.fid, None)?;
        let request = Request::new(kind::CREATE_ATTRIBUTE).u32(fid.number()).text(name);
        self.order(request.u64(value.len() as u64).u32(how as u32))?;
        let mut done = 0_usize;
        while done < value.len() {
            let rest = value.get(done..).unwrap_or_default();
            let part = rest.get(..self.fid.session().room(AROUND)).unwrap_or(rest);
            let request = Request::new(kind::WRITE).u32(fid.number()).u64(done as u64).u32(part.len() as u32);
            let written = self.ask(request.bytes(part), |mut answer| answer.u32())? as usize;
            if written == 0 || written > part.len() {
                return Err(FileError::Device);
            }
            done = done.saturating_add(written);
        }
        // The server sets it when the fid goes, and says then whether it could.
        fid.close()
    }

    fn remove_attribute(&self, name: &[u8]) -> Result<(), FileError> {
        // Set to nothing is removed (`p9_client_xattrcreate` of Linux).
        self.read_attribute(name, &mut [])?;
        self.set_attribute(name, &[], SetAttribute::Replace)
    }

    fn attribute_names(&self, into: &mut [u8]) -> Result<u64, FileError> {
        self.read_attribute(b"", into)
    }

    fn statistics(&self) -> Result<FileSystemStatistics, FileError> {
        self.ask(Request::new(kind::STATFS).u32(self.fid.number()), |mut answer| {
            let (magic, block_size) = (answer.u32()?, answer.u32()?);
            let (blocks, free_blocks, _available) = (answer.u64()?, answer.u64()?, answer.u64()?);
            let (nodes, free_nodes, _id) = (answer.u64()?, answer.u64()?, answer.u64()?);
            let longest_name = answer.u32()?;
            Ok(FileSystemStatistics {
                magic: magic.into(),
                block_size,
                blocks,
                free_blocks,
                nodes,
                free_nodes,
                longest_name,
                read_only: self.is_read_only,
            })
        })
    }
}

/// What clients hold where there is no device.
pub struct Absent;

macro_rules! absent {
    ($($name:ident($($argument:ty),*) -> $answer:ty;)*) => {
        impl Node for Absent {
            $(fn $name(&self, $(_: $argument),*) -> Result<$answer, FileError> {
                Err(FileError::NotSupported)
            })*
        }
    };
}

absent! {
    attributes() -> Attributes;
    set_attributes(AttributeChange) -> ();
    lookup(&[u8]) -> Cap<dyn Node>;
    create(&[u8], NodeKind, u32, Owner, u64) -> Cap<dyn Node>;
    create_unnamed(u32, Owner) -> Cap<dyn Node>;
    symlink(&[u8], &[u8], Owner) -> Cap<dyn Node>;
    link(&[u8], Cap<dyn Node>) -> ();
    unlink(&[u8], Unlink) -> ();
    rename(&[u8], Cap<dyn Node>, &[u8], Rename) -> ();
    entries(u64, &mut [u8]) -> Entries;
    target(&mut [u8]) -> u64;
    read(u64, &mut [u8]) -> u64;
    write(u64, &[u8]) -> u64;
    append(&[u8]) -> Appended;
    memory() -> Memory;
    synchronise() -> ();
    attribute(&[u8], &mut [u8]) -> u64;
    set_attribute(&[u8], &[u8], SetAttribute) -> ();
    remove_attribute(&[u8]) -> ();
    attribute_names(&mut [u8]) -> u64;
    statistics() -> FileSystemStatistics;
}
