//! The stack at work: what came in, timers that ring, and the turns of sockets that have something to do.

use alloc::vec::Vec;

use smoltcp::time::Instant;

use super::client::Called;
use super::link::Transmit;
use super::{ForLink, Id, Kind, Stack, Which, nanoseconds};

/// Frames that are taken from a link before sockets get their turn.
const BATCH: usize = 32;
/// Rounds of `run` before it lets others at the stack.
const ROUNDS: usize = 16;
impl Stack {
    /// Everything that can be done now is done, within a bound. Answers when to call again at the latest, in nanoseconds since
    /// boot: now if there is more to do.
    pub fn run(&mut self) -> Option<u64> {
        let next = self.run_untold();
        self.tell();
        next
    }

    /// The same, but that clients are not told: `take_called` and `tell` do that.
    pub fn run_untold(&mut self) -> Option<u64> {
        let mut again = true;
        for _ in 0..ROUNDS {
            again = self.receive_from_wire(BATCH);
            if self.wants_room() && self.wire.as_mut().is_some_and(|wire| wire.outgoing.has_room()) {
                self.room_again(Which::Wire);
            }
            again |= self.receive_from_loopback(BATCH);
            self.ring_timers();
            self.look_after_wire();
            again |= self.look_after_scheduled();
            if !again {
                break;
            }
        }
        self.show_wire();
        if again { Some(nanoseconds(self.now)) } else { self.next_time() }
    }

    /// What follows from what a client did: what came from the wire is left to whoever runs the stack. Answers when that is to be done, if it is
    /// news.
    pub fn follow(&mut self) -> Option<u64> {
        let has_work = self.has_work();
        if has_work && self.look_after_scheduled() || self.wire.as_ref().is_some_and(|wire| wire.setup.due) {
            return self.run();
        }
        if has_work {
            self.show_wire();
        }
        self.tell();
        if self.has_new_time { self.next_time() } else { None }
    }

    /// Gives scheduled sockets their turns. Answers whether there is more to do at once.
    fn look_after_scheduled(&mut self) -> bool {
        for _ in 0..BATCH {
            let Some(id) = self.scheduled.pop() else { break };
            self.look_after(id);
        }
        self.has_work()
    }

    /// Whether a socket is scheduled, or a frame is on its way within the machine.
    fn has_work(&self) -> bool {
        !self.scheduled.is_empty() || self.loopback.as_ref().is_some_and(|link| link.queue.has_frames())
    }

    /// Shows the device what was sent.
    fn show_wire(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.outgoing.flush();
        }
    }

    /// Collects who is to be called, once nothing of the stack is held any more.
    pub fn take_called(&mut self, listeners: &mut Vec<Called>) {
        listeners.extend(self.clients.iter_mut().filter_map(|(_, client)| client.take_called()));
    }

    /// Tells clients what is new.
    pub fn tell(&mut self) {
        for (_, client) in self.clients.iter_mut() {
            client.flush();
        }
    }

    /// When the first timer rings.
    fn next_time(&mut self) -> Option<u64> {
        self.has_new_time = false;
        let sockets = self.timers.first().map(|(time, _)| Instant::from_micros(*time));
        let wire = self.wire_time();
        let resting = self.resting.next_time();
        let first = [sockets, wire, resting].into_iter().flatten().min()?;
        Some(nanoseconds(first))
    }

    fn ring_timers(&mut self) {
        while let Some(&(time, id)) = self.timers.first() {
            if time > self.now.total_micros() {
                break;
            }
            self.timers.pop_first();
            if let Some(entry) = self.sockets.get_mut(id) {
                entry.timer = None;
                self.schedule(id);
            }
        }
        self.resting.expire(self.now);
    }

    /// A socket is to be looked at.
    pub(super) fn schedule(&mut self, id: Id) {
        if let Some(entry) = self.sockets.get_mut(id)
            && !core::mem::replace(&mut entry.scheduled, true)
        {
            self.scheduled.push(entry.client, id);
        }
    }

    /// A link has room again: who could not send for want of it comes first.
    pub(super) fn room_again(&mut self, which: Which) {
        let waiting = self.await_room.of(which);
        for id in waiting.iter() {
            if let Some(entry) = self.sockets.get_mut(id) {
                entry.scheduled = true;
                *entry.awaits_room.of(which) = false;
            }
        }
        self.scheduled.put_first(waiting);
    }

    /// Whether a socket waits for room on the wire.
    pub fn wants_room(&self) -> bool {
        let ForLink([_, wire]) = &self.await_room;
        !wire.is_empty()
    }

    /// A neighbour's address has become known.
    pub(super) fn neighbour_known(&mut self) {
        for id in core::mem::take(&mut self.await_neighbour) {
            self.schedule(id);
        }
    }

    /// Lets a socket send what it has to, and draws the consequences.
    fn look_after(&mut self, id: Id) {
        let Some(entry) = self.sockets.get_mut(id) else { return };
        // The place may have been used again since it was scheduled.
        if !core::mem::take(&mut entry.scheduled) {
            return;
        }
        match entry.kind {
            Kind::Connection(_) => self.send_segments(id),
            Kind::Datagrams(_) => self.send_datagrams(id),
            _ => {}
        }
    }
}
