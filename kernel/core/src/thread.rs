//! Threads: what runs in a process. A thread that waits is a record in a table; its state says for what.

mod control;

use crate::{
    Activation, Caller, Flow, Frame, Hardware, Machine,
    arena::Id,
    budget::Budget,
    endpoint::{Endpoint, Reply},
    event::Event,
    node::Object,
    pool::{Pool, Resource},
    privilege::Knob,
    process::{self, Process},
    reaper::{Dead, Grave, Progress},
    space::Space,
    timer::Alarm,
    vmo::Miss,
};
use tessera_abi::{Error, Kind, Rights, USER_END, x86_64::Registers};

pub(crate) use control::{REGISTER_BYTES, registers_from_bytes, registers_to_bytes};

/// Most threads of a process: bounds the work of ending it.
pub const MAX_THREADS: u32 = 4096;

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// It was never started.
    #[default]
    New,
    /// It waits in a queue for its turn.
    Ready { processor: usize, priority: u8 },
    /// It runs, on its `processor`.
    Running,
    /// It could go on, but is suspended or about to end.
    Stopped,
    /// It could go on, but has no budget.
    Stalled,
    /// It could go on in its budget's next period.
    Throttled(Id<Budget>),
    /// Its call waits for a receiver.
    Calling(Id<Endpoint>),
    /// It waits for calls.
    Receiving(Id<Endpoint>),
    /// Its call was received; this thread or reply object answers it.
    Awaiting(Answerer),
    /// It waits for `unpark`.
    Parked,
    /// It waits for bits of an event.
    Waiting { event: Id<Event>, mask: u64, clear: u64 },
}

/// Who can answer a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answerer {
    Thread(Id<Thread>),
    Reply(Id<Reply>),
}

/// Why a thread calls: by itself, or the kernel for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Purpose {
    #[default]
    Call,
    /// A page: offset, and whether to write it.
    Page { badge: u64, offset: u64, write: bool },
    /// A fault.
    Fault { badge: u64, kind: tessera_abi::FaultKind, address: u64, instruction: u64 },
}

/// The second register file of a thread, and where it runs.
#[derive(Default)]
pub struct Guest {
    /// The space it runs in; `NONE`: the thread has no guest.
    pub space: Id<Space>,
    /// The space's table joined with the process's.
    pub view: Frame,
    pub activation: Activation,
    /// Where the thread keeps the guest's state.
    pub address: u64,
    /// A system call of the guest is told in the thread's registers, and nothing is written to its state.
    pub resumed: bool,
    pub pool: Id<Pool>,
}

/// Something that runs.
#[derive(Default)]
pub struct Thread {
    pub(crate) activation: Activation,
    pub(crate) in_guest: bool,
    pub(crate) state: State,
    /// The process it belongs to.
    pub(crate) process: Id<Process>,
    /// The caller whose call this thread answers.
    pub(crate) holds: Id<Thread>,
    /// The budget it runs on now: its own, or its caller's.
    pub(crate) budget: Id<Budget>,
    pub(crate) home: Id<Budget>,
    /// Its neighbours in the one queue it waits in.
    pub(crate) ahead: Id<Thread>,
    pub(crate) behind: Id<Thread>,
    pub(crate) purpose: Purpose,
    /// The processor that it runs on, is queued at, or ran on last.
    pub(crate) processor: usize,
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) grave: Grave,
    /// The process's other threads.
    pub(crate) older: Id<Thread>,
    pub(crate) newer: Id<Thread>,
    pub(crate) knob: Knob,
    pub(crate) suspended: bool,
    /// It ends as soon as no processor runs it.
    pub(crate) ended: bool,
    /// It takes part in taking dead objects apart before it goes on.
    pub(crate) draining: bool,
    /// Its place among the alarms; zero: none.
    pub(crate) alarm: u32,
    pub(crate) guest: Guest,
    /// What its own vector state is charged to; `NONE`: it has none.
    pub(crate) vector_pool: Id<Pool>,
}

impl Thread {
    /// Whether the thread must not run on.
    #[inline(always)]
    pub(crate) fn barred(&self) -> bool {
        self.ended | self.suspended
    }
}

impl<H: Hardware> Machine<H> {
    /// Puts a new thread into a process.
    pub(crate) fn thread_make(
        &mut self,
        pool: Id<Pool>,
        process: Id<Process>,
        budget: Id<Budget>,
    ) -> Result<Id<Thread>, Error> {
        let entry = self.processes.get(process).ok_or(Error::Gone)?;
        let (space, older) = (entry.space, entry.threads);
        let (root, kernel) =
            self.spaces.get(space).map(|space| (space.root, space.level.is_kernel())).ok_or(Error::Gone)?;
        let registers = Registers::default().sanitized();
        let activation = Activation { registers, root, kernel, full: true, ..Activation::default() };
        let thread = Thread { activation, process, budget, home: budget, pool, older, ..Thread::default() };
        let id = self.threads.insert(thread).ok_or(Error::NoQuota)?;
        if let Some(thread) = self.threads.get_mut(older) {
            thread.newer = id;
        }
        if let Some(process) = self.processes.get_mut(process) {
            process.threads = id;
            process.thread_count = process.thread_count.saturating_add(1);
        }
        Ok(id)
    }

    /// `thread_create`.
    pub(crate) fn thread_create(
        &mut self,
        caller: &Caller,
        pool: u64,
        process: u64,
        budget: u64,
    ) -> Result<u64, Error> {
        let (node, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let (_, process) = self.process(caller.process, process, Rights::MANAGE)?;
        let budget = if budget == 0 { Id::NONE } else { self.budget(caller.process, budget, Rights::NONE)?.1 };
        if self.processes.get(process).is_none_or(|process| process.state == process::State::Ended) {
            return Err(Error::BadState);
        }
        if self.processes.get(process).is_none_or(|process| process.thread_count >= MAX_THREADS) {
            return Err(Error::NoQuota);
        }
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Thread, handles)?;
        let thread = self.thread_make(pool, process, budget)?;
        self.publish(caller.process, node, Object::Thread(thread), Rights::ALL)
    }

    /// `thread_start`.
    pub(crate) fn thread_start(
        &mut self,
        caller: &Caller,
        thread: u64,
        entry: u64,
        stack: u64,
        arguments: [u64; 2],
    ) -> Result<Flow, Error> {
        let (_, id) = self.thread(caller.process, thread, Rights::MANAGE)?;
        if entry >= USER_END || stack >= USER_END {
            return Err(Error::BadAddress);
        }
        let thread = self.threads.get(id).ok_or(Error::Gone)?;
        let process = thread.process;
        if thread.state != State::New
            || thread.ended
            || self.processes.get(process).is_none_or(|process| process.state == process::State::Ended)
        {
            return Err(Error::BadState);
        }
        self.thread_begin(id, entry, stack, arguments);
        Ok(Flow::Done)
    }

    /// Lets a new thread run.
    pub(crate) fn thread_begin(&mut self, id: Id<Thread>, entry: u64, stack: u64, arguments: [u64; 2]) {
        let Some(thread) = self.threads.get_mut(id) else { return };
        let registers =
            Registers { rip: entry, rsp: stack, rdi: arguments[0], rsi: arguments[1], ..Registers::default() };
        thread.activation.registers = registers.sanitized();
        thread.activation.full = true;
        let process = thread.process;
        if let Some(process) = self.processes.get_mut(process) {
            process.state = process::State::Running;
        }
        self.make_ready(id);
    }

    /// `thread_vector`: a thread that runs already may be loaded on a processor, so only a new one gets it.
    pub(crate) fn thread_vector(&mut self, caller: &Caller, thread: u64, pool: u64) -> Result<Flow, Error> {
        let (_, id) = self.thread(caller.process, thread, Rights::MANAGE)?;
        let (_, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let thread = self.threads.get(id).ok_or(Error::Gone)?;
        if thread.state != State::New || thread.ended {
            return Err(Error::BadState);
        }
        if thread.activation.vector != Frame(0) {
            return Err(Error::Occupied);
        }
        let vector = self.charged_frame(pool).map_err(|_| Error::NoQuota)?;
        self.hardware.vector_create(vector);
        let thread = self.threads.get_mut(id).ok_or(Error::Gone)?;
        thread.activation.vector = vector;
        thread.vector_pool = pool;
        Ok(Flow::Done)
    }

    /// A thread ends: its own vector state goes with it.
    fn vector_drop(&mut self, id: Id<Thread>) {
        let Some(thread) = self.threads.get_mut(id).filter(|thread| !thread.vector_pool.is_none()) else { return };
        let (pool, vector) = (core::mem::take(&mut thread.vector_pool), thread.activation.vector);
        thread.activation.vector = Frame(0);
        self.frames.release(vector);
        self.credit(pool, Resource::PAGES, 1);
    }

    /// `thread_budget`.
    pub(crate) fn thread_budget(&mut self, caller: &Caller, thread: u64, budget: u64) -> Result<Flow, Error> {
        let (_, id) = self.thread(caller.process, thread, Rights::MANAGE)?;
        let budget = if budget == 0 { Id::NONE } else { self.budget(caller.process, budget, Rights::NONE)?.1 };
        let thread = self.threads.get_mut(id).ok_or(Error::Gone)?;
        let on_loan = thread.budget != thread.home;
        thread.home = budget;
        if !on_loan {
            self.move_to(id, budget);
        }
        Ok(Flow::Done)
    }

    /// A server that does not work on a caller's call any more goes on on its own time; a passive one has no other time than the last
    /// caller's, until it waits again.
    pub(crate) fn end_loan(&mut self, id: Id<Thread>) {
        let Some(thread) = self.threads.get(id) else { return };
        let (home, lent) = (thread.home, thread.budget);
        if home != lent && self.budgets.get(home).is_some() {
            self.move_to(id, home);
        }
    }

    /// Lets a thread run on a budget from now on, whatever it does.
    fn move_to(&mut self, id: Id<Thread>, budget: Id<Budget>) {
        let Some(thread) = self.threads.get(id) else { return };
        match thread.state {
            State::Running => {
                let (processor, now) = (thread.processor, self.hardware.now());
                self.account(processor, now);
                self.set_budget(id, budget);
                self.attend(processor);
            }
            State::Ready { .. } => {
                self.dequeue(id);
                self.set_budget(id, budget);
                self.make_ready(id);
            }
            State::Throttled(_) => {
                self.unqueue(id);
                self.set_budget(id, budget);
                self.make_ready(id);
            }
            State::Stalled => {
                self.set_budget(id, budget);
                self.make_ready(id);
            }
            _ => self.set_budget(id, budget),
        }
    }

    fn set_budget(&mut self, id: Id<Thread>, budget: Id<Budget>) {
        if let Some(thread) = self.threads.get_mut(id) {
            thread.budget = budget;
        }
    }

    /// `park`.
    pub(crate) fn park(&mut self, caller: &Caller, deadline: u64) -> Result<Flow, Error> {
        let now = self.hardware.now();
        let thread = self.threads.get_mut(caller.thread).ok_or(Error::Gone)?;
        if core::mem::take(&mut thread.knob.token) {
            return Ok(Flow::Done);
        }
        if deadline <= now {
            return Err(Error::TimedOut);
        }
        self.block(caller, State::Parked, deadline);
        Ok(Flow::Blocked)
    }

    /// `unpark`.
    pub(crate) fn unpark(&mut self, caller: &Caller, thread: u64) -> Result<Flow, Error> {
        let (_, id) = self.thread(caller.process, thread, Rights::SIGNAL)?;
        let thread = self.threads.get_mut(id).ok_or(Error::Gone)?;
        match thread.state {
            State::Parked => self.wake(id, Ok(Flow::Done)),
            // Whether it is in its guest, only its processor knows if it comes and goes by the door.
            State::Running if (thread.in_guest || thread.knob.door) && thread.processor != caller.processor => {
                thread.knob.token = true;
                let processor = thread.processor;
                self.attend(processor);
            }
            _ => {
                thread.knob.token = true;
                self.guest_interrupted(id);
            }
        }
        Ok(Flow::Done)
    }

    /// The calling thread waits; with `deadline` (nanoseconds since boot) not for ever.
    pub(crate) fn block(&mut self, caller: &Caller, state: State, deadline: u64) {
        let now = self.hardware.now();
        self.account(caller.processor, now);
        self.set_state(caller.thread, state);
        self.leave(caller.processor);
        self.alarm_set(Alarm::Thread(caller.thread), deadline);
    }

    /// Ends a thread's wait with a result and lets it go on.
    pub(crate) fn wake(&mut self, id: Id<Thread>, result: Result<Flow, Error>) {
        self.alarm_clear(Alarm::Thread(id));
        if let Some(thread) = self.threads.get_mut(id) {
            result_to(&mut thread.activation.registers, result);
        }
        self.make_ready(id);
    }

    /// Takes a thread out of whatever queue its state says it stands in. Its state is to be set next.
    pub(crate) fn unqueue(&mut self, id: Id<Thread>) {
        let Some(state) = self.threads.get(id).map(|thread| thread.state) else { return };
        match state {
            State::Ready { .. } => self.dequeue(id),
            State::Throttled(budget) => {
                if let Some(budget) = self.budgets.get_mut(budget) {
                    budget.throttled.remove(&mut self.threads, id);
                }
            }
            State::Calling(endpoint) => {
                if let Some(endpoint) = self.endpoints.get_mut(endpoint) {
                    endpoint.callers.remove(&mut self.threads, id);
                }
            }
            State::Receiving(endpoint) => {
                if let Some(endpoint) = self.endpoints.get_mut(endpoint) {
                    endpoint.receivers.remove(&mut self.threads, id);
                }
            }
            State::Waiting { event, .. } => {
                if let Some(event) = self.events.get_mut(event) {
                    event.waiters.remove(&mut self.threads, id);
                    event.waiting = event.waiting.saturating_sub(1);
                }
            }
            State::Awaiting(Answerer::Thread(answering)) => {
                if let Some(server) = self.threads.get_mut(answering)
                    && server.holds == id
                {
                    server.holds = Id::NONE;
                }
                self.end_loan(answering);
            }
            State::Awaiting(Answerer::Reply(reply)) => {
                if let Some(reply) = self.replies.get_mut(reply) {
                    reply.caller = Id::NONE;
                }
            }
            State::New | State::Running | State::Stopped | State::Stalled | State::Parked => {}
        }
    }

    /// Ends a wait with an error: a deadline, or the death of what was waited for.
    pub(crate) fn cancel_wait(&mut self, id: Id<Thread>, error: Error) {
        self.unqueue(id);
        // In no queue any more, whatever becomes of it; a receiver's loan ended with the last answer.
        if let Some(thread) = self.threads.get_mut(id) {
            if matches!(thread.state, State::Receiving(_)) {
                thread.budget = thread.home;
            }
            thread.state = State::Stopped;
        }
        let purpose = self.threads.get_mut(id).map(|thread| core::mem::take(&mut thread.purpose)).unwrap_or_default();
        match purpose {
            Purpose::Call => self.wake(id, Err(error)),
            Purpose::Page { .. } => self.fail_thread(id, tessera_abi::FaultKind::NoMemory),
            Purpose::Fault { kind, .. } => self.fail_thread(id, kind),
        }
    }

    /// `thread_exit`.
    pub(crate) fn thread_exit(&mut self, caller: &Caller, handle: u64) -> Result<Flow, Error> {
        if handle != 0 {
            let (node, _) = self.find(caller.process, handle)?;
            self.node_remove(node);
        }
        self.thread_end(caller.thread);
        Ok(Flow::Blocked)
    }

    /// A thread's last handle is gone: it ends.
    pub(crate) fn thread_unnamed(&mut self, id: Id<Thread>) {
        self.thread_end(id);
        // Of a thread that ended before only the record is left.
        if self.threads.get(id).is_some_and(|thread| thread.process.is_none()) {
            self.thread_free(id);
        }
    }

    /// A thread is to end: it leaves its queue now, and its processor soon.
    pub(crate) fn thread_end(&mut self, id: Id<Thread>) {
        let Some(thread) = self.threads.get_mut(id).filter(|thread| !thread.process.is_none()) else { return };
        thread.ended = true;
        self.attend_thread(id);
        self.bury(Dead::Thread(id));
    }

    pub(crate) fn thread_reap(&mut self, id: Id<Thread>) -> Progress {
        let Some(thread) = self.threads.get(id) else { return Progress::Finished };
        if thread.state == State::Running {
            let processor = thread.processor;
            if processor != self.active {
                self.attend(processor);
                return Progress::Stuck;
            }
            self.leave(processor);
        }
        self.alarm_clear(Alarm::Thread(id));
        self.unqueue(id);
        self.set_state(id, State::Stopped);
        let Some(thread) = self.threads.get_mut(id) else { return Progress::Finished };
        thread.draining = false;
        let held = core::mem::take(&mut thread.holds);
        let (older, newer, process) = (
            core::mem::take(&mut thread.older),
            core::mem::take(&mut thread.newer),
            core::mem::take(&mut thread.process),
        );
        if !held.is_none() {
            self.cancel_wait(held, Error::PeerGone);
        }
        self.guest_drop(id);
        self.vector_drop(id);
        if let Some(thread) = self.threads.get_mut(older) {
            thread.newer = newer;
        }
        match self.threads.get_mut(newer) {
            Some(thread) => thread.older = older,
            None => {
                if let Some(process) = self.processes.get_mut(process) {
                    process.threads = older;
                }
            }
        }
        if let Some(process) = self.processes.get_mut(process) {
            process.thread_count = process.thread_count.saturating_sub(1);
        }
        if self.processes.get(process).is_some_and(|process| process.threads.is_none()) {
            self.process_end(process, 0);
        }
        if self.threads.get(id).is_some_and(|thread| thread.references == 0) {
            self.thread_free(id);
        } else if let Some(thread) = self.threads.get_mut(id) {
            thread.grave = Grave::default();
        }
        Progress::Finished
    }

    fn thread_free(&mut self, id: Id<Thread>) {
        if let Some(thread) = self.threads.remove(id) {
            self.credit(thread.pool, Resource::of(Kind::Thread), 1);
        }
    }

    /// What becomes of a call that touched memory that is not there: an error, or another try once the pager has supplied it.
    pub(crate) fn missed(&mut self, caller: &Caller, miss: Miss) -> Result<Flow, Error> {
        match miss {
            Miss::Denied => Err(Error::BadAddress),
            Miss::NoQuota => Err(Error::NoQuota),
            Miss::Pager { endpoint, badge, offset, write } => {
                self.ask(caller, endpoint, Purpose::Page { badge, offset, write });
                Ok(Flow::Again)
            }
        }
    }
}

/// Writes a call's result where the thread will find it.
#[inline(always)]
pub(crate) fn result_to(registers: &mut Registers, result: Result<Flow, Error>) {
    registers.rax = 0;
    match result {
        Ok(Flow::Done) => {}
        Ok(Flow::One(value)) => registers.rdi = value,
        Ok(Flow::Values([a, b, c, d, e, f])) => {
            (registers.rdi, registers.rsi, registers.rdx) = (a, b, c);
            (registers.r10, registers.r8, registers.r9) = (d, e, f);
        }
        Ok(Flow::Again | Flow::Blocked) => {}
        Err(error) => registers.rax = error as u64,
    }
}
