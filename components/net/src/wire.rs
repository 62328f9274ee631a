//! The device's side of the component: rings in memory that is shared with the driver.
//!
//! Rings and buffers outlive the driver. What the driver writes into the rings is checked by `tessera-rings`; when it breaks their rules the port is
//! broken: it carries nothing until it is begun anew.

use alloc::boxed::Box;
use alloc::sync::Arc;

use smoltcp::phy::{Checksum, ChecksumCapabilities};
use tessera_interfaces::{NetDevice, NetDeviceError, NetInformation, NetPump, offloads};
use tessera_rings::{BUFFER, Client as Rings, FRAME, doorbell};
use tessera_runtime::object::{Access, Event, Vmo};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{Cap, Mapping, Object, own};

use crate::stack::{Arrived, Cuts, Device, Offload, Port};

/// The memory and events shared with the driver, to be passed to each instance of it.
pub struct Shared {
    buffers: Vmo,
    rings: Vmo,
    to_device: Arc<Event>,
    from_device: Arc<Event>,
    pump: Pump,
}

/// What moves the frames of a device in this domain, when one is attached. The driver's thread does where there is none.
type Pump = Arc<Mutex<Option<Cap<dyn NetPump>>>>;

/// The stack's port over the rings.
struct RingPort {
    rings: Rings,
    to_device: Arc<Event>,
    from_device: Arc<Event>,
    pump: Pump,
    /// The pump was run since there was nothing to receive.
    has_pumped: bool,
    /// Since the last flush.
    has_sent: bool,
    broken: bool,
}

impl Shared {
    /// Makes memory for so many frames; `from_device` is what the driver raises.
    pub fn new(buffers: u32, from_device: Arc<Event>) -> tessera_runtime::Result<(Shared, Box<dyn Port>)> {
        let pool = own::pool();
        let buffer_bytes = u64::from(buffers) * BUFFER as u64;
        let ring_bytes = Rings::ring_bytes(buffers) as u64;
        let memory = Vmo::create(&pool, buffer_bytes)?;
        let rings = Vmo::create(&pool, ring_bytes)?;
        let map = |vmo: &Vmo, bytes| Ok(Mapping::new(vmo, 0, bytes, Access::Write)?.into_memory());
        let ends = Rings::new(map(&memory, buffer_bytes)?, map(&rings, ring_bytes)?);
        let ends = ends.map_err(|_| tessera_runtime::Error::BadArgument)?;
        let to_device = Arc::new(Event::create(&pool)?);
        let pump = Pump::default();
        let port = RingPort {
            rings: ends,
            to_device: to_device.clone(),
            from_device: from_device.clone(),
            pump: pump.clone(),
            has_pumped: false,
            has_sent: false,
            broken: false,
        };
        Ok((Shared { buffers: memory, rings, to_device, from_device, pump }, Box::new(port)))
    }

    /// Gives all of it to a driver.
    pub fn attach(&self, device: &Cap<dyn NetDevice>) -> Result<(), NetDeviceError> {
        let failed = |_| NetDeviceError::LimitReached;
        let buffers = || self.buffers.try_clone().map_err(failed);
        let rings = || self.rings.try_clone().map_err(failed);
        let from_device = || self.from_device.try_clone().map_err(failed);
        *self.pump.lock() = None;
        if !device.is_remote()
            && let Ok(pump) = device.attach_here(buffers()?, rings()?, from_device()?)
        {
            *self.pump.lock() = Some(pump);
            return Ok(());
        }
        device.attach(buffers()?, rings()?, self.to_device.try_clone().map_err(failed)?, from_device()?)
    }
}

/// What the stack has to know of a device.
pub fn device(information: &NetInformation) -> Device {
    let has = |bit| information.offloads & bit != 0;
    let transport = match (has(offloads::SEND_CHECKSUM), has(offloads::RECEIVE_CHECKSUM)) {
        (false, false) => Checksum::Both,
        (true, false) => Checksum::Rx,
        (false, true) => Checksum::Tx,
        (true, true) => Checksum::None,
    };
    let mut checksums = ChecksumCapabilities::default();
    checksums.tcp = transport;
    checksums.udp = transport;
    Device {
        hardware: information.mac,
        mtu: information.mtu.min(tessera_rings::FRAME as u16 - 14),
        checksums,
        cuts: Cuts { v4: has(offloads::SEGMENT_TCP4), v6: has(offloads::SEGMENT_TCP6) },
        receives_large: has(offloads::RECEIVE_LARGE),
    }
}

impl RingPort {
    /// What the rings answer, or that they are broken.
    fn check<T>(&mut self, outcome: Result<T, tessera_rings::Broken>, otherwise: T) -> T {
        outcome.unwrap_or_else(|_| {
            self.broken = true;
            otherwise
        })
    }

    /// Lets the pump act, if there is one.
    fn pump<T>(&mut self, act: impl FnOnce(&dyn NetPump) -> Result<T, NetDeviceError>) -> Option<T> {
        let outcome = act(&**self.pump.lock().as_ref()?);
        self.broken |= outcome.is_err();
        outcome.ok()
    }
}

impl Port for RingPort {
    fn receive(&mut self, into: &mut [u8]) -> Option<Arrived> {
        if self.broken {
            return None;
        }
        let received = self.rings.receive(into);
        let mut received = self.check(received, None);
        // Once for all that has come: what comes meanwhile is found before anybody sleeps.
        if received.is_none() && !self.has_pumped && self.pump(NetPump::run).is_some() {
            self.has_pumped = true;
            let after = self.rings.receive(into);
            received = self.check(after, None);
        }
        self.has_pumped &= received.is_some();
        let received = received?;
        Some(Arrived { length: received.length, checked: received.checksum_is_right })
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        if self.broken {
            return false;
        }
        // A frame for each buffer is the worst.
        let room = self.rings.room(bytes.div_ceil(FRAME));
        self.check(room, 0) >= bytes
    }

    fn send(&mut self, frame: &[u8], offload: Offload) -> bool {
        if self.broken {
            return false;
        }
        let offload = tessera_rings::Offload { checksum: offload.checksum, segment: offload.segment };
        let sent = self.rings.send(frame, offload);
        let sent = self.check(sent, false);
        self.has_sent |= sent;
        sent
    }

    fn flush(&mut self) {
        if self.broken {
            return;
        }
        let (is_asleep, has_sent) = (self.rings.publish(), core::mem::take(&mut self.has_sent));
        let given = self.pump.lock().as_ref().map(|pump| if has_sent { pump.send() } else { Ok(true) });
        match given {
            Some(Ok(true)) => {}
            // Whoever drives the stack looks after the rest.
            Some(Ok(false)) => drop(self.from_device.raise(doorbell::FROM_DEVICE)),
            Some(Err(_)) => self.broken = true,
            None if is_asleep => drop(self.to_device.raise(doorbell::TO_DEVICE)),
            None => {}
        }
    }

    fn sleep(&mut self, wants_room: bool) -> bool {
        if self.broken {
            return true;
        }
        let quiet = self.rings.sleep(wants_room);
        let quiet = self.check(quiet, true) && self.pump(NetPump::sleep) != Some(false);
        if !quiet {
            self.rings.wake();
        }
        quiet
    }

    fn wake(&mut self) {
        self.rings.wake();
        self.pump(NetPump::wake);
    }

    fn is_broken(&self) -> bool {
        self.broken
    }

    fn restart(&mut self) {
        self.broken = self.rings.restart().is_err();
    }
}
