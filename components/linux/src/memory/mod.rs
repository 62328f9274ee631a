//! Guest memory: what is mapped where in a Linux process, and the way to its bytes.
//!
//! [`layout`] is the list of mappings, pure book-keeping. [`Mm`] keeps a list and the kernel's space of the same content together.
//! [`access`] is the only module of the crate with `unsafe`: it touches guest memory, under the lock of the list that it
//! checked the address against. Nothing else may turn a guest's number into an address.

#[allow(unsafe_code)]
pub mod access;
pub mod layout;
mod manage;
pub mod reserve;

pub use access::{GuestMemory, first_zero};
pub use layout::{Layout, Protection, Vma};
pub use manage::{MapRequest, Mm, Move, Notes, Target};

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use tessera_runtime::object::Vmo;
use tessera_runtime::sync::Mutex;
use tessera_runtime::{Object, own};

use crate::errno::Result;

/// Bytes of a page.
pub const PAGE: u64 = tessera_runtime::abi::PAGE;
/// The lowest address that programs may map (`vm.mmap_min_addr`).
pub const LOWEST: u64 = 0x1_0000;
/// One past the highest address of a guest.
pub const TOP: u64 = 0x7eff_ffff_f000;

/// Rounds up to whole pages; none if that overflows.
pub fn round_up(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(PAGE)
}

/// Memory that mappings and files share.
#[derive(Debug)]
pub struct Memory {
    vmo: Vmo,
    /// Where it ends, if it is a part of the object.
    end: Option<u64>,
    /// Its bytes, unless they were ever others: then a mapping may show less than there is. Who holds the lock can rely on them.
    constant_size: Mutex<Option<u64>>,
    /// What private mappings made of parts of it.
    copies: Mutex<Vec<Weak<Memory>>>,
    /// What it is such a copy of, and where its first byte lies there.
    source: Option<(Weak<Memory>, u64)>,
}

impl Memory {
    /// What is cut off `source` is to be cut off it too.
    fn with(vmo: Vmo, end: Option<u64>, size: Option<u64>, source: Option<(Weak<Memory>, u64)>) -> Arc<Memory> {
        let memory =
            Arc::new(Memory { vmo, end, constant_size: Mutex::new(size), copies: Mutex::new(Vec::new()), source });
        if let Some(source) = memory.source.as_ref().and_then(|(source, _)| source.upgrade()) {
            let mut copies = source.copies.lock();
            if copies.len() == copies.capacity() {
                copies.retain(|copy| copy.strong_count() > 0);
            }
            copies.push(Arc::downgrade(&memory));
        }
        memory
    }

    /// Zeroes of `size` bytes; pages are charged when touched.
    pub fn new(size: u64) -> Result<Arc<Memory>> {
        Ok(Memory::with(Vmo::create(&own::pool(), size)?, None, Some(size), None))
    }

    /// Zeroes, for a private mapping's copy of what lies here at `offset`.
    pub fn for_copy(self: &Arc<Memory>, offset: u64, size: u64) -> Result<Arc<Memory>> {
        let source = (Arc::downgrade(self), offset);
        Ok(Memory::with(Vmo::create(&own::pool(), size)?, None, Some(size), Some(source)))
    }

    /// The same with all that is here.
    pub fn copy(self: &Arc<Memory>) -> Result<Arc<Memory>> {
        let size = self.constant_size.lock();
        Ok(Memory::with(self.vmo.snapshot(&own::pool())?, self.end, *size, Some((Arc::downgrade(self), 0))))
    }

    /// What lies in `vmo` before `end`, which nobody writes. Places in it are those of the object.
    pub fn part_of(vmo: &Vmo, end: u64) -> Result<Arc<Memory>> {
        Ok(Memory::with(vmo.try_clone()?, Some(end), Some(end), None))
    }

    /// Where it ends, in bytes, if it is a part of an object: that never changes.
    pub fn constant_end(&self) -> Option<u64> {
        self.end
    }

    /// Where it ends, in bytes.
    pub fn size(&self) -> Result<u64> {
        let size = self.vmo.size()?;
        Ok(self.end.map_or(size, |end| end.min(size)))
    }

    /// Reads as much as there is; answers how many bytes.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<usize> {
        let there = self.end.map_or(u64::MAX, |end| end.saturating_sub(offset)).min(to.len() as u64);
        Ok(self.vmo.read(offset, to.get_mut(..there as usize).unwrap_or_default())?)
    }

    /// The kernel's object.
    pub fn vmo(&self) -> &Vmo {
        &self.vmo
    }

    /// Makes it larger or smaller; to be done in no other way.
    pub fn resize(&self, size: u64) -> Result<()> {
        *self.constant_size.lock() = None;
        Ok(self.vmo.resize(size)?)
    }

    /// Lets private copies lose what lies behind `end`, which is whole pages: a file that is cut takes it from them too.
    pub fn cut_copies(&self, end: u64) -> Result<()> {
        for copy in self.copies.lock().iter().filter_map(Weak::upgrade) {
            let from = copy.source.as_ref().map_or(u64::MAX, |(_, offset)| end.saturating_sub(*offset));
            let size = copy.vmo.size()?;
            if from < size {
                copy.vmo.discard(from, size - from)?;
            }
        }
        Ok(())
    }

    /// Runs `then` if each mapping shows all up to `end`, and keeps it so meanwhile.
    pub fn while_shown<T>(&self, end: u64, then: impl FnOnce() -> T) -> Option<T> {
        let size = self.constant_size.lock();
        size.is_some_and(|size| end <= size).then(then)
    }

    /// The same for a child, which changes independently: a copy of what this is a copy of.
    pub fn snapshot(&self) -> Result<Arc<Memory>> {
        let size = self.constant_size.lock();
        Ok(Memory::with(self.vmo.snapshot(&own::pool())?, self.end, *size, self.source.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_object_ends_before_what_lies_behind() {
        let whole = Memory::new(3 * PAGE).unwrap();
        whole.vmo().write(2 * PAGE - 2, &[1, 2, 3, 4]).unwrap();
        let part = Memory::part_of(whole.vmo(), 2 * PAGE).unwrap();
        assert_eq!((part.size().unwrap(), whole.size().unwrap()), (2 * PAGE, 3 * PAGE));
        assert_eq!((part.constant_end(), whole.constant_end()), (Some(2 * PAGE), None));
        let mut bytes = [0; 4];
        assert_eq!(part.read(2 * PAGE - 2, &mut bytes).unwrap(), 2);
        assert_eq!(bytes, [1, 2, 0, 0]);
        assert_eq!(part.read(2 * PAGE, &mut bytes).unwrap(), 0);
        assert_eq!(whole.read(2 * PAGE - 2, &mut bytes).unwrap(), 4);
    }
}
