//! Calls between threads, as the kernel makes them between processes: a message is checked and moved whole, the caller waits, the receiver
//! answers once. Leases are reached only while their caller waits.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use tessera_abi::{Delivery, Error, NEVER, Rights, Syscall, Tag};

use super::objects::{Thing, wait_for};
use super::table::{find, insert, remove, rights};
use super::{bytes, until};
use crate::raw::MessageOutcome;

type Words = [u64; 8];

/// Where calls are received.
pub struct Endpoint {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    callers: VecDeque<Arc<Caller>>,
    closed: VecDeque<u64>,
    gone: bool,
}

/// What all handles to an endpoint share: with the last of them the endpoint goes.
pub struct Receiver(Arc<Endpoint>);

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.gone = true;
        for caller in state.callers.drain(..) {
            caller.end(Err(Error::PeerGone));
        }
        self.0.changed.notify_all();
    }
}

impl Receiver {
    pub fn new() -> Arc<Receiver> {
        Arc::new(Receiver(Arc::new(Endpoint { state: Mutex::default(), changed: Condvar::new() })))
    }

    pub fn session(&self, badge: u64) -> Arc<Session> {
        Arc::new(Session { endpoint: self.0.clone(), badge })
    }

    /// The badge of a session of this endpoint.
    pub fn badge(&self, session: &Session) -> Result<u64, Error> {
        if Arc::ptr_eq(&self.0, &session.endpoint) { Ok(session.badge) } else { Err(Error::NoRight) }
    }
}

impl Endpoint {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all handles to a session share.
pub struct Session {
    endpoint: Arc<Endpoint>,
    badge: u64,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.endpoint.lock().closed.push_back(self.badge);
        self.endpoint.changed.notify_all();
    }
}

/// An answer on its way: tag, words, bytes.
type Answered = (Tag, Words, Vec<u8>);

/// A thread that calls.
struct Caller {
    badge: u64,
    tag: Tag,
    words: Words,
    bytes: Vec<u8>,
    /// `None` while it waits.
    result: Mutex<Option<Result<Answered, Error>>>,
    changed: Condvar,
}

impl Caller {
    fn result(&self) -> MutexGuard<'_, Option<Result<Answered, Error>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends its waiting, unless that is over; whether it waited.
    fn end(&self, result: Result<Answered, Error>) -> bool {
        let mut ended = self.result();
        let waited = ended.is_none();
        if waited {
            *ended = Some(result);
        }
        self.changed.notify_all();
        waited
    }
}

/// The call that a thread holds. Dropped unanswered, its caller is told.
struct Held(Arc<Caller>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.end(Err(Error::PeerGone));
    }
}

std::thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// Whether the handles of a message could be moved.
fn check_handles(tag: Tag, words: &Words) -> Result<(), Error> {
    for number in words.iter().skip(tag.leases() * 2).take(tag.handles()) {
        if !rights(*number)?.contains(Rights::TRANSFER) {
            return Err(Error::NoRight);
        }
    }
    Ok(())
}

/// Gives the handles of a message other numbers, those that the receiver has.
fn move_handles(tag: Tag, words: &mut Words) -> Result<(), Error> {
    check_handles(tag, words)?;
    for number in words.iter_mut().skip(tag.leases() * 2).take(tag.handles()) {
        let (thing, rights) = remove(*number as u32)?;
        *number = insert(thing, rights).into();
    }
    Ok(())
}

/// Clears what the other side does not get to see.
fn hide(tag: Tag, words: &mut Words) {
    for lease in words.chunks_exact_mut(2).take(tag.leases()) {
        lease[0] = 0;
    }
    if tag.has_buffer() {
        words[7] = 0;
    }
    if tag.has_deadline() {
        words[6] = 0;
    }
}

/// Puts bytes into a buffer that was offered.
///
/// # Safety
/// If the tag has a buffer, word 7 must be the address of one that is lent.
unsafe fn deliver(bytes: &[u8], offered: Tag, buffer: u64) -> Result<(), Error> {
    if bytes.is_empty() {
        return Ok(());
    }
    if !offered.has_buffer() {
        return Err(Error::PeerNoQuota);
    }
    // SAFETY: the caller vouches for the buffer, which has room for the most bytes that a message has.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer as *mut u8, bytes.len()) };
    Ok(())
}

fn outcome(delivery: Delivery, badge: u64, tag: Tag, words: Words) -> MessageOutcome {
    MessageOutcome { code: (delivery as u64) << 32, badge, tag: tag.0, words }
}

/// Answers a message call.
///
/// # Safety
/// The memory that the tag names must be lent to the call.
pub unsafe fn message_call(number: u64, first: u64, tag: u64, words: Words) -> MessageOutcome {
    let tag = Tag(tag);
    // SAFETY: passed on to the caller.
    let result = unsafe {
        match Syscall::from_number(number) {
            Some(Syscall::Call) => call(first, tag, words),
            Some(Syscall::Receive) => receive(first, tag, words[7]),
            Some(Syscall::Reply) => reply(tag, words).map(|()| outcome(Delivery::Call, 0, Tag(0), [0; 8])),
            Some(Syscall::ReplyAndReceive) => match reply(tag, words) {
                Ok(()) | Err(Error::BadState | Error::PeerGone) => receive(first, Tag(tag.0 & Tag::BUFFER), words[7]),
                Err(error) => Err(error),
            },
            _ => Err(Error::BadSyscall),
        }
    };
    result.unwrap_or_else(|error| MessageOutcome { code: error as u64, badge: 0, tag: 0, words: [0; 8] })
}

/// # Safety
/// As `message_call`.
unsafe fn call(session: u64, tag: Tag, words: Words) -> Result<MessageOutcome, Error> {
    let session = find(session, Rights::CALL)?;
    let session = session.session()?;
    if !tag.is_valid() {
        return Err(Error::BadArgument);
    }
    check_handles(tag, &words)?;
    let deadline = if tag.has_deadline() { words[6] } else { NEVER };
    // A call that is late already reaches nobody: a server must not get to answer it first.
    if until(deadline).is_some_and(|left| left.is_zero()) {
        return Err(Error::TimedOut);
    }
    // SAFETY: the bytes are lent to the call.
    let sent = unsafe { bytes(words[7], tag.bytes() as u64) }.to_vec();
    let (result, changed) = (Mutex::new(None), Condvar::new());
    let caller = Arc::new(Caller { badge: session.badge, tag, words, bytes: sent, result, changed });
    let mut state = session.endpoint.lock();
    if state.gone {
        return Err(Error::PeerGone);
    }
    state.callers.push_back(caller.clone());
    session.endpoint.changed.notify_all();
    drop(state);
    let answered = wait_for(&caller.result, &caller.changed, until(deadline), Option::take);
    // Out of time, unless the answer came this moment. Afterwards nobody reaches the leases any more.
    let answered = match answered {
        Ok(answered) => answered,
        Err(error) => {
            caller.end(Err(error));
            caller.result().take().unwrap_or(Err(error))
        }
    };
    // Whoever looks at the caller later finds that it waits no longer.
    *caller.result() = Some(Err(Error::PeerGone));
    let (answer, answer_words, answer_bytes) = answered?;
    // SAFETY: the buffer is lent to the call.
    unsafe { deliver(&answer_bytes, tag, words[7])? };
    Ok(outcome(Delivery::Call, 0, answer, answer_words))
}

/// # Safety
/// If the tag has a buffer, `buffer` must be the address of one that is lent.
unsafe fn receive(endpoint: u64, tag: Tag, buffer: u64) -> Result<MessageOutcome, Error> {
    let endpoint = find(endpoint, Rights::RECEIVE)?.receiver()?.0.clone();
    if tag.0 & !Tag::BUFFER != 0 {
        return Err(Error::BadArgument);
    }
    HELD.with_borrow_mut(|held| drop(held.take()));
    loop {
        let news = wait_for(&endpoint.state, &endpoint.changed, None, |state| {
            if state.gone {
                return Some(Err(Error::Gone));
            }
            let closed = state.closed.pop_front().map(|badge| Ok(Err(badge)));
            closed.or_else(|| state.callers.pop_front().map(|caller| Ok(Ok(caller))))
        })??;
        let caller = match news {
            Ok(caller) => caller,
            Err(badge) => return Ok(outcome(Delivery::Closed, badge, Tag(0), [0; 8])),
        };
        // Held while the message moves, so that the caller does not give up in between.
        let waiting = caller.result();
        if waiting.is_some() {
            continue;
        }
        let mut words = caller.words;
        // SAFETY: the buffer is lent to the call.
        let moved = unsafe { deliver(&caller.bytes, tag, buffer) }.and_then(|()| move_handles(caller.tag, &mut words));
        drop(waiting);
        if let Err(error) = moved {
            caller.end(Err(error));
            continue;
        }
        hide(caller.tag, &mut words);
        let (badge, shape) = (caller.badge, caller.tag);
        HELD.set(Some(Held(caller)));
        return Ok(outcome(Delivery::Call, badge, shape, words));
    }
}

/// # Safety
/// As `message_call`.
unsafe fn reply(tag: Tag, mut words: Words) -> Result<(), Error> {
    if !tag.is_valid() || tag.leases() != 0 || tag.has_deadline() {
        return Err(Error::BadArgument);
    }
    check_handles(tag, &words)?;
    let held = HELD.take().ok_or(Error::BadState)?;
    if held.0.result().is_some() {
        return Err(Error::PeerGone);
    }
    // SAFETY: the bytes are lent to the call.
    let sent = unsafe { bytes(words[7], tag.bytes() as u64) }.to_vec();
    move_handles(tag, &mut words)?;
    hide(tag, &mut words);
    held.0.end(Ok((tag, words, sent)));
    Ok(())
}

/// `lease_read`, `lease_write`: copies while the caller is made to wait.
///
/// # Safety
/// The range at `address` must be the calling thread's, to be written if `write` is not set.
pub unsafe fn lease(index: u64, offset: u64, address: u64, length: u64, write: bool) -> Result<(), Error> {
    HELD.with_borrow(|held| {
        let caller = &held.as_ref().ok_or(Error::BadState)?.0;
        let waiting = caller.result();
        if waiting.is_some() {
            return Err(Error::BadState);
        }
        let index = usize::try_from(index).map_err(|_| Error::NotFound)?;
        if index >= caller.tag.leases() {
            return Err(Error::NotFound);
        }
        if write && !caller.tag.lease_writable(index) {
            return Err(Error::NoRight);
        }
        let lease = caller.words.chunks_exact(2).nth(index).ok_or(Error::NotFound)?;
        let end = offset.checked_add(length).ok_or(Error::BadArgument)?;
        if end > lease[1] {
            return Err(Error::BadArgument);
        }
        let (theirs, length) = (lease[0] + offset, length as usize);
        // SAFETY: the lease is the caller's for as long as it waits, which the lock sees to; this thread's range its own caller vouches for.
        unsafe {
            if write {
                core::ptr::copy_nonoverlapping(address as *const u8, theirs as *mut u8, length);
            } else {
                core::ptr::copy_nonoverlapping(theirs as *const u8, address as *mut u8, length);
            }
        }
        Ok(())
    })
}

impl Thing {
    pub fn session(&self) -> Result<&Arc<Session>, Error> {
        if let Thing::Session(session) = self { Ok(session) } else { Err(Error::WrongKind) }
    }

    pub fn receiver(&self) -> Result<&Arc<Receiver>, Error> {
        if let Thing::Endpoint(receiver) = self { Ok(receiver) } else { Err(Error::WrongKind) }
    }
}
