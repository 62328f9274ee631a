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
    leases: [(u64, u64); Tag::MAX_LEASES],
    handles: [Owned; Tag::MAX_HANDLES],
    words: [u64; 8],
    word_count: usize,
    buffer: u64,
    deadline: u64,
    fits: bool,
    lent: PhantomData<&'a mut [u8]>,
}

impl<'a> Message<'a> {
    /// An empty message under a label.
    #[inline]
    pub fn new(label: u32) -> Message<'a> {
        Message {
            tag: Tag::new(label),
            leases: [(0, 0); Tag::MAX_LEASES],
            handles: [const { Owned::new(Handle::NONE) }; Tag::MAX_HANDLES],
            words: [0; 8],
            word_count: 0,
            buffer: 0,
            deadline: 0,
            fits: true,
            lent: PhantomData,
        }
    }

    /// Adds a word.
    #[inline]
    pub fn word(mut self, word: u64) -> Self {
        match self.words.get_mut(self.word_count) {
            Some(to) => *to = word,
            None => self.fits = false,
        }
        self.word_count += 1;
        self
    }

    /// Adds a handle, which goes to the receiver.
    pub fn handle(mut self, object: impl Object) -> Self {
        let count = self.tag.handles();
        match self.handles.get_mut(count) {
            Some(to) => *to = object.into_owned(),
            None => self.fits = false,
        }
        self.tag = self.tag.with_handles(count + 1);
        self
    }

    /// Lends memory for reading.
    pub fn read(self, memory: &'a [u8]) -> Self {
        self.lease(memory.as_ptr() as u64, memory.len(), false)
    }

    /// Lends memory for reading and writing.
    pub fn write(self, memory: &'a mut [u8]) -> Self {
        self.lease(memory.as_mut_ptr() as u64, memory.len(), true)
    }

    fn lease(mut self, address: u64, length: usize, writable: bool) -> Self {
        match self.leases.get_mut(self.tag.leases()) {
            Some(to) => {
                *to = (address, length as u64);
                self.tag = self.tag.with_lease(writable);
            }
            None => self.fits = false,
        }
        self
    }

    /// Sends the first `count` bytes of `buffer`, and takes the answer's (or next message's) bytes there.
    #[inline]
    pub fn bytes(mut self, buffer: &'a mut Buffer, count: usize) -> Self {
        self.fits &= count <= Tag::MAX_BYTES;
        self.tag = self.tag.with_bytes(count);
        self.buffer = buffer.as_mut_ptr() as u64;
        self
    }

    /// Gives up at this time (nanoseconds since boot).
    pub fn deadline(mut self, deadline: u64) -> Self {
        self.tag = self.tag.with_deadline();
        self.deadline = deadline;
        self
    }

    /// The registers of the message.
    #[inline]
    pub(crate) fn assemble(&self) -> Result<(Tag, [u64; 8])> {
        let first = self.tag.leases() * 2 + self.tag.handles();
        let top = if self.tag.has_deadline() {
            6
        } else if self.tag.has_buffer() {
            7
        } else {
            8
        };
        if !self.fits || !self.tag.is_valid() || first + self.word_count > top {
            return Err(Error::BadArgument);
        }
        let leases = self.leases.iter().take(self.tag.leases()).flat_map(|(address, length)| [*address, *length]);
        let handles = self.handles.iter().take(self.tag.handles()).map(Owned::number);
        let mut words = [0; 8];
        for (to, from) in
            words.iter_mut().zip(leases.chain(handles).chain(self.words.iter().take(self.word_count).copied()))
        {
            *to = from;
        }
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
    pub(crate) fn sent(self, went: bool) {
        if went {
            let _ = self.handles.map(Owned::into_handle);
        }
    }

    /// Whether handles go along.
    pub(crate) fn has_handles(&self) -> bool {
        self.tag.handles() != 0
    }

    /// Where bytes are put.
    pub(crate) fn buffer(&self) -> u64 {
        self.buffer
    }
}

/// Handles that came with a message.
#[derive(Debug, Default)]
pub struct Handles([Option<Owned>; Tag::MAX_HANDLES]);

impl Handles {
    pub(crate) fn new(tag: Tag, words: &[u64; 8]) -> Handles {
        let mut handles = Handles::default();
        let numbers = words.iter().skip(tag.leases() * 2).take(tag.handles());
        for (to, from) in handles.0.iter_mut().zip(numbers) {
            *to = Some(Owned::new(Handle(*from as u32)));
        }
        handles
    }

    /// Takes handle `index` as an object of the kind that the protocol says.
    pub fn take<T: Object>(&mut self, index: usize) -> Result<T> {
        self.0.get_mut(index).and_then(Option::take).map(T::from_owned).ok_or(Error::NotFound)
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
    pub fn word(&self, index: usize) -> u64 {
        self.words.get(self.first + index).copied().unwrap_or(0)
    }
}
