//! System calls: one file a family, one table by number.

mod attribute;
mod directory;
mod file;
mod futex;
mod identity;
mod io;
mod lock;
mod memory;
mod pipe;
mod poll;
mod process;
mod signal;
mod socket;
mod stat;
mod system;
pub mod table;
mod time;

use crate::errno::Errno;
use crate::memory::reserve;
use crate::task::Context;

/// Makes a call of the guest; its result is in `context.result`.
#[inline]
pub fn dispatch(context: &mut Context, number: u64, arguments: [u64; 6]) {
    context.call = number;
    let result = match table::TABLE.get(number as usize) {
        Some(Some(entry)) if entry.keeps && reserve::is_used_up() => Err(Errno::ENOMEM),
        Some(Some(entry)) => (entry.function)(context, arguments),
        _ => unknown(context, number),
    };
    context.result = match result {
        Ok(value) => value,
        Err(error) => error.as_result(),
    };
    if context.has_registers {
        context.state.registers.rax = context.result;
    }
    if crate::TRACE {
        trace(context, number, &arguments);
    }
}

/// A call that is not there: told once.
#[cold]
fn unknown(context: &Context, number: u64) -> Result<u64, Errno> {
    // Restartable sequences need to know of every change of threads, which the kernel does not tell. The C library asks at
    // each start and does without.
    const EXPECTED: u64 = 334;
    if number != EXPECTED && context.system.is_new_unknown(number) {
        let name = table::MISSING.iter().find(|missing| missing.0 == number).map_or("?", |missing| missing.1);
        tessera_runtime::log!("linux: no system call {number} ({name}) yet: ENOSYS");
    }
    Err(Errno::ENOSYS)
}

#[cold]
fn trace(context: &Context, number: u64, arguments: &[u64; 6]) {
    let name = match table::TABLE.get(number as usize) {
        Some(Some(entry)) => entry.name,
        _ => "?",
    };
    let result = context.result as i64;
    tessera_runtime::log!("[{}] {name}({arguments:x?}) = {result:#x} {result}", context.task.number());
}
