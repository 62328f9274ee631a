//! Consoles: a stream of bytes to and from a person or a test.

use tessera_runtime::object::Event;
use tessera_runtime::{InterfaceError, Plain, TransportError, interface};

/// A console. It does no line editing and no echo.
#[interface]
pub trait Console {
    /// Takes as many bytes of `from` as there is room for; answers how many.
    fn write(&self, from: &[u8]) -> Result<u64, ConsoleError>;

    /// Puts what was typed into `into`; answers how many bytes, at least one, or `WouldBlock`.
    #[fills]
    fn read(&self, into: &mut [u8]) -> Result<u64, ConsoleError>;

    /// Raises `bits` of `readable` whenever there is something to read that was not there before, and at once if there is now; also when
    /// there is room again for what a [`Console::write`] did not take.
    fn watch(&self, readable: Event, bits: u64) -> Result<(), ConsoleError>;

    /// How large it is. The call fails where there is no console at all.
    fn size(&self) -> Result<ConsoleSize, ConsoleError>;
}

/// The size of a console in characters; 0 where it is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct ConsoleSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// Why a console refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum ConsoleError {
    /// There is nothing to read, or no room to write; try again when the event says so.
    WouldBlock,
    /// More watch it than it takes.
    LimitReached,
    /// The device could not do it.
    Device,
    /// The call did not reach the object, or its answer did not come back.
    Transport(TransportError),
}
