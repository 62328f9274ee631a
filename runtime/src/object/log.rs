//! The debug log.

use tessera_abi::Syscall;

use crate::handle::{Object, Result, checked, object};
use crate::raw;

object! {
    /// Writes the debug log.
    Log
}

impl Log {
    /// Writes text; at most as much as the kernel takes at once is seen as one piece by the other writers.
    pub fn write(&self, text: &str) -> Result<()> {
        let number = self.owned().number();
        // SAFETY: the kernel reads the text only.
        checked(unsafe { raw::syscall_3(Syscall::LogWrite as u64, number, text.as_ptr() as u64, text.len() as u64) })
            .map(|_| ())
    }
}
