//! The component: one client at a time, and a thread that moves its frames.

use alloc::sync::Arc;

use tessera_interfaces::{Cap, Device, NetDevice, NetDeviceError, NetInformation};
use tessera_rings::{Driver, doorbell};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::{Access, Event, Vmo};
use tessera_runtime::sync::Mutex;
use tessera_runtime::thread::JoinHandle;
use tessera_runtime::{Mapping, log, own, thread};
use tessera_virtio::device_type::NETWORK;
use tessera_virtio_driver::{AttachError, Attached, Link, end_with_bus};

use crate::{Card, Pump, wanted};

/// Descriptors of each queue.
const SIZE: u16 = 256;
/// Bits of the client's `to_device` event that are the driver's own. A client that raises them only makes the driver look.
const INTERRUPT: u64 = 1 << 62;
const STOP: u64 = 1 << 63;

/// What it uses.
pub struct Uses {
    /// The card, which it alone drives.
    pub device: Route<dyn Device>,
}

/// A virtio network card.
pub struct VirtioNet {
    device: Cap<dyn Device>,
    information: NetInformation,
    attached: Mutex<Option<Attachment>>,
}

/// The thread of the client that is attached.
struct Attachment {
    bell: Arc<Event>,
    stop: Arc<Mutex<bool>>,
    thread: JoinHandle<()>,
}

impl VirtioNet {
    /// Looks at the card. It is started when somebody attaches.
    pub fn new(_context: Context, uses: Uses) -> Result<Arc<VirtioNet>, StartError> {
        end_with_bus(&uses.device)?;
        Ok(Arc::new(VirtioNet::open(uses.device.cap)?))
    }

    /// Looks at a card.
    pub fn open(device: Cap<dyn Device>) -> Result<VirtioNet, AttachError> {
        let attached = Attached::new(&device)?;
        let event = Event::create(&own::pool())?;
        let configured =
            attached.start::<2>(NETWORK, wanted(attached.transport().features()), SIZE, &event, INTERRUPT)?;
        let card = Card::read(attached.transport(), configured.features)
            .map_err(|misbehaved| AttachError::Start(misbehaved.into()))?;
        device.reset()?;
        Ok(VirtioNet { device, information: card.information, attached: Mutex::new(None) })
    }

    /// Starts the card for a client.
    fn begin(&self, buffers: &Vmo, rings: &Vmo, bell: Arc<Event>, client: Event) -> Result<Attachment, Refusal> {
        let ring_bytes = rings.size().map_err(AttachError::Kernel)?;
        let buffer_bytes = buffers.size().map_err(AttachError::Kernel)?;
        let rings = Mapping::populated(rings, 0, ring_bytes, Access::Write).map_err(AttachError::Kernel)?;
        let rings = Driver::new(&rings.into_memory(), buffer_bytes).map_err(|_| Refusal::Layout)?;
        // This resets the card: the former client's buffers are out of its reach from here on.
        let card = Attached::new(&self.device)?;
        let buffers = card.share(buffers, buffer_bytes)?;
        let configured = card.start::<2>(NETWORK, wanted(card.transport().features()), SIZE, &bell, INTERRUPT)?;
        let read = Card::read(card.transport(), configured.features);
        let merges = read.map_err(|misbehaved| AttachError::Start(misbehaved.into()))?.merges;
        let pump = Pump::new(card, configured.queues, rings, buffers, merges);
        let stop = Arc::new(Mutex::new(false));
        let (its_bell, its_stop) = (bell.clone(), stop.clone());
        let thread = thread::spawn(move || serve(pump, &its_bell, &client, &its_stop)).map_err(AttachError::Kernel)?;
        Ok(Attachment { bell, stop, thread })
    }
}

/// Why nobody could be attached.
enum Refusal {
    /// The rings are no rings.
    Layout,
    /// The card, its bus or the kernel refused.
    Attach(AttachError),
}

impl From<AttachError> for Refusal {
    fn from(error: AttachError) -> Refusal {
        Refusal::Attach(error)
    }
}

/// Moves frames until it is told to stop or one of the sides breaks the rules.
fn serve(mut pump: Pump<Attached>, bell: &Event, client: &Event, stop: &Mutex<bool>) {
    let outcome = loop {
        match pump.run() {
            Ok(true) => {
                let _ = client.raise(doorbell::FROM_DEVICE);
            }
            Ok(false) => {}
            Err(reason) => break reason,
        }
        match pump.sleep() {
            Ok(true) => {}
            Ok(false) => continue,
            Err(reason) => break reason,
        }
        let Ok(raised) = bell.wait(doorbell::TO_DEVICE | INTERRUPT | STOP) else { return };
        if raised & STOP != 0 && *stop.lock() {
            return;
        }
        if raised & INTERRUPT != 0 {
            pump.link().acknowledge();
        }
        pump.wake();
    };
    log!("the attachment has ended: {outcome:?}");
    let _ = client.raise(doorbell::ENDED);
}

impl NetDevice for VirtioNet {
    fn information(&self) -> Result<NetInformation, NetDeviceError> {
        Ok(self.information)
    }

    fn attach(&self, buffers: Vmo, rings: Vmo, to_device: Event, from_device: Event) -> Result<(), NetDeviceError> {
        let mut attached = self.attached.lock();
        if let Some(before) = attached.take() {
            *before.stop.lock() = true;
            let _ = before.bell.raise(STOP);
            before.thread.join();
            // It ended on its own, or just now; nobody else uses the card.
            let _ = self.device.reset();
        }
        match self.begin(&buffers, &rings, Arc::new(to_device), from_device) {
            Ok(new) => {
                *attached = Some(new);
                Ok(())
            }
            Err(refusal) => {
                let _ = self.device.reset();
                Err(match refusal {
                    Refusal::Layout => NetDeviceError::BadLayout,
                    Refusal::Attach(AttachError::Kernel(tessera_runtime::Error::NoQuota)) => {
                        NetDeviceError::LimitReached
                    }
                    Refusal::Attach(error) => {
                        log!("the card cannot be started: {error}");
                        NetDeviceError::Device
                    }
                })
            }
        }
    }
}
