//! The manager's own interfaces, served to whom the image gives a route to them.

use alloc::sync::Arc;

use tessera_interfaces::{DomainPhase, DomainReport, Keeper, KeeperError, Supervisor, SupervisorError};
use tessera_manager::{Kept, Supervision, Unknown};
use tessera_plan::Phase;
use tessera_runtime::object::{Dma, Event};
use tessera_runtime::sync::Mutex;

use crate::kernel::{Kernel, LOOK};

/// What answers.
pub struct Service {
    supervision: Arc<Mutex<Supervision<Kernel>>>,
    news: Arc<Event>,
}

impl Service {
    pub fn new(supervision: Arc<Mutex<Supervision<Kernel>>>, news: Arc<Event>) -> Service {
        Service { supervision, news }
    }
}

/// The name by which the manager reports on itself, where no domain has it.
const MANAGER: &str = "manager";

fn unknown(_: Unknown) -> SupervisorError {
    SupervisorError::NotFound
}

fn fill(into: &mut [u8], encoded: &[u8]) -> Result<u64, SupervisorError> {
    let to = into.get_mut(..encoded.len()).ok_or(SupervisorError::TooLong)?;
    to.copy_from_slice(encoded);
    Ok(encoded.len() as u64)
}

impl Supervisor for Service {
    fn report(&self, name: &str) -> Result<DomainReport, SupervisorError> {
        let supervision = self.supervision.lock();
        let state = match supervision.domain_state(name) {
            Err(Unknown) if name == MANAGER => supervision.own_state(),
            state => state.map_err(unknown)?,
        };
        Ok(DomainReport {
            phase: match state.phase {
                Phase::Running => DomainPhase::Running,
                Phase::Waiting(_) => DomainPhase::Waiting,
                Phase::Ended => DomainPhase::Ended,
            },
            starts: state.starts,
            started: state.started,
            time: state.time,
            pages: state.pages,
            objects: state.objects,
        })
    }

    fn plan(&self, into: &mut [u8]) -> Result<u64, SupervisorError> {
        fill(into, &self.supervision.lock().plan().encode())
    }

    fn state(&self, into: &mut [u8]) -> Result<u64, SupervisorError> {
        fill(into, &self.supervision.lock().state().encode())
    }

    fn kill(&self, name: &str) -> Result<(), SupervisorError> {
        self.supervision.lock().kill(name).map_err(unknown)
    }

    fn restart(&self, name: &str) -> Result<(), SupervisorError> {
        self.supervision.lock().restart(name).map_err(unknown)?;
        // One that did not run ends nothing that would wake the main thread.
        self.news.raise(LOOK).map_err(|_| SupervisorError::NotFound)
    }
}

/// What holds for buses the memory that devices reach: the manager outlives them all.
#[derive(Default)]
pub struct Devices(Mutex<Kept<Dma>>);

impl Keeper for Devices {
    fn keep(&self, device: u64, memory: Dma) -> Result<(), KeeperError> {
        self.0.lock().keep(device, memory)
    }

    fn release(&self, device: u64) -> Result<(), KeeperError> {
        // Closed when the lock is given back.
        let released = self.0.lock().release(device);
        drop(released);
        Ok(())
    }
}
