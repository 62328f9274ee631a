//! What each call does to the model, as the book says it: checks in the order handle, kind, right, arguments, quota, state.

use super::{
    Body, Capability, HANDLES, Holder, Model, PAGES, Place, RESOURCES,
    memory::{Memory, Seat},
    waits::{Expected, Outcome, Thread, Wait, Word},
};
use std::collections::{BTreeSet, VecDeque};
use tessera_abi::{
    Error, Kind, PAGE, Rights, Syscall, Tag,
    syscall::{NO_DEVICE, map_flags},
};
use tessera_core::Object;

/// A call with all that its registers hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub call: Syscall,
    pub arguments: [u64; 6],
    pub words: [u64; 8],
}

const MANAGE: Rights = Rights::MANAGE;
/// The first of the tables through which a device sees memory.
const ROOT: (u32, u64) = (3, 0);

impl Model {
    /// Makes a call as a thread.
    pub(super) fn make(&mut self, actor: Place, request: Request) -> Outcome {
        let Request { call, arguments: [a, b, c, d, e, f], words } = request;
        let process = self.thread(actor).process;
        let done = |()| Some(Expected::done());
        match call {
            Syscall::Close => {
                let cap = self.find(process, a)?;
                self.remove(cap);
                Ok(done(()))
            }
            Syscall::Duplicate => self.duplicate(process, a, b).map(Some),
            Syscall::Revoke => {
                let cap = self.find(process, a)?;
                if !self.caps[&cap].rights.contains(MANAGE) {
                    return Err(Error::NoRight);
                }
                self.derived_from(cap).into_iter().for_each(|cap| self.remove(cap));
                Ok(done(()))
            }
            Syscall::PoolCreate => self.pool_create(process, a, b).map(Some),
            Syscall::VmoCreate => {
                let (parent, pool) = self.want(process, a, Kind::Pool, MANAGE)?;
                let memory = Memory::new(b.div_ceil(PAGE));
                if memory.pages == 0 {
                    return Err(Error::BadArgument);
                }
                self.create(process, parent, pool, Kind::Vmo, 0, Body::Memory(memory)).map(Some)
            }
            Syscall::VmoWrite => {
                let (_, memory) = self.want(process, a, Kind::Vmo, Rights::WRITE)?;
                if b + d > self.memory(memory).pages * PAGE {
                    return Err(Error::BadArgument);
                }
                self.write_page(memory, b / PAGE)?;
                Ok(Some(Expected::value(d)))
            }
            Syscall::VmoResize => {
                let (_, memory) = self.want(process, a, Kind::Vmo, Rights::WRITE | MANAGE)?;
                let pages = b.div_ceil(PAGE);
                if pages == 0 {
                    return Err(Error::BadArgument);
                }
                let memory = self.memory(memory);
                memory.pages = pages;
                memory.held.retain(|page, _| *page < pages);
                Ok(done(()))
            }
            Syscall::VmoDiscard => {
                let (_, memory) = self.want(process, a, Kind::Vmo, Rights::WRITE | MANAGE)?;
                let (from, to) = (b / PAGE, (b + c) / PAGE);
                let memory = self.memory(memory);
                if to > memory.pages {
                    return Err(Error::BadArgument);
                }
                memory.held.retain(|page, _| !(from..to).contains(page));
                Ok(done(()))
            }
            Syscall::VmoSnapshot => {
                let (parent, memory) = self.want(process, a, Kind::Vmo, Rights::READ)?;
                let (_, pool) = self.want(process, b, Kind::Pool, MANAGE)?;
                if self.pinned(memory) {
                    return Err(Error::BadState);
                }
                let same_pool = self.things[&memory].payer == Some(pool);
                let (price, sharers) = self.memory(memory).snapshot(same_pool)?;
                let mut copy = self.memory(memory).clone();
                copy.sharers = sharers;
                let copy = self.create(process, parent, pool, Kind::Vmo, price, Body::Memory(copy))?;
                self.memory(memory).sharers = sharers;
                Ok(Some(copy))
            }
            Syscall::SpaceCreate => {
                let (parent, pool) = self.want(process, a, Kind::Pool, MANAGE)?;
                let space = Body::Space { seats: Vec::new(), tables: BTreeSet::new() };
                self.create(process, parent, pool, Kind::Space, 1, space).map(Some)
            }
            Syscall::SpaceMap => {
                let (_, space) = self.want(process, a, Kind::Space, Rights::MAP)?;
                let cap = self.find(process, b)?;
                let Capability { kind, rights, place, .. } = self.caps[&cap];
                if !Model::is_memory(kind) {
                    return Err(Error::WrongKind);
                }
                if !rights.contains(Rights::MAP | Rights::READ | Rights::WRITE) {
                    return Err(Error::NoRight);
                }
                if (c + e) / PAGE > self.memory(place).pages || e == 0 {
                    return Err(Error::BadArgument);
                }
                let seat = Seat { start: d, pages: e / PAGE, cap, memory: place, offset: c / PAGE };
                self.map(space, cap, seat, f & map_flags::POPULATE != 0).map(Some)
            }
            Syscall::SpaceUnmap => {
                let (_, space) = self.want(process, a, Kind::Space, Rights::MAP)?;
                self.unmap(space, b, b + c).map(Some)
            }
            Syscall::ProcessCreate => {
                let (parent, pool) = self.want(process, a, Kind::Pool, MANAGE)?;
                let (_, space) = self.want(process, b, Kind::Space, MANAGE)?;
                let made = Body::Process { space, ended: false };
                self.create(process, parent, pool, Kind::Process, 0, made).map(Some)
            }
            Syscall::ProcessGrant => {
                let (_, to) = self.want(process, a, Kind::Process, MANAGE)?;
                let cap = self.movable(process, b)?;
                if self.is_ended(to) {
                    return Err(Error::BadState);
                }
                self.give(cap, to)?;
                Ok(Some(Expected::handle(cap)))
            }
            Syscall::ProcessKill => {
                let (_, killed) = self.want(process, a, Kind::Process, MANAGE)?;
                self.end_process(killed);
                Ok(done(()))
            }
            Syscall::Exit => {
                self.end_process(process);
                Ok(None)
            }
            Syscall::ThreadCreate => self.thread_create(process, a, b, c).map(Some),
            Syscall::ThreadStart => {
                let (_, thread) = self.want(process, a, Kind::Thread, MANAGE)?;
                let owner = self.thread(thread).process;
                if self.thread(thread).wait != Wait::New || self.thread(thread).ended || self.is_ended(owner) {
                    return Err(Error::BadState);
                }
                let thread = self.thread_mut(thread);
                (thread.wait, thread.name) = (Wait::Nothing, c);
                Ok(done(()))
            }
            Syscall::ThreadSuspend | Syscall::ThreadResume => {
                let (_, thread) = self.want(process, a, Kind::Thread, MANAGE)?;
                self.thread_mut(thread).suspended = call == Syscall::ThreadSuspend;
                Ok(done(()))
            }
            Syscall::ThreadExit => {
                self.end_thread(actor);
                Ok(None)
            }
            Syscall::Park => self.park(actor, a),
            Syscall::Unpark => {
                let (_, thread) = self.want(process, a, Kind::Thread, Rights::SIGNAL)?;
                Ok(Some(self.unpark(thread)))
            }
            Syscall::EndpointCreate => {
                let (parent, pool) = self.want(process, a, Kind::Pool, MANAGE)?;
                let none = || VecDeque::new();
                let made =
                    Body::Endpoint { callers: none(), receivers: none(), closed: Vec::new(), telling: 0, event: None };
                self.create(process, parent, pool, Kind::Endpoint, 0, made).map(Some)
            }
            Syscall::SessionCreate => {
                let (parent, endpoint) = self.want(process, a, Kind::Endpoint, MANAGE)?;
                let (_, pool) = self.want(process, b, Kind::Pool, MANAGE)?;
                let made = Body::Session { endpoint, badge: c, closed: false };
                self.create(process, parent, pool, Kind::Session, 0, made).map(Some)
            }
            Syscall::EndpointBind => self.bind(process, a, b, c).map(Some),
            Syscall::Call => self.call(actor, (a, Tag(b), words)),
            Syscall::Receive => {
                let (_, endpoint) = self.want(process, a, Kind::Endpoint, Rights::RECEIVE)?;
                self.receive(actor, endpoint)
            }
            Syscall::Reply => self.reply(actor, Tag(b), words),
            Syscall::ReplyAndReceive => {
                let (_, endpoint) = self.want(process, a, Kind::Endpoint, Rights::RECEIVE)?;
                self.reply_and_receive(actor, endpoint, Tag(b), words)
            }
            Syscall::ReplyDetach => {
                let (parent, pool) = self.want(process, a, Kind::Pool, MANAGE)?;
                self.detach(actor, parent, pool)
            }
            Syscall::ReplyAttach => {
                let (cap, reply) = self.want(process, a, Kind::Reply, Rights::NONE)?;
                self.attach(actor, cap, reply)
            }
            Syscall::EventCreate => {
                let (parent, pool) = self.want(process, a, Kind::Pool, MANAGE)?;
                let made = Body::Event { bits: 0, waiters: VecDeque::new(), endpoint: None };
                self.create(process, parent, pool, Kind::Event, 0, made).map(Some)
            }
            Syscall::EventRaise => {
                let (_, event) = self.want(process, a, Kind::Event, Rights::SIGNAL)?;
                self.raise(event, b);
                Ok(done(()))
            }
            Syscall::EventClear => {
                let (_, event) = self.want(process, a, Kind::Event, Rights::WAIT)?;
                let Body::Event { bits, .. } = &mut self.things.get_mut(&event).expect("an event").body else {
                    panic!("no event");
                };
                let before = *bits;
                *bits &= !b;
                Ok(Some(Expected::value(before)))
            }
            Syscall::EventWait => {
                let (_, event) = self.want(process, a, Kind::Event, Rights::WAIT)?;
                self.wait_for(actor, event, b, c, d)
            }
            Syscall::InterruptCreate => {
                let (parent, lines) = self.want(process, a, Kind::Interrupt, MANAGE)?;
                let (_, pool) = self.want(process, b, Kind::Pool, MANAGE)?;
                let Body::Lines { first, count, .. } = self.things[&lines].body else { panic!("no lines") };
                if d == 0 || c < first || c + d > first + count {
                    return Err(Error::BadArgument);
                }
                let made = Body::Lines { first: c, count: d, message: false, target: None };
                self.create(process, parent, pool, Kind::Interrupt, 0, made).map(Some)
            }
            Syscall::InterruptCreateMessage => self.message_create(process, a, b).map(Some),
            Syscall::InterruptBind => {
                let (_, lines) = self.want(process, a, Kind::Interrupt, MANAGE)?;
                let (_, event) = self.want(process, b, Kind::Event, Rights::SIGNAL)?;
                let Body::Lines { first, count, .. } = self.things[&lines].body else { panic!("no lines") };
                let owner = self.line_owner(first);
                if count != 1 || owner.is_none() && first >= self.pins {
                    return Err(Error::BadState);
                }
                if owner.is_some_and(|owner| owner != lines) {
                    return Err(Error::Occupied);
                }
                if let Body::Lines { target, .. } = &mut self.things.get_mut(&lines).expect("lines").body {
                    *target = Some((event, c));
                }
                Ok(done(()))
            }
            Syscall::SealCreate => {
                let (parent, pool) = self.want(process, a, Kind::Pool, MANAGE)?;
                let handles = self.pool_of(process);
                self.pay(&[(handles, HANDLES, 2), (pool, Kind::Seal as usize, 1)])?;
                let brand = self.add(Kind::Seal, Some(pool), Body::Brand);
                let both = [Kind::Seal, Kind::Unseal]
                    .map(|kind| Word::Handle(self.handle(process, brand, kind, Rights::ALL, Some(parent))));
                Ok(Some(Expected { code: 0, words: both.to_vec() }))
            }
            Syscall::SealClose => {
                let (_, brand) = self.want(process, a, Kind::Seal, Rights::NONE)?;
                let (parent, pool) = self.want(process, b, Kind::Pool, MANAGE)?;
                let content = self.movable(process, c)?;
                if content == parent {
                    return Err(Error::BadArgument);
                }
                let made = Body::Sealed { brand, content: Some(content) };
                let made = self.create(process, parent, pool, Kind::Sealed, 0, made)?;
                self.caps.get_mut(&content).expect("a capability").holder = Holder::Sealed;
                Ok(Some(made))
            }
            Syscall::SealOpen => {
                let (_, brand) = self.want(process, a, Kind::Unseal, Rights::NONE)?;
                let (_, sealed) = self.want(process, b, Kind::Sealed, Rights::NONE)?;
                let Body::Sealed { brand: closed_by, content } = self.things[&sealed].body else { panic!("no box") };
                if closed_by != brand {
                    return Err(Error::NoRight);
                }
                let content = content.ok_or(Error::Gone)?;
                let handles = self.pool_of(process);
                self.pay(&[(handles, HANDLES, 1)])?;
                let Capability { place, kind, rights, .. } = self.caps[&content];
                Ok(Some(Expected::handle(self.handle(process, place, kind, rights, Some(content)))))
            }
            Syscall::DmaCreate => {
                let (parent, _) = self.want(process, a, Kind::Dma, MANAGE)?;
                let (_, pool) = self.want(process, b, Kind::Pool, MANAGE)?;
                let Capability { place, .. } = self.caps[&parent];
                let Body::Dma { device, .. } = self.things[&place].body else { panic!("no memory for devices") };
                if device.is_some_and(|device| device != c) {
                    return Err(Error::BadArgument);
                }
                // The machine of the model has an IOMMU.
                let tables = if c == NO_DEVICE { BTreeSet::new() } else { BTreeSet::from([ROOT]) };
                let pages = tables.len() as u32;
                let body = Body::Dma { device: Some(c), pins: Vec::new(), tables };
                self.create(process, parent, pool, Kind::Dma, pages, body).map(Some)
            }
            Syscall::DmaPin => {
                let (_, dma) = self.want(process, a, Kind::Dma, Rights::MAP)?;
                let (_, memory) = self.want(process, b, Kind::Vmo, Rights::READ | Rights::WRITE)?;
                if (c + d) / PAGE > self.memory(memory).pages {
                    return Err(Error::BadArgument);
                }
                self.pin(dma, memory, c / PAGE).map(Some)
            }
            other => panic!("the model does not know {other:?}"),
        }
    }

    fn is_ended(&self, process: Place) -> bool {
        !matches!(self.things.get(&process).map(|thing| &thing.body), Some(Body::Process { ended: false, .. }))
    }

    fn duplicate(&mut self, process: Place, number: u64, rights: u64) -> Result<Expected, Error> {
        let cap = self.find(process, number)?;
        let Capability { place, kind, rights: before, .. } = self.caps[&cap];
        if !before.contains(Rights::DUPLICATE) {
            return Err(Error::NoRight);
        }
        let rights = Rights::from_bits(rights).ok_or(Error::BadArgument)?;
        if !before.contains(rights) {
            return Err(Error::NoRight);
        }
        let pool = self.pool_of(process);
        self.pay(&[(pool, HANDLES, 1)])?;
        Ok(Expected::handle(self.handle(process, place, kind, rights, Some(cap))))
    }

    fn pool_create(&mut self, process: Place, number: u64, pages: u64) -> Result<Expected, Error> {
        let (parent, pool) = self.want(process, number, Kind::Pool, MANAGE)?;
        if pages == 0 {
            return Err(Error::BadArgument);
        }
        // The archive's page came on top of what the shares are measured by.
        let all = u64::from(self.quota(self.root)[PAGES]) - 1;
        // Some of each kind are the first program's own.
        let own = |resource: usize| if resource == RESOURCES - 1 { 64 } else { 8 };
        let share =
            |resource: usize| u64::from(self.quota(self.root)[resource]).saturating_sub(own(resource)) * pages / all;
        let mut quota: Vec<u32> = (0..RESOURCES).map(|resource| share(resource) as u32).collect();
        quota[PAGES] = pages as u32;
        let handles = self.pool_of(process);
        let mut wanted = vec![(handles, HANDLES, 1), (pool, Kind::Pool as usize, 1)];
        wanted.extend(quota.iter().enumerate().map(|(resource, share)| (pool, resource, *share)));
        self.pay(&wanted)?;
        // Its parent owes it through its quota and its entry: it has a payer like every object.
        let place = self.add(Kind::Pool, Some(pool), Body::Pool { parent: Some(pool), quota });
        Ok(Expected::handle(self.handle(process, place, Kind::Pool, Rights::ALL, Some(parent))))
    }

    fn thread_create(&mut self, process: Place, pool: u64, owner: u64, budget: u64) -> Result<Expected, Error> {
        let (parent, pool) = self.want(process, pool, Kind::Pool, MANAGE)?;
        let (_, owner) = self.want(process, owner, Kind::Process, MANAGE)?;
        self.want(process, budget, Kind::Budget, Rights::NONE)?;
        if self.is_ended(owner) {
            return Err(Error::BadState);
        }
        self.create(process, parent, pool, Kind::Thread, 0, Body::Thread(Thread::new(owner)))
    }

    fn bind(&mut self, process: Place, endpoint: u64, event: u64, mask: u64) -> Result<Expected, Error> {
        let (_, endpoint) = self.want(process, endpoint, Kind::Endpoint, MANAGE)?;
        let (_, event) = self.want(process, event, Kind::Event, Rights::WAIT)?;
        let Body::Event { endpoint: bound, .. } = &mut self.things.get_mut(&event).expect("an event").body else {
            panic!("no event");
        };
        if bound.is_some_and(|bound| bound != endpoint) {
            return Err(Error::Occupied);
        }
        *bound = Some(endpoint);
        let Body::Endpoint { event: told, .. } = &mut self.things.get_mut(&endpoint).expect("an endpoint").body else {
            panic!("no endpoint");
        };
        let before = told.replace((event, mask));
        if let Some((before, _)) = before.filter(|before| before.0 != event) {
            self.unbind(before);
        }
        self.announce(endpoint);
        Ok(Expected::done())
    }

    /// An event is no endpoint's any more.
    pub(super) fn unbind(&mut self, event: Place) {
        if let Some(Body::Event { endpoint, .. }) = self.things.get_mut(&event).map(|thing| &mut thing.body) {
            *endpoint = None;
        }
    }

    /// Which object a line's interrupts go to.
    pub(super) fn line_owner(&self, line: u64) -> Option<Place> {
        let owns = |body: &Body| match body {
            Body::Lines { first, count: 1, message, target } => *first == line && (*message || target.is_some()),
            _ => false,
        };
        self.things.iter().find(|(_, thing)| owns(&thing.body)).map(|(place, _)| *place)
    }

    fn message_create(&mut self, process: Place, lines: u64, pool: u64) -> Result<Expected, Error> {
        let (parent, lines) = self.want(process, lines, Kind::Interrupt, MANAGE)?;
        let (_, pool) = self.want(process, pool, Kind::Pool, MANAGE)?;
        let Body::Lines { first, count, .. } = self.things[&lines].body else { panic!("no lines") };
        let (first, end) = (first.max(self.pins), first + count);
        if first >= end {
            return Err(Error::BadArgument);
        }
        let from = self.next_message.clamp(first, end);
        let line =
            (from..end).chain(first..from).find(|line| self.line_owner(*line).is_none()).ok_or(Error::NoQuota)?;
        let made = Body::Lines { first: line, count: 1, message: true, target: None };
        let mut made = self.create(process, parent, pool, Kind::Interrupt, 0, made)?;
        self.next_message = line + 1;
        made.words.extend([Word::Exactly(0xfee0_0000), Word::Exactly(line)]);
        Ok(made)
    }

    /// A device's line fires.
    pub(super) fn fire(&mut self, line: u64) {
        let owner = self.line_owner(line);
        if let Some(Body::Lines { target: Some((event, bits)), .. }) = owner.map(|owner| &self.things[&owner].body) {
            let (event, bits) = (*event, *bits);
            self.raise(event, bits);
        }
    }

    /// Names what was learned of an object.
    pub(super) fn name(&mut self, place: Place, real: Object) {
        let thing = self.things.get_mut(&place).expect("a thing");
        if thing.real == Object::Nothing {
            thing.real = real;
        }
    }
}
