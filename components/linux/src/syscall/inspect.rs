//! Looking into other processes: `process_vm_readv`, `process_vm_writev`, `kcmp`.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::identity::may_inspect;
use crate::errno::{Errno, Result};
use crate::file::transfer::{GuestSlice, GuestSlices, Pieces, Sink, Source};
use crate::memory::Mm;
use crate::task::{Context, Process};

/// Bytes that are copied at a time.
const PIECE: usize = 4096;

/// The memory of a process that the caller may look into.
fn memory_of(context: &Context, number: i32) -> Result<Arc<Mm>> {
    let process = super::process::find(context, number)
        .and_then(|process| if number > 0 { Ok(process) } else { Err(Errno::ESRCH) })?;
    may_inspect(context, &process)?;
    let mm = process.resources.lock().mm.clone();
    mm.ok_or(Errno::ESRCH)
}

struct Request {
    mm: Arc<Mm>,
    own: GuestSlices,
    theirs: GuestSlices,
}

fn read_request(context: &Context, number: i32, own: (u64, u64), theirs: (u64, u64), flags: u64) -> Result<Request> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let own = context.read_pieces(own.0, own.1)?;
    let theirs = context.read_pieces(theirs.0, theirs.1)?;
    Ok(Request { mm: memory_of(context, number)?, own, theirs })
}

/// The parts of the other's memory in order, a buffer at a time; `copy` answers how much went well.
fn each(theirs: &[GuestSlice], mut copy: impl FnMut(u64, usize) -> Result<usize>) -> Result<u64> {
    let mut done = 0;
    for piece in theirs {
        let mut within = 0;
        while within < piece.length {
            let part = (piece.length - within).min(PIECE as u64) as usize;
            let copied = match copy(piece.address.wrapping_add(within), part) {
                Ok(copied) => copied,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            };
            done += copied as u64;
            within += copied as u64;
            if copied < part {
                return Ok(done);
            }
        }
    }
    Ok(done)
}

pub fn process_vm_readv(
    context: &mut Context,
    number: i32,
    own: u64,
    own_count: u64,
    theirs: u64,
    their_count: u64,
    flags: u64,
) -> Result<u64> {
    let request = read_request(context, number, (own, own_count), (theirs, their_count), flags)?;
    let mut to = Pieces::new(&context.memory, &request.own);
    let mut buffer = [0; PIECE];
    each(&request.theirs, |address, length| {
        let part = buffer.get_mut(..length.min(to.room())).unwrap_or_default();
        let read = request.mm.read_from_outside(address, part);
        if read == 0 && !part.is_empty() {
            return Err(Errno::EFAULT);
        }
        to.put(part.get(..read).unwrap_or_default())
    })
}

pub fn process_vm_writev(
    context: &mut Context,
    number: i32,
    own: u64,
    own_count: u64,
    theirs: u64,
    their_count: u64,
    flags: u64,
) -> Result<u64> {
    let request = read_request(context, number, (own, own_count), (theirs, their_count), flags)?;
    let mut from = Pieces::new(&context.memory, &request.own);
    let mut buffer = [0; PIECE];
    each(&request.theirs, |address, length| {
        let part = buffer.get_mut(..length.min(from.left())).unwrap_or_default();
        let taken = from.take(part)?;
        let written = request.mm.write_if_writable(address, part.get(..taken).unwrap_or_default());
        if written == 0 && taken > 0 { Err(Errno::EFAULT) } else { Ok(written) }
    })
}

pub fn kcmp(context: &mut Context, one: i32, other: i32, kind: u32, first: u64, second: u64) -> Result<u64> {
    const FILE: u32 = 0;
    const MEMORY: u32 = 1;
    const FILES: u32 = 2;
    const PLACES: u32 = 3;
    const HANDLERS: u32 = 4;
    const DISKS: u32 = 5;
    const UNDO: u32 = 6;
    let find = |number: i32| if number > 0 { super::process::find(context, number) } else { Err(Errno::ESRCH) };
    let (one, other) = (find(one)?, find(other)?);
    may_inspect(context, &one)?;
    may_inspect(context, &other)?;
    let of = |process: &Arc<Process>, number: u64| -> Result<usize> {
        let resources = process.resources.lock();
        Ok(match kind {
            FILE => {
                let number = i32::try_from(number).map_err(|_| Errno::EBADF)?;
                Arc::as_ptr(&resources.files.as_ref().ok_or(Errno::EBADF)?.get(number)?).addr()
            }
            MEMORY => resources.mm.as_ref().map_or(0, |mm| Arc::as_ptr(mm).addr()),
            FILES => resources.files.as_ref().map_or(0, |files| Arc::as_ptr(files).addr()),
            PLACES => resources.fs.as_ref().map_or(0, |fs| Arc::as_ptr(fs).addr()),
            HANDLERS => Arc::as_ptr(process).addr(),
            // Who never gave its disk accesses a priority, nor changed a semaphore to be changed back, has what all others have.
            DISKS if own_priority(process) => Arc::as_ptr(process).addr(),
            UNDO if context.system.ipc.semaphores.all().iter().any(|(_, set)| set.undoes(process.number)) => {
                Arc::as_ptr(process).addr()
            }
            DISKS | UNDO => 0,
            _ => return Err(Errno::EINVAL),
        })
    };
    let (one, other) = (of(&one, first)?, of(&other, second)?);
    Ok(match one.cmp(&other) {
        core::cmp::Ordering::Equal => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Greater => 2,
    })
}

/// Whether any of its threads has a disk priority.
fn own_priority(process: &Process) -> bool {
    process.threads.lock().iter().any(|task| task.disk_priority.load(Ordering::Relaxed) != 0)
}
