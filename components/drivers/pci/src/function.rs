//! One function's configuration space: its head, its command register, its capabilities.

use crate::{Access, Address};

/// Register offsets (PCI 3.0, section 6.1).
const COMMAND: u8 = 0x04;
const REVISION_AND_CLASS: u8 = 0x08;
const HEADER_TYPE: u8 = 0x0c;
const SUBSYSTEM: u8 = 0x2c;
const CAPABILITIES: u8 = 0x34;

/// Command register bits (section 6.2.2).
pub mod command {
    /// Answers in memory space.
    pub const MEMORY: u32 = 1 << 1;
    /// Reaches memory by itself.
    pub const MASTER: u32 = 1 << 2;
    /// Sends no line interrupts.
    pub const NO_LINE_INTERRUPT: u32 = 1 << 10;
}

/// A function that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// Where.
    pub address: Address,
    /// Who made it.
    pub vendor: u16,
    /// What it is.
    pub device: u16,
    /// Class, subclass, programming interface.
    pub class: u32,
    /// Its revision.
    pub revision: u8,
    /// Bits 0 to 6 of the header type: 0 a device, 1 a bridge to another bus.
    pub header: u8,
    /// Whether its device may have more functions.
    pub several: bool,
}

impl Function {
    /// Looks whether a function is there.
    pub fn probe(access: &dyn Access, address: Address) -> Option<Function> {
        let identity = access.read(address, 0);
        let vendor = identity as u16;
        // All ones: nothing answered. 0 is no vendor either.
        if vendor == 0xffff || vendor == 0 {
            return None;
        }
        let class = access.read(address, REVISION_AND_CLASS);
        let header = (access.read(address, HEADER_TYPE) >> 16) as u8;
        Some(Function {
            address,
            vendor,
            device: (identity >> 16) as u16,
            class: class >> 8,
            revision: class as u8,
            header: header & 0x7f,
            several: header & 0x80 != 0,
        })
    }

    /// Vendor and number of the subsystem; of devices only.
    pub fn subsystem(&self, access: &dyn Access) -> (u16, u16) {
        let word = if self.header == 0 { access.read(self.address, SUBSYSTEM) } else { 0 };
        (word as u16, (word >> 16) as u16)
    }

    /// Sets and clears bits of the command register. Writing zeros to the status beside it changes nothing there.
    pub fn command(&self, access: &dyn Access, set: u32, clear: u32) {
        let old = access.read(self.address, COMMAND) & 0xffff;
        access.write(self.address, COMMAND, (old & !clear) | set);
    }
}

/// Where the function's first capability of a kind is (section 6.7).
pub fn capability(access: &dyn Access, address: Address, kind: u8) -> Option<u8> {
    const HAS_LIST: u32 = 1 << 20;
    if access.read(address, COMMAND) & HAS_LIST == 0 {
        return None;
    }
    let mut at = access.read(address, CAPABILITIES) as u8 & 0xfc;
    // There is room for 48; more is a circle.
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        let head = access.read(address, at);
        if head as u8 == kind {
            return Some(at);
        }
        at = (head >> 8) as u8 & 0xfc;
    }
    None
}
