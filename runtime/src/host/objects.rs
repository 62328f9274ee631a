//! The kernel objects that are imitated.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tessera_abi::{Error, Kind, Rights};

use super::calls::{Receiver, Session};
use super::memory::Memory;
use super::table::find;

/// What a handle names.
#[derive(Clone)]
pub enum Thing {
    Pool,
    Space,
    Process,
    Budget,
    Log,
    Clock,
    Vmo(Arc<Memory>),
    Event(Arc<Event>),
    Thread(Arc<Thread>),
    Endpoint(Arc<Receiver>),
    Session(Arc<Session>),
}

impl Thing {
    pub fn kind(&self) -> Kind {
        match self {
            Thing::Pool => Kind::Pool,
            Thing::Space => Kind::Space,
            Thing::Process => Kind::Process,
            Thing::Budget => Kind::Budget,
            Thing::Log => Kind::Log,
            Thing::Clock => Kind::Clock,
            Thing::Vmo(_) => Kind::Vmo,
            Thing::Event(_) => Kind::Event,
            Thing::Thread(_) => Kind::Thread,
            Thing::Endpoint(_) => Kind::Endpoint,
            Thing::Session(_) => Kind::Session,
        }
    }

    pub fn is_same(&self, other: &Thing) -> bool {
        match (self, other) {
            (Thing::Vmo(one), Thing::Vmo(other)) => Arc::ptr_eq(one, other),
            (Thing::Event(one), Thing::Event(other)) => Arc::ptr_eq(one, other),
            (Thing::Thread(one), Thing::Thread(other)) => Arc::ptr_eq(one, other),
            (Thing::Endpoint(one), Thing::Endpoint(other)) => Arc::ptr_eq(one, other),
            (Thing::Session(one), Thing::Session(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    pub fn memory(&self) -> Result<&Arc<Memory>, Error> {
        if let Thing::Vmo(memory) = self { Ok(memory) } else { Err(Error::WrongKind) }
    }

    pub fn event(&self) -> Result<&Arc<Event>, Error> {
        if let Thing::Event(event) = self { Ok(event) } else { Err(Error::WrongKind) }
    }

    pub fn thread(&self) -> Result<&Arc<Thread>, Error> {
        if let Thing::Thread(thread) = self { Ok(thread) } else { Err(Error::WrongKind) }
    }
}

/// Waits on a condition variable until `ready` answers something or the time is up.
pub fn wait_for<T, R>(
    state: &Mutex<T>,
    changed: &Condvar,
    limit: Option<Duration>,
    mut ready: impl FnMut(&mut T) -> Option<R>,
) -> Result<R, Error> {
    let end = limit.and_then(|limit| Instant::now().checked_add(limit));
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(result) = ready(&mut state) {
            return Ok(result);
        }
        state = match end {
            None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(end) => {
                let rest = end.saturating_duration_since(Instant::now());
                if rest.is_zero() {
                    return Err(Error::TimedOut);
                }
                changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
}

/// 64 signal bits.
pub struct Event {
    bits: Mutex<u64>,
    changed: Condvar,
}

impl Event {
    pub fn new() -> Arc<Event> {
        Arc::new(Event { bits: Mutex::new(0), changed: Condvar::new() })
    }

    pub fn raise(&self, bits: u64) {
        *self.bits.lock().unwrap_or_else(PoisonError::into_inner) |= bits;
        self.changed.notify_all();
    }

    pub fn clear(&self, bits: u64) -> u64 {
        let mut raised = self.bits.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *raised;
        *raised &= !bits;
        before
    }

    pub fn wait(&self, mask: u64, clear: u64, limit: Option<Duration>) -> Result<u64, Error> {
        wait_for(&self.bits, &self.changed, limit, |bits| {
            let raised = *bits & mask;
            (raised != 0).then(|| {
                *bits &= !(raised & clear);
                raised
            })
        })
    }
}

/// What a thread parks on.
pub struct Thread {
    unparked: Mutex<bool>,
    changed: Condvar,
}

impl Thread {
    pub fn new() -> Arc<Thread> {
        Arc::new(Thread { unparked: Mutex::new(false), changed: Condvar::new() })
    }

    /// The thread that a handle names.
    pub fn of(number: u32) -> Result<Arc<Thread>, Error> {
        find(number.into(), Rights::NONE)?.thread().cloned()
    }

    pub fn park(&self, limit: Option<Duration>) -> Result<(), Error> {
        wait_for(&self.unparked, &self.changed, limit, |unparked| core::mem::take(unparked).then_some(()))
    }

    pub fn unpark(&self) {
        *self.unparked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}
