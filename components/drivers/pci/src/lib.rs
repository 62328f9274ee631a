//! The PCI bus (PCI Local Bus Specification 3.0; PCI Express Base Specification for the extended parts).
//!
//! Finds the functions on the bus and hands each to one driver as a `Cap<dyn Device>`. It alone holds the bus's configuration space, the
//! authority over device memory, over interrupts and over memory that devices reach. A driver gets the registers of its
//! function, interrupts that only its function sends, and a `Dma` of its own.
//!
//! What must never happen here: a driver gets at another function's registers or at an interrupt table; memory that a function may still
//! reach is given to anybody else. So drivers cannot write configuration space, pages that two functions share are given to nobody, and a
//! function is reset before the memory of its former driver goes.
//!
//! What stands in configuration space is the device's word: lists may be circles, sizes absurd.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod access;
mod component;
mod device;
mod function;
mod message;
mod room;
mod scan;
mod window;

pub use access::{Access, Address, Ports};
pub use component::{Pci, Uses, wanted};
pub use device::{Authority, PciDevice};
pub use function::{Function, capability};
pub use message::{MessageTable, SingleMessage};
pub use room::place;
pub use scan::scan;
pub use window::{Window, windows};
