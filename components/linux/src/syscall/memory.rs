//! Memory: `mmap` and its relatives, `brk`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::errno::{Errno, Result};
use crate::fs::{Kind, seal};
use crate::memory::layout::Mapped;
use crate::memory::{MapRequest, Move, PAGE, Protection, Target, Vma, round_up};
use crate::task::Context;
use crate::task::credentials::capability;
use crate::task::process::limit;

const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const SHARED_VALIDATE: u64 = 3;
const FIXED: u64 = 0x10;
const ANONYMOUS: u64 = 0x20;
const STACK: u64 = 0x2_0000;
const FIXED_NO_REPLACE: u64 = 0x10_0000;
const HUGE_PAGES: u64 = 0x4_0000;
const LOCKED: u64 = 0x2000;
/// All flags that there are: kind, `MAP_32BIT`, `MAP_GROWSDOWN` to `MAP_HUGETLB`, `MAP_UNINITIALIZED`, sizes of huge pages.
const KNOWN: u64 = 0xf | FIXED | ANONYMOUS | 0x40 | 0x7_f900 | FIXED_NO_REPLACE | 0x400_0000 | 0x3f << 26;

pub fn mmap(
    context: &mut Context,
    address: u64,
    length: u64,
    bits: u64,
    flags: u64,
    descriptor: i32,
    offset: u64,
) -> Result<u64> {
    if !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let described = if flags & ANONYMOUS == 0 { Some(context.description(descriptor)?) } else { None };
    if length == 0 {
        return Err(Errno::EINVAL);
    }
    if flags & 0xf == SHARED_VALIDATE && flags & !KNOWN != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let shared = match flags & 0xf {
        SHARED | SHARED_VALIDATE => true,
        PRIVATE => false,
        _ => return Err(Errno::EINVAL),
    };
    let target = if flags & FIXED_NO_REPLACE != 0 {
        Target::Exactly(address)
    } else if flags & FIXED != 0 {
        Target::Fixed(address)
    } else {
        Target::Hint(address)
    };
    if flags & HUGE_PAGES != 0 {
        return Err(Errno::ENOMEM);
    }
    let protection = Protection::from_bits(bits);
    let name = if flags & STACK != 0 { "stack" } else { "" };
    let mut request = MapRequest { target, length, protection, shared, memory: None, file: None, name, attached: None };
    let locks = flags & LOCKED != 0 || context.memory.mm().locks_more.load(Ordering::Relaxed);
    if locks {
        may_lock(context, length, Errno::EAGAIN)?;
    }
    if let Some(description) = described {
        if description.is_path_only() {
            return Err(Errno::EBADF);
        }
        if !description.is_readable() || shared && bits & 2 != 0 && !description.is_writable() {
            return Err(Errno::EACCES);
        }
        offset.checked_add(length).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EOVERFLOW)?;
        // A device of zeroes gives memory of one's own.
        let is_zeroes = description.file.attributes().is_ok_and(|attributes| {
            attributes.kind == Kind::Character && attributes.names_device == crate::fs::ram::make_device(1, 5)
        });
        let seals = description.file.inode().and_then(|inode| inode.seals()).unwrap_or(0);
        if shared && bits & 2 != 0 && seals & (seal::WRITE | seal::FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        if !is_zeroes {
            let unchanged = match description.file.inode() {
                Some(inode) if !shared => inode.lies_in()?,
                _ => None,
            };
            request.memory = Some(match unchanged {
                Some((memory, begin)) => (memory, begin.saturating_add(offset)),
                None => (description.file.memory()?, offset),
            });
            let writable = description.is_writable() && seals & (seal::WRITE | seal::FUTURE_WRITE) == 0;
            request.file = description.place.clone().map(|place| Mapped { place, offset, writable });
        }
    }
    let start = context.memory.mm().map(request)?;
    if locks {
        let end = round_up(length).map_or(start, |length| start + length);
        context.memory.mm().lock().set_locked(start, end, true);
    }
    Ok(start)
}

/// Whether so much more memory may be locked: `RLIMIT_MEMLOCK`. `refusal` says that it would be too much.
fn may_lock(context: &Context, bytes: u64, refusal: Errno) -> Result<()> {
    if context.credentials().has(capability::IPC_LOCK) {
        return Ok(());
    }
    let most = context.process.limit(limit::LOCKED).0;
    if most == 0 {
        return Err(Errno::EPERM);
    }
    let locked = context.memory.mm().lock().locked();
    if locked.saturating_add(round_up(bytes).unwrap_or(bytes)) > most { Err(refusal) } else { Ok(()) }
}

pub fn munmap(context: &mut Context, address: u64, length: u64) -> Result<u64> {
    context.memory.mm().unmap(address, length).map(|()| 0)
}

pub fn mprotect(context: &mut Context, address: u64, length: u64, bits: u64) -> Result<u64> {
    if bits & !0x0300_0007 != 0 {
        return Err(Errno::EINVAL);
    }
    context.memory.mm().protect(address, length, Protection::from_bits(bits)).map(|()| 0)
}

/// `pkey_mprotect`: there are no keys but the one that all memory has.
pub fn pkey_mprotect(context: &mut Context, address: u64, length: u64, bits: u64, key: i32) -> Result<u64> {
    if key == -1 { mprotect(context, address, length, bits) } else { Err(Errno::EINVAL) }
}

pub fn pkey_alloc(_context: &mut Context, flags: u64, rights: u64) -> Result<u64> {
    if flags != 0 || rights & !3 != 0 { Err(Errno::EINVAL) } else { Err(Errno::ENOSPC) }
}

pub fn pkey_free(_context: &mut Context, _key: i32) -> Result<u64> {
    Err(Errno::EINVAL)
}

pub fn brk(context: &mut Context, wanted: u64) -> Result<u64> {
    Ok(context.memory.mm().set_break(wanted))
}

/// `remap_file_pages`: as in Linux by now, another mapping in the place of this one, which must be shared.
pub fn remap_file_pages(context: &mut Context, address: u64, length: u64, bits: u64, page: u64) -> Result<u64> {
    let start = address & !(PAGE - 1);
    let length = length & !(PAGE - 1);
    let end = start.checked_add(length).filter(|end| *end > start).ok_or(Errno::EINVAL)?;
    let offset = page.checked_mul(PAGE).filter(|offset| offset.checked_add(length).is_some()).ok_or(Errno::EINVAL)?;
    if bits != 0 {
        return Err(Errno::EINVAL);
    }
    let layout = context.memory.mm().lock();
    let (_, area) = layout.find(start).filter(|(_, area)| area.shared).ok_or(Errno::EINVAL)?;
    let is_same =
        |next: &Vma| Arc::ptr_eq(&next.memory, &area.memory) && next.shared && next.protection == area.protection;
    if !layout.covers(start, end)
        || layout.overlapping(start, end).into_iter().any(|at| layout.find(at).is_none_or(|(_, next)| !is_same(next)))
    {
        return Err(Errno::EINVAL);
    }
    let request = MapRequest {
        target: Target::Fixed(start),
        length,
        protection: area.protection,
        shared: true,
        memory: Some((area.memory.clone(), offset)),
        file: area.file.clone().map(|file| Mapped { offset, ..file }),
        name: area.name,
        attached: area.attached.clone(),
    };
    drop(layout);
    context.memory.mm().map(request).map(|_| 0)
}

pub fn mremap(context: &mut Context, address: u64, old: u64, new: u64, flags: u64, to: u64) -> Result<u64> {
    const MAY_MOVE: u64 = 1;
    const TO_FIXED: u64 = 2;
    const LEAVE: u64 = 4;
    if flags & !(MAY_MOVE | TO_FIXED | LEAVE) != 0 || flags & (TO_FIXED | LEAVE) != 0 && flags & MAY_MOVE == 0 {
        return Err(Errno::EINVAL);
    }
    if flags & LEAVE != 0 {
        if round_up(old) != round_up(new) {
            return Err(Errno::EINVAL);
        }
        let is_own =
            context.memory.mm().lock().find(address).is_some_and(|(_, area)| !area.shared && area.file.is_none());
        if !is_own {
            return Err(Errno::EINVAL);
        }
    }
    let fixed = (flags & TO_FIXED != 0).then_some(to);
    let how = match flags & (MAY_MOVE | LEAVE) {
        0 => Move::Never,
        MAY_MOVE => Move::May,
        _ => Move::Leave,
    };
    context.memory.mm().remap(address, old, new, how, fixed)
}

pub fn madvise(context: &mut Context, address: u64, length: u64, advice: i32) -> Result<u64> {
    const DONT_NEED: i32 = 4;
    const FREE: i32 = 8;
    const REMOVE: i32 = 9;
    const DONT_FORK: i32 = 10;
    const DO_FORK: i32 = 11;
    const WIPE: i32 = 18;
    const KEEP: i32 = 19;
    // Equal pages are not merged (12, 13), as in a Linux without that.
    const HARMLESS: [i32; 11] = [0, 1, 2, 3, 14, 15, 16, 17, 20, 21, 25];
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let mm = context.memory.mm();
    let end = round_up(length).and_then(|length| address.checked_add(length)).ok_or(Errno::EINVAL)?;
    match advice {
        _ if HARMLESS.contains(&advice) || matches!(advice, DONT_FORK | DO_FORK | WIPE | KEEP) => {
            let mut layout = mm.lock();
            if !layout.covers(address, end) {
                return Err(Errno::ENOMEM);
            }
            if !HARMLESS.contains(&advice) {
                layout.split(address);
                layout.split(end);
                for start in layout.overlapping(address, end) {
                    let Some((_, area)) = layout.find_mut(start) else { continue };
                    match advice {
                        WIPE if area.shared || area.file.is_some() => return Err(Errno::EINVAL),
                        WIPE | KEEP => area.wiped = advice == WIPE,
                        _ => area.stays = advice == DONT_FORK,
                    }
                }
            }
            Ok(0)
        }
        DONT_NEED | FREE | REMOVE if length == 0 => Ok(0),
        DONT_NEED | FREE | REMOVE if mm.lock().is_locked(address, end) => Err(Errno::EINVAL),
        FREE if mm
            .lock()
            .iter()
            .any(|(at, area)| at < end && address < area.end && (area.shared || area.file.is_some())) =>
        {
            Err(Errno::EINVAL)
        }
        DONT_NEED | FREE => mm.forget(address, length).map(|()| 0),
        REMOVE => remove(context, address, end),
        _ => Err(Errno::EINVAL),
    }
}

/// `MADV_REMOVE`: a hole in the files that are shown there.
fn remove(context: &Context, address: u64, end: u64) -> Result<u64> {
    let mut holes = Vec::new();
    {
        let layout = context.memory.mm().lock();
        if !layout.covers(address, end) {
            return Err(Errno::ENOMEM);
        }
        for (at, area) in layout.overlapping(address, end).into_iter().filter_map(|at| layout.find(at)) {
            let (first, last) = (at.max(address), area.end.min(end));
            let file = area.file.as_ref().ok_or(Errno::EINVAL)?;
            if !area.shared || !area.protection.contains(Protection::WRITE) {
                return Err(Errno::EACCES);
            }
            let start = file.offset + (first - at);
            holes.push((file.place.inode.clone(), start, start + (last - first)));
        }
    }
    for (inode, start, end) in holes {
        inode.punch(start, end)?;
    }
    Ok(0)
}

/// `mlock` and its relatives: nothing is ever paged out, so that it is only counted.
pub fn mlock(context: &mut Context, address: u64, length: u64) -> Result<u64> {
    let start = address & !(PAGE - 1);
    let end = address.checked_add(length).and_then(round_up).ok_or(Errno::EINVAL)?;
    let own = {
        let layout = context.memory.mm().lock();
        // What is locked already is not counted again.
        layout.covers(start, end).then(|| layout.is_locked(start, end))
    };
    let added = if own == Some(true) { 0 } else { end - start };
    may_lock(context, added, Errno::ENOMEM)?;
    if own.is_none() {
        return Err(Errno::ENOMEM);
    }
    context.memory.mm().lock().set_locked(start, end, true);
    Ok(0)
}

pub fn munlock(context: &mut Context, address: u64, length: u64) -> Result<u64> {
    let start = address & !(PAGE - 1);
    let end = address.checked_add(length).and_then(round_up).ok_or(Errno::EINVAL)?;
    let mut layout = context.memory.mm().lock();
    if !layout.covers(start, end) {
        return Err(Errno::ENOMEM);
    }
    layout.set_locked(start, end, false);
    Ok(0)
}

pub fn mlock2(context: &mut Context, address: u64, length: u64, flags: u32) -> Result<u64> {
    if flags & !1 != 0 {
        return Err(Errno::EINVAL);
    }
    mlock(context, address, length)
}

pub fn mlockall(context: &mut Context, flags: u32) -> Result<u64> {
    const CURRENT: u32 = 1;
    const FUTURE: u32 = 2;
    const ON_FAULT: u32 = 4;
    if flags & !(CURRENT | FUTURE | ON_FAULT) != 0 || flags & (CURRENT | FUTURE) == 0 {
        return Err(Errno::EINVAL);
    }
    let mm = context.memory.mm().clone();
    let (all, locked) = {
        let layout = mm.lock();
        (layout.bytes(), layout.locked())
    };
    may_lock(context, if flags & CURRENT != 0 { all - locked } else { 0 }, Errno::ENOMEM)?;
    mm.locks_more.store(flags & FUTURE != 0, Ordering::Relaxed);
    if flags & CURRENT != 0 {
        mm.lock().set_locked(0, !(PAGE - 1), true);
    }
    Ok(0)
}

pub fn munlockall(context: &mut Context) -> Result<u64> {
    let mm = context.memory.mm();
    mm.locks_more.store(false, Ordering::Relaxed);
    mm.lock().set_locked(0, !(PAGE - 1), false);
    Ok(0)
}

/// `msync`: mappings and files share their pages.
pub fn msync(context: &mut Context, address: u64, length: u64, flags: u32) -> Result<u64> {
    if !address.is_multiple_of(PAGE) || flags & !7 != 0 || flags & 5 == 5 {
        return Err(Errno::EINVAL);
    }
    let end = round_up(length).and_then(|length| address.checked_add(length)).ok_or(Errno::ENOMEM)?;
    const INVALIDATE: u32 = 2;
    let layout = context.memory.mm().lock();
    if flags & INVALIDATE != 0 && layout.is_locked(address, end) {
        return Err(Errno::EBUSY);
    }
    if layout.covers(address, end) { Ok(0) } else { Err(Errno::ENOMEM) }
}

/// `mincore`: what is mapped is in memory.
pub fn mincore(context: &mut Context, address: u64, length: u64, to: u64) -> Result<u64> {
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let end = round_up(length).and_then(|length| address.checked_add(length)).ok_or(Errno::ENOMEM)?;
    if !context.memory.mm().lock().covers(address, end) {
        return Err(Errno::ENOMEM);
    }
    let ones = [1; 256];
    let mut left = (end - address) / PAGE;
    let mut at = to;
    while left > 0 {
        let step = left.min(256);
        context.write_bytes(at, ones.get(..step as usize).unwrap_or_default())?;
        (at, left) = (at + step, left - step);
    }
    Ok(0)
}
