//! `mremap`: a mapping becomes longer, shorter, or another place's.

use alloc::sync::Arc;

use super::{MAP_BASE, Mm, Move, transfer};
use crate::errno::{Errno, Result};
use crate::memory::{LOWEST, Memory, PAGE, TOP, Vma, round_up};

impl Mm {
    /// `mremap`: answers where the memory is then.
    pub fn remap(&self, start: u64, old: u64, new: u64, how: Move, fixed: Option<u64>) -> Result<u64> {
        let (old, new) = (round_up(old).ok_or(Errno::EINVAL)?, round_up(new).ok_or(Errno::EINVAL)?);
        if !start.is_multiple_of(PAGE) || new == 0 || new >= TOP {
            return Err(Errno::EINVAL);
        }
        let mut layout = self.layout.lock();
        let end = start.checked_add(old.max(PAGE)).ok_or(Errno::EINVAL)?;
        let (first, area) = layout.find(start).ok_or(Errno::EFAULT)?;
        if area.end < end {
            return Err(Errno::EFAULT);
        }
        if old == 0 && !area.shared {
            return Err(Errno::EINVAL);
        }
        let mut moved = area.clone();
        let at_its_end = area.end == end;
        moved.offset += start - first;
        if let Some(file) = &mut moved.file {
            file.offset += start - first;
        }
        if let Some(to) = fixed {
            let to_end = to.checked_add(new).filter(|end| *end <= TOP && to.is_multiple_of(PAGE) && to >= LOWEST);
            let to_end = to_end.ok_or(Errno::EINVAL)?;
            if to < end && start < to_end {
                return Err(Errno::EINVAL);
            }
            self.remove(&mut layout, to, to_end)?;
        } else if how == Move::Leave {
            // What stays behind reads as zeroes.
        } else if new <= old {
            if new < old {
                self.remove(&mut layout, start + new, start + old)?;
            }
            return Ok(start);
        } else if at_its_end && layout.is_free(end, start + new) && start + new <= TOP {
            let grown = self.grow(&moved, old, new)?;
            if Arc::ptr_eq(&grown, &moved.memory) {
                let more = Vma { end: start + new, offset: moved.offset + old, ..moved.clone() };
                self.enter(end, &more)?;
                layout.set_end(first, start + new);
                return Ok(start);
            }
        }
        if fixed.is_none() && how == Move::Never {
            return Err(Errno::ENOMEM);
        }
        let to = match fixed {
            Some(to) => to,
            None => layout.gap(new, MAP_BASE).ok_or(Errno::ENOMEM)?,
        };
        if new > old {
            let memory = self.grow(&moved, old, new)?;
            if !Arc::ptr_eq(&memory, &moved.memory) {
                (moved.memory, moved.offset) = (memory, 0);
            }
        }
        moved.end = to + new;
        if old > 0 {
            let left = Vma { end, memory: Memory::new(old)?, offset: 0, ..moved.clone() };
            self.remove(&mut layout, start, end)?;
            if how == Move::Leave {
                self.enter(start, &left)?;
                layout.insert(start, left);
            }
        }
        self.enter(to, &moved)?;
        layout.insert(to, moved);
        Ok(to)
    }

    /// Memory that holds `new` bytes from `area.offset` on: the same where it ends with the mapping, else a copy.
    fn grow(&self, area: &Vma, old: u64, new: u64) -> Result<Arc<Memory>> {
        let size = area.memory.size()?;
        if area.offset + new <= size {
            // Room behind it, which may be another mapping's unless nothing else uses this memory.
            if area.of_file || Arc::strong_count(&area.memory) <= 2 {
                return Ok(area.memory.clone());
            }
        } else if area.offset + old == size && !area.of_file {
            area.memory.resize(area.offset + new)?;
            return Ok(area.memory.clone());
        }
        let copy = Memory::new(new)?;
        transfer(&area.memory, area.offset, &copy, old)?;
        Ok(copy)
    }
}
