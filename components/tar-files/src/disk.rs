//! A disk as bytes.

use alloc::sync::Arc;
use alloc::vec;

use tessera_interfaces::{Block, BlockError};

/// The most bytes that are asked of the disk at once.
const MOST: usize = 64 << 10;

/// A disk that is read from any byte on.
pub struct Disk {
    block: Arc<dyn Block>,
    /// Bytes of a block.
    unit: u64,
    length: u64,
}

impl Disk {
    /// The bytes of `block`.
    ///
    /// # Errors
    /// It does not say what it is like, or that makes no sense.
    pub fn new(block: Arc<dyn Block>) -> Result<Disk, BlockError> {
        let geometry = block.geometry()?;
        let unit = u64::from(geometry.block_size);
        let length = geometry.blocks.checked_mul(unit).ok_or(BlockError::Device)?;
        if !unit.is_power_of_two() || unit > MOST as u64 {
            return Err(BlockError::Device);
        }
        Ok(Disk { block, unit, length })
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills `into` with the bytes from `at` on.
    ///
    /// # Errors
    /// Some of them are not on the disk, or it cannot read them.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), BlockError> {
        let end = at.checked_add(into.len() as u64).filter(|end| *end <= self.length).ok_or(BlockError::OutOfRange)?;
        let mut at = at;
        let mut rest = into;
        while at < end {
            let first = at.checked_div(self.unit).ok_or(BlockError::Device)?;
            let before = at.checked_rem(self.unit).ok_or(BlockError::Device)?;
            let whole = rest.len() as u64 & !self.unit.wrapping_sub(1);
            let count = if before == 0 && whole > 0 {
                // Whole blocks go where they are wanted.
                let count = (whole as usize).min(MOST);
                self.block.read(first, rest.get_mut(..count).ok_or(BlockError::Device)?)?;
                count
            } else {
                let mut one = vec![0; self.unit as usize];
                self.block.read(first, &mut one)?;
                let found = one.get(before as usize..).ok_or(BlockError::Device)?;
                let count = found.len().min(rest.len());
                for (to, from) in rest.iter_mut().zip(found) {
                    *to = *from;
                }
                count
            };
            rest = rest.get_mut(count..).ok_or(BlockError::Device)?;
            at = at.saturating_add(count as u64);
        }
        Ok(())
    }
}
