//! IPv4 and IPv6 sockets: ip(7), tcp(7), udp(7), over the capability to the network that the container was given.
//!
//! The network stack tells in a table that it shares what is ready; one thread waits for its bell and wakes the sockets that changed, or the stack's own does if it
//! lives in this domain.
//! So looking whether a socket is ready costs a load, and waiting for thousands of sockets costs nothing. The bytes of streams go through memory that is
//! shared with the stack as well, if it lives in another domain.

mod address;
pub mod control;
mod groups;
pub mod interfaces;
pub mod list;
mod options;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tessera_interfaces::{
    Address, Cap, Family, Marks, Network, NetworkError, NetworkListener, Shutdown, SocketOption, Stream, Streams,
    readiness,
};
use tessera_runtime::object::{Access, Event};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{Mapping, Object, own, thread};

use super::socket::{AF_INET, AF_INET6, Ancillary, Limits, Received, SOCK_DGRAM, SOCK_STREAM, Socket, message, number};
use super::transfer::Buffer;
use super::{OpenFile, Sink, Source, ready};
use crate::errno::{Errno, Result};
use crate::fs::{Attributes, Kind};
use crate::task::{Context, WaitQueue};

/// Levels of options beside `SOL_SOCKET`.
const IP: i32 = 0;
const TCP: i32 = 6;
const IPV6: i32 = 41;
const PROTOCOL_ICMP: i32 = 1;
const PROTOCOL_TCP: i32 = 6;
const PROTOCOL_UDP: i32 = 17;
const PROTOCOL_ICMP6: i32 = 58;
const PROTOCOL_UDP_LITE: i32 = 136;
const FIONREAD: u32 = 0x541b;
const SIOCOUTQ: u32 = 0x5411;
/// Bytes that are copied at a time, and at least.
const PIECE: usize = 16 << 10;
const LITTLE: usize = 256;
/// The longest datagram.
const DATAGRAM: usize = 65_535;

/// The container's network.
pub struct Inet {
    network: Cap<dyn Network>,
    streams: Streams,
    table: Mapping,
    sockets: Mutex<BTreeMap<u32, Known>>,
    /// Woken when the network as a whole has changed: it was given an address.
    pub changed: WaitQueue,
}

/// `SOL_UDP`, and `UDP_SEGMENT`: a message is sent as datagrams of this many bytes.
pub const UDP: i32 = 17;
pub const SEGMENT: i32 = 103;
/// A socket.
pub struct InetSocket {
    inet: Arc<Inet>,
    stream: Stream,
    family: u16,
    kind: u32,
    protocol: i32,
    queue: Arc<WaitQueue>,
    state: Mutex<State>,
    /// A connection was begun and nobody has asked how it went.
    connecting: AtomicBool,
    /// It was given a local address.
    bound: AtomicBool,
    /// How many bytes it took last from a stream.
    received: AtomicUsize,
}

/// A socket, as the network's number leads to it.
struct Known {
    socket: Weak<InetSocket>,
    /// Who wakes those who wait there holds this alone: the socket ends with the last file that is closed, in no other thread and no later.
    queue: Weak<WaitQueue>,
}

#[derive(Clone, Default)]
struct State {
    limits: Limits,
    /// Options that are kept and mean nothing here, by level and name.
    kept: BTreeMap<(i32, i32), Vec<u8>>,
    groups: groups::Groups,
    is_listening: bool,
}

/// What a refusal of the network means to a Linux program.
fn refused(error: NetworkError) -> Errno {
    Errno::from_number(error.errno())
}

impl Inet {
    /// Takes the capability and begins to listen for changes.
    pub fn new(network: Cap<dyn Network>) -> Result<Arc<Inet>> {
        let bell = Event::create(&own::pool())?;
        let table = network.readiness(bell.try_clone()?, 1).map_err(refused)?;
        let table = Mapping::new(&table, 0, readiness::BYTES, Access::Write)?;
        let streams = Streams::of(&network);
        let (sockets, changed) = (Mutex::new(BTreeMap::new()), WaitQueue::new());
        let inet = Arc::new(Inet { streams, network, table, sockets, changed });
        let listener = inet.clone();
        thread::spawn(move || {
            while bell.wait_until(1, 1, None).is_ok() {
                listener.wake_changed();
            }
        })?;
        if !inet.network.is_remote() {
            // Where it cannot be done, the bell is rung.
            let _ = inet.network.listen_here(Cap::local(inet.clone() as Arc<dyn NetworkListener>));
        }
        Ok(inet)
    }

    /// Wakes the sockets that changed.
    #[cfg_attr(target_os = "none", optimize(speed))]
    fn wake_changed(&self) {
        for number in readiness::changed(self.table.words()) {
            if number == 0 {
                self.changed.wake_all();
                continue;
            }
            let queue = self.sockets.lock().get(&number).and_then(|known| known.queue.upgrade());
            if let Some(queue) = queue {
                queue.wake_all();
            }
        }
    }

    /// What socket(2) makes.
    pub fn open(self: &Arc<Self>, family: u16, kind: u32, protocol: i32) -> Result<Arc<InetSocket>> {
        let version = if family == AF_INET { Family::V4 } else { Family::V6 };
        let (socket, protocol) = match (kind, protocol) {
            (SOCK_STREAM, 0 | PROTOCOL_TCP) => (self.network.tcp(version), PROTOCOL_TCP),
            (SOCK_DGRAM, 0 | PROTOCOL_UDP) => (self.network.udp(version), PROTOCOL_UDP),
            (SOCK_DGRAM, PROTOCOL_UDP_LITE) => (self.network.udp_lite(version), protocol),
            (SOCK_DGRAM, PROTOCOL_ICMP) if family == AF_INET => (self.network.icmp(version), protocol),
            (SOCK_DGRAM, PROTOCOL_ICMP6) if family == AF_INET6 => (self.network.icmp(version), protocol),
            (SOCK_STREAM | SOCK_DGRAM, _) => return Err(Errno::EPROTONOSUPPORT),
            (super::socket::SOCK_RAW, _) => return Err(Errno::EPERM),
            _ => return Err(Errno::ESOCKTNOSUPPORT),
        };
        self.adopt(socket.map_err(refused)?, family, kind, protocol)
    }

    fn adopt(
        self: &Arc<Self>,
        socket: Cap<dyn tessera_interfaces::Socket>,
        family: u16,
        kind: u32,
        protocol: i32,
    ) -> Result<Arc<InetSocket>> {
        let stream = self.streams.stream(socket).map_err(refused)?;
        let number = stream.number();
        let socket = Arc::new(InetSocket {
            inet: self.clone(),
            stream,
            family,
            kind,
            protocol,
            queue: Arc::new(WaitQueue::new()),
            state: Mutex::new(State::default()),
            connecting: AtomicBool::new(false),
            bound: AtomicBool::new(false),
            received: AtomicUsize::new(0),
        });
        let known = Known { socket: Arc::downgrade(&socket), queue: Arc::downgrade(&socket.queue) };
        self.sockets.lock().insert(number, known);
        Ok(socket)
    }

    /// What the machine is called on the network.
    pub fn configuration(&self) -> Result<tessera_interfaces::Configuration> {
        self.network.configuration().map_err(refused)
    }
}

impl NetworkListener for Inet {
    fn changed(&self) -> core::result::Result<(), NetworkError> {
        self.wake_changed();
        Ok(())
    }
}

impl InetSocket {
    /// What a refusal means; the person who runs the container hears of it where it was held to less than the whole network.
    fn denied(&self, context: &Context, to: &Address, error: NetworkError) -> Errno {
        let held_to = context.system.held_to.as_str();
        let is_so = match error {
            NetworkError::PermissionDenied => !held_to.is_empty(),
            NetworkError::NetworkUnreachable => held_to == "--deny net",
            _ => false,
        };
        if is_so {
            let protocol = if self.is_stream() { "tcp" } else { "udp or icmp" };
            let ip = core::net::Ipv6Addr::from(to.ip).to_canonical();
            context.system.tell_once(format!("denied: {protocol} to {ip}, port {}: {held_to}", to.port));
        }
        refused(error)
    }

    fn word(&self) -> u64 {
        self.inet.table.words().get(self.stream.number() as usize).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn is_stream(&self) -> bool {
        self.kind == SOCK_STREAM
    }

    /// Sends bytes of a stream, or a datagram; in pieces of `segment` bytes, a datagram each, if that is not 0.
    #[cfg_attr(target_os = "none", optimize(speed))]
    fn send_bytes(
        &self,
        from: &mut dyn Source,
        to: Option<Address>,
        segment: usize,
        marks: Option<Marks>,
    ) -> Result<usize> {
        let mut buffer = Buffer::new();
        if self.is_stream() {
            let mut done = 0;
            let length = from.left().min(PIECE);
            buffer.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
            while from.left() > 0 {
                if self.word() & (readiness::WRITABLE | readiness::HANGUP | readiness::ERROR) == 0 {
                    break;
                }
                buffer.clear();
                match from.append(&mut buffer, length) {
                    Ok(_) => {}
                    Err(_) if done > 0 => break,
                    Err(error) => return Err(error),
                }
                match self.stream.send(&buffer) {
                    // What was taken and not sent is taken again: callers go on behind what was sent.
                    Ok(sent) => {
                        done += sent as usize;
                        if (sent as usize) < buffer.len() {
                            break;
                        }
                    }
                    Err(_) if done > 0 => break,
                    Err(error) => return Err(refused(error)),
                }
            }
            return if done == 0 && length > 0 { Err(Errno::EAGAIN) } else { Ok(done) };
        }
        let length = from.left();
        if length > DATAGRAM {
            return Err(Errno::EMSGSIZE);
        }
        buffer.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
        while buffer.len() < length {
            if from.append(&mut buffer, length)? == 0 {
                return Err(Errno::EFAULT);
            }
        }
        if segment == 0 || segment >= buffer.len() {
            return self.send_datagram(&buffer, to, marks);
        }
        let mut done = 0;
        for part in buffer.chunks(segment) {
            match self.send_datagram(part, to, marks) {
                Ok(sent) => done += sent,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn send_datagram(&self, bytes: &[u8], to: Option<Address>, marks: Option<Marks>) -> Result<usize> {
        match (to, marks) {
            (to, Some(marks)) => self.stream.socket().send_message(to, marks, bytes),
            (Some(to), None) => self.stream.socket().send_to(to, bytes),
            (None, None) => self.stream.socket().send(bytes),
        }
        .map(|sent| sent as usize)
        .map_err(|error| if error == NetworkError::NotConnected { Errno::EDESTADDRREQ } else { refused(error) })
    }

    /// The marks of a message that says some of its own; none: those of the socket.
    fn marks(&self, ancillary: &Ancillary) -> Result<Option<Marks>> {
        if ancillary.hops.is_none() && ancillary.class.is_none() {
            return Ok(None);
        }
        let of_socket =
            |option: SocketOption| self.stream.socket().option(option).map(|value| value as u8).map_err(refused);
        let hops = ancillary.hops.map_or_else(|| of_socket(SocketOption::HopLimit), Ok)?;
        let class = ancillary.class.map_or_else(|| of_socket(SocketOption::TrafficClass), Ok)?;
        Ok(Some(Marks { hops, class }))
    }

    /// Receives a datagram, and what the options of the socket ask of it; `now` is in nanoseconds since 1970.
    fn receive_datagram(&self, into: &mut [u8], peek: bool, now: i64) -> Result<(usize, Address, Vec<control::Told>)> {
        let asked = control::Asked::of(&self.state.lock().kept);
        if asked.is_nothing() {
            let datagram =
                if peek { self.stream.socket().peek_from(into) } else { self.stream.socket().receive_from(into) };
            let datagram = datagram.map_err(refused)?;
            return Ok((datagram.length as usize, datagram.from, Vec::new()));
        }
        let message = self.stream.socket().receive_message(into, peek).map_err(refused)?;
        let port = if asked.wants_port() { self.stream.socket().local().map_err(refused)?.port } else { 0 };
        Ok((message.length as usize, message.from, asked.told(&message, now, port)))
    }

    #[cfg_attr(target_os = "none", optimize(speed))]
    fn receive_bytes(&self, to: &mut dyn Sink, flags: u32, now: i64) -> Result<Received> {
        let peek = flags & message::PEEK != 0;
        let mut received = Received::default();
        let mut buffer = Vec::new();
        if self.is_stream() {
            // Not much larger than what came lately: what is not filled was cleared for nothing.
            let mut size = self.received.load(Ordering::Relaxed).next_power_of_two().min(PIECE);
            let mut little = [0; LITTLE];
            while to.room() > 0 {
                let part = if size <= LITTLE {
                    &mut little
                } else {
                    buffer.resize(size.min(to.room()), 0);
                    buffer.as_mut_slice()
                };
                let wanted = part.len().min(to.room());
                let part = part.get_mut(..wanted).unwrap_or_default();
                let count = match if peek { self.stream.peek(part) } else { self.stream.receive(part) } {
                    Ok(count) => count as usize,
                    Err(_) if received.stored > 0 => break,
                    Err(error) => return Err(refused(error)),
                };
                received.stored += to.put(part.get(..count).unwrap_or_default())?;
                if peek || count < wanted {
                    break;
                }
                size = PIECE;
            }
            self.received.store(received.stored, Ordering::Relaxed);
            received.whole = received.stored;
            return Ok(received);
        }
        // One byte more than there is room for shows that the datagram was longer; how long is asked for by `MSG_TRUNC` alone.
        let room = if flags & message::TRUNCATED != 0 { DATAGRAM } else { to.room().saturating_add(1) };
        buffer.resize(room.min(DATAGRAM), 0);
        let (length, from, told) = self.receive_datagram(&mut buffer, peek, now)?;
        let whole = buffer.get(..length).unwrap_or_default();
        received.stored = to.put(whole.get(..whole.len().min(to.room())).unwrap_or_default())?;
        received.whole = whole.len();
        received.from = self.bytes_of(&from);
        received.ancillary.told = told;
        Ok(received)
    }
}

impl Socket for InetSocket {
    fn shape(&self) -> (u16, u32, i32) {
        (self.family, self.kind, self.protocol)
    }

    fn bind(&self, _context: &mut Context, address: &[u8]) -> Result<()> {
        self.stream.socket().bind(self.address(address)?).map_err(refused)?;
        self.bound.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn listen(&self, _context: &mut Context, backlog: u32) -> Result<()> {
        if !self.is_stream() {
            return Err(Errno::EOPNOTSUPP);
        }
        self.stream.socket().listen(backlog.max(1)).map_err(refused)?;
        self.state.lock().is_listening = true;
        Ok(())
    }

    fn connect(&self, context: &mut Context, address: &[u8]) -> Result<()> {
        if self.connecting.load(Ordering::Acquire) {
            return match self.outcome() {
                None => Err(Errno::EALREADY),
                Some(outcome) => outcome,
            };
        }
        let address = self.address(address)?;
        let outcome = self.stream.socket().connect(address);
        if outcome == Err(NetworkError::InProgress) {
            self.connecting.store(true, Ordering::Release);
        }
        outcome.map_err(|error| self.denied(context, &address, error))
    }

    fn outcome(&self) -> Option<Result<()>> {
        let word = self.word();
        if word & (readiness::WRITABLE | readiness::HANGUP | readiness::ERROR) == 0 {
            return None;
        }
        self.connecting.store(false, Ordering::Release);
        Some(self.stream.socket().error().map_err(refused))
    }

    fn accept(&self, _context: &mut Context) -> Result<(Arc<dyn OpenFile>, Vec<u8>)> {
        if !self.is_stream() {
            return Err(Errno::EOPNOTSUPP);
        }
        if !self.state.lock().is_listening {
            return Err(Errno::EINVAL);
        }
        let accepted = self.stream.socket().accept().map_err(refused)?;
        let accepted = self.inet.adopt(accepted, self.family, self.kind, self.protocol)?;
        // The other side may be gone already: it is accepted all the same, and reading tells. Its address is lost then,
        // but programs rely on one of the family: nginx falls over one of no length.
        let peer = accepted.stream.socket().peer().unwrap_or(self.any());
        let name = self.bytes_of(&peer);
        Ok((accepted, name))
    }

    fn name(&self) -> Result<Vec<u8>> {
        let address = self.stream.socket().local().unwrap_or(self.any());
        Ok(self.bytes_of(&address))
    }

    fn peer_name(&self) -> Result<Vec<u8>> {
        if self.connecting.load(Ordering::Acquire) && self.outcome().is_none() {
            return Err(Errno::ENOTCONN);
        }
        self.stream.socket().peer().map(|peer| self.bytes_of(&peer)).map_err(refused)
    }

    fn send(
        &self,
        context: &mut Context,
        from: &mut dyn Source,
        to: Option<&[u8]>,
        ancillary: Ancillary,
        flags: u32,
    ) -> Result<usize> {
        if flags & message::OUT_OF_BAND != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let to = to.filter(|_| !self.is_stream()).map(|address| self.address(address)).transpose()?;
        let kept = || self.state.lock().kept.get(&(UDP, SEGMENT)).and_then(|kept| number(kept).ok()).unwrap_or(0);
        let segment = ancillary.segment.map_or_else(|| usize::try_from(kept()).unwrap_or(0), usize::from);
        let marks = self.marks(&ancillary)?;
        let sent = self.send_bytes(from, to, segment, marks);
        if let (Some(to), Err(Errno::EACCES)) = (&to, &sent) {
            self.denied(context, to, NetworkError::PermissionDenied);
        }
        match sent {
            // A stream that leads nowhere is a broken one.
            Err(Errno::ENOTCONN) if self.is_stream() => Err(Errno::EPIPE),
            other => other,
        }
    }

    fn receive(&self, context: &mut Context, to: &mut dyn Sink, flags: u32) -> Result<Received> {
        if flags & message::OUT_OF_BAND != 0 {
            return Err(Errno::EINVAL);
        }
        self.receive_bytes(to, flags, context.system.wall_now())
    }

    fn receive_error(&self, to: &mut dyn Sink) -> Result<Received> {
        let mut buffer = alloc::vec![0; to.room().min(DATAGRAM)];
        let failure = self.stream.socket().receive_error(&mut buffer).map_err(refused)?;
        let stored = to.put(buffer.get(..failure.length as usize).unwrap_or_default())?;
        let told = alloc::vec![control::failure(&failure, self.family)];
        let ancillary = Ancillary { told, ..Ancillary::default() };
        Ok(Received { stored, whole: failure.whole as usize, from: self.bytes_of(&failure.to), ancillary })
    }

    fn shutdown(&self, receiving: bool, sending: bool) -> Result<()> {
        let how = match (receiving, sending) {
            (true, true) => Shutdown::Both,
            (true, false) => Shutdown::Receive,
            _ => Shutdown::Send,
        };
        self.stream.socket().shutdown(how).map_err(refused)?;
        self.queue.wake_all();
        Ok(())
    }

    fn option(&self, level: i32, name: i32) -> Result<Vec<u8>> {
        self.get_option(level, name)
    }

    fn set_option(&self, level: i32, name: i32, bytes: &[u8]) -> Result<()> {
        self.change_option(level, name, bytes)
    }

    fn limits(&self) -> Limits {
        self.state.lock().limits
    }
}

impl OpenFile for InetSocket {
    fn socket(self: Arc<Self>) -> Option<Arc<dyn Socket>> {
        Some(self)
    }

    fn read(&self, _at: u64, to: &mut dyn Sink) -> Result<usize> {
        self.receive_bytes(to, 0, 0).map(|received| received.stored)
    }

    fn write(&self, _at: u64, from: &mut dyn Source) -> Result<usize> {
        self.send_bytes(from, None, 0, None)
    }

    fn ready(&self) -> u32 {
        let word = self.stream.ready(self.word());
        let pairs = [
            (readiness::READABLE, ready::IN),
            (readiness::WRITABLE, ready::OUT),
            (readiness::HANGUP, ready::HANGUP | ready::READ_CLOSED | ready::IN),
            (readiness::ERROR, ready::ERROR | ready::IN),
            (readiness::READ_CLOSED, ready::READ_CLOSED | ready::IN),
        ];
        pairs.iter().filter(|(bit, _)| word & bit != 0).fold(0, |bits, (_, ready)| bits | ready)
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn control(&self, context: &mut Context, request: u32, argument: u64) -> Result<u64> {
        let known = match request {
            FIONREAD => SocketOption::ReceiveQueued,
            SIOCOUTQ => SocketOption::SendQueued,
            _ => return Err(Errno::ENOTTY),
        };
        let count = self.stream.socket().option(known).map_err(refused)?;
        context.write_u32(argument, u32::try_from(count).unwrap_or(u32::MAX))?;
        Ok(0)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::anonymous(Kind::Socket, 0o777, u64::from(self.stream.number())))
    }

    fn label(&self) -> String {
        format!("socket:[{}]", self.stream.number())
    }
}

impl Drop for InetSocket {
    fn drop(&mut self) {
        // Whoever has closed it may bind another one to its address: that the network hears of the end some time is not enough.
        if self.bound.load(Ordering::Relaxed) {
            let _ = self.stream.socket().release();
        }
        let mut sockets = self.inet.sockets.lock();
        // The number may be another socket's by now.
        let number = self.stream.number();
        if sockets.get(&number).is_some_and(|known| known.socket.strong_count() == 0) {
            sockets.remove(&number);
        }
    }
}
