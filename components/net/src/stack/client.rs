//! What one client may use, and how it is told that something changed.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::stream::Streams;
use tessera_interfaces::{Cap, NetworkError, NetworkListener};

/// What a client may hold at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sockets, with those that are not accepted yet and those that still say goodbye.
    pub sockets: u32,
    /// Bytes of buffers.
    pub bytes: u64,
}

/// Where a client looks for what is ready.
pub trait Signals: Send {
    /// Stores the bits of a socket. `is_news`: something happened that somebody may wait for.
    fn set(&mut self, number: u32, bits: u64, is_news: bool);
    /// Tells the client to look.
    fn raise(&mut self);
}

/// A client that is told by a call.
pub type Called = Cap<dyn NetworkListener>;

/// A client that does not want to be told.
pub struct Deaf;

impl Signals for Deaf {
    fn set(&mut self, _number: u32, _bits: u64, _is_news: bool) {}
    fn raise(&mut self) {}
}

/// One client.
pub struct Client {
    limits: Limits,
    sockets: u32,
    bytes: u64,
    /// Bytes that it may hold now.
    most: u64,
    free_numbers: Vec<u32>,
    next_number: u32,
    signals: Box<dyn Signals>,
    listener: Option<Called>,
    raise: bool,
    /// What its streams share.
    pub streams: Option<Streams>,
}

impl Client {
    pub fn new(limits: Limits) -> Client {
        let signals = Box::new(Deaf);
        Client {
            limits,
            sockets: 0,
            bytes: 0,
            most: limits.bytes,
            free_numbers: Vec::new(),
            next_number: 1,
            signals,
            listener: None,
            raise: false,
            streams: None,
        }
    }

    /// From now on tells this one.
    pub fn listen(&mut self, signals: Box<dyn Signals>) {
        self.signals = signals;
        self.listener = None;
        self.raise = true;
    }

    /// Tells this one by a call, where whoever runs the stack can make one.
    pub fn call(&mut self, listener: Called) {
        self.listener = Some(listener);
    }

    /// Who is to be called, if there is news.
    pub fn take_called(&mut self) -> Option<Called> {
        let listener = self.listener.as_ref().filter(|_| self.raise)?;
        self.raise = false;
        Some(listener.clone())
    }

    /// Counts one socket more.
    pub fn take_socket(&mut self) -> Result<(), NetworkError> {
        if self.sockets >= self.limits.sockets {
            return Err(NetworkError::LimitReached);
        }
        self.sockets += 1;
        Ok(())
    }

    /// Counts one socket less.
    pub fn return_socket(&mut self) {
        self.sockets = self.sockets.saturating_sub(1);
    }

    /// A number that no socket of this client has: from 1 up to its limit of sockets.
    pub fn take_number(&mut self) -> Result<u32, NetworkError> {
        if let Some(number) = self.free_numbers.pop() {
            return Ok(number);
        }
        if self.next_number > self.limits.sockets {
            return Err(NetworkError::LimitReached);
        }
        self.next_number += 1;
        Ok(self.next_number - 1)
    }

    /// Ends the use of a number.
    pub fn return_number(&mut self, number: u32) {
        self.signals.set(number, 0, false);
        if let Some(streams) = &mut self.streams {
            streams.revoke(number);
        }
        self.free_numbers.push(number);
    }

    /// Lets it hold no more bytes than this, nor than it may in any case.
    pub fn limit(&mut self, bytes: u64) {
        self.most = self.limits.bytes.min(bytes);
    }

    /// Charges bytes.
    pub fn charge(&mut self, bytes: u64) -> Result<(), NetworkError> {
        let then = self.bytes.saturating_add(bytes);
        if then > self.most {
            return Err(NetworkError::LimitReached);
        }
        self.bytes = then;
        Ok(())
    }

    /// Gives charged bytes back.
    pub fn discharge(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The size of a buffer for which nothing was asked: an eighth of what is left at most, and less, the more of the allowance is used, so that
    /// many connections fit.
    pub fn fitting(&self, wanted: usize) -> usize {
        let free = self.most.saturating_sub(self.bytes);
        let most = if free > self.most / 2 {
            usize::MAX
        } else if free > self.most / 4 {
            16 << 10
        } else if free > self.most / 8 {
            4 << 10
        } else {
            2 << 10
        };
        // A power of two: the next connection may have the same memory.
        wanted.min(most).min(1 << (free / 8).max(1).ilog2()).max(super::tcp::LEAST_BUFFER)
    }

    /// Charges bytes for what is not needed but good to have: if half of the allowance is left.
    pub fn spare(&mut self, bytes: u64) -> bool {
        let then = self.bytes.saturating_add(bytes);
        let fits = then <= self.most / 2;
        if fits {
            self.bytes = then;
        }
        fits
    }

    /// How much is used: sockets and bytes.
    pub fn used(&self) -> (u32, u64) {
        (self.sockets, self.bytes)
    }

    /// Stores a socket's bits; the client is told at the next `flush`.
    pub fn set(&mut self, number: u32, bits: u64, is_news: bool) {
        self.signals.set(number, bits, is_news);
        self.raise |= is_news;
    }

    /// Tells the client, once for all that changed.
    pub fn flush(&mut self) {
        if core::mem::take(&mut self.raise) {
            self.signals.raise();
        }
    }
}
