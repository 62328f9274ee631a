//! The end of objects, in steps. What can be long (an address space's tables, a process's handles) is put on a list when its
//! last holder goes, and taken apart a bounded piece at a time: by the thread whose call caused it, before that call returns, or
//! by a processor that has nothing else to do.

use crate::{
    Hardware, Machine,
    arena::Id,
    dma::Dma,
    endpoint::Endpoint,
    event::Event,
    process::Process,
    seal::Sealed,
    space::{Mapping, Space},
    thread::Thread,
    vmo::Vmo,
};

/// Something to take apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dead {
    #[default]
    Nothing,
    Process(Id<Process>),
    Thread(Id<Thread>),
    Space(Id<Space>),
    Mapping(Id<Mapping>),
    Vmo(Id<Vmo>),
    Endpoint(Id<Endpoint>),
    Event(Id<Event>),
    Sealed(Id<Sealed>),
    Dma(Id<Dma>),
}

/// Where an object stands on its way out; kept in each object that the reaper takes apart.
#[derive(Default)]
pub struct Grave {
    /// Whether the object is on the list.
    pub buried: bool,
    next: Dead,
}

/// What a step of taking something apart came to.
#[derive(PartialEq, Eq)]
pub enum Progress {
    /// There is more to do.
    More,
    /// Nothing is left of it.
    Finished,
    /// It has to wait for another processor to let go.
    Stuck,
}

impl<H: Hardware> Machine<H> {
    fn grave(&mut self, dead: Dead) -> Option<&mut Grave> {
        match dead {
            Dead::Nothing => None,
            Dead::Process(id) => self.processes.get_mut(id).map(|object| &mut object.grave),
            Dead::Thread(id) => self.threads.get_mut(id).map(|object| &mut object.grave),
            Dead::Space(id) => self.spaces.get_mut(id).map(|object| &mut object.grave),
            Dead::Mapping(id) => self.mappings.get_mut(id).map(|object| &mut object.grave),
            Dead::Vmo(id) => self.vmos.get_mut(id).map(|object| &mut object.grave),
            Dead::Endpoint(id) => self.endpoints.get_mut(id).map(|object| &mut object.grave),
            Dead::Event(id) => self.events.get_mut(id).map(|object| &mut object.grave),
            Dead::Sealed(id) => self.boxes.get_mut(id).map(|object| &mut object.grave),
            Dead::Dma(id) => self.dmas.get_mut(id).map(|object| &mut object.grave),
        }
    }

    /// Puts an object at the end of the list; once is enough.
    pub(crate) fn bury(&mut self, dead: Dead) {
        if let Some(grave) = self.grave(dead).filter(|grave| !grave.buried) {
            *grave = Grave { buried: true, next: Dead::Nothing };
            self.append(dead);
        }
    }

    fn append(&mut self, dead: Dead) {
        let last = core::mem::replace(&mut self.last_dead, dead);
        match self.grave(last) {
            Some(grave) => grave.next = dead,
            None => self.dead = dead,
        }
    }

    /// Lets `thread` take part in the work before it goes on, if there is any.
    #[inline(always)]
    pub(crate) fn drain(&mut self, thread: Id<Thread>) {
        if self.dead != Dead::Nothing {
            self.drain_before(thread);
        }
    }

    fn drain_before(&mut self, thread: Id<Thread>) {
        if let Some(entry) = self.threads.get_mut(thread) {
            entry.draining = true;
            self.attend_thread(thread);
        }
    }

    /// One step on the first of the list; false when there is nothing to do, or it has to wait for another processor.
    /// What is not finished goes to the end, so that what it waits for has its turn.
    pub(crate) fn reap(&mut self) -> bool {
        let dead = self.dead;
        let Some(grave) = self.grave(dead) else { return false };
        self.dead = core::mem::take(&mut grave.next);
        if self.dead == Dead::Nothing {
            self.last_dead = Dead::Nothing;
        }
        let progress = match dead {
            Dead::Nothing => Progress::Finished,
            Dead::Process(id) => self.process_reap(id),
            Dead::Thread(id) => self.thread_reap(id),
            Dead::Space(id) => self.space_reap(id),
            Dead::Mapping(id) => self.mapping_reap(id),
            Dead::Vmo(id) => self.vmo_reap(id),
            Dead::Endpoint(id) => self.endpoint_reap(id),
            Dead::Event(id) => self.event_reap(id),
            Dead::Sealed(id) => self.sealed_reap(id),
            Dead::Dma(id) => self.dma_reap(id),
        };
        if progress != Progress::Finished {
            self.append(dead);
        }
        progress != Progress::Stuck
    }
}
