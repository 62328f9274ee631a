//! Where bytes go to and come from when a file is read or written: a guest's memory, or the personality's own.

use crate::errno::{Errno, Result};
use crate::memory::GuestMemory;

/// Takes the bytes that a file gives.
pub trait Sink {
    /// How many more it takes.
    fn room(&self) -> usize;
    /// Takes as many as it can; an error only if none could be stored.
    fn put(&mut self, bytes: &[u8]) -> Result<usize>;
}

/// Gives the bytes that a file takes.
pub trait Source {
    /// How many more it has.
    fn left(&self) -> usize;
    /// Fills as much as it can; an error only if none could be fetched.
    fn take(&mut self, into: &mut [u8]) -> Result<usize>;
}

/// A range of a guest's memory that was said to be accessible.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GuestSlice {
    pub address: u64,
    pub length: u64,
}

/// Guest memory in pieces (`struct iovec`), with a position.
pub struct Pieces<'a> {
    memory: &'a GuestMemory,
    pieces: &'a [GuestSlice],
    index: usize,
    within: u64,
    left: usize,
}

impl<'a> Pieces<'a> {
    /// From the start of the first piece. The sum of the lengths was checked to fit.
    pub fn new(memory: &'a GuestMemory, pieces: &'a [GuestSlice]) -> Pieces<'a> {
        let left = pieces.iter().fold(0_usize, |sum, piece| sum.saturating_add(piece.length as usize));
        Pieces { memory, pieces, index: 0, within: 0, left }
    }

    /// Where the next bytes are, at most `most`.
    fn next(&mut self, most: usize) -> Option<(u64, usize)> {
        loop {
            let piece = self.pieces.get(self.index)?;
            let rest = piece.length - self.within;
            if rest > 0 {
                return Some((piece.address.wrapping_add(self.within), rest.min(most as u64) as usize));
            }
            (self.index, self.within) = (self.index + 1, 0);
        }
    }

    fn walk(&mut self, length: usize, mut copy: impl FnMut(&GuestMemory, u64, usize, usize) -> usize) -> Result<usize> {
        let mut done = 0;
        while done < length {
            let Some((address, part)) = self.next(length - done) else { break };
            let copied = copy(self.memory, address, done, part);
            done += copied;
            self.within += copied as u64;
            self.left -= copied;
            if copied < part {
                if done == 0 {
                    return Err(Errno::EFAULT);
                }
                break;
            }
        }
        Ok(done)
    }
}

impl Sink for Pieces<'_> {
    fn room(&self) -> usize {
        self.left
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        self.walk(bytes.len(), |memory, address, done, part| {
            memory.write_some(address, bytes.get(done..done + part).unwrap_or_default())
        })
    }
}

impl Source for Pieces<'_> {
    fn left(&self) -> usize {
        self.left
    }

    fn take(&mut self, into: &mut [u8]) -> Result<usize> {
        self.walk(into.len(), |memory, address, done, part| {
            memory.read_some(address, into.get_mut(done..done + part).unwrap_or_default())
        })
    }
}

/// The personality's own memory.
pub struct Bytes<T>(pub T);

impl Sink for Bytes<&mut [u8]> {
    fn room(&self) -> usize {
        self.0.len()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        let length = bytes.len().min(self.0.len());
        let (now, later) = core::mem::take(&mut self.0).split_at_mut(length);
        now.copy_from_slice(bytes.get(..length).unwrap_or_default());
        self.0 = later;
        Ok(length)
    }
}

impl Source for Bytes<&[u8]> {
    fn left(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, into: &mut [u8]) -> Result<usize> {
        let length = into.len().min(self.0.len());
        let (now, later) = self.0.split_at(length);
        into.get_mut(..length).unwrap_or_default().copy_from_slice(now);
        self.0 = later;
        Ok(length)
    }
}

/// Passes all that fits from memory objects, a buffer at a time: `read(done, buffer)` answers how much it filled.
pub fn copy_out(
    to: &mut dyn Sink,
    mut length: usize,
    mut read: impl FnMut(usize, &mut [u8]) -> Result<usize>,
) -> Result<usize> {
    let mut buffer = [0; 4096];
    let mut done = 0;
    length = length.min(to.room());
    while done < length {
        let part = buffer.get_mut(..(length - done).min(4096)).unwrap_or_default();
        let filled = read(done, part)?;
        if filled == 0 {
            break;
        }
        match to.put(part.get(..filled).unwrap_or_default()) {
            Ok(stored) => {
                done += stored;
                if stored < filled {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
