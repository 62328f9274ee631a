//! The fast path: a call of plain words to a waiting receiver, and its answer to a waiting caller.
//!
//! Each either does all of what `call.rs` would do, or finds out before it has changed anything that it cannot and answers
//! nothing; else it answers what the processor goes on with.
//! `tests/fast.rs` holds both against each other.

use crate::{
    Activation, Entered, Hardware, Machine,
    arena::{Arena, Id},
    node::{MAX_NODES, Node, Object},
    queue::Queue,
    thread::{Answerer, Purpose, State, Thread},
};
use tessera_abi::{Rights, Syscall, Tag, x86_64::Registers};

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

/// The object behind the handle in a thread's first argument, if the message is of plain words and the right is there.
#[inline(always)]
fn plain_target(nodes: &Arena<Node>, thread: &Thread, right: Rights) -> Option<Object> {
    let (number, tag) = (thread.activation.registers.rdi, thread.activation.registers.rsi);
    let node = nodes.peek((number as u32 & MAX_NODES as u32).wrapping_sub(1))?;
    let plain = tag & Tag::COMPLEX == 0;
    let ours = u64::from(node.number) == number && node.process == thread.process;
    if plain && ours && node.rights.contains(right) { Some(node.object) } else { None }
}

impl<H: Hardware> Machine<H> {
    /// The common cases of `syscall`, to be inlined where the entry is.
    ///
    /// A thread that stands in a call or `receive` came there by `syscall`, and nothing sets its registers meanwhile: what a
    /// system call gives back is all that is to be loaded when it goes on.
    #[inline(always)]
    pub fn fast_syscall(&mut self, processor: usize) -> Entered<'_> {
        let Some(entry) = self.processors.own(processor) else { return Entered::Slow };
        let current = entry.current;
        let Some(thread) = self.threads.get(current) else { return Entered::Slow };
        if entry.attention {
            return Entered::Slow;
        }
        if thread.in_guest {
            return self.fast_guest_call(current).map_or(Entered::Slow, Entered::Switched);
        }
        let number = thread.activation.registers.rax;
        let switched = if number == Syscall::Call as u64 {
            self.fast_call(processor, current)
        } else if number == Syscall::ReplyAndReceive as u64 {
            self.fast_reply(processor, current)
        } else if number == Syscall::Null as u64 {
            return Entered::Same;
        } else {
            self.fast_other(processor, current, number)
        };
        switched.map_or(Entered::Slow, Entered::Switched)
    }

    /// `call` without handles, leases, bytes or deadline, received by the only one who waits for it.
    #[inline(always)]
    fn fast_call(&mut self, processor: usize, current: Id<Thread>) -> Option<&mut Activation> {
        let entry = self.processors.own(processor)?;
        let thread = self.threads.get(current)?;
        let Some(Object::Session(session)) = plain_target(&self.nodes, thread, Rights::CALL) else { return None };
        let session = self.sessions.get(session)?;
        let endpoint = self.endpoints.get_mut(session.endpoint)?;
        let receiver = endpoint.receivers.only();
        let (from, to) = self.threads.pair_mut(current, receiver)?;
        if to.barred() || endpoint.grave.buried {
            return None;
        }
        debug_assert!(!to.activation.full);
        move_words(&from.activation.registers, &mut to.activation.registers, session.badge);
        from.state = State::Awaiting(Answerer::Thread(receiver));
        to.holds = current;
        to.budget = from.budget;
        to.state = State::Running;
        to.processor = processor;
        endpoint.receivers = Queue::default();
        entry.current = receiver;
        Some(&mut to.activation)
    }

    /// `reply_and_receive` of plain words when nothing else is to be received.
    #[inline(always)]
    fn fast_reply(&mut self, processor: usize, current: Id<Thread>) -> Option<&mut Activation> {
        let entry = self.processors.own(processor)?;
        let thread = self.threads.get(current)?;
        let held = thread.holds;
        let Some(Object::Endpoint(id)) = plain_target(&self.nodes, thread, Rights::RECEIVE) else { return None };
        let endpoint = self.endpoints.get_mut(id)?;
        if !endpoint.nothing_waits() {
            return None;
        }
        debug_assert!(!endpoint.grave.buried, "there is a handle to it");
        let (from, to) = self.threads.pair_mut(current, held)?;
        if to.barred() || to.alarm != 0 || to.purpose != Purpose::Call || from.budget != to.budget {
            return None;
        }
        debug_assert!(!to.activation.full);
        move_words(&from.activation.registers, &mut to.activation.registers, 0);
        from.holds = Id::NONE;
        from.state = State::Receiving(id);
        to.state = State::Running;
        to.processor = processor;
        // Nobody received before, and a thread outside of queues has clear links.
        endpoint.receivers = Queue::of(current);
        entry.current = held;
        Some(&mut to.activation)
    }

    /// Short cases beside calls.
    #[inline(never)]
    fn fast_other(&mut self, processor: usize, current: Id<Thread>, number: u64) -> Option<&mut Activation> {
        if number == Syscall::GuestResume as u64 {
            self.fast_resume(current)
        } else if number == Syscall::Yield as u64 {
            self.fast_yield(processor, current)
        } else {
            None
        }
    }

    /// `guest_resume` of a guest that left by a system call, which gives back all that it needs.
    #[inline(always)]
    fn fast_resume(&mut self, current: Id<Thread>) -> Option<&mut Activation> {
        let thread = self.threads.get_mut(current)?;
        if thread.guest.space.is_none() || thread.guest.activation.full || thread.token {
            return None;
        }
        let registers = &thread.activation.registers;
        thread.resume_guest(registers.rdi, registers.rsi);
        Some(&mut thread.guest.activation)
    }

    /// A system call of a guest that was resumed.
    #[inline(never)]
    fn fast_guest_call(&mut self, current: Id<Thread>) -> Option<&mut Activation> {
        let thread = self.threads.get_mut(current)?;
        if !thread.guest.resumed {
            return None;
        }
        thread.take_guest_call();
        Some(&mut thread.activation)
    }

    /// `yield` to another thread of the same budget, which has the rest of the turn: there is no time to account.
    #[inline(always)]
    fn fast_yield(&mut self, processor: usize, current: Id<Thread>) -> Option<&mut Activation> {
        let shared = self.threads.get(current)?.budget;
        let budget = self.budgets.get(shared)?;
        let priority = budget.priority;
        let entry = self.processors.own(processor)?;
        let queue = entry.queues.get_mut(usize::from(priority))?;
        let next = queue.first();
        let thread = self.threads.get(next)?;
        // A thread that was preempted has registers that this way out does not load.
        let plain = !thread.activation.full && !thread.in_guest;
        if !plain || thread.barred() || thread.draining || thread.budget != shared || budget.limited {
            return None;
        }
        queue.remove(&mut self.threads, next);
        queue.push(&mut self.threads, current);
        let (from, to) = self.threads.pair_mut(current, next)?;
        from.activation.registers.rax = 0;
        from.state = State::Ready { processor, priority };
        to.state = State::Running;
        entry.current = next;
        Some(&mut to.activation)
    }
}
