//! Unix sockets: unix(7). Streams, datagrams and sequenced packets between processes of the container, with passing of open files.
//!
//! A socket holds what it was sent; its peer is a weak reference, so that closing either end is seen by the other. Locks: one
//! socket's state at a time, never two; a queue is woken without any.

mod calls;
mod file;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_runtime::sync::Mutex;

use super::socket::{
    AF_UNIX, Ancillary, Credentials, Limits, Received, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, family, message,
};
use super::{Sink, Source};
use crate::errno::{Errno, Result};
use crate::fs::Kind;
use crate::fs::path::{self, Walk};
use crate::memory::reserve;
use crate::task::{Context, WaitQueue};

/// Bytes that wait to be received, unless `SO_SNDBUF` says else.
const BUFFER: usize = 212_992;
const LEAST_BUFFER: usize = 4608;
const MOST_BUFFER: usize = 8 << 20;
/// Datagrams that wait at most (`net.unix.max_dgram_qlen`), and connections.
const QUEUE: usize = 512;
const BACKLOG: usize = 4096;
/// Open files that one message takes along (`SCM_MAX_FD`).
const FILES: usize = 253;
/// Bytes of a `struct sockaddr_un` before and in the path.
const HEAD: usize = 2;
const PATH: usize = 108;
/// `AT_FDCWD`.
const CURRENT: i32 = -100;
/// Sockets in sockets in sockets: so deep and no deeper (`MAX_RECURSION_LEVEL`).
const DEEPEST: u32 = 4;
/// Bytes of a stream that are kept together.
const TOGETHER: usize = 4096;
const FIONREAD: u32 = 0x541b;
const SIOCOUTQ: u32 = 0x5411;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Sockets that can be found: by abstract name, and by the inode that bind(2) made.
static NAMES: Mutex<BTreeMap<Name, Weak<UnixSocket>>> = Mutex::new(BTreeMap::new());

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Abstract(Vec<u8>),
    Inode(u64, u64),
}

/// A socket.
pub struct UnixSocket {
    number: u64,
    kind: u32,
    me: Weak<UnixSocket>,
    state: Mutex<State>,
    queue: WaitQueue,
}

struct State {
    stage: Stage,
    /// The address, as `struct sockaddr_un`; nothing if it has none.
    name: Vec<u8>,
    found_as: Option<Box<Name>>,
    peer: Weak<UnixSocket>,
    peer_name: Vec<u8>,
    peer_credentials: Credentials,
    received: VecDeque<Message>,
    bytes: usize,
    send_buffer: usize,
    /// Nothing more comes, nothing more goes.
    receive_ended: bool,
    send_ended: bool,
    error: Option<Errno>,
    pass_credentials: bool,
    limits: Limits,
    /// How deep sockets lie in what it was sent: one that waits in another's messages, which waits in another's, …
    depth: u32,
}

enum Stage {
    Fresh,
    Listening(Box<Listening>),
    Connected,
}

#[derive(Default)]
struct Listening {
    backlog: usize,
    /// Connections that wait to be accepted.
    pending: VecDeque<Arc<UnixSocket>>,
    /// Clients that found no room there, and look again when they are woken.
    held_up: Vec<Weak<UnixSocket>>,
}

struct Message {
    bytes: Vec<u8>,
    /// What was taken of it, of a stream.
    taken: usize,
    from: Vec<u8>,
    sender: Weak<UnixSocket>,
    ancillary: Ancillary,
}

impl Message {
    /// Whether more of a stream may be put at its end.
    fn may_take(&self, ancillary: &Ancillary, sender: &Arc<UnixSocket>) -> bool {
        let is_plain = ancillary.is_empty() && self.ancillary.is_empty();
        is_plain && self.bytes.len() < TOGETHER && core::ptr::eq(self.sender.as_ptr(), Arc::as_ptr(sender))
    }
}

/// The address of a socket without a name.
fn unnamed() -> Vec<u8> {
    AF_UNIX.to_ne_bytes().to_vec()
}

/// A name as getsockname(2) tells it.
fn told(name: &[u8]) -> Vec<u8> {
    if name.is_empty() { unnamed() } else { name.to_vec() }
}

/// What an address says: a path, or an abstract name.
enum Wanted<'a> {
    Nothing,
    Path(&'a [u8]),
    Abstract(&'a [u8]),
}

fn wanted(address: &[u8]) -> Result<Wanted<'_>> {
    if family(address)? != AF_UNIX || address.len() > HEAD + PATH {
        return Err(Errno::EINVAL);
    }
    let rest = address.get(HEAD..).unwrap_or_default();
    match rest {
        [] => Ok(Wanted::Nothing),
        [0, ..] => Ok(Wanted::Abstract(rest)),
        path => Ok(Wanted::Path(path.split(|byte| *byte == 0).next().unwrap_or_default())),
    }
}

/// What is told of a socket that has a name.
pub struct Row {
    pub number: u64,
    pub kind: u32,
    pub listens: bool,
    pub is_connected: bool,
    /// A path, or an abstract name behind a zero byte.
    pub path: Vec<u8>,
}

/// The sockets that can be found by a name.
pub fn list() -> Vec<Row> {
    let sockets: Vec<_> = NAMES.lock().values().filter_map(Weak::upgrade).collect();
    let row = |socket: &Arc<UnixSocket>| {
        let state = socket.state.lock();
        let path = state.name.get(HEAD..).unwrap_or_default();
        Row {
            number: socket.number,
            kind: socket.kind,
            listens: matches!(state.stage, Stage::Listening(_)),
            is_connected: matches!(state.stage, Stage::Connected),
            path: path.strip_suffix(b"\0").filter(|path| !path.is_empty()).unwrap_or(path).to_vec(),
        }
    };
    sockets.iter().map(row).collect()
}

impl UnixSocket {
    /// One of a type.
    pub fn new(kind: u32) -> Result<Arc<UnixSocket>> {
        if !matches!(kind, SOCK_STREAM | SOCK_DGRAM | SOCK_SEQPACKET) {
            return Err(Errno::ESOCKTNOSUPPORT);
        }
        Ok(UnixSocket::in_stage(kind, Stage::Fresh))
    }

    fn in_stage(kind: u32, stage: Stage) -> Arc<UnixSocket> {
        let state = State {
            stage,
            name: Vec::new(),
            found_as: None,
            peer: Weak::new(),
            peer_name: Vec::new(),
            peer_credentials: Credentials::default(),
            received: VecDeque::new(),
            bytes: 0,
            send_buffer: BUFFER,
            receive_ended: false,
            send_ended: false,
            error: None,
            pass_credentials: false,
            limits: Limits::default(),
            depth: 0,
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new_cyclic(|me| UnixSocket {
            number,
            kind,
            me: me.clone(),
            state: Mutex::new(state),
            queue: WaitQueue::new(),
        })
    }

    /// `socketpair(2)`.
    pub fn pair(kind: u32, credentials: Credentials) -> Result<(Arc<UnixSocket>, Arc<UnixSocket>)> {
        let (one, other) = (UnixSocket::new(kind)?, UnixSocket::new(kind)?);
        for (socket, peer) in [(&one, &other), (&other, &one)] {
            let mut state = socket.state.lock();
            state.stage = Stage::Connected;
            state.peer = Arc::downgrade(peer);
            state.peer_credentials = credentials;
        }
        Ok((one, other))
    }

    fn is_stream(&self) -> bool {
        self.kind == SOCK_STREAM
    }

    /// The socket that an address leads to.
    fn find(context: &Context, address: &[u8]) -> Result<Arc<UnixSocket>> {
        let name = match wanted(address)? {
            Wanted::Nothing => return Err(Errno::EINVAL),
            Wanted::Abstract(name) => Name::Abstract(name.to_vec()),
            Wanted::Path(path) => {
                let place = path::walk(context, context.start(CURRENT, path)?, path, Walk::default())?.found()?;
                let attributes = place.inode.attributes()?;
                path::permitted(&attributes, &context.credentials(), path::access::WRITE)?;
                if attributes.kind != Kind::Socket {
                    return Err(Errno::ECONNREFUSED);
                }
                Name::Inode(attributes.device, attributes.number)
            }
        };
        NAMES.lock().get(&name).and_then(Weak::upgrade).ok_or(Errno::ECONNREFUSED)
    }

    fn peer(&self) -> Result<Arc<UnixSocket>> {
        let state = self.state.lock();
        if !matches!(state.stage, Stage::Connected) {
            return Err(Errno::ENOTCONN);
        }
        state.peer.upgrade().ok_or(if self.kind == SOCK_DGRAM { Errno::ECONNREFUSED } else { Errno::EPIPE })
    }

    /// Puts a message where it is received. `EAGAIN` when there is no room.
    #[cfg_attr(target_os = "none", optimize(speed))]
    fn deliver(
        &self,
        from: &mut dyn Source,
        sender: &Arc<UnixSocket>,
        name: Vec<u8>,
        limit: usize,
        ancillary: Ancillary,
    ) -> Result<usize> {
        let wanted = from.left();
        let is_whole = !self.is_stream();
        if is_whole && wanted > limit {
            return Err(Errno::EMSGSIZE);
        }
        let depth = depth_of(&ancillary)?;
        let mut state = self.state.lock();
        if state.receive_ended {
            return Err(Errno::EPIPE);
        }
        let room = limit.saturating_sub(state.bytes);
        if (is_whole && (room < wanted || state.received.len() >= QUEUE)) || (!is_whole && room == 0 && wanted > 0) {
            return Err(Errno::EAGAIN);
        }
        if !is_whole && wanted == 0 {
            return Ok(0);
        }
        let mut bytes = Vec::new();
        let length = wanted.min(room);
        reserve::check(length).map_err(|_| Errno::ENOBUFS)?;
        bytes.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
        bytes.resize(length, 0);
        let mut done = 0;
        while done < length {
            match from.take(bytes.get_mut(done..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(taken) => done += taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        if is_whole && done < length {
            return Err(Errno::EFAULT);
        }
        bytes.truncate(done);
        state.bytes += done;
        state.depth = state.depth.max(depth);
        // Small writes to a stream lie together: alone each would take many times its size.
        if let Some(last) = state.received.back_mut().filter(|last| !is_whole && last.may_take(&ancillary, sender)) {
            last.bytes.extend_from_slice(&bytes);
            drop(state);
            self.queue.wake_all();
            return Ok(done);
        }
        state.received.push_back(Message { bytes, taken: 0, from: name, sender: Arc::downgrade(sender), ancillary });
        drop(state);
        self.queue.wake_all();
        Ok(done)
    }

    #[cfg_attr(target_os = "none", optimize(speed))]
    fn take(&self, to: &mut dyn Sink, flags: u32) -> Result<Received> {
        let mut state = self.state.lock();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        if self.is_stream() && matches!(state.stage, Stage::Fresh) {
            return Err(Errno::EINVAL);
        }
        if matches!(state.stage, Stage::Listening(_)) {
            return Err(Errno::EINVAL);
        }
        if state.received.is_empty() {
            let is_over = state.receive_ended || self.kind != SOCK_DGRAM && state.peer.strong_count() == 0;
            return if is_over { Ok(Received::default()) } else { Err(Errno::EAGAIN) };
        }
        let peek = flags & message::PEEK != 0;
        let mut received = Received::default();
        let mut senders = Vec::new();
        let mut index = 0;
        while let Some(message) = state.received.get_mut(index) {
            // Open files and whole messages end what one call receives.
            let is_bounded = !self.is_stream() || !message.ancillary.files.is_empty();
            if index > 0 || received.whole > 0 {
                if is_bounded || to.room() == 0 {
                    break;
                }
            } else {
                received.from.clone_from(&message.from);
                received.ancillary =
                    if peek { message.ancillary.clone() } else { core::mem::take(&mut message.ancillary) };
            }
            let rest = message.bytes.get(message.taken..).unwrap_or_default();
            let stored = match to.put(rest.get(..rest.len().min(to.room())).unwrap_or_default()) {
                Ok(stored) => stored,
                Err(_) if received.stored > 0 => break,
                Err(error) => return Err(error),
            };
            received.stored += stored;
            received.whole += if self.is_stream() { stored } else { rest.len() };
            let is_done = !self.is_stream() || stored == rest.len();
            if peek {
                index += 1;
            } else if is_done {
                let freed = rest.len();
                senders.push(message.sender.clone());
                state.bytes = state.bytes.saturating_sub(freed);
                state.received.pop_front();
                if state.received.is_empty() {
                    state.depth = 0;
                }
            } else {
                message.taken += stored;
                state.bytes = state.bytes.saturating_sub(stored);
            }
            if is_bounded || !is_done {
                break;
            }
        }
        let peer = state.peer.upgrade();
        drop(state);
        if !peek {
            // Whoever waits to send may have room now.
            let mut wake: Vec<_> = senders.iter().filter_map(Weak::upgrade).chain(peer).collect();
            wake.dedup_by(|one, other| Arc::ptr_eq(one, other));
            for socket in wake {
                socket.queue.wake_all();
            }
        }
        Ok(received)
    }

    fn connect_to(&self, listener: &Arc<UnixSocket>, mine: Credentials) -> Result<()> {
        let (name, buffer) = {
            let state = self.state.lock();
            match state.stage {
                Stage::Fresh => {}
                Stage::Connected => return Err(Errno::EISCONN),
                Stage::Listening(_) => return Err(Errno::EINVAL),
            }
            (state.name.clone(), state.send_buffer)
        };
        let accepted = UnixSocket::in_stage(self.kind, Stage::Connected);
        let (peer_name, credentials) = {
            let mut state = listener.state.lock();
            let (peer_name, credentials) = (state.name.clone(), state.peer_credentials);
            let Stage::Listening(listening) = &mut state.stage else { return Err(Errno::ECONNREFUSED) };
            let Listening { backlog, pending, held_up } = &mut **listening;
            if pending.len() > *backlog {
                held_up.retain(|other| other.strong_count() > 0 && !Weak::ptr_eq(other, &self.me));
                held_up.push(self.me.clone());
                return Err(Errno::EAGAIN);
            }
            // Whole before anybody can accept it.
            let mut made = accepted.state.lock();
            made.name.clone_from(&peer_name);
            made.peer = self.me.clone();
            made.peer_name = name;
            made.peer_credentials = mine;
            made.send_buffer = buffer;
            drop(made);
            pending.push_back(accepted.clone());
            (peer_name, credentials)
        };
        let mut state = self.state.lock();
        state.stage = Stage::Connected;
        state.peer = Arc::downgrade(&accepted);
        state.peer_name = peer_name;
        state.peer_credentials = credentials;
        drop(state);
        listener.queue.wake_all();
        self.queue.wake_all();
        Ok(())
    }
}

/// How deep a message's sockets make the one that receives it.
fn depth_of(ancillary: &Ancillary) -> Result<u32> {
    let sockets = ancillary.files.iter().filter_map(|file| file.file.clone().socket());
    let deepest = sockets.filter_map(|socket| socket.depth()).max();
    match deepest {
        Some(depth) if depth > DEEPEST => Err(Errno::ETOOMANYREFS),
        Some(depth) => Ok(depth + 1),
        None => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_weighs_little() {
        // Programs hold tens of thousands, and what waits in them comes on top.
        assert!(size_of::<UnixSocket>() <= 272, "{}", size_of::<UnixSocket>());
        let (one, other) = UnixSocket::pair(SOCK_STREAM, Credentials::default()).unwrap();
        for socket in [&one, &other] {
            let state = socket.state.lock();
            assert_eq!((state.name.capacity(), state.peer_name.capacity(), state.received.capacity()), (0, 0, 0));
            assert_eq!(told(&state.name), unnamed());
        }
    }
}
