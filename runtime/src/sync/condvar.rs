//! Condition variables: waiting for something that a lock guards.

use core::ptr;
use core::sync::atomic::Ordering;

use super::waiter::Waiter;
use super::{Mutex, MutexGuard};

/// Lets threads wait, with a lock released, until another says that something changed.
#[derive(Debug)]
pub struct Condvar(Mutex<Queue>);

#[derive(Debug)]
struct Queue {
    first: *const Waiter,
    last: *const Waiter,
}

// SAFETY: the waiters that the pointers name are reached only under the lock around the queue.
unsafe impl Send for Queue {}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl Condvar {
    /// Nobody waits.
    pub const fn new() -> Condvar {
        Condvar(Mutex::new(Queue { first: ptr::null(), last: ptr::null() }))
    }

    /// Releases the lock, waits to be notified, takes the lock again. Look again at what is waited for.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_until(guard, None);
    }

    /// The same, until a deadline (nanoseconds since boot); whether it was notified.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<u64>) -> bool {
        let waiter = Waiter::new();
        self.0.lock().push(&waiter);
        MutexGuard::unlocked(guard, || {
            if waiter.wait(deadline) {
                return true;
            }
            // Out of time. Whoever took the waiter out of the queue is about to wake it, and must find it alive.
            let queued = self.0.lock().remove(&waiter);
            if !queued {
                while !waiter.wait(None) {}
            }
            !queued
        })
    }

    /// Lets the thread go on that has waited longest.
    pub fn notify_one(&self) {
        let first = self.0.lock().pop();
        if !first.is_null() {
            // SAFETY: it was in the queue and is woken by whoever took it out, once.
            unsafe { Waiter::wake(first) };
        }
    }

    /// Lets all go on that wait now.
    pub fn notify_all(&self) {
        let mut queue = core::mem::replace(&mut *self.0.lock(), Queue { first: ptr::null(), last: ptr::null() });
        loop {
            let first = queue.pop();
            if first.is_null() {
                return;
            }
            // SAFETY: as in `notify_one`; the queue's next was read before.
            unsafe { Waiter::wake(first) };
        }
    }
}

impl Queue {
    fn push(&mut self, waiter: &Waiter) {
        let waiter = ptr::from_ref(waiter);
        if self.last.is_null() {
            self.first = waiter;
        } else {
            // SAFETY: what is queued is live.
            unsafe { (*self.last).next.store(waiter.cast_mut(), Ordering::Relaxed) };
        }
        self.last = waiter;
    }

    fn pop(&mut self) -> *const Waiter {
        let first = self.first;
        if !first.is_null() {
            // SAFETY: what is queued is live.
            self.first = unsafe { (*first).next.load(Ordering::Relaxed) };
            if self.first.is_null() {
                self.last = ptr::null();
            }
        }
        first
    }

    /// Takes a waiter out; whether it was there.
    fn remove(&mut self, waiter: &Waiter) -> bool {
        let wanted = ptr::from_ref(waiter);
        let mut before: *const Waiter = ptr::null();
        let mut at = self.first;
        while !at.is_null() {
            // SAFETY: what is queued is live.
            let next: *const Waiter = unsafe { (*at).next.load(Ordering::Relaxed) };
            if at == wanted {
                if before.is_null() {
                    self.first = next;
                } else {
                    // SAFETY: what is queued is live.
                    unsafe { (*before).next.store(next.cast_mut(), Ordering::Relaxed) };
                }
                if next.is_null() {
                    self.last = before;
                }
                return true;
            }
            (before, at) = (at, next);
        }
        false
    }
}
