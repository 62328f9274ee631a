//! The component: one client at a time, and a thread that moves its frames, or none if the client is in the same domain and moves them itself.

use alloc::sync::Arc;

use tessera_interfaces::{Cap, Device, NetDevice, NetDeviceError, NetInformation, NetPump};
use tessera_rings::{Driver, doorbell};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::{Access, Event, Vmo};
use tessera_runtime::sync::Mutex;
use tessera_runtime::thread::JoinHandle;
use tessera_runtime::{Mapping, log, own, thread};
use tessera_virtio::device_type::NETWORK;
use tessera_virtio_driver::{AttachError, Attached, Link, end_with_bus};

use crate::{Card, Ended, Pump, wanted};

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

/// What moves the frames of the client that is attached.
enum Attachment {
    Thread { bell: Arc<Event>, stop: Arc<Mutex<bool>>, thread: JoinHandle<()> },
    Lent(Arc<Lent>),
}

impl Attachment {
    /// Returns when the client's buffers are not touched any more, but by the card.
    fn end(self) {
        match self {
            Attachment::Thread { bell, stop, thread } => {
                *stop.lock() = true;
                let _ = bell.raise(STOP);
                thread.join();
            }
            Attachment::Lent(lent) => *lent.pump.lock() = None,
        }
    }
}

/// A pump that the client runs.
struct Lent {
    /// None when it has ended.
    pump: Mutex<Option<Pump<Attached>>>,
    /// What the card raises.
    _bell: Event,
}

impl Lent {
    fn with<T>(&self, act: impl FnOnce(&mut Pump<Attached>) -> Result<T, Ended>) -> Result<T, NetDeviceError> {
        let mut pump = self.pump.lock();
        match act(pump.as_mut().ok_or(NetDeviceError::Device)?) {
            Ok(outcome) => Ok(outcome),
            Err(reason) => {
                *pump = None;
                log!("the attachment has ended: {reason:?}");
                Err(NetDeviceError::Device)
            }
        }
    }
}

impl NetPump for Lent {
    fn send(&self) -> Result<bool, NetDeviceError> {
        self.with(Pump::send)
    }

    fn run(&self) -> Result<(), NetDeviceError> {
        self.with(|pump| pump.run().map(drop))
    }

    fn sleep(&self) -> Result<bool, NetDeviceError> {
        self.with(Pump::sleep)
    }

    fn wake(&self) -> Result<(), NetDeviceError> {
        self.with(|pump| {
            pump.link().acknowledge();
            pump.wake();
            Ok(())
        })
    }
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

    /// Starts the card for a client, after the one before it has ended. Interrupts raise `bits` of `bell`.
    fn begin(&self, buffers: &Vmo, rings: &Vmo, bell: &Event, bits: u64) -> Result<Pump<Attached>, Refusal> {
        let ring_bytes = rings.size().map_err(AttachError::Kernel)?;
        let buffer_bytes = buffers.size().map_err(AttachError::Kernel)?;
        let rings = Mapping::populated(rings, 0, ring_bytes, Access::Write).map_err(AttachError::Kernel)?;
        let rings = Driver::new(&rings.into_memory(), buffer_bytes).map_err(|_| Refusal::Layout)?;
        // This resets the card: the former client's buffers are out of its reach from here on.
        let card = Attached::new(&self.device)?;
        let buffers = card.share(buffers, buffer_bytes)?;
        let configured = card.start::<2>(NETWORK, wanted(card.transport().features()), SIZE, bell, bits)?;
        let read = Card::read(card.transport(), configured.features);
        let merges = read.map_err(|misbehaved| AttachError::Start(misbehaved.into()))?.merges;
        Ok(Pump::new(card, configured.queues, rings, buffers, merges))
    }

    /// Ends what was attached, and attaches what `begin` makes.
    fn replace<T>(
        &self,
        begin: impl FnOnce(&VirtioNet) -> Result<(Attachment, T), Refusal>,
    ) -> Result<T, NetDeviceError> {
        let mut attached = self.attached.lock();
        if let Some(before) = attached.take() {
            before.end();
            // It ended on its own, or just now; nobody else uses the card.
            let _ = self.device.reset();
        }
        match begin(self) {
            Ok((new, lent)) => {
                *attached = Some(new);
                Ok(lent)
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
        self.replace(|net| {
            let (bell, stop) = (Arc::new(to_device), Arc::new(Mutex::new(false)));
            let pump = net.begin(&buffers, &rings, &bell, INTERRUPT)?;
            let (its_bell, its_stop) = (bell.clone(), stop.clone());
            let thread = thread::spawn(move || serve(pump, &its_bell, &from_device, &its_stop));
            let thread = thread.map_err(AttachError::Kernel)?;
            Ok((Attachment::Thread { bell, stop, thread }, ()))
        })
    }

    fn attach_here(&self, buffers: Vmo, rings: Vmo, from_device: Event) -> Result<Cap<dyn NetPump>, NetDeviceError> {
        self.replace(|net| {
            let pump = net.begin(&buffers, &rings, &from_device, doorbell::FROM_DEVICE)?;
            let lent = Arc::new(Lent { pump: Mutex::new(Some(pump)), _bell: from_device });
            Ok((Attachment::Lent(lent.clone()), Cap::local(lent as Arc<dyn NetPump>)))
        })
    }
}
