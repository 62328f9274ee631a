//! Memory objects shown in this process's space, for as long as a value lives.

use core::sync::atomic::AtomicU64;

use tessera_abi::syscall::map_flags;
use tessera_abi::{Error, PAGE};

use crate::handle::{Object, Result};
use crate::object::Access;
use crate::own;

/// A mapping in the own space, removed when dropped.
#[derive(Debug)]
pub struct Mapping {
    address: u64,
    length: u64,
    access: Access,
}

impl Mapping {
    /// Maps `length` bytes (rounded up to pages) of a `Vmo` or `Mmio` from `offset` on, where the kernel finds room.
    pub fn new(memory: &impl Object, offset: u64, length: u64, access: Access) -> Result<Mapping> {
        let length = length.checked_next_multiple_of(PAGE).ok_or(Error::BadArgument)?;
        let address = own::space().map(memory, offset, length, access)?;
        Ok(Mapping { address, length, access })
    }

    /// The same, with the pages that the memory holds entered in the tables at once (at most 512), so that touching them does
    /// not fault.
    pub fn populated(memory: &impl Object, offset: u64, length: u64, access: Access) -> Result<Mapping> {
        let length = length.checked_next_multiple_of(PAGE).ok_or(Error::BadArgument)?;
        let flags = access.flags() | map_flags::POPULATE;
        let address = own::space().map_flags(memory, offset, 0, length, flags)?;
        Ok(Mapping { address, length, access })
    }

    /// Its first address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its bytes, a multiple of the page size.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The memory as atomic words: other processes may change it at any time. Storing through a read-only mapping faults.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the range is mapped and readable while `self` lives and has been chosen by the kernel for this mapping alone;
        // atomics allow for others changing it. A store that the access does not allow ends the process, and so does an access
        // after the object shrank: neither goes on with wrong data.
        unsafe { core::slice::from_raw_parts(self.address as *const AtomicU64, (self.length / 8) as usize) }
    }

    /// The memory as bytes.
    ///
    /// # Safety
    /// Nobody may change the memory while the slice is used.
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: as for `words`; that nobody changes it, the caller says.
        unsafe { core::slice::from_raw_parts(self.address as *const u8, self.length as usize) }
    }

    /// The mapping as memory that others change meanwhile, unmapped when the last view of it goes. Storing through a read-only one faults.
    pub fn into_memory(self) -> tessera_memory::Memory {
        let (base, length) = (self.address as *mut u8, self.length as usize);
        // SAFETY: the range is mapped while `self`, the owner, lives, was chosen by the kernel for this mapping alone, and no
        // reference into it is left, as they all borrowed `self`. What cannot be accessed ends the process, see `words`.
        unsafe { tessera_memory::Memory::new(base, length, alloc::sync::Arc::new(self)) }
    }

    /// The mapping, of an `Mmio`, as device registers, unmapped when the last view of them goes.
    pub fn into_registers(self) -> tessera_memory::Window {
        let (base, length) = (self.address as *mut u8, self.length as usize);
        // SAFETY: as for `into_memory`. The kernel maps device memory uncached; ordinary memory in its place would do no harm.
        unsafe { tessera_memory::Window::new(base, length, alloc::sync::Arc::new(self)) }
    }

    /// What the mapping allows.
    pub fn access(&self) -> Access {
        self.access
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: every reference into the range borrowed `self`.
        let _ = unsafe { own::space().unmap(self.address, self.length) };
    }
}
