//! Address spaces: which memory is seen where, with what protection. Pages are entered in the hardware's tables when they
//! are touched, or at once if asked for. A mapping is a capability of its own: revoking the handle it was made with undoes it.

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
    /// The mappings, a treap by address.
    pub(crate) top: Id<Mapping>,
    /// Where the search for a free place starts.
    hint: u64,
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
    pages: u64,
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

impl Mapping {
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(self.pages.saturating_mul(PAGE))
    }

    /// Where page `index` of the backing is seen.
    pub(crate) fn address_of(&self, index: u64) -> Option<u64> {
        let page = index.checked_sub(self.offset).filter(|page| *page < self.pages)?;
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
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Range {
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
        let space = Space { pool, root, level, tables: 1, hint: NATIVE_BASE, ..Space::default() };
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
    #[expect(clippy::too_many_arguments, reason = "the call's own arguments")]
    pub(crate) fn space_map(
        &mut self,
        caller: &Caller,
        space: u64,
        memory: u64,
        offset: u64,
        address: u64,
        length: u64,
        flags: u64,
    ) -> Result<u64, Error> {
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
        let range = if address == 0 && flags & map_flags::FIXED == 0 {
            let range = Range::new(self.space_gap(space, length).ok_or(Error::NoQuota)?, length)?;
            // Only here: behind a mapping that its owner placed, he may mean to place more.
            if let Some(space) = self.spaces.get_mut(space) {
                space.hint = range.end;
            }
            range
        } else {
            Range::new(address, length)?
        };
        if self.overlap(space, range).is_some() {
            return Err(Error::Occupied);
        }
        let id = self.mapping_make(
            Mapping {
                space,
                backing,
                start: range.start,
                pages: count,
                offset: first,
                most,
                read: true,
                now,
                ..Mapping::default()
            },
            node,
        )?;
        if flags & map_flags::POPULATE != 0 {
            self.populate(id);
        }
        Ok(range.start)
    }

    /// Enters a mapping: one handle charged to the space's pool, one capability derived from `parent`.
    pub(crate) fn mapping_make(&mut self, mut mapping: Mapping, parent: Id<Node>) -> Result<Id<Mapping>, Error> {
        let (space, backing) = (mapping.space, mapping.backing);
        let entry = self.nodes.get(parent).ok_or(Error::Gone)?;
        let (object, rights) = (entry.object, entry.rights);
        let pool = self.spaces.get(space).map(|space| space.pool).ok_or(Error::Gone)?;
        if let Backing::Vmo(vmo) = backing {
            let vmo = self.vmos.get(vmo).ok_or(Error::Gone)?;
            if vmo.mapping_count >= MAX_MAPPINGS {
                return Err(Error::NoQuota);
            }
            mapping.next = vmo.mappings;
        }
        self.charge(pool, Resource::HANDLES, 1)?;
        mapping.branch = Branch::new(self.random());
        let next = mapping.next;
        let id = self.mappings.insert(mapping).ok_or(Error::NoQuota)?;
        let node = self.node_create(parent, object, rights, Holder::Mapping(id), pool)?;
        if let Some(mapping) = self.mappings.get_mut(id) {
            mapping.node = node;
        }
        if let Some(mapping) = self.mappings.get_mut(next) {
            mapping.previous = id;
        }
        if let Backing::Vmo(vmo) = backing
            && let Some(vmo) = self.vmos.get_mut(vmo)
        {
            vmo.mappings = id;
            vmo.mapping_count = vmo.mapping_count.saturating_add(1);
        }
        self.space_enter(space, id);
        Ok(id)
    }

    /// A mapping for the first program, with all rights of its memory.
    pub(crate) fn map_first(
        &mut self,
        space: Id<Space>,
        vmo: Id<Vmo>,
        node: Id<Node>,
        start: u64,
        pages: u64,
        now: Protection,
    ) -> Result<(), Error> {
        let most = Protection { write: true, execute: true, device: false };
        self.mapping_make(
            Mapping { space, backing: Backing::Vmo(vmo), start, pages, most, read: true, now, ..Mapping::default() },
            node,
        )
        .map(|_| ())
    }

    /// Enters the first pages that the memory holds.
    fn populate(&mut self, id: Id<Mapping>) {
        let Some(mapping) = self.mappings.get(id) else { return };
        let (start, pages, offset, backing) = (mapping.start, mapping.pages.min(512), mapping.offset, mapping.backing);
        for page in 0..pages {
            let present = match backing {
                Backing::Vmo(vmo) => self.vmo_page(vmo, offset.saturating_add(page)),
                Backing::Device(first) => {
                    Some(Page { frame: Frame(first.saturating_add(offset).saturating_add(page)), exclusive: true })
                }
                Backing::Nothing => None,
            };
            if let Some(page_found) = present
                && self.enter(id, start.saturating_add(page.saturating_mul(PAGE)), page_found).is_err()
            {
                return;
            }
        }
    }

    /// Enters one page in the hardware's tables, writable only if it is this memory's alone.
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
    pub(crate) fn space_unmap(
        &mut self,
        caller: &Caller,
        space: u64,
        address: u64,
        length: u64,
    ) -> Result<Flow, Error> {
        let (_, space) = self.space(caller.process, space, Rights::MAP)?;
        let range = Range::new(address, length)?;
        self.cut_ends(space, range, |_| true)?;
        for _ in 0..16 {
            let Some(id) = self.overlap(space, range) else {
                self.drain(caller.thread);
                return Ok(Flow::Done);
            };
            if self.mappings.get(id).is_some_and(|mapping| mapping.grave.buried) {
                self.drain(caller.thread);
                return Ok(if self.reap() { Flow::Again } else { Flow::Done });
            }
            if self.mapping_reap(id) != Progress::Finished {
                self.mapping_bury(id);
                return Ok(Flow::Again);
            }
        }
        Ok(Flow::Again)
    }

    /// `space_protect`.
    pub(crate) fn space_protect(
        &mut self,
        caller: &Caller,
        space: u64,
        address: u64,
        length: u64,
        flags: u64,
    ) -> Result<Flow, Error> {
        let (_, space) = self.space(caller.process, space, Rights::MAP)?;
        let range = Range::new(address, length)?;
        let access = map_flags::READ | map_flags::WRITE | map_flags::EXECUTE;
        let write_execute = map_flags::WRITE | map_flags::EXECUTE;
        if flags & !access != 0 || flags & write_execute == write_execute {
            return Err(Error::BadArgument);
        }
        let (write, execute) = (flags & map_flags::WRITE != 0, flags & map_flags::EXECUTE != 0);
        // All of it is checked before any of it is changed.
        let mut at = range.start;
        while at < range.end {
            let mapping = self.mapping_at(space, at).and_then(|id| self.mappings.get(id)).ok_or(Error::NotFound)?;
            if write && !mapping.most.write || execute && !mapping.most.execute {
                return Err(Error::NoRight);
            }
            at = mapping.end();
        }
        let read = flags & map_flags::READ != 0;
        // What is protected like that already needs no cut: the call may be in the middle of its work.
        self.cut_ends(space, range, |at| (at.read, at.now.write, at.now.execute) != (read, write, execute))?;
        let root = self.spaces.get(space).map(|space| space.root).ok_or(Error::Gone)?;
        let mut at = range.start;
        while at < range.end {
            let Some(mapping) = self.mapping_at(space, at).and_then(|id| self.mappings.get_mut(id)) else { break };
            mapping.read = read;
            mapping.now.write = write;
            mapping.now.execute = execute;
            at = mapping.end();
        }
        let stopped = self.hardware.unmap(root, range.start, range.end, STEP);
        self.hardware.invalidate(root, range.start, stopped);
        if stopped >= range.end {
            return Ok(Flow::Done);
        }
        // The rest is what the call is made for again.
        let thread = self.threads.get_mut(caller.thread).ok_or(Error::Gone)?;
        thread.activation.registers.rsi = stopped;
        thread.activation.registers.rdx = range.end.saturating_sub(stopped);
        Ok(Flow::Again)
    }

    /// Splits the mappings that lie across the ends of a range, of those that `concerns` names. Refused before any of it is done.
    fn cut_ends(&mut self, space: Id<Space>, range: Range, concerns: impl Fn(&Mapping) -> bool) -> Result<(), Error> {
        let across = |at: u64| {
            let mapping = self.mapping_at(space, at).and_then(|id| self.mappings.get(id))?;
            (mapping.start != at && !mapping.grave.buried && concerns(mapping)).then_some((at, mapping.backing))
        };
        let cuts = [across(range.start), across(range.end)];
        let made = cuts.iter().flatten().count() as u32;
        let pool = self.spaces.get(space).map(|space| space.pool).ok_or(Error::Gone)?;
        let (quota, used) = self.pools.get(pool).map_or((0, 0), |pool| pool.account(Resource::HANDLES));
        if quota.saturating_sub(used) < made {
            return Err(Error::NoQuota);
        }
        for (_, backing) in cuts.iter().flatten() {
            let more = cuts.iter().flatten().filter(|(_, other)| other == backing).count() as u32;
            if let Backing::Vmo(vmo) = backing
                && self.vmos.get(*vmo).is_none_or(|vmo| vmo.mapping_count.saturating_add(more) > MAX_MAPPINGS)
            {
                return Err(Error::NoQuota);
            }
        }
        cuts.into_iter().flatten().try_for_each(|(at, _)| self.cut(space, at))
    }

    /// Splits the mapping that lies across `address`, so that one ends and another begins there.
    fn cut(&mut self, space: Id<Space>, address: u64) -> Result<(), Error> {
        let Some(id) = self.mapping_at(space, address) else { return Ok(()) };
        let mapping = self.mappings.get(id).ok_or(Error::Gone)?;
        if mapping.start == address || mapping.grave.buried {
            return Ok(());
        }
        let keep = address.saturating_sub(mapping.start) / PAGE;
        let rest = Mapping {
            space,
            backing: mapping.backing,
            start: address,
            pages: mapping.pages.saturating_sub(keep),
            offset: mapping.offset.saturating_add(keep),
            most: mapping.most,
            read: mapping.read,
            now: mapping.now,
            writable_entries: mapping.writable_entries,
            ..Mapping::default()
        };
        let (parent, pages) = (mapping.node, mapping.pages);
        if let Some(mapping) = self.mappings.get_mut(id) {
            mapping.pages = keep;
        }
        self.mapping_make(rest, parent).map(|_| ()).inspect_err(|_| {
            if let Some(mapping) = self.mappings.get_mut(id) {
                mapping.pages = pages;
            }
        })
    }

    /// Takes write permission from a mapping's entries; false when there is more to do.
    pub(crate) fn mapping_write_protect(&mut self, id: Id<Mapping>) -> bool {
        let Some(mapping) = self.mappings.get(id) else { return true };
        let (from, end) = (mapping.cursor.max(mapping.start), mapping.end());
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
        self.node_remove(node);
        self.bury(Dead::Mapping(id));
    }

    pub(crate) fn mapping_reap(&mut self, id: Id<Mapping>) -> Progress {
        let Some(mapping) = self.mappings.get(id) else { return Progress::Finished };
        let (space, start, end, backing, buried) =
            (mapping.space, mapping.start, mapping.end(), mapping.backing, mapping.grave.buried);
        let from = mapping.removed.max(start);
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
        self.space_leave(space, start);
        let Some(mapping) = self.mappings.remove(id) else { return Progress::Finished };
        if let Some(next) = self.mappings.get_mut(mapping.next) {
            next.previous = mapping.previous;
        }
        if let Some(previous) = self.mappings.get_mut(mapping.previous) {
            previous.next = mapping.next;
        }
        if let Backing::Vmo(vmo) = backing {
            if let Some(vmo) = self.vmos.get_mut(vmo) {
                if mapping.previous.is_none() {
                    vmo.mappings = mapping.next;
                }
                vmo.mapping_count = vmo.mapping_count.saturating_sub(1);
            }
            if buried {
                self.unreference(Object::Vmo(vmo));
            }
        }
        self.node_remove(mapping.node);
        Progress::Finished
    }

    pub(crate) fn space_reap(&mut self, id: Id<Space>) -> Progress {
        let Some(space) = self.spaces.get(id) else { return Progress::Finished };
        let (pool, root, top) = (space.pool, space.root, space.top);
        if !top.is_none() {
            if self.mappings.get(top).is_some_and(|mapping| mapping.grave.buried) {
                // It is on the list too, and its turn comes.
                return Progress::More;
            }
            return match self.mapping_reap(top) {
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

    /// A free place for `length` bytes in the native part: behind the last mapping made, else the lowest that the search finds.
    fn space_gap(&self, space: Id<Space>, length: u64) -> Option<u64> {
        let hint = self.spaces.get(space)?.hint.max(NATIVE_BASE);
        for first in [hint, NATIVE_BASE] {
            let mut start = first;
            for _ in 0..4096 {
                let Some(end) = start.checked_add(length).filter(|end| *end <= USER_END) else { break };
                match self.overlap(space, Range { start, end }).and_then(|id| self.mappings.get(id)) {
                    None => return Some(start),
                    Some(mapping) => start = mapping.end(),
                }
            }
        }
        None
    }
}
