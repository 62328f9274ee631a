//! A process's memory as others reach it: `process_vm_readv` and its like, `/proc/PID/mem`, `ptrace`.

use super::{Mm, own_copy};
use crate::memory::{Protection, access};

impl Mm {
    /// Reads memory of a process that is not the caller's guest; answers the bytes before the first that is not mapped.
    pub fn read_from_outside(&self, address: u64, to: &mut [u8]) -> usize {
        let layout = self.layout.lock();
        let mut done = 0;
        while let (Some(at), Some(rest)) = (address.checked_add(done as u64), to.get_mut(done..)) {
            let Some((start, area)) = layout.find(at).filter(|_| !rest.is_empty()) else { break };
            let length = rest.len().min((area.end - at) as usize);
            let part = rest.get_mut(..length).unwrap_or_default();
            match area.memory.read(area.offset + (at - start), part) {
                Ok(copied) if copied > 0 => done += copied,
                _ => break,
            }
        }
        done
    }

    /// Writes memory of another process as far as it may itself.
    pub fn write_if_writable(&self, address: u64, from: &[u8]) -> usize {
        let most = {
            let layout = self.layout.lock();
            let mut at = address;
            let end = address.saturating_add(from.len() as u64);
            while at < end {
                match layout.find(at).filter(|(_, area)| area.protection.contains(Protection::WRITE)) {
                    Some((_, area)) => at = area.end.min(end),
                    None => break,
                }
            }
            (at - address) as usize
        };
        self.write_from_outside(address, from.get(..most).unwrap_or_default())
    }

    /// Writes memory of a process that is traced, whatever its protection: private views of files get pages of their own first.
    pub fn poke(&self, address: u64, from: &[u8]) -> usize {
        {
            let mut layout = self.layout.lock();
            let end = address.saturating_add(from.len() as u64);
            for at in layout.overlapping(address, end) {
                let Some((at, area)) = layout.find_mut(at).filter(|(_, area)| area.of_file && !area.shared) else {
                    continue;
                };
                let Ok((memory, offset)) = own_copy(&area.memory, area.offset, area.end - at) else { return 0 };
                let wanted = core::mem::replace(&mut area.entered, Protection::NONE);
                if wanted != Protection::NONE && access::unmap(&self.space, at, area.end - at).is_err() {
                    return 0;
                }
                (area.memory, area.offset, area.of_file) = (memory, offset, false);
                if self.change(at, area, wanted).is_err() {
                    return 0;
                }
            }
        }
        self.write_from_outside(address, from)
    }

    /// Writes memory of a process that is not the caller's guest.
    pub fn write_from_outside(&self, address: u64, from: &[u8]) -> usize {
        let layout = self.layout.lock();
        let mut done = 0;
        while let (Some(at), Some(rest)) = (address.checked_add(done as u64), from.get(done..)) {
            let Some((start, area)) =
                layout.find(at).filter(|(_, area)| !rest.is_empty() && (area.shared || !area.of_file))
            else {
                break;
            };
            let length = rest.len().min((area.end - at) as usize);
            match area.memory.vmo().write(area.offset + (at - start), rest.get(..length).unwrap_or_default()) {
                Ok(copied) if copied > 0 => done += copied,
                _ => break,
            }
        }
        done
    }
}
