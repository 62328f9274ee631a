//! Memory: the program's heap is that of its domain.

use alloc::alloc::{alloc, alloc_zeroed, dealloc, realloc};
use core::alloc::Layout;
use core::ptr::null_mut;

/// # Safety
/// As [`core::alloc::GlobalAlloc::alloc`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_malloc(size: usize, align: usize) -> *mut u8 {
    match Layout::from_size_align(size, align) {
        // SAFETY: std asks for no memory of size 0 (`GlobalAlloc`).
        Ok(layout) => unsafe { alloc(layout) },
        Err(_) => null_mut(),
    }
}

/// # Safety
/// As [`core::alloc::GlobalAlloc::alloc`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_alloc(size: usize, align: usize) -> *mut u8 {
    // SAFETY: passed on.
    unsafe { sys_malloc(size, align) }
}

/// # Safety
/// As [`core::alloc::GlobalAlloc::alloc_zeroed`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_alloc_zeroed(size: usize, align: usize) -> *mut u8 {
    match Layout::from_size_align(size, align) {
        // SAFETY: as in `sys_malloc`.
        Ok(layout) => unsafe { alloc_zeroed(layout) },
        Err(_) => null_mut(),
    }
}

/// # Safety
/// As [`core::alloc::GlobalAlloc::realloc`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_realloc(old: *mut u8, size: usize, align: usize, new_size: usize) -> *mut u8 {
    match Layout::from_size_align(size, align) {
        // SAFETY: std gives back what it got from here, with the layout that it asked for.
        Ok(layout) => unsafe { realloc(old, layout, new_size) },
        Err(_) => null_mut(),
    }
}

/// # Safety
/// As [`core::alloc::GlobalAlloc::dealloc`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_free(old: *mut u8, size: usize, align: usize) {
    if let Ok(layout) = Layout::from_size_align(size, align) {
        // SAFETY: as in `sys_realloc`.
        unsafe { dealloc(old, layout) };
    }
}

/// # Safety
/// As [`core::alloc::GlobalAlloc::dealloc`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_dealloc(old: *mut u8, size: usize, align: usize) {
    // SAFETY: passed on.
    unsafe { sys_free(old, size, align) };
}
