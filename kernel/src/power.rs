//! The end of the machine: power off with a code, or start again.
//!
//! The code reaches whoever started the machine through QEMU's `isa-debug-exit` device (port 0xf4): the kernel writes
//! the code and one, so that zero stays QEMU's own. Without that device the machine is turned off by ACPI, and the code
//! is lost.

use crate::acpi_tables::{Description, Register};
use crate::once::Once;
use crate::{cpu, memory};

const EXIT_PORT: u16 = 0xf4;
/// Larger codes are told as this one; 126 would be written as 127, which means a crash.
const LARGEST_CODE: u32 = 125;
/// What a crash writes.
const CRASH: u32 = 127;
const SLEEP_ENABLE_16: u16 = 1 << 13;
const SLEEP_ENABLE_8: u8 = 1 << 5;

static DESCRIPTION: Once<Description> = Once::new();

/// Keeps what the tables say.
pub fn set_description(description: Description) {
    DESCRIPTION.set(description);
}

/// Turns the machine off.
pub fn off(code: u32) -> ! {
    end(code.min(LARGEST_CODE) + 1)
}

/// Turns the machine off after a crash.
pub fn off_after_crash() -> ! {
    end(CRASH)
}

fn end(value: u32) -> ! {
    // SAFETY: ends QEMU, or reaches nothing.
    unsafe { cpu::write_port_32(EXIT_PORT, value) };
    if let Some(description) = DESCRIPTION.get() {
        if let Some((port, kind)) = description.power {
            // SAFETY: the port is the tables' power control (ACPI 6.5, section 4.8.3.2.1).
            unsafe { cpu::write_port_16(port, u16::from(kind) << 10 | SLEEP_ENABLE_16) };
        }
        if let Some((register, kind)) = description.sleep {
            write(register, kind << 2 | SLEEP_ENABLE_8);
        }
    }
    cpu::halt()
}

/// Starts the machine again: by ACPI, by the keyboard controller, by a triple fault.
pub fn reboot() -> ! {
    if let Some((register, value)) = DESCRIPTION.get().and_then(|description| description.reset) {
        write(register, value);
    }
    // SAFETY: port 0x64 is the keyboard controller, whose command 0xfe pulses the reset line. An empty interrupt table and a
    // breakpoint end in a triple fault, which resets the machine; nothing runs after it.
    unsafe {
        cpu::write_port_8(0x64, 0xfe);
        let empty = [0u8; 10];
        core::arch::asm!("lidt [{}]", "int3", in(reg) &empty);
    }
    cpu::halt()
}

fn write(register: Register, value: u8) {
    match register {
        // SAFETY: the firmware's tables say that this write ends or resets the machine.
        Register::Port(port) => unsafe { cpu::write_port_8(port, value) },
        // SAFETY: as above; the direct map has device memory below 4 GiB.
        Register::Memory(address) => unsafe { memory::direct(address).write_volatile(value) },
    }
}
