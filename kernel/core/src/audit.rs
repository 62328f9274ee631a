//! For tests and the fuzzer: everything that must hold between two entries, counted anew from the tables. Nothing in the kernel
//! calls this, and it is built only with the feature `audit`.

use crate::{
    Frame, Hardware, Machine,
    arena::Id,
    node::{Holder, Object},
    pool::{LAST_KIND, Pool, Resource},
    queue::Queue,
    space::Backing,
    thread::{Answerer, State, Thread},
    timer::Alarm,
    vmo::Sharing,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use tessera_abi::{Kind, syscall::RESOURCE_HANDLES};

type Check = Result<(), String>;

fn same<T: PartialEq + core::fmt::Debug>(what: &str, told: T, counted: T) -> Check {
    if told == counted { Ok(()) } else { Err(format!("{what}: the record says {told:?}, counted are {counted:?}")) }
}

/// An object's name: kind and place. Both sides of a sealed pair are one object.
fn name(object: Object) -> (u64, u32) {
    let index = match object {
        Object::Pool(id) => id.index(),
        Object::Vmo(id) => id.index(),
        Object::Space(id) => id.index(),
        Object::Process(id) => id.index(),
        Object::Thread(id) => id.index(),
        Object::Budget(id) => id.index(),
        Object::Endpoint(id) => id.index(),
        Object::Session(id) => id.index(),
        Object::Reply(id) => id.index(),
        Object::Event(id) => id.index(),
        Object::Interrupt(id) => id.index(),
        Object::IoPort(id) => id.index(),
        Object::Mmio(id) => id.index(),
        Object::Dma(id) => id.index(),
        Object::Seal(id) | Object::Unseal(id) => return (Kind::Seal as u64, id.index()),
        Object::Sealed(id) => id.index(),
        Object::Clock | Object::Log | Object::Power | Object::Privilege | Object::Nothing => 0,
    };
    (object.kind().map_or(0, |kind| kind as u64), index)
}

impl<H: Hardware> Machine<H> {
    /// Checks everything; says what does not hold.
    pub fn audit(&self) -> Check {
        self.audit_pools()?;
        self.audit_references()?;
        self.audit_frames()?;
        self.audit_spaces()?;
        self.audit_queues()?;
        self.audit_calls()
    }

    /// What every pool owes of everything.
    pub fn charges(&self) -> Vec<u32> {
        let numbers = (0..=LAST_KIND).chain([RESOURCE_HANDLES]).filter_map(Resource::from_number);
        let numbers: Vec<Resource> = numbers.collect();
        self.pools.iter().flat_map(|(_, pool)| numbers.iter().map(|resource| pool.account(*resource).1)).collect()
    }

    /// Whether nothing waits to be taken apart.
    pub fn is_quiet(&self) -> bool {
        self.dead == crate::reaper::Dead::Nothing
    }

    /// Every pool owes what there is of it, nothing else.
    fn audit_pools(&self) -> Check {
        let mut owed: BTreeMap<(u32, u64), u32> = BTreeMap::new();
        let mut owe = |pool: Id<Pool>, resource: u64, amount: u32| {
            *owed.entry((pool.index(), resource)).or_default() += amount;
        };
        let resources = || (0..=LAST_KIND).chain([RESOURCE_HANDLES]);
        macro_rules! objects {
            ($($table:ident $kind:ident),*) => {$(
                for (_, object) in self.$table.iter() { owe(object.pool, Kind::$kind as u64, 1); }
            )*};
        }
        objects!(vmos Vmo, spaces Space, processes Process, threads Thread, budgets Budget, endpoints Endpoint,
            sessions Session, replies Reply, events Event, interrupts Interrupt, ports IoPort, devices Mmio, dmas Dma, brands Seal,
            boxes Sealed);
        for (_, node) in self.nodes.iter() {
            owe(node.pool, RESOURCE_HANDLES, 1);
        }
        let mut paid: BTreeSet<(u32, Frame)> = BTreeSet::new();
        for (_, vmo) in self.vmos.iter() {
            owe(vmo.pool, 0, vmo.tables);
            if vmo.sharing == Sharing::Anybody {
                owe(vmo.pool, 0, vmo.held);
            } else if vmo.levels != 0 {
                let new = |page: &Frame| paid.insert((vmo.pool.index(), *page));
                owe(vmo.pool, 0, self.audit_pages(vmo.root, vmo.levels).into_iter().filter(new).count() as u32);
            }
        }
        for (_, space) in self.spaces.iter() {
            owe(space.pool, 0, space.tables);
        }
        for (_, dma) in self.dmas.iter() {
            owe(dma.pool, 0, dma.pinned + dma.lists() + dma.tables);
        }
        for (_, thread) in self.threads.iter().filter(|(_, thread)| !thread.guest.space.is_none()) {
            owe(thread.guest.pool, 0, 2);
        }
        for (_, thread) in self.threads.iter().filter(|(_, thread)| !thread.vector_pool.is_none()) {
            owe(thread.vector_pool, 0, 1);
        }
        for (_, pool) in self.pools.iter().filter(|(_, pool)| !pool.parent.is_none()) {
            owe(pool.parent, Kind::Pool as u64, 1);
            for number in resources() {
                owe(pool.parent, number, Resource::from_number(number).map_or(0, |resource| pool.account(resource).0));
            }
        }
        for (id, pool) in self.pools.iter() {
            for number in resources() {
                let (quota, used) = Resource::from_number(number).map_or((0, 0), |resource| pool.account(resource));
                let counted = owed.get(&(id.index(), number)).copied().unwrap_or(0);
                same(&format!("resource {number} of pool {id:?}"), used, counted)?;
                if used > quota {
                    return Err(format!("pool {id:?} is overdrawn"));
                }
            }
        }
        Ok(())
    }

    /// Every object knows how many hold it.
    fn audit_references(&self) -> Check {
        let mut held: BTreeMap<(u64, u32), u32> = BTreeMap::new();
        let mut hold = |object: Object| *held.entry(name(object)).or_default() += 1;
        for (id, node) in self.nodes.iter() {
            hold(node.object);
            if let Holder::Process(process) = node.holder
                && self.processes.get(process).is_none()
            {
                return Err(format!("capability {id:?} is held by a process that is gone"));
            }
        }
        for (_, process) in self.processes.iter().filter(|(_, process)| !process.space.is_none()) {
            hold(Object::Space(process.space));
        }
        for (_, thread) in self.threads.iter().filter(|(_, thread)| !thread.guest.space.is_none()) {
            hold(Object::Space(thread.guest.space));
        }
        for (_, budget) in self.budgets.iter().filter(|(_, budget)| !budget.parent.is_none()) {
            hold(Object::Budget(budget.parent));
        }
        for (_, mapping) in self.mappings.iter().filter(|(_, mapping)| mapping.grave.buried) {
            if let Backing::Vmo(vmo) = mapping.backing {
                hold(Object::Vmo(vmo));
            }
        }
        macro_rules! objects {
            ($($table:ident $kind:ident),*) => {$(
                for (id, object) in self.$table.iter() {
                    let counted = held.remove(&name(Object::$kind(id))).unwrap_or(0);
                    same(concat!("holders of a ", stringify!($kind)), object.references, counted)?;
                }
            )*};
        }
        objects!(pools Pool, vmos Vmo, spaces Space, processes Process, threads Thread, budgets Budget, endpoints Endpoint,
            sessions Session, replies Reply, events Event, interrupts Interrupt, ports IoPort, devices Mmio, dmas Dma, brands Seal,
            boxes Sealed);
        let single = [Kind::Clock, Kind::Log, Kind::Power, Kind::Privilege].map(|kind| kind as u64);
        match held.keys().find(|(kind, _)| !single.contains(kind)) {
            None => Ok(()),
            Some(name) => Err(format!("a capability names {name:?}, which is gone")),
        }
    }

    /// Every mapping is found at its addresses, and nothing is mapped in a space's room.
    fn audit_spaces(&self) -> Check {
        for (id, mapping) in self.mappings.iter() {
            for address in [mapping.start, mapping.end - 1] {
                same(&format!("what is mapped at {address:#x}"), Some(id), self.mapping_at(mapping.space, address))?;
            }
        }
        for (id, space) in self.spaces.iter() {
            let behind = self.mapping_from(id, space.room.start).and_then(|id| self.mappings.get(id));
            if let Some(mapping) = behind.filter(|mapping| mapping.start < space.room.end) {
                return Err(format!("a mapping at {:#x} lies in the room of its space", mapping.start));
            }
        }
        Ok(())
    }

    /// Every frame has as many holders as lead to it, and those that nothing leads to are free.
    fn audit_frames(&self) -> Check {
        let mut leads: BTreeMap<Frame, u32> = BTreeMap::new();
        let mut to_visit: Vec<(Frame, u32)> = Vec::new();
        for (id, vmo) in self.vmos.iter() {
            if vmo.levels != 0 {
                *leads.entry(vmo.root).or_default() += 1;
                to_visit.push((vmo.root, vmo.levels));
            }
            if !vmo.grave.buried {
                let reached = if vmo.levels == 0 { Default::default() } else { self.audit_tree(vmo.root, vmo.levels) };
                same(&format!("pages and tables of memory {id:?}"), (vmo.held, vmo.tables), reached)?;
            }
        }
        let mut visited = BTreeSet::new();
        while let Some((table, levels)) = to_visit.pop() {
            if levels == 0 || !visited.insert(table) {
                continue;
            }
            for entry in (0..512).map(|index| self.hardware.load(table, index)).filter(|entry| *entry != 0) {
                *leads.entry(Frame(entry)).or_default() += 1;
                to_visit.push((Frame(entry), levels - 1));
            }
        }
        for (frame, counted) in &leads {
            same(&format!("holders of {frame:?}"), self.frames.holders(*frame), *counted)?;
        }
        let lists = self.audit_pins(&mut leads)?;
        let tables = self.spaces.iter().map(|(_, space)| space.tables).sum::<u32>()
            + self.dmas.iter().map(|(_, dma)| dma.tables).sum::<u32>();
        let guests = self.threads.iter().filter(|(_, thread)| !thread.guest.space.is_none()).count() as u32;
        let vectors = self.threads.iter().filter(|(_, thread)| !thread.vector_pool.is_none()).count() as u32;
        // The boot archive's frames come on top of those that were free at the start.
        let first = self.pools.iter().find(|(_, pool)| pool.parent.is_none());
        let all = first.map_or(0, |(_, pool)| pool.account(Resource::PAGES).0);
        same("free frames", self.frames.available() + leads.len() as u32 + lists + tables + 2 * guests + vectors, all)
    }

    /// Every frame and every VMO knows how often it is pinned. Answers the frames of the lists; pinned frames join `leads`.
    fn audit_pins(&self, leads: &mut BTreeMap<Frame, u32>) -> Result<u32, String> {
        let mut frames: BTreeMap<Frame, u32> = BTreeMap::new();
        let mut vmos: BTreeMap<u32, u32> = BTreeMap::new();
        let mut lists = 0;
        for (_, dma) in self.dmas.iter() {
            let (mut list, mut left) = (dma.list, dma.pinned);
            lists += dma.lists();
            while let Some(index) = left.checked_sub(1) {
                let (frame, vmo) = self.dma_pinned(list, index);
                *frames.entry(frame).or_default() += 1;
                if self.vmos.get(vmo).is_some() {
                    *vmos.entry(vmo.index()).or_default() += 1;
                }
                left = index;
                if left.is_multiple_of(crate::dma::PINS) {
                    list = Frame(self.hardware.load(list, 0));
                }
            }
        }
        for (id, vmo) in self.vmos.iter() {
            same(&format!("pins of {id:?}"), vmo.pinned, vmos.get(&id.index()).copied().unwrap_or(0))?;
        }
        for (frame, count) in frames {
            same(&format!("pins of {frame:?}"), self.frames.pins(frame), count)?;
            leads.entry(frame).or_default();
        }
        Ok(lists)
    }

    /// The pages that a tree reaches.
    fn audit_pages(&self, table: Frame, levels: u32) -> Vec<Frame> {
        let entries = (0..512).map(|index| self.hardware.load(table, index)).filter(|entry| *entry != 0);
        match levels {
            1 => entries.map(Frame).collect(),
            _ => entries.flat_map(|entry| self.audit_pages(Frame(entry), levels - 1)).collect(),
        }
    }

    /// Pages and tables that a tree reaches.
    fn audit_tree(&self, table: Frame, levels: u32) -> (u32, u32) {
        if levels == 0 {
            return (1, 0);
        }
        let entries = (0..512).map(|index| self.hardware.load(table, index)).filter(|entry| *entry != 0);
        entries
            .map(|entry| self.audit_tree(Frame(entry), levels - 1))
            .fold((0, 1), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// Every thread stands in the queue that its state names, and in no other.
    fn audit_queues(&self) -> Check {
        let mut queued = 0;
        let mut walk = |queue: &Queue, fits: &dyn Fn(State) -> bool| -> Check {
            let (mut next, mut ahead) = (queue.first(), Id::NONE);
            while let Some(thread) = self.threads.get(next) {
                if !fits(thread.state) || thread.ahead != ahead {
                    return Err(format!(
                        "thread {next:?} in state {:?} stands in a queue it does not belong in",
                        thread.state
                    ));
                }
                queued += 1;
                (ahead, next) = (next, thread.behind);
            }
            if next.is_none() { Ok(()) } else { Err("a queue leads to a thread that is gone".to_string()) }
        };
        for (number, processor) in self.processors.iter().enumerate() {
            for (level, queue) in processor.queues.iter().enumerate() {
                walk(
                    queue,
                    &|state| matches!(state, State::Ready { processor, priority } if processor == number && usize::from(priority) == level),
                )?;
            }
        }
        for (id, endpoint) in self.endpoints.iter() {
            walk(&endpoint.callers, &|state| state == State::Calling(id))?;
            walk(&endpoint.receivers, &|state| state == State::Receiving(id))?;
        }
        for (id, event) in self.events.iter() {
            let mut waiting = 0;
            let mut next = event.waiters.first();
            while let Some(thread) = self.threads.get(next) {
                (waiting, next) = (waiting + 1, thread.behind);
            }
            same("how many wait for an event", event.waiting, waiting)?;
            walk(&event.waiters, &|state| matches!(state, State::Waiting { event, .. } if event == id))?;
        }
        for (id, budget) in self.budgets.iter() {
            walk(&budget.throttled, &|state| state == State::Throttled(id))?;
        }
        let waiting = self.threads.iter().filter(|(_, thread)| match thread.state {
            State::Ready { .. }
            | State::Throttled(_)
            | State::Calling(_)
            | State::Receiving(_)
            | State::Waiting { .. } => true,
            State::New | State::Running | State::Stopped | State::Stalled | State::Awaiting(_) | State::Parked => false,
        });
        same("threads in queues", queued, waiting.count())?;
        for (index, (_, alarm)) in self.alarms.heap.iter().enumerate() {
            let place = match alarm {
                Alarm::Thread(id) => self.threads.get(*id).map(|thread| thread.alarm),
                Alarm::Budget(id) => self.budgets.get(*id).map(|budget| budget.alarm),
            };
            same("an alarm's place", place, Some(index as u32 + 1))?;
        }
        Ok(())
    }

    /// Who holds a call and who waits for its answer agree.
    fn audit_calls(&self) -> Check {
        for (id, thread) in self.threads.iter() {
            match thread.state {
                State::Awaiting(Answerer::Thread(server)) => {
                    same("whose call a thread holds", self.threads.get(server).map(|server| server.holds), Some(id))?;
                }
                State::Awaiting(Answerer::Reply(reply)) => {
                    same("whose call a reply holds", self.replies.get(reply).map(|reply| reply.caller), Some(id))?;
                }
                State::Running => {
                    same("who runs", self.processors.get(thread.processor).map(|entry| entry.current), Some(id))?;
                }
                _ => {}
            }
            let held = self.threads.get(thread.holds).map(|held: &Thread| held.state);
            if !thread.holds.is_none() && held != Some(State::Awaiting(Answerer::Thread(id))) {
                return Err(format!("thread {id:?} holds the call of one in state {held:?}"));
            }
        }
        for (id, processor) in self.processors.iter().enumerate().filter(|(_, entry)| !entry.current.is_none()) {
            let found = self.threads.get(processor.current).map(|thread| (thread.state, thread.processor));
            same("the state of who runs", found, Some((State::Running, id)))?;
        }
        Ok(())
    }
}
