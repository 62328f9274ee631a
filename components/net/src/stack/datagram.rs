//! UDP sockets, and ICMP sockets for echo.
//!
//! What comes in waits in a queue of the socket's; its bytes are charged to the client, and what does not fit is lost. What goes out by the wire
//! goes through a socket of the protocol library's, made when first needed. What goes to this machine itself is handed over at once.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::{icmp, udp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpAddress, IpEndpoint};

use super::address;
use super::connection::Options;
use super::failure::{Failures, Report};
use super::{Entry, ForLink, Id, Kind, Protocol, Stack, Turn, Which};
use tessera_interfaces::{Address, Datagram, Marks, Message, NetworkError, Shutdown, readiness};

/// Bytes that may wait in one socket for its client unless it asks for another size.
pub(super) const QUEUE: usize = 208 << 10;
/// What a waiting datagram costs over its bytes.
const OVERHEAD: usize = 96;
/// Bytes and packets that may wait in one socket for the wire.
const SENDING: usize = 64 << 10;
const PACKETS: usize = 64;
/// The longest payload of UDP.
const LONGEST: usize = 65507;
/// So long a datagram waits for its neighbour's address: then it is lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// A socket for datagrams.
pub struct Datagrams {
    pub protocol: Protocol,
    pub remote: Option<IpEndpoint>,
    queue: VecDeque<Waiting>,
    queued: usize,
    /// Datagrams that found no room.
    lost: u32,
    /// Errors of what was sent, if they are kept.
    pub(super) failures: Failures,
    outgoing: ForLink<Option<Box<Out>>>,
    read_closed: bool,
    write_closed: bool,
}

/// A datagram that waits for its client.
struct Waiting {
    from: IpEndpoint,
    to: IpAddress,
    marks: Marks,
    came: Instant,
    /// How many were lost before it.
    lost: u32,
    bytes: Vec<u8>,
}

/// The library's socket for one link.
struct Out {
    set: SocketSet<'static>,
    handle: SocketHandle,
    waits_since: Option<Instant>,
}

impl Datagrams {
    pub fn new(protocol: Protocol) -> Datagrams {
        Datagrams {
            protocol,
            remote: None,
            queue: VecDeque::new(),
            queued: 0,
            lost: 0,
            failures: Failures::new(),
            outgoing: ForLink::default(),
            read_closed: false,
            write_closed: false,
        }
    }

    /// What is ready.
    pub fn bits(&self) -> u64 {
        let mut bits = 0;
        if !self.queue.is_empty() || self.read_closed {
            bits |= readiness::READABLE;
        }
        if self.read_closed {
            bits |= readiness::READ_CLOSED;
        }
        if !self.failures.is_empty() {
            bits |= readiness::ERROR;
        }
        if self.write_closed || self.outgoing.all().flatten().all(|out| out.can_send(self.protocol)) {
            bits |= readiness::WRITABLE;
        }
        bits
    }

    /// Lets options take effect.
    pub fn apply(&mut self, options: &Options) {
        let hops = options.time_to_live.filter(|hops| *hops > 0);
        for out in self.outgoing.all_mut().flatten() {
            match self.protocol {
                Protocol::Icmp => out.set.get_mut::<icmp::Socket<'_>>(out.handle).set_hop_limit(hops),
                _ => out.set.get_mut::<udp::Socket<'_>>(out.handle).set_hop_limit(hops),
            }
        }
    }

    /// Bytes of the next datagram.
    pub fn next_length(&self) -> usize {
        self.queue.front().map_or(0, |waiting| waiting.bytes.len())
    }

    /// Bytes that wait for a link.
    pub fn sending(&self) -> usize {
        let queue = |out: &Out| match self.protocol {
            Protocol::Icmp => out.set.get::<icmp::Socket<'_>>(out.handle).send_queue(),
            _ => out.set.get::<udp::Socket<'_>>(out.handle).send_queue(),
        };
        self.outgoing.all().flatten().map(|out| queue(out)).sum()
    }
}

impl Out {
    fn new(protocol: Protocol, port: u16, time_to_live: Option<u8>) -> Out {
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = if protocol == Protocol::Icmp {
            let buffer =
                |bytes, packets| icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; packets], vec![0; bytes]);
            let mut socket = icmp::Socket::new(buffer(0, 0), buffer(SENDING, PACKETS));
            socket.set_hop_limit(time_to_live);
            let _ = socket.bind(icmp::Endpoint::Ident(port));
            set.add(socket)
        } else {
            let buffer =
                |bytes, packets| udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; packets], vec![0; bytes]);
            let mut socket = udp::Socket::new(buffer(0, 0), buffer(SENDING, PACKETS));
            socket.set_hop_limit(time_to_live);
            let _ = socket.bind(port);
            set.add(socket)
        };
        Out { set, handle, waits_since: None }
    }

    fn can_send(&self, protocol: Protocol) -> bool {
        let queued = match protocol {
            Protocol::Icmp => self.set.get::<icmp::Socket<'_>>(self.handle).send_queue(),
            _ => self.set.get::<udp::Socket<'_>>(self.handle).send_queue(),
        };
        queued < SENDING / 2
    }

    fn send(
        &mut self,
        protocol: Protocol,
        from: Option<IpAddress>,
        to: IpEndpoint,
        bytes: &[u8],
    ) -> Result<(), NetworkError> {
        if protocol == Protocol::Icmp {
            let socket = self.set.get_mut::<icmp::Socket<'_>>(self.handle);
            return socket.send_slice(bytes, to.addr).map_err(|error| match error {
                icmp::SendError::BufferFull => NetworkError::WouldBlock,
                icmp::SendError::Unaddressable => NetworkError::InvalidArgument,
            });
        }
        let mut metadata = udp::UdpMetadata::from(to);
        metadata.local_address = from;
        let socket = self.set.get_mut::<udp::Socket<'_>>(self.handle);
        socket.send_slice(bytes, metadata).map_err(|error| match error {
            udp::SendError::BufferFull => NetworkError::WouldBlock,
            udp::SendError::Unaddressable => NetworkError::InvalidArgument,
        })
    }
}

impl Stack {
    /// Names the only peer of a datagram socket.
    pub(super) fn connect_datagrams(&mut self, id: Id, remote: IpEndpoint) -> Result<(), NetworkError> {
        self.way(remote.addr)?;
        self.bind_datagrams(id)?;
        if let Kind::Datagrams(datagrams) = &mut self.entry_mut(id)?.kind {
            datagrams.remote = Some(remote);
        }
        Ok(())
    }

    fn bind_datagrams(&mut self, id: Id) -> Result<(), NetworkError> {
        let entry = self.entry(id)?;
        match &entry.kind {
            Kind::Datagrams(_) if entry.bound => Ok(()),
            Kind::Datagrams(datagrams) => {
                let protocol = datagrams.protocol;
                self.bind_to(id, protocol, (None, 0))
            }
            _ => Err(NetworkError::NotSupported),
        }
    }

    /// Sends a datagram to where the socket is connected to.
    pub(super) fn send_datagram(&mut self, id: Id, from: &[u8]) -> Result<u64, NetworkError> {
        let entry = self.entry_mut(id)?;
        if let Some(error) = entry.error.take() {
            self.publish(id, false);
            return Err(error);
        }
        let Kind::Datagrams(datagrams) = &entry.kind else { return Err(NetworkError::NotSupported) };
        let to = datagrams.remote.ok_or(NetworkError::NotConnected)?;
        self.send_datagram_to(id, to, None, from)
    }

    /// Sends one datagram, to the peer if nobody else is named, with marks of its own where they can be carried.
    pub fn send_message(
        &mut self,
        id: Id,
        to: Option<Address>,
        marks: Marks,
        from: &[u8],
    ) -> Result<u64, NetworkError> {
        let to = match to {
            Some(to) => self.endpoint(id, to)?,
            None => {
                let Kind::Datagrams(datagrams) = &self.entry(id)?.kind else { return Err(NetworkError::NotSupported) };
                datagrams.remote.ok_or(NetworkError::NotConnected)?
            }
        };
        self.send_datagram_to(id, to, Some(marks), from)
    }

    /// Sends one datagram.
    pub fn send_to(&mut self, id: Id, to: Address, from: &[u8]) -> Result<u64, NetworkError> {
        let to = self.endpoint(id, to)?;
        self.send_datagram_to(id, to, None, from)
    }

    /// Where a datagram to an address goes.
    fn endpoint(&self, id: Id, to: Address) -> Result<IpEndpoint, NetworkError> {
        let entry = self.entry(id)?;
        let Kind::Datagrams(datagrams) = &entry.kind else { return Err(NetworkError::NotSupported) };
        if to.port == 0 && datagrams.protocol != Protocol::Icmp {
            return Err(NetworkError::InvalidArgument);
        }
        address::check(&to, entry.family)?;
        let loopback = match entry.family {
            tessera_interfaces::Family::V4 => IpAddress::v4(127, 0, 0, 1),
            tessera_interfaces::Family::V6 => IpAddress::v6(0, 0, 0, 0, 0, 0, 0, 1),
        };
        Ok(IpEndpoint::new(address::ip(&to).unwrap_or(loopback), to.port))
    }

    fn send_datagram_to(
        &mut self,
        id: Id,
        to: IpEndpoint,
        marks: Option<Marks>,
        from: &[u8],
    ) -> Result<u64, NetworkError> {
        self.bind_datagrams(id)?;
        let which = self.way(to.addr)?;
        let entry = self.entry(id)?;
        let Kind::Datagrams(datagrams) = &entry.kind else { return Err(NetworkError::NotSupported) };
        if datagrams.write_closed {
            return Err(NetworkError::BrokenPipe);
        }
        let (protocol, local, broadcast) = (datagrams.protocol, entry.local, entry.options.broadcast);
        let marks = marks.unwrap_or_else(|| entry.options.marks());
        if from.len() > LONGEST {
            return Err(NetworkError::MessageTooLong);
        }
        let wide = to.addr.is_broadcast()
            || self.addresses.iter().any(|own| match (own, to.addr) {
                (smoltcp::wire::IpCidr::Ipv4(own), IpAddress::Ipv4(to)) => own.broadcast() == Some(to),
                _ => false,
            });
        if wide && !broadcast {
            return Err(NetworkError::PermissionDenied);
        }
        if local.0.is_some_and(|own| own.version() != to.addr.version()) {
            return Err(NetworkError::InvalidArgument);
        }
        if protocol != Protocol::Icmp && which == Which::Loopback {
            let source = local.0.or_else(|| self.source_for(to.addr)).ok_or(NetworkError::AddressNotAvailable)?;
            let source = IpEndpoint::new(source, local.1);
            let heard = self.hand_over(protocol, (source, to), marks, from);
            if !heard {
                self.undelivered(protocol, source, to, Report::refused(to.addr, from));
            }
            return Ok(from.len() as u64);
        }
        if protocol == Protocol::UdpLite {
            return Err(NetworkError::NetworkUnreachable);
        }
        let mut message;
        let mut bytes = from;
        if protocol == Protocol::Icmp {
            // An echo request under the socket's own identifier: an answer to it finds its way back, and nobody can forge other messages.
            let asks = match to.addr {
                IpAddress::Ipv4(_) => 8,
                IpAddress::Ipv6(_) => 128,
            };
            message = from.to_vec();
            match message.get_mut(..8) {
                Some([kind, 0, _, _, first, second, ..]) if *kind == asks => {
                    [*first, *second] = local.1.to_be_bytes();
                }
                _ => return Err(NetworkError::InvalidArgument),
            }
            bytes = &message;
        }
        if which == Which::Wire {
            let headers = if matches!(to.addr, IpAddress::Ipv4(_)) { 20 } else { 40 };
            let headers = headers + if protocol == Protocol::Udp { 8 } else { 0 };
            if bytes.len() + headers > self.wire_mtu() {
                return Err(NetworkError::MessageTooLong);
            }
        }
        if which == Which::Loopback {
            self.hold_on_loopback(to.addr)?;
        }
        self.send_by(id, which, protocol, local, to, bytes)?;
        self.schedule(id);
        self.publish(id, false);
        Ok(from.len() as u64)
    }

    fn send_by(
        &mut self,
        id: Id,
        which: Which,
        protocol: Protocol,
        local: address::Local,
        to: IpEndpoint,
        bytes: &[u8],
    ) -> Result<(), NetworkError> {
        let entry = self.sockets.get_mut(id).ok_or(NetworkError::InvalidArgument)?;
        let time_to_live = entry.options.time_to_live.filter(|hops| *hops > 0);
        let Kind::Datagrams(datagrams) = &mut entry.kind else { return Err(NetworkError::NotSupported) };
        let slot = datagrams.outgoing.of(which);
        if slot.is_none() {
            let client = self.clients.get_mut(entry.client).ok_or(NetworkError::PermissionDenied)?;
            client.charge(SENDING as u64)?;
            entry.charged += SENDING as u64;
        }
        let out = slot.get_or_insert_with(|| Box::new(Out::new(protocol, local.1, time_to_live)));
        out.send(protocol, local.0, to, bytes)
    }

    /// Puts a datagram into the queue of the socket that it is for. False when there is none.
    pub(super) fn hand_over(
        &mut self,
        protocol: Protocol,
        (from, to): (IpEndpoint, IpEndpoint),
        marks: Marks,
        bytes: &[u8],
    ) -> bool {
        match self.hearer(protocol, from, to) {
            Some(id) => {
                self.put(id, (from, to.addr), marks, bytes);
                true
            }
            None => false,
        }
    }

    /// The same for all that hear what is sent to many.
    pub(super) fn hand_to_all(&mut self, (from, to): (IpEndpoint, IpEndpoint), marks: Marks, bytes: &[u8]) -> bool {
        let all = self.bound.get(&(Protocol::Udp, to.port)).cloned().unwrap_or_default();
        for id in &all {
            let hears = self.sockets.get(*id).is_some_and(|entry| super::port::covers(entry, to.addr));
            if hears {
                self.put(*id, (from, to.addr), marks, bytes);
            }
        }
        !all.is_empty()
    }

    fn put(&mut self, id: Id, (from, to): (IpEndpoint, IpAddress), marks: Marks, bytes: &[u8]) {
        let came = self.now;
        let Some(entry) = self.sockets.get_mut(id) else { return };
        let most = entry.options.receive_buffer.unwrap_or(QUEUE);
        let Kind::Datagrams(datagrams) = &mut entry.kind else { return };
        let cost = bytes.len() + OVERHEAD;
        if datagrams.read_closed {
            return;
        }
        // As elsewhere, the last one may reach over the limit: a small buffer holds one in any case.
        let has_room = datagrams.queued <= most;
        let Some(client) = self.clients.get_mut(entry.client) else { return };
        if !has_room || client.charge(cost as u64).is_err() {
            datagrams.lost = datagrams.lost.wrapping_add(1);
            return;
        }
        entry.charged += cost as u64;
        datagrams.queued += cost;
        let lost = datagrams.lost;
        datagrams.queue.push_back(Waiting { from, to, marks, came, lost, bytes: bytes.to_vec() });
        self.publish(id, true);
    }

    /// The next datagram; what does not fit is lost. `keep` leaves it there.
    pub fn receive_from(&mut self, id: Id, into: &mut [u8], keep: bool) -> Result<Datagram, NetworkError> {
        self.receive_message(id, into, keep).map(|message| Datagram { length: message.length, from: message.from })
    }

    /// The same, with how it came.
    pub fn receive_message(&mut self, id: Id, into: &mut [u8], keep: bool) -> Result<Message, NetworkError> {
        let now = self.now;
        let entry = self.sockets.get_mut(id).ok_or(NetworkError::InvalidArgument)?;
        let family = entry.family;
        if let Some(error) = entry.error.take() {
            self.publish(id, false);
            return Err(error);
        }
        let Kind::Datagrams(datagrams) = &mut entry.kind else { return Err(NetworkError::NotSupported) };
        let Some(Waiting { from, to, marks, came, lost, bytes }) = datagrams.queue.front() else {
            if datagrams.read_closed {
                let from = address::local((None, 0), family);
                let marks = entry.options.marks();
                return Ok(Message { length: 0, from, to: from.ip, marks, age: 0, lost: datagrams.lost });
            }
            return Err(NetworkError::WouldBlock);
        };
        let length = bytes.len().min(into.len());
        if let (Some(into), Some(bytes)) = (into.get_mut(..length), bytes.get(..length)) {
            into.copy_from_slice(bytes);
        }
        let answer = Message {
            length: length as u32,
            from: address::address(*from, family),
            to: address::bytes(*to),
            marks: *marks,
            age: (now - *came).total_micros().saturating_mul(1000),
            lost: *lost,
        };
        if !keep {
            let cost = bytes.len() + OVERHEAD;
            datagrams.queue.pop_front();
            datagrams.queued = datagrams.queued.saturating_sub(cost);
            entry.charged = entry.charged.saturating_sub(cost as u64);
            if let Some(client) = self.clients.get_mut(entry.client) {
                client.discharge(cost as u64);
            }
            self.publish(id, false);
        }
        Ok(answer)
    }

    pub(super) fn shutdown_datagrams(&mut self, id: Id, how: Shutdown) -> Result<(), NetworkError> {
        let Kind::Datagrams(datagrams) = &mut self.entry_mut(id)?.kind else { return Err(NetworkError::NotSupported) };
        if datagrams.remote.is_none() {
            return Err(NetworkError::NotConnected);
        }
        datagrams.read_closed |= matches!(how, Shutdown::Receive | Shutdown::Both);
        datagrams.write_closed |= matches!(how, Shutdown::Send | Shutdown::Both);
        self.publish(id, true);
        Ok(())
    }

    /// The client of a datagram socket is gone: the socket goes when what it sent is under way.
    pub(super) fn close_datagrams(&mut self, id: Id) {
        self.schedule(id);
    }

    /// Lets a datagram socket send.
    pub(super) fn send_datagrams(&mut self, id: Id) {
        for which in [Which::Loopback, Which::Wire] {
            let Some(Entry { kind: Kind::Datagrams(datagrams), .. }) = self.sockets.get_mut(id) else { return };
            let protocol = datagrams.protocol;
            let Some(mut out) = datagrams.outgoing.of(which).take() else { continue };
            let before = out.queued(protocol);
            let turn = self.send_set(id, which, &mut out.set, true);
            let after = out.queued(protocol);
            if after == 0 || after < before {
                out.waits_since = None;
            }
            if after > 0 {
                let since = *out.waits_since.get_or_insert(self.now);
                if since + PATIENCE <= self.now {
                    // Nobody answers for that address: what waits for it must not hold up the rest.
                    let Some(entry) = self.sockets.get(id) else { return };
                    out = Box::new(Out::new(protocol, entry.local.1, entry.options.time_to_live));
                } else {
                    let time = match turn {
                        Turn::At(time) => time.min(since + PATIENCE),
                        Turn::Never => since + PATIENCE,
                    };
                    self.set_timer(id, time);
                }
            }
            if let Some(Entry { kind: Kind::Datagrams(datagrams), .. }) = self.sockets.get_mut(id) {
                *datagrams.outgoing.of(which) = Some(out);
            }
        }
        let Some(entry) = self.sockets.get(id) else { return };
        let Kind::Datagrams(datagrams) = &entry.kind else { return };
        if entry.orphan && datagrams.sending() == 0 {
            self.free(id);
        } else {
            self.publish(id, false);
        }
    }
}

impl Out {
    fn queued(&self, protocol: Protocol) -> usize {
        match protocol {
            Protocol::Icmp => self.set.get::<icmp::Socket<'_>>(self.handle).send_queue(),
            _ => self.set.get::<udp::Socket<'_>>(self.handle).send_queue(),
        }
    }
}
