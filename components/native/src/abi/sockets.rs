//! Sockets and names.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ffi::{c_char, c_void};
use core::ptr::null_mut;

use tessera_interfaces::{Address, Family, SocketOption};

use super::{bytes, bytes_mut, text, told, told_done, told_small};
use crate::descriptor::Descriptor;
use crate::errno::{Errno, Result};
use crate::socket::{Direction, Socket, address_from, address_to, family_of, number_of, unspecified};
use crate::world;

const SOCK_STREAM: i32 = 1;
const SOCK_DGRAM: i32 = 2;
/// `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
const NONBLOCKING: i32 = 0o4000;
const CLOSE_ON_EXEC: i32 = 0o40_000;
const MSG_PEEK: i32 = 1;

/// Levels of options.
const SOL_SOCKET: i32 = 4095;
const IPPROTO_IP: i32 = 0;
const IPPROTO_TCP: i32 = 6;
const IPPROTO_IPV6: i32 = 41;
/// Options of `SOL_SOCKET` that are not one of the network stack's.
const SO_KEEPALIVE: i32 = 8;
const SO_LINGER: i32 = 0x80;
const SO_SNDTIMEO: i32 = 0x1005;
const SO_RCVTIMEO: i32 = 0x1006;
const SO_ERROR: i32 = 0x1007;

/// What `getaddrinfo` answers.
const EAI_AGAIN: i32 = 2;
const EAI_NONAME: i32 = 8;

const SECOND: u64 = 1_000_000_000;
/// Between probes of an idle connection, as Linux does unless told otherwise.
const KEEP_ALIVE: u64 = 7200 * SECOND;

fn socket(number: i32) -> Result<Arc<Socket>> {
    world().descriptors.get(number)?.socket().cloned()
}

#[unsafe(no_mangle)]
extern "C" fn sys_socket(family: i32, kind: i32, _protocol: i32) -> i32 {
    told_small(family_of(family).and_then(|family| {
        let is_stream = match kind & !(NONBLOCKING | CLOSE_ON_EXEC) {
            SOCK_STREAM => true,
            SOCK_DGRAM => false,
            _ => return Err(Errno::EPROTONOSUPPORT),
        };
        let socket = world().network()?.open(family, is_stream, kind & NONBLOCKING != 0)?;
        world().descriptors.add(Descriptor::Socket(socket), 0)
    }))
}

/// The address that a pointer and a length name.
///
/// # Safety
/// As [`bytes`].
unsafe fn address(first: *const u8, length: u32) -> Result<Address> {
    // SAFETY: passed on.
    unsafe { bytes(first, length as usize) }.and_then(address_from)
}

/// Tells an address, as far as there is room.
///
/// # Safety
/// `to` must be null or as for [`bytes_mut`], with the length at `length`.
unsafe fn tell(address: &Address, to: *mut u8, length: *mut u32) -> Result<()> {
    let (written, whole) = address_to(address);
    // SAFETY: passed on.
    let Some(length) = (unsafe { length.as_mut() }) else { return Ok(()) };
    if to.is_null() {
        return Ok(());
    }
    // SAFETY: passed on.
    let to = unsafe { bytes_mut(to, *length as usize) }?;
    for (to, from) in to.iter_mut().zip(written.iter().take(whole)) {
        *to = *from;
    }
    *length = whole as u32;
    Ok(())
}

/// # Safety
/// As [`address`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_bind(number: i32, at: *const u8, length: u32) -> i32 {
    // SAFETY: passed on.
    let at = unsafe { address(at, length) };
    told_done(at.and_then(|at| socket(number)?.bind(at)))
}

#[unsafe(no_mangle)]
extern "C" fn sys_listen(number: i32, backlog: i32) -> i32 {
    told_done(socket(number).and_then(|socket| socket.listen(u32::try_from(backlog).unwrap_or(u32::MAX))))
}

/// # Safety
/// As [`tell`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_accept(number: i32, to: *mut u8, length: *mut u32) -> i32 {
    told_small(socket(number).and_then(|listener| {
        let (socket, peer) = listener.accept()?;
        // SAFETY: passed on.
        unsafe { tell(&peer.unwrap_or(unspecified(socket.family)), to, length) }?;
        world().descriptors.add(Descriptor::Socket(socket), 0)
    }))
}

/// # Safety
/// As [`address`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_connect(number: i32, to: *const u8, length: u32) -> i32 {
    // SAFETY: passed on.
    let to = unsafe { address(to, length) };
    told_done(to.and_then(|to| socket(number)?.connect(to)))
}

/// # Safety
/// As [`bytes_mut`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_recv(number: i32, to: *mut u8, length: usize, flags: i32) -> isize {
    // SAFETY: passed on.
    let to = unsafe { bytes_mut(to, length) };
    told(to.and_then(|to| socket(number)?.receive(to, flags & MSG_PEEK != 0)))
}

/// # Safety
/// As [`bytes_mut`] and [`tell`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_recvfrom(
    number: i32,
    to: *mut u8,
    length: usize,
    flags: i32,
    from: *mut u8,
    from_length: *mut u32,
) -> isize {
    // SAFETY: passed on.
    let to = unsafe { bytes_mut(to, length) };
    told(to.and_then(|to| {
        let (count, sender) = socket(number)?.receive_from(to, flags & MSG_PEEK != 0)?;
        // SAFETY: passed on.
        unsafe { tell(&sender, from, from_length) }?;
        Ok(count)
    }))
}

/// # Safety
/// As [`bytes`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_send(number: i32, from: *const u8, length: usize, _flags: i32) -> isize {
    // SAFETY: passed on.
    let from = unsafe { bytes(from, length) };
    told(from.and_then(|from| socket(number)?.send(from)))
}

/// # Safety
/// As [`bytes`] and [`address`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_sendto(
    number: i32,
    from: *const u8,
    length: usize,
    _flags: i32,
    to: *const u8,
    to_length: u32,
) -> isize {
    // SAFETY: passed on.
    let (from, to) = unsafe { (bytes(from, length), address(to, to_length)) };
    told(from.and_then(|from| socket(number)?.send_to(to?, from)))
}

#[unsafe(no_mangle)]
extern "C" fn sys_shutdown(number: i32, how: i32) -> i32 {
    told_done(socket(number).and_then(|socket| socket.shutdown(how)))
}

/// # Safety
/// As [`tell`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_getsockname(number: i32, to: *mut u8, length: *mut u32) -> i32 {
    let own = socket(number).and_then(|socket| socket.local());
    // SAFETY: passed on.
    told_done(own.and_then(|own| unsafe { tell(&own, to, length) }))
}

/// # Safety
/// As [`tell`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_getpeername(number: i32, to: *mut u8, length: *mut u32) -> i32 {
    let peer = socket(number).and_then(|socket| socket.peer());
    // SAFETY: passed on.
    told_done(peer.and_then(|peer| unsafe { tell(&peer, to, length) }))
}

/// The option of the network stack that an option of `std` is.
fn known(level: i32, name: i32) -> Option<SocketOption> {
    Some(match (level, name) {
        (SOL_SOCKET, 4) => SocketOption::ReuseAddress,
        (SOL_SOCKET, 0x20) => SocketOption::Broadcast,
        (SOL_SOCKET, 0x1001) => SocketOption::SendBuffer,
        (SOL_SOCKET, 0x1002) => SocketOption::ReceiveBuffer,
        (IPPROTO_IP, 2) => SocketOption::HopLimit,
        (IPPROTO_TCP, 1) => SocketOption::NoDelay,
        (IPPROTO_IPV6, 27) => SocketOption::OnlyV6,
        _ => return None,
    })
}

/// A number of an option's value.
fn number_in(value: &[u8]) -> Result<i32> {
    value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)
}

/// A `timeval` as nanoseconds: seconds (i64) and microseconds (i32).
fn time_in(value: &[u8]) -> Result<u64> {
    let seconds = value.first_chunk().map(|bytes| i64::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)?;
    let micro = number_in(value.get(8..).unwrap_or_default())?;
    let (seconds, micro) = (u64::try_from(seconds), u64::try_from(micro));
    Ok(seconds
        .map_err(|_| Errno::EINVAL)?
        .saturating_mul(SECOND)
        .saturating_add(micro.map_err(|_| Errno::EINVAL)? * 1000))
}

fn time_to(nanoseconds: u64) -> [u8; 16] {
    let (seconds, micro) = ((nanoseconds / SECOND) as i64, (nanoseconds % SECOND / 1000) as i32);
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(seconds.to_ne_bytes().into_iter().chain(micro.to_ne_bytes())) {
        *to = from;
    }
    bytes
}

fn direction(name: i32) -> Direction {
    if name == SO_RCVTIMEO { Direction::Receive } else { Direction::Send }
}

/// # Safety
/// As [`bytes`].
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_setsockopt(number: i32, level: i32, name: i32, value: *const u8, length: u32) -> i32 {
    // SAFETY: passed on.
    let value = unsafe { bytes(value, length as usize) };
    told_done(value.and_then(|value| {
        let socket = socket(number)?;
        match (level, name) {
            (SOL_SOCKET, SO_RCVTIMEO | SO_SNDTIMEO) => socket.set_time_limit(direction(name), time_in(value)?),
            (SOL_SOCKET, SO_KEEPALIVE) => {
                let time = if number_in(value)? != 0 { KEEP_ALIVE } else { 0 };
                socket.set_option(SocketOption::KeepAlive, time)?;
            }
            (SOL_SOCKET, SO_LINGER) => {
                let (is_on, seconds) = (number_in(value)?, number_in(value.get(4..).unwrap_or_default())?);
                let linger = if is_on == 0 { u64::MAX } else { u64::try_from(seconds).map_err(|_| Errno::EINVAL)? };
                socket.set_option(SocketOption::Linger, linger)?;
            }
            _ => {
                let option = known(level, name).ok_or(Errno::ENOPROTOOPT)?;
                let value = match value {
                    [byte] => u64::from(*byte),
                    _ => u64::try_from(number_in(value)?).map_err(|_| Errno::EINVAL)?,
                };
                socket.set_option(option, value)?;
            }
        }
        Ok(())
    }))
}

/// # Safety
/// `value` must be as for [`bytes_mut`], with the length at `length`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_getsockopt(number: i32, level: i32, name: i32, value: *mut c_void, length: *mut u32) -> i32 {
    let answer = socket(number).and_then(|socket| {
        let number = |number: i32| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&number.to_ne_bytes());
            (bytes, 4)
        };
        Ok(match (level, name) {
            (SOL_SOCKET, SO_RCVTIMEO | SO_SNDTIMEO) => (time_to(socket.time_limit(direction(name))), 16),
            (SOL_SOCKET, SO_ERROR) => number(socket.take_error().map_or(0, |error| error.0)),
            (SOL_SOCKET, SO_KEEPALIVE) => number(i32::from(socket.option(SocketOption::KeepAlive)? != 0)),
            (SOL_SOCKET, SO_LINGER) => {
                let linger = socket.option(SocketOption::Linger)?;
                let (mut bytes, _) = number(i32::from(linger != u64::MAX));
                let seconds = if linger == u64::MAX { 0 } else { i32::try_from(linger).unwrap_or(i32::MAX) };
                bytes[4..8].copy_from_slice(&seconds.to_ne_bytes());
                (bytes, 8)
            }
            _ => {
                let option = known(level, name).ok_or(Errno::ENOPROTOOPT)?;
                number(i32::try_from(socket.option(option)?).unwrap_or(i32::MAX))
            }
        })
    });
    told_done(answer.and_then(|(answer, whole)| {
        // SAFETY: passed on.
        let length = unsafe { length.as_mut() }.ok_or(Errno::EFAULT)?;
        // SAFETY: passed on.
        let to = unsafe { bytes_mut(value.cast(), *length as usize) }?;
        let written = to.iter_mut().zip(answer.iter().take(whole));
        *length = written.len() as u32;
        written.for_each(|(to, from)| *to = *from);
        Ok(())
    }))
}

/// `addrinfo`, with the address that it points to behind it.
#[repr(C)]
struct Found {
    flags: i32,
    family: i32,
    kind: i32,
    protocol: i32,
    length: u32,
    name: *mut c_char,
    address: *mut u8,
    next: *mut Found,
    bytes: [u8; 28],
}

/// # Safety
/// `name` must be as for [`text`], `hints` null or what this function answers, `to` a pointer to write.
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_getaddrinfo(
    name: *const c_char,
    _service: *const c_char,
    hints: *const FoundHead,
    to: *mut *mut Found,
) -> i32 {
    // SAFETY: passed on.
    let (name, hints) = unsafe { (text(name), hints.as_ref()) };
    let Ok(name) = name.and_then(|name| core::str::from_utf8(name).map_err(|_| Errno::EINVAL)) else {
        return EAI_NONAME;
    };
    let kind = hints.map_or(SOCK_STREAM, |hints| hints.kind);
    let addresses = match world().network().and_then(|network| network.resolve(name)) {
        Ok(addresses) if !addresses.is_empty() => addresses,
        Err(Errno::EAGAIN) => return EAI_AGAIN,
        _ => return EAI_NONAME,
    };
    let mut first = null_mut();
    for ip in addresses.into_iter().rev() {
        let is_v4 = ip.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        let family = if is_v4 { Family::V4 } else { Family::V6 };
        let (bytes, length) = address_to(&Address { ip, port: 0, family });
        let mut found = Box::new(Found {
            flags: 0,
            family: number_of(family),
            kind,
            protocol: 0,
            length: length as u32,
            name: null_mut(),
            address: null_mut(),
            next: first,
            bytes,
        });
        found.address = found.bytes.as_mut_ptr();
        first = Box::into_raw(found);
    }
    // SAFETY: passed on.
    unsafe { to.write(first) };
    0
}

/// What is read of hints: the first fields of `addrinfo`.
#[repr(C)]
struct FoundHead {
    flags: i32,
    family: i32,
    kind: i32,
}

/// # Safety
/// `first` must be null or what [`sys_getaddrinfo`] answered, once.
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_freeaddrinfo(first: *mut Found) {
    let mut next = first;
    while !next.is_null() {
        // SAFETY: each was a box, and is taken once.
        next = unsafe { Box::from_raw(next) }.next;
    }
}
