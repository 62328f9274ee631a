//! The calling side: a session, the request that a proxy puts together, and the answer that it takes apart.
//!
//! What the server answers is an allegation: its shape is checked here, its values where they are taken.

use alloc::sync::Arc;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use tessera_abi::{Error, Handle, NEVER, Syscall, Tag};

use super::{Fills, InterfaceError, MAX_SLICE, MAX_WORDS, REGISTERS, Sink, Source, TransportError};
use crate::handle::{Object, Owned};
use crate::message::close_handles;
use crate::object::Session;
use crate::own;
use crate::raw::{self, MessageOutcome};
use crate::server::{self, Dispatch, Owner};

/// How long calls may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// As long as they do.
    None,
    /// Until this time, in nanoseconds since boot.
    Until(u64),
    /// This many nanoseconds each.
    Within(u64),
}

/// What a proxy holds: the session of its object.
#[derive(Debug)]
pub struct Remote {
    session: Session,
    limit: Limit,
}

impl Remote {
    /// The object behind a session.
    pub fn new(session: Session) -> Remote {
        Remote { session, limit: Limit::None }
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The same object with another limit.
    pub fn limited(&self, limit: Limit) -> Result<Remote, TransportError> {
        let session = self.session.try_clone().map_err(TransportError::from_refusal)?;
        Ok(Remote { session, limit })
    }

    /// Calls, and answers the answer of a method whose answer takes `AH` handles and `AW` words.
    #[inline(always)]
    pub fn call<E, const L: usize, const H: usize, const W: usize, const AH: usize, const AW: usize>(
        &self,
        request: Request<'_, L, H, W>,
    ) -> Result<Incoming<AH, AW>, E>
    where
        E: InterfaceError,
    {
        const {
            assert!(L <= Tag::MAX_LEASES, "a method takes at most three slices (an answer with a bound counts as one)");
            assert!(H <= Tag::MAX_HANDLES && AH <= Tag::MAX_HANDLES, "at most four handles travel one way");
            assert!(2 * L + H <= REGISTERS, "slices count two, kernel objects and capabilities one: six at most");
            assert!(W <= MAX_WORDS && AW <= MAX_WORDS, "arguments, and the answer, take at most 1024 bytes");
        }
        let plain = const { 2 * L + H + W <= REGISTERS && AH + AW <= REGISTERS };
        let mut buffer = MaybeUninit::uninit();
        let outcome = if plain && self.limit == Limit::None {
            let words = request.words::<true>();
            let tag = request.tag(Tag::new(request.method));
            // SAFETY: the leases are borrowed by the request, which lives until the call is over; there is no buffer.
            unsafe { raw::message(Syscall::Call as u64, self.session.owned().number(), tag.0, words) }
        } else {
            self.call_slowly(&request, &mut buffer)?
        };
        if outcome.code as u32 != 0 {
            return Err(refused(outcome.code).into());
        }
        request.sent();
        let tag = Tag(outcome.tag);
        if tag.label() != 0 {
            if tag.handles() != 0 {
                close_handles(tag, outcome.words);
            }
            return Err(E::from_code(tag.label()));
        }
        Ok(Incoming::new(tag, &outcome.words, &buffer)?)
    }

    /// With a deadline, or through the buffer.
    #[inline(never)]
    fn call_slowly<const L: usize, const H: usize, const W: usize>(
        &self,
        request: &Request<'_, L, H, W>,
        buffer: &mut MaybeUninit<Words>,
    ) -> Result<MessageOutcome, TransportError> {
        let mut tag = request.tag(Tag::new(request.method)).with_buffer();
        let mut words = if const { 2 * L + H + W <= REGISTERS } {
            request.words::<true>()
        } else {
            tag = tag.with_bytes(W * 8);
            let first: *mut u64 = buffer.as_mut_ptr().cast();
            // SAFETY: the buffer has room for `MAX_WORDS` words, and `W` is no more.
            unsafe { core::ptr::copy_nonoverlapping(request.plain.as_ptr(), first, W) };
            request.words::<false>()
        };
        let deadline = match self.limit {
            Limit::None => NEVER,
            Limit::Until(deadline) => deadline,
            Limit::Within(time) => own::clock().now().map_err(TransportError::from_refusal)?.saturating_add(time),
        };
        if deadline != NEVER {
            tag = tag.with_deadline();
            words[6] = deadline;
        }
        words[7] = buffer.as_mut_ptr() as u64;
        // SAFETY: the leases are borrowed by the request, the buffer by this function, until the call is over. Bytes that are
        // sent were written just now; the kernel writes no more into it than it has room for.
        Ok(unsafe { raw::message(Syscall::Call as u64, self.session.owned().number(), tag.0, words) })
    }
}

type Words = [u64; MAX_WORDS];

#[cold]
fn refused(code: u64) -> TransportError {
    TransportError::from_refusal(crate::handle::error(code as u32))
}

/// A call being put together: `L` slices, `H` handles, `W` words.
pub struct Request<'a, const L: usize, const H: usize, const W: usize> {
    method: u32,
    leases: [(u64, u64); L],
    lent: usize,
    writable: u8,
    handles: [Owned; H],
    given: usize,
    plain: [u64; W],
    put: usize,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a, const L: usize, const H: usize, const W: usize> Request<'a, L, H, W> {
    /// An empty call of a method.
    #[inline(always)]
    pub fn new(method: u32) -> Self {
        Request {
            method,
            leases: [(0, 0); L],
            lent: 0,
            writable: 0,
            handles: [const { Owned::new(Handle::NONE) }; H],
            given: 0,
            plain: [0; W],
            put: 0,
            memory: PhantomData,
        }
    }

    #[inline(always)]
    fn lease(&mut self, address: u64, length: usize, writable: bool) -> Result<(), TransportError> {
        if length > MAX_SLICE {
            return Err(TransportError::LimitReached);
        }
        if let Some(to) = self.leases.get_mut(self.lent) {
            *to = (address, length as u64);
        }
        self.writable |= u8::from(writable) << self.lent;
        self.lent += 1;
        Ok(())
    }

    /// Lends a slice to be read.
    #[inline(always)]
    pub fn read(&mut self, memory: &'a [u8]) -> Result<(), TransportError> {
        self.lease(memory.as_ptr() as u64, memory.len(), false)
    }

    /// Lends a slice to be filled.
    #[inline(always)]
    pub fn write(&mut self, memory: &'a mut [u8]) -> Result<(), TransportError> {
        self.lease(memory.as_mut_ptr() as u64, memory.len(), true)
    }

    #[inline(always)]
    fn tag(&self, mut tag: Tag) -> Tag {
        for index in 0..L {
            tag = tag.with_lease(self.writable >> index & 1 == 1);
        }
        if H > 0 { tag.with_handles(H) } else { tag }
    }

    /// The words of leases and handles, and with `PLAIN` the plain ones.
    #[inline(always)]
    fn words<const PLAIN: bool>(&self) -> [u64; 8] {
        let mut words = [0; 8];
        let leases = self.leases.iter().flat_map(|(address, length)| [*address, *length]);
        let plain = self.plain.iter().copied().take(if PLAIN { W } else { 0 });
        for (to, from) in words.iter_mut().zip(leases.chain(self.handles.iter().map(Owned::number)).chain(plain)) {
            *to = from;
        }
        words
    }

    /// After the call: the handles are the server's.
    #[inline(always)]
    fn sent(self) {
        let _ = self.handles.map(Owned::into_handle);
    }
}

impl<const L: usize, const H: usize, const W: usize> Sink for Request<'_, L, H, W> {
    #[inline(always)]
    fn word(&mut self, word: u64) {
        if let Some(to) = self.plain.get_mut(self.put) {
            *to = word;
        }
        self.put += 1;
    }

    #[inline(always)]
    fn handle(&mut self, handle: Owned) {
        if let Some(to) = self.handles.get_mut(self.given) {
            *to = handle;
        }
        self.given += 1;
    }

    fn export(&mut self, object: Arc<dyn Dispatch>) -> Result<Session, TransportError> {
        server::current().ok_or(TransportError::NotServed)?.export(object)
    }
}

/// An answer of `H` handles and `W` words.
pub struct Incoming<const H: usize, const W: usize> {
    handles: [Option<Owned>; H],
    plain: [u64; W],
    taken: (usize, usize),
}

impl<const H: usize, const W: usize> Incoming<H, W> {
    #[inline(always)]
    fn new(tag: Tag, words: &[u64; 8], buffer: &MaybeUninit<Words>) -> Result<Self, TransportError> {
        let in_registers = const { H + W <= REGISTERS };
        let bytes = if in_registers { 0 } else { W * 8 };
        if tag.handles() != H || tag.bytes() != bytes {
            if tag.handles() != 0 {
                close_handles(tag, *words);
            }
            return Err(TransportError::Malformed);
        }
        let mut numbers = words.iter();
        let handles = core::array::from_fn(|_| numbers.next().map(|number| Owned::new(Handle(*number as u32))));
        let mut plain = [0; W];
        if in_registers {
            for (to, from) in plain.iter_mut().zip(numbers) {
                *to = *from;
            }
        } else {
            // SAFETY: the kernel said that it put `W` words there.
            unsafe { core::ptr::copy_nonoverlapping(buffer.as_ptr().cast(), plain.as_mut_ptr(), W) };
        }
        Ok(Incoming { handles, plain, taken: (0, 0) })
    }
}

impl<const H: usize, const W: usize> Source for Incoming<H, W> {
    #[inline(always)]
    fn word(&mut self) -> Option<u64> {
        self.taken.1 += 1;
        self.plain.get(self.taken.1 - 1).copied()
    }

    #[inline(always)]
    fn handle(&mut self) -> Option<Owned> {
        self.taken.0 += 1;
        self.handles.get_mut(self.taken.0 - 1).and_then(Option::take)
    }

    fn owner(&mut self, session: &Session) -> Result<Owner, TransportError> {
        match server::current() {
            Some(server) => server.owner(session),
            None => server::checked_session(session),
        }
    }
}

/// Whether a server says of a slice that it filled no more than there is.
pub fn filled<T: Fills>(answer: T, length: usize) -> Result<T, TransportError> {
    if answer.filled() <= length as u64 { Ok(answer) } else { Err(TransportError::Malformed) }
}

/// The bytes of an answer with a bound: `length` is what the server says.
pub fn bytes(mut memory: alloc::vec::Vec<u8>, length: u64) -> Result<alloc::vec::Vec<u8>, TransportError> {
    match usize::try_from(length) {
        Ok(length) if length <= memory.len() => {
            memory.truncate(length);
            Ok(memory)
        }
        _ => Err(TransportError::Malformed),
    }
}

/// The same, as text.
pub fn text(memory: alloc::vec::Vec<u8>, length: u64) -> Result<alloc::string::String, TransportError> {
    alloc::string::String::from_utf8(bytes(memory, length)?).map_err(|_| TransportError::Malformed)
}

/// Why a handle could not be used here.
impl From<Error> for TransportError {
    fn from(error: Error) -> TransportError {
        TransportError::from_refusal(error)
    }
}
