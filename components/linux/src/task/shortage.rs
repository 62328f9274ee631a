//! When memory runs out: a process is ended, the one that holds most.
//!
//! A guest that touches a page that nobody can pay for waits here until there is room again. A thread of the personality that does so
//! on its guest's behalf, in the middle of a copy and with locks held, cannot: the fault goes to the [`keeper`], which gives it a page of a ballast
//! that is there for nothing else. So does a fault of theirs in a stack, or in the part of the heap that is older than the reserve.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_runtime::abi::{Delivery, FaultKind, NATIVE_BASE};
use tessera_runtime::object::{Endpoint, park};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{log, own, thread};

use super::{Process, System};
use crate::errno::Result;
use crate::memory::{Memory, PAGE};
use crate::signal::SIGKILL;

/// Pages of the ballast: a part of the component's memory, between these.
const BALLAST: (u64, u64) = (16, 128);
const BALLAST_OF: u64 = 64;
/// Nanoseconds that a process has to let go of its memory before another is ended.
const PATIENCE: u64 = 2_000_000_000;
/// Nanoseconds that the memory of a process takes to be free behind its end.
const SETTLING: u64 = 50_000_000;
/// Nanoseconds between looks.
const PAUSE: u64 = 2_000_000;

/// The rule that ends processes, and the ballast.
pub struct Shortage {
    /// When the last process was ended for its memory; 0: never.
    since: AtomicU64,
    ballast: Arc<Memory>,
    /// Its pages.
    pages: u64,
    /// How many of the ballast's pages were given out; they are its first ones.
    given: Mutex<u64>,
}

impl Shortage {
    /// # Errors
    /// There is no memory for the ballast.
    pub fn new() -> Result<Shortage> {
        let (least, most) = BALLAST;
        let pages = (own::pool().usage(0)?.quota / BALLAST_OF).clamp(least, most);
        let ballast = Memory::new(pages * PAGE)?;
        let shortage = Shortage { since: AtomicU64::new(0), ballast, pages, given: Mutex::new(pages) };
        shortage.refill();
        Ok(shortage)
    }

    /// Ends the process that holds most, unless one is about to go.
    fn end_largest(&self, system: &System) {
        let now = system.now();
        let since = self.since.load(Ordering::Acquire);
        let patience = if system.any_process(is_going) { PATIENCE } else { SETTLING };
        let is_waiting = since != 0 && now.saturating_sub(since) < patience;
        if is_waiting || self.since.compare_exchange(since, now, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        let Some((process, pages)) = largest(system) else { return };
        log!("linux: out of memory: process {} is killed, it holds {} KiB", process.number, pages * PAGE / 1024);
        process.end(SIGKILL);
        if let Some(mm) = process.resources.try_lock().and_then(|resources| resources.mm.clone()) {
            mm.doom();
        }
    }

    /// A guest touched a page for which there is no memory: when this comes back it may try again, or was told to end.
    pub fn wait(&self, system: &System) {
        self.end_largest(system);
        let _ = park(Some(own::clock().now().unwrap_or(0).saturating_add(PAUSE)));
    }

    /// Makes room for one page, whatever else happens.
    fn give(&self, system: &System) {
        self.end_largest(system);
        loop {
            let mut given = self.given.lock();
            if *given < self.pages {
                let _ = self.ballast.vmo().discard(*given * PAGE, PAGE);
                *given += 1;
                return;
            }
            drop(given);
            if own::pool().usage(0).is_ok_and(|usage| usage.used < usage.quota) {
                return;
            }
            let _ = park(Some(own::clock().now().unwrap_or(0).saturating_add(PAUSE)));
            self.end_largest(system);
        }
    }

    /// Makes room for one page out of the ballast, for a thread that may hold any lock; answers whether there was one.
    fn give_own(&self) -> bool {
        let mut given = self.given.lock();
        let is_left = *given < self.pages && self.ballast.vmo().discard(*given * PAGE, PAGE).is_ok();
        *given += u64::from(is_left);
        is_left
    }

    /// Takes back what was given of the ballast, once there is room: when a process has ended.
    pub fn refill(&self) {
        let mut given = self.given.lock();
        while *given > 0 && self.ballast.vmo().write((*given - 1) * PAGE, &[1]) == Ok(1) {
            *given -= 1;
        }
    }
}

/// Starts the thread that answers the faults of the personality's own threads.
///
/// # Errors
/// There is no memory for it.
pub fn keeper(system: &Arc<System>) -> Result<()> {
    let endpoint = Endpoint::create(&own::pool())?;
    own::process().handle_faults(&endpoint, 0)?;
    let system = system.clone();
    thread::spawn(move || {
        let mut received = endpoint.receive();
        while let Ok(fault) = &received {
            let [kind, address, ..] = fault.words;
            let is_shortage = fault.delivery == Delivery::Fault && kind == FaultKind::NoMemory as u64;
            let goes_on = if is_shortage && address < NATIVE_BASE {
                system.shortage.give(&system);
                true
            } else {
                is_shortage && system.shortage.give_own()
            };
            if !goes_on {
                // The personality's own: it ends, and the kernel says where.
                log!("linux: fault {kind} at {address:#x}");
            }
            received = endpoint.reply_and_receive_words(u32::from(!goes_on), []);
        }
    })?;
    Ok(())
}

/// Whether a process was told to end and still has its memory.
fn is_going(process: &Arc<Process>) -> bool {
    process.ending().is_some() && process.is_alive()
}

/// The process with most pages of its own, beside those that it wants to be counted, and how many. One whose mappings cannot be looked at now is in the middle of a copy that
/// waits for memory: it is taken to hold all that the others do not. Allocates nothing.
fn largest(system: &System) -> Option<(Arc<Process>, u64)> {
    let mut most: Option<(Arc<Process>, u64)> = None;
    let mut locked = None;
    let mut sum = 0;
    let quota = own::pool().usage(0).map_or(0, |usage| usage.quota);
    system.any_process(|process| {
        if process.ending().is_some() || !process.is_alive() {
            return false;
        }
        let Some(mm) = process.resources.try_lock().and_then(|resources| resources.mm.clone()) else { return false };
        match mm.resident() {
            Some(pages) => {
                sum += pages;
                let added = u64::from(process.oom.load(Ordering::Relaxed).unsigned_abs());
                let pages = pages.saturating_add(quota / 1000 * added);
                if most.as_ref().is_none_or(|most| most.1 <= pages) {
                    most = Some((process.clone(), pages));
                }
            }
            None => locked = Some(process.clone()),
        }
        false
    });
    let rest = own::pool().usage(0).map_or(0, |usage| usage.used).saturating_sub(sum);
    match (locked, most) {
        (Some(process), most) if most.as_ref().is_none_or(|most| most.1 < rest) => Some((process, rest)),
        (_, most) => most,
    }
}
