//! Waiting for many files: `poll`, `select`, `epoll`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::file::most_files;
use crate::errno::{Errno, Result};
use crate::file::epoll::Epoll;
use crate::file::{Description, ready};
use crate::memory::reserve;
use crate::signal::{Set, UNBLOCKABLE};
use crate::task::process::attention;
use crate::task::{Context, WaitQueue, wait};
use crate::time::{read_timespec, read_timeval, write_timespec, write_timeval};

/// Bytes of a `struct pollfd`, and of a `struct epoll_event` of x86-64, which is packed.
const POLL: usize = 8;
const EVENT: usize = 12;
/// `POLLRDNORM | POLLRDBAND`, `POLLWRNORM | POLLWRBAND`: other names of being readable and writable.
const READ_NORMAL: u32 = 0x40;
const WRITE_NORMAL: u32 = 0x100;
/// Most events that one `epoll_wait` may ask for.
const MOST_EVENTS: i32 = i32::MAX / EVENT as i32;

/// Runs a call that waits under a mask of signals of its own, if `mask` is one.
pub fn masked<T>(context: &mut Context, mask: Option<Set>, call: impl FnOnce(&mut Context) -> Result<T>) -> Result<T> {
    let Some(mask) = mask else { return call(context) };
    let before = context.task.mask();
    context.task.set_mask(mask.without(UNBLOCKABLE));
    // A signal that was blocked until now may be waiting.
    context.task.attend(attention::SIGNAL);
    let result = call(context);
    match result {
        Err(Errno::ERESTARTSYS | Errno::ERESTARTNOHAND) => context.saved_mask = Some(before),
        _ => context.task.set_mask(before),
    }
    result
}

/// Reads a mask of signals, whose size must be that of the kernel's.
pub fn read_mask(context: &Context, address: u64, size: u64) -> Result<Option<Set>> {
    if address == 0 {
        return Ok(None);
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    Ok(Some(Set::from_bits(context.read_u64(address)?)))
}

/// The same where both stand in memory, the mask's address and its size: calls have six registers and no more.
pub fn read_sized_mask(context: &Context, address: u64) -> Result<Option<Set>> {
    if address == 0 {
        return Ok(None);
    }
    let [mask, size] = context.read_words(address)?;
    read_mask(context, mask, size)
}

/// Waits until `look` finds something; 0 when time is up. Never made again after a handler ran.
fn wait_for(
    context: &mut Context,
    files: &[Arc<Description>],
    deadline: Option<u64>,
    mut look: impl FnMut(&mut Context) -> Option<Result<u64>>,
) -> Result<u64> {
    if deadline.is_some_and(|deadline| deadline <= context.system.now()) {
        return look(context).unwrap_or(Ok(0));
    }
    let queues: Vec<&WaitQueue> = files.iter().filter_map(|file| file.file.queue()).collect();
    match wait(context, &queues, deadline, look) {
        Ok(found) => found,
        Err(Errno::ETIMEDOUT) => Ok(0),
        Err(Errno::ERESTARTSYS) => Err(Errno::ERESTARTNOHAND),
        Err(error) => Err(error),
    }
}

/// A moment that is `wait` nanoseconds from now.
fn deadline(context: &Context, wait: u64) -> u64 {
    context.system.now().saturating_add(wait)
}

fn poll_until(context: &mut Context, address: u64, count: u64, deadline: Option<u64>) -> Result<u64> {
    if count > most_files(&context.process) {
        return Err(Errno::EINVAL);
    }
    let length = count as usize * POLL;
    // The bytes, what they say, the answers.
    reserve::check(length * 4)?;
    let mut bytes = alloc::vec![0; length];
    context.read_bytes(address, &mut bytes)?;
    let entries: Vec<(i32, u32)> = bytes
        .chunks_exact(POLL)
        .map(|entry| match *entry {
            [a, b, c, d, e, f, ..] => (i32::from_ne_bytes([a, b, c, d]), u32::from(u16::from_ne_bytes([e, f]))),
            _ => (-1, 0),
        })
        .collect();
    let files: Vec<Option<Arc<Description>>> = entries
        .iter()
        .map(|(descriptor, _)| context.description(*descriptor).ok().filter(|file| !file.is_path_only()))
        .collect();
    let present: Vec<Arc<Description>> = files.iter().flatten().cloned().collect();
    let found = |file: &Option<Arc<Description>>, descriptor: i32, events: u32| {
        let Some(file) = file else { return if descriptor < 0 { 0 } else { ready::INVALID } };
        let mut bits = file.file.ready();
        if bits & ready::IN != 0 {
            bits |= READ_NORMAL;
        }
        if bits & ready::OUT != 0 {
            bits |= WRITE_NORMAL;
        }
        bits & (events | ready::ERROR | ready::HANGUP)
    };
    let result = wait_for(context, &present, deadline, |_| {
        let ready =
            entries.iter().zip(&files).filter(|((descriptor, events), file)| found(file, *descriptor, *events) != 0);
        let count = ready.count() as u64;
        (count > 0).then_some(Ok(count))
    })?;
    let mut ready_now = 0;
    for (index, ((descriptor, events), file)) in entries.iter().zip(&files).enumerate() {
        let bits = if result == 0 { 0 } else { found(file, *descriptor, *events) };
        ready_now += u64::from(bits != 0);
        if let Some(place) = bytes.get_mut(index * POLL + 6..index * POLL + 8) {
            place.copy_from_slice(&(bits as u16).to_ne_bytes());
        }
    }
    context.write_bytes(address, &bytes)?;
    // Somebody else may have taken what was there: then the call looks again, as it was not the time that was up.
    if result > 0 && ready_now == 0 { poll_until(context, address, count, deadline) } else { Ok(ready_now) }
}

pub fn poll(context: &mut Context, address: u64, count: u64, milliseconds: i32) -> Result<u64> {
    let deadline = u64::try_from(milliseconds).ok().map(|wait| deadline(context, wait * 1_000_000));
    poll_until(context, address, count, deadline)
}

pub fn ppoll(context: &mut Context, address: u64, count: u64, time: u64, mask: u64, size: u64) -> Result<u64> {
    let mask = read_mask(context, mask, size)?;
    let until = if time == 0 { None } else { Some(deadline(context, read_timespec(context, time)?)) };
    let result = masked(context, mask, |context| poll_until(context, address, count, until));
    if let Some(until) = until.filter(|_| !keeps_times(context)) {
        // What is left is told, where it can be.
        let _ = write_timespec(context, time, until.saturating_sub(context.system.now()));
    }
    result
}

/// Whether the process's persona has it that nothing is told of what is left of a time (`STICKY_TIMEOUTS`).
fn keeps_times(context: &Context) -> bool {
    const STICKY_TIMEOUTS: u32 = 0x400_0000;
    context.process.persona.load(Ordering::Relaxed) & STICKY_TIMEOUTS != 0
}

/// A set of descriptors of select(2).
struct Chosen(Vec<u8>);

impl Chosen {
    fn read(context: &Context, address: u64, count: usize) -> Result<Chosen> {
        let mut bytes = alloc::vec![0; if address == 0 { 0 } else { count.div_ceil(64) * 8 }];
        context.read_bytes(address, &mut bytes)?;
        Ok(Chosen(bytes))
    }

    fn has(&self, descriptor: usize) -> bool {
        self.0.get(descriptor / 8).is_some_and(|byte| byte & 1 << (descriptor % 8) != 0)
    }

    fn add(&mut self, descriptor: usize) {
        if let Some(byte) = self.0.get_mut(descriptor / 8) {
            *byte |= 1 << (descriptor % 8);
        }
    }

    fn empty(&self) -> Chosen {
        Chosen(alloc::vec![0; self.0.len()])
    }
}

fn select_until(context: &mut Context, count: i32, addresses: [u64; 3], deadline: Option<u64>) -> Result<u64> {
    const READABLE: u32 = ready::IN | ready::HANGUP | ready::ERROR;
    const WRITABLE: u32 = ready::OUT | ready::ERROR;
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(most_files(&context.process) as usize);
    let [read, write, exceptional] = addresses.map(|address| Chosen::read(context, address, count));
    let wanted = [read?, write?, exceptional?];
    let mut files = Vec::new();
    for descriptor in (0..count).filter(|descriptor| wanted.iter().any(|chosen| chosen.has(*descriptor))) {
        files.push((descriptor, context.description(descriptor as i32)?));
    }
    let all: Vec<Arc<Description>> = files.iter().map(|(_, file)| file.clone()).collect();
    let mut found = wanted.each_ref().map(Chosen::empty);
    let result = wait_for(context, &all, deadline, |_| {
        let mut count = 0;
        for (descriptor, file) in &files {
            let bits = file.file.ready();
            for ((wanted, found), means) in wanted.iter().zip(&mut found).zip([READABLE, WRITABLE, ready::PRIORITY]) {
                if wanted.has(*descriptor) && bits & means != 0 {
                    found.add(*descriptor);
                    count += 1;
                }
            }
        }
        (count > 0).then_some(Ok(count))
    })?;
    for (address, found) in addresses.iter().zip(&found) {
        if *address != 0 {
            context.write_bytes(*address, &found.0)?;
        }
    }
    Ok(result)
}

pub fn select(context: &mut Context, count: i32, read: u64, write: u64, exceptional: u64, time: u64) -> Result<u64> {
    let until = if time == 0 { None } else { Some(deadline(context, read_timeval(context, time)?)) };
    let result = select_until(context, count, [read, write, exceptional], until);
    if let Some(until) = until.filter(|_| !keeps_times(context)) {
        let _ = write_timeval(context, time, until.saturating_sub(context.system.now()));
    }
    result
}

pub fn pselect6(
    context: &mut Context,
    count: i32,
    read: u64,
    write: u64,
    exceptional: u64,
    time: u64,
    mask: u64,
) -> Result<u64> {
    let mask = read_sized_mask(context, mask)?;
    let until = if time == 0 { None } else { Some(deadline(context, read_timespec(context, time)?)) };
    let result = masked(context, mask, |context| select_until(context, count, [read, write, exceptional], until));
    if let Some(until) = until.filter(|_| !keeps_times(context)) {
        let _ = write_timespec(context, time, until.saturating_sub(context.system.now()));
    }
    result
}

pub fn epoll_create1(context: &mut Context, flags: u32) -> Result<u64> {
    use crate::file::open::{CLOSE_ON_EXEC, READ_WRITE};
    if flags & !CLOSE_ON_EXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let description = Description::new(Epoll::new(), None, READ_WRITE);
    super::file::install(context, description, flags & CLOSE_ON_EXEC != 0)
}

pub fn epoll_create(context: &mut Context, size: i32) -> Result<u64> {
    if size <= 0 { Err(Errno::EINVAL) } else { epoll_create1(context, 0) }
}

pub fn epoll_ctl(context: &mut Context, set: i32, operation: u32, descriptor: i32, event: u64) -> Result<u64> {
    const ADD: u32 = 1;
    const REMOVE: u32 = 2;
    const CHANGE: u32 = 3;
    let bytes: [u8; EVENT] = if operation == REMOVE { [0; EVENT] } else { context.read_array(event)? };
    let [a, b, c, d, data @ ..] = bytes;
    let (events, data) = (u32::from_ne_bytes([a, b, c, d]), u64::from_ne_bytes(data));
    let (own, file) = (context.description(set)?, context.description(descriptor)?);
    if own.is_path_only() || file.is_path_only() {
        return Err(Errno::EBADF);
    }
    // What cannot be waited for is told before that the set is none.
    if file.file.queue().is_none() {
        return Err(Errno::EPERM);
    }
    let epoll = own.concrete::<Epoll>().ok_or(Errno::EINVAL)?;
    match operation {
        ADD => epoll.add(descriptor, &file, events, data)?,
        CHANGE => epoll.change(descriptor, &file, events, data)?,
        REMOVE => epoll.remove(descriptor, &file)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

#[inline(never)]
#[cfg_attr(target_os = "none", optimize(speed))]
fn epoll_until(context: &mut Context, set: i32, events: u64, most: i32, deadline: Option<u64>) -> Result<u64> {
    if most <= 0 || most > MOST_EVENTS {
        return Err(Errno::EINVAL);
    }
    let description = context.description(set)?;
    let epoll = description.concrete::<Epoll>().ok_or(Errno::EINVAL)?;
    wait_for(context, &[description], deadline, |context| {
        let mut index = 0;
        let taken = epoll.take(most as usize, |(bits, data)| {
            let mut bytes = [0; EVENT];
            let (head, rest) = bytes.split_at_mut(4);
            head.copy_from_slice(&bits.to_ne_bytes());
            rest.copy_from_slice(&data.to_ne_bytes());
            context.write_bytes(events.wrapping_add(index * EVENT as u64), &bytes)?;
            index += 1;
            Ok(())
        });
        match taken {
            Ok(0) => None,
            Ok(count) => Some(Ok(count as u64)),
            Err(error) => Some(Err(error)),
        }
    })
}

pub fn epoll_wait(context: &mut Context, set: i32, events: u64, most: i32, milliseconds: i32) -> Result<u64> {
    let until = u64::try_from(milliseconds).ok().map(|wait| deadline(context, wait * 1_000_000));
    epoll_until(context, set, events, most, until)
}

pub fn epoll_pwait(
    context: &mut Context,
    set: i32,
    events: u64,
    most: i32,
    milliseconds: i32,
    mask: u64,
    size: u64,
) -> Result<u64> {
    let mask = read_mask(context, mask, size)?;
    masked(context, mask, |context| epoll_wait(context, set, events, most, milliseconds))
}

pub fn epoll_pwait2(
    context: &mut Context,
    set: i32,
    events: u64,
    most: i32,
    time: u64,
    mask: u64,
    size: u64,
) -> Result<u64> {
    let mask = read_mask(context, mask, size)?;
    let until = if time == 0 { None } else { Some(deadline(context, read_timespec(context, time)?)) };
    masked(context, mask, |context| epoll_until(context, set, events, most, until))
}
