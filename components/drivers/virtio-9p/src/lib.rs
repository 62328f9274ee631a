//! Files of the host, over virtio 9P (Virtio 1.2 names the device type; the protocol is 9P2000.L, as Linux and QEMU speak it:
//! `include/net/9p/9p.h` of Linux, and diod's `protocol.md`).
//!
//! [`message`] writes requests and reads answers, [`Session`] knows fids, [`File`] is what clients hold, [`Transport`] carries messages
//! through the device's one queue. One request is on its way at a time.
//!
//! **The server is not trusted** beyond the files that it serves: whatever it answers is checked, and an answer that breaks the protocol is an
//! error of that call.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod component;
mod file;
pub mod message;
mod session;
mod transport;

pub use component::{Uses, Virtio9p};
pub use file::File;
pub use session::{Exchange, Session};
pub use transport::Transport;

/// The bytes of the longest message that is proposed.
pub const LONGEST: usize = 64 << 10;
