//! The serial console: COM1, 115200 baud, 8 bits, no parity, transmit only.
//!
//! Used for the boot log, for core's log and for crash reports; the last write without any lock, so this file keeps no
//! state. Registers: National Semiconductor PC16550D data sheet, section 8.

use core::fmt;

use crate::cpu;

const PORT: u16 = 0x3f8;
const TRANSMITTER_EMPTY: u8 = 0x20;
/// Reads of the status after which a byte is given up: without a UART the port reads as all ones or zeroes.
const PATIENCE: u32 = 100_000;

/// Sets line speed and format.
pub fn initialize() {
    let settings = [(1, 0x00), (3, 0x80), (0, 0x01), (1, 0x00), (3, 0x03), (2, 0xc7), (4, 0x03)];
    for (register, value) in settings {
        // SAFETY: COM1's registers affect nothing but the UART.
        unsafe { cpu::write_port_8(PORT + register, value) };
    }
}

/// Writes bytes as they are, a carriage return before each line feed.
pub fn write(bytes: &[u8]) {
    for &byte in bytes {
        if byte == b'\n' {
            write_byte(b'\r');
        }
        write_byte(byte);
    }
}

fn write_byte(byte: u8) {
    for _ in 0..PATIENCE {
        // SAFETY: as in `initialize`.
        if unsafe { cpu::read_port_8(PORT + 5) } & TRANSMITTER_EMPTY != 0 {
            break;
        }
        cpu::pause();
    }
    // SAFETY: as in `initialize`.
    unsafe { cpu::write_port_8(PORT, byte) };
}

/// The console as a place for formatted text.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

/// Prints one line on the console, with `tessera: ` before it.
#[macro_export]
macro_rules! log {
    ($($part:tt)*) => {{
        use core::fmt::Write as _;
        let _ = writeln!($crate::serial::Console, "tessera: {}", format_args!($($part)*));
    }};
}
