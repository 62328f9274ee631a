//! Virtio devices at fixed places in memory: the bus of QEMU's `microvm` (its documentation, "microvm", and `hw/i386/microvm.c`).
//!
//! Slot `n` has its registers at 0xfeb00000 + `n` × 512 and a line of its own: 24 + `n` where the machine has a second I/O interrupt
//! controller, else 5 + `n`. Which slots hold a device shows in their registers (Virtio 1.2, section 4.2.2). Hands each device to one
//! driver as a `Cap<dyn Device>`.
//!
//! What must never happen here: a driver gets at another's device; memory that a device may still reach is given to anybody else. Eight
//! slots share a page, and the MMU knows pages only: so where a page holds several devices they are given to nobody, unless the image
//! says `share=pages`. A device is reset before the memory of its former driver goes.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod device;

use alloc::sync::Arc;
use alloc::vec::Vec;

pub use device::{Authority, MmioDevice};
use tessera_interfaces::{AbsentDevice, Keeper};
use tessera_runtime::abi::PAGE;
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::Access;
use tessera_runtime::{Mapping, log};
use tessera_virtio::{Mmio, client_wants};

/// Where the slots begin.
pub const BASE: u64 = 0xfeb0_0000;
/// Bytes of a slot.
pub const SLOT: usize = 512;
/// Slots of a page.
const A_PAGE: usize = PAGE as usize / SLOT;
/// Slots and first line of a machine with one interrupt controller, and of one with two, whose pins are then at least these many.
const ONE: (usize, u64) = (8, 5);
const TWO: (usize, u64) = (24, 24);
const PINS_OF_TWO: u64 = 48;

/// What the bus uses.
pub struct Uses {
    /// What holds the memory that devices reach if this bus ends.
    pub keeper: Route<dyn Keeper>,
}

/// The bus.
pub struct VirtioMmio {
    devices: Vec<Arc<MmioDevice>>,
    may_share: bool,
}

impl VirtioMmio {
    /// Looks into all slots and stops every device.
    pub fn new(context: Context, uses: Uses) -> Result<Arc<VirtioMmio>, StartError> {
        let authority = Authority {
            registers: context.take("registers")?,
            interrupts: context.take("lines")?,
            dma: context.take("dma")?,
            keeper: uses.keeper.cap,
        };
        let may_share = context.argument("share") == Some("pages");
        Ok(Arc::new(VirtioMmio::open(authority, may_share)?))
    }

    /// The bus behind an authority.
    pub fn open(authority: Authority, may_share: bool) -> Result<VirtioMmio, StartError> {
        let authority = Arc::new(authority);
        let lines = authority.interrupts.lines()?;
        let (slots, first_line) = if lines.first_message >= PINS_OF_TWO { TWO } else { ONE };
        let bytes = slots.saturating_mul(SLOT).next_multiple_of(PAGE as usize);
        let registers = Mapping::new(&authority.registers, 0, bytes as u64, Access::Write)?.into_registers();
        let mut devices = Vec::new();
        // The first device that QEMU is asked for lies in the last slot.
        for slot in (0..slots).rev() {
            let Some(window) = registers.part(slot.saturating_mul(SLOT), SLOT) else { continue };
            if let Some(transport) = Mmio::new(window) {
                let line = first_line.saturating_add(slot as u64);
                devices.push(Arc::new(MmioDevice::new(authority.clone(), transport, slot, line)));
            }
        }
        Ok(VirtioMmio { devices, may_share })
    }

    /// All devices.
    pub fn devices(&self) -> &[Arc<MmioDevice>] {
        &self.devices
    }

    /// The device that is meant for a client, if it is there and shares its page with none.
    pub fn find(&self, client: &str) -> Option<Arc<MmioDevice>> {
        let (wanted, index) = client_wants(client)?;
        let is_meant = |device: &&Arc<MmioDevice>| device.transport().device_type() == wanted;
        let device = self.devices.iter().filter(is_meant).nth(index)?;
        let shares = |other: &&Arc<MmioDevice>| other.slot() / A_PAGE == device.slot() / A_PAGE;
        if !self.may_share && self.devices.iter().filter(shares).count() > 1 {
            log!("the device for {client} shares a page with another: place it elsewhere, or say share=pages");
            return None;
        }
        Some(device.clone())
    }

    /// The device for a client; one that answers everything with "not found" if it is not there.
    pub fn device(&self, client: &str) -> Arc<dyn tessera_interfaces::Device> {
        match self.find(client) {
            Some(device) => device,
            None => {
                log!("no device on this bus for {client}");
                Arc::new(AbsentDevice)
            }
        }
    }
}
