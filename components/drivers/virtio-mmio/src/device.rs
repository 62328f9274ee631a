//! One device as its driver sees it.

use alloc::sync::Arc;

use tessera_interfaces::{Cap, Device, DeviceError, Identity, Keeper, Width};
use tessera_runtime::abi::PAGE;
use tessera_runtime::object::{Dma, Interrupt, Mmio as Pages};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{Object, Rights, Window, own};
use tessera_virtio::{Mmio, Transport};

use crate::SLOT;

/// What the bus holds for all devices.
pub struct Authority {
    /// The memory with the slots, from [`crate::BASE`] on.
    pub registers: Pages,
    /// The lines.
    pub interrupts: Interrupt,
    /// Memory that devices reach by themselves.
    pub dma: Dma,
    /// Who holds that memory too, until the device was reset: this process and the driver's may end at the same moment.
    pub keeper: Cap<dyn Keeper>,
}

/// A device in a slot.
pub struct MmioDevice {
    authority: Arc<Authority>,
    transport: Mmio<Window>,
    slot: usize,
    line: u64,
    /// The memory that the device was let reach. Dropped after a reset only.
    dma: Mutex<Option<Dma>>,
}

impl MmioDevice {
    pub(crate) fn new(authority: Arc<Authority>, transport: Mmio<Window>, slot: usize, line: u64) -> Self {
        let device = MmioDevice { authority, transport, slot, line, dma: Mutex::new(None) };
        // One that does not stop is told to again before anybody gets it.
        let _ = device.stop(&mut device.dma.lock());
        device
    }

    /// Its slot's number.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Its registers.
    pub fn transport(&self) -> &dyn Transport {
        &self.transport
    }

    /// Ends what the device does (Virtio 2.4.1), then lets go of the memory that it reached.
    fn stop(&self, dma: &mut Option<Dma>) -> Result<(), DeviceError> {
        const PATIENCE: u32 = 100_000;
        self.transport.set_status(0);
        if !(0..PATIENCE).any(|_| self.transport.status() == 0) {
            // The memory stays held: better lost than somebody else's.
            return Err(DeviceError::Device);
        }
        if let Some(dma) = dma.take() {
            let _ = dma.revoke();
        }
        // Also what an instance of the bus before this one had it keep. If it cannot be told it keeps on.
        let _ = self.authority.keeper.release(self.keeping());
        Ok(())
    }

    /// The keeper's number for the device: where its registers are.
    fn keeping(&self) -> u64 {
        crate::BASE.saturating_add(self.slot.saturating_mul(SLOT) as u64)
    }
}

impl Device for MmioDevice {
    fn identity(&self) -> Result<Identity, DeviceError> {
        Ok(Identity {
            vendor: 0,
            device: self.transport.device_type() as u16,
            class: 0,
            subsystem_vendor: 0,
            subsystem: 0,
            revision: 0,
            place: self.slot as u32,
            interrupts: 1,
        })
    }

    fn configuration_read(&self, _offset: u32, _width: Width) -> Result<u32, DeviceError> {
        Err(DeviceError::NotSupported)
    }

    fn configuration_write(&self, _offset: u32, _width: Width, _value: u32) -> Result<(), DeviceError> {
        Err(DeviceError::NotSupported)
    }

    fn registers(&self, window: u32) -> Result<(Pages, u64, u64), DeviceError> {
        if window != 0 {
            return Err(DeviceError::NotFound);
        }
        let offset = self.slot.saturating_mul(SLOT) as u64;
        let inside = offset % PAGE;
        let start = offset.saturating_sub(inside);
        let base = crate::BASE.saturating_add(start);
        let pages = self.authority.registers.narrow(&own::pool(), base, PAGE)?;
        Ok((pages, inside, SLOT as u64))
    }

    fn interrupt(&self, index: u32) -> Result<Interrupt, DeviceError> {
        if index != 0 {
            return Err(DeviceError::NotFound);
        }
        Ok(self.authority.interrupts.narrow(&own::pool(), self.line, 1)?)
    }

    fn dma(&self) -> Result<Dma, DeviceError> {
        let mut held = self.dma.lock();
        // A driver that begins anew must not find its predecessor's memory still within the device's reach.
        self.stop(&mut held)?;
        let dma = self.authority.dma.create_for_none(&own::pool())?;
        let lent = dma.duplicate(Rights::MAP | Rights::TRANSFER)?;
        let kept = dma.duplicate(Rights::TRANSFER)?;
        self.authority.keeper.keep(self.keeping(), kept).map_err(|_| DeviceError::Device)?;
        *held = Some(dma);
        Ok(lent)
    }

    fn reset(&self) -> Result<(), DeviceError> {
        self.stop(&mut self.dma.lock())
    }
}
