//! A value that boot sets once, before anyone reads it.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

/// Empty until [`Once::set`]; constant afterwards. An empty one takes no room in the image.
pub struct Once<T> {
    ready: AtomicBool,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is written once, before `ready` is set, and only shared afterwards.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    /// A cell without a value.
    pub const fn new() -> Once<T> {
        Once { ready: AtomicBool::new(false), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Sets the value. Called once, by the first processor, while it is alone; a second call is a crash.
    pub fn set(&self, value: T) {
        assert!(!self.ready.load(Ordering::Acquire), "a boot value is set twice");
        // SAFETY: not ready, so no reference was given out, and boot is alone on the machine.
        unsafe { (*self.value.get()).write(value) };
        self.ready.store(true, Ordering::Release);
    }

    /// The value, if it is set.
    #[inline(always)]
    pub fn get(&self) -> Option<&T> {
        if !self.ready.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: ready, so it was written, and is never again.
        Some(unsafe { (*self.value.get()).assume_init_ref() })
    }
}
