//! Memory objects. Content is copied in and out here; `Mapping` shows it in this process's space.

use tessera_abi::Syscall;

use super::{Endpoint, Pool};
use crate::handle::{Object, Result, checked, create, object, request};
use crate::raw;

object! {
    /// Memory.
    Vmo
}

impl Vmo {
    /// Makes memory of `size` bytes (rounded up to pages), zero until written.
    pub fn create(pool: &Pool, size: u64) -> Result<Vmo> {
        create(Syscall::VmoCreate, [pool.owned().number(), size])
    }

    /// Makes memory whose absent pages are asked for at `pager` under `badge`.
    pub fn create_paged(pool: &Pool, size: u64, pager: &Endpoint, badge: u64) -> Result<Vmo> {
        create(Syscall::VmoCreatePaged, [pool.owned().number(), size, pager.owned().number(), badge])
    }

    /// Copies from `offset` on into `to`; answers how many bytes could be copied before the first error.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<usize> {
        // SAFETY: the kernel writes into `to` only, which is borrowed for it.
        unsafe { self.copy(Syscall::VmoRead, offset, to.as_mut_ptr() as u64, to.len() as u64) }
    }

    /// Copies `from` to `offset`; answers how many bytes could be copied before the first error.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<usize> {
        // SAFETY: the kernel reads from `from` only, which is borrowed for it.
        unsafe { self.copy(Syscall::VmoWrite, offset, from.as_ptr() as u64, from.len() as u64) }
    }

    /// The kernel copies a bounded part at each call.
    ///
    /// # Safety
    /// The range must be borrowed from the caller, for writing if the call is `VmoRead`.
    unsafe fn copy(&self, call: Syscall, offset: u64, address: u64, length: u64) -> Result<usize> {
        let mut done = 0;
        loop {
            let (at, from, rest) = (offset.wrapping_add(done), address + done, length - done);
            // SAFETY: a part of the range that the caller vouches for.
            match checked(unsafe { raw::syscall_4(call as u64, self.owned().number(), at, from, rest) }) {
                Ok([0, ..]) => return Ok(done as usize),
                Ok([copied, ..]) => done += copied,
                Err(_) if done > 0 => return Ok(done as usize),
                Err(error) => return Err(error),
            }
            if done >= length {
                return Ok(done as usize);
            }
        }
    }

    /// Changes the size; pages beyond the new end are given back, and mappings of them fault.
    pub fn resize(&self, size: u64) -> Result<()> {
        request(Syscall::VmoResize, [self.owned().number(), size]).map(|_| ())
    }

    /// Lets go of the pages in a range (whole pages), which reads as zeroes from then on.
    pub fn discard(&self, offset: u64, length: u64) -> Result<()> {
        request(Syscall::VmoDiscard, [self.owned().number(), offset, length]).map(|_| ())
    }

    /// Memory with the same content that changes independently. If it is for the pool of this memory, pages that neither side wrote to since are
    /// charged once, and the first write to one is charged for a copy.
    ///
    /// # Errors
    /// `BadState`: pages are pinned, or it is for another pool and pages are shared within this one.
    pub fn snapshot(&self, pool: &Pool) -> Result<Vmo> {
        create(Syscall::VmoSnapshot, [self.owned().number(), pool.owned().number()])
    }

    /// Size in bytes.
    pub fn size(&self) -> Result<u64> {
        Ok(request(Syscall::VmoInspect, [self.owned().number()])?[0])
    }

    /// Pages held (charged).
    pub fn pages(&self) -> Result<u64> {
        Ok(request(Syscall::VmoInspect, [self.owned().number()])?[1])
    }
}
