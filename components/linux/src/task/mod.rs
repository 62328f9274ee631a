//! Linux's threads and processes.
//!
//! A [`Task`] is a Linux thread. A thread of the personality runs it: it enters the guest, and handles what the guest left for
//! ([`run`]). What belongs to that thread alone is its [`Context`]; what others may look at is in the `Task` and its [`Process`].

pub mod clone;
pub mod context;
pub mod credentials;
pub mod exec;
pub mod exit;
pub mod process;
pub mod random;
pub mod run;
pub mod shortage;
pub mod system;
pub mod trace;
pub mod wait;

pub use context::{Context, Text};
pub use credentials::Credentials;
pub use process::{Process, Task};
pub use system::System;
pub use wait::{WaitQueue, Waiter, wait};
