//! Where bytes go to and come from when a file is read or written: a guest's memory, or the personality's own.

use smallvec::SmallVec;

use crate::errno::{Errno, Result};
use crate::memory::GuestMemory;

/// Takes the bytes that a file gives.
pub trait Sink {
    /// How many more it takes.
    fn room(&self) -> usize;
    /// Takes as many as it can; an error only if none could be stored.
    fn put(&mut self, bytes: &[u8]) -> Result<usize>;
}

/// Bytes on their way: few are kept where the call is.
pub type Buffer = SmallVec<[u8; 1536]>;
/// A list of pieces of guest memory.
pub type GuestSlices = SmallVec<[GuestSlice; 8]>;

/// Gives the bytes that a file takes.
pub trait Source {
    /// How many more it has.
    fn left(&self) -> usize;
    /// Fills as much as it can; an error only if none could be fetched.
    fn take(&mut self, into: &mut [u8]) -> Result<usize>;
    /// Puts at most so many bytes behind those in `into`; an error only if none could be fetched.
    fn append(&mut self, into: &mut Buffer, most: usize) -> Result<usize>;
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

    /// From behind the first `done` bytes.
    pub fn behind(memory: &'a GuestMemory, pieces: &'a [GuestSlice], done: u64) -> Pieces<'a> {
        let mut behind = Pieces::new(memory, pieces);
        behind.left = behind.left.saturating_sub(done as usize);
        let mut skip = done;
        while let Some(piece) = pieces.get(behind.index).filter(|piece| piece.length <= skip && skip > 0) {
            skip -= piece.length;
            behind.index += 1;
        }
        behind.within = skip;
        behind
    }

    /// Takes or gives no more than `most` bytes.
    pub fn limit(&mut self, most: u64) {
        self.left = self.left.min(usize::try_from(most).unwrap_or(usize::MAX));
    }

    /// Where the next bytes are, at most `most`.
    #[cfg_attr(target_os = "none", optimize(speed))]
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

    #[cfg_attr(target_os = "none", optimize(speed))]
    fn walk(&mut self, length: usize, mut copy: impl FnMut(&GuestMemory, u64, usize, usize) -> usize) -> Result<usize> {
        // What lies in one piece, as most does, needs no walk.
        if let Some(piece) = self.pieces.get(self.index)
            && length as u64 <= piece.length - self.within
        {
            let copied = copy(self.memory, piece.address.wrapping_add(self.within), 0, length);
            self.within += copied as u64;
            self.left -= copied;
            return if copied == 0 && length > 0 { Err(Errno::EFAULT) } else { Ok(copied) };
        }
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

    #[cfg_attr(target_os = "none", optimize(speed))]
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

    #[cfg_attr(target_os = "none", optimize(speed))]
    fn take(&mut self, into: &mut [u8]) -> Result<usize> {
        self.walk(into.len(), |memory, address, done, part| {
            memory.read_some(address, into.get_mut(done..done + part).unwrap_or_default())
        })
    }

    #[cfg_attr(target_os = "none", optimize(speed))]
    fn append(&mut self, into: &mut Buffer, most: usize) -> Result<usize> {
        self.walk(most.min(self.left), |memory, address, _, part| memory.read_onto(address, into, part))
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

    fn append(&mut self, into: &mut Buffer, most: usize) -> Result<usize> {
        let (now, later) = self.0.split_at(most.min(self.0.len()));
        into.extend_from_slice(now);
        self.0 = later;
        Ok(now.len())
    }
}

/// Lends a buffer that is large enough for `length` bytes, or for a page of them: clearing a large one costs more than a short call.
pub fn through_buffer<T>(length: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    const SHORT: usize = 128;
    if length <= SHORT { work(&mut [0; SHORT]) } else { with_page(work) }
}

/// Not part of its caller, whose frame would have the page in any case.
#[inline(never)]
fn with_page<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    work(&mut [0; 4096])
}

/// Puts pieces one after the other until there is no room; an error only if nothing could be stored.
pub fn put_all<'a>(to: &mut dyn Sink, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<usize> {
    let room = to.room();
    let mut done = 0;
    for piece in pieces {
        if done == room {
            break;
        }
        let piece = piece.get(..room - done).unwrap_or(piece);
        match to.put(piece) {
            Ok(stored) if stored == piece.len() => done += stored,
            Ok(stored) => return Ok(done + stored),
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Passes all that fits from memory objects, a buffer at a time: `read(done, buffer)` answers how much it filled.
pub fn copy_out(
    to: &mut dyn Sink,
    length: usize,
    mut read: impl FnMut(usize, &mut [u8]) -> Result<usize>,
) -> Result<usize> {
    let length = length.min(to.room());
    through_buffer(length, |buffer| {
        let mut done = 0;
        while done < length {
            let part = (length - done).min(buffer.len());
            let part = buffer.get_mut(..part).unwrap_or_default();
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sink that stores so many bytes and faults at the next.
    struct Short {
        room: usize,
        fits: usize,
    }

    impl Sink for Short {
        fn room(&self) -> usize {
            self.room
        }

        fn put(&mut self, bytes: &[u8]) -> Result<usize> {
            let stored = bytes.len().min(self.fits);
            if stored == 0 && !bytes.is_empty() {
                return Err(Errno::EFAULT);
            }
            (self.room, self.fits) = (self.room - stored, self.fits - stored);
            Ok(stored)
        }
    }

    #[test]
    fn pieces_are_put_until_there_is_no_room() {
        let pieces = [b"".as_slice(), b"abc", b"", b"defg"];
        let mut buffer = [0; 5];
        assert_eq!(put_all(&mut Bytes(buffer.as_mut_slice()), pieces), Ok(5));
        assert_eq!(&buffer, b"abcde");
        let mut buffer = [b'.'; 9];
        assert_eq!(put_all(&mut Bytes(buffer.as_mut_slice()), pieces), Ok(7));
        assert_eq!(&buffer, b"abcdefg..");
        assert_eq!(put_all(&mut Bytes([].as_mut_slice()), core::iter::repeat(b"x".as_slice())), Ok(0));
    }

    #[test]
    fn what_was_stored_before_a_fault_counts() {
        let pieces = || core::iter::repeat(b"abc".as_slice());
        assert_eq!(put_all(&mut Short { room: 100, fits: 7 }, pieces()), Ok(7));
        assert_eq!(put_all(&mut Short { room: 100, fits: 6 }, pieces()), Ok(6));
        assert_eq!(put_all(&mut Short { room: 100, fits: 0 }, pieces()), Err(Errno::EFAULT));
    }

    #[test]
    fn long_and_short_transfers_go_through_a_buffer() {
        for length in [0, 1, 127, 128, 129, 4096, 10_000] {
            let from: alloc::vec::Vec<u8> = (0..length).map(|index| index as u8).collect();
            let mut to = alloc::vec![0; length];
            let read = |done: usize, into: &mut [u8]| {
                let part = &from[done..(done + into.len()).min(length)];
                into[..part.len()].copy_from_slice(part);
                Ok(part.len())
            };
            assert_eq!(copy_out(&mut Bytes(to.as_mut_slice()), usize::MAX, read), Ok(length));
            assert_eq!(to, from);
        }
    }
}
