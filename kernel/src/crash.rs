//! The last words: what happened, where, the registers, and the way there; then the machine is turned off.
//!
//! Entered from a panic, from an exception in the kernel, or from one that no thread can answer for. Takes no lock, uses
//! neither GS nor the heap, and believes nothing that it reads. The lines' format is the host command's, which puts
//! names to the addresses: `  at kernel 0x...`, and `tessera: end of report` at the end.

use core::arch::asm;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::cpu::{self, msr};
use crate::entry::KernelFrame;
use crate::processor::{self, Processor};
use crate::serial::Console;
use crate::{apic, memory, paging, power};

/// Most callers that are listed.
const DEPTH: usize = 48;

/// The number of the exception.
const PAGE_FAULT: u64 = 14;

static CRASHED: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let frame: u64;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    report(
        |console| {
            write!(console, "{}", info.message())?;
            info.location().map_or(Ok(()), |place| write!(console, " ({}:{})", place.file(), place.line()))
        },
        None,
        None,
        frame,
    )
}

/// An exception in the kernel.
pub fn exception_in_kernel(frame: &KernelFrame) -> ! {
    let (name, address) = (name(frame.vector()), cpu::read_cr2());
    // The hole under each stack is reached at the stack pointer.
    let is_overflow = frame.vector() == PAGE_FAULT && address.abs_diff(frame.rsp) < tessera_abi::PAGE;
    let likely = if is_overflow { " (a stack overflow, most likely)" } else { "" };
    report(
        |console| write!(console, "{name}{likely}, error code {:#x}, address {address:#x}", frame.error),
        Some(frame),
        Some(frame.rip),
        frame.rbp,
    )
}

/// An exception that is the machine's fault, not the running thread's.
pub fn exception_in_user(own: &Processor, vector: u64, error: u64) -> ! {
    let name = name(vector);
    let registers = own.registers.load(Ordering::Relaxed);
    report(
        |console| {
            write!(console, "{name} in user mode, error code {error:#x}")?;
            // SAFETY: the record of the thread that ran on this processor, which nobody frees meanwhile.
            unsafe { registers.as_ref() }.map_or(Ok(()), |registers| write!(console, ", at {:#x}", registers.rip))
        },
        None,
        None,
        0,
    )
}

/// In an NMI: stops this processor if another one crashed.
pub fn stop_if_told() {
    if CRASHED.load(Ordering::Relaxed) {
        cpu::halt();
    }
}

#[optimize(size)]
fn report(
    what: impl FnOnce(&mut Console) -> core::fmt::Result,
    registers: Option<&KernelFrame>,
    at: Option<u64>,
    frame: u64,
) -> ! {
    if CRASHED.swap(true, Ordering::SeqCst) {
        // A second crash, here or elsewhere: the first one's report matters more.
        cpu::halt();
    }
    if processor::running().len() > 1 {
        apic::stop_others();
    }
    // Text that cannot be written cannot be reported either: errors end here.
    let _ = write_report(&mut Console, what, registers, at, frame);
    power::off_after_crash()
}

#[optimize(size)]
fn write_report(
    console: &mut Console,
    what: impl FnOnce(&mut Console) -> core::fmt::Result,
    registers: Option<&KernelFrame>,
    at: Option<u64>,
    frame: u64,
) -> core::fmt::Result {
    write!(console, "\ntessera: kernel crash on processor {}: ", number())?;
    what(console)?;
    writeln!(console)?;
    if let Some(frame) = registers {
        writeln!(console, "  rip {:#018x}  rsp {:#018x}  flags {:#x}", frame.rip, frame.rsp, frame.rflags)?;
        writeln!(
            console,
            "  rax {:#018x}  rbx {:#018x}  rcx {:#018x}  rdx {:#018x}",
            frame.rax, frame.rbx, frame.rcx, frame.rdx
        )?;
        writeln!(
            console,
            "  rsi {:#018x}  rdi {:#018x}  rbp {:#018x}  r8  {:#018x}",
            frame.rsi, frame.rdi, frame.rbp, frame.r8
        )?;
        writeln!(
            console,
            "  r9  {:#018x}  r10 {:#018x}  r11 {:#018x}  r12 {:#018x}",
            frame.r9, frame.r10, frame.r11, frame.r12
        )?;
        writeln!(
            console,
            "  r13 {:#018x}  r14 {:#018x}  r15 {:#018x}  cr3 {:#018x}",
            frame.r13,
            frame.r14,
            frame.r15,
            cpu::read_cr3()
        )?;
    }
    if let Some(at) = at {
        writeln!(console, "  at kernel {at:#018x}")?;
    }
    let mut frame = frame;
    for _ in 0..DEPTH {
        let Some((next, caller)) = caller(frame) else { break };
        writeln!(console, "  at kernel {caller:#018x}")?;
        if next <= frame {
            break;
        }
        frame = next;
    }
    writeln!(console, "tessera: end of report")
}

/// The saved frame pointer and the return address at `frame`, if that lies in a stack and the address in the text.
fn caller(frame: u64) -> Option<(u64, u64)> {
    let image = memory::image();
    let data = image.data.start + memory::KERNEL..image.data.end + memory::KERNEL;
    let in_stack = paging::is_stack(frame) && paging::is_stack(frame + 15) && !paging::is_guard(frame);
    if !frame.is_multiple_of(8) || !(in_stack || data.contains(&frame) && data.contains(&(frame + 15))) {
        return None;
    }
    // SAFETY: aligned, and in memory that is mapped for reading: a stack of a processor, or the image's data.
    let (next, caller) =
        unsafe { ((frame as *const u64).read_volatile(), (frame as *const u64).add(1).read_volatile()) };
    let text = image.text.start + memory::KERNEL..image.text.end + memory::KERNEL;
    text.contains(&caller).then_some((next, caller))
}

/// This processor's number, from whichever of the two GS registers holds its block now.
fn number() -> usize {
    for register in [msr::GS_BASE, msr::KERNEL_GS_BASE] {
        // SAFETY: both registers exist in long mode.
        let base = unsafe { cpu::read_msr(register) };
        if let Some(processor) =
            processor::running().iter().find(|processor| core::ptr::from_ref::<Processor>(processor) as u64 == base)
        {
            return processor.number();
        }
    }
    0
}

fn name(vector: u64) -> &'static str {
    match vector {
        0 => "division error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        6 => "undefined instruction",
        7 => "vector instruction",
        8 => "double fault",
        10 => "bad task state",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection fault",
        PAGE_FAULT => "page fault",
        16 | 19 => "floating point error",
        17 => "unaligned access",
        18 => "machine check",
        _ => "unexpected exception",
    }
}
