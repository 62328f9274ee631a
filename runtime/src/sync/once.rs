//! What is done, or made, once.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

use super::Mutex;

/// Something that is done by the first thread that asks; the others wait until it is done.
#[derive(Debug)]
pub struct Once {
    done: AtomicBool,
    lock: Mutex<()>,
}

impl Default for Once {
    fn default() -> Once {
        Once::new()
    }
}

impl Once {
    /// Not done yet.
    pub const fn new() -> Once {
        Once { done: AtomicBool::new(false), lock: Mutex::new(()) }
    }

    /// Does it, unless it was done. `action` must not ask for the same again: it would wait for itself.
    pub fn call_once(&self, action: impl FnOnce()) {
        if !self.is_completed() {
            let _guard = self.lock.lock();
            if !self.is_completed() {
                action();
                self.done.store(true, Ordering::Release);
            }
        }
    }

    /// Whether it was done.
    pub fn is_completed(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

/// A value that is made by the first thread that asks for it.
#[derive(Debug)]
pub struct OnceLock<T> {
    once: Once,
    /// Written when `once` is completed.
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the cell is written once, inside `call_once`, and after that only shared.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> OnceLock<T> {
    /// Not made yet.
    pub const fn new() -> OnceLock<T> {
        OnceLock { once: Once::new(), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// The value, made by `make` if there is none.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.once.call_once(|| {
            let value = make();
            // SAFETY: only one thread gets here, once, and nobody reads before it is done.
            unsafe { (*self.value.get()).write(value) };
        });
        // SAFETY: `call_once` returns when it was written, and it is never written again.
        unsafe { (*self.value.get()).assume_init_ref() }
    }

    /// The value, if it was made.
    pub fn get(&self) -> Option<&T> {
        if !self.once.is_completed() {
            return None;
        }
        // SAFETY: it was written before `is_completed` said so, and is never written again.
        Some(unsafe { (*self.value.get()).assume_init_ref() })
    }
}

impl<T> Drop for OnceLock<T> {
    fn drop(&mut self) {
        if self.once.is_completed() {
            // SAFETY: it was written, and nobody else has it any more.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}
