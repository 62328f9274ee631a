//! How messages and their attributes lie in the bytes of netlink(7).

use alloc::vec::Vec;

use crate::file::socket::word;

/// Bytes of a `struct nlmsghdr`, and of a `struct nlattr`.
pub const HEAD: usize = 16;
const ATTRIBUTE: usize = 4;

/// Flags of messages.
pub mod flag {
    pub const REQUEST: u16 = 1;
    pub const MULTIPLE: u16 = 2;
    pub const ACKNOWLEDGE: u16 = 4;
    pub const FILTERED: u16 = 0x20;
    /// An acknowledgement without what was asked behind it.
    pub const CAPPED: u16 = 0x100;
    /// `NLM_F_ROOT | NLM_F_MATCH`, of which either asks for all.
    pub const DUMP: u16 = 0x300;
}

/// Kinds of messages that all protocols have.
pub mod kind {
    pub const ERROR: u16 = 2;
    pub const DONE: u16 = 3;
    /// The first of a protocol's own.
    pub const LEAST: u16 = 16;
}

/// Who a message is for: what the answer repeats.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Thread {
    pub sequence: u32,
    pub port: u32,
}

/// A message that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// All of it, with its head; what is behind the head.
    pub whole: &'a [u8],
    pub body: &'a [u8],
}

pub fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// The messages of what was sent at once. One that says a length that cannot be ends them, silently, as in Linux.
pub fn requests(bytes: &[u8]) -> impl Iterator<Item = Request<'_>> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let length = word(rest, 0)? as usize;
        let whole = rest.get(..length)?;
        let request = Request {
            kind: half(whole, 4)?,
            flags: half(whole, 6)?,
            sequence: word(whole, 8)?,
            whole,
            body: whole.get(HEAD..)?,
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(request)
    })
}

/// The attributes behind the first `from` bytes of a body: kinds, without their flags, and data.
pub fn attributes(body: &[u8], from: usize) -> impl Iterator<Item = (u16, &[u8])> {
    const KIND: u16 = 0x3fff;
    let mut rest = body.get(from.next_multiple_of(4)..).unwrap_or_default();
    core::iter::from_fn(move || {
        let length = usize::from(half(rest, 0)?);
        let data = rest.get(ATTRIBUTE..length)?;
        let kind = half(rest, 2)? & KIND;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, data))
    })
}

/// A message that is being made.
pub struct Message(Vec<u8>);

impl Message {
    /// Begins one with what comes before the attributes.
    pub fn new(kind: u16, flags: u16, to: Thread, first: &[u8]) -> Message {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(to.sequence.to_ne_bytes());
        bytes.extend(to.port.to_ne_bytes());
        bytes.extend(first);
        Message(bytes).padded()
    }

    fn padded(mut self) -> Message {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute.
    pub fn with(mut self, kind: u16, data: &[u8]) -> Message {
        self.0.extend(((ATTRIBUTE + data.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(data);
        self.padded()
    }

    /// Adds a number.
    pub fn with_word(self, kind: u16, value: u32) -> Message {
        self.with(kind, &value.to_ne_bytes())
    }

    /// Adds a text, which a zero byte ends.
    pub fn with_text(self, kind: u16, text: &str) -> Message {
        self.with(kind, &[text.as_bytes(), b"\0"].concat())
    }

    /// The bytes, with their length in the head.
    pub fn end(self) -> Vec<u8> {
        let mut bytes = self.0;
        let length = bytes.len() as u32;
        for (to, from) in bytes.iter_mut().zip(length.to_ne_bytes()) {
            *to = from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_comes_apart_again() {
        let to = Thread { sequence: 7, port: 9 };
        let mut bytes = Message::new(18, flag::REQUEST, to, &[1, 2, 3]).with_text(3, "lo").with_word(4, 5).end();
        bytes.extend(Message::new(22, 0, to, &[]).end());
        let found: Vec<_> = requests(&bytes).collect();
        assert_eq!(
            found.iter().map(|request| (request.kind, request.sequence)).collect::<Vec<_>>(),
            [(18, 7), (22, 7)]
        );
        let named: Vec<_> = attributes(found[0].body, 3).collect();
        assert_eq!(named, [(3, b"lo\0".as_slice()), (4, &5u32.to_ne_bytes())]);
    }

    #[test]
    fn lengths_that_cannot_be_end_the_reading() {
        let good = Message::new(18, 0, Thread::default(), &[0; 16]).end();
        for length in [0u32, 15, good.len() as u32 + 1, u32::MAX] {
            let mut bad = good.clone();
            bad[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(requests(&bad).count(), 0, "{length}");
        }
        assert_eq!(requests(&[]).count() + requests(&good[..15]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0], 0).count() + attributes(&[9, 0, 1, 0, 0], 0).count(), 0);
        assert_eq!(attributes(&[], 16).count(), 0);
    }
}
