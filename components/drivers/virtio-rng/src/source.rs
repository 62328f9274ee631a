//! The device's logic.

use tessera_runtime::object::Event;
use tessera_runtime::own;
use tessera_virtio::{DmaMemory, Part, Queue};
use tessera_virtio_driver::Link;

/// The bit of the event that the device's interrupt raises.
pub const INTERRUPT: u64 = 1;
/// How long the device may take for a page: nanoseconds. A source may have to gather.
const PATIENCE: u64 = 30_000_000_000;

/// The device does not answer, or not by the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure;

/// A device that runs, and memory that it fills.
pub struct Source<L> {
    link: L,
    queue: Queue,
    event: Event,
    memory: DmaMemory,
}

impl<L: Link> Source<L> {
    /// Uses a started device with its one queue; its interrupt raises [`INTERRUPT`] in `event`.
    pub fn new(link: L, queue: Queue, event: Event, memory: DmaMemory) -> Source<L> {
        Source { link, queue, event, memory }
    }

    /// The device.
    pub fn link(&self) -> &L {
        &self.link
    }

    /// Fills `into`, a piece at a time: the device may write less than it was asked for (Virtio 5.4.6.1), but not nothing.
    pub fn fill(&mut self, into: &mut [u8]) -> Result<(), Failure> {
        let mut rest = into;
        while !rest.is_empty() {
            let written = self.request(rest.len())?;
            let (now, later) = rest.split_at_mut_checked(written).ok_or(Failure)?;
            self.memory.memory().copy_out(0, now);
            self.memory.memory().clear(0, written);
            rest = later;
        }
        Ok(())
    }

    /// Asks for up to `length` bytes; answers how many were written.
    fn request(&mut self, length: usize) -> Result<usize, Failure> {
        let (address, contiguous) = self.memory.address(0).ok_or(Failure)?;
        let length = length.min(contiguous);
        self.queue.add(&[Part { address, length: length as u32, device_writes: true }]).map_err(|_| Failure)?;
        if self.queue.publish() {
            self.link.transport().notify(0);
        }
        let deadline = own::clock().now().ok().map(|now| now.saturating_add(PATIENCE));
        loop {
            if let Some(completed) = self.queue.take().map_err(|_| Failure)? {
                return match completed.written as usize {
                    0 => Err(Failure),
                    written => Ok(written),
                };
            }
            if self.queue.sleep().map_err(|_| Failure)? {
                self.event.wait_until(INTERRUPT, INTERRUPT, deadline).map_err(|_| Failure)?;
                self.link.acknowledge();
            }
        }
    }
}
