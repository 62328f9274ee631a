//! Starts the other processors (Intel SDM volume 3, section 8.4.4.1), one after the other, during boot.
//!
//! A started processor sets itself up, counts itself, and waits until boot opens the gate; from then on it is like the
//! first. One that does not answer is reported and left out.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tessera_abi::PAGE;
use tessera_core::Frame;

use crate::acpi_tables::Description;
use crate::boot_entry::TRAMPOLINE;
use crate::clock::Clock;
use crate::once::Once;
use crate::processor::{self, Processor};
use crate::segments::Stacks;
use crate::{apic, cpu, features, flush, lock, memory, paging, run, segments};

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
    static early_root: [AtomicU64; 512];
}

/// The stack of the processor that is being started; the assembly reads it.
#[unsafe(no_mangle)]
static started_stack: AtomicU64 = AtomicU64::new(0);
static STARTED_NUMBER: AtomicUsize = AtomicUsize::new(0);
static KERNEL_ROOT: AtomicU64 = AtomicU64::new(0);
static STACKS: [Once<Stacks>; processor::MAX] = [const { Once::new() }; processor::MAX];
static OPEN: AtomicBool = AtomicBool::new(false);

/// Nanoseconds between reset and start, and the patience with a processor that was started.
const AFTER_RESET: u64 = 200_000;
const PATIENCE: u64 = 2_000_000_000;

/// Starts all processors that the tables name; answers how many run, the first included.
#[optimize(size)]
pub fn start(description: &Description, root: Frame, clock: &Clock) -> usize {
    let own = Processor::current().apic.load(Ordering::Relaxed);
    let mut number = 1;
    prepare(root);
    for &apic in description.processors.iter().take(description.processor_count).filter(|&&apic| apic != own) {
        if number == processor::MAX {
            break;
        }
        let stacks = paging::map_stacks(root, number);
        STACKS[number].set(stacks);
        Processor::prepare(number, stacks.kernel, root.0, apic);
        started_stack.store(stacks.kernel, Ordering::Release);
        STARTED_NUMBER.store(number, Ordering::Release);
        if start_one(apic, number, clock) {
            number += 1;
        } else {
            crate::log!("the processor with APIC number {apic} does not start; going on without it");
            break;
        }
    }
    processor::running().len()
}

/// Puts the trampoline in its place and lets the early tables show the stacks.
fn prepare(root: Frame) {
    KERNEL_ROOT.store(root.0, Ordering::Relaxed);
    let (start, end) = (&raw const trampoline_start, &raw const trampoline_end);
    let length = end as usize - start as usize;
    assert!(length <= PAGE as usize, "the trampoline does not fit into its page");
    // SAFETY: the page lies where `memory` gives nothing to anybody; the loader's structures there were read. The entry of
    // the early root is free, and the one that it takes over is never changed.
    unsafe {
        core::ptr::copy_nonoverlapping(start, memory::direct(TRAMPOLINE), length);
        let entry = memory::direct(root.0 * PAGE).cast::<u64>().add(510).read();
        early_root[510].store(entry, Ordering::Release);
    }
}

fn start_one(apic: u32, number: usize, clock: &Clock) -> bool {
    apic::send_init(apic);
    clock.wait(AFTER_RESET);
    apic::send_startup(apic, TRAMPOLINE);
    let end = clock.now() + PATIENCE;
    let mut again = clock.now() + PATIENCE / 4;
    while processor::running().len() <= number {
        let now = clock.now();
        if now > end {
            return false;
        }
        if now > again {
            apic::send_startup(apic, TRAMPOLINE);
            again = end;
        }
        cpu::pause();
    }
    true
}

/// Lets the started processors run threads.
pub fn open() {
    OPEN.store(true, Ordering::Release);
}

/// Where a started processor enters Rust, on its own stack and the early tables.
#[unsafe(no_mangle)]
#[optimize(size)]
extern "C" fn boot_further_processor() -> ! {
    let number = STARTED_NUMBER.load(Ordering::Acquire);
    let (Some(own), Some(stacks)) = (Processor::get(number), STACKS[number].get()) else { cpu::halt() };
    // SAFETY: the real root maps all that the early one does and this code uses.
    unsafe { flush::load_root(own, KERNEL_ROOT.load(Ordering::Relaxed)) };
    segments::load(number, *stacks);
    features::initialize(own);
    apic::initialize();
    processor::add_running();
    while !OPEN.load(Ordering::Acquire) {
        cpu::pause();
    }
    apic::start_timer();
    // SAFETY: the machine is installed when the gate opens; this processor holds no lock.
    unsafe { run::run(own, lock::acquire()) }
}
