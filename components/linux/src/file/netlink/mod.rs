//! Netlink sockets: netlink(7). Of its protocols there is what tells of the network ([`route`]), and that of the kernel's events, of which there are none.
//!
//! Who asks is answered while it sends: the answers wait in the socket until they are received.

pub mod message;
pub mod route;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tessera_runtime::sync::Mutex;

use super::inet::Inet;
use super::inet::interfaces::{Interfaces, await_address};
use super::socket::{
    AF_NETLINK, Ancillary, Credentials, Limits, Received, SOCK_DGRAM, SOCK_RAW, Socket, family, message as mark,
    number, option, time_limit, time_limit_bytes, value, word,
};
use super::{OpenFile, Sink, Source, ready};
use crate::errno::{Errno, Result};
use crate::fs::{Attributes, Kind};
use crate::memory::reserve;
use crate::task::{Context, WaitQueue};

/// Protocols: routes, and events of devices.
const ROUTE: i32 = 0;
const EVENTS: i32 = 15;
/// One past the last that can be (`MAX_LINKS`).
const PROTOCOLS: i32 = 32;
/// `SOL_NETLINK`, and its options that are not told as they were set.
const LEVEL: i32 = 270;
const JOIN: i32 = 1;
const LEAVE: i32 = 2;
const GROUPS: i32 = 9;
const SHORT: i32 = 10;
const STRICT: i32 = 12;
/// The highest group of routes (`RTNLGRP_MAX`).
const MOST_GROUPS: u32 = 36;
/// Bytes that wait to be received, and that are sent at once, unless it was said otherwise.
const BUFFER: usize = 212_992;
static NEXT: AtomicU64 = AtomicU64::new(1);
/// Numbers for sockets whose process has one already.
static NEXT_PORT: AtomicU32 = AtomicU32::new(u32::MAX - 4096);
/// The numbers that sockets have, by protocol.
static PORTS: Mutex<BTreeMap<(i32, u32), Weak<NetlinkSocket>>> = Mutex::new(BTreeMap::new());

/// A socket.
pub struct NetlinkSocket {
    number: u64,
    kind: u32,
    protocol: i32,
    /// Who made it.
    process: i32,
    inet: Option<Arc<Inet>>,
    me: Weak<NetlinkSocket>,
    state: Mutex<State>,
    queue: WaitQueue,
}

#[derive(Default)]
struct State {
    /// Its number, once it has one.
    port: Option<u32>,
    groups: BTreeSet<u32>,
    /// What connect(2) said: number and groups of the other side.
    peer: (u32, u32),
    received: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Messages were lost for want of room.
    is_overrun: bool,
    limits: Limits,
    /// Options that are kept, by level and name.
    kept: BTreeMap<(i32, i32), i32>,
}

impl State {
    fn is_set(&self, level: i32, name: i32) -> bool {
        self.kept.get(&(level, name)).is_some_and(|value| *value != 0)
    }
}

/// The sockets that have a number: protocol, number, groups and inode of each.
pub fn list() -> Vec<(i32, u32, u32, u64)> {
    let ports = PORTS.lock();
    let live: Vec<_> = ports.iter().filter_map(|(key, socket)| Some((*key, socket.upgrade()?))).collect();
    drop(ports);
    let row = |((protocol, port), socket): &((i32, u32), Arc<NetlinkSocket>)| {
        (*protocol, *port, mask_of(&socket.state.lock().groups), socket.number)
    };
    live.iter().map(row).collect()
}

/// A `struct sockaddr_nl`.
fn address_of(port: u32, groups: u32) -> Vec<u8> {
    [&AF_NETLINK.to_ne_bytes()[..], &[0; 2], &port.to_ne_bytes(), &groups.to_ne_bytes()].concat()
}

/// Number and groups of an address.
fn parts_of(address: &[u8]) -> Result<(u32, u32)> {
    let port = word(address, 4).ok_or(Errno::EINVAL)?;
    let groups = word(address, 8).ok_or(Errno::EINVAL)?;
    if family(address)? == AF_NETLINK { Ok((port, groups)) } else { Err(Errno::EINVAL) }
}

impl NetlinkSocket {
    /// What socket(2) makes.
    pub fn new(kind: u32, protocol: i32, process: i32, inet: Option<Arc<Inet>>) -> Result<Arc<NetlinkSocket>> {
        if !matches!(kind, SOCK_RAW | SOCK_DGRAM) {
            return Err(Errno::ESOCKTNOSUPPORT);
        }
        if !(0..PROTOCOLS).contains(&protocol) || !matches!(protocol, ROUTE | EVENTS) {
            return Err(Errno::EPROTONOSUPPORT);
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let make = |me: &Weak<NetlinkSocket>| NetlinkSocket {
            number,
            kind,
            protocol,
            process,
            inet,
            me: me.clone(),
            state: Mutex::new(State::default()),
            queue: WaitQueue::new(),
        };
        Ok(Arc::new_cyclic(make))
    }

    /// Gives it a number: this one, or any.
    fn take_port(&self, wanted: Option<u32>) -> Result<u32> {
        let mut ports = PORTS.lock();
        let is_free = |port: u32| ports.get(&(self.protocol, port)).is_none_or(|other| other.strong_count() == 0);
        let port = match wanted {
            Some(port) if is_free(port) => port,
            Some(_) => return Err(Errno::EADDRINUSE),
            // The process's own number, where it has no such socket yet.
            None if is_free(self.process as u32) => self.process as u32,
            None => loop {
                let port = NEXT_PORT.fetch_sub(1, Ordering::Relaxed);
                if port != 0 && is_free(port) {
                    break port;
                }
            },
        };
        ports.insert((self.protocol, port), self.me.clone());
        drop(ports);
        self.state.lock().port = Some(port);
        Ok(port)
    }

    /// Its number, which it is given now if it has none.
    fn port(&self) -> Result<u32> {
        let port = self.state.lock().port;
        port.map_or_else(|| self.take_port(None), Ok)
    }

    /// Lets it receive a message, unless it has too many, or all have too much.
    pub fn deliver(&self, message: Vec<u8>) {
        let mut state = self.state.lock();
        let room = state.kept.get(&(option::LEVEL, option::RECEIVE_BUFFER)).map_or(BUFFER, |room| *room as usize);
        let is_full = state.bytes > 0 && state.bytes.saturating_add(message.len()) > room;
        if is_full || reserve::check(message.len()).is_err() {
            state.is_overrun = true;
        } else {
            state.bytes += message.len();
            state.received.push_back(message);
        }
        drop(state);
        self.queue.wake_all();
    }

    fn send_bytes(&self, from: &mut dyn Source, waits: Option<&mut Context>) -> Result<usize> {
        let length = from.left();
        let port = self.port()?;
        if length > BUFFER - 32 {
            return Err(Errno::EMSGSIZE);
        }
        let mut bytes = alloc::vec![0; length];
        let mut filled = 0;
        while filled < length {
            match from.take(bytes.get_mut(filled..).unwrap_or_default())? {
                0 => return Err(Errno::EFAULT),
                taken => filled += taken,
            }
        }
        // The kernel's events are told, and nothing is asked of them.
        if self.protocol != ROUTE {
            return Err(Errno::ECONNREFUSED);
        }
        if route::asks_for_addresses(&bytes)
            && let (Some(context), Some(inet)) = (waits, &self.inet)
        {
            await_address(context, inet)?;
        }
        let interfaces = Interfaces::of(self.inet.as_deref());
        let state = self.state.lock();
        let wishes = route::Wishes { port, short: state.is_set(LEVEL, SHORT), strict: state.is_set(LEVEL, STRICT) };
        drop(state);
        for message in route::answer(&bytes, &interfaces, wishes) {
            self.deliver(message);
        }
        Ok(length)
    }

    fn receive_bytes(&self, to: &mut dyn Sink, flags: u32) -> Result<Received> {
        let mut state = self.state.lock();
        if core::mem::take(&mut state.is_overrun) {
            return Err(Errno::ENOBUFS);
        }
        let message = state.received.front().ok_or(Errno::EAGAIN)?;
        let whole = message.len();
        let stored = to.put(message.get(..whole.min(to.room())).unwrap_or_default())?;
        if flags & mark::PEEK == 0 {
            state.received.pop_front();
            state.bytes = state.bytes.saturating_sub(whole);
        }
        let mut ancillary = Ancillary::default();
        if state.is_set(option::LEVEL, option::PASS_CREDENTIALS) {
            // From the kernel.
            ancillary.credentials = Some(Credentials::default());
        }
        Ok(Received { stored, whole, from: address_of(0, 0), ancillary })
    }

    fn change_groups(&self, groups: impl IntoIterator<Item = u32>) {
        self.state.lock().groups = groups.into_iter().collect();
    }
}

/// The groups of a mask: bit 0 is group 1.
fn groups_of(mask: u32) -> impl Iterator<Item = u32> {
    (1..=32).filter(move |group| mask >> (group - 1) & 1 != 0)
}

fn mask_of(groups: &BTreeSet<u32>) -> u32 {
    groups.iter().filter(|group| **group <= 32).fold(0, |mask, group| mask | 1 << (group - 1))
}

impl Socket for NetlinkSocket {
    fn shape(&self) -> (u16, u32, i32) {
        (AF_NETLINK, self.kind, self.protocol)
    }

    fn bind(&self, _context: &mut Context, address: &[u8]) -> Result<()> {
        let (port, groups) = parts_of(address)?;
        let known = self.state.lock().port;
        match known {
            Some(known) if known != port => return Err(Errno::EINVAL),
            Some(_) => {}
            None => {
                self.take_port(Some(port).filter(|port| *port != 0))?;
            }
        }
        self.change_groups(groups_of(groups));
        Ok(())
    }

    fn listen(&self, _context: &mut Context, _backlog: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn connect(&self, _context: &mut Context, address: &[u8]) -> Result<()> {
        if family(address)? == super::socket::AF_UNSPEC {
            self.state.lock().peer = (0, 0);
            return Ok(());
        }
        let peer = parts_of(address)?;
        if peer != (0, 0) {
            return Err(Errno::EPERM);
        }
        self.port()?;
        self.state.lock().peer = peer;
        Ok(())
    }

    fn outcome(&self) -> Option<Result<()>> {
        Some(Ok(()))
    }

    fn accept(&self, _context: &mut Context) -> Result<(Arc<dyn OpenFile>, Vec<u8>)> {
        Err(Errno::EOPNOTSUPP)
    }

    fn name(&self) -> Result<Vec<u8>> {
        let state = self.state.lock();
        Ok(address_of(state.port.unwrap_or(0), mask_of(&state.groups)))
    }

    fn peer_name(&self) -> Result<Vec<u8>> {
        let (port, groups) = self.state.lock().peer;
        Ok(address_of(port, groups))
    }

    fn send(
        &self,
        context: &mut Context,
        from: &mut dyn Source,
        to: Option<&[u8]>,
        _ancillary: Ancillary,
        flags: u32,
    ) -> Result<usize> {
        if flags & mark::OUT_OF_BAND != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        // To other programs, and to groups, only who may change the network sends.
        if to.map(parts_of).transpose()?.is_some_and(|to| to != (0, 0)) {
            return Err(Errno::EPERM);
        }
        self.send_bytes(from, Some(context))
    }

    fn receive(&self, _context: &mut Context, to: &mut dyn Sink, flags: u32) -> Result<Received> {
        if flags & mark::OUT_OF_BAND != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.receive_bytes(to, flags)
    }

    fn shutdown(&self, _receiving: bool, _sending: bool) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn option(&self, level: i32, name: i32) -> Result<Vec<u8>> {
        let state = self.state.lock();
        let kept = |otherwise: i32| Ok(value(state.kept.get(&(level, name)).copied().unwrap_or(otherwise)));
        match (level, name) {
            (option::LEVEL, option::TYPE) => Ok(value(self.kind as i32)),
            (option::LEVEL, option::DOMAIN) => Ok(value(AF_NETLINK.into())),
            (option::LEVEL, option::PROTOCOL) => Ok(value(self.protocol)),
            (option::LEVEL, option::ERROR | option::ACCEPTS) => Ok(value(0)),
            (option::LEVEL, option::RECEIVE_TIMEOUT) => Ok(time_limit_bytes(state.limits.receive)),
            (option::LEVEL, option::SEND_TIMEOUT) => Ok(time_limit_bytes(state.limits.send)),
            (option::LEVEL, option::SEND_BUFFER | option::RECEIVE_BUFFER) => kept(BUFFER as i32),
            (option::LEVEL, option::REUSE_ADDRESS | option::BROADCAST | option::PASS_CREDENTIALS) => kept(0),
            (LEVEL, GROUPS) => {
                let words = state.groups.last().map_or(0, |last| last.div_ceil(32)).max(2);
                let mut bytes = alloc::vec![0; words as usize * 4];
                for group in &state.groups {
                    if let Some(byte) = bytes.get_mut((group - 1) as usize / 8) {
                        *byte |= 1 << ((group - 1) % 8);
                    }
                }
                Ok(bytes)
            }
            (LEVEL, 3..=5 | SHORT..=STRICT) => kept(0),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn set_option(&self, level: i32, name: i32, bytes: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        match (level, name) {
            (option::LEVEL, option::RECEIVE_TIMEOUT) => state.limits.receive = time_limit(bytes)?,
            (option::LEVEL, option::SEND_TIMEOUT) => state.limits.send = time_limit(bytes)?,
            (option::LEVEL, option::SEND_BUFFER | option::RECEIVE_BUFFER) => {
                // Doubled, and between bounds, as socket(7) says.
                state.kept.insert((level, name), number(bytes)?.clamp(1152, BUFFER as i32) * 2);
            }
            (option::LEVEL, option::REUSE_ADDRESS | option::BROADCAST | option::PASS_CREDENTIALS)
            | (LEVEL, 3..=5 | SHORT..=STRICT) => {
                state.kept.insert((level, name), i32::from(number(bytes)? != 0));
            }
            (LEVEL, JOIN | LEAVE) => {
                let group = number(bytes)? as u32;
                if !(1..=MOST_GROUPS).contains(&group) {
                    return Err(Errno::EINVAL);
                }
                if name == JOIN {
                    state.groups.insert(group);
                } else {
                    state.groups.remove(&group);
                }
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        self.state.lock().limits
    }
}

impl OpenFile for NetlinkSocket {
    fn socket(self: Arc<Self>) -> Option<Arc<dyn Socket>> {
        Some(self)
    }

    fn read(&self, _at: u64, to: &mut dyn Sink) -> Result<usize> {
        self.receive_bytes(to, 0).map(|received| received.stored)
    }

    fn write(&self, _at: u64, from: &mut dyn Source) -> Result<usize> {
        self.send_bytes(from, None)
    }

    fn ready(&self) -> u32 {
        let state = self.state.lock();
        let mut bits = ready::OUT;
        if !state.received.is_empty() {
            bits |= ready::IN;
        }
        if state.is_overrun {
            bits |= ready::ERROR;
        }
        bits
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::anonymous(Kind::Socket, 0o777, self.number))
    }

    fn label(&self) -> String {
        format!("socket:[{}]", self.number)
    }
}

impl Drop for NetlinkSocket {
    fn drop(&mut self) {
        let Some(port) = self.state.lock().port else { return };
        let mut ports = PORTS.lock();
        // The number may be another socket's by now.
        if ports.get(&(self.protocol, port)).is_some_and(|socket| socket.strong_count() == 0) {
            ports.remove(&(self.protocol, port));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Bytes;
    use super::*;

    fn socket(process: i32) -> Arc<NetlinkSocket> {
        NetlinkSocket::new(SOCK_RAW, ROUTE, process, None).unwrap()
    }

    #[test]
    fn the_first_socket_of_a_process_has_its_number() {
        let (one, other) = (socket(7001), socket(7001));
        assert_eq!(one.port(), Ok(7001));
        assert!(other.port().unwrap() > 1 << 31);
        assert_eq!(socket(1).take_port(Some(7001)), Err(Errno::EADDRINUSE));
        drop(one);
        assert_eq!(socket(1).take_port(Some(7001)), Ok(7001));
    }

    #[test]
    fn answers_wait_until_they_are_received() {
        let socket = socket(7002);
        let thread = message::Thread { sequence: 1, port: 0 };
        let asked = message::Message::new(18, message::flag::REQUEST | message::flag::DUMP, thread, &[0; 16]).end();
        assert_eq!(socket.ready() & ready::IN, 0);
        assert_eq!(socket.send_bytes(&mut Bytes(asked.as_slice()), None), Ok(asked.len()));
        assert_eq!(socket.ready() & ready::IN, ready::IN);
        let mut short = [0; 20];
        let peeked = socket.receive_bytes(&mut Bytes(short.as_mut_slice()), mark::PEEK).unwrap();
        assert!(peeked.stored == 20 && peeked.whole > 400);
        let mut room = [0; 4096];
        let whole = socket.receive_bytes(&mut Bytes(room.as_mut_slice()), 0).unwrap();
        assert_eq!((whole.stored, whole.whole), (peeked.whole, peeked.whole));
        assert_eq!(socket.receive_bytes(&mut Bytes(room.as_mut_slice()), 0).map(|done| done.stored), Ok(20));
        assert!(matches!(socket.receive_bytes(&mut Bytes(room.as_mut_slice()), 0), Err(Errno::EAGAIN)));
    }

    #[test]
    fn who_does_not_receive_loses_messages_and_is_told() {
        let socket = socket(7003);
        for _ in 0..4 {
            socket.deliver(alloc::vec![0; BUFFER / 3]);
        }
        let mut room = [0; 16];
        assert_eq!(socket.ready() & ready::ERROR, ready::ERROR);
        assert!(matches!(socket.receive_bytes(&mut Bytes(room.as_mut_slice()), 0), Err(Errno::ENOBUFS)));
        assert_eq!(socket.receive_bytes(&mut Bytes(room.as_mut_slice()), 0).map(|got| got.whole), Ok(BUFFER / 3));
    }
}
