//! The network: sockets, names, and what the machine is called there.

use alloc::vec::Vec;

use tessera_runtime::object::{Event, Vmo};
use tessera_runtime::{Cap, InterfaceError, Plain, TransportError, interface};

/// The right to use the network. Whoever holds it can open sockets, within the limits that its route says.
#[interface]
pub trait Network {
    /// Shares the readiness table, laid out as [`readiness`] says. At each change `bits` of `notify` are raised. Asking again
    /// makes another table and ends the use of the one before.
    fn readiness(&self, notify: Event, bits: u64) -> Result<Vmo, NetworkError>;

    /// A TCP socket.
    fn tcp(&self, family: Family) -> Result<Cap<dyn Socket>, NetworkError>;

    /// A UDP socket.
    fn udp(&self, family: Family) -> Result<Cap<dyn Socket>, NetworkError>;

    /// A socket for ICMP echo.
    fn icmp(&self, family: Family) -> Result<Cap<dyn Socket>, NetworkError>;

    /// The addresses of a name, 16 bytes each, those of IPv4 as `::ffff:a.b.c.d`. `WouldBlock` until the answer is known: ask again
    /// when word 0 of the readiness table has changed.
    #[bound(512)]
    fn resolve(&self, name: &str) -> Result<Vec<u8>, NetworkError>;

    /// What the machine is called on the network.
    fn configuration(&self) -> Result<Configuration, NetworkError>;

    /// Shares memory through which streams go, laid out as [`streams`](crate::streams) says: from then on new sockets of TCP have rings in it as long as there are
    /// some free. Asking again answers the same memory.
    fn streams(&self) -> Result<Vmo, NetworkError>;

    /// The event to be raised when the memory of streams asks for it, with [`streams::BELL`](crate::streams::BELL).
    fn bell(&self) -> Result<Event, NetworkError>;

    /// A socket for UDP-Lite (RFC 3828), which is spoken within this machine: the wire has no way for it (`NetworkUnreachable`).
    fn udp_lite(&self, family: Family) -> Result<Cap<dyn Socket>, NetworkError>;

    /// For who shares the readiness table in the network's domain, where a call costs less than to wake somebody: `listener` is called in place of raising
    /// the event, by whoever runs the stack. What follows from a client's own call is still told by the event.
    fn listen_here(&self, listener: Cap<dyn NetworkListener>) -> Result<(), NetworkError>;
}

/// Told of changes in the readiness table.
#[interface]
pub trait NetworkListener {
    /// There are some. It must not wait for anything: all others of the network do so for it meanwhile.
    fn changed(&self) -> Result<(), NetworkError>;
}

/// The readiness table: what is ready, for all sockets of a client, in memory that it shares with the network stack.
///
/// It is an array of little-endian 64-bit words. The word at a socket's number (numbers begin with 1, and are used again) holds in its
/// low 8 bits what is ready, and above them how often something happened: that counter also grows when new data comes to a
/// socket that was readable before. After [`CAPACITY`](readiness::CAPACITY) words comes a map of what has changed: bit `number % 64` of its word
/// `number / 64` is set after each change that somebody may wait for, then the bit of that word in the two words behind the map, then the event is
/// raised; nothing of this when something is merely ready no longer. The client takes a word of those, and of the map, by exchanging it for 0. Word 0 and bit 0 stand for the network as a whole: a name was found, or the configuration
/// changed.
pub mod readiness {
    use core::sync::atomic::{AtomicU64, Ordering};

    /// There is something to receive or to accept, or the stream has ended.
    pub const READABLE: u64 = 1;
    /// There is room to send; a connection that was begun is there or has failed.
    pub const WRITABLE: u64 = 2;
    /// Both directions are over.
    pub const HANGUP: u64 = 4;
    /// An error is pending: `Socket::error` takes it.
    pub const ERROR: u64 = 8;
    /// The other side has ended its direction.
    pub const READ_CLOSED: u64 = 16;
    /// There is a connection to accept.
    pub const ACCEPTABLE: u64 = READABLE;
    /// How far the counter is shifted.
    pub const EVENT_SHIFT: u32 = 8;
    /// Words of the table: no socket has this number or a higher one.
    pub const CAPACITY: usize = 8192;
    /// Words of the map of changes.
    pub const CHANGED: usize = CAPACITY / 64;
    /// Words that say which words of the map are not 0.
    pub const SUMMARY: usize = CHANGED / 64;
    /// Bytes of table, map and what says where to look in it.
    pub const BYTES: u64 = (CAPACITY + CHANGED + SUMMARY) as u64 * 8;

    /// Tells the client of a socket's change. `words` are the table's.
    pub fn mark(words: &[AtomicU64], number: usize) {
        let place = number / 64;
        let [map, summary] = [CAPACITY + place, CAPACITY + CHANGED + place / 64].map(|word| words.get(word));
        if let (Some(map), Some(summary), true) = (map, summary, number < CAPACITY) {
            map.fetch_or(1 << (number % 64), Ordering::AcqRel);
            summary.fetch_or(1 << (place % 64), Ordering::Release);
        }
    }

    /// The numbers of the sockets that were marked since they were last asked for. `words` are the table's.
    pub fn changed(words: &[AtomicU64]) -> impl Iterator<Item = u32> {
        let places = words.get(CAPACITY + CHANGED..).unwrap_or_default().iter().take(SUMMARY).enumerate();
        places.flat_map(|(at, summary)| bits(take(summary)).map(move |bit| at * 64 + bit)).flat_map(|place| {
            let word = words.get(CAPACITY + place).filter(|_| place < CHANGED);
            bits(word.map_or(0, take)).map(move |bit| (place * 64 + bit) as u32)
        })
    }

    /// Takes the bits of a word; what was not set is not written, as the other side may be writing beside it.
    fn take(word: &AtomicU64) -> u64 {
        if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::AcqRel) }
    }

    fn bits(mut left: u64) -> impl Iterator<Item = usize> {
        core::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros())?;
            left &= left - 1;
            Some(bit as usize)
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_was_marked_is_told_once() {
            let words: alloc::vec::Vec<AtomicU64> = (0..BYTES / 8).map(|_| AtomicU64::new(0)).collect();
            for number in [8191, 0, 64, 63, 4096, 64, 8192, usize::MAX] {
                mark(&words, number);
            }
            let told: alloc::vec::Vec<u32> = changed(&words).collect();
            assert_eq!(told, [0, 63, 64, 4096, 8191], "a number that is none is not marked");
            assert_eq!(changed(&words).count(), 0);
        }

        #[test]
        fn words_of_any_content_are_numbers_of_sockets() {
            let words: alloc::vec::Vec<AtomicU64> = (0..BYTES / 8).map(|_| AtomicU64::new(u64::MAX)).collect();
            assert_eq!(changed(&words).count(), CAPACITY);
            assert_eq!(changed(&[]).count(), 0);
        }
    }
}

/// A socket. It is closed when the last capability to it is gone.
#[interface]
pub trait Socket {
    /// Its place in the readiness table.
    fn number(&self) -> Result<u32, NetworkError>;

    /// Gives it a local address; port 0: any that is free.
    fn bind(&self, at: Address) -> Result<(), NetworkError>;

    /// Lets it take connections, of which `backlog` may wait to be accepted.
    fn listen(&self, backlog: u32) -> Result<(), NetworkError>;

    /// The next connection, or `WouldBlock`.
    fn accept(&self) -> Result<Cap<dyn Socket>, NetworkError>;

    /// Begins to connect. TCP answers `InProgress`: when the socket is writable, `error` tells how it went.
    fn connect(&self, to: Address) -> Result<(), NetworkError>;

    /// Its local address.
    fn local(&self) -> Result<Address, NetworkError>;

    /// The address of the other side.
    fn peer(&self) -> Result<Address, NetworkError>;

    /// Sends as many bytes of `from` as there is room for; answers how many.
    fn send(&self, from: &[u8]) -> Result<u64, NetworkError>;

    /// Sends one datagram.
    fn send_to(&self, to: Address, from: &[u8]) -> Result<u64, NetworkError>;

    /// Receives into `into`; answers how many bytes, 0 at the end of the stream.
    #[fills]
    fn receive(&self, into: &mut [u8]) -> Result<u64, NetworkError>;

    /// As `receive`, but what was received stays.
    #[fills]
    fn peek(&self, into: &mut [u8]) -> Result<u64, NetworkError>;

    /// Receives one datagram; what does not fit is lost.
    #[fills]
    fn receive_from(&self, into: &mut [u8]) -> Result<Datagram, NetworkError>;

    /// As `receive_from`, but the datagram stays.
    #[fills]
    fn peek_from(&self, into: &mut [u8]) -> Result<Datagram, NetworkError>;

    /// Ends one or both directions.
    fn shutdown(&self, how: Shutdown) -> Result<(), NetworkError>;

    /// Takes the pending error, if there is one.
    fn error(&self) -> Result<(), NetworkError>;

    /// Changes an option.
    fn set_option(&self, option: SocketOption, value: u64) -> Result<(), NetworkError>;

    /// The value of an option.
    fn option(&self, option: SocketOption) -> Result<u64, NetworkError>;

    /// Gives its local address up and listens no more, if it is not connected: others can be bound to it when this answers, which is not
    /// sure when the last capability has only been let go.
    fn release(&self) -> Result<(), NetworkError>;

    /// Sends one datagram, to the socket's peer if no other address is given, with marks of its own: within this machine. A packet by the wire has
    /// the socket's hop limit, and no traffic class.
    fn send_message(&self, to: Option<Address>, marks: Marks, from: &[u8]) -> Result<u64, NetworkError>;

    /// As `receive_from`, and tells more of the datagram; `keep` leaves it there.
    #[fills]
    fn receive_message(&self, into: &mut [u8], keep: bool) -> Result<Message, NetworkError>;

    /// Takes the oldest error of a datagram that this socket sent, if it keeps them (`SocketOption::ReceiveErrors`), and what is known of the bytes
    /// that were sent. `WouldBlock` when there is none.
    #[fills]
    fn receive_error(&self, into: &mut [u8]) -> Result<Failure, NetworkError>;
}

/// An IP version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// Where a socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Address {
    /// The IP address; one of IPv4 as `::ffff:a.b.c.d`.
    pub ip: [u8; 16],
    /// The port.
    pub port: u16,
    /// The IP version.
    pub family: Family,
}

/// What was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Datagram {
    /// Bytes in the buffer.
    pub length: u32,
    /// Who sent it.
    pub from: Address,
}

impl tessera_runtime::transport::Fills for Datagram {
    fn filled(&self) -> u64 {
        self.length.into()
    }
}

/// What a packet's header says of how it is to be carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Marks {
    /// How many routers it may pass: the hop limit of IPv6, the time to live of IPv4.
    pub hops: u8,
    /// The traffic class of IPv6, the type of service of IPv4.
    pub class: u8,
}

/// What was received, and how it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Message {
    /// Bytes in the buffer.
    pub length: u32,
    /// Who sent it.
    pub from: Address,
    /// The IP address that it was sent to, as `Address` has it.
    pub to: [u8; 16],
    /// What its header said.
    pub marks: Marks,
    /// Nanoseconds before the answer at which it came.
    pub age: u64,
    /// How many datagrams the socket had lost for want of room before it came.
    pub lost: u32,
}

impl tessera_runtime::transport::Fills for Message {
    fn filled(&self) -> u64 {
        self.length.into()
    }
}

/// What ICMP told of a datagram that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Failure {
    /// Bytes in the buffer, and bytes that were quoted in all.
    pub length: u32,
    pub whole: u32,
    /// Where the datagram was sent to.
    pub to: Address,
    /// The IP address of who told, as `Address` has it.
    pub by: [u8; 16],
    /// Type and code of the message, as ICMP numbers them for that version of IP.
    pub kind: u8,
    pub code: u8,
}

impl tessera_runtime::transport::Fills for Failure {
    fn filled(&self) -> u64 {
        self.length.into()
    }
}

/// Which directions are ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub enum Shutdown {
    /// Nothing more will be received.
    Receive = 1,
    /// Nothing more will be sent.
    Send = 2,
    /// Neither.
    Both = 3,
}

/// What can be set on a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub enum SocketOption {
    /// Send small segments at once (TCP_NODELAY): 0 or 1.
    NoDelay = 1,
    /// Nanoseconds between probes of an idle connection; 0: none.
    KeepAlive = 2,
    /// Bytes of the receive buffer; of TCP, of connections begun or accepted from then on.
    ReceiveBuffer = 3,
    /// Bytes of the send buffer; likewise.
    SendBuffer = 4,
    /// How many routers a packet may pass.
    HopLimit = 5,
    /// Whether an address may be bound that a closed connection still has: 0 or 1.
    ReuseAddress = 6,
    /// Whether an IPv6 socket takes IPv6 only: 0 or 1.
    OnlyV6 = 7,
    /// Whether datagrams may be sent to everybody: 0 or 1.
    Broadcast = 8,
    /// What closing does: 0 resets the connection; everything else ends it in order, in the background. `u64::MAX` if it was not set.
    Linger = 9,
    /// Nanoseconds without an answer after which a connection is given up; 0: never.
    UserTimeout = 10,
    /// Bytes that can be received: of the stream, or of the next datagram. Read only.
    ReceiveQueued = 11,
    /// Bytes that are sent but not acknowledged, or wait to be sent. Read only.
    SendQueued = 12,
    /// Whether the socket listens: 0 or 1. Read only.
    Listening = 13,
    /// The traffic class of what is sent within this machine, 0 to 255.
    TrafficClass = 14,
    /// Whether errors of datagrams that were sent are kept, for `receive_error`: 0 or 1.
    ReceiveErrors = 15,
}

/// What the machine is called on the network. Addresses are zero where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Configuration {
    /// The hardware address.
    pub mac: [u8; 6],
    /// The longest packet above the Ethernet header, in bytes.
    pub mtu: u16,
    /// The IPv4 address.
    pub v4: [u8; 4],
    /// Bits of it that name the network.
    pub v4_prefix: u8,
    /// Where IPv4 packets to other networks go.
    pub v4_gateway: [u8; 4],
    /// The IPv6 address.
    pub v6: [u8; 16],
    /// Bits of it that name the network.
    pub v6_prefix: u8,
    /// Where IPv6 packets to other networks go.
    pub v6_gateway: [u8; 16],
    /// The server that resolves names; one of IPv4 as `::ffff:a.b.c.d`.
    pub name_server: [u8; 16],
}

/// Why the network refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum NetworkError {
    /// It cannot be done now: try again when the readiness table says so.
    WouldBlock,
    /// The connection was begun.
    InProgress,
    /// The address is used by another socket.
    AddressInUse,
    /// The address is not one of this machine's.
    AddressNotAvailable,
    /// Nobody takes connections there.
    ConnectionRefused,
    /// The other side ended the connection.
    ConnectionReset,
    /// The socket has no peer.
    NotConnected,
    /// The socket has a peer already.
    AlreadyConnected,
    /// The other side did not answer in time.
    TimedOut,
    /// The host cannot be reached.
    HostUnreachable,
    /// The network cannot be reached.
    NetworkUnreachable,
    /// The datagram is longer than one can be.
    MessageTooLong,
    /// An argument makes no sense for this socket.
    InvalidArgument,
    /// The socket does not do this.
    NotSupported,
    /// The client has as many sockets, or as much memory, as it may have.
    LimitReached,
    /// The client may not do this.
    PermissionDenied,
    /// The direction was ended.
    BrokenPipe,
    /// The name does not exist.
    NotFound,
    /// The call did not reach the object, or its answer did not come back.
    Transport(TransportError),
}
