//! Time as programs see it: clocks, and timers that send signals.

pub mod timers;

use crate::errno::{Errno, Result};
use crate::task::Context;

/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;

/// A `struct timespec` as nanoseconds.
///
/// # Errors
/// `EINVAL` for a negative time or more nanoseconds than a second has.
pub fn nanoseconds(seconds: u64, rest: u64) -> Result<u64> {
    if seconds > i64::MAX as u64 || rest >= SECOND {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(SECOND).saturating_add(rest))
}

/// Reads a `struct timespec`.
pub fn read_timespec(context: &Context, address: u64) -> Result<u64> {
    let [seconds, rest] = context.read_words(address)?;
    nanoseconds(seconds, rest)
}

/// Writes nanoseconds as a `struct timespec`.
pub fn write_timespec(context: &Context, address: u64, time: u64) -> Result<()> {
    context.write_words(address, [time / SECOND, time % SECOND])
}

/// Reads a `struct timeval` as nanoseconds.
pub fn read_timeval(context: &Context, address: u64) -> Result<u64> {
    let [seconds, micro] = context.read_words(address)?;
    nanoseconds(seconds, micro.checked_mul(1000).ok_or(Errno::EINVAL)?)
}

/// Writes nanoseconds as a `struct timeval`.
pub fn write_timeval(context: &Context, address: u64, time: u64) -> Result<()> {
    context.write_words(address, [time / SECOND, time % SECOND / 1000])
}

/// The clocks of clock_gettime(2).
pub mod clock {
    pub const REAL: i32 = 0;
    pub const MONOTONIC: i32 = 1;
    pub const PROCESS: i32 = 2;
    pub const THREAD: i32 = 3;
    pub const RAW: i32 = 4;
    pub const REAL_COARSE: i32 = 5;
    pub const MONOTONIC_COARSE: i32 = 6;
    pub const BOOT: i32 = 7;
    pub const REAL_ALARM: i32 = 8;
    pub const BOOT_ALARM: i32 = 9;
    pub const INTERNATIONAL: i32 = 11;
}

/// What a clock shows, in nanoseconds.
pub fn read(context: &Context, clock: i32) -> Result<u64> {
    use core::sync::atomic::Ordering::Relaxed;
    Ok(match clock {
        clock::REAL | clock::REAL_COARSE | clock::REAL_ALARM | clock::INTERNATIONAL => {
            context.system.wall_now().max(0) as u64
        }
        clock::MONOTONIC | clock::RAW | clock::MONOTONIC_COARSE | clock::BOOT | clock::BOOT_ALARM => {
            context.system.now()
        }
        clock::PROCESS => context.system.nanoseconds(context.process.used_by_threads().iter().sum()),
        clock::THREAD => context.system.nanoseconds(context.task.used.iter().map(|used| used.load(Relaxed)).sum()),
        _ if clock < 0 => return read_dynamic(context, clock),
        _ => return Err(Errno::EINVAL),
    })
}

/// Clocks of other processes and threads (`clock_getcpuclockid`): the complement of the number, shifted, with the kind below.
fn read_dynamic(context: &Context, clock: i32) -> Result<u64> {
    use core::sync::atomic::Ordering::Relaxed;
    let number = !(clock >> 3);
    if clock & 3 == 3 {
        return Err(Errno::EINVAL);
    }
    if clock & 4 != 0 {
        let task = if number == 0 { context.task.clone() } else { context.system.task(number).ok_or(Errno::EINVAL)? };
        return Ok(context.system.nanoseconds(task.used.iter().map(|used| used.load(Relaxed)).sum()));
    }
    let process =
        if number == 0 { context.process.clone() } else { context.system.process(number).ok_or(Errno::EINVAL)? };
    Ok(context.system.nanoseconds(process.used_by_threads().iter().sum()))
}

/// What a clock that can be read measures.
pub fn meter(context: &Context, clock: i32) -> timers::Meter {
    use timers::Meter;
    let number = !(clock >> 3);
    match clock {
        clock::PROCESS => Meter::Own,
        clock::THREAD => Meter::Thread(context.task.number()),
        0.. => Meter::Boot,
        _ if clock & 4 != 0 && number == 0 => Meter::Thread(context.task.number()),
        _ if clock & 4 != 0 => Meter::Thread(number),
        _ if number == 0 || number == context.process.number => Meter::Own,
        _ => Meter::Process(number),
    }
}

/// The moment since boot at which a clock shows `at`; clocks of processor time have none.
pub fn moment(context: &Context, clock: i32, at: u64) -> Result<u64> {
    match clock {
        clock::REAL | clock::REAL_ALARM | clock::INTERNATIONAL => {
            Ok((at as i128 - i128::from(context.system.boot_time())).clamp(0, i128::from(i64::MAX)) as u64)
        }
        clock::MONOTONIC | clock::BOOT | clock::BOOT_ALARM => Ok(at),
        clock::PROCESS | clock::THREAD => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}
