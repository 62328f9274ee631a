//! Message-signalled interrupts (PCI 3.0, section 6.8): MSI-X, where each message has an entry in a table, and MSI, of which one message is used.

use tessera_runtime::Registers;

use crate::{Access, Address, capability};

const KIND: u8 = 0x11;
const ENABLE: u32 = 1 << 31;
const MASK_ALL: u32 = 1 << 30;
/// Bytes of an entry.
const ENTRY: usize = 16;

/// Where a function's interrupt table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageTable {
    capability: u8,
    /// How many messages it has.
    pub count: u16,
    /// In which window the table is, and where in it, in bytes.
    pub window: u8,
    /// See `window`.
    pub offset: u32,
    /// In which window the bits of pending messages are, and where.
    pub pending: (u8, u32),
}

impl MessageTable {
    /// The function's, if it has one.
    pub fn find(access: &dyn Access, address: Address) -> Option<MessageTable> {
        let at = capability(access, address, KIND).filter(|at| *at <= 0xf4)?;
        let read = |offset: u8| access.read(address, at.wrapping_add(offset));
        let (control, table, pending) = (read(0) >> 16, read(4), read(8));
        Some(MessageTable {
            capability: at,
            count: (control as u16 & 0x7ff).wrapping_add(1),
            window: table as u8 & 7,
            offset: table & !7,
            pending: (pending as u8 & 7, pending & !7),
        })
    }

    /// The table's bytes.
    pub fn length(&self) -> usize {
        usize::from(self.count).saturating_mul(ENTRY)
    }

    /// Masks all messages and lets the function use them.
    pub fn enable(&self, access: &dyn Access, address: Address, table: &dyn Registers) {
        for number in 0..usize::from(self.count) {
            let entry = number.saturating_mul(ENTRY);
            table.write_32(entry.saturating_add(12), 1);
        }
        let head = access.read(address, self.capability);
        access.write(address, self.capability, (head | ENABLE) & !MASK_ALL);
    }

    /// Stops all messages.
    pub fn disable(&self, access: &dyn Access, address: Address) {
        let head = access.read(address, self.capability);
        access.write(address, self.capability, (head & !ENABLE) | MASK_ALL);
    }

    /// Makes the function write `data` to `to` for message `number`.
    pub fn set(&self, table: &dyn Registers, number: u16, to: u64, data: u32) {
        let entry = usize::from(number).saturating_mul(ENTRY);
        if number >= self.count {
            return;
        }
        // Masked while it is changed.
        table.write_32(entry.saturating_add(12), 1);
        table.write_32(entry, to as u32);
        table.write_32(entry.saturating_add(4), (to >> 32) as u32);
        table.write_32(entry.saturating_add(8), data);
        table.write_32(entry.saturating_add(12), 0);
    }
}

/// The one message of a function without a table (section 6.8.1). It is set in configuration space, which is the bus's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SingleMessage {
    capability: u8,
    /// Whether the address has 64 bits: then the data come four bytes later.
    wide: bool,
}

impl SingleMessage {
    const KIND: u8 = 0x05;
    const ENABLE: u32 = 1 << 16;
    /// How many of its messages the function may use, as a power of two.
    const SEVERAL: u32 = 7 << 20;
    const WIDE: u32 = 1 << 23;

    /// The function's, if it has one.
    pub fn find(access: &dyn Access, address: Address) -> Option<SingleMessage> {
        let at = capability(access, address, Self::KIND).filter(|at| *at <= 0xf0)?;
        Some(SingleMessage { capability: at, wide: access.read(address, at) & Self::WIDE != 0 })
    }

    /// Stops it.
    pub fn disable(&self, access: &dyn Access, address: Address) {
        let head = access.read(address, self.capability);
        access.write(address, self.capability, head & !(Self::ENABLE | Self::SEVERAL));
    }

    /// Makes the function write `data` to `to`. False if it cannot write there.
    pub fn set(&self, access: &dyn Access, address: Address, to: u64, data: u32) -> bool {
        let (low, high) = (to as u32, (to >> 32) as u32);
        if high != 0 && !self.wide {
            return false;
        }
        self.disable(access, address);
        let mut at = self.capability.wrapping_add(4);
        access.write(address, at, low);
        if self.wide {
            at = at.wrapping_add(4);
            access.write(address, at, high);
        }
        at = at.wrapping_add(4);
        let beside = access.read(address, at) & 0xffff_0000;
        access.write(address, at, beside | data & 0xffff);
        let head = access.read(address, self.capability);
        access.write(address, self.capability, head | Self::ENABLE);
        true
    }
}
