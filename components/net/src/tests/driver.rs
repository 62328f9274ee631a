//! A driver of a cable with two ends, over the real rings.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Mutex;

use tessera_interfaces::{NetDevice, NetDeviceError, NetInformation};
use tessera_memory::Memory;
use tessera_rings::{Driver as Rings, Entry, HEADROOM, doorbell};
use tessera_runtime::object::{Access, Event, Vmo};
use tessera_runtime::{Mapping, own};

/// Frames on their way, and the bells of both ends.
#[derive(Default)]
pub struct Cable {
    ways: [Mutex<VecDeque<Vec<u8>>>; 2],
    bells: [Mutex<Option<Arc<Event>>>; 2],
}

/// One end's device.
pub struct Driver {
    cable: Arc<Cable>,
    number: usize,
    /// The instance that lives; others end.
    instance: Arc<AtomicUsize>,
    dead: AtomicBool,
    rings: Mutex<Option<Memory>>,
}

impl Driver {
    pub fn new(cable: Arc<Cable>, number: usize) -> Driver {
        let instance = Arc::default();
        Driver { cable, number, instance, dead: AtomicBool::new(false), rings: Mutex::new(None) }
    }

    /// It stops in the middle of whatever it does.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.instance.fetch_add(1, Ordering::SeqCst);
    }

    pub fn revive(&self) {
        self.dead.store(false, Ordering::SeqCst);
    }

    pub fn attached(&self) -> usize {
        self.instance.load(Ordering::SeqCst)
    }

    /// Overwrites all the rings.
    pub fn attack(&self) {
        if let Some(rings) = &*self.rings.lock().unwrap() {
            for offset in (64..rings.length()).step_by(4) {
                rings.store_32(offset, 0xdead_beef);
            }
        }
    }
}

impl NetDevice for Driver {
    fn information(&self) -> Result<NetInformation, NetDeviceError> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(NetDeviceError::Device);
        }
        Ok(NetInformation { mac: [2, 0, 0, 0, 0, self.number as u8 + 1], mtu: 1500, offloads: 0 })
    }

    fn attach(&self, buffers: Vmo, rings: Vmo, to_device: Event, from_device: Event) -> Result<(), NetDeviceError> {
        let map = |vmo: &Vmo| Mapping::new(vmo, 0, vmo.size().unwrap(), Access::Write).unwrap().into_memory();
        let bytes = buffers.size().unwrap();
        let (buffers, rings) = (map(&buffers), map(&rings));
        let instance = self.instance.fetch_add(1, Ordering::SeqCst) + 1;
        let driver = Rings::new(&rings, bytes).map_err(|_| NetDeviceError::BadLayout)?;
        *self.rings.lock().unwrap() = Some(rings);
        let bell = Arc::new(to_device);
        *self.cable.bells[self.number].lock().unwrap() = Some(bell.clone());
        let (cable, number, lives) = (self.cable.clone(), self.number, self.instance.clone());
        std::thread::spawn(move || {
            let mut work = Work { driver, buffers, cable, number };
            while lives.load(Ordering::SeqCst) == instance && work.step(&from_device).is_ok() {
                let soon = own::clock().now().unwrap() + 1_000_000;
                let _ = bell.wait_until(doorbell::TO_DEVICE, doorbell::TO_DEVICE, Some(soon));
                work.driver.wake();
            }
        });
        Ok(())
    }
}

struct Work {
    driver: Rings,
    buffers: Memory,
    cable: Arc<Cable>,
    number: usize,
}

impl Work {
    fn step(&mut self, from_device: &Event) -> Result<(), tessera_rings::Broken> {
        let mut sent = false;
        while let Some(entry) = self.driver.take_to_send()? {
            let mut frame = vec![0; entry.length.into()];
            assert!(self.buffers.copy_out(entry.place(), &mut frame));
            let mut way = self.cable.ways[1 - self.number].lock().unwrap();
            // A full cable loses.
            if way.len() < 256 {
                way.push_back(frame);
            }
            sent = true;
            self.driver.sent(entry)?;
        }
        if sent && let Some(bell) = &*self.cable.bells[1 - self.number].lock().unwrap() {
            let _ = bell.raise(doorbell::TO_DEVICE);
        }
        loop {
            let Some(frame) = self.cable.ways[self.number].lock().unwrap().pop_front() else { break };
            let Some(buffer) = self.driver.take_free()? else { break };
            let entry = Entry { buffer, offset: HEADROOM as u16, length: frame.len() as u16, ..Entry::default() };
            assert!(self.buffers.copy_in(entry.place(), &frame));
            self.driver.received(entry)?;
        }
        if self.driver.publish() {
            let _ = from_device.raise(doorbell::FROM_DEVICE);
        }
        self.driver.sleep(false).map(|_| ())
    }
}
