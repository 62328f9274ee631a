//! A model of the device's side of virtio (version 1.2), for tests of drivers: behind MMIO or PCI registers, well-behaved or not.
//!
//! The model owns no thread: a test says when the device looks at a queue, what it does with the buffers, and what lies it tells. It
//! reaches memory by bus addresses, which the test hands out, and notes every access to an address that it was not given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tessera_memory::{Memory, Registers};

mod mmio;
mod pci;
mod queue;

pub use mmio::MmioRegisters;
pub use pci::{Common, Isr, Notify, Specific};
pub use queue::Chain;

/// What a queue was set up with.
#[derive(Clone, Debug, Default)]
pub struct QueueState {
    pub limit: u16,
    pub size: u16,
    pub vector: u16,
    pub ready: bool,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
    /// How far the device took and gave back.
    pub taken: u16,
    pub given: u16,
    pub notifications: u32,
}

/// A device and its bus.
#[derive(Debug, Default)]
pub struct State {
    pub device_type: u32,
    pub features: u64,
    /// Features that the device refuses although it offers them.
    pub refuses: bool,
    pub accepted: u64,
    pub status: u8,
    /// Reads of the status that it takes to finish a reset.
    pub reset_takes: u32,
    resetting: u32,
    pub configuration: Vec<u8>,
    pub generation: u32,
    /// Whether the configuration changes at each look.
    pub restless: bool,
    pub interrupt_status: u8,
    pub queues: Vec<QueueState>,
    /// Memory by bus address.
    pub bus: BTreeMap<u64, Memory>,
    /// Accesses outside of it.
    pub faults: u32,
    /// Resets that were asked for.
    pub resets: u32,
    selected: [u32; 3],
}

/// A device that a test and the driver share.
#[derive(Clone, Debug)]
pub struct Device(Arc<Mutex<State>>);

/// What a driver selected: features of the device, of itself, a queue.
#[derive(Clone, Copy)]
pub(crate) enum Select {
    DeviceFeatures = 0,
    DriverFeatures = 1,
    Queue = 2,
}

impl Device {
    /// A device of a type, with features and the limits of its queues.
    pub fn new(device_type: u32, features: u64, limits: &[u16], configuration: &[u8]) -> Device {
        let queues = limits.iter().map(|limit| QueueState { limit: *limit, ..QueueState::default() }).collect();
        let configuration = configuration.to_vec();
        Device(Arc::new(Mutex::new(State { device_type, features, queues, configuration, ..State::default() })))
    }

    /// Looks at or changes the device.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// Gives memory `pages` bus addresses, from `first` on, each page two pages after the one before; answers the addresses.
    pub fn expose(&self, memory: &Memory, first: u64) -> Vec<u64> {
        let pages = memory.length() / 4096;
        self.with(|state| {
            (0..pages)
                .map(|page| {
                    let address = first + page as u64 * 8192;
                    state.bus.insert(address, memory.part(page * 4096, 4096).unwrap());
                    address
                })
                .collect()
        })
    }

    /// The registers on MMIO.
    pub fn mmio(&self) -> MmioRegisters {
        MmioRegisters(self.clone())
    }

    /// The common configuration, notification, interrupt status and device configuration registers on PCI.
    pub fn pci(&self) -> [Arc<dyn Registers>; 4] {
        [
            Arc::new(Common(self.clone())),
            Arc::new(Notify(self.clone())),
            Arc::new(Isr(self.clone())),
            Arc::new(Specific(self.clone())),
        ]
    }
}

impl State {
    pub(crate) fn select(&mut self, what: Select, value: u32) {
        self.selected[what as usize] = value;
    }

    pub(crate) fn features_half(&self) -> u32 {
        match self.selected[Select::DeviceFeatures as usize] {
            0 => self.features as u32,
            1 => (self.features >> 32) as u32,
            _ => 0,
        }
    }

    pub(crate) fn accept_half(&mut self, half: u32) {
        let half = u64::from(half);
        match self.selected[Select::DriverFeatures as usize] {
            0 => self.accepted = self.accepted & !0xffff_ffff | half,
            1 => self.accepted = self.accepted & 0xffff_ffff | half << 32,
            _ => {}
        }
    }

    pub(crate) fn queue(&mut self) -> Option<&mut QueueState> {
        self.queues.get_mut(self.selected[Select::Queue as usize] as usize)
    }

    pub(crate) fn read_status(&mut self) -> u8 {
        if self.resetting > 0 {
            self.resetting -= 1;
            return 0xff;
        }
        self.status
    }

    pub(crate) fn write_status(&mut self, status: u8) {
        if status == 0 {
            self.resets += 1;
            self.resetting = self.reset_takes;
            self.status = 0;
            self.accepted = 0;
            self.interrupt_status = 0;
            for queue in &mut self.queues {
                *queue = QueueState { limit: queue.limit, ..QueueState::default() };
            }
            return;
        }
        self.status = status;
        const FEATURES_OK: u8 = 8;
        if self.refuses || self.accepted & !self.features != 0 {
            self.status &= !FEATURES_OK;
        }
    }

    pub(crate) fn look_at_configuration(&mut self) {
        if self.restless {
            self.generation += 1;
        }
    }

    pub(crate) fn configuration_bytes(&mut self, offset: usize, count: usize) -> u32 {
        self.look_at_configuration();
        let byte = |index: usize| self.configuration.get(index).copied().unwrap_or(0xff);
        (0..count).rev().fold(0, |value, index| value << 8 | u32::from(byte(offset + index)))
    }

    pub(crate) fn notified(&mut self, queue: usize) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.notifications += 1;
        }
    }

    /// The memory behind `length` bytes at a bus address, if the device was given it, and where in that they begin.
    pub fn reach(&mut self, address: u64, length: usize) -> Option<(Memory, usize)> {
        let found = self.bus.range(..=address).next_back().map(|(base, memory)| (*base, memory.clone()));
        if let Some((base, memory)) = found {
            let offset = (address - base) as usize;
            if offset + length <= memory.length() {
                return Some((memory, offset));
            }
        }
        self.faults += 1;
        None
    }
}
