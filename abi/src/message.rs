//! The shape of a call.
//!
//! A message is eight words in registers (`rdx r10 r8 r9 r12 r13 r14 r15`) described by a [`Tag`], and optionally up to
//! [`Tag::MAX_BYTES`] bytes of memory that the kernel copies. From word 0 upward stand first the leases (two words each: address, length),
//! then the handles (one word each), then plain words. From the top downward: with bytes, word 7 holds the address of
//! the byte buffer; with a deadline, word 6 holds it (nanoseconds since boot).
//!
//! The receiver sees a lease's length in its second word and zero for its address, and its own handle numbers.

/// Words of a message that travel in registers.
pub const WORDS: usize = 8;

/// What a message carries: label (bits 0..32), bytes (32..43), handles (43..46), leases (46..48), lease write rights (48..51), flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Tag(pub u64);

impl Tag {
    /// Most bytes that one message copies in one direction.
    pub const MAX_BYTES: usize = 1024;
    /// Most handles in one message.
    pub const MAX_HANDLES: usize = 4;
    /// Most leases in one call.
    pub const MAX_LEASES: usize = 3;
    /// Word 6 holds a deadline.
    pub const DEADLINE: u64 = 1 << 51;
    /// Word 7 holds the address of a buffer of [`Tag::MAX_BYTES`] bytes in which incoming bytes are put. In `call` the same buffer holds the outgoing bytes.
    pub const BUFFER: u64 = 1 << 52;
    /// Everything that a plain register message does not have.
    pub const COMPLEX: u64 = !(u32::MAX as u64);
    const DEFINED: u64 = (1 << 53) - 1;

    /// A message of plain words under a label (the method's number).
    pub const fn new(label: u32) -> Tag {
        Tag(label as u64)
    }

    /// The same, with `count` bytes in the buffer.
    pub const fn with_bytes(self, count: usize) -> Tag {
        Tag(self.0 & !(0x7ff << 32) | ((count as u64 & 0x7ff) << 32) | Tag::BUFFER)
    }

    /// The same, with a buffer for the answer's bytes.
    pub const fn with_buffer(self) -> Tag {
        Tag(self.0 | Tag::BUFFER)
    }

    /// The same, with `count` handles.
    pub const fn with_handles(self, count: usize) -> Tag {
        Tag(self.0 & !(7 << 43) | ((count as u64 & 7) << 43))
    }

    /// The same, with one more lease.
    pub const fn with_lease(self, writable: bool) -> Tag {
        let index = self.leases() as u64;
        Tag((self.0 & !(3 << 46)) | ((index + 1) & 3) << 46 | (writable as u64) << (48 + index))
    }

    /// The same, with a deadline in word 6.
    pub const fn with_deadline(self) -> Tag {
        Tag(self.0 | Tag::DEADLINE)
    }

    /// The method's number, or the server's status.
    pub const fn label(self) -> u32 {
        self.0 as u32
    }

    /// Bytes copied.
    pub const fn bytes(self) -> usize {
        (self.0 >> 32) as usize & 0x7ff
    }

    /// Handles moved.
    pub const fn handles(self) -> usize {
        (self.0 >> 43) as usize & 7
    }

    /// Leases lent.
    pub const fn leases(self) -> usize {
        (self.0 >> 46) as usize & 3
    }

    /// Whether the server may write lease `index`.
    pub const fn lease_writable(self, index: usize) -> bool {
        index < Tag::MAX_LEASES && self.0 >> (48 + index) & 1 == 1
    }

    /// Whether a buffer's address is in word 7.
    pub const fn has_buffer(self) -> bool {
        self.0 & Tag::BUFFER != 0
    }

    /// Whether a deadline is in word 6.
    pub const fn has_deadline(self) -> bool {
        self.0 & Tag::DEADLINE != 0
    }

    /// Whether the parts fit in a message: counts within bounds, no overlap of words, no unknown bits.
    pub const fn is_valid(self) -> bool {
        let top = if self.has_deadline() {
            6
        } else if self.has_buffer() {
            7
        } else {
            8
        };
        self.0 & !Tag::DEFINED == 0
            && self.bytes() <= Tag::MAX_BYTES
            && (self.bytes() == 0 || self.has_buffer())
            && self.handles() <= Tag::MAX_HANDLES
            && self.leases() * 2 + self.handles() <= top
    }
}

impl Tag {
    /// Whether the message is valid and has neither handles nor a deadline: words, bytes and leases alone.
    #[inline(always)]
    pub const fn is_memory_only(self) -> bool {
        const PARTS: u64 = u32::MAX as u64 | 0x7ff << 32 | 0x1f << 46 | Tag::BUFFER;
        self.0 & !PARTS == 0 && self.bytes() <= Tag::MAX_BYTES && (self.bytes() == 0 || self.has_buffer())
    }
}

/// What `receive` delivered, in the upper half of the result code (`rax >> 32`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Delivery {
    /// A call; badge in `rdi`, tag in `rsi`.
    Call = 0,
    /// The last handle to a session is gone; badge in `rdi`.
    Closed = 1,
    /// Bits of the bound event; bits in `rdi`.
    Event = 2,
    /// A page of a paged VMO is wanted; badge in `rdi`, byte offset in word 0, 1 in word 1 if for writing. Answer when supplied.
    Page = 3,
    /// A thread faulted; badge in `rdi`, [`crate::FaultKind`] in word 0, address in word 1, instruction in word 2. Answer with label 0 to let it go on, else it ends.
    Fault = 4,
}

impl Delivery {
    /// The delivery with this code.
    pub const fn from_code(code: u64) -> Option<Delivery> {
        match code {
            0 => Some(Delivery::Call),
            1 => Some(Delivery::Closed),
            2 => Some(Delivery::Event),
            3 => Some(Delivery::Page),
            4 => Some(Delivery::Fault),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_disturb_each_other() {
        let tag = Tag::new(7).with_bytes(1024).with_handles(2).with_lease(true).with_lease(false).with_deadline();
        assert_eq!((tag.label(), tag.bytes(), tag.handles(), tag.leases()), (7, 1024, 2, 2));
        assert!(tag.lease_writable(0) && !tag.lease_writable(1) && tag.has_deadline() && tag.has_buffer());
        assert!(tag.is_valid());
        assert!(!tag.with_handles(3).is_valid(), "leases and handles would run into the deadline");
        assert!(!Tag(1 << 60).is_valid());
    }

    #[test]
    fn what_is_memory_only_is_valid() {
        let tag = Tag::new(9);
        for plain in
            [tag, tag.with_buffer(), tag.with_bytes(1024), tag.with_lease(true).with_lease(false).with_lease(true)]
        {
            assert!(plain.is_memory_only() && plain.is_valid(), "{plain:?}");
        }
        let no_buffer = Tag(tag.with_bytes(1).0 & !Tag::BUFFER);
        let undefined = Tag(tag.0 | 1 << 53);
        for other in [tag.with_handles(1), tag.with_deadline(), tag.with_bytes(1025), no_buffer, undefined] {
            assert!(!other.is_memory_only(), "{other:?}");
        }
    }
}
