//! `futex`, robust lists.

use alloc::vec::Vec;

use crate::errno::{Errno, Result};
use crate::futex::{ANY, Wanted, key};
use crate::task::Context;
use crate::time::{self, clock, read_timespec};

const PRIVATE: u32 = 128;
const REAL_TIME: u32 = 256;

const WAIT: u32 = 0;
const WAKE: u32 = 1;
const REQUEUE: u32 = 3;
const COMPARE_REQUEUE: u32 = 4;
const WAKE_OPERATION: u32 = 5;
const LOCK_PI: u32 = 6;
const UNLOCK_PI: u32 = 7;
const TRY_LOCK_PI: u32 = 8;
const WAIT_BITS: u32 = 9;
const WAKE_BITS: u32 = 10;
const LOCK_PI_2: u32 = 13;

pub fn futex(
    context: &mut Context,
    address: u64,
    operation: u32,
    value: u32,
    fourth: u64,
    second: u64,
    third: u32,
) -> Result<u64> {
    let private = operation & PRIVATE != 0;
    let real_time = operation & REAL_TIME != 0;
    let command = operation & !(PRIVATE | REAL_TIME);
    match command {
        WAIT | WAIT_BITS => {
            let bits = if command == WAIT { ANY } else { third };
            if bits == 0 {
                return Err(Errno::EINVAL);
            }
            let deadline = match fourth {
                0 => None,
                timeout => {
                    let time = read_timespec(context, timeout)?;
                    // WAIT counts from now, WAIT_BITSET gives the moment.
                    Some(match (command, real_time) {
                        (WAIT, _) => context.system.now().saturating_add(time),
                        (_, true) => time::moment(context, clock::REAL, time)?,
                        (_, false) => time,
                    })
                }
            };
            let key = key(context, address, private)?;
            let system = context.system.clone();
            match system.futexes.wait(context, address, key, value, bits, deadline) {
                // With a timeout from now, making the call again would begin it from the start.
                Err(Errno::ERESTARTSYS) if command == WAIT && deadline.is_some() => Err(Errno::ERESTARTNOHAND),
                other => other.map(|()| 0),
            }
        }
        WAKE | WAKE_BITS => {
            let bits = if command == WAKE { ANY } else { third };
            if bits == 0 {
                return Err(Errno::EINVAL);
            }
            let key = key(context, address, private)?;
            Ok(context.system.futexes.wake_and_give_way(&context.system, key, value, bits).into())
        }
        REQUEUE | COMPARE_REQUEUE => {
            let moved = fourth as u32;
            if value > i32::MAX as u32 || moved > i32::MAX as u32 {
                return Err(Errno::EINVAL);
            }
            let (from, to) = (key(context, address, private)?, key(context, second, private)?);
            let check = || match command {
                COMPARE_REQUEUE if context.memory.load(address)? != third => Err(Errno::EAGAIN),
                _ => Ok(()),
            };
            let (woken, moved) = context.system.futexes.requeue(from, to, value, moved, check)?;
            Ok(u64::from(if command == REQUEUE { woken } else { woken + moved }))
        }
        WAKE_OPERATION => {
            let (first, other) = (key(context, address, private)?, key(context, second, private)?);
            let before = context.memory.update(second, |word| Some(changed(word, third)))?;
            let mut woken = context.system.futexes.wake(first, value, ANY);
            if holds(before, third)? {
                woken += context.system.futexes.wake(other, fourth as u32, ANY);
            }
            Ok(woken.into())
        }
        LOCK_PI | LOCK_PI_2 | TRY_LOCK_PI => lock(context, address, private, command, fourth, real_time),
        UNLOCK_PI => unlock(context, address, private),
        _ => Err(Errno::ENOSYS),
    }
}

/// Bytes of a `struct futex_waitv`: the value, the address, flags, and nothing.
const WAITED: u64 = 24;

/// futex_waitv(2): waits for the first of several words.
pub fn futex_waitv(context: &mut Context, list: u64, count: u32, flags: u32, timeout: u64, which: i32) -> Result<u64> {
    /// `FUTEX_32`, the only size that there is.
    const SIZE: u32 = 2;
    const MOST: u32 = 128;
    if flags != 0 || !(1..=MOST).contains(&count) || list == 0 {
        return Err(Errno::EINVAL);
    }
    let deadline = match timeout {
        0 => None,
        _ if !matches!(which, clock::REAL | clock::MONOTONIC) => return Err(Errno::EINVAL),
        at => Some(time::moment(context, which, read_timespec(context, at)?)?),
    };
    let mut wanted = Vec::with_capacity(count as usize);
    for index in 0..u64::from(count) {
        let [value, address, last] = context.read_words(list.wrapping_add(index * WAITED))?;
        let (flags, reserved) = (last as u32, last >> 32);
        if flags & !PRIVATE != SIZE || reserved != 0 {
            return Err(Errno::EINVAL);
        }
        wanted.push(Wanted { address, key: key(context, address, flags & PRIVATE != 0)?, expected: value as u32 });
    }
    let system = context.system.clone();
    system.futexes.wait_any(context, &wanted, deadline).map(|index| index as u64)
}

/// The operation part of `FUTEX_WAKE_OP` (futex(2)).
fn changed(word: u32, encoded: u32) -> u32 {
    let mut argument = (encoded << 8) as i32 >> 20;
    if encoded >> 31 != 0 {
        argument = 1_i32.wrapping_shl(argument as u32);
    }
    let argument = argument as u32;
    match encoded >> 28 & 7 {
        0 => argument,
        1 => word.wrapping_add(argument),
        2 => word | argument,
        3 => word & !argument,
        4 => word ^ argument,
        _ => word,
    }
}

/// The comparison part.
fn holds(word: u32, encoded: u32) -> Result<bool> {
    let argument = (encoded << 20) as i32 >> 20;
    let word = word as i32;
    Ok(match encoded >> 24 & 15 {
        0 => word == argument,
        1 => word != argument,
        2 => word < argument,
        3 => word <= argument,
        4 => word > argument,
        5 => word >= argument,
        _ => return Err(Errno::ENOSYS),
    })
}

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const OWNER: u32 = 0x3fff_ffff;

/// A lock whose word holds its owner's number. Priorities are not passed on: all guests run at one.
fn lock(
    context: &mut Context,
    address: u64,
    private: bool,
    command: u32,
    timeout: u64,
    real_time: bool,
) -> Result<u64> {
    let own = context.task.number() as u32;
    let deadline = match timeout {
        0 => None,
        _ if command == TRY_LOCK_PI => None,
        at => {
            let at = read_timespec(context, at)?;
            let which = if command == LOCK_PI || real_time { clock::REAL } else { clock::MONOTONIC };
            Some(time::moment(context, which, at)?)
        }
    };
    let key = key(context, address, private)?;
    let system = context.system.clone();
    loop {
        let before = context.memory.update(address, |word| match word & OWNER {
            0 => Some(own | word & (WAITERS | OWNER_DIED)),
            owner if owner == own || command == TRY_LOCK_PI => None,
            _ => Some(word | WAITERS),
        })?;
        match before & OWNER {
            0 => return Ok(0),
            owner if owner == own => return Err(Errno::EDEADLK),
            _ if command == TRY_LOCK_PI => return Err(Errno::EAGAIN),
            owner if context.system.task(owner as i32).is_none() => return Err(Errno::ESRCH),
            _ => {}
        }
        match system.futexes.wait(context, address, key, before | WAITERS, ANY, deadline) {
            Ok(()) | Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error),
        }
    }
}

fn unlock(context: &mut Context, address: u64, private: bool) -> Result<u64> {
    let own = context.task.number() as u32;
    let key = key(context, address, private)?;
    let before = context.memory.update(address, |word| (word & OWNER == own).then_some(0))?;
    if before & OWNER != own {
        return Err(Errno::EPERM);
    }
    context.system.futexes.wake(key, u32::MAX, ANY);
    Ok(0)
}

/// `sizeof(struct robust_list_head)`.
const HEAD: u64 = 24;

pub fn set_robust_list(context: &mut Context, head: u64, length: u64) -> Result<u64> {
    if length != HEAD {
        return Err(Errno::EINVAL);
    }
    context.robust_list = head;
    Ok(0)
}

pub fn get_robust_list(context: &mut Context, number: i32, head: u64, length: u64) -> Result<u64> {
    if number != 0 && number != context.task.number() {
        return Err(if context.system.task(number).is_some() { Errno::EPERM } else { Errno::ESRCH });
    }
    context.write_u64(length, HEAD)?;
    context.write_u64(head, context.robust_list)?;
    Ok(0)
}
