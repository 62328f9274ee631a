//! The serving side of one call: what arrived, checked as it is taken, and the answer that is put together.
//!
//! What arrived is the caller's claim. A shape other than the method's is refused before anything of it is used; leases are copied,
//! never more of each than the server's limit. A caller that breaks the rules gets an error and has changed nothing.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use tessera_abi::{Handle, Tag};

use super::{Fills, InterfaceError, Plain, REGISTERS, Sink, Source, Transfer, TransportError, decode, encoded};
use crate::handle::Owned;
use crate::message::{Buffer, close_handles};
use crate::object::{Lease, Session};
use crate::server::{Dispatch, Owner, Shared};

/// The call that a server thread carries out, one after the other in the same place.
pub struct Call<'a> {
    server: &'a Shared,
    /// What arrived.
    tag: Tag,
    arrived: [u64; 8],
    /// The answer.
    pub(crate) label: u32,
    pub(crate) words: [u64; REGISTERS],
    used: usize,
    bytes: usize,
    pub(crate) handles: [Option<Owned>; Tag::MAX_HANDLES],
    pub(crate) given: usize,
    /// Memory for leases, kept between calls: one piece for each that a call can have.
    scratch: [Vec<u8>; Tag::MAX_LEASES],
    /// Where bytes arrive, and leave from.
    pub(crate) buffer: Buffer,
}

impl<'a> Call<'a> {
    /// No call yet.
    pub(crate) fn new(server: &'a Shared) -> Call<'a> {
        Call {
            server,
            tag: Tag::new(0),
            arrived: [0; 8],
            label: 0,
            words: [0; REGISTERS],
            used: 0,
            bytes: 0,
            handles: [const { None }; Tag::MAX_HANDLES],
            given: 0,
            scratch: Default::default(),
            buffer: [0; Tag::MAX_BYTES],
        }
    }

    /// Takes a call that arrived, its bytes in the buffer. The answer is empty.
    #[inline(always)]
    pub(crate) fn begin(&mut self, tag: Tag, arrived: &[u64; 8]) {
        (self.tag, self.arrived) = (tag, *arrived);
        // Words beyond the answer's own tell nothing of what others were answered.
        self.words = [0; REGISTERS];
        (self.label, self.used, self.bytes) = (0, 0, 0);
    }

    /// The tag of the answer, but for its handles.
    #[inline(always)]
    pub(crate) fn end(&mut self) -> Tag {
        if self.tag.handles() != 0 {
            close_handles(self.tag, self.arrived);
        }
        Tag::new(self.label).with_bytes(self.bytes)
    }

    /// The method's number.
    #[inline(always)]
    pub fn method(&self) -> u32 {
        self.tag.label()
    }

    /// The arguments of a method with `L` slices, of which those in the mask are written, `H` handles and `W` words.
    #[inline(always)]
    pub fn arguments<const L: usize, const H: usize, const W: usize>(
        &mut self,
        written: u8,
    ) -> Result<Arguments<'a, H, W>, TransportError> {
        let tag = self.tag;
        let in_registers = const { 2 * L + H + W <= REGISTERS };
        let bytes = if in_registers { 0 } else { W * 8 };
        let may_write = (0..L).all(|index| written >> index & 1 == 0 || tag.lease_writable(index));
        if tag.leases() != L || tag.handles() != H || tag.bytes() != bytes || !may_write {
            return Err(TransportError::Malformed);
        }
        let mut words = self.arrived.iter().skip(2 * L);
        let handles = core::array::from_fn(|_| words.next().map(|number| Owned::new(Handle(*number as u32))));
        // From here on they are the arguments' to close.
        self.tag = tag.with_handles(0);
        let mut plain = [0; W];
        if in_registers {
            for (to, from) in plain.iter_mut().zip(words) {
                *to = *from;
            }
        } else {
            for (to, from) in plain.iter_mut().zip(self.buffer.chunks_exact(8)) {
                *to = from.try_into().map(u64::from_le_bytes).unwrap_or(0);
            }
        }
        Ok(Arguments { handles, plain, taken: (0, 0), server: self.server })
    }

    /// The lease that the caller claims to have lent.
    fn lease(&self, index: usize) -> Result<Lease, TransportError> {
        Lease::of(self.tag, &self.arrived, index).ok_or(TransportError::Malformed)
    }

    /// Memory for lease `index`, of its length: what it holds is not said.
    fn borrow(&mut self, index: usize) -> Result<Borrowed, TransportError> {
        let lease = self.lease(index)?;
        let length = usize::try_from(lease.length).ok().filter(|length| *length <= self.server.longest_slice());
        let length = length.ok_or(TransportError::LimitReached)?;
        let mut memory = self.scratch.get_mut(index).map(core::mem::take).unwrap_or_default();
        if let Some(more) = length.checked_sub(memory.len()) {
            memory.try_reserve_exact(more).map_err(|_| TransportError::LimitReached)?;
            memory.resize(length, 0);
        }
        Ok(Borrowed { memory, length })
    }

    /// The bytes of lease `index`.
    pub fn read(&mut self, index: usize) -> Result<Borrowed, TransportError> {
        let mut borrowed = self.borrow(index)?;
        let lease = self.lease(index)?;
        if borrowed.length > 0 {
            lease.read(0, &mut borrowed).map_err(|_| TransportError::Malformed)?;
        }
        Ok(borrowed)
    }

    /// As many zeros as lease `index` is long.
    pub fn zeros(&mut self, index: usize) -> Result<Borrowed, TransportError> {
        let mut borrowed = self.borrow(index)?;
        borrowed.fill(0);
        Ok(borrowed)
    }

    /// The elements in lease `index`.
    pub fn elements<T: Plain>(&mut self, index: usize) -> Result<Vec<T>, TransportError> {
        let borrowed = self.read(index)?;
        let elements = decode(&borrowed).ok_or(TransportError::Malformed);
        self.keep(index, borrowed);
        elements
    }

    /// Keeps memory for the next call.
    #[inline]
    pub fn keep(&mut self, index: usize, borrowed: Borrowed) {
        if let Some(to) = self.scratch.get_mut(index) {
            *to = borrowed.memory;
        }
    }

    /// Copies the first `length` bytes back into lease `index`.
    pub fn give_back(&mut self, index: usize, borrowed: &Borrowed, length: u64) -> Result<(), TransportError> {
        let length = usize::try_from(length).map_err(|_| TransportError::Malformed)?;
        self.copy_out(index, borrowed.get(..length).ok_or(TransportError::Malformed)?)
    }

    fn copy_out(&mut self, index: usize, bytes: &[u8]) -> Result<(), TransportError> {
        let lease = self.lease(index)?;
        if bytes.is_empty() {
            return Ok(());
        }
        lease.write(0, bytes).map_err(|_| TransportError::Malformed)
    }

    /// Copies elements back into lease `index`.
    pub fn give_back_elements<T: Plain>(&mut self, index: usize, elements: &[T]) -> Result<(), TransportError> {
        self.copy_out(index, &encoded(elements))
    }

    /// How long lease `index` is.
    pub fn length(&self, index: usize) -> u64 {
        self.lease(index).map_or(0, |lease| lease.length)
    }

    /// Leaves the answer.
    #[inline(always)]
    pub fn answer<T: Transfer, E: InterfaceError>(&mut self, result: Result<T, E>) -> Result<(), TransportError> {
        match result {
            Ok(value) if T::HANDLES + T::WORDS <= REGISTERS => value.put(&mut InRegisters(self)),
            Ok(value) => value.put(&mut InBuffer(self)),
            Err(error) => {
                self.label = error.code();
                Ok(())
            }
        }
    }

    /// Leaves bytes as the answer: they go into lease `index`, which the caller lent for them, and must not be more than `bound`.
    pub fn answer_bytes<E: InterfaceError>(
        &mut self,
        index: usize,
        bound: usize,
        result: Result<Vec<u8>, E>,
    ) -> Result<(), TransportError> {
        match result {
            Ok(bytes) if bytes.len() > bound => Err(TransportError::Malformed),
            Ok(bytes) => {
                self.copy_out(index, &bytes)?;
                self.answer(Ok::<u64, E>(bytes.len() as u64))
            }
            Err(error) => self.answer(Err::<(), E>(error)),
        }
    }

    /// Leaves text as the answer, likewise.
    pub fn answer_text<E: InterfaceError>(
        &mut self,
        index: usize,
        bound: usize,
        result: Result<String, E>,
    ) -> Result<(), TransportError> {
        self.answer_bytes(index, bound, result.map(String::into_bytes))
    }

    /// Replaces whatever was left by an error.
    #[cold]
    pub(crate) fn fail(&mut self, error: TransportError) {
        self.label = error.code();
        self.words = [0; REGISTERS];
        (self.used, self.bytes, self.given) = (0, 0, 0);
        self.handles = [const { None }; Tag::MAX_HANDLES];
    }

    fn give(&mut self, handle: Owned) {
        if let Some(to) = self.handles.get_mut(self.given) {
            *to = Some(handle);
        }
        self.given += 1;
    }
}

/// The length of a slice that a method filled: all of it unless it says otherwise.
#[inline]
pub fn filled_of<T: Fills, E>(result: &Result<T, E>) -> u64 {
    result.as_ref().map_or(0, Fills::filled)
}

/// A lease's copy.
pub struct Borrowed {
    memory: Vec<u8>,
    length: usize,
}

impl Borrowed {
    /// The bytes as text.
    pub fn text(&self) -> Result<&str, TransportError> {
        core::str::from_utf8(self).map_err(|_| TransportError::Malformed)
    }
}

impl Deref for Borrowed {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.memory.get(..self.length).unwrap_or(&[])
    }
}

impl DerefMut for Borrowed {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(..self.length).unwrap_or(&mut [])
    }
}

/// The handles and words of a call. Handles that are not taken are closed.
pub struct Arguments<'a, const H: usize, const W: usize> {
    handles: [Option<Owned>; H],
    plain: [u64; W],
    taken: (usize, usize),
    server: &'a Shared,
}

impl<const H: usize, const W: usize> Source for Arguments<'_, H, W> {
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
        self.server.owner(session)
    }
}

/// An answer whose words travel in registers.
struct InRegisters<'b, 'a>(&'b mut Call<'a>);

impl Sink for InRegisters<'_, '_> {
    #[inline(always)]
    fn word(&mut self, word: u64) {
        if let Some(to) = self.0.words.get_mut(self.0.used) {
            *to = word;
        }
        self.0.used += 1;
    }

    #[inline(always)]
    fn handle(&mut self, handle: Owned) {
        self.0.give(handle);
    }

    fn export(&mut self, object: Arc<dyn Dispatch>) -> Result<Session, TransportError> {
        self.0.server.export(object)
    }
}

/// An answer whose words travel through the buffer.
struct InBuffer<'b, 'a>(&'b mut Call<'a>);

impl Sink for InBuffer<'_, '_> {
    #[inline]
    fn word(&mut self, word: u64) {
        let end = self.0.bytes + 8;
        if let Some(to) = self.0.buffer.get_mut(self.0.bytes..end) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.0.bytes = end;
    }

    #[inline]
    fn handle(&mut self, handle: Owned) {
        self.0.give(handle);
    }

    fn export(&mut self, object: Arc<dyn Dispatch>) -> Result<Session, TransportError> {
        self.0.server.export(object)
    }
}
