//! Waiting: a thread of the personality parks until something it looks at may have changed, a signal came, or time is up.
//!
//! Whoever changes something that others wait for wakes its [`WaitQueue`]; whoever waits looks again. So a wake too many does no harm,
//! and none is lost: a waiter enters the queue before it looks.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use tessera_runtime::object::{park, ticks};
use tessera_runtime::sync::{Mutex, Unparker};

use super::Context;
use crate::errno::{Errno, Result};

/// A thread that can be woken.
#[derive(Default)]
pub struct Waiter {
    /// The personality's thread that waits; it changes when a program is replaced.
    thread: Unparker,
    woken: AtomicBool,
    /// How it waits, as /proc shows: S, D; 0 while it runs. Whoever wakes it sees it run at once, though it may take a while until it does.
    pub doing: AtomicU32,
}

impl Waiter {
    /// Nobody's yet.
    pub fn new() -> Arc<Waiter> {
        Arc::new(Waiter::default())
    }

    /// The calling thread is the one that waits from now on.
    pub fn adopt(&self) {
        self.thread.adopt();
    }

    /// Lets the thread look again.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.kick();
        }
    }

    /// Lets a guest leave, or a wait look at what else there is.
    pub fn kick(&self) {
        self.doing.store(0, Ordering::Relaxed);
        self.thread.unpark();
    }

    /// Forgets earlier wakes; before looking.
    pub fn prepare(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// Whether it was woken since `prepare`.
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }
}

/// Those who wait for a change.
#[derive(Default)]
pub struct WaitQueue {
    waiters: Mutex<Vec<Arc<Waiter>>>,
    /// How many there are, so that nobody locks an empty queue to wake it.
    count: AtomicUsize,
    /// Who is told of each wake: epoll instances.
    listeners: Mutex<Vec<Weak<dyn Listener>>>,
}

/// Told of each wake, at once, by the thread that wakes: must not wait.
pub trait Listener: Send + Sync {
    /// The queue's object may be ready now. Whether somebody who is to be woken alone was: then others of that kind are not told.
    fn woken(&self) -> bool;

    /// Whether it is of the kind of which one is told.
    fn is_alone(&self) -> bool {
        false
    }
}

impl WaitQueue {
    pub const fn new() -> WaitQueue {
        WaitQueue { waiters: Mutex::new(Vec::new()), count: AtomicUsize::new(0), listeners: Mutex::new(Vec::new()) }
    }

    /// Enters a waiter.
    pub fn enter(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock();
        waiters.push(waiter.clone());
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes a waiter out.
    pub fn leave(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock();
        if let Some(index) = waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            waiters.remove(index);
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Adds one who is told of each wake, while it lives.
    pub fn listen(&self, listener: &Arc<dyn Listener>) {
        self.listeners.lock().push(Arc::downgrade(listener));
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Removes what `listen` added, and those that are gone.
    pub fn unlisten(&self, listener: &Arc<dyn Listener>) {
        let mut listeners = self.listeners.lock();
        let before = listeners.len();
        let gone = Arc::as_ptr(listener).cast::<()>();
        listeners.retain(|other| other.strong_count() > 0 && other.as_ptr().cast::<()>() != gone);
        self.count.fetch_sub(before - listeners.len(), Ordering::SeqCst);
    }

    /// Whether threads wait in it.
    pub fn has_waiters(&self) -> bool {
        !self.waiters.lock().is_empty()
    }

    /// Lets all look again.
    #[cfg_attr(target_os = "none", optimize(speed))]
    pub fn wake_all(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for waiter in self.waiters.lock().iter() {
            waiter.wake();
        }
        // Told without the lock: who is told may come back to this queue. Mostly it is one.
        let listeners = self.listeners.lock();
        if let [only] = listeners.as_slice() {
            let only = only.upgrade();
            drop(listeners);
            if let Some(only) = only {
                only.woken();
            }
            return;
        }
        let every: Vec<_> = listeners.iter().filter_map(Weak::upgrade).collect();
        drop(listeners);
        let mut is_done = false;
        for listener in every {
            if !is_done || !listener.is_alone() {
                is_done |= listener.woken();
            }
        }
    }
}

/// Waits until `look` answers. It is asked at once, and again after each wake of one of the queues.
///
/// # Errors
/// `ERESTARTSYS` if a signal is to be handled, `ETIMEDOUT` after `deadline` (nanoseconds since boot).
#[cfg_attr(target_os = "none", optimize(speed))]
pub fn wait<T>(
    context: &mut Context,
    queues: &[&WaitQueue],
    deadline: Option<u64>,
    mut look: impl FnMut(&mut Context) -> Option<T>,
) -> Result<T> {
    if let Some(found) = look(context) {
        return Ok(found);
    }
    let waiter = context.task.waiter.clone();
    for queue in queues {
        queue.enter(&waiter);
    }
    let result = loop {
        waiter.prepare();
        if let Some(found) = look(context) {
            break Ok(found);
        }
        if let Err(error) = sleep(context, &waiter, deadline) {
            // What came at the last moment counts.
            break look(context).ok_or(error);
        }
    };
    for queue in queues {
        queue.leave(&waiter);
    }
    result
}

/// Parks until the waiter is woken. Time is up later than `deadline` by the thread's slack (`PR_SET_TIMERSLACK`), as in Linux: those who wait for a
/// microsecond again and again, as CPython's threads do for its lock, must let others run in between.
///
/// # Errors
/// As [`wait`].
#[cfg_attr(target_os = "none", optimize(speed))]
pub fn sleep(context: &Context, waiter: &Waiter, deadline: Option<u64>) -> Result<()> {
    let slack = context.task.timer_slack.load(Ordering::Relaxed);
    let deadline = deadline.map(|deadline| deadline.saturating_add(slack));
    let slept = loop {
        // Said before the last look: whoever wakes it says otherwise.
        waiter.doing.store(u32::from(b'S'), Ordering::Relaxed);
        if waiter.is_woken() {
            break Ok(());
        }
        if context.is_interrupted() {
            break Err(Errno::ERESTARTSYS);
        }
        let since = ticks();
        let parked = park(deadline);
        context.waited.set(context.waited.get().wrapping_add(ticks().wrapping_sub(since)));
        if parked == Err(tessera_runtime::Error::TimedOut) {
            break if waiter.is_woken() { Ok(()) } else { Err(Errno::ETIMEDOUT) };
        }
    };
    waiter.doing.store(0, Ordering::Relaxed);
    slept
}
