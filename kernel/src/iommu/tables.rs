//! Tables that the units walk: words in frames, and a device's tables of pages (VT-d 9.8), which look like the processor's own.

use tessera_abi::PAGE;
use tessera_core::Frame;

use crate::tables::Entry;
use crate::{cpu, memory, space};

const READ_AND_WRITE: u64 = 0b11;
/// Bytes that one flush of the processor's cache covers, at least.
const LINE: u64 = 64;

/// How the units walk tables.
#[derive(Clone, Copy)]
pub struct Tables {
    /// Levels of a device's tables, 3 or 4.
    pub levels: u32,
    /// Whether the units see the processor's cache. If not, what is written must be written back.
    pub coherent: bool,
}

/// The address of a frame.
pub fn address(frame: Frame) -> u64 {
    frame.0 * PAGE
}

/// The frame at an address.
pub fn frame(address: u64) -> Frame {
    Frame(address / PAGE)
}

impl Tables {
    /// Word `index` of a table.
    pub fn read(&self, table: Frame, index: usize) -> u64 {
        space::read(table, index).0
    }

    /// Writes word `index` of a table, for the units to see.
    pub fn write(&self, table: Frame, index: usize, word: u64) {
        space::write(table, index, Entry(word));
        if !self.coherent {
            cpu::write_back(memory::direct(address(table)).wrapping_add(index * 8));
        }
    }

    /// Lets the units see a frame that was filled.
    pub fn write_back(&self, table: Frame) {
        if !self.coherent {
            for at in (0..PAGE).step_by(LINE as usize) {
                cpu::write_back(memory::direct(address(table) + at));
            }
        }
    }

    /// Enters one page; false when `tables` had no frame for a missing table.
    pub fn map(&self, root: Frame, address: u64, frame: Frame, tables: &mut dyn FnMut() -> Option<Frame>) -> bool {
        let index = |level: u32| (address >> (12 + 9 * level) & 511) as usize;
        let mut table = root;
        for level in (1..self.levels).rev() {
            let entry = space::read(table, index(level));
            table = if entry.is_present() {
                entry.frame()
            } else {
                let Some(fresh) = tables() else { return false };
                self.write_back(fresh);
                self.write(table, index(level), fresh.0 * PAGE | READ_AND_WRITE);
                fresh
            };
        }
        self.write(table, index(0), frame.0 * PAGE | READ_AND_WRITE);
        true
    }

    /// Takes up to `limit` tables below and with `root` out of use, deepest first; true when the root itself is out.
    pub fn release(&self, root: Frame, limit: usize, release: &mut dyn FnMut(Frame)) -> bool {
        let mut left = limit;
        space::release_below(root, self.levels - 1, &mut left, release)
    }
}
