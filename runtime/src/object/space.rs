//! Address spaces. What can pull memory from under running code is unsafe; `Mapping` is the safe way into one's own space.

use tessera_abi::Syscall;
use tessera_abi::syscall::map_flags;

use super::Pool;
use crate::handle::{Object, Result, checked, create, object, request};
use crate::raw;

object! {
    /// An address space.
    Space
}

/// What a mapping allows. There is no writable and executable one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
    /// Reading and executing.
    Execute,
}

impl Access {
    /// The flags of `space_map` and `space_protect`.
    pub const fn flags(self) -> u64 {
        match self {
            Access::Read => map_flags::READ,
            Access::Write => map_flags::READ | map_flags::WRITE,
            Access::Execute => map_flags::READ | map_flags::EXECUTE,
        }
    }
}

impl Space {
    /// Makes an empty space.
    pub fn create(pool: &Pool) -> Result<Space> {
        create(Syscall::SpaceCreate, [pool.owned().number()])
    }

    /// Maps memory (a `Vmo` or `Mmio`) where the kernel finds room; answers the address.
    pub fn map(&self, memory: &impl Object, offset: u64, length: u64, access: Access) -> Result<u64> {
        self.map_flags(memory, offset, 0, length, access.flags())
    }

    /// Maps memory at an address; refused where something is mapped.
    pub fn map_at(&self, memory: &impl Object, offset: u64, address: u64, length: u64, access: Access) -> Result<()> {
        self.map_flags(memory, offset, address, length, access.flags() | map_flags::FIXED).map(|_| ())
    }

    /// Maps memory with [`map_flags`]; answers the address.
    #[inline]
    pub fn map_flags(&self, memory: &impl Object, offset: u64, address: u64, length: u64, flags: u64) -> Result<u64> {
        let arguments = [self.owned().number(), memory.owned().number(), offset, address, length, flags];
        Ok(request(Syscall::SpaceMap, arguments)?[0])
    }

    /// Removes all mappings in a range.
    ///
    /// # Safety
    /// If this is the caller's own space, nothing may use the range any more.
    #[inline]
    pub unsafe fn unmap(&self, address: u64, length: u64) -> Result<()> {
        // SAFETY: passed on to the caller.
        checked(unsafe { raw::syscall_3(Syscall::SpaceUnmap as u64, self.owned().number(), address, length) })
            .map(|_| ())
    }

    /// Changes the protection of all mappings in a range, within the rights they were made with.
    ///
    /// # Safety
    /// If this is the caller's own space, nothing may use the range in a way that is no longer allowed.
    pub unsafe fn protect(&self, address: u64, length: u64, access: Access) -> Result<()> {
        let number = self.owned().number();
        // SAFETY: passed on to the caller.
        checked(unsafe { raw::syscall_5(Syscall::SpaceProtect as u64, number, address, length, access.flags(), 0) })
            .map(|_| ())
    }
}
