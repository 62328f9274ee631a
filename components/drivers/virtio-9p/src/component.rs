//! The component: a device, and the root of what it serves.

use alloc::boxed::Box;
use alloc::sync::Arc;

use tessera_interfaces::{Device, DeviceError, FileError, Node};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::Event;
use tessera_runtime::{log, own};
use tessera_virtio::device_type::FILES;
use tessera_virtio::feature;
use tessera_virtio_driver::{AttachError, Attached, end_with_bus};

use crate::file::{Absent, File};
use crate::session::Session;
use crate::transport::{INTERRUPT, Transport};

/// What it uses.
pub struct Uses {
    /// The device, which it alone drives.
    pub device: Route<dyn Device>,
}

/// A virtio 9P device.
pub struct Virtio9p {
    root: Arc<dyn Node>,
}

impl Virtio9p {
    /// Starts the device. Where there is none, every call is answered with [`FileError::NotSupported`].
    pub fn new(context: Context, uses: Uses) -> Result<Arc<Virtio9p>, StartError> {
        end_with_bus(&uses.device)?;
        let attached = match Attached::new(&uses.device.cap) {
            Err(AttachError::Bus(DeviceError::NotFound)) => return Ok(Arc::new(Virtio9p { root: Arc::new(Absent) })),
            attached => attached?,
        };
        let is_read_only = context.arguments().any(|argument| argument == "read-only");
        let event = Event::create(&own::pool())?;
        let memory = attached.memory(Transport::<Attached>::MEMORY)?;
        let configured = attached.start::<1>(FILES, feature::EVENT_INDEX, 128, &event, INTERRUPT)?;
        let [queue] = configured.queues;
        let transport = Transport::new(attached, queue, event, memory);
        let root = Session::begin(Box::new(transport)).and_then(|root| File::root(root, is_read_only));
        let root = root.map_err(|error: FileError| {
            log!("virtio-9p: the server does not let itself be used: {error:?}");
            StartError::from(error)
        })?;
        Ok(Arc::new(Virtio9p { root: Arc::new(root) }))
    }

    /// The root of the files.
    pub fn root(&self) -> Arc<dyn Node> {
        self.root.clone()
    }
}
