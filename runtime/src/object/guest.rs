//! Guests: a second register file and address space of a thread.

use tessera_abi::Syscall;
use tessera_abi::x86_64::GuestState;

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
