//! Streams through shared memory: the stack's side of what `tessera_interfaces::streams` describes.
//!
//! Bytes go between a ring and the buffers of TCP when the connection is looked at, before it sends: so acknowledgements tell the peer of
//! the room that there is by then. Each is copied once in either direction, between the ring and the library's buffer: the library reads and writes its
//! buffers by references, which memory that a client can change must never have.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::socket::tcp::State as Tcp;
use tessera_interfaces::streams::{self, RINGS, Reader, SLOTS, State, Writer, rings_of, state};
use tessera_runtime::Memory;

use super::{Entry, Id, Kind, Stack};

/// Gets memory for a range before anybody touches it.
pub trait Backing: Send {
    /// Answers whether the bytes are there.
    fn back(&mut self, offset: usize, length: usize) -> bool;
}

/// The memory that the streams of a client go through.
pub struct Streams {
    memory: Memory,
    backing: Box<dyn Backing>,
    slots: Vec<Slot>,
}

/// What is known of a slot.
#[derive(Clone, Default)]
struct Slot {
    /// Whose it is.
    owner: Option<Id>,
    /// There is memory for its rings, and it is charged.
    is_backed: bool,
}

impl Streams {
    /// Memory of which all but the rings is there.
    pub fn new(memory: Memory, backing: Box<dyn Backing>) -> Streams {
        Streams { memory, backing, slots: vec![Slot::default(); SLOTS as usize] }
    }

    /// Takes the rings of a number away.
    pub fn revoke(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(number as usize)
            && slot.owner.take().is_some()
            && let Some((.., state)) = streams::stack_ends(&self.memory, number)
        {
            state.set(0);
        }
    }
}

/// The stack's ends of a socket's rings.
pub(super) struct Ring {
    writer: Writer,
    reader: Reader,
    state: State,
    /// The sending direction ends when the ring is empty.
    ends: bool,
    /// Something was put in that the client was not told of.
    news: bool,
}

impl Ring {
    /// Bytes that the client has not read.
    pub fn unread(&self) -> usize {
        self.writer.unread()
    }

    /// Bytes that the client has written and that are not with TCP yet.
    pub fn unsent(&self) -> usize {
        self.reader.unread()
    }

    /// Whether there are some.
    pub fn is_sending(&mut self) -> bool {
        self.reader.waiting() > 0
    }

    /// Whether something was put in that the client was not told of; then it is.
    pub fn has_news(&mut self) -> bool {
        core::mem::take(&mut self.news)
    }
}

impl Entry {
    /// Moves what can be moved between the rings and TCP.
    pub(super) fn exchange(&mut self) {
        let (Some(ring), Kind::Connection(connection)) = (&mut self.ring, &mut self.kind) else { return };
        let takes = !self.orphan && !connection.read_closed;
        let socket = connection.socket();
        let mut copy = |into: &mut [u8]| {
            let count = ring.reader.read(into);
            (count, count)
        };
        while socket.can_send() && socket.send(&mut copy).is_ok_and(|count| count > 0) {}
        let mut copy = |from: &mut [u8]| {
            let count = ring.writer.write(from);
            (count, count)
        };
        let mut came = false;
        while takes && socket.can_recv() && socket.recv(&mut copy).is_ok_and(|count| count > 0) {
            came = true;
        }
        ring.news |= came;
        if ring.ends && !ring.is_sending() {
            ring.ends = false;
            connection.finish();
        }
    }

    /// Ends the sending direction of a connection, behind what is in the ring by now.
    pub(super) fn finish(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.reader.seal();
            ring.ends = true;
            self.exchange();
        } else if let Kind::Connection(connection) = &mut self.kind {
            connection.finish();
        }
    }

    /// Tells the client what goes by calls.
    pub(super) fn tell_ring(&mut self) {
        let Some(ring) = &self.ring else { return };
        let (receive, send) = match &self.kind {
            Kind::Connection(connection) if connection.established && self.error.is_none() => {
                let socket = connection.look();
                let ended = !matches!(socket.state(), Tcp::Established | Tcp::FinWait1 | Tcp::FinWait2);
                (ended || connection.read_closed || socket.can_recv(), !socket.may_send() || ring.ends)
            }
            _ => (true, true),
        };
        let receive = if receive { state::RECEIVE_BY_CALL } else { 0 };
        let send = if send { state::SEND_BY_CALL } else { 0 };
        ring.state.set(state::GRANTED | receive | send);
    }
}

impl Stack {
    /// From now on the streams of a client can go through this memory.
    pub fn share_streams(&mut self, client: super::ClientId, streams: Streams) {
        if let Some(client) = self.clients.get_mut(client) {
            client.streams = Some(streams);
        }
    }

    /// Gives a connection rings, if there are some for its number and its client can have them.
    pub(super) fn grant(&mut self, id: Id) {
        let Some(entry) = self.sockets.get_mut(id).filter(|entry| entry.ring.is_none()) else { return };
        let (Some(number), Some(client)) = (entry.number, self.clients.get_mut(entry.client)) else { return };
        let Some(mut streams) = client.streams.take() else { return };
        if let Some(slot) = streams.slots.get_mut(number as usize) {
            if !slot.is_backed && number > 0 && client.spare(RINGS as u64) {
                slot.is_backed = streams.backing.back(rings_of(number), RINGS);
                if !slot.is_backed {
                    client.discharge(RINGS as u64);
                }
            }
            if slot.is_backed
                && let Some((writer, reader, state)) = streams::stack_ends(&streams.memory, number)
            {
                slot.owner = Some(id);
                entry.ring = Some(Ring { writer, reader, state, ends: false, news: false });
                // Whoever grants tells of what was there before.
                entry.exchange();
                entry.ring.as_mut().map(Ring::has_news);
            }
        }
        client.streams = Some(streams);
    }

    /// Looks at the streams that clients ask it to look at; answers whether there was something in one of them.
    pub fn attend(&mut self) -> bool {
        let mut ids = Vec::new();
        for (_, client) in self.clients.iter_mut() {
            let Some(Streams { memory, slots, .. }) = &client.streams else { continue };
            let owner = |number: u32| slots.get(number as usize).and_then(|slot| slot.owner);
            streams::asked(memory, |number| ids.extend(owner(number)));
        }
        // What is marked for nothing is not worth a turn.
        ids.retain(|id| self.sockets.get_mut(*id).and_then(|entry| entry.ring.as_mut()).is_some_and(Ring::is_sending));
        for id in &ids {
            self.schedule(*id);
        }
        !ids.is_empty()
    }

    /// Says that whoever calls `attend` is going to wait for the bell; answers whether it may.
    pub fn attend_no_more(&mut self) -> bool {
        let mut shared = self.clients.iter_mut().filter_map(|(_, client)| client.streams.as_ref());
        shared.all(|streams| streams::sleep(&streams.memory))
    }
}
