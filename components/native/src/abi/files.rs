//! Files, and what all descriptors have.

use alloc::sync::Arc;
use core::ffi::{c_char, c_void};

use tessera_interfaces::{Attributes, Time, Unlink};

use super::time::TimeSpec;
use super::{bytes, bytes_mut, text, told, told_done, told_small};
use crate::counter::Counter;
use crate::descriptor::Descriptor;
use crate::errno::{Errno, Result};
use crate::file::{self, OpenFile, Opening, Whence};
use crate::poll::{Watch, poll};
use crate::{now, world};

const F_DUPFD: i32 = 0;
const F_GETFD: i32 = 1;
const F_SETFD: i32 = 2;
const F_GETFL: i32 = 3;
const F_SETFL: i32 = 4;
const O_RDWR: i32 = 2;
const O_NONBLOCK: i32 = 0o4000;
/// `FIONBIO`.
const SET_NONBLOCKING: i32 = 0x8008_667e_u32 as i32;
const SEEK_SET: i32 = 0;
const SEEK_CUR: i32 = 1;
const SEEK_END: i32 = 2;

/// `iovec`.
#[repr(C)]
struct Piece {
    first: *mut u8,
    length: usize,
}

/// `stat`.
#[repr(C)]
pub struct Stat {
    device: u64,
    number: u64,
    links: u64,
    mode: u32,
    user: u32,
    group: u32,
    names_device: u64,
    size: i64,
    block_size: i64,
    blocks: i64,
    accessed: TimeSpec,
    modified: TimeSpec,
    changed: TimeSpec,
}

/// `pollfd`.
#[repr(C)]
struct PollDescriptor {
    number: i32,
    wanted: i16,
    found: i16,
}

impl Stat {
    /// Those of a device that is in no file system.
    const CHARACTER_DEVICE: u32 = 0o20_620;

    fn of(attributes: &Attributes) -> Stat {
        let time = |time: Time| TimeSpec::of(time.seconds, time.nanoseconds as i32);
        Stat {
            device: 1,
            number: attributes.number,
            links: attributes.links.into(),
            mode: (attributes.kind as u32) << 12 | attributes.mode,
            user: attributes.owner.user,
            group: attributes.owner.group,
            names_device: attributes.device,
            size: attributes.size as i64,
            block_size: 4096,
            blocks: attributes.blocks as i64,
            accessed: time(attributes.accessed),
            modified: time(attributes.modified),
            changed: time(attributes.changed),
        }
    }

    fn of_device() -> Stat {
        let zero = TimeSpec::new(0);
        Stat {
            device: 0,
            number: 1,
            links: 1,
            mode: Stat::CHARACTER_DEVICE,
            user: 0,
            group: 0,
            names_device: 0,
            size: 0,
            block_size: 4096,
            blocks: 0,
            accessed: zero,
            modified: zero,
            changed: zero,
        }
    }
}

/// # Safety
/// As [`text`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sys_open(path: *const c_char, flags: i32, mode: i32) -> i32 {
    // SAFETY: passed on.
    let path = unsafe { text(path) };
    told_small(path.and_then(|path| {
        let file = OpenFile::open(world().root()?, path, Opening(flags), mode as u32)?;
        world().descriptors.add(Descriptor::File(Arc::new(file)), 0)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn sys_close(number: i32) -> i32 {
    told_done(world().descriptors.close(number))
}

/// # Safety
/// As [`bytes_mut`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sys_read(number: i32, to: *mut u8, length: usize) -> isize {
    // SAFETY: passed on.
    let to = unsafe { bytes_mut(to, length) };
    told(to.and_then(|to| world().descriptors.get(number)?.read(to)))
}

/// # Safety
/// As [`bytes`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sys_write(number: i32, from: *const u8, length: usize) -> isize {
    // SAFETY: passed on.
    let from = unsafe { bytes(from, length) };
    told(from.and_then(|from| world().descriptors.get(number)?.write(from)))
}

/// Calls `each` with the pieces until one is not dealt with whole; answers how much was dealt with.
fn in_pieces(pieces: &[Piece], mut each: impl FnMut(&Piece) -> Result<usize>) -> Result<usize> {
    let mut done = 0;
    for piece in pieces.iter().filter(|piece| piece.length > 0) {
        match each(piece) {
            Ok(count) => {
                done += count;
                if count < piece.length {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// # Safety
/// `pieces` must begin `count` of them, each as for [`bytes_mut`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_readv(number: i32, pieces: *const Piece, count: usize) -> isize {
    // SAFETY: passed on.
    let pieces = if count == 0 { &[] } else { unsafe { core::slice::from_raw_parts(pieces, count) } };
    // Once something was read, the next piece must not wait for more.
    let mut first = true;
    told(world().descriptors.get(number).and_then(|descriptor| {
        in_pieces(pieces, |piece| {
            if !core::mem::take(&mut first) && descriptor.ready() & crate::poll::ready::IN == 0 {
                return Ok(0);
            }
            // SAFETY: passed on.
            descriptor.read(unsafe { bytes_mut(piece.first, piece.length) }?)
        })
    }))
}

/// # Safety
/// `pieces` must begin `count` of them, each as for [`bytes`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_writev(number: i32, pieces: *const Piece, count: usize) -> isize {
    // SAFETY: passed on.
    let pieces = if count == 0 { &[] } else { unsafe { core::slice::from_raw_parts(pieces, count) } };
    told(world().descriptors.get(number).and_then(|descriptor| {
        // SAFETY: passed on.
        in_pieces(pieces, |piece| descriptor.write(unsafe { bytes(piece.first, piece.length) }?))
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn sys_lseek(number: i32, by: isize, whence: i32) -> isize {
    let whence = match whence {
        SEEK_SET => Ok(Whence::Start),
        SEEK_CUR => Ok(Whence::Current),
        SEEK_END => Ok(Whence::End),
        _ => Err(Errno::EINVAL),
    };
    told(whence.and_then(|whence| Ok(world().descriptors.get(number)?.file()?.seek(by as i64, whence)? as usize)))
}

/// # Safety
/// `to` must be null or a `stat` that nobody else uses meanwhile.
unsafe fn tell(found: Result<Stat>, to: *mut Stat) -> i32 {
    told_done(found.and_then(|found| {
        if to.is_null() {
            return Err(Errno::EFAULT);
        }
        // SAFETY: passed on.
        unsafe { to.write(found) };
        Ok(())
    }))
}

/// # Safety
/// As [`tell`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sys_fstat(number: i32, to: *mut Stat) -> i32 {
    let found = world().descriptors.get(number).and_then(|descriptor| match descriptor {
        Descriptor::File(file) => file.attributes().map(|attributes| Stat::of(&attributes)),
        _ => Ok(Stat::of_device()),
    });
    // SAFETY: passed on.
    unsafe { tell(found, to) }
}

/// # Safety
/// As [`text`] and [`tell`].
unsafe fn stat_path(path: *const c_char, to: *mut Stat, follow: bool) -> i32 {
    // SAFETY: passed on.
    let path = unsafe { text(path) };
    let found = path.and_then(|path| file::attributes(world().root()?, path, follow).map(|found| Stat::of(&found)));
    // SAFETY: passed on.
    unsafe { tell(found, to) }
}

/// # Safety
/// As [`text`] and [`tell`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sys_stat(path: *const c_char, to: *mut Stat) -> i32 {
    // SAFETY: passed on.
    unsafe { stat_path(path, to, true) }
}

/// # Safety
/// As [`text`] and [`tell`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sys_lstat(path: *const c_char, to: *mut Stat) -> i32 {
    // SAFETY: passed on.
    unsafe { stat_path(path, to, false) }
}

/// # Safety
/// As [`bytes_mut`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_getdents64(number: i32, to: *mut u8, length: usize) -> i64 {
    // SAFETY: passed on.
    let to = unsafe { bytes_mut(to, length) };
    told(to.and_then(|to| {
        let all = file::packed_entries(world().descriptors.get(number)?.file()?, to.len())?;
        for (to, from) in to.iter_mut().zip(&all) {
            *to = *from;
        }
        Ok(all.len())
    })) as i64
}

/// # Safety
/// As [`text`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sys_mkdir(path: *const c_char, mode: u32) -> i32 {
    // SAFETY: passed on.
    let path = unsafe { text(path) };
    told_done(path.and_then(|path| file::make_directory(world().root()?, path, mode)))
}

/// # Safety
/// As [`text`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sys_rmdir(path: *const c_char) -> i32 {
    // SAFETY: passed on.
    let path = unsafe { text(path) };
    told_done(path.and_then(|path| file::remove(world().root()?, path, Unlink::Directory)))
}

/// # Safety
/// As [`text`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sys_unlink(path: *const c_char) -> i32 {
    // SAFETY: passed on.
    let path = unsafe { text(path) };
    told_done(path.and_then(|path| file::remove(world().root()?, path, Unlink::File)))
}

#[unsafe(no_mangle)]
extern "C" fn sys_dup(number: i32) -> i32 {
    sys_fcntl(number, F_DUPFD, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn sys_fcntl(number: i32, what: i32, value: i32) -> i32 {
    told_small(world().descriptors.get(number).and_then(|descriptor| match what {
        F_DUPFD => world().descriptors.add(descriptor, usize::try_from(value).map_err(|_| Errno::EINVAL)?),
        // There is no program that a descriptor could be handed to.
        F_GETFD | F_SETFD => Ok(0),
        F_GETFL => Ok(O_RDWR | if descriptor.is_nonblocking() { O_NONBLOCK } else { 0 }),
        F_SETFL => {
            descriptor.set_nonblocking(value & O_NONBLOCK != 0);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }))
}

/// # Safety
/// `value` must be null or an `int` that nobody else uses meanwhile.
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_ioctl(number: i32, what: i32, value: *mut c_void) -> i32 {
    // SAFETY: passed on.
    let value = unsafe { value.cast::<i32>().as_ref() }.copied().ok_or(Errno::EFAULT);
    told_done(world().descriptors.get(number).and_then(|descriptor| {
        if what != SET_NONBLOCKING {
            return Err(Errno::EINVAL);
        }
        descriptor.set_nonblocking(value? != 0);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn sys_eventfd(value: u64, flags: i16) -> i32 {
    let counter = Counter::new(value, i32::from(flags) & O_NONBLOCK != 0);
    told_small(world().descriptors.add(Descriptor::Counter(Arc::new(counter)), 0))
}

/// # Safety
/// `watched` must begin `count` records that nobody else uses meanwhile.
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_poll(watched: *mut PollDescriptor, count: usize, milliseconds: i32) -> i32 {
    // SAFETY: passed on.
    let watched = if count == 0 { &mut [] } else { unsafe { core::slice::from_raw_parts_mut(watched, count) } };
    let all: alloc::vec::Vec<Watch> = watched
        .iter()
        .map(|watched| Watch {
            descriptor: world().descriptors.get(watched.number).ok(),
            is_left_out: watched.number < 0,
            wanted: watched.wanted,
        })
        .collect();
    let limit = u64::try_from(milliseconds).ok().map(|limit| limit.saturating_mul(1_000_000));
    let found = poll(&all, limit.map(|limit| now().saturating_add(limit)));
    for (to, found) in watched.iter_mut().zip(&found) {
        to.found = *found;
    }
    found.iter().filter(|found| **found != 0).count() as i32
}
