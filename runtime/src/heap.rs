//! The heap: the allocator of crate `talc`, on memory objects mapped one after the other into a range of the own space; before it, shelves of small blocks.
//!
//! What the heap took is kept until the process ends. Growing must not allocate. How much of it is in use is counted: a program
//! that others drive refuses them in time, as it ends when its heap can give no more.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use talc::TalcLock;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;
use tessera_abi::PAGE;

use crate::object::{Access, Vmo};
use crate::own;
use crate::shelves::{Shelf, Shelves};
use crate::sync::{Mutex, RawMutex};

#[global_allocator]
static HEAP: Heap = Heap {
    shelves: Mutex::new(Shelves::new()),
    blocks: TalcLock::new(Growing { end: None }),
    used: AtomicUsize::new(0),
};

/// Bytes of the heap that are allocated now.
#[inline(always)]
pub fn used() -> usize {
    HEAP.used.load(Ordering::Relaxed)
}

/// The allocator: small blocks lie on shelves before they go back to where all come from.
struct Heap {
    shelves: Mutex<Shelves>,
    blocks: TalcLock<RawMutex, Growing>,
    /// Bytes that are allocated now.
    used: AtomicUsize,
}

// SAFETY: a block is on a shelf, or the allocator's, or given out. Each comes from the allocator with the layout of its shelf, if there is one
// for what was asked for, and goes back with it: the layout that a caller gives back with is the one that it asked with. The count changes nothing of it.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let shelf = Shelf::of(layout);
        let kept = shelf.and_then(|shelf| self.shelves.lock().take(shelf));
        // SAFETY: a shelf's layout has a size, as the caller promises of its own.
        let fresh = || unsafe { self.blocks.alloc(shelf.map_or(layout, Shelf::layout)) };
        let memory = kept.map_or_else(fresh, NonNull::as_ptr);
        if !memory.is_null() {
            self.used.fetch_add(layout.size(), Ordering::Relaxed);
        }
        memory
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.used.fetch_sub(layout.size(), Ordering::Relaxed);
        let shelf = Shelf::of(layout);
        let is_kept = shelf.zip(NonNull::new(memory)).is_some_and(|(shelf, memory)| {
            // SAFETY: it came with the shelf's layout, and the caller gives it away.
            unsafe { self.shelves.lock().put(shelf, memory) }
        });
        if !is_kept {
            // SAFETY: as the caller promises; it came with this layout.
            unsafe { self.blocks.dealloc(memory, shelf.map_or(layout, Shelf::layout)) };
        }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size` can be one.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let moved = match (Shelf::of(layout), Shelf::of(wanted)) {
            (Some(before), Some(now)) if before == now => memory,
            // SAFETY: as the caller promises.
            (None, None) => unsafe { self.blocks.realloc(memory, layout, size) },
            _ => {
                // SAFETY: the new block is another one, and as long as what is copied; the old one is given away behind that.
                unsafe {
                    let moved = self.alloc(wanted);
                    if !moved.is_null() {
                        ptr::copy_nonoverlapping(memory, moved, layout.size().min(size));
                        self.dealloc(memory, layout);
                    }
                    return moved;
                }
            }
        };
        if !moved.is_null() {
            self.used.fetch_add(size, Ordering::Relaxed);
            self.used.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        moved
    }
}

/// Where the heap starts. Nothing else is placed between here and `LIMIT`.
const BASE: u64 = 0x7f40_0000_0000;
/// Where it must end.
const LIMIT: u64 = 0x7f80_0000_0000;
/// It grows by as much again as it has, between these. Pages are charged when touched, but to the pool that pays at that time for what is
/// new: what a heap has before it gets a pool of its own ([`own::set_heap_pool`]) is to be little more than it needs by then.
const STEP: (u64, u64) = (64 << 10, 1 << 20);

#[derive(Debug)]
struct Growing {
    end: Option<NonNull<u8>>,
}

// SAFETY: the pointer names memory of the process, which is the same in every thread.
unsafe impl Send for Growing {}

// SAFETY: `acquire` makes system calls only and allocates nothing.
unsafe impl Source for Growing {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let end = talc.source.end;
        let start = end.map_or(BASE, |end| end.as_ptr() as u64);
        // The allocator's own tables and tags come on top of what is asked for.
        let wanted = (layout.size() as u64).checked_add(layout.align() as u64).ok_or(())?;
        let (least, most) = STEP;
        let length = wanted.checked_add(4 * PAGE).and_then(|length| length.checked_next_multiple_of(least)).ok_or(())?;
        let length = length.max((start - BASE).clamp(least, most));
        if start.checked_add(length).is_none_or(|end| end > LIMIT) {
            return Err(());
        }
        let memory = Vmo::create(&own::heap_pool(), length).map_err(|_| ())?;
        own::space().map_at(&memory, 0, start, length, Access::Write).map_err(|_| ())?;
        // SAFETY: the range was just mapped for this purpose and is never unmapped; it starts where the heap ended.
        let end = unsafe {
            match end {
                Some(end) => Some(talc.extend(end, (start + length) as *mut u8)),
                None => talc.claim(start as *mut u8, length as usize),
            }
        };
        talc.source.end = end;
        end.map(|_| ()).ok_or(())
    }
}
