//! Reading and writing: `read`, `write` and their relatives, `lseek`, `close`.
//!
//! Open files never wait. Here is where a thread waits for one whose descriptor is a blocking one.

use alloc::sync::Arc;

use super::file::tell_of;
use crate::errno::{Errno, Result};
use crate::file::inotify::event;
use crate::file::transfer::{GuestSlice, Pieces};
use crate::file::{Description, Source, open};
use crate::fs::Kind;
use crate::signal::{Info, SIGPIPE, SIGXFSZ, send};
use crate::task::process::limit;
use crate::task::{Context, wait};

fn readable(context: &Context, descriptor: i32) -> Result<Arc<Description>> {
    let description = context.description(descriptor)?;
    if description.is_readable() { Ok(description) } else { Err(Errno::EBADF) }
}

fn writable(context: &Context, descriptor: i32) -> Result<Arc<Description>> {
    let description = context.description(descriptor)?;
    if description.is_writable() { Ok(description) } else { Err(Errno::EBADF) }
}

/// Repeats what answers `EAGAIN` until it does not, if the description is a blocking one.
pub fn blocking<T>(
    context: &mut Context,
    description: &Description,
    mut attempt: impl FnMut(&mut Context) -> Result<T>,
) -> Result<T> {
    match attempt(context) {
        Err(Errno::EAGAIN) if description.is_blocking() => {}
        other => return other,
    }
    let Some(queue) = description.file.queue() else { return Err(Errno::EAGAIN) };
    wait(context, &[queue], None, |context| match attempt(context) {
        Err(Errno::EAGAIN) => None,
        other => Some(other),
    })?
}

fn read_pieces(context: &mut Context, descriptor: i32, pieces: &[GuestSlice], at: Option<u64>) -> Result<u64> {
    let description = readable(context, descriptor)?;
    let file = &description.file;
    if file.is_seekable() {
        let mut to = Pieces::new(&context.memory, pieces);
        let read = match at {
            Some(at) => file.read(at, &mut to)?,
            None => {
                let mut position = description.position.lock();
                let read = file.read(*position, &mut to)?;
                *position = position.saturating_add(read as u64);
                read
            }
        };
        if read > 0 {
            tell_of(&description, event::ACCESS);
        }
        return Ok(read as u64);
    }
    if at.is_some() {
        return Err(Errno::ESPIPE);
    }
    blocking(context, &description, |context| {
        file.admit(context, false)?;
        file.read(0, &mut Pieces::new(&context.memory, pieces)).map(|read| read as u64)
    })
}

fn write_pieces(context: &mut Context, descriptor: i32, pieces: &[GuestSlice], at: Option<u64>) -> Result<u64> {
    let description = writable(context, descriptor)?;
    if description.file.is_seekable() {
        return write_at(context, &description, pieces, at);
    }
    if at.is_some() {
        return Err(Errno::ESPIPE);
    }
    description.file.admit(context, true)?;
    let total: u64 = pieces.iter().map(|piece| piece.length).sum();
    let mut done = 0_u64;
    loop {
        let step = blocking(context, &description, |context| {
            let rest = rest(pieces, done);
            description.file.write(0, &mut Pieces::new(&context.memory, &rest)).map(|written| written as u64)
        });
        match step {
            Ok(written) => {
                done += written;
                if done >= total || written == 0 || !description.is_blocking() {
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

/// What is left of some pieces behind `done` bytes.
pub fn rest(pieces: &[GuestSlice], mut done: u64) -> alloc::vec::Vec<GuestSlice> {
    let cut = |piece: &GuestSlice| {
        let skip = done.min(piece.length);
        done -= skip;
        GuestSlice { address: piece.address.wrapping_add(skip), length: piece.length - skip }
    };
    pieces.iter().map(cut).collect()
}

fn write_at(context: &mut Context, description: &Description, pieces: &[GuestSlice], at: Option<u64>) -> Result<u64> {
    let file = &description.file;
    let most = context.process.limit(limit::FILE_SIZE).0;
    let mut from = Pieces::new(&context.memory, pieces);
    let mut position = at.is_none().then(|| description.position.lock());
    let is_regular = file.attributes()?.kind == Kind::Regular;
    let start = if description.flags() & open::APPEND != 0 && is_regular {
        file.attributes()?.size
    } else {
        at.or(position.as_deref().copied()).unwrap_or(0)
    };
    if is_regular && from.left() > 0 && start >= most {
        drop(position);
        send::to_task(&context.task, Info::kernel(SIGXFSZ));
        return Err(Errno::EFBIG);
    }
    let written = if is_regular && start.saturating_add(from.left() as u64) > most {
        let cut = [GuestSlice { address: 0, length: 0 }];
        let first = pieces.first().copied().unwrap_or(cut[0]);
        let piece = [GuestSlice { length: first.length.min(most - start), ..first }];
        file.write(start, &mut Pieces::new(&context.memory, &piece))?
    } else {
        file.write(start, &mut from)?
    };
    if let Some(position) = &mut position {
        **position = start.saturating_add(written as u64);
    }
    if written > 0 {
        tell_of(description, event::MODIFY);
    }
    if written > 0
        && let Some(inode) = file.inode()
    {
        let now = context.system.wall_now();
        let _ = inode.change(&crate::fs::Change { modified: Some(now), changed: Some(now), ..Default::default() });
    }
    Ok(written as u64)
}

pub fn read(context: &mut Context, descriptor: i32, address: u64, length: u64) -> Result<u64> {
    read_pieces(context, descriptor, &[Context::piece(address, length)], None)
}

pub fn write(context: &mut Context, descriptor: i32, address: u64, length: u64) -> Result<u64> {
    write_pieces(context, descriptor, &[Context::piece(address, length)], None)
}

fn position(at: i64) -> Result<u64> {
    u64::try_from(at).map_err(|_| Errno::EINVAL)
}

pub fn pread(context: &mut Context, descriptor: i32, address: u64, length: u64, at: i64) -> Result<u64> {
    let at = position(at)?;
    read_pieces(context, descriptor, &[Context::piece(address, length)], Some(at))
}

pub fn pwrite(context: &mut Context, descriptor: i32, address: u64, length: u64, at: i64) -> Result<u64> {
    let at = position(at)?;
    write_pieces(context, descriptor, &[Context::piece(address, length)], Some(at))
}

pub fn readv(context: &mut Context, descriptor: i32, address: u64, count: u64) -> Result<u64> {
    readable(context, descriptor)?;
    let pieces = context.read_pieces(address, count)?;
    read_pieces(context, descriptor, &pieces, None)
}

pub fn writev(context: &mut Context, descriptor: i32, address: u64, count: u64) -> Result<u64> {
    writable(context, descriptor)?;
    let pieces = context.read_pieces(address, count)?;
    write_pieces(context, descriptor, &pieces, None)
}

pub fn preadv(context: &mut Context, descriptor: i32, address: u64, count: u64, at: i64) -> Result<u64> {
    let at = position(at)?;
    readable(context, descriptor)?;
    let pieces = context.read_pieces(address, count)?;
    read_pieces(context, descriptor, &pieces, Some(at))
}

pub fn pwritev(context: &mut Context, descriptor: i32, address: u64, count: u64, at: i64) -> Result<u64> {
    let at = position(at)?;
    writable(context, descriptor)?;
    let pieces = context.read_pieces(address, count)?;
    write_pieces(context, descriptor, &pieces, Some(at))
}

/// The flags of preadv2(2): only `RWF_HIPRI`, `RWF_DSYNC`, `RWF_SYNC` mean nothing here.
const HARMLESS: u64 = 7;

pub fn preadv2(
    context: &mut Context,
    descriptor: i32,
    address: u64,
    count: u64,
    at: i64,
    high: u64,
    flags: u64,
) -> Result<u64> {
    let _ = high;
    match (flags & !HARMLESS, at) {
        (0, -1) => readv(context, descriptor, address, count),
        (0, _) => preadv(context, descriptor, address, count, at),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

pub fn pwritev2(
    context: &mut Context,
    descriptor: i32,
    address: u64,
    count: u64,
    at: i64,
    high: u64,
    flags: u64,
) -> Result<u64> {
    let _ = high;
    match (flags & !HARMLESS, at) {
        (0, -1) => writev(context, descriptor, address, count),
        (0, _) => pwritev(context, descriptor, address, count, at),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

pub fn lseek(context: &mut Context, descriptor: i32, offset: i64, whence: u32) -> Result<u64> {
    let description = context.description(descriptor)?;
    if description.is_path_only() {
        return Err(Errno::EBADF);
    }
    if !description.file.is_seekable() {
        return Err(Errno::ESPIPE);
    }
    let mut position = description.position.lock();
    let size = || description.file.attributes().map(|attributes| attributes.size as i64);
    let to = match whence {
        0 => offset,
        1 => (*position as i64).checked_add(offset).ok_or(Errno::EOVERFLOW)?,
        2 => size()?.checked_add(offset).ok_or(Errno::EOVERFLOW)?,
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
