//! A driver of a cable with two ends, over the real rings.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Mutex;

use tessera_interfaces::{Cap, NetDevice, NetDeviceError, NetInformation, NetPump};
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
    lends: bool,
    /// The instance that lives; others end.
    instance: Arc<AtomicUsize>,
    dead: AtomicBool,
    rings: Mutex<Option<Memory>>,
}

impl Driver {
    /// Of the two, the second lends its pump.
    pub fn new(cable: Arc<Cable>, number: usize) -> Driver {
        let (instance, lends) = (Arc::default(), number == 1);
        Driver { cable, number, lends, instance, dead: AtomicBool::new(false), rings: Mutex::new(None) }
    }

    /// It stops in the middle of whatever it does.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.instance.fetch_add(1, Ordering::SeqCst);
    }

    /// Begins with new rings: the number of the instance, the rings, and the buffers.
    fn begin(&self, buffers: &Vmo, rings: &Vmo) -> Result<(usize, Rings, Memory), NetDeviceError> {
        let map = |vmo: &Vmo| Mapping::new(vmo, 0, vmo.size().unwrap(), Access::Write).unwrap().into_memory();
        let rings = map(rings);
        let instance = self.instance.fetch_add(1, Ordering::SeqCst) + 1;
        let driver = Rings::new(&rings, buffers.size().unwrap()).map_err(|_| NetDeviceError::BadLayout)?;
        *self.rings.lock().unwrap() = Some(rings);
        Ok((instance, driver, map(buffers)))
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
        let (instance, driver, buffers) = self.begin(&buffers, &rings)?;
        let bell = Arc::new(to_device);
        *self.cable.bells[self.number].lock().unwrap() = Some(bell.clone());
        let (cable, number, lives) = (self.cable.clone(), self.number, self.instance.clone());
        std::thread::spawn(move || {
            let mut work = Work { driver, buffers, cable, number };
            while lives.load(Ordering::SeqCst) == instance {
                if work.step(&from_device).and_then(|()| work.driver.sleep(false)).is_err() {
                    break;
                }
                let soon = own::clock().now().unwrap() + 1_000_000;
                let _ = bell.wait_until(doorbell::TO_DEVICE, doorbell::TO_DEVICE, Some(soon));
                work.driver.wake();
            }
        });
        Ok(())
    }

    fn attach_here(&self, buffers: Vmo, rings: Vmo, bell: Event) -> Result<Cap<dyn NetPump>, NetDeviceError> {
        if !self.lends {
            return Err(NetDeviceError::Device);
        }
        let (instance, driver, buffers) = self.begin(&buffers, &rings)?;
        let bell = Arc::new(bell);
        *self.cable.bells[self.number].lock().unwrap() = Some(bell.clone());
        let work = Work { driver, buffers, cable: self.cable.clone(), number: self.number };
        let lent = Lent { work: Mutex::new(work), bell, lives: self.instance.clone(), instance };
        Ok(Cap::local(Arc::new(lent) as Arc<dyn NetPump>))
    }
}

/// What the stack runs itself.
struct Lent {
    work: Mutex<Work>,
    bell: Arc<Event>,
    lives: Arc<AtomicUsize>,
    instance: usize,
}

impl Lent {
    fn act<T>(&self, act: impl FnOnce(&mut Work) -> Result<T, tessera_rings::Broken>) -> Result<T, NetDeviceError> {
        if self.lives.load(Ordering::SeqCst) != self.instance {
            return Err(NetDeviceError::Device);
        }
        act(&mut self.work.lock().unwrap()).map_err(|_| NetDeviceError::Device)
    }
}

impl NetPump for Lent {
    fn send(&self) -> Result<bool, NetDeviceError> {
        // It has room for one frame at a time.
        self.act(|work| {
            work.give(1)?;
            Ok(false)
        })
    }

    fn run(&self) -> Result<(), NetDeviceError> {
        self.act(|work| work.step(&self.bell))
    }

    fn sleep(&self) -> Result<bool, NetDeviceError> {
        self.act(|work| {
            let quiet = work.driver.sleep(false)?;
            Ok(quiet && work.cable.ways[work.number].lock().unwrap().is_empty())
        })
    }

    fn wake(&self) -> Result<(), NetDeviceError> {
        self.act(|work| {
            work.driver.wake();
            Ok(())
        })
    }
}

struct Work {
    driver: Rings,
    buffers: Memory,
    cable: Arc<Cable>,
    number: usize,
}

impl Work {
    /// Sends at most so many frames.
    fn give(&mut self, most: usize) -> Result<(), tessera_rings::Broken> {
        let mut sent = false;
        for _ in 0..most {
            let Some(entry) = self.driver.take_to_send()? else { break };
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
        Ok(())
    }

    fn step(&mut self, from_device: &Event) -> Result<(), tessera_rings::Broken> {
        self.give(usize::MAX)?;
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
        Ok(())
    }
}
