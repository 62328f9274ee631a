//! A block device as its client wants it: one whose driver can be killed at any time without the client noticing.
//!
//! A call that was under way when the driver died comes back with `PeerDied`, and whether it was done is not known. Reading and
//! writing blocks can be repeated: so it is asked again, and waits until the next driver answers. A `flush` that is asked again makes
//! durable what the former driver had answered: that is with the device, whose reset takes nothing back.
//!
//! What must hold: two writes to one block are not under way at once, as the later could then be overtaken by the repeated
//! earlier one. That is so without a restart too: a device may do in any order what it is asked at once.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use tessera_interfaces::{Block, BlockError, Cap, Geometry, TransportError};
use tessera_runtime::object::park;
use tessera_runtime::own;

/// How often one call is asked again. A driver that dies this often under one call is not going to answer it.
const TRIES: u32 = 1000;
/// How long to wait after a try that failed at once, in nanoseconds.
const PAUSE: u64 = 1_000_000;

/// A block device that is asked again when its driver dies.
pub struct Retried(Cap<dyn Block>);

impl Retried {
    /// The device behind a route.
    pub fn new(device: Cap<dyn Block>) -> Retried {
        Retried(device)
    }

    fn ask<T>(&self, mut call: impl FnMut(&dyn Block) -> Result<T, BlockError>) -> Result<T, BlockError> {
        let mut outcome = call(&*self.0);
        for _ in 0..TRIES {
            match outcome {
                Err(BlockError::Transport(TransportError::PeerDied)) => {}
                other => return other,
            }
            outcome = call(&*self.0);
            if matches!(outcome, Err(BlockError::Transport(TransportError::PeerDied)))
                && let Ok(now) = own::clock().now()
            {
                let _ = park(Some(now.saturating_add(PAUSE)));
            }
        }
        outcome
    }
}

impl Block for Retried {
    fn geometry(&self) -> Result<Geometry, BlockError> {
        self.ask(|device| device.geometry())
    }

    fn read(&self, first: u64, into: &mut [u8]) -> Result<(), BlockError> {
        self.ask(|device| device.read(first, into))
    }

    fn write(&self, first: u64, from: &[u8]) -> Result<(), BlockError> {
        self.ask(|device| device.write(first, from))
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.ask(|device| device.flush())
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use core::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A driver that dies under the first calls, after it has done half of what they ask.
    struct Dying {
        deaths: AtomicU32,
        error: BlockError,
    }

    impl Block for Dying {
        fn geometry(&self) -> Result<Geometry, BlockError> {
            Ok(Geometry { block_size: 512, blocks: 8, read_only: false })
        }

        fn read(&self, _first: u64, into: &mut [u8]) -> Result<(), BlockError> {
            into.fill(1);
            self.flush()?;
            into.fill(2);
            Ok(())
        }

        fn write(&self, _first: u64, _from: &[u8]) -> Result<(), BlockError> {
            self.flush()
        }

        fn flush(&self) -> Result<(), BlockError> {
            let left = self.deaths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if left.is_ok() { Err(self.error) } else { Ok(()) }
        }
    }

    fn dying(deaths: u32, error: BlockError) -> Retried {
        Retried::new(Cap::local(Arc::new(Dying { deaths: AtomicU32::new(deaths), error })))
    }

    #[test]
    fn a_death_is_not_noticed() {
        let died = BlockError::Transport(TransportError::PeerDied);
        let device = dying(3, died);
        let mut bytes = [0; 512];
        assert_eq!(device.read(0, &mut bytes), Ok(()));
        assert_eq!(bytes, [2; 512]);
        assert_eq!(dying(2, died).write(0, &bytes), Ok(()));
        assert_eq!(dying(1, died).flush(), Ok(()));
        assert_eq!(dying(u32::MAX, died).flush(), Err(died), "not for ever");
    }

    #[test]
    fn other_errors_are_the_clients() {
        for error in [BlockError::Device, BlockError::OutOfRange, BlockError::Transport(TransportError::Revoked)] {
            assert_eq!(dying(1, error).flush(), Err(error));
        }
    }
}
