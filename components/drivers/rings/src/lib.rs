//! The shared memory between a network driver and its client: buffers that hold frames, and four rings that pass them.
//!
//! The client makes both pieces of memory and hands them to the driver when it attaches. A buffer goes from the client to the driver
//! on one ring and comes back on another:
//!
//! | ring | from, to | says |
//! | --- | --- | --- |
//! | `RECEIVE_FREE` | client, driver | this buffer may be filled with a frame |
//! | `RECEIVE_DONE` | driver, client | this buffer holds a frame |
//! | `SEND` | client, driver | this buffer holds a frame to be sent |
//! | `SEND_DONE` | driver, client | this buffer was sent |
//!
//! Each ring has one producer and one consumer. Nothing is called per frame: a side rings the other's doorbell (an `Event`) only
//! when that one said that it sleeps, as in virtio's used-buffer notification suppression (Virtio 1.2, section 2.7.7).
//!
//! **Either side may be hostile.** All of this memory can be changed by the other side at any time. Each side keeps its own
//! positions to itself, loads a value once and checks what it loaded; the worst that a peer can do is to be found [`Broken`], or to garble the
//! frames that pass between the two. Nothing here panics, allocates after it was made, or waits.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod client;
mod driver;
mod entry;
mod ring;

pub use client::{Client, Offload, Received};
pub use driver::Driver;
pub use entry::{Entry, flags};
pub use ring::{Consumer, Producer, capacity, format, layout};

#[cfg(test)]
mod tests;

/// The peer does not keep to the rules: the attachment is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Bytes of a buffer. Two fill a page, so that no buffer crosses one.
pub const BUFFER: usize = 2048;

/// Bytes before a frame in its buffer that belong to the driver, which keeps its device's header there.
pub const HEADROOM: usize = 16;

/// The longest frame that fits into one buffer, in bytes.
pub const FRAME: usize = BUFFER.saturating_sub(HEADROOM);

/// Bits of the doorbell events.
pub mod doorbell {
    /// Raised in the driver's event by the client: one of the client's rings has work.
    pub const TO_DEVICE: u64 = 1 << 0;
    /// Raised in the client's event by the driver: one of the driver's rings has work.
    pub const FROM_DEVICE: u64 = 1 << 0;
    /// Raised in the client's event by the driver: it has ended the attachment, as one side broke the rules. Attach again.
    pub const ENDED: u64 = 1 << 1;
}
