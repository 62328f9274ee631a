//! The local interrupt controller: interprocessor interrupts, the one-shot timer, acknowledgement
//! (Intel SDM volume 3, chapter 11). Through x2APIC registers if the processor has them, else through memory.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::cpu::{self, msr};
use crate::{memory, processor};

/// Vectors from here on are interrupts; device lines come first, one vector each.
pub const FIRST_VECTOR: u64 = 0x20;
/// Device lines with a vector.
pub const LINES: u32 = 0xb0;
pub const TIMER: u64 = 0xf0;
pub const NOTIFY: u64 = 0xf1;
pub const FLUSH: u64 = 0xf2;
/// What the IOMMU sends when it has refused an access.
pub const IOMMU: u64 = 0xf3;
pub const SPURIOUS: u64 = 0xff;

const ID: u32 = 0x02;
const END_OF_INTERRUPT: u32 = 0x0b;
const SPURIOUS_VECTOR: u32 = 0x0f;
const COMMAND: u32 = 0x30;
const COMMAND_HIGH: u32 = 0x31;
const TIMER_VECTOR: u32 = 0x32;
const LINT_0: u32 = 0x35;
const LINT_1: u32 = 0x36;
const ERROR_VECTOR: u32 = 0x37;
const INITIAL_COUNT: u32 = 0x38;
const CURRENT_COUNT: u32 = 0x39;
const DIVIDE: u32 = 0x3e;

const ENABLED: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const DEADLINE_MODE: u32 = 2 << 17;
const DIVIDE_BY_ONE: u32 = 0b1011;
const PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const INIT: u32 = 5 << 8;
const STARTUP: u32 = 6 << 8;
const NON_MASKABLE: u32 = 4 << 8;
const ALL_OTHERS: u32 = 3 << 18;
const X2_ENABLE: u64 = 1 << 10;

/// Whether the registers are MSRs.
static EXTENDED: AtomicBool = AtomicBool::new(false);
/// Whether the timer compares the time stamp counter.
static DEADLINES: AtomicBool = AtomicBool::new(false);
/// Physical address of the registers in memory.
static BASE: AtomicU64 = AtomicU64::new(0xfee0_0000);
/// Timer ticks a nanosecond, times 2^32.
static RATE: AtomicU64 = AtomicU64::new(0);

fn read(register: u32) -> u32 {
    if EXTENDED.load(Ordering::Relaxed) {
        // SAFETY: `initialize` found x2APIC and switched it on.
        unsafe { cpu::read_msr(msr::X2APIC + register) as u32 }
    } else {
        // SAFETY: the direct map has the controller's page, uncached; registers are 32 bits, 16 bytes apart.
        unsafe { memory::direct(BASE.load(Ordering::Relaxed) + u64::from(register) * 16).cast::<u32>().read_volatile() }
    }
}

fn write(register: u32, value: u32) {
    if EXTENDED.load(Ordering::Relaxed) {
        // SAFETY: as for `read`; the callers write what the register takes.
        unsafe { cpu::write_msr(msr::X2APIC + register, u64::from(value)) };
    } else {
        // SAFETY: as for `read`.
        unsafe {
            memory::direct(BASE.load(Ordering::Relaxed) + u64::from(register) * 16).cast::<u32>().write_volatile(value)
        };
    }
}

/// What a device writes where to fire the vector of `line` as an edge. Lines are dealt out to the processors in turn.
pub fn message(line: u32) -> (u64, u32) {
    message_to(line as usize, FIRST_VECTOR + u64::from(line))
}

/// What is written where to fire a vector at a processor, or at the one that many behind the first, in a circle (Intel SDM volume 3, section
/// 11.11).
pub fn message_to(processor: usize, vector: u64) -> (u64, u32) {
    let running = processor::running();
    let target = running.get(processor % running.len().max(1)).map_or(0, |one| one.apic.load(Ordering::Relaxed));
    (0xfee0_0000 | u64::from(target & 0xff) << 12, vector as u32)
}

/// Switches this processor's controller on, with the timer stopped; answers its number.
pub fn initialize() -> u32 {
    let features = cpu::cpuid(1, 0).ecx;
    // SAFETY: every x86-64 processor with an APIC has this register.
    let base = unsafe { cpu::read_msr(msr::APIC_BASE) };
    BASE.store(base & 0x000f_ffff_ffff_f000, Ordering::Relaxed);
    if features >> 21 & 1 == 1 {
        // SAFETY: x2APIC is there.
        unsafe { cpu::write_msr(msr::APIC_BASE, base | X2_ENABLE) };
        EXTENDED.store(true, Ordering::Relaxed);
    }
    DEADLINES.store(features >> 24 & 1 == 1, Ordering::Relaxed);
    write(SPURIOUS_VECTOR, ENABLED | SPURIOUS as u32);
    write(DIVIDE, DIVIDE_BY_ONE);
    write(LINT_0, MASKED);
    // The host's way to ask a machine that hangs for a crash report.
    write(LINT_1, NON_MASKABLE);
    write(ERROR_VECTOR, MASKED);
    write(TIMER_VECTOR, MASKED | TIMER as u32);
    write(INITIAL_COUNT, 0);
    let id = read(ID);
    if EXTENDED.load(Ordering::Relaxed) { id } else { id >> 24 }
}

/// Says that the handler of the current interrupt is done.
#[inline]
pub fn acknowledge() {
    write(END_OF_INTERRUPT, 0);
}

fn command(target: u32, value: u32) {
    if EXTENDED.load(Ordering::Relaxed) {
        // SAFETY: x2APIC is on; the command register is one of 64 bits there.
        unsafe { cpu::write_msr(msr::X2APIC + COMMAND, u64::from(target) << 32 | u64::from(value)) };
    } else {
        write(COMMAND_HIGH, target << 24);
        write(COMMAND, value);
        while read(COMMAND) & PENDING != 0 {
            cpu::pause();
        }
    }
}

/// Sends an interrupt to the processor whose controller is `target`.
pub fn send(target: u32, vector: u64) {
    command(target, ASSERT | vector as u32);
}

/// Resets a processor.
pub fn send_init(target: u32) {
    command(target, ASSERT | INIT);
}

/// Starts a processor that was reset, in real mode at a page below 1 MiB.
pub fn send_startup(target: u32, page: u64) {
    command(target, ASSERT | STARTUP | (page >> 12) as u32);
}

/// Sends an NMI to all other processors.
pub fn stop_others() {
    command(0, ASSERT | NON_MASKABLE | ALL_OTHERS);
}

/// Lets the timer count down from its largest value, without interrupts, to measure it.
pub fn count_freely() {
    write(INITIAL_COUNT, u32::MAX);
}

/// Ticks since [`count_freely`].
pub fn counted() -> u32 {
    u32::MAX - read(CURRENT_COUNT)
}

/// Ends the measurement: the timer ticks this often a second.
pub fn set_frequency(frequency: u64) {
    write(INITIAL_COUNT, 0);
    RATE.store(((u128::from(frequency) << 32) / 1_000_000_000) as u64, Ordering::Relaxed);
}

/// Opens this processor's timer interrupt.
pub fn start_timer() {
    let mode = if DEADLINES.load(Ordering::Relaxed) { DEADLINE_MODE } else { 0 };
    write(TIMER_VECTOR, mode | TIMER as u32);
}

/// Sets this processor's timer: `after` nanoseconds from now, when the time stamp counter will be `stamp`.
/// It may fire early (if its counter is too short), never late by more than a tick.
pub fn set_timer(after: u64, stamp: u64) {
    if DEADLINES.load(Ordering::Relaxed) {
        // SAFETY: the processor has the deadline mode, and the timer is in it.
        unsafe { cpu::write_msr(msr::TSC_DEADLINE, stamp.max(1)) };
    } else {
        let ticks = ((u128::from(after) * u128::from(RATE.load(Ordering::Relaxed))) >> 32) + 1;
        write(INITIAL_COUNT, ticks.min(u128::from(u32::MAX)) as u32);
    }
}

/// Stops this processor's timer.
pub fn stop_timer() {
    if DEADLINES.load(Ordering::Relaxed) {
        // SAFETY: as in `set_timer`; zero stops it.
        unsafe { cpu::write_msr(msr::TSC_DEADLINE, 0) };
    } else {
        write(INITIAL_COUNT, 0);
    }
}
