//! Driver of virtio network cards (Virtio 1.2, section 5.1).
//!
//! [`Pump`] is the device's logic: it moves frames between the device's two queues and the rings that a client shares
//! (`tessera-rings`). The device reads and writes the client's buffers itself: no byte of a frame is copied here, and under load
//! nothing is called for one. [`VirtioNet`] is the component around it.
//!
//! Neither side is trusted. The device reaches the client's buffers and the queues, nothing else; a client that breaks the rings'
//! rules, or a device that breaks its own, ends the attachment and nothing else.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod card;
mod component;
mod header;
mod pump;

pub use card::{Card, wanted};
pub use component::{Uses, VirtioNet};
pub use pump::{Ended, Pump};
