//! Sending signals: to a thread, a process, a group.

use alloc::sync::Arc;

use super::{Info, SIGCONT, SIGKILL, Set, UNBLOCKABLE, Usual, usual};
use crate::task::process::Life;
use crate::task::process::attention;
use crate::task::{Process, Task};

/// All signals that stop.
const STOPPING: Set = Set::of(super::SIGSTOP)
    .union(Set::of(super::SIGTSTP))
    .union(Set::of(super::SIGTTIN))
    .union(Set::of(super::SIGTTOU));

/// What a signal does the moment it is sent, whoever handles it: SIGCONT lets the process go on, and it and the stopping ones cancel
/// each other. Whether it is to be queued.
fn prepare(process: &Arc<Process>, signal: i32) -> bool {
    if !process.is_alive() {
        return false;
    }
    if signal == SIGCONT || signal == SIGKILL {
        forget(process, STOPPING);
        let mut life = process.life.lock();
        let was_stopped = matches!(*life, Life::Stopped { .. });
        if was_stopped {
            *life = if signal == SIGCONT { Life::Continued { told: false } } else { Life::Running };
            drop(life);
            for task in process.threads.lock().iter() {
                task.settle(attention::STOP);
                task.waiter.kick();
            }
            if signal == SIGCONT {
                crate::task::exit::tell_parent(process, super::code::CONTINUED, SIGCONT);
            }
        }
    } else if STOPPING.contains(signal) {
        forget(process, Set::of(SIGCONT));
    }
    true
}

fn forget(process: &Process, signals: Set) {
    process.pending.lock().forget(signals);
    for task in process.threads.lock().iter() {
        task.pending.lock().forget(signals);
    }
}

/// Whether nobody would see the signal: it is ignored, and no thread has it blocked to take it another way.
fn is_ignored(process: &Process, info: &Info, mask: Set) -> bool {
    let signal = info.signal;
    if process.threads.lock().iter().any(|task| task.is_traced()) {
        return false;
    }
    let actions = process.actions.lock();
    // The container's first process gets only the signals that it handles (pid_namespaces(7)).
    let is_default = actions.get(signal).handler == super::DEFAULT;
    let is_shielded = process.number == 1 && is_default && !info.reaches_the_first();
    let is_ignored = actions.ignores(signal) && !UNBLOCKABLE.contains(signal);
    // What is blocked may be handled once it is not.
    (is_shielded || is_ignored) && !mask.contains(signal)
}

/// Sends to one thread. Whether there was room to queue it.
pub fn to_task(task: &Arc<Task>, info: Info) -> bool {
    let process = &task.process;
    if !prepare(process, info.signal) || is_ignored(process, &info, task.mask()) {
        return true;
    }
    let room = task.pending.lock().add(info);
    if !task.mask().contains(info.signal) || UNBLOCKABLE.contains(info.signal) {
        task.attend(attention::SIGNAL);
    } else {
        // Who waits for blocked signals (signalfd, sigwait) looks again.
        task.waiter.wake();
    }
    process.pending_changed.wake_all();
    room
}

/// Sends to a process: one thread that does not block the signal takes it.
pub fn to_process(process: &Arc<Process>, info: Info) -> bool {
    let signal = info.signal;
    if !prepare(process, signal) {
        return true;
    }
    let threads = process.threads.lock().clone();
    let taker = threads.iter().find(|task| !task.mask().contains(signal) || UNBLOCKABLE.contains(signal));
    let mask = if taker.is_some() { Set::EMPTY } else { Set::of(signal) };
    if is_ignored(process, &info, mask) {
        return true;
    }
    let room = process.pending.lock().add(info);
    match taker {
        Some(task) => {
            // It must look at the queue again even if it was told before.
            task.attend(attention::SIGNAL);
            task.waiter.kick();
        }
        None => threads.iter().for_each(|task| task.waiter.wake()),
    }
    if signal == SIGKILL || usual(signal) == Usual::Terminate {
        // The first thread may be the one that ended last.
        threads.iter().filter(|task| !task.mask().contains(signal)).for_each(|task| task.attend(attention::SIGNAL));
    }
    process.pending_changed.wake_all();
    room
}
