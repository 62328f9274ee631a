//! `membarrier`: the other threads of a process, or of all, pass a memory barrier before it returns.
//!
//! A thread passes one whenever it leaves its guest. So those that may be in theirs are let leave, and waited for until they have; a thread
//! that waits in the personality has passed one, and one processor alone never runs two threads between two barriers.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use tessera_runtime::object::{processors, yield_now};

use crate::errno::{Errno, Result};
use crate::task::process::attention;
use crate::task::{Context, Process, Task};

/// `MEMBARRIER_CMD_*`
mod command {
    pub const QUERY: i32 = 0;
    pub const GLOBAL: i32 = 1;
    pub const GLOBAL_EXPEDITED: i32 = 2;
    pub const REGISTER_GLOBAL_EXPEDITED: i32 = 4;
    pub const PRIVATE_EXPEDITED: i32 = 8;
    pub const REGISTER_PRIVATE_EXPEDITED: i32 = 16;
    pub const PRIVATE_SYNC_CORE: i32 = 32;
    pub const REGISTER_PRIVATE_SYNC_CORE: i32 = 64;
    pub const OFFERED: u64 = 0x7f;
}

pub fn membarrier(context: &mut Context, wanted: i32, flags: u32, _processor: i32) -> Result<u64> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let registered = &context.process.barriers;
    match wanted {
        command::QUERY => return Ok(command::OFFERED),
        command::REGISTER_GLOBAL_EXPEDITED
        | command::REGISTER_PRIVATE_EXPEDITED
        | command::REGISTER_PRIVATE_SYNC_CORE => {
            registered.fetch_or(wanted as u32, Ordering::Relaxed);
        }
        command::GLOBAL | command::GLOBAL_EXPEDITED => pass(context, &context.system.processes()),
        command::PRIVATE_EXPEDITED | command::PRIVATE_SYNC_CORE => {
            // What registers for a command is twice its number.
            if registered.load(Ordering::Relaxed) & (wanted as u32) << 1 == 0 {
                return Err(Errno::EPERM);
            }
            pass(context, core::slice::from_ref(&context.process));
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// Returns when all threads of these processes have passed a barrier since it was called.
fn pass(context: &Context, processes: &[Arc<Process>]) {
    if processors() == 1 {
        return;
    }
    let mut waited_for: Vec<(Arc<Task>, u64)> = Vec::new();
    for process in processes {
        let threads = process.threads.lock();
        waited_for.extend(threads.iter().filter(|task| may_be_in_guest(context, task)).map(|task| {
            let left = left(task);
            task.waiter.kick();
            (task.clone(), left)
        }));
    }
    for (task, before) in waited_for {
        let ends = || context.task.attention() & attention::END != 0;
        let lives = || task.process.threads.lock().iter().any(|other| Arc::ptr_eq(other, &task));
        while left(&task) == before && may_be_in_guest(context, &task) && lives() && !ends() {
            yield_now();
        }
    }
}

fn may_be_in_guest(context: &Context, task: &Arc<Task>) -> bool {
    !Arc::ptr_eq(task, &context.task) && task.waiter.doing.load(Ordering::Acquire) == 0
}

/// Changes whenever a thread leaves its guest: the time that it spent there.
fn left(task: &Task) -> u64 {
    task.used.first().map_or(0, |used| used.load(Ordering::Acquire))
}
