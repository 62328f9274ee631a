//! Interrupts and exceptions: what each vector means, and who is told.
//!
//! In a program, in whichever mode it runs, an exception is the running thread's fault and goes to core. In the kernel itself an
//! exception is a bug: it ends in the crash report. Interrupts come in programs, in the idle wait and in the windows between steps of
//! long work, never while this processor holds the big lock.

use core::sync::atomic::Ordering;

use tessera_abi::FaultKind;
use tessera_core::{Fault, Frame, Machine};

use crate::entry::{self, KernelFrame};
use crate::platform::Platform;
use crate::processor::Processor;
use crate::{apic, cpu, crash, flush, io_apic, lock, run, space};

const NMI: u64 = 2;
const DEVICE_NOT_AVAILABLE: u64 = 7;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;
const MACHINE_CHECK: u64 = 18;

/// Bits of a page fault's error code.
const FAULT_PRESENT: u64 = 1;
const FAULT_WRITE: u64 = 1 << 1;
const FAULT_USER: u64 = 1 << 2;
const FAULT_EXECUTE: u64 = 1 << 4;

/// An entry from a program; the thread's record holds its registers.
pub extern "C" fn from_program(own: &'static Processor, vector: u64, error: u64) -> ! {
    let address = cpu::read_cr2();
    if vector == NMI || vector == DOUBLE_FAULT || vector == MACHINE_CHECK {
        crash::stop_if_told();
        crash::exception_in_user(own, vector, error);
    }
    // SAFETY: an entry from a program, where this processor cannot hold the lock; interrupts are off.
    let machine = unsafe { lock::acquire() };
    let mut kernel = false;
    if let Some(activation) = machine.activation(own.number()) {
        activation.full = true;
        kernel = activation.kernel;
        if kernel {
            entry::finish_leaving(&mut activation.registers);
        }
    }
    if vector >= apic::FIRST_VECTOR {
        interrupt(own, machine, vector);
    } else if vector == PAGE_FAULT
        && error & FAULT_PRESENT == 0
        && space::catch_up(Frame(own.root.load(Ordering::Relaxed)), address)
    {
        // The page may be there now: the instruction tries again.
    } else {
        machine.fault(own.number(), describe(own, vector, error, address, kernel));
    }
    // SAFETY: the lock was taken above.
    unsafe { run::run(own, machine) }
}

/// An exception of a program, as core names it.
fn describe(own: &Processor, vector: u64, error: u64, address: u64, kernel: bool) -> Fault {
    let kind = match vector {
        // The processor itself looked at a page on the program's behalf (QEMU does at `iretq`): no mapping mends that.
        PAGE_FAULT if error & FAULT_USER == 0 && !kernel => FaultKind::Protection,
        PAGE_FAULT if error & FAULT_EXECUTE != 0 => FaultKind::Execute,
        PAGE_FAULT if error & FAULT_WRITE != 0 => FaultKind::Write,
        PAGE_FAULT => FaultKind::Read,
        0 => FaultKind::Divide,
        1 | 3 => FaultKind::Debug,
        6 => FaultKind::Instruction,
        DEVICE_NOT_AVAILABLE | 16 | 19 => FaultKind::FloatingPoint,
        17 => FaultKind::Alignment,
        _ => FaultKind::Protection,
    };
    let address = if vector == PAGE_FAULT {
        address
    } else {
        // SAFETY: the lock is held, so nobody else writes the record of the thread that ran here.
        unsafe { (*own.registers.load(Ordering::Relaxed)).rip }
    };
    Fault { kind, address }
}

/// Acknowledges an interrupt and tells core.
fn interrupt(own: &Processor, machine: &mut Machine<Platform>, vector: u64) {
    match vector {
        apic::TIMER => {
            apic::acknowledge();
            own.deadline.store(u64::MAX, Ordering::Relaxed);
            machine.timer(own.number());
        }
        apic::NOTIFY => {
            apic::acknowledge();
            machine.notified(own.number());
        }
        apic::FLUSH => {
            flush::serve();
            apic::acknowledge();
        }
        apic::IOMMU => {
            apic::acknowledge();
            if let Some(iommu) = &mut machine.hardware.iommu {
                iommu.report();
            }
        }
        apic::SPURIOUS => {}
        _ => {
            let line = (vector - apic::FIRST_VECTOR) as u32;
            io_apic::fired(line);
            apic::acknowledge();
            machine.interrupt(own.number(), line);
        }
    }
}

/// An entry from the kernel itself: an interrupt in one of its windows, or a bug.
pub extern "C" fn from_kernel(frame: &KernelFrame) {
    match frame.vector() {
        NMI => {
            crash::stop_if_told();
            crash::exception_in_kernel(frame);
        }
        apic::FLUSH => {
            flush::serve();
            apic::acknowledge();
        }
        vector if vector >= apic::FIRST_VECTOR => {
            // SAFETY: interrupts are open in the kernel only where the lock is not held.
            let machine = unsafe { lock::acquire() };
            interrupt(Processor::current(), machine, vector);
            // SAFETY: taken above, not used any more.
            unsafe { lock::release() };
        }
        _ => crash::exception_in_kernel(frame),
    }
}
