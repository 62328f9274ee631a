//! Physical memory: which frames are free, and how many hold on to each of the others.
//!
//! A frame is shared by snapshots; it is free again when the last holder lets go. Whoever takes a frame has charged it
//! to a pool before, and all pools together never exceed the frames there are: `take` does not fail after a charge.

use crate::Frame;
use alloc::{boxed::Box, vec};
use core::ops::Range;

const END: u32 = u32::MAX;

/// The table of frames.
pub struct Frames {
    first: u64,
    /// For a frame in use: how many hold it. For a free one: the next free one.
    entries: Box<[u32]>,
    free: u32,
    count: u32,
}

impl Frames {
    /// A table of the frames in `ranges` (frame numbers), all free.
    pub fn new(ranges: &[Range<u64>]) -> Frames {
        let first = ranges.iter().map(|range| range.start).min().unwrap_or(0);
        let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
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
            *entry = entry.saturating_add(1);
        }
    }

    /// How many hold this frame.
    pub fn holders(&self, frame: Frame) -> u32 {
        let index = frame.0.wrapping_sub(self.first);
        self.entries.get(index as usize).copied().unwrap_or(0)
    }

    /// One fewer holds this frame; true when it is free now.
    pub fn release(&mut self, frame: Frame) -> bool {
        let free = self.free;
        let Some(entry) = self.entry(frame) else { return false };
        if *entry > 1 {
            *entry -= 1;
            return false;
        }
        *entry = free;
        self.free = frame.0.wrapping_sub(self.first) as u32;
        self.count = self.count.saturating_add(1);
        true
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
    fn a_frame_is_free_when_its_last_holder_lets_go() {
        let mut frames = Frames::new(&[1..3, 8..9]);
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
