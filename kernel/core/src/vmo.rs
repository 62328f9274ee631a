//! Memory objects. The pages hang in a radix tree of frames (512 entries each, up to three levels), which snapshots share until
//! one side writes: a shared table or page is copied on the way down to a write.
//!
//! Every VMO is charged for all tables that it reaches, shared or not. A page that VMOs of one pool share is charged to that pool
//! once, and a write that makes a copy of it pays for the copy. VMOs that share with those of another pool are charged for all pages that they
//! reach. So the frames in use never exceed what is charged, and to let go of pages never costs anything.

use crate::{
    Caller, Flow, Frame, Hardware, Machine,
    arena::Id,
    endpoint::Endpoint,
    node::Object,
    pool::{Pool, Resource},
    reaper::{Grave, Progress},
    space::Mapping,
};
use tessera_abi::{Error, Kind, PAGE, Rights};

/// Entries of a table.
const ENTRIES: u64 = 512;
/// Most pages of a VMO: three levels, 512 GiB.
pub const MAX_PAGES: u64 = ENTRIES * ENTRIES * ENTRIES;
/// Most mappings of one VMO: bounds the work of replacing one of its pages, for which each is looked at. Hundreds of processes that each map
/// dozens of parts of one file fit.
pub const MAX_MAPPINGS: u32 = 65_536;
/// Table entries that one step of releasing or trimming visits.
const STEP: usize = 256;

/// Who supplies absent pages.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Source {
    /// The kernel, with zeroes.
    #[default]
    Zero,
    /// A pager that receives at this endpoint, under this badge.
    Pager(Id<Endpoint>, u64),
}

/// With whom a VMO may share pages, which says who pays for them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// With nobody: it was never on either side of a snapshot.
    #[default]
    Nobody,
    /// With VMOs of the same pool, which pays for each page once.
    Pool,
    /// With VMOs of other pools too: each pays for all pages that it reaches.
    Anybody,
}

/// Memory.
#[derive(Default)]
pub struct Vmo {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) grave: Grave,
    /// Size in pages.
    pub(crate) pages: u64,
    pub(crate) source: Source,
    pub(crate) sharing: Sharing,
    /// The tree's root and how many levels of tables it has; no levels: no root.
    pub(crate) root: Frame,
    pub(crate) levels: u32,
    /// Pages and tables that it reaches.
    pub(crate) held: u32,
    pub(crate) tables: u32,
    /// Mappings of this memory.
    pub(crate) mappings: Id<Mapping>,
    pub(crate) mapping_count: u32,
    /// Pages held still for devices.
    pub(crate) pinned: u32,
}

/// Why a page cannot be had right now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Miss {
    /// It lies outside, or the protection forbids it.
    Denied,
    /// The pool cannot pay for it.
    NoQuota,
    /// The pager has to supply it.
    Pager { endpoint: Id<Endpoint>, badge: u64, offset: u64, write: bool },
}

/// A page of a VMO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    pub frame: Frame,
    /// Whether this VMO is the only one that reaches it.
    pub exclusive: bool,
}

fn levels_for(pages: u64) -> u32 {
    match pages {
        ..=512 => 1,
        513..=262_144 => 2,
        _ => 3,
    }
}

fn slot(index: u64, level: u32) -> usize {
    (index >> (9 * level) & (ENTRIES - 1)) as usize
}

impl<H: Hardware> Machine<H> {
    /// `vmo_create`, `vmo_create_paged`: sizes in bytes.
    pub(crate) fn vmo_create(&mut self, caller: &Caller, pool: u64, size: u64, source: Source) -> Result<u64, Error> {
        let (node, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let pages = size.div_ceil(PAGE);
        if pages == 0 || pages > MAX_PAGES {
            return Err(Error::BadArgument);
        }
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Vmo, handles)?;
        let vmo = self.vmos.insert(Vmo { pool, pages, source, ..Vmo::default() }).ok_or(Error::NoQuota)?;
        self.publish(caller.process, node, Object::Vmo(vmo), Rights::ALL)
    }

    /// `vmo_inspect`.
    pub(crate) fn vmo_inspect(&mut self, caller: &Caller, vmo: u64) -> Result<Flow, Error> {
        let (_, vmo) = self.vmo(caller.process, vmo, Rights::NONE)?;
        let vmo = self.vmos.get(vmo).ok_or(Error::Gone)?;
        Ok(Flow::Values([vmo.pages.saturating_mul(PAGE), u64::from(vmo.held), 0, 0, 0, 0]))
    }

    /// The page at `index`, if the VMO holds it.
    #[inline(always)]
    pub(crate) fn vmo_page(&self, id: Id<Vmo>, index: u64) -> Option<Page> {
        let vmo = self.vmos.get(id)?;
        if vmo.levels == 0 || index >> (9 * vmo.levels) != 0 {
            return None;
        }
        let mut frame = vmo.root;
        let mut exclusive = self.frames.holders(frame) == 1;
        for level in (0..vmo.levels).rev() {
            let entry = self.hardware.load(frame, slot(index, level));
            if entry == 0 {
                return None;
            }
            frame = Frame(entry);
            exclusive &= self.frames.holders(frame) == 1;
        }
        Some(Page { frame, exclusive })
    }

    /// The table that holds the entry of page `index`, made, or made the VMO's own, on the way down.
    fn vmo_leaf(&mut self, id: Id<Vmo>, index: u64) -> Result<Frame, Miss> {
        let (pool, pages) = self.vmos.get(id).map(|vmo| (vmo.pool, vmo.pages)).ok_or(Miss::Denied)?;
        if index >= pages {
            return Err(Miss::Denied);
        }
        self.vmo_grow(id, pool, index)?;
        let (root, levels) = self.vmos.get(id).map(|vmo| (vmo.root, vmo.levels)).ok_or(Miss::Denied)?;
        let root = self.own_table(root)?;
        if let Some(vmo) = self.vmos.get_mut(id) {
            vmo.root = root;
        }
        let mut table = root;
        for level in (1..levels).rev() {
            let entry = self.hardware.load(table, slot(index, level));
            let next = if entry == 0 {
                let next = self.charged_frame(pool)?;
                if let Some(vmo) = self.vmos.get_mut(id) {
                    vmo.tables = vmo.tables.saturating_add(1);
                }
                next
            } else {
                self.own_table(Frame(entry))?
            };
            self.hardware.store(table, slot(index, level), next.0);
            table = next;
        }
        Ok(table)
    }

    /// The page at `index`, made the VMO's own: absent pages are supplied with zeroes, shared ones copied.
    /// Answers the frame, and whether it replaced another.
    pub(crate) fn vmo_own_page(&mut self, id: Id<Vmo>, index: u64) -> Result<(Frame, bool), Miss> {
        let table = self.vmo_leaf(id, index)?;
        let (pool, sharing) = self.vmos.get(id).map(|vmo| (vmo.pool, vmo.sharing)).ok_or(Miss::Denied)?;
        let entry = self.hardware.load(table, slot(index, 0));
        if entry != 0 && self.frames.holders(Frame(entry)) == 1 {
            return Ok((Frame(entry), false));
        }
        let frame = if entry == 0 {
            let frame = self.charged_frame(pool)?;
            if let Some(vmo) = self.vmos.get_mut(id) {
                vmo.held = vmo.held.saturating_add(1);
            }
            frame
        } else {
            let frame = match sharing {
                // Whoever takes a copy has paid for it with the snapshot.
                Sharing::Anybody => self.frames.take().ok_or(Miss::NoQuota)?,
                Sharing::Nobody | Sharing::Pool => self.paid_frame(pool)?,
            };
            self.hardware.copy_frame(Frame(entry), frame);
            self.frames.release(Frame(entry));
            frame
        };
        self.hardware.store(table, slot(index, 0), frame.0);
        Ok((frame, entry != 0))
    }

    /// Hands a frame to a VMO that holds nothing at `index`; the frame is charged already. For the first program only.
    pub(crate) fn vmo_put(&mut self, id: Id<Vmo>, index: u64, bytes: &[u8], offset: usize) -> Result<(), Error> {
        let (frame, _) = self.vmo_own_page(id, index).map_err(|_| Error::NoQuota)?;
        self.hardware.write_bytes(frame.0.saturating_mul(PAGE).saturating_add(offset as u64), bytes);
        Ok(())
    }

    /// Enters frames in a row that exist already as the first pages of a VMO that has none, charged to its pool. For the boot archive.
    pub(crate) fn vmo_adopt(&mut self, id: Id<Vmo>, first: Frame, pages: u32) -> Result<(), Error> {
        let pool = self.vmos.get(id).map(|vmo| vmo.pool).ok_or(Error::Gone)?;
        self.charge(pool, Resource::PAGES, pages)?;
        let pages = u64::from(pages);
        for begin in (0..pages).step_by(ENTRIES as usize) {
            let table = self.vmo_leaf(id, begin).map_err(|_| Error::NoQuota)?;
            for index in begin..pages.min(begin.saturating_add(ENTRIES)) {
                self.hardware.store(table, slot(index, 0), first.0.saturating_add(index));
            }
        }
        if let Some(vmo) = self.vmos.get_mut(id) {
            vmo.held = vmo.held.saturating_add(pages as u32);
        }
        Ok(())
    }

    /// Makes the tree high enough for `index`.
    fn vmo_grow(&mut self, id: Id<Vmo>, pool: Id<Pool>, index: u64) -> Result<(), Miss> {
        let needed = levels_for(index.saturating_add(1));
        while let Some((root, levels)) =
            self.vmos.get(id).map(|vmo| (vmo.root, vmo.levels)).filter(|(_, levels)| *levels < needed)
        {
            let table = self.charged_frame(pool)?;
            if levels != 0 {
                self.hardware.store(table, 0, root.0);
            }
            if let Some(vmo) = self.vmos.get_mut(id) {
                vmo.tables = vmo.tables.saturating_add(1);
                vmo.root = table;
                vmo.levels = if levels == 0 { needed } else { levels.saturating_add(1) };
            }
        }
        Ok(())
    }

    /// A zeroed frame charged to a pool.
    pub(crate) fn charged_frame(&mut self, pool: Id<Pool>) -> Result<Frame, Miss> {
        let frame = self.paid_frame(pool)?;
        self.hardware.zero(frame);
        Ok(frame)
    }

    /// A frame charged to a pool, with whatever it contains.
    fn paid_frame(&mut self, pool: Id<Pool>) -> Result<Frame, Miss> {
        self.charge(pool, Resource::PAGES, 1).map_err(|_| Miss::NoQuota)?;
        self.frames.take().ok_or_else(|| {
            self.credit(pool, Resource::PAGES, 1);
            Miss::NoQuota
        })
    }

    /// The same table, or a copy of it if others hold it too.
    fn own_table(&mut self, table: Frame) -> Result<Frame, Miss> {
        if self.frames.holders(table) == 1 {
            return Ok(table);
        }
        let copy = self.frames.take().ok_or(Miss::NoQuota)?;
        self.hardware.copy_frame(table, copy);
        for index in 0..ENTRIES as usize {
            let entry = self.hardware.load(copy, index);
            if entry != 0 {
                self.frames.share(Frame(entry));
            }
        }
        self.frames.release(table);
        Ok(copy)
    }

    /// The page at `index` for reading or writing, as `Source` says for absent ones. Other mappings of a replaced page are undone.
    pub(crate) fn vmo_touch(&mut self, id: Id<Vmo>, index: u64, write: bool) -> Result<Page, Miss> {
        let (pages, source) = self.vmos.get(id).map(|vmo| (vmo.pages, vmo.source)).ok_or(Miss::Denied)?;
        if index >= pages {
            return Err(Miss::Denied);
        }
        match (self.vmo_page(id, index), source) {
            (Some(page), _) if !write || page.exclusive => return Ok(page),
            (None, Source::Pager(endpoint, badge)) => {
                return Err(Miss::Pager { endpoint, badge, offset: index.saturating_mul(PAGE), write });
            }
            _ => {}
        }
        let (frame, replaced) = self.vmo_own_page(id, index)?;
        if replaced {
            self.unmap_page_everywhere(id, index);
        }
        Ok(Page { frame, exclusive: true })
    }

    /// Undoes every mapping of one page of a VMO.
    fn unmap_page_everywhere(&mut self, id: Id<Vmo>, index: u64) {
        let mut next = self.vmos.get(id).map_or(Id::NONE, |vmo| vmo.mappings);
        while let Some(mapping) = self.mappings.get(next) {
            if let (Some(address), Some(space)) = (mapping.address_of(index), self.spaces.get(mapping.space)) {
                let end = address.saturating_add(PAGE);
                self.hardware.unmap(space.root, address, end, 1);
                self.hardware.invalidate(space.root, address, end);
            }
            next = mapping.next;
        }
    }

    /// `vmo_snapshot`: when no mapping can write any more, both share the tree. Memory that shares pages within its pool, which pays for
    /// each once, cannot share them with another pool as well.
    pub(crate) fn vmo_snapshot(&mut self, caller: &Caller, vmo: u64, pool: u64) -> Result<Flow, Error> {
        let (parent, id) = self.vmo(caller.process, vmo, Rights::READ)?;
        let (_, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let vmo = self.vmos.get(id).ok_or(Error::Gone)?;
        let (pages, source, root, levels, held, tables, mut mapping) =
            (vmo.pages, vmo.source, vmo.root, vmo.levels, vmo.held, vmo.tables, vmo.mappings);
        let (sharing, price) = match (vmo.sharing, vmo.pool == pool) {
            (Sharing::Nobody | Sharing::Pool, true) => (Sharing::Pool, tables),
            (Sharing::Nobody, false) | (Sharing::Anybody, _) => (Sharing::Anybody, held.saturating_add(tables)),
            (Sharing::Pool, false) => return Err(Error::BadState),
        };
        if vmo.pinned != 0 {
            // The first write to either side would move a page, and a device would go on with the old one.
            return Err(Error::BadState);
        }
        let mut visited = 0;
        while let Some(entry) = self.mappings.get(mapping) {
            let next = entry.next;
            if entry.writable_entries {
                if visited == 16 || !self.mapping_write_protect(mapping) {
                    return Ok(Flow::Again);
                }
                visited += 1;
            }
            mapping = next;
        }
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Vmo, handles)?;
        if let Err(error) = self.charge(pool, Resource::PAGES, price) {
            self.credit(pool, Resource::of(Kind::Vmo), 1);
            self.credit(handles, Resource::HANDLES, 1);
            return Err(error);
        }
        if levels != 0 {
            self.frames.share(root);
        }
        if let Some(vmo) = self.vmos.get_mut(id) {
            vmo.sharing = sharing;
        }
        let copy = Vmo { pool, pages, source, sharing, root, levels, held, tables, ..Vmo::default() };
        let copy = self.vmos.insert(copy).ok_or(Error::NoQuota)?;
        // Derived from the memory it was taken of: revoking that ends the copies too.
        Ok(Flow::One(self.publish(caller.process, parent, Object::Vmo(copy), Rights::ALL)?))
    }

    /// `vmo_resize`: size in bytes. The pages beyond go a few at each entry.
    pub(crate) fn vmo_resize(&mut self, caller: &Caller, vmo: u64, size: u64) -> Result<Flow, Error> {
        let (_, id) = self.vmo(caller.process, vmo, Rights::WRITE.union(Rights::MANAGE))?;
        let pages = size.div_ceil(PAGE);
        if pages == 0 || pages > MAX_PAGES {
            return Err(Error::BadArgument);
        }
        let vmo = self.vmos.get_mut(id).ok_or(Error::Gone)?;
        vmo.pages = pages;
        for _ in 0..32 {
            let Some(index) = self.vmo_next(id, pages) else { return Ok(Flow::Done) };
            self.vmo_drop_page(id, index)?;
        }
        Ok(Flow::Again)
    }

    /// `vmo_discard`: a range of whole pages. They go a few at each entry.
    pub(crate) fn vmo_discard(&mut self, caller: &Caller, vmo: u64, offset: u64, length: u64) -> Result<Flow, Error> {
        let (_, id) = self.vmo(caller.process, vmo, Rights::WRITE.union(Rights::MANAGE))?;
        let pages = self.vmos.get(id).map(|vmo| vmo.pages).ok_or(Error::Gone)?;
        let end = offset.checked_add(length).filter(|end| end / PAGE <= pages).ok_or(Error::BadArgument)?;
        if !offset.is_multiple_of(PAGE) || !end.is_multiple_of(PAGE) {
            return Err(Error::BadArgument);
        }
        for _ in 0..32 {
            let next = self.vmo_next(id, offset / PAGE).filter(|index| *index < end / PAGE);
            let Some(index) = next else { return Ok(Flow::Done) };
            self.vmo_drop_page(id, index)?;
        }
        Ok(Flow::Again)
    }

    /// The first page at or behind `from` that the VMO holds.
    fn vmo_next(&self, id: Id<Vmo>, from: u64) -> Option<u64> {
        let vmo = self.vmos.get(id)?;
        let mut index = from;
        'search: while vmo.levels != 0 && index < ENTRIES.pow(vmo.levels) {
            let mut frame = vmo.root;
            for level in (0..vmo.levels).rev() {
                let entry = self.hardware.load(frame, slot(index, level));
                if entry == 0 {
                    index = (index >> (9 * level)).saturating_add(1) << (9 * level);
                    continue 'search;
                }
                frame = Frame(entry);
            }
            return Some(index);
        }
        None
    }

    fn vmo_drop_page(&mut self, id: Id<Vmo>, index: u64) -> Result<(), Error> {
        self.unmap_page_everywhere(id, index);
        let vmo = self.vmos.get(id).ok_or(Error::Gone)?;
        let (pool, levels, sharing) = (vmo.pool, vmo.levels, vmo.sharing);
        let mut table = self.own_table(vmo.root).map_err(|_| Error::NoQuota)?;
        if let Some(vmo) = self.vmos.get_mut(id) {
            vmo.root = table;
            vmo.held = vmo.held.saturating_sub(1);
        }
        for level in (1..levels).rev() {
            let next = Frame(self.hardware.load(table, slot(index, level)));
            let next = self.own_table(next).map_err(|_| Error::NoQuota)?;
            self.hardware.store(table, slot(index, level), next.0);
            table = next;
        }
        let page = Frame(self.hardware.load(table, slot(index, 0)));
        self.hardware.store(table, slot(index, 0), 0);
        let owes_less = sharing == Sharing::Anybody || self.frames.holders(page) == 1;
        self.frames.release(page);
        self.credit(pool, Resource::PAGES, owes_less.into());
        Ok(())
    }

    /// Lets go of the tree a bounded part at a time, then of the VMO.
    pub(crate) fn vmo_reap(&mut self, id: Id<Vmo>) -> Progress {
        let Some(vmo) = self.vmos.get(id) else { return Progress::Finished };
        let (pool, sharing, root, levels, held, tables) =
            (vmo.pool, vmo.sharing, vmo.root, vmo.levels, vmo.held, vmo.tables);
        let (mut budget, mut freed) = (STEP, 0);
        let is_released = levels == 0 || self.release_tree(root, levels - 1, &mut budget, &mut freed);
        if sharing != Sharing::Anybody {
            self.credit(pool, Resource::PAGES, freed);
        }
        if !is_released {
            return Progress::More;
        }
        self.vmos.remove(id);
        let rest = if sharing == Sharing::Anybody { held.saturating_add(tables) } else { tables };
        self.credit(pool, Resource::PAGES, rest);
        self.credit(pool, Resource::of(Kind::Vmo), 1);
        Progress::Finished
    }

    /// Lets go of a table and what only it holds; false when `budget` entries were not enough. Pages that nobody holds any more are counted in `freed`.
    fn release_tree(&mut self, table: Frame, level: u32, budget: &mut usize, freed: &mut u32) -> bool {
        if self.frames.holders(table) == 1 {
            for index in 0..ENTRIES as usize {
                let entry = self.hardware.load(table, index);
                if entry == 0 {
                    continue;
                }
                if *budget == 0 {
                    return false;
                }
                *budget -= 1;
                if level == 0 {
                    *freed += u32::from(self.frames.holders(Frame(entry)) == 1);
                    self.frames.release(Frame(entry));
                } else if !self.release_tree(Frame(entry), level - 1, budget, freed) {
                    return false;
                }
                self.hardware.store(table, index, 0);
            }
        }
        self.frames.release(table);
        true
    }
}

impl<H: Hardware> Machine<H> {
    /// Copies up to the next page boundary of either side between a VMO and a user's memory; answers the bytes.
    /// A write supplies absent pages, of paged memory too: that is how a pager answers.
    pub(crate) fn vmo_copy_part(
        &mut self,
        id: Id<Vmo>,
        offset: u64,
        space: Id<crate::space::Space>,
        address: u64,
        length: u64,
        write: bool,
    ) -> Result<u64, Miss> {
        use crate::user::UserSlice;
        let within = offset % PAGE;
        let part = length.min(PAGE - within);
        let index = offset / PAGE;
        let frame = if write {
            let (frame, replaced) = self.vmo_own_page(id, index)?;
            if replaced {
                self.unmap_page_everywhere(id, index);
            }
            frame
        } else {
            self.vmo_touch(id, index, false)?.frame
        };
        let mut buffer = [0; 512];
        let mut done = 0;
        while done < part {
            let step = (part - done).min(buffer.len() as u64);
            let Some(bytes) = buffer.get_mut(..step as usize) else { return Err(Miss::Denied) };
            let physical = frame.0.saturating_mul(PAGE).saturating_add(within).saturating_add(done);
            let at = address.saturating_add(done);
            if write {
                self.read_user(UserSlice::new(space, at, step)?, bytes)?;
                self.hardware.write_bytes(physical, bytes);
            } else {
                self.hardware.read_bytes(physical, bytes);
                self.write_user(UserSlice::new(space, at, step)?, bytes)?;
            }
            done += step;
        }
        Ok(part)
    }
}
