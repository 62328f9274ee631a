//! Random bytes.

use tessera_runtime::{InterfaceError, TransportError, interface};

/// A source of random bytes that nobody can foretell.
#[interface]
pub trait Entropy {
    /// Fills `into`.
    fn fill(&self, into: &mut [u8]) -> Result<(), EntropyError>;
}

/// Why there are no random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum EntropyError {
    /// The source could not supply them.
    Device,
    /// More are asked for at once than it takes.
    TooMany,
    /// The call did not reach the object, or its answer did not come back.
    Transport(TransportError),
}
