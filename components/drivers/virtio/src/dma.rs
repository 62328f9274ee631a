//! Memory that a device reaches by itself, with the addresses by which it does.

use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_memory::Memory;

/// Bytes of a page: memory is contiguous for the device within one.
pub const PAGE: usize = 4096;

/// Shared memory whose pages have addresses on the device's bus.
#[derive(Clone, Debug)]
pub struct DmaMemory {
    memory: Memory,
    pages: Arc<[Page]>,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    /// On the device's bus.
    address: u64,
    /// How many pages from this one on follow one another there, so that nobody counts them for each request.
    together: usize,
}

impl DmaMemory {
    /// `memory` with the bus address of each of its pages; none if there are fewer addresses than pages.
    pub fn new(memory: Memory, pages: Vec<u64>) -> Option<DmaMemory> {
        let whole = memory.length().is_multiple_of(PAGE) && memory.length() / PAGE <= pages.len();
        let mut after: Option<Page> = None;
        let mut known: Vec<Page> = Vec::with_capacity(pages.len());
        for address in pages.into_iter().rev() {
            let follows = after.filter(|after| address.checked_add(PAGE as u64) == Some(after.address));
            let page = Page { address, together: follows.map_or(0, |after| after.together).saturating_add(1) };
            known.push(page);
            after = Some(page);
        }
        known.reverse();
        whole.then(|| DmaMemory { memory, pages: known.into() })
    }

    /// The memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Its bytes.
    pub fn length(&self) -> usize {
        self.memory.length()
    }

    /// The bus address of byte `offset`, and how many bytes from there on are contiguous for the device (within pages that
    /// happen to follow one another). None if it is not inside.
    pub fn address(&self, offset: usize) -> Option<(u64, usize)> {
        let inside = offset % PAGE;
        let Page { address, together } = *self.pages.get(offset / PAGE)?;
        let length = together.saturating_mul(PAGE).saturating_sub(inside);
        let left = self.memory.length().checked_sub(offset)?;
        Some((address.checked_add(inside as u64)?, length.min(left)))
    }

    /// Bytes `offset..offset + length` of it, whole pages; none if they are not inside.
    pub fn part(&self, offset: usize, length: usize) -> Option<DmaMemory> {
        let whole = offset.is_multiple_of(PAGE) && length.is_multiple_of(PAGE);
        let (first, count) = (offset / PAGE, length / PAGE);
        let pages = self.pages.get(first..first.checked_add(count)?)?;
        whole.then_some(DmaMemory { memory: self.memory.part(offset, length)?, pages: pages.into() })
    }

    /// The pieces that are contiguous for the device of `length` bytes from `offset` on, in order. Ends early where the memory does.
    pub fn pieces(&self, offset: usize, length: usize) -> impl Iterator<Item = (u64, u32)> + '_ {
        let (mut at, mut left) = (offset, length);
        core::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let (address, contiguous) = self.address(at)?;
            let piece = contiguous.min(left).min(1 << 30);
            at = at.checked_add(piece)?;
            left = left.saturating_sub(piece);
            (piece > 0).then_some((address, piece as u32))
        })
    }
}
