//! Memory that devices reach by themselves.

use tessera_abi::syscall::NO_DEVICE;
use tessera_abi::{Error, PAGE, Syscall};

use super::{Pool, Vmo};
use crate::handle::{Object, Result, checked, create, object, request};
use crate::raw;

object! {
    /// Holds memory still for devices that reach it by themselves, until its last handle is closed.
    Dma
}

impl Dma {
    /// Makes an object for one device: a PCI segment, bus, device and function, from bit 16, 8, 3 and 0. Behind an IOMMU that device reaches what
    /// its newest object holds and nothing else. What it holds is charged to `pool`, on top of what the memory itself was charged, and so are
    /// the tables of the IOMMU.
    ///
    /// Errors: `BadArgument` if this is authority over another device, `NoQuota`.
    pub fn create(&self, pool: &Pool, device: u32) -> Result<Dma> {
        create(Syscall::DmaCreate, [self.owned().number(), pool.owned().number(), device.into()])
    }

    /// Makes an object that holds memory for no device that an IOMMU knows. It tells the machine's own addresses.
    pub fn create_for_none(&self, pool: &Pool) -> Result<Dma> {
        create(Syscall::DmaCreate, [self.owned().number(), pool.owned().number(), NO_DEVICE])
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

    /// Whether the addresses are an IOMMU's: a device that goes around it must not be given them.
    pub fn is_translated(&self) -> Result<bool> {
        Ok(request(Syscall::DmaInspect, [self.owned().number()])?[1] != 0)
    }

    /// How many pages it holds.
    pub fn pages(&self) -> Result<u64> {
        Ok(request(Syscall::DmaInspect, [self.owned().number()])?[0])
    }
}
