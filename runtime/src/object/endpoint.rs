//! Endpoints: the serving side. A server receives once, then answers and receives in one call.

use tessera_abi::{Delivery, Error, Syscall, Tag};

use super::{Event, Pool, Session};
use crate::handle::{Object, Result, checked, create, error, object, request};
use crate::message::{Buffer, Handles, Message, close_handles};
use crate::raw::{self, MessageOutcome};

object! {
    /// Where calls are received.
    Endpoint
}

/// What was received. Handles that are not taken are closed when it is dropped.
#[derive(Debug)]
pub struct Received {
    /// What it is.
    pub delivery: Delivery,
    /// The session's badge, or the event's bits.
    pub badge: u64,
    /// The message's shape and label.
    pub tag: Tag,
    /// Its words: two for each lease, one for each handle, then plain ones.
    pub words: [u64; 8],
}

impl Drop for Received {
    #[inline(always)]
    fn drop(&mut self) {
        if self.tag.handles() != 0 {
            // A copy, so that only this rare case needs the words in memory.
            close_handles(self.tag, self.words);
        }
    }
}

impl Received {
    #[inline(always)]
    fn new(outcome: MessageOutcome) -> Result<Received> {
        let received =
            |delivery| Received { delivery, badge: outcome.badge, tag: Tag(outcome.tag), words: outcome.words };
        // The common case by itself, so that it goes straight on to what is done with a call.
        if outcome.code == 0 { Ok(received(Delivery::Call)) } else { Ok(received(Received::other(outcome.code)?)) }
    }

    /// What came that is not a call.
    #[cold]
    #[inline(never)]
    fn other(code: u64) -> Result<Delivery> {
        match code as u32 {
            0 => Delivery::from_code(code >> 32).ok_or(Error::BadState),
            refused => Err(error(refused)),
        }
    }

    /// The label: the method's number.
    #[inline(always)]
    pub fn label(&self) -> u32 {
        self.tag.label()
    }

    /// Takes the handles.
    pub fn take_handles(&mut self) -> Handles {
        let handles = Handles::new(self.tag, &self.words);
        self.tag = self.tag.with_handles(0);
        handles
    }

    /// Lease `index`, if the caller lent that many.
    #[inline(always)]
    pub fn lease(&self, index: usize) -> Option<Lease> {
        Lease::of(self.tag, &self.words, index)
    }
}

/// A range of the caller's memory, lent until the answer. Using it after the answer is refused, or reaches the lease of the
/// call that is held then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    index: u64,
    /// Bytes.
    pub length: u64,
    /// Whether it may be written.
    pub writable: bool,
}

impl Lease {
    /// Lease `index` of a message, if it has that many.
    #[inline(always)]
    pub(crate) fn of(tag: Tag, words: &[u64; 8], index: usize) -> Option<Lease> {
        if index >= tag.leases() {
            return None;
        }
        let length = *words.get(index * 2 + 1)?;
        Some(Lease { index: index as u64, length, writable: tag.lease_writable(index) })
    }

    /// Copies from `offset` of the lease into `to`.
    #[inline(always)]
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        let (address, length) = (to.as_mut_ptr() as u64, to.len() as u64);
        // SAFETY: the kernel writes into `to` only.
        checked(unsafe { raw::syscall_4(Syscall::LeaseRead as u64, self.index, offset, address, length) }).map(|_| ())
    }

    /// Copies `from` to `offset` of the lease.
    #[inline(always)]
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<()> {
        let (address, length) = (from.as_ptr() as u64, from.len() as u64);
        // SAFETY: the kernel reads from `from` only.
        checked(unsafe { raw::syscall_4(Syscall::LeaseWrite as u64, self.index, offset, address, length) }).map(|_| ())
    }
}

impl Endpoint {
    /// Makes an endpoint.
    pub fn create(pool: &Pool) -> Result<Endpoint> {
        create(Syscall::EndpointCreate, [pool.owned().number()])
    }

    /// Lets `receive` also deliver (and clear) bits of an event.
    pub fn bind(&self, event: &Event, bits: u64) -> Result<()> {
        request(Syscall::EndpointBind, [self.owned().number(), event.owned().number(), bits]).map(|_| ())
    }

    /// The badge of a session of this endpoint.
    pub fn badge(&self, session: &Session) -> Result<u64> {
        Ok(request(Syscall::SessionBadge, [self.owned().number(), session.owned().number()])?[0])
    }

    /// Waits for a call, a closed session or bits of the bound event. A message with bytes needs `receive_into`.
    #[inline(always)]
    pub fn receive(&self) -> Result<Received> {
        // SAFETY: without a buffer the kernel touches registers only.
        Received::new(unsafe { raw::receive(self.owned().number(), 0, 0) })
    }

    /// The same, with room for a message's bytes.
    pub fn receive_into(&self, buffer: &mut Buffer) -> Result<Received> {
        let tag = Tag::new(0).with_buffer();
        // SAFETY: the kernel writes into the buffer only, which is borrowed until the call is over.
        Received::new(unsafe { raw::receive(self.owned().number(), tag.0, buffer.as_mut_ptr() as u64) })
    }

    /// Answers the held call with plain words, then receives.
    #[inline(always)]
    pub fn reply_and_receive_words<const N: usize>(&self, label: u32, words: [u64; N]) -> Result<Received> {
        let number = Syscall::ReplyAndReceive as u64;
        // SAFETY: a plain tag makes the kernel touch registers only.
        Received::new(unsafe { raw::message(number, self.owned().number(), Tag::new(label).0, words) })
    }

    /// Answers the held call with a message, then receives; the message's buffer takes the next message's bytes.
    #[inline]
    pub fn reply_and_receive(&self, message: Message<'_>) -> Result<Received> {
        if message.has_handles() {
            return self.reply_with_handles(message);
        }
        let (tag, words) = message.assemble()?;
        // SAFETY: the memory that the tag names is borrowed by `message` until the call is over.
        let outcome = unsafe { raw::message(Syscall::ReplyAndReceive as u64, self.owned().number(), tag.0, words) };
        drop(message);
        Received::new(outcome)
    }

    /// Answers the held call with words and the first bytes of `buffer`, as the tag says, then receives into it. No handles.
    #[inline(always)]
    pub(crate) fn answer_and_receive(&self, tag: Tag, words: [u64; 7], buffer: &mut Buffer) -> MessageOutcome {
        let (tag, words) = with_buffer(tag.with_handles(0), words, buffer);
        // SAFETY: the tag names no memory but the buffer, which is borrowed until the call is over.
        unsafe { raw::message(Syscall::ReplyAndReceive as u64, self.owned().number(), tag.0, words) }
    }

    /// Receives into `buffer`, without a look at what came.
    #[inline(always)]
    pub(crate) fn receive_raw(&self, buffer: &mut Buffer) -> MessageOutcome {
        let tag = Tag::new(0).with_buffer();
        // SAFETY: the kernel writes into the buffer only, which is borrowed until the call is over.
        unsafe { raw::receive(self.owned().number(), tag.0, buffer.as_mut_ptr() as u64) }
    }

    /// Answers the held call with handles, words and the first bytes of `buffer`. When refused the handles stay.
    pub(crate) fn answer(&self, tag: Tag, words: [u64; 7], buffer: &mut Buffer) -> Result<()> {
        let (tag, words) = with_buffer(tag, words, buffer);
        // SAFETY: the tag names no memory but the buffer, which is borrowed until the call is over.
        let outcome = unsafe { raw::message(Syscall::Reply as u64, 0, tag.0, words) };
        if outcome.code as u32 != 0 { Err(error(outcome.code as u32)) } else { Ok(()) }
    }

    /// In two calls, as the one alone does not tell whether the handles went.
    fn reply_with_handles(&self, message: Message<'_>) -> Result<Received> {
        let buffer = message.buffer();
        match reply(message) {
            // The caller is gone: nothing to be done about it.
            Ok(()) | Err(Error::PeerGone | Error::BadState) => {}
            Err(error) => return Err(error),
        }
        if buffer == 0 {
            return self.receive();
        }
        // SAFETY: the buffer was borrowed by the message for the whole of this call.
        Received::new(unsafe { raw::receive(self.owned().number(), Tag::new(0).with_buffer().0, buffer) })
    }
}

/// An answer through `buffer`: a tag without leases or a deadline, the words below the buffer's address.
#[inline(always)]
fn with_buffer(tag: Tag, [a, b, c, d, e, f, g]: [u64; 7], buffer: &mut Buffer) -> (Tag, [u64; 8]) {
    (tag.with_buffer(), [a, b, c, d, e, f, g, buffer.as_mut_ptr() as u64])
}

/// Answers the call that the calling thread holds.
pub fn reply(message: Message<'_>) -> Result<()> {
    let (tag, words) = message.assemble()?;
    // SAFETY: the memory that the tag names is borrowed by `message` until the call is over.
    let outcome = unsafe { raw::message(Syscall::Reply as u64, 0, tag.0, words) };
    message.sent(outcome.code as u32 == 0);
    if outcome.code as u32 != 0 { Err(error(outcome.code as u32)) } else { Ok(()) }
}
