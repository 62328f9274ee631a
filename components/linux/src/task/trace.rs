//! Tracing (ptrace(2)): a traced thread stops at calls, signals and events, and its tracer looks at it and changes it until it lets it
//! go on.
//!
//! What a stopped thread shows is a copy: the thread itself, which waits in [`stop`], puts it there and takes it back. Locks: a
//! thread's trace is taken with no other lock held.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use tessera_runtime::abi::x86_64::Registers;
use tessera_runtime::object::{guest, park, ticks};

use super::process::{Life, attention, watch};
use super::{Context, Process, Task, exit};
use crate::signal::{Info, SIGCHLD, SIGKILL, SIGSTOP, SIGTRAP, code, flags, send};

/// The options of `PTRACE_SETOPTIONS`.
pub mod option {
    pub const GOOD_CALLS: u32 = 1;
    pub const FORK: u32 = 2;
    pub const VFORK: u32 = 4;
    pub const CLONE: u32 = 8;
    pub const EXECUTE: u32 = 0x10;
    pub const VFORK_DONE: u32 = 0x20;
    pub const EXIT: u32 = 0x40;
    pub const SECCOMP: u32 = 0x80;
    pub const KILL_AT_EXIT: u32 = 0x10_0000;
    pub const ALL: u32 = 0xff | KILL_AT_EXIT;
}

/// `PTRACE_EVENT_*`.
pub mod event {
    pub const FORK: i32 = 1;
    pub const VFORK: i32 = 2;
    pub const CLONE: i32 = 3;
    pub const EXECUTE: i32 = 4;
    pub const VFORK_DONE: i32 = 5;
    pub const EXIT: i32 = 6;
    pub const SECCOMP: i32 = 7;
    pub const STOP: i32 = 128;
}

/// `CLD_TRAPPED`, `TRAP_TRACE`.
pub const TRAPPED: i32 = 4;
pub const TRACED: i32 = 2;
/// `orig_rax` outside calls.
pub const NO_CALL: u64 = u64::MAX;
/// The status of a thread that was interrupted, or whose process goes on.
const INTERRUPTED: i32 = SIGTRAP | event::STOP << 8;
/// The trap flag of `rflags`.
const STEP: u64 = 0x100;
/// The most that the vector state takes.
const MOST_STATE: usize = 4096;

/// How a thread goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum How {
    #[default]
    Continue,
    /// To the next entry of a call or return from one.
    Calls,
    /// One instruction.
    Step,
}

/// Why a thread stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A signal is to be handled.
    Signal,
    Entry,
    Return,
    Seccomp,
    Event(i32),
    /// The process is stopped, or the tracer interrupted the thread.
    Group,
}

/// A thread that is traced.
pub struct Trace {
    tracer: Weak<Process>,
    pub seized: bool,
    pub options: u32,
    how: How,
    pub stopped: Option<Stop>,
    /// `PTRACE_INTERRUPT` was asked.
    interrupted: bool,
    /// `PTRACE_LISTEN`: it stays stopped, and tells when the process goes on.
    listens: bool,
    /// Stops that come before the guest goes on: a program was replaced, or the thread is new.
    due: VecDeque<(Reason, u64)>,
    /// The status with which it ended.
    ended: Option<i32>,
}

/// What a stopped thread shows.
pub struct Stop {
    pub reason: Reason,
    /// What wait(2) tells: the signal, with an event above it.
    status: i32,
    told: bool,
    pub registers: Registers,
    /// The number of the call it is in, or all ones.
    pub call: u64,
    pub vector: Vec<u8>,
    pub info: Info,
    /// What `PTRACE_GETEVENTMSG` tells.
    pub message: u64,
    is_changed: bool,
    vector_is_changed: bool,
}

impl Stop {
    /// Its registers, to be changed.
    pub fn registers_mut(&mut self) -> (&mut Registers, &mut u64) {
        self.is_changed = true;
        (&mut self.registers, &mut self.call)
    }

    /// Its vector state, to be changed.
    pub fn vector_mut(&mut self) -> &mut [u8] {
        self.vector_is_changed = true;
        &mut self.vector
    }
}

impl Trace {
    fn new(tracer: &Arc<Process>, seized: bool, options: u32) -> Trace {
        Trace {
            tracer: Arc::downgrade(tracer),
            seized,
            options,
            how: How::Continue,
            stopped: None,
            interrupted: false,
            listens: false,
            due: VecDeque::new(),
            ended: None,
        }
    }

    /// Whether this process traces it.
    pub fn is_of(&self, tracer: &Arc<Process>) -> bool {
        core::ptr::eq(self.tracer.as_ptr(), Arc::as_ptr(tracer))
    }

    /// Whether it is stopped because the process is, so that the tracer may listen.
    pub fn may_listen(&self) -> bool {
        self.seized && self.stopped.as_ref().is_some_and(|stop| stop.reason == Reason::Group)
    }
}

/// The process that traces a thread.
pub fn tracer_of(task: &Task) -> Option<Arc<Process>> {
    task.trace.lock().as_ref().and_then(|trace| trace.tracer.upgrade())
}

/// Begins to trace. Whether the thread was not traced yet.
pub fn attach(task: &Arc<Task>, tracer: &Arc<Process>, seized: bool, options: u32) -> bool {
    {
        let mut trace = task.trace.lock();
        if trace.is_some() {
            return false;
        }
        *trace = Some(Trace::new(tracer, seized, options));
    }
    task.watch(watch::TRACED);
    tracer.tracees.lock().push(task.clone());
    // One that stands still because its process is stopped shows that to the tracer.
    task.waiter.kick();
    true
}

/// Traces a child as its parent is traced.
pub fn inherit(parent: &Task, child: &Arc<Task>) {
    let Some((tracer, seized, options)) = ({
        let trace = parent.trace.lock();
        trace.as_ref().and_then(|trace| Some((trace.tracer.upgrade()?, trace.seized, trace.options)))
    }) else {
        return;
    };
    attach(child, &tracer, seized, options);
    if seized {
        if let Some(trace) = child.trace.lock().as_mut() {
            trace.due.push_back((Reason::Group, 0));
        }
        child.attend(attention::TRACE);
    } else {
        send::to_task(child, Info::user(SIGSTOP, code::USER, 0, 0));
    }
}

/// Traces no more; a thread that is stopped goes on with `signal`.
pub fn detach(task: &Arc<Task>, signal: i32) {
    let tracer = tracer_of(task);
    let taken = task.trace.lock().take();
    task.unwatch(watch::TRACED | watch::CALLS);
    if let Some(tracer) = tracer {
        tracer.tracees.lock().retain(|other| !Arc::ptr_eq(other, task));
    }
    if let Some(mut trace) = taken {
        // What the tracer changed must reach the thread, which takes it from here.
        if let Some(stop) = trace.stopped.take() {
            *task.released.lock() = Some((stop, signal));
        }
    }
    if matches!(*task.process.life.lock(), Life::Stopped { .. }) {
        task.attend(attention::STOP);
    }
    task.waiter.kick();
}

/// A tracer ends: what it traced goes on alone, or ends too if it asked for that.
pub fn tracer_ended(tracer: &Process) {
    let tracees = core::mem::take(&mut *tracer.tracees.lock());
    for task in tracees {
        let kills = task.trace.lock().as_ref().is_some_and(|trace| trace.options & option::KILL_AT_EXIT != 0);
        if kills {
            task.process.end(SIGKILL);
        }
        detach(&task, 0);
    }
}

/// Lets a stopped thread go on.
pub fn resume(task: &Task, how: How, signal: i32) {
    if let Some(trace) = task.trace.lock().as_mut() {
        (trace.how, trace.listens) = (how, false);
        if let Some(stop) = trace.stopped.take() {
            *task.released.lock() = Some((stop, signal));
        }
    }
    if how == How::Continue {
        task.unwatch(watch::CALLS);
    } else {
        task.watch(watch::CALLS);
    }
    task.waiter.kick();
}

/// `PTRACE_LISTEN`.
pub fn listen(task: &Task) {
    if let Some(trace) = task.trace.lock().as_mut() {
        trace.listens = true;
    }
    task.waiter.kick();
}

/// `PTRACE_INTERRUPT`.
pub fn interrupt(task: &Task) {
    if let Some(trace) = task.trace.lock().as_mut() {
        trace.interrupted = true;
    }
    task.attend(attention::TRACE);
    task.waiter.kick();
}

/// What a tracer's wait(2) finds out of a thread, if there is something new: the status. `keep` leaves it to be found again.
pub fn news(task: &Arc<Task>, keep: bool) -> Option<i32> {
    let mut guard = task.trace.lock();
    let trace = guard.as_mut()?;
    if let Some(status) = trace.ended {
        if !keep {
            let tracer = trace.tracer.upgrade();
            *guard = None;
            drop(guard);
            if let Some(tracer) = tracer {
                tracer.tracees.lock().retain(|other| !Arc::ptr_eq(other, task));
            }
        }
        return Some(status);
    }
    let stop = trace.stopped.as_mut().filter(|stop| !stop.told)?;
    stop.told = !keep;
    Some(stop.status << 8 | 0x7f)
}

fn tell(tracer: &Arc<Process>, task: &Task, status: i32) {
    if tracer.actions.lock().get(SIGCHLD).flags & flags::NO_CHILD_STOP == 0 {
        let mut info = exit::child_info(&task.process, SIGCHLD, TRAPPED, status & 0x7f);
        info.fields[0] = info.fields[0] & !0xffff_ffff | task.number() as u64;
        send::to_process(tracer, info);
    }
    tracer.children_changed.wake_all();
}

/// Whether nothing is left to wait for: the process ends, whatever the tracer wants.
fn is_doomed(context: &Context, reason: Reason) -> bool {
    let killed =
        context.process.pending.lock().set().contains(SIGKILL) || context.task.pending.lock().set().contains(SIGKILL);
    killed || reason != Reason::Event(event::EXIT) && context.task.attention() & attention::END != 0
}

/// The registers that a stopped thread shows, and its vector state.
fn shown(context: &mut Context) -> (Registers, Vec<u8>) {
    let mut vector = alloc::vec![0; MOST_STATE];
    let size = guest::vector_state(&mut vector).unwrap_or(0) as usize;
    vector.truncate(size);
    let mut registers = *context.registers();
    registers.rflags &= !STEP;
    (registers, vector)
}

/// A listening thread whose process goes on has something to tell: to whom.
fn listened(context: &Context) -> Option<Arc<Process>> {
    let is_stopped = matches!(*context.process.life.lock(), Life::Stopped { .. });
    let mut trace = context.task.trace.lock();
    let trace = trace.as_mut().filter(|trace| trace.listens && !is_stopped)?;
    trace.listens = false;
    let stop = trace.stopped.as_mut()?;
    (stop.status, stop.told) = (INTERRUPTED, false);
    trace.tracer.upgrade()
}

/// Stops the thread, if it is traced, until its tracer lets it go on. Answers the signal that the tracer gave with it, and what the
/// signal tells.
fn stop(
    context: &mut Context,
    reason: Reason,
    status: i32,
    info: Info,
    call: u64,
    message: u64,
) -> Option<(i32, Info)> {
    if is_doomed(context, reason) {
        return None;
    }
    let task = context.task.clone();
    let (registers, vector) = shown(context);
    let tracer = {
        let mut trace = task.trace.lock();
        let trace = trace.as_mut()?;
        // Whatever an earlier stop left that ended for another reason.
        *task.released.lock() = None;
        trace.stopped = Some(Stop {
            reason,
            status,
            told: false,
            registers,
            call,
            vector,
            info,
            message,
            is_changed: false,
            vector_is_changed: false,
        });
        trace.tracer.upgrade()?
    };
    tell(&tracer, &task, status);
    let (stop, signal) = loop {
        if let Some(released) = task.released.lock().take() {
            break released;
        }
        if is_doomed(context, reason) {
            break (task.trace.lock().as_mut().and_then(|trace| trace.stopped.take())?, 0);
        }
        if let Some(tracer) = listened(context) {
            tell(&tracer, &task, INTERRUPTED);
        }
        let since = ticks();
        let _ = park(None);
        context.waited.set(context.waited.get().wrapping_add(ticks().wrapping_sub(since)));
    };
    if stop.is_changed {
        *context.registers_mut() = stop.registers.sanitized();
        context.call = stop.call;
    }
    if stop.vector_is_changed {
        // Refused only to a thread without a guest.
        let _ = guest::set_vector_state(&stop.vector);
    }
    if task.trace.lock().as_ref().is_some_and(|trace| trace.how == How::Step) {
        context.registers_mut().rflags |= STEP;
    } else if context.has_registers && context.state.registers.rflags & STEP != 0 {
        context.registers_mut().rflags &= !STEP;
    }
    Some((signal, stop.info))
}

fn options(context: &Context) -> Option<(u32, bool)> {
    context.task.trace.lock().as_ref().map(|trace| (trace.options, trace.seized))
}

/// A signal is about to be handled: what is to be handled in its place, if anything.
pub fn signal(context: &mut Context, info: Info) -> Option<Info> {
    let call = context.call_now();
    match stop(context, Reason::Signal, info.signal, info, call, 0) {
        None => Some(info),
        Some((0, _)) => None,
        Some((signal, told)) if signal == told.signal => Some(told),
        // Another signal than the one that came is the tracer's own.
        Some((signal, _)) => {
            let tracer = tracer_of(&context.task);
            let (number, user) = tracer.map_or((0, 0), |tracer| (tracer.number, tracer.credentials().user));
            Some(Info::user(signal, code::USER, number, user))
        }
    }
}

/// The signal that a tracer gave where none was to be handled is sent.
fn send_injected(context: &Context, left: Option<(i32, Info)>) {
    if let Some((signal, _)) = left.filter(|(signal, _)| *signal != 0) {
        send::to_task(&context.task, Info::user(signal, code::USER, 0, 0));
    }
}

/// A call is about to be made. Answers its number and arguments as the tracer left them; no number: it is not made, and its result
/// is in the registers.
pub fn entry(context: &mut Context, number: u64) -> (Option<u64>, [u64; 6]) {
    let Some((options, _)) = options(context) else { return (Some(number), context.registers().arguments()) };
    let is_wanted = context.task.watches() & watch::CALLS != 0;
    if is_wanted && context.task.trace.lock().as_ref().is_some_and(|trace| trace.how == How::Calls) {
        context.registers_mut().rax = crate::errno::Errno::ENOSYS.as_result();
        let left = stop(context, Reason::Entry, call_status(options), call_info(options), number, 0);
        send_injected(context, left);
    }
    let number = context.call;
    ((number as i64 >= 0).then_some(number), context.registers().arguments())
}

/// A call was made. Its result is in `rax`, and stays as the tracer leaves it.
pub fn returned(context: &mut Context, number: u64) {
    let Some((options, _)) = options(context) else { return };
    let how = context.task.trace.lock().as_ref().map(|trace| trace.how).unwrap_or_default();
    match how {
        How::Calls => {
            let left = stop(context, Reason::Return, call_status(options), call_info(options), number, 0);
            send_injected(context, left);
        }
        // The instruction that made the call is done.
        How::Step => {
            context.registers_mut().rflags &= !STEP;
            send::to_task(&context.task, Info { signal: SIGTRAP, code: TRACED, ..Info::default() });
        }
        How::Continue => {}
    }
}

fn call_status(options: u32) -> i32 {
    if options & option::GOOD_CALLS != 0 { SIGTRAP | 0x80 } else { SIGTRAP }
}

fn call_info(options: u32) -> Info {
    let status = call_status(options);
    Info { signal: SIGTRAP, code: status, ..Info::default() }
}

/// Something happened that the tracer may have asked to be told.
pub fn event(context: &mut Context, what: i32, message: u64) {
    let wanted = 1 << what;
    if options(context).is_none_or(|(options, _)| options & wanted == 0) {
        return;
    }
    let info = Info { signal: SIGTRAP, code: SIGTRAP | what << 8, ..Info::default() };
    let call = context.call_now();
    stop(context, Reason::Event(what), SIGTRAP | what << 8, info, call, message);
}

/// A filter says that the tracer is to decide (`SECCOMP_RET_TRACE`). Whether there is one that is told; the call may be another then.
pub fn seccomp(context: &mut Context, told: u16) -> bool {
    if options(context).is_none_or(|(options, _)| options & option::SECCOMP == 0) {
        return false;
    }
    let info = Info { signal: SIGTRAP, code: SIGTRAP | event::SECCOMP << 8, ..Info::default() };
    let call = context.call;
    stop(context, Reason::Seccomp, SIGTRAP | event::SECCOMP << 8, info, call, told.into()).is_some()
}

/// A program was replaced: what the tracer is told before the new one runs.
pub fn executed(task: &Arc<Task>, message: u64) {
    let mut guard = task.trace.lock();
    let Some(trace) = guard.as_mut() else { return };
    if trace.options & option::EXECUTE != 0 {
        trace.due.push_back((Reason::Event(event::EXECUTE), message));
    }
    let traps = trace.options & option::EXECUTE == 0 && !trace.seized;
    if trace.how == How::Calls {
        trace.due.push_back((Reason::Return, 0));
    }
    drop(guard);
    if traps {
        send::to_task(task, Info::user(SIGTRAP, code::USER, 0, 0));
    }
    task.attend(attention::TRACE);
}

/// Before the guest goes on: the stops that are due.
pub fn attend(context: &mut Context) {
    context.task.settle(attention::TRACE);
    loop {
        let (due, interrupted) = match context.task.trace.lock().as_mut() {
            None => return,
            Some(trace) => (trace.due.pop_front(), core::mem::take(&mut trace.interrupted)),
        };
        match due {
            Some((Reason::Event(what), message)) => event(context, what, message),
            Some((Reason::Return, _)) => {
                const EXECVE: u64 = 59;
                returned(context, EXECVE);
            }
            Some(_) => trap(context),
            None if interrupted => trap(context),
            None => return,
        }
    }
}

/// `PTRACE_EVENT_STOP` without a signal that stopped the process, or for the one that did.
fn trap(context: &mut Context) {
    let signal = match *context.process.life.lock() {
        Life::Stopped { signal, .. } => signal,
        _ => SIGTRAP,
    };
    let status = signal | event::STOP << 8;
    let info = Info { signal: SIGTRAP, code: status, ..Info::default() };
    let call = context.call_now();
    stop(context, Reason::Group, status, info, call, 0);
}

/// The process is stopped, and this thread is traced: it stands still for the tracer, who may let it go on alone.
pub fn group(context: &mut Context) {
    let signal = match *context.process.life.lock() {
        Life::Stopped { signal, .. } => signal,
        _ => {
            context.task.settle(attention::STOP);
            return;
        }
    };
    context.task.settle(attention::STOP);
    match options(context) {
        Some((_, true)) => trap(context),
        Some((_, false)) => {
            let call = context.call_now();
            stop(context, Reason::Group, signal, Info::default(), call, 0);
        }
        None => {}
    }
}

/// Whether the instruction that just ran was a step that the tracer asked for.
pub fn stepped(context: &mut Context) -> bool {
    let steps = context.task.trace.lock().as_ref().is_some_and(|trace| trace.how == How::Step);
    if steps {
        context.registers_mut().rflags &= !STEP;
    }
    steps
}

/// The thread ends: a tracer that would not hear of it as a parent is told.
pub fn ended(task: &Arc<Task>, status: i32, is_last: bool) {
    let mut guard = task.trace.lock();
    let Some(trace) = guard.as_mut() else { return };
    let tracer = trace.tracer.upgrade();
    let parent = task.process.relations.lock().parent.upgrade();
    let is_told_as_parent = is_last
        && task.number() == task.process.number
        && matches!((&tracer, &parent), (Some(one), Some(other)) if Arc::ptr_eq(one, other));
    match tracer {
        Some(tracer) if !is_told_as_parent => {
            trace.ended = Some(status);
            drop(guard);
            tracer.children_changed.wake_all();
        }
        tracer => {
            *guard = None;
            drop(guard);
            if let Some(tracer) = tracer {
                tracer.tracees.lock().retain(|other| !Arc::ptr_eq(other, task));
            }
        }
    }
}
