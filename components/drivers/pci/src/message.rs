//! Message-signalled interrupts (MSI-X; PCI 3.0, section 6.8.2).

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
