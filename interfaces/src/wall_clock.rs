//! The time of day.

use tessera_runtime::{InterfaceError, TransportError, interface};

/// A clock that knows the date.
#[interface]
pub trait WallClock {
    /// Nanoseconds since the beginning of 1970 (UTC, without leap seconds).
    fn now(&self) -> Result<u64, WallClockError>;
}

/// Why the time is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum WallClockError {
    /// The clock could not be read.
    Device,
    /// The call did not reach the object, or its answer did not come back.
    Transport(TransportError),
}
