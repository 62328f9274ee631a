//! Builds root images: a tree of files in memory, with the contents of files in a spool file, written out as EROFS.
//!
//! Nothing of the tree ever touches the host's file system, so names, links and devices out of a hostile archive are
//! data and no more. Equal trees make equal images, to the byte, whatever order they were put together in.

mod layout;
mod tree;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
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

/// Bytes of two contents that are compared at a time.
const COMPARED: u64 = 1 << 16;

/// Where contents of files wait until the image is written: a file that only grows. Equal contents are there once, and so in the image.
#[derive(Debug)]
pub struct Spool<F> {
    file: F,
    length: u64,
    limit: u64,
    /// What is there, by length and hash.
    known: HashMap<(u64, u64), Vec<Blob>>,
}

impl<F: Read + Write + Seek> Spool<F> {
    /// A spool in `file`, which is empty and which nobody else uses, for at most `limit` bytes.
    pub fn new(file: F, limit: u64) -> Self {
        Self { file, length: 0, limit, known: HashMap::new() }
    }

    /// Takes all of `from`.
    ///
    /// Errors: those of `from` and of the file; `FileTooLarge` at the limit.
    pub fn add(&mut self, from: &mut dyn Read) -> io::Result<Blob> {
        self.file.seek(SeekFrom::Start(self.length))?;
        let room = self.limit.saturating_sub(self.length);
        let mut hashed = Hashed { from: from.take(room.saturating_add(1)), hasher: DefaultHasher::new() };
        let length = io::copy(&mut hashed, &mut self.file)?;
        if length > room {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the files are larger than the limit"));
        }
        let blob = Blob { offset: self.length, length };
        let key = (length, hashed.hasher.finish());
        for other in self.known.get(&key).cloned().unwrap_or_default() {
            if self.is_equal(&other, &blob)? {
                // The next one overwrites it.
                return Ok(other);
            }
        }
        self.known.entry(key).or_default().push(blob);
        self.length = self.length.saturating_add(length);
        Ok(blob)
    }

    /// Whether two blobs of one length have the same bytes.
    fn is_equal(&mut self, one: &Blob, other: &Blob) -> io::Result<bool> {
        for start in (0..one.length).step_by(COMPARED as usize) {
            let length = COMPARED.min(one.length - start);
            let mut part = |blob: &Blob| self.head(&Blob { offset: blob.offset + start, length }, length);
            if part(one)? != part(other)? {
                return Ok(false);
            }
        }
        Ok(true)
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

/// What is read from another, hashed on the way.
struct Hashed<R> {
    from: R,
    hasher: DefaultHasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(bytes)?;
        self.hasher.write(bytes.get(..length).unwrap_or_default());
        Ok(length)
    }
}
