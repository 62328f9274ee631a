//! The end of threads and processes, and waiting for it; stopping and going on.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::process::{Life, attention};
use super::{Context, Process, System, Task, trace};
use crate::file::Table;
use crate::futex;
use crate::memory::Mm;
use crate::signal::{Info, SIGCHLD, SIGCONT, SIGHUP, code, flags, send};

/// Entries of a robust list that are looked at (`ROBUST_LIST_LIMIT`).
const MOST_ROBUST: usize = 2048;
const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;
const OWNER: u32 = 0x3fff_ffff;

/// The thread ends. `status` becomes the process's if this was its last thread and nothing else was decided.
pub fn thread(context: &mut Context, status: i32) {
    if context.task.is_traced() {
        let status = context.process.ending().unwrap_or(status);
        trace::event(context, trace::event::EXIT, status as u64);
    }
    if context.robust_list != 0 {
        release_robust(context);
    }
    if context.clear_number != 0 && Arc::strong_count(context.memory.mm()) > 1 {
        let address = core::mem::take(&mut context.clear_number);
        if context.write_u32(address, 0).is_ok() {
            for private in [true, false] {
                if let Ok(key) = futex::key(context, address, private) {
                    context.system.futexes.wake(key, 1, futex::ANY);
                }
            }
        }
    }
    leave(&context.task, status, &context.files, &context.system, Some(context.memory.mm()));
}

/// The same for a thread that never got a guest.
pub fn without_guest(task: &Arc<Task>, files: &Arc<Table>, system: &Arc<System>) {
    leave(task, crate::signal::SIGKILL, files, system, None);
}

fn leave(task: &Arc<Task>, status: i32, files: &Arc<Table>, system: &Arc<System>, memory: Option<&Arc<Mm>>) {
    let process = task.process.clone();
    let mut threads = process.threads.lock();
    let is_last = threads.len() == 1;
    for (all, own) in process.used.iter().zip(&task.used) {
        all.fetch_add(own.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    if !is_last {
        threads.retain(|other| !Arc::ptr_eq(other, task));
        drop(threads);
        trace::ended(task, process.ending().unwrap_or(status), false);
        system.remove_task(task.number());
        process.thread_ended.wake_all();
        return;
    }
    drop(threads);
    // The last one: the process ends. Its task stays in the table until it is waited for.
    let status = process.ending().unwrap_or(status);
    let resources = core::mem::take(&mut *process.resources.lock());
    if Arc::strong_count(files) <= 2 {
        for description in files.take_all() {
            description.file.closed_by(process.number);
        }
    }
    drop(resources);
    for (_, set) in system.ipc.semaphores.all() {
        set.undo(process.number);
    }
    // Before anybody hears of the end: whoever waits for memory finds it.
    if let Some(memory) = memory.filter(|memory| Arc::strong_count(memory) == 1) {
        let _ = memory.clear();
    }
    system.shortage.refill();
    release_parent(&process);
    system.remove_task(task.number());
    process.threads.lock().clear();
    if process.number == 1 {
        let code = if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) };
        // The container ends with its first process, and the machine with the container.
        system.end(code as u8);
    }
    adopt_children(&process, system);
    if process.session() == process.number {
        end_session(&process, system);
    }
    let parent = process.relations.lock().parent.upgrade();
    let signal = process.exit_signal.load(Ordering::Relaxed);
    let ignored = parent.as_ref().is_none_or(|parent| {
        let action = parent.actions.lock().get(SIGCHLD);
        signal == SIGCHLD && (action.handler == crate::signal::IGNORE || action.flags & flags::NO_CHILD_WAIT != 0)
    });
    trace::tracer_ended(&process);
    *process.life.lock() = Life::Zombie { status };
    trace::ended(task, status, true);
    process.ended.wake_all();
    if let Some(parent) = parent {
        if ignored {
            reap(&parent, &process, system);
        }
        if signal != 0 && !(ignored && signal == SIGCHLD && parent.actions.lock().ignores(SIGCHLD)) {
            let info = child_info(&process, signal, exit_code(status).0, exit_code(status).1);
            send::to_process(&parent, info);
        }
        parent.children_changed.wake_all();
    } else {
        system.remove_process(process.number);
    }
}

/// `si_code` and `si_status` of a status.
pub fn exit_code(status: i32) -> (i32, i32) {
    match status & 0x7f {
        0 => (code::EXITED, status >> 8 & 0xff),
        signal if status & 0x80 != 0 => (code::DUMPED, signal),
        signal => (code::KILLED, signal),
    }
}

/// What is told of a child.
pub fn child_info(child: &Process, signal: i32, code: i32, status: i32) -> Info {
    let user = child.credentials().user;
    let first = u64::from(child.number as u32) | u64::from(user) << 32;
    Info { signal, code, fields: [first, u64::from(status as u32), 0, 0], error: 0 }
}

/// Takes a zombie out of its parent's children: it is gone.
pub fn reap(parent: &Arc<Process>, child: &Arc<Process>, system: &System) {
    *child.life.lock() = Life::Gone;
    for (sum, own) in parent.used_by_children.iter().zip(child.used.iter().zip(&child.used_by_children)) {
        sum.fetch_add(own.0.load(Ordering::Relaxed) + own.1.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    parent.relations.lock().children.retain(|other| !Arc::ptr_eq(other, child));
    system.remove_process(child.number);
}

/// The children of a process that ended go to the nearest ancestor that collects them, or to the first process.
fn adopt_children(process: &Arc<Process>, system: &Arc<System>) {
    let children = core::mem::take(&mut process.relations.lock().children);
    if children.is_empty() {
        return;
    }
    let mut ancestor = process.relations.lock().parent.upgrade();
    while let Some(candidate) = &ancestor {
        if candidate.is_reaper.load(Ordering::Relaxed) != 0 && candidate.is_alive() {
            break;
        }
        let next = candidate.relations.lock().parent.upgrade();
        ancestor = next;
    }
    let Some(adopter) = ancestor.or_else(|| system.process(1)) else { return };
    for child in children {
        child.set_parent(&adopter);
        adopter.relations.lock().children.push(child.clone());
        let signal = child.parent_death_signal.load(Ordering::Relaxed);
        if signal != 0 {
            send::to_process(&child, Info::user(signal, code::USER, process.number, 0));
        }
        if !child.is_alive() {
            child.exit_signal.store(SIGCHLD, Ordering::Relaxed);
            let status = match *child.life.lock() {
                Life::Zombie { status } => status,
                _ => continue,
            };
            let (code, value) = exit_code(status);
            send::to_process(&adopter, child_info(&child, SIGCHLD, code, value));
        }
    }
    adopter.children_changed.wake_all();
}

/// A session's leader ended: who is left in the foreground hears of it.
fn end_session(leader: &Arc<Process>, system: &Arc<System>) {
    let members: Vec<_> = system.processes();
    for member in members.iter().filter(|member| member.session() == leader.number && member.number != leader.number) {
        if matches!(*member.life.lock(), Life::Stopped { .. }) {
            send::to_process(member, Info::kernel(SIGHUP));
            send::to_process(member, Info::kernel(SIGCONT));
        }
    }
}

/// Whether nobody outside a process's group but in its session could let it go on.
pub fn is_orphaned(process: &Arc<Process>) -> bool {
    let parent = process.relations.lock().parent.upgrade();
    parent.is_none_or(|parent| parent.session() != process.session() || parent.number == process.number)
}

/// A child stopped or goes on: the parent is told, unless it does not want to be.
pub fn tell_parent(process: &Arc<Process>, code: i32, signal: i32) {
    let Some(parent) = process.relations.lock().parent.upgrade() else { return };
    if parent.actions.lock().get(SIGCHLD).flags & flags::NO_CHILD_STOP == 0 {
        send::to_process(&parent, child_info(process, SIGCHLD, code, signal));
    }
    parent.children_changed.wake_all();
}

/// The thread waits while its process is stopped. Whether it goes on; else it is to end.
pub fn stay_stopped(context: &mut Context) -> bool {
    loop {
        let stopped = matches!(*context.process.life.lock(), Life::Stopped { .. });
        // Its tracer wants to see a thread that is stopped.
        if !stopped || context.task.is_traced() {
            if !stopped {
                context.task.settle(attention::STOP);
            }
            return true;
        }
        if context.task.attention() & attention::END != 0 {
            return false;
        }
        let _ = tessera_runtime::object::park(None);
    }
}

/// A parent in vfork(2) goes on: the child executes another program, or ends.
pub fn release_parent(process: &Process) {
    process.has_released.store(1, Ordering::Release);
    process.released.wake_all();
}

/// The locks that the thread holds are marked as left behind (robust futexes, Documentation/locking/robust-futexes).
fn release_robust(context: &mut Context) {
    let head = core::mem::take(&mut context.robust_list);
    let Ok([mut entry, offset, pending]) = context.read_words::<3>(head) else { return };
    let own = context.task.number() as u32;
    let release = |context: &Context, entry: u64| {
        let address = (entry & !1).wrapping_add(offset);
        let Ok(was) = context.memory.load(address) else { return };
        if was & OWNER != own {
            return;
        }
        let update = |value: u32| (value & OWNER == own).then_some(value & WAITERS | OWNER_DIED);
        if let Ok(was) = context.memory.update(address, update)
            && was & WAITERS != 0
        {
            for private in [true, false] {
                if let Ok(key) = futex::key(context, address, private) {
                    context.system.futexes.wake(key, 1, futex::ANY);
                }
            }
        }
    };
    for _ in 0..MOST_ROBUST {
        if entry & !1 == head {
            break;
        }
        let next = context.read_u64(entry & !1);
        if entry & !1 != pending & !1 {
            release(context, entry);
        }
        match next {
            Ok(next) => entry = next,
            Err(_) => break,
        }
    }
    if pending & !1 != 0 {
        release(context, pending);
    }
}
