//! Device registers: loads and stores of an exact width that each happen once, in order.

use alloc::sync::Arc;
use core::any::Any;

/// The registers of a device, by byte offset. Reading where there is nothing gives all ones, writing there does nothing.
///
/// A trait, so that a test can put a model of the device here.
pub trait Registers: Send + Sync {
    /// Reads one byte.
    fn read_8(&self, offset: usize) -> u8;
    /// Reads two bytes; `offset` is a multiple of 2.
    fn read_16(&self, offset: usize) -> u16;
    /// Reads four bytes; `offset` is a multiple of 4.
    fn read_32(&self, offset: usize) -> u32;
    /// Writes one byte.
    fn write_8(&self, offset: usize, value: u8);
    /// Writes two bytes; `offset` is a multiple of 2.
    fn write_16(&self, offset: usize, value: u16);
    /// Writes four bytes; `offset` is a multiple of 4.
    fn write_32(&self, offset: usize, value: u32);
    /// How many bytes there are.
    fn length(&self) -> usize;
}

/// Registers that are mapped into this process.
#[derive(Clone)]
pub struct Window {
    base: *mut u8,
    length: usize,
    owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: every access is one volatile instruction on device memory, which no compiler has a view of.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// Takes `length` bytes from `base` on for device registers; `owner` is dropped with the last view of them.
    ///
    /// # Safety
    /// The range is mapped, uncached, readable and writable and aligned to 8 bytes, until `owner` is dropped, and is no memory that
    /// anything else of this process uses.
    pub unsafe fn new(base: *mut u8, length: usize, owner: Arc<dyn Any + Send + Sync>) -> Window {
        Window { base, length, owner }
    }

    /// Bytes `offset..offset + length`; none if they are not inside or `offset` is not a multiple of 4.
    pub fn part(&self, offset: usize, length: usize) -> Option<Window> {
        let inside = offset.is_multiple_of(4) && offset.checked_add(length)? <= self.length;
        // SAFETY: the place is inside the range.
        inside.then(|| Window { base: unsafe { self.base.add(offset) }, length, owner: Arc::clone(&self.owner) })
    }

    /// The address of `size` bytes at `offset`, if they are inside and aligned.
    fn place(&self, offset: usize, size: usize) -> Option<*mut u8> {
        let inside = offset.is_multiple_of(size) && offset < self.length && self.length - offset >= size;
        // SAFETY: the place is inside the range.
        inside.then(|| unsafe { self.base.add(offset) })
    }
}

macro_rules! access {
    ($read:ident, $write:ident, $number:ty) => {
        fn $read(&self, offset: usize) -> $number {
            match self.place(offset, size_of::<$number>()) {
                // SAFETY: inside the window and aligned, see `place`.
                Some(place) => unsafe { place.cast::<$number>().read_volatile() },
                None => <$number>::MAX,
            }
        }

        fn $write(&self, offset: usize, value: $number) {
            if let Some(place) = self.place(offset, size_of::<$number>()) {
                // SAFETY: as for the read.
                unsafe { place.cast::<$number>().write_volatile(value) };
            }
        }
    };
}

impl Registers for Window {
    access!(read_8, write_8, u8);
    access!(read_16, write_16, u16);
    access!(read_32, write_32, u32);

    fn length(&self) -> usize {
        self.length
    }
}

impl core::fmt::Debug for Window {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "{} bytes of registers", self.length)
    }
}
