//! The reader's side of the readiness table: which sockets have changed, and what is ready.

use core::sync::atomic::Ordering;

use tessera_runtime::object::{Access, Event};
use tessera_runtime::{Error, Mapping, Object, own};

use crate::readiness::{self, BYTES, CAPACITY};
use crate::{Network, NetworkError};

/// A client's readiness table, laid out as [`readiness`](crate::readiness) says, and the event that is raised at each change.
pub struct Readiness {
    table: Mapping,
    event: Event,
}

/// The event's bit.
const BIT: u64 = 1;

impl Readiness {
    /// Asks the network for the table. `LimitReached` if the own pool is used up.
    pub fn of(network: &dyn Network) -> Result<Readiness, NetworkError> {
        let none = |_: Error| NetworkError::LimitReached;
        let event = Event::create(&own::pool()).map_err(none)?;
        let table = network.readiness(event.try_clone().map_err(none)?, BIT)?;
        let table = Mapping::new(&table, 0, BYTES, Access::Write).map_err(none)?;
        Ok(Readiness { table, event })
    }

    /// Waits until something changes, or for `deadline`, in nanoseconds since boot.
    pub fn wait(&self, deadline: Option<u64>) {
        let _ = self.event.wait_until(BIT, BIT, deadline);
    }

    /// The numbers of the sockets that have changed since they were last asked for; 0 is the network as a whole.
    pub fn changed(&self) -> impl Iterator<Item = u32> {
        readiness::changed(self.table.words())
    }

    /// What is ready of the socket with a number, and how often something happened: the word of the table.
    pub fn word(&self, number: u32) -> u64 {
        let word = self.table.words().get(number as usize).filter(|_| (number as usize) < CAPACITY);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }
}

/// What a call answered; none where it would have had to wait.
pub fn ready<T>(outcome: Result<T, NetworkError>) -> Result<Option<T>, NetworkError> {
    match outcome {
        Err(NetworkError::WouldBlock) => Ok(None),
        other => other.map(Some),
    }
}
