//! `sched_setattr`, `sched_getattr`, `ioprio_set`, `ioprio_get`.

use core::sync::atomic::Ordering;

use super::system::find_task;
use crate::errno::{Errno, Result};
use crate::task::Context;
use crate::task::credentials::capability;

/// Bytes of the first `struct sched_attr`.
const FIRST_SIZE: u32 = 48;

pub fn sched_getattr(context: &mut Context, number: i32, to: u64, size: u32, flags: u32) -> Result<u64> {
    if to == 0 || number < 0 || !(FIRST_SIZE..=4096).contains(&size) || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let task = find_task(context, number)?;
    let policy = task.policy.load(Ordering::Relaxed) as u32;
    let nice = task.nice.load(Ordering::Relaxed) as u32;
    let priority = task.priority.load(Ordering::Relaxed) as u32;
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    context.write_words(to, [pair(FIRST_SIZE, policy), 0, pair(nice, priority), 0, 0, 0]).map(|()| 0)
}

pub fn sched_setattr(context: &mut Context, number: i32, from: u64, flags: u32) -> Result<u64> {
    const RESET_ON_FORK: u64 = 1;
    if from == 0 || number < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let size = context.read_u32(from)?;
    if size != 0 && size < FIRST_SIZE || size > 4096 {
        context.write_u32(from, FIRST_SIZE)?;
        return Err(Errno::E2BIG);
    }
    let [head, how, tail, ..] = context.read_words::<6>(from)?;
    let (policy, nice, priority) = ((head >> 32) as i32, tail as u32 as i32, (tail >> 32) as i32);
    if how & !0x7f != 0 {
        return Err(Errno::EINVAL);
    }
    super::system::set_policy(context, number, policy, priority)?;
    if matches!(policy, 0 | 3) {
        super::system::setpriority(context, 0, number, nice)?;
    }
    let _ = how & RESET_ON_FORK;
    Ok(0)
}

/// `IOPRIO_WHO_PROCESS`, `_PGRP`, `_USER`.
const PROCESS: u32 = 1;
const USER: u32 = 3;

pub fn ioprio_set(context: &mut Context, which: u32, who: i32, priority: u32) -> Result<u64> {
    let (class, level) = (priority >> 13, priority & 0x1fff);
    match class {
        1 if !context.credentials().has(capability::SYS_ADMIN) => return Err(Errno::EPERM),
        0 if level != 0 => return Err(Errno::EINVAL),
        1 | 2 if level > 7 => return Err(Errno::EINVAL),
        0..=3 => {}
        _ => return Err(Errno::EINVAL),
    }
    if !(PROCESS..=USER).contains(&which) {
        return Err(Errno::EINVAL);
    }
    // There is one disk queue, in the order of asking: the number is kept for those who look.
    let task = if which == PROCESS { find_task(context, who)? } else { context.task.clone() };
    task.disk_priority.store(priority, Ordering::Relaxed);
    Ok(0)
}

pub fn ioprio_get(context: &mut Context, which: u32, who: i32) -> Result<u64> {
    if !(PROCESS..=USER).contains(&which) {
        return Err(Errno::EINVAL);
    }
    let task = if which == PROCESS { find_task(context, who)? } else { context.task.clone() };
    Ok(task.disk_priority.load(Ordering::Relaxed).into())
}
