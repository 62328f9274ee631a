//! Dropping translations on other processors ("TLB shoot-down").
//!
//! One mailbox: only the holder of the big lock posts, and it waits until all have answered, so there is never a second
//! request. A processor serves it from the flush interrupt, which takes no lock, or while it waits for the lock.
//! Interrupts are off for bounded stretches only, so the wait ends.

use core::sync::atomic::{AtomicU64, Ordering};

use tessera_abi::PAGE;
use tessera_core::Frame;

use crate::processor::{self, Processor};
use crate::{apic, cpu, space};

/// More pages than this are dropped by loading the root again.
const SINGLE_PAGES: u64 = 32;

/// The request. `from == LEAVE` asks to leave the space.
static ROOT: AtomicU64 = AtomicU64::new(0);
static FROM: AtomicU64 = AtomicU64::new(0);
static TO: AtomicU64 = AtomicU64::new(0);
/// The processors that have not answered yet, one bit each.
static WAITING: AtomicU64 = AtomicU64::new(0);
const LEAVE: u64 = u64::MAX;
/// The root that has only the kernel's half.
static KERNEL_ROOT: AtomicU64 = AtomicU64::new(0);

/// Names the root that processors load when they leave a space.
pub fn set_kernel_root(root: Frame) {
    KERNEL_ROOT.store(root.0, Ordering::Relaxed);
}

/// Loads a root on this processor, for a thread of the process that it belongs to. A joint root that shows all of that process stays
/// loaded: with it stay the translations, and most switches are between a program and what serves it.
///
/// # Safety
/// The root holds the kernel's half, and stays a root while it is loaded.
#[inline(always)]
pub unsafe fn switch_root(processor: &Processor, root: u64) {
    let loaded = processor.root.load(Ordering::Relaxed);
    if loaded == root {
        return;
    }
    // The first says for most whether there is a reason to look.
    if processor.viewed.load(Ordering::Relaxed) == root && space::process_of(Frame(loaded)) == Some(Frame(root)) {
        return;
    }
    // SAFETY: passed on.
    unsafe { load_root(processor, root) };
}

/// Loads a root on this processor.
///
/// # Safety
/// The root holds the kernel's half, and stays a root while it is loaded.
#[inline(always)]
pub unsafe fn load_root(processor: &Processor, root: u64) {
    processor.root.store(root, Ordering::Relaxed);
    // SAFETY: the caller vouches for the root; the kernel's half is the same in all.
    unsafe { cpu::write_cr3(root * PAGE) };
}

/// Returns when no processor has a translation of `root`'s pages in `from..to`.
#[inline(always)]
pub fn invalidate(root: Frame, from: u64, to: u64) {
    request(root, from, to);
}

/// Returns when no processor has `root` loaded.
pub fn leave(root: Frame) {
    request(root, LEAVE, LEAVE);
}

#[inline(always)]
fn request(root: Frame, from: u64, to: u64) {
    let own = Processor::current();
    if space::shows(Frame(own.root.load(Ordering::Relaxed)), root) {
        perform(own, root, from, to);
    }
    if processor::running().len() > 1 {
        request_others(own, root, from, to);
    }
}

#[cold]
#[inline(never)]
fn request_others(own: &Processor, root: Frame, from: u64, to: u64) {
    let mut targets = 0;
    for processor in processor::running() {
        if space::shows(Frame(processor.root.load(Ordering::Relaxed)), root) && processor.number() != own.number() {
            targets |= 1 << processor.number();
        }
    }
    if targets == 0 {
        return;
    }
    ROOT.store(root.0, Ordering::Relaxed);
    FROM.store(from, Ordering::Relaxed);
    TO.store(to, Ordering::Relaxed);
    WAITING.store(targets, Ordering::SeqCst);
    for processor in processor::running() {
        if targets >> processor.number() & 1 == 1 {
            apic::send(processor.apic.load(Ordering::Relaxed), apic::FLUSH);
        }
    }
    while WAITING.load(Ordering::Acquire) != 0 {
        cpu::pause();
    }
}

/// Serves the request, if there is one for this processor.
#[inline]
pub fn serve() {
    let own = Processor::current();
    let bit = 1u64 << own.number();
    if WAITING.load(Ordering::Acquire) & bit == 0 {
        return;
    }
    perform(own, Frame(ROOT.load(Ordering::Relaxed)), FROM.load(Ordering::Relaxed), TO.load(Ordering::Relaxed));
    WAITING.fetch_and(!bit, Ordering::Release);
}

#[inline(always)]
fn perform(own: &Processor, root: Frame, from: u64, to: u64) {
    if from == LEAVE {
        // Where it is a joint root that is left, another thread of its process may run here.
        let process = space::process_of(Frame(own.root.load(Ordering::Relaxed))).filter(|process| *process != root);
        let next = process.map_or(KERNEL_ROOT.load(Ordering::Relaxed), |process| process.0);
        // SAFETY: the kernel's root is never given up, and when a process's is, processors leave its joint roots too.
        unsafe { load_root(own, next) };
    } else if (to - from) / PAGE > SINGLE_PAGES {
        // SAFETY: the root that is loaded already.
        unsafe { cpu::write_cr3(own.root.load(Ordering::Relaxed) * PAGE) };
    } else {
        let mut address = from;
        while address < to {
            cpu::invalidate_page(address);
            address += PAGE;
        }
    }
}
