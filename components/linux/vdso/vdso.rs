//! The code that is mapped into every program (vdso(7)): tells the time without a call.
//!
//! It runs in the guest, with the guest's rights. In the page before its first byte are the numbers that the clocks are computed
//! from (`program::vdso` writes them); the page is read-only here. What these functions do not know they ask by a call. It is built
//! and linked by the build script; nothing may need a relocation, since nobody relocates it.
#![no_std]

use core::arch::asm;

/// What stands in the page before: ticks a second of the time stamp counter, ticks at boot, and nanoseconds from 1970 to boot.
#[repr(C)]
struct Data {
    frequency: u64,
    first_tick: u64,
    wall: i64,
}

const SECOND: u64 = 1_000_000_000;
/// System calls, for the clocks that are not computed here.
const CLOCK_GETTIME: u64 = 228;

fn data() -> *const Data {
    let address;
    // SAFETY: computes an address.
    unsafe { asm!("lea {}, [rip + vdso_data]", out(reg) address, options(pure, nomem, nostack)) };
    address
}

/// Nanoseconds since boot, and from 1970 to boot.
fn now() -> (u64, i64) {
    let data = data();
    // SAFETY: the personality maps the page before the code, and changes `wall` alone, eight bytes at once.
    let (frequency, first, wall) = unsafe { ((*data).frequency, (*data).first_tick, (&raw const (*data).wall).read_volatile()) };
    let (low, high): (u64, u64);
    // SAFETY: reads the counter, after the loads before.
    unsafe { asm!("lfence", "rdtsc", out("rax") low, out("rdx") high, options(nomem, nostack)) };
    let ticks = (high << 32 | low).saturating_sub(first);
    let nanoseconds;
    // SAFETY: the quotient fits for 584 years, so the division does not fault. A 128-bit division in Rust would be a call.
    unsafe {
        asm!(
            "mul {second}",
            "div {frequency}",
            second = in(reg) SECOND,
            frequency = in(reg) frequency,
            inout("rax") ticks => nanoseconds,
            out("rdx") _,
            options(pure, nomem, nostack),
        );
    }
    (nanoseconds, wall)
}

fn wall_now() -> u64 {
    let (since_boot, wall) = now();
    wall.wrapping_add(since_boot as i64).max(0) as u64
}

/// `clock_gettime`.
///
/// # Safety
/// `to` is what the program says: it may fault as the program itself might.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_clock_gettime(clock: i32, to: *mut [u64; 2]) -> i32 {
    let time = match clock {
        // CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI
        0 | 5 | 11 => wall_now(),
        // CLOCK_MONOTONIC, _RAW, _COARSE, CLOCK_BOOTTIME
        1 | 4 | 6 | 7 => now().0,
        _ => {
            let result: u64;
            // SAFETY: a system call, which leaves `rcx` and `r11` changed.
            unsafe {
                asm!("syscall", inout("rax") CLOCK_GETTIME => result, in("rdi") clock as i64, in("rsi") to, out("rcx") _, out("r11") _, options(nostack));
            }
            return result as i32;
        }
    };
    // SAFETY: the program's own pointer.
    unsafe { to.write_unaligned([time / SECOND, time % SECOND]) };
    0
}

/// `gettimeofday`.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_gettimeofday(to: *mut [u64; 2], zone: *mut u64) -> i32 {
    if !to.is_null() {
        let time = wall_now();
        // SAFETY: the program's own pointer.
        unsafe { to.write_unaligned([time / SECOND, time % SECOND / 1000]) };
    }
    if !zone.is_null() {
        // SAFETY: the program's own pointer.
        unsafe { zone.write_unaligned(0) };
    }
    0
}

/// `time`.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_time(to: *mut u64) -> u64 {
    let seconds = wall_now() / SECOND;
    if !to.is_null() {
        // SAFETY: the program's own pointer.
        unsafe { to.write_unaligned(seconds) };
    }
    seconds
}

/// `getcpu`: the first processor, as the call tells.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_getcpu(processor: *mut u32, node: *mut u32, _unused: *mut u8) -> i32 {
    for to in [processor, node] {
        if !to.is_null() {
            // SAFETY: the program's own pointer.
            unsafe { to.write_unaligned(0) };
        }
    }
    0
}
