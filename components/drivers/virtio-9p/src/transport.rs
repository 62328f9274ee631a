//! Messages through the device's queue: one chain holds the request, which the device reads, and room for the answer, which it writes.

use alloc::vec::Vec;

use tessera_interfaces::FileError;
use tessera_runtime::object::Event;
use tessera_runtime::own;
use tessera_virtio::{DmaMemory, Part, Queue};
use tessera_virtio_driver::Link;

use crate::LONGEST;
use crate::session::Exchange;

/// The bit of the event that the device's interrupt raises.
pub const INTERRUPT: u64 = 1;
/// How long the server may take, in nanoseconds: its disk may be slow, but not that slow.
const PATIENCE: u64 = 60_000_000_000;

/// A running device.
pub struct Transport<L> {
    link: L,
    queue: Queue,
    event: Event,
    memory: DmaMemory,
    /// The device broke the rules, or did not answer: it may still write to the memory.
    is_lost: bool,
}

impl<L: Link> Transport<L> {
    /// Bytes of memory that it needs: one message each way.
    pub const MEMORY: usize = 2 * LONGEST;

    /// Uses a started device with its one queue; its interrupt raises [`INTERRUPT`] in `event`.
    pub fn new(link: L, queue: Queue, event: Event, memory: DmaMemory) -> Transport<L> {
        Transport { link, queue, event, memory, is_lost: false }
    }

    /// The parts of the memory that hold `length` bytes from `place` on.
    fn parts(&self, place: usize, length: usize, device_writes: bool, parts: &mut Vec<Part>) -> Option<()> {
        let end = place.checked_add(length)?;
        let mut at = place;
        while at < end {
            let (address, contiguous) = self.memory.address(at)?;
            let length = contiguous.min(end.saturating_sub(at));
            parts.push(Part { address, length: u32::try_from(length).ok()?, device_writes });
            at = at.checked_add(length).filter(|next| *next > at)?;
        }
        Some(())
    }

    fn pass(&mut self, request: &[u8]) -> Option<usize> {
        self.memory.memory().copy_in(0, request);
        let mut parts = Vec::new();
        self.parts(0, request.len(), false, &mut parts)?;
        self.parts(LONGEST, LONGEST, true, &mut parts)?;
        self.queue.add(&parts).ok()?;
        if self.queue.publish() {
            self.link.transport().notify(0);
        }
        let deadline = Some(own::now().saturating_add(PATIENCE));
        loop {
            if let Some(completed) = self.queue.take().ok()? {
                return Some((completed.written as usize).min(LONGEST));
            }
            if self.queue.sleep().ok()? {
                self.event.wait_until(INTERRUPT, INTERRUPT, deadline).ok()?;
                self.link.acknowledge();
            }
        }
    }
}

impl<L: Link> Exchange for Transport<L> {
    fn exchange(&mut self, request: &[u8]) -> Result<Vec<u8>, FileError> {
        if self.is_lost || request.len() > LONGEST {
            return Err(FileError::Device);
        }
        let Some(written) = self.pass(request) else {
            self.is_lost = true;
            return Err(FileError::Device);
        };
        let mut answer = alloc::vec![0; written];
        self.memory.memory().copy_out(LONGEST, &mut answer);
        Ok(answer)
    }
}
