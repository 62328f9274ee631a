//! Events: 64 signal bits to raise and to wait for.

use tessera_abi::{NEVER, Syscall};

use super::Pool;
use crate::handle::{Object, Result, create, object, request};

object! {
    /// 64 signal bits.
    Event
}

impl Event {
    /// Makes an event with no bit raised.
    pub fn create(pool: &Pool) -> Result<Event> {
        create(Syscall::EventCreate, [pool.owned().number()])
    }

    /// Raises bits.
    #[inline]
    pub fn raise(&self, bits: u64) -> Result<()> {
        request(Syscall::EventRaise, [self.owned().number(), bits]).map(|_| ())
    }

    /// Clears bits; answers what was raised before.
    pub fn clear(&self, bits: u64) -> Result<u64> {
        Ok(request(Syscall::EventClear, [self.owned().number(), bits])?[0])
    }

    /// Waits until one of `mask` is raised; answers the raised ones of it and clears them.
    #[inline]
    pub fn wait(&self, mask: u64) -> Result<u64> {
        self.wait_until(mask, mask, None)
    }

    /// Waits until one of `mask` is raised or the deadline; answers the raised ones of it and clears those in `clear`.
    #[inline]
    pub fn wait_until(&self, mask: u64, clear: u64, deadline: Option<u64>) -> Result<u64> {
        Ok(request(Syscall::EventWait, [self.owned().number(), mask, clear, deadline.unwrap_or(NEVER)])?[0])
    }
}
