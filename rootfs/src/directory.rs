//! Directories: blocks of entries, sorted by name over all blocks, so that a name is found by halving twice.
//!
//! A block begins with the heads of its entries; the first head's name offset says how many there are. The names
//! follow; the last one ends at a NUL or at the end of the block.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use core::cmp::Ordering;

use crate::format::{DIRENT, NAME, part, product, sum, u8_at, u16_at, u64_at};
use crate::inode::Inode;
use crate::{Error, Image, Kind, NodeNumber, PAGE, Result};

/// One name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Never empty, no NUL and no `/` in it.
    pub name: &'a [u8],
    pub number: NodeNumber,
    /// What the directory says the kind is; the inode itself decides.
    pub kind: Kind,
    /// Where [`Image::entries`] goes on after this entry. Positions grow along the directory and begin at 0.
    pub next: u64,
}

impl<'a> Image<'a> {
    /// Looks `name` up in a directory. `.` and `..` are names like any other.
    ///
    /// Errors: `WrongKind` (no directory), `Damaged`.
    pub fn lookup(&self, directory: &Inode, name: &[u8]) -> Result<Option<Entry<'a>>> {
        let blocks = self.directory_blocks(directory)?;
        // The last block whose first name is not greater.
        let (mut low, mut high) = (0, blocks);
        while low < high {
            let middle = low.midpoint(high);
            let block = Block::new(*self, directory, middle)?;
            match block.entry(0)?.name.cmp(name) {
                Ordering::Equal => return block.entry(0).map(Some),
                Ordering::Less => low = sum(middle, 1)?,
                Ordering::Greater => high = middle,
            }
        }
        let Some(last) = low.checked_sub(1) else { return Ok(None) };
        let block = Block::new(*self, directory, last)?;
        let (mut low, mut high) = (0, block.count);
        while low < high {
            let middle = low.midpoint(high);
            let entry = block.entry(middle)?;
            match entry.name.cmp(name) {
                Ordering::Equal => return Ok(Some(entry)),
                Ordering::Less => low = sum(middle, 1)?,
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// The entries of a directory from `position` on: 0, or an entry's `next`. `.` and `..` are among them.
    ///
    /// Errors: `WrongKind` (no directory), `Damaged`. The iterator ends after its first error.
    pub fn entries(&self, directory: &Inode, position: u64) -> Result<Entries<'a>> {
        let blocks = self.directory_blocks(directory)?;
        Ok(Entries { image: *self, directory: *directory, blocks, position, block: None })
    }

    fn directory_blocks(&self, directory: &Inode) -> Result<u64> {
        if directory.kind() != Kind::Directory {
            return Err(Error::WrongKind);
        }
        self.pieces(directory)?;
        Ok(directory.size.div_ceil(PAGE))
    }
}

/// An iterator over the entries of a directory.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    image: Image<'a>,
    directory: Inode,
    blocks: u64,
    /// Block number times `PAGE` plus the entry's number in it.
    position: u64,
    block: Option<Block<'a>>,
}

impl<'a> Entries<'a> {
    fn step(&mut self) -> Result<Option<Entry<'a>>> {
        loop {
            let (number, index) =
                (self.position.checked_div(PAGE).unwrap_or(0), self.position & PAGE.saturating_sub(1));
            if number >= self.blocks {
                return Ok(None);
            }
            let block = match &self.block {
                Some(block) if block.number == number => block,
                _ => self.block.insert(Block::new(self.image, &self.directory, number)?),
            };
            if index < block.count {
                let entry = block.entry(index)?;
                self.position = entry.next;
                return Ok(Some(entry));
            }
            self.position = product(sum(number, 1)?, PAGE)?;
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.step();
        if found.is_err() {
            self.blocks = 0;
        }
        found.transpose()
    }
}

/// One block of a directory, whose head is sound.
#[derive(Clone, Copy, Debug)]
struct Block<'a> {
    bytes: &'a [u8],
    number: u64,
    count: u64,
}

impl<'a> Block<'a> {
    fn new(image: Image<'a>, directory: &Inode, number: u64) -> Result<Self> {
        let offset = product(number, PAGE)?;
        let [plain, inline] = image.pieces(directory)?.ranges();
        let plain_length = plain.end.saturating_sub(plain.start);
        // A block is in one piece: whole ones come first, the inline rest is shorter than a block.
        let (piece, offset) =
            if offset < plain_length { (plain, offset) } else { (inline, offset.saturating_sub(plain_length)) };
        let start = sum(piece.start, offset)?;
        let length = piece.end.saturating_sub(start).min(PAGE);
        let bytes = part(image.bytes, start, length)?;
        let names = u64::from(u16_at(bytes, 8)?);
        let count = names.checked_div(DIRENT).unwrap_or(0);
        if count == 0 || !names.is_multiple_of(DIRENT) || names > length {
            return Err(Error::Damaged);
        }
        Ok(Self { bytes, number, count })
    }

    fn entry(&self, index: u64) -> Result<Entry<'a>> {
        let head = product(index, DIRENT)?;
        let after = sum(index, 1)?;
        let start = u64::from(u16_at(self.bytes, sum(head, 8)?)?);
        let end = if after < self.count {
            u64::from(u16_at(self.bytes, sum(head, DIRENT.saturating_add(8))?)?)
        } else {
            self.bytes.len() as u64
        };
        let name = part(self.bytes, start, end.checked_sub(start).ok_or(Error::Damaged)?)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        if name.is_empty() || name.len() > NAME || name.contains(&b'/') {
            return Err(Error::Damaged);
        }
        Ok(Entry {
            name,
            number: NodeNumber(u64_at(self.bytes, head)?),
            kind: Kind::of_entry(u8_at(self.bytes, sum(head, 10)?)?).ok_or(Error::Damaged)?,
            next: sum(product(self.number, PAGE)?, after)?,
        })
    }
}
