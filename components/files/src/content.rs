//! What a regular file holds: a range of the read-only image, bytes on the heap, or a memory object.
//!
//! A file starts where it comes from. The first write moves it out of the image; growing large or being mapped moves it into a
//! memory object, which the mappings of all clients then share with `read` and `write`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use tessera_interfaces::FileError;
use tessera_rootfs::Inode;
use tessera_runtime::Error;
use tessera_runtime::object::{Pool, Vmo};

use crate::account::{Account, Charge};
use crate::image::Image;

/// Bytes that a file may have on the heap. Larger ones live in memory objects, where growing does not copy.
const HEAP_LIMIT: u64 = 64 << 10;
/// Bytes that are copied at a time between a memory object and something else.
const CHUNK: usize = 64 << 10;

/// The bytes of one file.
#[derive(Debug)]
pub enum Content {
    /// What the image holds.
    Image(Inode),
    /// Bytes on the heap, and what they are charged as.
    Heap(Vec<u8>, Charge),
    /// A memory object, and how many of its bytes are the file's.
    Memory {
        /// The object; bytes behind `size` are zero.
        vmo: Vmo,
        /// Bytes.
        size: u64,
    },
}

/// Where content comes from and is charged.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub pool: &'a Pool,
    pub account: &'a Arc<Account>,
    pub image: Option<&'a Image>,
}

fn no_space(error: Error) -> FileError {
    match error {
        Error::NoQuota => FileError::NoSpace,
        _ => FileError::Device,
    }
}

impl Content {
    /// An empty file's.
    pub fn empty(account: &Arc<Account>) -> Result<Content, FileError> {
        Ok(Content::Heap(Vec::new(), Charge::new(account, 0)?))
    }

    /// The file's length in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Content::Image(file) => file.size,
            Content::Heap(bytes, _) => bytes.len() as u64,
            Content::Memory { size, .. } => *size,
        }
    }

    /// Bytes of memory that it takes beyond the image.
    pub fn charged(&self) -> u64 {
        match self {
            Content::Image(_) => 0,
            Content::Heap(bytes, _) => bytes.len() as u64,
            Content::Memory { vmo, .. } => vmo.pages().unwrap_or(0).saturating_mul(tessera_runtime::abi::PAGE),
        }
    }

    /// Copies from `at` on; answers how many bytes there were.
    pub fn read(&self, source: Source<'_>, at: u64, into: &mut [u8]) -> Result<usize, FileError> {
        let there = usize::try_from(self.size().saturating_sub(at)).unwrap_or(usize::MAX);
        let Some(into) = into.get_mut(..there.min(into.len())) else { return Ok(0) };
        let length = into.len();
        if length == 0 {
            return Ok(0);
        }
        match self {
            Content::Image(file) => return source.image.ok_or(FileError::Device)?.read(file, at, into),
            Content::Heap(bytes, _) => {
                let start = at as usize;
                let from = bytes.get(start..start.saturating_add(length)).ok_or(FileError::Device)?;
                into.copy_from_slice(from);
            }
            Content::Memory { vmo, .. } => {
                if vmo.read(at, into).map_err(no_space)? != length {
                    return Err(FileError::Device);
                }
            }
        }
        Ok(length)
    }

    /// Copies `from` to `at`, growing as needed; a gap reads as zeros.
    pub fn write(&mut self, source: Source<'_>, at: u64, from: &[u8]) -> Result<usize, FileError> {
        if from.is_empty() {
            return Ok(0);
        }
        let end =
            at.checked_add(from.len() as u64).filter(|end| i64::try_from(*end).is_ok()).ok_or(FileError::TooLarge)?;
        self.make_own(source, end.max(self.size()))?;
        match self {
            Content::Image(_) => return Err(FileError::Device),
            Content::Heap(bytes, charge) => {
                if bytes.len() < end as usize {
                    fit(bytes, charge, end as usize)?;
                }
                let (start, end) = (at as usize, end as usize);
                bytes.get_mut(start..end).ok_or(FileError::Device)?.copy_from_slice(from);
            }
            Content::Memory { vmo, size } => {
                if end > vmo.size().map_err(no_space)? {
                    // Doubled, so that appending does not resize each time: absent pages cost nothing.
                    vmo.resize(end.max(size.saturating_mul(2))).or_else(|_| vmo.resize(end)).map_err(no_space)?;
                }
                let written = vmo.write(at, from).map_err(no_space)?;
                *size = (*size).max(at.saturating_add(written as u64));
                return if written == 0 { Err(FileError::NoSpace) } else { Ok(written) };
            }
        }
        Ok(from.len())
    }

    /// Cuts the file or grows it with zeros.
    pub fn resize(&mut self, source: Source<'_>, to: u64) -> Result<(), FileError> {
        if i64::try_from(to).is_err() {
            return Err(FileError::TooLarge);
        }
        if to == self.size() {
            return Ok(());
        }
        if to == 0 && !matches!(self, Content::Memory { .. }) {
            *self = Content::empty(source.account)?;
            return Ok(());
        }
        self.make_own(source, to)?;
        match self {
            Content::Image(_) => return Err(FileError::Device),
            Content::Heap(bytes, charge) => fit(bytes, charge, to as usize)?,
            Content::Memory { vmo, size } => {
                if to < *size {
                    zero(vmo, to..to.next_multiple_of(tessera_runtime::abi::PAGE).min(*size))?;
                }
                vmo.resize(to).map_err(no_space)?;
                *size = to;
            }
        }
        Ok(())
    }

    /// Moves the content to memory that may be written and can hold `size` bytes.
    fn make_own(&mut self, source: Source<'_>, size: u64) -> Result<(), FileError> {
        match self {
            Content::Heap(bytes, _) if size > HEAP_LIMIT => {
                let vmo = create(source.pool, size)?;
                if !bytes.is_empty() && vmo.write(0, bytes).map_err(no_space)? != bytes.len() {
                    return Err(FileError::NoSpace);
                }
                *self = Content::Memory { vmo, size: bytes.len() as u64 };
            }
            Content::Image(file) => {
                let (file, length) = (*file, file.size);
                let image = source.image.ok_or(FileError::Device)?;
                *self = if size.max(length) <= HEAP_LIMIT {
                    let (mut own, mut charge) = (Vec::new(), Charge::new(source.account, 0)?);
                    fit(&mut own, &mut charge, length as usize)?;
                    image.read(&file, 0, &mut own)?;
                    Content::Heap(own, charge)
                } else {
                    Content::Memory { vmo: copy(image, &file, source.pool, size.max(length))?, size: length }
                };
            }
            Content::Heap(..) | Content::Memory { .. } => {}
        }
        Ok(())
    }

    /// The memory object to map, and where in it the file begins. A file of the image is mapped in place.
    pub fn memory(&mut self, source: Source<'_>) -> Result<(Vmo, u64), FileError> {
        if let Content::Image(file) = self {
            let image = source.image.ok_or(FileError::Device)?;
            if let Some((vmo, range)) = image.memory(file)? {
                return Ok((vmo, range.start));
            }
            *self = Content::Memory { vmo: copy(image, file, source.pool, file.size)?, size: file.size };
        }
        if let Content::Heap(bytes, _) = self {
            let vmo = create(source.pool, bytes.len() as u64)?;
            if !bytes.is_empty() && vmo.write(0, bytes).map_err(no_space)? != bytes.len() {
                return Err(FileError::NoSpace);
            }
            *self = Content::Memory { vmo, size: bytes.len() as u64 };
        }
        match self {
            Content::Memory { vmo, .. } => Ok((tessera_runtime::Object::try_clone(vmo).map_err(no_space)?, 0)),
            _ => Err(FileError::Device),
        }
    }
}

/// Copies a file of the image to a memory object of `size` bytes.
fn copy(image: &Image, file: &Inode, pool: &Pool, size: u64) -> Result<Vmo, FileError> {
    let vmo = create(pool, size)?;
    let mut piece = Vec::new();
    piece.try_reserve(CHUNK).map_err(|_| FileError::NoSpace)?;
    piece.resize(CHUNK, 0);
    let mut at = 0;
    while at < file.size {
        let count = image.read(file, at, &mut piece)?;
        let part = piece.get(..count).filter(|part| !part.is_empty()).ok_or(FileError::Device)?;
        if vmo.write(at, part).map_err(no_space)? != part.len() {
            return Err(FileError::NoSpace);
        }
        at = at.saturating_add(count as u64);
    }
    Ok(vmo)
}

fn create(pool: &Pool, size: u64) -> Result<Vmo, FileError> {
    Vmo::create(pool, size.max(1)).map_err(no_space)
}

/// Gives bytes on the heap a new length, charged first.
fn fit(bytes: &mut Vec<u8>, charge: &mut Charge, length: usize) -> Result<(), FileError> {
    // A vector may hold up to twice what is in it.
    charge.set((length as u64).saturating_mul(2))?;
    bytes.try_reserve(length.saturating_sub(bytes.len())).map_err(|_| FileError::NoSpace)?;
    bytes.resize(length, 0);
    Ok(())
}

fn zero(vmo: &Vmo, range: Range<u64>) -> Result<(), FileError> {
    let zeros = [0_u8; 4096];
    let mut at = range.start;
    while at < range.end {
        let length = range.end.saturating_sub(at).min(CHUNK.min(zeros.len()) as u64);
        let part = zeros.get(..length as usize).ok_or(FileError::Device)?;
        if vmo.write(at, part).map_err(no_space)? != part.len() {
            return Err(FileError::NoSpace);
        }
        at = at.saturating_add(length);
    }
    Ok(())
}
