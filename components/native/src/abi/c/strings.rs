//! What of musl's computes but cannot be taken from there: Debian's is compiled to look for damaged stacks, at a place that threads do not have here.

use core::ffi::{CStr, c_char, c_void};

use crate::merge::sorted;

/// How many bytes `text` begins with that are such.
///
/// # Safety
/// `text` is a text that ends with a zero byte.
unsafe fn span(text: *const c_char, is_such: impl Fn(u8) -> bool) -> usize {
    // SAFETY: passed on.
    let text = unsafe { CStr::from_ptr(text) }.to_bytes();
    text.iter().position(|byte| !is_such(*byte)).unwrap_or(text.len())
}

/// # Safety
/// Both are texts that end with a zero byte.
#[unsafe(export_name = "c:strspn")]
unsafe extern "C" fn strspn(text: *const c_char, these: *const c_char) -> usize {
    // SAFETY: passed on.
    unsafe {
        let these = CStr::from_ptr(these).to_bytes();
        span(text, |byte| these.contains(&byte))
    }
}

/// # Safety
/// Both are texts that end with a zero byte.
#[unsafe(export_name = "c:strcspn")]
unsafe extern "C" fn strcspn(text: *const c_char, others: *const c_char) -> usize {
    // SAFETY: passed on.
    unsafe {
        let others = CStr::from_ptr(others).to_bytes();
        span(text, |byte| !others.contains(&byte))
    }
}

/// # Safety
/// `first` begins `count` elements of `size` bytes, which `compare` takes pointers to.
#[unsafe(export_name = "c:qsort")]
unsafe extern "C" fn qsort(
    first: *mut u8,
    count: usize,
    size: usize,
    compare: unsafe extern "C" fn(*const c_void, *const c_void) -> i32,
) {
    if count < 2 || size == 0 {
        return;
    }
    // SAFETY: passed on.
    let elements = unsafe { core::slice::from_raw_parts_mut(first, count * size) };
    let before = elements.to_vec();
    // SAFETY: passed on: both are elements.
    let is_more = |one: &[u8], other: &[u8]| unsafe { compare(one.as_ptr().cast(), other.as_ptr().cast()) > 0 };
    for (to, from) in elements.chunks_exact_mut(size).zip(sorted(before.chunks_exact(size).collect(), is_more)) {
        to.copy_from_slice(from);
    }
}
