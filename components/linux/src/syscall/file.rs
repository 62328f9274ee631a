//! Opening files, and what descriptors can be asked: `open`, `dup`, `fcntl`, `ioctl`, sizes.

use alloc::sync::Arc;

use super::{interface, lock};
use crate::errno::{Errno, Result};
use crate::file::inotify::{self, event};
use crate::file::pipe::End;
use crate::file::regular::InodeFile;
use crate::file::told::{Owner, Told};
use crate::file::{Description, OpenFile, open};
use crate::fs::path::{Walk, Within, access, check, permitted, walk};
use crate::fs::{self, Change, Creation, Inode, Kind, Place, devices, seal};
use crate::task::process::limit;
use crate::task::{Context, Process};

/// How many descriptors the process may have.
pub fn most_files(process: &Process) -> u64 {
    process.limit(limit::FILES).0
}

/// Who owns what this process makes in a directory: the directory's group where that is set-group-id.
pub fn new_owner(context: &Context, directory: &Arc<dyn Inode>) -> Result<fs::Owner> {
    let credentials = context.credentials();
    let attributes = directory.attributes()?;
    let gid = if attributes.permissions & 0o2000 != 0 { attributes.gid } else { credentials.file_group };
    Ok(fs::Owner { uid: credentials.file_user, gid })
}

/// Opens what is at a path.
pub fn open_path(
    context: &mut Context,
    directory: i32,
    path: &[u8],
    flags: u32,
    mode: u32,
    how: Walk,
) -> Result<Arc<Description>> {
    let start = context.start(directory, path)?;
    if flags & open::UNNAMED == open::UNNAMED {
        return open_unnamed(context, start, path, flags, mode);
    }
    let exclusive = flags & (open::CREATE | open::EXCLUSIVE) == open::CREATE | open::EXCLUSIVE;
    let how = Walk { no_follow: flags & open::NO_FOLLOW != 0 || exclusive, ..how };
    let walked = walk(context, start, path, how)?;
    if flags & open::CREATE != 0 && walked.wants_directory && flags & open::PATH == 0 {
        return Err(Errno::EISDIR);
    }
    let credentials = context.credentials();
    let (place, created) = match walked.place {
        Some(_) if exclusive => return Err(Errno::EEXIST),
        Some(place) => (place, false),
        None if flags & open::CREATE == 0 || flags & open::PATH != 0 => return Err(Errno::ENOENT),
        None => {
            check(&walked.parent.inode, &credentials, access::WRITE | access::EXECUTE)?;
            let creation = Creation {
                kind: Kind::Regular,
                permissions: mode & 0o7777 & !context.fs.mask(),
                owner: new_owner(context, &walked.parent.inode)?,
                names_device: 0,
                time: context.system.wall_now(),
            };
            let inode = walked.parent.inode.create(&walked.name, &creation)?;
            inotify::tell_name(&walked.parent, &walked.name, Kind::Regular, event::CREATE);
            (Arc::new(Place { inode, parent: Some(walked.parent), name: walked.name.to_vec() }), true)
        }
    };
    let attributes = place.inode.attributes()?;
    if flags & open::DIRECTORY != 0 && attributes.kind != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    if flags & open::PATH != 0 {
        let kept = open::PATH | open::DIRECTORY | open::NO_FOLLOW;
        let file: Arc<dyn OpenFile> = Arc::new(InodeFile(place.inode.clone()));
        return Ok(Description::new(file, Some(place), flags & kept));
    }
    if attributes.kind == Kind::Link {
        return Err(Errno::ELOOP);
    }
    let wanted = match flags & open::ACCESS {
        open::READ_ONLY => access::READ,
        open::WRITE_ONLY => access::WRITE,
        _ => access::READ | access::WRITE,
    };
    let writes = wanted & access::WRITE != 0 || flags & open::TRUNCATE != 0;
    if attributes.kind == Kind::Directory && (writes || flags & open::CREATE != 0) {
        return Err(Errno::EISDIR);
    }
    if !created {
        let truncates = if flags & open::TRUNCATE != 0 { access::WRITE } else { 0 };
        permitted(&attributes, &credentials, wanted | truncates)?;
    }
    if writes && place.inode.is_read_only() {
        return Err(Errno::EROFS);
    }
    if flags & open::NO_ACCESS_TIME != 0 && !credentials.owns(attributes.uid) {
        return Err(Errno::EPERM);
    }
    if attributes.kind == Kind::Socket {
        return Err(Errno::ENXIO);
    }
    if flags & open::TRUNCATE != 0 && attributes.kind == Kind::Regular && !created {
        let now = context.system.wall_now();
        let change = Change { size: Some(0), modified: Some(now), changed: Some(now), ..Change::default() };
        place.inode.change(&change)?;
        inotify::tell(&place, event::MODIFY);
    }
    let file: Arc<dyn OpenFile> = match place.inode.clone().open(context, flags)? {
        Some(file) => file,
        None => Arc::new(InodeFile(place.inode.clone())),
    };
    let description = Description::new(file, Some(place.clone()), flags);
    inotify::tell(&place, event::OPEN);
    devices::await_other_end(context, &description)?;
    Ok(description)
}

fn open_unnamed(
    context: &mut Context,
    start: Arc<Place>,
    path: &[u8],
    flags: u32,
    mode: u32,
) -> Result<Arc<Description>> {
    if flags & open::ACCESS == open::READ_ONLY {
        return Err(Errno::EINVAL);
    }
    let place = walk(context, start, path, Walk::default())?.found()?;
    let attributes = place.inode.attributes()?;
    if attributes.kind != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    permitted(&attributes, &context.credentials(), access::WRITE | access::EXECUTE)?;
    let creation = Creation {
        kind: Kind::Regular,
        permissions: mode & 0o7777 & !context.fs.mask(),
        owner: new_owner(context, &place.inode)?,
        names_device: 0,
        time: context.system.wall_now(),
    };
    let inode = place.inode.create_unnamed(&creation)?;
    let name = alloc::format!("#{} (deleted)", inode.attributes()?.number).into_bytes();
    let file = Arc::new(InodeFile(inode.clone()));
    Ok(Description::new(file, Some(Arc::new(Place { inode, parent: Some(place), name })), flags))
}

/// Tells those who watch the file of a description.
pub fn tell_of(description: &Description, event: u32) {
    if let Some(place) = &description.place {
        inotify::tell(place, event);
    }
}

/// Gives the process a descriptor for a description.
pub fn install(context: &Context, description: Arc<Description>, close_on_exec: bool) -> Result<u64> {
    Ok(context.files.add(description, 0, most_files(&context.process), close_on_exec)? as u64)
}

pub fn openat(context: &mut Context, directory: i32, path: u64, flags: u32, mode: u32) -> Result<u64> {
    let path = context.read_path(path)?;
    let description = open_path(context, directory, &path, flags, mode, Walk::default())?;
    install(context, description, flags & open::CLOSE_ON_EXEC != 0)
}

pub fn open(context: &mut Context, path: u64, flags: u32, mode: u32) -> Result<u64> {
    openat(context, -100, path, flags, mode)
}

pub fn creat(context: &mut Context, path: u64, mode: u32) -> Result<u64> {
    openat(context, -100, path, open::CREATE | open::WRITE_ONLY | open::TRUNCATE, mode)
}

pub fn openat2(context: &mut Context, directory: i32, path: u64, how: u64, size: u64) -> Result<u64> {
    const KNOWN: u64 = 24;
    if size < KNOWN {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let [flags, mode, resolve] = context.read_words(how)?;
    // What a later version added may be left out as long as it asks for nothing.
    let mut later = alloc::vec![0; (size - KNOWN) as usize];
    context.read_bytes(how.wrapping_add(KNOWN), &mut later)?;
    if later.iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    const NO_CROSSING: u64 = 1;
    const NO_MAGIC: u64 = 2;
    const NO_LINKS: u64 = 4;
    const BENEATH: u64 = 8;
    const IN_ROOT: u64 = 16;
    // All that is known of names is in memory: what may not wait for a disk never does.
    const CACHED: u64 = 32;
    let asked = |bit: u64| resolve & bit != 0;
    let known = NO_CROSSING | NO_MAGIC | NO_LINKS | BENEATH | IN_ROOT | CACHED;
    let makes = flags & u64::from(open::CREATE) != 0 || flags as u32 & open::UNNAMED == open::UNNAMED;
    let (path_only, kept) = (flags & u64::from(open::PATH) != 0, open::PATH | open::DIRECTORY | open::NO_FOLLOW);
    if resolve & !known != 0
        || asked(BENEATH) && asked(IN_ROOT)
        || flags & !u64::from(open::KNOWN) != 0
        || path_only && flags & !u64::from(kept | open::CLOSE_ON_EXEC) != 0
        || mode & !0o7777 != 0
        || mode != 0 && !makes
    {
        return Err(Errno::EINVAL);
    }
    if asked(CACHED) && (flags as u32 & (open::CREATE | open::TRUNCATE) != 0 || makes) {
        return Err(Errno::EAGAIN);
    }
    let path = context.read_path(path)?;
    let walk = Walk {
        no_follow: false,
        no_links: asked(NO_LINKS),
        no_jumps: asked(NO_MAGIC | NO_LINKS | BENEATH | IN_ROOT),
        no_crossing: asked(NO_CROSSING),
        within: match (asked(BENEATH), asked(IN_ROOT)) {
            (true, _) => Within::Start,
            (_, true) => Within::Root,
            _ => Within::All,
        },
    };
    let description = open_path(context, directory, &path, flags as u32, mode as u32, walk)?;
    install(context, description, flags as u32 & open::CLOSE_ON_EXEC != 0)
}

pub fn dup(context: &mut Context, descriptor: i32) -> Result<u64> {
    let description = context.description(descriptor)?;
    install(context, description, false)
}

pub fn dup2(context: &mut Context, old: i32, new: i32) -> Result<u64> {
    if old == new {
        context.description(old)?;
        return Ok(new as u64);
    }
    duplicate_to(context, old, new, false)
}

pub fn dup3(context: &mut Context, old: i32, new: i32, flags: u32) -> Result<u64> {
    if old == new || flags & !open::CLOSE_ON_EXEC != 0 {
        return Err(Errno::EINVAL);
    }
    duplicate_to(context, old, new, flags != 0)
}

fn duplicate_to(context: &mut Context, old: i32, new: i32, close_on_exec: bool) -> Result<u64> {
    let description = context.description(old)?;
    let before = context.files.set(new, description, most_files(&context.process), close_on_exec)?;
    if let Some(before) = before {
        before.file.closed_by(context.process.number);
    }
    Ok(new as u64)
}

fn owner(description: &Description) -> Owner {
    description.told.lock().as_ref().map_or(Owner::Nobody, |told| told.owner())
}

fn set_owner(context: &Context, description: &Arc<Description>, owner: Owner) -> Result<u64> {
    owner.check(&context.system)?;
    Told::of(description, &context.system).set_owner(owner, context.credentials());
    Ok(0)
}

/// `F_SETFL`, `FIONBIO`, `FIOASYNC`.
fn set_flags(context: &Context, description: &Arc<Description>, descriptor: i32, flags: u32) {
    description.set_flags(flags);
    if description.told.lock().is_some() || flags & open::ASYNCHRONOUS != 0 {
        Told::of(description, &context.system).follow(description, descriptor);
    }
}

pub fn fcntl(context: &mut Context, descriptor: i32, command: u32, argument: u64) -> Result<u64> {
    let description = context.description(descriptor)?;
    match command {
        // F_DUPFD, F_DUPFD_CLOEXEC
        0 | 1030 => {
            let least = i32::try_from(argument).map_err(|_| Errno::EINVAL)?;
            let most = most_files(&context.process);
            if least as u64 >= most {
                return Err(Errno::EINVAL);
            }
            Ok(context.files.add(description, least, most, command == 1030)? as u64)
        }
        // F_GETFD, F_SETFD
        1 => Ok(context.files.close_on_exec(descriptor)?.into()),
        2 => context.files.set_close_on_exec(descriptor, argument & 1 != 0).map(|()| 0),
        // F_GETFL, F_SETFL
        3 => Ok((description.flags() | open::LARGE_FILE).into()),
        _ if description.is_path_only() => Err(Errno::EBADF),
        4 => {
            let added = argument as u32 & !description.flags();
            let who = context.credentials();
            if added & open::NO_ACCESS_TIME != 0 && !who.owns(description.attributes()?.uid) {
                return Err(Errno::EPERM);
            }
            set_flags(context, &description, descriptor, argument as u32);
            Ok(0)
        }
        // F_GETLK, F_SETLK, F_SETLKW, and those of open file descriptions
        5 | 36 => lock::record(context, &description, lock::Command::Get, command == 36, argument),
        6 | 37 => lock::record(context, &description, lock::Command::Set, command == 37, argument),
        7 | 38 => lock::record(context, &description, lock::Command::SetAndWait, command == 38, argument),
        // F_SETOWN, F_GETOWN, F_SETOWN_EX, F_GETOWN_EX
        8 => {
            let owner = match argument as i32 {
                0 => Owner::Nobody,
                i32::MIN => return Err(Errno::EINVAL),
                group if group < 0 => Owner::Group(-group),
                process => Owner::Process(process),
            };
            set_owner(context, &description, owner)
        }
        // A group's number is negative, and not an error.
        9 => Ok(owner(&description).number() as u64),
        15 => {
            let word = context.read_u64(argument)?;
            let owner = match (word as u32, (word >> 32) as i32) {
                (0..=2, 0) => Owner::Nobody,
                (0, number) => Owner::Thread(number),
                (1, number) => Owner::Process(number),
                (2, number) => Owner::Group(number),
                _ => return Err(Errno::EINVAL),
            };
            set_owner(context, &description, owner)
        }
        16 => {
            let (kind, number) = match owner(&description) {
                Owner::Nobody => (1, 0),
                Owner::Thread(number) => (0, number),
                Owner::Process(number) => (1, number),
                Owner::Group(number) => (2, number),
            };
            context.write_u64(argument, u64::from(number as u32) << 32 | kind).map(|()| 0)
        }
        // F_SETSIG, F_GETSIG
        10 => {
            let signal = i32::try_from(argument).map_err(|_| Errno::EINVAL)?;
            Told::of(&description, &context.system).set_signal(signal).map(|()| 0)
        }
        11 => Ok(description.told.lock().as_ref().map_or(0, |told| told.signal()) as u64),
        // F_GETLEASE: nobody has one.
        1025 => Ok(2),
        // F_SETPIPE_SZ, F_GETPIPE_SZ
        1031 => {
            let end = description.concrete::<End>().ok_or(Errno::EBADF)?;
            end.set_capacity(argument as u32 as usize).map(|capacity| capacity as u64)
        }
        1032 => Ok(description.concrete::<End>().ok_or(Errno::EBADF)?.capacity() as u64),
        // F_NOTIFY (not there: inotify is the better one), but that nothing more is to be told can always be had.
        1026 if argument & !0x8000_0000 == 0 => Ok(0),
        // F_ADD_SEALS, F_GET_SEALS
        1033 | 1034 => {
            let inode = description.file.inode().ok_or(Errno::EINVAL)?;
            let seals = inode.seals().ok_or(Errno::EINVAL)?;
            if command == 1034 {
                return Ok(seals.into());
            }
            let added = u32::try_from(argument).ok().filter(|added| added & !seal::ALL == 0).ok_or(Errno::EINVAL)?;
            if !description.is_writable() {
                return Err(Errno::EPERM);
            }
            inode.seal(added).map(|()| 0)
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn ioctl(context: &mut Context, descriptor: i32, request: u32, argument: u64) -> Result<u64> {
    let description = context.description(descriptor)?;
    if description.is_path_only() {
        return Err(Errno::EBADF);
    }
    match request {
        // FIOCLEX, FIONCLEX
        0x5451 => context.files.set_close_on_exec(descriptor, true).map(|()| 0),
        0x5450 => context.files.set_close_on_exec(descriptor, false).map(|()| 0),
        // FIONBIO
        0x5421 => {
            let flag = if context.read_u32(argument)? != 0 { open::NON_BLOCKING } else { 0 };
            set_flags(context, &description, descriptor, description.flags() & !open::NON_BLOCKING | flag);
            Ok(0)
        }
        // FIOASYNC
        0x5452 => {
            let flag = if context.read_u32(argument)? != 0 { open::ASYNCHRONOUS } else { 0 };
            set_flags(context, &description, descriptor, description.flags() & !open::ASYNCHRONOUS | flag);
            Ok(0)
        }
        _ if interface::is_known(request)
            && let Some(socket) = description.file.clone().socket() =>
        {
            interface::control(context, &*socket, request, argument)
        }
        _ => description.file.clone().control(context, request, argument),
    }
}

fn change_size(context: &Context, inode: &Arc<dyn Inode>, size: i64) -> Result<u64> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    if size > context.process.limit(limit::FILE_SIZE).0 {
        crate::signal::send::to_task(&context.task, crate::signal::Info::kernel(crate::signal::SIGXFSZ));
        return Err(Errno::EFBIG);
    }
    let now = context.system.wall_now();
    inode.change(&Change { size: Some(size), modified: Some(now), changed: Some(now), ..Change::default() })?;
    Ok(0)
}

pub fn truncate(context: &mut Context, path: u64, size: i64) -> Result<u64> {
    let path = context.read_path(path)?;
    let place = walk(context, context.fs.directory(), &path, Walk::default())?.found()?;
    let attributes = place.inode.attributes()?;
    match attributes.kind {
        Kind::Directory => return Err(Errno::EISDIR),
        Kind::Regular => {}
        _ => return Err(Errno::EINVAL),
    }
    permitted(&attributes, &context.credentials(), access::WRITE)?;
    change_size(context, &place.inode, size)?;
    inotify::tell(&place, event::MODIFY);
    Ok(0)
}

pub fn ftruncate(context: &mut Context, descriptor: i32, size: i64) -> Result<u64> {
    let description = context.description(descriptor)?;
    if !description.is_writable() {
        return Err(Errno::EINVAL);
    }
    let inode = description.file.inode().ok_or(Errno::EINVAL)?;
    change_size(context, &inode, size)?;
    tell_of(&description, event::MODIFY);
    Ok(0)
}

/// `fallocate`: memory is always there when it is written; only the size matters.
pub fn fallocate(context: &mut Context, descriptor: i32, mode: u32, offset: i64, length: i64) -> Result<u64> {
    const KEEP_SIZE: u32 = 1;
    const PUNCH_HOLE: u32 = 2;
    let description = context.description(descriptor)?;
    if offset < 0 || length <= 0 {
        return Err(Errno::EINVAL);
    }
    if !description.is_writable() {
        return Err(Errno::EBADF);
    }
    if mode & !(KEEP_SIZE | PUNCH_HOLE) != 0 || mode == PUNCH_HOLE {
        return Err(Errno::EOPNOTSUPP);
    }
    let inode = description.file.inode().ok_or(Errno::ESPIPE)?;
    match inode.attributes()?.kind {
        Kind::Regular => {}
        Kind::Directory => return Err(Errno::EISDIR),
        Kind::Fifo => return Err(Errno::ESPIPE),
        _ => return Err(Errno::ENODEV),
    }
    let end = offset.checked_add(length).ok_or(Errno::EFBIG)?;
    if mode & PUNCH_HOLE != 0 {
        inode.punch(offset as u64, end as u64)?;
        tell_of(&description, event::MODIFY);
        return Ok(0);
    }
    if mode & KEEP_SIZE == 0 && end as u64 > inode.attributes()?.size {
        change_size(context, &inode, end)?;
    }
    tell_of(&description, event::MODIFY);
    Ok(0)
}

/// `fsync`, `fdatasync`.
pub fn fsync(context: &mut Context, descriptor: i32) -> Result<u64> {
    let description = context.description(descriptor)?;
    if description.is_path_only() {
        return Err(Errno::EBADF);
    }
    let inode = description.file.inode().ok_or(Errno::EINVAL)?;
    match inode.attributes()?.kind {
        Kind::Regular | Kind::Directory => inode.synchronise().map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

/// `syncfs`: any file of the file system names it.
pub fn syncfs(context: &mut Context, descriptor: i32) -> Result<u64> {
    let description = context.description(descriptor)?;
    if description.is_path_only() {
        return Err(Errno::EBADF);
    }
    description.inode().map_or(Ok(0), |inode| inode.synchronise().map(|()| 0))
}

pub fn sync(_context: &mut Context) -> Result<u64> {
    Ok(0)
}

/// `posix_fadvise`, `readahead`: advice that changes nothing here, once the descriptor is one that can be advised.
pub fn fadvise(context: &mut Context, descriptor: i32, _offset: u64, length: i64, advice: u32) -> Result<u64> {
    let description = context.description(descriptor)?;
    if !description.file.is_seekable() {
        return Err(Errno::ESPIPE);
    }
    if length < 0 || advice > 5 {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

/// `readahead`: what can be read is in memory.
pub fn readahead(context: &mut Context, descriptor: i32, _offset: u64, _length: u64) -> Result<u64> {
    let description = context.description(descriptor)?;
    if !description.is_readable() {
        return Err(Errno::EBADF);
    }
    if description.file.regular()?.is_some() { Ok(0) } else { Err(Errno::EINVAL) }
}

pub fn sync_file_range(context: &mut Context, descriptor: i32, offset: i64, length: i64, flags: u32) -> Result<u64> {
    let description = context.description(descriptor)?;
    if description.is_path_only() {
        return Err(Errno::EBADF);
    }
    if flags & !7 != 0 || offset < 0 || length < 0 || offset.checked_add(length).is_none() {
        return Err(Errno::EINVAL);
    }
    match description.file.attributes()?.kind {
        Kind::Regular | Kind::Directory | Kind::Link | Kind::Block => Ok(0),
        _ => Err(Errno::ESPIPE),
    }
}
