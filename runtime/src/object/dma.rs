//! Memory that devices reach by themselves.

use tessera_abi::{Error, PAGE, Syscall};

use super::{Pool, Vmo};
use crate::handle::{Object, Result, checked, create, object, request};
use crate::raw;

object! {
    /// Holds memory still for devices that reach it by themselves, until its last handle is closed.
    Dma
}

impl Dma {
    /// Makes an object of its own for a device. What it pins is charged to `pool`, on top of what the memory itself was charged.
    pub fn create(&self, pool: &Pool) -> Result<Dma> {
        create(Syscall::DmaCreate, [self.owned().number(), pool.owned().number()])
    }

    /// Pins a page for each element of `addresses`, from `offset` bytes (page aligned) of `memory` on, and puts the address there by
    /// which a device reaches that page. Memory with pinned pages cannot be snapshotted. After an error some pages may be pinned.
    ///
    /// The pages are held until the last handle to this object is closed, not a moment less: keep a handle with whoever resets the
    /// device when its driver is gone. Errors: `BadArgument` (range, paged memory), `NoQuota`.
    pub fn pin(&self, memory: &Vmo, offset: u64, addresses: &mut [u64]) -> Result<()> {
        let (own, vmo) = (self.owned().number(), memory.owned().number());
        let (mut offset, mut rest) = (offset, addresses);
        while !rest.is_empty() {
            let (length, to) = (rest.len() as u64 * PAGE, rest.as_mut_ptr() as u64);
            // SAFETY: the kernel writes one word for each page into `rest` only, which is borrowed for it.
            let outcome = unsafe { raw::syscall_5(Syscall::DmaPin as u64, own, vmo, offset, length, to) };
            let [pages, ..] = checked(outcome)?;
            offset = offset.checked_add(pages * PAGE).ok_or(Error::BadArgument)?;
            rest = rest.get_mut(pages as usize..).ok_or(Error::BadState)?;
        }
        Ok(())
    }

    /// How many pages it holds.
    pub fn pages(&self) -> Result<u64> {
        Ok(request(Syscall::DmaInspect, [self.owned().number()])?[0])
    }
}
