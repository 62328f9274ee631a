//! Ordinary memory that is shared: with another process through a `Vmo`, or with a device that reads and writes it by itself.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::copy::copy;

/// A range of shared memory, kept mapped while this value or a clone or part of it lives.
#[derive(Clone)]
pub struct Memory {
    base: *mut u8,
    length: usize,
    /// What unmaps the range when it goes.
    owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: all access is through atomics or `copy`, at any time and from any thread; the owner is `Send + Sync`.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

macro_rules! access {
    ($load:ident, $store:ident, $number:ty, $atomic:ty) => {
        /// Loads a little-endian number at `offset` (bytes, aligned to its size), before all later loads and stores. All ones if it is not inside.
        #[inline(always)]
        pub fn $load(&self, offset: usize) -> $number {
            match self.place(offset, size_of::<$number>()) {
                // SAFETY: inside the range and aligned, see `place`; seen as an atomic by all.
                Some(place) => unsafe { &*place.cast::<$atomic>() }.load(Ordering::Acquire),
                None => <$number>::MAX,
            }
        }

        /// Stores a little-endian number at `offset` (bytes, aligned to its size), after all earlier loads and stores. Lost if it is not inside.
        #[inline(always)]
        pub fn $store(&self, offset: usize, value: $number) {
            if let Some(place) = self.place(offset, size_of::<$number>()) {
                // SAFETY: as for the load.
                unsafe { &*place.cast::<$atomic>() }.store(value, Ordering::Release);
            }
        }
    };
}

impl Memory {
    /// Takes `length` bytes from `base` on for shared memory; `owner` is dropped with the last view of it.
    ///
    /// # Safety
    /// The range is mapped, readable and writable and aligned to 8 bytes, until `owner` is dropped. This process has no reference into it.
    /// If the memory goes away under the mapping or is not writable, an access must end the process rather than go on.
    pub unsafe fn new(base: *mut u8, length: usize, owner: Arc<dyn Any + Send + Sync>) -> Memory {
        Memory { base, length, owner }
    }

    /// Memory of this process's heap, zero, as a shared one: for tests, and for a peer in the same domain.
    pub fn private(length: usize) -> Memory {
        let words = length.div_ceil(8);
        let owner: Arc<Box<[AtomicU64]>> = Arc::new((0..words).map(|_| AtomicU64::new(0)).collect());
        let base = owner.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: the words are interior-mutable, aligned to 8, and live as long as the owner, which is never looked into again.
        unsafe { Memory::new(base, words * 8, owner) }
    }

    /// Its bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Bytes `offset..offset + length` of it; none if they are not inside or `offset` is not a multiple of 8.
    pub fn part(&self, offset: usize, length: usize) -> Option<Memory> {
        let inside = offset.is_multiple_of(8) && offset.checked_add(length)? <= self.length;
        // SAFETY: the place is inside the range.
        inside.then(|| Memory { base: unsafe { self.base.add(offset) }, length, owner: Arc::clone(&self.owner) })
    }

    /// The address of `size` bytes at `offset`, if they are inside and the offset is aligned to the size.
    #[inline(always)]
    fn place(&self, offset: usize, size: usize) -> Option<*mut u8> {
        let inside = offset.is_multiple_of(size) && offset < self.length && self.length - offset >= size;
        // SAFETY: the place is inside the range.
        inside.then(|| unsafe { self.base.add(offset) })
    }

    access!(load_8, store_8, u8, AtomicU8);
    access!(load_16, store_16, u16, AtomicU16);
    access!(load_32, store_32, u32, AtomicU32);
    access!(load_64, store_64, u64, AtomicU64);

    /// Copies bytes from `offset` on out of the memory; answers whether they were inside (else nothing is copied).
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> bool {
        let inside = offset.checked_add(to.len()).is_some_and(|end| end <= self.length);
        if inside {
            // SAFETY: the source is inside the range; the target is borrowed for writing, and no reference to the source exists.
            unsafe { copy(self.base.add(offset), to.as_mut_ptr(), to.len()) };
        }
        inside
    }

    /// Copies bytes into the memory from `offset` on; answers whether there was room (else nothing is copied).
    #[inline]
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> bool {
        let inside = offset.checked_add(from.len()).is_some_and(|end| end <= self.length);
        if inside {
            // SAFETY: the target is inside the range, to which no reference exists; the source is borrowed.
            unsafe { copy(from.as_ptr(), self.base.add(offset), from.len()) };
        }
        inside
    }

    /// Makes `length` bytes from `offset` on zero, as far as they are inside.
    pub fn clear(&self, offset: usize, length: usize) {
        let end = offset.saturating_add(length).min(self.length);
        let mut at = offset;
        while at < end {
            if at.is_multiple_of(8) && end - at >= 8 {
                self.store_64(at, 0);
                at += 8;
            } else {
                self.store_8(at, 0);
                at += 1;
            }
        }
    }
}

impl core::fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "{} bytes of shared memory", self.length)
    }
}
