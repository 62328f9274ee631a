//! The kernel's half of every address space: the direct map, the image, and the stacks with their guard pages.
//!
//! Built once at boot from heap frames; later only copied into new roots (`space.rs`). Nothing in it is writable and
//! executable, the image's text and constants are writable through no address, and no user page is ever here.

use tessera_abi::PAGE;
use tessera_core::Frame;

use crate::memory::{self, DIRECT, KERNEL};
use crate::processor::MAX;
use crate::segments::{self, Stacks};
use crate::start_info::StartInfo;
use crate::{cpu, tables::Entry};

/// Where the stacks lie: 256 KiB for each processor.
const STACKS: u64 = 0xffff_ff00_0000_0000;
const STACKS_STRIDE: u64 = 0x4_0000;
const KERNEL_STACK_PAGES: u64 = 8;
const SEPARATE_STACK_PAGES: u64 = 2;
const LARGE: u64 = 2 << 20;
const HUGE: u64 = 1 << 30;
/// Below this all physical space is mapped, uncached where there is no memory: devices.
const DEVICE_END: u64 = 4 << 30;

/// Builds the kernel's half; answers its root, which serves as the root of no process.
#[optimize(size)]
pub fn build(info: &StartInfo) -> Frame {
    let root = memory::boot_frame();
    map_memory(root, info);
    map_image(root);
    // The table of the stacks exists before the first space copies the root's entries.
    table(root, STACKS);
    root
}

/// The bytes of the stacks of so many processors beside the first, and of the tables that map them, at most.
pub const fn stacks_size(processors: usize) -> u64 {
    // A last table is there for the stacks of eight; the ones above it were made with the first processor's.
    let pages = KERNEL_STACK_PAGES + segments::STACKS as u64 * SEPARATE_STACK_PAGES;
    (processors as u64 * pages + processors.div_ceil(8) as u64) * PAGE
}

/// Maps the stacks of processor `number`, a hole below each.
#[optimize(size)]
pub fn map_stacks(root: Frame, number: usize) -> Stacks {
    assert!(number < MAX, "a stack for a processor too many");
    let mut next = STACKS + number as u64 * STACKS_STRIDE;
    let mut stack = |pages: u64| {
        next += PAGE;
        for _ in 0..pages {
            let frame = memory::boot_frame();
            *leaf(root, next) = Entry::kernel(frame.0 * PAGE).writable();
            next += PAGE;
        }
        next
    };
    Stacks { kernel: stack(KERNEL_STACK_PAGES), separate: [(); segments::STACKS].map(|()| stack(SEPARATE_STACK_PAGES)) }
}

/// Whether `address` lies where stacks are.
pub fn is_stack(address: u64) -> bool {
    (STACKS..STACKS + MAX as u64 * STACKS_STRIDE).contains(&address)
}

/// Whether `address` lies in a hole below a stack, or in what a processor has left over.
pub fn is_guard(address: u64) -> bool {
    let page = (address - STACKS) % STACKS_STRIDE / PAGE;
    let separate = KERNEL_STACK_PAGES + 1;
    page == 0
        || page >= separate && (page - separate).is_multiple_of(SEPARATE_STACK_PAGES + 1)
        || page >= separate + segments::STACKS as u64 * (SEPARATE_STACK_PAGES + 1)
}

fn map_memory(root: Frame, info: &StartInfo) {
    let low_end = info
        .memory()
        .map(|range| range.end)
        .filter(|&end| end <= DEVICE_END)
        .max()
        .unwrap_or(0)
        .next_multiple_of(LARGE);
    let end = info.memory().map(|range| range.end).max().unwrap_or(0).max(DEVICE_END);
    let huge_pages = cpu::cpuid(0x8000_0001, 0).edx >> 26 & 1 == 1;

    let mut at = 0;
    while at < end {
        let whole = |size: u64| {
            let memory = at + size <= low_end || info.memory().any(|range| range.start <= at && at + size <= range.end);
            memory || at >= low_end && at + size <= DEVICE_END
        };
        let device = at >= low_end && at < DEVICE_END;
        let page = |address: u64| {
            if device { Entry::kernel(address).writable().uncached() } else { Entry::kernel(address).writable() }
        };
        if huge_pages && at.is_multiple_of(HUGE) && whole(HUGE) {
            let upper = table(root, DIRECT + at);
            *entry(upper, DIRECT + at, 2) = page(at).large();
            at += HUGE;
            continue;
        }
        if at < DEVICE_END || info.memory().any(|range| range.start < at + LARGE && at < range.end) {
            let upper = below(table(root, DIRECT + at), DIRECT + at, 2);
            if image_overlaps(at) {
                map_around_image(root, at);
            } else {
                *entry(upper, DIRECT + at, 1) = page(at).large();
            }
        }
        at += LARGE;
    }
}

fn image_overlaps(at: u64) -> bool {
    let image = memory::image();
    at < image.rodata.end && image.text.start < at + LARGE
}

/// The direct map of the image's text and constants: readable, so that the archive tools of core may copy from them, but
/// not writable, else the map would undo the image's own protection.
fn map_around_image(root: Frame, at: u64) {
    let image = memory::image();
    for address in (at..at + LARGE).step_by(PAGE as usize) {
        let constant = (image.text.start..image.rodata.end).contains(&address);
        let page = Entry::kernel(address);
        *leaf(root, DIRECT + address) = if constant { page } else { page.writable() };
    }
}

fn map_image(root: Frame) {
    let image = memory::image();
    let map = |range: core::ops::Range<u64>, finish: fn(Entry) -> Entry| {
        for address in range.step_by(PAGE as usize) {
            *leaf(root, KERNEL + address) = finish(Entry::kernel(address));
        }
    };
    map(image.text, Entry::executable);
    map(image.rodata, |entry| entry);
    map(image.data, Entry::writable);
}

/// The entry for `address` in a table of `level` (3: root).
fn entry(table: Frame, address: u64, level: u32) -> &'static mut Entry {
    let index = address >> (12 + 9 * level) & 511;
    // SAFETY: `table` is a boot frame used as a table of these maps alone, boot is alone on the machine, and no
    // reference outlives the statement that made it.
    unsafe { &mut *memory::direct(table.0 * PAGE).cast::<Entry>().add(index as usize) }
}

/// The table below the entry for `address`, made if missing.
fn below(upper: Frame, address: u64, level: u32) -> Frame {
    let entry = entry(upper, address, level);
    if !entry.is_present() {
        *entry = Entry::kernel_table(memory::boot_frame());
    }
    entry.frame()
}

/// The page directory pointer table for `address`.
fn table(root: Frame, address: u64) -> Frame {
    below(root, address, 3)
}

/// The last-level entry for `address`.
fn leaf(root: Frame, address: u64) -> &'static mut Entry {
    let directory = below(table(root, address), address, 2);
    entry(below(directory, address, 1), address, 0)
}
