//! Futexes: a thread sleeps for as long as a word has the value it saw (futex(2) of Linux, private ones).
//!
//! Which word it is is told by its address alone; whoever calls looks at the word.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::array::from_fn;

use tessera_runtime::sync::{Mutex, OnceLock};

use crate::wait::Sleeper;

const BUCKETS: usize = 64;

type Bucket = Mutex<Vec<(usize, Arc<Sleeper>)>>;

/// Filled when it is first used: so it takes no room in an image.
static TABLE: OnceLock<[Bucket; BUCKETS]> = OnceLock::new();

/// The bucket of an address. Words are 4 bytes apart, and locks often a cache line.
fn bucket(address: usize) -> &'static Bucket {
    let place = (address >> 2 ^ address >> 8) % BUCKETS;
    let table = TABLE.get_or_init(|| from_fn(|_| Mutex::new(Vec::new())));
    table.get(place).unwrap_or(&table[0])
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// Somebody woke it.
    Woken,
    /// The word had another value.
    Changed,
    /// The deadline came.
    TimedOut,
}

/// Sleeps until [`wake`] or the deadline (nanoseconds since boot), unless `has_changed` says that the word has another value.
pub fn wait(address: usize, has_changed: impl FnOnce() -> bool, deadline: Option<u64>) -> Waited {
    let sleeper = Sleeper::new();
    {
        let mut bucket = bucket(address).lock();
        // Under the lock: whoever changes the word and then wakes finds the sleeper.
        if has_changed() {
            return Waited::Changed;
        }
        bucket.push((address, sleeper.clone()));
    }
    if sleeper.sleep(deadline) {
        return Waited::Woken;
    }
    bucket(address).lock().retain(|(_, other)| !Arc::ptr_eq(other, &sleeper));
    // It may have been woken in this very moment.
    if sleeper.sleep(Some(0)) { Waited::Woken } else { Waited::TimedOut }
}

/// Wakes at most `count` that wait for the word at `address`, those that came first; answers how many.
pub fn wake(address: usize, count: usize) -> usize {
    let mut woken = Vec::new();
    bucket(address).lock().retain(|(other, sleeper)| {
        let goes = *other == address && woken.len() < count;
        if goes {
            woken.push(sleeper.clone());
        }
        !goes
    });
    woken.iter().for_each(|sleeper| sleeper.wake());
    woken.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_changed_word_is_not_waited_for() {
        assert_eq!(wait(0x1000, || true, None), Waited::Changed);
        assert_eq!(wake(0x1000, 1), 0);
    }

    #[test]
    fn a_deadline_ends_the_wait_and_leaves_nothing() {
        assert_eq!(wait(0x2000, || false, Some(crate::now() + 1_000_000)), Waited::TimedOut);
        assert_eq!(wake(0x2000, 9), 0);
    }

    #[test]
    fn as_many_are_woken_as_are_asked_for() {
        let word = AtomicU32::new(0);
        let address = core::ptr::from_ref(&word) as usize;
        std::thread::scope(|scope| {
            let sleep = || wait(address, || word.load(Ordering::Relaxed) != 0, None);
            let threads = [scope.spawn(sleep), scope.spawn(sleep), scope.spawn(sleep)];
            while bucket(address).lock().iter().filter(|(other, _)| *other == address).count() < 3 {
                std::thread::yield_now();
            }
            assert_eq!(wake(address, 2), 2);
            assert_eq!(wake(address ^ 4, 2), 0, "another word");
            assert_eq!(wake(address, usize::MAX), 1);
            assert!(threads.into_iter().all(|thread| thread.join().unwrap() == Waited::Woken));
        });
    }
}
