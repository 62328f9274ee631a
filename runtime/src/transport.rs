//! What can happen to a call between domains, whatever the interface.

/// Why a call did not reach the object or its answer did not come back. Every interface's error has a variant for it.
///
/// For calls that may have been carried out the caller cannot know whether they were: [`PeerDied`](TransportError::PeerDied),
/// [`Deadline`](TransportError::Deadline), and [`Malformed`](TransportError::Malformed) if it is the answer that is so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum TransportError {
    /// The server ended, or dropped the call, before it answered.
    PeerDied = 0x8000_0001,
    /// The deadline passed first.
    Deadline = 0x8000_0002,
    /// The capability names nothing any more: it was revoked, or its server started anew and has forgotten the object.
    Revoked = 0x8000_0003,
    /// One side sent what the interface does not allow.
    Malformed = 0x8000_0004,
    /// The server's version of the interface does not have the method.
    UnknownMethod = 0x8000_0005,
    /// A pool or a table of either side is used up, or a slice is longer than [`crate::transport::MAX_SLICE`].
    LimitReached = 0x8000_0006,
    /// A local object was to be handed out by a domain that runs no server.
    NotServed = 0x8000_0007,
}

/// Most bytes of one slice in one call between domains. A longer one is refused with `LimitReached` before anything is sent.
pub const MAX_SLICE: usize = 1 << 20;

impl TransportError {
    /// The label of an answer that reports it.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The error that an answer's label says. A label that means nothing is itself a malformed answer.
    pub const fn from_code(code: u32) -> TransportError {
        match code {
            0x8000_0001 => TransportError::PeerDied,
            0x8000_0002 => TransportError::Deadline,
            0x8000_0003 => TransportError::Revoked,
            0x8000_0005 => TransportError::UnknownMethod,
            0x8000_0006 => TransportError::LimitReached,
            0x8000_0007 => TransportError::NotServed,
            _ => TransportError::Malformed,
        }
    }
}

impl core::fmt::Display for TransportError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            TransportError::PeerDied => "the server ended before it answered",
            TransportError::Deadline => "the deadline passed",
            TransportError::Revoked => "the capability names nothing any more",
            TransportError::Malformed => "a message is not as the interface says",
            TransportError::UnknownMethod => "the server does not have the method",
            TransportError::LimitReached => "a limit is reached",
            TransportError::NotServed => "the domain has no server that could answer for the object",
        })
    }
}

impl core::error::Error for TransportError {}

/// An interface's error: an enum that travels as a number. `#[derive(InterfaceError)]` implements it.
pub trait InterfaceError: Copy + From<TransportError> {
    /// Names and numbers of the variants, without `Transport`.
    const VARIANTS: &'static [(&'static str, u32)];

    /// The number of an error; never 0, which says that there is none.
    fn code(self) -> u32;

    /// The error with a number; what is no variant's number is a transport error.
    fn from_code(code: u32) -> Self;
}

/// The answer of a method marked `#[fills]`: how many bytes at the start of its (last) `&mut [u8]` it has filled. Between domains only
/// these are copied.
pub trait Fills {
    /// Bytes.
    fn filled(&self) -> u64;
}

impl Fills for u64 {
    fn filled(&self) -> u64 {
        *self
    }
}
