//! Devices as buses hand them to their drivers: what one is, its registers, its interrupts.

use tessera_runtime::object::{Dma, Interrupt, Mmio};
use tessera_runtime::{InterfaceError, Plain, TransportError, interface};

/// One device on a bus. Whoever holds it can drive this device and no other.
#[interface]
pub trait Device {
    /// What it is.
    fn identity(&self) -> Result<Identity, DeviceError>;

    /// Reads the device's configuration space at `offset` (bytes, a multiple of the width).
    fn configuration_read(&self, offset: u32, width: Width) -> Result<u32, DeviceError>;

    /// Writes the device's configuration space. What would give the device another place on the bus is refused.
    fn configuration_write(&self, offset: u32, width: Width, value: u32) -> Result<(), DeviceError>;

    /// The pages in which register window `window` (PCI: base address register) lies, the offset of its first byte in them, and its
    /// length, in bytes. A 64-bit window has the number of its lower half.
    fn registers(&self, window: u32) -> Result<(Mmio, u64, u64), DeviceError>;

    /// Interrupt `index` of the device.
    fn interrupt(&self, index: u32) -> Result<Interrupt, DeviceError>;

    /// The memory that this device reaches by itself: what is pinned through it stays until the device was reset.
    fn dma(&self) -> Result<Dma, DeviceError>;

    /// Ends everything that the device does, its access to memory first. Answered when it has stopped.
    fn reset(&self) -> Result<(), DeviceError>;
}

/// What a client gets whose device the machine does not have: it can find that out, and report it.
pub struct AbsentDevice;

impl Device for AbsentDevice {
    fn identity(&self) -> Result<Identity, DeviceError> {
        Err(DeviceError::NotFound)
    }
    fn configuration_read(&self, _offset: u32, _width: Width) -> Result<u32, DeviceError> {
        Err(DeviceError::NotFound)
    }
    fn configuration_write(&self, _offset: u32, _width: Width, _value: u32) -> Result<(), DeviceError> {
        Err(DeviceError::NotFound)
    }
    fn registers(&self, _window: u32) -> Result<(Mmio, u64, u64), DeviceError> {
        Err(DeviceError::NotFound)
    }
    fn interrupt(&self, _index: u32) -> Result<Interrupt, DeviceError> {
        Err(DeviceError::NotFound)
    }
    fn dma(&self) -> Result<Dma, DeviceError> {
        Err(DeviceError::NotFound)
    }
    fn reset(&self) -> Result<(), DeviceError> {
        Err(DeviceError::NotFound)
    }
}

/// What a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Identity {
    /// Who made it: the PCI vendor number, or that of the virtio register window.
    pub vendor: u16,
    /// What it is: the PCI device number; over virtio-mmio the virtio device number.
    pub device: u16,
    /// PCI class, subclass and programming interface, from the third byte down; 0 elsewhere.
    pub class: u32,
    /// The subsystem's vendor; 0 where there is none.
    pub subsystem_vendor: u16,
    /// The subsystem; 0 where there is none.
    pub subsystem: u16,
    /// The revision.
    pub revision: u8,
    /// Its place on its bus: PCI bus, device and function in the lower 16 bits, the segment above; over MMIO the window's number.
    pub place: u32,
    /// How many interrupts it has.
    pub interrupts: u32,
}

/// How many bytes are accessed at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub enum Width {
    /// One byte.
    One = 1,
    /// Two bytes.
    Two = 2,
    /// Four bytes.
    Four = 4,
}

/// Why a bus refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum DeviceError {
    /// The device has no such window, interrupt or register.
    NotFound,
    /// The offset is not a multiple of the width.
    Misaligned,
    /// The driver may not change this.
    Refused,
    /// The device is gone, or did not stop.
    Device,
    /// The device does not do this.
    NotSupported,
    /// The pool is used up.
    LimitReached,
    /// The call did not reach the object, or its answer did not come back.
    Transport(TransportError),
}

impl From<tessera_runtime::Error> for DeviceError {
    /// What the kernel refused a bus.
    fn from(error: tessera_runtime::Error) -> DeviceError {
        match error {
            tessera_runtime::Error::NoQuota => DeviceError::LimitReached,
            _ => DeviceError::Device,
        }
    }
}
