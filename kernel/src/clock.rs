//! Time: nanoseconds since boot from the time stamp counter, whose speed is found out at boot.
//!
//! The sources, best first: what the processor says (CPUID 15h, 16h), what the hypervisor says (CPUID 4000_0010h), a
//! measurement against the ACPI timer, against the legacy timer (8254, channel 2), and at last against the local APIC's
//! timer, taken to run at 1 GHz as it does in QEMU and KVM. The counters of all processors are taken to agree.

use crate::acpi_tables::Description;
use crate::{apic, cpu};

/// How long a measurement takes, in milliseconds.
const MEASURE: u64 = 2;
const ACPI_TIMER: u64 = 3_579_545;
const LEGACY_TIMER: u64 = 1_193_182;
const QEMU_APIC: u64 = 1_000_000_000;

/// The clock.
#[derive(Clone, Copy)]
pub struct Clock {
    /// The counter at boot.
    pub boot: u64,
    /// Counts a second.
    pub frequency: u64,
    /// Nanoseconds a count, times 2^32.
    nanoseconds: u64,
    /// Counts a nanosecond, times 2^32.
    counts: u64,
}

impl Clock {
    fn new(boot: u64, frequency: u64) -> Clock {
        let nanoseconds = ((1_000_000_000u128 << 32) / u128::from(frequency.max(1))) as u64;
        let counts = ((u128::from(frequency) << 32) / 1_000_000_000) as u64;
        Clock { boot, frequency, nanoseconds, counts }
    }

    /// Nanoseconds since boot.
    #[inline(always)]
    pub fn now(&self) -> u64 {
        let counts = cpu::time_stamp().saturating_sub(self.boot);
        ((u128::from(counts) * u128::from(self.nanoseconds)) >> 32) as u64
    }

    /// The counter at a time.
    pub fn stamp(&self, at: u64) -> u64 {
        let counts = (u128::from(at) * u128::from(self.counts)) >> 32;
        u64::try_from(counts).unwrap_or(u64::MAX).saturating_add(self.boot)
    }

    /// Waits.
    pub fn wait(&self, nanoseconds: u64) {
        let end = self.now() + nanoseconds;
        while self.now() < end {
            cpu::pause();
        }
    }
}

/// Finds out how fast the counter and the local timer run; answers the clock and the name of what was used.
#[optimize(size)]
pub fn calibrate(boot: u64, description: &Description) -> (Clock, &'static str) {
    // Both timers are measured at once, unless finding the first one took so long that the second may have run out.
    apic::count_freely();
    let mut start = cpu::time_stamp();
    let (frequency, name) = find(description);
    let clock = Clock::new(boot, frequency);
    if name != BY_APIC {
        let measure = MEASURE * 1_000_000;
        let mut passed = scale(cpu::time_stamp() - start, 1_000_000_000, frequency);
        if passed > 16 * measure {
            apic::count_freely();
            (start, passed) = (cpu::time_stamp(), 0);
        }
        clock.wait(measure.saturating_sub(passed));
        let (ticks, counts) = (u64::from(apic::counted()), cpu::time_stamp() - start);
        apic::set_frequency(scale(ticks, frequency, counts));
    }
    (clock, name)
}

const BY_APIC: &str = "the local APIC timer at 1 GHz";

fn find(description: &Description) -> (u64, &'static str) {
    if let Some(frequency) = by_processor() {
        return (frequency, "CPUID");
    }
    if let Some(frequency) = by_hypervisor() {
        return (frequency, "the hypervisor's CPUID");
    }
    if let Some(frequency) = description.timer.and_then(by_acpi_timer) {
        return (frequency, "the ACPI timer");
    }
    if let Some(frequency) = by_legacy_timer() {
        return (frequency, "the legacy timer");
    }
    apic::count_freely();
    let start = cpu::time_stamp();
    let goal = (QEMU_APIC * MEASURE / 1000) as u32;
    let mut ticks = 0;
    while ticks < goal {
        ticks = apic::counted();
    }
    let counts = cpu::time_stamp() - start;
    apic::set_frequency(QEMU_APIC);
    (scale(counts, QEMU_APIC, u64::from(ticks)), BY_APIC)
}

/// `value * numerator / denominator`.
fn scale(value: u64, numerator: u64, denominator: u64) -> u64 {
    (u128::from(value) * u128::from(numerator) / u128::from(denominator.max(1))) as u64
}

fn by_processor() -> Option<u64> {
    let highest = cpu::cpuid(0, 0).eax;
    if highest >= 0x15 {
        let leaf = cpu::cpuid(0x15, 0);
        if leaf.eax != 0 && leaf.ebx != 0 && leaf.ecx != 0 {
            return Some(scale(u64::from(leaf.ecx), u64::from(leaf.ebx), u64::from(leaf.eax)));
        }
    }
    let megahertz = if highest >= 0x16 { cpu::cpuid(0x16, 0).eax & 0xffff } else { 0 };
    (megahertz != 0).then(|| u64::from(megahertz) * 1_000_000)
}

fn by_hypervisor() -> Option<u64> {
    let present = cpu::cpuid(1, 0).ecx >> 31 == 1 && cpu::cpuid(0x4000_0000, 0).eax >= 0x4000_0010;
    let kilohertz = if present { cpu::cpuid(0x4000_0010, 0).eax } else { 0 };
    (kilohertz != 0).then(|| u64::from(kilohertz) * 1000)
}

fn by_acpi_timer(port: u16) -> Option<u64> {
    // SAFETY: reads a timer that the firmware's tables name.
    let read = || u64::from(unsafe { cpu::read_port_32(port) } & 0xff_ffff);
    let goal = ACPI_TIMER * MEASURE / 1000;
    let first = read();
    let start = cpu::time_stamp();
    // A timer that stands still is no timer; the bound is far above what a measurement takes.
    for _ in 0..10_000_000 {
        let passed = read().wrapping_sub(first) & 0xff_ffff;
        if passed >= goal {
            return Some(scale(cpu::time_stamp() - start, ACPI_TIMER, passed));
        }
    }
    None
}

fn by_legacy_timer() -> Option<u64> {
    let goal = LEGACY_TIMER * MEASURE / 1000;
    // SAFETY: channel 2 of the legacy timer drives the speaker, which stays off, and nothing else.
    let read = || unsafe {
        cpu::write_port_8(0x43, 0x80);
        u64::from(cpu::read_port_8(0x42)) | u64::from(cpu::read_port_8(0x42)) << 8
    };
    // SAFETY: as above: gate on, speaker off; then mode 0, counting down from 0xffff.
    unsafe {
        cpu::write_port_8(0x61, cpu::read_port_8(0x61) & !2 | 1);
        cpu::write_port_8(0x43, 0xb0);
        cpu::write_port_8(0x42, 0xff);
        cpu::write_port_8(0x42, 0xff);
    }
    let first = read();
    let start = cpu::time_stamp();
    for attempt in 0..1_000_000 {
        let passed = first.wrapping_sub(read()) & 0xffff;
        if passed == 0 && attempt > 1000 {
            return None;
        }
        if passed >= goal {
            return Some(scale(cpu::time_stamp() - start, LEGACY_TIMER, passed));
        }
    }
    None
}
