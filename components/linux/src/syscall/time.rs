//! Time: clocks, sleeping, timers, the time that was used.

use core::sync::atomic::Ordering;

use super::process::write_usage;
use crate::errno::{Errno, Result};
use crate::signal::{LAST, SIGALRM};
use crate::task::credentials::capability;
use crate::task::{Context, wait};
use crate::time::timers::{self, Meter, Timer};
use crate::time::{self, SECOND, clock, read_timespec, read_timeval, write_timespec, write_timeval};

pub fn clock_gettime(context: &mut Context, which: i32, to: u64) -> Result<u64> {
    let now = time::read(context, which)?;
    write_timespec(context, to, now).map(|()| 0)
}

pub fn clock_getres(context: &mut Context, which: i32, to: u64) -> Result<u64> {
    time::read(context, which)?;
    let coarse = which == clock::REAL_COARSE || which == clock::MONOTONIC_COARSE;
    if to != 0 {
        write_timespec(context, to, if coarse { 4_000_000 } else { 1 })?;
    }
    Ok(0)
}

pub fn clock_settime(context: &mut Context, which: i32, from: u64) -> Result<u64> {
    if which != clock::REAL {
        return Err(Errno::EINVAL);
    }
    let now = read_timespec(context, from)?;
    if !context.credentials().has(capability::SYS_TIME) {
        return Err(Errno::EPERM);
    }
    context.system.set_wall(now as i64);
    Ok(0)
}

pub fn gettimeofday(context: &mut Context, to: u64, zone: u64) -> Result<u64> {
    if to != 0 {
        write_timeval(context, to, context.system.wall_now().max(0) as u64)?;
    }
    if zone != 0 {
        context.write_u64(zone, 0)?;
    }
    Ok(0)
}

pub fn time(context: &mut Context, to: u64) -> Result<u64> {
    let now = context.system.wall_now().max(0) as u64 / SECOND;
    if to != 0 {
        context.write_u64(to, now)?;
    }
    Ok(now)
}

/// Sleeps until a moment; `left` is where what is left is written after an interruption, or 0.
fn sleep_until(context: &mut Context, deadline: u64, left: u64) -> Result<u64> {
    match wait::<core::convert::Infallible>(context, &[], Some(deadline), |_| None) {
        Ok(never) => match never {},
        Err(Errno::ETIMEDOUT) => Ok(0),
        Err(_) => {
            if left != 0 {
                write_timespec(context, left, deadline.saturating_sub(context.system.now()))?;
                // A handler runs, and what is left is told: it is not begun again from the start.
                if crate::signal::is_pending(context) {
                    return Err(Errno::EINTR);
                }
            }
            Err(Errno::ERESTARTNOHAND)
        }
    }
}

/// Sleeps until others have worked for so long.
fn sleep_while_working(
    context: &mut Context,
    meter: Meter,
    (time, is_absolute): (u64, bool),
    left: u64,
) -> Result<u64> {
    const STEP: u64 = 4_000_000;
    let read = |context: &Context| timers::read(&context.system, &context.process, meter).ok_or(Errno::EINVAL);
    let due = if is_absolute { time } else { read(context)?.saturating_add(time) };
    loop {
        let rest = due.saturating_sub(read(context)?);
        if rest == 0 {
            return Ok(0);
        }
        // What is worked meanwhile is counted by the next look.
        let until = context.system.now().saturating_add(STEP);
        match wait::<core::convert::Infallible>(context, &[], Some(until), |_| None) {
            Ok(never) => match never {},
            Err(Errno::ETIMEDOUT) => drop(timers::count_guests(&context.process)),
            Err(_) if is_absolute || left == 0 => return Err(Errno::ERESTARTNOHAND),
            Err(_) => {
                write_timespec(context, left, due.saturating_sub(read(context)?))?;
                let handled = crate::signal::is_pending(context);
                return Err(if handled { Errno::EINTR } else { Errno::ERESTARTNOHAND });
            }
        }
    }
}

pub fn nanosleep(context: &mut Context, time: u64, left: u64) -> Result<u64> {
    let time = read_timespec(context, time)?;
    let deadline = context.system.now().saturating_add(time);
    if time == 0 {
        tessera_runtime::object::yield_now();
        return Ok(0);
    }
    sleep_until(context, deadline, left)
}

pub fn clock_nanosleep(context: &mut Context, which: i32, flags: u32, time: u64, left: u64) -> Result<u64> {
    const ABSOLUTE: u32 = 1;
    time::read(context, which)?;
    // Those that only tell.
    if matches!(which, clock::THREAD | clock::RAW | clock::REAL_COARSE | clock::MONOTONIC_COARSE) {
        return Err(Errno::EOPNOTSUPP);
    }
    let time = read_timespec(context, time)?;
    match time::meter(context, which) {
        Meter::Boot => {}
        // A thread that sleeps would wait for its own work.
        Meter::Thread(number) if number == context.task.number() => return Err(Errno::EINVAL),
        meter => return sleep_while_working(context, meter, (time, flags & ABSOLUTE != 0), left),
    }
    if flags & ABSOLUTE != 0 {
        let deadline = time::moment(context, which, time)?;
        return sleep_until(context, deadline, 0);
    }
    let deadline = context.system.now().saturating_add(time);
    sleep_until(context, deadline, left)
}

/// What is left of a timer.
fn left(context: &Context, timer: &Timer) -> u64 {
    let shown = timers::read(&context.system, &context.process, timer.meter).unwrap_or(0);
    // A timer that is about to fire shows a little: 0 would say that it is off.
    if timer.due == 0 { 0 } else { timer.due.saturating_sub(shown).max(1000) }
}

pub fn getitimer(context: &mut Context, which: u32, to: u64) -> Result<u64> {
    let timer = context.process.timers.lock().interval(which as usize)?;
    write_timeval(context, to, timer.interval)?;
    write_timeval(context, to.wrapping_add(16), left(context, &timer))?;
    Ok(0)
}

pub fn setitimer(context: &mut Context, which: u32, new: u64, old: u64) -> Result<u64> {
    let (interval, value) =
        if new == 0 { (0, 0) } else { (read_timeval(context, new)?, read_timeval(context, new.wrapping_add(16))?) };
    let before = timers::set_interval(&context.system, &context.process, which as usize, value, interval)?;
    if old != 0 {
        write_timeval(context, old, before.interval)?;
        write_timeval(context, old.wrapping_add(16), left(context, &before))?;
    }
    Ok(0)
}

pub fn alarm(context: &mut Context, seconds: u32) -> Result<u64> {
    let after = u64::from(seconds) * SECOND;
    let before = timers::set_interval(&context.system, &context.process, 0, after, 0)?;
    Ok(left(context, &before).div_ceil(SECOND))
}

pub fn timer_create(context: &mut Context, which: i32, event: u64, to: u64) -> Result<u64> {
    const SIGNAL: u32 = 0;
    const NONE: u32 = 1;
    const THREAD: u32 = 2;
    const THREAD_ID: u32 = 4;
    time::read(context, which)?;
    let meter = time::meter(context, which);
    let mut timer = Timer { clock: which, meter, signal: SIGALRM, ..Timer::default() };
    let mut by_default = true;
    if event != 0 {
        let [value, words, thread] = context.read_words(event)?;
        let (signal, notify) = (words as u32 as i32, (words >> 32) as u32);
        timer.value = value;
        by_default = false;
        match notify {
            NONE => timer.signal = 0,
            // The C library makes threads of their own for such timers; to the kernel they send a signal.
            SIGNAL | THREAD | THREAD_ID => {
                if !(1..=LAST).contains(&signal) {
                    return Err(Errno::EINVAL);
                }
                timer.signal = signal;
                if notify == THREAD_ID {
                    let number = thread as u32 as i32;
                    let task = context.system.task(number).ok_or(Errno::EINVAL)?;
                    if task.process.number != context.process.number {
                        return Err(Errno::EINVAL);
                    }
                    timer.thread = number;
                }
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    let number = context.process.timers.lock().create(timer)?;
    if by_default {
        // The value of a timer without an event is its number.
        context.process.timers.lock().set_value(number, number as u64);
    }
    context.write_u32(to, number as u32)?;
    Ok(0)
}

pub fn timer_settime(context: &mut Context, number: i32, flags: u32, new: u64, old: u64) -> Result<u64> {
    const ABSOLUTE: u32 = 1;
    if new == 0 {
        return Err(Errno::EINVAL);
    }
    let timer = context.process.timers.lock().named(number)?;
    let interval = read_timespec(context, new)?;
    let value = read_timespec(context, new.wrapping_add(16))?;
    let due = match value {
        0 => 0,
        value if flags & ABSOLUTE != 0 => match timer.meter {
            Meter::Boot => time::moment(context, timer.clock, value)?.max(1),
            _ => value,
        },
        value => timers::read(&context.system, &context.process, timer.meter).unwrap_or(0).saturating_add(value),
    };
    let before = timers::set_named(&context.system, &context.process, number, due, interval)?;
    if old != 0 {
        write_timespec(context, old, before.interval)?;
        write_timespec(context, old.wrapping_add(16), left(context, &before))?;
    }
    Ok(0)
}

pub fn timer_gettime(context: &mut Context, number: i32, to: u64) -> Result<u64> {
    let timer = context.process.timers.lock().named(number)?;
    write_timespec(context, to, timer.interval)?;
    write_timespec(context, to.wrapping_add(16), left(context, &timer))?;
    Ok(0)
}

pub fn timer_getoverrun(context: &mut Context, number: i32) -> Result<u64> {
    Ok(context.process.timers.lock().named(number)?.overrun.into())
}

pub fn timer_delete(context: &mut Context, number: i32) -> Result<u64> {
    context.process.timers.lock().delete(number).map(|()| 0)
}

pub fn times(context: &mut Context, to: u64) -> Result<u64> {
    // Clock ticks of a hundredth of a second.
    let in_ticks = |ticks: u64| context.system.nanoseconds(ticks) / 10_000_000;
    if to != 0 {
        let [user, system] = context.process.used_by_threads().map(in_ticks);
        let [child_user, child_system] =
            context.process.used_by_children.each_ref().map(|used| in_ticks(used.load(Ordering::Relaxed)));
        context.write_words(to, [user, system, child_user, child_system])?;
    }
    Ok(context.system.now() / 10_000_000)
}

pub fn getrusage(context: &mut Context, who: i32, to: u64) -> Result<u64> {
    let used = match who {
        0 => context.process.used_by_threads(),
        -1 => context.process.used_by_children.each_ref().map(|used| used.load(Ordering::Relaxed)),
        1 => context.task.used.each_ref().map(|used| used.load(Ordering::Relaxed)),
        _ => return Err(Errno::EINVAL),
    };
    write_usage(context, to, used).map(|()| 0)
}

pub fn settimeofday(context: &mut Context, time: u64, _zone: u64) -> Result<u64> {
    if time == 0 {
        return Ok(0);
    }
    let time = read_timeval(context, time)?;
    if !context.credentials().has(capability::SYS_TIME) {
        return Err(Errno::EPERM);
    }
    context.system.set_wall(i64::try_from(time).map_err(|_| Errno::EINVAL)?);
    Ok(0)
}

/// `adjtimex`: how the clock is steered. It is not: whoever asks reads that it is not synchronised.
pub fn adjtimex(context: &mut Context, record: u64) -> Result<u64> {
    const WORDS: usize = 26;
    const UNSYNCHRONISED: u64 = 0x40;
    const TIME_ERROR: u64 = 5;
    // `ADJ_ADJTIME`, which stands with `ADJ_OFFSET` for the old adjtime(3); with `ADJ_READONLY` that only tells.
    const OLD: u32 = 0x8000;
    const OFFSET: u32 = 1;
    const READ_ONLY: u32 = 0x2000;
    let modes = context.read_u32(record)?;
    if modes & OLD != 0 && modes & OFFSET == 0 {
        return Err(Errno::EINVAL);
    }
    if modes != 0 && modes & (OLD | READ_ONLY) != OLD | READ_ONLY {
        return Err(if context.credentials().has(capability::SYS_TIME) { Errno::EOPNOTSUPP } else { Errno::EPERM });
    }
    let now = context.system.wall_now().max(0) as u64;
    let mut words = [0; WORDS];
    // struct timex: modes, offset, frequency, greatest error, estimated error, status, constant, precision, tolerance, time, tick.
    let told =
        [0, 0, 0, 16_000_000, 16_000_000, UNSYNCHRONISED, 2, 1, 32_768_000, now / SECOND, now % SECOND / 1000, 10_000];
    for (to, from) in words.iter_mut().zip(told) {
        *to = from;
    }
    context.write_words(record, words)?;
    Ok(TIME_ERROR)
}

pub fn clock_adjtime(context: &mut Context, which: i32, record: u64) -> Result<u64> {
    match which {
        clock::REAL => adjtimex(context, record),
        clock::MONOTONIC | clock::BOOT => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}
