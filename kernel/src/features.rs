//! Switches on what protects the kernel, on each processor: WP, SMEP, SMAP, UMIP, global pages; and the registers of
//! `syscall`.
//!
//! What a processor lacks is left out. NX and `syscall` itself were switched on by the first instructions (`boot_entry.rs`).

use core::sync::atomic::Ordering;

use tessera_core::Door;

use crate::cpu::{self, msr};
use crate::processor::Processor;
use crate::segments::{KERNEL_CODE, KERNEL_DATA};
use crate::{entry, vector};

const CR0_MONITOR: u64 = 1 << 1;
const CR0_EMULATION: u64 = 1 << 2;
const CR0_NUMERIC_ERROR: u64 = 1 << 5;
const CR0_WRITE_PROTECT: u64 = 1 << 16;

const CR4_PAE: u64 = 1 << 5;
const CR4_MACHINE_CHECK: u64 = 1 << 6;
const CR4_GLOBAL: u64 = 1 << 7;
const CR4_FXSAVE: u64 = 1 << 9;
const CR4_VECTOR_EXCEPTIONS: u64 = 1 << 10;
const CR4_UMIP: u64 = 1 << 11;
const CR4_XSAVE: u64 = 1 << 18;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;

/// Flags that `syscall` clears: all that an entry may not inherit (trap, interrupts, direction, I/O level, nested task, alignment).
const SYSCALL_CLEARS: u64 = 0x4_7700;

/// Switches all on, and points GS to the processor's block. With the real tables and segments loaded.
pub fn initialize(processor: &'static Processor) {
    let basic = cpu::cpuid(1, 0);
    let structured = cpu::cpuid(7, 0);
    let extended = basic.ecx >> 26 & 1 == 1;
    let mut cr4 = CR4_PAE | CR4_MACHINE_CHECK | CR4_GLOBAL | CR4_FXSAVE | CR4_VECTOR_EXCEPTIONS;
    for (there, bit) in [
        (extended, CR4_XSAVE),
        (structured.ebx >> 7 & 1 == 1, CR4_SMEP),
        (structured.ebx >> 20 & 1 == 1, CR4_SMAP),
        (structured.ecx >> 2 & 1 == 1, CR4_UMIP),
    ] {
        if there {
            cr4 |= bit;
        }
    }
    // SAFETY: each bit was asked for (machine checks, global pages, FXSAVE and SSE are part of x86-64); the kernel touches
    // no user page, so SMEP and SMAP stop nothing of its own. The MSRs are those of `syscall` and GS.
    unsafe {
        cpu::write_cr4(cr4);
        cpu::write_cr0((cpu::read_cr0() & !CR0_EMULATION) | CR0_MONITOR | CR0_NUMERIC_ERROR | CR0_WRITE_PROTECT);
        cpu::write_msr(msr::STAR, u64::from(KERNEL_DATA | 3) << 48 | u64::from(KERNEL_CODE) << 32);
        cpu::write_msr(msr::LSTAR, entry::system_call_address(Door::Closed));
        cpu::write_msr(msr::SFMASK, SYSCALL_CLEARS);
        cpu::write_msr(msr::FS_BASE, 0);
        cpu::write_msr(msr::KERNEL_GS_BASE, 0);
        cpu::write_msr(msr::GS_BASE, processor.this.load(Ordering::Relaxed) as u64);
    }
    vector::initialize(extended);
}
