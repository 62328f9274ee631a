//! What every native program of Tessera links: start-up, typed handles, calls, threads, locks, a heap, starting programs; and
//! what every component links: capabilities and interfaces.
//!
//! A program forbids `unsafe` and uses what is here. The unsafe code is in few files, each of which says at its head what it
//! must keep: `raw` (the system call instruction), `handle` and `object` (their arguments), `start`, `thread`, `sync`, `heap`, `shelves`, `mapping`, `panic`.
//!
//! Built for a host, `raw` is answered by an imitation of the kernel within the process (`host`), and threads are the
//! host's: components are tested there unchanged. Nothing else differs.
#![no_std]
#![cfg_attr(target_os = "none", feature(optimize_attribute))]

extern crate alloc;
#[cfg(not(target_os = "none"))]
extern crate std;
// The macros name this crate as others do.
extern crate self as tessera_runtime;

pub mod archive;
pub mod cap;
pub mod component;
#[cfg(target_os = "none")]
mod domain;
pub mod handle;
#[cfg_attr(not(target_os = "none"), path = "host/heap.rs")]
pub mod heap;
#[cfg(not(target_os = "none"))]
mod host;
pub mod log;
mod mapping;
pub mod message;
pub mod object;
pub mod own;
#[cfg(target_os = "none")]
mod panic;
#[cfg_attr(not(target_os = "none"), path = "host/raw.rs")]
pub mod raw;
pub mod server;
#[cfg(any(test, target_os = "none"))]
mod shelves;
pub mod spawn;
mod start;
pub mod sync;
#[cfg_attr(not(target_os = "none"), path = "host/thread.rs")]
pub mod thread;
pub mod transport;

pub use cap::Cap;
pub use handle::{Object, Owned, Result};
pub use mapping::Mapping;
pub use message::{Answer, Buffer, Message};
pub use object::exit;
pub use server::Server;
pub use spawn::{Child, Program};
pub use start::{Start, name};
pub use tessera_abi as abi;
pub use tessera_abi::{Error, Handle, Kind, Rights};
pub use tessera_interface::{InterfaceError, Plain, Transfer, interface};
pub use tessera_memory::{Memory, Registers, Window};
pub use transport::TransportError;
