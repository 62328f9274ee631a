//! The component: clients that read, write and watch, and a thread that waits for the device.

use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_interfaces::{Cap, Console, ConsoleError, ConsoleSize, Device, DeviceError};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::Event;
use tessera_runtime::sync::Mutex;
use tessera_runtime::{log, own, thread};
use tessera_virtio::Misbehaved;
use tessera_virtio::device_type::CONSOLE;
use tessera_virtio_driver::{AttachError, Attached, Link, end_with_bus};

use crate::{FEATURES, Port};

/// The bit of the event that the device's interrupt raises.
const INTERRUPT: u64 = 1;
/// The most that watch.
const WATCHERS: usize = 16;

/// What it uses.
pub struct Uses {
    /// The device, which it alone drives.
    pub device: Route<dyn Device>,
}

/// A virtio console.
pub struct VirtioConsole {
    state: Arc<Mutex<State>>,
    size: ConsoleSize,
}

struct State {
    /// None where there is no device, and once it has broken the rules.
    port: Option<Port<Attached>>,
    watchers: Vec<(Event, u64)>,
}

impl State {
    fn port(&mut self) -> Result<&mut Port<Attached>, ConsoleError> {
        self.port.as_mut().ok_or(ConsoleError::Device)
    }

    /// What the port answers, unless the device broke the rules: then it is used no more.
    fn check<T>(&mut self, outcome: Result<T, Misbehaved>) -> Result<T, ConsoleError> {
        outcome.map_err(|misbehaved| {
            log!("the console does not keep to the rules: {misbehaved:?}");
            self.port = None;
            ConsoleError::Device
        })
    }

    /// Takes what the device has done and tells who watches.
    fn harvest(&mut self) -> Result<(), ConsoleError> {
        let outcome = self.port()?.harvest();
        if self.check(outcome)? {
            // Who is gone watches no more.
            self.watchers.retain(|(event, bits)| event.raise(*bits).is_ok());
        }
        Ok(())
    }
}

impl VirtioConsole {
    /// Starts the device. Where there is none, every call is answered with [`ConsoleError::Device`].
    pub fn new(_context: Context, uses: Uses) -> Result<Arc<VirtioConsole>, StartError> {
        end_with_bus(&uses.device)?;
        Ok(Arc::new(match VirtioConsole::open(&uses.device.cap) {
            Err(AttachError::Bus(DeviceError::NotFound)) => VirtioConsole {
                state: Arc::new(Mutex::new(State { port: None, watchers: Vec::new() })),
                size: ConsoleSize { columns: 0, rows: 0 },
            },
            opened => opened?,
        }))
    }

    /// Starts a device.
    pub fn open(device: &Cap<dyn Device>) -> Result<VirtioConsole, AttachError> {
        let attached = Attached::new(device)?;
        let event = Event::create(&own::pool())?;
        let memory = attached.memory(Port::<Attached>::MEMORY)?;
        let configured = attached.start::<2>(CONSOLE, FEATURES, 64, &event, INTERRUPT)?;
        let size = Port::<Attached>::size(attached.transport(), configured.features);
        let port = Port::new(attached, configured.queues, memory);
        let port = port.map_err(|misbehaved| AttachError::Start(misbehaved.into()))?;
        let state = Arc::new(Mutex::new(State { port: Some(port), watchers: Vec::new() }));
        let its_state = state.clone();
        thread::spawn(move || serve(&its_state, &event))?;
        Ok(VirtioConsole { state, size })
    }
}

/// Waits for the device, until it breaks the rules.
fn serve(state: &Mutex<State>, event: &Event) {
    loop {
        let quiet = {
            let mut state = state.lock();
            if state.harvest().is_err() {
                return;
            }
            let Ok(port) = state.port() else { return };
            let outcome = port.sleep();
            match state.check(outcome) {
                Ok(quiet) => quiet,
                Err(_) => return,
            }
        };
        if quiet {
            if event.wait(INTERRUPT).is_err() {
                return;
            }
            if let Ok(port) = state.lock().port() {
                port.link().acknowledge();
            }
        }
    }
}

impl Console for VirtioConsole {
    fn write(&self, from: &[u8]) -> Result<u64, ConsoleError> {
        let mut state = self.state.lock();
        state.harvest()?;
        let outcome = state.port()?.write(from);
        match state.check(outcome)? {
            0 if !from.is_empty() => Err(ConsoleError::WouldBlock),
            written => Ok(written as u64),
        }
    }

    fn read(&self, into: &mut [u8]) -> Result<u64, ConsoleError> {
        let mut state = self.state.lock();
        state.harvest()?;
        let outcome = state.port()?.read(into);
        match state.check(outcome)? {
            0 if !into.is_empty() => Err(ConsoleError::WouldBlock),
            read => Ok(read as u64),
        }
    }

    fn watch(&self, readable: Event, bits: u64) -> Result<(), ConsoleError> {
        let mut state = self.state.lock();
        if state.watchers.len() >= WATCHERS {
            return Err(ConsoleError::LimitReached);
        }
        if state.port()?.is_readable() {
            let _ = readable.raise(bits);
        }
        state.watchers.push((readable, bits));
        Ok(())
    }

    fn size(&self) -> Result<ConsoleSize, ConsoleError> {
        self.state.lock().port()?;
        Ok(self.size)
    }
}
