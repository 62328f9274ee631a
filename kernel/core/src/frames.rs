//! Physical memory: which frames are free, and how many hold on to each of the others.
//!
//! A frame is shared by snapshots; it is free again when the last holder lets go, and nothing pins it for a device. Whoever takes a frame has charged it
//! to a pool before, and all pools together never exceed the frames there are: `take` does not fail after a charge.

use crate::Frame;
use alloc::{boxed::Box, vec};
use core::ops::Range;

const END: u32 = u32::MAX;
/// An entry of a frame in use: how many hold it, and above that how many pins there are.
const HOLDERS: u32 = (1 << 24) - 1;
const PIN: u32 = 1 << 24;
const MOST_PINS: u32 = 255;

/// The table of frames.
pub struct Frames {
    first: u64,
    /// For a frame in use: how many hold it. For a free one: the next free one.
    entries: Box<[u32]>,
    free: u32,
    count: u32,
}

impl Frames {
    /// A table of the frames in `ranges` (frame numbers), all free, and of those in `held`, each with one holder.
    pub fn new(ranges: &[Range<u64>], held: Range<u64>) -> Frames {
        let all = || ranges.iter().chain([&held]).filter(|range| !range.is_empty());
        let first = all().map(|range| range.start).min().unwrap_or(0);
        let end = all().map(|range| range.end).max().unwrap_or(0);
        let length = end.saturating_sub(first).min(u64::from(END - 1)) as usize;
        let mut frames = Frames { first, entries: vec![1; length].into_boxed_slice(), free: END, count: 0 };
        for range in ranges.iter().rev() {
            for number in range.clone().rev().filter(|number| *number != 0) {
                frames.release(Frame(number));
            }
        }
        frames
    }

    /// How many frames are free.
    pub fn available(&self) -> u32 {
        self.count
    }

    /// Takes a free frame, with whatever it contains.
    pub fn take(&mut self) -> Option<Frame> {
        let index = self.free;
        let entry = self.entries.get_mut(index as usize)?;
        self.free = *entry;
        *entry = 1;
        self.count = self.count.saturating_sub(1);
        Some(Frame(self.first.wrapping_add(u64::from(index))))
    }

    /// One more holds this frame.
    pub fn share(&mut self, frame: Frame) {
        if let Some(entry) = self.entry(frame) {
            debug_assert!(*entry & HOLDERS != HOLDERS, "a frame has fewer holders than there can be memory objects");
            *entry = entry.saturating_add(1);
        }
    }

    /// How many hold this frame.
    pub fn holders(&self, frame: Frame) -> u32 {
        let index = frame.0.wrapping_sub(self.first);
        self.entries.get(index as usize).map_or(0, |entry| entry & HOLDERS)
    }

    /// One fewer holds this frame; true when it is free now.
    pub fn release(&mut self, frame: Frame) -> bool {
        let free = self.free;
        let Some(entry) = self.entry(frame) else { return false };
        if *entry & HOLDERS != 0 {
            *entry -= 1;
        }
        if *entry != 0 {
            return false;
        }
        *entry = free;
        self.free = frame.0.wrapping_sub(self.first) as u32;
        self.count = self.count.saturating_add(1);
        true
    }

    /// How often a frame in use is pinned.
    #[cfg(any(test, feature = "audit"))]
    pub fn pins(&self, frame: Frame) -> u32 {
        let index = frame.0.wrapping_sub(self.first);
        self.entries.get(index as usize).map_or(0, |entry| entry / PIN)
    }

    /// Keeps a frame in use from being freed; false if that was done too often, or it is not one of these.
    pub fn pin(&mut self, frame: Frame) -> bool {
        match self.entry(frame) {
            Some(entry) if *entry / PIN < MOST_PINS => {
                *entry += PIN;
                true
            }
            _ => false,
        }
    }

    /// Takes one pin back; true when the frame is free now.
    pub fn unpin(&mut self, frame: Frame) -> bool {
        let Some(entry) = self.entry(frame).filter(|entry| **entry >= PIN) else { return false };
        *entry -= PIN;
        if *entry != 0 {
            return false;
        }
        // As if its last holder let go now.
        *entry = 1;
        self.release(frame)
    }

    fn entry(&mut self, frame: Frame) -> Option<&mut u32> {
        let index = frame.0.wrapping_sub(self.first);
        self.entries.get_mut(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_were_held_from_the_start_are_memory_when_they_are_let_go() {
        for held in [1..3, 20..22, 5..6] {
            let mut frames = Frames::new(&[8..9, 10..11], held.clone());
            assert_eq!(frames.available(), 2);
            for number in held.clone() {
                assert_eq!(frames.holders(Frame(number)), 1);
                assert!(frames.release(Frame(number)));
            }
            assert_eq!(frames.available() as usize, 2 + held.count());
        }
    }

    #[test]
    fn a_pinned_frame_is_free_when_its_last_pin_is_gone_too() {
        let mut frames = Frames::new(&[1..2, 2..3], 0..0);
        let frame = frames.take().unwrap();
        assert!(frames.pin(frame) && frames.pin(frame));
        assert_eq!((frames.holders(frame), frames.pins(frame)), (1, 2));
        assert!(!frames.unpin(frame) && !frames.release(frame));
        assert_eq!(frames.available(), 1);
        assert!(frames.unpin(frame));
        assert_eq!(frames.available(), 2);
        let other = frames.take().unwrap();
        assert!((0..255).all(|_| frames.pin(other)) && !frames.pin(other));
        assert_eq!((frames.holders(other), frames.pins(other)), (1, 255));
        assert!(!frames.pin(Frame(99)));
    }

    #[test]
    fn a_frame_is_free_when_its_last_holder_lets_go() {
        let mut frames = Frames::new(&[1..3, 8..9], 0..0);
        assert_eq!(frames.available(), 3);
        let frame = frames.take().unwrap();
        frames.share(frame);
        assert!(!frames.release(frame));
        assert!(frames.release(frame));
        assert_eq!(frames.available(), 3);
        let all: alloc::vec::Vec<_> = core::iter::from_fn(|| frames.take()).map(|frame| frame.0).collect();
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|number| [1, 2, 8].contains(number)));
    }
}
