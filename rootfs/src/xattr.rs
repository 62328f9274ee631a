//! Extended attributes: those that follow their inode, and those that several inodes share.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use crate::format::{XATTR_ENTRY, XATTR_HEAD, XATTR_PREFIXES, part, product, sum, u8_at, u16_at, u32_at};
use crate::inode::Inode;
use crate::{Error, Image, Result};

/// One extended attribute. Its full name is `prefix` followed by `name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    pub prefix: &'static [u8],
    pub name: &'a [u8],
    pub value: &'a [u8],
}

impl Attribute<'_> {
    /// Whether `name` is the attribute's full name.
    pub fn is_called(&self, name: &[u8]) -> bool {
        name.strip_prefix(self.prefix) == Some(self.name)
    }
}

impl<'a> Image<'a> {
    /// The extended attributes of an inode. The iterator ends after its first error.
    pub fn attributes(&self, inode: &Inode) -> Result<Attributes<'a>> {
        let mut attributes =
            Attributes { image: *self, shared: inode.attributes..inode.attributes, own: inode.end..inode.end };
        if inode.attributes < inode.end {
            let count = u64::from(u8_at(self.bytes, sum(inode.attributes, 4)?)?);
            let first = sum(inode.attributes, XATTR_HEAD)?;
            let after = sum(first, product(count, 4)?)?;
            if after > inode.end {
                return Err(Error::Damaged);
            }
            attributes.shared = first..after;
            attributes.own = after..inode.end;
        }
        Ok(attributes)
    }
}

/// An iterator over the extended attributes of an inode.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    image: Image<'a>,
    /// Where the numbers of shared attributes lie that are still to come, then the inode's own attributes.
    shared: core::ops::Range<u64>,
    own: core::ops::Range<u64>,
}

impl<'a> Attributes<'a> {
    fn step(&mut self) -> Result<Option<Attribute<'a>>> {
        let bytes = self.image.bytes;
        if self.shared.start < self.shared.end {
            let number = u32_at(bytes, self.shared.start)?;
            self.shared.start = sum(self.shared.start, 4)?;
            let place = sum(self.image.shared_attributes, product(u64::from(number), 4)?)?;
            return read(bytes, place).map(|(attribute, _)| Some(attribute));
        }
        if self.own.start >= self.own.end {
            return Ok(None);
        }
        // Fewer bytes than an entry's head are padding, and so is an entry without a name and a prefix.
        let room = self.own.end.saturating_sub(self.own.start);
        if room < XATTR_ENTRY || u32_at(bytes, self.own.start)? == 0 {
            return Ok(None);
        }
        let (attribute, end) = read(bytes, self.own.start)?;
        if end > self.own.end {
            return Err(Error::Damaged);
        }
        self.own.start = end;
        Ok(Some(attribute))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.step();
        if found.is_err() {
            self.shared.start = self.shared.end;
            self.own.start = self.own.end;
        }
        found.transpose()
    }
}

/// Reads the attribute at `place`, and says where the next one begins.
fn read(bytes: &[u8], place: u64) -> Result<(Attribute<'_>, u64)> {
    let name_length = u64::from(u8_at(bytes, place)?);
    let index = u8_at(bytes, sum(place, 1)?)?;
    let value_length = u64::from(u16_at(bytes, sum(place, 2)?)?);
    let name_start = sum(place, XATTR_ENTRY)?;
    let value_start = sum(name_start, name_length)?;
    let end = sum(value_start, value_length)?;
    let (_, prefix) = XATTR_PREFIXES.iter().find(|(number, _)| *number == index).ok_or(Error::Unsupported)?;
    let attribute = Attribute {
        prefix,
        name: part(bytes, name_start, name_length)?,
        value: part(bytes, value_start, value_length)?,
    };
    Ok((attribute, end.checked_next_multiple_of(4).ok_or(Error::Damaged)?))
}
