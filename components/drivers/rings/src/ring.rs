//! One ring: a producer that owns the slots it has not published, a consumer that owns those it has not released.
//!
//! Positions count up and wrap at 2³². In memory a ring is three parts, each in cache lines of its own: the producer's line (how
//! far it published), the consumer's (how far it took, and whether it sleeps), and the slots.

use core::sync::atomic::{Ordering, fence};

use tessera_memory::Memory;

use crate::{Broken, Entry};

/// Where things lie in the memory of the rings.
pub mod layout {
    /// How many slots each ring has: a `u32` at the start.
    pub const CAPACITY: usize = 0;
    /// The first ring. Before it there is nothing but the capacity.
    pub const FIRST: usize = 64;
    /// In a ring: how far the producer has published.
    pub const PRODUCED: usize = 0;
    /// In a ring: how far the consumer has taken.
    pub const CONSUMED: usize = 64;
    /// In a ring: 1 if the consumer wants its doorbell rung.
    pub const SLEEPS: usize = 68;
    /// In a ring: the slots.
    pub const SLOTS: usize = 128;
    /// Bytes of a slot.
    pub const SLOT: usize = 16;

    /// Frames that the driver may fill.
    pub const RECEIVE_FREE: usize = 0;
    /// Frames that it has filled.
    pub const RECEIVE_DONE: usize = 1;
    /// Frames to be sent.
    pub const SEND: usize = 2;
    /// Frames that were sent.
    pub const SEND_DONE: usize = 3;

    /// The most slots of a ring.
    pub const MOST: u32 = 4096;

    /// Bytes of one ring with this many slots.
    pub const fn ring(capacity: u32) -> usize {
        (capacity as usize).saturating_mul(SLOT).saturating_add(SLOTS)
    }

    /// Bytes of the memory for four rings with this many slots.
    pub const fn bytes(capacity: u32) -> usize {
        ring(capacity).saturating_mul(4).saturating_add(FIRST)
    }
}

/// Makes four empty rings of `capacity` slots, a power of two; answers whether the memory has room for them. Nobody may use the memory meanwhile.
pub fn format(memory: &Memory, capacity: u32) -> bool {
    if !capacity.is_power_of_two() || capacity > layout::MOST || layout::bytes(capacity) > memory.length() {
        return false;
    }
    memory.clear(0, layout::bytes(capacity));
    memory.store_32(layout::CAPACITY, capacity);
    true
}

/// How many slots the rings in this memory say that they have, if there is room for them.
pub fn capacity(memory: &Memory) -> Result<u32, Broken> {
    let capacity = memory.load_32(layout::CAPACITY);
    let fits = capacity.is_power_of_two() && capacity <= layout::MOST && layout::bytes(capacity) <= memory.length();
    if fits { Ok(capacity) } else { Err(Broken) }
}

fn part(memory: &Memory, number: usize, capacity: u32) -> Result<Memory, Broken> {
    let start = layout::ring(capacity).saturating_mul(number).saturating_add(layout::FIRST);
    memory.part(start, layout::ring(capacity)).ok_or(Broken)
}

fn slot(position: u32, mask: u32) -> usize {
    ((position & mask) as usize).saturating_mul(layout::SLOT).saturating_add(layout::SLOTS)
}

/// The end of a ring that puts entries in.
#[derive(Debug)]
pub struct Producer {
    ring: Memory,
    mask: u32,
    /// Where the next entry goes. The memory has a copy for the consumer, which is never read back.
    next: u32,
    published: u32,
    /// What the consumer was last seen to have taken.
    consumed: u32,
}

impl Producer {
    /// The producer of a newly formatted ring, by its number.
    pub fn new(memory: &Memory, number: usize, capacity: u32) -> Result<Producer, Broken> {
        let ring = part(memory, number, capacity)?;
        Ok(Producer { ring, mask: capacity.wrapping_sub(1), next: 0, published: 0, consumed: 0 })
    }

    /// How many entries can be put in before the ring is full.
    pub fn room(&mut self) -> Result<u32, Broken> {
        let capacity = self.mask.wrapping_add(1);
        if self.next.wrapping_sub(self.consumed) < capacity {
            return Ok(capacity.wrapping_sub(self.next.wrapping_sub(self.consumed)));
        }
        let consumed = self.ring.load_32(layout::CONSUMED);
        // It can have taken what was published, and not have given back what it took.
        let (taken, possible) = (consumed.wrapping_sub(self.consumed), self.published.wrapping_sub(self.consumed));
        if taken > possible {
            return Err(Broken);
        }
        self.consumed = consumed;
        Ok(capacity.wrapping_sub(self.next.wrapping_sub(consumed)))
    }

    /// Puts an entry in; answers whether there was room. The consumer sees it after [`Producer::publish`].
    #[inline]
    pub fn push(&mut self, entry: Entry) -> Result<bool, Broken> {
        if self.room()? == 0 {
            return Ok(false);
        }
        let [low, high] = entry.words();
        let slot = slot(self.next, self.mask);
        self.ring.store_64(slot, low);
        self.ring.store_64(slot.saturating_add(8), high);
        self.next = self.next.wrapping_add(1);
        Ok(true)
    }

    /// Shows the consumer what was put in; answers whether its doorbell must be rung.
    #[inline]
    #[must_use = "if the consumer sleeps, it must be woken"]
    pub fn publish(&mut self) -> bool {
        if self.published == self.next {
            return false;
        }
        self.published = self.next;
        self.ring.store_32(layout::PRODUCED, self.next);
        // Pairs with the one in `sleep`: either this side sees that the consumer sleeps, or it sees the new position.
        fence(Ordering::SeqCst);
        let sleeps = self.ring.load_32(layout::SLEEPS) != 0;
        if sleeps {
            self.ring.store_32(layout::SLEEPS, 0);
        }
        sleeps
    }
}

/// The end of a ring that takes entries out.
#[derive(Debug)]
pub struct Consumer {
    ring: Memory,
    mask: u32,
    next: u32,
    /// What the producer was last seen to have published.
    produced: u32,
}

impl Consumer {
    /// The consumer of a newly formatted ring, by its number.
    pub fn new(memory: &Memory, number: usize, capacity: u32) -> Result<Consumer, Broken> {
        let ring = part(memory, number, capacity)?;
        Ok(Consumer { ring, mask: capacity.wrapping_sub(1), next: 0, produced: 0 })
    }

    /// How many entries are there.
    fn waiting(&mut self) -> Result<u32, Broken> {
        let known = self.produced.wrapping_sub(self.next);
        if known > 0 {
            return Ok(known);
        }
        let produced = self.ring.load_32(layout::PRODUCED);
        let waiting = produced.wrapping_sub(self.next);
        if waiting > self.mask.wrapping_add(1) {
            return Err(Broken);
        }
        self.produced = produced;
        Ok(waiting)
    }

    /// Takes the next entry. What it says is the producer's word only.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Entry>, Broken> {
        if self.waiting()? == 0 {
            return Ok(None);
        }
        let slot = slot(self.next, self.mask);
        let entry = Entry::from_words([self.ring.load_64(slot), self.ring.load_64(slot.saturating_add(8))]);
        self.next = self.next.wrapping_add(1);
        self.ring.store_32(layout::CONSUMED, self.next);
        Ok(Some(entry))
    }

    /// How many entries are known to be left, without a look at what the producer says now.
    pub fn left(&self) -> usize {
        self.produced.wrapping_sub(self.next) as usize
    }

    /// Says that this side is going to wait for its doorbell; answers whether it may: if not, there is something to take.
    pub fn sleep(&mut self) -> Result<bool, Broken> {
        self.ring.store_32(layout::SLEEPS, 1);
        fence(Ordering::SeqCst);
        let empty = self.waiting()? == 0;
        if !empty {
            self.wake();
        }
        Ok(empty)
    }

    /// Says that this side is awake, and needs no doorbell.
    pub fn wake(&mut self) {
        self.ring.store_32(layout::SLEEPS, 0);
    }
}
