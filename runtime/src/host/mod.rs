//! The part of the kernel that components use, imitated within a process of the host: what `cargo test` needs.
//!
//! Handles, memory (files without a name, really mapped), events, park, the clock, the log, and calls between threads. It may rely
//! on the host's std. It must answer as the kernel does where it answers at all; a call that is not imitated is refused
//! with `BadSyscall`, never made up.

mod calls;
mod memory;
mod objects;
mod table;

use std::io::Write;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tessera_abi::{Error, NEVER, Rights, Syscall};

use crate::raw::Outcome;
use objects::{Event, Thing, Thread};
use table::{find, insert, remove};

/// The handles that a process has of itself, in the order of `own`.
pub(crate) use table::own_number;

/// Nanoseconds since the first question.
pub(crate) fn nanoseconds() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// How long until a deadline; `None` if it never comes.
fn until(deadline: u64) -> Option<Duration> {
    (deadline != NEVER).then(|| Duration::from_nanos(deadline.saturating_sub(nanoseconds())))
}

/// A handle to a new thread object.
pub(crate) fn new_thread() -> u32 {
    insert(Thing::Thread(Thread::new()), Rights::ALL)
}

/// Closes a handle.
pub(crate) fn close(number: u32) {
    let _ = remove(number);
}

type Values = Result<[u64; 6], Error>;

/// Answers a system call.
///
/// # Safety
/// As for the call itself: the memory that the arguments name must be the caller's to lend.
pub(crate) unsafe fn system_call(number: u64, arguments: [u64; 6]) -> Outcome {
    // SAFETY: passed on to the caller.
    match unsafe { answer(number, arguments) } {
        Ok(values) => Outcome { code: 0, values },
        Err(error) => Outcome { code: error as u64, values: [0; 6] },
    }
}

fn one(value: impl Into<u64>) -> Values {
    Ok([value.into(), 0, 0, 0, 0, 0])
}

const DONE: Values = Ok([0; 6]);

/// The text in `length` bytes at `address`.
///
/// # Safety
/// The range must be readable.
unsafe fn bytes<'a>(address: u64, length: u64) -> &'a [u8] {
    // SAFETY: the caller vouches for it; an empty range may have any address.
    if length == 0 { &[] } else { unsafe { core::slice::from_raw_parts(address as *const u8, length as usize) } }
}

/// # Safety
/// As `system_call`.
unsafe fn answer(number: u64, [a, b, c, d, e, f]: [u64; 6]) -> Values {
    let Some(call) = Syscall::from_number(number) else { return Err(Error::BadSyscall) };
    let needs = |rights| find(a, rights);
    match call {
        Syscall::Null | Syscall::Processors => one(1_u64),
        Syscall::Yield => {
            std::thread::yield_now();
            DONE
        }
        Syscall::Close => {
            // The object goes after the table's lock is released: its end may close further handles.
            drop(remove(a as u32)?);
            DONE
        }
        Syscall::Duplicate => table::duplicate(a, b),
        Syscall::Inspect => table::inspect(a),
        Syscall::PoolCreate => {
            needs(Rights::MANAGE)?;
            one(insert(Thing::Pool, Rights::ALL))
        }
        Syscall::PoolInspect => Ok([u64::MAX, 0, 0, 0, 0, 0]),
        Syscall::VmoCreate => one(insert(Thing::Vmo(memory::Memory::new(b)?), Rights::ALL)),
        Syscall::VmoInspect => {
            let size = needs(Rights::NONE)?.memory()?.size();
            Ok([size, size / 4096, 0, 0, 0, 0])
        }
        Syscall::VmoResize => needs(Rights::WRITE)?.memory()?.resize(b).map(|()| [0; 6]),
        Syscall::VmoSnapshot => one(insert(Thing::Vmo(needs(Rights::READ)?.memory()?.copy()?), Rights::ALL)),
        // SAFETY: the caller lends the range for reading.
        Syscall::VmoWrite => one(needs(Rights::WRITE)?.memory()?.write(b, unsafe { bytes(c, d) })?),
        Syscall::VmoRead => {
            let memory = needs(Rights::READ)?;
            if d == 0 {
                return one(0_u64);
            }
            // SAFETY: the caller lends the range for writing.
            one(memory.memory()?.read(b, unsafe { core::slice::from_raw_parts_mut(c as *mut u8, d as usize) })?)
        }
        Syscall::SpaceMap => {
            let memory = find(b, Rights::MAP)?;
            one(memory.memory()?.map(c, d, e, f)?)
        }
        // SAFETY: the caller says that nothing uses the range any more.
        Syscall::SpaceUnmap => unsafe { memory::unmap(b, c) }.map(|()| [0; 6]),
        Syscall::EventCreate => one(insert(Thing::Event(Event::new()), Rights::ALL)),
        Syscall::EventRaise => {
            needs(Rights::SIGNAL)?.event()?.raise(b);
            DONE
        }
        Syscall::EventClear => one(needs(Rights::SIGNAL)?.event()?.clear(b)),
        Syscall::EventWait => one(needs(Rights::WAIT)?.event()?.wait(b, c, until(d))?),
        Syscall::Park => Thread::of(crate::thread::own_number())?.park(until(a)).map(|()| [0; 6]),
        Syscall::Unpark => {
            needs(Rights::SIGNAL)?.thread()?.unpark();
            DONE
        }
        Syscall::ClockRead => one(nanoseconds()),
        Syscall::ClockInspect => Ok([1_000_000_000, 0, 0, 0, 0, 0]),
        Syscall::LogWrite => {
            // SAFETY: the caller lends the text.
            let text = unsafe { bytes(b, c) };
            let _ = std::io::stderr().write_all(text);
            DONE
        }
        Syscall::EndpointCreate => one(insert(Thing::Endpoint(calls::Receiver::new()), Rights::ALL)),
        Syscall::SessionCreate => {
            let session = needs(Rights::MANAGE)?.receiver()?.session(c);
            one(insert(Thing::Session(session), Rights::ALL))
        }
        Syscall::SessionBadge => one(needs(Rights::RECEIVE)?.receiver()?.badge(find(b, Rights::NONE)?.session()?)?),
        Syscall::LeaseRead | Syscall::LeaseWrite => {
            let write = matches!(call, Syscall::LeaseWrite);
            // SAFETY: the caller lends its range.
            unsafe { calls::lease(a, b, c, d, write) }.map(|()| [0; 6])
        }
        Syscall::Exit => std::process::exit(a as i32),
        _ => Err(Error::BadSyscall),
    }
}

pub(crate) use calls::message_call;
