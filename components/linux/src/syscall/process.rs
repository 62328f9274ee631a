//! Processes and threads: making them, replacing their programs, ending them, waiting for them, their groups and sessions.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::stat::{at, place_at};
use crate::errno::{Errno, Result};
use crate::fs::path::LONGEST_PATH;
use crate::memory::reserve;
use crate::program::stack::LONGEST;
use crate::signal::Set;
use crate::task::clone::{self, Request, flags};
use crate::task::context::Next;
use crate::task::process::Life;
use crate::task::{Context, Process, exec, exit, trace, wait};

pub fn fork(context: &mut Context) -> Result<u64> {
    clone::clone(context, &Request { exit_signal: crate::signal::SIGCHLD, ..Request::default() })
}

pub fn vfork(context: &mut Context) -> Result<u64> {
    let request =
        Request { flags: flags::VM | flags::VFORK, exit_signal: crate::signal::SIGCHLD, ..Request::default() };
    clone::clone(context, &request)
}

pub fn clone(
    context: &mut Context,
    flags: u64,
    stack: u64,
    parent: u64,
    child: u64,
    thread_pointer: u64,
) -> Result<u64> {
    let request = Request {
        flags: flags & 0xffff_ff00,
        exit_signal: (flags & 0xff) as i32,
        stack,
        parent_number_at: parent,
        child_number_at: child,
        thread_pointer,
        descriptor_at: parent,
    };
    // The old call has one address for two things.
    if flags & flags::PIDFD != 0 && flags & (flags::PARENT_SET_NUMBER | flags::DETACHED) != 0 {
        return Err(Errno::EINVAL);
    }
    clone::clone(context, &request)
}

pub fn clone3(context: &mut Context, arguments: u64, size: u64) -> Result<u64> {
    if size < 64 {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let [flags, descriptor_at, child, parent, exit_signal, stack, stack_size, thread_pointer] =
        context.read_words(arguments)?;
    if exit_signal > 64 || flags & 0xff != 0 || (stack == 0) != (stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    if size >= 80 {
        // A set of numbers for the child, and a control group: neither can be chosen.
        let [_, numbers] = context.read_words(arguments + 64)?;
        if numbers != 0 {
            return Err(Errno::EPERM);
        }
    }
    // What a later version added may be left out as long as it asks for nothing.
    const KNOWN: u64 = 88;
    if let Some(more) = size.checked_sub(KNOWN) {
        let mut later = alloc::vec![0; more as usize];
        context.read_bytes(arguments.wrapping_add(KNOWN), &mut later)?;
        if later.iter().any(|byte| *byte != 0) {
            return Err(Errno::E2BIG);
        }
    }
    let request = Request {
        flags,
        exit_signal: exit_signal as i32,
        stack: stack.checked_add(stack_size).ok_or(Errno::EINVAL)?,
        parent_number_at: parent,
        child_number_at: child,
        thread_pointer,
        descriptor_at,
    };
    clone::clone(context, &request)
}

/// Reads an array of addresses of texts that a null ends.
fn read_texts(context: &Context, array: u64, total: &mut usize) -> Result<Vec<Vec<u8>>> {
    let mut texts = Vec::new();
    if array == 0 {
        return Ok(texts);
    }
    for index in 0_u64.. {
        let address = context.read_u64(array.checked_add(index * 8).ok_or(Errno::EFAULT)?)?;
        if address == 0 {
            break;
        }
        let text = context.read_text(address, LONGEST).map_err(|error| match error {
            Errno::ENAMETOOLONG => Errno::E2BIG,
            other => other,
        })?;
        *total = total.saturating_add(text.len() + 9);
        // Linux's `_STK_LIM / 4 * 3`.
        if *total > 6 << 20 {
            return Err(Errno::E2BIG);
        }
        // They are copied twice more on the way to the new stack.
        reserve::check(total.saturating_mul(3))?;
        texts.push(text.into_vec());
    }
    Ok(texts)
}

pub fn execveat(
    context: &mut Context,
    directory: i32,
    path: u64,
    arguments: u64,
    environment: u64,
    how: u32,
) -> Result<u64> {
    if how & !(at::NO_FOLLOW | at::EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let text = context.read_text(path, LONGEST_PATH)?;
    let (place, name) = if text.is_empty() && how & at::EMPTY_PATH != 0 {
        let place = context.description(directory)?.place.clone().ok_or(Errno::EACCES)?;
        (place, alloc::format!("/dev/fd/{directory}").into_bytes())
    } else {
        let place = place_at(context, directory, &text, how)?;
        if how & at::NO_FOLLOW != 0 && place.inode.attributes()?.kind == crate::fs::Kind::Link {
            return Err(Errno::ELOOP);
        }
        (place, text.into_vec())
    };
    let mut total = 0;
    let mut arguments = read_texts(context, arguments, &mut total)?;
    let environment = read_texts(context, environment, &mut total)?;
    if arguments.is_empty() {
        arguments.push(Vec::new());
    }
    exec::execute(context, place, &name, arguments, &environment)
}

pub fn execve(context: &mut Context, path: u64, arguments: u64, environment: u64) -> Result<u64> {
    execveat(context, -100, path, arguments, environment, 0)
}

pub fn exit(context: &mut Context, code: i32) -> Result<u64> {
    context.next = Next::Exit((code & 0xff) << 8);
    Ok(0)
}

pub fn exit_group(context: &mut Context, code: i32) -> Result<u64> {
    let status = (code & 0xff) << 8;
    context.process.end(status);
    context.next = Next::Exit(status);
    Ok(0)
}

/// Which children a wait is for.
#[derive(Clone, Copy)]
enum Which {
    Any,
    Process(i32),
    Group(i32),
}

const NO_HANG: u32 = 1;
const STOPPED: u32 = 2;
const EXITED: u32 = 4;
const CONTINUED: u32 = 8;
const KEEP: u32 = 0x0100_0000;
/// `__WNOTHREAD`, `__WALL`, `__WCLONE`.
const KINDS: u32 = 0xe000_0000;
const ALL: u32 = 0x4000_0000;
const CLONE_ONLY: u32 = 0x8000_0000;

/// What a wait found.
struct Found {
    child: Arc<Process>,
    /// The process's, or that of a thread that is traced.
    number: i32,
    /// As wait(2) gives it.
    status: i32,
    code: i32,
    value: i32,
}

impl Which {
    fn matches(self, child: &Process, options: u32) -> bool {
        let by_number = match self {
            Which::Any => true,
            Which::Process(number) => child.number == number,
            Which::Group(group) => child.group() == group,
        };
        let is_clone = child.exit_signal.load(Ordering::Relaxed) != crate::signal::SIGCHLD;
        by_number && (options & ALL != 0 || is_clone == (options & CLONE_ONLY != 0))
    }
}

/// Looks for a child that changed. `None`: there are children, but none has.
fn look(context: &Context, which: Which, options: u32) -> Option<Result<Found>> {
    let own = &context.process;
    let children = own.relations.lock().children.clone();
    let mut any = false;
    for child in children.iter().filter(|child| which.matches(child, options)) {
        any = true;
        let mut life = child.life.lock();
        let found = match &mut *life {
            Life::Zombie { status } if options & EXITED != 0 => {
                let status = *status;
                drop(life);
                if options & KEEP == 0 {
                    exit::reap(own, child, &context.system);
                }
                let (code, value) = exit::exit_code(status);
                Found { child: child.clone(), number: child.number, status, code, value }
            }
            Life::Stopped { signal, told } if options & STOPPED != 0 && !*told => {
                *told = options & KEEP == 0;
                let signal = *signal;
                Found {
                    child: child.clone(),
                    number: child.number,
                    status: signal << 8 | 0x7f,
                    code: crate::signal::code::STOPPED,
                    value: signal,
                }
            }
            Life::Continued { told } if options & CONTINUED != 0 && !*told => {
                if options & KEEP == 0 {
                    *life = Life::Running;
                }
                let signal = crate::signal::SIGCONT;
                Found {
                    child: child.clone(),
                    number: child.number,
                    status: 0xffff,
                    code: crate::signal::code::CONTINUED,
                    value: signal,
                }
            }
            _ => continue,
        };
        return Some(Ok(found));
    }
    let tracees = own.tracees.lock().clone();
    for task in tracees {
        let by_number = match which {
            Which::Any => true,
            Which::Process(number) => task.number() == number,
            Which::Group(group) => task.process.group() == group,
        };
        if !by_number {
            continue;
        }
        any = true;
        if let Some(status) = trace::news(&task, options & KEEP != 0) {
            let (code, value) = match status & 0xff {
                0x7f => (trace::TRAPPED, status >> 8 & 0xff),
                _ => exit::exit_code(status),
            };
            return Some(Ok(Found { child: task.process.clone(), number: task.number(), status, code, value }));
        }
    }
    if any { None } else { Some(Err(Errno::ECHILD)) }
}

fn wait_for(context: &mut Context, which: Which, options: u32) -> Result<Option<Found>> {
    if options & NO_HANG != 0 {
        return look(context, which, options).transpose();
    }
    let process = context.process.clone();
    wait(context, &[&process.children_changed], None, |context| look(context, which, options))?.map(Some)
}

/// A `struct rusage` of a child, or of whoever used these ticks.
pub fn write_usage(context: &Context, to: u64, used: [u64; 2]) -> Result<()> {
    let [user, system] = used.map(|ticks| context.system.nanoseconds(ticks));
    let second = crate::time::SECOND;
    let mut words = [0; 18];
    for (place, value) in
        words.iter_mut().zip([user / second, user % second / 1000, system / second, system % second / 1000])
    {
        *place = value;
    }
    // ru_maxrss, in KiB.
    if let Some(place) = words.get_mut(4) {
        *place = context.memory.mm().lock().bytes() >> 10;
    }
    context.write_words(to, words)
}

fn used_by(child: &Process) -> [u64; 2] {
    let [a, b] = &child.used;
    let [c, d] = &child.used_by_children;
    [a.load(Ordering::Relaxed) + c.load(Ordering::Relaxed), b.load(Ordering::Relaxed) + d.load(Ordering::Relaxed)]
}

pub fn wait4(context: &mut Context, number: i32, status: u64, options: u32, usage: u64) -> Result<u64> {
    if options & !(NO_HANG | STOPPED | CONTINUED | KINDS) != 0 {
        return Err(Errno::EINVAL);
    }
    let which = match number {
        -1 => Which::Any,
        0 => Which::Group(context.process.group()),
        i32::MIN => return Err(Errno::ESRCH),
        number if number < 0 => Which::Group(-number),
        _ => Which::Process(number),
    };
    let Some(found) = wait_for(context, which, options | EXITED)? else { return Ok(0) };
    if status != 0 {
        context.write_u32(status, found.status as u32)?;
    }
    if usage != 0 {
        write_usage(context, usage, used_by(&found.child))?;
    }
    Ok(found.number as u64)
}

pub fn waitid(context: &mut Context, kind: u32, number: i32, info: u64, options: u32, usage: u64) -> Result<u64> {
    if options & !(NO_HANG | STOPPED | EXITED | CONTINUED | KEEP | KINDS) != 0
        || options & (STOPPED | EXITED | CONTINUED) == 0
    {
        return Err(Errno::EINVAL);
    }
    let which = match kind {
        0 => Which::Any,
        1 if number > 0 => Which::Process(number),
        2 if number == 0 => Which::Group(context.process.group()),
        2 if number > 0 => Which::Group(number),
        3 => {
            let (process, description) = super::pidfd::process(context, number)?;
            let options = if description.is_blocking() { options } else { options | NO_HANG };
            let found = wait_for(context, Which::Process(process.number), options)?;
            if found.is_none() && !description.is_blocking() {
                return Err(Errno::EAGAIN);
            }
            return tell_found(context, found, info, usage);
        }
        _ => return Err(Errno::EINVAL),
    };
    let found = wait_for(context, which, options)?;
    tell_found(context, found, info, usage)
}

/// What `waitid` answers.
fn tell_found(context: &Context, found: Option<Found>, info: u64, usage: u64) -> Result<u64> {
    if info != 0 {
        let bytes = match &found {
            Some(found) => {
                let mut info = exit::child_info(&found.child, crate::signal::SIGCHLD, found.code, found.value);
                info.fields[0] = info.fields[0] & !0xffff_ffff | found.number as u64;
                info.to_bytes()
            }
            None => [0; 128],
        };
        context.write_bytes(info, &bytes)?;
    }
    if let Some(found) = &found
        && usage != 0
    {
        write_usage(context, usage, used_by(&found.child))?;
    }
    Ok(0)
}

pub fn getpid(context: &mut Context) -> Result<u64> {
    Ok(context.process.number as u64)
}

pub fn getppid(context: &mut Context) -> Result<u64> {
    Ok(context.process.parent_number() as u64)
}

pub fn gettid(context: &mut Context) -> Result<u64> {
    Ok(context.task.number() as u64)
}

pub fn set_tid_address(context: &mut Context, address: u64) -> Result<u64> {
    context.clear_number = address;
    gettid(context)
}

/// A process by number; 0 is the caller.
pub fn find(context: &Context, number: i32) -> Result<Arc<Process>> {
    if number == 0 {
        return Ok(context.process.clone());
    }
    if let Some(process) = context.system.process(number) {
        return Ok(process);
    }
    context.system.task(number).map(|task| task.process.clone()).ok_or(Errno::ESRCH)
}

pub fn getpgid(context: &mut Context, number: i32) -> Result<u64> {
    Ok(find(context, number)?.group() as u64)
}

pub fn getpgrp(context: &mut Context) -> Result<u64> {
    Ok(context.process.group() as u64)
}

pub fn getsid(context: &mut Context, number: i32) -> Result<u64> {
    Ok(find(context, number)?.session() as u64)
}

pub fn setpgid(context: &mut Context, number: i32, group: i32) -> Result<u64> {
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let own = context.process.clone();
    let process = find(context, number)?;
    let group = if group == 0 { process.number } else { group };
    if process.number != own.number {
        let parent = process.relations.lock().parent.upgrade();
        if !parent.is_some_and(|parent| Arc::ptr_eq(&parent, &own)) {
            return Err(Errno::ESRCH);
        }
        if process.session() != own.session() {
            return Err(Errno::EPERM);
        }
        if process.executed.lock().since_fork {
            return Err(Errno::EACCES);
        }
    }
    if process.session() == process.number {
        return Err(Errno::EPERM);
    }
    if group != process.number {
        let members = context.system.processes();
        if !members.iter().any(|other| other.group() == group && other.session() == process.session()) {
            return Err(Errno::EPERM);
        }
    }
    process.set_group(group);
    Ok(0)
}

pub fn setsid(context: &mut Context) -> Result<u64> {
    let own = &context.process;
    if context.system.processes().iter().any(|other| other.group() == own.number) {
        return Err(Errno::EPERM);
    }
    own.set_session(own.number);
    own.set_group(own.number);
    Ok(own.number as u64)
}

/// The signal mask of a call that has one of its own (`ppoll`, `sigsuspend`): the old one comes back after the handlers.
pub fn borrow_mask(context: &mut Context, mask: Set) {
    let old = context.task.mask();
    context.saved_mask.get_or_insert(old);
    context.task.set_mask(mask.without(crate::signal::UNBLOCKABLE));
    context.task.attend(crate::task::process::attention::SIGNAL);
}
