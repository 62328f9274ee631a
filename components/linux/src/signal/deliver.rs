//! Handling signals: at the moment before a guest goes on, its pending signals are looked at, and a handler's frame is built,
//! or the process stops, goes on, or ends.

use super::frame;
use super::{Action, DEFAULT, IGNORE, Info, SIGKILL, SIGSEGV, Set, UNBLOCKABLE, Usual, code, flags, usual};
use crate::errno::{Errno, Result};
use crate::task::process::{Life, attention};
use crate::task::{Context, exit, trace};

/// `SS_ONSTACK`, `SS_DISABLE`, `SS_AUTODISARM`.
pub const ON_STACK: u32 = 1;
pub const DISABLED: u32 = 2;
pub const AUTO_DISARM: u32 = 1 << 31;

/// The result that says that a call was interrupted, as it stands in `rax`.
fn interrupted(context: &Context) -> Option<Errno> {
    let result = context.result;
    [Errno::ERESTARTSYS, Errno::ERESTARTNOHAND].into_iter().find(|error| error.as_result() == result)
}

/// Lets the call that was interrupted be made again.
fn again(context: &mut Context) {
    let call = context.call;
    let registers = context.registers_mut();
    registers.rax = call;
    registers.rip = registers.rip.wrapping_sub(2);
    context.result = call;
}

/// Takes the next signal that this thread is to handle.
fn take(context: &Context) -> Option<Info> {
    let allowed = Set::from_bits(u64::MAX).without(context.task.mask().without(UNBLOCKABLE));
    let own = context.task.pending.lock().take(allowed);
    own.or_else(|| context.process.pending.lock().take(allowed))
}

/// Looks at what there is to look at. Whether the guest goes on; else the thread ends. `in_call` says that the guest left for a system
/// call, whose result is in `rax`.
pub fn attend(context: &mut Context, in_call: bool) -> bool {
    loop {
        if context.task.attention() & attention::END != 0 {
            return false;
        }
        if context.task.attention() & attention::STOP != 0 {
            if context.task.is_traced() {
                trace::group(context);
                continue;
            } else if !exit::stay_stopped(context) {
                return false;
            }
            continue;
        }
        if context.task.attention() & attention::TRACE != 0 {
            trace::attend(context);
            continue;
        }
        context.task.settle(attention::SIGNAL);
        let Some(info) = take(context) else { break };
        let info = if context.task.is_traced() && info.signal != SIGKILL {
            match trace::signal(context, info) {
                Some(info) => info,
                None => continue,
            }
        } else {
            info
        };
        let signal = info.signal;
        let action = context.process.actions.lock().get(signal);
        if signal == SIGKILL {
            context.process.end(SIGKILL);
            return false;
        }
        if action.handler == IGNORE && !UNBLOCKABLE.contains(signal) {
            continue;
        }
        if action.handler == DEFAULT || UNBLOCKABLE.contains(signal) {
            // The container's first process ends by what its own instructions did, and by nothing that was sent.
            if context.process.number == 1 && !info.reaches_the_first() {
                continue;
            }
            match usual(signal) {
                Usual::Ignore | Usual::Continue => continue,
                Usual::Stop => {
                    if signal != super::SIGSTOP && exit::is_orphaned(&context.process) {
                        continue;
                    }
                    stop(context, signal);
                    continue;
                }
                Usual::Terminate | Usual::Dump => {
                    context.process.end(signal);
                    return false;
                }
            }
        }
        if in_call && let Some(error) = interrupted(context) {
            if error == Errno::ERESTARTSYS && action.flags & flags::RESTART != 0 {
                again(context);
            } else {
                context.result = Errno::EINTR.as_result();
                context.registers_mut().rax = Errno::EINTR.as_result();
            }
        }
        if handle(context, &info, &action).is_err() {
            // No stack to run the handler on, which is a fault of its own: of that one's handler it is the last.
            if signal == SIGSEGV {
                context.process.end(SIGSEGV);
                return false;
            }
            force(context, Info::kernel(SIGSEGV));
        }
    }
    if in_call && interrupted(context).is_some() {
        again(context);
    }
    if let Some(mask) = context.saved_mask.take() {
        context.task.set_mask(mask);
        context.task.attend(attention::SIGNAL);
        if super::is_pending(context) {
            return attend(context, false);
        }
    }
    true
}

fn stop(context: &mut Context, signal: i32) {
    let process = context.process.clone();
    let mut life = process.life.lock();
    if matches!(*life, Life::Zombie { .. } | Life::Gone) {
        return;
    }
    *life = Life::Stopped { signal, told: false };
    drop(life);
    for task in process.threads.lock().iter() {
        task.attend(attention::STOP);
    }
    exit::tell_parent(&process, code::STOPPED, signal);
}

/// Whether the stack pointer is on the alternate stack.
pub fn is_on_stack(context: &mut Context) -> bool {
    let (base, flags, size) = context.signal_stack;
    let stack = context.registers().rsp;
    flags & (DISABLED | AUTO_DISARM) == 0 && size > 0 && stack > base && stack - base <= size
}

/// Lets the guest go on in a handler.
fn handle(context: &mut Context, info: &Info, action: &Action) -> Result<()> {
    let (base, stack_flags, size) = context.signal_stack;
    let use_stack =
        action.flags & flags::ON_STACK != 0 && stack_flags & DISABLED == 0 && size > 0 && !is_on_stack(context);
    let top = if use_stack { base.wrapping_add(size) } else { context.registers().rsp.wrapping_sub(128) };
    let before = context.saved_mask.unwrap_or(context.task.mask());
    let status = if size == 0 {
        DISABLED
    } else if is_on_stack(context) {
        ON_STACK
    } else {
        stack_flags
    };
    let fault = match info.signal {
        super::SIGSEGV | super::SIGBUS if info.code > 0 => (context.state.fault.min(2), 14, info.fields[0]),
        _ => (0, 0, 0),
    };
    if action.flags & flags::RESTORER == 0 {
        return Err(Errno::EFAULT);
    }
    let built = frame::build(context, top, info, before, action.restorer, (base, status, size), fault)?;
    context.saved_mask = None;
    if use_stack && stack_flags & AUTO_DISARM != 0 {
        context.signal_stack = (0, DISABLED, 0);
    }
    let registers = context.registers_mut();
    registers.rsp = built.stack;
    registers.rip = action.handler;
    registers.rdi = info.signal as u64;
    registers.rsi = built.info;
    registers.rdx = built.context;
    registers.rax = 0;
    // The direction flag and single stepping are off in a handler (setup_rt_frame).
    registers.rflags &= !0x500;
    let mut mask = context.task.mask().union(action.mask);
    if action.flags & flags::NO_DEFER == 0 {
        mask = mask.union(Set::of(info.signal));
    }
    context.task.set_mask(mask.without(UNBLOCKABLE));
    if action.flags & flags::RESET != 0 {
        let mut actions = context.process.actions.lock();
        let reset = Action { handler: DEFAULT, ..*action };
        actions.set(info.signal, reset);
    }
    Ok(())
}

/// `rt_sigreturn`: goes back to where the handler was called. The result is what `rax` was.
pub fn go_back(context: &mut Context) -> Result<u64> {
    let Ok(restored) = frame::restore(context) else {
        force(context, Info::kernel(SIGSEGV));
        return Ok(0);
    };
    *context.registers_mut() = restored.registers;
    context.task.set_mask(restored.mask.without(UNBLOCKABLE));
    let (base, stack_flags, size) = restored.stack;
    if !is_on_stack(context) {
        let stack_flags = stack_flags & !ON_STACK;
        context.signal_stack = if stack_flags & DISABLED != 0 { (0, DISABLED, 0) } else { (base, stack_flags, size) };
    }
    context.task.attend(attention::SIGNAL);
    // Not a call to be made again, whatever the number.
    context.call = u64::MAX;
    Ok(context.registers().rax)
}

/// Sends a signal that an instruction caused: it comes even if it is blocked or ignored, and then ends the process.
pub fn force(context: &Context, info: Info) {
    let signal = Set::of(info.signal);
    let mut actions = context.process.actions.lock();
    let action = actions.get(info.signal);
    if action.handler == IGNORE || context.task.mask().contains(info.signal) {
        actions.set(info.signal, Action { handler: DEFAULT, ..action });
        context.task.set_mask(context.task.mask().without(signal));
    }
    drop(actions);
    context.task.pending.lock().add(info);
    context.task.attend(attention::SIGNAL);
}
