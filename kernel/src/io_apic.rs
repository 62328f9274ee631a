//! The I/O interrupt controllers: one redirection entry for each device line (Intel 82093AA data sheet, section 3.2).
//!
//! A line's number is ACPI's "global system interrupt". All lines are masked at boot and go to the first processor.
//! A level-triggered line is masked when it fires, until core enables it again; an edge-triggered one need not be.
//! Used by boot, which is alone, and by the holder of the big lock.

use core::sync::atomic::Ordering;

use crate::acpi_tables::{Controller, Description};
use crate::apic::{FIRST_VECTOR, LINES};
use crate::once::Once;
use crate::processor::Processor;
use crate::{cpu, memory};

const VERSION: u32 = 1;
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const LOW: u32 = 1 << 13;
/// Lines of the legacy controllers; the others are PCI's by default: level-triggered.
const LEGACY_LINES: u32 = 16;

/// The controllers, with the number of lines of each.
static CONTROLLERS: Once<[Option<(Controller, u32)>; 4]> = Once::new();

fn read(controller: &Controller, register: u32) -> u32 {
    let window = memory::direct(controller.address);
    // SAFETY: the direct map has the controller's page, uncached; nobody else uses it at the same time.
    unsafe {
        window.cast::<u32>().write_volatile(register);
        window.add(16).cast::<u32>().read_volatile()
    }
}

fn write(controller: &Controller, register: u32, value: u32) {
    let window = memory::direct(controller.address);
    // SAFETY: as for `read`.
    unsafe {
        window.cast::<u32>().write_volatile(register);
        window.add(16).cast::<u32>().write_volatile(value);
    }
}

/// Masks the legacy controllers. Before the local controller is told not to listen to them: what they had asked for until then is taken
/// back, which QEMU does only while that one listens. Else the processor finds an interrupt without a vector, once interrupts are on.
pub fn silence_legacy() {
    for port in [0x21, 0xa1] {
        // SAFETY: masks the legacy interrupt controllers; where there are none, nothing answers.
        unsafe { cpu::write_port_8(port, 0xff) };
    }
}

/// Masks all lines of all controllers; answers one more than the highest line.
#[optimize(size)]
pub fn initialize(description: &Description) -> u32 {
    let target = Processor::current().apic.load(Ordering::Relaxed);
    let mut end = 0;
    let found = description.controllers.each_ref().map(|controller| {
        let controller = controller.as_ref()?;
        let lines = (read(controller, VERSION) >> 16 & 0xff) + 1;
        for pin in 0..lines {
            let line = controller.first + pin;
            if line >= LINES {
                break;
            }
            let default = if line < LEGACY_LINES { 0 } else { LEVEL };
            let shape = description.shapes.iter().flatten().find(|shape| shape.line == line).map_or(default, |shape| {
                let level = if shape.level { LEVEL } else { 0 };
                level | if shape.low { LOW } else { 0 }
            });
            write(controller, REDIRECTION + pin * 2 + 1, target << 24);
            write(controller, REDIRECTION + pin * 2, MASKED | shape | (FIRST_VECTOR as u32 + line));
            end = end.max(line + 1);
        }
        Some((controller.clone(), lines))
    });
    CONTROLLERS.set(found);
    end
}

/// Masks or unmasks a line. An unknown line is left alone.
pub fn enable(line: u32, enabled: bool) {
    let Some(controllers) = CONTROLLERS.get() else { return };
    for (controller, lines) in controllers.iter().flatten() {
        if line >= controller.first && line - controller.first < *lines && line < LINES {
            let register = REDIRECTION + (line - controller.first) * 2;
            let value = read(controller, register);
            write(controller, register, if enabled { value & !MASKED } else { value | MASKED });
        }
    }
}

/// A line fired: keeps a level-triggered one from firing again at once.
pub fn fired(line: u32) {
    let Some(controllers) = CONTROLLERS.get() else { return };
    for (controller, lines) in controllers.iter().flatten() {
        if line >= controller.first && line - controller.first < *lines {
            let register = REDIRECTION + (line - controller.first) * 2;
            let value = read(controller, register);
            if value & LEVEL != 0 {
                write(controller, register, value | MASKED);
            }
        }
    }
}
