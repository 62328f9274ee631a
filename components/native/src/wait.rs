//! Waiting for several things at once: a sleeper stands in the queue of each, and whoever changes one wakes all that stand there.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, Ordering};

use tessera_runtime::Error;
use tessera_runtime::object::{Thread, park};
use tessera_runtime::sync::Mutex;
use tessera_runtime::thread;

use crate::errno::{Errno, Result};

/// A thread that waits.
#[derive(Debug)]
pub struct Sleeper {
    thread: ManuallyDrop<Thread>,
    woken: AtomicBool,
}

impl Sleeper {
    /// The calling thread's.
    #[must_use]
    pub fn new() -> Arc<Sleeper> {
        Arc::new(Sleeper { thread: thread::current(), woken: AtomicBool::new(false) })
    }

    /// Sleeps until it is woken or the deadline, in nanoseconds since boot; whether it was woken. Called by the thread that made it.
    pub fn sleep(&self, deadline: Option<u64>) -> bool {
        loop {
            if self.woken.load(Ordering::Acquire) {
                return true;
            }
            if park(deadline) == Err(Error::TimedOut) {
                return self.woken.load(Ordering::Acquire);
            }
        }
    }

    /// Wakes it, now or when it is about to sleep.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        // A thread that has ended meanwhile needs no waking.
        let _ = self.thread.unpark();
    }
}

/// Those who wait for one thing.
#[derive(Debug, Default)]
pub struct Queue(Mutex<Vec<Arc<Sleeper>>>);

impl Queue {
    /// Lets a sleeper stand here.
    pub fn add(&self, sleeper: &Arc<Sleeper>) {
        self.0.lock().push(sleeper.clone());
    }

    /// Takes a sleeper out, if it is still here.
    pub fn remove(&self, sleeper: &Arc<Sleeper>) {
        self.0.lock().retain(|other| !Arc::ptr_eq(other, sleeper));
    }

    /// Wakes all.
    pub fn wake(&self) {
        let all = core::mem::take(&mut *self.0.lock());
        all.iter().for_each(|sleeper| sleeper.wake());
    }
}

/// How long a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all: `EAGAIN`.
    None,
    /// Until a moment, in nanoseconds since boot, or for ever.
    Until(Option<u64>),
}

/// Makes `attempt` until it answers something else than `EAGAIN`, and sleeps in `queue` between for as long as `is_ready` does not say
/// that it is worth while.
///
/// # Errors
/// What `attempt` answers; `EAGAIN` when patience is over.
pub fn until<T>(
    queue: &Queue,
    patience: Patience,
    is_ready: impl Fn() -> bool,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    loop {
        match (attempt(), patience) {
            (Err(Errno::EAGAIN), Patience::Until(deadline)) => {
                let sleeper = Sleeper::new();
                queue.add(&sleeper);
                // Something may have come between the attempt and the queueing.
                let woken = is_ready() || sleeper.sleep(deadline);
                queue.remove(&sleeper);
                if !woken {
                    return Err(Errno::EAGAIN);
                }
            }
            (answer, _) => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    #[test]
    fn a_call_waits_until_it_is_woken() {
        let (queue, value) = (Queue::default(), AtomicU32::new(0));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                until(
                    &queue,
                    Patience::Until(None),
                    || value.load(Ordering::Acquire) != 0,
                    || Some(value.load(Ordering::Acquire)).filter(|value| *value != 0).ok_or(Errno::EAGAIN),
                )
            });
            value.store(7, Ordering::Release);
            while !waiting.is_finished() {
                queue.wake();
                std::thread::yield_now();
            }
            assert_eq!(waiting.join().unwrap(), Ok(7));
        });
    }

    #[test]
    fn patience_is_limited() {
        let queue = Queue::default();
        let never = || Err::<(), _>(Errno::EAGAIN);
        assert_eq!(until(&queue, Patience::None, || false, never), Err(Errno::EAGAIN));
        let soon = Patience::Until(Some(crate::now() + 1_000_000));
        assert_eq!(until(&queue, soon, || false, never), Err(Errno::EAGAIN));
        assert!(queue.0.lock().is_empty());
    }
}
