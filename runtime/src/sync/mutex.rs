//! Mutual exclusion.
//!
//! The state is one word: 0 when free, else 1 plus the address of the last waiter that came. Waiters push themselves; only the
//! holder removes one, the one that came first, and hands the lock to it. So nobody ever waits for a thread that merely
//! looks at the queue.

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::waiter::Waiter;
use crate::object::yield_now;

/// The lock itself, without data.
#[derive(Debug)]
pub struct RawMutex(AtomicUsize);

/// A lock around data.
pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;
/// Access to a lock's data.
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

const FREE: usize = 0;
const HELD: usize = 1;

impl RawMutex {
    #[cold]
    fn lock_slowly(&self) {
        // Who holds it was most likely taken off the processor: it goes on, and lets go of what nobody queues for. Queueing at once would begin a convoy:
        // two threads that take the lock again and again would be handed it in turn for ever, each parked while the other has it.
        yield_now();
        if lock_api::RawMutex::try_lock(self) {
            return;
        }
        let waiter = Waiter::new();
        let mut state = self.0.load(Ordering::Relaxed);
        loop {
            let wanted = if state == FREE {
                HELD
            } else {
                waiter.next.store((state & !HELD) as *mut Waiter, Ordering::Relaxed);
                ptr::from_ref(&waiter).addr() | HELD
            };
            match self.0.compare_exchange_weak(state, wanted, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(FREE) => return,
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        while !waiter.wait(None) {}
    }

    #[cold]
    fn hand_over(&self) {
        loop {
            let last = (self.0.load(Ordering::Acquire) & !HELD) as *const Waiter;
            // SAFETY: waiters in the queue are live until woken, and only this thread, the holder, takes them out. `last` is not
            // null: the holder found waiters, and nobody else removes them.
            unsafe {
                let mut before = ptr::null();
                let mut first = last;
                loop {
                    let next: *const Waiter = (*first).next.load(Ordering::Relaxed);
                    if next.is_null() {
                        break;
                    }
                    (before, first) = (first, next);
                }
                if before.is_null() {
                    // It is the only one, unless another came this moment: then it is no longer the last.
                    let only = last.addr() | HELD;
                    if self.0.compare_exchange(only, HELD, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                        continue;
                    }
                } else {
                    (*before).next.store(ptr::null_mut(), Ordering::Relaxed);
                }
                Waiter::wake(first);
            }
            return;
        }
    }
}

// SAFETY: the state word admits one holder: it is taken from FREE by one exchange, or handed by the holder to one waiter.
unsafe impl lock_api::RawMutex for RawMutex {
    #[allow(clippy::declare_interior_mutable_const)]
    const INIT: RawMutex = RawMutex(AtomicUsize::new(FREE));
    type GuardMarker = lock_api::GuardSend;

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.lock_slowly();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    unsafe fn unlock(&self) {
        if self.0.compare_exchange(HELD, FREE, Ordering::Release, Ordering::Relaxed).is_err() {
            self.hand_over();
        }
    }
}
