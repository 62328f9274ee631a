//! A counter that can be waited for (`eventfd`): event loops wake themselves with it.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::errno::{Errno, Result};
use crate::wait::{Patience, Queue, until};

/// The counter.
#[derive(Debug, Default)]
pub struct Counter {
    value: AtomicU64,
    pub queue: Queue,
    /// Whether reading answers `EAGAIN` in place of waiting.
    pub nonblocking: AtomicBool,
}

impl Counter {
    /// A counter that begins with `value`.
    pub fn new(value: u64, nonblocking: bool) -> Counter {
        Counter { value: value.into(), nonblocking: nonblocking.into(), queue: Queue::default() }
    }

    /// Whether it is not zero.
    pub fn is_ready(&self) -> bool {
        self.value.load(Ordering::Acquire) != 0
    }

    /// Takes the value, 8 bytes, and leaves zero.
    ///
    /// # Errors
    /// `EINVAL`: fewer than 8 bytes. `EAGAIN`: it is zero, and nobody is to wait.
    pub fn read(&self, into: &mut [u8]) -> Result<usize> {
        let into = into.first_chunk_mut::<8>().ok_or(Errno::EINVAL)?;
        let patience = if self.nonblocking.load(Ordering::Relaxed) { Patience::None } else { Patience::Until(None) };
        let value = until(
            &self.queue,
            patience,
            || self.is_ready(),
            || Some(self.value.swap(0, Ordering::AcqRel)).filter(|value| *value != 0).ok_or(Errno::EAGAIN),
        )?;
        *into = value.to_ne_bytes();
        Ok(8)
    }

    /// Adds 8 bytes to it.
    ///
    /// # Errors
    /// `EINVAL`: fewer than 8 bytes. `EAGAIN`: it would be too large.
    pub fn write(&self, from: &[u8]) -> Result<usize> {
        let more = u64::from_ne_bytes(*from.first_chunk::<8>().ok_or(Errno::EINVAL)?);
        let add = |value: u64| value.checked_add(more).filter(|sum| *sum != u64::MAX);
        self.value.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).map_err(|_| Errno::EAGAIN)?;
        self.queue.wake();
        Ok(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_until_it_is_read() {
        let counter = Counter::new(1, true);
        assert_eq!(counter.write(&41_u64.to_ne_bytes()), Ok(8));
        let mut bytes = [0; 8];
        assert_eq!((counter.read(&mut bytes), u64::from_ne_bytes(bytes)), (Ok(8), 42));
        assert_eq!(counter.read(&mut bytes), Err(Errno::EAGAIN));
        assert_eq!(counter.read(&mut [0; 4]), Err(Errno::EINVAL));
        assert_eq!(counter.write(&u64::MAX.to_ne_bytes()), Err(Errno::EAGAIN));
    }
}
