//! Where the mappings of a space are kept: a treap by address, a binary tree that random priorities keep balanced. Its depth is
//! logarithmic in expectation, whatever addresses a program chooses, and it needs no memory but two links in each mapping.

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
    /// Not smaller than those below it.
    priority: u64,
}

impl Branch {
    /// A mapping's place before it has one. The priority must not be foreseen by who chooses the addresses.
    pub(crate) fn new(priority: u64) -> Branch {
        Branch { priority, ..Branch::default() }
    }
}

impl<H: Hardware> Machine<H> {
    /// The mapping that contains `address`.
    pub(crate) fn mapping_at(&self, space: Id<Space>, address: u64) -> Option<Id<Mapping>> {
        let mut next = self.spaces.get(space)?.top;
        while let Some(mapping) = self.mappings.get(next) {
            if address < mapping.start {
                next = mapping.branch.left;
            } else if address >= mapping.end() {
                next = mapping.branch.right;
            } else {
                return Some(next);
            }
        }
        None
    }

    /// A mapping that shares an address with the range.
    pub(crate) fn overlap(&self, space: Id<Space>, range: Range) -> Option<Id<Mapping>> {
        let mut next = self.spaces.get(space)?.top;
        while let Some(mapping) = self.mappings.get(next) {
            if range.end <= mapping.start {
                next = mapping.branch.left;
            } else if range.start >= mapping.end() {
                next = mapping.branch.right;
            } else {
                return Some(next);
            }
        }
        None
    }

    /// Puts a mapping among those of a space; it shares no address with any.
    pub(crate) fn space_enter(&mut self, space: Id<Space>, id: Id<Mapping>) {
        let top = self.spaces.get(space).map_or(Id::NONE, |space| space.top);
        let top = self.treap_insert(top, id);
        if let Some(space) = self.spaces.get_mut(space) {
            space.top = top;
        }
    }

    /// Takes the mapping that starts at an address from those of a space.
    pub(crate) fn space_leave(&mut self, space: Id<Space>, start: u64) {
        let top = self.spaces.get(space).map_or(Id::NONE, |space| space.top);
        let top = self.treap_remove(top, start);
        if let Some(space) = self.spaces.get_mut(space) {
            space.top = top;
        }
    }

    /// Puts a mapping into a treap; answers the new top.
    fn treap_insert(&mut self, top: Id<Mapping>, id: Id<Mapping>) -> Id<Mapping> {
        let Some((start, priority)) = self.mappings.get(id).map(|mapping| (mapping.start, mapping.branch.priority))
        else {
            return top;
        };
        match self
            .mappings
            .get(top)
            .map(|mapping| (mapping.start, mapping.branch.priority, mapping.branch.left, mapping.branch.right))
        {
            None => id,
            Some((_, other, ..)) if other < priority => {
                let (left, right) = self.treap_split(top, start);
                self.treap_link(id, left, right);
                id
            }
            Some((other, _, left, right)) => {
                if start < other {
                    let left = self.treap_insert(left, id);
                    self.treap_link(top, left, right);
                } else {
                    let right = self.treap_insert(right, id);
                    self.treap_link(top, left, right);
                }
                top
            }
        }
    }

    fn treap_link(&mut self, id: Id<Mapping>, left: Id<Mapping>, right: Id<Mapping>) {
        if let Some(mapping) = self.mappings.get_mut(id) {
            mapping.branch.left = left;
            mapping.branch.right = right;
        }
    }

    fn treap_split(&mut self, top: Id<Mapping>, at: u64) -> (Id<Mapping>, Id<Mapping>) {
        let Some((start, left, right)) =
            self.mappings.get(top).map(|mapping| (mapping.start, mapping.branch.left, mapping.branch.right))
        else {
            return (Id::NONE, Id::NONE);
        };
        if start < at {
            let (middle, end) = self.treap_split(right, at);
            self.treap_link(top, left, middle);
            (top, end)
        } else {
            let (begin, middle) = self.treap_split(left, at);
            self.treap_link(top, middle, right);
            (begin, top)
        }
    }

    fn treap_remove(&mut self, top: Id<Mapping>, start: u64) -> Id<Mapping> {
        let Some((other, left, right)) =
            self.mappings.get(top).map(|mapping| (mapping.start, mapping.branch.left, mapping.branch.right))
        else {
            return top;
        };
        if other == start {
            return self.treap_join(left, right);
        }
        if start < other {
            let left = self.treap_remove(left, start);
            self.treap_link(top, left, right);
        } else {
            let right = self.treap_remove(right, start);
            self.treap_link(top, left, right);
        }
        top
    }

    fn treap_join(&mut self, first: Id<Mapping>, second: Id<Mapping>) -> Id<Mapping> {
        let one = self
            .mappings
            .get(first)
            .map(|mapping| (mapping.branch.priority, mapping.branch.left, mapping.branch.right));
        let two = self
            .mappings
            .get(second)
            .map(|mapping| (mapping.branch.priority, mapping.branch.left, mapping.branch.right));
        match (one, two) {
            (None, _) => second,
            (_, None) => first,
            (Some((high, left, right)), Some((low, ..))) if high >= low => {
                let right = self.treap_join(right, second);
                self.treap_link(first, left, right);
                first
            }
            (_, Some((_, left, right))) => {
                let left = self.treap_join(first, left);
                self.treap_link(second, left, right);
                second
            }
        }
    }
}
