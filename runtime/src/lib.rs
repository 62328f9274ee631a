//! What every native program of Tessera links: start-up, typed handles, calls, threads, locks, a heap, starting programs.
//!
//! A program forbids `unsafe` and uses what is here. The unsafe code is in few files, each of which says at its head what it
//! must keep: `raw` (the system call instruction), `handle` and `object` (their arguments), `start`, `thread`, `sync`, `heap`, `mapping`, `panic`.
#![no_std]

extern crate alloc;

pub mod archive;
pub mod handle;
mod heap;
pub mod log;
mod mapping;
pub mod message;
pub mod object;
pub mod own;
mod panic;
pub mod raw;
pub mod spawn;
mod start;
pub mod sync;
pub mod thread;

pub use handle::{Object, Owned, Result};
pub use mapping::Mapping;
pub use message::{Answer, Buffer, Message};
pub use object::exit;
pub use spawn::{Child, Program};
pub use start::{Start, name};
pub use tessera_abi as abi;
pub use tessera_abi::{Error, Handle, Kind, Rights};
