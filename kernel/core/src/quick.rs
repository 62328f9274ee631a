//! The second look at a system call: the short way of what wakes and waits (events, `park`, `unpark`, `yield`), and the door to that of
//! messages with memory and of guests, which is in `fast.rs`. Of `space_map` and `space_unmap` only the
//! way in and out is shorter.
//!
//! Each does all of what the long way would do, or finds out before it has changed anything that it cannot. Left to the long way is
//! what has a deadline, a limited budget, more than one waiter, an endpoint to tell, or another processor that idles.

use crate::{
    Entered, Flow, Hardware, Machine,
    arena::Id,
    event::MAX_WAITERS,
    fast::target,
    node::Object,
    queue::Queue,
    schedule::QUANTUM,
    thread::{State, Thread},
};
use tessera_abi::{NEVER, Rights, Syscall};

/// What a short way came to.
enum Done {
    /// The same thread goes on.
    Same,
    /// Another one does.
    Other,
}

/// How a thread will go on that is woken.
struct Waking {
    priority: u8,
    /// The running thread's priority, if that makes room.
    preempted: Option<u8>,
}

impl<H: Hardware> Machine<H> {
    /// The second look at a system call, when the first answered [`Entered::Slow`].
    pub fn quick_syscall(&mut self, processor: usize) -> Entered<'_> {
        let Some(entry) = self.processors.own(processor) else { return Entered::Slow };
        let current = entry.current;
        let Some(thread) = self.threads.get(current) else { return Entered::Slow };
        if entry.attention {
            return Entered::Slow;
        }
        if thread.in_guest {
            return self.fast_guest_call(current).map_or(Entered::Slow, Entered::Switched);
        }
        let switched = |activation: Option<_>| activation.map_or(Entered::Slow, Entered::Switched);
        let done = match Syscall::from_number(thread.activation.registers.rax) {
            Some(Syscall::GuestResume) => return switched(self.fast_resume(current)),
            Some(Syscall::Call) => return switched(self.message_call(processor, current)),
            Some(Syscall::ReplyAndReceive) => return switched(self.message_reply(processor, current)),
            Some(Syscall::EventWait) => self.quick_wait(processor, current),
            Some(Syscall::EventRaise) => self.quick_raise(processor, current),
            Some(Syscall::Park) => self.quick_park(processor, current),
            Some(Syscall::Unpark) => self.quick_unpark(processor, current),
            Some(Syscall::Yield) => self.quick_yield(processor, current),
            Some(Syscall::SpaceMap | Syscall::SpaceUnmap) => return Entered::Mapping,
            _ => None,
        };
        match done {
            Some(Done::Same) => Entered::Same,
            Some(Done::Other) => self.activation(processor).map_or(Entered::Slow, Entered::Loaded),
            None => Entered::Slow,
        }
    }

    /// `space_map` and `space_unmap`, when the second look answered [`Entered::Mapping`].
    #[inline(always)]
    pub fn mapping_syscall(&mut self, processor: usize) -> Entered<'_> {
        self.active = processor;
        let Some(caller) = self.caller(processor) else { return Entered::Open };
        let Some(thread) = self.threads.get(caller.thread) else { return Entered::Open };
        let result = if thread.activation.registers.rax == Syscall::SpaceMap as u64 {
            self.space_map(&caller).map(Flow::One)
        } else {
            self.space_unmap(&caller)
        };
        self.finish(caller.thread, result);
        match self.processors.own(processor) {
            Some(entry) if !entry.attention => Entered::Same,
            _ => Entered::Open,
        }
    }

    /// `event_raise` of an event for which one thread waits at most.
    #[inline(always)]
    fn quick_raise(&mut self, processor: usize, current: Id<Thread>) -> Option<Done> {
        let thread = self.threads.get(current)?;
        let bits = thread.activation.registers.rsi;
        let Some(Object::Event(id)) = target(&self.nodes, thread, Rights::SIGNAL) else { return None };
        let event = self.events.get_mut(id)?;
        let (bits, waiter) = (event.bits | bits, event.waiters.first());
        if !event.endpoint.is_none() || waiter != event.waiters.only() {
            return None;
        }
        if let Some(State::Waiting { mask, clear, .. }) = self.threads.get(waiter).map(|thread| thread.state)
            && bits & mask != 0
        {
            let waking = self.waking(processor, current, waiter)?;
            let event = self.events.get_mut(id)?;
            event.bits = bits & !clear;
            event.waiters = Queue::default();
            event.waiting = 0;
            self.threads.get_mut(waiter)?.activation.registers.rdi = bits & mask;
            return self.quick_wake(processor, current, waiter, waking);
        }
        event.bits = bits;
        self.quick_return(current)
    }

    /// `event_wait` for a bit that is raised, or without a deadline.
    #[inline(always)]
    fn quick_wait(&mut self, processor: usize, current: Id<Thread>) -> Option<Done> {
        let thread = self.threads.get(current)?;
        let [_, mask, clear, deadline, ..] = thread.activation.registers.arguments();
        let Some(Object::Event(id)) = target(&self.nodes, thread, Rights::WAIT) else { return None };
        let event = self.events.get_mut(id)?;
        let raised = event.bits & mask;
        if raised != 0 {
            event.bits &= !clear;
            self.threads.get_mut(current)?.activation.registers.rdi = raised;
            return self.quick_return(current);
        }
        if mask == 0 || deadline != NEVER || event.waiting >= MAX_WAITERS {
            return None;
        }
        let (next, priority) = self.successor(processor)?;
        let event = self.events.get_mut(id)?;
        event.waiters.push(&mut self.threads, current);
        event.waiting = event.waiting.saturating_add(1);
        self.quick_block(processor, current, State::Waiting { event: id, mask, clear }, next, priority)
    }

    /// `park` of a thread that was unparked before, or without a deadline.
    #[inline(always)]
    fn quick_park(&mut self, processor: usize, current: Id<Thread>) -> Option<Done> {
        let thread = self.threads.get_mut(current)?;
        if core::mem::take(&mut thread.knob.token) {
            return self.quick_return(current);
        }
        if thread.activation.registers.rdi != NEVER {
            return None;
        }
        let (next, priority) = self.successor(processor)?;
        self.quick_block(processor, current, State::Parked, next, priority)
    }

    /// `unpark` of a thread that does not run its guest.
    #[inline(always)]
    fn quick_unpark(&mut self, processor: usize, current: Id<Thread>) -> Option<Done> {
        let Some(Object::Thread(id)) = target(&self.nodes, self.threads.get(current)?, Rights::SIGNAL) else {
            return None;
        };
        let thread = self.threads.get_mut(id)?;
        if thread.state == State::Parked {
            let waking = self.waking(processor, current, id)?;
            return self.quick_wake(processor, current, id, waking);
        }
        if thread.in_guest || thread.knob.door && thread.state == State::Running {
            return None;
        }
        thread.knob.token = true;
        self.quick_return(current)
    }

    /// `yield` to another thread of the same budget, which has the rest of the turn: there is no time to account.
    #[inline(always)]
    fn quick_yield(&mut self, processor: usize, current: Id<Thread>) -> Option<Done> {
        let shared = self.threads.get(current)?.budget;
        let budget = self.budgets.get(shared)?;
        let priority = budget.priority;
        let entry = self.processors.own(processor)?;
        let queue = entry.queues.get_mut(usize::from(priority))?;
        let next = queue.first();
        let thread = self.threads.get(next)?;
        if thread.barred() || thread.draining || thread.in_guest || thread.budget != shared || budget.limited {
            return None;
        }
        queue.remove(&mut self.threads, next);
        queue.push(&mut self.threads, current);
        let (from, to) = self.threads.pair_mut(current, next)?;
        from.activation.registers.rax = 0;
        from.state = State::Ready { processor, priority };
        to.state = State::Running;
        entry.current = next;
        Some(Done::Other)
    }

    /// The call is done and its thread goes on.
    #[inline(always)]
    fn quick_return(&mut self, current: Id<Thread>) -> Option<Done> {
        self.threads.get_mut(current)?.activation.registers.rax = 0;
        Some(Done::Same)
    }

    /// How a thread that waits without a deadline will go on, if that is to be on this processor and there is nothing else to decide.
    #[inline(always)]
    fn waking(&self, processor: usize, current: Id<Thread>, waiter: Id<Thread>) -> Option<Waking> {
        let (thread, running) = (self.threads.get(waiter)?, self.threads.get(current)?);
        if thread.barred() || thread.draining || thread.alarm != 0 || thread.processor != processor {
            return None;
        }
        let (budget, spent) = (self.budgets.get(thread.budget)?, self.budgets.get(running.budget)?);
        if budget.limited
            || spent.limited
            || budget.cores >> processor & 1 == 0
            || self.processors.another_idles(processor)
        {
            return None;
        }
        let entry = self.processors.get(processor)?;
        let preempted = if budget.priority > spent.priority {
            // Nobody of its priority or above it waits for a turn.
            if entry.ready >> budget.priority != 0 {
                return None;
            }
            Some(spent.priority)
        } else if budget.priority == spent.priority && !entry.turn_ends() {
            return None;
        } else {
            None
        };
        Some(Waking { priority: budget.priority, preempted })
    }

    /// A waiting thread, in no queue any more, goes on: at once if it preempts, else when it is its turn. `value` registers are set.
    #[inline(always)]
    fn quick_wake(
        &mut self,
        processor: usize,
        current: Id<Thread>,
        waiter: Id<Thread>,
        waking: Waking,
    ) -> Option<Done> {
        self.threads.get_mut(waiter)?.activation.registers.rax = 0;
        self.threads.get_mut(current)?.activation.registers.rax = 0;
        let Some(priority) = waking.preempted else {
            self.enqueue(waiter, processor, waking.priority, false);
            return Some(Done::Same);
        };
        let now = self.hardware.now();
        self.account(processor, now);
        // A preempted thread keeps its turn, one whose turn is over goes to the end.
        let keeps = now < self.processors.get(processor)?.slice_end;
        self.enqueue(current, processor, priority, keeps);
        self.begin(processor, waiter, now)
    }

    /// The thread that goes on when the running one waits, taken from nowhere yet. `None`: there is none, or more to decide.
    #[inline(always)]
    fn successor(&self, processor: usize) -> Option<(Id<Thread>, u32)> {
        let entry = self.processors.get(processor)?;
        let highest = entry.ready.checked_ilog2()?;
        let queue = entry.queues.get(highest as usize)?;
        let next = queue.first();
        let thread = self.threads.get(next)?;
        if thread.barred() || thread.draining || thread.in_guest || self.budgets.get(thread.budget)?.limited {
            return None;
        }
        // Others of its priority want the timer to be set for the end of its turn.
        if queue.only() == next || entry.turn_ends() { Some((next, highest)) } else { None }
    }

    /// The running thread waits from now on, and `next`, the first of its queue, goes on.
    #[inline(always)]
    fn quick_block(
        &mut self,
        processor: usize,
        current: Id<Thread>,
        state: State,
        next: Id<Thread>,
        priority: u32,
    ) -> Option<Done> {
        let now = self.hardware.now();
        self.account(processor, now);
        self.threads.get_mut(current)?.state = state;
        let entry = self.processors.own(processor)?;
        let queue = entry.queues.get_mut(priority as usize)?;
        queue.remove(&mut self.threads, next);
        if queue.is_empty() {
            entry.ready &= !(1 << priority);
        }
        self.begin(processor, next, now)
    }

    /// A thread that stands in no queue begins its turn here.
    #[inline(always)]
    fn begin(&mut self, processor: usize, id: Id<Thread>, now: u64) -> Option<Done> {
        self.threads.get_mut(id)?.state = State::Running;
        let entry = self.processors.own(processor)?;
        entry.current = id;
        entry.slice_end = now.saturating_add(QUANTUM);
        Some(Done::Other)
    }
}
