//! Sockets.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tessera_interfaces::{Address, Family, NetworkError, Shutdown, SocketOption, Stream, readiness};

use crate::PIECE;
use crate::errno::{Errno, Result};
use crate::net::Net;
use crate::poll::ready;
use crate::wait::{Patience, Queue, until};

/// How an address begins that a program writes or reads: bytes of it, and its family.
const AF_INET: u8 = 3;
const AF_INET6: u8 = 1;
/// Bytes of `sockaddr_in` and `sockaddr_in6`.
const V4_BYTES: usize = 16;
const V6_BYTES: usize = 28;

/// A direction of a socket, for what is limited in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Receive,
    Send,
}

/// A socket.
pub struct Socket {
    net: Arc<Net>,
    stream: Stream,
    /// Its IP version.
    pub family: Family,
    is_stream: bool,
    /// Those who wait for a change.
    pub queue: Queue,
    /// Whether calls answer `EAGAIN` in place of waiting.
    pub nonblocking: AtomicBool,
    /// Nanoseconds that a call waits; 0: for ever.
    limits: [AtomicU64; 2],
}

impl Socket {
    /// A socket of the network's; [`Net::open`] makes it.
    pub fn new(net: Arc<Net>, stream: Stream, family: Family, is_stream: bool, nonblocking: bool) -> Socket {
        let (queue, limits) = (Queue::default(), [AtomicU64::new(0), AtomicU64::new(0)]);
        Socket { net, stream, family, is_stream, queue, nonblocking: nonblocking.into(), limits }
    }

    /// What is ready: bits of `readiness`.
    fn word(&self) -> u64 {
        self.stream.ready(self.net.word(self.stream.number()))
    }

    /// What is ready: bits of [`ready`].
    pub fn ready(&self) -> i16 {
        let word = self.word();
        let pairs = [
            (readiness::READABLE, ready::IN),
            (readiness::WRITABLE, ready::OUT),
            (readiness::HANGUP, ready::HANGUP | ready::IN | ready::READ_CLOSED),
            (readiness::ERROR, ready::ERROR),
            (readiness::READ_CLOSED, ready::READ_CLOSED | ready::IN),
        ];
        pairs.iter().filter(|(bit, _)| word & bit != 0).fold(0, |all, (_, bits)| all | bits)
    }

    fn limit(&self, direction: Direction) -> &AtomicU64 {
        let [receive, send] = &self.limits;
        if direction == Direction::Receive { receive } else { send }
    }

    /// How long calls wait, in nanoseconds; 0: for ever.
    pub fn time_limit(&self, direction: Direction) -> u64 {
        self.limit(direction).load(Ordering::Relaxed)
    }

    /// Says how long calls wait.
    pub fn set_time_limit(&self, direction: Direction, nanoseconds: u64) {
        self.limit(direction).store(nanoseconds, Ordering::Relaxed);
    }

    /// Makes `attempt` until it does not answer `WouldBlock`, or this socket's patience is over.
    fn wait<T>(&self, direction: Direction, attempt: impl FnMut() -> Result<T>) -> Result<T> {
        const OVER: u64 = readiness::HANGUP | readiness::ERROR | readiness::READ_CLOSED;
        let bits = OVER | if direction == Direction::Receive { readiness::READABLE } else { readiness::WRITABLE };
        let patience = if self.nonblocking.load(Ordering::Relaxed) {
            Patience::None
        } else {
            let limit = Some(self.time_limit(direction)).filter(|limit| *limit != 0);
            Patience::Until(limit.map(|limit| crate::now().saturating_add(limit)))
        };
        until(&self.queue, patience, || self.word() & bits != 0, attempt)
    }

    /// Receives; 0 at the end of the stream. With `peek` what was received stays.
    ///
    /// # Errors
    /// What the network refuses; `EAGAIN` if nothing comes in time.
    pub fn receive(&self, into: &mut [u8], peek: bool) -> Result<usize> {
        if !self.is_stream {
            return self.receive_from(into, peek).map(|(count, _)| count);
        }
        let piece = into.len().min(PIECE);
        let into = into.get_mut(..piece).unwrap_or_default();
        self.wait(Direction::Receive, || {
            let count = if peek { self.stream.peek(into) } else { self.stream.receive(into) };
            Ok(count? as usize)
        })
    }

    /// Receives a datagram and tells who sent it.
    ///
    /// # Errors
    /// As [`Socket::receive`].
    pub fn receive_from(&self, into: &mut [u8], peek: bool) -> Result<(usize, Address)> {
        if self.is_stream {
            let count = self.receive(into, peek)?;
            return Ok((count, self.stream.socket().peer()?));
        }
        self.wait(Direction::Receive, || {
            let datagram =
                if peek { self.stream.socket().peek_from(into) } else { self.stream.socket().receive_from(into) }?;
            Ok((datagram.length as usize, datagram.from))
        })
    }

    /// Sends as much as there is room for, at least something.
    ///
    /// # Errors
    /// What the network refuses; `EAGAIN` if there is no room in time.
    pub fn send(&self, from: &[u8]) -> Result<usize> {
        // A datagram goes whole or not at all.
        let from = from.get(..PIECE).filter(|_| self.is_stream).unwrap_or(from);
        self.wait(Direction::Send, || Ok(self.stream.send(from)? as usize))
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// As [`Socket::send`].
    pub fn send_to(&self, to: Address, from: &[u8]) -> Result<usize> {
        if self.is_stream {
            return self.send(from);
        }
        self.wait(Direction::Send, || Ok(self.stream.socket().send_to(to, from)? as usize))
    }

    /// Waits for the next connection; answers it and who it is from.
    ///
    /// # Errors
    /// What the network refuses; `EAGAIN` if none comes in time.
    pub fn accept(&self) -> Result<(Arc<Socket>, Option<Address>)> {
        let socket = self.wait(Direction::Receive, || Ok(self.stream.socket().accept()?))?;
        // The peer may have gone before it was accepted.
        let peer = socket.peer().ok();
        Ok((self.net.adopt(socket, self.family, true, false)?, peer))
    }

    /// Connects, and waits until that is done.
    ///
    /// # Errors
    /// What the network refuses; `EINPROGRESS` where nobody is to wait.
    pub fn connect(&self, to: Address) -> Result<()> {
        match self.stream.socket().connect(to) {
            Ok(()) => return Ok(()),
            Err(NetworkError::InProgress) if !self.nonblocking.load(Ordering::Relaxed) => {}
            Err(error) => return Err(error.into()),
        }
        const DONE: u64 = readiness::WRITABLE | readiness::HANGUP | readiness::ERROR;
        self.wait(Direction::Send, || if self.word() & DONE == 0 { Err(Errno::EAGAIN) } else { Ok(()) })?;
        Ok(self.stream.socket().error()?)
    }

    /// Gives it a local address.
    ///
    /// # Errors
    /// What the network refuses.
    pub fn bind(&self, at: Address) -> Result<()> {
        Ok(self.stream.socket().bind(at)?)
    }

    /// Lets it take connections.
    ///
    /// # Errors
    /// What the network refuses.
    pub fn listen(&self, backlog: u32) -> Result<()> {
        Ok(self.stream.socket().listen(backlog.max(1))?)
    }

    /// Ends one or both directions: 0 receiving, 1 sending, 2 both.
    ///
    /// # Errors
    /// `EINVAL`, and what the network refuses.
    pub fn shutdown(&self, how: i32) -> Result<()> {
        let how = match how {
            0 => Shutdown::Receive,
            1 => Shutdown::Send,
            2 => Shutdown::Both,
            _ => return Err(Errno::EINVAL),
        };
        Ok(self.stream.socket().shutdown(how)?)
    }

    /// Its own address.
    ///
    /// # Errors
    /// What the network refuses.
    pub fn local(&self) -> Result<Address> {
        Ok(self.stream.socket().local()?)
    }

    /// Its peer's address.
    ///
    /// # Errors
    /// What the network refuses.
    pub fn peer(&self) -> Result<Address> {
        Ok(self.stream.socket().peer()?)
    }

    /// Takes the pending error.
    pub fn take_error(&self) -> Option<Errno> {
        self.stream.socket().error().err().map(Errno::from)
    }

    /// The value of an option of the network stack's.
    ///
    /// # Errors
    /// What the network refuses.
    pub fn option(&self, option: SocketOption) -> Result<u64> {
        Ok(self.stream.socket().option(option)?)
    }

    /// Changes it.
    ///
    /// # Errors
    /// What the network refuses.
    pub fn set_option(&self, option: SocketOption, value: u64) -> Result<()> {
        Ok(self.stream.socket().set_option(option, value)?)
    }
}

/// An address as `std` writes it.
///
/// # Errors
/// `EINVAL`: it is too short. `EAFNOSUPPORT`: it is no IP address.
pub fn address_from(bytes: &[u8]) -> Result<Address> {
    let [_, family, high, low, ..] = bytes else { return Err(Errno::EINVAL) };
    let port = u16::from_be_bytes([*high, *low]);
    let part = |at: usize| bytes.get(at..).ok_or(Errno::EINVAL);
    match *family {
        AF_INET => {
            let v4 = part(4)?.first_chunk::<4>().ok_or(Errno::EINVAL)?;
            Ok(Address { ip: mapped(*v4), port, family: Family::V4 })
        }
        AF_INET6 => {
            let ip = *part(8)?.first_chunk::<16>().ok_or(Errno::EINVAL)?;
            Ok(Address { ip, port, family: Family::V6 })
        }
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// An address as `std` reads it: the first bytes that are answered, out of all.
pub fn address_to(address: &Address) -> ([u8; V6_BYTES], usize) {
    let mut bytes = [0; V6_BYTES];
    let length = if address.family == Family::V4 { V4_BYTES } else { V6_BYTES };
    let family = if address.family == Family::V4 { AF_INET } else { AF_INET6 };
    let [high, low] = address.port.to_be_bytes();
    let head = [length as u8, family, high, low];
    let (at, ip) = if address.family == Family::V4 { (4, &address.ip[12..]) } else { (8, &address.ip[..]) };
    for (to, from) in bytes.iter_mut().zip(head) {
        *to = from;
    }
    for (to, from) in bytes.iter_mut().skip(at).zip(ip) {
        *to = *from;
    }
    (bytes, length)
}

/// An address without a port.
pub fn unspecified(family: Family) -> Address {
    let ip = if family == Family::V4 { mapped([0; 4]) } else { [0; 16] };
    Address { ip, port: 0, family }
}

/// The IP version that a number of `std` means.
///
/// # Errors
/// `EAFNOSUPPORT`.
pub fn family_of(number: i32) -> Result<Family> {
    match u8::try_from(number) {
        Ok(AF_INET) => Ok(Family::V4),
        Ok(AF_INET6) => Ok(Family::V6),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// The number of an IP version for `std`.
pub fn number_of(family: Family) -> i32 {
    i32::from(if family == Family::V4 { AF_INET } else { AF_INET6 })
}

fn mapped([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let v4 = Address { ip: mapped([10, 0, 2, 15]), port: 8080, family: Family::V4 };
        let (bytes, length) = address_to(&v4);
        assert_eq!(bytes[..length][..8], [16, AF_INET, 0x1f, 0x90, 10, 0, 2, 15]);
        assert_eq!(address_from(&bytes[..length]), Ok(v4));
        let v6 = Address { ip: core::array::from_fn(|index| index as u8), port: 1, family: Family::V6 };
        let (bytes, length) = address_to(&v6);
        assert_eq!((length, address_from(&bytes)), (28, Ok(v6)));
        assert_eq!(address_from(&bytes[..20]), Err(Errno::EINVAL));
        assert_eq!(address_from(&[16, 9, 0, 0, 0, 0, 0, 0]), Err(Errno::EAFNOSUPPORT));
    }
}
