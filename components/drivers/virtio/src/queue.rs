//! The split virtqueue, driver's side (Virtio 2.7).
//!
//! A queue is two pages: the descriptor table in the first, both rings in the second. So the memory need not be contiguous
//! beyond a page, and a queue has at most [`MOST`] descriptors. All that the driver must know again stands in memory of its own; of
//! what the device can write, only the used ring is ever read.

use alloc::boxed::Box;
use core::sync::atomic::{Ordering, fence};

use tessera_memory::Memory;

use crate::{DmaMemory, Misbehaved, PAGE, QueueAddresses};

/// The most descriptors of a queue.
pub const MOST: u16 = 256;

/// Descriptor flags (Virtio 2.7.5).
const NEXT: u16 = 1;
const DEVICE_WRITES: u16 = 2;

/// Where the parts of a queue lie in its two pages.
#[derive(Clone, Copy, Debug)]
pub struct Layout;

impl Layout {
    /// Bytes of a queue's memory.
    pub const BYTES: usize = PAGE * 2;
    /// The descriptor table: 16 bytes a descriptor.
    pub const DESCRIPTORS: usize = 0;
    /// The driver's area, the "available ring" (Virtio 2.7.6): flags, index, heads, and the index at which it wants to be notified.
    pub const AVAILABLE: usize = PAGE;
    /// The device's area, the "used ring" (Virtio 2.7.8): flags, index, elements, and the index at which it wants to be notified.
    pub const USED: usize = PAGE + 1024;
}

/// A stretch of memory for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its bus address.
    pub address: u64,
    /// Its bytes.
    pub length: u32,
    /// Whether the device writes it; else it reads it.
    pub device_writes: bool,
}

/// There are not enough descriptors free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A chain of parts that the device has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// What [`Queue::add`] answered for it.
    pub token: u16,
    /// How many bytes the device says that it wrote, from the first writable byte on; never more than there were.
    pub written: u32,
}

/// What the driver knows of a chain that begins at a descriptor.
#[derive(Clone, Copy, Default)]
struct Flight {
    /// Descriptors; 0 while the device does not have it.
    descriptors: u16,
    writable: u32,
}

/// The driver's side of a queue.
pub struct Queue {
    memory: Memory,
    addresses: QueueAddresses,
    size: u16,
    /// What follows each descriptor, in a chain or among the free ones.
    links: Box<[u16]>,
    flights: Box<[Flight]>,
    first_free: u16,
    free: u16,
    /// Positions count up and wrap at 2¹⁶, as in the rings.
    available: u16,
    published: u16,
    used: u16,
    event_index: bool,
}

impl Queue {
    /// An empty queue of `size` descriptors, a power of two up to [`MOST`], in memory of [`Layout::BYTES`] bytes. `event_index`: whether the
    /// feature was agreed on.
    pub fn new(memory: &DmaMemory, size: u16, event_index: bool) -> Option<Queue> {
        if !size.is_power_of_two() || size > MOST || memory.length() < Layout::BYTES {
            return None;
        }
        memory.memory().clear(0, Layout::BYTES);
        let addresses = QueueAddresses {
            descriptors: memory.address(Layout::DESCRIPTORS)?.0,
            available: memory.address(Layout::AVAILABLE)?.0,
            used: memory.address(Layout::USED)?.0,
        };
        Some(Queue {
            memory: memory.memory().clone(),
            addresses,
            size,
            links: (0..size).map(|number| number.wrapping_add(1)).collect(),
            flights: (0..size).map(|_| Flight::default()).collect(),
            first_free: 0,
            free: size,
            available: 0,
            published: 0,
            used: 0,
            event_index,
        })
    }

    /// What the device is to be told.
    pub fn addresses(&self) -> QueueAddresses {
        self.addresses
    }

    /// How many descriptors it has.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// How many descriptors are free.
    pub fn free(&self) -> u16 {
        self.free
    }

    /// Whether the device has nothing.
    pub fn is_idle(&self) -> bool {
        self.free == self.size
    }

    fn place(&self, base: usize, head: usize, position: u16, bytes: usize) -> usize {
        let slot = usize::from(position & self.size.wrapping_sub(1));
        slot.saturating_mul(bytes).saturating_add(base).saturating_add(head)
    }

    fn descriptor(number: u16) -> usize {
        usize::from(number).saturating_mul(16).saturating_add(Layout::DESCRIPTORS)
    }

    /// Gives the device a chain of parts, those that it reads before those that it writes (Virtio 2.7.4.2). It sees it after
    /// [`Queue::publish`]. Answers the chain's token, which is below the queue's size and unique until the chain is used.
    #[inline]
    pub fn add(&mut self, parts: &[Part]) -> Result<u16, Full> {
        if parts.is_empty() || parts.len() > usize::from(self.free) {
            return Err(Full);
        }
        let head = self.first_free;
        let mut number = head;
        let mut writable = 0_u32;
        let mut left = parts.len();
        for part in parts {
            left = left.saturating_sub(1);
            let link = self.links.get(usize::from(number)).copied().unwrap_or_default();
            let (flags, next) = if left > 0 { (NEXT, link) } else { (0, 0) };
            let flags = flags | if part.device_writes { DEVICE_WRITES } else { 0 };
            let place = Queue::descriptor(number);
            self.memory.store_64(place, part.address);
            let second = u64::from(part.length) | u64::from(flags) << 32 | u64::from(next) << 48;
            self.memory.store_64(place.saturating_add(8), second);
            if part.device_writes {
                writable = writable.saturating_add(part.length);
            }
            number = link;
        }
        self.first_free = number;
        self.free = self.free.saturating_sub(parts.len() as u16);
        if let Some(flight) = self.flights.get_mut(usize::from(head)) {
            *flight = Flight { descriptors: parts.len() as u16, writable };
        }
        self.memory.store_16(self.place(Layout::AVAILABLE, 4, self.available, 2), head);
        self.available = self.available.wrapping_add(1);
        Ok(head)
    }

    /// Shows the device the chains that were added; answers whether it wants to be notified (Virtio 2.7.13.3 and 4).
    #[inline]
    #[must_use = "the device waits to be notified"]
    pub fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.available);
        if old == new {
            return false;
        }
        self.published = new;
        self.memory.store_16(Layout::AVAILABLE.saturating_add(2), new);
        // The index must be seen before the device's wish is looked at, or both sides could wait for each other.
        fence(Ordering::SeqCst);
        if self.event_index {
            let place = Layout::USED.saturating_add(4).saturating_add(usize::from(self.size).saturating_mul(8));
            let event = self.memory.load_16(place);
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.memory.load_16(Layout::USED) & 1 == 0
        }
    }

    /// How many chains the device says that it has used.
    fn waiting(&self) -> Result<u16, Misbehaved> {
        let index = self.memory.load_16(Layout::USED.saturating_add(2));
        let waiting = index.wrapping_sub(self.used);
        if waiting > self.size { Err(Misbehaved::UsedTooMuch) } else { Ok(waiting) }
    }

    /// Takes a chain that the device has used (Virtio 2.7.14).
    #[inline]
    pub fn take(&mut self) -> Result<Option<Completed>, Misbehaved> {
        if self.waiting()? == 0 {
            return Ok(None);
        }
        let place = self.place(Layout::USED, 4, self.used, 8);
        let (token, length) = (self.memory.load_32(place), self.memory.load_32(place.saturating_add(4)));
        let token = u16::try_from(token).map_err(|_| Misbehaved::UnknownBuffer)?;
        let flight = self.flights.get_mut(usize::from(token)).ok_or(Misbehaved::UnknownBuffer)?;
        let Flight { descriptors, writable } = core::mem::take(flight);
        if descriptors == 0 {
            return Err(Misbehaved::UnknownBuffer);
        }
        let mut last = token;
        for _ in 1..descriptors {
            last = self.links.get(usize::from(last)).copied().ok_or(Misbehaved::UnknownBuffer)?;
        }
        if let Some(link) = self.links.get_mut(usize::from(last)) {
            *link = self.first_free;
        }
        self.first_free = token;
        self.free = self.free.saturating_add(descriptors);
        self.used = self.used.wrapping_add(1);
        Ok(Some(Completed { token, written: length.min(writable) }))
    }

    /// Asks for an interrupt at the next chain that is used; answers whether there is none yet: if not, there is something to take now
    /// (Virtio 2.7.7).
    pub fn sleep(&mut self) -> Result<bool, Misbehaved> {
        if self.event_index {
            let place = Layout::AVAILABLE.saturating_add(4).saturating_add(usize::from(self.size).saturating_mul(2));
            self.memory.store_16(place, self.used);
        } else {
            self.memory.store_16(Layout::AVAILABLE, 0);
        }
        fence(Ordering::SeqCst);
        Ok(self.waiting()? == 0)
    }

    /// Asks for no interrupts until [`Queue::sleep`]. The device may send some all the same.
    pub fn wake(&mut self) {
        // By position there is nothing to do: the one that was asked for is past.
        if !self.event_index {
            self.memory.store_16(Layout::AVAILABLE, 1);
        }
    }
}

impl core::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "a virtqueue of {}, {} free", self.size, self.free)
    }
}
