//! The kernel proper: everything about x86-64 machines, and nothing about the system's rules.
//!
//! The rules are one value, `Machine`, in `kernel/core`, which knows no hardware. This crate boots, owns the processor,
//! and turns what happens (system calls, faults, interrupts, time) into calls of that value, one at a time, under one
//! lock. What to do next is always core's word. The principles, which every file here keeps:
//!
//! 1. The kernel runs with interrupts off, on one stack a processor, which begins anew at each entry. It waits for nothing
//!    but the big lock and the acknowledgement of a flush, and a processor that waits for the lock serves flushes.
//! 2. Interrupts are let in only in the idle wait and between steps of long work, with no lock held.
//! 3. No user address is ever dereferenced. The kernel reaches user memory through its own map of physical memory, at
//!    addresses that core translated; SMAP and SMEP stay closed.
//! 4. An exception in the kernel is a bug, and ends in a crash report. An exception in user mode never does.
//! 5. Memory is allocated during boot only.
//! 6. No page is writable and executable; the kernel's text is writable through no address; under each stack is a hole.
//! 7. The short way of a system call is short: what it need not do is done elsewhere.
//!
//! Where to look: `boot_entry` and `main` boot; `memory`, `paging`, `space`, `tables`, `flush` are memory; `entry`, `direct`,
//! `traps`, `run`, `lock` are the way in, through and out; `segments`, `features`, `vector`, `processor`, `smp` are the
//! processors; `apic`, `io_apic`, `iommu`, `clock`, `acpi_tables`, `power`, `serial` are the machine around them; `first` is the
//! first program, `platform` what core asks for, `crash` the report, `provoke` crashes for its tests.
#![feature(rust_preserve_none_cc, optimize_attribute)]
#![no_std]
#![no_main]

extern crate alloc;

mod acpi_tables;
mod apic;
mod boot_entry;
mod clock;
mod cpu;
mod crash;
mod direct;
mod entry;
mod features;
mod first;
mod flush;
mod io_apic;
mod iommu;
mod lock;
mod memory;
mod once;
mod paging;
mod platform;
mod power;
mod processor;
mod provoke;
mod run;
mod segments;
mod serial;
mod smp;
mod space;
mod start_info;
mod tables;
mod traps;
mod vector;

use core::arch::asm;
use core::sync::atomic::Ordering;

use tessera_abi::PAGE;
use tessera_core::{Config, FirstProgram, Frame, Machine};

use acpi_tables::Description;
use first::Archive;
use iommu::Iommu;
use memory::Free;
use once::Once;
use platform::Platform;
use processor::Processor;
use start_info::StartInfo;

/// Heap for what ACPI's tables are read into.
const TABLES_HEAP: u64 = 256 << 10;
/// The exit code of a machine whose image cannot be started.
const BAD_IMAGE: u32 = 125;

/// The plain kernel's archive: a header and nothing behind it. `tessera build` puts the real one in its place.
#[used]
#[unsafe(link_section = ".archive")]
static EMPTY_ARCHIVE: [u8; 512] = {
    let mut header = [0; 512];
    let magic = *b"TESSERA-ARCHIVE\0";
    let mut index = 0;
    while index < magic.len() {
        header[index] = magic[index];
        index += 1;
    }
    header
};

/// What the first steps of boot hand to the later ones, across the change of stacks.
struct Boot {
    info: StartInfo,
    archive: Archive,
    free: Free,
    root: Frame,
    stamp: u64,
}

static BOOT: Once<Boot> = Once::new();

/// Where the first processor enters Rust: on the early tables and a stack of the image.
#[unsafe(no_mangle)]
#[optimize(size)]
extern "C" fn boot_first_processor(start_info: u64) -> ! {
    let stamp = cpu::time_stamp();
    serial::initialize();
    let info = StartInfo::read(start_info);
    let archive = Archive::find().unwrap_or_else(|reason| give_up(reason));
    let free = memory::divide(&info, archive.start + archive.length);
    let root = paging::build(&info);
    let stacks = paging::map_stacks(root, 0);
    let processor = Processor::prepare(0, stacks.kernel, root.0, 0);
    BOOT.set(Boot { info, archive, free, root, stamp });
    flush::set_kernel_root(root);
    // SAFETY: the new tables hold the image, this stack and the direct map; the new stack is empty and mapped.
    unsafe {
        flush::load_root(processor, root.0);
        segments::fill_gates();
        segments::load(0, stacks);
        features::initialize(processor);
        asm!("mov rsp, {stack}", "xor ebp, ebp", "call {next}", "ud2", stack = in(reg) stacks.kernel, next = sym boot_on_own_stack, options(noreturn));
    }
}

/// The rest of boot: devices, processors, core, the first program.
#[optimize(size)]
extern "C" fn boot_on_own_stack() -> ! {
    let Some(boot) = BOOT.get() else { unreachable!("boot comes here after its first steps") };
    let mut free = boot.free.clone();
    memory::open_heap(&mut free, TABLES_HEAP);
    let own = Processor::current();
    let description = Description::read(boot.info.rsdp);
    let others = description.processor_count.saturating_sub(1);
    memory::open_heap(&mut free, paging::stacks_size(others) + Iommu::size(&description));
    io_apic::silence_legacy();
    own.apic.store(apic::initialize(), Ordering::Relaxed);
    let lines = io_apic::initialize(&description);
    let (clock, source) = clock::calibrate(boot.stamp, &description);
    let processors = smp::start(&description, boot.root, &clock);
    let iommu = Iommu::start(&description);
    power::set_description(description);
    log!(
        "{processors} processors, {} MiB, clock by {source} at {} MHz",
        boot.free.ram >> 20,
        clock.frequency / 1_000_000
    );

    if iommu.is_some() {
        log!("an IOMMU keeps devices from memory that they were not given");
    }
    let platform = Platform { kernel: boot.root, clock, iommu };
    let archive = &boot.archive;
    let held = archive.start / PAGE..(archive.start + archive.length).div_ceil(PAGE);
    let needed =
        Machine::<Platform>::memory(&Config { processors, free: &free.ranges[..free.count], held: held.clone() });
    memory::open_heap(&mut free, needed);
    let config = Config { processors, free: &free.ranges[..free.count], held };
    let mut machine = Machine::new(platform, config);
    start_init(&mut machine, boot, lines).unwrap_or_else(|reason| give_up(reason));
    memory::seal();
    lock::install(machine);
    smp::open();
    apic::start_timer();
    provoke::as_told(boot.info.words()).unwrap_or_else(|reason| give_up(reason));
    // SAFETY: the machine is installed; this processor holds no lock, and interrupts are off.
    unsafe { run::run(own, lock::acquire()) }
}

#[optimize(size)]
fn start_init(machine: &mut Machine<Platform>, boot: &'static Boot, interrupt_lines: u32) -> Result<(), &'static str> {
    let mut init = boot.archive.init()?;
    for word in boot.info.words() {
        init.add_argument(word)?;
    }
    let program = FirstProgram {
        segments: &init.segments[..init.segment_count],
        entry: init.entry,
        level: init.level,
        archive: (Frame(boot.archive.start / PAGE), boot.archive.length),
        arguments: &init.arguments[..init.argument_count],
        interrupt_lines,
        interrupt_messages: apic::LINES.saturating_sub(interrupt_lines),
        devices: devices(&boot.info),
    };
    machine.start_first(&program).map_err(abi_text)
}

fn abi_text(error: tessera_abi::Error) -> &'static str {
    log!("`init` cannot be started: {error}");
    "the first program's segments lie outside the space for native programs, overlap, or need more memory than there is"
}

/// The frames of physical space above the last memory below 4 GiB: where devices are. Beyond 4 GiB only if no memory is there.
fn devices(info: &StartInfo) -> core::ops::Range<u64> {
    const LOW_END: u64 = 4 << 30;
    let start = info.ram().map(|range| range.end).filter(|&end| end <= LOW_END).max().unwrap_or(0);
    let high_memory = info.ram().any(|range| range.end > LOW_END);
    let bits = cpu::cpuid(0x8000_0008, 0).eax & 0xff;
    let end = if high_memory { LOW_END } else { 1 << bits.clamp(32, 46) };
    start.div_ceil(PAGE)..end / PAGE
}

/// The image is at fault, not the kernel: says so and turns the machine off.
fn give_up(reason: &str) -> ! {
    log!("{reason}");
    power::off(BAD_IMAGE)
}
