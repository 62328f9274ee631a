//! The Linux personality: runs unmodified Linux programs as guests of its threads.
//!
//! An ordinary component, without privilege. A program's system calls and faults come here; what it may reach is what this component was
//! given. Everything that comes from a guest is an allegation: numbers are checked where they are used, addresses in [`memory`] alone,
//! which is the only module with `unsafe`. Nothing a guest does may end the personality.
#![no_std]
#![deny(unsafe_code)]
// Methods that answer something are not always asked for it.
#![allow(clippy::must_use_candidate)]

extern crate alloc;

pub mod container;
pub mod errno;
pub mod file;
pub mod fs;
pub mod futex;
pub mod memory;
pub mod program;
pub mod signal;
pub mod syscall;
pub mod task;
pub mod time;

/// What `uname` says: programs ask for the version of Linux whose calls they may use.
pub const RELEASE: &str = "6.1.0-tessera";
/// The rest of what it says of the kernel.
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC Tessera";

/// Whether every call is written to the log. For finding out what a program does; never on in what is shipped.
pub(crate) const TRACE: bool = option_env!("TESSERA_LINUX_TRACE").is_some();
