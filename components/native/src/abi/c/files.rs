//! Files as POSIX has them.

use core::ffi::{c_char, c_void};
use core::ptr::without_provenance_mut;

use tessera_interfaces::{Changes, Time};

use super::super::files::{self as system, Stat};
use super::super::{bytes_mut, text, told, told_done};
use super::{TimeValue, posix, posix_small};
use crate::errno::{Errno, Result};
use crate::file;
use crate::world;

const F_GETLK: i32 = 5;
const F_SETLK: i32 = 6;
const F_SETLKW: i32 = 7;
/// `F_UNLCK`.
const UNLOCKED: i16 = 2;
/// What `mmap` answers when it refuses.
const NOT_MAPPED: *mut c_void = without_provenance_mut(usize::MAX);

/// `flock`.
#[repr(C)]
struct Lock {
    kind: i16,
    whence: i16,
    start: i64,
    length: i64,
    process: i32,
}

fn done(answer: Result<()>) -> i32 {
    posix_small(told_done(answer))
}

/// # Safety
/// As [`text`].
#[unsafe(export_name = "c:open")]
unsafe extern "C" fn open(path: *const c_char, flags: i32, mode: i32) -> i32 {
    // SAFETY: passed on.
    posix_small(unsafe { system::sys_open(path, flags, mode) })
}

#[unsafe(export_name = "c:close")]
extern "C" fn close(number: i32) -> i32 {
    posix_small(system::sys_close(number))
}

/// # Safety
/// As [`bytes_mut`].
#[unsafe(export_name = "c:read")]
unsafe extern "C" fn read(number: i32, to: *mut u8, length: usize) -> isize {
    // SAFETY: passed on.
    posix(unsafe { system::sys_read(number, to, length) })
}

/// # Safety
/// As [`super::super::bytes`].
#[unsafe(export_name = "c:write")]
unsafe extern "C" fn write(number: i32, from: *const u8, length: usize) -> isize {
    // SAFETY: passed on.
    posix(unsafe { system::sys_write(number, from, length) })
}

#[unsafe(export_name = "c:lseek")]
extern "C" fn lseek(number: i32, by: isize, whence: i32) -> isize {
    posix(system::sys_lseek(number, by, whence))
}

/// # Safety
/// `to` must be null or a `stat` that nobody else uses meanwhile.
#[unsafe(export_name = "c:fstat")]
unsafe extern "C" fn fstat(number: i32, to: *mut Stat) -> i32 {
    // SAFETY: passed on.
    posix_small(unsafe { system::sys_fstat(number, to) })
}

/// # Safety
/// As [`text`] and [`fstat`].
#[unsafe(export_name = "c:stat")]
unsafe extern "C" fn stat(path: *const c_char, to: *mut Stat) -> i32 {
    // SAFETY: passed on.
    posix_small(unsafe { system::sys_stat(path, to) })
}

/// # Safety
/// As [`text`] and [`fstat`].
#[unsafe(export_name = "c:lstat")]
unsafe extern "C" fn lstat(path: *const c_char, to: *mut Stat) -> i32 {
    // SAFETY: passed on.
    posix_small(unsafe { system::sys_lstat(path, to) })
}

/// The program may do with its files what it likes: only whether there is one is asked.
///
/// # Safety
/// As [`text`].
#[unsafe(export_name = "c:access")]
unsafe extern "C" fn access(path: *const c_char, _: i32) -> i32 {
    // SAFETY: passed on.
    let path = unsafe { text(path) };
    done(path.and_then(|path| file::attributes(world().root()?, path, true)).map(drop))
}

/// # Safety
/// As [`text`].
#[unsafe(export_name = "c:mkdir")]
unsafe extern "C" fn mkdir(path: *const c_char, mode: u32) -> i32 {
    // SAFETY: passed on.
    posix_small(unsafe { system::sys_mkdir(path, mode) })
}

/// # Safety
/// As [`text`].
#[unsafe(export_name = "c:rmdir")]
unsafe extern "C" fn rmdir(path: *const c_char) -> i32 {
    // SAFETY: passed on.
    posix_small(unsafe { system::sys_rmdir(path) })
}

/// # Safety
/// As [`text`].
#[unsafe(export_name = "c:unlink")]
unsafe extern "C" fn unlink(path: *const c_char) -> i32 {
    // SAFETY: passed on.
    posix_small(unsafe { system::sys_unlink(path) })
}

/// Locks of a file are held against other processes, and there is none: they are always to be had.
///
/// # Safety
/// `value` is a `flock` where `what` is about locks.
#[unsafe(export_name = "c:fcntl")]
unsafe extern "C" fn fcntl(number: i32, what: i32, value: *mut c_void) -> i32 {
    match what {
        F_SETLK | F_SETLKW => done(world().descriptors.get(number).map(drop)),
        F_GETLK => done(world().descriptors.get(number).and_then(|_| {
            // SAFETY: passed on.
            unsafe { value.cast::<Lock>().as_mut() }.ok_or(Errno::EFAULT)?.kind = UNLOCKED;
            Ok(())
        })),
        _ => posix_small(system::sys_fcntl(number, what, value.addr() as i32)),
    }
}

#[unsafe(export_name = "c:ftruncate")]
extern "C" fn ftruncate(number: i32, size: i64) -> i32 {
    done(world().descriptors.get(number).and_then(|descriptor| {
        let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
        descriptor.file()?.resize(size)
    }))
}

#[unsafe(export_name = "c:fsync")]
extern "C" fn fsync(number: i32) -> i32 {
    done(world().descriptors.get(number).and_then(|descriptor| descriptor.file()?.synchronise()))
}

#[unsafe(export_name = "c:fchmod")]
extern "C" fn fchmod(number: i32, mode: u32) -> i32 {
    let change = file::change(Changes::MODE, |change| change.mode = mode & 0o7777);
    done(world().descriptors.get(number).and_then(|descriptor| descriptor.file()?.change(change)))
}

#[unsafe(export_name = "c:fchown")]
extern "C" fn fchown(number: i32, user: u32, group: u32) -> i32 {
    /// The user or group stays as it is.
    const SAME: u32 = u32::MAX;
    let which = [(user, Changes::USER), (group, Changes::GROUP)];
    let which = which.iter().filter(|(id, _)| *id != SAME).fold(0, |all, (_, bit)| all | bit);
    let change = file::change(which, |change| (change.owner.user, change.owner.group) = (user, group));
    done(world().descriptors.get(number).and_then(|descriptor| descriptor.file()?.change(change)))
}

/// # Safety
/// `path` as [`text`]; `times` is null or begins two of them.
#[unsafe(export_name = "c:utimes")]
unsafe extern "C" fn utimes(path: *const c_char, times: *const [TimeValue; 2]) -> i32 {
    // SAFETY: passed on.
    let (path, times) = unsafe { (text(path), times.as_ref()) };
    let now = world().date();
    let now = Time { seconds: (now / super::SECOND) as i64, nanoseconds: (now % super::SECOND) as u32 };
    let time = |value: &TimeValue| -> Result<Time> {
        let microseconds = u32::try_from(value.microseconds).ok().filter(|value| *value < 1_000_000);
        Ok(Time { seconds: value.seconds, nanoseconds: microseconds.ok_or(Errno::EINVAL)? * 1000 })
    };
    let both: Result<(Time, Time)> =
        times.map_or(Ok((now, now)), |[accessed, modified]| Ok((time(accessed)?, time(modified)?)));
    done(path.and_then(|path| {
        let both = both?;
        let change = file::change(Changes::ACCESSED | Changes::MODIFIED, |change| {
            (change.accessed, change.modified) = both;
        });
        file::change_at(world().root()?, path, change)
    }))
}

/// # Safety
/// As [`text`] and [`bytes_mut`].
#[unsafe(export_name = "c:readlink")]
unsafe extern "C" fn readlink(path: *const c_char, to: *mut u8, length: usize) -> isize {
    // SAFETY: passed on.
    let (path, to) = unsafe { (text(path), bytes_mut(to, length)) };
    posix(told(path.and_then(|path| file::target(world().root()?, path, to?))))
}

/// # Safety
/// As [`bytes_mut`].
#[unsafe(export_name = "c:getcwd")]
unsafe extern "C" fn getcwd(to: *mut c_char, length: usize) -> *mut c_char {
    /// `ERANGE`.
    const TOO_SHORT: Errno = Errno(34);
    // SAFETY: passed on.
    let put = unsafe { bytes_mut(to.cast(), length) }
        .and_then(|room| room.first_chunk_mut().map(|room| *room = *b"/\0").ok_or(TOO_SHORT));
    if done(put) < 0 { core::ptr::null_mut() } else { to }
}

/// Files are not mapped.
#[unsafe(export_name = "c:mmap")]
extern "C" fn mmap(_: *mut c_void, _: usize, _: i32, _: i32, _: i32, _: i64) -> *mut c_void {
    told(Err(Errno::ENODEV));
    NOT_MAPPED
}

#[unsafe(export_name = "c:munmap")]
extern "C" fn munmap(_: *mut c_void, _: usize) -> i32 {
    done(Err(Errno::EINVAL))
}
