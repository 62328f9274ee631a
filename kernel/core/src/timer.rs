//! What happens at a time: deadlines of waiting threads, and new periods of budgets. A binary heap in a table made at boot;
//! every waiter knows its place in it, so taking one out is as cheap as putting one in.

use crate::{Hardware, Machine, arena::Id, budget::Budget, thread::Thread};
use alloc::vec::Vec;
use tessera_abi::{Error, NEVER};

/// Whom to wake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {
    Thread(Id<Thread>),
    Budget(Id<Budget>),
}

/// The alarms, soonest first. Places are counted from one; zero is none.
pub struct Alarms {
    pub(crate) heap: Vec<(u64, Alarm)>,
}

impl Alarms {
    pub(crate) fn new(capacity: usize) -> Alarms {
        Alarms { heap: Vec::with_capacity(capacity) }
    }

    /// The bytes that so many alarms take.
    pub(crate) fn bytes(capacity: usize) -> u64 {
        (size_of::<(u64, Alarm)>() as u64).saturating_mul(capacity as u64)
    }

    /// When the next alarm is due.
    pub fn soonest(&self) -> u64 {
        self.heap.first().map_or(NEVER, |alarm| alarm.0)
    }
}

impl<H: Hardware> Machine<H> {
    fn alarm_place(&mut self, alarm: Alarm) -> Option<&mut u32> {
        match alarm {
            Alarm::Thread(id) => self.threads.get_mut(id).map(|thread| &mut thread.alarm),
            Alarm::Budget(id) => self.budgets.get_mut(id).map(|budget| &mut budget.alarm),
        }
    }

    fn alarm_write(&mut self, index: usize, entry: (u64, Alarm)) {
        if let Some(slot) = self.alarms.heap.get_mut(index) {
            *slot = entry;
        }
        if let Some(place) = self.alarm_place(entry.1) {
            *place = index as u32 + 1;
        }
    }

    /// Sets an alarm that is not set.
    pub(crate) fn alarm_set(&mut self, alarm: Alarm, at: u64) {
        if at == NEVER || self.alarms.heap.len() == self.alarms.heap.capacity() {
            return;
        }
        let index = self.alarms.heap.len();
        self.alarms.heap.push((at, alarm));
        self.alarm_up(index);
        // The processor that runs this arms its timer before it leaves the kernel.
        if let Some(entry) = self.processors.get_mut(self.active) {
            entry.attention = true;
        }
    }

    /// Clears an alarm if it is set.
    pub(crate) fn alarm_clear(&mut self, alarm: Alarm) {
        let Some(place) = self.alarm_place(alarm) else { return };
        let index = core::mem::take(place);
        if index == 0 {
            return;
        }
        let index = index as usize - 1;
        let Some(last) = self.alarms.heap.pop() else { return };
        if index < self.alarms.heap.len() {
            self.alarm_write(index, last);
            self.alarm_up(index);
            self.alarm_down(index);
        }
    }

    fn alarm_up(&mut self, mut index: usize) {
        let Some(entry) = self.alarms.heap.get(index).copied() else { return };
        while index > 0 {
            let above = (index - 1) / 2;
            match self.alarms.heap.get(above).copied() {
                Some(other) if other.0 > entry.0 => self.alarm_write(index, other),
                _ => break,
            }
            index = above;
        }
        self.alarm_write(index, entry);
    }

    fn alarm_down(&mut self, mut index: usize) {
        let Some(entry) = self.alarms.heap.get(index).copied() else { return };
        loop {
            let left = 2 * index + 1;
            let (one, two) = (self.alarms.heap.get(left).copied(), self.alarms.heap.get(left + 1).copied());
            let (child, other) = match (one, two) {
                (Some(one), Some(two)) if two.0 < one.0 => (left + 1, two),
                (Some(one), _) => (left, one),
                _ => break,
            };
            if other.0 >= entry.0 {
                break;
            }
            self.alarm_write(index, other);
            index = child;
        }
        self.alarm_write(index, entry);
    }

    /// Rings the alarms that are due, a bounded number at a time; the timer fires again for the others.
    pub(crate) fn ring(&mut self, now: u64) {
        for _ in 0..16 {
            let Some((at, alarm)) = self.alarms.heap.first().copied() else { return };
            if at > now {
                return;
            }
            self.alarm_clear(alarm);
            match alarm {
                Alarm::Thread(id) => self.cancel_wait(id, Error::TimedOut),
                Alarm::Budget(id) => self.refill(id),
            }
        }
    }
}
