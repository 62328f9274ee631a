//! `ptrace`: what a tracer asks of the threads that it traces.

use alloc::sync::Arc;

use tessera_runtime::abi::x86_64::Registers;

use super::identity::may_inspect;
use crate::errno::{Errno, Result};
use crate::seccomp::ARCHITECTURE;
use crate::signal::{Info, LAST, SIGKILL, SIGSTOP, Set, UNBLOCKABLE, code, send};
use crate::task::process::Life;
use crate::task::trace::{self, How, Reason, Stop, Trace, option};
use crate::task::{Context, Task, wait};

/// Bytes of `struct user_regs_struct`, and its words.
const WORDS: usize = 27;
const REGISTERS: u64 = WORDS as u64 * 8;
/// The code and stack segments of programs.
const CODE_SEGMENT: u64 = 0x33;
const STACK_SEGMENT: u64 = 0x2b;
/// Bytes of a `struct user`, and of an FXSAVE area.
const USER: u64 = 928;
const LEGACY: usize = 512;
/// `NT_PRSTATUS`, `NT_PRFPREG`, `NT_X86_XSTATE`.
const GENERAL: u64 = 1;
const FLOATING_POINT: u64 = 2;
const EXTENDED: u64 = 0x202;

/// The requests.
mod request {
    pub const TRACE_ME: u64 = 0;
    pub const PEEK_TEXT: u64 = 1;
    pub const PEEK_DATA: u64 = 2;
    pub const PEEK_USER: u64 = 3;
    pub const POKE_TEXT: u64 = 4;
    pub const POKE_DATA: u64 = 5;
    pub const POKE_USER: u64 = 6;
    pub const CONTINUE: u64 = 7;
    pub const KILL: u64 = 8;
    pub const STEP: u64 = 9;
    pub const GET_REGISTERS: u64 = 12;
    pub const SET_REGISTERS: u64 = 13;
    pub const GET_FLOATING_POINT: u64 = 14;
    pub const SET_FLOATING_POINT: u64 = 15;
    pub const ATTACH: u64 = 16;
    pub const DETACH: u64 = 17;
    pub const CALLS: u64 = 24;
    pub const SET_OPTIONS: u64 = 0x4200;
    pub const GET_MESSAGE: u64 = 0x4201;
    pub const GET_INFO: u64 = 0x4202;
    pub const SET_INFO: u64 = 0x4203;
    pub const GET_SET: u64 = 0x4204;
    pub const SET_SET: u64 = 0x4205;
    pub const SEIZE: u64 = 0x4206;
    pub const INTERRUPT: u64 = 0x4207;
    pub const LISTEN: u64 = 0x4208;
    pub const GET_MASK: u64 = 0x420a;
    pub const SET_MASK: u64 = 0x420b;
    pub const GET_CALL: u64 = 0x420e;
}

pub fn ptrace(context: &mut Context, what: u64, number: i32, address: u64, data: u64) -> Result<u64> {
    match what {
        request::TRACE_ME => return trace_me(context),
        request::ATTACH | request::SEIZE => return attach(context, what, number, address, data),
        _ => {}
    }
    let task = context.system.task(number).ok_or(Errno::ESRCH)?;
    if !task.trace.lock().as_ref().is_some_and(|trace| trace.is_of(&context.process)) {
        return Err(Errno::ESRCH);
    }
    match what {
        request::KILL => {
            send::to_process(&task.process, Info::user(SIGKILL, code::USER, context.process.number, 0));
            Ok(0)
        }
        request::INTERRUPT => {
            if !task.trace.lock().as_ref().is_some_and(|trace| trace.seized) {
                return Err(Errno::EIO);
            }
            trace::interrupt(&task);
            Ok(0)
        }
        _ if task.trace.lock().as_ref().is_none_or(|trace| trace.stopped.is_none()) => Err(Errno::ESRCH),
        request::CONTINUE | request::CALLS | request::STEP | request::DETACH => go_on(&task, what, data),
        request::LISTEN => {
            if !task.trace.lock().as_ref().is_some_and(Trace::may_listen) {
                return Err(Errno::EIO);
            }
            trace::listen(&task);
            Ok(0)
        }
        request::SET_OPTIONS => {
            let options = u32::try_from(data).ok().filter(|data| data & !option::ALL == 0).ok_or(Errno::EINVAL)?;
            with(&task, |trace| trace.options = options)?;
            Ok(0)
        }
        request::PEEK_TEXT | request::PEEK_DATA => {
            let mut word = [0; 8];
            let mm = task.process.resources.lock().mm.clone().ok_or(Errno::ESRCH)?;
            if mm.read_from_outside(address, &mut word) != word.len() {
                return Err(Errno::EIO);
            }
            context.write_bytes(data, &word).map(|()| 0)
        }
        request::POKE_TEXT | request::POKE_DATA => {
            let mm = task.process.resources.lock().mm.clone().ok_or(Errno::ESRCH)?;
            if mm.poke(address, &data.to_le_bytes()) == 8 { Ok(0) } else { Err(Errno::EIO) }
        }
        _ => look(context, &task, what, address, data),
    }
}

/// The requests that look at what a stopped thread shows, or change it.
fn look(context: &mut Context, task: &Arc<Task>, what: u64, address: u64, data: u64) -> Result<u64> {
    match what {
        request::PEEK_USER => {
            if !address.is_multiple_of(8) || address >= USER {
                return Err(Errno::EIO);
            }
            // Behind the registers is nothing but zeroes: there are no debug registers to be had.
            let words = stopped(task, |stop| words(stop))?;
            context.write_u64(data, words.get((address / 8) as usize).copied().unwrap_or(0)).map(|()| 0)
        }
        request::POKE_USER => {
            if !address.is_multiple_of(8) || address >= USER {
                return Err(Errno::EIO);
            }
            stopped(task, |stop| {
                let mut words = words(stop);
                match words.get_mut((address / 8) as usize) {
                    Some(word) => *word = data,
                    None if data == 0 => {}
                    None => return Err(Errno::EIO),
                }
                set_words(stop, &words)
            })??;
            Ok(0)
        }
        request::GET_REGISTERS => {
            let words = stopped(task, |stop| words(stop))?;
            context.write_words(data, words).map(|()| 0)
        }
        request::SET_REGISTERS => {
            let words = context.read_words(data)?;
            stopped(task, |stop| set_words(stop, &words))??;
            Ok(0)
        }
        request::GET_FLOATING_POINT => {
            let state = stopped(task, |stop| stop.vector.clone())?;
            context.write_bytes(data, state.get(..LEGACY).ok_or(Errno::EIO)?).map(|()| 0)
        }
        request::SET_FLOATING_POINT => {
            let state: [u8; LEGACY] = context.read_array(data)?;
            stopped(task, |stop| set_vector(stop, &state)).map(|()| 0)
        }
        request::GET_SET | request::SET_SET => register_set(context, task, what == request::GET_SET, address, data),
        request::GET_MESSAGE => {
            let message = stopped(task, |stop| stop.message)?;
            context.write_u64(data, message).map(|()| 0)
        }
        request::GET_INFO => {
            let info = stopped(task, |stop| (stop.info.signal != 0).then_some(stop.info))?.ok_or(Errno::EINVAL)?;
            context.write_bytes(data, &info.to_bytes()).map(|()| 0)
        }
        request::SET_INFO => {
            let info = Info::from_words(context.read_words(data)?);
            stopped(task, |stop| stop.info = info).map(|()| 0)
        }
        request::GET_MASK | request::SET_MASK if address != 8 => Err(Errno::EINVAL),
        request::GET_MASK => context.write_u64(data, task.mask().bits()).map(|()| 0),
        request::SET_MASK => {
            let mask = Set::from_bits(context.read_u64(data)?);
            task.set_mask(mask.without(UNBLOCKABLE));
            task.attend(crate::task::process::attention::SIGNAL);
            Ok(0)
        }
        request::GET_CALL => {
            let (bytes, length) = stopped(task, describe_call)?;
            let told = bytes.get(..length.min(address as usize)).unwrap_or_default();
            context.write_bytes(data, told)?;
            Ok(length as u64)
        }
        _ => Err(Errno::EIO),
    }
}

fn trace_me(context: &mut Context) -> Result<u64> {
    let parent = context.process.relations.lock().parent.upgrade().ok_or(Errno::EPERM)?;
    if trace::attach(&context.task, &parent, false, 0) { Ok(0) } else { Err(Errno::EPERM) }
}

fn attach(context: &mut Context, what: u64, number: i32, address: u64, data: u64) -> Result<u64> {
    let seizes = what == request::SEIZE;
    let options = match seizes {
        true if address != 0 => return Err(Errno::EIO),
        true => u32::try_from(data).ok().filter(|data| data & !option::ALL == 0).ok_or(Errno::EIO)?,
        false => 0,
    };
    let task = context.system.task(number).ok_or(Errno::ESRCH)?;
    if Arc::ptr_eq(&task.process, &context.process) || !task.process.is_alive() {
        return Err(Errno::EPERM);
    }
    may_inspect(context, &task.process)?;
    let stands_still = matches!(*task.process.life.lock(), Life::Stopped { .. });
    if !trace::attach(&task, &context.process, seizes, options) {
        return Err(Errno::EPERM);
    }
    if !seizes {
        let user = context.credentials().user;
        send::to_task(&task, Info::user(SIGSTOP, code::USER, context.process.number, user));
    }
    if stands_still {
        // It stands still for its tracer from now on, who may ask for its registers at once.
        let tracer = context.process.clone();
        let is_there = |_: &mut Context| (stopped(&task, |_| ()).is_ok() || !task.process.is_alive()).then_some(());
        // What interrupts that changes nothing of it.
        const PATIENCE: u64 = 1_000_000_000;
        let until = context.system.now().saturating_add(PATIENCE);
        let _ = wait(context, &[&tracer.children_changed], Some(until), is_there);
    }
    Ok(0)
}

fn go_on(task: &Arc<Task>, what: u64, signal: u64) -> Result<u64> {
    let signal = i32::try_from(signal).ok().filter(|signal| (0..=LAST).contains(signal)).ok_or(Errno::EIO)?;
    match what {
        request::DETACH => trace::detach(task, signal),
        request::CALLS => trace::resume(task, How::Calls, signal),
        request::STEP => trace::resume(task, How::Step, signal),
        _ => trace::resume(task, How::Continue, signal),
    }
    Ok(0)
}

fn with<T>(task: &Task, then: impl FnOnce(&mut Trace) -> T) -> Result<T> {
    task.trace.lock().as_mut().map(then).ok_or(Errno::ESRCH)
}

fn stopped<T>(task: &Task, then: impl FnOnce(&mut Stop) -> T) -> Result<T> {
    with(task, |trace| trace.stopped.as_mut().map(then))?.ok_or(Errno::ESRCH)
}

/// `struct user_regs_struct`.
fn words(stop: &Stop) -> [u64; WORDS] {
    let r = &stop.registers;
    [
        r.r15,
        r.r14,
        r.r13,
        r.r12,
        r.rbp,
        r.rbx,
        r.r11,
        r.r10,
        r.r9,
        r.r8,
        r.rax,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        stop.call,
        r.rip,
        CODE_SEGMENT,
        r.rflags,
        r.rsp,
        STACK_SEGMENT,
        r.fs_base,
        r.gs_base,
        0,
        0,
        0,
        0,
    ]
}

fn set_words(stop: &mut Stop, words: &[u64; WORDS]) -> Result<()> {
    let [
        r15,
        r14,
        r13,
        r12,
        rbp,
        rbx,
        r11,
        r10,
        r9,
        r8,
        rax,
        rcx,
        rdx,
        rsi,
        rdi,
        number,
        rip,
        cs,
        flags,
        rsp,
        rest @ ..,
    ] = *words;
    let [ss, fs_base, gs_base, ..] = rest;
    if cs != CODE_SEGMENT || ss != STACK_SEGMENT {
        return Err(Errno::EIO);
    }
    let native = tessera_runtime::abi::NATIVE_BASE;
    if fs_base >= native || gs_base >= native {
        return Err(Errno::EIO);
    }
    let (registers, call) = stop.registers_mut();
    *registers = Registers {
        rax,
        rdi,
        rsi,
        rdx,
        r10,
        r8,
        r9,
        r12,
        r13,
        r14,
        r15,
        rbx,
        rbp,
        rsp,
        rip,
        rflags: flags,
        rcx,
        r11,
        fs_base,
        gs_base,
    };
    *call = number;
    Ok(())
}

fn set_vector(stop: &mut Stop, state: &[u8]) {
    for (to, from) in stop.vector_mut().iter_mut().zip(state) {
        *to = *from;
    }
}

/// `PTRACE_GETREGSET` and `PTRACE_SETREGSET`: a `struct iovec` says where the registers are, and is told how many bytes they were.
fn register_set(context: &mut Context, task: &Task, reads: bool, kind: u64, vector: u64) -> Result<u64> {
    let [base, length] = context.read_words(vector)?;
    let (most, unit) = match kind {
        GENERAL => (REGISTERS, 8),
        FLOATING_POINT => (LEGACY as u64, 4),
        EXTENDED => (stopped(task, |stop| stop.vector.len())? as u64, 8),
        _ => return Err(Errno::EINVAL),
    };
    if !length.is_multiple_of(unit) {
        return Err(Errno::EINVAL);
    }
    let length = length.min(most);
    let mut bytes = stopped(task, |stop| match kind {
        GENERAL => words(stop).map(u64::to_le_bytes).as_flattened().to_vec(),
        _ => stop.vector.clone(),
    })?;
    let part = bytes.get_mut(..length as usize).ok_or(Errno::EIO)?;
    if reads {
        context.write_bytes(base, part)?;
    } else {
        context.read_bytes(base, part)?;
        let mut all = [0; WORDS];
        for (word, bytes) in all.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        }
        stopped(task, |stop| match kind {
            GENERAL => set_words(stop, &all),
            _ => {
                set_vector(stop, bytes.get(..length as usize).unwrap_or_default());
                Ok(())
            }
        })??;
    }
    context.write_u64(vector.wrapping_add(8), length).map(|()| 0)
}

/// `struct ptrace_syscall_info`, and how much of it says something.
fn describe_call(stop: &mut Stop) -> ([u8; 88], usize) {
    let r = &stop.registers;
    let (kind, words, length): (u8, [u64; 8], usize) = match stop.reason {
        Reason::Entry => {
            let [a, b, c, d, e, f] = r.arguments();
            (1, [stop.call, a, b, c, d, e, f, 0], 80)
        }
        Reason::Return => (2, [r.rax, u64::from(r.rax > -4096_i64 as u64), 0, 0, 0, 0, 0, 0], 33),
        Reason::Seccomp => {
            let [a, b, c, d, e, f] = r.arguments();
            (3, [stop.call, a, b, c, d, e, f, stop.message], 84)
        }
        _ => (0, [0; 8], 24),
    };
    let mut bytes = [0; 88];
    let head = [u64::from(kind) | u64::from(ARCHITECTURE) << 32, r.rip, r.rsp];
    for (to, from) in bytes.chunks_exact_mut(8).zip(head.into_iter().chain(words)) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    (bytes, length)
}
