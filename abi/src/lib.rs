//! What kernel and user space agree on: call numbers, rights, errors, message layout, the start-up block.
//!
//! Everything here is plain data with a fixed encoding. Nothing here may allocate, panic on values that
//! came from the other side, or know how either side is built.
#![no_std]
#![forbid(unsafe_code)]

pub mod error;
pub mod message;
pub mod object;
pub mod rights;
pub mod startup;
pub mod syscall;
pub mod x86_64;

pub use error::Error;
pub use message::{Delivery, Tag};
pub use object::{FaultKind, Handle, Kind, Level};
pub use rights::Rights;
pub use startup::{Startup, StartupWriter};
pub use syscall::Syscall;

/// Bytes in a page, and in a frame.
pub const PAGE: u64 = 4096;

/// First address that native programs use; everything below is free for guests.
pub const NATIVE_BASE: u64 = 0x7f00_0000_0000;

/// One past the last address of user space. The page above it stays empty, so that the address behind a `syscall` instruction is
/// never one that the processor refuses to go back to.
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// A deadline that never comes, in nanoseconds since boot.
pub const NEVER: u64 = u64::MAX;
