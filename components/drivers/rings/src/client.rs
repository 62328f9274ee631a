//! The client's side of the rings: who has which buffer, frames in and out.
//!
//! A driver can be replaced at any time. The client then calls [`Client::restart`] and attaches again: buffers that the dead one held to
//! fill are free again, frames that it was not known to have sent are sent again, in order (a frame may so be sent twice,
//! as on any network).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use tessera_memory::Memory;

use crate::{BUFFER, Broken, Consumer, Entry, FRAME, HEADROOM, Producer, flags, format, layout};

/// Buffers that the driver has to fill until they prove to be too few. The same ones are used again and again, which keeps them in caches and the
/// rest of the memory untouched. A frame of 64 KiB takes 34.
const FEW_RECEIVERS: usize = 64;
/// With so many frames on their way, the client looks whether some were sent and takes their buffers first.
const MANY_SENDING: usize = 16;

/// Who has a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Client,
    /// The driver, to fill it.
    Receiving,
    /// The driver, to send it.
    Sending,
}

/// What the device is to do to a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Fill in the checksum: where it begins to count, and where it is put after that; bytes.
    pub checksum: Option<(u16, u16)>,
    /// Cut into TCP segments with this many bytes of payload each, over IPv6 if the flag says so.
    pub segment: Option<(u16, bool)>,
}

/// A frame that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its bytes.
    pub length: usize,
    /// Whether the checksums of its transport header need not be looked at.
    pub checksum_is_right: bool,
}

/// The client's ends of the four rings, and its buffers.
#[derive(Debug)]
pub struct Client {
    buffers: Memory,
    rings: Memory,
    capacity: u32,
    holders: Vec<Holder>,
    free: Vec<u32>,
    /// What the driver has to send, in order.
    sending: VecDeque<Entry>,
    /// How many buffers the driver has to fill, how many it should have, and how many it may have.
    receiving: usize,
    receivers: usize,
    most_receivers: usize,
    ends: Ends,
}

#[derive(Debug)]
struct Ends {
    receive_free: Producer,
    receive_done: Consumer,
    send: Producer,
    send_done: Consumer,
}

impl Ends {
    fn new(rings: &Memory, capacity: u32) -> Result<Ends, Broken> {
        if !format(rings, capacity) {
            return Err(Broken);
        }
        Ok(Ends {
            receive_free: Producer::new(rings, layout::RECEIVE_FREE, capacity)?,
            receive_done: Consumer::new(rings, layout::RECEIVE_DONE, capacity)?,
            send: Producer::new(rings, layout::SEND, capacity)?,
            send_done: Consumer::new(rings, layout::SEND_DONE, capacity)?,
        })
    }
}

impl Client {
    /// Bytes that the memory of the rings must have for `buffers` buffers.
    pub fn ring_bytes(buffers: u32) -> usize {
        layout::bytes(buffers.checked_next_power_of_two().unwrap_or(layout::MOST))
    }

    /// Puts rings into `rings`, for as many buffers as `buffers` has room for; half of them are kept for receiving. Broken if the
    /// memory is too small for one buffer each way, or for the rings.
    pub fn new(buffers: Memory, rings: Memory) -> Result<Client, Broken> {
        let count = u32::try_from(buffers.length() / BUFFER).map_err(|_| Broken)?;
        let capacity = count.checked_next_power_of_two().ok_or(Broken)?;
        if count < 2 {
            return Err(Broken);
        }
        let ends = Ends::new(&rings, capacity)?;
        let most_receivers = (count / 2) as usize;
        let mut client = Client {
            buffers,
            rings,
            capacity,
            holders: (0..count).map(|_| Holder::Client).collect(),
            free: (0..count).rev().collect(),
            sending: VecDeque::with_capacity(count as usize),
            receiving: 0,
            receivers: most_receivers.min(FEW_RECEIVERS),
            most_receivers,
            ends,
        };
        client.refill()?;
        let _ = client.publish();
        Ok(client)
    }

    /// Begins anew with a new driver, which is not attached yet. Frames that the old one was not known to have sent are sent again.
    pub fn restart(&mut self) -> Result<(), Broken> {
        self.ends = Ends::new(&self.rings, self.capacity)?;
        for (number, holder) in (0..).zip(&mut self.holders) {
            if *holder == Holder::Receiving {
                *holder = Holder::Client;
                self.free.push(number);
            }
        }
        self.receiving = 0;
        for entry in &self.sending {
            self.ends.send.push(*entry)?;
        }
        self.refill()?;
        let _ = self.publish();
        Ok(())
    }

    fn refill(&mut self) -> Result<(), Broken> {
        while self.receiving < self.receivers {
            let Some(buffer) = self.free.pop() else { break };
            let entry = Entry { buffer, offset: HEADROOM as u16, length: FRAME as u16, ..Entry::default() };
            if !self.ends.receive_free.push(entry)? {
                return Err(Broken);
            }
            self.hold(buffer, Holder::Receiving);
            self.receiving = self.receiving.saturating_add(1);
        }
        Ok(())
    }

    fn hold(&mut self, buffer: u32, holder: Holder) {
        if let Some(place) = self.holders.get_mut(buffer as usize) {
            *place = holder;
        }
    }

    fn is_held(&self, buffer: u32, holder: Holder) -> bool {
        self.holders.get(buffer as usize) == Some(&holder)
    }

    /// Copies the next frame that came in to `frame`. A frame that does not fit, or that the device says is damaged, is dropped.
    pub fn receive(&mut self, frame: &mut [u8]) -> Result<Option<Received>, Broken> {
        loop {
            let mut length = 0_usize;
            let mut good = true;
            let mut first = None;
            loop {
                let Some(entry) = self.ends.receive_done.pop()? else {
                    // The parts of a frame are published together.
                    return if first.is_some() { Err(Broken) } else { Ok(None) };
                };
                let count = self.holders.len() as u32;
                // Only in the first part the device's header comes before the frame.
                let is_there = if first.is_none() { entry.is_within(count) } else { entry.is_inside(count) };
                if !is_there || !self.is_held(entry.buffer, Holder::Receiving) {
                    return Err(Broken);
                }
                if first.is_none() && self.ends.receive_done.left() > self.receivers / 2 {
                    self.receivers = self.receivers.saturating_mul(2).min(self.most_receivers);
                }
                first = first.or(Some(entry.flags));
                let end = length.saturating_add(entry.length.into());
                let to = frame.get_mut(length..end);
                good = good
                    && entry.flags & flags::FAILED == 0
                    && to.is_some_and(|to| self.buffers.copy_out(entry.place(), to));
                length = end;
                self.hold(entry.buffer, Holder::Client);
                self.free.push(entry.buffer);
                self.receiving = self.receiving.saturating_sub(1);
                self.refill()?;
                if entry.flags & flags::MORE == 0 {
                    break;
                }
            }
            if good {
                let right = flags::NEEDS_CHECKSUM | flags::CHECKSUM_VALID;
                let checksum_is_right = first.is_some_and(|flags| flags & right != 0);
                return Ok(Some(Received { length, checksum_is_right }));
            }
        }
    }

    /// How many bytes of frame can be sent now. At most `limit` buffers are counted.
    pub fn room(&mut self, limit: usize) -> Result<usize, Broken> {
        if self.sendable() < limit || self.sending.len() >= MANY_SENDING {
            self.reclaim()?;
        }
        Ok(self.sendable().min(limit).saturating_mul(FRAME))
    }

    /// Free buffers, less those that receiving may still want.
    fn sendable(&self) -> usize {
        self.free.len().saturating_sub(self.most_receivers.saturating_sub(self.receiving))
    }

    /// Takes back what was sent.
    fn reclaim(&mut self) -> Result<(), Broken> {
        while let Some(entry) = self.ends.send_done.pop()? {
            if !self.is_held(entry.buffer, Holder::Sending) {
                return Err(Broken);
            }
            self.hold(entry.buffer, Holder::Client);
            self.free.push(entry.buffer);
            // Nearly always the first.
            if self.sending.front().is_some_and(|sent| sent.buffer == entry.buffer) {
                self.sending.pop_front();
            } else if let Some(place) = self.sending.iter().position(|sent| sent.buffer == entry.buffer) {
                self.sending.remove(place);
            }
        }
        Ok(())
    }

    /// Sends a frame; answers whether there was room. It goes out after [`Client::publish`].
    pub fn send(&mut self, frame: &[u8], offload: Offload) -> Result<bool, Broken> {
        let parts = frame.len().div_ceil(FRAME);
        if frame.is_empty() || self.room(parts)? < frame.len() {
            return Ok(false);
        }
        let mut entry = Entry { offset: HEADROOM as u16, ..Entry::default() };
        if let Some((start, offset)) = offload.checksum {
            (entry.flags, entry.checksum_start, entry.checksum_offset) = (flags::NEEDS_CHECKSUM, start, offset);
        }
        if let Some((segment, version_6)) = offload.segment {
            entry.segment = segment;
            entry.flags |= if version_6 { flags::SEGMENT_V6 } else { flags::SEGMENT_V4 };
        }
        let mut rest = frame.chunks(FRAME).peekable();
        while let Some(part) = rest.next() {
            entry.buffer = self.free.pop().ok_or(Broken)?;
            entry.length = part.len() as u16;
            entry.flags = entry.flags & !flags::MORE | if rest.peek().is_some() { flags::MORE } else { 0 };
            self.buffers.copy_in(entry.place(), part);
            if !self.ends.send.push(entry)? {
                return Err(Broken);
            }
            self.hold(entry.buffer, Holder::Sending);
            self.sending.push_back(entry);
        }
        Ok(true)
    }

    /// Shows the driver what it was given; answers whether its doorbell must be rung.
    #[must_use = "if the driver sleeps, it must be woken"]
    pub fn publish(&mut self) -> bool {
        let (free, send) = (self.ends.receive_free.publish(), self.ends.send.publish());
        free || send
    }

    /// Says that the client is going to wait; answers whether it may. `wants_room`: whether a frame that was sent is a reason to wake.
    pub fn sleep(&mut self, wants_room: bool) -> Result<bool, Broken> {
        let quiet = self.ends.receive_done.sleep()? && (!wants_room || self.ends.send_done.sleep()?);
        if !quiet {
            self.wake();
        }
        Ok(quiet)
    }

    /// Says that the client is awake.
    pub fn wake(&mut self) {
        self.ends.receive_done.wake();
        self.ends.send_done.wake();
    }
}
