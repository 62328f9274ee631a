//! The fast path: a call of plain words to a waiting receiver, and its answer to a waiting caller.
//!
//! Each either does all of what `call.rs` would do, or finds out before it has changed anything that it cannot and answers false.

use crate::{
    Hardware, Machine,
    arena::Id,
    node::{Holder, Object},
    thread::{Answerer, Purpose, State, Thread},
};
use tessera_abi::{Rights, Tag, x86_64::Registers};

/// Moves tag and words from one register file to another.
#[inline(always)]
fn move_words(from: &Registers, to: &mut Registers, badge: u64) {
    to.rax = 0;
    to.rdi = badge;
    to.rsi = from.rsi;
    to.set_words(from.words());
}

impl<H: Hardware> Machine<H> {
    /// `call` without handles, leases, bytes or deadline.
    #[inline(always)]
    pub(crate) fn fast_call(&mut self, processor: usize, current: Id<Thread>) -> bool {
        let Some(thread) = self.threads.get(current) else { return false };
        let (number, tag, process) = (thread.activation.registers.rdi, thread.activation.registers.rsi, thread.process);
        if tag & Tag::COMPLEX != 0 {
            return false;
        }
        let index = (number as u32 & crate::node::MAX_NODES as u32).wrapping_sub(1);
        let Some((_, node)) = self.nodes.at(index) else { return false };
        let Object::Session(session) = node.object else { return false };
        if u64::from(node.number) != number
            || node.holder != Holder::Process(process)
            || !node.rights.contains(Rights::CALL)
        {
            return false;
        }
        let Some(session) = self.sessions.get(session) else { return false };
        let Some(endpoint) = self.endpoints.get_mut(session.endpoint) else { return false };
        let receiver = endpoint.receivers.first();
        let badge = session.badge;
        let Some((from, to)) = self.threads.pair_mut(current, receiver) else { return false };
        if to.ended || to.suspended || endpoint.grave.buried {
            return false;
        }
        move_words(&from.activation.registers, &mut to.activation.registers, badge);
        from.state = State::Awaiting(Answerer::Thread(receiver));
        to.holds = current;
        to.budget = from.budget;
        to.state = State::Running(processor);
        to.processor = processor;
        endpoint.receivers.remove(&mut self.threads, receiver);
        if let Some(entry) = self.processors.get_mut(processor) {
            entry.current = receiver;
        }
        true
    }

    /// `reply_and_receive` of plain words when nothing else is to be received.
    #[inline(always)]
    pub(crate) fn fast_reply(&mut self, processor: usize, current: Id<Thread>) -> bool {
        let Some(thread) = self.threads.get(current) else { return false };
        let (number, tag, process, held) =
            (thread.activation.registers.rdi, thread.activation.registers.rsi, thread.process, thread.holds);
        if tag & Tag::COMPLEX != 0 {
            return false;
        }
        let index = (number as u32 & crate::node::MAX_NODES as u32).wrapping_sub(1);
        let Some((_, node)) = self.nodes.at(index) else { return false };
        let Object::Endpoint(id) = node.object else { return false };
        if u64::from(node.number) != number
            || node.holder != Holder::Process(process)
            || !node.rights.contains(Rights::RECEIVE)
        {
            return false;
        }
        let Some(endpoint) = self.endpoints.get_mut(id) else { return false };
        if !endpoint.callers.is_empty()
            || !endpoint.closed.0.is_none()
            || !endpoint.event.0.is_none()
            || endpoint.grave.buried
        {
            return false;
        }
        let Some((from, to)) = self.threads.pair_mut(current, held) else { return false };
        if to.ended || to.suspended || to.alarm != 0 || to.purpose != Purpose::Call || from.budget != to.budget {
            return false;
        }
        move_words(&from.activation.registers, &mut to.activation.registers, 0);
        from.holds = Id::NONE;
        from.state = State::Receiving(id);
        to.state = State::Running(processor);
        to.processor = processor;
        endpoint.receivers.push(&mut self.threads, current);
        if let Some(entry) = self.processors.get_mut(processor) {
            entry.current = held;
        }
        true
    }
}
