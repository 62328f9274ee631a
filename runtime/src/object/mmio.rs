//! Device memory; `Space::map` shows it.

use tessera_abi::Syscall;

use super::Pool;
use crate::handle::{Object, Result, create, object};

object! {
    /// A range of device memory.
    Mmio
}

impl Mmio {
    /// Authority over a part of this range; bytes, page aligned.
    pub fn narrow(&self, pool: &Pool, first: u64, length: u64) -> Result<Mmio> {
        create(Syscall::MmioCreate, [self.owned().number(), pool.owned().number(), first, length])
    }
}
