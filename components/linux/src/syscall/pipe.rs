//! Descriptors that come from nowhere: `pipe`, `eventfd`, `timerfd`, `signalfd`, `memfd`; and moving bytes between descriptors.

use alloc::sync::Arc;

use tessera_runtime::sync::OnceLock;

use super::file::install as add;
use crate::errno::{Errno, Result};
use crate::file::event::EventFile;
use crate::file::inotify::event;
use crate::file::pipe::Pipe;
use crate::file::regular::InodeFile;
use crate::file::signal::SignalFile;
use crate::file::timer::{State, TimerFile};
use crate::file::transfer::Bytes;
use crate::file::{Description, OpenFile, open};
use crate::fs::ram::{MEMORY_DEVICE, Ram};
use crate::fs::{Change, Creation, Inode, Kind, Owner, Place, seal};
use crate::signal::Set;
use crate::task::Context;
use crate::time::{clock, moment, nanoseconds};

/// Bytes that are moved at a time.
const PIECE: usize = 32 << 10;

/// Adds two descriptors and tells their numbers, or adds none.
pub fn install_pair(
    context: &Context,
    to: u64,
    (one, other): (Arc<dyn OpenFile>, Arc<dyn OpenFile>),
    (one_mode, other_mode): (u32, u32),
    flags: u32,
) -> Result<u64> {
    let (kept, close) = (flags & (open::NON_BLOCKING | open::DIRECT), flags & open::CLOSE_ON_EXEC != 0);
    let first = add(context, Description::new(one, None, one_mode | kept), close)?;
    let second = match add(context, Description::new(other, None, other_mode | kept), close) {
        Ok(second) => second,
        Err(error) => {
            drop(context.files.close(first as i32));
            return Err(error);
        }
    };
    let numbers = [(first as i32).to_ne_bytes(), (second as i32).to_ne_bytes()];
    if let Err(error) = context.write_bytes(to, numbers.as_flattened()) {
        drop(context.files.close(first as i32));
        drop(context.files.close(second as i32));
        return Err(error);
    }
    Ok(0)
}

pub fn pipe2(context: &mut Context, to: u64, flags: u32) -> Result<u64> {
    if flags & !(open::CLOSE_ON_EXEC | open::NON_BLOCKING | open::DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let (reader, writer) = Pipe::pair();
    install_pair(context, to, (reader, writer), (open::READ_ONLY, open::WRITE_ONLY), flags)
}

pub fn pipe(context: &mut Context, to: u64) -> Result<u64> {
    pipe2(context, to, 0)
}

pub fn eventfd2(context: &mut Context, count: u32, flags: u32) -> Result<u64> {
    const SEMAPHORE: u32 = 1;
    if flags & !(open::CLOSE_ON_EXEC | open::NON_BLOCKING | SEMAPHORE) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = EventFile::new(count.into(), flags & SEMAPHORE != 0);
    let description = Description::new(file, None, open::READ_WRITE | flags & open::NON_BLOCKING);
    add(context, description, flags & open::CLOSE_ON_EXEC != 0)
}

pub fn eventfd(context: &mut Context, count: u32) -> Result<u64> {
    eventfd2(context, count, 0)
}

pub fn timerfd_create(context: &mut Context, clock: i32, flags: u32) -> Result<u64> {
    if flags & !(open::CLOSE_ON_EXEC | open::NON_BLOCKING) != 0
        || !matches!(clock, clock::REAL | clock::MONOTONIC | clock::BOOT | clock::REAL_ALARM | clock::BOOT_ALARM)
    {
        return Err(Errno::EINVAL);
    }
    let file = TimerFile::new(context.system.clone(), clock);
    let description = Description::new(file, None, open::READ_WRITE | flags & open::NON_BLOCKING);
    add(context, description, flags & open::CLOSE_ON_EXEC != 0)
}

fn timer(context: &Context, descriptor: i32) -> Result<Arc<TimerFile>> {
    context.description(descriptor)?.concrete::<TimerFile>().ok_or(Errno::EINVAL)
}

/// A timer as a `struct itimerspec`: interval, and how long until it is due.
fn write_timer(context: &Context, to: u64, state: State) -> Result<()> {
    const SECOND: u64 = crate::time::SECOND;
    let left = if state.due == 0 { 0 } else { state.due.saturating_sub(context.system.now()) };
    let words = [state.interval / SECOND, state.interval % SECOND, left / SECOND, left % SECOND];
    context.write_words(to, words)
}

pub fn timerfd_settime(context: &mut Context, descriptor: i32, flags: u32, new: u64, old: u64) -> Result<u64> {
    const ABSOLUTE: u32 = 1;
    const CANCEL_ON_SET: u32 = 2;
    if flags & !(ABSOLUTE | CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let timer = timer(context, descriptor)?;
    let [interval, interval_rest, first, first_rest] = context.read_words(new)?;
    let interval = nanoseconds(interval, interval_rest)?;
    let first = nanoseconds(first, first_rest)?;
    let due = match (first, flags & ABSOLUTE != 0) {
        (0, _) => 0,
        (first, true) => moment(context, timer.clock, first)?.max(1),
        (first, false) => context.system.now().saturating_add(first),
    };
    let before = timer.get();
    timer.set(State { due, interval })?;
    if old != 0 {
        write_timer(context, old, before)?;
    }
    Ok(0)
}

pub fn timerfd_gettime(context: &mut Context, descriptor: i32, to: u64) -> Result<u64> {
    let state = timer(context, descriptor)?.get();
    write_timer(context, to, state).map(|()| 0)
}

pub fn signalfd4(context: &mut Context, descriptor: i32, mask: u64, size: u64, flags: u32) -> Result<u64> {
    if size != 8 || flags & !(open::CLOSE_ON_EXEC | open::NON_BLOCKING) != 0 {
        return Err(Errno::EINVAL);
    }
    let set = Set::from_bits(context.read_u64(mask)?);
    if descriptor != -1 {
        context.description(descriptor)?.concrete::<SignalFile>().ok_or(Errno::EINVAL)?.set(set);
        return Ok(descriptor as u64);
    }
    let file = SignalFile::new(&context.task, set);
    let description = Description::new(file, None, open::READ_WRITE | flags & open::NON_BLOCKING);
    add(context, description, flags & open::CLOSE_ON_EXEC != 0)
}

pub fn signalfd(context: &mut Context, descriptor: i32, mask: u64, size: u64) -> Result<u64> {
    signalfd4(context, descriptor, mask, size, 0)
}

/// The file system that memory files are in, which is mounted nowhere.
static MEMORY_FILES: OnceLock<Arc<dyn Inode>> = OnceLock::new();

pub fn memfd_create(context: &mut Context, name: u64, flags: u32) -> Result<u64> {
    const CLOSE_ON_EXEC: u32 = 1;
    const ALLOW_SEALING: u32 = 2;
    const NO_EXECUTE: u32 = 8;
    const EXECUTE: u32 = 16;
    if flags & !(CLOSE_ON_EXEC | ALLOW_SEALING | NO_EXECUTE | EXECUTE) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = context.read_text(name, 250).map_err(|error| match error {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        other => other,
    })?;
    let root = match MEMORY_FILES.get() {
        Some(root) => root,
        None => {
            let made = Ram::root(MEMORY_DEVICE, None, |_, _, _| Err(Errno::ENXIO))?;
            MEMORY_FILES.get_or_init(|| made)
        }
    };
    let who = context.credentials();
    let creation = Creation {
        kind: Kind::Regular,
        permissions: if flags & NO_EXECUTE != 0 { 0o666 } else { 0o777 },
        owner: Owner { uid: who.file_user, gid: who.file_group },
        names_device: 0,
        time: context.system.wall_now(),
    };
    let inode = root.create_unnamed(&creation)?;
    // Unless it was made to be sealed, it is sealed against more seals.
    inode.seal(if flags & ALLOW_SEALING != 0 { 0 } else { seal::SEAL })?;
    let name = [b"memfd:", name.as_slice(), b" (deleted)"].concat();
    let place = Place { inode: inode.clone(), parent: Some(Place::root(root.clone())), name };
    let description = Description::new(Arc::new(InodeFile(inode)), Some(Arc::new(place)), open::READ_WRITE);
    add(context, description, flags & CLOSE_ON_EXEC != 0)
}

/// Where a transfer reads from or writes to: a place in a file, told to the caller, or the descriptor's own position.
enum At {
    Own,
    Told(u64, u64),
}

impl At {
    fn new(context: &Context, file: &Description, address: u64) -> Result<At> {
        if address == 0 {
            return Ok(At::Own);
        }
        if !file.file.is_seekable() {
            return Err(Errno::ESPIPE);
        }
        let at = context.read_u64(address)?;
        if at > i64::MAX as u64 { Err(Errno::EINVAL) } else { Ok(At::Told(address, at)) }
    }

    fn now(&self, file: &Description) -> u64 {
        match self {
            At::Own => *file.position.lock(),
            At::Told(_, at) => *at,
        }
    }

    fn advance(&mut self, file: &Description, by: u64) {
        match self {
            At::Own => *file.position.lock() += by,
            At::Told(_, at) => *at += by,
        }
    }

    fn tell(&self, context: &Context) -> Result<()> {
        match self {
            At::Own => Ok(()),
            At::Told(address, at) => context.write_u64(*address, *at),
        }
    }
}

/// Moves up to `length` bytes. What was read from something without positions is written, however long that takes.
fn transfer(
    context: &mut Context,
    (from, mut from_at): (&Description, At),
    (to, mut to_at): (&Description, At),
    length: u64,
    waits: bool,
) -> Result<u64> {
    if !from.is_readable() || !to.is_writable() {
        return Err(Errno::EBADF);
    }
    if to.flags() & open::APPEND != 0 && to.file.is_seekable() {
        return Err(Errno::EINVAL);
    }
    let mut buffer = alloc::vec![0; PIECE.min(length as usize)];
    let mut done = 0;
    while done < length {
        let part = buffer.get_mut(..(length - done).min(PIECE as u64) as usize).unwrap_or_default();
        let read = |_: &mut Context| from.file.read(from_at.now(from), &mut Bytes(&mut *part));
        let is_first = done == 0;
        let count = match if waits && is_first {
            super::io::blocking(context, from, read)
        } else {
            from.file.read(from_at.now(from), &mut Bytes(&mut *part))
        } {
            Ok(0) => break,
            Ok(count) => count,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        };
        let mut written = 0;
        let mut failed = None;
        while written < count {
            let rest = part.get(written..count).unwrap_or_default();
            let place = to_at.now(to);
            let must_write = !from.file.is_seekable();
            let write = |_: &mut Context| to.file.write(place, &mut Bytes(rest));
            let step = if must_write || (waits && done == 0 && written == 0) {
                super::io::blocking(context, to, write)
            } else {
                to.file.write(place, &mut Bytes(rest))
            };
            match step {
                Ok(0) => break,
                Ok(step) => {
                    written += step;
                    if to.file.is_seekable() {
                        to_at.advance(to, step as u64);
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if from.file.is_seekable() {
            from_at.advance(from, written as u64);
        }
        done += written as u64;
        if written < count {
            match failed {
                Some(error) if done == 0 => return Err(error),
                _ => break,
            }
        }
    }
    if done > 0
        && let Some(inode) = to.file.regular()?.and_then(|_| to.file.inode())
    {
        let now = Some(context.system.wall_now());
        let _ = inode.change(&Change { modified: now, changed: now, ..Change::default() });
        super::file::tell_of(to, event::MODIFY);
    }
    from_at.tell(context)?;
    to_at.tell(context)?;
    Ok(done)
}

pub fn sendfile(context: &mut Context, to: i32, from: i32, offset: u64, length: u64) -> Result<u64> {
    let (from, to) = (context.description(from)?, context.description(to)?);
    // As for `splice`.
    let kind = from.attributes()?.kind;
    if kind == Kind::Directory || kind == Kind::Regular && from.file.regular()?.is_none() {
        return Err(Errno::EINVAL);
    }
    let at = At::new(context, &from, offset)?;
    let most = length.min(0x7fff_f000);
    let waits = to.is_blocking();
    transfer(context, (&from, at), (&to, At::Own), most, waits)
}

pub fn splice(
    context: &mut Context,
    from: i32,
    from_at: u64,
    to: i32,
    to_at: u64,
    length: u64,
    flags: u32,
) -> Result<u64> {
    const NON_BLOCKING: u32 = 2;
    if flags & !0xf != 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = (context.description(from)?, context.description(to)?);
    let ends = (from.concrete::<crate::file::pipe::End>(), to.concrete::<crate::file::pipe::End>());
    match &ends {
        (None, None) => return Err(Errno::EINVAL),
        (Some(one), Some(other)) if one.is_of(other) => return Err(Errno::EINVAL),
        _ => {}
    }
    // Counters, timers and the like give and take no more than their own records.
    for (file, end) in [(&from, &ends.0), (&to, &ends.1)] {
        let kind = file.attributes()?.kind;
        let is_none = kind == Kind::Directory || kind == Kind::Regular && file.file.regular()?.is_none();
        if end.is_none() && is_none {
            return Err(Errno::EINVAL);
        }
    }
    let (from_at, to_at) = (At::new(context, &from, from_at)?, At::new(context, &to, to_at)?);
    // One pipe's worth, so that a call does not go on for ever between two that are fed and drained.
    let most = ends.0.or(ends.1).map_or(PIECE, |end| end.capacity()) as u64;
    transfer(context, (&from, from_at), (&to, to_at), length.min(most), flags & NON_BLOCKING == 0)
}

pub fn copy_file_range(
    context: &mut Context,
    from: i32,
    from_at: u64,
    to: i32,
    to_at: u64,
    length: u64,
    flags: u32,
) -> Result<u64> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = (context.description(from)?, context.description(to)?);
    for file in [&from, &to] {
        match file.file.attributes()?.kind {
            crate::fs::Kind::Regular => {}
            crate::fs::Kind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    let (from_at, to_at) = (At::new(context, &from, from_at)?, At::new(context, &to, to_at)?);
    transfer(context, (&from, from_at), (&to, to_at), length.min(0x7fff_f000), false)
}
