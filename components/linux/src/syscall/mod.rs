//! System calls: one file a family, one table by number.

mod aio;
mod attribute;
mod barrier;
mod compatibility;
mod directory;
mod file;
mod futex;
mod handle;
mod identity;
mod inotify;
mod inspect;
mod interface;
mod io;
mod ipc_control;
mod lock;
mod memory;
mod message;
mod mqueue;
mod namespace;
mod pidfd;
mod pipe;
mod poll;
mod process;
mod refused;
mod schedule;
mod seccomp;
mod semaphore;
mod shared_memory;
mod signal;
mod socket;
mod splice;
mod stat;
mod system;
pub mod table;
mod time;
mod trace;

pub use aio::Outcomes;
pub use file::install;
pub use pidfd::describe;

use crate::errno::Errno;
use crate::memory::reserve;
use crate::task::context::Next;
use crate::task::process::watch;
use crate::task::{Context, trace as tracing};

/// Makes a call of the guest; its result is in `context.result`.
#[inline]
#[cfg_attr(target_os = "none", optimize(speed))]
pub fn dispatch(context: &mut Context, number: u64, arguments: [u64; 6]) {
    context.call = number;
    let result = if context.task.watches() & (watch::SECCOMP | watch::CALLS) != 0 {
        watched(context, number, arguments)
    } else {
        call(context, number, arguments)
    };
    context.result = match result {
        Ok(value) => value,
        Err(error) => error.as_result(),
    };
    if context.has_registers {
        context.state.registers.rax = context.result;
    }
    if crate::TRACE {
        show(context, number, &arguments);
    }
}

#[inline(always)]
fn call(context: &mut Context, number: u64, arguments: [u64; 6]) -> Result<u64, Errno> {
    match table::TABLE.get(number as usize) {
        Some(Some(entry)) if entry.keeps && reserve::is_used_up() => Err(Errno::ENOMEM),
        Some(Some(entry)) => (entry.function)(context, arguments),
        _ => unknown(context, number),
    }
}

/// A call of a thread that is traced or has filters.
#[cold]
fn watched(context: &mut Context, number: u64, arguments: [u64; 6]) -> Result<u64, Errno> {
    let (mut number, mut arguments) = (number, arguments);
    if context.task.watches() & watch::CALLS != 0 {
        context.result = Errno::ENOSYS.as_result();
        match tracing::entry(context, number) {
            (Some(wanted), changed) => (number, arguments) = (wanted, changed),
            (None, _) => return left_by_tracer(context),
        }
    }
    let verdict = seccomp::look(context, number, &arguments);
    let result = match verdict {
        seccomp::Verdict::Instead(result) => result,
        seccomp::Verdict::Allow => {
            // A tracer that a filter asked may want another call, or none.
            if context.call != number {
                (number, arguments) = (context.call, context.registers().arguments());
                if (number as i64) < 0 {
                    return left_by_tracer(context);
                }
            }
            call(context, number, arguments)
        }
    };
    if context.task.watches() & watch::CALLS != 0 && matches!(context.next, Next::Guest) {
        context.result = match result {
            Ok(value) => value,
            Err(error) => error.as_result(),
        };
        context.registers_mut().rax = context.result;
        tracing::returned(context, number);
        return Ok(context.registers().rax);
    }
    result
}

/// A call that is not made has the result that the tracer left.
fn left_by_tracer(context: &mut Context) -> Result<u64, Errno> {
    tracing::returned(context, tracing::NO_CALL);
    Ok(context.registers().rax)
}

/// A call that is not there: told once.
#[cold]
fn unknown(context: &Context, number: u64) -> Result<u64, Errno> {
    // Restartable sequences need to know of every change of threads, which the kernel does not tell. The C library asks at
    // each start and does without.
    const EXPECTED: u64 = 334;
    if number != EXPECTED && context.system.is_new_unknown(number) {
        let name = compatibility::MISSING.iter().find(|missing| missing.0 == number).map_or("?", |missing| missing.1);
        tessera_runtime::log!("linux: no system call {number} ({name}) yet: ENOSYS");
    }
    Err(Errno::ENOSYS)
}

#[cold]
fn show(context: &Context, number: u64, arguments: &[u64; 6]) {
    let name = match table::TABLE.get(number as usize) {
        Some(Some(entry)) => entry.name,
        _ => "?",
    };
    let result = context.result as i64;
    tessera_runtime::log!("[{}] {name}({arguments:x?}) = {result:#x} {result}", context.task.number());
}
