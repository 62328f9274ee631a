//! Processes: a space and a handle table. A process ends when it is killed, exits, faults without a handler, has no thread left,
//! or when nobody holds a handle to it any more; then its threads stop and its handles are closed.

use crate::{
    Caller, Flow, Hardware, Machine,
    arena::Id,
    endpoint::Endpoint,
    event::Event,
    node::{Node, Object},
    pool::{Pool, Resource},
    reaper::{Dead, Grave, Progress},
    space::Space,
    thread::Thread,
};
use tessera_abi::{Error, FaultKind, Kind, Rights};

/// Where a process stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    #[default]
    New,
    Running,
    Ended,
}

/// Why and where a process faulted.
#[derive(Clone, Copy, Debug)]
pub struct Epitaph {
    pub kind: FaultKind,
    pub address: u64,
    pub instruction: u64,
}

/// A process.
#[derive(Default)]
pub struct Process {
    pub(crate) references: u32,
    /// Pays for the handles too.
    pub(crate) pool: Id<Pool>,
    pub(crate) grave: Grave,
    pub(crate) space: Id<Space>,
    pub(crate) name: [u8; 16],
    pub(crate) state: State,
    code: u64,
    pub(crate) epitaph: Option<Epitaph>,
    /// The newest of its threads and handles.
    pub(crate) threads: Id<Thread>,
    pub(crate) thread_count: u32,
    pub(crate) handles: Id<Node>,
    watch: (Id<Event>, u64),
    pub(crate) handler: (Id<Endpoint>, u64),
}

impl<H: Hardware> Machine<H> {
    /// Makes a process in a space.
    pub(crate) fn process_make(
        &mut self,
        pool: Id<Pool>,
        space: Id<Space>,
        name: [u8; 16],
    ) -> Result<Id<Process>, Error> {
        let id = self.processes.insert(Process { pool, space, name, ..Process::default() }).ok_or(Error::NoQuota)?;
        self.reference(Object::Space(space));
        Ok(id)
    }

    /// `process_create`.
    pub(crate) fn process_create(
        &mut self,
        caller: &Caller,
        pool: u64,
        space: u64,
        name: [u64; 2],
    ) -> Result<u64, Error> {
        let (node, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let (_, space) = self.space(caller.process, space, Rights::MANAGE)?;
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(name.iter().flat_map(|word| word.to_le_bytes())) {
            // Names stand in reports: nothing but visible ASCII.
            *to = if from == 0 || from.is_ascii_graphic() { from } else { b'?' };
        }
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Process, handles)?;
        let process = self.process_make(pool, space, bytes)?;
        self.publish(caller.process, node, Object::Process(process), Rights::ALL)
    }

    /// `process_grant`.
    pub(crate) fn process_grant(&mut self, caller: &Caller, process: u64, handle: u64) -> Result<u64, Error> {
        let (_, process) = self.process(caller.process, process, Rights::MANAGE)?;
        let node = self.transferable(caller.process, handle)?;
        if self.processes.get(process).is_none_or(|process| process.state == State::Ended) {
            return Err(Error::BadState);
        }
        self.node_move(node, process)
    }

    /// `process_kill`.
    pub(crate) fn process_kill(&mut self, caller: &Caller, process: u64, code: u64) -> Result<Flow, Error> {
        let (_, process) = self.process(caller.process, process, Rights::MANAGE)?;
        self.process_end(process, code);
        self.drain(caller.thread);
        Ok(Flow::Done)
    }

    /// `process_inspect`.
    pub(crate) fn process_inspect(&mut self, caller: &Caller, process: u64) -> Result<Flow, Error> {
        let (_, process) = self.process(caller.process, process, Rights::NONE)?;
        let process = self.processes.get(process).ok_or(Error::Gone)?;
        let (kind, address, instruction) =
            process.epitaph.map_or((0, 0, 0), |epitaph| (epitaph.kind as u64, epitaph.address, epitaph.instruction));
        Ok(Flow::Values([process.state as u64, process.code, kind, address, instruction, 0]))
    }

    /// `process_watch`.
    pub(crate) fn process_watch(
        &mut self,
        caller: &Caller,
        process: u64,
        event: u64,
        bits: u64,
    ) -> Result<Flow, Error> {
        let (_, process) = self.process(caller.process, process, Rights::WAIT)?;
        let (_, event) = self.event(caller.process, event, Rights::SIGNAL)?;
        let entry = self.processes.get_mut(process).ok_or(Error::Gone)?;
        if entry.state == State::Ended {
            self.raise(event, bits);
        } else {
            entry.watch = (event, bits);
        }
        Ok(Flow::Done)
    }

    /// `process_handler`.
    pub(crate) fn process_handler(
        &mut self,
        caller: &Caller,
        process: u64,
        endpoint: u64,
        badge: u64,
    ) -> Result<Flow, Error> {
        let (_, process) = self.process(caller.process, process, Rights::MANAGE)?;
        let (_, endpoint) = self.endpoint(caller.process, endpoint, Rights::MANAGE)?;
        self.processes.get_mut(process).ok_or(Error::Gone)?.handler = (endpoint, badge);
        Ok(Flow::Done)
    }

    /// A process ends: from now on none of its threads runs on, and the reaper takes it apart.
    pub(crate) fn process_end(&mut self, id: Id<Process>, code: u64) {
        let Some(process) = self.processes.get_mut(id).filter(|process| process.state != State::Ended) else { return };
        process.state = State::Ended;
        process.code = code;
        if id == self.first {
            // Nobody is left who could start anything: the machine ends with the first program's code.
            self.hardware.power(crate::PowerAction::Off(u32::try_from(code).unwrap_or(u32::MAX)));
            return;
        }
        let (event, bits) = core::mem::take(&mut process.watch);
        let mut thread = process.threads;
        while let Some(entry) = self.threads.get_mut(thread) {
            entry.ended = true;
            let older = entry.older;
            self.attend_thread(thread);
            thread = older;
        }
        self.bury(Dead::Process(id));
        self.raise(event, bits);
    }

    pub(crate) fn process_unnamed(&mut self, id: Id<Process>) {
        self.process_end(id, 0);
        if self.processes.get(id).is_some_and(|process| !process.grave.buried) {
            self.process_free(id);
        }
    }

    pub(crate) fn process_reap(&mut self, id: Id<Process>) -> Progress {
        let Some(process) = self.processes.get(id) else { return Progress::Finished };
        let (thread, node) = (process.threads, process.handles);
        if !thread.is_none() {
            // It leaves the process when its own turn on the list comes.
            self.thread_end(thread);
            return Progress::More;
        }
        if !node.is_none() {
            self.node_remove(node);
            return Progress::More;
        }
        if let Some(process) = self.processes.get_mut(id) {
            process.grave = Grave::default();
            let space = core::mem::take(&mut process.space);
            self.unreference(Object::Space(space));
        }
        if self.processes.get(id).is_some_and(|process| process.references == 0) {
            self.process_free(id);
        }
        Progress::Finished
    }

    fn process_free(&mut self, id: Id<Process>) {
        if let Some(process) = self.processes.remove(id) {
            self.credit(process.pool, Resource::of(Kind::Process), 1);
        }
    }
}
