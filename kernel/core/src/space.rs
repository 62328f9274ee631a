//! Address spaces: which memory is seen where, with what protection. Pages are entered in the hardware's tables when they
//! are touched, or at once if asked for. A mapping is a capability of its own: revoking the handle it was made with undoes it.

mod protect;

use crate::{
    Caller, Flow, Frame, Hardware, Machine, Protection,
    arena::Id,
    node::{Holder, Node, Object},
    pool::{Pool, Resource},
    reaper::{Dead, Grave, Progress},
    treap::Branch,
    vmo::{MAX_MAPPINGS, Miss, Page, Vmo},
};
use tessera_abi::{Error, Kind, Level, NATIVE_BASE, PAGE, Rights, USER_END, syscall::map_flags};

/// Table entries that one step removes.
const STEP: usize = 512;
/// The lowest address that can be mapped: a null pointer never can.
const LOWEST: u64 = PAGE;

/// An address space.
#[derive(Default)]
pub struct Space {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) grave: Grave,
    pub(crate) root: Frame,
    /// In which mode the threads in it run.
    pub(crate) level: Level,
    /// Frames of page tables, the root included: what the pool was charged.
    pub(crate) tables: u32,
    /// The mappings, a treap by address, but for the one made last: many do not live to see the next.
    pub(crate) top: Id<Mapping>,
    pub(crate) newest: Id<Mapping>,
    /// A range in which nothing is mapped: the next free place is at its start. It grows back over what ends before it, so that who maps and unmaps again
    /// and again needs the same page tables each time: they stay until the space ends.
    pub(crate) room: Range,
}

/// What is mapped.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Backing {
    #[default]
    Nothing,
    Vmo(Id<Vmo>),
    /// Device memory from this frame on.
    Device(u64),
}

/// One range of a space.
#[derive(Default)]
pub struct Mapping {
    pub(crate) grave: Grave,
    pub(crate) space: Id<Space>,
    pub(crate) backing: Backing,
    node: Id<Node>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// First page in the backing.
    offset: u64,
    /// The most that the handle allowed, and what is allowed now.
    most: Protection,
    read: bool,
    now: Protection,
    /// The VMO's other mappings.
    pub(crate) next: Id<Mapping>,
    previous: Id<Mapping>,
    /// Whether the hardware's tables may hold writable entries, and up to where they were taken back.
    pub(crate) writable_entries: bool,
    cursor: u64,
    /// Up to where the entries were removed, once the mapping ends.
    removed: u64,
    /// Its place in the space's treap.
    pub(crate) branch: Branch,
}

/// What a new mapping shows, where, and how it may be touched.
#[derive(Clone, Copy)]
struct Shown {
    backing: Backing,
    range: Range,
    offset: u64,
    most: Protection,
    read: bool,
    now: Protection,
}

impl Mapping {
    fn pages(&self) -> u64 {
        self.end.saturating_sub(self.start) / PAGE
    }

    fn covers(&self, range: Range) -> bool {
        self.start <= range.start && range.end <= self.end
    }

    /// Whether the rights it was made with suffice for this protection.
    fn allows(&self, flags: u64) -> bool {
        (self.most.write || flags & map_flags::WRITE == 0) && (self.most.execute || flags & map_flags::EXECUTE == 0)
    }

    fn is_protected(&self, flags: u64) -> bool {
        let [read, write, execute] =
            [map_flags::READ, map_flags::WRITE, map_flags::EXECUTE].map(|flag| flags & flag != 0);
        (self.read, self.now.write, self.now.execute) == (read, write, execute)
    }

    /// Where page `index` of the backing is seen.
    pub(crate) fn address_of(&self, index: u64) -> Option<u64> {
        let page = index.checked_sub(self.offset).filter(|page| *page < self.pages())?;
        Some(self.start.saturating_add(page.saturating_mul(PAGE)))
    }
}

/// How memory is touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    Write,
    Execute,
}

/// A checked range of whole pages in user space.
#[derive(Clone, Copy, Default)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Range {
    /// Keeps a part of this range that shares nothing with `other`: before it, if there is any, else behind it.
    fn leave_out(&mut self, other: Range) {
        if other.start <= self.start {
            self.start = self.start.max(other.end);
        } else {
            self.end = self.end.min(other.start);
        }
    }

    fn new(start: u64, length: u64) -> Result<Range, Error> {
        let end = start.checked_add(length).filter(|end| *end <= USER_END).ok_or(Error::BadArgument)?;
        if length == 0 || !start.is_multiple_of(PAGE) || !length.is_multiple_of(PAGE) || start < LOWEST {
            return Err(Error::BadArgument);
        }
        Ok(Range { start, end })
    }
}

impl<H: Hardware> Machine<H> {
    /// Makes a space, already charged as an object.
    pub(crate) fn space_make(&mut self, pool: Id<Pool>, level: Level) -> Result<Id<Space>, Error> {
        let root = self.charged_frame(pool).map_err(|_| Error::NoQuota)?;
        self.hardware.space_create(root, level.is_kernel());
        let room = Range { start: NATIVE_BASE, end: USER_END };
        let space = Space { pool, root, level, tables: 1, room, ..Space::default() };
        self.spaces.insert(space).ok_or(Error::NoQuota)
    }

    /// `space_create`.
    pub(crate) fn space_create(&mut self, caller: &Caller, pool: u64) -> Result<u64, Error> {
        self.space_create_at(caller, pool, self.level_of_made(caller))
    }

    /// Makes a space of a level that the caller may give.
    pub(crate) fn space_create_at(&mut self, caller: &Caller, pool: u64, level: Level) -> Result<u64, Error> {
        let (node, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Space, handles)?;
        let space = self.space_make(pool, level).inspect_err(|_| {
            self.credit(pool, Resource::of(Kind::Space), 1);
            self.credit(handles, Resource::HANDLES, 1);
        })?;
        self.publish(caller.process, node, Object::Space(space), Rights::ALL)
    }

    /// `space_map`.
    #[inline(always)]
    pub(crate) fn space_map(&mut self, caller: &Caller) -> Result<u64, Error> {
        let [space, memory, offset, address, length, flags] = caller.arguments;
        let (_, space) = self.space(caller.process, space, Rights::MAP)?;
        let (node, entry) = self.find(caller.process, memory)?;
        let (object, rights) = (entry.object, entry.rights);
        let first = offset / PAGE;
        let count = length / PAGE;
        let (backing, pages, device) = match object {
            Object::Vmo(id) => (Backing::Vmo(id), self.vmos.get(id).map_or(0, |vmo| vmo.pages), false),
            Object::Mmio(id) => {
                let device = self.devices.get(id).ok_or(Error::Gone)?;
                (Backing::Device(device.first), device.pages, true)
            }
            _ => return Err(Error::WrongKind),
        };
        let most = Protection {
            write: rights.contains(Rights::WRITE),
            execute: rights.contains(Rights::EXECUTE) && !device,
            device,
        };
        let now = Protection { write: flags & map_flags::WRITE != 0, execute: flags & map_flags::EXECUTE != 0, device };
        if !rights.contains(Rights::MAP | Rights::READ) || now.write && !most.write || now.execute && !most.execute {
            return Err(Error::NoRight);
        }
        let write_execute = map_flags::WRITE | map_flags::EXECUTE;
        if flags & !map_flags::ALL != 0 || flags & map_flags::READ == 0 || flags & write_execute == write_execute {
            return Err(Error::BadArgument);
        }
        if !offset.is_multiple_of(PAGE) {
            return Err(Error::BadArgument);
        }
        if first.checked_add(count).is_none_or(|end| end > pages) {
            return Err(Error::BadArgument);
        }
        let chosen = address == 0 && flags & map_flags::FIXED == 0;
        let address = if chosen { self.space_gap(space, length).ok_or(Error::NoQuota)? } else { address };
        let range = Range::new(address, length)?;
        if !chosen && self.overlap(space, range).is_some() {
            return Err(Error::Occupied);
        }
        let id = self.mapping_make(space, Shown { backing, range, offset: first, most, read: true, now }, node)?;
        if flags & map_flags::POPULATE != 0 {
            self.populate(id);
        }
        Ok(range.start)
    }

    /// Enters a mapping: one handle charged to the space's pool, one capability derived from `parent`.
    #[inline(always)]
    fn mapping_make(&mut self, space: Id<Space>, shown: Shown, parent: Id<Node>) -> Result<Id<Mapping>, Error> {
        let entry = self.nodes.get(parent).ok_or(Error::Gone)?;
        let (object, rights) = (entry.object, entry.rights);
        let entry = self.spaces.get_mut(space).ok_or(Error::Gone)?;
        let pool = entry.pool;
        entry.room.leave_out(shown.range);
        let next = match shown.backing {
            Backing::Vmo(vmo) => {
                let vmo = self.vmos.get(vmo).ok_or(Error::Gone)?;
                if vmo.mapping_count >= MAX_MAPPINGS {
                    return Err(Error::NoQuota);
                }
                vmo.mappings
            }
            _ => Id::NONE,
        };
        self.charge(pool, Resource::HANDLES, 1)?;
        let (id, mapping) = self.mappings.insert_default().ok_or(Error::NoQuota)?;
        mapping.space = space;
        mapping.backing = shown.backing;
        mapping.start = shown.range.start;
        mapping.end = shown.range.end;
        mapping.offset = shown.offset;
        mapping.most = shown.most;
        mapping.read = shown.read;
        mapping.now = shown.now;
        mapping.next = next;
        let node = self.node_create(parent, object, rights, Holder::Mapping(id), pool)?;
        if let Some(mapping) = self.mappings.get_mut(id) {
            mapping.node = node;
        }
        if let Some(mapping) = self.mappings.get_mut(next) {
            mapping.previous = id;
        }
        if let Backing::Vmo(vmo) = shown.backing
            && let Some(vmo) = self.vmos.get_mut(vmo)
        {
            vmo.mappings = id;
            vmo.mapping_count = vmo.mapping_count.saturating_add(1);
        }
        self.space_enter(space, id);
        Ok(id)
    }

    /// A mapping for the first program, of memory that `node` names: `pages` of it from page `offset` on.
    pub(crate) fn map_first(
        &mut self,
        space: Id<Space>,
        (vmo, node): (Id<Vmo>, Id<Node>),
        (offset, pages): (u64, u64),
        start: u64,
        [now, most]: [Protection; 2],
    ) -> Result<(), Error> {
        let range = Range { start, end: start.saturating_add(pages.saturating_mul(PAGE)) };
        let shown = Shown { backing: Backing::Vmo(vmo), range, offset, most, read: true, now };
        self.mapping_make(space, shown, node).map(|_| ())
    }

    /// Enters the first pages that the memory holds.
    #[inline(always)]
    fn populate(&mut self, id: Id<Mapping>) {
        let Some(mapping) = self.mappings.get(id) else { return };
        let (start, pages, offset, backing) =
            (mapping.start, mapping.pages().min(512), mapping.offset, mapping.backing);
        for page in 0..pages {
            let index = offset.saturating_add(page);
            let present = match backing {
                Backing::Vmo(vmo) => self.vmo_page(vmo, index),
                Backing::Device(first) => Some(Page { frame: Frame(first.saturating_add(index)), exclusive: true }),
                Backing::Nothing => None,
            };
            if let Some(present) = present
                && self.enter(id, start.saturating_add(page.saturating_mul(PAGE)), present).is_err()
            {
                return;
            }
        }
    }

    /// Enters one page in the hardware's tables, writable only if it is this memory's alone.
    #[inline(always)]
    fn enter(&mut self, id: Id<Mapping>, address: u64, page: Page) -> Result<(), Miss> {
        let mapping = self.mappings.get_mut(id).ok_or(Miss::Denied)?;
        let protection = Protection { write: mapping.now.write && page.exclusive, ..mapping.now };
        if protection.write {
            mapping.writable_entries = true;
            mapping.cursor = 0;
        }
        let space = self.spaces.get_mut(mapping.space).ok_or(Miss::Denied)?;
        let (pools, frames, tables) = (&mut self.pools, &mut self.frames, &mut space.tables);
        let pool = space.pool;
        let entered = self.hardware.map(space.root, address, page.frame, protection, &mut |hardware: &mut H| {
            let account = pools.get_mut(pool)?;
            account.charge_pages(1).ok()?;
            let frame = frames.take()?;
            hardware.zero(frame);
            *tables = tables.saturating_add(1);
            Some(frame)
        });
        if entered { Ok(()) } else { Err(Miss::NoQuota) }
    }

    /// Makes one page of a space accessible, if a mapping allows it.
    pub(crate) fn resolve(&mut self, space: Id<Space>, address: u64, access: Access) -> Result<(), Miss> {
        let id = self.mapping_at(space, address).ok_or(Miss::Denied)?;
        let mapping = self.mappings.get(id).filter(|mapping| !mapping.grave.buried).ok_or(Miss::Denied)?;
        let allowed = match access {
            Access::Read => mapping.read,
            Access::Write => mapping.now.write,
            Access::Execute => mapping.now.execute,
        };
        if !allowed {
            return Err(Miss::Denied);
        }
        let start = address & !(PAGE - 1);
        let index = mapping.offset.saturating_add(start.saturating_sub(mapping.start) / PAGE);
        let page = match mapping.backing {
            Backing::Vmo(vmo) => self.vmo_touch(vmo, index, access == Access::Write)?,
            Backing::Device(first) => Page { frame: Frame(first.saturating_add(index)), exclusive: true },
            Backing::Nothing => return Err(Miss::Denied),
        };
        self.enter(id, start, page)
    }

    /// `space_unmap`: whole mappings go, mappings that reach out of the range are cut.
    #[inline(always)]
    pub(crate) fn space_unmap(&mut self, caller: &Caller) -> Result<Flow, Error> {
        let [space, address, length, ..] = caller.arguments;
        let (_, space) = self.space(caller.process, space, Rights::MAP)?;
        let range = Range::new(address, length)?;
        // Most often it is the mapping made last, and no other.
        let newest = self.spaces.get(space).map_or(Id::NONE, |space| space.newest);
        if let Some(mapping) = self.mappings.get(newest)
            && (mapping.start, mapping.end) == (range.start, range.end)
            && !mapping.grave.buried
            && self.mapping_reap(newest) == Progress::Finished
        {
            self.drain(caller.thread);
            return Ok(Flow::Done);
        }
        self.space_unmap_searching(caller, space, range)
    }

    /// The rest of `space_unmap`.
    #[inline(never)]
    fn space_unmap_searching(&mut self, caller: &Caller, space: Id<Space>, range: Range) -> Result<Flow, Error> {
        let mut found = self.overlap(space, range);
        let exactly = |mapping: &Mapping| mapping.start == range.start && mapping.end == range.end;
        if !found.and_then(|id| self.mappings.get(id)).is_some_and(exactly) {
            self.cut_ends(space, range, |_| true)?;
            found = self.overlap(space, range);
        }
        for _ in 0..16 {
            let Some((id, mapping)) = found.and_then(|id| Some((id, self.mappings.get(id)?))) else {
                self.drain(caller.thread);
                return Ok(Flow::Done);
            };
            if mapping.grave.buried {
                self.drain(caller.thread);
                return Ok(if self.reap() { Flow::Again } else { Flow::Done });
            }
            let last = mapping.covers(range);
            if self.mapping_reap(id) != Progress::Finished {
                self.mapping_bury(id);
                return Ok(Flow::Again);
            }
            found = if last { None } else { self.overlap(space, range) };
        }
        Ok(Flow::Again)
    }

    /// Takes write permission from a mapping's entries; false when there is more to do.
    pub(crate) fn mapping_write_protect(&mut self, id: Id<Mapping>) -> bool {
        let Some(mapping) = self.mappings.get(id) else { return true };
        let (from, end) = (mapping.cursor.max(mapping.start), mapping.end);
        let Some(root) = self.spaces.get(mapping.space).map(|space| space.root) else { return true };
        let stopped = self.hardware.write_protect(root, from, end, STEP);
        self.hardware.invalidate(root, from, stopped);
        if let Some(mapping) = self.mappings.get_mut(id) {
            mapping.cursor = stopped;
            mapping.writable_entries = stopped < end;
        }
        stopped >= end
    }

    /// A mapping ends: nothing can be touched through it any more once the reaper has run.
    pub(crate) fn mapping_bury(&mut self, id: Id<Mapping>) {
        let Some(mapping) = self.mappings.get_mut(id) else { return };
        let node = core::mem::take(&mut mapping.node);
        let backing = mapping.backing;
        // The memory stays until the entries are gone, though the capability goes now.
        if let Backing::Vmo(vmo) = backing {
            self.reference(Object::Vmo(vmo));
        }
        self.node_drop(node);
        self.bury(Dead::Mapping(id));
    }

    #[inline(always)]
    pub(crate) fn mapping_reap(&mut self, id: Id<Mapping>) -> Progress {
        let Some(mapping) = self.mappings.get(id) else { return Progress::Finished };
        let (space, start, end, backing, node) =
            (mapping.space, mapping.start, mapping.end, mapping.backing, mapping.node);
        let (next, previous, buried) = (mapping.next, mapping.previous, mapping.grave.buried);
        let from = mapping.removed.max(mapping.start);
        if let Some(root) = self.spaces.get(space).map(|space| space.root) {
            let stopped = self.hardware.unmap(root, from, end, STEP);
            self.hardware.invalidate(root, from, stopped);
            if stopped < end {
                if let Some(mapping) = self.mappings.get_mut(id) {
                    mapping.removed = stopped;
                }
                return Progress::More;
            }
        }
        self.space_leave(space, id, Range { start, end });
        self.mappings.discard(id);
        if let Some(next) = self.mappings.get_mut(next) {
            next.previous = previous;
        }
        if let Some(previous) = self.mappings.get_mut(previous) {
            previous.next = next;
        }
        if let Backing::Vmo(vmo) = backing {
            if let Some(vmo) = self.vmos.get_mut(vmo) {
                if previous.is_none() {
                    vmo.mappings = next;
                }
                vmo.mapping_count = vmo.mapping_count.saturating_sub(1);
            }
            if buried {
                self.unreference(Object::Vmo(vmo));
            }
        }
        self.node_drop(node);
        Progress::Finished
    }

    pub(crate) fn space_reap(&mut self, id: Id<Space>) -> Progress {
        let Some(space) = self.spaces.get(id) else { return Progress::Finished };
        let (pool, root) = (space.pool, space.root);
        let next = if space.newest.is_none() { space.top } else { space.newest };
        if !next.is_none() {
            if self.mappings.get(next).is_some_and(|mapping| mapping.grave.buried) {
                // It is on the list too, and its turn comes.
                return Progress::More;
            }
            return match self.mapping_reap(next) {
                Progress::Finished => Progress::More,
                other => other,
            };
        }
        let mut released = 0;
        let frames = &mut self.frames;
        let done = self.hardware.release_tables(root, 64, &mut |frame| {
            frames.release(frame);
            released += 1;
        });
        self.credit(pool, Resource::PAGES, released);
        if !done {
            return Progress::More;
        }
        self.spaces.remove(id);
        self.credit(pool, Resource::of(Kind::Space), 1);
        Progress::Finished
    }

    /// A free place for `length` bytes in the native part: behind the last one found, else the lowest that the search finds.
    #[inline(always)]
    fn space_gap(&mut self, id: Id<Space>, length: u64) -> Option<u64> {
        let room = self.spaces.get(id)?.room;
        if room.end.saturating_sub(room.start) >= length { Some(room.start) } else { self.space_search(id, length) }
    }

    fn space_search(&mut self, id: Id<Space>, length: u64) -> Option<u64> {
        let room = self.spaces.get(id)?.room;
        for first in [room.start, NATIVE_BASE] {
            let mut start = first;
            for _ in 0..4096 {
                let Some(end) = start.checked_add(length).filter(|end| *end <= USER_END) else { break };
                let next = self.mapping_from(id, start).and_then(|id| self.mappings.get(id));
                let next = next.map_or((USER_END, USER_END), |mapping| (mapping.start, mapping.end));
                if end <= next.0 {
                    self.spaces.get_mut(id)?.room = Range { start, end: next.0 };
                    return Some(start);
                }
                start = next.1;
            }
        }
        None
    }
}
