//! What becomes of a domain that has ended.

use tessera_plan::{Ending, Restart};

/// A millisecond in nanoseconds.
const MILLISECOND: u64 = 1_000_000;
/// The delay before the second restart of a domain that keeps failing; it doubles from one to the next.
const FIRST: u64 = 10 * MILLISECOND;
/// The longest delay.
const LONGEST: u64 = 5_000 * MILLISECOND;
/// A domain that ran for this long did not fail at its start: the count of failures begins anew.
const SETTLED: u64 = 10_000 * MILLISECOND;

/// How often a domain failed soon after its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start it again after this many nanoseconds.
    Start(u64),
    /// Leave it.
    Stay,
}

impl Backoff {
    /// Decides after a life of `lived` nanoseconds that ended so.
    pub fn after(&mut self, policy: Restart, ending: Ending, lived: u64) -> Next {
        let again = match policy {
            Restart::Always => true,
            Restart::OnFailure => ending != Ending::Code(0),
            Restart::Never => false,
        };
        if !again {
            return Next::Stay;
        }
        if ending == Ending::Killed {
            // Somebody asked for it: the domain did nothing wrong.
            return Next::Start(0);
        }
        if lived >= SETTLED {
            self.failures = 0;
        }
        let delay = match self.failures {
            0 => 0,
            failures => FIRST.checked_shl(failures.saturating_sub(1)).map_or(LONGEST, |delay| delay.min(LONGEST)),
        };
        self.failures = self.failures.saturating_add(1).min(32);
        Next::Start(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT: Ending = Ending::Fault { kind: 1, address: 0, instruction: 0 };

    #[test]
    fn the_policy_decides_whether() {
        let decide = |policy, ending| Backoff::default().after(policy, ending, 0);
        for ending in [Ending::Code(0), Ending::Code(1), FAULT, Ending::Killed, Ending::NotStarted(7)] {
            assert_eq!(decide(Restart::Always, ending), Next::Start(0));
            assert_eq!(decide(Restart::Never, ending), Next::Stay);
            let failed = ending != Ending::Code(0);
            assert_eq!(decide(Restart::OnFailure, ending), if failed { Next::Start(0) } else { Next::Stay });
        }
    }

    #[test]
    fn a_domain_that_keeps_failing_waits_longer_each_time_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let delays: Vec<Next> = (0..40).map(|_| backoff.after(Restart::Always, FAULT, 1)).collect();
        assert_eq!(delays[..4], [0, 10, 20, 40].map(|delay| Next::Start(delay * MILLISECOND)));
        assert!(delays[10..].iter().all(|delay| *delay == Next::Start(LONGEST)));
    }

    #[test]
    fn one_that_ran_for_long_begins_anew() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.after(Restart::Always, FAULT, 1);
        }
        assert_eq!(backoff.after(Restart::Always, FAULT, SETTLED), Next::Start(0));
        assert_eq!(backoff.after(Restart::Always, FAULT, 1), Next::Start(FIRST));
    }

    #[test]
    fn one_that_was_killed_on_purpose_does_not_wait_for_it() {
        let mut backoff = Backoff::default();
        for _ in 0..1000 {
            assert_eq!(backoff.after(Restart::Always, Ending::Killed, 1), Next::Start(0));
        }
        assert_eq!(backoff.after(Restart::Always, FAULT, 1), Next::Start(0), "its first failure");
    }
}
