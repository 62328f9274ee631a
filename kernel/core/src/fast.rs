//! The fast path: a call of plain words to a waiting receiver, and its answer to a waiting caller.
//!
//! Each either does all of what `call.rs` would do, or finds out before it has changed anything that it cannot and answers
//! nothing; else it answers what the processor goes on with.
//! `tests/fast.rs` holds both against each other.

use crate::{
    Activation, Hardware, Machine,
    arena::Id,
    node::{MAX_NODES, Object},
    queue::Queue,
    thread::{Answerer, Purpose, State, Thread},
};
use tessera_abi::{Rights, Tag, x86_64::Registers};

/// Moves tag and words from one register file to another.
#[inline(always)]
fn move_words(from: &Registers, to: &mut Registers, badge: u64) {
    to.rax = 0;
    to.rdi = badge;
    to.rsi = from.rsi;
    to.rdx = from.rdx;
    to.r10 = from.r10;
    to.r8 = from.r8;
    to.r9 = from.r9;
    to.r12 = from.r12;
    to.r13 = from.r13;
    to.r14 = from.r14;
    to.r15 = from.r15;
}

impl<H: Hardware> Machine<H> {
    /// The object behind the handle in a thread's first argument, if the message is of plain words and the right is there.
    #[inline(always)]
    fn plain_target(&self, thread: &Thread, right: Rights) -> Option<Object> {
        let (number, tag) = (thread.activation.registers.rdi, thread.activation.registers.rsi);
        let node = self.nodes.peek((number as u32 & MAX_NODES as u32).wrapping_sub(1))?;
        let plain = tag & Tag::COMPLEX == 0;
        let ours = u64::from(node.number) == number && node.process == thread.process;
        if plain && ours && node.rights.contains(right) { Some(node.object) } else { None }
    }

    /// `call` without handles, leases, bytes or deadline, received by the only one who waits for it.
    #[inline(always)]
    pub(crate) fn fast_call(&mut self, processor: usize, current: Id<Thread>) -> Option<&mut Activation> {
        let thread = self.threads.get(current)?;
        let Some(Object::Session(session)) = self.plain_target(thread, Rights::CALL) else { return None };
        let session = self.sessions.get(session)?;
        let endpoint = self.endpoints.get_mut(session.endpoint)?;
        let receiver = endpoint.receivers.only()?;
        let badge = session.badge;
        let (from, to) = self.threads.pair_mut(current, receiver)?;
        if to.barred() || endpoint.grave.buried {
            return None;
        }
        move_words(&from.activation.registers, &mut to.activation.registers, badge);
        from.state = State::Awaiting(Answerer::Thread(receiver));
        to.holds = current;
        to.budget = from.budget;
        to.state = State::Running(processor);
        to.processor = processor;
        endpoint.receivers = Queue::default();
        self.processors.get_mut(processor)?.current = receiver;
        Some(&mut to.activation)
    }

    /// `reply_and_receive` of plain words when nothing else is to be received.
    #[inline(always)]
    pub(crate) fn fast_reply(&mut self, processor: usize, current: Id<Thread>) -> Option<&mut Activation> {
        let thread = self.threads.get(current)?;
        let held = thread.holds;
        let Some(Object::Endpoint(id)) = self.plain_target(thread, Rights::RECEIVE) else { return None };
        let endpoint = self.endpoints.get_mut(id)?;
        if !endpoint.nothing_waits() || endpoint.grave.buried {
            return None;
        }
        let (from, to) = self.threads.pair_mut(current, held)?;
        if to.barred() || to.alarm != 0 || to.purpose != Purpose::Call || from.budget != to.budget {
            return None;
        }
        move_words(&from.activation.registers, &mut to.activation.registers, 0);
        from.holds = Id::NONE;
        from.state = State::Receiving(id);
        to.state = State::Running(processor);
        to.processor = processor;
        // Nobody received before, and a thread outside of queues has clear links.
        endpoint.receivers = Queue::of(current);
        self.processors.get_mut(processor)?.current = held;
        Some(&mut to.activation)
    }

    /// `yield` to another thread of the same budget, which has the rest of the turn: there is no time to account.
    #[inline(always)]
    pub(crate) fn fast_yield(&mut self, processor: usize, current: Id<Thread>) -> Option<&mut Activation> {
        let shared = self.threads.get(current)?.budget;
        let budget = self.budgets.get(shared)?;
        let priority = budget.priority;
        let entry = self.processors.get_mut(processor)?;
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
        to.state = State::Running(processor);
        entry.current = next;
        Some(&mut to.activation)
    }
}
