//! The heap: the allocator of crate `talc`, on memory objects mapped one after the other into a range of the own space.
//!
//! What the heap took is kept until the process ends. Growing must not allocate. How much of it is in use is counted: a program
//! that others drive refuses them in time, as it ends when its heap can give no more.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use talc::TalcLock;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;
use tessera_abi::PAGE;

use crate::object::{Access, Vmo};
use crate::own;
use crate::sync::RawMutex;

#[global_allocator]
static HEAP: Counted = Counted(TalcLock::new(Growing { end: None }));

/// Bytes that are allocated now.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Bytes of the heap that are allocated now.
#[inline(always)]
pub fn used() -> usize {
    USED.load(Ordering::Relaxed)
}

/// The allocator, with a count of what it gave out.
struct Counted(TalcLock<RawMutex, Growing>);

// SAFETY: all is the allocator's; the count changes nothing of it.
unsafe impl GlobalAlloc for Counted {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { self.0.alloc(layout) };
        if !memory.is_null() {
            USED.fetch_add(layout.size(), Ordering::Relaxed);
        }
        memory
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { self.0.dealloc(memory, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        let moved = unsafe { self.0.realloc(memory, layout, size) };
        if !moved.is_null() {
            USED.fetch_add(size, Ordering::Relaxed);
            USED.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        moved
    }
}

/// Where the heap starts. Nothing else is placed between here and `LIMIT`.
const BASE: u64 = 0x7f40_0000_0000;
/// Where it must end.
const LIMIT: u64 = 0x7f80_0000_0000;
/// The least that it grows by. Pages are charged when touched, so this costs addresses only.
const STEP: u64 = 1 << 20;

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
        let length = wanted.checked_add(4 * PAGE).and_then(|length| length.checked_next_multiple_of(STEP)).ok_or(())?;
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
