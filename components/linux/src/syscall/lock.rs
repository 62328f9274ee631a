//! Locks: `flock`, and the locking commands of `fcntl`.

use alloc::sync::Arc;

use crate::errno::{Errno, Result};
use crate::file::lock::{self, FileKey, Lock, Owner};
use crate::file::{Description, open};
use crate::task::{Context, wait};

/// Bytes of a `struct flock`.
const FLOCK: usize = 32;
/// `l_type`.
const READ: i16 = 0;
const WRITE: i16 = 1;
const UNLOCK: i16 = 2;

fn key(file: &Description) -> Result<FileKey> {
    let attributes = file.file.attributes()?;
    Ok((attributes.device, attributes.number))
}

fn take(context: &mut Context, file: FileKey, wanted: Lock, waits: bool) -> Result<u64> {
    match lock::set(file, wanted) {
        Err(Errno::EAGAIN) if waits => {}
        other => return other.map(|()| 0),
    }
    let process = context.process.number;
    let is_record = wanted.owner == Owner::Process(process);
    let taken = wait(context, &[&lock::CHANGED], None, |_| match lock::set(file, wanted) {
        // Whom it waits for may be another one now.
        Err(Errno::EAGAIN) if is_record => lock::waits(process, file, &wanted).err().map(Err),
        Err(Errno::EAGAIN) => None,
        other => Some(other.map(|()| 0)),
    });
    if is_record {
        lock::waits_no_more(process);
    }
    taken?
}

pub fn flock(context: &mut Context, descriptor: i32, operation: u32) -> Result<u64> {
    const SHARED: u32 = 1;
    const EXCLUSIVE: u32 = 2;
    const DO_NOT_WAIT: u32 = 4;
    const RELEASE: u32 = 8;
    let description = context.description(descriptor)?;
    if description.is_path_only() {
        return Err(Errno::EBADF);
    }
    let (file, owner) = (key(&description)?, Owner::Whole(Arc::as_ptr(&description).addr()));
    let waits = operation & DO_NOT_WAIT == 0;
    let wanted = |exclusive| Lock { owner, exclusive, start: 0, end: u64::MAX };
    match operation & !DO_NOT_WAIT {
        SHARED => take(context, file, wanted(false), waits),
        EXCLUSIVE => take(context, file, wanted(true), waits),
        RELEASE => {
            lock::clear_all(file, owner);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// A `struct flock` in memory.
struct Record {
    kind: i16,
    start: u64,
    end: u64,
    process: i32,
}

fn read(context: &Context, description: &Description, address: u64) -> Result<Record> {
    let bytes: [u8; FLOCK] = context.read_array(address)?;
    let [a, b, c, d, _, _, _, _, start @ .., e, f, g, h, _, _, _, _] = bytes;
    let (start, length) = start.split_first_chunk::<8>().ok_or(Errno::EINVAL)?;
    let (start, length) = (i64::from_ne_bytes(*start), i64::from_ne_bytes(*length.first_chunk().ok_or(Errno::EINVAL)?));
    let base = match i16::from_ne_bytes([c, d]) {
        0 => 0,
        1 => *description.position.lock() as i64,
        2 => description.file.attributes()?.size as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(start).ok_or(Errno::EOVERFLOW)?;
    let (first, end) = match length {
        0 => (start, i64::MAX),
        length if length > 0 => (start, start.checked_add(length).ok_or(Errno::EOVERFLOW)?),
        length => (start.checked_add(length).ok_or(Errno::EINVAL)?, start),
    };
    let end = if end == i64::MAX { u64::MAX } else { end as u64 };
    Ok(Record {
        kind: i16::from_ne_bytes([a, b]),
        start: u64::try_from(first).map_err(|_| Errno::EINVAL)?,
        end,
        process: i32::from_ne_bytes([e, f, g, h]),
    })
}

/// What a command of fcntl(2) on locks does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Get,
    Set,
    SetAndWait,
}

/// Record locks; `own` ones are the open file description's, else the process's.
pub fn record(
    context: &mut Context,
    description: &Arc<Description>,
    command: Command,
    own: bool,
    address: u64,
) -> Result<u64> {
    let record = read(context, description, address)?;
    if own && record.process != 0 {
        return Err(Errno::EINVAL);
    }
    let file = key(description)?;
    let owner =
        if own { Owner::Description(Arc::as_ptr(description).addr()) } else { Owner::Process(context.process.number) };
    let wanted = Lock { owner, exclusive: record.kind == WRITE, start: record.start, end: record.end };
    if command == Command::Get {
        if record.kind != READ && record.kind != WRITE {
            return Err(Errno::EINVAL);
        }
        let Some(found) = lock::find(file, &wanted) else {
            return context.write_bytes(address, &UNLOCK.to_ne_bytes()).map(|()| 0);
        };
        let length = if found.end == u64::MAX { 0 } else { found.end - found.start };
        let process = if let Owner::Process(number) = found.owner { number } else { -1 };
        context.write_bytes(address, &if found.exclusive { WRITE } else { READ }.to_ne_bytes())?;
        context.write_bytes(address.wrapping_add(2), &0_i16.to_ne_bytes())?;
        context.write_words(address.wrapping_add(8), [found.start, length])?;
        return context.write_u32(address.wrapping_add(24), process as u32).map(|()| 0);
    }
    let mode = description.flags() & open::ACCESS;
    match record.kind {
        UNLOCK => {
            lock::clear(file, &wanted);
            Ok(0)
        }
        READ if mode == open::WRITE_ONLY => Err(Errno::EBADF),
        WRITE if mode == open::READ_ONLY => Err(Errno::EBADF),
        READ | WRITE => take(context, file, wanted, command == Command::SetAndWait),
        _ => Err(Errno::EINVAL),
    }
}
