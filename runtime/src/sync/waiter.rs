//! A parked thread's place in a queue, on its own stack.

use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use tessera_abi::Syscall;

use crate::handle::request;
use crate::object::park;
use crate::thread;

/// A thread that waits. It lives on the waiting thread's stack until `woken` is true and not a moment longer.
pub struct Waiter {
    thread: u32,
    woken: AtomicBool,
    /// The next one of the queue; who may change it is the queue's rule.
    pub next: AtomicPtr<Waiter>,
}

impl Waiter {
    /// The calling thread's.
    pub fn new() -> Waiter {
        Waiter {
            thread: thread::own_number(),
            woken: AtomicBool::new(false),
            next: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Parks until `wake` or the deadline; whether it was woken.
    pub fn wait(&self, deadline: Option<u64>) -> bool {
        loop {
            if self.woken.load(Ordering::Acquire) {
                return true;
            }
            if park(deadline) == Err(tessera_abi::Error::TimedOut) {
                return self.woken.load(Ordering::Acquire);
            }
        }
    }

    /// Lets the waiting thread go on.
    ///
    /// # Safety
    /// `waiter` must be live, which it is until this call, made once.
    pub unsafe fn wake(waiter: *const Waiter) {
        // SAFETY: the caller says that it is live. From the store on it may be gone, so that its handle is read before.
        let thread = unsafe {
            let thread = (*waiter).thread;
            (*waiter).woken.store(true, Ordering::Release);
            thread
        };
        // If the thread is gone by now the number names nothing, or a thread that looks again at what it waits for.
        let _ = request(Syscall::Unpark, [thread.into()]);
    }
}
