//! The big lock: who holds it owns the machine.
//!
//! Whoever finds it free has it. A queue would be fairer, and is wrong in a virtual machine: when the host does not run the processor
//! whose turn it is, all those behind it would wait for the host. Each holds it for a short time only.
//!
//! Taken with interrupts off, at each entry, and released before user mode or the idle wait; never taken twice by one processor, never
//! held while interrupts are open. A processor that waits for it keeps serving flush requests, so the holder may wait for their
//! acknowledgement.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use tessera_core::Machine;

use crate::platform::Platform;
use crate::{cpu, flush};

struct BigLock {
    held: AtomicBool,
    machine: UnsafeCell<Option<Machine<Platform>>>,
}

// SAFETY: `machine` is touched by the holder of the lock alone (and by boot, which is alone).
unsafe impl Sync for BigLock {}

static LOCK: BigLock = BigLock { held: AtomicBool::new(false), machine: UnsafeCell::new(None) };

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
    if LOCK.held.swap(true, Ordering::Acquire) {
        wait();
    }
    // SAFETY: this processor set the mark, so it is the only holder; `install` made it `Some`.
    unsafe { (*LOCK.machine.get()).as_mut().unwrap_unchecked() }
}

#[cold]
fn wait() {
    loop {
        flush::serve();
        cpu::pause();
        // Looked at first: a swap would take the line from the holder each time.
        if !LOCK.held.load(Ordering::Relaxed) && !LOCK.held.swap(true, Ordering::Acquire) {
            return;
        }
    }
}

/// Releases the lock.
///
/// # Safety
/// This processor holds it, and no reference to the machine is used afterwards.
#[inline(always)]
pub unsafe fn release() {
    LOCK.held.store(false, Ordering::Release);
}
