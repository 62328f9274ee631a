//! The big lock: who holds it owns the machine.
//!
//! A ticket lock, so that nobody starves. Taken with interrupts off, at each entry, and released before user mode or
//! the idle wait; never taken twice by one processor, never held while interrupts are open. A processor that waits for
//! it keeps serving flush requests, so the holder may wait for their acknowledgement.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};

use tessera_core::Machine;

use crate::platform::Platform;
use crate::{cpu, flush};

struct BigLock {
    next: AtomicU32,
    serving: AtomicU32,
    machine: UnsafeCell<Option<Machine<Platform>>>,
}

// SAFETY: `machine` is touched by the holder of the lock alone (and by boot, which is alone).
unsafe impl Sync for BigLock {}

static LOCK: BigLock = BigLock { next: AtomicU32::new(0), serving: AtomicU32::new(0), machine: UnsafeCell::new(None) };

/// Puts the machine behind the lock. Once, by boot, before any other processor runs.
pub fn install(machine: Machine<Platform>) {
    // SAFETY: boot is alone on the machine and nobody has taken the lock yet.
    unsafe { *LOCK.machine.get() = Some(machine) };
}

/// Takes the lock, and with it the machine.
///
/// # Safety
/// This processor does not hold it, interrupts are off, `install` was called. The reference is dead at [`release`].
#[inline(always)]
pub unsafe fn acquire() -> &'static mut Machine<Platform> {
    let ticket = LOCK.next.fetch_add(1, Ordering::Relaxed);
    if LOCK.serving.load(Ordering::Acquire) != ticket {
        wait(ticket);
    }
    // SAFETY: the ticket is served, so this processor is the only holder; `install` made it `Some`.
    unsafe { (*LOCK.machine.get()).as_mut().unwrap_unchecked() }
}

#[cold]
fn wait(ticket: u32) {
    while LOCK.serving.load(Ordering::Acquire) != ticket {
        flush::serve();
        cpu::pause();
    }
}

/// Releases the lock.
///
/// # Safety
/// This processor holds it, and no reference to the machine is used afterwards.
#[inline(always)]
pub unsafe fn release() {
    let serving = LOCK.serving.load(Ordering::Relaxed);
    LOCK.serving.store(serving.wrapping_add(1), Ordering::Release);
}
