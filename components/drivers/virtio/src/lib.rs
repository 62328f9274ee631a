//! Virtio as its drivers see it (Virtual I/O Device, version 1.2; sections are cited as "Virtio 2.7").
//!
//! Here is what all kinds of virtio devices have in common: how a driver reaches the registers ([`Transport`], over PCI or over
//! MMIO), how it starts a device ([`start`]), and how the two exchange buffers ([`Queue`]). Only devices of version 1 ("modern") are
//! driven. What a device of some kind does with its buffers is in the crate of its driver.
//!
//! It relies on registers and on memory with known bus addresses, which somebody with the authority for it has made.
//!
//! **The device is not trusted.** It may be emulated by something that was broken into, or may be broken itself. Whatever stands in
//! memory or registers that it writes is an allegation: it is loaded once, checked, and never used as an index before that. A
//! device that does not keep to the rules is an error ([`Misbehaved`]), never a panic and never an access outside of the memory.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod dma;
mod mmio;
mod pci;
mod queue;
mod start;
mod transport;

pub use dma::{DmaMemory, PAGE};
pub use mmio::Mmio;
pub use pci::{Capabilities, Configuration, Pci, Place, device_type as pci_device_type, parse};
pub use queue::{Completed, Full, Layout, MOST, Part, Queue};
pub use start::{Configured, StartError, failed, start};
pub use transport::{QueueAddresses, Transport, configuration_consistently};

/// The device broke the rules of its specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaved {
    /// It says that it has used more buffers than it was given (Virtio 2.7.8).
    UsedTooMuch,
    /// It gave back a buffer that it does not have.
    UnknownBuffer,
    /// Its configuration never stood still (Virtio 2.5.1).
    Restless,
    /// It does not say of itself what it must.
    Nonsense,
}

/// Feature bits that all kinds of devices share (Virtio 6).
pub mod feature {
    /// Notifications by position instead of by flag (Virtio 2.7.7.1, 2.7.10).
    pub const EVENT_INDEX: u64 = 1 << 29;
    /// Version 1 of the specification.
    pub const VERSION_1: u64 = 1 << 32;
    /// Device addresses are not physical ones: an IOMMU is between.
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
}

/// Device types (Virtio 5).
pub mod device_type {
    /// Network card.
    pub const NETWORK: u32 = 1;
    /// Block device.
    pub const BLOCK: u32 = 2;
    /// Console.
    pub const CONSOLE: u32 = 3;
    /// Entropy source.
    pub const ENTROPY: u32 = 4;
    /// Files of the host, over 9P.
    pub const FILES: u32 = 9;
}

/// Which virtio device a client of a bus is meant to get, by the client's name: `virtio-net` the first network card, `virtio-net-2` the
/// second. Answers the device type and the how manieth of these, from 0 on.
pub fn client_wants(client: &str) -> Option<(u32, usize)> {
    let kinds = [
        ("virtio-net", device_type::NETWORK),
        ("virtio-blk", device_type::BLOCK),
        ("virtio-console", device_type::CONSOLE),
        ("virtio-rng", device_type::ENTROPY),
        ("virtio-9p", device_type::FILES),
    ];
    kinds.iter().find_map(|(kind, device_type)| match client.strip_prefix(kind)? {
        "" => Some((*device_type, 0)),
        rest => Some((*device_type, rest.strip_prefix('-')?.parse::<usize>().ok()?.checked_sub(1)?)),
    })
}
