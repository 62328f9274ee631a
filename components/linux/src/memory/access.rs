//! The bytes of guest memory. The only `unsafe` of this crate.
//!
//! A thread of the personality sees the guest's memory beside its own, below `NATIVE_BASE`. An address from a guest is an
//! allegation: it is looked up in the list of mappings, with the direction of the access, and the list stays locked while
//! the bytes are copied, so that nobody can unmap them meanwhile. What the guest's own threads do to the bytes at the same time
//! is their affair: they are copied, never borrowed.

use alloc::sync::Arc;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use smallvec::{Array, SmallVec};
use tessera_runtime::object::{Access, Space, guest};
use tessera_runtime::{own, thread};

use super::{Layout, Mm, Protection, Vma};
use crate::errno::{Errno, Result};

/// The calling thread's guest memory. It cannot leave the thread: another thread sees another guest's memory there.
#[derive(Clone)]
pub struct GuestMemory {
    mm: Arc<Mm>,
    thread: PhantomData<*mut ()>,
}

impl GuestMemory {
    /// Gives the calling thread a guest in this memory. A thread gets one guest in its life.
    pub fn bind(mm: Arc<Mm>) -> Result<GuestMemory> {
        guest::create(&thread::current(), &own::pool(), mm.space())?;
        Ok(GuestMemory { mm, thread: PhantomData })
    }

    /// The mappings.
    pub fn mm(&self) -> &Arc<Mm> {
        &self.mm
    }

    /// Copies from guest memory; answers how many bytes there were before the first that may not be read.
    #[cfg_attr(target_os = "none", optimize(speed))]
    pub fn read_some(&self, address: u64, to: &mut [u8]) -> usize {
        let layout = self.mm.lock();
        // SAFETY: when this is called, the range is mapped readable in this thread's guest, by memory that does not shrink meanwhile, and the
        // list is locked; `part` is ours, above all guest memory.
        let copy = |start: u64, part: &mut [u8]| unsafe {
            ptr::copy_nonoverlapping(start as *const u8, part.as_mut_ptr(), part.len());
        };
        if to.len() <= AT_ONCE && layout.knows(address, to.len(), Protection::READ) && !self.mm.is_doomed() {
            copy(address, to);
            return to.len();
        }
        each(&self.mm, &layout, address, to.len(), Protection::READ, |area, start, done, length| {
            let Some(part) = to.get_mut(done..done + length) else { return 0 };
            if area.of_file {
                let from = area.offset + (start - area.0);
                let shown = area.memory.while_shown(from + length as u64, || copy(start, part));
                if let (Some(()), Some(end)) = (shown, area.memory.constant_end()) {
                    let shown = area.0.saturating_add(end.saturating_sub(area.offset));
                    layout.remember(area.0, area.end.min(shown), Protection::READ);
                }
                return shown.map_or_else(|| area.memory.read(from, part).unwrap_or(0), |()| length);
            }
            copy(start, part);
            layout.remember(area.0, area.end, Protection::READ);
            length
        })
    }

    /// Copies behind what is in `to`; answers how many bytes there were before the first that may not be read, or that there was no room for.
    #[cfg_attr(target_os = "none", optimize(speed))]
    pub fn read_onto<A: Array<Item = u8>>(&self, address: u64, to: &mut SmallVec<A>, length: usize) -> usize {
        if to.try_reserve(length).is_err() {
            return 0;
        }
        let before = to.len();
        let layout = self.mm.lock();
        if length <= AT_ONCE && layout.knows(address, length, Protection::READ) && !self.mm.is_doomed() {
            // SAFETY: as in `read_some`; there is room for as much behind what is in `to`, and then it is written.
            unsafe {
                ptr::copy_nonoverlapping(address as *const u8, to.as_mut_ptr().add(before), length);
                to.set_len(before + length);
            }
            return length;
        }
        drop(layout);
        to.resize(before + length, 0);
        let read = self.read_some(address, to.get_mut(before..).unwrap_or_default());
        to.truncate(before + read);
        read
    }

    /// Copies at most `length` bytes behind what is in `to`, as `read_onto`, but none from the first zero on; answers whether there was one.
    #[cfg_attr(target_os = "none", optimize(speed))]
    pub fn read_text_onto<A: Array<Item = u8>>(
        &self,
        address: u64,
        to: &mut SmallVec<A>,
        length: usize,
    ) -> Result<bool> {
        let before = to.len();
        let read = self.read_onto(address, to, length);
        match first_zero(to.get(before..).unwrap_or_default()) {
            // SAFETY: fewer than there are. `truncate` would look at each byte that goes.
            Some(end) => unsafe { to.set_len(before + end) },
            None if read < length => return Err(Errno::EFAULT),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Copies to guest memory; answers how many bytes fitted before the first that may not be written.
    #[cfg_attr(target_os = "none", optimize(speed))]
    pub fn write_some(&self, address: u64, from: &[u8]) -> usize {
        let layout = self.mm.lock();
        // SAFETY: as in `read_some`, for writing.
        let copy = |start: u64, part: &[u8]| unsafe {
            ptr::copy_nonoverlapping(part.as_ptr(), start as *mut u8, part.len());
        };
        if from.len() <= AT_ONCE && layout.knows(address, from.len(), Protection::WRITE) && !self.mm.is_doomed() {
            copy(address, from);
            return from.len();
        }
        each(&self.mm, &layout, address, from.len(), Protection::WRITE, |area, start, done, length| {
            let Some(part) = from.get(done..done + length) else { return 0 };
            if area.of_file || !area.entered.contains(Protection::WRITE) {
                return area.memory.vmo().write(area.offset + (start - area.0), part).unwrap_or(0);
            }
            copy(start, part);
            layout.remember(area.0, area.end, Protection::WRITE);
            length
        })
    }

    /// Reads a word that other threads change atomically (a futex).
    pub fn load(&self, address: u64) -> Result<u32> {
        self.word(address, Protection::READ, |word| word.load(Ordering::SeqCst))
    }

    /// Changes a word atomically as `change` says, which may refuse; answers what it was.
    pub fn update(&self, address: u64, change: impl Fn(u32) -> Option<u32>) -> Result<u32> {
        self.word(address, Protection::WRITE, |word| {
            word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change).unwrap_or_else(|was| was)
        })
    }

    #[cfg_attr(target_os = "none", optimize(speed))]
    fn word<T>(&self, address: u64, access: Protection, then: impl FnOnce(&AtomicU32) -> T) -> Result<T> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let layout = self.mm.lock();
        let (start, area) = layout.find(address).ok_or(Errno::EFAULT)?;
        if !area.protection.contains(access) || !area.entered.contains(access) {
            return Err(Errno::EFAULT);
        }
        if area.of_file {
            // Whether the page is still there: a word of a file that shrank faults for the guest, and is refused here.
            let mut byte = [0];
            if area.memory.read(area.offset + (address - start), &mut byte) != Ok(1) {
                return Err(Errno::EFAULT);
            }
        }
        // SAFETY: aligned, mapped in this thread's guest with this access, and the list is locked. Guests change it only by
        // machine instructions, for which an atomic is the right view.
        Ok(then(unsafe { &*(address as *const AtomicU32) }))
    }
}

/// Bytes that are copied between looks at whether the program is to go on: each page may be one that there is no memory for.
const AT_ONCE: usize = 32 << 10;

/// A mapping and its start.
struct Area<'a>(u64, &'a Vma);

impl core::ops::Deref for Area<'_> {
    type Target = Vma;
    fn deref(&self) -> &Vma {
        self.1
    }
}

/// Calls `copy` with each mapping's part of a range that allows the access: address, bytes done before, length. It answers how much
/// it copied; less than the part ends the walk.
fn each(
    mm: &Mm,
    layout: &Layout,
    address: u64,
    length: usize,
    access: Protection,
    mut copy: impl FnMut(Area<'_>, u64, usize, usize) -> usize,
) -> usize {
    let mut done = 0;
    while done < length && !mm.is_doomed() {
        let Some(at) = address.checked_add(done as u64) else { break };
        let Some((start, area)) = layout.find(at).filter(|(_, area)| area.protection.contains(access)) else { break };
        let part = (length - done).min((area.end - at) as usize).min(AT_ONCE);
        let copied = copy(Area(start, area), at, done, part);
        done += copied;
        if copied < part {
            break;
        }
    }
    done
}

/// Where the first zero is. Eight bytes are looked at together wherever they lie: texts are short, and begin anywhere.
pub fn first_zero(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of each byte that is zero. One above such a byte may be wrong: what is borrowed comes from there.
        let zeroes = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeroes != 0 {
            return Some(index * 8 + zeroes.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| *byte == 0).map(|place| words.len() * 8 + place)
}

/// Undoes a guest's mappings in a space that is not this process's own.
pub(super) fn unmap(space: &Space, start: u64, length: u64) -> Result<()> {
    // SAFETY: the space belongs to a guest. Threads of this process see its memory, but touch it only in this module under
    // the lock of the list, which the caller holds and has taken the range out of.
    Ok(unsafe { space.unmap(start, length) }?)
}

/// Changes what a guest's mappings allow.
pub(super) fn protect(space: &Space, start: u64, length: u64, access: Access) -> Result<()> {
    // SAFETY: as for `unmap`; the caller holds the lock of the list and changes it alike.
    Ok(unsafe { space.protect(start, length, access) }?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_zero_is_found_wherever_it_is() {
        for length in 0..40 {
            for (zero, filling) in (0..=length).flat_map(|zero| [1, 0x80, 0xff, 0].map(|filling| (zero, filling))) {
                let mut bytes = alloc::vec![1_u8; length];
                bytes.get_mut(zero..).unwrap().fill(filling);
                if let Some(byte) = bytes.get_mut(zero) {
                    *byte = 0;
                }
                assert_eq!(first_zero(&bytes), bytes.iter().position(|byte| *byte == 0), "{bytes:?}");
            }
        }
    }
}
