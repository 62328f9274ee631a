//! Memory: which pages and tables a memory object reaches and who pays for them, what is mapped where, what is pinned.

use super::{Body, Cap, Capability, HANDLES, Holder, Model, PAGES, Place, Thing, waits::Expected};
use std::collections::{BTreeMap, BTreeSet};
use tessera_abi::{Error, Kind, PAGE};
use tessera_core::Object;

/// Who shares pages with a memory object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sharers {
    #[default]
    None,
    Pool,
    Others,
}

/// A memory object: pages that it holds, each with the number of its content, and the tables of 512 entries that lead to them. A table is named by its level (1 leads to
/// pages) and by which part of the object it serves; tables stay when their pages go.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub pages: u64,
    pub held: BTreeMap<u64, usize>,
    pub sharers: Sharers,
    levels: u32,
    tables: BTreeSet<(u32, u64)>,
}

impl Memory {
    pub fn new(pages: u64) -> Memory {
        Memory { pages, ..Memory::default() }
    }

    /// What a snapshot costs that is taken for a pool, and who shares pages then.
    pub fn snapshot(&self, same_pool: bool) -> Result<(u32, Sharers), Error> {
        match (self.sharers, same_pool) {
            (Sharers::None | Sharers::Pool, true) => Ok((self.tables(), Sharers::Pool)),
            (Sharers::Pool, false) => Err(Error::BadState),
            _ => Ok((self.tables() + self.held.len() as u32, Sharers::Others)),
        }
    }

    fn has(&self, content: usize) -> bool {
        self.held.values().any(|other| *other == content)
    }

    /// Tables are paid for by everybody who reaches them.
    pub fn tables(&self) -> u32 {
        self.tables.len() as u32
    }
}

/// One mapping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub start: u64,
    pub pages: u64,
    pub cap: Cap,
    pub memory: Place,
    pub offset: u64,
}

impl Seat {
    fn end(&self) -> u64 {
        self.start + self.pages * PAGE
    }
}

impl Model {
    pub(super) fn memory(&mut self, place: Place) -> &mut Memory {
        match &mut self.things.get_mut(&place).expect("a thing").body {
            Body::Memory(memory) => memory,
            other => panic!("{other:?} is no memory"),
        }
    }

    pub(super) fn seats(&mut self, space: Place) -> &mut Vec<Seat> {
        match &mut self.things.get_mut(&space).expect("a thing").body {
            Body::Space { seats, .. } => seats,
            other => panic!("{other:?} is no space"),
        }
    }

    /// Whether pages of it are pinned.
    pub(super) fn pinned(&self, memory: Place) -> bool {
        let pins = |thing: &Thing| matches!(&thing.body, Body::Dma { pins, .. } if pins.contains(&memory));
        self.things.values().any(pins)
    }

    /// A page is written. What was made on the way to a refusal stays.
    pub(super) fn write_page(&mut self, place: Place, page: u64) -> Result<(), Error> {
        let pool = self.things[&place].payer.expect("a pool");
        let needed = if page < 512 { 1 } else { 2 };
        while self.memory(place).levels < needed {
            self.pay(&[(pool, PAGES, 1)])?;
            let memory = self.memory(place);
            memory.levels = if memory.levels == 0 { needed } else { memory.levels + 1 };
            memory.tables.insert((memory.levels, 0));
        }
        for level in (1..self.memory(place).levels).rev() {
            let table = (level, page >> (9 * level));
            if !self.memory(place).tables.contains(&table) {
                self.pay(&[(pool, PAGES, 1)])?;
                self.memory(place).tables.insert(table);
            }
        }
        let content = self.memory(place).held.get(&page).copied();
        let is_shared = content.is_some_and(|content| self.memories().filter(|other| other.has(content)).count() > 1);
        if content.is_none() || is_shared {
            if content.is_none() || self.memory(place).sharers != Sharers::Others {
                self.pay(&[(pool, PAGES, 1)])?;
            }
            self.next += 1;
            let content = self.next;
            self.memory(place).held.insert(page, content);
        }
        Ok(())
    }

    fn memories(&self) -> impl Iterator<Item = &Memory> {
        self.things.values().filter_map(|thing| match &thing.body {
            Body::Memory(memory) => Some(memory),
            _ => None,
        })
    }

    /// Maps memory at an address, perhaps with the pages that it holds.
    pub(super) fn map(&mut self, space: Place, parent: Cap, seat: Seat, populate: bool) -> Result<Expected, Error> {
        if self.seats(space).iter().any(|other| seat.start < other.end() && other.start < seat.end()) {
            return Err(Error::Occupied);
        }
        self.sit(space, parent, seat)?;
        if populate {
            self.populate(space, seat);
        }
        Ok(Expected::value(seat.start))
    }

    fn sit(&mut self, space: Place, parent: Cap, seat: Seat) -> Result<(), Error> {
        let payer = self.things[&space].payer.expect("a pool");
        self.pay(&[(payer, HANDLES, 1)])?;
        let Capability { kind, rights, .. } = self.caps[&parent];
        let cap = self.cap(Capability {
            place: seat.memory,
            real: Object::Nothing,
            kind,
            rights,
            holder: Holder::Mapping(space),
            parent: Some(parent),
            payer,
        });
        self.seats(space).push(Seat { cap, ..seat });
        Ok(())
    }

    /// Page tables of three levels below the root are made where they are missing, until the pool is used up.
    fn populate(&mut self, space: Place, seat: Seat) {
        let payer = self.things[&space].payer.expect("a pool");
        let held = self.memory(seat.memory).held.clone();
        for page in (0..seat.pages).filter(|page| held.contains_key(&(seat.offset + page))) {
            let address = seat.start + page * PAGE;
            for level in [3, 2, 1] {
                let table = (level, address >> (12 + 9 * level));
                let Body::Space { tables, .. } = &self.things[&space].body else { return };
                if tables.contains(&table) {
                    continue;
                }
                if self.pay(&[(payer, PAGES, 1)]).is_err() {
                    return;
                }
                if let Body::Space { tables, .. } = &mut self.things.get_mut(&space).expect("a space").body {
                    tables.insert(table);
                }
            }
        }
    }

    /// Removes what is mapped in a range; mappings across its ends are cut, and nothing happens if that cannot be paid.
    pub(super) fn unmap(&mut self, space: Place, start: u64, end: u64) -> Result<Expected, Error> {
        let payer = self.things[&space].payer.expect("a pool");
        let across = |seats: &[Seat], at: u64| seats.iter().position(|seat| seat.start < at && at < seat.end());
        let cuts = [start, end].into_iter().filter(|at| across(self.seats(space), *at).is_some()).count();
        self.pay(&[(payer, HANDLES, cuts as u32)])?;
        for at in [start, end] {
            let Some(index) = across(self.seats(space), at) else { continue };
            let whole = self.seats(space)[index];
            let keep = (at - whole.start) / PAGE;
            self.seats(space)[index].pages = keep;
            let rest = Seat { start: at, pages: whole.pages - keep, offset: whole.offset + keep, ..whole };
            self.sit(space, whole.cap, rest)?;
        }
        let inside = |seat: &&Seat| seat.start >= start && seat.start < end;
        let gone: Vec<Cap> = self.seats(space).iter().filter(inside).map(|seat| seat.cap).collect();
        gone.into_iter().for_each(|cap| self.remove(cap));
        Ok(Expected::done())
    }

    /// Pins one page.
    pub(super) fn pin(&mut self, dma: Place, memory: Place, page: u64) -> Result<Expected, Error> {
        self.write_page(memory, page)?;
        let pool = self.things[&dma].payer.unwrap_or(self.root);
        let Body::Dma { pins, tables, .. } = &self.things[&dma].body else { return Err(Error::WrongKind) };
        // Page 0 is never used, and the root is there if there is a device behind it.
        let (at, list) = (pins.len() as u64 + 1, u32::from(pins.len() % 255 == 0));
        let missing =
            [(2, at >> 18), (1, at >> 9)].into_iter().filter(|table| !tables.is_empty() && !tables.contains(table));
        let missing: Vec<_> = missing.collect();
        self.pay(&[(pool, PAGES, 1 + list)])?;
        for table in missing {
            // The page and its list are given back, tables that were made stay.
            self.pay(&[(pool, PAGES, 2 + list)])?;
            self.pinning(dma).1.insert(table);
        }
        self.pinning(dma).0.push(memory);
        Ok(Expected::value(1))
    }

    fn pinning(&mut self, dma: Place) -> (&mut Vec<Place>, &mut BTreeSet<(u32, u64)>) {
        match &mut self.things.get_mut(&dma).expect("a thing").body {
            Body::Dma { pins, tables, .. } => (pins, tables),
            other => panic!("{other:?} holds no memory still"),
        }
    }

    pub(super) fn is_memory(kind: Kind) -> bool {
        kind == Kind::Vmo
    }
}
