//! Waiting for descriptors (poll(2)).

use alloc::vec::Vec;

use crate::descriptor::Descriptor;
use crate::wait::Sleeper;

/// What can be ready: bits of a `pollfd`.
pub mod ready {
    #![allow(missing_docs)]
    pub const IN: i16 = 1;
    pub const OUT: i16 = 4;
    pub const ERROR: i16 = 8;
    pub const HANGUP: i16 = 16;
    pub const INVALID: i16 = 32;
    pub const READ_CLOSED: i16 = 0x2000;
}

/// One thing that is waited for. Without a descriptor it is invalid, unless it is to be left out.
pub struct Watch {
    /// What it is.
    pub descriptor: Option<Descriptor>,
    /// Whether it is to be left out: its number is negative.
    pub is_left_out: bool,
    /// Bits of [`ready`] that are waited for.
    pub wanted: i16,
}

impl Watch {
    /// What of it is ready.
    pub fn found(&self) -> i16 {
        match &self.descriptor {
            _ if self.is_left_out => 0,
            None => ready::INVALID,
            Some(descriptor) => descriptor.ready() & (self.wanted | ready::ERROR | ready::HANGUP),
        }
    }
}

/// Waits until one of them is ready or the deadline (nanoseconds since boot); answers what is, for each.
pub fn poll(watched: &[Watch], deadline: Option<u64>) -> Vec<i16> {
    loop {
        let sleeper = Sleeper::new();
        let queues = || watched.iter().filter_map(|watch| watch.descriptor.as_ref()?.queue());
        queues().for_each(|queue| queue.add(&sleeper));
        // After queueing, so that no change is missed.
        let found: Vec<i16> = watched.iter().map(Watch::found).collect();
        let is_over = found.iter().any(|found| *found != 0) || !sleeper.sleep(deadline);
        queues().for_each(|queue| queue.remove(&sleeper));
        if is_over {
            // Something may have become ready with the deadline.
            return watched.iter().map(Watch::found).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::Counter;
    use alloc::sync::Arc;

    fn watch(counter: &Arc<Counter>, wanted: i16) -> Watch {
        Watch { descriptor: Some(Descriptor::Counter(counter.clone())), is_left_out: false, wanted }
    }

    #[test]
    fn what_is_ready_is_told_at_once() {
        let (full, empty) = (Arc::new(Counter::new(1, true)), Arc::new(Counter::new(0, true)));
        let both = [watch(&full, ready::IN), watch(&empty, ready::IN)];
        assert_eq!(poll(&both, None), [ready::IN, 0]);
        let nothing = Watch { descriptor: None, is_left_out: false, wanted: ready::IN };
        let left_out = Watch { descriptor: None, is_left_out: true, wanted: ready::IN };
        assert_eq!(poll(&[nothing, left_out], None), [ready::INVALID, 0]);
    }

    #[test]
    fn a_change_of_any_ends_the_wait_and_a_deadline_too() {
        let (one, other) = (Arc::new(Counter::new(0, true)), Arc::new(Counter::new(0, true)));
        let both = [watch(&one, ready::IN), watch(&other, ready::IN)];
        assert_eq!(poll(&both, Some(crate::now() + 1_000_000)), [0, 0]);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| poll(&both, None));
            other.write(&1_u64.to_ne_bytes()).unwrap();
            assert_eq!(waiting.join().unwrap(), [0, ready::IN]);
        });
    }
}
