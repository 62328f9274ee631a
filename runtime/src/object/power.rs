//! Turning the machine off.

use tessera_abi::Syscall;

use crate::handle::{Object, Result, object, request};

object! {
    /// Turns the machine off.
    Power
}

impl Power {
    /// Powers off, with a code for whoever started the machine.
    pub fn off(&self, code: u64) -> Result<()> {
        request(Syscall::PowerControl, [self.owned().number(), 0, code]).map(|_| ())
    }

    /// Starts the machine again.
    pub fn reboot(&self) -> Result<()> {
        request(Syscall::PowerControl, [self.owned().number(), 1, 0]).map(|_| ())
    }
}
