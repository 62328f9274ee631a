//! Memory that somebody else may change at any time (another process, a device), and device registers, behind safe functions.
//!
//! What a driver or the user of a shared ring needs and cannot write without `unsafe`: loads and stores of a given width at a checked
//! place, and copies. It relies on nothing of the system, so that what is built on it runs in tests on the host as it is.
//!
//! Nothing in here panics or reaches outside of the memory, whatever offset it is given: outside, loads give all ones and stores are
//! lost, as on a bus where nothing answers. No reference into the memory is ever given out: a value that was loaded once is the
//! caller's own, and looking twice may show two different values.
#![no_std]

extern crate alloc;

mod copy;
#[cfg(all(target_arch = "x86_64", any(target_os = "none", test)))]
mod mem;
mod registers;
mod shared;

pub use registers::{Registers, Window};
pub use shared::Memory;

#[cfg(test)]
mod tests;
