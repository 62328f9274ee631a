//! The numbers of the format (`fs/erofs/erofs_fs.h`), and reading little-endian fields out of bytes that may be
//! anything.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use crate::{Error, Result};

/// Where the superblock begins.
pub const SUPER_OFFSET: u64 = 1024;
pub const SUPER_LENGTH: usize = 128;
pub const MAGIC: u32 = 0xe0f5_e1e2;
/// Base-2 logarithm of the block size, the only one here.
pub const BLOCK_BITS: u8 = 12;

/// Inodes begin at multiples of this many bytes; a node number counts them.
pub const SLOT: u64 = 32;
pub const COMPACT_INODE: u64 = 32;
pub const EXTENDED_INODE: u64 = 64;

/// `i_format`: bit 0 is set in extended inodes, bits 1 to 3 are the layout of the data.
pub const FORMAT_EXTENDED: u16 = 1;
pub const LAYOUT_PLAIN: u16 = 0;
pub const LAYOUT_INLINE: u16 = 2;

/// A directory entry's head: node number, offset of the name, type.
pub const DIRENT: u64 = 12;
/// Longest name in a directory.
pub const NAME: usize = 255;

/// The head of an inode's own extended attributes, and of each one.
pub const XATTR_HEAD: u64 = 12;
pub const XATTR_ENTRY: u64 = 4;

/// The prefixes that an attribute's `e_name_index` stands for.
pub const XATTR_PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

pub const MODE_KIND: u16 = 0o170_000;
pub const MODE_FIFO: u16 = 0o010_000;
pub const MODE_CHARACTER: u16 = 0o020_000;
pub const MODE_DIRECTORY: u16 = 0o040_000;
pub const MODE_BLOCK: u16 = 0o060_000;
pub const MODE_REGULAR: u16 = 0o100_000;
pub const MODE_LINK: u16 = 0o120_000;
pub const MODE_SOCKET: u16 = 0o140_000;

/// `length` bytes of `bytes` from `offset` on.
pub fn part(bytes: &[u8], offset: u64, length: u64) -> Result<&[u8]> {
    let start = usize::try_from(offset).map_err(|_| Error::Damaged)?;
    let length = usize::try_from(length).map_err(|_| Error::Damaged)?;
    let end = start.checked_add(length).ok_or(Error::Damaged)?;
    bytes.get(start..end).ok_or(Error::Damaged)
}

#[inline]
fn field<const N: usize>(bytes: &[u8], offset: u64) -> Result<[u8; N]> {
    let start = usize::try_from(offset).map_err(|_| Error::Damaged)?;
    bytes.get(start..).and_then(<[u8]>::first_chunk).copied().ok_or(Error::Damaged)
}

#[inline]
pub fn u8_at(bytes: &[u8], offset: u64) -> Result<u8> {
    field::<1>(bytes, offset).map(|[byte]| byte)
}

#[inline]
pub fn u16_at(bytes: &[u8], offset: u64) -> Result<u16> {
    field(bytes, offset).map(u16::from_le_bytes)
}

#[inline]
pub fn u32_at(bytes: &[u8], offset: u64) -> Result<u32> {
    field(bytes, offset).map(u32::from_le_bytes)
}

#[inline]
pub fn u64_at(bytes: &[u8], offset: u64) -> Result<u64> {
    field(bytes, offset).map(u64::from_le_bytes)
}

/// `a + b`, for offsets out of an image.
pub fn sum(a: u64, b: u64) -> Result<u64> {
    a.checked_add(b).ok_or(Error::Damaged)
}

/// `a * b`, for offsets out of an image.
pub fn product(a: u64, b: u64) -> Result<u64> {
    a.checked_mul(b).ok_or(Error::Damaged)
}
