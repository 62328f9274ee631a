//! The driver's side of the rings.

use tessera_memory::Memory;

use crate::{Broken, Consumer, Entry, Producer, capacity, layout};

/// The driver's ends of the four rings, and the client's buffers.
///
/// The client may hand in a buffer twice, or use one that it has handed in: it garbles its own frames by that, and nobody else's.
#[derive(Debug)]
pub struct Driver {
    buffers: u32,
    receive_free: Consumer,
    receive_done: Producer,
    send: Consumer,
    send_done: Producer,
}

impl Driver {
    /// Looks at what a client attaches with: its rings, and `buffer_bytes` of memory for buffers.
    pub fn new(rings: &Memory, buffer_bytes: u64) -> Result<Driver, Broken> {
        let capacity = capacity(rings)?;
        let buffers =
            u32::try_from(buffer_bytes.checked_div(crate::BUFFER as u64).ok_or(Broken)?).map_err(|_| Broken)?;
        // Each ring can hold all buffers, so that none is ever full while the client keeps to the rules.
        if buffers == 0 || buffers > capacity {
            return Err(Broken);
        }
        Ok(Driver {
            buffers,
            receive_free: Consumer::new(rings, layout::RECEIVE_FREE, capacity)?,
            receive_done: Producer::new(rings, layout::RECEIVE_DONE, capacity)?,
            send: Consumer::new(rings, layout::SEND, capacity)?,
            send_done: Producer::new(rings, layout::SEND_DONE, capacity)?,
        })
    }

    /// How many buffers there are.
    pub fn buffers(&self) -> u32 {
        self.buffers
    }

    /// A buffer for the device to fill.
    pub fn take_free(&mut self) -> Result<Option<u32>, Broken> {
        match self.receive_free.pop()? {
            Some(entry) if entry.buffer < self.buffers => Ok(Some(entry.buffer)),
            Some(_) => Err(Broken),
            None => Ok(None),
        }
    }

    /// A frame, or a part of one, to be sent.
    pub fn take_to_send(&mut self) -> Result<Option<Entry>, Broken> {
        match self.send.pop()? {
            Some(entry) if entry.is_within(self.buffers) && entry.length > 0 => Ok(Some(entry)),
            Some(_) => Err(Broken),
            None => Ok(None),
        }
    }

    /// Gives a filled buffer to the client.
    pub fn received(&mut self, entry: Entry) -> Result<(), Broken> {
        if self.receive_done.push(entry)? { Ok(()) } else { Err(Broken) }
    }

    /// Gives a sent buffer back to the client.
    pub fn sent(&mut self, entry: Entry) -> Result<(), Broken> {
        if self.send_done.push(entry)? { Ok(()) } else { Err(Broken) }
    }

    /// Shows the client what it was given; answers whether its doorbell must be rung.
    #[must_use = "if the client sleeps, it must be woken"]
    pub fn publish(&mut self) -> bool {
        let (received, sent) = (self.receive_done.publish(), self.send_done.publish());
        received || sent
    }

    /// Says that the driver is going to wait; answers whether it may. `wants_buffers`: whether new free buffers are a reason to wake.
    pub fn sleep(&mut self, wants_buffers: bool) -> Result<bool, Broken> {
        let quiet = self.send.sleep()? && (!wants_buffers || self.receive_free.sleep()?);
        if !quiet {
            self.wake();
        }
        Ok(quiet)
    }

    /// Says that the driver is awake.
    pub fn wake(&mut self) {
        self.send.wake();
        self.receive_free.wake();
    }
}
