//! Which thread runs where. Each processor has a queue for every priority; the first thread of the highest runs. A thread that
//! becomes ready goes to a processor that idles, else to the one it ran on last. A processor without work takes another's.

use crate::{
    Activation, Hardware, Machine, Next,
    arena::Id,
    budget::PRIORITIES,
    process,
    queue::Queue,
    thread::{State, Thread},
};

use alloc::boxed::Box;

/// How long a thread runs while others of its priority wait, in nanoseconds.
pub(crate) const QUANTUM: u64 = 10_000_000;

/// A processor.
pub struct Processor {
    /// The thread that runs here.
    pub(crate) current: Id<Thread>,
    /// Something happened that needs a look before user mode goes on.
    pub(crate) attention: bool,
    idle: bool,
    pub(crate) queues: [Queue; PRIORITIES],
    /// Bit n: queue n is not empty.
    pub(crate) ready: u64,
    /// Since when time has not been accounted.
    pub(crate) since: u64,
    pub(crate) slice_end: u64,
    pub(crate) armed: u64,
}

impl Processor {
    /// Whether the timer fires at the end of the turn, or before.
    pub(crate) fn turn_ends(&self) -> bool {
        self.armed <= self.slice_end
    }
}

impl Default for Processor {
    fn default() -> Self {
        Processor {
            current: Id::NONE,
            attention: true,
            idle: true,
            queues: [Queue::default(); PRIORITIES],
            ready: 0,
            since: 0,
            slice_end: 0,
            armed: u64::MAX,
        }
    }
}

/// Most processors there can be.
pub const MAX_PROCESSORS: usize = 8;

/// All processors.
pub struct Processors {
    all: Box<[Processor; MAX_PROCESSORS]>,
    count: usize,
    /// Bit n: processor n idles, or has not begun.
    idle: u64,
}

impl Processors {
    /// The bytes that they take, however many there are.
    pub const BYTES: u64 = size_of::<[Processor; MAX_PROCESSORS]>() as u64;

    pub fn new(count: usize) -> Processors {
        Processors {
            all: Box::new(core::array::from_fn(|_| Processor::default())),
            count: count.min(MAX_PROCESSORS),
            idle: !0,
        }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    #[inline(always)]
    pub fn get(&self, number: usize) -> Option<&Processor> {
        if number < self.count { self.all.get(number % MAX_PROCESSORS) } else { None }
    }

    #[inline(always)]
    pub fn get_mut(&mut self, number: usize) -> Option<&mut Processor> {
        if number < self.count { self.all.get_mut(number % MAX_PROCESSORS) } else { None }
    }

    /// The processor that runs this: its number is one of those that there are, so nothing is checked.
    #[inline(always)]
    pub fn own(&mut self, number: usize) -> Option<&mut Processor> {
        self.all.get_mut(number % MAX_PROCESSORS)
    }

    fn set_idle(&mut self, number: usize, idle: bool) {
        let bit = 1 << (number % MAX_PROCESSORS);
        self.idle = if idle { self.idle | bit } else { self.idle & !bit };
    }

    /// Whether one besides this processor idles.
    #[inline(always)]
    pub fn another_idles(&self, number: usize) -> bool {
        self.idle & ((1 << self.count) - 1) & !(1 << number) != 0
    }

    #[cfg(feature = "audit")]
    pub fn iter(&self) -> impl Iterator<Item = &Processor> {
        self.all.iter().take(self.count)
    }
}

impl<H: Hardware> Machine<H> {
    /// Makes a processor look at its situation before it goes on.
    pub(crate) fn attend(&mut self, processor: usize) {
        let Some(entry) = self.processors.get_mut(processor) else { return };
        let told = core::mem::replace(&mut entry.attention, true);
        if !told && processor != self.active {
            self.hardware.notify(processor);
        }
    }

    /// The same for the processor that runs a thread.
    pub(crate) fn attend_thread(&mut self, thread: Id<Thread>) {
        let runs = self.threads.get(thread).filter(|thread| thread.state == State::Running);
        if let Some(processor) = runs.map(|thread| thread.processor) {
            self.attend(processor);
        }
    }

    /// A thread can go on: it is put into a queue, unless it is suspended or has no time.
    pub(crate) fn make_ready(&mut self, id: Id<Thread>) {
        let Some(thread) = self.threads.get_mut(id) else { return };
        if thread.ended {
            thread.state = State::Stopped;
            return;
        }
        if thread.suspended {
            thread.state = State::Stopped;
            return;
        }
        let mut budget = self.budgets.get(thread.budget);
        if budget.is_none() {
            thread.budget = thread.home;
            budget = self.budgets.get(thread.home);
        }
        let Some(budget) = budget else {
            thread.state = State::Stalled;
            return;
        };
        let (priority, cores, limited, id_budget) = (budget.priority, budget.cores, budget.limited, thread.budget);
        if limited {
            let now = self.hardware.now();
            if let Some(empty) = self.exhausted(id_budget, now) {
                self.throttle(id, empty);
                return;
            }
        }
        let processor = self.place(id, cores);
        self.enqueue(id, processor, priority, false);
        // Preempts what runs there if it is of lower priority, or nothing.
        let running =
            self.processors.get(processor).map(|entry| entry.current).and_then(|current| self.threads.get(current));
        let running = running.and_then(|thread| self.budgets.get(thread.budget)).map(|budget| budget.priority);
        // One of the same priority has its turn when this one's is over: the timer may not be set for that yet.
        let turn_ends = self.processors.get(processor).is_some_and(Processor::turn_ends);
        if running.is_none_or(|running| running < priority || running == priority && !turn_ends) {
            self.attend(processor);
        }
    }

    /// The processor for a thread: its last one if that idles, else one that idles, else its last one, within `cores`.
    fn place(&self, id: Id<Thread>, cores: u64) -> usize {
        let last = self.threads.get(id).map_or(0, |thread| thread.processor);
        let allowed = |processor: usize| cores >> processor & 1 == 1 && processor < self.processors.len();
        let idle =
            |processor: usize| self.processors.get(processor).is_some_and(|entry| entry.idle && entry.ready == 0);
        if self.processors.len() == 1 || allowed(last) && idle(last) {
            return last.min(self.processors.len().saturating_sub(1));
        }
        let count = self.processors.len();
        let free = (0..count).find(|processor| allowed(*processor) && idle(*processor));
        let fallback = if allowed(last) { last } else { (0..count).find(|processor| allowed(*processor)).unwrap_or(0) };
        free.unwrap_or(fallback)
    }

    pub(crate) fn enqueue(&mut self, id: Id<Thread>, processor: usize, priority: u8, front: bool) {
        let Some(entry) = self.processors.get_mut(processor) else { return };
        let Some(queue) = entry.queues.get_mut(usize::from(priority)) else { return };
        if front {
            queue.push_front(&mut self.threads, id);
        } else {
            queue.push(&mut self.threads, id);
        }
        entry.ready |= 1 << priority;
        if let Some(thread) = self.threads.get_mut(id) {
            thread.state = State::Ready { processor, priority };
            thread.processor = processor;
        }
    }

    /// Takes a ready thread out of its queue.
    pub(crate) fn dequeue(&mut self, id: Id<Thread>) {
        let Some(State::Ready { processor, priority }) = self.threads.get(id).map(|thread| thread.state) else {
            return;
        };
        let Some(entry) = self.processors.get_mut(processor) else { return };
        let Some(queue) = entry.queues.get_mut(usize::from(priority)) else { return };
        queue.remove(&mut self.threads, id);
        if queue.is_empty() {
            entry.ready &= !(1 << priority);
        }
        if let Some(thread) = self.threads.get_mut(id) {
            thread.state = State::Stopped;
        }
    }

    /// `yield`: behind the others of the same priority.
    pub(crate) fn give_way(&mut self, processor: usize) {
        let Some(entry) = self.processors.get(processor) else { return };
        let (current, ready, told) = (entry.current, entry.ready, entry.attention);
        let Some(thread) = self.threads.get(current) else { return };
        let Some(budget) = self.budgets.get(thread.budget) else { return };
        let priority = budget.priority;
        let limited = budget.limited;
        let own = thread.budget;
        if ready >> priority & 1 == 0 && !limited {
            return;
        }
        let now = self.hardware.now();
        self.account(processor, now);
        if limited && self.exhausted(own, now).is_some() {
            self.attend(processor);
            return;
        }
        self.enqueue(current, processor, priority, false);
        self.leave(processor);
        self.pick(processor, now);
        if let Some(entry) = self.processors.get_mut(processor) {
            // The timer that is armed comes at the end of the new turn or before; without one a full look arms it.
            entry.attention = told || entry.current.is_none() || entry.armed == u64::MAX;
        }
    }

    /// The running thread does not run here any more; its state says what it does instead.
    #[inline(always)]
    pub(crate) fn leave(&mut self, processor: usize) {
        if let Some(entry) = self.processors.get_mut(processor) {
            entry.current = Id::NONE;
            entry.attention = true;
        }
    }

    /// What this processor does next. Called after every entry, with the lock held.
    #[inline(always)]
    pub fn next(&mut self, processor: usize) -> Next {
        match self.processors.get(processor) {
            // An idle processor is also woken by what concerns the hardware alone, like a flush.
            Some(entry) if !entry.attention && !entry.current.is_none() => Next::Run,
            _ => self.next_with_attention(processor),
        }
    }

    fn next_with_attention(&mut self, processor: usize) -> Next {
        self.active = processor;
        let now = self.hardware.now();
        // Whoever an alarm wakes counts when it is decided whether the running thread goes on.
        self.account(processor, now);
        self.ring(now);
        self.settle(processor, now);
        let next = self.select(processor, now);
        self.arm(processor, now);
        let Some(entry) = self.processors.get_mut(processor) else { return Next::Idle };
        let idle = matches!(next, Next::Idle);
        entry.idle = idle;
        entry.attention = matches!(next, Next::Work);
        self.processors.set_idle(processor, idle);
        next
    }

    /// Takes the running thread off if it may not go on: ended, suspended, out of time, or of lower priority than a ready one.
    fn settle(&mut self, processor: usize, now: u64) {
        let Some(entry) = self.processors.get(processor) else { return };
        let (current, ready, slice_end) = (entry.current, entry.ready, entry.slice_end);
        if self.threads.get(current).is_some_and(|thread| thread.in_guest && thread.knob.token) {
            self.guest_interrupted(current);
        }
        let Some(thread) = self.threads.get(current) else { return };
        let ended = thread.ended
            || self.processes.get(thread.process).is_none_or(|process| process.state == process::State::Ended);
        let (suspended, budget_id) = (thread.suspended, thread.budget);
        self.account(processor, now);
        if ended || suspended {
            self.set_state(current, State::Stopped);
            self.leave(processor);
            return;
        }
        let Some(budget) = self.budgets.get(budget_id) else {
            self.set_state(current, State::Stalled);
            self.leave(processor);
            self.make_ready(current);
            return;
        };
        let (priority, limited, cores) = (budget.priority, budget.limited, budget.cores);
        if limited && let Some(empty) = self.exhausted(budget_id, now) {
            self.throttle(current, empty);
            self.leave(processor);
            return;
        }
        let highest = ready.checked_ilog2();
        let same = ready >> priority & 1 == 1;
        let preempted = highest.is_some_and(|highest| highest > u32::from(priority));
        if cores >> processor & 1 == 0 {
            self.leave(processor);
            self.make_ready(current);
        } else if preempted || same && now >= slice_end {
            // A preempted thread keeps its turn, one whose turn is over goes to the end.
            self.enqueue(current, processor, priority, preempted && now < slice_end);
            self.leave(processor);
        }
    }

    pub(crate) fn set_state(&mut self, id: Id<Thread>, state: State) {
        if let Some(thread) = self.threads.get_mut(id) {
            thread.state = state;
        }
    }

    fn select(&mut self, processor: usize, now: u64) -> Next {
        let stolen = || {
            (0..self.processors.len())
                .find(|other| *other != processor && self.processors.get(*other).is_some_and(|entry| entry.ready != 0))
        };
        let Some(entry) = self.processors.get(processor) else { return Next::Idle };
        if entry.current.is_none()
            && entry.ready == 0
            && let Some(other) = stolen()
        {
            self.steal(processor, other);
        }
        self.pick(processor, now);
        let current = self.processors.get(processor).map_or(Id::NONE, |entry| entry.current);
        let work = self.dead != crate::reaper::Dead::Nothing;
        if let Some(thread) = self.threads.get_mut(current) {
            thread.draining &= work;
            return if thread.draining { Next::Work } else { Next::Run };
        }
        if work && self.reap() { Next::Work } else { Next::Idle }
    }

    /// Takes one ready thread that may run here from another processor.
    fn steal(&mut self, processor: usize, other: usize) {
        let Some(entry) = self.processors.get(other) else { return };
        let Some(highest) = entry.ready.checked_ilog2() else { return };
        let Some(queue) = entry.queues.get(highest as usize) else { return };
        let id = queue.first();
        let cores =
            self.threads.get(id).and_then(|thread| self.budgets.get(thread.budget)).map_or(0, |budget| budget.cores);
        if cores >> processor & 1 == 1 {
            self.dequeue(id);
            self.enqueue(id, processor, highest as u8, false);
        }
    }

    /// Runs the first thread of the highest priority, if none runs.
    fn pick(&mut self, processor: usize, now: u64) {
        loop {
            let Some(entry) = self.processors.get_mut(processor) else { return };
            if !entry.current.is_none() {
                return;
            }
            let Some(highest) = entry.ready.checked_ilog2() else { return };
            let Some(queue) = entry.queues.get_mut(highest as usize) else { return };
            let Some(id) = queue.pop(&mut self.threads) else { return };
            if queue.is_empty() {
                entry.ready &= !(1 << highest);
            }
            let Some(thread) = self.threads.get_mut(id) else { continue };
            if thread.ended || thread.suspended {
                thread.state = State::Stopped;
                continue;
            }
            if self.budgets.get(thread.budget).is_none() {
                self.make_ready(id);
                continue;
            }
            thread.state = State::Running;
            thread.processor = processor;
            entry.current = id;
            entry.since = now;
            entry.slice_end = now.saturating_add(QUANTUM);
        }
    }

    /// Asks for the timer if something is due before it would fire.
    fn arm(&mut self, processor: usize, now: u64) {
        let Some(entry) = self.processors.get(processor) else { return };
        let mut at = self.alarms.soonest();
        if let Some(thread) = self.threads.get(entry.current) {
            // The end of a turn is of interest to those of the same priority alone. With only lower ones ready nothing would
            // happen then, and a timer set to a moment that is over fires again at once, for ever.
            let priority = self.budgets.get(thread.budget).map_or(0, |budget| budget.priority);
            if entry.ready >> priority & 1 == 1 {
                at = at.min(entry.slice_end);
            }
            at = at.min(now.saturating_add(self.runway(thread.budget)));
        }
        if let Some(entry) = self.processors.get_mut(processor)
            && (at < entry.armed || entry.armed <= now)
            && at != u64::MAX
        {
            entry.armed = at;
            self.hardware.set_timer(processor, at);
        }
    }

    /// The local timer fired.
    pub fn timer(&mut self, processor: usize) {
        self.interrupted(processor);
        if let Some(entry) = self.processors.get_mut(processor) {
            entry.armed = u64::MAX;
            entry.attention = true;
        }
    }

    /// Another processor asked for attention.
    pub fn notified(&mut self, processor: usize) {
        self.interrupted(processor);
        if let Some(entry) = self.processors.get_mut(processor) {
            entry.attention = true;
        }
    }

    /// An interrupt came in the middle of whatever runs here: all of its registers count.
    pub(crate) fn interrupted(&mut self, processor: usize) {
        self.active = processor;
        match self.activation(processor) {
            Some(activation) => activation.full = true,
            // It idled: there is no thread that it could go on with unseen.
            None => {
                if let Some(entry) = self.processors.get_mut(processor) {
                    entry.attention = true;
                }
            }
        }
    }

    /// One step of work on behalf of whoever runs here; see `Next::Work`.
    pub fn work(&mut self, processor: usize) {
        self.active = processor;
        let current = self.processors.get(processor).map_or(Id::NONE, |entry| entry.current);
        for _ in 0..8 {
            if !self.reap() {
                // Nothing can be done before another processor lets go: others may run meanwhile.
                if self.dead != crate::reaper::Dead::Nothing && !current.is_none() {
                    self.give_way(processor);
                }
                break;
            }
        }
        if let Some(entry) = self.processors.get_mut(processor) {
            entry.attention = true;
        }
    }

    /// What the hardware must load to go on with the thread that runs here.
    #[inline(always)]
    pub fn activation(&mut self, processor: usize) -> Option<&mut Activation> {
        let current = self.processors.get(processor)?.current;
        let thread = self.threads.get_mut(current)?;
        if thread.in_guest { Some(&mut thread.guest.activation) } else { Some(&mut thread.activation) }
    }
}
