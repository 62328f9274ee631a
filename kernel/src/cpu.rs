//! The processor's privileged instructions, one function each.
//!
//! Nothing here decides anything. A function is `unsafe` when some argument could break memory safety or the
//! machine; the callers say why theirs does not.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, CpuidResult};

/// Model-specific registers (Intel SDM volume 4; AMD APM volume 2, appendix A).
pub mod msr {
    pub const APIC_BASE: u32 = 0x1b;
    pub const TSC_DEADLINE: u32 = 0x6e0;
    pub const X2APIC: u32 = 0x800;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
}

/// CPUID leaf `leaf`, sub-leaf `sub`.
pub fn cpuid(leaf: u32, sub: u32) -> CpuidResult {
    __cpuid_count(leaf, sub)
}

/// The time stamp counter.
#[inline(always)]
pub fn time_stamp() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter, touches nothing else.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Reads a model-specific register.
///
/// # Safety
/// The register exists on this processor (else the read faults).
#[inline(always)]
pub unsafe fn read_msr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller vouches for the register; reading has no other effect.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// The register exists and the value is right for it.
#[inline(always)]
pub unsafe fn write_msr(register: u32, value: u64) {
    // SAFETY: the caller vouches for both.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags));
    }
}

macro_rules! read_control_register {
    ($function:ident, $name:literal) => {
        #[doc = concat!("Reads ", $name, ".")]
        #[inline(always)]
        pub fn $function() -> u64 {
            let value: u64;
            // SAFETY: the kernel runs at privilege level 0, where reading has no effect.
            unsafe { asm!(concat!("mov {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
    };
}

macro_rules! write_control_register {
    ($function:ident, $name:literal) => {
        #[doc = concat!("Writes ", $name, ".")]
        ///
        /// # Safety
        /// The value keeps the running code mapped and sets no bit that this processor lacks.
        #[inline(always)]
        pub unsafe fn $function(value: u64) {
            // SAFETY: the caller vouches for the value.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    };
}

read_control_register!(read_cr0, "cr0");
read_control_register!(read_cr2, "cr2");
read_control_register!(read_cr3, "cr3");
read_control_register!(read_cr4, "cr4");
write_control_register!(write_cr0, "cr0");
write_control_register!(write_cr3, "cr3");
write_control_register!(write_cr4, "cr4");

/// Sets CR0.TS: the next vector instruction faults.
#[inline(always)]
pub fn forbid_vector() {
    // SAFETY: the kernel itself uses no vector instruction but those in `vector.rs`, which clear the bit first.
    unsafe { write_cr0(read_cr0() | 8) };
}

/// Clears CR0.TS.
#[inline(always)]
pub fn allow_vector() {
    // SAFETY: only lets vector instructions through.
    unsafe { asm!("clts", options(nomem, nostack, preserves_flags)) };
}

/// Drops this processor's translation of one page.
#[inline(always)]
pub fn invalidate_page(address: u64) {
    // SAFETY: dropping a translation never changes what memory holds.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// Writes what the processor's cache holds of the line at an address back to memory.
pub fn write_back(address: *const u8) {
    // SAFETY: memory holds the same before and after; the instruction is there in every x86-64 processor.
    unsafe { asm!("clflush [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// Tells the processor that this is a loop that waits.
#[inline(always)]
pub fn pause() {
    core::hint::spin_loop();
}

/// Stops until the next interrupt, with interrupts open meanwhile.
pub fn wait_for_interrupt() {
    // SAFETY: interrupts are handled on this stack by `traps.rs`; the caller holds no lock.
    unsafe { asm!("sti", "hlt", "cli") };
}

/// Lets pending interrupts in, once.
pub fn interrupt_window() {
    // SAFETY: as in `wait_for_interrupt`.
    unsafe { asm!("sti", "nop", "cli") };
}

/// Stops this processor for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: interrupts are off; only an NMI ends the wait, and then the loop goes on.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

macro_rules! port_access {
    ($read:ident, $write:ident, $type:ty, $register:tt) => {
        /// Reads an I/O port of this width.
        ///
        /// # Safety
        /// Reading the port has no effect on memory that the kernel uses.
        #[inline]
        pub unsafe fn $read(port: u16) -> $type {
            let value: $type;
            // SAFETY: the caller vouches for the port.
            unsafe { asm!(concat!("in ", $register, ", dx"), in("dx") port, out($register) value, options(nomem, nostack, preserves_flags)) };
            value
        }

        /// Writes an I/O port of this width.
        ///
        /// # Safety
        /// As for reading.
        #[inline]
        pub unsafe fn $write(port: u16, value: $type) {
            // SAFETY: the caller vouches for the port.
            unsafe { asm!(concat!("out dx, ", $register), in("dx") port, in($register) value, options(nostack, preserves_flags)) };
        }
    };
}

port_access!(read_port_8, write_port_8, u8, "al");
port_access!(read_port_16, write_port_16, u16, "ax");
port_access!(read_port_32, write_port_32, u32, "eax");
