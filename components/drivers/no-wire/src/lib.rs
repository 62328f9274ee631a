//! A network device that is not there: the stack that uses it speaks with its own machine only.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;

use tessera_interfaces::{Cap, NetDevice, NetDeviceError, NetInformation, NetPump};
use tessera_runtime::component::{Context, StartError};
use tessera_runtime::object::{Event, Vmo};

/// The component.
#[derive(Debug)]
pub struct NoWire;

impl NoWire {
    /// Constructs it.
    pub fn new(_context: Context) -> Result<Arc<NoWire>, StartError> {
        Ok(Arc::new(NoWire))
    }
}

impl NetDevice for NoWire {
    fn information(&self) -> Result<NetInformation, NetDeviceError> {
        Err(NetDeviceError::Device)
    }

    fn attach(&self, _: Vmo, _: Vmo, _: Event, _: Event) -> Result<(), NetDeviceError> {
        Err(NetDeviceError::Device)
    }

    fn attach_here(&self, _: Vmo, _: Vmo, _: Event) -> Result<Cap<dyn NetPump>, NetDeviceError> {
        Err(NetDeviceError::Device)
    }
}
