//! Base address registers: where a function's registers lie in memory (PCI 3.0, section 6.2.5.1).

use alloc::vec::Vec;

use crate::function::command;
use crate::{Access, Address, Function};

const FIRST: u8 = 0x10;

/// A range of memory in which registers lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Whose.
    pub function: Address,
    /// Number of its (lower) base address register.
    pub number: u8,
    /// Where it begins; 0 if nobody has placed it.
    pub first: u64,
    /// Its bytes, a power of two.
    pub length: u64,
    /// Whether its place may be above 4 GiB.
    pub wide: bool,
}

impl Window {
    /// One past its last byte.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.length)
    }

    /// Whether it shares a page with `other`.
    pub fn shares_a_page_with(&self, other: &Window) -> bool {
        const PAGE: u64 = 4096;
        let pages = |window: &Window| (window.first / PAGE, window.end().saturating_sub(1) / PAGE);
        let ((first, last), (other_first, other_last)) = (pages(self), pages(other));
        first <= other_last && other_first <= last
    }

    /// Puts it at `first`.
    pub fn place(&mut self, access: &dyn Access, first: u64) {
        let register = self.number.wrapping_mul(4).wrapping_add(FIRST);
        access.write(self.function, register, first as u32);
        if self.wide {
            access.write(self.function, register.wrapping_add(4), (first >> 32) as u32);
        }
        self.first = first;
    }
}

/// The memory windows of a function. It answers nowhere while they are measured.
pub fn windows(access: &dyn Access, function: &Function) -> Vec<Window> {
    const COMMAND: u8 = 0x04;
    let mut found = Vec::new();
    let before = access.read(function.address, COMMAND) & 0xffff;
    access.write(function.address, COMMAND, before & !(command::MEMORY | 1));
    let mut number = 0_u8;
    while number < 6 {
        let register = number.wrapping_mul(4).wrapping_add(FIRST);
        let measure = |register: u8| {
            let old = access.read(function.address, register);
            access.write(function.address, register, u32::MAX);
            let mask = access.read(function.address, register);
            access.write(function.address, register, old);
            (old, mask)
        };
        let (low, mask) = measure(register);
        let is_memory = mask != 0 && low & 1 == 0;
        let wide = is_memory && low >> 1 & 3 == 2 && number < 5;
        if is_memory {
            let (high, high_mask) = if wide { measure(register.wrapping_add(4)) } else { (0, u32::MAX) };
            let mask = u64::from(mask & !0xf) | u64::from(high_mask) << 32;
            // The lowest bit that can be set is the size.
            let length = mask & mask.wrapping_neg();
            if length >= 16 {
                let first = u64::from(low & !0xf) | u64::from(high) << 32;
                found.push(Window { function: function.address, number, first, length, wide });
            }
        }
        number = number.saturating_add(if wide { 2 } else { 1 });
    }
    access.write(function.address, COMMAND, before);
    found
}
