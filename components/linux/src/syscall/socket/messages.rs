//! Sending and receiving on sockets: `sendto`, `recvmsg` and their relatives.

use alloc::vec::Vec;

use super::super::file::install as add;
use super::{read_address, socket_of, tell_address, waiting, write_address};
use crate::errno::{Errno, Result};
use crate::file::inet::{SEGMENT, UDP, control};
use crate::file::socket::{Ancillary, Credentials, Received, SOCK_STREAM, message, option};
use crate::file::transfer::{GuestSlice, GuestSlices, Pieces};
use crate::signal::{Info, SIGPIPE, send as signal};
use crate::task::Context;
use crate::task::credentials::capability;

/// The longest control data that is looked at.
const LONGEST_CONTROL: u64 = 20_480;
/// Most messages of one `sendmmsg` or `recvmmsg`.
const MOST_MESSAGES: u32 = 1024;
/// Kinds of control data.
const SCM_RIGHTS: i32 = 1;
const SCM_CREDENTIALS: i32 = 2;
const SCM_SEND_TIME: i32 = 61;
/// Bytes of a `struct cmsghdr` and of a `struct msghdr`.
const CONTROL_HEAD: usize = 16;
const MESSAGE_HEAD: usize = 56;

/// What `sendmsg` and `sendto` do.
#[inline(never)]
#[cfg_attr(target_os = "none", optimize(speed))]
fn send_message(
    context: &mut Context,
    descriptor: i32,
    pieces: &[GuestSlice],
    to: Option<&[u8]>,
    ancillary: &Ancillary,
    flags: u32,
) -> Result<u64> {
    let (description, socket) = socket_of(context, descriptor)?;
    let limit = socket.limits().send;
    let is_stream = socket.shape().1 == 1;
    let total: u64 = pieces.iter().map(|piece| piece.length).sum();
    let mut done = 0;
    loop {
        // What goes along goes with the first byte.
        let mut along = if done == 0 { ancillary.clone() } else { Ancillary::default() };
        let step = waiting(context, (&description, flags), limit, |context| {
            let memory = context.memory.clone();
            let sent = socket.send(context, &mut Pieces::behind(&memory, pieces, done), to, along.clone(), flags);
            if sent.is_ok() {
                along = Ancillary::default();
            }
            sent
        });
        match step {
            Ok(sent) => {
                done += sent as u64;
                let waits = description.is_blocking() && flags & message::DO_NOT_WAIT == 0;
                if done >= total || !is_stream || sent == 0 || !waits {
                    return Ok(done);
                }
            }
            Err(_) if done > 0 => return Ok(done),
            Err(Errno::EPIPE) if flags & message::NO_SIGNAL == 0 && is_stream => {
                let user = context.credentials().user;
                signal::to_task(&context.task, Info::user(SIGPIPE, 0, context.process.number, user));
                return Err(Errno::EPIPE);
            }
            Err(error) => return Err(error),
        }
    }
}

pub fn sendto(
    context: &mut Context,
    descriptor: i32,
    bytes: u64,
    length: u64,
    flags: u32,
    address: u64,
    address_length: i32,
) -> Result<u64> {
    let to = if address == 0 { None } else { Some(read_address(context, address, address_length)?) };
    send_message(context, descriptor, &[Context::piece(bytes, length)], to.as_deref(), &Ancillary::default(), flags)
}

/// The parts of a `struct msghdr`.
struct Head {
    name: u64,
    name_length: u32,
    pieces: GuestSlices,
    control: u64,
    control_length: u64,
}

fn read_head(context: &Context, address: u64) -> Result<Head> {
    let [name, name_length, pieces, count, control, control_length, _flags]: [u64; MESSAGE_HEAD / 8] =
        context.read_words(address)?;
    if name != 0 && (name_length as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Head {
        name,
        name_length: name_length as u32,
        pieces: context
            .read_pieces(pieces, count)
            .map_err(|error| if error == Errno::EINVAL { Errno::EMSGSIZE } else { error })?,
        control,
        control_length,
    })
}

fn read_control(context: &Context, head: &Head) -> Result<Ancillary> {
    let mut ancillary = Ancillary::default();
    if head.control == 0 || head.control_length == 0 {
        return Ok(ancillary);
    }
    if head.control_length > LONGEST_CONTROL {
        return Err(Errno::ENOBUFS);
    }
    let mut bytes = alloc::vec![0; head.control_length as usize];
    context.read_bytes(head.control, &mut bytes)?;
    let mut rest = bytes.as_slice();
    while let Some((control, _)) = rest.split_first_chunk::<CONTROL_HEAD>() {
        let [length @ .., a, b, c, d, e, f, g, h] = *control;
        let (level, kind) = (i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]));
        let length = usize::try_from(u64::from_ne_bytes(length)).map_err(|_| Errno::EINVAL)?;
        let data = rest.get(CONTROL_HEAD..length).ok_or(Errno::EINVAL)?;
        if level == option::LEVEL {
            match kind {
                SCM_RIGHTS => {
                    for number in data.chunks_exact(4) {
                        let number = number.first_chunk().map_or(-1, |number| i32::from_ne_bytes(*number));
                        ancillary.files.push(context.description(number)?);
                    }
                }
                SCM_CREDENTIALS => ancillary.credentials = Some(check_credentials(context, data)?),
                // When to send: nothing queues packets by time, here or in Linux unless it was told to.
                SCM_SEND_TIME => {}
                _ => return Err(Errno::EINVAL),
            }
        } else if control::HOPS.contains(&(level, kind)) {
            ancillary.hops = control::mark(data)?;
        } else if control::CLASSES.contains(&(level, kind)) {
            ancillary.class = control::mark(data)?;
        } else if (level, kind) == (UDP, SEGMENT) {
            ancillary.segment = Some(data.first_chunk().map(|size| u16::from_ne_bytes(*size)).ok_or(Errno::EINVAL)?);
        }
        rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(ancillary)
}

/// Credentials that a process sends of itself; only root may claim others.
fn check_credentials(context: &Context, data: &[u8]) -> Result<Credentials> {
    let [a, b, c]: [u32; 3] = {
        let bytes: &[u8; 12] = data.first_chunk().ok_or(Errno::EINVAL)?;
        let [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11] = *bytes;
        [[b0, b1, b2, b3], [b4, b5, b6, b7], [b8, b9, b10, b11]].map(u32::from_ne_bytes)
    };
    let claimed = Credentials { process: a as i32, user: b, group: c };
    let who = context.credentials();
    let is_own = claimed.process == context.process.number
        && [who.user, who.effective_user, who.saved_user].contains(&claimed.user)
        && [who.group, who.effective_group, who.saved_group].contains(&claimed.group);
    if is_own || who.has(capability::SETUID) { Ok(claimed) } else { Err(Errno::EPERM) }
}

pub fn sendmsg(context: &mut Context, descriptor: i32, address: u64, flags: u32) -> Result<u64> {
    context.description(descriptor)?;
    let head = read_head(context, address)?;
    let ancillary = read_control(context, &head)?;
    let to = if head.name == 0 || head.name_length == 0 {
        None
    } else {
        Some(read_address(context, head.name, head.name_length as i32)?)
    };
    send_message(context, descriptor, &head.pieces, to.as_deref(), &ancillary, flags)
}

pub fn sendmmsg(context: &mut Context, descriptor: i32, messages: u64, count: u32, flags: u32) -> Result<u64> {
    let mut done = 0;
    for index in 0..count.min(MOST_MESSAGES) {
        let address = messages.wrapping_add(u64::from(index) * 64);
        match sendmsg(context, descriptor, address, flags) {
            Ok(sent) => context.write_u32(address.wrapping_add(MESSAGE_HEAD as u64), sent as u32)?,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
        done += 1;
    }
    Ok(done)
}

/// What `recvmsg` and `recvfrom` do: answers what came and the flags to tell.
#[inline(never)]
#[cfg_attr(target_os = "none", optimize(speed))]
fn receive_message(
    context: &mut Context,
    descriptor: i32,
    pieces: &[GuestSlice],
    flags: u32,
) -> Result<(Received, u32)> {
    let (description, socket) = socket_of(context, descriptor)?;
    if flags & message::ERRORS != 0 {
        // Never waited for.
        let memory = context.memory.clone();
        let received = socket.receive_error(&mut Pieces::new(&memory, pieces))?;
        let cut = if received.whole > received.stored { message::TRUNCATED } else { 0 };
        return Ok((received, message::ERRORS | cut));
    }
    let limit = socket.limits().receive;
    let is_stream = socket.shape().1 == 1;
    let total: u64 = pieces.iter().map(|piece| piece.length).sum();
    let mut all: Option<Received> = None;
    loop {
        let done = all.as_ref().map_or(0, |received| received.stored as u64);
        let step = waiting(context, (&description, flags), limit, |context| {
            let memory = context.memory.clone();
            socket.receive(context, &mut Pieces::behind(&memory, pieces, done), flags)
        });
        let received = match (step, all.take()) {
            (Ok(received), None) => received,
            (Ok(more), Some(mut before)) => {
                before.stored += more.stored;
                before.whole += more.whole;
                if more.stored == 0 || !more.ancillary.files.is_empty() {
                    before.ancillary.files.extend(more.ancillary.files);
                    return Ok((before, 0));
                }
                before
            }
            (Err(_), Some(before)) => return Ok((before, 0)),
            (Err(error), None) => return Err(error),
        };
        let waits_for_all = flags & message::WAIT_FOR_ALL != 0 && is_stream && flags & message::PEEK == 0;
        let is_more = received.stored > 0 && (received.stored as u64) < total && received.ancillary.files.is_empty();
        if !waits_for_all || !is_more {
            let told = if received.whole > received.stored { message::TRUNCATED } else { 0 };
            return Ok((received, told));
        }
        all = Some(received);
    }
}

fn answer(received: &Received, flags: u32) -> u64 {
    if flags & message::TRUNCATED != 0 { received.whole as u64 } else { received.stored as u64 }
}

pub fn recvfrom(
    context: &mut Context,
    descriptor: i32,
    bytes: u64,
    length: u64,
    flags: u32,
    address: u64,
    address_length: u64,
) -> Result<u64> {
    let pieces = [Context::piece(bytes, length)];
    if flags & !message::DO_NOT_WAIT == 0 && address == 0 {
        let (description, socket) = socket_of(context, descriptor)?;
        // Nothing is asked of a stream that read(2) does not give.
        if socket.shape().1 == SOCK_STREAM {
            let read = waiting(context, (&description, flags), socket.limits().receive, |context| {
                description.file.read(0, &mut Pieces::new(&context.memory, &pieces))
            })?;
            return Ok(read as u64);
        }
    }
    let (received, _) = receive_message(context, descriptor, &pieces, flags)?;
    if address != 0 {
        tell_address(context, address, address_length, &received.from)?;
    }
    Ok(answer(&received, flags))
}

/// Stores control data; answers its length, and whether all found room.
fn write_control(context: &Context, head: &Head, received: &Received, flags: u32) -> Result<(u64, bool)> {
    let mut bytes = Vec::new();
    let mut is_whole = true;
    let room = if head.control == 0 { 0 } else { head.control_length.min(LONGEST_CONTROL) as usize };
    // What does not fit is cut, and left out where not even its head fits; answers whether it is whole.
    let put = |bytes: &mut Vec<u8>, (level, kind): (i32, i32), data: &[u8]| {
        let Some(fits) = room.checked_sub(bytes.len() + CONTROL_HEAD) else { return false };
        let data_there = data.get(..fits.min(data.len())).unwrap_or_default();
        bytes.extend(((CONTROL_HEAD + data_there.len()) as u64).to_ne_bytes());
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data_there);
        bytes.resize(bytes.len().next_multiple_of(8).min(room), 0);
        data_there.len() == data.len()
    };
    if let Some(who) = received.ancillary.credentials {
        is_whole &= put(&mut bytes, (option::LEVEL, SCM_CREDENTIALS), &who.to_bytes());
    }
    for (level, kind, data) in &received.ancillary.told {
        is_whole &= put(&mut bytes, (*level, *kind), data);
    }
    if !received.ancillary.files.is_empty() {
        let fits = room.saturating_sub(bytes.len() + CONTROL_HEAD) / 4;
        let mut numbers = Vec::new();
        for file in received.ancillary.files.iter().take(fits) {
            match add(context, file.clone(), flags & message::CLOSE_ON_EXEC != 0) {
                Ok(number) => numbers.extend((number as i32).to_ne_bytes()),
                Err(_) => break,
            }
        }
        is_whole &= numbers.len() / 4 == received.ancillary.files.len();
        if !numbers.is_empty() {
            is_whole &= put(&mut bytes, (option::LEVEL, SCM_RIGHTS), &numbers);
        }
    }
    context.write_bytes(head.control, &bytes)?;
    Ok((bytes.len() as u64, is_whole))
}

pub fn recvmsg(context: &mut Context, descriptor: i32, address: u64, flags: u32) -> Result<u64> {
    context.description(descriptor)?;
    let head = read_head(context, address)?;
    let (received, mut told) = receive_message(context, descriptor, &head.pieces, flags)?;
    if head.name != 0 {
        let length = write_address(context, head.name, head.name_length, &received.from)?;
        context.write_u32(address.wrapping_add(8), length)?;
    }
    let (length, is_whole) = write_control(context, &head, &received, flags)?;
    if !is_whole {
        told |= message::CONTROL_TRUNCATED;
    }
    context.write_u64(address.wrapping_add(40), length)?;
    context.write_u32(address.wrapping_add(48), told)?;
    Ok(answer(&received, flags))
}

pub fn recvmmsg(
    context: &mut Context,
    descriptor: i32,
    messages: u64,
    count: u32,
    flags: u32,
    time: u64,
) -> Result<u64> {
    const WAIT_FOR_ONE: u32 = 0x10000;
    let until = match time {
        0 => None,
        time => Some(context.system.now().saturating_add(crate::time::read_timespec(context, time)?)),
    };
    let mut done = 0;
    let mut flags = flags;
    for index in 0..count.min(MOST_MESSAGES) {
        let address = messages.wrapping_add(u64::from(index) * 64);
        match recvmsg(context, descriptor, address, flags & !WAIT_FOR_ONE) {
            Ok(received) => context.write_u32(address.wrapping_add(MESSAGE_HEAD as u64), received as u32)?,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
        done += 1;
        if flags & WAIT_FOR_ONE != 0 {
            flags |= message::DO_NOT_WAIT;
        }
        if until.is_some_and(|until| context.system.now() >= until) {
            break;
        }
    }
    Ok(done)
}
