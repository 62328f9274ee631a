//! Unix sockets: unix(7). Streams, datagrams and sequenced packets between processes of the container, with passing of open files.
//!
//! A socket holds what it was sent; its peer is a weak reference, so that closing either end is seen by the other. Locks: one
//! socket's state at a time, never two; a queue is woken without any.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_runtime::sync::Mutex;

use super::socket::{
    AF_UNIX, AF_UNSPEC, Ancillary, Credentials, Limits, Received, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, Socket,
    family, message, number, option, time_limit, time_limit_bytes, value,
};
use super::{OpenFile, Sink, Source, ready};
use crate::errno::{Errno, Result};
use crate::fs::path::{self, Walk};
use crate::fs::{Attributes, Creation, Kind, Owner};
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
    /// The address, as `struct sockaddr_un`; only the family if it has none.
    name: Vec<u8>,
    found_as: Option<Name>,
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
}

enum Stage {
    Fresh,
    Listening { backlog: usize, pending: VecDeque<Arc<UnixSocket>> },
    Connected,
}

struct Message {
    bytes: Vec<u8>,
    /// What was taken of it, of a stream.
    taken: usize,
    from: Vec<u8>,
    sender: Weak<UnixSocket>,
    ancillary: Ancillary,
}

/// The address of a socket without a name.
fn unnamed() -> Vec<u8> {
    AF_UNIX.to_ne_bytes().to_vec()
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
            name: unnamed(),
            found_as: None,
            peer: Weak::new(),
            peer_name: unnamed(),
            peer_credentials: Credentials::default(),
            received: VecDeque::new(),
            bytes: 0,
            send_buffer: BUFFER,
            receive_ended: false,
            send_ended: false,
            error: None,
            pass_credentials: false,
            limits: Limits::default(),
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
        state.received.push_back(Message { bytes, taken: 0, from: name, sender: Arc::downgrade(sender), ancillary });
        drop(state);
        self.queue.wake_all();
        Ok(done)
    }

    fn take(&self, to: &mut dyn Sink, flags: u32) -> Result<Received> {
        let mut state = self.state.lock();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        if self.is_stream() && matches!(state.stage, Stage::Fresh) {
            return Err(Errno::EINVAL);
        }
        if matches!(state.stage, Stage::Listening { .. }) {
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
                Stage::Listening { .. } => return Err(Errno::EINVAL),
            }
            (state.name.clone(), state.send_buffer)
        };
        let accepted = UnixSocket::in_stage(self.kind, Stage::Connected);
        let (peer_name, credentials) = {
            let mut state = listener.state.lock();
            let peer = (state.name.clone(), state.peer_credentials);
            let Stage::Listening { backlog, pending } = &mut state.stage else { return Err(Errno::ECONNREFUSED) };
            if pending.len() > *backlog {
                return Err(Errno::EAGAIN);
            }
            pending.push_back(accepted.clone());
            peer
        };
        {
            let mut state = accepted.state.lock();
            state.name.clone_from(&peer_name);
            state.peer = self.me.clone();
            state.peer_name = name;
            state.peer_credentials = mine;
            state.send_buffer = buffer;
        }
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

/// The credentials of whoever calls.
fn credentials(context: &Context) -> Credentials {
    let who = context.credentials();
    Credentials { process: context.process.number, user: who.effective_user, group: who.effective_group }
}

impl Socket for UnixSocket {
    fn shape(&self) -> (u16, u32, i32) {
        (AF_UNIX, self.kind, 0)
    }

    fn bind(&self, context: &mut Context, address: &[u8]) -> Result<()> {
        if !self.state.lock().name.get(HEAD..).unwrap_or_default().is_empty() {
            return Err(Errno::EINVAL);
        }
        let (name, address) = match wanted(address)? {
            Wanted::Nothing => {
                // Autobind: five hexadecimal digits.
                let mut address = unnamed();
                address.extend(format!("\0{:05x}", self.number & 0xf_ffff).into_bytes());
                (Name::Abstract(address.get(HEAD..).unwrap_or_default().to_vec()), address)
            }
            Wanted::Abstract(name) => (Name::Abstract(name.to_vec()), address.to_vec()),
            Wanted::Path(path) => {
                let walked = path::walk(context, context.start(CURRENT, path)?, path, Walk::default())?;
                let (parent, last) = walked.free().map_err(|error| match error {
                    Errno::EEXIST => Errno::EADDRINUSE,
                    other => other,
                })?;
                path::check(&parent.inode, &context.credentials(), path::access::WRITE | path::access::EXECUTE)?;
                let who = context.credentials();
                let creation = Creation {
                    kind: Kind::Socket,
                    permissions: 0o777 & !context.fs.mask(),
                    owner: Owner { uid: who.file_user, gid: who.file_group },
                    names_device: 0,
                    time: context.system.wall_now(),
                };
                let inode = parent.inode.create(&last, &creation).map_err(|error| match error {
                    Errno::EEXIST => Errno::EADDRINUSE,
                    other => other,
                })?;
                let attributes = inode.attributes()?;
                let mut address = unnamed();
                address.extend_from_slice(path);
                // As Linux tells a path: with its NUL, where there is room.
                if address.len() < HEAD + PATH {
                    address.push(0);
                }
                (Name::Inode(attributes.device, attributes.number), address)
            }
        };
        {
            let mut names = NAMES.lock();
            names.retain(|_, socket| socket.strong_count() > 0);
            if names.contains_key(&name) {
                return Err(Errno::EADDRINUSE);
            }
            names.insert(name.clone(), self.me.clone());
        }
        let mut state = self.state.lock();
        state.name = address;
        state.found_as = Some(name);
        Ok(())
    }

    fn listen(&self, context: &mut Context, backlog: u32) -> Result<()> {
        if self.kind == SOCK_DGRAM {
            return Err(Errno::EOPNOTSUPP);
        }
        let mine = credentials(context);
        let backlog = (backlog as usize).min(BACKLOG);
        let mut state = self.state.lock();
        if state.found_as.is_none() {
            return Err(Errno::EINVAL);
        }
        match &mut state.stage {
            Stage::Connected => return Err(Errno::EINVAL),
            Stage::Listening { backlog: before, .. } => *before = backlog,
            stage @ Stage::Fresh => *stage = Stage::Listening { backlog, pending: VecDeque::new() },
        }
        state.peer_credentials = mine;
        drop(state);
        self.queue.wake_all();
        Ok(())
    }

    fn connect(&self, context: &mut Context, address: &[u8]) -> Result<()> {
        if self.kind == SOCK_DGRAM && family(address)? == AF_UNSPEC {
            let mut state = self.state.lock();
            state.stage = Stage::Fresh;
            state.peer = Weak::new();
            state.peer_name = unnamed();
            return Ok(());
        }
        let other = UnixSocket::find(context, address)?;
        if other.kind != self.kind {
            return Err(Errno::EPROTOTYPE);
        }
        if self.kind != SOCK_DGRAM {
            return self.connect_to(&other, credentials(context));
        }
        let peer_name = other.state.lock().name.clone();
        let mut state = self.state.lock();
        state.stage = Stage::Connected;
        state.peer = Arc::downgrade(&other);
        state.peer_name = peer_name;
        Ok(())
    }

    fn outcome(&self) -> Option<Result<()>> {
        Some(Ok(()))
    }

    fn accept(&self, _context: &mut Context) -> Result<(Arc<dyn OpenFile>, Vec<u8>)> {
        let mut state = self.state.lock();
        let Stage::Listening { pending, .. } = &mut state.stage else {
            return Err(if self.kind == SOCK_DGRAM { Errno::EOPNOTSUPP } else { Errno::EINVAL });
        };
        let Some(accepted) = pending.pop_front() else {
            return Err(if state.receive_ended { Errno::EINVAL } else { Errno::EAGAIN });
        };
        drop(state);
        // A client that found the backlog full may try again.
        self.queue.wake_all();
        let name = accepted.state.lock().peer_name.clone();
        Ok((accepted, name))
    }

    fn name(&self) -> Result<Vec<u8>> {
        Ok(self.state.lock().name.clone())
    }

    fn peer_name(&self) -> Result<Vec<u8>> {
        let state = self.state.lock();
        match state.stage {
            Stage::Connected => Ok(state.peer_name.clone()),
            _ => Err(Errno::ENOTCONN),
        }
    }

    fn send(
        &self,
        context: &mut Context,
        from: &mut dyn Source,
        to: Option<&[u8]>,
        mut ancillary: Ancillary,
        flags: u32,
    ) -> Result<usize> {
        if flags & message::OUT_OF_BAND != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if ancillary.files.len() > FILES {
            return Err(Errno::EINVAL);
        }
        let (name, limit) = {
            let mut state = self.state.lock();
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if state.send_ended {
                return Err(Errno::EPIPE);
            }
            (state.name.clone(), state.send_buffer)
        };
        let peer = match to {
            Some(address) if self.kind == SOCK_DGRAM => {
                let peer = UnixSocket::find(context, address)?;
                if peer.kind != SOCK_DGRAM {
                    return Err(Errno::EPROTOTYPE);
                }
                peer
            }
            Some(_) if matches!(self.state.lock().stage, Stage::Connected) => return Err(Errno::EISCONN),
            Some(_) => return Err(Errno::EOPNOTSUPP),
            None => self.peer()?,
        };
        if ancillary.credentials.is_none() && peer.state.lock().pass_credentials {
            ancillary.credentials = Some(credentials(context));
        }
        let me = self.me.upgrade().ok_or(Errno::ENOTSOCK)?;
        peer.deliver(from, &me, name, limit, ancillary)
    }

    fn receive(&self, context: &mut Context, to: &mut dyn Sink, flags: u32) -> Result<Received> {
        if flags & message::OUT_OF_BAND != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut received = self.take(to, flags)?;
        if !self.state.lock().pass_credentials {
            received.ancillary.credentials = None;
        } else if received.ancillary.credentials.is_none() && received.whole > 0 {
            received.ancillary.credentials = Some(Credentials { process: 0, user: 65534, group: 65534 });
        }
        let _ = context;
        Ok(received)
    }

    fn shutdown(&self, receiving: bool, sending: bool) -> Result<()> {
        let mut state = self.state.lock();
        if !matches!(state.stage, Stage::Connected | Stage::Listening { .. }) {
            return Err(Errno::ENOTCONN);
        }
        state.receive_ended |= receiving;
        state.send_ended |= sending;
        let peer = state.peer.upgrade();
        drop(state);
        if let Some(peer) = peer.filter(|_| self.kind != SOCK_DGRAM) {
            let mut state = peer.state.lock();
            state.receive_ended |= sending;
            state.send_ended |= receiving;
            drop(state);
            peer.queue.wake_all();
        }
        self.queue.wake_all();
        Ok(())
    }

    fn option(&self, level: i32, name: i32) -> Result<Vec<u8>> {
        if level != option::LEVEL {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        Ok(match name {
            option::TYPE => value(self.kind as i32),
            option::DOMAIN => value(i32::from(AF_UNIX)),
            option::PROTOCOL | option::REUSE_ADDRESS | option::BROADCAST | option::KEEP_ALIVE => value(0),
            option::DO_NOT_ROUTE | option::PRIORITY | option::OUT_OF_BAND_INLINE | option::TIMESTAMP => value(0),
            option::REUSE_PORT => value(0),
            option::ERROR => value(state.error.take().map_or(0, Errno::number)),
            option::SEND_BUFFER | option::RECEIVE_BUFFER => value(state.send_buffer as i32),
            option::ACCEPTS => value(i32::from(matches!(state.stage, Stage::Listening { .. }))),
            option::PASS_CREDENTIALS => value(i32::from(state.pass_credentials)),
            option::PEER_CREDENTIALS => match state.stage {
                Stage::Fresh => Credentials { process: 0, user: u32::MAX, group: u32::MAX }.to_bytes().to_vec(),
                _ => state.peer_credentials.to_bytes().to_vec(),
            },
            option::RECEIVE_LOW | option::SEND_LOW => value(1),
            option::LINGER => alloc::vec![0; 8],
            option::RECEIVE_TIMEOUT => time_limit_bytes(state.limits.receive),
            option::SEND_TIMEOUT => time_limit_bytes(state.limits.send),
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }

    fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level != option::LEVEL {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        match name {
            option::RECEIVE_TIMEOUT => state.limits.receive = time_limit(value)?,
            option::SEND_TIMEOUT => state.limits.send = time_limit(value)?,
            option::PASS_CREDENTIALS => state.pass_credentials = number(value)? != 0,
            option::SEND_BUFFER | option::SEND_BUFFER_FORCE => {
                // Linux doubles what is asked for, for its own book-keeping.
                let bytes = usize::try_from(number(value)?).unwrap_or(0).saturating_mul(2);
                state.send_buffer = bytes.clamp(LEAST_BUFFER, MOST_BUFFER);
            }
            option::RECEIVE_BUFFER | option::RECEIVE_BUFFER_FORCE => {
                number(value)?;
            }
            option::REUSE_ADDRESS | option::BROADCAST | option::KEEP_ALIVE | option::DO_NOT_ROUTE => {
                number(value)?;
            }
            option::PRIORITY | option::OUT_OF_BAND_INLINE | option::TIMESTAMP | option::REUSE_PORT => {
                number(value)?;
            }
            option::LINGER | option::RECEIVE_LOW => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        self.state.lock().limits
    }
}

impl OpenFile for UnixSocket {
    fn socket(self: Arc<Self>) -> Option<Arc<dyn Socket>> {
        Some(self)
    }

    fn read(&self, _at: u64, to: &mut dyn Sink) -> Result<usize> {
        self.take(to, 0).map(|received| received.stored)
    }

    fn write(&self, _at: u64, from: &mut dyn Source) -> Result<usize> {
        let (name, limit) = {
            let mut state = self.state.lock();
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if state.send_ended {
                return Err(Errno::EPIPE);
            }
            (state.name.clone(), state.send_buffer)
        };
        let me = self.me.upgrade().ok_or(Errno::ENOTSOCK)?;
        self.peer()?.deliver(from, &me, name, limit, Ancillary::default())
    }

    fn ready(&self) -> u32 {
        let (mut bits, peer, limit) = {
            let state = self.state.lock();
            if let Stage::Listening { pending, .. } = &state.stage {
                return if pending.is_empty() { 0 } else { ready::IN };
            }
            let mut bits = 0;
            if !state.received.is_empty() {
                bits |= ready::IN;
            }
            if state.error.is_some() {
                bits |= ready::ERROR;
            }
            let is_connected = matches!(state.stage, Stage::Connected);
            if state.receive_ended {
                bits |= ready::IN | ready::READ_CLOSED;
            }
            if state.receive_ended && state.send_ended {
                bits |= ready::HANGUP;
            }
            let peer = state.peer.upgrade();
            if self.kind != SOCK_DGRAM {
                if !is_connected {
                    return bits | ready::OUT | ready::HANGUP;
                }
                if peer.is_none() {
                    bits |= ready::IN | ready::READ_CLOSED | ready::HANGUP | ready::OUT;
                }
            }
            (bits, peer, state.send_buffer)
        };
        let is_writable = peer.is_none_or(|peer| {
            let state = peer.state.lock();
            state.bytes < limit && state.received.len() < QUEUE
        });
        if is_writable {
            bits |= ready::OUT;
        }
        bits
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn control(&self, context: &mut Context, request: u32, argument: u64) -> Result<u64> {
        let count = match request {
            FIONREAD if self.is_stream() => self.state.lock().bytes,
            FIONREAD => self.state.lock().received.front().map_or(0, |message| message.bytes.len()),
            SIOCOUTQ => self.peer().map_or(0, |peer| peer.state.lock().bytes),
            _ => return Err(Errno::ENOTTY),
        };
        context.write_u32(argument, count as u32)?;
        Ok(0)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::anonymous(Kind::Socket, 0o777, self.number))
    }

    fn label(&self) -> String {
        format!("socket:[{}]", self.number)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        let has_unread = !state.received.is_empty();
        let (peer, found_as) = (state.peer.upgrade(), state.found_as.take());
        let unread = core::mem::take(&mut state.received);
        let pending = match core::mem::replace(&mut state.stage, Stage::Fresh) {
            Stage::Listening { pending, .. } => pending,
            _ => VecDeque::new(),
        };
        drop(state);
        if let Some(name) = found_as {
            let mut names = NAMES.lock();
            // An accepted socket has its listener's name but is not found by it.
            if names.get(&name).is_some_and(|socket| socket.strong_count() == 0) {
                names.remove(&name);
            }
        }
        // Connections that nobody accepted are refused, and what was not read of a stream is lost: its sender is told.
        for socket in &pending {
            socket.state.lock().error = None;
            if let Some(client) = socket.state.lock().peer.upgrade() {
                client.state.lock().error = Some(Errno::ECONNRESET);
                client.queue.wake_all();
            }
        }
        drop(pending);
        let senders: Vec<_> = unread.iter().filter_map(|message| message.sender.upgrade()).collect();
        drop(unread);
        if let Some(peer) = peer {
            if has_unread && self.kind != SOCK_DGRAM {
                peer.state.lock().error = Some(Errno::ECONNRESET);
            }
            peer.queue.wake_all();
        }
        for sender in senders {
            sender.queue.wake_all();
        }
    }
}
