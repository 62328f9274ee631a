//! Typed tables whose size is fixed at boot. An index and a generation name an entry, so a stale name finds nothing.
//!
//! A table allocates once, when it is made. `insert` and `remove` are constant time. A place that was never used is not touched: what a machine has room for
//! costs nothing at boot.

use alloc::vec::Vec;
use core::marker::PhantomData;

/// Names an entry of an [`Arena`]. [`Id::NONE`] names none. One word: the index below, the generation above.
pub struct Id<T>(u64, PhantomData<fn() -> T>);

impl<T> Id<T> {
    /// Names nothing.
    pub const NONE: Id<T> = Id::new(u32::MAX, 0);

    const fn new(index: u32, generation: u32) -> Id<T> {
        Id((generation as u64) << 32 | index as u64, PhantomData)
    }

    /// Whether this names nothing.
    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.0 == Id::<T>::NONE.0
    }

    /// The name as a word, for where words are kept.
    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    /// A name from such a word. A wrong one names nothing, or another entry, as every stale name.
    pub(crate) fn from_bits(bits: u64) -> Id<T> {
        Id(bits, PhantomData)
    }

    /// The place in the table.
    #[inline(always)]
    pub fn index(self) -> u32 {
        self.0 as u32
    }

    /// How often the place was used before, doubled, plus one.
    #[inline(always)]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Id<T> {}
impl<T> Default for Id<T> {
    fn default() -> Self {
        Id::NONE
    }
}
impl<T> core::fmt::Debug for Id<T> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "{}.{}", self.index(), self.generation())
    }
}

struct Slot<T> {
    /// In use: the entry's own name, whose generation is odd. Free: an even generation above, the next free place below.
    name: u64,
    value: T,
}

impl<T> Slot<T> {
    /// The name, if the slot is in use.
    #[inline(always)]
    fn in_use(&self) -> Option<Id<T>> {
        if self.name >> 32 & 1 == 1 { Some(Id(self.name, PhantomData)) } else { None }
    }

    fn generation(&self) -> u32 {
        (self.name >> 32) as u32
    }
}

/// A table of `T`.
pub struct Arena<T> {
    /// The places that were used before.
    slots: Vec<Slot<T>>,
    capacity: usize,
    /// The first free place: behind all others, the first that was never used.
    free: u32,
    live: u32,
}

impl<T: Default> Arena<T> {
    /// A table with `capacity` free entries.
    pub fn new(capacity: usize) -> Arena<T> {
        Arena { slots: Vec::with_capacity(capacity), capacity, free: 0, live: 0 }
    }

    /// The bytes that a table of this capacity takes.
    pub fn bytes(capacity: usize) -> u64 {
        (size_of::<Slot<T>>() as u64).saturating_mul(capacity as u64)
    }

    /// How many entries there are room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many entries are in use.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// Puts a value in; `None` when the table is full.
    pub fn insert(&mut self, value: T) -> Option<Id<T>> {
        let (id, place) = self.insert_default()?;
        *place = value;
        Some(id)
    }

    /// Takes a free entry, to be filled where it lies: it holds the default value. `None` when the table is full.
    #[inline(always)]
    pub fn insert_default(&mut self) -> Option<(Id<T>, &mut T)> {
        let index = self.free;
        if index as usize >= self.slots.len() {
            self.take_into_use()?;
        }
        let slot = self.slots.get_mut(index as usize)?;
        self.free = slot.name as u32;
        self.live = self.live.wrapping_add(1);
        let id = Id::new(index, slot.generation().wrapping_add(1));
        slot.name = id.0;
        Some((id, &mut slot.value))
    }

    /// Takes one more place into use, which is free then. No memory is allocated for it: there is room for all.
    #[cold]
    #[inline(never)]
    fn take_into_use(&mut self) -> Option<()> {
        let index = self.slots.len();
        if index >= self.capacity {
            return None;
        }
        let next = (index as u32).wrapping_add(1);
        self.slots.push(Slot { name: Id::<T>::new(next, 0).0, value: T::default() });
        Some(())
    }

    /// Frees an entry whose value nobody needs any more.
    #[inline(always)]
    pub fn discard(&mut self, id: Id<T>) {
        let Some(slot) = self.slots.get_mut(id.index() as usize).filter(|slot| slot.name == id.0) else { return };
        slot.name = Id::<T>::new(self.free, slot.generation().wrapping_add(1)).0;
        slot.value = T::default();
        self.free = id.index();
        self.live = self.live.wrapping_sub(1);
    }

    /// Takes a value out.
    pub fn remove(&mut self, id: Id<T>) -> Option<T> {
        let slot = self.slots.get_mut(id.index() as usize).filter(|slot| slot.name == id.0)?;
        slot.name = Id::<T>::new(self.free, slot.generation().wrapping_add(1)).0;
        self.free = id.index();
        self.live = self.live.wrapping_sub(1);
        Some(core::mem::take(&mut slot.value))
    }

    /// Every entry in use.
    pub fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        self.slots.iter().filter_map(|slot| Some((slot.in_use()?, &slot.value)))
    }
}

impl<T> Arena<T> {
    /// The entry that `id` names.
    #[inline(always)]
    pub fn get(&self, id: Id<T>) -> Option<&T> {
        match self.slots.get(id.index() as usize) {
            Some(slot) if slot.name == id.0 => Some(&slot.value),
            _ => None,
        }
    }

    /// The entry that `id` names, to change it.
    #[inline(always)]
    pub fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        match self.slots.get_mut(id.index() as usize) {
            Some(slot) if slot.name == id.0 => Some(&mut slot.value),
            _ => None,
        }
    }

    /// Two different entries, to change both.
    #[inline(always)]
    pub fn pair_mut(&mut self, first: Id<T>, second: Id<T>) -> Option<(&mut T, &mut T)> {
        // Written out: `get_disjoint_mut` is a call where the kernel is compiled for size.
        let (one, two) = (first.index() as usize, second.index() as usize);
        let (one, two) = if one < two {
            let (low, high) = self.slots.split_at_mut_checked(two)?;
            (low.get_mut(one)?, high.first_mut()?)
        } else {
            let (low, high) = self.slots.split_at_mut_checked(one)?;
            (high.first_mut()?, low.get_mut(two)?)
        };
        if one.name == first.0 && two.name == second.0 { Some((&mut one.value, &mut two.value)) } else { None }
    }

    /// Whatever is at a place that was used before: the default value where nothing is in use.
    #[inline(always)]
    pub fn peek(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize).map(|slot| &slot.value)
    }

    /// The entry in use at a place, with its name.
    #[inline(always)]
    pub fn at(&self, index: u32) -> Option<(Id<T>, &T)> {
        let slot = self.slots.get(index as usize)?;
        Some((slot.in_use()?, &slot.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_name_finds_nothing() {
        let mut arena = Arena::new(2);
        let first = arena.insert(1u32).unwrap();
        assert_eq!(arena.remove(first), Some(1));
        let second = arena.insert(2).unwrap();
        assert_eq!(first.index(), second.index());
        assert_eq!((arena.get(first), arena.get(second)), (None, Some(&2)));
        assert_eq!(arena.remove(first), None);
    }

    #[test]
    fn a_discarded_entry_is_as_new() {
        let mut arena = Arena::new(1);
        let first = arena.insert(7u32).unwrap();
        arena.discard(first);
        assert_eq!((arena.live(), arena.peek(0)), (0, Some(&0)));
        let (second, value) = arena.insert_default().unwrap();
        assert_eq!(*value, 0);
        arena.discard(first);
        assert_eq!((arena.live(), arena.get(second)), (1, Some(&0)));
        assert!(arena.insert_default().is_none());
    }

    #[test]
    fn places_are_taken_into_use_one_after_the_other_and_freed_ones_first() {
        let mut arena = Arena::new(3);
        assert_eq!((arena.capacity(), arena.peek(0)), (3, None));
        let (first, second) = (arena.insert(1u32).unwrap(), arena.insert(2).unwrap());
        arena.discard(first);
        assert_eq!(arena.insert(3).unwrap().index(), first.index());
        arena.discard(second);
        let third = [arena.insert(4).unwrap(), arena.insert(5).unwrap()];
        assert_eq!(third.map(Id::index), [1, 2]);
        assert!(arena.insert(6).is_none());
        assert_eq!(arena.iter().map(|(_, value)| *value).collect::<alloc::vec::Vec<_>>(), [3, 4, 5]);
    }

    #[test]
    fn a_full_table_says_so_and_takes_again_after_a_removal() {
        let mut arena = Arena::new(2);
        let (first, _) = (arena.insert(1u32).unwrap(), arena.insert(2).unwrap());
        assert!(arena.insert(3).is_none());
        arena.remove(first);
        assert!(arena.insert(3).is_some());
        assert_eq!(arena.live(), 2);
    }
}
