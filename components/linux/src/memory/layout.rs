//! The list of a process's mappings (Linux's `vm_area_struct`s): ranges of whole pages that do not overlap, by address.
//!
//! Pure book-keeping: no kernel call is made here, and no address is touched.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;

use super::{LOWEST, Memory, PAGE, TOP};
use crate::fs::Place;
use crate::ipc::shared::Attachment;

/// What a program may do with a page (`PROT_*` of mmap(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Protection(u8);

/// Reading was not asked for, but comes along.
const IMPLIED: u8 = 8;

impl Protection {
    pub const NONE: Protection = Protection(0);
    pub const READ: Protection = Protection(1);
    pub const WRITE: Protection = Protection(2);
    pub const EXECUTE: Protection = Protection(4);

    /// The protection that these `PROT_` bits ask for; on x86-64 what can be written or executed can be read.
    pub fn from_bits(bits: u64) -> Protection {
        let bits = (bits & 7) as u8;
        Protection(if bits & 6 != 0 && bits & 1 == 0 { bits | 1 | IMPLIED } else { bits })
    }

    pub fn bits(self) -> u64 {
        (self.0 & 7).into()
    }

    /// Whether reading was asked for: what /proc shows.
    pub fn was_to_be_read(self) -> bool {
        self.0 & 1 != 0 && self.0 & IMPLIED == 0
    }

    pub fn contains(self, other: Protection) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn union(self, other: Protection) -> Protection {
        Protection(self.0 | other.0)
    }

    pub const fn without(self, other: Protection) -> Protection {
        Protection(self.0 & !other.0)
    }
}

/// The file behind a mapping.
#[derive(Clone)]
pub struct Mapped {
    pub place: Arc<Place>,
    /// Where the mapping's first byte is in the file.
    pub offset: u64,
    /// Whether the file may be written through a shared mapping.
    pub writable: bool,
}

/// One mapping.
#[derive(Clone)]
pub struct Vma {
    pub end: u64,
    pub protection: Protection,
    /// What the kernel's mapping allows now: for memory that is writable and executable, one of both at a time.
    pub entered: Protection,
    pub shared: bool,
    /// Whether `memory` is the file's own, which must not be written by a private mapping and can shrink.
    pub of_file: bool,
    pub memory: Arc<Memory>,
    /// Where the mapping starts in `memory`, in bytes.
    pub offset: u64,
    pub file: Option<Mapped>,
    /// `MAP_STACK`, `[heap]` and the like, for /proc.
    pub name: &'static str,
    /// `mlock`: counted, and told.
    pub locked: bool,
    /// `MADV_DONTFORK`.
    pub stays: bool,
    /// `MADV_WIPEONFORK`: a child gets zeroes.
    pub wiped: bool,
    /// The segment of shared memory that it shows (shmat(2)).
    pub attached: Option<Attachment>,
}

impl Vma {
    /// The same mapping as seen `by` bytes further on.
    fn advance(&mut self, by: u64) {
        self.offset = self.offset.saturating_add(by);
        if let Some(file) = &mut self.file {
            file.offset = file.offset.saturating_add(by);
        }
    }
}

/// All mappings of a process.
#[derive(Default)]
pub struct Layout {
    areas: BTreeMap<u64, Vma>,
    /// Pages mapped in all, for the address-space limit and /proc.
    pages: u64,
    /// Mappings that were found lately and may be touched without more ado, so that few accesses search for theirs.
    known: [Cell<Known>; KNOWN],
    /// Which of them the next one replaces.
    oldest: Cell<usize>,
    /// Which of them was right for a page last, of pages whose numbers end alike.
    hints: [Cell<u8>; HINTS],
}

/// A mapping's range, and whether it may be read and written where it lies.
#[derive(Clone, Copy, Default)]
struct Known {
    start: u64,
    end: u64,
    access: Protection,
}

const KNOWN: usize = 8;
const HINTS: usize = 32;

impl Layout {
    /// Whether a range is known to lie in one mapping that allows this access.
    #[inline]
    pub fn knows(&self, address: u64, length: usize, access: Protection) -> bool {
        // No mapping ends where numbers do.
        let end = address.saturating_add(length as u64);
        let holds = |known: &Cell<Known>| {
            let known = known.get();
            known.start <= address && end <= known.end && known.access.contains(access)
        };
        let Some(hint) = self.hints.get((address / PAGE) as usize % HINTS) else { return false };
        if self.known.get(usize::from(hint.get()) % KNOWN).is_some_and(holds) {
            return true;
        }
        let found = self.known.iter().position(holds);
        if let Some(place) = found {
            hint.set(place as u8);
        }
        found.is_some()
    }

    /// Remembers that a mapping may be touched in this way, until any mapping changes.
    pub fn remember(&self, start: u64, end: u64, access: Protection) {
        let same = |known: &&Cell<Known>| (known.get().start, known.get().end) == (start, end);
        if let Some(known) = self.known.iter().find(same) {
            known.set(Known { start, end, access: known.get().access.union(access) });
            return;
        }
        let oldest = self.oldest.get();
        self.oldest.set((oldest + 1) % KNOWN);
        if let Some(known) = self.known.get(oldest) {
            known.set(Known { start, end, access });
        }
    }

    fn forget(&mut self) {
        self.known = Default::default();
    }

    /// The mapping that holds `address`, and its start.
    #[cfg_attr(target_os = "none", optimize(speed))]
    pub fn find(&self, address: u64) -> Option<(u64, &Vma)> {
        let (start, area) = self.areas.range(..=address).next_back()?;
        (address < area.end).then_some((*start, area))
    }

    pub fn find_mut(&mut self, address: u64) -> Option<(u64, &mut Vma)> {
        self.forget();
        let (start, area) = self.areas.range_mut(..=address).next_back()?;
        (address < area.end).then_some((*start, area))
    }

    /// All mappings in the order of their addresses.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Vma)> {
        self.areas.iter().map(|(start, area)| (*start, area))
    }

    /// The starts of the mappings that overlap a range.
    pub fn overlapping(&self, start: u64, end: u64) -> Vec<u64> {
        let first = self.find(start).map_or(start, |(first, _)| first);
        self.areas.range(first..end.max(first)).map(|(start, _)| *start).collect()
    }

    /// Whether nothing is mapped in a range.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.find(start).is_none() && self.areas.range(start..end.max(start)).next().is_none()
    }

    /// Whether every page of a range is mapped.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        while at < end {
            let Some((_, area)) = self.find(at) else { return false };
            at = area.end;
        }
        true
    }

    /// Where `length` bytes fit, as high as possible below `below`.
    pub fn gap(&self, length: u64, below: u64) -> Option<u64> {
        let mut top = below.min(TOP);
        for (start, area) in self.areas.range(..top).rev() {
            if top.saturating_sub(area.end) >= length {
                return Some(top - length);
            }
            top = top.min(*start);
        }
        (top.saturating_sub(LOWEST) >= length).then(|| top - length)
    }

    /// Enters a mapping where nothing is.
    pub fn insert(&mut self, start: u64, area: Vma) {
        debug_assert!(self.is_free(start, area.end) && start < area.end);
        self.pages += (area.end - start) / PAGE;
        self.areas.insert(start, area);
    }

    /// Cuts the mapping that reaches over `address` in two there.
    pub fn split(&mut self, address: u64) {
        let Some((start, area)) = self.find_mut(address).filter(|(start, _)| *start < address) else { return };
        let mut rest = area.clone();
        area.end = address;
        rest.advance(address - start);
        self.areas.insert(address, rest);
    }

    /// Takes out what lies in a range; mappings that reach out of it are cut.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<(u64, Vma)> {
        self.split(start);
        self.split(end);
        self.forget();
        let starts = self.overlapping(start, end);
        let mut removed = Vec::with_capacity(starts.len());
        for start in starts {
            if let Some(area) = self.areas.remove(&start) {
                self.pages -= (area.end - start) / PAGE;
                removed.push((start, area));
            }
        }
        removed
    }

    /// Lets the mapping that starts at `start` end at `end`, where nothing may be in the way.
    pub fn set_end(&mut self, start: u64, end: u64) {
        self.forget();
        if let Some(area) = self.areas.get_mut(&start) {
            self.pages = (self.pages + end.saturating_sub(start) / PAGE).saturating_sub((area.end - start) / PAGE);
            area.end = end;
        }
    }

    /// Bytes that are locked.
    pub fn locked(&self) -> u64 {
        self.areas.iter().filter(|(_, area)| area.locked).map(|(start, area)| area.end - start).sum()
    }

    /// Whether any page of a range is locked.
    pub fn is_locked(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).into_iter().filter_map(|at| self.find(at)).any(|(_, area)| area.locked)
    }

    /// Locks or unlocks a range that is mapped.
    pub fn set_locked(&mut self, start: u64, end: u64, locked: bool) {
        self.split(start);
        self.split(end);
        for at in self.overlapping(start, end) {
            if let Some((_, area)) = self.find_mut(at) {
                area.locked = locked;
            }
        }
    }

    /// Bytes mapped.
    pub fn bytes(&self) -> u64 {
        self.pages * PAGE
    }

    /// How many mappings there are.
    pub fn len(&self) -> usize {
        self.areas.len()
    }

    pub fn is_empty(&self) -> bool {
        self.areas.is_empty()
    }
}
