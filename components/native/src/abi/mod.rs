//! The C functions that `std` calls, as crate `hermit-abi` 0.5 declares them: pointers of the program become references, answers
//! become numbers, and nothing is decided. A pointer comes with its length, and std's callers keep both for the length of the call.
//!
//! Answers are negative where something was refused: the number of the error, which `sys_get_errno` also tells the thread's last one of.
#![allow(unsafe_code)]

mod c;
mod files;
mod heap;
mod sockets;
mod threads;
mod time;

use core::ffi::{CStr, c_char};

use tessera_runtime::{exit, thread};

use crate::errno::{Errno, Result};

/// The exit code of a program that gave up: a panic, or `std::process::abort`.
const GAVE_UP: u64 = 101;

/// Tells an answer as C functions do.
fn told(answer: Result<usize>) -> isize {
    match answer {
        Ok(value) => value as isize,
        Err(error) => {
            thread::set_note(error.0 as u64);
            -(error.0 as isize)
        }
    }
}

/// The same for functions whose answers are small.
fn told_small(answer: Result<i32>) -> i32 {
    told(answer.map(|value| value as usize)) as i32
}

/// The same for functions that answer nothing.
fn told_done(answer: Result<()>) -> i32 {
    told_small(answer.map(|()| 0))
}

/// Bytes that the program lets a function write.
///
/// # Safety
/// `first` must be null or begin `length` bytes that nobody else uses while the answer lives.
unsafe fn bytes_mut<'a>(first: *mut u8, length: usize) -> Result<&'a mut [u8]> {
    if length == 0 {
        return Ok(&mut []);
    }
    if first.is_null() {
        return Err(Errno::EFAULT);
    }
    // `std` hands memory over that was not initialised. What is written to it goes through methods of interfaces, which only write.
    // SAFETY: passed on to the caller.
    Ok(unsafe { core::slice::from_raw_parts_mut(first, length) })
}

/// Bytes that the program lets a function read.
///
/// # Safety
/// `first` must be null or begin `length` bytes that nobody changes while the answer lives.
unsafe fn bytes<'a>(first: *const u8, length: usize) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    if first.is_null() {
        return Err(Errno::EFAULT);
    }
    // SAFETY: passed on to the caller.
    Ok(unsafe { core::slice::from_raw_parts(first, length) })
}

/// A text that ends with a zero byte.
///
/// # Safety
/// `first` must be null or begin such a text, which nobody changes while the answer lives.
unsafe fn text<'a>(first: *const c_char) -> Result<&'a [u8]> {
    if first.is_null() {
        return Err(Errno::EFAULT);
    }
    // SAFETY: passed on to the caller.
    Ok(unsafe { CStr::from_ptr(first) }.to_bytes())
}

#[unsafe(no_mangle)]
extern "C" fn sys_exit(status: i32) -> ! {
    exit(status as u32 as u64)
}

#[unsafe(no_mangle)]
extern "C" fn sys_abort() -> ! {
    exit(GAVE_UP)
}

#[unsafe(no_mangle)]
extern "C" fn sys_get_errno() -> i32 {
    thread::note() as i32
}

#[unsafe(no_mangle)]
extern "C" fn sys_errno() -> i32 {
    thread::note() as i32
}

#[unsafe(no_mangle)]
extern "C" fn sys_getpid() -> i32 {
    1
}
