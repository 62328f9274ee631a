//! `seccomp`, and what filters do to calls.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::errno::{Errno, Result};
use crate::seccomp::program::LONGEST;
use crate::seccomp::{ARCHITECTURE, Filter, Instruction, Program, Seccomp, action, data};
use crate::signal::{Info, SIGKILL, SIGSYS, deliver};
use crate::task::context::Next;
use crate::task::credentials::capability;
use crate::task::process::watch;
use crate::task::{Context, trace};

const SYNCHRONISE: u32 = 1;
const LOG: u32 = 2;
const SPECULATE: u32 = 4;
const SYNCHRONISE_ERROR: u32 = 16;

pub fn seccomp(context: &mut Context, operation: u32, flags: u32, argument: u64) -> Result<u64> {
    const STRICT: u32 = 0;
    const FILTER: u32 = 1;
    const IS_KNOWN: u32 = 2;
    match operation {
        STRICT if flags != 0 || argument != 0 => Err(Errno::EINVAL),
        STRICT => strict(context),
        FILTER => filter(context, flags, argument),
        IS_KNOWN if flags != 0 => Err(Errno::EINVAL),
        IS_KNOWN => match context.read_u32(argument)? {
            action::KILL_PROCESS
            | action::KILL_THREAD
            | action::TRAP
            | action::ERROR
            | action::TRACE
            | action::LOG
            | action::ALLOW => Ok(0),
            _ => Err(Errno::EOPNOTSUPP),
        },
        _ => Err(Errno::EINVAL),
    }
}

/// `SECCOMP_MODE_STRICT`.
pub fn strict(context: &Context) -> Result<u64> {
    let mut own = context.task.seccomp.lock();
    match *own {
        Seccomp::Filter(_) => return Err(Errno::EINVAL),
        _ => *own = Seccomp::Strict,
    }
    context.task.watch(watch::SECCOMP);
    Ok(0)
}

/// Reads the program that a `struct sock_fprog` names.
fn read_program(context: &Context, [count, instructions]: [u64; 2]) -> Result<Program> {
    let count = count as u16;
    if count == 0 || usize::from(count) > LONGEST {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![[0; 8]; count.into()];
    context.read_bytes(instructions, bytes.as_flattened_mut())?;
    Program::check(bytes.into_iter().map(Instruction::from_bytes).collect())
}

/// `SECCOMP_MODE_FILTER`: one filter more.
pub fn filter(context: &Context, flags: u32, address: u64) -> Result<u64> {
    if flags & !(SYNCHRONISE | LOG | SPECULATE | SYNCHRONISE_ERROR) != 0
        || flags & SYNCHRONISE_ERROR != 0 && flags & SYNCHRONISE == 0
    {
        return Err(Errno::EINVAL);
    }
    // Where the program lies is told first, what is wrong with it last.
    let head = context.read_words(address)?;
    let who = context.credentials();
    if !who.no_new_privileges && !who.has(capability::SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    let program = read_program(context, head)?;
    let before = match &*context.task.seccomp.lock() {
        Seccomp::Strict => return Err(Errno::EINVAL),
        own => own.filter().cloned(),
    };
    let threads = context.process.threads.lock();
    let others: Vec<_> = threads.iter().filter(|task| !Arc::ptr_eq(task, &context.task)).collect();
    if flags & SYNCHRONISE != 0 {
        let differs = others.iter().find(|task| match &*task.seccomp.lock() {
            Seccomp::Off => false,
            Seccomp::Strict => true,
            Seccomp::Filter(theirs) => !before.as_ref().is_some_and(|own| own.includes(theirs)),
        });
        if let Some(task) = differs {
            return if flags & SYNCHRONISE_ERROR != 0 { Err(Errno::ESRCH) } else { Ok(task.number() as u64) };
        }
    }
    let filter = Filter::new(program, flags & LOG != 0, before)?;
    let all: &[_] = if flags & SYNCHRONISE != 0 { &others } else { &[] };
    for task in all.iter().copied().chain([&context.task]) {
        *task.seccomp.lock() = Seccomp::Filter(filter.clone());
        task.watch(watch::SECCOMP);
    }
    Ok(0)
}

/// What filters say of a call that is about to be made.
pub enum Verdict {
    /// It is made.
    Allow,
    /// It is not, and this is its result. The thread may be about to end.
    Instead(Result<u64>),
}

/// Asks the thread's filters.
pub fn look(context: &mut Context, number: u64, arguments: &[u64; 6]) -> Verdict {
    let own = context.task.seccomp.lock().clone();
    let filter = match own {
        Seccomp::Off => return Verdict::Allow,
        Seccomp::Strict => {
            // read, write, exit, rt_sigreturn
            if matches!(number, 0 | 1 | 60 | 15) {
                return Verdict::Allow;
            }
            context.next = Next::Exit(SIGKILL);
            return Verdict::Instead(Err(Errno::EPERM));
        }
        Seccomp::Filter(filter) => filter,
    };
    let instruction = context.registers().rip;
    let decision = filter.decide(&data(number, instruction, arguments));
    let told = (decision & !action::MASK) as u16;
    if decision & action::MASK != action::ALLOW && filter.logs() || decision & action::MASK == action::LOG {
        let process = context.process.number;
        tessera_runtime::log!("linux: seccomp: process {process}, call {number}: action {decision:#x}");
    }
    match decision & action::MASK {
        action::ALLOW | action::LOG => Verdict::Allow,
        action::ERROR => Verdict::Instead(match told.min(4095) {
            0 => Ok(0),
            number => Err(Errno::from_number(number)),
        }),
        action::TRAP => {
            const SECCOMP: i32 = 1;
            let fields = [instruction, number & 0xffff_ffff | u64::from(ARCHITECTURE) << 32, 0, 0];
            deliver::force(context, Info { signal: SIGSYS, error: told.into(), code: SECCOMP, fields });
            // As if the call had not been made: its number is still there.
            Verdict::Instead(Ok(number))
        }
        action::TRACE => {
            if trace::seccomp(context, told) {
                Verdict::Allow
            } else {
                Verdict::Instead(Err(Errno::ENOSYS))
            }
        }
        // Nobody can listen for what a process would be told of.
        action::NOTIFY => Verdict::Instead(Err(Errno::ENOSYS)),
        action::KILL_THREAD => {
            let is_last = context.process.threads.lock().len() == 1;
            if is_last {
                context.process.end(SIGSYS);
            }
            context.next = Next::Exit(SIGSYS);
            Verdict::Instead(Err(Errno::ENOSYS))
        }
        _ => {
            context.process.end(SIGSYS);
            context.next = Next::Exit(SIGSYS);
            Verdict::Instead(Err(Errno::ENOSYS))
        }
    }
}
