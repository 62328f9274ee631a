//! Where the mappings of a space are kept: a treap by address, a binary tree that random priorities keep balanced. Its depth is
//! logarithmic in expectation, whatever addresses a program chooses, and it needs no memory but two links in each mapping.

use tessera_abi::NATIVE_BASE;

use crate::{
    Hardware, Machine,
    arena::Id,
    space::{Mapping, Range, Space},
};

/// A mapping's place in the treap of its space.
#[derive(Default)]
pub struct Branch {
    left: Id<Mapping>,
    right: Id<Mapping>,
    /// Not smaller than those below it, and not to be foreseen by who chooses the addresses.
    priority: u64,
}

/// What names a mapping's place: the space itself for the top one, else a link of the mapping above.
#[derive(Clone, Copy)]
enum Link {
    Top(Id<Space>),
    Left(Id<Mapping>),
    Right(Id<Mapping>),
}

impl<H: Hardware> Machine<H> {
    /// The mapping that contains `address`.
    pub(crate) fn mapping_at(&self, space: Id<Space>, address: u64) -> Option<Id<Mapping>> {
        let space = self.spaces.get(space)?;
        let contains = |mapping: &Mapping| mapping.start <= address && address < mapping.end;
        if self.mappings.get(space.newest).is_some_and(contains) {
            return Some(space.newest);
        }
        let mut next = space.top;
        while let Some(mapping) = self.mappings.get(next) {
            if address < mapping.start {
                next = mapping.branch.left;
            } else if address >= mapping.end {
                next = mapping.branch.right;
            } else {
                return Some(next);
            }
        }
        None
    }

    /// The first mapping that ends behind `address`.
    pub(crate) fn mapping_from(&self, space: Id<Space>, address: u64) -> Option<Id<Mapping>> {
        let space = self.spaces.get(space)?;
        let mut next = space.top;
        let mut found = None;
        while let Some(mapping) = self.mappings.get(next) {
            next = if mapping.end <= address {
                mapping.branch.right
            } else {
                found = Some(next);
                mapping.branch.left
            };
        }
        let begins = |id| self.mappings.get(id).map_or(u64::MAX, |mapping| mapping.start);
        match self.mappings.get(space.newest).filter(|newest| newest.end > address) {
            Some(newest) if found.is_none_or(|found| newest.start < begins(found)) => Some(space.newest),
            _ => found,
        }
    }

    /// A mapping that shares an address with the range.
    #[inline(always)]
    pub(crate) fn overlap(&self, space: Id<Space>, range: Range) -> Option<Id<Mapping>> {
        let space = self.spaces.get(space)?;
        let overlaps = |mapping: &Mapping| mapping.start < range.end && range.start < mapping.end;
        if self.mappings.get(space.newest).is_some_and(overlaps) {
            return Some(space.newest);
        }
        let mut next = space.top;
        while let Some(mapping) = self.mappings.get(next) {
            if range.end <= mapping.start {
                next = mapping.branch.left;
            } else if range.start >= mapping.end {
                next = mapping.branch.right;
            } else {
                return Some(next);
            }
        }
        None
    }

    /// Puts a mapping among those of a space; it shares no address with any. The one that was the newest moves into the treap.
    #[inline(always)]
    pub(crate) fn space_enter(&mut self, space: Id<Space>, id: Id<Mapping>) {
        if let Some(entry) = self.spaces.get_mut(space) {
            let older = core::mem::replace(&mut entry.newest, id);
            if !older.is_none() {
                self.treap_enter(space, older);
            }
        }
    }

    /// Takes a mapping from those of a space; its range is free.
    #[inline(always)]
    pub(crate) fn space_leave(&mut self, space: Id<Space>, id: Id<Mapping>, range: Range) {
        let Some(entry) = self.spaces.get_mut(space) else { return };
        if entry.room.start == range.end && range.start >= NATIVE_BASE {
            entry.room.start = range.start;
        }
        if entry.newest == id {
            entry.newest = Id::NONE;
        } else {
            self.treap_leave(space, id);
        }
    }

    #[inline(never)]
    fn treap_enter(&mut self, space: Id<Space>, id: Id<Mapping>) {
        let priority = self.random();
        let Some(mapping) = self.mappings.get_mut(id) else { return };
        let start = mapping.start;
        mapping.branch.priority = priority;
        let mut next = self.spaces.get(space).map_or(Id::NONE, |space| space.top);
        let mut place = Link::Top(space);
        while let Some(mapping) = self.mappings.get(next).filter(|mapping| mapping.branch.priority >= priority) {
            (place, next) = if start < mapping.start {
                (Link::Left(next), mapping.branch.left)
            } else {
                (Link::Right(next), mapping.branch.right)
            };
        }
        self.hang(place, id);
        // Those of lower priority hang below it, on the side on which they lie.
        let (mut before, mut behind) = (Link::Left(id), Link::Right(id));
        while let Some(mapping) = self.mappings.get(next) {
            let branch = &mapping.branch;
            if mapping.start < start {
                let after = branch.right;
                self.hang(before, next);
                (before, next) = (Link::Right(next), after);
            } else {
                let after = branch.left;
                self.hang(behind, next);
                (behind, next) = (Link::Left(next), after);
            }
        }
        self.hang(before, Id::NONE);
        self.hang(behind, Id::NONE);
    }

    #[inline(never)]
    fn treap_leave(&mut self, space: Id<Space>, id: Id<Mapping>) {
        let Some(leaving) = self.mappings.get(id) else { return };
        let (start, mut first, mut second) = (leaving.start, leaving.branch.left, leaving.branch.right);
        let mut next = self.spaces.get(space).map_or(Id::NONE, |space| space.top);
        let mut place = Link::Top(space);
        while next != id {
            let Some(mapping) = self.mappings.get(next) else { return };
            (place, next) = if start < mapping.start {
                (Link::Left(next), mapping.branch.left)
            } else {
                (Link::Right(next), mapping.branch.right)
            };
        }
        // What hung below it takes its place, the higher priority first.
        loop {
            match (self.mappings.get(first), self.mappings.get(second)) {
                (None, _) => return self.hang(place, second),
                (_, None) => return self.hang(place, first),
                (Some(one), Some(two)) if one.branch.priority >= two.branch.priority => {
                    let after = one.branch.right;
                    self.hang(place, first);
                    (place, first) = (Link::Right(first), after);
                }
                (_, Some(two)) => {
                    let after = two.branch.left;
                    self.hang(place, second);
                    (place, second) = (Link::Left(second), after);
                }
            }
        }
    }

    /// Lets a link name a mapping, or none.
    fn hang(&mut self, place: Link, id: Id<Mapping>) {
        let link = match place {
            Link::Top(space) => self.spaces.get_mut(space).map(|space| &mut space.top),
            Link::Left(above) => self.mappings.get_mut(above).map(|mapping| &mut mapping.branch.left),
            Link::Right(above) => self.mappings.get_mut(above).map(|mapping| &mut mapping.branch.right),
        };
        if let Some(link) = link {
            *link = id;
        }
    }
}
