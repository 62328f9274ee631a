//! Virtio over PCI (Virtio 4.1): the capabilities that say where a device's registers are, and the registers.

use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_memory::Registers;

use crate::{MOST, QueueAddresses, Transport};

/// A device's configuration space, by byte offset (PCI Local Bus Specification 3.0, section 6.1).
pub trait Configuration {
    /// Reads one byte.
    fn read_8(&self, offset: u16) -> u8;
    /// Reads four bytes.
    fn read_32(&self, offset: u16) -> u32;
}

/// Registers somewhere in one of the device's memory windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which base address register.
    pub window: u8,
    /// Where in it, in bytes.
    pub offset: u32,
    /// How many bytes.
    pub length: u32,
}

/// Where a device's structures are (Virtio 4.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The common configuration.
    pub common: Place,
    /// The notification registers.
    pub notify: Place,
    /// Bytes from one queue's notification register to the next.
    pub notify_multiplier: u32,
    /// The interrupt status.
    pub interrupt_status: Place,
    /// The device-specific configuration; kinds that have none need not have it.
    pub device: Option<Place>,
}

/// Vendor of all virtio devices, and the first device number of those of version 1 (Virtio 4.1.2).
const VENDOR: u16 = 0x1af4;
const FIRST_DEVICE: u16 = 0x1040;

/// The virtio device type behind a PCI vendor and device number; none if it is another device or a legacy one.
pub fn device_type(vendor: u16, device: u16) -> Option<u32> {
    (vendor == VENDOR).then_some(())?;
    device.checked_sub(FIRST_DEVICE).filter(|number| *number > 0 && *number < 0x40).map(u32::from)
}

/// Finds a virtio device's structures; none if one that is needed is missing. Takes the first of each kind that can be used
/// (Virtio 4.1.4.1).
pub fn parse(space: &dyn Configuration) -> Option<Capabilities> {
    const VENDOR_SPECIFIC: u8 = 0x09;
    let (mut common, mut notify, mut multiplier, mut status, mut device) = (None, None, 0, None, None);
    // The status register says whether there is a list; it has at most 48 members, and could be a circle.
    if space.read_32(0x04) >> 20 & 1 == 0 {
        return None;
    }
    let mut at = u16::from(space.read_8(0x34) & 0xfc);
    for _ in 0..48 {
        if at < 0x40 {
            break;
        }
        let head = space.read_32(at);
        let read = |offset: u16| space.read_32(at.saturating_add(offset));
        // Past the end of the configuration space there is nothing to be had.
        if head as u8 == VENDOR_SPECIFIC && at <= 0x100 - 20 {
            let place = Place { window: read(4) as u8, offset: read(8), length: read(12) };
            if place.window <= 5 {
                match (head >> 24) as u8 {
                    1 => common = common.or(Some(place)),
                    2 if notify.is_none() => (notify, multiplier) = (Some(place), read(16)),
                    3 => status = status.or(Some(place)),
                    4 => device = device.or(Some(place)),
                    _ => {}
                }
            }
        }
        at = u16::from((head >> 8) as u8 & 0xfc);
    }
    Some(Capabilities {
        common: common.filter(|place| place.length >= 56)?,
        notify: notify.filter(|place| place.length >= 2)?,
        notify_multiplier: multiplier,
        interrupt_status: status.filter(|place| place.length >= 1)?,
        device,
    })
}

/// Offsets in the common configuration (Virtio 4.1.4.3).
const DEVICE_FEATURE_SELECT: usize = 0;
const DEVICE_FEATURE: usize = 4;
const DRIVER_FEATURE_SELECT: usize = 8;
const DRIVER_FEATURE: usize = 12;
const CONFIGURATION_VECTOR: usize = 16;
const DEVICE_STATUS: usize = 20;
const CONFIGURATION_GENERATION: usize = 21;
const QUEUE_SELECT: usize = 22;
const QUEUE_SIZE: usize = 24;
const QUEUE_VECTOR: usize = 26;
const QUEUE_ENABLE: usize = 28;
const QUEUE_NOTIFY_OFFSET: usize = 30;
const QUEUE_DESCRIPTORS: usize = 32;
const QUEUE_DRIVER: usize = 40;
const QUEUE_DEVICE: usize = 48;

/// No interrupt vector (Virtio 4.1.5.1.2).
const NO_VECTOR: u16 = 0xffff;
/// Queues whose notification register is looked up once.
const QUEUES: u16 = 8;

/// A device behind PCI.
pub struct Pci {
    device_type: u32,
    common: Arc<dyn Registers>,
    notify: Arc<dyn Registers>,
    interrupt_status: Arc<dyn Registers>,
    device: Option<Arc<dyn Registers>>,
    /// Where each queue's notification register is.
    notify_places: Vec<usize>,
    /// Whether interrupts are messages. On a line, vectors must not be set.
    messages: bool,
}

impl Pci {
    /// A device of `device_type` whose structures are at `places`; `window` gives the registers of a place, or none if there are none. Its
    /// interrupts are `messages` (MSI-X), or come on a line.
    pub fn new(
        device_type: u32,
        places: &Capabilities,
        messages: bool,
        mut window: impl FnMut(Place) -> Option<Arc<dyn Registers>>,
    ) -> Option<Pci> {
        let common = window(places.common)?;
        let notify = window(places.notify)?;
        let notify_places = (0..QUEUES).map(|queue| {
            common.write_16(QUEUE_SELECT, queue);
            let number = usize::from(common.read_16(QUEUE_NOTIFY_OFFSET));
            // A place outside of the window is one where nothing answers.
            number.saturating_mul(places.notify_multiplier as usize)
        });
        let notify_places = notify_places.collect();
        let interrupt_status = window(places.interrupt_status)?;
        let device = places.device.and_then(window);
        Some(Pci { device_type, common, notify, interrupt_status, device, notify_places, messages })
    }

    fn write_64(&self, offset: usize, value: u64) {
        self.common.write_32(offset, value as u32);
        self.common.write_32(offset.saturating_add(4), (value >> 32) as u32);
    }
}

impl Transport for Pci {
    fn device_type(&self) -> u32 {
        self.device_type
    }

    fn status(&self) -> u8 {
        self.common.read_8(DEVICE_STATUS)
    }

    fn set_status(&self, status: u8) {
        self.common.write_8(DEVICE_STATUS, status);
    }

    fn features(&self) -> u64 {
        let half = |select: u32| {
            self.common.write_32(DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read_32(DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn set_features(&self, features: u64) {
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.common.write_32(DRIVER_FEATURE_SELECT, select);
            self.common.write_32(DRIVER_FEATURE, half);
        }
    }

    fn queue_limit(&self, queue: u16) -> u16 {
        self.common.write_16(QUEUE_SELECT, queue);
        self.common.read_16(QUEUE_SIZE)
    }

    fn set_queue(&self, queue: u16, size: u16, addresses: QueueAddresses, vector: u16) -> bool {
        if size > MOST {
            return false;
        }
        if self.messages {
            self.common.write_16(CONFIGURATION_VECTOR, NO_VECTOR);
        }
        self.common.write_16(QUEUE_SELECT, queue);
        self.common.write_16(QUEUE_SIZE, size);
        if self.messages {
            self.common.write_16(QUEUE_VECTOR, vector);
            // A device that has no room for the vector says so here (Virtio 4.1.5.1.2.1).
            if self.common.read_16(QUEUE_VECTOR) != vector {
                return false;
            }
        }
        self.write_64(QUEUE_DESCRIPTORS, addresses.descriptors);
        self.write_64(QUEUE_DRIVER, addresses.available);
        self.write_64(QUEUE_DEVICE, addresses.used);
        self.common.write_16(QUEUE_ENABLE, 1);
        self.common.read_16(QUEUE_ENABLE) == 1
    }

    fn notify(&self, queue: u16) {
        if let Some(place) = self.notify_places.get(usize::from(queue)) {
            self.notify.write_16(*place, queue);
        }
    }

    fn interrupt_status(&self) -> u8 {
        // Reading acknowledges (Virtio 4.1.4.5).
        self.interrupt_status.read_8(0)
    }

    fn configuration_generation(&self) -> u32 {
        self.common.read_8(CONFIGURATION_GENERATION).into()
    }

    fn configuration_8(&self, offset: usize) -> u8 {
        self.device.as_ref().map_or(u8::MAX, |registers| registers.read_8(offset))
    }

    fn configuration_32(&self, offset: usize) -> u32 {
        self.device.as_ref().map_or(u32::MAX, |registers| registers.read_32(offset))
    }

    fn set_configuration_32(&self, offset: usize, value: u32) {
        if let Some(registers) = &self.device {
            registers.write_32(offset, value);
        }
    }
}

impl core::fmt::Debug for Pci {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "a virtio device of type {} on PCI", self.device_type)
    }
}
