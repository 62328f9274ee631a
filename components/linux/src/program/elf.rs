//! The heads of ELF files (System V ABI, chapter 4 and 5, and its AMD64 supplement). Every number is an allegation of the file.

use alloc::vec::Vec;

use crate::errno::{Errno, Result};

/// Bytes of the file head.
pub const HEAD: usize = 64;
/// Bytes of a program head.
pub const PROGRAM_HEAD: usize = 56;
/// Most program heads: 64 KiB of them, as Linux.
const MOST_HEADS: u16 = 1170;

/// What the file's head says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Whether it can be loaded anywhere.
    pub is_relocatable: bool,
    pub entry: u64,
    pub heads_offset: u64,
    pub heads: u16,
}

/// What a program head says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    pub in_file: u64,
    pub in_memory: u64,
    pub alignment: u64,
}

/// Kinds of segments.
pub const LOAD: u32 = 1;
pub const INTERPRETER: u32 = 3;
pub const HEADS: u32 = 6;

fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

/// Reads the file head.
///
/// # Errors
/// `ENOEXEC` if this is no x86-64 program.
pub fn head(bytes: &[u8]) -> Result<Head> {
    let u16_at = |at| u16::from_le_bytes(word(bytes, at));
    let u64_at = |at| u64::from_le_bytes(word(bytes, at));
    // 64 bits, little endian, x86-64, version 1.
    if bytes.len() < HEAD || !bytes.starts_with(b"\x7fELF\x02\x01\x01") || u16_at(18) != 62 {
        return Err(Errno::ENOEXEC);
    }
    let is_relocatable = match u16_at(16) {
        2 => false,
        3 => true,
        _ => return Err(Errno::ENOEXEC),
    };
    let heads = u16_at(56);
    if usize::from(u16_at(54)) != PROGRAM_HEAD || heads == 0 || heads > MOST_HEADS {
        return Err(Errno::ENOEXEC);
    }
    Ok(Head { is_relocatable, entry: u64_at(24), heads_offset: u64_at(32), heads })
}

/// Reads the program heads.
///
/// # Errors
/// `ENOEXEC` if a segment does not fit into memory or contradicts itself.
pub fn segments(bytes: &[u8]) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for bytes in bytes.chunks_exact(PROGRAM_HEAD) {
        let u32_at = |at| u32::from_le_bytes(word(bytes, at));
        let u64_at = |at| u64::from_le_bytes(word(bytes, at));
        let segment = Segment {
            kind: u32_at(0),
            flags: u32_at(4),
            offset: u64_at(8),
            address: u64_at(16),
            in_file: u64_at(32),
            in_memory: u64_at(40),
            alignment: u64_at(48),
        };
        let ends = [
            segment.address.checked_add(segment.in_memory),
            segment.offset.checked_add(segment.in_file),
            segment.address.checked_add(segment.in_file),
        ];
        if segment.kind == LOAD {
            let fits = ends.iter().all(|end| end.is_some_and(|end| end < crate::memory::TOP));
            if !fits || segment.in_file > segment.in_memory || (segment.address ^ segment.offset) & 4095 != 0 {
                return Err(Errno::ENOEXEC);
            }
        }
        segments.push(segment);
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16] = 3;
        bytes[18] = 62;
        bytes[24..32].copy_from_slice(&0x1234_u64.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = PROGRAM_HEAD as u8;
        bytes[56] = 2;
        bytes
    }

    #[test]
    fn a_head_is_read_and_every_byte_that_matters_is_looked_at() {
        let good = program();
        let expected = Head { is_relocatable: true, entry: 0x1234, heads_offset: 64, heads: 2 };
        assert_eq!(head(&good), Ok(expected));
        for at in [0, 1, 2, 3, 4, 5, 6, 16, 18, 54] {
            let mut bad = good;
            bad[at] ^= 0x40;
            assert_eq!(head(&bad), Err(Errno::ENOEXEC), "byte {at}");
        }
        assert_eq!(head(&good[..HEAD - 1]), Err(Errno::ENOEXEC));
    }

    #[test]
    fn segments_that_contradict_themselves_are_refused() {
        let segment = |offset: u64, address: u64, in_file: u64, in_memory: u64| {
            let mut bytes = [0; PROGRAM_HEAD];
            bytes[0] = 1;
            for (at, value) in [(8, offset), (16, address), (32, in_file), (40, in_memory)] {
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            segments(&bytes).map(|segments| segments.len())
        };
        assert_eq!(segment(0x1000, 0x40_1000, 10, 20), Ok(1));
        assert_eq!(segment(0x1000, 0x40_1000, 20, 10), Err(Errno::ENOEXEC), "more in the file than in memory");
        assert_eq!(segment(0x1000, 0x40_1001, 10, 20), Err(Errno::ENOEXEC), "not on the same byte of a page");
        assert_eq!(segment(0, u64::MAX - 4095, 1, 4096), Err(Errno::ENOEXEC), "it wraps");
        assert_eq!(segment(u64::MAX - 4095, 0x1000, 4096, 4096), Err(Errno::ENOEXEC), "it wraps in the file");
        assert_eq!(segment(0, 0x7f00_0000_0000, 1, 1), Err(Errno::ENOEXEC), "above user space");
    }
}
