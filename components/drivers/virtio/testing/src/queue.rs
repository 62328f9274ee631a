//! The device's side of a queue, read and written by bus addresses as a device does.

use crate::{Device, State};

/// A chain of buffers that the device took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    pub head: u16,
    /// Bus address and length of what the device reads.
    pub readable: Vec<(u64, u32)>,
    /// Of what it writes.
    pub writable: Vec<(u64, u32)>,
}

impl State {
    fn load(&mut self, address: u64, bytes: usize) -> u64 {
        let mut value = [0; 8];
        self.read_bytes(address, &mut value[..bytes]);
        u64::from_le_bytes(value)
    }

    fn read_bytes(&mut self, address: u64, to: &mut [u8]) -> bool {
        match self.reach(address, to.len()) {
            Some((memory, offset)) => memory.copy_out(offset, to),
            None => false,
        }
    }

    fn write_bytes(&mut self, address: u64, from: &[u8]) -> bool {
        match self.reach(address, from.len()) {
            Some((memory, offset)) => memory.copy_in(offset, from),
            None => false,
        }
    }
}

impl Device {
    /// Takes the next chain from a queue.
    pub fn take(&self, queue: usize) -> Option<Chain> {
        self.with(|state| {
            let this = state.queues[queue].clone();
            if !this.ready || state.load(this.available + 2, 2) as u16 == this.taken {
                return None;
            }
            let slot = u64::from(this.taken % this.size);
            let head = state.load(this.available + 4 + slot * 2, 2) as u16;
            state.queues[queue].taken = this.taken.wrapping_add(1);
            let mut chain = Chain { head, ..Chain::default() };
            let mut number = head;
            for _ in 0..this.size {
                let place = this.descriptors + u64::from(number) * 16;
                let (address, rest) = (state.load(place, 8), state.load(place + 8, 8));
                let part = (address, rest as u32);
                let list = if rest >> 32 & 2 != 0 { &mut chain.writable } else { &mut chain.readable };
                list.push(part);
                if rest >> 32 & 1 == 0 {
                    break;
                }
                number = (rest >> 48) as u16;
            }
            Some(chain)
        })
    }

    /// The bytes that a chain has for the device.
    pub fn read(&self, chain: &Chain) -> Vec<u8> {
        let mut all = Vec::new();
        for (address, length) in pieces(&chain.readable) {
            let mut bytes = vec![0; length];
            self.with(|state| state.read_bytes(address, &mut bytes));
            all.extend(bytes);
        }
        all
    }

    /// Writes bytes into a chain, as far as it has room; answers how many.
    pub fn write(&self, chain: &Chain, bytes: &[u8]) -> u32 {
        let mut rest = bytes;
        for (address, length) in pieces(&chain.writable) {
            let (now, later) = rest.split_at(length.min(rest.len()));
            self.with(|state| now.is_empty() || state.write_bytes(address, now));
            rest = later;
        }
        (bytes.len() - rest.len()) as u32
    }

    /// Gives a chain back; answers whether the driver wants an interrupt.
    pub fn give(&self, queue: usize, head: u32, written: u32) -> bool {
        self.with(|state| {
            let this = state.queues[queue].clone();
            let slot = u64::from(this.given % this.size);
            state.write_bytes(this.used + 4 + slot * 8, &head.to_le_bytes());
            state.write_bytes(this.used + 8 + slot * 8, &written.to_le_bytes());
            let given = this.given.wrapping_add(1);
            state.queues[queue].given = given;
            state.write_bytes(this.used + 2, &given.to_le_bytes());
            state.interrupt_status |= 1;
            if state.accepted >> 29 & 1 != 0 {
                let event = state.load(this.available + 4 + u64::from(this.size) * 2, 2) as u16;
                event == this.given
            } else {
                state.load(this.available, 2) & 1 == 0
            }
        })
    }

    /// Says in the used ring that it has used up to `index`.
    pub fn claim(&self, queue: usize, index: u16) {
        self.with(|state| {
            let used = state.queues[queue].used;
            state.write_bytes(used + 2, &index.to_le_bytes())
        });
    }

    /// Asks for no notifications (by flag), or for some again.
    pub fn suppress(&self, queue: usize, suppressed: bool) {
        self.with(|state| {
            let used = state.queues[queue].used;
            state.write_bytes(used, &u16::from(suppressed).to_le_bytes())
        });
    }

    /// Asks (by position) for a notification when the driver adds the chain after `index`.
    pub fn notify_at(&self, queue: usize, index: u16) {
        self.with(|state| {
            let this = state.queues[queue].clone();
            state.write_bytes(this.used + 4 + u64::from(this.size) * 8, &index.to_le_bytes())
        });
    }
}

/// The parts of a chain cut at pages, whose memory the test exposed one by one.
fn pieces(parts: &[(u64, u32)]) -> Vec<(u64, usize)> {
    let mut all = Vec::new();
    for (address, length) in parts {
        let (mut at, end) = (*address, address + u64::from(*length));
        while at < end {
            let next = (at / 4096 + 1) * 4096;
            all.push((at, (next.min(end) - at) as usize));
            at = next;
        }
    }
    all
}
