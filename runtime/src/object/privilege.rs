//! Letting programs run in the kernel's mode of the processor.

use tessera_abi::{Level, Syscall};

use super::{Pool, Space};
use crate::handle::{Object, Result, create, object};

object! {
    /// Lets programs run in the kernel's mode of the processor. Whoever holds it can do with the machine what it likes.
    Privilege
}

impl Privilege {
    /// Makes an empty space whose threads run at a level.
    pub fn space(&self, pool: &Pool, level: Level) -> Result<Space> {
        create(Syscall::SpaceCreatePrivileged, [self.owned().number(), pool.owned().number(), level as u64])
    }
}
