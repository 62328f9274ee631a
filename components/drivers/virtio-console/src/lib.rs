//! Driver of virtio consoles with one port (Virtio 1.2, section 5.3).
//!
//! [`Port`] is the device's logic: what was typed waits in a queue of bounded length, and when that is full, with the device;
//! what is to be shown is copied to memory of the driver and sent. [`VirtioConsole`] is the component around it, with a thread that waits for the device.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod component;
mod port;

pub use component::{Uses, VirtioConsole};
pub use port::{FEATURES, Port, SIZE_KNOWN};
