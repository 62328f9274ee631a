//! A device that is not there.

use tessera_interfaces::{Device, DeviceError, Identity, Width};
use tessera_runtime::object::{Dma, Interrupt, Mmio};

/// What a client gets whose device the machine does not have: it can find that out, and report it.
pub struct Absent;

impl Device for Absent {
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
