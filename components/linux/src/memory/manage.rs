//! A process's memory: the list of its mappings and the kernel's space, changed together under the list's lock.
//!
//! A page that a program may both write and execute is entered for one of both at a time, and changed over when it faults:
//! the kernel makes no mapping with both.

mod outside;
mod remap;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tessera_runtime::object::{Access, Space};
use tessera_runtime::sync::{Mutex, MutexGuard};
use tessera_runtime::{Error, own};

use super::layout::Mapped;
use super::{LOWEST, Layout, Memory, PAGE, Protection, TOP, Vma, access, round_up};
use crate::errno::{Errno, Result};
use crate::ipc::Segment;
use crate::ipc::shared::Attachment;

/// Below the stack: where the search for room starts, downward.
const MAP_BASE: u64 = TOP - (1 << 30);
/// Sparse bytes of the memory behind the heap, the most that `brk` can give.
const HEAP: u64 = 64 << 30;
/// The least that the kernel's mapping of the heap grows by.
const HEAP_STEP: u64 = 1 << 20;
/// Private writable mappings of files are copied at once up to this many bytes; larger ones share the file's pages until
/// they are written.
const COPY: u64 = 1 << 20;

/// Most mappings (`vm.max_map_count`).
const MOST_AREAS: usize = 65_530;

/// Where a mapping is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// There if it is free, else anywhere; 0: anywhere.
    Hint(u64),
    /// There, in place of what is there.
    Fixed(u64),
    /// There, or nowhere.
    Exactly(u64),
}

/// Whether `mremap` may move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    Never,
    May,
    /// It does, and leaves empty memory behind (`MREMAP_DONTUNMAP`).
    Leave,
}

/// What is to be mapped.
pub struct MapRequest {
    pub target: Target,
    /// Bytes; rounded up.
    pub length: u64,
    pub protection: Protection,
    pub shared: bool,
    /// The memory of a file and where in it to start; none: zeroes.
    pub memory: Option<(Arc<Memory>, u64)>,
    pub file: Option<Mapped>,
    pub name: &'static str,
    /// The segment of shared memory that it shows.
    pub attached: Option<Attachment>,
}

/// A process's memory.
pub struct Mm {
    space: Space,
    layout: Mutex<Layout>,
    heap: Mutex<Heap>,
    /// Most bytes that may be mapped (`RLIMIT_AS`).
    pub limit: AtomicU64,
    /// `MCL_FUTURE`: what is mapped from now on is locked.
    pub locks_more: AtomicBool,
    /// The program ends for want of memory.
    doomed: AtomicBool,
    /// What /proc/PID tells: arguments and environment.
    pub notes: Mutex<Notes>,
}

/// Where the parts of a program's start are.
#[derive(Clone, Default)]
pub struct Notes {
    pub arguments: (u64, u64),
    pub environment: (u64, u64),
    pub auxiliary: Vec<u8>,
}

/// The `brk` heap.
#[derive(Clone, Default)]
struct Heap {
    start: u64,
    end: u64,
    /// Up to where the kernel has it mapped.
    mapped: u64,
    memory: Option<Arc<Memory>>,
}

/// What the kernel enters for a protection, `wanted` being the access that is needed now.
fn entered(protection: Protection, wanted: Protection) -> Protection {
    let both = Protection::WRITE.union(Protection::EXECUTE);
    if !protection.contains(both) {
        protection
    } else if wanted.contains(Protection::EXECUTE) {
        protection.without(Protection::WRITE)
    } else {
        protection.without(Protection::EXECUTE)
    }
}

fn kernel_access(protection: Protection) -> Access {
    if protection.contains(Protection::WRITE) {
        Access::Write
    } else if protection.contains(Protection::EXECUTE) {
        Access::Execute
    } else {
        Access::Read
    }
}

impl Mm {
    /// Nothing mapped.
    pub fn new() -> Result<Arc<Mm>> {
        Ok(Arc::new(Mm {
            space: Space::create(&own::pool())?,
            layout: Mutex::new(Layout::default()),
            heap: Mutex::new(Heap::default()),
            limit: AtomicU64::new(u64::MAX),
            locks_more: AtomicBool::new(false),
            doomed: AtomicBool::new(false),
            notes: Mutex::new(Notes::default()),
        }))
    }

    /// The kernel's space.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The mappings, which cannot change while this is held.
    pub fn lock(&self) -> MutexGuard<'_, Layout> {
        self.layout.lock()
    }

    /// The program ends for want of memory: nothing more is copied from or to it.
    pub fn doom(&self) {
        self.doomed.store(true, Ordering::Relaxed);
    }

    /// Whether it was doomed.
    #[inline(always)]
    pub fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Relaxed)
    }

    /// Pages that it holds for itself; none while another thread changes the mappings or copies from or to them. Takes no memory.
    pub fn resident(&self) -> Option<u64> {
        let layout = self.layout.try_lock()?;
        let mut last = core::ptr::null();
        let mut pages: u64 = 0;
        for (_, area) in layout.iter().filter(|(_, area)| !area.of_file) {
            // Parts of one memory lie beside each other as a rule.
            if !core::ptr::eq(last, Arc::as_ptr(&area.memory)) {
                last = Arc::as_ptr(&area.memory);
                pages = pages.saturating_add(area.memory.vmo().pages().unwrap_or(0));
            }
        }
        Some(pages)
    }

    /// Enters a mapping in the kernel's space. What the list does not know is swept away: the heap's reserve.
    fn enter(&self, start: u64, area: &Vma) -> Result<()> {
        self.enter_part(start, area.end, area)
    }

    fn enter_part(&self, start: u64, end: u64, area: &Vma) -> Result<()> {
        if area.entered == Protection::NONE {
            return Ok(());
        }
        let map = || self.space.map_at(area.memory.vmo(), area.offset, start, end - start, kernel_access(area.entered));
        match map() {
            Err(Error::Occupied) => {
                access::unmap(&self.space, start, end - start)?;
                Ok(map()?)
            }
            other => Ok(other?),
        }
    }

    /// Maps memory; answers where.
    pub fn map(&self, request: MapRequest) -> Result<u64> {
        let length = round_up(request.length).filter(|length| *length != 0 && *length < TOP).ok_or(Errno::ENOMEM)?;
        let mut layout = self.layout.lock();
        if layout.bytes().saturating_add(length) > self.limit.load(Ordering::Relaxed) || layout.len() >= MOST_AREAS {
            return Err(Errno::ENOMEM);
        }
        let fits = |start: u64| start.checked_add(length).is_some_and(|end| end <= TOP);
        let start = match request.target {
            Target::Hint(hint) => {
                let hint = hint & !(PAGE - 1);
                if hint >= LOWEST && fits(hint) && layout.is_free(hint, hint + length) {
                    hint
                } else {
                    layout.gap(length, MAP_BASE).ok_or(Errno::ENOMEM)?
                }
            }
            Target::Fixed(start) | Target::Exactly(start) => {
                if !start.is_multiple_of(PAGE) {
                    return Err(Errno::EINVAL);
                }
                if start < LOWEST {
                    return Err(Errno::EPERM);
                }
                if !fits(start) {
                    return Err(Errno::ENOMEM);
                }
                if !layout.is_free(start, start + length) {
                    if matches!(request.target, Target::Exactly(_)) {
                        return Err(Errno::EEXIST);
                    }
                    self.remove(&mut layout, start, start + length)?;
                }
                start
            }
        };
        let (memory, offset, of_file) = match request.memory {
            None => (Memory::new(length)?, 0, false),
            Some((memory, offset)) => {
                let private = !request.shared && request.protection.contains(Protection::WRITE);
                if private {
                    let (memory, offset) = own_copy(&memory, offset, length)?;
                    (memory, offset, false)
                } else {
                    (memory, offset, true)
                }
            }
        };
        // Beyond the end of a file there is nothing to map; touching it is a bus error.
        let area = Vma {
            end: start + length,
            protection: request.protection,
            entered: entered(request.protection, Protection::WRITE),
            shared: request.shared,
            of_file,
            memory,
            offset,
            file: request.file,
            name: request.name,
            locked: false,
            stays: false,
            wiped: false,
            attached: request.attached,
        };
        let there = area.memory.size()?.saturating_sub(offset).min(length);
        if there > 0 {
            self.enter_part(start, start + there, &area)?;
        }
        layout.insert(start, area);
        Ok(start)
    }

    fn remove(&self, layout: &mut Layout, start: u64, end: u64) -> Result<()> {
        let removed = layout.remove(start, end);
        if removed.iter().any(|(_, area)| area.entered != Protection::NONE) {
            access::unmap(&self.space, start, end - start)?;
        }
        Ok(())
    }

    /// `munmap`.
    pub fn unmap(&self, start: u64, length: u64) -> Result<()> {
        let (start, end) = range(start, length)?;
        let mut layout = self.layout.lock();
        // What is cut in two is one mapping more.
        let cuts = layout.find(start).is_some_and(|(first, area)| first < start && end < area.end);
        if cuts && layout.len() >= MOST_AREAS {
            return Err(Errno::ENOMEM);
        }
        self.remove(&mut layout, start, end)
    }

    /// `shmdt`: takes out the mappings that one attachment at `address` made; answers what they showed.
    pub fn detach(&self, address: u64) -> Result<Arc<Segment>> {
        let mut layout = self.layout.lock();
        let of = |area: &Vma| area.attached.as_ref().map(|attached| attached.segment().clone());
        let found = layout.iter().find_map(|(start, area)| {
            let segment = of(area).filter(|_| start.checked_sub(area.offset) == Some(address))?;
            Some(segment)
        });
        let segment = found.ok_or(Errno::EINVAL)?;
        let end = address.saturating_add(segment.size);
        let parts: Vec<(u64, u64)> = layout
            .iter()
            .filter(|(start, area)| {
                let is_it = of(area).is_some_and(|other| Arc::ptr_eq(&other, &segment));
                is_it && *start < end && start.checked_sub(area.offset) == Some(address)
            })
            .map(|(start, area)| (start, area.end))
            .collect();
        for (start, end) in parts {
            self.remove(&mut layout, start, end)?;
        }
        Ok(segment)
    }

    /// `mprotect`.
    pub fn protect(&self, start: u64, length: u64, protection: Protection) -> Result<()> {
        if length == 0 {
            return if start.is_multiple_of(PAGE) { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let (start, end) = range(start, length)?;
        let mut layout = self.layout.lock();
        if !layout.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        layout.split(start);
        layout.split(end);
        for at in layout.overlapping(start, end) {
            let Some((at, area)) = layout.find_mut(at) else { continue };
            if area.protection == protection {
                continue;
            }
            if protection.contains(Protection::WRITE) {
                if area.shared && area.file.as_ref().is_some_and(|file| !file.writable) {
                    return Err(Errno::EACCES);
                }
                if area.of_file && !area.shared {
                    // The program is about to write to its private view of a file: from here on it has pages of its own.
                    let (memory, offset) = own_copy(&area.memory, area.offset, area.end - at)?;
                    if area.entered != Protection::NONE {
                        access::unmap(&self.space, at, area.end - at)?;
                    }
                    (area.memory, area.offset, area.of_file, area.entered) = (memory, offset, false, Protection::NONE);
                }
            }
            let wanted = entered(protection, Protection::WRITE);
            self.change(at, area, wanted)?;
            area.protection = protection;
        }
        Ok(())
    }

    /// Lets the kernel's mapping of `area` allow `wanted`.
    fn change(&self, at: u64, area: &mut Vma, wanted: Protection) -> Result<()> {
        if area.entered == wanted {
            return Ok(());
        }
        let before = core::mem::replace(&mut area.entered, wanted);
        if wanted == Protection::NONE {
            access::unmap(&self.space, at, area.end - at)
        } else if before == Protection::NONE {
            let there = area.memory.size()?.saturating_sub(area.offset).min(area.end - at);
            if there == 0 { Ok(()) } else { self.enter_part(at, at + there, area) }
        } else {
            let there = area.memory.size()?.saturating_sub(area.offset).min(area.end - at);
            if there == 0 {
                return Ok(());
            }
            access::protect(&self.space, at, there, kernel_access(wanted))
        }
    }

    /// A guest faulted at `address`: whether it may go on, because the page was entered for the other of writing and executing.
    pub fn resolve(&self, address: u64, access: Protection) -> bool {
        let mut layout = self.layout.lock();
        let Some((at, area)) = layout.find_mut(address) else { return false };
        if !area.protection.contains(access) {
            return false;
        }
        if area.entered.contains(access) {
            // Another thread changed it over since the fault; unless nothing is there, the instruction will work now.
            let end = area.memory.size().unwrap_or(0);
            return area.offset.saturating_add(address - at) < end;
        }
        let wanted = entered(area.protection, access);
        self.change(at, area, wanted).is_ok()
    }

    /// `madvise(MADV_DONTNEED)`: private pages read as zeroes again, those of files as the file.
    pub fn forget(&self, start: u64, length: u64) -> Result<()> {
        let (start, end) = range(start, length)?;
        let mut layout = self.layout.lock();
        if !layout.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        for at in layout.overlapping(start, end) {
            let Some((first, area)) = layout.find_mut(at) else { continue };
            if area.shared || area.of_file {
                continue;
            }
            let (from, to) = (first.max(start), area.end.min(end));
            let offset = area.offset + (from - first);
            if area.file.is_some() {
                // Private pages of a file, already this mapping's own: kept, as if they had not been dropped yet.
                continue;
            }
            area.memory.vmo().discard(offset, to - from)?;
        }
        Ok(())
    }

    /// Where the heap starts, once the program is loaded.
    pub fn set_heap(&self, start: u64) {
        *self.heap.lock() = Heap { start, end: start, mapped: start, memory: None };
    }

    /// `brk`: answers the heap's end, changed if that was possible.
    pub fn set_break(&self, wanted: u64) -> u64 {
        let mut heap = self.heap.lock();
        if wanted < heap.start || wanted - heap.start > HEAP || wanted > MAP_BASE {
            return heap.end;
        }
        match self.move_break(&mut heap, wanted) {
            Ok(()) => wanted,
            Err(_) => heap.end,
        }
    }

    fn move_break(&self, heap: &mut Heap, wanted: u64) -> Result<()> {
        let (Some(old), Some(new)) = (round_up(heap.end), round_up(wanted)) else { return Err(Errno::ENOMEM) };
        let memory = match &heap.memory {
            Some(memory) => memory.clone(),
            None => heap.memory.insert(Memory::new(HEAP)?).clone(),
        };
        let mut layout = self.layout.lock();
        if new > old {
            if !layout.is_free(old, new)
                || layout.bytes().saturating_add(new - old) > self.limit.load(Ordering::Relaxed)
            {
                return Err(Errno::ENOMEM);
            }
            let protection = Protection::READ.union(Protection::WRITE);
            if new > heap.mapped {
                let mut more = new.max(heap.mapped + HEAP_STEP);
                if !layout.is_free(heap.mapped, more) {
                    more = new;
                }
                let length = more - heap.mapped;
                self.space.map_at(memory.vmo(), heap.mapped - heap.start, heap.mapped, length, Access::Write)?;
                heap.mapped = more;
            }
            match layout.find(old.wrapping_sub(1)).filter(|(_, area)| Arc::ptr_eq(&area.memory, &memory)) {
                Some((first, area)) if area.end == old && area.protection == protection => layout.set_end(first, new),
                _ => layout.insert(
                    old,
                    Vma {
                        end: new,
                        protection,
                        entered: protection,
                        shared: false,
                        of_file: false,
                        memory,
                        offset: old - heap.start,
                        file: None,
                        name: "[heap]",
                        locked: false,
                        stays: false,
                        wiped: false,
                        attached: None,
                    },
                ),
            }
        } else if new < old {
            layout.remove(new, old);
            access::unmap(&self.space, new, heap.mapped.max(old) - new)?;
            heap.mapped = new;
            memory.vmo().discard(new - heap.start, old - new)?;
        }
        heap.end = wanted;
        Ok(())
    }

    /// A copy for a child: private memory changes independently from here on.
    pub fn fork(&self) -> Result<Arc<Mm>> {
        let child = Mm::new()?;
        child.limit.store(self.limit.load(Ordering::Relaxed), Ordering::Relaxed);
        *child.notes.lock() = self.notes.lock().clone();
        let heap = self.heap.lock();
        let mut theirs = heap.clone();
        let layout = self.layout.lock();
        let mut copies: Vec<(*const Memory, Arc<Memory>)> = Vec::new();
        {
            let mut list = child.layout.lock();
            for (start, area) in layout.iter().filter(|(_, area)| !area.stays) {
                let mut area = area.clone();
                area.locked = false;
                if area.wiped {
                    (area.memory, area.offset) = (Memory::new(area.end - start)?, 0);
                } else if !area.shared && !area.of_file {
                    let key = Arc::as_ptr(&area.memory);
                    area.memory = match copies.iter().find(|copy| copy.0 == key) {
                        Some((_, copy)) => copy.clone(),
                        None => {
                            let copy = area.memory.snapshot()?;
                            copies.push((key, copy.clone()));
                            copy
                        }
                    };
                }
                let there = if area.of_file {
                    area.memory.size()?.saturating_sub(area.offset).min(area.end - start)
                } else {
                    area.end - start
                };
                if there > 0 {
                    child.enter_part(start, start + there, &area)?;
                }
                list.insert(start, area);
            }
        }
        if let Some(memory) = &heap.memory {
            let key = Arc::as_ptr(memory);
            theirs.memory = Some(match copies.iter().find(|copy| copy.0 == key) {
                Some((_, copy)) => copy.clone(),
                None => Memory::new(HEAP)?,
            });
            theirs.mapped = round_up(theirs.end).unwrap_or(theirs.end);
        }
        *child.heap.lock() = theirs;
        Ok(child)
    }

    /// Unmaps all: the program that ran here ends, another will be loaded.
    pub fn clear(&self) -> Result<()> {
        let mut layout = self.layout.lock();
        *layout = Layout::default();
        *self.heap.lock() = Heap::default();
        access::unmap(&self.space, PAGE, TOP + PAGE - PAGE)
    }
}

/// A range of whole pages below the end of user space.
fn range(start: u64, length: u64) -> Result<(u64, u64)> {
    let length = round_up(length).filter(|length| *length != 0).ok_or(Errno::EINVAL)?;
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let end = start.checked_add(length).filter(|end| *end <= TOP + PAGE).ok_or(Errno::EINVAL)?;
    Ok((start, end))
}

/// Pages of one's own with a file's content.
fn own_copy(memory: &Arc<Memory>, offset: u64, length: u64) -> Result<(Arc<Memory>, u64)> {
    // A part of the image is never cut.
    let is_part = memory.constant_end().is_some();
    if length > COPY && !is_part {
        return Ok((memory.copy()?, offset));
    }
    let copy = if is_part { Memory::new(length)? } else { memory.for_copy(offset, length)? };
    transfer(memory, offset, &copy, length)?;
    Ok((copy, 0))
}

fn transfer(from: &Memory, offset: u64, to: &Memory, length: u64) -> Result<()> {
    let mut buffer = [0; PAGE as usize];
    let mut done = 0;
    let length = length.min(from.size()?.saturating_sub(offset));
    while done < length {
        let part = buffer.get_mut(..(length - done).min(PAGE) as usize).unwrap_or_default();
        let copied = from.read(offset + done, part)?;
        // Zeroes need no page.
        if part.iter().any(|byte| *byte != 0) {
            to.vmo().write(done, part)?;
        }
        if copied == 0 {
            break;
        }
        done += copied as u64;
    }
    Ok(())
}
