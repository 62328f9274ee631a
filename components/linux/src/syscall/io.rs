//! Reading and writing: `read`, `write` and their relatives, `lseek`, `close`.
//!
//! Open files never wait. Here is where a thread waits for one whose descriptor is a blocking one.

use alloc::sync::Arc;

use super::file::tell_of;
use crate::errno::{Errno, Result};
use crate::file::inotify::event;
use crate::file::transfer::{GuestSlice, Pieces};
use crate::file::{Description, Source, open};
use crate::fs::{Attributes, Change};
use crate::signal::{Info, SIGPIPE, SIGXFSZ, send};
use crate::task::process::limit;
use crate::task::{Context, wait};

#[inline(always)]
fn readable(context: &Context, descriptor: i32, how: How) -> Result<Arc<Description>> {
    let description = context.description(descriptor)?;
    placed(&description, how)?;
    if description.is_readable() { Ok(description) } else { Err(Errno::EBADF) }
}

#[inline(always)]
fn writable(context: &Context, descriptor: i32, how: How) -> Result<Arc<Description>> {
    let description = context.description(descriptor)?;
    placed(&description, how)?;
    if description.is_writable() { Ok(description) } else { Err(Errno::EBADF) }
}

/// A place in something without places is told before that it could not be read or written there.
#[inline(always)]
fn placed(description: &Description, how: How) -> Result<()> {
    if how.at.is_some() && !description.file.is_seekable() && !description.is_path_only() {
        return Err(Errno::ESPIPE);
    }
    Ok(())
}

/// Repeats what answers `EAGAIN` until it does not, if the description is a blocking one.
pub fn blocking<T>(
    context: &mut Context,
    description: &Description,
    attempt: impl FnMut(&mut Context) -> Result<T>,
) -> Result<T> {
    blocking_for(context, description, || None, attempt)
}

/// The same for as long as `limit` says, in nanoseconds, which is asked when it has to wait: then it answers `ETIMEDOUT`.
#[cfg_attr(target_os = "none", optimize(speed))]
fn blocking_for<T>(
    context: &mut Context,
    description: &Description,
    limit: impl FnOnce() -> Option<u64>,
    mut attempt: impl FnMut(&mut Context) -> Result<T>,
) -> Result<T> {
    match attempt(context) {
        Err(Errno::EAGAIN) if description.is_blocking() => {}
        other => return other,
    }
    let Some(queue) = description.file.queue() else { return Err(Errno::EAGAIN) };
    let deadline = limit().map(|limit| context.system.now().saturating_add(limit));
    wait(context, &[queue], deadline, |context| match attempt(context) {
        Err(Errno::EAGAIN) => None,
        other => Some(other),
    })?
}

/// How bytes are transferred: what `preadv2` and `pwritev2` can ask for.
#[derive(Clone, Copy, Default)]
struct How {
    /// Where in the file; none: at the descriptor's position, which moves.
    at: Option<u64>,
    /// `RWF_APPEND`
    appends: bool,
    /// `RWF_NOWAIT`
    waits_not: bool,
}

impl How {
    fn at(at: u64) -> How {
        How { at: Some(at), ..How::default() }
    }
}

/// [`blocking`], unless the caller said not to wait.
#[cfg_attr(target_os = "none", optimize(speed))]
fn attempt<T>(
    context: &mut Context,
    description: &Description,
    how: How,
    mut attempt: impl FnMut(&mut Context) -> Result<T>,
) -> Result<T> {
    if how.waits_not { attempt(context) } else { blocking(context, description, attempt) }
}

#[inline(never)]
#[cfg_attr(target_os = "none", optimize(speed))]
fn read_pieces(context: &mut Context, description: &Description, pieces: &[GuestSlice], how: How) -> Result<u64> {
    let file = &description.file;
    if file.is_seekable() {
        let mut to = Pieces::new(&context.memory, pieces);
        let read = match how.at {
            Some(at) => file.read(at, &mut to)?,
            None => {
                let mut position = description.position.lock();
                let read = file.read(*position, &mut to)?;
                *position = position.saturating_add(read as u64);
                read
            }
        };
        if read > 0 {
            tell_of(description, event::ACCESS);
        }
        return Ok(read as u64);
    }
    let read = |context: &mut Context| {
        file.admit(context, false)?;
        file.read(0, &mut Pieces::new(&context.memory, pieces)).map(|read| read as u64)
    };
    if how.waits_not {
        return read(context);
    }
    match blocking_for(context, description, || file.patience(), read) {
        Err(Errno::ETIMEDOUT) => Ok(0),
        other => other,
    }
}

#[inline(never)]
#[cfg_attr(target_os = "none", optimize(speed))]
fn write_pieces(context: &mut Context, description: &Description, pieces: &[GuestSlice], how: How) -> Result<u64> {
    if description.file.is_seekable() {
        return match description.file.regular()? {
            Some(attributes) => write_regular(context, description, &attributes, pieces, how),
            None => write_device(context, description, pieces, how),
        };
    }
    description.file.admit(context, true)?;
    let total: u64 = pieces.iter().map(|piece| piece.length).sum();
    let mut done = 0_u64;
    loop {
        let step = attempt(context, description, how, |context| {
            let mut from = Pieces::behind(&context.memory, pieces, done);
            description.file.write(0, &mut from).map(|written| written as u64)
        });
        match step {
            Ok(written) => {
                done += written;
                if done >= total || written == 0 || !description.is_blocking() || how.waits_not {
                    return Ok(done);
                }
            }
            Err(_) if done > 0 => return Ok(done),
            Err(error) => {
                if error == Errno::EPIPE {
                    let user = context.credentials().user;
                    send::to_task(&context.task, Info::user(SIGPIPE, 0, context.process.number, user));
                }
                return Err(error);
            }
        }
    }
}

/// Writes to what has positions but is no regular file.
fn write_device(context: &Context, description: &Description, pieces: &[GuestSlice], how: How) -> Result<u64> {
    let mut from = Pieces::new(&context.memory, pieces);
    let written = match how.at {
        Some(at) => description.file.write(at, &mut from)?,
        None => {
            let mut position = description.position.lock();
            let written = description.file.write(*position, &mut from)?;
            *position = position.saturating_add(written as u64);
            written
        }
    };
    if written > 0 {
        tell_of(description, event::MODIFY);
    }
    Ok(written as u64)
}

fn write_regular(
    context: &mut Context,
    description: &Description,
    attributes: &Attributes,
    pieces: &[GuestSlice],
    how: How,
) -> Result<u64> {
    let file = &description.file;
    let most = context.process.limit(limit::FILE_SIZE).0.min(i64::MAX as u64);
    let mut from = Pieces::new(&context.memory, pieces);
    let mut position = how.at.is_none().then(|| description.position.lock());
    let start = if how.appends || description.flags() & open::APPEND != 0 {
        // The size may have changed until the position was ours.
        file.attributes()?.size
    } else {
        how.at.or(position.as_deref().copied()).unwrap_or(0)
    };
    if from.left() > 0 && start >= most {
        drop(position);
        send::to_task(&context.task, Info::kernel(SIGXFSZ));
        return Err(Errno::EFBIG);
    }
    from.limit(most.saturating_sub(start));
    let written = file.write(start, &mut from)?;
    if let Some(position) = &mut position {
        **position = start.saturating_add(written as u64);
    }
    drop(position);
    if written > 0 {
        tell_of(description, event::MODIFY);
        if let Some(inode) = file.inode() {
            let now = Some(context.system.wall_now());
            let permissions = attributes.without_privileges(&context.identity);
            let _ = inode.change(&Change { modified: now, changed: now, permissions, ..Change::default() });
        }
    }
    Ok(written as u64)
}

#[cfg_attr(target_os = "none", optimize(speed))]
pub fn read(context: &mut Context, descriptor: i32, address: u64, length: u64) -> Result<u64> {
    let description = readable(context, descriptor, How::default())?;
    read_pieces(context, &description, &[Context::piece(address, length)], How::default())
}

#[cfg_attr(target_os = "none", optimize(speed))]
pub fn write(context: &mut Context, descriptor: i32, address: u64, length: u64) -> Result<u64> {
    let description = writable(context, descriptor, How::default())?;
    write_pieces(context, &description, &[Context::piece(address, length)], How::default())
}

fn position(at: i64) -> Result<u64> {
    u64::try_from(at).map_err(|_| Errno::EINVAL)
}

pub fn pread(context: &mut Context, descriptor: i32, address: u64, length: u64, at: i64) -> Result<u64> {
    let how = How::at(position(at)?);
    let description = readable(context, descriptor, how)?;
    read_pieces(context, &description, &[Context::piece(address, length)], how)
}

pub fn pwrite(context: &mut Context, descriptor: i32, address: u64, length: u64, at: i64) -> Result<u64> {
    let how = How::at(position(at)?);
    let description = writable(context, descriptor, how)?;
    write_pieces(context, &description, &[Context::piece(address, length)], how)
}

fn read_vector(context: &mut Context, descriptor: i32, address: u64, count: u64, how: How) -> Result<u64> {
    let description = readable(context, descriptor, how)?;
    let pieces = context.read_pieces(address, count)?;
    read_pieces(context, &description, &pieces, how)
}

fn write_vector(context: &mut Context, descriptor: i32, address: u64, count: u64, how: How) -> Result<u64> {
    let description = writable(context, descriptor, how)?;
    let pieces = context.read_pieces(address, count)?;
    write_pieces(context, &description, &pieces, how)
}

pub fn readv(context: &mut Context, descriptor: i32, address: u64, count: u64) -> Result<u64> {
    read_vector(context, descriptor, address, count, How::default())
}

pub fn writev(context: &mut Context, descriptor: i32, address: u64, count: u64) -> Result<u64> {
    write_vector(context, descriptor, address, count, How::default())
}

pub fn preadv(context: &mut Context, descriptor: i32, address: u64, count: u64, at: i64) -> Result<u64> {
    read_vector(context, descriptor, address, count, How::at(position(at)?))
}

pub fn pwritev(context: &mut Context, descriptor: i32, address: u64, count: u64, at: i64) -> Result<u64> {
    write_vector(context, descriptor, address, count, How::at(position(at)?))
}

/// The flags of preadv2(2). What is written is where it stays, so that `RWF_DSYNC` and `RWF_SYNC` ask for nothing, and nothing is polled
/// (`RWF_HIPRI`).
mod transfer_flag {
    pub const HARMLESS: u32 = 7;
    pub const NO_WAIT: u32 = 8;
    pub const APPEND: u32 = 16;
}

/// At -1 it is the descriptor's position that counts.
fn how(at: i64, flags: u32, known: u32) -> Result<How> {
    let at = if at == -1 { None } else { Some(position(at)?) };
    if flags & !known != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let asked = |flag: u32| flags & flag != 0;
    Ok(How { at, appends: asked(transfer_flag::APPEND), waits_not: asked(transfer_flag::NO_WAIT) })
}

pub fn preadv2(
    context: &mut Context,
    descriptor: i32,
    address: u64,
    count: u64,
    at: i64,
    _high: u64,
    flags: u32,
) -> Result<u64> {
    let how = how(at, flags, transfer_flag::HARMLESS | transfer_flag::NO_WAIT)?;
    read_vector(context, descriptor, address, count, how)
}

pub fn pwritev2(
    context: &mut Context,
    descriptor: i32,
    address: u64,
    count: u64,
    at: i64,
    _high: u64,
    flags: u32,
) -> Result<u64> {
    let how = how(at, flags, transfer_flag::HARMLESS | transfer_flag::NO_WAIT | transfer_flag::APPEND)?;
    write_vector(context, descriptor, address, count, how)
}

pub fn lseek(context: &mut Context, descriptor: i32, offset: i64, whence: u32) -> Result<u64> {
    let description = context.description(descriptor)?;
    if description.is_path_only() {
        return Err(Errno::EBADF);
    }
    if !description.file.is_seekable() {
        return Err(Errno::ESPIPE);
    }
    // `SEEK_HOLE` is the last that there is.
    if whence <= 4 && description.file.stays_at_its_start() {
        return Ok(0);
    }
    let mut position = description.position.lock();
    let size = || description.file.attributes().map(|attributes| attributes.size as i64);
    let to = match whence {
        0 => offset,
        1 => (*position as i64).checked_add(offset).ok_or(Errno::EINVAL)?,
        2 => size()?.checked_add(offset).ok_or(Errno::EINVAL)?,
        // Where data is, and where the next hole is: all is data up to the end.
        3 | 4 => {
            let size = size()?;
            if !(0..size).contains(&offset) {
                return Err(Errno::ENXIO);
            }
            if whence == 3 { offset } else { size }
        }
        _ => return Err(Errno::EINVAL),
    };
    *position = u64::try_from(to).map_err(|_| Errno::EINVAL)?;
    Ok(*position)
}

pub fn close(context: &mut Context, descriptor: i32) -> Result<u64> {
    let description = context.files.close(descriptor)?;
    description.file.closed_by(context.process.number);
    Ok(0)
}

pub fn close_range(context: &mut Context, first: u32, last: u32, flags: u32) -> Result<u64> {
    const UNSHARE: u32 = 2;
    const MARK: u32 = 4;
    if first > last || flags & !(UNSHARE | MARK) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & UNSHARE != 0 {
        context.files = Arc::new(context.files.copy()?);
        context.process.resources.lock().files = Some(context.files.clone());
    }
    for descriptor in context.files.numbers() {
        if (first..=last).contains(&(descriptor as u32)) {
            if flags & MARK != 0 {
                context.files.set_close_on_exec(descriptor, true)?;
            } else {
                close(context, descriptor)?;
            }
        }
    }
    Ok(0)
}
