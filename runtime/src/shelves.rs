//! Small blocks of the heap that were given back, kept for the next who wants one of that size.
//!
//! A general allocator joins a free block with its neighbours and cuts the next one out of a gap again: some 200 instructions for each pair of calls, of which a
//! server makes dozens for a request. From a shelf a block is the first of a list. A shelf is short, so that little lies about for one size when all of it is
//! needed for another.

use core::alloc::Layout;
use core::ptr::{self, NonNull};

/// Blocks of a shelf differ by this much from those of the next, in bytes, and are aligned to it.
const STEP: usize = 16;
const SHELVES: usize = 64;
/// Bytes that a shelf holds at most.
const KEPT: usize = 4096;

/// The shelves, one for each size.
pub struct Shelves {
    first: [*mut Block; SHELVES],
    /// Blocks on each.
    held: [u16; SHELVES],
}

/// A block that is free begins with where the next one is.
struct Block {
    next: *mut Block,
}

// SAFETY: the pointers name memory of the process that nobody else uses, which is the same in every thread.
unsafe impl Send for Shelves {}

/// A shelf for blocks of one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shelf(usize);

impl Shelf {
    /// The shelf for what is asked for; none for large blocks, and for those with more alignment.
    #[inline(always)]
    pub fn of(layout: Layout) -> Option<Shelf> {
        let index = layout.size().wrapping_sub(1) / STEP;
        (index < SHELVES && layout.align() <= STEP).then_some(Shelf(index))
    }

    /// What each of its blocks is.
    #[inline]
    pub fn layout(self) -> Layout {
        Layout::from_size_align((self.0 + 1) * STEP, STEP).unwrap_or(Layout::new::<u128>())
    }
}

impl Shelves {
    /// Empty ones, which are zeroes: they take no room in a program's file.
    pub const fn new() -> Shelves {
        Shelves { first: [ptr::null_mut(); SHELVES], held: [0; SHELVES] }
    }

    /// Takes a block, if there is one.
    #[inline(always)]
    pub fn take(&mut self, shelf: Shelf) -> Option<NonNull<u8>> {
        let first = self.first.get_mut(shelf.0)?;
        let block = NonNull::new(*first)?;
        // SAFETY: what is on a shelf was put there by `put`, whose caller gave it away: nobody else uses it.
        *first = unsafe { block.as_ref().next };
        if let Some(held) = self.held.get_mut(shelf.0) {
            *held -= 1;
        }
        Some(block.cast())
    }

    /// Puts a block there; answers whether there was room.
    ///
    /// # Safety
    /// It is a block of the shelf's layout, which the caller gives away if it is taken.
    #[inline(always)]
    pub unsafe fn put(&mut self, shelf: Shelf, block: NonNull<u8>) -> bool {
        let Some((first, held)) = self.first.get_mut(shelf.0).zip(self.held.get_mut(shelf.0)) else { return false };
        let more = *held + 1;
        if usize::from(more) * (shelf.0 + 1) * STEP > KEPT {
            return false;
        }
        let block = block.cast::<Block>();
        // SAFETY: it is at least `STEP` bytes, aligned to as much, and the caller's no more.
        unsafe { block.write(Block { next: *first }) };
        (*first, *held) = (block.as_ptr(), more);
        true
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_shelf_has_room_for_what_asks_for_it() {
        for size in 1..=1024 {
            for align in [1, 2, 4, 8, 16] {
                let asked = Layout::from_size_align(size, align).unwrap();
                let given = Shelf::of(asked).unwrap().layout();
                assert!(given.size() >= size && given.size() < size + STEP && given.align() >= align);
                assert_eq!(Shelf::of(given), Shelf::of(asked), "it comes back to where it was taken");
            }
        }
        for (size, align) in [(0, 1), (1025, 1), (usize::MAX / 2, 1), (16, 32)] {
            assert_eq!(Shelf::of(Layout::from_size_align(size, align).unwrap()), None);
        }
    }

    #[test]
    fn what_is_put_is_taken_once() {
        let mut shelves = Shelves::new();
        let mut memory: Vec<u128> = (0..4096).map(|_| 0).collect();
        let shelf = Shelf::of(Layout::new::<[u8; 20]>()).unwrap();
        let mut blocks: Vec<NonNull<u8>> = memory
            .chunks_exact_mut(2)
            .map(|block| NonNull::from(block).cast())
            // SAFETY: blocks of 32 bytes that nobody else uses.
            .take_while(|block| unsafe { shelves.put(shelf, *block) })
            .collect();
        assert_eq!(blocks.len(), KEPT / 32, "a shelf is short");
        assert_eq!(shelves.take(Shelf::of(Layout::new::<[u8; 33]>()).unwrap()), None, "of another size there is none");
        let mut taken: Vec<_> = core::iter::from_fn(|| shelves.take(shelf)).collect();
        taken.sort_unstable();
        blocks.sort_unstable();
        assert_eq!(taken, blocks);
        // SAFETY: as above.
        assert!(unsafe { shelves.put(shelf, taken[0]) }, "and has room again");
    }
}
