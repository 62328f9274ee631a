//! The functions of a C library that C code of the program's crates finds here: those of POSIX that are calls of the system. What only computes
//! is taken from musl when the program is linked, and so are the headers.
//!
//! Their names begin with `c:` here, which is cut off when the domain is linked with the program: so nothing in the domain itself means them. Answers
//! are as POSIX says: -1 where something was refused, whose number is `errno`. Types and numbers are musl's, which are Linux's.

mod files;
mod memory;
mod strings;
mod threads;

use core::ffi::{c_char, c_void};
use core::ptr::null_mut;

use tessera_runtime::thread;

use super::time::TimeSpec;
use super::{sys_getpid, text, threads as system, told};
use crate::errno::Errno;
use crate::{program, world};

const SECOND: u64 = 1_000_000_000;
/// What `sysconf` is asked for.
const PAGE_SIZE: i32 = 30;
const PROCESSORS: i32 = 84;

/// `timeval`.
#[repr(C)]
struct TimeValue {
    seconds: i64,
    microseconds: i64,
}

/// An answer of [`super::told`] as POSIX has it.
fn posix(told: isize) -> isize {
    told.max(-1)
}

/// The same for small answers.
fn posix_small(told: i32) -> i32 {
    told.max(-1)
}

#[unsafe(export_name = "c:__errno_location")]
extern "C" fn errno_location() -> *mut i32 {
    // The numbers are small, and the machine's words begin with their lowest byte.
    thread::note_place().cast()
}

/// What musl's own functions call.
#[unsafe(export_name = "c:___errno_location")]
extern "C" fn errno_location_within() -> *mut i32 {
    errno_location()
}

#[unsafe(export_name = "c:getpid")]
extern "C" fn getpid() -> i32 {
    sys_getpid()
}

#[unsafe(export_name = "c:geteuid")]
extern "C" fn geteuid() -> u32 {
    0
}

#[unsafe(export_name = "c:sysconf")]
extern "C" fn sysconf(what: i32) -> i64 {
    match what {
        PAGE_SIZE => 4096,
        PROCESSORS => system::sys_available_parallelism() as i64,
        _ => posix(told(Err(Errno::EINVAL))) as i64,
    }
}

/// What the image gave it: changes by `std::env::set_var` are not seen.
///
/// # Safety
/// As [`text`].
#[unsafe(export_name = "c:getenv")]
unsafe extern "C" fn getenv(name: *const c_char) -> *const c_char {
    // SAFETY: passed on.
    let Ok(name) = (unsafe { text(name) }) else { return null_mut() };
    program::environment()
        .find_map(|entry| entry.to_bytes_with_nul().strip_prefix(name)?.strip_prefix(b"="))
        .map_or(null_mut(), |value| value.as_ptr().cast())
}

/// # Safety
/// `to` must be null or a `time_t` that nobody else uses meanwhile.
#[unsafe(export_name = "c:time")]
unsafe extern "C" fn time(to: *mut i64) -> i64 {
    let seconds = (world().date() / SECOND) as i64;
    // SAFETY: passed on.
    if let Some(to) = unsafe { to.as_mut() } {
        *to = seconds;
    }
    seconds
}

/// # Safety
/// `to` must be null or a `timeval` that nobody else uses meanwhile.
#[unsafe(export_name = "c:gettimeofday")]
unsafe extern "C" fn gettimeofday(to: *mut TimeValue, _: *mut c_void) -> i32 {
    let date = world().date();
    // SAFETY: passed on.
    if let Some(to) = unsafe { to.as_mut() } {
        *to = TimeValue { seconds: (date / SECOND) as i64, microseconds: (date % SECOND / 1000) as i64 };
    }
    0
}

unsafe extern "C" {
    // Musl's.
    fn gmtime(time: *const i64) -> *mut c_void;
    fn gmtime_r(time: *const i64, to: *mut c_void) -> *mut c_void;
}

/// There is no time zone.
///
/// # Safety
/// As gmtime(3) says.
#[unsafe(export_name = "c:localtime")]
unsafe extern "C" fn localtime(time: *const i64) -> *mut c_void {
    // SAFETY: passed on.
    unsafe { gmtime(time) }
}

/// # Safety
/// As gmtime(3) says.
#[unsafe(export_name = "c:localtime_r")]
unsafe extern "C" fn localtime_r(time: *const i64, to: *mut c_void) -> *mut c_void {
    // SAFETY: passed on.
    unsafe { gmtime_r(time, to) }
}

/// # Safety
/// `time` must be null or a `timespec` that nobody changes meanwhile; nothing is ever left of it.
#[unsafe(export_name = "c:nanosleep")]
unsafe extern "C" fn nanosleep(time: *const TimeSpec, _: *mut TimeSpec) -> i32 {
    // SAFETY: passed on.
    posix_small(unsafe { system::sys_nanosleep(time) })
}

// All code of a program is in its image.

#[unsafe(export_name = "c:dlopen")]
extern "C" fn dlopen(_: *const c_char, _: i32) -> *mut c_void {
    null_mut()
}

#[unsafe(export_name = "c:dlsym")]
extern "C" fn dlsym(_: *mut c_void, _: *const c_char) -> *mut c_void {
    null_mut()
}

#[unsafe(export_name = "c:dlclose")]
extern "C" fn dlclose(_: *mut c_void) -> i32 {
    -1
}

#[unsafe(export_name = "c:dlerror")]
extern "C" fn dlerror() -> *const c_char {
    c"a program of Tessera loads no other code".as_ptr()
}
