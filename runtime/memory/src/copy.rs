//! Copies between memory that others change meanwhile and memory that is one's own.

/// Copies `length` bytes.
///
/// # Safety
/// Both ranges are mapped and do not overlap; nobody holds a reference to what is written. Either may be changed by others
/// meanwhile, if no reference to it exists: then what is copied is a mixture.
#[cfg(target_arch = "x86_64")]
#[inline]
pub unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // An instruction, not `copy_nonoverlapping`: the compiler may not assume that the memory stands still.
    // SAFETY: the caller vouches for the ranges; the direction flag is clear, as the calling convention demands.
    unsafe {
        core::arch::asm!(
            "rep movsq",
            "mov rcx, {rest}",
            "rep movsb",
            rest = in(reg) length % 8,
            inout("rcx") length / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}
