//! TCP sockets: connecting, listening, accepting, sending, receiving, and how connections come and go.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use smoltcp::iface::{Interface, SocketSet};
use smoltcp::socket::tcp::{RecvError, State};
use smoltcp::wire::{IpAddress, IpEndpoint, Ipv4Address, Ipv6Address};

use super::address;
use super::connection::{Connection, Sizes};
use super::{Ends, Entry, Id, Kind, Listener, Protocol, Ring, Stack, Turn, Which, ends, opening};
use tessera_interfaces::{Address, Family, NetworkError, Shutdown, readiness};

/// Bytes of a connection's buffers in each direction when nothing else was asked for.
pub(super) const BUFFER: usize = 64 << 10;
/// The least and the most that can be asked for.
pub(super) const LEAST_BUFFER: usize = 2 << 10;
const MOST_BUFFER: usize = 1 << 20;
/// Connections that one listener lets wait at most.
const MOST_BACKLOG: u32 = 4096;
/// Handshakes under way that a listener with a small backlog may have all the same.
const BEGUN: usize = 64;

/// What is ready of a connection.
pub(super) fn bits(connection: &Connection) -> u64 {
    let socket = connection.look();
    if !connection.established {
        return 0;
    }
    let ended = !matches!(socket.state(), State::Established | State::FinWait1 | State::FinWait2);
    let mut bits = 0;
    if socket.can_recv() || ended || connection.read_closed {
        bits |= readiness::READABLE;
    }
    if ended || connection.read_closed {
        bits |= readiness::READ_CLOSED;
    }
    let room = socket.send_capacity() - socket.send_queue();
    if !socket.may_send() || room * 3 >= socket.send_capacity() {
        bits |= readiness::WRITABLE;
    }
    if ended && !socket.may_send() {
        bits |= readiness::HANGUP;
    }
    bits
}

impl Stack {
    /// Lets a socket take connections.
    pub fn listen(&mut self, id: Id, backlog: u32) -> Result<(), NetworkError> {
        let backlog = backlog.clamp(1, MOST_BACKLOG) as usize;
        let entry = self.entry_mut(id)?;
        match &mut entry.kind {
            Kind::Listener(listener) => {
                listener.backlog = backlog;
                return Ok(());
            }
            Kind::Idle => {}
            Kind::Datagrams(_) => return Err(NetworkError::NotSupported),
            _ => return Err(NetworkError::InvalidArgument),
        }
        if !entry.bound {
            self.bind_to(id, Protocol::Tcp, (None, 0))?;
        }
        if self.is_listened_to(id) {
            return Err(NetworkError::AddressInUse);
        }
        self.entry_mut(id)?.kind = Kind::Listener(Listener { backlog, ready: VecDeque::new(), begun: 0 });
        self.publish(id, false);
        Ok(())
    }

    /// Takes the next connection of a listener.
    pub fn accept(&mut self, id: Id) -> Result<Id, NetworkError> {
        let entry = self.sockets.get_mut(id).ok_or(NetworkError::InvalidArgument)?;
        let Kind::Listener(listener) = &mut entry.kind else { return Err(NetworkError::InvalidArgument) };
        let Some(&accepted) = listener.ready.front() else { return Err(NetworkError::WouldBlock) };
        let client = self.clients.get_mut(entry.client).ok_or(NetworkError::PermissionDenied)?;
        let number = client.take_number()?;
        listener.ready.pop_front();
        let entry = self.entry_mut(accepted)?;
        entry.number = Some(number);
        if let Kind::Connection(connection) = &mut entry.kind {
            connection.listener = None;
        }
        self.grant(accepted);
        self.introduce(accepted);
        self.publish(id, false);
        Ok(accepted)
    }

    /// Begins to connect a TCP socket, or names the peer of a datagram socket.
    pub fn connect(&mut self, id: Id, to: Address) -> Result<(), NetworkError> {
        let entry = self.entry(id)?;
        address::check(&to, entry.family)?;
        let loopback = match entry.family {
            Family::V4 => IpAddress::Ipv4(Ipv4Address::LOCALHOST),
            Family::V6 => IpAddress::Ipv6(Ipv6Address::LOCALHOST),
        };
        let remote = IpEndpoint::new(address::ip(&to).unwrap_or(loopback), to.port);
        match &entry.kind {
            Kind::Idle => {}
            Kind::Connection(connection) if !connection.established => return Err(NetworkError::InProgress),
            Kind::Connection(_) | Kind::Ended { .. } => return Err(NetworkError::AlreadyConnected),
            Kind::Listener(_) => return Err(NetworkError::InvalidArgument),
            Kind::Datagrams(_) => return self.connect_datagrams(id, remote),
        }
        if remote.port == 0 {
            return Err(NetworkError::AddressNotAvailable);
        }
        let which = self.way(remote.addr)?;
        if address::is_many(&remote.addr) {
            return Err(NetworkError::NetworkUnreachable);
        }
        let (bound_ip, bound_port) = entry.local;
        let ip = bound_ip.or_else(|| self.source_for(remote.addr)).ok_or(NetworkError::AddressNotAvailable)?;
        if ip.version() != remote.addr.version() || (which == Which::Wire && address::is_loopback(&ip)) {
            return Err(NetworkError::InvalidArgument);
        }
        if which == Which::Loopback {
            self.hold_on_loopback(ip)?;
            self.hold_on_loopback(remote.addr)?;
        }
        let port = if bound_port == 0 { self.free_port(Protocol::Tcp, Some((ip, remote)))? } else { bound_port };
        let local = IpEndpoint::new(ip, port);
        if self.connections.contains_key(&ends(local, remote)) || self.resting.get(&ends(local, remote)).is_some() {
            return Err(NetworkError::AddressInUse);
        }
        let mut connection = self.make_connection(id, which, local, remote)?;
        let begun = self.opening(which, &ends(local, remote));
        let begun = begun.is_some_and(|mut on| connection.socket().connect(on.context(), remote, local).is_ok());
        if !begun {
            self.unmake_connection(id, connection);
            return Err(NetworkError::AddressNotAvailable);
        }
        connection.mapped = true;
        self.connections.insert(ends(local, remote), id);
        let entry = self.entry_mut(id)?;
        connection.apply(&entry.options);
        entry.kind = Kind::Connection(connection);
        self.grant(id);
        self.schedule(id);
        self.publish(id, false);
        Err(NetworkError::InProgress)
    }

    /// An interface on which a connection between these ends can begin.
    fn opening(&mut self, which: Which, ends: &Ends) -> Option<Interface> {
        let (first, rest, now) = (self.secret.sequence(ends, self.now), self.secret.number(), self.now);
        let made = match which {
            Which::Loopback => {
                let (side, mut device) = self.loopback.as_mut()?.open(None);
                opening::interface(side, &mut device, first, rest, now)
            }
            Which::Wire => {
                let (side, mut device) = self.wire.as_mut()?.open(None);
                opening::interface(side, &mut device, first, rest, now)
            }
        };
        Some(made)
    }

    /// A connection with buffers as the socket `id` wants and its client may have.
    pub(super) fn make_connection(
        &mut self,
        id: Id,
        which: Which,
        local: IpEndpoint,
        remote: IpEndpoint,
    ) -> Result<Box<Connection>, NetworkError> {
        let entry = self.sockets.get_mut(id).ok_or(NetworkError::InvalidArgument)?;
        let client = self.clients.get_mut(entry.client).ok_or(NetworkError::PermissionDenied)?;
        let size = |asked: Option<usize>| match asked {
            Some(asked) => asked.clamp(LEAST_BUFFER, MOST_BUFFER),
            None => client.fitting(BUFFER),
        };
        let sizes = Sizes { receive: size(entry.options.receive_buffer), send: size(entry.options.send_buffer) };
        client.charge(sizes.total())?;
        entry.charged += sizes.total();
        Ok(self.spare.take(sizes, which, local, remote))
    }

    /// Takes a connection's memory and charge back.
    fn unmake_connection(&mut self, id: Id, connection: Box<Connection>) {
        let bytes = connection.sizes.total();
        if let Some(entry) = self.sockets.get_mut(id) {
            entry.charged = entry.charged.saturating_sub(bytes);
            if let Some(client) = self.clients.get_mut(entry.client) {
                client.discharge(bytes);
            }
        }
        self.spare.give(connection);
    }

    /// Answers a connection request to a listener: makes the connection and its socket, which the caller shows the request to. None
    /// when the queue is full, or the client may have no more: then the request is to be dropped, so that the peer asks again.
    pub(super) fn begin(
        &mut self,
        listener: Id,
        which: Which,
        local: IpEndpoint,
        remote: IpEndpoint,
    ) -> Option<(Id, Box<Connection>)> {
        let entry = self.sockets.get(listener)?;
        let Kind::Listener(queue) = &entry.kind else { return None };
        if queue.ready.len() >= queue.backlog || queue.begun >= queue.backlog.max(BEGUN) {
            return None;
        }
        let (client, family, options) = (entry.client, entry.family, entry.options);
        self.clients.get_mut(client)?.take_socket().ok()?;
        let mut fresh = Entry::new(client, None, family, Kind::Idle);
        fresh.options = options;
        let id = self.sockets.insert(fresh);
        let Ok(mut connection) = self.make_connection(id, which, local, remote) else {
            self.free(id);
            return None;
        };
        if connection.socket().listen(local).is_err() {
            self.unmake_connection(id, connection);
            self.free(id);
            return None;
        }
        connection.listener = Some(listener);
        connection.apply(&options);
        Some((id, connection))
    }

    /// The request was fine: the connection that `begin` made lives.
    pub(super) fn began(&mut self, id: Id, mut connection: Box<Connection>) {
        if let Some(Entry { kind: Kind::Listener(queue), .. }) =
            connection.listener.and_then(|listener| self.sockets.get_mut(listener))
        {
            queue.begun += 1;
        }
        connection.mapped = true;
        connection.owes = true;
        self.connections.insert(ends(connection.local, connection.remote), id);
        if let Some(entry) = self.sockets.get_mut(id) {
            entry.kind = Kind::Connection(connection);
        }
        self.schedule(id);
    }

    /// The request was not: the connection that `begin` made goes.
    pub(super) fn not_begun(&mut self, id: Id, connection: Box<Connection>) {
        self.unmake_connection(id, connection);
        self.free(id);
    }

    /// Sends bytes of a stream.
    pub(super) fn send_stream(&mut self, id: Id, from: &[u8]) -> Result<u64, NetworkError> {
        let entry = self.entry_mut(id)?;
        if let Some(error) = entry.error.take() {
            self.publish(id, false);
            return Err(error);
        }
        entry.exchange();
        let is_behind = entry.ring.as_mut().is_some_and(Ring::is_sending);
        match &mut entry.kind {
            Kind::Connection(connection) if !connection.established => Err(NetworkError::WouldBlock),
            // What is in the ring goes first.
            Kind::Connection(_) if is_behind => {
                self.schedule(id);
                self.publish(id, false);
                Err(NetworkError::WouldBlock)
            }
            Kind::Connection(connection) => {
                connection.may_hold = connection.look().send_queue() > 0;
                let sent = connection.socket().send_slice(from).map_err(|_| NetworkError::BrokenPipe)?;
                // What it has of its turn is published with what follows from it.
                if sent > 0 {
                    self.schedule(id)
                } else {
                    self.publish(id, false)
                }
                if sent == 0 && !from.is_empty() { Err(NetworkError::WouldBlock) } else { Ok(sent as u64) }
            }
            Kind::Ended { .. } => Err(NetworkError::BrokenPipe),
            _ => Err(NetworkError::NotConnected),
        }
    }

    /// Receives bytes of a stream; `keep` leaves them there.
    pub(super) fn receive_stream(&mut self, id: Id, into: &mut [u8], keep: bool) -> Result<u64, NetworkError> {
        let entry = self.entry_mut(id)?;
        // What is in the ring comes first.
        if entry.ring.as_ref().is_some_and(|ring| ring.unread() > 0) {
            return Err(NetworkError::WouldBlock);
        }
        match &mut entry.kind {
            Kind::Connection(connection) if !connection.established && entry.error.is_none() => {
                Err(NetworkError::WouldBlock)
            }
            Kind::Connection(connection) => {
                if connection.read_closed || into.is_empty() {
                    return Ok(0);
                }
                let socket = connection.socket();
                // The peer is told of a wider window when it has at least doubled.
                let narrow = socket.recv_queue() >= socket.recv_capacity() / 2;
                // Looking does not tell the end from nothing.
                let received =
                    if keep && socket.may_recv() { socket.peek_slice(into) } else { socket.recv_slice(into) };
                match received {
                    Ok(0) => Err(NetworkError::WouldBlock),
                    Ok(length) => {
                        if !keep {
                            entry.exchange();
                        }
                        let Kind::Connection(connection) = &mut entry.kind else { return Ok(length as u64) };
                        connection.told = connection.look().recv_queue();
                        let ended = !connection.mapped;
                        if narrow || ended {
                            self.schedule(id);
                        }
                        self.publish(id, false);
                        Ok(length as u64)
                    }
                    Err(RecvError::Finished | RecvError::InvalidState) => self.at_end(id),
                }
            }
            Kind::Ended { .. } => self.at_end(id),
            _ => Err(NetworkError::NotConnected),
        }
    }

    /// What a reader is told when there is nothing more to read: what went wrong, once, else the end.
    fn at_end(&mut self, id: Id) -> Result<u64, NetworkError> {
        self.schedule(id);
        self.take_error(id).map(|()| 0)
    }

    /// Ends one or both directions.
    pub(super) fn shutdown_stream(&mut self, id: Id, how: Shutdown) -> Result<(), NetworkError> {
        let entry = self.entry_mut(id)?;
        match &mut entry.kind {
            Kind::Connection(connection) if connection.established => {
                if matches!(how, Shutdown::Receive | Shutdown::Both) {
                    connection.read_closed = true;
                }
                if matches!(how, Shutdown::Send | Shutdown::Both) {
                    entry.finish();
                    self.schedule(id);
                }
                self.publish(id, true);
                Ok(())
            }
            Kind::Listener(_) if matches!(how, Shutdown::Receive | Shutdown::Both) => {
                self.end_listener(id);
                self.entry_mut(id)?.kind = Kind::Idle;
                self.publish(id, true);
                Ok(())
            }
            _ => Err(NetworkError::NotConnected),
        }
    }

    /// The client of a TCP socket is gone.
    pub(super) fn close_tcp(&mut self, id: Id) {
        let Some(entry) = self.sockets.get_mut(id) else { return };
        let linger = entry.options.linger;
        let in_ring = entry.ring.as_ref().is_some_and(|ring| ring.unread() > 0);
        match &mut entry.kind {
            Kind::Connection(connection) => {
                let unread = (connection.look().recv_queue() > 0 || in_ring) && !connection.read_closed;
                let waits = connection.look().state() == State::SynSent;
                // RFC 2525 section 2.17: data that nobody will read is not acknowledged by a clean end.
                if unread || waits || linger == Some(0) {
                    connection.socket().abort();
                } else {
                    connection.orphan();
                    entry.finish();
                }
                self.schedule(id);
            }
            Kind::Listener(_) => {
                self.end_listener(id);
                self.free(id);
            }
            _ => self.free(id),
        }
    }

    /// Makes a listener a socket that does nothing, and resets all of its connections that nobody has accepted.
    pub(super) fn end_listener(&mut self, id: Id) {
        let Some(entry) = self.sockets.get_mut(id) else { return };
        let Kind::Listener(listener) = core::mem::replace(&mut entry.kind, Kind::Idle) else { return };
        let mut ends: alloc::vec::Vec<Id> = listener.ready.into();
        if listener.begun > 0 {
            let begun = self.sockets.iter_mut().filter_map(|(begun, entry)| match &entry.kind {
                Kind::Connection(connection) if connection.listener == Some(id) && !connection.established => {
                    Some(begun)
                }
                _ => None,
            });
            ends.extend(begun);
        }
        for id in ends {
            match self.sockets.get_mut(id) {
                Some(entry) if matches!(entry.kind, Kind::Connection(_)) => {
                    entry.orphan = true;
                    if let Kind::Connection(connection) = &mut entry.kind {
                        connection.listener = None;
                        connection.socket().abort();
                    }
                    self.schedule(id);
                }
                // It was over before anybody accepted it.
                _ => self.free(id),
            }
        }
    }

    /// Lets a connection send, and draws the consequences.
    pub(super) fn send_segments(&mut self, id: Id) {
        let Some(entry) = self.sockets.get_mut(id) else { return };
        entry.exchange();
        let Kind::Connection(connection) = &mut entry.kind else { return };
        let which = connection.which;
        let likely = core::mem::take(&mut connection.owes) || connection.look().send_queue() > 0;
        let mut set = core::mem::replace(&mut connection.set, SocketSet::new(alloc::vec::Vec::new()));
        let turn = self.send_set(id, which, &mut set, likely);
        if let Some(Entry { kind: Kind::Connection(connection), .. }) = self.sockets.get_mut(id) {
            connection.set = set;
        }
        if let Turn::At(time) = turn {
            self.set_timer(id, time);
        }
        self.settle(id);
    }

    /// Draws the consequences of a connection's new state.
    fn settle(&mut self, id: Id) {
        let Some(entry) = self.sockets.get_mut(id) else { return };
        let Kind::Connection(connection) = &mut entry.kind else { return };
        let state = connection.state();
        let mut event = false;

        let handshake = matches!(state, State::SynSent | State::SynReceived | State::Listen | State::Closed);
        if !connection.established && !handshake {
            connection.established = true;
            connection.apply(&entry.options);
            event = true;
            if let Some(listener) = connection.listener {
                self.accepted_by(listener, id);
            }
        }

        let Some(entry) = self.sockets.get_mut(id) else { return };
        let Kind::Connection(connection) = &mut entry.kind else { return };
        if !connection.established && connection.listener.is_some() && matches!(state, State::Listen | State::Closed) {
            // The peer thought better of it, or never answered.
            if let Some(Entry { kind: Kind::Listener(queue), .. }) =
                connection.listener.and_then(|listener| self.sockets.get_mut(listener))
            {
                queue.begun = queue.begun.saturating_sub(1);
            }
            self.free(id);
            return;
        }
        if connection.is_over() {
            self.over(id);
            return;
        }
        connection.finished |= matches!(state, State::LastAck | State::Closing | State::TimeWait);
        if state == State::TimeWait {
            if core::mem::take(&mut connection.mapped) {
                let (sequence, ends) = (connection.last_sequence, ends(connection.local, connection.remote));
                self.connections.remove(&ends);
                self.resting.insert(ends, sequence, self.now);
                self.has_new_time = true;
            }
            self.end(id);
            return;
        }
        let there = connection.look().recv_queue();
        let came = there > connection.told;
        connection.told = there;
        if came && entry.orphan {
            // RFC 1122 section 4.2.2.13: who sends to a socket that was closed is told that nobody reads it.
            connection.socket().abort();
            self.schedule(id);
            return;
        }
        event |= came | entry.ring.as_mut().is_some_and(Ring::has_news);
        self.publish(id, event);
    }

    /// A connection of a listener is established.
    fn accepted_by(&mut self, listener: Id, id: Id) {
        if let Some(Entry { kind: Kind::Listener(queue), .. }) = self.sockets.get_mut(listener) {
            queue.begun = queue.begun.saturating_sub(1);
            queue.ready.push_back(id);
            self.publish(listener, true);
        }
    }

    /// A connection is closed on both sides, reset, or given up.
    fn over(&mut self, id: Id) {
        let Some(entry) = self.sockets.get_mut(id) else { return };
        let Kind::Connection(connection) = &mut entry.kind else { return };
        let error = match (connection.established, connection.reset) {
            (false, true) => Some(NetworkError::ConnectionRefused),
            (false, false) => Some(NetworkError::TimedOut),
            (true, true) => Some(NetworkError::ConnectionReset),
            (true, false) if !connection.finished => Some(NetworkError::TimedOut),
            (true, false) => None,
        };
        if error.is_some() {
            entry.error = error;
        }
        if core::mem::take(&mut connection.mapped) {
            let ends = ends(connection.local, connection.remote);
            self.connections.remove(&ends);
        }
        self.end(id);
    }

    /// A connection that segments no longer come to: its memory is given back, unless there is something left to read.
    fn end(&mut self, id: Id) {
        let Some(entry) = self.sockets.get_mut(id) else { return };
        if let Some(time) = entry.timer.take() {
            self.timers.remove(&(time, id));
        }
        if entry.orphan {
            self.free(id);
            return;
        }
        let Kind::Connection(connection) = &mut entry.kind else { return };
        let unread = connection.look().recv_queue() > 0 && !connection.read_closed;
        // One that waits to be accepted is accepted as any other.
        if !unread {
            let after = if connection.established { Kind::Ended { local: connection.local } } else { Kind::Idle };
            if let Kind::Connection(connection) = core::mem::replace(&mut entry.kind, after) {
                self.unmake_connection(id, connection);
            }
        }
        self.publish(id, true);
    }

    /// Takes a connection that is being removed out of the tables.
    pub(super) fn forget(&mut self, id: Id, connection: &Connection) {
        if connection.mapped {
            let ends = ends(connection.local, connection.remote);
            if self.connections.get(&ends) == Some(&id) {
                self.connections.remove(&ends);
            }
        }
    }
}
