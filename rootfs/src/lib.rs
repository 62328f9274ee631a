//! Root images and the note of what to run in them: the contract between the host command, which makes both, and the
//! components that serve and run them.
//!
//! A root image is an EROFS file system (Linux, `Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h`) in the
//! uncompressed layouts: it is read-only, and the contents of every regular file begin on a page, so that a page of a
//! file can be mapped where it lies. Any tool for EROFS reads what [`build`] makes, and [`Image`] reads what such tools
//! make, as far as they do not compress.
//!
//! The reader takes an image from anywhere: whatever its bytes are, it answers with a value or an [`Error`], never
//! panics, never reads outside of the image, and does a bounded amount of work a call. It keeps no state, so loops in
//! a hostile directory tree are for the caller to notice.

#![cfg_attr(not(any(test, feature = "build")), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "build")]
pub mod build;
pub mod container;
mod directory;
mod format;
mod image;
mod inode;
mod xattr;

pub use directory::{Entries, Entry};
pub use image::Image;
pub use inode::{Inode, Kind};
pub use xattr::{Attribute, Attributes};

/// The size of a page and of a block of a root image, in bytes.
pub const PAGE: u64 = 4096;

/// The number of an inode in its image (EROFS: `nid`). Only the image that gave it out knows what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeNumber(pub u64);

/// Why an image or a part of it cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes are no EROFS image.
    NotAnImage,
    /// The image needs what this reader does not have: compression, other block sizes, several devices.
    Unsupported,
    /// The image contradicts itself, or is cut short.
    Damaged,
    /// The inode is not of the kind that the call is for.
    WrongKind,
}

impl core::fmt::Display for Error {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::NotAnImage => "it is no EROFS image",
            Self::Unsupported => "it uses features of EROFS that are not supported, such as compression",
            Self::Damaged => "it is damaged",
            Self::WrongKind => "the file is of another kind",
        })
    }
}

impl core::error::Error for Error {}

pub type Result<T> = core::result::Result<T, Error>;
