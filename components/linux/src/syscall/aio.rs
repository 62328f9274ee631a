//! Asynchronous input and output as libaio has it: `io_setup`, `io_submit`, `io_getevents` and their relatives.
//!
//! What is submitted is done at once, by whoever submits it: files are in memory, and for other descriptors Linux waits too. So nothing is
//! ever on its way when a call comes back, and all that is kept are the outcomes that were not fetched.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use tessera_runtime::sync::Mutex;

use super::{file, io, poll};
use crate::errno::{Errno, Result};
use crate::file::event::EventFile;
use crate::file::transfer::Bytes;
use crate::file::{OpenFile, ready};
use crate::memory::{MapRequest, PAGE, Protection, Target};
use crate::task::{Context, WaitQueue, wait};
use crate::time::read_timespec;

/// Bytes of a `struct iocb` and of a `struct io_event`, in words.
const REQUEST: usize = 8;
const EVENT: u64 = 32;
/// Most outcomes that one context keeps (`fs.aio-max-nr`).
const MOST: u32 = 65_536;
/// `IOCB_FLAG_RESFD`: an eventfd is told of the outcome.
const TELLS: u32 = 1;

/// `IOCB_CMD_*`
mod command {
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const SYNCHRONISE: u16 = 2;
    pub const SYNCHRONISE_DATA: u16 = 3;
    pub const READ_VECTOR: u16 = 7;
    pub const WRITE_VECTOR: u16 = 8;
}

/// What a context keeps. Its name is the address of a page of its program's: libaio looks there for a ring, and finds none.
pub struct Outcomes {
    most: usize,
    /// `struct io_event`s: the program's word, the request's address, the result, nothing.
    list: Mutex<VecDeque<[u64; 4]>>,
    queue: WaitQueue,
}

fn outcomes(context: &Context, name: u64) -> Result<Arc<Outcomes>> {
    context.process.outcomes.lock().get(&name).cloned().ok_or(Errno::EINVAL)
}

pub fn io_setup(context: &mut Context, most: u32, to: u64) -> Result<u64> {
    // More than their records could be counted of.
    const TOO_MANY: u32 = 0x40_0000;
    if context.read_u64(to)? != 0 || most == 0 || most > TOO_MANY {
        return Err(Errno::EINVAL);
    }
    if most > MOST {
        return Err(Errno::EAGAIN);
    }
    let name = context.memory.mm().map(MapRequest {
        target: Target::Hint(0),
        length: PAGE,
        protection: Protection::READ,
        shared: false,
        memory: None,
        file: None,
        name: "[aio]",
        attached: None,
    })?;
    let kept = Outcomes { most: most as usize, list: Mutex::new(VecDeque::new()), queue: WaitQueue::new() };
    context.process.outcomes.lock().insert(name, Arc::new(kept));
    let told = context.write_u64(to, name);
    if told.is_err() {
        io_destroy(context, name)?;
    }
    told.map(|()| 0)
}

pub fn io_destroy(context: &mut Context, name: u64) -> Result<u64> {
    let kept = context.process.outcomes.lock().remove(&name).ok_or(Errno::EINVAL)?;
    kept.queue.wake_all();
    context.memory.mm().unmap(name, PAGE).map(|()| 0)
}

/// Does what one request says; only what is wrong with the request itself is an error.
fn carry_out(context: &mut Context, kept: &Outcomes, address: u64) -> Result<()> {
    let [data, how, what, buffer, length, offset, reserved, last]: [u64; REQUEST] = context.read_words(address)?;
    let (command, descriptor) = (what as u16, (what >> 32) as i32);
    let (flags, told) = (last as u32, (last >> 32) as i32);
    if reserved != 0 || length > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let description = context.description(descriptor)?;
    let event = match flags & TELLS {
        0 => None,
        _ => Some(context.description(told)?.concrete::<EventFile>().ok_or(Errno::EINVAL)?),
    };
    let may = match command {
        command::READ | command::READ_VECTOR => description.is_readable(),
        command::WRITE | command::WRITE_VECTOR => description.is_writable(),
        _ => !description.is_path_only(),
    };
    if !may {
        return Err(Errno::EBADF);
    }
    if kept.list.lock().len() >= kept.most {
        return Err(Errno::EAGAIN);
    }
    // `RWF_NOWAIT`: what would wait is not done.
    const WAITS_NOT: u32 = 8;
    let waits_not = (how >> 32) as u32 & WAITS_NOT != 0;
    let at = offset as i64;
    let is_placed = description.file.is_seekable();
    let needed = match command {
        command::READ | command::READ_VECTOR => ready::IN | ready::HANGUP,
        command::WRITE | command::WRITE_VECTOR => ready::OUT | ready::ERROR,
        _ => u32::MAX,
    };
    let result = match command {
        _ if waits_not && !is_placed && description.file.ready() & needed == 0 => Err(Errno::EAGAIN),
        // Pipes and sockets have no positions; what is said of one is passed over.
        command::READ if !is_placed => io::read(context, descriptor, buffer, length),
        command::WRITE if !is_placed => io::write(context, descriptor, buffer, length),
        command::READ_VECTOR if !is_placed => io::readv(context, descriptor, buffer, length),
        command::WRITE_VECTOR if !is_placed => io::writev(context, descriptor, buffer, length),
        command::READ => io::pread(context, descriptor, buffer, length, at),
        command::WRITE => io::pwrite(context, descriptor, buffer, length, at),
        command::READ_VECTOR => io::preadv(context, descriptor, buffer, length, at),
        command::WRITE_VECTOR => io::pwritev(context, descriptor, buffer, length, at),
        command::SYNCHRONISE | command::SYNCHRONISE_DATA => file::fsync(context, descriptor),
        _ => return Err(Errno::EINVAL),
    };
    let result = result.unwrap_or_else(Errno::as_result);
    kept.list.lock().push_back([data, address, result, 0]);
    kept.queue.wake_all();
    if let Some(event) = event {
        // A counter that is full is not waited for.
        let _ = event.write(0, &mut Bytes(&1_u64.to_ne_bytes()[..]));
    }
    Ok(())
}

pub fn io_submit(context: &mut Context, name: u64, count: i64, list: u64) -> Result<u64> {
    let kept = outcomes(context, name)?;
    let count = u64::try_from(count).map_err(|_| Errno::EINVAL)?;
    for index in 0..count {
        let address = context.read_u64(list.wrapping_add(index * 8));
        match address.and_then(|address| carry_out(context, &kept, address)) {
            Ok(()) => {}
            Err(_) if index > 0 => return Ok(index),
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Nothing is on its way that could be cancelled.
pub fn io_cancel(context: &mut Context, name: u64, request: u64, _result: u64) -> Result<u64> {
    context.read_words::<REQUEST>(request)?;
    outcomes(context, name)?;
    Err(Errno::EINVAL)
}

pub fn io_getevents(context: &mut Context, name: u64, least: i64, most: i64, to: u64, time: u64) -> Result<u64> {
    let kept = outcomes(context, name)?;
    if least < 0 || most < least {
        return Err(Errno::EINVAL);
    }
    let deadline = match time {
        0 => None,
        time => Some(context.system.now().saturating_add(read_timespec(context, time)?)),
    };
    let mut done = 0;
    let waited = wait(context, &[&kept.queue], deadline, |context| {
        while done < most {
            let Some(event) = kept.list.lock().pop_front() else { break };
            if let Err(error) = context.write_words(to.wrapping_add(done as u64 * EVENT), event) {
                kept.list.lock().push_front(event);
                return Some(if done > 0 { Ok(()) } else { Err(error) });
            }
            done += 1;
        }
        (done >= least).then_some(Ok(()))
    });
    match waited {
        Ok(outcome) => outcome.map(|()| done as u64),
        Err(_) if done > 0 => Ok(done as u64),
        Err(Errno::ETIMEDOUT) => Ok(0),
        Err(Errno::ERESTARTSYS) => Err(Errno::EINTR),
        Err(error) => Err(error),
    }
}

pub fn io_pgetevents(
    context: &mut Context,
    name: u64,
    least: i64,
    most: i64,
    to: u64,
    time: u64,
    mask: u64,
) -> Result<u64> {
    let mask = poll::read_sized_mask(context, mask)?;
    poll::masked(context, mask, |context| io_getevents(context, name, least, most, to, time))
}
