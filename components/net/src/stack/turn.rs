//! One socket's turn to send, and when it wants the next.

use smoltcp::iface::{Interface, PollResult, SocketSet};
use smoltcp::time::Instant;

use super::link::OneFrame;
use super::{Id, Stack, TURN, Which};

/// When a socket is to be looked at again.
pub(super) enum Turn {
    Never,
    At(Instant),
}

/// Sends while there is something to send, up to `TURN` frames; answers how many times it did, and when there is something again. Asking when costs less than to
/// try, and is asked in the end anyway; unless there is something most `likely`.
fn send(
    interface: &mut Interface,
    device: &mut OneFrame<'_>,
    set: &mut SocketSet<'static>,
    now: Instant,
    likely: bool,
) -> (usize, Option<Instant>) {
    let mut turns = usize::from(likely && interface.poll_egress(now, device, set) != PollResult::None);
    loop {
        let next = interface.poll_at(now, set);
        let is_due = next.is_some_and(|time| time <= now);
        if turns == TURN || !is_due {
            return (turns, next);
        }
        if interface.poll_egress(now, device, set) == PollResult::None {
            // It may have found that it must ask for a neighbour first.
            return (turns, interface.poll_at(now, set));
        }
        turns += 1;
    }
}

impl Stack {
    /// Sends what a set has to send over one link, at most `TURN` frames; answers when it wants to be called again.
    /// `likely`: there is something, as far as one can tell.
    pub(super) fn send_set(&mut self, id: Id, which: Which, set: &mut SocketSet<'static>, likely: bool) -> Turn {
        let now = self.now;
        let (interface, mut device) = match which {
            Which::Loopback => {
                let Some(link) = &mut self.loopback else { return Turn::Never };
                link.open(None)
            }
            Which::Wire => {
                let Some(link) = &mut self.wire else { return Turn::Never };
                link.open(None)
            }
        };
        let (turns, next) = send(interface, &mut device, set, now, likely);
        let sent = device.sent;
        let is_due = next.is_some_and(|time| time <= now);
        let room = !is_due || device.transmit.has_room();
        if turns == TURN {
            self.schedule(id);
        }
        match next {
            None => Turn::Never,
            Some(_) if turns == TURN => Turn::Never,
            // It had something of a turn: the next is another's.
            Some(_) if !room && turns > 0 => {
                self.schedule(id);
                Turn::Never
            }
            Some(_) if !room => {
                self.note_want_of_room(id, which);
                Turn::Never
            }
            // It has something to send, there is room, and yet nothing went: not now.
            Some(_) if is_due => Turn::At(now + smoltcp::time::Duration::from_millis(10)),
            Some(time) => {
                if which == Which::Wire && sent == 0 {
                    self.await_neighbour.insert(id);
                }
                Turn::At(time)
            }
        }
    }

    fn note_want_of_room(&mut self, id: Id, which: Which) {
        if let Some(entry) = self.sockets.get_mut(id)
            && !core::mem::replace(entry.awaits_room.of(which), true)
        {
            self.await_room.of(which).push(entry.client, id);
        }
    }

    pub(super) fn set_timer(&mut self, id: Id, time: Instant) {
        if let Some(entry) = self.sockets.get_mut(id) {
            let time = time.total_micros();
            // One that rings too early finds nothing to do and is set again: that happens less often than a later time is wanted.
            if entry.timer.is_some_and(|set| set <= time) {
                return;
            }
            if let Some(old) = entry.timer.replace(time) {
                self.timers.remove(&(old, id));
            }
            self.timers.insert((time, id));
            self.has_new_time = true;
        }
    }
}
