//! What all sockets have in common: socket(7). The calls of `syscall/socket.rs` work on this trait; [`super::unix`] and [`super::inet`]
//! implement it. Nothing here waits: what would have to answers `EAGAIN` (connecting: `EINPROGRESS`).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Description, OpenFile, Sink, Source};
use crate::errno::{Errno, Result};
use crate::task::Context;

/// Address families.
pub const AF_UNSPEC: u16 = 0;
pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const AF_NETLINK: u16 = 16;
/// Socket types.
pub const SOCK_STREAM: u32 = 1;
pub const SOCK_DGRAM: u32 = 2;
pub const SOCK_RAW: u32 = 3;
pub const SOCK_SEQPACKET: u32 = 5;

/// Flags of `send` and `receive`.
pub mod message {
    pub const OUT_OF_BAND: u32 = 1;
    pub const PEEK: u32 = 2;
    pub const CONTROL_TRUNCATED: u32 = 8;
    pub const TRUNCATED: u32 = 0x20;
    pub const DO_NOT_WAIT: u32 = 0x40;
    pub const WAIT_FOR_ALL: u32 = 0x100;
    pub const ERRORS: u32 = 0x2000;
    pub const NO_SIGNAL: u32 = 0x4000;
    pub const CLOSE_ON_EXEC: u32 = 0x4000_0000;
}

/// Options of level `SOL_SOCKET`.
pub mod option {
    pub const LEVEL: i32 = 1;
    pub const REUSE_ADDRESS: i32 = 2;
    pub const TYPE: i32 = 3;
    pub const ERROR: i32 = 4;
    pub const DO_NOT_ROUTE: i32 = 5;
    pub const BROADCAST: i32 = 6;
    pub const SEND_BUFFER: i32 = 7;
    pub const RECEIVE_BUFFER: i32 = 8;
    pub const KEEP_ALIVE: i32 = 9;
    pub const OUT_OF_BAND_INLINE: i32 = 10;
    pub const PRIORITY: i32 = 12;
    pub const LINGER: i32 = 13;
    pub const REUSE_PORT: i32 = 15;
    pub const PASS_CREDENTIALS: i32 = 16;
    pub const PEER_CREDENTIALS: i32 = 17;
    pub const RECEIVE_LOW: i32 = 18;
    pub const SEND_LOW: i32 = 19;
    pub const RECEIVE_TIMEOUT: i32 = 20;
    pub const SEND_TIMEOUT: i32 = 21;
    pub const BIND_TO_DEVICE: i32 = 25;
    pub const TIMESTAMP: i32 = 29;
    pub const ACCEPTS: i32 = 30;
    pub const SEND_BUFFER_FORCE: i32 = 32;
    pub const RECEIVE_BUFFER_FORCE: i32 = 33;
    pub const PROTOCOL: i32 = 38;
    pub const TIMESTAMP_NANOSECONDS: i32 = 35;
    pub const TIMESTAMPING: i32 = 37;
    pub const DOMAIN: i32 = 39;
    /// `SO_RXQ_OVFL`
    pub const LOST: i32 = 40;
}

/// Who sent something: process, user, group, as `struct ucred`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Credentials {
    pub process: i32,
    pub user: u32,
    pub group: u32,
}

impl Credentials {
    /// As `struct ucred`.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let parts = [self.process.to_ne_bytes(), self.user.to_ne_bytes(), self.group.to_ne_bytes()];
        for (to, from) in bytes.iter_mut().zip(parts.as_flattened()) {
            *to = *from;
        }
        bytes
    }
}

/// What goes along with a message beside its bytes (cmsg(3)).
#[derive(Clone, Default)]
pub struct Ancillary {
    pub files: Vec<Arc<Description>>,
    pub credentials: Option<Credentials>,
    /// The message is sent as datagrams of this many bytes (`UDP_SEGMENT`).
    pub segment: Option<u16>,
    /// How many routers the message may pass, and its traffic class; none: as the socket says.
    pub hops: Option<u8>,
    pub class: Option<u8>,
    /// What the socket tells of the message: levels, kinds and data.
    pub told: Vec<(i32, i32, Vec<u8>)>,
}

impl Ancillary {
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.credentials.is_none()
    }
}

/// A message that was received.
#[derive(Default)]
pub struct Received {
    /// Bytes that were stored.
    pub stored: usize,
    /// Bytes that the message had, for datagrams; for streams what was stored.
    pub whole: usize,
    /// The sender's address, as a `struct sockaddr`; empty if it has none.
    pub from: Vec<u8>,
    pub ancillary: Ancillary,
}

/// How a time limit of a socket stands.
#[derive(Clone, Copy, Default, Debug)]
pub struct Limits {
    /// Nanoseconds that receiving and sending wait at most; 0: without end.
    pub receive: u64,
    pub send: u64,
}

/// A socket.
pub trait Socket: OpenFile {
    /// Family, type and protocol.
    fn shape(&self) -> (u16, u32, i32);

    fn bind(&self, context: &mut Context, address: &[u8]) -> Result<()>;

    fn listen(&self, context: &mut Context, backlog: u32) -> Result<()>;

    /// Begins to connect: done, or `EINPROGRESS`; then the queue is woken and [`Socket::outcome`] tells. `EAGAIN` when the other side's
    /// backlog is full: to be called again when the queue was woken.
    fn connect(&self, context: &mut Context, address: &[u8]) -> Result<()>;

    /// How a connection that was begun went: none while it is not known.
    fn outcome(&self) -> Option<Result<()>>;

    /// The next connection and its address, or `EAGAIN`.
    fn accept(&self, context: &mut Context) -> Result<(Arc<dyn OpenFile>, Vec<u8>)>;

    /// The own address, as a `struct sockaddr`.
    fn name(&self) -> Result<Vec<u8>>;

    /// The other side's address.
    fn peer_name(&self) -> Result<Vec<u8>>;

    fn send(
        &self,
        context: &mut Context,
        from: &mut dyn Source,
        to: Option<&[u8]>,
        ancillary: Ancillary,
        flags: u32,
    ) -> Result<usize>;

    fn receive(&self, context: &mut Context, to: &mut dyn Sink, flags: u32) -> Result<Received>;

    /// Takes an error of what was sent (`MSG_ERRQUEUE`): what was sent, to where, and why it failed. `EAGAIN` when there is none.
    fn receive_error(&self, _to: &mut dyn Sink) -> Result<Received> {
        Err(Errno::EAGAIN)
    }

    /// Ends receiving, sending, or both.
    fn shutdown(&self, receiving: bool, sending: bool) -> Result<()>;

    /// The value of an option; `ENOPROTOOPT` for unknown ones.
    fn option(&self, level: i32, name: i32) -> Result<Vec<u8>>;

    fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<()>;

    /// `SO_RCVTIMEO` and `SO_SNDTIMEO`.
    fn limits(&self) -> Limits;

    /// How deep sockets lie in what it was sent; none of a kind that passes no files.
    fn depth(&self) -> Option<u32> {
        None
    }
}

/// The address family of a `struct sockaddr`.
pub fn family(address: &[u8]) -> Result<u16> {
    address.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)
}

/// The number of four bytes at a place.
pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The first four bytes of an option's value.
pub fn number(value: &[u8]) -> Result<i32> {
    value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)
}

/// A number as an option's value.
pub fn value(number: i32) -> Vec<u8> {
    number.to_ne_bytes().to_vec()
}

/// A `struct timeval` in nanoseconds.
pub fn time_limit(value: &[u8]) -> Result<u64> {
    let (seconds, rest) = value.split_first_chunk::<8>().ok_or(Errno::EINVAL)?;
    let micros = rest.first_chunk::<8>().ok_or(Errno::EINVAL)?;
    let (seconds, micros) = (i64::from_ne_bytes(*seconds), i64::from_ne_bytes(*micros));
    if !(0..1_000_000).contains(&micros) {
        return Err(Errno::EDOM);
    }
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(micros as u64 * 1000))
}

/// Nanoseconds as a `struct timeval`.
pub fn time_limit_bytes(limit: u64) -> Vec<u8> {
    let mut bytes = ((limit / 1_000_000_000) as i64).to_ne_bytes().to_vec();
    bytes.extend(((limit % 1_000_000_000 / 1000) as i64).to_ne_bytes());
    bytes
}
