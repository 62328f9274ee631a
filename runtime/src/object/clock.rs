//! Time.

use tessera_abi::Syscall;

use crate::handle::{Object, Result, object, request};
use crate::raw;

object! {
    /// Tells time.
    Clock
}

impl Clock {
    /// Nanoseconds since boot, the unit of every deadline.
    pub fn now(&self) -> Result<u64> {
        Ok(request(Syscall::ClockRead, [self.owned().number()])?[0])
    }

    /// Ticks of the time stamp counter a second.
    pub fn ticks_a_second(&self) -> Result<u64> {
        Ok(request(Syscall::ClockInspect, [self.owned().number()])?[0])
    }

    /// The time stamp counter's value at boot.
    pub fn ticks_at_boot(&self) -> Result<u64> {
        Ok(request(Syscall::ClockInspect, [self.owned().number()])?[1])
    }
}

/// The time stamp counter, which any program may read.
#[inline(always)]
pub fn ticks() -> u64 {
    raw::ticks()
}
