//! Sockets: `socket`, `bind`, `listen`, `accept`, `connect`, `send`, `recv` and their relatives.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::file::install as add;
use crate::errno::{Errno, Result};
use crate::file::inet::{SEGMENT, UDP, control};
use crate::file::netlink::NetlinkSocket;
use crate::file::socket::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, Ancillary, Credentials, Received, Socket, message, option,
};
use crate::file::transfer::{GuestSlice, GuestSlices, Pieces};
use crate::file::unix::UnixSocket;
use crate::file::{Description, OpenFile, open};
use crate::signal::{Info, SIGPIPE, send as signal};
use crate::task::credentials::capability;
use crate::task::{Context, wait};

/// Flags in a socket's type.
const NON_BLOCKING: u32 = open::NON_BLOCKING;
const CLOSE_ON_EXEC: u32 = open::CLOSE_ON_EXEC;
/// The longest `struct sockaddr`.
const LONGEST_ADDRESS: usize = 128;
/// The longest control data and option that is looked at.
const LONGEST_CONTROL: u64 = 20_480;
const LONGEST_OPTION: usize = 4096;
/// Most messages of one `sendmmsg` or `recvmmsg`.
const MOST_MESSAGES: u32 = 1024;
/// Kinds of control data.
const SCM_RIGHTS: i32 = 1;
const SCM_CREDENTIALS: i32 = 2;
const SCM_SEND_TIME: i32 = 61;
/// Bytes of a `struct cmsghdr` and of a `struct msghdr`.
const CONTROL_HEAD: usize = 16;
const MESSAGE_HEAD: usize = 56;

fn socket_of(context: &Context, descriptor: i32) -> Result<(Arc<Description>, Arc<dyn Socket>)> {
    let description = context.description(descriptor)?;
    if description.is_path_only() {
        return Err(Errno::EBADF);
    }
    let socket = description.file.clone().socket().ok_or(Errno::ENOTSOCK)?;
    Ok((description, socket))
}

fn credentials(context: &Context) -> Credentials {
    let who = context.credentials();
    Credentials { process: context.process.number, user: who.effective_user, group: who.effective_group }
}

fn install(context: &Context, file: Arc<dyn OpenFile>, flags: u32) -> Result<u64> {
    let description = Description::new(file, None, open::READ_WRITE | flags & NON_BLOCKING);
    add(context, description, flags & CLOSE_ON_EXEC != 0)
}

pub fn socket(context: &mut Context, domain: u32, kind: u32, protocol: i32) -> Result<u64> {
    let flags = kind & (NON_BLOCKING | CLOSE_ON_EXEC);
    if kind & !(0xf | NON_BLOCKING | CLOSE_ON_EXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    const PACKET: u32 = 17;
    const RAW: u32 = 3;
    // Of no protocol there are no raw packets, whoever asks.
    if matches!(u16::try_from(domain), Ok(AF_INET | AF_INET6)) && kind & 0xf == RAW && protocol == 0 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    // Packets past the network are nothing that a container can be given.
    let is_raw = domain == PACKET || matches!(u16::try_from(domain), Ok(AF_INET | AF_INET6)) && kind & 0xf == RAW;
    if is_raw && !context.credentials().has(capability::NET_RAW) {
        return Err(Errno::EPERM);
    }
    let file: Arc<dyn OpenFile> = match u16::try_from(domain).map_err(|_| Errno::EAFNOSUPPORT)? {
        AF_UNIX if protocol != 0 && protocol != 1 => return Err(Errno::EPROTONOSUPPORT),
        // A raw Unix socket is one of datagrams.
        AF_UNIX if kind & 0xf == 3 => UnixSocket::new(2)?,
        AF_UNIX => UnixSocket::new(kind & 0xf)?,
        family @ (AF_INET | AF_INET6) => {
            let inet = context.system.inet.as_ref().ok_or(Errno::EAFNOSUPPORT)?;
            inet.open(family, kind & 0xf, protocol)?
        }
        AF_NETLINK => {
            let inet = context.system.inet.clone();
            NetlinkSocket::new(kind & 0xf, protocol, context.process.number, inet)?
        }
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    install(context, file, flags)
}

pub fn socketpair(context: &mut Context, domain: u32, kind: u32, protocol: i32, to: u64) -> Result<u64> {
    let flags = kind & (NON_BLOCKING | CLOSE_ON_EXEC);
    match u16::try_from(domain) {
        Ok(AF_UNIX) if protocol == 0 || protocol == 1 => {}
        Ok(AF_UNIX) => return Err(Errno::EPROTONOSUPPORT),
        // There are no pairs of these; what is wrong in itself is told first.
        Ok(AF_INET | AF_INET6) => {
            return Err(match (kind & 0xff, protocol) {
                (11.., _) => Errno::EINVAL,
                (1, 0 | 6) | (2, 0 | 17) => Errno::EOPNOTSUPP,
                (1..=3, _) => Errno::EPROTONOSUPPORT,
                _ => Errno::ESOCKTNOSUPPORT,
            });
        }
        Ok(AF_NETLINK) => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EAFNOSUPPORT),
    }
    let (one, other) = UnixSocket::pair(kind & !(NON_BLOCKING | CLOSE_ON_EXEC), credentials(context))?;
    super::pipe::install_pair(context, to, (one, other), (open::READ_WRITE, open::READ_WRITE), flags)
}

fn read_address(context: &Context, address: u64, length: i32) -> Result<Vec<u8>> {
    let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST_ADDRESS).ok_or(Errno::EINVAL)?;
    let mut bytes = alloc::vec![0; length];
    context.read_bytes(address, &mut bytes)?;
    Ok(bytes)
}

/// Stores an address where there is room for `length` bytes; answers its whole length.
fn write_address(context: &Context, to: u64, room: u32, address: &[u8]) -> Result<u32> {
    let room = i32::try_from(room).map_err(|_| Errno::EINVAL)? as usize;
    context.write_bytes(to, address.get(..address.len().min(room)).unwrap_or_default())?;
    Ok(address.len() as u32)
}

/// Stores an address and its length where accept(2) and getsockname(2) want them.
fn tell_address(context: &Context, to: u64, length: u64, address: &[u8]) -> Result<()> {
    let room = context.read_u32(length)?;
    let whole = write_address(context, to, room, address)?;
    context.write_u32(length, whole)
}

pub fn bind(context: &mut Context, descriptor: i32, address: u64, length: i32) -> Result<u64> {
    let (_, socket) = socket_of(context, descriptor)?;
    let address = read_address(context, address, length)?;
    if matches!(socket.shape().0, AF_INET | AF_INET6) {
        let port = address.get(2..).and_then(<[u8]>::first_chunk).map_or(0, |port| u16::from_be_bytes(*port));
        if (1..1024).contains(&port) && !context.credentials().has(capability::NET_BIND_SERVICE) && !UNPRIVILEGED {
            return Err(Errno::EACCES);
        }
    }
    socket.bind(context, &address).map(|()| 0)
}

/// As container runtimes set it: every port may be bound (`net.ipv4.ip_unprivileged_port_start` is 0).
const UNPRIVILEGED: bool = true;

pub fn listen(context: &mut Context, descriptor: i32, backlog: i32) -> Result<u64> {
    let (_, socket) = socket_of(context, descriptor)?;
    socket.listen(context, u32::try_from(backlog).unwrap_or(u32::MAX).min(4096))?;
    if let (Some(attachment), Ok(name)) = (&context.system.attachment, socket.name())
        && matches!(socket.shape().0, AF_INET | AF_INET6)
        && let [_, _, high, low, ..] = *name
    {
        attachment.port_opened(u16::from_be_bytes([high, low]));
    }
    Ok(0)
}

/// Repeats what answers `EAGAIN`, if the socket waits at all, for at most `limit` nanoseconds (0: without end).
fn waiting<T>(
    context: &mut Context,
    (description, flags): (&Description, u32),
    limit: u64,
    mut attempt: impl FnMut(&mut Context) -> Result<T>,
) -> Result<T> {
    match attempt(context) {
        Err(Errno::EAGAIN) if description.is_blocking() && flags & message::DO_NOT_WAIT == 0 => {}
        other => return other,
    }
    let Some(queue) = description.file.queue() else { return Err(Errno::EAGAIN) };
    let deadline = (limit != 0).then(|| context.system.now().saturating_add(limit));
    let waited = wait(context, &[queue], deadline, |context| match attempt(context) {
        Err(Errno::EAGAIN) => None,
        other => Some(other),
    });
    match waited {
        Ok(result) => result,
        Err(Errno::ETIMEDOUT) => Err(Errno::EAGAIN),
        // With a time limit the call is not made again: its time would begin anew.
        Err(Errno::ERESTARTSYS) if limit != 0 => Err(Errno::EINTR),
        Err(error) => Err(error),
    }
}

pub fn accept4(context: &mut Context, descriptor: i32, address: u64, length: u64, flags: u32) -> Result<u64> {
    if flags & !(NON_BLOCKING | CLOSE_ON_EXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let (description, socket) = socket_of(context, descriptor)?;
    let limit = socket.limits().receive;
    let (accepted, name) = waiting(context, (&description, 0), limit, |context| socket.accept(context))?;
    if address != 0 {
        tell_address(context, address, length, &name)?;
    }
    install(context, accepted, flags)
}

pub fn accept(context: &mut Context, descriptor: i32, address: u64, length: u64) -> Result<u64> {
    accept4(context, descriptor, address, length, 0)
}

pub fn connect(context: &mut Context, descriptor: i32, address: u64, length: i32) -> Result<u64> {
    let (description, socket) = socket_of(context, descriptor)?;
    let address = read_address(context, address, length)?;
    let limit = socket.limits().send;
    let connected = waiting(context, (&description, 0), limit, |context| socket.connect(context, &address));
    if connected != Err(Errno::EINPROGRESS) && connected != Err(Errno::EALREADY) || !description.is_blocking() {
        return connected.map(|()| 0);
    }
    let Some(queue) = description.file.queue() else { return Err(Errno::EINPROGRESS) };
    let deadline = (limit != 0).then(|| context.system.now().saturating_add(limit));
    match wait(context, &[queue], deadline, |_| socket.outcome()) {
        Ok(outcome) => outcome.map(|()| 0),
        Err(Errno::ETIMEDOUT) => Err(Errno::EINPROGRESS),
        Err(error) => Err(error),
    }
}

pub fn getsockname(context: &mut Context, descriptor: i32, address: u64, length: u64) -> Result<u64> {
    let (_, socket) = socket_of(context, descriptor)?;
    tell_address(context, address, length, &socket.name()?).map(|()| 0)
}

pub fn getpeername(context: &mut Context, descriptor: i32, address: u64, length: u64) -> Result<u64> {
    let (_, socket) = socket_of(context, descriptor)?;
    tell_address(context, address, length, &socket.peer_name()?).map(|()| 0)
}

pub fn shutdown(context: &mut Context, descriptor: i32, how: i32) -> Result<u64> {
    let (_, socket) = socket_of(context, descriptor)?;
    match how {
        0 => socket.shutdown(true, false)?,
        1 => socket.shutdown(false, true)?,
        2 => socket.shutdown(true, true)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

pub fn getsockopt(
    context: &mut Context,
    descriptor: i32,
    level: i32,
    name: i32,
    value: u64,
    length: u64,
) -> Result<u64> {
    let (_, socket) = socket_of(context, descriptor)?;
    let room = usize::try_from(context.read_u32(length)? as i32).map_err(|_| Errno::EINVAL)?;
    let found = socket.option(level, name)?;
    let told = found.get(..found.len().min(room)).unwrap_or_default();
    context.write_bytes(value, told)?;
    context.write_u32(length, told.len() as u32).map(|()| 0)
}

pub fn setsockopt(
    context: &mut Context,
    descriptor: i32,
    level: i32,
    name: i32,
    value: u64,
    length: i32,
) -> Result<u64> {
    let (_, socket) = socket_of(context, descriptor)?;
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?.min(LONGEST_OPTION);
    let mut bytes = alloc::vec![0; length];
    context.read_bytes(value, &mut bytes)?;
    if level == option::LEVEL && matches!(name, option::SEND_BUFFER_FORCE | option::RECEIVE_BUFFER_FORCE) {
        return Err(Errno::EPERM);
    }
    socket.set_option(level, name, &bytes).map(|()| 0)
}

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
    let (received, _) = receive_message(context, descriptor, &[Context::piece(bytes, length)], flags)?;
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
