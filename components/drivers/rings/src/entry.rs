//! What one slot of a ring says: 16 bytes, written and read as two words.

/// Bits of [`Entry::flags`].
pub mod flags {
    /// To the device: fill in the checksum, from `checksum_start` to the frame's end, at `checksum_start + checksum_offset`. From the
    /// device: the checksum is not filled in (the frame did not leave this machine), and right all the same.
    pub const NEEDS_CHECKSUM: u16 = 1 << 0;
    /// From the device: it has looked at the checksum, which is right.
    pub const CHECKSUM_VALID: u16 = 1 << 1;
    /// The frame goes on in the ring's next entry.
    pub const MORE: u16 = 1 << 2;
    /// To the device: cut this TCP/IPv4 segment into such with `segment` bytes of payload.
    pub const SEGMENT_V4: u16 = 1 << 3;
    /// The same over IPv6.
    pub const SEGMENT_V6: u16 = 1 << 4;
    /// In a done ring: the device could not do it.
    pub const FAILED: u16 = 1 << 5;
    /// All of them.
    pub const ALL: u16 = (1 << 6) - 1;
}

/// One slot of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Which buffer.
    pub buffer: u32,
    /// Where in the buffer the frame begins, in bytes.
    pub offset: u16,
    /// The frame's bytes in this buffer.
    pub length: u16,
    /// See [`flags`].
    pub flags: u16,
    /// Where in the frame the checksum begins to count, in bytes.
    pub checksum_start: u16,
    /// Where the checksum is put, in bytes after `checksum_start`.
    pub checksum_offset: u16,
    /// Payload bytes of each segment that the device is to make.
    pub segment: u16,
}

impl Entry {
    /// The two words as they stand in the ring.
    pub fn words(self) -> [u64; 2] {
        let low = u64::from(self.buffer) | u64::from(self.offset) << 32 | u64::from(self.length) << 48;
        let high = u64::from(self.flags)
            | u64::from(self.checksum_start) << 16
            | u64::from(self.checksum_offset) << 32
            | u64::from(self.segment) << 48;
        [low, high]
    }

    /// The entry of two words from a ring. Any words are an entry; whether it makes sense is for [`Entry::is_within`].
    pub fn from_words([low, high]: [u64; 2]) -> Entry {
        Entry {
            buffer: low as u32,
            offset: (low >> 32) as u16,
            length: (low >> 48) as u16,
            flags: high as u16,
            checksum_start: (high >> 16) as u16,
            checksum_offset: (high >> 32) as u16,
            segment: (high >> 48) as u16,
        }
    }

    /// Whether it names bytes of one of `buffers` buffers, behind the headroom.
    pub fn is_within(&self, buffers: u32) -> bool {
        let end = usize::from(self.offset).saturating_add(usize::from(self.length));
        self.buffer < buffers && usize::from(self.offset) >= crate::HEADROOM && end <= crate::BUFFER
    }

    /// Whether it names bytes of one of `buffers` buffers, its headroom included.
    pub fn is_inside(&self, buffers: u32) -> bool {
        let end = usize::from(self.offset).saturating_add(usize::from(self.length));
        self.buffer < buffers && end <= crate::BUFFER
    }

    /// Where its bytes begin in the memory of all buffers.
    pub fn place(&self) -> usize {
        (self.buffer as usize).saturating_mul(crate::BUFFER).saturating_add(usize::from(self.offset))
    }
}
