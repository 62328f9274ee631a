//! Signals: actions, masks, sending, waiting for them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::process::borrow_mask;
use crate::errno::{Errno, Result};
use crate::signal::{Action, Info, LAST, SIGCONT, Set, UNBLOCKABLE, code, deliver, send};
use crate::task::credentials::capability;
use crate::task::process::attention;
use crate::task::{Context, Credentials, Process, wait};
use crate::time::read_timespec;

/// Bytes of a signal set.
const SET_SIZE: u64 = 8;

pub fn rt_sigaction(context: &mut Context, signal: i32, new: u64, old: u64, size: u64) -> Result<u64> {
    if size != SET_SIZE || !(1..=LAST).contains(&signal) {
        return Err(Errno::EINVAL);
    }
    let process = context.process.clone();
    let action = if new != 0 {
        let [handler, flags, restorer, mask] = context.read_words(new)?;
        if UNBLOCKABLE.contains(signal) {
            return Err(Errno::EINVAL);
        }
        Some(Action { handler, flags, restorer, mask: Set::from_bits(mask).without(UNBLOCKABLE) })
    } else {
        None
    };
    let before = match action {
        Some(action) => {
            let mut actions = process.actions.lock();
            let before = actions.set(signal, action);
            let ignored = actions.ignores(signal);
            drop(actions);
            if ignored {
                // What is ignored from now on is not pending either (POSIX, 2.4.3).
                process.pending.lock().forget(Set::of(signal));
                for task in process.threads.lock().iter() {
                    task.pending.lock().forget(Set::of(signal));
                }
            }
            before
        }
        None => process.actions.lock().get(signal),
    };
    if old != 0 {
        context.write_words(old, [before.handler, before.flags, before.restorer, before.mask.bits()])?;
    }
    Ok(0)
}

pub fn rt_sigprocmask(context: &mut Context, how: u32, new: u64, old: u64, size: u64) -> Result<u64> {
    if size != SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let before = context.task.mask();
    if new != 0 {
        let set = Set::from_bits(context.read_u64(new)?).without(UNBLOCKABLE);
        let mask = match how {
            0 => before.union(set),
            1 => before.without(set),
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
        context.task.set_mask(mask);
        if !before.without(mask).is_empty() {
            context.task.attend(attention::SIGNAL);
        }
    }
    if old != 0 {
        context.write_u64(old, before.bits())?;
    }
    Ok(0)
}

pub fn rt_sigpending(context: &mut Context, to: u64, size: u64) -> Result<u64> {
    if size > SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let pending = context.task.pending.lock().set().union(context.process.pending.lock().set());
    let pending = pending.intersection(context.task.mask()).bits().to_le_bytes();
    context.write_bytes(to, pending.get(..size as usize).unwrap_or_default())?;
    Ok(0)
}

pub fn rt_sigreturn(context: &mut Context) -> Result<u64> {
    deliver::go_back(context)
}

pub fn rt_sigsuspend(context: &mut Context, mask: u64, size: u64) -> Result<u64> {
    if size != SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let mask = Set::from_bits(context.read_u64(mask)?);
    borrow_mask(context, mask);
    pause(context)
}

pub fn pause(context: &mut Context) -> Result<u64> {
    match wait::<core::convert::Infallible>(context, &[], None, |_| None) {
        Ok(never) => match never {},
        Err(_) => Err(Errno::ERESTARTNOHAND),
    }
}

pub fn rt_sigtimedwait(context: &mut Context, set: u64, info: u64, timeout: u64, size: u64) -> Result<u64> {
    if size != SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let set = Set::from_bits(context.read_u64(set)?).without(UNBLOCKABLE);
    let deadline = match timeout {
        0 => None,
        address => Some(context.system.now().saturating_add(read_timespec(context, address)?)),
    };
    // While it waits these signals are let through, but taken here.
    let found = wait(context, &[], deadline, |context| {
        let own = context.task.pending.lock().take(set);
        own.or_else(|| context.process.pending.lock().take(set))
    });
    match found {
        Ok(found) => {
            if info != 0 {
                context.write_bytes(info, &found.to_bytes())?;
            }
            Ok(found.signal as u64)
        }
        Err(Errno::ETIMEDOUT) => Err(Errno::EAGAIN),
        Err(_) => Err(Errno::EINTR),
    }
}

pub fn sigaltstack(context: &mut Context, new: u64, old: u64) -> Result<u64> {
    let (base, stack_flags, size) = context.signal_stack;
    let on_stack = deliver::is_on_stack(context);
    let words = if new != 0 { Some(context.read_words::<3>(new)?) } else { None };
    if old != 0 {
        let status = if on_stack {
            deliver::ON_STACK
        } else if size == 0 {
            deliver::DISABLED
        } else {
            stack_flags
        };
        context.write_words(old, [base, status.into(), size])?;
    }
    if let Some([base, asked, size]) = words {
        if on_stack {
            return Err(Errno::EPERM);
        }
        let asked = asked as u32;
        match asked & !deliver::AUTO_DISARM {
            deliver::DISABLED => context.signal_stack = (0, deliver::DISABLED, 0),
            0 | deliver::ON_STACK => {
                // MINSIGSTKSZ
                if size < 2048 {
                    return Err(Errno::ENOMEM);
                }
                context.signal_stack = (base, asked & deliver::AUTO_DISARM, size);
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(0)
}

/// Whether `who`, in the process `from`, may send a signal to a process.
pub fn may_signal(who: &Credentials, from: &Process, target: &Process, signal: i32) -> bool {
    let other = target.credentials();
    let same = |id: u32| id == other.user || id == other.saved_user;
    who.has(capability::KILL)
        || same(who.user)
        || same(who.effective_user)
        || signal == SIGCONT && target.session() == from.session()
}

fn valid(signal: i32) -> Result<()> {
    if (0..=LAST).contains(&signal) { Ok(()) } else { Err(Errno::EINVAL) }
}

pub fn kill(context: &mut Context, number: i32, signal: i32) -> Result<u64> {
    valid(signal)?;
    let who = context.credentials();
    let own = context.process.number;
    let info = Info::user(signal, code::USER, own, who.user);
    let targets: Vec<Arc<Process>> = match number {
        1.. => alloc::vec![super::process::find(context, number)?],
        i32::MIN => return Err(Errno::ESRCH),
        -1 => {
            let all = context.system.processes();
            all.into_iter().filter(|process| process.number != 1 && process.number != own).collect()
        }
        _ => {
            let group = if number == 0 { context.process.group() } else { -number };
            context.system.processes().into_iter().filter(|process| process.group() == group).collect()
        }
    };
    if targets.is_empty() {
        return Err(Errno::ESRCH);
    }
    let mut sent = false;
    for target in targets.iter().filter(|target| may_signal(&who, &context.process, target, signal)) {
        sent = true;
        if signal != 0 {
            send::to_process(target, info);
        }
    }
    if sent { Ok(0) } else { Err(Errno::EPERM) }
}

fn send_to_thread(context: &Context, group: Option<i32>, number: i32, info: Info) -> Result<u64> {
    valid(info.signal)?;
    if number <= 0 || group.is_some_and(|group| group <= 0) {
        return Err(Errno::EINVAL);
    }
    let task = context.system.task(number).ok_or(Errno::ESRCH)?;
    if group.is_some_and(|group| group != task.process.number) {
        return Err(Errno::ESRCH);
    }
    if !may_signal(&context.credentials(), &context.process, &task.process, info.signal) {
        return Err(Errno::EPERM);
    }
    if info.signal != 0 {
        send::to_task(&task, info);
    }
    Ok(0)
}

pub fn tgkill(context: &mut Context, group: i32, number: i32, signal: i32) -> Result<u64> {
    let info = Info::user(signal, code::TKILL, context.process.number, context.credentials().user);
    send_to_thread(context, Some(group), number, info)
}

pub fn tkill(context: &mut Context, number: i32, signal: i32) -> Result<u64> {
    let info = Info::user(signal, code::TKILL, context.process.number, context.credentials().user);
    send_to_thread(context, None, number, info)
}

fn read_info(context: &Context, signal: i32, address: u64, target: i32) -> Result<Info> {
    let mut info = Info::from_words(context.read_words(address)?);
    info.signal = signal;
    // Nobody may pretend that the kernel, or kill(2), sent it to another.
    if (info.code >= 0 || info.code == code::TKILL) && target != context.process.number {
        return Err(Errno::EPERM);
    }
    Ok(info)
}

pub fn rt_sigqueueinfo(context: &mut Context, number: i32, signal: i32, info: u64) -> Result<u64> {
    valid(signal)?;
    let info = read_info(context, signal, info, number)?;
    if number <= 0 {
        return Err(Errno::ESRCH);
    }
    let target = super::process::find(context, number)?;
    if !may_signal(&context.credentials(), &context.process, &target, signal) {
        return Err(Errno::EPERM);
    }
    if signal != 0 && !send::to_process(&target, info) {
        return Err(Errno::EAGAIN);
    }
    Ok(0)
}

pub fn rt_tgsigqueueinfo(context: &mut Context, group: i32, number: i32, signal: i32, info: u64) -> Result<u64> {
    let info = read_info(context, signal, info, group)?;
    send_to_thread(context, Some(group), number, info)
}
