//! Inodes, in their compact (32 bytes) and extended (64 bytes) forms.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use crate::format::{
    COMPACT_INODE, EXTENDED_INODE, FORMAT_EXTENDED, MODE_BLOCK, MODE_CHARACTER, MODE_DIRECTORY, MODE_FIFO, MODE_KIND,
    MODE_LINK, MODE_REGULAR, MODE_SOCKET, XATTR_ENTRY, XATTR_HEAD, product, sum, u16_at, u32_at, u64_at,
};
use crate::{Error, NodeNumber, Result};

/// What kind of file an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Regular,
    Directory,
    Link,
    CharacterDevice,
    BlockDevice,
    Fifo,
    Socket,
}

impl Kind {
    /// The kind that the file type bits of a Linux `st_mode` say.
    pub fn of_mode(mode: u16) -> Option<Self> {
        Some(match mode & MODE_KIND {
            MODE_REGULAR => Self::Regular,
            MODE_DIRECTORY => Self::Directory,
            MODE_LINK => Self::Link,
            MODE_CHARACTER => Self::CharacterDevice,
            MODE_BLOCK => Self::BlockDevice,
            MODE_FIFO => Self::Fifo,
            MODE_SOCKET => Self::Socket,
            _ => return None,
        })
    }

    /// The file type bits of a Linux `st_mode`.
    pub fn mode(self) -> u16 {
        match self {
            Self::Regular => MODE_REGULAR,
            Self::Directory => MODE_DIRECTORY,
            Self::Link => MODE_LINK,
            Self::CharacterDevice => MODE_CHARACTER,
            Self::BlockDevice => MODE_BLOCK,
            Self::Fifo => MODE_FIFO,
            Self::Socket => MODE_SOCKET,
        }
    }

    /// The type in a directory entry (`erofs_fs.h`, `EROFS_FT_*`).
    pub(crate) fn of_entry(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Regular,
            2 => Self::Directory,
            3 => Self::CharacterDevice,
            4 => Self::BlockDevice,
            5 => Self::Fifo,
            6 => Self::Socket,
            7 => Self::Link,
            _ => return None,
        })
    }

    #[cfg(feature = "build")]
    pub(crate) fn entry(self) -> u8 {
        match self {
            Self::Regular => 1,
            Self::Directory => 2,
            Self::CharacterDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Link => 7,
        }
    }
}

/// An inode that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    pub number: NodeNumber,
    /// Kind, set-id and sticky bits, permissions: Linux's `st_mode`.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of contents, of a link's target, or of a directory's blocks.
    pub size: u64,
    /// Time of modification: seconds since 1970, and nanoseconds below a second.
    pub mtime: u64,
    pub mtime_nanoseconds: u32,
    /// How many names it has.
    pub links: u32,
    pub(crate) layout: u16,
    /// First block of the data, or the device's number.
    pub(crate) union: u32,
    /// Where the inode's own extended attributes begin, and where what follows them does, in bytes of the image.
    pub(crate) attributes: u64,
    pub(crate) end: u64,
}

impl Inode {
    /// Reads the inode that begins at byte `place` of the image. `time` is that of all compact ones.
    pub(crate) fn read(image: &[u8], number: NodeNumber, place: u64, time: (u64, u32)) -> Result<Self> {
        let at = |offset: u64| sum(place, offset);
        let format = u16_at(image, place)?;
        let mode = u16_at(image, at(4)?)?;
        Kind::of_mode(mode).ok_or(Error::Damaged)?;
        let union = u32_at(image, at(16)?)?;
        let extended = format & FORMAT_EXTENDED != 0;
        let attributes = at(if extended { EXTENDED_INODE } else { COMPACT_INODE })?;
        let end = match u16_at(image, at(2)?)? {
            0 => attributes,
            count => {
                let entries = product(u64::from(count.saturating_sub(1)), XATTR_ENTRY)?;
                sum(attributes, sum(XATTR_HEAD, entries)?)?
            }
        };
        // The bits above the layout are of later versions of the format.
        if format >> 4 != 0 {
            return Err(Error::Unsupported);
        }
        let layout = (format >> 1) & 7;
        let common = Self {
            number,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: time.0,
            mtime_nanoseconds: time.1.min(999_999_999),
            links: 0,
            layout,
            union,
            attributes,
            end,
        };
        Ok(if extended {
            Self {
                size: u64_at(image, at(8)?)?,
                uid: u32_at(image, at(24)?)?,
                gid: u32_at(image, at(28)?)?,
                mtime: u64_at(image, at(32)?)?,
                mtime_nanoseconds: u32_at(image, at(40)?)?.min(999_999_999),
                links: u32_at(image, at(44)?)?,
                ..common
            }
        } else {
            Self {
                links: u32::from(u16_at(image, at(6)?)?),
                size: u64::from(u32_at(image, at(8)?)?),
                uid: u32::from(u16_at(image, at(24)?)?),
                gid: u32::from(u16_at(image, at(26)?)?),
                ..common
            }
        })
    }

    pub fn kind(&self) -> Kind {
        // `read` refused every mode without a kind.
        Kind::of_mode(self.mode).unwrap_or(Kind::Regular)
    }

    /// Set-id and sticky bits and permissions, without the kind.
    pub fn permissions(&self) -> u16 {
        self.mode & !MODE_KIND
    }

    /// The major and minor number of a device, of no other kind.
    pub fn device(&self) -> Option<(u32, u32)> {
        // Linux's `new_encode_dev`.
        let number = self.union;
        let major = (number & 0xf_ff00) >> 8;
        let minor = (number & 0xff) | ((number >> 12) & 0xf_ff00);
        matches!(self.kind(), Kind::CharacterDevice | Kind::BlockDevice).then_some((major, minor))
    }
}
