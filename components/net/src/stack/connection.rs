//! One TCP connection: the protocol library's socket in a set of its own.
//!
//! The memory of a finished connection is used again for the next one with buffers of the same size, so that a server of short
//! connections neither allocates nor clears buffers.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{self, CongestionControl, State};
use smoltcp::time::Duration;
use smoltcp::wire::IpEndpoint;

use super::Which;
use tessera_interfaces::Marks;

/// How many routers a packet may pass if nobody said.
const HOPS: u8 = 64;

/// Bytes of a connection's buffers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Sizes {
    pub receive: usize,
    pub send: usize,
}

impl Sizes {
    /// What they cost.
    pub fn total(&self) -> u64 {
        (self.receive + self.send) as u64
    }
}

/// What a client set on a socket, to be kept for the connection that it becomes or accepts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub no_delay: bool,
    /// Seconds; 0 is off.
    pub keep_alive: u64,
    pub reuse_address: bool,
    pub receive_buffer: Option<usize>,
    pub send_buffer: Option<usize>,
    /// Seconds to wait at closing; 0 resets the connection.
    pub linger: Option<u64>,
    pub time_to_live: Option<u8>,
    pub traffic_class: u8,
    pub broadcast: bool,
    pub only_version_6: bool,
    pub receive_errors: bool,
    /// Milliseconds without an answer after which a connection is given up; 0 is never.
    pub user_timeout: u64,
}

impl Options {
    /// Those of a packet that nothing else is said of.
    pub fn marks(&self) -> Marks {
        Marks { hops: self.time_to_live.unwrap_or(HOPS), class: self.traffic_class }
    }
}

/// A TCP connection.
pub struct Connection {
    pub set: SocketSet<'static>,
    handle: SocketHandle,
    pub sizes: Sizes,
    pub which: Which,
    pub local: IpEndpoint,
    pub remote: IpEndpoint,
    /// The listener that it has not been accepted from yet.
    pub listener: Option<u32>,
    /// It has been established, so that it is in its listener's queue or belongs to somebody.
    pub established: bool,
    /// The peer has reset it.
    pub reset: bool,
    /// Both sides have ended it, as it should be.
    pub finished: bool,
    /// Segments that name its endpoints come here.
    pub mapped: bool,
    /// Its owner reads no more.
    pub read_closed: bool,
    /// Bytes that were there to be read when the owner was last told.
    pub told: usize,
    /// The sequence number after the last segment received.
    pub last_sequence: u32,
    /// Its next turn need not ask whether it has something to send.
    pub owes: bool,
    /// It was given bytes while others were under way, so that they may be held back (RFC 9293 section 3.7.4, Nagle's algorithm).
    pub may_hold: bool,
}

/// A connection whose owner is gone ends after so long without an answer.
const ORPHAN: Duration = Duration::from_secs(60);
/// How long an acknowledgement may wait for data to go with it.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// So long a peer may take to answer our part of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(60);

impl Connection {
    /// The protocol library's socket.
    pub fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// The same, to look at.
    pub fn look(&self) -> &tcp::Socket<'static> {
        self.set.get(self.handle)
    }

    /// Its state, RFC 9293 section 3.3.2.
    pub fn state(&self) -> State {
        self.look().state()
    }

    /// Lets options take effect.
    pub fn apply(&mut self, options: &Options) {
        let established = self.established;
        let socket = self.socket();
        socket.set_nagle_enabled(!options.no_delay);
        if socket.state() != State::FinWait1 && socket.state() != State::FinWait2 {
            socket.set_ack_delay(Some(ACK_DELAY));
        }
        socket.set_hop_limit(options.time_to_live.filter(|hops| *hops > 0));
        let keep_alive = (options.keep_alive > 0).then(|| Duration::from_secs(options.keep_alive.min(1 << 20)));
        socket.set_keep_alive(keep_alive);
        let timeout = match (options.user_timeout, keep_alive) {
            _ if !established => Some(HANDSHAKE),
            (0, None) => None,
            // A peer that answers none of several probes is gone.
            (0, Some(interval)) => Some(interval + Duration::from_secs(60)),
            (timeout, _) => Some(Duration::from_millis(timeout.min(1 << 40))),
        };
        socket.set_timeout(timeout);
    }

    /// Ends its sending direction. From here on acknowledgements go at once, so that when it comes to rest none is owed.
    pub fn finish(&mut self) {
        self.socket().set_ack_delay(None);
        self.socket().close();
        self.owes = true;
    }

    /// Its owner is gone: it says goodbye within bounded time.
    pub fn orphan(&mut self) {
        self.socket().set_timeout(Some(ORPHAN));
    }

    /// Whether nothing more will be sent or received. Asked after it had its turn to send: a reset that could not go then is not tried again.
    pub fn is_over(&self) -> bool {
        self.state() == State::Closed
    }
}

/// Connections' memory to be used again. They are boxed here as everywhere: they move between this and the sockets often.
pub struct Spare {
    #[allow(clippy::vec_box)]
    by_size: BTreeMap<Sizes, Vec<Box<Connection>>>,
    bytes: u64,
    /// Bytes that are kept for later at most.
    most: u64,
}

/// The same in any case.
const SPARE: u64 = 4 << 20;

impl Default for Spare {
    fn default() -> Self {
        Spare { by_size: BTreeMap::new(), bytes: 0, most: SPARE }
    }
}

impl Spare {
    /// Keeps no more bytes than this.
    pub fn limit(&mut self, bytes: u64) {
        self.most = SPARE.min(bytes);
    }

    /// A fresh connection, in no state.
    pub fn take(&mut self, sizes: Sizes, which: Which, local: IpEndpoint, remote: IpEndpoint) -> Box<Connection> {
        if let Some(mut connection) = self.by_size.get_mut(&sizes).and_then(Vec::pop) {
            self.bytes = self.bytes.saturating_sub(sizes.total());
            // Out of its set and in again: what the set knew of the last connection's neighbour is gone.
            let handle = connection.handle;
            if let smoltcp::socket::Socket::Tcp(mut socket) = connection.set.remove(handle) {
                socket.set_congestion_control(congestion_control(which));
                connection.handle = connection.set.add(socket);
                Connection::renew(&mut connection, which, local, remote);
                return connection;
            }
        }
        let buffer = |size| tcp::SocketBuffer::new(vec![0; size]);
        let mut socket = tcp::Socket::new(buffer(sizes.receive), buffer(sizes.send));
        socket.set_congestion_control(congestion_control(which));
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Box::new(Connection {
            set,
            handle,
            sizes,
            which,
            local,
            remote,
            listener: None,
            established: false,
            reset: false,
            finished: false,
            mapped: false,
            read_closed: false,
            told: 0,
            last_sequence: 0,
            owes: false,
            may_hold: false,
        })
    }

    /// Keeps a finished connection's memory. What is in its buffers nobody can read: the next `listen` or `connect` empties them.
    pub fn give(&mut self, mut connection: Box<Connection>) {
        let bytes = connection.sizes.total();
        if self.bytes + bytes > self.most {
            return;
        }
        connection.socket().abort();
        self.bytes += bytes;
        self.by_size.entry(connection.sizes).or_default().push(connection);
    }
}

impl Connection {
    fn renew(&mut self, which: Which, local: IpEndpoint, remote: IpEndpoint) {
        self.which = which;
        self.local = local;
        self.remote = remote;
        self.listener = None;
        self.established = false;
        self.reset = false;
        self.finished = false;
        self.mapped = false;
        self.read_closed = false;
        self.told = 0;
        self.last_sequence = 0;
        self.owes = false;
        self.may_hold = false;
    }
}

fn congestion_control(which: Which) -> CongestionControl {
    match which {
        // No wire, no congestion.
        Which::Loopback => CongestionControl::None,
        Which::Wire => CongestionControl::Reno,
    }
}
