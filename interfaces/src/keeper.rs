//! What holds memory that devices reach while nobody of those who use it lives.

use tessera_runtime::object::Dma;
use tessera_runtime::{InterfaceError, TransportError, interface};

/// Holds on to the memory that devices reach by themselves, for a bus that may end at the same moment as a driver.
#[interface]
pub trait Keeper {
    /// Holds what a device reaches, until `release`. The number is the bus's name for the device.
    fn keep(&self, device: u64, memory: Dma) -> Result<(), KeeperError>;

    /// The device was reset, or reaches nothing: lets go of what is held for it, if anything is.
    fn release(&self, device: u64) -> Result<(), KeeperError>;
}

/// Why something is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum KeeperError {
    /// Something is kept for this device already: it was not reset yet.
    Taken,
    /// No more can be kept.
    TooMany,
    /// The call did not reach the object, or its answer did not come back.
    Transport(TransportError),
}
