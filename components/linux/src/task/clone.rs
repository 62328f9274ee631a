//! `fork`, `vfork`, `clone`, `clone3`: new processes and threads.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use core::sync::atomic::Ordering;

use tessera_runtime::object::guest;

use super::process::{Resources, attention, limit, watch};
use super::run::{self, Parts};
use super::wait::wait;
use super::{Context, Process, Task, trace};
use crate::errno::{Errno, Result};
use crate::syscall::{describe, install};

/// The flags of clone(2).
pub mod flags {
    pub const VM: u64 = 0x100;
    pub const FS: u64 = 0x200;
    pub const FILES: u64 = 0x400;
    pub const SIGHAND: u64 = 0x800;
    pub const PIDFD: u64 = 0x1000;
    pub const TRACED: u64 = 0x2000;
    pub const VFORK: u64 = 0x4000;
    pub const PARENT: u64 = 0x8000;
    pub const THREAD: u64 = 0x1_0000;
    pub const DETACHED: u64 = 0x40_0000;
    pub const UNTRACED: u64 = 0x80_0000;
    pub const NEW_MOUNTS: u64 = 0x2_0000;
    pub const NEW_USERS: u64 = 0x1000_0000;
    pub const NEW_PROCESSES: u64 = 0x2000_0000;
    pub const SET_TLS: u64 = 0x8_0000;
    pub const PARENT_SET_NUMBER: u64 = 0x10_0000;
    pub const CHILD_CLEAR_NUMBER: u64 = 0x20_0000;
    pub const CHILD_SET_NUMBER: u64 = 0x100_0000;
    /// Namespaces, which a container cannot make.
    pub const NAMESPACES: u64 =
        NEW_MOUNTS | NEW_USERS | NEW_PROCESSES | 0x200_0000 | 0x400_0000 | 0x800_0000 | 0x4000_0000;
    pub const CLEAR_HANDLERS: u64 = 0x1_0000_0000;
}

/// What is to be made.
#[derive(Clone, Copy, Default, Debug)]
pub struct Request {
    pub flags: u64,
    pub exit_signal: i32,
    /// The child's stack pointer; 0: the parent's.
    pub stack: u64,
    pub parent_number_at: u64,
    pub child_number_at: u64,
    pub thread_pointer: u64,
    /// Where the descriptor of the child is written (`CLONE_PIDFD`).
    pub descriptor_at: u64,
}

/// Most threads of a container, of all its processes.
const MOST_TASKS: usize = 30_000;

/// Makes a thread or process; answers its number.
pub fn clone(context: &mut Context, request: &Request) -> Result<u64> {
    let asked = |flag: u64| request.flags & flag != 0;
    if asked(flags::SIGHAND) && !asked(flags::VM) || asked(flags::THREAD) && !asked(flags::SIGHAND) {
        return Err(Errno::EINVAL);
    }
    if asked(flags::THREAD) && asked(flags::PIDFD) {
        return Err(Errno::EINVAL);
    }
    // A directory and a set of mounts, and what threads and siblings share, cannot be parted.
    if asked(flags::FS) && asked(flags::NEW_MOUNTS | flags::NEW_USERS)
        || asked(flags::THREAD | flags::PARENT) && asked(flags::NEW_USERS | flags::NEW_PROCESSES)
        || asked(flags::SIGHAND) && asked(flags::CLEAR_HANDLERS)
    {
        return Err(Errno::EINVAL);
    }
    if asked(flags::NAMESPACES) {
        return Err(Errno::EPERM);
    }
    if !(0..=crate::signal::LAST).contains(&request.exit_signal) {
        return Err(Errno::EINVAL);
    }
    let system = context.system.clone();
    let limit = context.process.limit(limit::PROCESSES).0;
    if system.task_count() >= MOST_TASKS || system.task_count() as u64 >= limit {
        return Err(Errno::EAGAIN);
    }
    let mut registers = *context.registers();
    registers.rax = 0;
    if request.stack != 0 {
        registers.rsp = request.stack;
    }
    if asked(flags::SET_TLS) {
        registers.fs_base = request.thread_pointer;
    }
    let mm = if asked(flags::VM) { context.memory.mm().clone() } else { context.memory.mm().fork()? };
    let files = if asked(flags::FILES) { context.files.clone() } else { Arc::new(context.files.copy()?) };
    let fs = if asked(flags::FS) { context.fs.clone() } else { Arc::new(context.fs.copy()) };

    let number = system.number();
    let process = if asked(flags::THREAD) { context.process.clone() } else { new_process(context, number, request)? };
    let task = Task::new(number, process.clone(), context.task.mask(), *context.task.name.lock());
    if context.task.watches() & watch::SECCOMP != 0 {
        *task.seccomp.lock() = context.task.seccomp.lock().clone();
        task.watch(watch::SECCOMP);
    }
    task.nice.store(context.task.nice.load(Ordering::Relaxed), Ordering::Relaxed);
    let slack = context.task.timer_slack.load(Ordering::Relaxed);
    task.timer_slack.store(slack, Ordering::Relaxed);
    task.usual_slack.store(slack, Ordering::Relaxed);
    if !asked(flags::THREAD) {
        *process.resources.lock() =
            Resources { mm: Some(mm.clone()), files: Some(files.clone()), fs: Some(fs.clone()) };
    }
    if asked(flags::PIDFD) {
        let described = install(context, describe(&process, 0), true)?;
        if let Err(error) = context.write_u32(request.descriptor_at, described as u32) {
            drop(context.files.close(described as i32));
            return Err(error);
        }
    }
    // Where the numbers are written they are seen before the child runs.
    if asked(flags::PARENT_SET_NUMBER) {
        context.write_u32(request.parent_number_at, number as u32)?;
    }
    if asked(flags::CHILD_SET_NUMBER) {
        if asked(flags::VM) {
            context.write_u32(request.child_number_at, number as u32)?;
        } else {
            mm.write_from_outside(request.child_number_at, &number.to_le_bytes());
        }
    }
    let mut vector = vec![0; 4096];
    let size = guest::vector_state(&mut vector)? as usize;
    vector.truncate(size);
    let vector: Box<[u8]> = vector.into_boxed_slice();

    process.threads.lock().push(task.clone());
    system.add_task(&task);
    if !asked(flags::THREAD) {
        system.add_process(&process);
        let parent = process.relations.lock().parent.upgrade();
        if let Some(parent) = parent {
            parent.relations.lock().children.push(process.clone());
        }
    }
    // What traces the parent traces the child too, if it asked for that.
    let told = if asked(flags::VFORK) {
        trace::event::VFORK
    } else if request.exit_signal == crate::signal::SIGCHLD {
        trace::event::FORK
    } else {
        trace::event::CLONE
    };
    let is_traced = context.task.is_traced() && !asked(flags::UNTRACED);
    let follows = context.task.trace.lock().as_ref().is_some_and(|trace| trace.options & 1 << told != 0);
    if is_traced && (follows || asked(flags::TRACED)) {
        trace::inherit(&context.task, &task);
    }
    let started = run::start(Parts {
        task: task.clone(),
        identity: context.credentials(),
        mm,
        files,
        fs,
        system: system.clone(),
        registers,
        vector: Some(vector),
        signal_stack: if asked(flags::VM) && !asked(flags::VFORK) {
            (0, crate::signal::deliver::DISABLED, 0)
        } else {
            context.signal_stack
        },
        clear_number: if asked(flags::CHILD_CLEAR_NUMBER) { request.child_number_at } else { 0 },
        robust_list: 0,
    });
    if started.is_err() {
        trace::detach(&task, 0);
        system.remove_task(number);
        process.threads.lock().retain(|other| !Arc::ptr_eq(other, &task));
        if !asked(flags::THREAD) {
            system.remove_process(number);
            let parent = process.relations.lock().parent.upgrade();
            if let Some(parent) = parent {
                parent.relations.lock().children.retain(|other| !Arc::ptr_eq(other, &process));
            }
        }
        return Err(Errno::EAGAIN);
    }
    // A process that is ending takes new threads along.
    if asked(flags::THREAD) && context.process.ending().is_some() {
        task.attend(attention::END);
    }
    if is_traced {
        trace::event(context, told, number as u64);
    }
    if asked(flags::VFORK) {
        wait_for_release(context, &process);
        if is_traced {
            trace::event(context, trace::event::VFORK_DONE, number as u64);
        }
    }
    Ok(number as u64)
}

fn new_process(context: &Context, number: i32, request: &Request) -> Result<Arc<Process>> {
    let own = &context.process;
    let sibling = request.flags & flags::PARENT != 0;
    let parent = if sibling { own.relations.lock().parent.upgrade().ok_or(Errno::EINVAL)? } else { own.clone() };
    let process = Process::new(number, Some(&parent), context.credentials(), context.system.now());
    process.set_group(own.group());
    process.set_session(own.session());
    let exit_signal = if sibling { own.exit_signal.load(Ordering::Relaxed) } else { request.exit_signal };
    process.exit_signal.store(exit_signal, Ordering::Relaxed);
    {
        let mut actions = process.actions.lock();
        *actions = own.actions.lock().clone();
        if request.flags & flags::CLEAR_HANDLERS != 0 {
            actions.executed();
        }
    }
    *process.limits.lock() = *own.limits.lock();
    crate::time::timers::limit_changed(&context.system, &process);
    process.executed.lock().place = own.executed.lock().place.clone();
    for (to, from) in [(&process.persona, &own.persona), (&process.barriers, &own.barriers)] {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    process.dumpable.store(own.dumpable.load(Ordering::Relaxed), Ordering::Relaxed);
    process.oom.store(own.oom.load(Ordering::Relaxed), Ordering::Relaxed);
    Ok(process)
}

/// vfork(2): the parent stands still until the child has executed a program or ended. Only its own end interrupts that.
fn wait_for_release(context: &mut Context, child: &Arc<Process>) {
    let released = |_: &mut Context| (child.has_released.load(Ordering::Acquire) != 0).then_some(());
    if wait(context, &[&child.released], None, released).is_ok() {
        return;
    }
    // A signal waits until the child lets go; this thread must not spin meanwhile.
    let waiter = context.task.waiter.clone();
    child.released.enter(&waiter);
    waiter.prepare();
    context.task.waiter.doing.store(u32::from(b'D'), Ordering::Relaxed);
    while child.has_released.load(Ordering::Acquire) == 0 && context.task.attention() & attention::END == 0 {
        let _ = tessera_runtime::object::park(None);
    }
    context.task.waiter.doing.store(0, Ordering::Relaxed);
    child.released.leave(&waiter);
}
