//! Driver of virtio entropy sources (Virtio 1.2, section 5.4).
//!
//! One request at a time: the device writes random bytes into memory of the driver, which are copied to the client and then wiped. How random they
//! are is the device's word, which nobody can check. A device that does not keep to the rules is started anew.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod source;

use alloc::sync::Arc;

use tessera_interfaces::{Cap, Device, Entropy, EntropyError};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::Event;
use tessera_runtime::sync::Mutex;
use tessera_runtime::{log, own};
use tessera_virtio::device_type::ENTROPY;
use tessera_virtio::{PAGE, feature};
use tessera_virtio_driver::{AttachError, Attached, end_with_bus};

pub use source::{Failure, INTERRUPT, Source};

/// The most bytes of one request of a client.
pub const MOST: usize = 64 << 10;

/// What it uses.
pub struct Uses {
    /// The device, which it alone drives.
    pub device: Route<dyn Device>,
}

/// A virtio entropy source.
pub struct VirtioRng {
    device: Cap<dyn Device>,
    source: Mutex<Source<Attached>>,
}

/// Takes the device over and starts it.
fn open(device: &Cap<dyn Device>) -> Result<Source<Attached>, AttachError> {
    let attached = Attached::new(device)?;
    let event = Event::create(&own::pool())?;
    let memory = attached.memory(PAGE)?;
    let configured = attached.start::<1>(ENTROPY, feature::EVENT_INDEX, 8, &event, INTERRUPT)?;
    let [queue] = configured.queues;
    Ok(Source::new(attached, queue, event, memory))
}

impl VirtioRng {
    /// Starts the device.
    pub fn new(_context: Context, uses: Uses) -> Result<Arc<VirtioRng>, StartError> {
        end_with_bus(&uses.device)?;
        Ok(Arc::new(VirtioRng::open(uses.device.cap)?))
    }

    /// Starts a device.
    pub fn open(device: Cap<dyn Device>) -> Result<VirtioRng, AttachError> {
        let source = Mutex::new(open(&device)?);
        Ok(VirtioRng { device, source })
    }
}

impl Entropy for VirtioRng {
    fn fill(&self, into: &mut [u8]) -> Result<(), EntropyError> {
        if into.len() > MOST {
            return Err(EntropyError::TooMany);
        }
        let mut source = self.source.lock();
        if source.fill(into).is_ok() {
            return Ok(());
        }
        log!("the entropy source does not answer by the rules; starting it anew");
        *source = open(&self.device).map_err(|error| {
            log!("the entropy source cannot be started: {error}");
            EntropyError::Device
        })?;
        source.fill(into).map_err(|_| EntropyError::Device)
    }
}
