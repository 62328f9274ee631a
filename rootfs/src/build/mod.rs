//! Builds root images: a tree of files in memory, with the contents of files in a spool file, written out as EROFS.
//!
//! Nothing of the tree ever touches the host's file system, so names, links and devices out of a hostile archive are
//! data and no more. Equal trees make equal images, to the byte, whatever order they were put together in.

mod layout;
mod tree;

use std::io::{self, Read, Seek, SeekFrom, Write};

pub use layout::write;
pub use tree::{Attributes, Content, Existing, Metadata, Node, NodeId, Tree, TreeError};

/// Contents of a file: a range of the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blob {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Blob {
    /// In bytes.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// Where contents of files wait until the image is written: a file that only grows.
#[derive(Debug)]
pub struct Spool<F> {
    file: F,
    length: u64,
    limit: u64,
}

impl<F: Read + Write + Seek> Spool<F> {
    /// A spool in `file`, which is empty and which nobody else uses, for at most `limit` bytes.
    pub fn new(file: F, limit: u64) -> Self {
        Self { file, length: 0, limit }
    }

    /// Takes all of `from`.
    ///
    /// Errors: those of `from` and of the file; `FileTooLarge` at the limit.
    pub fn add(&mut self, from: &mut dyn Read) -> io::Result<Blob> {
        self.file.seek(SeekFrom::Start(self.length))?;
        let room = self.limit.saturating_sub(self.length);
        let length = io::copy(&mut from.take(room.saturating_add(1)), &mut self.file)?;
        if length > room {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the files are larger than the limit"));
        }
        let blob = Blob { offset: self.length, length };
        self.length = self.length.saturating_add(length);
        Ok(blob)
    }

    /// The first bytes of a blob, at most `most`.
    pub fn head(&mut self, blob: &Blob, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(blob)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A blob's bytes.
    pub fn open(&mut self, blob: &Blob) -> io::Result<impl Read> {
        self.file.seek(SeekFrom::Start(blob.offset))?;
        Ok(Read::by_ref(&mut self.file).take(blob.length))
    }
}
