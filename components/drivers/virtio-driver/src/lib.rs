//! From a `Cap<dyn Device>` to a running virtio device: what all drivers of virtio devices do before they do anything of their own.
//!
//! Asks the bus for the device's registers, its interrupt and memory that it reaches. Asking for that memory makes the
//! bus reset the device first, so whatever a former driver left behind is over ([`Device::dma`](tessera_interfaces::Device::dma)).
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use tessera_interfaces::{Cap, Device, DeviceError, Width};
use tessera_runtime::abi::PAGE;
use tessera_runtime::component::{Route, StartError as ComponentError};
use tessera_runtime::object::{Access, Dma, Event, Interrupt, Vmo};
use tessera_runtime::{Mapping, Registers, Window, exit, log, own, thread};
use tessera_virtio::{
    Configuration, Configured, DmaMemory, Layout, Mmio, Pci, Place, StartError, Transport, feature, parse,
    pci_device_type, start,
};

/// Why a device could not be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// The bus refused.
    Bus(DeviceError),
    /// The kernel refused, mostly for want of memory in the pool.
    Kernel(tessera_runtime::Error),
    /// It is no virtio device of version 1.
    NotVirtio,
    /// It takes addresses for the machine's own, and these are an IOMMU's.
    AroundIommu,
    /// The device did not start.
    Start(StartError),
}

impl fmt::Display for AttachError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttachError::Bus(error) => write!(formatter, "the bus refused: {error:?}"),
            AttachError::Kernel(error) => write!(formatter, "{error}"),
            AttachError::NotVirtio => write!(formatter, "this is no virtio device of version 1"),
            AttachError::AroundIommu => {
                write!(formatter, "the device goes around the machine's IOMMU: QEMU wants `iommu_platform=on` for it")
            }
            AttachError::Start(error) => write!(formatter, "the device did not start: {error:?}"),
        }
    }
}

impl From<DeviceError> for AttachError {
    fn from(error: DeviceError) -> AttachError {
        AttachError::Bus(error)
    }
}

impl From<tessera_runtime::Error> for AttachError {
    fn from(error: tessera_runtime::Error) -> AttachError {
        AttachError::Kernel(error)
    }
}

impl From<StartError> for AttachError {
    fn from(error: StartError) -> AttachError {
        AttachError::Start(error)
    }
}

impl From<AttachError> for ComponentError {
    fn from(error: AttachError) -> ComponentError {
        ComponentError::new(error)
    }
}

/// A running device, as its driver's logic uses it. Tests put a model in its place.
pub trait Link: Send + Sync {
    /// Its registers.
    fn transport(&self) -> &dyn Transport;
    /// Lets the device interrupt again. Called after each interrupt, before the queues are looked at.
    fn acknowledge(&self);
}

/// A device whose registers, memory and interrupt this process has.
pub struct Attached {
    transport: Box<dyn Transport>,
    dma: Dma,
    interrupt: Interrupt,
    /// Whether the interrupt is a line, which is masked until it is acknowledged.
    is_line: bool,
}

/// Ends this process when the bus was started anew: it has then stopped the device, and only a driver that begins anew with it
/// is of use. The manager starts that. Does nothing where the bus is in the same domain, or never restarts.
pub fn end_with_bus(device: &Route<dyn Device>) -> Result<(), AttachError> {
    let restarted = device.restarted.clone();
    if restarted.event_and_bit().is_some() {
        thread::spawn(move || {
            if restarted.wait(None).is_ok() {
                log!("the bus was started anew, and so must this driver be");
                exit(1);
            }
        })?;
    }
    Ok(())
}

/// A device's configuration space, through its bus. What cannot be read reads as all ones.
struct Space<'a>(&'a Cap<dyn Device>);

impl Configuration for Space<'_> {
    fn read_8(&self, offset: u16) -> u8 {
        self.0.configuration_read(offset.into(), Width::One).unwrap_or(u32::MAX) as u8
    }

    fn read_32(&self, offset: u16) -> u32 {
        self.0.configuration_read(offset.into(), Width::Four).unwrap_or(u32::MAX)
    }
}

/// Maps a device's register window.
fn window(device: &Cap<dyn Device>, number: u32) -> Result<Window, AttachError> {
    let (pages, inside, length) = device.registers(number)?;
    let bytes = inside.checked_add(length).ok_or(tessera_runtime::Error::BadArgument)?;
    let mapping = Mapping::new(&pages, 0, bytes, Access::Write)?;
    let part = mapping.into_registers().part(inside as usize, length as usize);
    part.ok_or(AttachError::Kernel(tessera_runtime::Error::BadArgument))
}

impl Attached {
    /// Takes a device over. Whatever it did before is over.
    pub fn new(device: &Cap<dyn Device>) -> Result<Attached, AttachError> {
        let identity = device.identity()?;
        let dma = device.dma()?;
        let interrupt = device.interrupt(0)?;
        let on_pci = pci_device_type(identity.vendor, identity.device);
        let transport: Box<dyn Transport> = match on_pci {
            Some(device_type) => {
                let places = parse(&Space(device)).ok_or(AttachError::NotVirtio)?;
                // The structures mostly lie in one window: it is mapped once.
                let mut mapped: Option<(u8, Window)> = None;
                let part = |place: Place| -> Option<Arc<dyn Registers>> {
                    let whole = match &mapped {
                        Some((number, whole)) if *number == place.window => whole.clone(),
                        _ => {
                            let whole = window(device, place.window.into()).ok()?;
                            mapped = Some((place.window, whole.clone()));
                            whole
                        }
                    };
                    Some(Arc::new(whole.part(place.offset as usize, place.length as usize)?))
                };
                Box::new(Pci::new(device_type, &places, true, part).ok_or(AttachError::NotVirtio)?)
            }
            None => Box::new(Mmio::new(window(device, 0)?).ok_or(AttachError::NotVirtio)?),
        };
        // Virtio 1.2, section 6: without this feature it looks into memory at any address that it is told.
        if dma.is_translated()? && transport.features() & feature::ACCESS_PLATFORM == 0 {
            return Err(AttachError::AroundIommu);
        }
        Ok(Attached { transport, dma, interrupt, is_line: on_pci.is_none() })
    }

    /// New memory of some bytes (rounded up to pages, zero) that the device reaches.
    pub fn memory(&self, bytes: usize) -> Result<DmaMemory, AttachError> {
        let vmo = Vmo::create(&own::pool(), bytes as u64)?;
        self.share(&vmo, vmo.size()?)
    }

    /// The first `bytes` bytes of memory that is there already, mapped, and reached by the device from now on.
    pub fn share(&self, vmo: &Vmo, bytes: u64) -> Result<DmaMemory, AttachError> {
        let bytes = bytes.checked_next_multiple_of(PAGE).ok_or(tessera_runtime::Error::BadArgument)?;
        let mut pages = alloc::vec![0; (bytes / PAGE) as usize];
        self.dma.pin(vmo, 0, &mut pages)?;
        let memory = Mapping::new(vmo, 0, bytes, Access::Write)?.into_memory();
        DmaMemory::new(memory, pages).ok_or(AttachError::Kernel(tessera_runtime::Error::BadArgument))
    }

    /// Starts the device with `QUEUES` queues of up to `size` descriptors, and those of the `wanted` features that it has. All queues
    /// use one interrupt, which raises `bits` of `event`.
    pub fn start<const QUEUES: usize>(
        &self,
        device_type: u32,
        wanted: u64,
        size: u16,
        event: &Event,
        bits: u64,
    ) -> Result<Configured<QUEUES>, AttachError> {
        self.interrupt.bind(event, bits)?;
        let memory = self.memory(QUEUES.saturating_mul(Layout::BYTES))?;
        Ok(start(&*self.transport, device_type, wanted, &memory, size, |_| 0)?)
    }

    /// Sends the interrupts to other bits or another event.
    pub fn rebind(&self, event: &Event, bits: u64) -> Result<(), AttachError> {
        Ok(self.interrupt.bind(event, bits)?)
    }
}

impl Link for Attached {
    fn transport(&self) -> &dyn Transport {
        &*self.transport
    }

    fn acknowledge(&self) {
        if self.is_line {
            self.transport.interrupt_status();
            // Refused only if it is not bound, and then it does not fire.
            let _ = self.interrupt.acknowledge();
        }
    }
}
