//! One unit: its registers (VT-d, chapter 10). Used by boot, which is alone, and by the holder of the big lock.

use core::fmt;

use tessera_core::{DeviceId, Frame};

use crate::apic;
use crate::{cpu, memory};

const VERSION: u64 = 0x00;
const CAPABILITIES: u64 = 0x08;
const FURTHER_CAPABILITIES: u64 = 0x10;
const COMMAND: u64 = 0x18;
const STATUS: u64 = 0x1c;
const ROOT: u64 = 0x20;
const CONTEXT_COMMAND: u64 = 0x28;
const FAULT_STATUS: u64 = 0x34;
const FAULT_CONTROL: u64 = 0x38;
const FAULT_DATA: u64 = 0x3c;
const FAULT_ADDRESS: u64 = 0x40;
const FAULT_ADDRESS_HIGH: u64 = 0x44;

/// In command and status alike.
const TRANSLATE: u32 = 1 << 31;
const SET_ROOT: u32 = 1 << 30;
const QUEUED: u32 = 1 << 26;
const REMAP_INTERRUPTS: u32 = 1 << 25;

/// Begins to forget what was looked up, everything of all devices; zero when that is done (10.4.7, 10.4.8.1).
const BUSY: u64 = 1 << 63;
const ALL_CONTEXTS: u64 = 1 << 61;
const ALL_PAGES: u64 = 1 << 60;
/// Accesses under way are over before it is done.
const DRAIN: u64 = 0b11 << 48;

/// In the fault status: a record overflowed; a record is pending.
const OVERFLOW: u32 = 1;
const PENDING: u32 = 1 << 1;
/// In the fault control: no interrupt.
const MASKED: u32 = 1 << 31;
/// In the upper half of a record: it is one; the device read.
const RECORDED: u64 = 1 << 63;
const READ: u64 = 1 << 62;

/// How often a register is read that tells when something is done.
const PATIENCE: u32 = 100_000_000;
/// From this version on there are no commands through registers.
const QUEUED_ONLY: u32 = 6;

/// One unit.
pub struct Unit {
    base: u64,
    capabilities: u64,
    further: u64,
}

/// An access that was refused.
pub struct Fault {
    pub device: DeviceId,
    page: u64,
    is_read: bool,
    /// VT-d, appendix A.
    reason: u8,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeviceId(device) = self.device;
        let (bus, slot, function) = (device >> 8 & 0xff, device >> 3 & 31, device & 7);
        let what = if self.is_read { "read" } else { "write" };
        write!(
            formatter,
            "device {bus:02x}:{slot:02x}.{function} was kept from memory that it was not given: a {what} at {:#x} (reason {})",
            self.page, self.reason
        )
    }
}

impl Unit {
    /// The unit with its registers at `address`; none if it cannot be driven.
    #[optimize(size)]
    pub fn find(address: u64) -> Option<Unit> {
        const DIRECT_END: u64 = 4 << 30;
        if address == 0 || address >= DIRECT_END {
            return None;
        }
        let mut unit = Unit { base: address, capabilities: 0, further: 0 };
        unit.capabilities = unit.read_64(CAPABILITIES);
        unit.further = unit.read_64(FURTHER_CAPABILITIES);
        (unit.read_32(VERSION) >> 4 & 0xf < QUEUED_ONLY).then_some(unit)
    }

    fn read_32(&self, register: u64) -> u32 {
        // SAFETY: the direct map has the unit's registers, uncached; the holder of the lock alone uses them.
        unsafe { memory::direct(self.base + register).cast::<u32>().read_volatile() }
    }

    fn read_64(&self, register: u64) -> u64 {
        // SAFETY: as for `read_32`.
        unsafe { memory::direct(self.base + register).cast::<u64>().read_volatile() }
    }

    fn write_32(&self, register: u64, value: u32) {
        // SAFETY: as for `read_32`; the tables that the unit is told are the kernel's, and lead devices to core's frames only.
        unsafe { memory::direct(self.base + register).cast::<u32>().write_volatile(value) }
    }

    fn write_64(&self, register: u64, value: u64) {
        // SAFETY: as for `write_32`.
        unsafe { memory::direct(self.base + register).cast::<u64>().write_volatile(value) }
    }

    fn wait(&self, is_done: impl Fn() -> bool) {
        for _ in 0..PATIENCE {
            if is_done() {
                return;
            }
            cpu::pause();
        }
        // Nobody could say any more what devices reach.
        panic!("the IOMMU at {:#x} does not answer", self.base);
    }

    /// Whether a device's tables can have so many levels, 3 or 4.
    pub fn walks(&self, levels: u32) -> bool {
        self.capabilities >> (8 + levels - 2) & 1 == 1
    }

    /// How many numbers of roots there are.
    pub fn numbers(&self) -> u32 {
        1 << (4 + 2 * (self.capabilities & 7)).min(16)
    }

    /// Whether it sees the processor's cache.
    pub fn is_coherent(&self) -> bool {
        self.further & 1 == 1
    }

    /// Whether it may remember that an entry was not there, or sees a write of one late: both end when it is told to forget.
    pub fn remembers_absence(&self) -> bool {
        const CACHING_MODE: u64 = 1 << 7;
        const WRITE_BUFFER: u64 = 1 << 4;
        self.capabilities & (CACHING_MODE | WRITE_BUFFER) != 0
    }

    fn command(&self, command: u32, mask: u32) {
        self.write_32(COMMAND, command);
        self.wait(|| (self.read_32(STATUS) ^ command) & mask == 0);
    }

    /// Ends what the firmware had it do; from now on devices reach what `root` leads to.
    pub fn start(&self, root: Frame) {
        self.command(0, TRANSLATE | QUEUED | REMAP_INTERRUPTS);
        self.write_64(ROOT, super::tables::address(root));
        self.command(SET_ROOT, SET_ROOT);
        self.forget();
        let (address, data) = apic::message_to(0, apic::IOMMU);
        self.write_32(FAULT_DATA, data);
        self.write_32(FAULT_ADDRESS, address as u32);
        self.write_32(FAULT_ADDRESS_HIGH, (address >> 32) as u32);
        while self.fault().is_some() {}
        self.write_32(FAULT_CONTROL, 0);
        self.command(TRANSLATE, TRANSLATE);
    }

    /// Forgets all that was looked up in tables.
    pub fn forget(&self) {
        self.write_64(CONTEXT_COMMAND, BUSY | ALL_CONTEXTS);
        self.wait(|| self.read_64(CONTEXT_COMMAND) & BUSY == 0);
        let pages = (self.further >> 8 & 0x3ff) * 16 + 8;
        self.write_64(pages, BUSY | ALL_PAGES | DRAIN);
        self.wait(|| self.read_64(pages) & BUSY == 0);
    }

    /// Takes the record of an access that was refused, if there is one.
    pub fn fault(&self) -> Option<Fault> {
        if self.read_32(FAULT_STATUS) & PENDING == 0 {
            self.write_32(FAULT_STATUS, OVERFLOW);
            return None;
        }
        let (first, count) = ((self.capabilities >> 24 & 0x3ff) * 16, (self.capabilities >> 40 & 0xff) + 1);
        let record = (0..count).map(|index| first + index * 16).find(|at| self.read_64(at + 8) & RECORDED != 0)?;
        let (low, high) = (self.read_64(record), self.read_64(record + 8));
        self.write_32(record + 12, (RECORDED >> 32) as u32);
        Some(Fault {
            device: DeviceId(high as u32 & 0xffff),
            page: low & !0xfff,
            is_read: high & READ != 0,
            reason: (high >> 32) as u8,
        })
    }

    /// Has it send no more interrupts.
    pub fn stop_reports(&self) {
        self.write_32(FAULT_CONTROL, MASKED);
    }
}
