//! Clocks, and random numbers.

use core::arch::asm;

use crate::errno::{Errno, Result};
use crate::world;

const SECOND: u64 = 1_000_000_000;
const CLOCK_REALTIME: i32 = 1;
const CLOCK_MONOTONIC: i32 = 4;

/// `timespec`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TimeSpec {
    pub seconds: i64,
    pub nanoseconds: i32,
    /// Where C code reads the upper half of the nanoseconds.
    zero: i32,
}

impl TimeSpec {
    /// From nanoseconds.
    pub fn new(nanoseconds: u64) -> TimeSpec {
        TimeSpec::of((nanoseconds / SECOND) as i64, (nanoseconds % SECOND) as i32)
    }

    /// From both parts.
    pub fn of(seconds: i64, nanoseconds: i32) -> TimeSpec {
        TimeSpec { seconds, nanoseconds, zero: 0 }
    }

    /// In nanoseconds; times before 0 are 0.
    pub fn nanoseconds(self) -> u64 {
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        seconds.saturating_mul(SECOND).saturating_add(u64::try_from(self.nanoseconds).unwrap_or(0))
    }
}

/// # Safety
/// `to` must be null or a `timespec` that nobody else uses meanwhile.
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_clock_gettime(clock: i32, to: *mut TimeSpec) -> i32 {
    let time = match clock {
        CLOCK_REALTIME => Ok(world().date()),
        CLOCK_MONOTONIC => Ok(crate::now()),
        _ => Err(Errno::EINVAL),
    };
    super::told_done(time.and_then(|time| {
        // SAFETY: passed on.
        let to = unsafe { to.as_mut() }.ok_or(Errno::EFAULT)?;
        *to = TimeSpec::new(time);
        Ok(())
    }))
}

/// # Safety
/// As [`super::bytes_mut`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_read_entropy(to: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: passed on.
    let filled = unsafe { super::bytes_mut(to, length) }.and_then(|to| match world().random(to) {
        Err(Errno::ENOSYS) => from_processor(to),
        other => other,
    });
    super::told(filled.map(|()| length))
}

/// Random numbers of the processor's own source, where the image gives no other.
fn from_processor(to: &mut [u8]) -> Result<()> {
    /// CPUID leaf 1, ecx.
    const RDRAND: u32 = 1 << 30;
    if core::arch::x86_64::__cpuid(1).ecx & RDRAND == 0 {
        return Err(Errno::ENOSYS);
    }
    for piece in to.chunks_mut(8) {
        let number = (0..100).find_map(|_| random()).ok_or(Errno::EIO)?;
        for (to, from) in piece.iter_mut().zip(number.to_ne_bytes()) {
            *to = from;
        }
    }
    Ok(())
}

/// Intel SDM volume 2, RDRAND: the carry flag says whether there was a number.
fn random() -> Option<u64> {
    let (number, is_there): (u64, u8);
    // SAFETY: the processor has the instruction, which changes a register and the flags only.
    unsafe { asm!("rdrand {}", "setc {}", out(reg) number, out(reg_byte) is_there, options(nomem, nostack)) };
    (is_there != 0).then_some(number)
}
