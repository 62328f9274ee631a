//! `memcpy` and `memcmp`, which compiled code calls for what lies in one's own memory. Those that come with the compiler begin three string instructions
//! for each copy and look at single bytes; most copies are of a few words.
//!
//! Parts overlap in place of a loop for what is left: 13 bytes are the first 8 and the last 8.

use core::arch::naked_asm;

/// Copies `length` bytes; answers `to`.
///
/// # Safety
/// Both ranges are valid and do not overlap.
#[cfg_attr(target_os = "none", unsafe(export_name = "memcpy"))]
#[unsafe(naked)]
pub unsafe extern "C" fn copy_bytes(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "ja 3f",
        "cmp edx, 8",
        "jb 2f",
        "mov rcx, [rsi]",
        "mov r8, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], r8",
        "ret",
        "2:",
        "cmp edx, 4",
        "jb 2f",
        "mov ecx, [rsi]",
        "mov r8d, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], r8d",
        "ret",
        "2:",
        "sub edx, 1",
        "jb 4f",
        // One to three: the first, the middle, the last.
        "mov r9d, edx",
        "shr r9d",
        "movzx ecx, byte ptr [rsi]",
        "movzx r8d, byte ptr [rsi + r9]",
        "movzx r10d, byte ptr [rsi + rdx]",
        "mov [rdi], cl",
        "mov [rdi + r9], r8b",
        "mov [rdi + rdx], r10b",
        "4:",
        "ret",
        "3:",
        "cmp rdx, 32",
        "ja 3f",
        "mov rcx, [rsi]",
        "mov r8, [rsi + 8]",
        "mov r9, [rsi + rdx - 16]",
        "mov r10, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + 8], r8",
        "mov [rdi + rdx - 16], r9",
        "mov [rdi + rdx - 8], r10",
        "ret",
        "3:",
        "mov r8, [rsi + rdx - 8]",
        "lea r9, [rdi + rdx - 8]",
        "lea rcx, [rdx - 1]",
        "shr rcx, 3",
        "rep movsq",
        "mov [r9], r8",
        "ret",
    )
}

/// Compares `length` bytes as numbers of that many digits: less than 0, 0, or more.
///
/// # Safety
/// Both ranges are valid.
#[cfg_attr(target_os = "none", unsafe(export_name = "memcmp"))]
#[unsafe(naked)]
pub unsafe extern "C" fn compare_bytes(one: *const u8, other: *const u8, length: usize) -> i32 {
    naked_asm!(
        "sub rdx, 8",
        "jb 4f",
        "xor ecx, ecx",
        "2:",
        "mov rax, [rdi + rcx]",
        "mov r8, [rsi + rcx]",
        "cmp rax, r8",
        "jne 3f",
        "add rcx, 8",
        "cmp rcx, rdx",
        "jb 2b",
        "mov rax, [rdi + rdx]",
        "mov r8, [rsi + rdx]",
        "cmp rax, r8",
        "jne 3f",
        "xor eax, eax",
        "ret",
        "3:",
        "bswap rax",
        "bswap r8",
        "cmp rax, r8",
        "sbb eax, eax",
        "or eax, 1",
        "ret",
        // Fewer than 8, byte by byte.
        "4:",
        "xor ecx, ecx",
        "xor eax, eax",
        "add edx, 8",
        "jz 6f",
        "5:",
        "movzx eax, byte ptr [rdi + rcx]",
        "movzx r8d, byte ptr [rsi + rcx]",
        "sub eax, r8d",
        "jne 6f",
        "inc ecx",
        "cmp ecx, edx",
        "jb 5b",
        "6:",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn every_length_is_copied_and_nothing_beside_it() {
        let from: Vec<u8> = (1..=200).collect();
        for length in 0..=150 {
            for start in [0, 1, 7, 9] {
                let mut to = [0; 200];
                // SAFETY: at most 9 + 150 of 200 bytes.
                let answer = unsafe { copy_bytes(to.as_mut_ptr().add(start), from.as_ptr().add(3), length) };
                assert_eq!(answer, to.as_mut_ptr().wrapping_add(start));
                assert_eq!(to[start..start + length], from[3..3 + length]);
                assert!(to[..start].iter().chain(&to[start + length..]).all(|byte| *byte == 0), "{length}");
            }
        }
    }

    #[test]
    fn bytes_compare_as_slices_do() {
        for length in 0..=40 {
            let one: Vec<u8> = (0..length).map(|place| (place as u8).wrapping_mul(37)).collect();
            // SAFETY: both have as many bytes.
            let compare = |one: &[u8], other: &[u8]| unsafe { compare_bytes(one.as_ptr(), other.as_ptr(), one.len()) };
            assert_eq!(compare(&one, &one.clone()), 0);
            for place in 0..length {
                for changed in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut other = one.clone();
                    other[place] = changed;
                    // What comes behind it plays no part.
                    other[place + 1..].reverse();
                    assert_eq!(compare(&one, &other).cmp(&0), one.cmp(&other), "{one:?} {other:?}");
                }
            }
        }
    }
}
