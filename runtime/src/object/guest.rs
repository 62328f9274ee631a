//! Guests: a second register file and address space of a thread.

use tessera_abi::Syscall;
use tessera_abi::x86_64::{GUEST_LEFT, GuestState};

use super::{Pool, Space, Thread};
use crate::handle::{Object, Result, checked, request};
use crate::raw;

/// Gives a thread of this process a guest that runs in `space`.
pub fn create(thread: &Thread, pool: &Pool, space: &Space) -> Result<()> {
    request(Syscall::GuestCreate, [thread.owned().number(), pool.owned().number(), space.owned().number()]).map(|_| ())
}

/// Copies the start of the calling thread's guest's vector state (as `xsave` stores it); answers the size of all of it in bytes.
pub fn vector_state(to: &mut [u8]) -> Result<u64> {
    let (address, length) = (to.as_mut_ptr() as u64, to.len() as u64);
    // SAFETY: the kernel writes to `to` only, which is borrowed for it.
    Ok(checked(unsafe { raw::syscall_2(Syscall::GuestVectorRead as u64, address, length) })?[0])
}

/// Replaces the start of the calling thread's guest's vector state. What the processor would refuse is cleared.
pub fn set_vector_state(from: &[u8]) -> Result<()> {
    let (address, length) = (from.as_ptr() as u64, from.len() as u64);
    // SAFETY: the kernel reads from `from` only, which is borrowed for it.
    checked(unsafe { raw::syscall_2(Syscall::GuestVectorWrite as u64, address, length) }).map(|_| ())
}

/// Runs the calling thread's guest from `state` until it leaves, and puts there why and with which registers.
pub fn enter(state: &mut GuestState) -> Result<()> {
    // SAFETY: the kernel reads and writes the record only. The guest itself reaches its own space alone: the native half of
    // the address space is not accessible to it.
    checked(unsafe { raw::syscall_1(Syscall::GuestEnter as u64, &raw mut *state as u64) }).map(|_| ())
}

/// How a guest that was resumed left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It made a system call. Its registers stay with the kernel ([`save`] fetches them), and `rcx` and `r11` are what the
    /// processor's `syscall` leaves in them.
    Call {
        /// What was in `rax`; at most 2^32 - 2.
        number: u32,
        /// What was in `rdi rsi rdx r10 r8 r9`.
        arguments: [u64; 6],
    },
    /// It faulted or was interrupted: the state says which, as after [`enter`].
    Left,
}

/// Lets the calling thread's guest go on behind the system call that it made last, with `value` as the result. This is the short
/// way: registers cross in registers, and `state` is written only if the guest leaves otherwise than by a system call.
#[inline(always)]
pub fn resume(value: u64, state: &mut GuestState) -> Result<Exit> {
    // SAFETY: the kernel writes the record only; for the guest itself as in `enter`.
    let outcome = unsafe { raw::syscall_2(Syscall::GuestResume as u64, value, &raw mut *state as u64) };
    let number = outcome.code >> 32;
    let arguments = checked(outcome)?;
    Ok(if number == GUEST_LEFT { Exit::Left } else { Exit::Call { number: number as u32, arguments } })
}

/// Writes the registers of the calling thread's guest, which does not run, to `state`.
pub fn save(state: &mut GuestState) -> Result<()> {
    // SAFETY: the kernel writes the record only.
    checked(unsafe { raw::syscall_1(Syscall::GuestSave as u64, &raw mut *state as u64) }).map(|_| ())
}
