//! The fast path: a call without handles or deadline to a waiting receiver, and its answer to a waiting caller. What is plain words
//! goes before what has bytes or leases.
//!
//! Each either does all of what `call.rs` would do, or finds out before it has changed anything that it cannot and answers
//! nothing; else it answers what the processor goes on with.
//! `tests/calls.rs` holds both against each other.

use crate::{
    Activation, Entered, Hardware, Machine,
    arena::{Arena, Id},
    node::{MAX_NODES, Node, Object},
    queue::Queue,
    thread::{Answerer, Purpose, State, Thread},
    user::rest_of_page,
};
use tessera_abi::{Rights, Syscall, Tag, USER_END, message::WORDS, x86_64::Registers};

/// Moves tag and words from one register file to another.
#[inline(always)]
fn move_words(from: &Registers, to: &mut Registers, badge: u64, tag: u64) {
    to.rax = 0;
    to.rdi = badge;
    to.rsi = tag;
    to.rdx = from.rdx;
    to.r10 = from.r10;
    to.r8 = from.r8;
    to.r9 = from.r9;
    to.r12 = from.r12;
    to.r13 = from.r13;
    to.r14 = from.r14;
    to.r15 = from.r15;
}

/// The object behind the handle in a thread's first argument, if the right is there.
#[inline(always)]
pub(crate) fn target(nodes: &Arena<Node>, thread: &Thread, right: Rights) -> Option<Object> {
    let number = thread.activation.registers.rdi;
    let node = nodes.peek((number as u32 & MAX_NODES as u32).wrapping_sub(1))?;
    let ours = u64::from(node.number) == number && node.process == thread.process;
    if ours && node.rights.contains(right) { Some(node.object) } else { None }
}

/// A message with bytes, a buffer for them, or leases, as it is to arrive. `None` if there is more to it, or something wrong.
#[inline(always)]
fn arriving(registers: &Registers) -> Option<(Tag, [u64; WORDS])> {
    let (tag, mut words) = (Tag(registers.rsi), registers.words());
    if !tag.is_memory_only() {
        return None;
    }
    for lease in words.chunks_exact_mut(2).take(tag.leases()) {
        if let [address, length] = lease {
            address.checked_add(*length).filter(|end| *end <= USER_END)?;
            *address = 0;
        }
    }
    if let (true, [.., buffer]) = (tag.has_buffer(), &mut words) {
        // Nobody is told where the other side's buffer is.
        *buffer = 0;
    }
    Some((tag, words))
}

/// Copies a message's bytes from buffer to buffer. `None`, with some copied or none, if the receiver has no buffer, or if it or the
/// sender's is not there: then the message goes the other way, from the start.
fn copy_bytes<H: Hardware>(hardware: &mut H, tag: Tag, from: &Activation, to: &Activation) -> Option<()> {
    let mut left = tag.bytes() as u64;
    if left != 0 && !Tag(to.registers.rsi).has_buffer() {
        return None;
    }
    let (mut from_at, mut to_at) = (from.registers.r15, to.registers.r15);
    while left != 0 {
        let part = left.min(rest_of_page(from_at)).min(rest_of_page(to_at));
        let source = hardware.translate(from.root, from_at, false)?;
        let target = hardware.translate(to.root, to_at, true)?;
        hardware.copy(source, target, part as usize);
        (from_at, to_at) = (from_at.wrapping_add(part), to_at.wrapping_add(part));
        left = left.wrapping_sub(part);
    }
    Some(())
}

/// Puts a message into the registers of its receiver.
#[inline(always)]
fn put(to: &mut Registers, badge: u64, tag: Tag, words: [u64; WORDS]) {
    (to.rax, to.rdi, to.rsi) = (0, badge, tag.0);
    to.set_words(words);
}

impl<H: Hardware> Machine<H> {
    /// The common cases of `syscall`, to be inlined where the entry is. `number` is what the running thread has in `rax`.
    ///
    /// A thread that stands in a call or `receive` came there by `syscall`, and nothing sets its registers meanwhile: what a
    /// system call gives back is all that is to be loaded when it goes on.
    #[inline(always)]
    pub fn fast_syscall(&mut self, processor: usize, number: u64) -> Entered<'_> {
        let switched = if number == Syscall::Call as u64 {
            self.fast_call(processor)
        } else if number == Syscall::ReplyAndReceive as u64 {
            self.fast_reply(processor)
        } else if number == Syscall::Null as u64 {
            // Looked for last.
            core::hint::cold_path();
            return if self.runs_on(processor).is_some() { Entered::Same } else { Entered::Slow };
        } else {
            None
        };
        switched.map_or(Entered::Slow, Entered::Switched)
    }

    /// The running thread, if it is not its guest that runs and nothing else needs a look.
    #[inline(always)]
    fn runs_on(&mut self, processor: usize) -> Option<Id<Thread>> {
        let entry = self.processors.own(processor)?;
        let thread = self.threads.get(entry.current)?;
        if entry.attention || thread.in_guest { None } else { Some(entry.current) }
    }

    /// `call` of plain words, received by the only one who waits for it.
    #[inline(always)]
    fn fast_call(&mut self, processor: usize) -> Option<&mut Activation> {
        let current = self.runs_on(processor)?;
        let entry = self.processors.own(processor)?;
        let thread = self.threads.get(current)?;
        let tag = thread.activation.registers.rsi;
        if tag & Tag::COMPLEX != 0 {
            return None;
        }
        let Some(Object::Session(session)) = target(&self.nodes, thread, Rights::CALL) else { return None };
        let session = self.sessions.get(session)?;
        let endpoint = self.endpoints.get_mut(session.endpoint)?;
        let receiver = endpoint.receivers.only();
        let (from, to) = self.threads.pair_mut(current, receiver)?;
        if to.barred() || endpoint.grave.buried {
            return None;
        }
        debug_assert!(!to.activation.full);
        move_words(&from.activation.registers, &mut to.activation.registers, session.badge, tag);
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
    fn fast_reply(&mut self, processor: usize) -> Option<&mut Activation> {
        let current = self.runs_on(processor)?;
        let entry = self.processors.own(processor)?;
        let thread = self.threads.get(current)?;
        let tag = thread.activation.registers.rsi;
        if tag & Tag::COMPLEX != 0 {
            return None;
        }
        let held = thread.holds;
        let Some(Object::Endpoint(id)) = target(&self.nodes, thread, Rights::RECEIVE) else { return None };
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
        move_words(&from.activation.registers, &mut to.activation.registers, 0, tag);
        from.holds = Id::NONE;
        from.state = State::Receiving(id);
        to.state = State::Running;
        to.processor = processor;
        // Nobody received before, and a thread outside of queues has clear links.
        endpoint.receivers = Queue::of(current);
        entry.current = held;
        Some(&mut to.activation)
    }

    /// `call` with bytes or leases, received by the only one who waits for it.
    #[inline(always)]
    pub(crate) fn message_call(&mut self, processor: usize, current: Id<Thread>) -> Option<&mut Activation> {
        let entry = self.processors.own(processor)?;
        let thread = self.threads.get(current)?;
        let Some(Object::Session(session)) = target(&self.nodes, thread, Rights::CALL) else { return None };
        let session = self.sessions.get(session)?;
        let endpoint = self.endpoints.get_mut(session.endpoint)?;
        let receiver = endpoint.receivers.only();
        let (from, to) = self.threads.pair_mut(current, receiver)?;
        if to.barred() || endpoint.grave.buried {
            return None;
        }
        let (tag, words) = arriving(&from.activation.registers)?;
        copy_bytes(&mut self.hardware, tag, &from.activation, &to.activation)?;
        put(&mut to.activation.registers, session.badge, tag, words);
        from.state = State::Awaiting(Answerer::Thread(receiver));
        to.holds = current;
        to.budget = from.budget;
        to.state = State::Running;
        to.processor = processor;
        endpoint.receivers = Queue::default();
        entry.current = receiver;
        Some(&mut to.activation)
    }

    /// `reply_and_receive` with bytes, or with room for them, when nothing else is to be received.
    #[inline(always)]
    pub(crate) fn message_reply(&mut self, processor: usize, current: Id<Thread>) -> Option<&mut Activation> {
        let entry = self.processors.own(processor)?;
        let thread = self.threads.get(current)?;
        let held = thread.holds;
        let Some(Object::Endpoint(id)) = target(&self.nodes, thread, Rights::RECEIVE) else { return None };
        let endpoint = self.endpoints.get_mut(id)?;
        let (from, to) = self.threads.pair_mut(current, held)?;
        let other = to.barred() || to.alarm != 0 || to.purpose != Purpose::Call || from.budget != to.budget;
        let (tag, words) = arriving(&from.activation.registers)?;
        if other || tag.leases() != 0 || !endpoint.nothing_waits() {
            return None;
        }
        copy_bytes(&mut self.hardware, tag, &from.activation, &to.activation)?;
        put(&mut to.activation.registers, 0, tag, words);
        from.holds = Id::NONE;
        from.state = State::Receiving(id);
        to.state = State::Running;
        to.processor = processor;
        endpoint.receivers = Queue::of(current);
        entry.current = held;
        Some(&mut to.activation)
    }

    /// `guest_resume` of a guest that left by a system call, which gives back all that it needs.
    #[inline(always)]
    pub(crate) fn fast_resume(&mut self, current: Id<Thread>) -> Option<&mut Activation> {
        let thread = self.threads.get_mut(current)?;
        if thread.guest.space.is_none() || thread.guest.activation.full || thread.knob.token {
            return None;
        }
        let registers = &thread.activation.registers;
        thread.resume_guest(registers.rdi, registers.rsi);
        Some(&mut thread.guest.activation)
    }

    /// A system call of a guest that was resumed.
    #[inline(always)]
    pub(crate) fn fast_guest_call(&mut self, current: Id<Thread>) -> Option<&mut Activation> {
        let thread = self.threads.get_mut(current)?;
        if !thread.guest.resumed {
            return None;
        }
        thread.take_guest_call();
        Some(&mut thread.activation)
    }
}
