//! Moves frames between the card's queues and the client's rings.

use alloc::vec::Vec;

use tessera_rings::{BUFFER, Broken, Driver, Entry, FRAME, HEADROOM, flags};
use tessera_virtio::{DmaMemory, Misbehaved, Part, Queue};
use tessera_virtio_driver::Link;

use crate::header;

/// Numbers of the card's queues (Virtio 5.1.2).
const RECEIVE: u16 = 0;
const SEND: u16 = 1;

/// The most buffers of a frame to be sent: 64 KiB.
const PARTS: usize = 34;
/// The least frame that a card can have received: an Ethernet header.
const LEAST: u32 = 14;
/// With fewer buffers than this, each frame that was sent is told at once.
const MANY: u32 = 128;

/// Why nothing can be moved any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client broke the rules.
    Client,
    /// The device did.
    Device(Misbehaved),
}

impl From<Broken> for Ended {
    fn from(_: Broken) -> Ended {
        Ended::Client
    }
}

impl From<Misbehaved> for Ended {
    fn from(reason: Misbehaved) -> Ended {
        Ended::Device(reason)
    }
}

/// A card and a client that are attached to each other.
pub struct Pump<L> {
    link: L,
    rings: Driver,
    buffers: DmaMemory,
    receive: Queue,
    send: Queue,
    /// The buffer behind each token of the receive queue.
    filling: Vec<u32>,
    /// The entries behind each token of the send queue.
    sending: Vec<Vec<Entry>>,
    /// Those of the frame that is being given to the card, and where they lie.
    entries: Vec<Entry>,
    parts: Vec<Part>,
    /// How many buffers the card has to send.
    in_flight: u32,
    /// The most that it had to fill.
    most_filling: u16,
    /// Whether a received frame may take several buffers.
    merges: bool,
}

impl<L: Link> Pump<L> {
    /// Joins a started card, with its two queues, and a client's rings and buffers. `merges`: what [`Card`](crate::Card) says.
    pub fn new(link: L, [receive, send]: [Queue; 2], rings: Driver, buffers: DmaMemory, merges: bool) -> Pump<L> {
        let filling = (0..receive.size()).map(|_| 0).collect();
        let sending = (0..send.size()).map(|_| Vec::with_capacity(1)).collect();
        let (entries, parts) = (Vec::with_capacity(PARTS), Vec::with_capacity(PARTS));
        Pump {
            link,
            rings,
            buffers,
            receive,
            send,
            filling,
            sending,
            entries,
            parts,
            in_flight: 0,
            most_filling: 0,
            merges,
        }
    }

    /// The card.
    pub fn link(&self) -> &L {
        &self.link
    }

    /// Moves what there is to be moved, both ways; answers whether the client's doorbell must be rung.
    pub fn run(&mut self) -> Result<bool, Ended> {
        self.take_from_card()?;
        self.give_to_card()?;
        Ok(self.rings.publish())
    }

    /// Gives the card what the client has to send, and buffers to fill; answers whether it had room for all of it.
    pub fn send(&mut self) -> Result<bool, Ended> {
        if self.send.free() < self.send.size() / 2 {
            self.take_sent()?;
        }
        self.give_to_card()?;
        let _ = self.rings.publish();
        Ok(self.has_room())
    }

    /// How many buffers the card has to fill.
    fn filling(&self) -> u16 {
        self.receive.size().saturating_sub(self.receive.free())
    }

    /// Whether the card takes another frame, however long.
    fn has_room(&self) -> bool {
        usize::from(self.send.free()) >= PARTS
    }

    /// Says to both sides that nobody looks; answers whether one may stop looking. If not, there is something to move.
    pub fn sleep(&mut self) -> Result<bool, Ended> {
        // A client waits for buffers to come back only when it has none; then the card has very many of them. What the card had no room for waits too.
        let has_few = self.in_flight < self.rings.buffers() / 4 && self.rings.buffers() >= MANY;
        let wait_for_sent = !has_few || !self.has_room();
        // A card that has enough buffers to fill gets more when there is something else to do.
        let has_few_to_fill = self.filling() <= self.most_filling / 2;
        let quiet = self.receive.sleep()?
            && (self.in_flight == 0 || !wait_for_sent || self.send.sleep()?)
            && self.rings.sleep(has_few_to_fill)?;
        if !quiet {
            self.wake();
        }
        Ok(quiet)
    }

    /// Says to both sides that somebody looks.
    pub fn wake(&mut self) {
        self.rings.wake();
        self.receive.wake();
        self.send.wake();
    }

    fn take_sent(&mut self) -> Result<(), Ended> {
        while let Some(completed) = self.send.take()? {
            let entries = self.sending.get_mut(usize::from(completed.token)).ok_or(Misbehaved::UnknownBuffer)?;
            for entry in entries.drain(..) {
                self.rings.sent(entry)?;
                self.in_flight = self.in_flight.saturating_sub(1);
            }
        }
        Ok(())
    }

    fn take_from_card(&mut self) -> Result<(), Ended> {
        self.take_sent()?;
        while let Some((buffer, written)) = self.filled()? {
            let length = written.saturating_sub(header::BYTES as u32);
            let entry = Entry { buffer, offset: HEADROOM as u16, length: length as u16, ..Entry::default() };
            if length < LEAST {
                // Nothing that can be used; the client gets its buffer back.
                self.rings.received(Entry { flags: flags::FAILED, ..entry })?;
                continue;
            }
            let (memory, place) = (self.buffers.memory(), entry.place().saturating_sub(header::BYTES));
            let flags = header::read(memory, place);
            let parts = if self.merges { header::buffers(memory, place) } else { 1 };
            self.received(Entry { flags, ..entry }, parts)?;
        }
        Ok(())
    }

    /// The next buffer that the card has filled, and how much of it.
    fn filled(&mut self) -> Result<Option<(u32, u32)>, Ended> {
        let Some(completed) = self.receive.take()? else { return Ok(None) };
        let buffer = self.filling.get(usize::from(completed.token)).copied().unwrap_or_default();
        Ok(Some((buffer, completed.written)))
    }

    /// Passes on a frame of so many buffers, of which this is the first. The card fills all of them before it shows one (Virtio 5.1.6.3.2); those behind the first
    /// have no header.
    fn received(&mut self, first: Entry, parts: usize) -> Result<(), Ended> {
        if !(1..=PARTS).contains(&parts) {
            return Err(Misbehaved::Nonsense.into());
        }
        let more = |left: usize| if left > 0 { flags::MORE } else { 0 };
        let mut left = parts.saturating_sub(1);
        self.rings.received(Entry { flags: first.flags | more(left), ..first })?;
        while left > 0 {
            left = left.saturating_sub(1);
            let (buffer, written) = self.filled()?.ok_or(Misbehaved::Nonsense)?;
            let offset = (HEADROOM - header::BYTES) as u16;
            self.rings.received(Entry {
                buffer,
                offset,
                length: written as u16,
                flags: more(left),
                ..Entry::default()
            })?;
        }
        Ok(())
    }

    fn give_to_card(&mut self) -> Result<(), Ended> {
        while self.receive.free() > 0
            && let Some(buffer) = self.rings.take_free()?
        {
            let offset = (buffer as usize).saturating_mul(BUFFER).saturating_add(HEADROOM - header::BYTES);
            let (address, contiguous) = self.buffers.address(offset).ok_or(Ended::Client)?;
            // Two buffers fill a page, so each is contiguous.
            let length = (header::BYTES + FRAME).min(contiguous) as u32;
            let part = Part { address, length, device_writes: true };
            let token = self.receive.add(&[part]).map_err(|_| Misbehaved::UsedTooMuch)?;
            if let Some(place) = self.filling.get_mut(usize::from(token)) {
                *place = buffer;
            }
        }
        self.most_filling = self.most_filling.max(self.filling());
        if self.receive.publish() {
            self.link.transport().notify(RECEIVE);
        }
        while self.has_room()
            && let Some(first) = self.rings.take_to_send()?
        {
            self.send_frame(first)?;
        }
        if self.send.publish() {
            self.link.transport().notify(SEND);
        }
        Ok(())
    }

    /// Gives the card a frame, which begins with `first`.
    fn send_frame(&mut self, first: Entry) -> Result<(), Ended> {
        let place = first.place().checked_sub(header::BYTES).ok_or(Ended::Client)?;
        header::write(self.buffers.memory(), place, &first);
        self.entries.clear();
        self.parts.clear();
        let mut entry = first;
        loop {
            // A frame of more parts than 64 KiB take is none.
            if self.parts.len() == PARTS {
                return Err(Ended::Client);
            }
            let before = if self.parts.is_empty() { header::BYTES } else { 0 };
            let start = if self.parts.is_empty() { place } else { entry.place() };
            let (address, contiguous) = self.buffers.address(start).ok_or(Ended::Client)?;
            let length = usize::from(entry.length).saturating_add(before).min(contiguous) as u32;
            self.parts.push(Part { address, length, device_writes: false });
            self.entries.push(entry);
            if entry.flags & flags::MORE == 0 {
                break;
            }
            // The parts of a frame are published together.
            entry = self.rings.take_to_send()?.ok_or(Ended::Client)?;
        }
        let token = self.send.add(&self.parts).map_err(|_| Misbehaved::UsedTooMuch)?;
        if let Some(kept) = self.sending.get_mut(usize::from(token)) {
            kept.extend_from_slice(&self.entries);
        }
        self.in_flight = self.in_flight.saturating_add(self.entries.len() as u32);
        Ok(())
    }
}
