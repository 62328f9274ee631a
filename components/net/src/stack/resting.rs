//! Connections in TIME-WAIT (RFC 9293 section 3.3.2): only their ends are remembered, so that a late segment of theirs disturbs no later
//! connection, and a peer that did not hear our last acknowledgement hears it again.

use alloc::collections::{BTreeMap, VecDeque};

use smoltcp::time::{Duration, Instant};

use super::{Ends, first_of};

/// How long they rest.
const TIME: Duration = Duration::from_secs(10);
/// How many rest at most; beyond it the oldest go early.
const MOST: usize = 16384;

/// What is known of a connection at rest.
#[derive(Clone, Copy)]
pub struct Rest {
    /// The sequence number after the peer's last segment.
    pub sequence: u32,
    since: Instant,
}

/// All that rest.
#[derive(Default)]
pub struct Resting {
    ends: BTreeMap<Ends, Rest>,
    order: VecDeque<(Instant, Ends)>,
}

impl Resting {
    /// A connection comes to rest.
    pub fn insert(&mut self, ends: Ends, sequence: u32, now: Instant) {
        if self.order.len() >= MOST {
            self.drop_first();
        }
        self.ends.insert(ends, Rest { sequence, since: now });
        self.order.push_back((now, ends));
    }

    pub fn get(&self, ends: &Ends) -> Option<Rest> {
        self.ends.get(ends).copied()
    }

    /// Ends a rest early: the peer has begun anew.
    pub fn remove(&mut self, ends: &Ends) {
        self.ends.remove(ends);
    }

    pub fn has_port(&self, port: u16) -> bool {
        self.ends.range(first_of(port)..).next().is_some_and(|((_, local, _), _)| local.port == port)
    }

    /// Forgets those whose time is over.
    pub fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(since, _)| *since + TIME <= now) {
            self.drop_first();
        }
    }

    /// When the first one's time is over.
    pub fn next_time(&self) -> Option<Instant> {
        self.order.front().map(|(since, _)| *since + TIME)
    }

    fn drop_first(&mut self) {
        if let Some((since, ends)) = self.order.pop_front()
            // Another connection between the same ends may have come to rest since.
            && self.ends.get(&ends).is_some_and(|rest| rest.since == since)
        {
            self.ends.remove(&ends);
        }
    }
}
