//! System V shared memory: `shmget`, `shmat`, `shmdt`, `shmctl`.

use core::sync::atomic::Ordering;

use super::ipc_control as control;
use crate::errno::{Errno, Result};
use crate::ipc::shared::{LARGEST, LOCKED, MOST, REMOVED, Segment};
use crate::ipc::{Permissions, Shared};
use crate::memory::{MapRequest, PAGE, Protection, Target, round_up};
use crate::task::Context;

pub fn shmget(context: &mut Context, key: i32, size: u64, flags: u32) -> Result<u64> {
    const HUGE_PAGES: u32 = 0o4000;
    if flags & HUGE_PAGES != 0 {
        return Err(Errno::ENOMEM);
    }
    let (system, process) = (context.system.clone(), context.process.number);
    let fits = |segment: &Segment| if size > segment.size { Err(Errno::EINVAL) } else { Ok(()) };
    let make = |permissions: Permissions| {
        if size == 0 || size > LARGEST {
            return Err(Errno::EINVAL);
        }
        Segment::new(permissions, size, process, &system)
    };
    context.system.ipc.segments.get(&context.credentials(), key, flags, fits, make)
}

pub fn shmat(context: &mut Context, number: i32, address: u64, flags: u32) -> Result<u64> {
    const READ_ONLY: u32 = 0o10000;
    const ROUND: u32 = 0o20000;
    const REMAP: u32 = 0o40000;
    const EXECUTE: u32 = 0o100_000;
    let segment = context.system.ipc.segments.find(number)?;
    let address = if flags & ROUND != 0 { address & !(PAGE - 1) } else { address };
    let target = match address {
        0 if flags & REMAP != 0 => return Err(Errno::EINVAL),
        0 => Target::Hint(0),
        address if !address.is_multiple_of(PAGE) => return Err(Errno::EINVAL),
        address if flags & REMAP != 0 => Target::Fixed(address),
        address => Target::Exactly(address),
    };
    let mut protection = Protection::READ;
    let mut wanted = 0o4;
    if flags & READ_ONLY == 0 {
        (protection, wanted) = (protection.union(Protection::WRITE), wanted | 0o2);
    }
    if flags & EXECUTE != 0 {
        (protection, wanted) = (protection.union(Protection::EXECUTE), wanted | 0o1);
    }
    segment.permissions().check(&context.credentials(), wanted)?;
    let length = round_up(segment.size).ok_or(Errno::ENOMEM)?;
    let attached = segment.attach(context.process.number, &context.system);
    let request = MapRequest {
        target,
        length,
        protection,
        shared: true,
        memory: Some((segment.memory.clone(), 0)),
        file: None,
        name: "/SYSV",
        attached: Some(attached),
    };
    context.memory.mm().map(request).map_err(|error| match error {
        Errno::EEXIST | Errno::EPERM => Errno::EINVAL,
        other => other,
    })
}

pub fn shmdt(context: &mut Context, address: u64) -> Result<u64> {
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let segment = context.memory.mm().detach(address)?;
    segment.last.store(context.process.number, Ordering::Relaxed);
    Ok(0)
}

/// `struct shmid64_ds`.
fn describe(segment: &Segment) -> [u64; 14] {
    let mut permissions = segment.permissions();
    permissions.mode |= segment.marks.load(Ordering::SeqCst);
    let [a, b, c, d, e, f] = permissions.to_words();
    let [attached, detached, changed] = segment.times.each_ref().map(|time| time.load(Ordering::Relaxed) as u64);
    let processes = u64::from(segment.creator as u32) | u64::from(segment.last.load(Ordering::Relaxed) as u32) << 32;
    [a, b, c, d, e, f, segment.size, attached, detached, changed, processes, segment.attached(), 0, 0]
}

pub fn shmctl(context: &mut Context, number: i32, command: u32, buffer: u64) -> Result<u64> {
    const LOCK: u32 = 11;
    const UNLOCK: u32 = 12;
    const STAT_BY_INDEX: u32 = 13;
    const USE: u32 = 14;
    const STAT_ANY: u32 = 15;
    if number < 0 {
        return Err(Errno::EINVAL);
    }
    let registry = &context.system.ipc.segments;
    let who = context.credentials();
    match command & !control::SIXTY_FOUR {
        control::INFORMATION => {
            // Largest, least, most, most of a process, pages in all.
            context.write_words(buffer, [LARGEST, 1, MOST, MOST, LARGEST / PAGE])?;
            Ok(registry.highest())
        }
        USE => {
            let all = registry.all();
            let pages: u64 = all.iter().map(|(_, segment)| segment.size.div_ceil(PAGE)).sum();
            context.write_words(buffer, [all.len() as u64, pages, pages, 0, 0, 0])?;
            Ok(registry.highest())
        }
        command @ (control::STAT | STAT_BY_INDEX | STAT_ANY) => {
            let (answer, segment) = match command {
                control::STAT => (0, registry.find(number)?),
                _ => registry.at(number)?,
            };
            if command != STAT_ANY {
                segment.permissions().check(&who, 0o4)?;
            }
            context.write_words(buffer, describe(&segment))?;
            Ok(answer)
        }
        control::SET => {
            let segment = registry.find(number)?;
            let change = control::read_permissions(context, buffer)?;
            control::change(&*segment, &who, change)?;
            segment.stamp(2, &context.system);
            Ok(0)
        }
        control::REMOVE => {
            let segment = registry.find(number)?;
            segment.permissions().check_owner(&who)?;
            segment.remove(registry);
            Ok(0)
        }
        command @ (LOCK | UNLOCK) => {
            let segment = registry.find(number)?;
            segment.permissions().check_owner(&who)?;
            if command == LOCK {
                segment.marks.fetch_or(LOCKED, Ordering::SeqCst);
            } else {
                segment.marks.fetch_and(REMOVED, Ordering::SeqCst);
            }
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
