//! A small model of the machine, written from the book and not from core: who holds what with which rights, derived from what; what each
//! pool owes; who waits for what, and what it is told at the end. It has no tables, frames, queues or scheduler, counts nothing
//! on the way but everything anew when asked, and finds out what has ended by looking for what nobody names any more.
//!
//! What it cannot know (handle numbers, the order in which sessions of one process close) it learns from the machine and holds it to.

mod calls;
mod memory;
mod play;
mod waits;

pub use play::{Step, play};

use memory::{Memory, Seat, Sharers};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tessera_abi::{Error, Kind, Rights};
use tessera_core::Object;
use waits::{Expected, Thread};

/// Names an object of the model; never used again.
type Place = usize;
/// Names a capability of the model; never used again.
type Cap = usize;

/// Resources in the order of a pool's accounts: pages, kinds, handles.
const PAGES: usize = 0;
const HANDLES: usize = 21;
const RESOURCES: usize = 22;

/// Who holds a capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holder {
    /// A process, under a number; zero until it is known.
    Process(Place, u64),
    /// A mapping in a space.
    Mapping(Place),
    /// A sealed box.
    Sealed,
}

#[derive(Clone, Debug)]
struct Capability {
    place: Place,
    /// The machine's name of the object; `Nothing` until it is known.
    real: Object,
    kind: Kind,
    rights: Rights,
    holder: Holder,
    parent: Option<Cap>,
    /// The pool that is charged for it.
    payer: Place,
}

/// What an object is.
#[derive(Debug)]
enum Body {
    Pool {
        parent: Option<Place>,
        quota: Vec<u32>,
    },
    Memory(Memory),
    Space {
        seats: Vec<Seat>,
        tables: BTreeSet<(u32, u64)>,
    },
    Process {
        space: Place,
        ended: bool,
    },
    Thread(Thread),
    Endpoint {
        callers: VecDeque<Place>,
        receivers: VecDeque<Place>,
        /// Closed sessions, of which so many were told whose badge was not seen yet.
        closed: Vec<Place>,
        telling: usize,
        event: Option<(Place, u64)>,
    },
    Session {
        endpoint: Place,
        badge: u64,
        closed: bool,
    },
    Reply {
        caller: Option<Place>,
    },
    Event {
        bits: u64,
        waiters: VecDeque<Place>,
        endpoint: Option<Place>,
    },
    Brand,
    Sealed {
        brand: Place,
        content: Option<Cap>,
    },
    Lines {
        first: u64,
        count: u64,
        message: bool,
        target: Option<(Place, u64)>,
    },
    Dma {
        /// The device that it is for; none: any. The name of no device is one too.
        device: Option<u64>,
        pins: Vec<Place>,
        /// The tables through which the device sees them.
        tables: BTreeSet<(u32, u64)>,
    },
    /// The first program's budget, which all threads run on.
    Budget,
}

#[derive(Debug)]
struct Thing {
    kind: Kind,
    real: Object,
    /// The pool that is charged for it.
    payer: Option<Place>,
    body: Body,
}

/// The model.
#[derive(Default)]
struct Model {
    things: BTreeMap<Place, Thing>,
    caps: BTreeMap<Cap, Capability>,
    next: usize,
    /// What the first pool owed for the start that the model knows nothing of.
    baseline: Vec<u32>,
    root: Place,
    now: u64,
    /// Lines below this one are pins; where the search for a free message goes on.
    pins: u64,
    next_message: u64,
    /// Something was told to a thread that ended before it could be seen: from here on nothing can be known.
    lost: bool,
    /// Endpoints that ended, and those of sessions that were closed, since the last look.
    ended: BTreeSet<Place>,
    closed: BTreeSet<Place>,
}

impl Model {
    fn add(&mut self, kind: Kind, payer: Option<Place>, body: Body) -> Place {
        self.next += 1;
        self.things.insert(self.next, Thing { kind, real: Object::Nothing, payer, body });
        self.next
    }

    fn cap(&mut self, capability: Capability) -> Cap {
        self.next += 1;
        self.caps.insert(self.next, capability);
        self.next
    }

    /// The pool that pays for a process's handles.
    fn pool_of(&self, process: Place) -> Place {
        self.things[&process].payer.unwrap_or(self.root)
    }

    /// The capability behind a number.
    fn find(&self, process: Place, number: u64) -> Result<Cap, Error> {
        let held = |cap: &Capability| number != 0 && cap.holder == Holder::Process(process, number);
        self.caps.iter().find(|(_, cap)| held(cap)).map(|(id, _)| *id).ok_or(Error::BadHandle)
    }

    /// The same, of a kind and with rights.
    fn want(&self, process: Place, number: u64, kind: Kind, rights: Rights) -> Result<(Cap, Place), Error> {
        let id = self.find(process, number)?;
        let cap = &self.caps[&id];
        match (cap.kind == kind, cap.rights.contains(rights)) {
            (false, _) => Err(Error::WrongKind),
            (_, false) => Err(Error::NoRight),
            _ => Ok((id, cap.place)),
        }
    }

    /// A handle that may be given away.
    fn movable(&self, process: Place, number: u64) -> Result<Cap, Error> {
        let id = self.find(process, number)?;
        if self.caps[&id].rights.contains(Rights::TRANSFER) { Ok(id) } else { Err(Error::NoRight) }
    }

    /// What a pool owes of everything, counted anew.
    fn owed(&self, pool: Place) -> Vec<u32> {
        let mut owed = if pool == self.root { self.baseline.clone() } else { vec![0; RESOURCES] };
        owed.resize(RESOURCES, 0);
        let mut paid = BTreeSet::new();
        owed[HANDLES] += self.caps.values().filter(|cap| cap.payer == pool).count() as u32;
        for thing in self.things.values() {
            if thing.payer == Some(pool) {
                // Both sides of a sealed pair are one entry.
                owed[thing.kind as usize] += 1;
                owed[PAGES] += match &thing.body {
                    Body::Memory(memory) if memory.sharers == Sharers::Others => {
                        memory.tables() + memory.held.len() as u32
                    }
                    Body::Memory(memory) => {
                        memory.tables() + memory.held.values().filter(|content| paid.insert(**content)).count() as u32
                    }
                    Body::Space { tables, .. } => tables.len() as u32 + 1,
                    Body::Dma { pins, tables, .. } => (pins.len() + pins.len().div_ceil(255) + tables.len()) as u32,
                    _ => 0,
                };
            }
            if let Body::Pool { parent: Some(parent), quota } = &thing.body
                && *parent == pool
            {
                owed.iter_mut().zip(quota).for_each(|(owed, quota)| *owed += quota);
            }
        }
        owed
    }

    fn quota(&self, pool: Place) -> &[u32] {
        match &self.things[&pool].body {
            Body::Pool { quota, .. } => quota,
            _ => &[],
        }
    }

    /// Whether pools can pay for all of this together.
    fn pay(&self, wanted: &[(Place, usize, u32)]) -> Result<(), Error> {
        for (pool, resource, _) in wanted {
            let sum: u32 =
                wanted.iter().filter(|(other, what, _)| other == pool && what == resource).map(|w| w.2).sum();
            if self.owed(*pool)[*resource] + sum > self.quota(*pool)[*resource] {
                return Err(Error::NoQuota);
            }
        }
        Ok(())
    }

    /// Makes an object and a handle to it, derived from `parent`.
    fn create(
        &mut self,
        process: Place,
        parent: Cap,
        pool: Place,
        kind: Kind,
        pages: u32,
        body: Body,
    ) -> Result<Expected, Error> {
        let handles = self.pool_of(process);
        self.pay(&[(handles, HANDLES, 1), (pool, kind as usize, 1), (pool, PAGES, pages)])?;
        let place = self.add(kind, Some(pool), body);
        let cap = self.handle(process, place, kind, Rights::ALL, Some(parent));
        Ok(Expected::handle(cap))
    }

    /// A handle, paid for already.
    fn handle(&mut self, process: Place, place: Place, kind: Kind, rights: Rights, parent: Option<Cap>) -> Cap {
        let (holder, payer) = (Holder::Process(process, 0), self.pool_of(process));
        self.cap(Capability { place, real: Object::Nothing, kind, rights, holder, parent, payer })
    }

    /// Moves a handle to another process.
    fn give(&mut self, cap: Cap, to: Place) -> Result<(), Error> {
        let payer = self.pool_of(to);
        if self.caps[&cap].payer != payer {
            self.pay(&[(payer, HANDLES, 1)])?;
        }
        let moved = self.caps.get_mut(&cap).expect("a capability");
        moved.payer = payer;
        moved.holder = Holder::Process(to, 0);
        Ok(())
    }

    /// Whether one capability is derived from another.
    fn derived(&self, cap: Cap, from: Cap) -> bool {
        self.caps[&cap].parent.is_some_and(|parent| parent == from || self.derived(parent, from))
    }

    fn derived_from(&self, cap: Cap) -> Vec<Cap> {
        self.caps.keys().copied().filter(|other| self.derived(*other, cap)).collect()
    }

    /// Removes a capability; what was derived from it is its parent's.
    fn remove(&mut self, id: Cap) {
        let Some(cap) = self.caps.remove(&id) else { return };
        for other in self.caps.values_mut().filter(|other| other.parent == Some(id)) {
            other.parent = cap.parent;
        }
        match cap.holder {
            Holder::Mapping(space) => {
                if let Some(Thing { body: Body::Space { seats, .. }, .. }) = self.things.get_mut(&space) {
                    seats.retain(|seat| seat.cap != id);
                }
            }
            Holder::Sealed => {
                for thing in self.things.values_mut() {
                    if let Body::Sealed { content, .. } = &mut thing.body
                        && *content == Some(id)
                    {
                        *content = None;
                    }
                }
            }
            Holder::Process(..) => {}
        }
    }

    fn named(&self, place: Place) -> bool {
        self.caps.values().any(|cap| cap.place == place)
    }

    /// Ends what nobody names and nothing needs any more, until nothing is left to end.
    fn collect(&mut self) {
        while let Some(place) = self.things.keys().copied().find(|place| self.is_over(*place)) {
            self.end(place);
        }
        // The handles of a process are closed in an order that is nobody's business: whether a receiver hears of a session first,
        // or of the end of the endpoint.
        self.lost |= self.ended.intersection(&self.closed).next().is_some();
        self.ended.clear();
        self.closed.clear();
    }

    fn is_over(&self, place: Place) -> bool {
        let named = self.named(place);
        match &self.things[&place].body {
            Body::Pool { parent, .. } => !named && parent.is_some() && self.owed(place).iter().all(|owed| *owed == 0),
            Body::Space { .. } => {
                let needs =
                    |thing: &Thing| matches!(thing.body, Body::Process { space, ended: false } if space == place);
                !named && !self.things.values().any(needs)
            }
            Body::Session { closed, .. } => !named && !closed,
            _ => !named,
        }
    }

    /// The end of an object that is over.
    fn end(&mut self, place: Place) {
        if matches!(self.things[&place].body, Body::Session { .. }) && self.close_session(place) {
            return;
        }
        match &mut self.things.get_mut(&place).expect("a thing").body {
            Body::Process { ended: false, .. } => return self.end_process(place),
            Body::Thread(thread) if !thread.ended => return self.end_thread(place),
            Body::Endpoint { callers, receivers, closed, event, .. } => {
                let (callers, receivers, closed) = (callers.clone(), receivers.clone(), std::mem::take(closed));
                self.ended.insert(place);
                if let Some((event, _)) = *event {
                    self.unbind(event);
                }
                callers.into_iter().for_each(|thread| self.cancel(thread, Error::PeerGone));
                receivers.into_iter().for_each(|thread| self.cancel(thread, Error::Gone));
                closed.iter().for_each(|session| {
                    self.things.remove(session);
                });
            }
            Body::Event { waiters, .. } => {
                waiters.clone().into_iter().for_each(|thread| self.cancel(thread, Error::Gone));
            }
            Body::Reply { caller } => {
                if let Some(caller) = caller.take() {
                    self.cancel(caller, Error::PeerGone);
                }
            }
            Body::Sealed { content, .. } => {
                if let Some(content) = content.take() {
                    self.remove(content);
                }
            }
            Body::Space { seats, .. } => {
                let caps: Vec<Cap> = seats.iter().map(|seat| seat.cap).collect();
                caps.into_iter().for_each(|cap| self.remove(cap));
            }
            _ => {}
        }
        self.things.remove(&place);
    }

    /// A process ends: its threads, its handles, its hold on its space.
    fn end_process(&mut self, place: Place) {
        let Some(Thing { body: Body::Process { ended, .. }, .. }) = self.things.get_mut(&place) else { return };
        if std::mem::replace(ended, true) {
            return;
        }
        let threads: Vec<Place> =
            self.things.iter().filter(|(_, t)| t.thread_of() == Some(place)).map(|t| *t.0).collect();
        threads.into_iter().for_each(|thread| self.end_thread(thread));
        let held = |cap: &Capability| matches!(cap.holder, Holder::Process(process, _) if process == place);
        let caps: Vec<Cap> = self.caps.iter().filter(|(_, cap)| held(cap)).map(|(id, _)| *id).collect();
        caps.into_iter().for_each(|cap| self.remove(cap));
    }
}

impl Thing {
    /// The process of a thread that has not ended.
    fn thread_of(&self) -> Option<Place> {
        match &self.body {
            Body::Thread(thread) if !thread.ended => Some(thread.process),
            _ => None,
        }
    }
}
