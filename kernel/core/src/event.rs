//! Events: 64 signal bits to raise and to wait for, by any number of threads, and optionally by an endpoint's receivers.

use crate::{
    Caller, Flow, Hardware, Machine,
    arena::Id,
    endpoint::Endpoint,
    node::Object,
    pool::{Pool, Resource},
    queue::Queue,
    reaper::{Grave, Progress},
    thread::State,
};
use tessera_abi::{Error, Kind, Rights};

/// Most threads that wait for one event: bounds the work of raising it. Whoever may wait could as well clear what others wait for,
/// so filling the queue takes nothing from them that could not be taken otherwise.
pub(crate) const MAX_WAITERS: u32 = 256;

/// Signal bits.
#[derive(Default)]
pub struct Event {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) grave: Grave,
    pub(crate) bits: u64,
    pub(crate) waiters: Queue,
    /// How many wait.
    pub(crate) waiting: u32,
    /// The endpoint whose receivers are told as well.
    pub(crate) endpoint: Id<Endpoint>,
}

impl<H: Hardware> Machine<H> {
    /// `event_create`.
    pub(crate) fn event_create(&mut self, caller: &Caller, pool: u64) -> Result<u64, Error> {
        let (node, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Event, handles)?;
        let event = self.events.insert(Event { pool, ..Event::default() }).ok_or(Error::NoQuota)?;
        self.publish(caller.process, node, Object::Event(event), Rights::ALL)
    }

    /// `event_raise`.
    pub(crate) fn event_raise(&mut self, caller: &Caller, event: u64, bits: u64) -> Result<Flow, Error> {
        let (_, event) = self.event(caller.process, event, Rights::SIGNAL)?;
        self.raise(event, bits);
        Ok(Flow::Done)
    }

    /// `event_clear`.
    pub(crate) fn event_clear(&mut self, caller: &Caller, event: u64, bits: u64) -> Result<u64, Error> {
        let (_, event) = self.event(caller.process, event, Rights::WAIT)?;
        let event = self.events.get_mut(event).ok_or(Error::Gone)?;
        let before = event.bits;
        event.bits &= !bits;
        Ok(before)
    }

    /// `event_wait`.
    pub(crate) fn event_wait(
        &mut self,
        caller: &Caller,
        event: u64,
        mask: u64,
        clear: u64,
        deadline: u64,
    ) -> Result<Flow, Error> {
        let (_, id) = self.event(caller.process, event, Rights::WAIT)?;
        if mask == 0 {
            return Err(Error::BadArgument);
        }
        let event = self.events.get_mut(id).ok_or(Error::Gone)?;
        let raised = event.bits & mask;
        if raised != 0 {
            event.bits &= !clear;
            return Ok(Flow::One(raised));
        }
        if deadline != tessera_abi::NEVER && deadline <= self.hardware.now() {
            return Err(Error::TimedOut);
        }
        if event.waiting >= MAX_WAITERS {
            return Err(Error::NoQuota);
        }
        event.waiters.push(&mut self.threads, caller.thread);
        event.waiting = event.waiting.saturating_add(1);
        self.block(caller, State::Waiting { event: id, mask, clear }, deadline);
        Ok(Flow::Blocked)
    }

    /// Raises bits; everybody who waits for one of them goes on. Waiters see the bits in the order in which they came to wait:
    /// one that clears them may leave nothing for those behind it.
    pub(crate) fn raise(&mut self, id: Id<Event>, bits: u64) {
        let Some(event) = self.events.get_mut(id) else { return };
        event.bits |= bits;
        let mut next = event.waiters.first();
        while let Some(thread) = self.threads.get(next) {
            let (current, behind) = (next, thread.behind);
            next = behind;
            let State::Waiting { mask, clear, .. } = thread.state else { continue };
            if thread.ended {
                // It sees nothing any more: it must not clear what others wait for.
                continue;
            }
            let Some(event) = self.events.get_mut(id) else { return };
            let raised = event.bits & mask;
            if raised != 0 {
                event.bits &= !clear;
                event.waiters.remove(&mut self.threads, current);
                event.waiting = event.waiting.saturating_sub(1);
                self.wake(current, Ok(Flow::One(raised)));
            }
        }
        let Some(endpoint) = self.events.get(id).map(|event| event.endpoint) else { return };
        if !endpoint.is_none() {
            self.endpoint_news(endpoint);
        }
    }

    pub(crate) fn event_reap(&mut self, id: Id<Event>) -> Progress {
        for _ in 0..16 {
            let Some(first) = self.events.get(id).map(|event| event.waiters.first()) else { return Progress::Finished };
            if first.is_none() {
                if let Some(event) = self.events.remove(id) {
                    self.credit(event.pool, Resource::of(Kind::Event), 1);
                }
                return Progress::Finished;
            }
            self.cancel_wait(first, Error::Gone);
        }
        Progress::More
    }
}
