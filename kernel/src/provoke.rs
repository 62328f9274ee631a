//! Crashes that the command line asks for (`crash=KIND`), so that reports are tested like everything else.
//!
//! The command line comes from whoever boots the machine, who can end it anyway. Called at the end of boot, when all processors run
//! and interrupts are off; the functions are not inlined, so that the report has their names to show.

use core::arch::asm;
use core::hint::black_box;

/// Crashes as the first of `words` that begins with `crash=` says. An unknown kind is an error of whoever wrote it.
pub fn as_told<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<(), &'static str> {
    match words.find_map(|word| word.strip_prefix("crash=")) {
        None => {}
        Some("panic") => panic_on_purpose(),
        Some("fault") => fault_on_purpose(),
        Some("instruction") => undefined_on_purpose(),
        Some("stack") => {
            overflow_on_purpose(0);
        }
        Some(_) => {
            return Err("the command line asks for a crash of no known kind: panic, fault, instruction or stack");
        }
    }
    Ok(())
}

#[inline(never)]
fn panic_on_purpose() {
    panic!("the command line asks for a panic");
}

#[inline(never)]
fn fault_on_purpose() {
    // SAFETY: nothing is mapped at the bottom of the address space while the kernel's own root is loaded: this faults, as is asked for.
    unsafe { asm!("mov qword ptr [{}], 0", in(reg) 0x10_u64, options(nostack)) };
}

#[inline(never)]
fn undefined_on_purpose() {
    // SAFETY: an undefined instruction changes nothing.
    unsafe { asm!("ud2", options(nostack, nomem)) };
}

/// Calls itself until the hole under the stack is reached.
#[inline(never)]
fn overflow_on_purpose(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    let sum = if black_box(true) { overflow_on_purpose(depth + 1) } else { 0 };
    sum + room[(depth % 64) as usize]
}
