//! The manager's own interface, served to whom the image gives a route to it.

use alloc::sync::Arc;

use tessera_interfaces::{DomainPhase, DomainReport, Supervisor, SupervisorError};
use tessera_manager::{Supervision, Unknown};
use tessera_plan::Phase;
use tessera_runtime::object::Event;
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
        let state = self.supervision.lock().domain_state(name).map_err(unknown)?;
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
