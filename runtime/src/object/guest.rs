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

/// Runs the calling thread's guest from `state` until it leaves, and puts there why and with which registers.
pub fn enter(state: &mut GuestState) -> Result<()> {
    // SAFETY: the kernel reads and writes the record only. The guest itself reaches its own space alone: the native half of
    // the address space is not accessible to it.
    checked(unsafe { raw::syscall_1(Syscall::GuestEnter as u64, &raw mut *state as u64) }).map(|_| ())
}
