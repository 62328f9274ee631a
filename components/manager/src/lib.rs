//! The manager's rules: what is started when, what becomes of a domain that has ended, who is told.
//!
//! They hold for any [`World`]: the program beside this library brings the kernel's, the tests one of their own. Nothing here waits;
//! whoever owns a [`Supervision`] looks when something has ended or is due.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod kept;
mod policy;
mod supervision;
mod world;

pub use kept::Kept;
pub use policy::{Backoff, Next};
pub use supervision::{Supervision, Unknown};
pub use world::{Usage, World};
