//! Messages of any shape: words, bytes, handles, leases, a deadline. Plain words have shorter ways in `Session` and `Endpoint`.

use core::marker::PhantomData;

use tessera_abi::{Error, Handle, Tag};

use crate::handle::{Object, Owned, Result};

/// Where a message's bytes are put, and sent from.
pub type Buffer = [u8; Tag::MAX_BYTES];

/// A message being put together. What it lends stays borrowed until the call is over.
#[derive(Debug)]
pub struct Message<'a> {
    tag: Tag,
    /// Leases, handles and plain words, each where it crosses.
    words: [u64; 8],
    /// How many of them are taken.
    taken: usize,
    /// The handles, to be closed if they do not go.
    handles: [Owned; Tag::MAX_HANDLES],
    buffer: u64,
    deadline: u64,
    fits: bool,
    lent: PhantomData<&'a mut [u8]>,
}

impl<'a> Message<'a> {
    /// An empty message under a label.
    #[inline(always)]
    pub fn new(label: u32) -> Message<'a> {
        Message {
            tag: Tag::new(label),
            words: [0; 8],
            taken: 0,
            handles: [const { Owned::new(Handle::NONE) }; Tag::MAX_HANDLES],
            buffer: 0,
            deadline: 0,
            fits: true,
            lent: PhantomData,
        }
    }

    /// Puts a word before those from `place` on.
    #[inline(always)]
    fn insert(&mut self, place: usize, word: u64) {
        if place != self.taken {
            self.make_room(place);
        }
        match self.words.get_mut(place) {
            Some(to) => *to = word,
            None => self.fits = false,
        }
        self.taken += 1;
    }

    /// For messages that were not put together in the order in which they cross.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, place: usize) {
        self.fits &= self.taken < self.words.len();
        if self.fits {
            self.words.copy_within(place..self.taken, place + 1);
        }
    }

    /// Adds a word.
    #[inline(always)]
    pub fn word(mut self, word: u64) -> Self {
        self.insert(self.taken, word);
        self
    }

    /// Adds a handle, which goes to the receiver.
    #[inline]
    pub fn handle(mut self, object: impl Object) -> Self {
        let count = self.tag.handles();
        let owned = object.into_owned();
        self.insert(self.tag.leases() * 2 + count, owned.number());
        match self.handles.get_mut(count) {
            Some(to) => *to = owned,
            None => self.fits = false,
        }
        self.tag = self.tag.with_handles(count + 1);
        self
    }

    /// Lends memory for reading.
    #[inline(always)]
    pub fn read(self, memory: &'a [u8]) -> Self {
        self.lease(memory.as_ptr() as u64, memory.len(), false)
    }

    /// Lends memory for reading and writing.
    #[inline(always)]
    pub fn write(self, memory: &'a mut [u8]) -> Self {
        self.lease(memory.as_mut_ptr() as u64, memory.len(), true)
    }

    #[inline(always)]
    fn lease(mut self, address: u64, length: usize, writable: bool) -> Self {
        let count = self.tag.leases();
        self.fits &= count < Tag::MAX_LEASES;
        if self.fits {
            self.insert(count * 2, address);
            self.insert(count * 2 + 1, length as u64);
            self.tag = self.tag.with_lease(writable);
        }
        self
    }

    /// Sends the first `count` bytes of `buffer`, and takes the answer's (or next message's) bytes there.
    #[inline(always)]
    pub fn bytes(mut self, buffer: &'a mut Buffer, count: usize) -> Self {
        self.fits &= count <= Tag::MAX_BYTES;
        self.tag = self.tag.with_bytes(count);
        self.buffer = buffer.as_mut_ptr() as u64;
        self
    }

    /// Gives up at this time (nanoseconds since boot).
    #[inline(always)]
    pub fn deadline(mut self, deadline: u64) -> Self {
        self.tag = self.tag.with_deadline();
        self.deadline = deadline;
        self
    }

    /// The registers of the message.
    #[inline(always)]
    pub(crate) fn assemble(&self) -> Result<(Tag, [u64; 8])> {
        let top = if self.tag.has_deadline() {
            6
        } else if self.tag.has_buffer() {
            7
        } else {
            8
        };
        if !self.fits || self.taken > top {
            return Err(Error::BadArgument);
        }
        let mut words = self.words;
        if self.tag.has_deadline() {
            words[6] = self.deadline;
        }
        if self.tag.has_buffer() {
            words[7] = self.buffer;
        }
        Ok((self.tag, words))
    }

    /// After the call: handles that went are not this side's any more; those of a refused call are closed with the message.
    ///
    /// A call that failed on its way may have delivered them: then their numbers name nothing here, unless the receiver is in
    /// this very process.
    #[inline(always)]
    pub(crate) fn sent(self, went: bool) {
        if went {
            let _ = self.handles.map(Owned::into_handle);
        }
    }

    /// Whether handles go along.
    #[inline(always)]
    pub(crate) fn has_handles(&self) -> bool {
        self.tag.handles() != 0
    }

    /// Where bytes are put.
    pub(crate) fn buffer(&self) -> u64 {
        self.buffer
    }
}

/// Handles that came with a message.
#[derive(Debug)]
pub struct Handles([Owned; Tag::MAX_HANDLES]);

impl Default for Handles {
    #[inline(always)]
    fn default() -> Handles {
        Handles([const { Owned::new(Handle::NONE) }; Tag::MAX_HANDLES])
    }
}

impl Handles {
    #[inline(always)]
    pub(crate) fn new(tag: Tag, words: &[u64; 8]) -> Handles {
        let mut handles = Handles::default();
        if tag.handles() != 0 {
            handles.fill(tag, *words);
        }
        handles
    }

    #[cold]
    #[inline(never)]
    fn fill(&mut self, tag: Tag, words: [u64; 8]) {
        let numbers = words.iter().skip(tag.leases() * 2).take(tag.handles());
        for (to, from) in self.0.iter_mut().zip(numbers) {
            *to = Owned::new(Handle(*from as u32));
        }
    }

    /// Takes handle `index` as an object of the kind that the protocol says.
    pub fn take<T: Object>(&mut self, index: usize) -> Result<T> {
        let owned = self.0.get_mut(index).map(|place| core::mem::replace(place, Owned::new(Handle::NONE)));
        owned.filter(|owned| owned.number() != 0).map(T::from_owned).ok_or(Error::NotFound)
    }
}

/// Closes the handles of a message that was not meant to bring any.
#[cold]
#[inline(never)]
pub(crate) fn close_handles(tag: Tag, words: [u64; 8]) {
    drop(Handles::new(tag, &words));
}

/// The answer to a call.
#[derive(Debug)]
pub struct Answer {
    /// The answer's label.
    pub label: u32,
    /// Bytes that were put into the call's buffer.
    pub bytes: usize,
    /// Handles that came along.
    pub handles: Handles,
    words: [u64; 8],
    first: usize,
}

impl Answer {
    #[inline(always)]
    pub(crate) fn new(tag: Tag, words: [u64; 8]) -> Answer {
        Answer {
            label: tag.label(),
            bytes: tag.bytes(),
            handles: Handles::new(tag, &words),
            words,
            first: tag.leases() * 2 + tag.handles(),
        }
    }

    /// Plain word `index`.
    #[inline]
    pub fn word(&self, index: usize) -> u64 {
        self.words.get(self.first + index).copied().unwrap_or(0)
    }
}
