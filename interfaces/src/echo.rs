//! The smallest useful interface: an example, and what the system's own tests call.

use tessera_runtime::{InterfaceError, TransportError, interface};

/// Says back what it is told.
#[interface]
pub trait Echo {
    /// Puts `from` into `into`; answers how many bytes.
    #[fills]
    fn echo(&self, from: &[u8], into: &mut [u8]) -> Result<u64, EchoError>;

    /// How many times it has said something back.
    fn count(&self) -> Result<u64, EchoError>;
}

/// Why there was no echo.
#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum EchoError {
    /// It does not fit into the slice that it should go to.
    TooLong,
    /// The call did not reach the object, or its answer did not come back.
    Transport(TransportError),
}
