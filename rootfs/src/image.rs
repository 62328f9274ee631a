//! An image as a whole: its superblock, its inodes, and the contents of its files.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use core::ops::Range;

use crate::format::{
    BLOCK_BITS, LAYOUT_INLINE, LAYOUT_PLAIN, MAGIC, SLOT, SUPER_LENGTH, SUPER_OFFSET, part, product, sum, u8_at,
    u16_at, u32_at, u64_at,
};
use crate::inode::Inode;
use crate::{Error, Kind, NodeNumber, PAGE, Result};

/// A root image over its bytes. Copying it copies a reference.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    pub(crate) bytes: &'a [u8],
    root: NodeNumber,
    inodes: u64,
    /// First byte of the area that node numbers count from, and of the shared extended attributes.
    metadata: u64,
    pub(crate) shared_attributes: u64,
    /// The time of all compact inodes.
    time: (u64, u32),
}

impl<'a> Image<'a> {
    /// Takes the bytes of an image, from its first block on. Bytes after its end do no harm.
    ///
    /// Errors: `NotAnImage`, `Unsupported`, `Damaged` (it is cut short).
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let head = part(bytes, SUPER_OFFSET, SUPER_LENGTH as u64).map_err(|_| Error::NotAnImage)?;
        if u32_at(head, 0)? != MAGIC {
            return Err(Error::NotAnImage);
        }
        let (block_bits, incompatible) = (u8_at(head, 12)?, u32_at(head, 80)?);
        let directory_block_bits = u8_at(head, 90)?;
        if block_bits != BLOCK_BITS || incompatible != 0 || directory_block_bits != 0 {
            return Err(Error::Unsupported);
        }
        let length = product(u64::from(u32_at(head, 36)?), PAGE)?;
        let bytes = part(bytes, 0, length)?;
        let image = Self {
            bytes,
            root: NodeNumber(u64::from(u16_at(head, 14)?)),
            inodes: u64_at(head, 16)?,
            metadata: product(u64::from(u32_at(head, 40)?), PAGE)?,
            shared_attributes: product(u64::from(u32_at(head, 44)?), PAGE)?,
            time: (u64_at(head, 24)?, u32_at(head, 32)?),
        };
        match image.inode(image.root)?.kind() {
            Kind::Directory => Ok(image),
            _ => Err(Error::Damaged),
        }
    }

    /// The image's length in bytes, a whole number of pages.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// How many inodes the image says it has.
    pub fn inode_count(&self) -> u64 {
        self.inodes
    }

    /// The root directory's number.
    pub fn root(&self) -> NodeNumber {
        self.root
    }

    /// Reads an inode. A number that no directory entry gave may answer with nonsense, but with harmless nonsense.
    pub fn inode(&self, number: NodeNumber) -> Result<Inode> {
        let place = sum(self.metadata, product(number.0, SLOT)?)?;
        Inode::read(self.bytes, number, place, self.time)
    }

    /// Where the contents of a regular file lie in the image, in bytes; the start is page aligned, and the rest of the
    /// last page is zeroes in images that [`crate::build`] made. `None` if a part of the contents lies elsewhere:
    /// [`Image::read`] reads that too. An empty file has an empty range.
    ///
    /// Errors: `WrongKind`, `Unsupported`, `Damaged`.
    pub fn data_extent(&self, inode: &Inode) -> Result<Option<Range<u64>>> {
        if inode.kind() != Kind::Regular {
            return Err(Error::WrongKind);
        }
        let pieces = self.pieces(inode)?;
        Ok(pieces.inline.is_empty().then_some(pieces.plain))
    }

    /// Copies contents of a regular file from `offset` on, and answers how many bytes: fewer than `into` holds only at
    /// the end of the file.
    pub fn read(&self, inode: &Inode, offset: u64, into: &mut [u8]) -> Result<usize> {
        let mut copied = 0usize;
        for bytes in self.contents(inode, offset)? {
            let place = into.get_mut(copied..).unwrap_or_default();
            let length = bytes.len().min(place.len());
            for (to, from) in place.iter_mut().zip(bytes) {
                *to = *from;
            }
            copied = copied.saturating_add(length);
        }
        Ok(copied)
    }

    /// The contents of a regular file from `offset` on, where they lie in the image: two pieces, of which either may be empty.
    ///
    /// Errors: `WrongKind`, `Unsupported`, `Damaged`.
    pub fn contents(&self, inode: &Inode, offset: u64) -> Result<[&'a [u8]; 2]> {
        if inode.kind() != Kind::Regular {
            return Err(Error::WrongKind);
        }
        let [first, second] = self.pieces(inode)?.ranges();
        let first = part(self.bytes, first.start, first.end.saturating_sub(first.start))?;
        let second = part(self.bytes, second.start, second.end.saturating_sub(second.start))?;
        let behind = |bytes: &'a [u8], offset: u64| {
            usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default()
        };
        Ok([behind(first, offset), behind(second, offset.saturating_sub(first.len() as u64))])
    }

    /// A symbolic link's target.
    ///
    /// Errors: `WrongKind`, `Damaged` (also for a target that is not in one piece, or longer than a page).
    pub fn link_target(&self, inode: &Inode) -> Result<&'a [u8]> {
        if inode.kind() != Kind::Link {
            return Err(Error::WrongKind);
        }
        let pieces = self.pieces(inode)?;
        let [plain, inline] = pieces.ranges();
        let range = if inline.is_empty() { plain } else { inline };
        let length = range.end.saturating_sub(range.start);
        if length != inode.size || length >= PAGE {
            return Err(Error::Damaged);
        }
        part(self.bytes, range.start, length)
    }

    /// Where the data of an inode lie: first whole blocks, then what follows the inode itself.
    pub(crate) fn pieces(&self, inode: &Inode) -> Result<Pieces> {
        let start = product(u64::from(inode.union), PAGE)?;
        let (plain, inline) = match inode.layout {
            LAYOUT_PLAIN => (inode.size, 0),
            LAYOUT_INLINE => {
                let tail = inode.size & PAGE.saturating_sub(1);
                (inode.size.saturating_sub(tail), tail)
            }
            _ => return Err(Error::Unsupported),
        };
        let start = if plain == 0 { 0 } else { start };
        let pieces = Pieces { plain: start..sum(start, plain)?, inline: inode.end..sum(inode.end, inline)? };
        for range in pieces.ranges() {
            part(self.bytes, range.start, range.end.saturating_sub(range.start))?;
        }
        Ok(pieces)
    }
}

/// The two places of an inode's data, as ranges of bytes of the image; both are inside it.
pub(crate) struct Pieces {
    plain: Range<u64>,
    inline: Range<u64>,
}

impl Pieces {
    pub(crate) fn ranges(&self) -> [Range<u64>; 2] {
        [self.plain.clone(), self.inline.clone()]
    }
}
