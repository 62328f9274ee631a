//! Capabilities: one record for every handle, every mapping and every sealed handle, in one derivation order.
//!
//! The order is a list of brackets: every record has an opening and a closing one, and what was derived from a record stands
//! between its two. Taking one record out is constant time; whatever was derived from it then counts as derived from what it
//! was derived from, and from nothing else. A new record is put directly behind its parent's opening bracket.

use crate::{
    Caller, Flow, Hardware, Machine,
    arena::Id,
    budget::Budget,
    device::{Device, InterruptLine, Ports},
    dma::Dma,
    endpoint::{Endpoint, Reply, Session},
    event::Event,
    pool::{Pool, Resource},
    process::Process,
    seal::{Brand, Sealed},
    space::{Mapping, Space},
    thread::Thread,
    vmo::Vmo,
};
use tessera_abi::{Error, Kind, Rights};

/// What a capability names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Object {
    #[default]
    Nothing,
    Pool(Id<Pool>),
    Vmo(Id<Vmo>),
    Space(Id<Space>),
    Process(Id<Process>),
    Thread(Id<Thread>),
    Budget(Id<Budget>),
    Endpoint(Id<Endpoint>),
    Session(Id<Session>),
    Reply(Id<Reply>),
    Event(Id<Event>),
    Interrupt(Id<InterruptLine>),
    IoPort(Id<Ports>),
    Mmio(Id<Device>),
    Clock,
    Log,
    Power,
    Privilege,
    Seal(Id<Brand>),
    Unseal(Id<Brand>),
    Sealed(Id<Sealed>),
    Dma(Id<Dma>),
}

impl Object {
    /// The kind, as user space knows it.
    pub fn kind(self) -> Option<Kind> {
        Some(match self {
            Object::Nothing => return None,
            Object::Pool(_) => Kind::Pool,
            Object::Vmo(_) => Kind::Vmo,
            Object::Space(_) => Kind::Space,
            Object::Process(_) => Kind::Process,
            Object::Thread(_) => Kind::Thread,
            Object::Budget(_) => Kind::Budget,
            Object::Endpoint(_) => Kind::Endpoint,
            Object::Session(_) => Kind::Session,
            Object::Reply(_) => Kind::Reply,
            Object::Event(_) => Kind::Event,
            Object::Interrupt(_) => Kind::Interrupt,
            Object::IoPort(_) => Kind::IoPort,
            Object::Mmio(_) => Kind::Mmio,
            Object::Clock => Kind::Clock,
            Object::Log => Kind::Log,
            Object::Power => Kind::Power,
            Object::Privilege => Kind::Privilege,
            Object::Seal(_) => Kind::Seal,
            Object::Unseal(_) => Kind::Unseal,
            Object::Sealed(_) => Kind::Sealed,
            Object::Dma(_) => Kind::Dma,
        })
    }
}

/// Who holds a capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Holder {
    #[default]
    Nobody,
    /// A process: it is a handle.
    Process(Id<Process>),
    /// A mapping: it keeps the mapped memory.
    Mapping(Id<Mapping>),
    /// A sealed box.
    Box(Id<Sealed>),
}

/// A bracket of the derivation order, in one word: the record's name, in which a bit that no index needs says which of its two.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Bracket(u64);

const CLOSING: u64 = 1 << 31;
const _: () = assert!((MAX_NODES as u64) < CLOSING);

impl Bracket {
    fn opening(node: Id<Node>) -> Bracket {
        Bracket(node.to_bits() & !CLOSING)
    }

    fn closing(node: Id<Node>) -> Bracket {
        Bracket(node.to_bits() | CLOSING)
    }

    fn closes(self) -> bool {
        self.0 & CLOSING != 0
    }

    /// The record; one that is not there for the end of the order.
    fn node(self) -> Id<Node> {
        Id::from_bits(self.0 & !CLOSING)
    }
}

/// The end of the order.
impl Default for Bracket {
    fn default() -> Bracket {
        Bracket::opening(Id::NONE)
    }
}

/// A bracket's neighbours.
#[derive(Clone, Copy, Default)]
struct Place {
    before: Bracket,
    after: Bracket,
}

/// A capability.
#[derive(Default)]
pub struct Node {
    /// The handle's number in its process; zero is no handle.
    pub(crate) number: u32,
    pub(crate) rights: Rights,
    pub(crate) object: Object,
    pub(crate) holder: Holder,
    /// The holder, if it is a process.
    pub(crate) process: Id<Process>,
    /// Who was charged for it.
    pub(crate) pool: Id<Pool>,
    opening: Place,
    closing: Place,
    /// The process's other handles.
    older: Id<Node>,
    newer: Id<Node>,
}

/// Handle numbers: the place in the table plus one in the lower bits, part of the generation above.
const INDEX_BITS: u32 = 20;
/// Most capabilities there can be.
pub const MAX_NODES: usize = (1 << INDEX_BITS) - 1;
const _: () = assert!(MAX_NODES < u32::MAX as usize >> 8, "twelve bits are left for the generation");

fn number_of(id: Id<Node>) -> u32 {
    (id.generation() >> 1) << INDEX_BITS | (id.index().wrapping_add(1) & MAX_NODES as u32)
}

/// How many derived capabilities one entry removes before the call is made again.
const REVOKE_STEP: usize = 32;

macro_rules! lookups {
    ($($(#[$inline:meta])? $name:ident: $kind:ident => $object:ty;)*) => {
        impl<H: Hardware> Machine<H> {$(
            $(#[$inline])?
            /// The object that a handle of `process` names, if it is of this kind and has these rights.
            pub(crate) fn $name(&self, process: Id<Process>, number: u64, rights: Rights) -> Result<(Id<Node>, Id<$object>), Error> {
                let (id, node) = self.find(process, number)?;
                let Object::$kind(object) = node.object else { return Err(Error::WrongKind) };
                if node.rights.contains(rights) { Ok((id, object)) } else { Err(Error::NoRight) }
            }
        )*}
    };
}

lookups! {
    pool: Pool => Pool;
    vmo: Vmo => Vmo;
    #[inline(always)] space: Space => Space;
    process: Process => Process;
    thread: Thread => Thread;
    budget: Budget => Budget;
    endpoint: Endpoint => Endpoint;
    session: Session => Session;
    reply: Reply => Reply;
    event: Event => Event;
    line: Interrupt => InterruptLine;
    ports: IoPort => Ports;
    device: Mmio => Device;
    seal: Seal => Brand;
    unseal: Unseal => Brand;
    sealed: Sealed => Sealed;
    dma: Dma => Dma;
}

impl<H: Hardware> Machine<H> {
    /// The capability behind a handle of a process.
    #[inline(always)]
    pub(crate) fn find(&self, process: Id<Process>, number: u64) -> Result<(Id<Node>, &Node), Error> {
        let index = (number as u32 & MAX_NODES as u32).wrapping_sub(1);
        match self.nodes.at(index) {
            Some((id, node)) if u64::from(node.number) == number && node.process == process => Ok((id, node)),
            _ => Err(Error::BadHandle),
        }
    }

    /// A handle to one of the objects that there is only one of.
    pub(crate) fn single(
        &self,
        process: Id<Process>,
        number: u64,
        object: Object,
        rights: Rights,
    ) -> Result<(), Error> {
        let (_, node) = self.find(process, number)?;
        match (node.object == object, node.rights.contains(rights)) {
            (false, _) => Err(Error::WrongKind),
            (_, false) => Err(Error::NoRight),
            _ => Ok(()),
        }
    }

    /// The pool that pays for a process's handles.
    pub(crate) fn handle_pool(&self, process: Id<Process>) -> Result<Id<Pool>, Error> {
        self.processes.get(process).map(|process| process.pool).ok_or(Error::Gone)
    }

    /// Makes a capability, charged before to `pool`, behind `parent` (`NONE`: derived from nothing).
    #[inline(always)]
    pub(crate) fn node_create(
        &mut self,
        parent: Id<Node>,
        object: Object,
        rights: Rights,
        holder: Holder,
        pool: Id<Pool>,
    ) -> Result<Id<Node>, Error> {
        let above = Bracket::opening(parent);
        let behind = self.nodes.get(parent).map(|node| node.opening.after).unwrap_or_default();
        let (id, node) = self.nodes.insert_default().ok_or(Error::NoQuota)?;
        let (opening, closing) = (Bracket::opening(id), Bracket::closing(id));
        node.rights = rights;
        node.object = object;
        node.pool = pool;
        node.opening = Place { before: above, after: closing };
        node.closing = Place { before: opening, after: behind };
        if let Some(parent) = self.nodes.get_mut(parent) {
            parent.opening.after = opening;
        }
        if let Some(place) = self.bracket_place(behind) {
            place.before = closing;
        }
        self.reference(object);
        self.node_hold(id, holder);
        Ok(id)
    }

    #[inline(always)]
    fn bracket_place(&mut self, bracket: Bracket) -> Option<&mut Place> {
        let node = self.nodes.get_mut(bracket.node())?;
        Some(if bracket.closes() { &mut node.closing } else { &mut node.opening })
    }

    /// Makes two brackets neighbours; one that names no record is the end of the order.
    #[inline(always)]
    fn join_brackets(&mut self, before: Bracket, after: Bracket) {
        if let Some(place) = self.bracket_place(before) {
            place.after = after;
        }
        if let Some(place) = self.bracket_place(after) {
            place.before = before;
        }
    }

    /// Makes a handle for `process`, already charged, and answers its number.
    pub(crate) fn publish(
        &mut self,
        process: Id<Process>,
        parent: Id<Node>,
        object: Object,
        rights: Rights,
    ) -> Result<u64, Error> {
        let pool = self.handle_pool(process)?;
        let id = self.node_create(parent, object, rights, Holder::Process(process), pool)?;
        Ok(self.nodes.get(id).map_or(0, |node| u64::from(node.number)))
    }

    /// Gives a capability to a holder.
    #[inline(always)]
    pub(crate) fn node_hold(&mut self, id: Id<Node>, holder: Holder) {
        let mut head = Id::NONE;
        if let Holder::Process(process) = holder
            && let Some(process) = self.processes.get_mut(process)
        {
            head = core::mem::replace(&mut process.handles, id);
        }
        if let Some(node) = self.nodes.get_mut(head) {
            node.newer = id;
        }
        if let Some(node) = self.nodes.get_mut(id) {
            node.holder = holder;
            node.process = if let Holder::Process(process) = holder { process } else { Id::NONE };
            node.older = head;
            node.newer = Id::NONE;
            node.number = if matches!(holder, Holder::Process(_)) { number_of(id) } else { 0 };
        }
    }

    /// Takes a capability from its holder; it is nobody's until `node_hold`.
    pub(crate) fn node_unhold(&mut self, id: Id<Node>) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let (holder, older, newer) =
            (core::mem::take(&mut node.holder), core::mem::take(&mut node.older), core::mem::take(&mut node.newer));
        node.number = 0;
        node.process = Id::NONE;
        if let Some(node) = self.nodes.get_mut(older) {
            node.newer = newer;
        }
        match self.nodes.get_mut(newer) {
            Some(node) => node.older = older,
            None => {
                if let Holder::Process(process) = holder
                    && let Some(process) = self.processes.get_mut(process)
                {
                    process.handles = older;
                }
            }
        }
    }

    /// Takes a handle out of the caller's table to put it somewhere else: the rights are checked, nothing is changed yet.
    pub(crate) fn transferable(&self, process: Id<Process>, number: u64) -> Result<Id<Node>, Error> {
        let (id, node) = self.find(process, number)?;
        if node.rights.contains(Rights::TRANSFER) { Ok(id) } else { Err(Error::NoRight) }
    }

    /// Moves a handle to another process, which pays for it from then on; answers its number there.
    pub(crate) fn node_move(&mut self, id: Id<Node>, to: Id<Process>) -> Result<u64, Error> {
        let pool = self.handle_pool(to)?;
        let from = self.nodes.get(id).map(|node| node.pool).ok_or(Error::BadHandle)?;
        if pool != from {
            self.charge(pool, Resource::HANDLES, 1)?;
            self.credit(from, Resource::HANDLES, 1);
        }
        let within = self.nodes.get(id).is_some_and(|node| node.process == to);
        self.node_unhold(id);
        // The number that the sender used names nothing afterwards, whoever the receiver is.
        let id = if within { self.node_renew(id) } else { id };
        if let Some(node) = self.nodes.get_mut(id) {
            node.pool = pool;
        }
        self.node_hold(id, Holder::Process(to));
        Ok(self.nodes.get(id).map_or(0, |node| u64::from(node.number)))
    }

    /// Puts a capability that nobody holds into a new record, in the same place of the derivation order.
    fn node_renew(&mut self, id: Id<Node>) -> Id<Node> {
        let Some(node) = self.nodes.remove(id) else { return Id::NONE };
        let (opening, closing) = (node.opening, node.closing);
        // The record just left is free: there is room.
        let Some(new) = self.nodes.insert(Node { opening: Place::default(), closing: Place::default(), ..node }) else {
            return Id::NONE;
        };
        let (first, last) = (Bracket::opening(new), Bracket::closing(new));
        self.join_brackets(opening.before, first);
        if opening.after == Bracket::closing(id) {
            self.join_brackets(first, last);
        } else {
            self.join_brackets(first, opening.after);
            self.join_brackets(closing.before, last);
        }
        self.join_brackets(last, closing.after);
        new
    }

    /// Removes a capability. The object goes with its last one, at the latest when the reaper has run.
    pub(crate) fn node_remove(&mut self, id: Id<Node>) {
        self.node_unhold(id);
        self.node_drop(id);
    }

    /// The same for one that is in no process's table.
    #[inline(always)]
    pub(crate) fn node_drop(&mut self, id: Id<Node>) {
        let Some(node) = self.nodes.get(id) else { return };
        let (opening, closing, object, pool) = (node.opening, node.closing, node.object, node.pool);
        self.nodes.discard(id);
        if opening.after == Bracket::closing(id) {
            // Nothing was derived from it.
            self.join_brackets(opening.before, closing.after);
        } else {
            self.join_brackets(opening.before, opening.after);
            self.join_brackets(closing.before, closing.after);
        }
        self.unreference(object);
        self.credit(pool, Resource::HANDLES, 1);
    }

    /// `close`.
    pub(crate) fn close(&mut self, caller: &Caller, number: u64) -> Result<Flow, Error> {
        let (id, _) = self.find(caller.process, number)?;
        self.node_remove(id);
        self.drain(caller.thread);
        Ok(Flow::Done)
    }

    /// `duplicate`.
    pub(crate) fn duplicate(&mut self, caller: &Caller, number: u64, rights: u64) -> Result<u64, Error> {
        let (id, node) = self.find(caller.process, number)?;
        if !node.rights.contains(Rights::DUPLICATE) {
            return Err(Error::NoRight);
        }
        let rights = Rights::from_bits(rights).ok_or(Error::BadArgument)?;
        if !node.rights.contains(rights) {
            return Err(Error::NoRight);
        }
        let object = node.object;
        let pool = self.handle_pool(caller.process)?;
        self.charge(pool, Resource::HANDLES, 1)?;
        self.publish(caller.process, id, object, rights)
    }

    /// `revoke`: some of what was derived is removed at each entry, until nothing is left.
    pub(crate) fn revoke(&mut self, caller: &Caller, number: u64) -> Result<Flow, Error> {
        let (id, node) = self.find(caller.process, number)?;
        if !node.rights.contains(Rights::MANAGE) {
            return Err(Error::NoRight);
        }
        let end = Bracket::closing(id);
        for _ in 0..REVOKE_STEP {
            let Some(bracket) = self.nodes.get(id).map(|node| node.opening.after) else { return Err(Error::Gone) };
            let next = bracket.node();
            let Some(node) = self.nodes.get(next).filter(|_| bracket != end) else {
                self.drain(caller.thread);
                return Ok(Flow::Done);
            };
            match node.holder {
                Holder::Mapping(mapping) => self.mapping_bury(mapping),
                Holder::Box(sealed) => self.sealed_empty(sealed),
                _ => self.node_remove(next),
            }
        }
        Ok(Flow::Again)
    }

    /// `inspect`: kind, rights, references.
    pub(crate) fn inspect(&mut self, caller: &Caller, number: u64) -> Result<Flow, Error> {
        let (_, node) = self.find(caller.process, number)?;
        let kind = node.object.kind().map_or(0, |kind| kind as u64);
        let references = u64::from(self.references(node.object));
        Ok(Flow::Values([kind, u64::from(node.rights.bits()), references, 0, 0, 0]))
    }

    fn references(&self, object: Object) -> u32 {
        match object {
            Object::Pool(id) => self.pools.get(id).map_or(0, |object| object.references),
            Object::Vmo(id) => self.vmos.get(id).map_or(0, |object| object.references),
            Object::Space(id) => self.spaces.get(id).map_or(0, |object| object.references),
            Object::Process(id) => self.processes.get(id).map_or(0, |object| object.references),
            Object::Thread(id) => self.threads.get(id).map_or(0, |object| object.references),
            Object::Budget(id) => self.budgets.get(id).map_or(0, |object| object.references),
            Object::Endpoint(id) => self.endpoints.get(id).map_or(0, |object| object.references),
            Object::Session(id) => self.sessions.get(id).map_or(0, |object| object.references),
            Object::Reply(id) => self.replies.get(id).map_or(0, |object| object.references),
            Object::Event(id) => self.events.get(id).map_or(0, |object| object.references),
            Object::Interrupt(id) => self.interrupts.get(id).map_or(0, |object| object.references),
            Object::IoPort(id) => self.ports.get(id).map_or(0, |object| object.references),
            Object::Mmio(id) => self.devices.get(id).map_or(0, |object| object.references),
            Object::Seal(id) | Object::Unseal(id) => self.brands.get(id).map_or(0, |object| object.references),
            Object::Sealed(id) => self.boxes.get(id).map_or(0, |object| object.references),
            Object::Dma(id) => self.dmas.get(id).map_or(0, |object| object.references),
            Object::Clock | Object::Log | Object::Power | Object::Privilege | Object::Nothing => 0,
        }
    }

    /// Counts one more holder of an object.
    #[inline(always)]
    pub(crate) fn reference(&mut self, object: Object) {
        if let Some(count) = self.count(object) {
            *count = count.saturating_add(1);
        }
    }

    #[inline(always)]
    fn count(&mut self, object: Object) -> Option<&mut u32> {
        match object {
            Object::Pool(id) => self.pools.get_mut(id).map(|object| &mut object.references),
            Object::Vmo(id) => self.vmos.get_mut(id).map(|object| &mut object.references),
            Object::Space(id) => self.spaces.get_mut(id).map(|object| &mut object.references),
            Object::Process(id) => self.processes.get_mut(id).map(|object| &mut object.references),
            Object::Thread(id) => self.threads.get_mut(id).map(|object| &mut object.references),
            Object::Budget(id) => self.budgets.get_mut(id).map(|object| &mut object.references),
            Object::Endpoint(id) => self.endpoints.get_mut(id).map(|object| &mut object.references),
            Object::Session(id) => self.sessions.get_mut(id).map(|object| &mut object.references),
            Object::Reply(id) => self.replies.get_mut(id).map(|object| &mut object.references),
            Object::Event(id) => self.events.get_mut(id).map(|object| &mut object.references),
            Object::Interrupt(id) => self.interrupts.get_mut(id).map(|object| &mut object.references),
            Object::IoPort(id) => self.ports.get_mut(id).map(|object| &mut object.references),
            Object::Mmio(id) => self.devices.get_mut(id).map(|object| &mut object.references),
            Object::Seal(id) | Object::Unseal(id) => self.brands.get_mut(id).map(|object| &mut object.references),
            Object::Sealed(id) => self.boxes.get_mut(id).map(|object| &mut object.references),
            Object::Dma(id) => self.dmas.get_mut(id).map(|object| &mut object.references),
            Object::Clock | Object::Log | Object::Power | Object::Privilege | Object::Nothing => None,
        }
    }

    /// Counts one holder fewer; without any the object goes.
    #[inline(always)]
    pub(crate) fn unreference(&mut self, object: Object) {
        let Some(count) = self.count(object) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.unnamed(object);
        }
    }

    /// The last holder of an object is gone.
    #[inline(never)]
    fn unnamed(&mut self, object: Object) {
        match object {
            Object::Pool(id) => self.pool_unnamed(id),
            Object::Vmo(id) => self.bury(crate::reaper::Dead::Vmo(id)),
            Object::Space(id) => self.bury(crate::reaper::Dead::Space(id)),
            Object::Process(id) => self.process_unnamed(id),
            Object::Thread(id) => self.thread_unnamed(id),
            Object::Budget(id) => self.budget_unnamed(id),
            Object::Endpoint(id) => self.bury(crate::reaper::Dead::Endpoint(id)),
            Object::Session(id) => self.session_unnamed(id),
            Object::Reply(id) => self.reply_unnamed(id),
            Object::Event(id) => self.bury(crate::reaper::Dead::Event(id)),
            Object::Interrupt(id) => self.interrupt_unnamed(id),
            Object::IoPort(id) => {
                if let Some(object) = self.ports.remove(id) {
                    self.credit(object.pool, Resource::of(Kind::IoPort), 1);
                }
            }
            Object::Mmio(id) => {
                if let Some(object) = self.devices.remove(id) {
                    self.credit(object.pool, Resource::of(Kind::Mmio), 1);
                }
            }
            Object::Seal(id) | Object::Unseal(id) => {
                if let Some(object) = self.brands.remove(id) {
                    self.credit(object.pool, Resource::of(Kind::Seal), 1);
                }
            }
            Object::Sealed(id) => self.bury(crate::reaper::Dead::Sealed(id)),
            Object::Dma(id) => self.bury(crate::reaper::Dead::Dma(id)),
            Object::Clock | Object::Log | Object::Power | Object::Privilege | Object::Nothing => {}
        }
    }
}
