//! The caller's memory. An address is an allegation: it is translated page by page, checked for the direction of the access,
//! and the bytes are copied through physical addresses. Pages that are not there yet are supplied on the way.

use crate::{Hardware, Machine, arena::Id, space::Access, space::Space, vmo::Miss};
use tessera_abi::{PAGE, USER_END};

/// A range of some space's memory that was said to be readable (or writable) there.
#[derive(Clone, Copy, Debug)]
pub struct UserSlice<const WRITE: bool> {
    pub space: Id<Space>,
    pub address: u64,
    pub length: u64,
}

impl<const WRITE: bool> UserSlice<WRITE> {
    /// A range that lies in user space; whether it can be touched shows when it is.
    pub fn new(space: Id<Space>, address: u64, length: u64) -> Result<Self, Miss> {
        match address.checked_add(length) {
            Some(end) if end <= USER_END => Ok(UserSlice { space, address, length }),
            _ => Err(Miss::Denied),
        }
    }

    /// The part from `offset` on, `length` long.
    pub fn part(self, offset: u64, length: u64) -> Result<Self, Miss> {
        let end = offset.checked_add(length).filter(|end| *end <= self.length).ok_or(Miss::Denied)?;
        Ok(UserSlice {
            space: self.space,
            address: self.address.wrapping_add(offset),
            length: end.wrapping_sub(offset),
        })
    }
}

/// Bytes from here to the end of the page.
pub(crate) fn rest_of_page(address: u64) -> u64 {
    PAGE - (address & (PAGE - 1))
}

impl<H: Hardware> Machine<H> {
    /// The physical address behind a user address.
    #[inline(always)]
    pub(crate) fn reach(&mut self, space: Id<Space>, address: u64, write: bool) -> Result<u64, Miss> {
        let root = self.spaces.get(space).ok_or(Miss::Denied)?.root;
        if let Some(physical) = self.hardware.translate(root, address, write) {
            return Ok(physical);
        }
        self.resolve(space, address, if write { Access::Write } else { Access::Read })?;
        self.hardware.translate(root, address, write).ok_or(Miss::Denied)
    }

    /// Copies between two users' memory; both have the same length. What was copied before an error stays.
    pub(crate) fn copy_user(&mut self, from: UserSlice<false>, to: UserSlice<true>) -> Result<(), Miss> {
        let (mut from_at, mut to_at, mut left) = (from.address, to.address, from.length.min(to.length));
        while left > 0 {
            let part = left.min(rest_of_page(from_at)).min(rest_of_page(to_at));
            let source = self.reach(from.space, from_at, false)?;
            let target = self.reach(to.space, to_at, true)?;
            self.hardware.copy(source, target, part as usize);
            from_at = from_at.wrapping_add(part);
            to_at = to_at.wrapping_add(part);
            left = left.wrapping_sub(part);
        }
        Ok(())
    }

    /// Makes sure that a range can be read: in this entry, reading it does not fail.
    pub(crate) fn touch_user(&mut self, range: UserSlice<false>) -> Result<(), Miss> {
        let (mut at, mut left) = (range.address, range.length);
        while left > 0 {
            let part = left.min(rest_of_page(at));
            self.reach(range.space, at, false)?;
            at = at.wrapping_add(part);
            left = left.wrapping_sub(part);
        }
        Ok(())
    }

    /// Reads a user's memory.
    pub(crate) fn read_user(&mut self, from: UserSlice<false>, mut bytes: &mut [u8]) -> Result<(), Miss> {
        let mut at = from.address;
        while !bytes.is_empty() {
            let part = (bytes.len() as u64).min(rest_of_page(at)) as usize;
            let source = self.reach(from.space, at, false)?;
            let Some((now, later)) = bytes.split_at_mut_checked(part) else { return Err(Miss::Denied) };
            self.hardware.read_bytes(source, now);
            at = at.wrapping_add(part as u64);
            bytes = later;
        }
        Ok(())
    }

    /// Writes a user's memory.
    pub(crate) fn write_user(&mut self, to: UserSlice<true>, mut bytes: &[u8]) -> Result<(), Miss> {
        let mut at = to.address;
        while !bytes.is_empty() {
            let part = (bytes.len() as u64).min(rest_of_page(at)) as usize;
            let target = self.reach(to.space, at, true)?;
            let Some((now, later)) = bytes.split_at_checked(part) else { return Err(Miss::Denied) };
            self.hardware.write_bytes(target, now);
            at = at.wrapping_add(part as u64);
            bytes = later;
        }
        Ok(())
    }
}
