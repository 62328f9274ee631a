//! Sockets: `socket`, `bind`, `listen`, `accept`, `connect`, `send`, `recv` and their relatives.

mod messages;

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::file::install as add;
use crate::errno::{Errno, Result};
use crate::file::netlink::NetlinkSocket;
use crate::file::socket::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, Credentials, Socket, message, option};
use crate::file::unix::UnixSocket;
use crate::file::{Description, OpenFile, open};
use crate::task::credentials::capability;
use crate::task::{Context, wait};

pub use messages::{recvfrom, recvmmsg, recvmsg, sendmmsg, sendmsg, sendto};

/// Flags in a socket's type.
const NON_BLOCKING: u32 = open::NON_BLOCKING;
const CLOSE_ON_EXEC: u32 = open::CLOSE_ON_EXEC;
/// The longest `struct sockaddr`.
const LONGEST_ADDRESS: usize = 128;
/// The longest option that is looked at.
const LONGEST_OPTION: usize = 4096;

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
