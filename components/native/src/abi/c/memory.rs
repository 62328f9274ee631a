//! Memory as C asks for it: before each piece stands how long it is, as it is given back without that.

use alloc::alloc::{alloc, alloc_zeroed, dealloc, realloc as change};
use core::alloc::Layout;
use core::ptr::null_mut;

use super::super::told;
use crate::errno::Errno;

/// Bytes before a piece, and what all pieces are multiples of: what any type of C is aligned to.
const HEAD: usize = 16;

/// That of a piece's memory.
fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(HEAD)?, HEAD).ok()
}

/// There is no memory for it.
fn none() -> *mut u8 {
    told(Err(Errno::ENOMEM));
    null_mut()
}

/// Makes a piece of what an allocator gave.
///
/// # Safety
/// `first` is null or begins memory of this layout.
unsafe fn piece(first: *mut u8, layout: Layout) -> *mut u8 {
    if first.is_null() {
        return none();
    }
    // SAFETY: the memory is longer than its head, and aligned for it.
    unsafe {
        first.cast::<usize>().write(layout.size());
        first.add(HEAD)
    }
}

/// The memory that `piece` is of.
///
/// # Safety
/// `piece` was made by [`piece`] and not given back.
unsafe fn memory(piece: *mut u8) -> (*mut u8, Layout) {
    // SAFETY: its length stands before it, and made a layout once.
    unsafe {
        let first = piece.sub(HEAD);
        (first, Layout::from_size_align_unchecked(first.cast::<usize>().read(), HEAD))
    }
}

#[unsafe(export_name = "c:malloc")]
extern "C" fn malloc(size: usize) -> *mut u8 {
    // SAFETY: no layout of a piece is empty.
    layout(size).map_or_else(none, |layout| unsafe { piece(alloc(layout), layout) })
}

#[unsafe(export_name = "c:calloc")]
extern "C" fn calloc(count: usize, size: usize) -> *mut u8 {
    let layout = count.checked_mul(size).and_then(layout);
    // SAFETY: no layout of a piece is empty.
    layout.map_or_else(none, |layout| unsafe { piece(alloc_zeroed(layout), layout) })
}

/// # Safety
/// `old` is null or was got from here.
#[unsafe(export_name = "c:realloc")]
unsafe extern "C" fn realloc(old: *mut u8, size: usize) -> *mut u8 {
    let Some(new) = layout(size) else { return none() };
    if old.is_null() {
        return malloc(size);
    }
    // SAFETY: passed on.
    unsafe {
        let (first, layout) = memory(old);
        piece(change(first, layout, new.size()), new)
    }
}

/// # Safety
/// `old` is null or was got from here.
#[unsafe(export_name = "c:free")]
unsafe extern "C" fn free(old: *mut u8) {
    if !old.is_null() {
        // SAFETY: passed on.
        unsafe {
            let (first, layout) = memory(old);
            dealloc(first, layout);
        }
    }
}
