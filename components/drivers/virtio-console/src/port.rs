//! Bytes in and out over the device's two queues (Virtio 5.3.6).

use alloc::vec::Vec;

use tessera_interfaces::ConsoleSize;
use tessera_virtio::{DmaMemory, Misbehaved, PAGE, Part, Queue, Transport, configuration_consistently, feature};
use tessera_virtio_driver::Link;

/// The configuration has the size.
pub const SIZE_KNOWN: u64 = 1 << 0;
/// The features that the driver understands.
pub const FEATURES: u64 = SIZE_KNOWN | feature::EVENT_INDEX;

/// Numbers of the queues (Virtio 5.3.2).
const RECEIVE: u16 = 0;
const SEND: u16 = 1;
/// Pages for each direction.
const BUFFERS: usize = 8;

/// What is known of a page that the device fills.
#[derive(Clone, Copy)]
enum Filling {
    /// The device has it.
    Device,
    /// It holds bytes `from..to` that nobody has read yet.
    Unread { from: usize, to: usize },
}

/// A running port.
pub struct Port<L> {
    link: L,
    receive: Queue,
    send: Queue,
    memory: DmaMemory,
    filling: [Filling; BUFFERS],
    /// Which pages hold something unread, oldest first.
    unread: alloc::collections::VecDeque<usize>,
    /// Pages free for sending.
    free: Vec<usize>,
    /// Something was not sent for want of room: whoever wanted to is to hear when there is some.
    is_short: bool,
    /// The page behind each token, of either queue.
    received: Vec<usize>,
    sent: Vec<usize>,
}

impl<L: Link> Port<L> {
    /// Bytes of memory that it needs.
    pub const MEMORY: usize = 2 * BUFFERS * PAGE;

    /// Uses a started device with its two queues.
    pub fn new(link: L, [receive, send]: [Queue; 2], memory: DmaMemory) -> Result<Port<L>, Misbehaved> {
        let mut port = Port {
            received: (0..receive.size()).map(|_| 0).collect(),
            sent: (0..send.size()).map(|_| 0).collect(),
            link,
            receive,
            send,
            memory,
            filling: [Filling::Device; BUFFERS],
            unread: alloc::collections::VecDeque::with_capacity(BUFFERS),
            free: (BUFFERS..BUFFERS.saturating_mul(2)).collect(),
            is_short: false,
        };
        for page in 0..BUFFERS {
            port.give(page)?;
        }
        Ok(port)
    }

    /// The device.
    pub fn link(&self) -> &L {
        &self.link
    }

    /// The size in characters; zeros where it is not known.
    pub fn size(transport: &dyn Transport, features: u64) -> ConsoleSize {
        if features & SIZE_KNOWN == 0 {
            return ConsoleSize { columns: 0, rows: 0 };
        }
        let word = configuration_consistently(transport, |transport| transport.configuration_32(0)).unwrap_or(0);
        ConsoleSize { columns: word as u16, rows: (word >> 16) as u16 }
    }

    /// Gives the device a page to fill.
    fn give(&mut self, page: usize) -> Result<(), Misbehaved> {
        let (address, contiguous) = self.memory.address(page.saturating_mul(PAGE)).ok_or(Misbehaved::Nonsense)?;
        let part = Part { address, length: contiguous.min(PAGE) as u32, device_writes: true };
        // A device whose queue is too short for all pages uses fewer.
        if let Ok(token) = self.receive.add(&[part]) {
            if let Some(place) = self.received.get_mut(usize::from(token)) {
                *place = page;
            }
            if let Some(filling) = self.filling.get_mut(page) {
                *filling = Filling::Device;
            }
            if self.receive.publish() {
                self.link.transport().notify(RECEIVE);
            }
        }
        Ok(())
    }

    /// Takes from the device what it has filled and sent; answers whether there is something new to read, or room where there was none.
    pub fn harvest(&mut self) -> Result<bool, Misbehaved> {
        let mut new = false;
        while let Some(completed) = self.receive.take()? {
            let page = self.received.get(usize::from(completed.token)).copied().unwrap_or_default();
            match completed.written as usize {
                0 => self.give(page)?,
                to => {
                    if let Some(filling) = self.filling.get_mut(page) {
                        *filling = Filling::Unread { from: 0, to };
                    }
                    self.unread.push_back(page);
                    new = true;
                }
            }
        }
        if self.reclaim()? && core::mem::take(&mut self.is_short) {
            self.send.wake();
            new = true;
        }
        Ok(new)
    }

    /// Takes back the pages that were sent; answers whether there were any.
    fn reclaim(&mut self) -> Result<bool, Misbehaved> {
        let before = self.free.len();
        while let Some(completed) = self.send.take()? {
            let page = self.sent.get(usize::from(completed.token)).copied().unwrap_or_default();
            self.free.push(page);
        }
        Ok(self.free.len() > before)
    }

    /// Asks for an interrupt at the next byte; answers whether there is none yet.
    pub fn sleep(&mut self) -> Result<bool, Misbehaved> {
        self.receive.sleep()
    }

    /// Whether there is something to read.
    pub fn is_readable(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Puts what was typed into `into`; answers how many bytes.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Misbehaved> {
        let mut done = 0_usize;
        while let Some(page) = self.unread.front().copied() {
            let rest = into.get_mut(done..).unwrap_or_default();
            let Some(Filling::Unread { from, to }) = self.filling.get(page).copied() else {
                return Err(Misbehaved::UnknownBuffer);
            };
            let count = to.saturating_sub(from).min(rest.len());
            if count == 0 {
                break;
            }
            let place = page.saturating_mul(PAGE).saturating_add(from);
            self.memory.memory().copy_out(place, rest.get_mut(..count).unwrap_or_default());
            done = done.saturating_add(count);
            let from = from.saturating_add(count);
            if from < to {
                if let Some(filling) = self.filling.get_mut(page) {
                    *filling = Filling::Unread { from, to };
                }
                break;
            }
            self.unread.pop_front();
            self.give(page)?;
        }
        Ok(done)
    }

    /// Sends as much of `from` as there is room for; answers how many bytes. If that is not all, the device will interrupt when it has sent.
    pub fn write(&mut self, from: &[u8]) -> Result<usize, Misbehaved> {
        let mut done = self.send_some(from)?;
        while done < from.len() {
            self.is_short = true;
            if self.send.sleep()? || !self.reclaim()? {
                break;
            }
            done = done.saturating_add(self.send_some(from.get(done..).unwrap_or_default())?);
        }
        Ok(done)
    }

    fn send_some(&mut self, from: &[u8]) -> Result<usize, Misbehaved> {
        let mut done = 0_usize;
        for part in from.chunks(PAGE) {
            let Some(page) = self.free.pop() else { break };
            let place = page.saturating_mul(PAGE);
            self.memory.memory().copy_in(place, part);
            let (address, _) = self.memory.address(place).ok_or(Misbehaved::Nonsense)?;
            match self.send.add(&[Part { address, length: part.len() as u32, device_writes: false }]) {
                Ok(token) => {
                    if let Some(place) = self.sent.get_mut(usize::from(token)) {
                        *place = page;
                    }
                    done = done.saturating_add(part.len());
                }
                Err(_) => {
                    self.free.push(page);
                    break;
                }
            }
        }
        if self.send.publish() {
            self.link.transport().notify(SEND);
        }
        Ok(done)
    }
}
