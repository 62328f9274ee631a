//! The stack: all sockets of all clients, and the two links that they speak through. Nothing here waits or knows of threads.
//!
//! What it keeps, over what the protocol library does for one socket:
//! - Work is proportional to what happens, not to how many sockets there are: a frame is shown to the one socket that it is for,
//!   and only sockets with something to do are looked at. Each socket is a set of its own to the library.
//! - A listener is a queue here, not a socket of the library's: a connection request makes the socket that answers it, and is
//!   dropped, not refused, when the queue is full.
//! - A connection that waits after its end (TIME-WAIT) holds no buffers.
//! - Every socket and every byte of buffer is charged to a client, which cannot get more than its limits.
//!
//! Whoever calls it sets the time first, and calls `run` when frames may have come or a time has, and `follow` after what a client does.
//! No frame, and no argument of a client, can make it panic.

mod address;
mod client;
mod connection;
mod datagram;
mod deliver;
mod ends;
mod failure;
mod frame;
mod gather;
mod link;
mod names;
mod opening;
mod options;
mod port;
mod resting;
mod running;
mod secret;
mod setup;
mod slab;
mod stream;
mod tcp;
#[cfg(test)]
mod tests;
mod turn;
mod turns;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use address::Local;
use client::Client;
pub use client::{Called, Limits, Signals};
use connection::{Connection, Options, Spare};
use datagram::Datagrams;
use ends::{Ends, ends, first_of};
pub use gather::Cuts;
pub use link::{Arrived, Offload, Port};
use link::{Loopback, OneFrame, Outgoing};
use names::Names;
use resting::Resting;
pub use secret::KEY;
use secret::Secret;
use setup::Setup;
pub use setup::{Device, Source, Static};
use slab::Slab;
use stream::Ring;
pub use stream::{Backing, Streams};
use tessera_interfaces::{Address, Family, NetworkError, readiness};
use turn::Turn;
use turns::Turns;

/// A socket's place in the stack.
pub type Id = u32;
/// A client's.
pub type ClientId = u32;

/// Which link a connection goes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    Loopback,
    Wire,
}

/// Something for each of the two links.
#[derive(Default)]
struct ForLink<T>([T; 2]);

impl<T> ForLink<T> {
    fn of(&mut self, which: Which) -> &mut T {
        let [loopback, wire] = &mut self.0;
        match which {
            Which::Loopback => loopback,
            Which::Wire => wire,
        }
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

/// What a socket speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Protocol {
    Tcp,
    Udp,
    UdpLite,
    Icmp,
}

/// A socket.
struct Entry {
    client: ClientId,
    /// Its number in the client's readiness table. None for what no client holds: a connection before it is accepted, or after it was closed.
    number: Option<u32>,
    /// Its client has let go of it; it goes when it has said goodbye.
    orphan: bool,
    family: Family,
    options: Options,
    /// What it was bound to.
    local: Local,
    /// It stands in the table of bound ports.
    bound: bool,
    error: Option<NetworkError>,
    kind: Kind,
    /// Bits that its client was last told.
    bits: u64,
    /// Its rings, if it has some.
    ring: Option<Ring>,
    /// Bytes charged for it.
    charged: u64,
    scheduled: bool,
    /// For each link.
    awaits_room: ForLink<bool>,
    timer: Option<i64>,
}

enum Kind {
    /// A TCP socket that neither listens nor is connected.
    Idle,
    Listener(Listener),
    Connection(Box<Connection>),
    /// A TCP connection that is over, its memory given back. `peer` is what it was connected to.
    Ended {
        local: IpEndpoint,
    },
    Datagrams(Box<Datagrams>),
}

/// A listening socket.
struct Listener {
    backlog: usize,
    /// Established connections that wait to be accepted.
    ready: VecDeque<Id>,
    /// Connections whose handshake is not complete.
    begun: usize,
}

/// A link with its protocol state.
struct Side {
    interface: Interface,
    capabilities: DeviceCapabilities,
}

/// The wire.
struct WireLink {
    side: Side,
    outgoing: Outgoing,
    incoming: Vec<u8>,
    setup: Setup,
}

struct LoopbackLink {
    side: Side,
    queue: Loopback,
}

/// The network stack.
pub struct Stack {
    now: Instant,
    secret: Secret,
    loopback: Option<Box<LoopbackLink>>,
    wire: Option<Box<WireLink>>,
    /// The addresses of the wire's interface.
    addresses: Vec<IpCidr>,
    gateways: (bool, bool),
    names: Names,
    nobody: SocketSet<'static>,
    sockets: Slab<Entry>,
    clients: Slab<Client>,
    connections: BTreeMap<Ends, Id>,
    resting: Resting,
    bound: BTreeMap<(Protocol, u16), Vec<Id>>,
    /// Sockets to be looked at, in turn.
    scheduled: Turns,
    /// Sockets that cannot send until a neighbour's hardware address is known.
    await_neighbour: BTreeSet<Id>,
    /// Sockets that cannot send until their link has room.
    await_room: ForLink<Turns>,
    timers: BTreeSet<(i64, Id)>,
    /// Something is to be done at a time that whoever runs the stack has not been told.
    has_new_time: bool,
    /// Who drives the stack sleeps, and is to be called when the wire has room.
    rests_for_room: bool,
    spare: Spare,
}

/// Segments that one socket may send before the next one's turn.
const TURN: usize = 16;
/// The longest packet on the loopback link, in bytes.
const LOOPBACK_MTU: usize = 16 << 10;

impl Stack {
    /// A stack without a wire. Who knows `key` can foretell sequence numbers and ports.
    pub fn new(key: [u8; KEY], now: u64) -> Stack {
        let mut secret = Secret::new(key);
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = LOOPBACK_MTU;
        // What never leaves memory needs no checksum.
        capabilities.checksum = smoltcp::phy::ChecksumCapabilities::ignored();
        let now = instant(now);
        let mut queue = Loopback::default();
        let mut device = OneFrame { frame: None, transmit: &mut queue, capabilities: &capabilities, sent: 0 };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = secret.number();
        let mut interface = Interface::new(config, &mut device, now);
        interface.update_ip_addrs(|addresses| {
            let own =
                [IpCidr::new(IpAddress::v4(127, 0, 0, 1), 8), IpCidr::new(IpAddress::v6(0, 0, 0, 0, 0, 0, 0, 1), 128)];
            let _ = addresses.extend_from_slice(&own);
        });
        Stack {
            now,
            secret,
            loopback: Some(Box::new(LoopbackLink { side: Side { interface, capabilities }, queue })),
            wire: None,
            addresses: Vec::new(),
            gateways: (false, false),
            names: Names::default(),
            nobody: SocketSet::new(Vec::new()),
            sockets: Slab::default(),
            clients: Slab::default(),
            connections: BTreeMap::new(),
            resting: Resting::default(),
            bound: BTreeMap::new(),
            scheduled: Turns::default(),
            await_neighbour: BTreeSet::new(),
            await_room: Default::default(),
            timers: BTreeSet::new(),
            has_new_time: false,
            rests_for_room: false,
            spare: Spare::default(),
        }
    }

    /// Sets the time: nanoseconds since boot.
    pub fn set_time(&mut self, now: u64) {
        self.now = self.now.max(instant(now));
    }

    /// Lets a client in.
    pub fn add_client(&mut self, limits: Limits) -> ClientId {
        self.clients.insert(Client::new(limits))
    }

    /// Lets a client hold no more bytes than this, and the stack a quarter of that for connections to come.
    pub fn limit(&mut self, client: ClientId, bytes: u64) {
        self.clients.get_mut(client).into_iter().for_each(|client| client.limit(bytes));
        self.spare.limit(bytes / 4);
    }

    /// From now on a client is told through `signals`; at once of all that it holds.
    pub fn listen_for(&mut self, client: ClientId, signals: Box<dyn Signals>) {
        if let Some(known) = self.clients.get_mut(client) {
            known.listen(signals);
        }
        for (_, entry) in self.sockets.iter_mut().filter(|(_, entry)| entry.client == client) {
            if let (Some(number), Some(client)) = (entry.number, self.clients.get_mut(client)) {
                client.set(number, entry.bits, true);
            }
        }
    }

    /// From now on a client that is told through signals is called in their place, where that can be done.
    pub fn listen_here(&mut self, client: ClientId, listener: Called) {
        if let Some(client) = self.clients.get_mut(client) {
            client.call(listener);
        }
    }

    /// What a client uses: sockets and bytes.
    pub fn used(&self, client: ClientId) -> (u32, u64) {
        self.clients.get(client).map_or((0, 0), Client::used)
    }

    /// How many sockets there are, of all clients and of none.
    pub fn count(&self) -> usize {
        self.sockets.len()
    }

    /// Opens a socket.
    pub fn open(&mut self, client: ClientId, protocol: Protocol, family: Family) -> Result<Id, NetworkError> {
        let known = self.clients.get_mut(client).ok_or(NetworkError::PermissionDenied)?;
        known.take_socket()?;
        let number = match known.take_number() {
            Ok(number) => number,
            Err(error) => {
                known.return_socket();
                return Err(error);
            }
        };
        let kind = match protocol {
            Protocol::Tcp => Kind::Idle,
            Protocol::Udp | Protocol::UdpLite | Protocol::Icmp => Kind::Datagrams(Box::new(Datagrams::new(protocol))),
        };
        let id = self.sockets.insert(Entry::new(client, Some(number), family, kind));
        self.introduce(id);
        Ok(id)
    }

    /// A socket's number in its client's readiness table.
    pub fn number(&self, id: Id) -> Result<u32, NetworkError> {
        self.entry(id)?.number.ok_or(NetworkError::InvalidArgument)
    }

    /// Takes the pending error of a socket.
    pub fn take_error(&mut self, id: Id) -> Result<(), NetworkError> {
        let error = self.entry_mut(id)?.error.take();
        self.publish(id, false);
        error.map_or(Ok(()), Err)
    }

    /// The local address of a socket.
    pub fn local(&self, id: Id) -> Result<Address, NetworkError> {
        let entry = self.entry(id)?;
        Ok(match &entry.kind {
            Kind::Connection(connection) => address::address(connection.local, entry.family),
            Kind::Ended { local } => address::address(*local, entry.family),
            Kind::Datagrams(datagrams) => {
                let ip = entry.local.0.or_else(|| self.source_for(datagrams.remote?.addr));
                address::local((ip, entry.local.1), entry.family)
            }
            Kind::Idle | Kind::Listener(_) => address::local(entry.local, entry.family),
        })
    }

    /// The address of the other side.
    pub fn peer(&self, id: Id) -> Result<Address, NetworkError> {
        let entry = self.entry(id)?;
        let remote = match &entry.kind {
            Kind::Connection(connection) if connection.established && !connection.reset => Some(connection.remote),
            Kind::Datagrams(datagrams) => datagrams.remote,
            _ => None,
        };
        remote.map(|remote| address::address(remote, entry.family)).ok_or(NetworkError::NotConnected)
    }

    /// A client lets go of a socket.
    pub fn close(&mut self, id: Id) {
        let Ok(entry) = self.entry_mut(id) else { return };
        entry.orphan = true;
        if self.is_tcp(id) {
            self.close_tcp(id);
        } else {
            self.close_datagrams(id);
        }
        // The number is another socket's as soon as nothing is left in the rings.
        if let Some(entry) = self.sockets.get_mut(id)
            && !entry.ring.as_mut().is_some_and(Ring::is_sending)
        {
            entry.ring = None;
            if let (Some(number), Some(client)) = (entry.number.take(), self.clients.get_mut(entry.client)) {
                client.return_number(number);
            }
        }
    }

    /// Puts a socket that its client is only now given into the client's table. Nobody can wait for it yet, so that nobody is told.
    fn introduce(&mut self, id: Id) {
        let bits = self.bits(id);
        let Some(entry) = self.sockets.get_mut(id) else { return };
        entry.tell_ring();
        entry.bits = bits;
        if let (Some(number), Some(client)) = (entry.number, self.clients.get_mut(entry.client)) {
            client.set(number, bits, false);
        }
    }

    /// Tells a socket's client what is ready. `event`: something new, even if the bits are the same.
    fn publish(&mut self, id: Id, event: bool) {
        let bits = self.bits(id);
        let Some(entry) = self.sockets.get_mut(id) else { return };
        entry.tell_ring();
        if bits == entry.bits && !event || entry.orphan {
            return;
        }
        // That something is no longer ready is nothing to wait for.
        let before = core::mem::replace(&mut entry.bits, bits);
        let is_news = event || bits & !before != 0;
        if let (Some(number), Some(client)) = (entry.number, self.clients.get_mut(entry.client)) {
            client.set(number, bits, is_news);
        }
    }

    fn bits(&self, id: Id) -> u64 {
        let Some(entry) = self.sockets.get(id) else { return 0 };
        let kind = match &entry.kind {
            Kind::Idle => readiness::HANGUP | readiness::WRITABLE,
            Kind::Listener(listener) if listener.ready.is_empty() => 0,
            Kind::Listener(_) => readiness::READABLE,
            Kind::Connection(connection) => tcp::bits(connection),
            Kind::Ended { .. } => {
                readiness::READABLE | readiness::WRITABLE | readiness::HANGUP | readiness::READ_CLOSED
            }
            Kind::Datagrams(datagrams) => datagrams.bits(),
        };
        // What was taken out of a ring only its client knows: where there was something, there may be.
        let unread = entry.ring.as_ref().is_some_and(|ring| ring.unread() > 0 || entry.bits & readiness::READABLE != 0);
        kind | if unread { readiness::READABLE } else { 0 } | if entry.error.is_some() { readiness::ERROR } else { 0 }
    }

    /// Removes a socket for good.
    fn free(&mut self, id: Id) {
        let Some(mut entry) = self.sockets.remove(id) else { return };
        if let Some(time) = entry.timer {
            self.timers.remove(&(time, id));
        }
        self.await_neighbour.remove(&id);
        for which in [Which::Loopback, Which::Wire] {
            if *entry.awaits_room.of(which) {
                self.await_room.of(which).remove(entry.client, id);
            }
        }
        if entry.bound {
            let protocol = match &entry.kind {
                Kind::Datagrams(datagrams) => datagrams.protocol,
                _ => Protocol::Tcp,
            };
            self.unbind(protocol, entry.local.1, id);
        }
        if let Some(client) = self.clients.get_mut(entry.client) {
            client.return_socket();
            client.discharge(entry.charged);
            if let Some(number) = entry.number {
                client.return_number(number);
            }
        }
        if let Kind::Connection(connection) = entry.kind {
            self.forget(id, &connection);
            self.spare.give(connection);
        }
    }

    fn entry(&self, id: Id) -> Result<&Entry, NetworkError> {
        self.sockets.get(id).ok_or(NetworkError::InvalidArgument)
    }

    fn entry_mut(&mut self, id: Id) -> Result<&mut Entry, NetworkError> {
        self.sockets.get_mut(id).ok_or(NetworkError::InvalidArgument)
    }

    fn is_tcp(&self, id: Id) -> bool {
        self.sockets.get(id).is_some_and(|entry| !matches!(entry.kind, Kind::Datagrams(_)))
    }
}

impl Entry {
    fn new(client: ClientId, number: Option<u32>, family: Family, kind: Kind) -> Entry {
        Entry {
            client,
            number,
            orphan: false,
            family,
            options: Options::default(),
            local: (None, 0),
            bound: false,
            error: None,
            kind,
            bits: 0,
            ring: None,
            charged: 0,
            scheduled: false,
            awaits_room: ForLink::default(),
            timer: None,
        }
    }
}

impl LoopbackLink {
    fn open<'a>(&'a mut self, frame: Option<&'a [u8]>) -> (&'a mut Interface, OneFrame<'a>) {
        let Side { interface, capabilities } = &mut self.side;
        (interface, OneFrame { frame, transmit: &mut self.queue, capabilities, sent: 0 })
    }
}

impl WireLink {
    fn open<'a>(&'a mut self, frame: Option<&'a [u8]>) -> (&'a mut Interface, OneFrame<'a>) {
        let Side { interface, capabilities } = &mut self.side;
        (interface, OneFrame { frame, transmit: &mut self.outgoing, capabilities, sent: 0 })
    }
}

fn instant(nanoseconds: u64) -> Instant {
    Instant::from_micros((nanoseconds / 1000) as i64)
}

/// The nanosecond by which an instant has surely come.
fn nanoseconds(instant: Instant) -> u64 {
    (instant.total_micros().max(0) as u64).saturating_mul(1000)
}
