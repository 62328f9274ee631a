//! How a method call travels between domains: what `#[interface]` expands to is written in terms of what is here.
//!
//! A call's label is the method's number. Slices are leases, kernel objects and capabilities handles, all else words: in
//! registers where leases, handles and words together take no more than [`REGISTERS`], else through the message buffer. The answer's label is 0
//! or the error's number. Both sides know a method's shape from its signature and refuse any other: nothing that the
//! other side sends is believed before it was checked, and nothing of it can make this side panic.

mod call;
mod remote;
pub mod schema;
mod transfer;

use core::any::Any;

/// What proxies are kept in.
#[doc(hidden)]
pub use alloc::sync::Arc;

pub use call::{Arguments, Borrowed, Call, filled_of};
pub use remote::{Incoming, Limit, Remote, Request, bytes, filled, text};
pub use transfer::{Plain, Sink, Source, Transfer, decode, decode_into, encoded};

use schema::Schema;
use tessera_abi::Error;

/// Words of a message in registers that leases (two each), handles and plain words share; a deadline and a buffer take the rest.
pub const REGISTERS: usize = 6;

/// Most words of arguments, and of an answer: what the message buffer holds.
pub const MAX_WORDS: usize = tessera_abi::Tag::MAX_BYTES / 8;

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

    /// What a kernel's refusal of a call means to the caller.
    #[cold]
    pub fn from_refusal(error: Error) -> TransportError {
        match error {
            Error::PeerGone => TransportError::PeerDied,
            Error::TimedOut => TransportError::Deadline,
            Error::BadHandle | Error::Gone => TransportError::Revoked,
            Error::NoQuota | Error::PeerNoQuota => TransportError::LimitReached,
            _ => TransportError::Malformed,
        }
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no interface's error",
    note = "it is an enum that derives Clone, Copy, Debug and InterfaceError, with a variant `Transport(TransportError)`"
)]
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

/// A trait that `#[interface]` was applied to, as `dyn Trait`: what the runtime knows of it.
///
/// ```
/// use std::sync::Arc;
/// use tessera_runtime::{Cap, InterfaceError, TransportError, interface};
///
/// /// Something that counts.
/// #[interface]
/// pub trait Counter {
///     fn add(&self, number: u64) -> Result<u64, CounterError>;
///     fn letters(&self, text: &str) -> Result<u64, CounterError>;
/// }
///
/// #[derive(Clone, Copy, PartialEq, Debug, InterfaceError)]
/// pub enum CounterError {
///     /// The sum does not fit.
///     Overflow,
///     /// What happens on the way.
///     Transport(TransportError),
/// }
///
/// struct From100;
///
/// impl Counter for From100 {
///     fn add(&self, number: u64) -> Result<u64, CounterError> {
///         number.checked_add(100).ok_or(CounterError::Overflow)
///     }
///     fn letters(&self, text: &str) -> Result<u64, CounterError> {
///         Ok(text.chars().count() as u64)
///     }
/// }
///
/// let counter: Cap<dyn Counter> = Cap::local(Arc::new(From100));
/// assert_eq!(counter.add(5), Ok(105));
/// assert_eq!(counter.add(u64::MAX), Err(CounterError::Overflow));
/// ```
///
/// What cannot travel is a compile error at the type:
///
/// ```compile_fail,E0277
/// # use tessera_runtime::{InterfaceError, TransportError, interface};
/// struct Local(usize);
/// #[interface]
/// pub trait Counter {
///     fn add(&self, number: Local) -> Result<u64, CounterError>;
/// }
/// # #[derive(Clone, Copy, Debug, InterfaceError)]
/// # pub enum CounterError { Transport(TransportError) }
/// ```
///
/// and so is a method with more than a message holds:
///
/// ```compile_fail,E0080
/// # use tessera_runtime::{InterfaceError, TransportError, interface};
/// #[interface]
/// pub trait Counter {
///     fn add(&self, numbers: [u64; 129]) -> Result<u64, CounterError>;
/// }
/// # #[derive(Clone, Copy, Debug, InterfaceError)]
/// # pub enum CounterError { Transport(TransportError) }
/// # fn call(counter: &tessera_runtime::Cap<dyn Counter>) { let _ = counter.add([0; 129]); }
/// # fn main() { use tessera_runtime::object::Session; let _: fn(Session) -> _ = tessera_runtime::Cap::<dyn Counter>::remote; }
/// ```
pub trait Interface: Any + Send + Sync {
    /// The trait's name.
    const NAME: &'static str;

    /// What is recorded of it.
    const SCHEMA: &'static Schema;

    /// An object that passes every call on.
    fn remote(remote: Remote) -> Arc<Self>;

    /// The session behind the object, if it passes calls on.
    fn as_remote(&self) -> Option<&Remote>;

    /// The object itself, for a cast to its own type.
    fn any(object: Arc<Self>) -> Arc<dyn Any + Send + Sync>;

    /// Carries out a call that arrived, and leaves the answer in it. An error is the answer in its place.
    fn dispatch(&self, call: &mut Call<'_>) -> Result<(), TransportError>;
}

/// Zeros that are lent for an answer with a bound.
#[doc(hidden)]
pub fn zeros(bound: usize) -> alloc::vec::Vec<u8> {
    alloc::vec![0; bound]
}
