//! Driver of virtio block devices (Virtio 1.2, section 5.2).
//!
//! [`Engine`] is the device's logic: requests over one queue, through memory of its own that the device reaches. [`VirtioBlk`] is the
//! component around it: when the device fails, it is started anew and what was under way is asked again (reading and writing
//! blocks can be repeated).
//!
//! What a request reads is copied once more on its way to the client, so the device never reaches a client's memory; and a client's range is
//! checked against the device's size before anything is asked of it.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod component;
mod engine;
mod request;

pub use component::{Uses, VirtioBlk};
pub use engine::{Engine, Failure};
pub use request::{Characteristics, Data, FEATURES};
