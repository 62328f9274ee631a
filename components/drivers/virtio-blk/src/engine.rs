//! Requests over the device's queue, many at once, from any number of threads.
//!
//! There is no thread of its own: a thread that waits for its request also waits for the device's interrupt, and who is
//! woken by that takes out everything that is done and wakes the others. Each request in flight has a slot: a head, a status
//! byte, and memory for its data.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use tessera_interfaces::Geometry;
use tessera_runtime::object::Event;
use tessera_runtime::own;
use tessera_runtime::sync::Mutex;
use tessera_virtio::{DmaMemory, PAGE, Part, Queue};
use tessera_virtio_driver::Link;

use crate::request::{Characteristics, Data, HEAD, SECTOR, kind, status};

/// Requests in flight.
const SLOTS: usize = 8;
/// Bytes of data of a slot.
const SLOT: usize = 64 << 10;
/// Bytes of a slot's head and status, in the first page.
const CONTROL: usize = 32;
/// How long a request may take: nanoseconds.
const PATIENCE: u64 = 30_000_000_000;

/// Bits of the event. Those below `SLOTS` say that a slot's request is done.
pub const INTERRUPT: u64 = 1 << 32;
const ROOM: u64 = 1 << 33;

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The device says that it could not.
    Refused,
    /// The device says that it does not know such requests.
    Unsupported,
    /// The device does not answer, or not by the rules: it must be started anew.
    Broken,
}

/// A device that runs.
pub struct Engine<L> {
    link: L,
    event: Event,
    memory: DmaMemory,
    characteristics: Characteristics,
    slot_bytes: usize,
    broken: AtomicBool,
    state: Mutex<State>,
}

struct State {
    queue: Queue,
    /// Slots, as bits: free, done and not looked at yet, waited for.
    free: u64,
    done: u64,
    /// Which slot each of the queue's tokens is for.
    slots: Vec<u8>,
}

fn bit(slot: usize) -> u64 {
    1_u64.checked_shl(slot as u32).unwrap_or(0)
}

fn control(slot: usize) -> usize {
    slot.saturating_mul(CONTROL)
}

fn data(slot: usize) -> usize {
    slot.saturating_mul(SLOT).saturating_add(PAGE)
}

impl<L: Link> Engine<L> {
    /// Bytes of memory that it needs.
    pub const MEMORY: usize = SLOTS * SLOT + PAGE;

    /// Uses a started device with its one queue; its interrupt raises [`INTERRUPT`] in `event`.
    pub fn new(link: L, queue: Queue, event: Event, memory: DmaMemory, characteristics: Characteristics) -> Engine<L> {
        // All slots can be in flight at once, each with its head, its status and a part for each page.
        let parts = (characteristics.parts as usize).min(usize::from(queue.size()) / SLOTS).max(3);
        let pages = (characteristics.parts as usize).min(parts.saturating_sub(2)).min(SLOT / PAGE);
        let state =
            State { slots: (0..queue.size()).map(|_| 0).collect(), queue, free: bit(SLOTS).wrapping_sub(1), done: 0 };
        let (slot_bytes, broken) = (pages.saturating_mul(PAGE), AtomicBool::new(false));
        Engine { link, event, memory, characteristics, slot_bytes, broken, state: Mutex::new(state) }
    }

    /// What the device is like.
    pub fn geometry(&self) -> Geometry {
        self.characteristics.geometry
    }

    /// Whether it must be started anew.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    fn give_up(&self) -> Failure {
        self.broken.store(true, Ordering::Release);
        // Everybody who waits is to see it.
        let _ = self.event.raise(bit(SLOTS).wrapping_sub(1) | ROOM | INTERRUPT);
        Failure::Broken
    }

    /// Does a request on whole sectors from `first` on, which the caller has checked to exist.
    pub fn transfer(&self, first: u64, mut moved: Data<'_>) -> Result<(), Failure> {
        let length = moved.length();
        if length == 0 && !(matches!(moved, Data::Flush) && self.characteristics.flush) {
            return Ok(());
        }
        let mut flying: VecDeque<(usize, Range<usize>)> = VecDeque::new();
        let mut next = 0;
        let mut outcome = Ok(());
        loop {
            // As much as there is room for, then the oldest.
            let mut notify = false;
            let mut begun = !flying.is_empty();
            while outcome.is_ok() && (next < length || (length == 0 && !begun)) {
                let Some(slot) = self.slot(!begun)? else { break };
                let range = next..next.saturating_add(self.slot_bytes).min(length);
                let sector = first.saturating_add(next as u64 / SECTOR);
                notify |= self.submit(slot, sector, &moved, range.clone())?;
                next = range.end;
                flying.push_back((slot, range));
                begun = true;
            }
            if notify {
                self.link.transport().notify(0);
            }
            let Some((slot, range)) = flying.pop_front() else { return outcome };
            let done = self.wait(slot)?;
            if let (Ok(()), Data::Read(into)) = (done, &mut moved)
                && let Some(into) = into.get_mut(range)
            {
                self.memory.memory().copy_out(data(slot), into);
            }
            outcome = outcome.and(done);
            self.release(slot);
            if length == 0 {
                return outcome;
            }
        }
    }

    /// Takes a slot; waits for one if `wait`.
    fn slot(&self, wait: bool) -> Result<Option<usize>, Failure> {
        loop {
            if self.is_broken() {
                return Err(Failure::Broken);
            }
            let mut state = self.state.lock();
            if state.free != 0 {
                let slot = state.free.trailing_zeros() as usize;
                state.free &= !bit(slot);
                return Ok(Some(slot));
            }
            drop(state);
            if !wait {
                return Ok(None);
            }
            // Whoever has the slots has a deadline of its own.
            let _ = self.event.wait_until(ROOM, ROOM, None);
        }
    }

    fn release(&self, slot: usize) {
        let mut state = self.state.lock();
        let none = state.free == 0;
        state.free |= bit(slot);
        drop(state);
        if none {
            let _ = self.event.raise(ROOM);
        }
    }

    /// Gives the device a request (Virtio 5.2.6); answers whether it must be notified.
    fn submit(&self, slot: usize, sector: u64, moved: &Data<'_>, range: Range<usize>) -> Result<bool, Failure> {
        let memory = self.memory.memory();
        let (control, length) = (control(slot), range.len());
        let (kind, device_writes) = match moved {
            Data::Read(_) => (kind::READ, true),
            Data::Write(from) => {
                memory.copy_in(data(slot), from.get(range).unwrap_or_default());
                (kind::WRITE, false)
            }
            Data::Flush => (kind::FLUSH, false),
        };
        memory.store_64(control, kind.into());
        memory.store_64(control.saturating_add(8), if length == 0 { 0 } else { sector });
        let answer = control.saturating_add(HEAD as usize);
        memory.store_8(answer, status::NONE);
        let address = |offset: usize| self.memory.address(offset).map(|(address, _)| address);
        let (Some(head), Some(answer)) = (address(control), address(answer)) else { return Err(self.give_up()) };
        let mut parts = [Part { address: head, length: HEAD, device_writes: false }; SLOT / PAGE + 2];
        let mut count = 1_usize;
        let pieces = self.memory.pieces(data(slot), length);
        let pieces = pieces.map(|(address, length)| Part { address, length, device_writes });
        for part in pieces.chain([Part { address: answer, length: 1, device_writes: true }]) {
            let Some(place) = parts.get_mut(count) else { return Err(self.give_up()) };
            *place = part;
            count = count.saturating_add(1);
        }
        let mut state = self.state.lock();
        let token = state.queue.add(parts.get(..count).unwrap_or_default()).ok();
        let Some(token) = token else {
            drop(state);
            return Err(self.give_up());
        };
        if let Some(place) = state.slots.get_mut(usize::from(token)) {
            *place = slot as u8;
        }
        state.done &= !bit(slot);
        Ok(state.queue.publish())
    }

    /// Waits until a slot's request is done; answers what the device says of it.
    fn wait(&self, slot: usize) -> Result<Result<(), Failure>, Failure> {
        let deadline = Some(own::now().saturating_add(PATIENCE));
        loop {
            if self.is_broken() {
                return Err(Failure::Broken);
            }
            if self.harvest(slot)? {
                let answer = control(slot).saturating_add(HEAD as usize);
                return Ok(match self.memory.memory().load_8(answer) {
                    status::DONE => Ok(()),
                    status::UNSUPPORTED => Err(Failure::Unsupported),
                    status::FAILED => Err(Failure::Refused),
                    // Done, and not answered.
                    _ => return Err(self.give_up()),
                });
            }
            let mask = bit(slot) | INTERRUPT;
            match self.event.wait_until(mask, mask, deadline) {
                Ok(raised) if raised & INTERRUPT != 0 => self.link.acknowledge(),
                Ok(_) => {}
                Err(_) => return Err(self.give_up()),
            }
        }
    }

    /// Takes out all that is done and wakes who waits for it; answers whether `own` is done. If it is not, the device will interrupt.
    fn harvest(&self, own: usize) -> Result<bool, Failure> {
        let mut state = self.state.lock();
        let mut others = 0;
        let outcome = loop {
            match state.queue.take() {
                Ok(Some(completed)) => {
                    let slot = state.slots.get(usize::from(completed.token)).copied().unwrap_or_default();
                    state.done |= bit(slot.into());
                    if usize::from(slot) != own {
                        others |= bit(slot.into());
                    }
                }
                Ok(None) => match state.queue.sleep() {
                    Ok(true) => break Ok(()),
                    Ok(false) => {}
                    Err(misbehaved) => break Err(misbehaved),
                },
                Err(misbehaved) => break Err(misbehaved),
            }
        };
        let done = state.done & bit(own) != 0;
        drop(state);
        if others != 0 {
            let _ = self.event.raise(others);
        }
        match outcome {
            Ok(()) => Ok(done),
            Err(_) => Err(self.give_up()),
        }
    }
}
