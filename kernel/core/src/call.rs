//! Calls: how a message crosses from a caller to a receiver and the answer back.
//!
//! A caller's registers stay in its record while it waits; the words of its leases are read from there. A message is
//! checked whole before anything of it is moved. The receiver works on the caller's budget until it answers.
//! The common case, plain words to a waiting receiver, is in `fast.rs`.

use crate::{
    Caller, Flow, Hardware, Machine,
    arena::Id,
    endpoint::Endpoint,
    thread::{Answerer, Purpose, State, Thread, result_to},
    user::UserSlice,
};
use tessera_abi::{Delivery, Error, FaultKind, NEVER, Rights, Tag, message::WORDS};

/// A message on its way.
#[derive(Clone, Copy)]
struct Message {
    tag: Tag,
    words: [u64; WORDS],
}

/// Most bytes that one entry copies between a lease and its server.
const LEASE_STEP: u64 = 64 * 1024;

/// How many refused callers one `receive` passes over before it is made again.
const REFUSALS: usize = 4;

impl<H: Hardware> Machine<H> {
    /// Reads the message in a thread's registers and checks that it could be sent.
    fn outgoing(&self, sender: Id<Thread>) -> Result<Message, Error> {
        let thread = self.threads.get(sender).ok_or(Error::Gone)?;
        let registers = &thread.activation.registers;
        let (tag, words) = (Tag(registers.rsi), registers.words());
        if !tag.is_valid() {
            return Err(Error::BadArgument);
        }
        let space = self.processes.get(thread.process).map_or(Id::NONE, |process| process.space);
        for lease in words.chunks_exact(2).take(tag.leases()) {
            let [address, length] = lease else { continue };
            UserSlice::<false>::new(space, *address, *length).map_err(|_| Error::BadAddress)?;
        }
        let handles = words.iter().skip(tag.leases() * 2).take(tag.handles());
        for (index, handle) in handles.clone().enumerate() {
            self.transferable(thread.process, *handle)?;
            if handles.clone().take(index).any(|other| other == handle) {
                return Err(Error::BadArgument);
            }
        }
        Ok(Message { tag, words })
    }

    /// Moves bytes and handles of a checked message; answers the message as its receiver sees it.
    fn cross(&mut self, message: Message, from: Id<Thread>, to: Id<Thread>) -> Result<Message, Error> {
        let Message { tag, mut words } = message;
        let sender = self.threads.get(from).ok_or(Error::PeerGone)?;
        let receiver = self.threads.get(to).ok_or(Error::PeerGone)?;
        let (from_process, to_process) = (sender.process, receiver.process);
        let (wanted, buffer) = (Tag(receiver.activation.registers.rsi), receiver.activation.registers.r15);
        if tag.handles() > 0 {
            let pool = self.handle_pool(to_process)?;
            let (quota, used) =
                self.pools.get(pool).map_or((0, 0), |pool| pool.account(crate::pool::Resource::HANDLES));
            if quota.saturating_sub(used) < tag.handles() as u32 {
                return Err(Error::PeerNoQuota);
            }
        }
        if tag.bytes() > 0 {
            if !wanted.has_buffer() {
                return Err(Error::PeerNoQuota);
            }
            let length = tag.bytes() as u64;
            let space = |process| self.processes.get(process).map_or(Id::NONE, |process| process.space);
            let source = UserSlice::new(space(from_process), words[7], length).map_err(|_| Error::BadAddress)?;
            let target = UserSlice::new(space(to_process), buffer, length).map_err(|_| Error::PeerNoQuota)?;
            self.copy_user(source, target).map_err(|_| Error::BadAddress)?;
        }
        let leases = tag.leases() * 2;
        for lease in words.chunks_exact_mut(2).take(tag.leases()) {
            if let [address, _] = lease {
                *address = 0;
            }
        }
        for word in words.iter_mut().skip(leases).take(tag.handles()) {
            let node = self.transferable(from_process, *word)?;
            *word = self.node_move(node, to_process)?;
        }
        if tag.has_buffer() {
            words[7] = 0;
        }
        if tag.has_deadline() {
            words[6] = 0;
        }
        Ok(Message { tag, words })
    }

    /// What a caller calls with: its own message, or the one that the kernel makes for it.
    fn called(&self, caller: Id<Thread>, checked: Option<Message>) -> Result<(Delivery, u64, Message), Error> {
        let thread = self.threads.get(caller).ok_or(Error::Gone)?;
        let plain = |words| Message { tag: Tag::new(0), words };
        Ok(match thread.purpose {
            Purpose::Call => {
                let (_, session) = self.session(thread.process, thread.activation.registers.rdi, Rights::CALL)?;
                let badge = self.sessions.get(session).ok_or(Error::PeerGone)?.badge;
                (Delivery::Call, badge, checked.map_or_else(|| self.outgoing(caller), Ok)?)
            }
            Purpose::Page { badge, offset, write } => {
                (Delivery::Page, badge, plain([offset, u64::from(write), 0, 0, 0, 0, 0, 0]))
            }
            Purpose::Fault { badge, kind, address, instruction } => {
                (Delivery::Fault, badge, plain([kind as u64, address, instruction, 0, 0, 0, 0, 0]))
            }
        })
    }

    /// Hands a caller's message to a receiver, which works on it from now on; neither is in a queue.
    /// `checked` is the caller's message if it was looked at in this entry already.
    fn deliver(&mut self, caller: Id<Thread>, receiver: Id<Thread>, checked: Option<Message>) -> Result<(), Error> {
        let (delivery, badge, message) = self.called(caller, checked)?;
        let message = if delivery == Delivery::Call { self.cross(message, caller, receiver)? } else { message };
        let Some((from, to)) = self.threads.pair_mut(caller, receiver) else { return Err(Error::PeerGone) };
        from.state = State::Awaiting(Answerer::Thread(receiver));
        to.holds = caller;
        to.budget = from.budget;
        put(to, delivery, badge, message);
        Ok(())
    }

    /// `call`.
    pub(crate) fn call(&mut self, caller: &Caller) -> Result<Flow, Error> {
        let [session, tag, ..] = caller.arguments;
        let (_, session) = self.session(caller.process, session, Rights::CALL)?;
        let message = self.outgoing(caller.thread)?;
        let endpoint = self.sessions.get(session).map(|session| session.endpoint).ok_or(Error::PeerGone)?;
        let deadline = match self.threads.get(caller.thread) {
            Some(thread) if Tag(tag).has_deadline() => thread.activation.registers.words()[6],
            _ => NEVER,
        };
        if deadline != NEVER && deadline <= self.hardware.now() {
            return Err(Error::TimedOut);
        }
        self.send(caller, endpoint, deadline, Some(message))
    }

    /// Blocks the calling thread in a call to `endpoint`, received at once if somebody waits for it.
    fn send(
        &mut self,
        caller: &Caller,
        endpoint: Id<Endpoint>,
        deadline: u64,
        checked: Option<Message>,
    ) -> Result<Flow, Error> {
        let entry =
            self.endpoints.get_mut(endpoint).filter(|endpoint| !endpoint.grave.buried).ok_or(Error::PeerGone)?;
        let mut receiver = entry.receivers.first();
        if self.threads.get(receiver).is_some_and(|thread| thread.ended) {
            receiver = self.live_receiver(endpoint);
        }
        let Some(entry) = self.endpoints.get_mut(endpoint) else { return Err(Error::PeerGone) };
        if receiver.is_none() {
            entry.callers.push(&mut self.threads, caller.thread);
            self.block(caller, State::Calling(endpoint), deadline);
            return Ok(Flow::Blocked);
        }
        self.deliver(caller.thread, receiver, checked)?;
        if let Some(entry) = self.endpoints.get_mut(endpoint) {
            entry.receivers.remove(&mut self.threads, receiver);
        }
        // The server goes on at once, on this processor and the caller's time.
        if deadline == NEVER && self.hand_over(caller.processor, receiver) {
            return Ok(Flow::Blocked);
        }
        self.block(caller, State::Awaiting(Answerer::Thread(receiver)), deadline);
        self.run_here(caller.processor, receiver);
        Ok(Flow::Blocked)
    }

    /// Lets a thread go on in the place of the one that runs here, which waits from now on, on the same budget: nothing is to be
    /// accounted or decided. False when the thread cannot go on.
    fn hand_over(&mut self, processor: usize, id: Id<Thread>) -> bool {
        let Some(thread) = self.threads.get_mut(id).filter(|thread| !thread.barred()) else { return false };
        let Some(entry) = self.processors.get_mut(processor) else { return false };
        thread.state = State::Running;
        thread.processor = processor;
        entry.current = id;
        true
    }

    /// Lets a thread go on on this processor if nothing else runs here; else it becomes ready.
    fn run_here(&mut self, processor: usize, id: Id<Thread>) {
        let free = self.processors.get(processor).is_some_and(|entry| entry.current.is_none());
        let fit = self
            .threads
            .get(id)
            .is_some_and(|thread| !thread.ended && !thread.suspended && self.budgets.get(thread.budget).is_some());
        if !free || !fit {
            self.make_ready(id);
            return;
        }
        if let Some(thread) = self.threads.get_mut(id) {
            thread.state = State::Running;
            thread.processor = processor;
        }
        if let Some(entry) = self.processors.get_mut(processor) {
            entry.current = id;
        }
    }

    /// The kernel calls a pager or a fault handler for a thread.
    pub(crate) fn ask(&mut self, caller: &Caller, endpoint: Id<Endpoint>, purpose: Purpose) {
        if let Some(thread) = self.threads.get_mut(caller.thread) {
            thread.purpose = purpose;
        }
        if self.send(caller, endpoint, NEVER, None).is_err() {
            if let Some(thread) = self.threads.get_mut(caller.thread) {
                thread.purpose = Purpose::Call;
            }
            let kind = if let Purpose::Fault { kind, .. } = purpose { kind } else { FaultKind::NoMemory };
            self.fail_thread(caller.thread, kind);
        }
    }

    /// `receive`. A call that the thread still holds is dropped: its caller is told.
    pub(crate) fn receive(&mut self, caller: &Caller) -> Result<Flow, Error> {
        let [endpoint, tag, ..] = caller.arguments;
        let (_, endpoint) = self.endpoint(caller.process, endpoint, Rights::RECEIVE)?;
        let tag = Tag(tag);
        if !tag.is_valid() || tag.handles() + tag.leases() != 0 || tag.has_deadline() {
            return Err(Error::BadArgument);
        }
        if let Some(held) = self.threads.get_mut(caller.thread).map(|thread| core::mem::take(&mut thread.holds))
            && !held.is_none()
        {
            self.cancel_wait(held, Error::PeerGone);
        }
        self.wait_for_calls(caller, endpoint)
    }

    fn wait_for_calls(&mut self, caller: &Caller, endpoint: Id<Endpoint>) -> Result<Flow, Error> {
        if self.threads.get(caller.thread).is_none_or(|thread| thread.ended) {
            // Closing the handles of its answer ended it: it must take nothing that others wait for.
            return Ok(Flow::Blocked);
        }
        for _ in 0..REFUSALS {
            if self.endpoints.get(endpoint).is_none_or(|endpoint| endpoint.grave.buried) {
                return Err(Error::Gone);
            }
            if self.news(endpoint, caller.thread) {
                return Ok(Flow::Blocked);
            }
            let entry = self.endpoints.get_mut(endpoint).ok_or(Error::Gone)?;
            let Some(first) = entry.callers.pop(&mut self.threads) else {
                entry.receivers.push(&mut self.threads, caller.thread);
                self.block(caller, State::Receiving(endpoint), NEVER);
                return Ok(Flow::Blocked);
            };
            if self.threads.get(first).is_none_or(|thread| thread.ended) {
                // Nobody would hear the answer.
                self.set_state(first, State::Stopped);
                continue;
            }
            match self.deliver(first, caller.thread, None) {
                Ok(()) => return Ok(Flow::Blocked),
                Err(error) => {
                    // Not in the queue any more: only its result is left to tell.
                    self.set_state(first, State::Stopped);
                    self.cancel_wait(first, error);
                }
            }
        }
        // Receiving again is harmless: the call that was answered is not held any more.
        self.receive_again(caller.thread);
        Ok(Flow::Again)
    }

    /// Lets a `reply_and_receive` whose reply is done be made again as a `receive`.
    fn receive_again(&mut self, thread: Id<Thread>) {
        if let Some(thread) = self.threads.get_mut(thread) {
            thread.activation.registers.rax = tessera_abi::Syscall::Receive as u64;
            thread.activation.registers.rsi &= Tag::BUFFER;
        }
    }

    /// Tells a receiver of raised bits or a closed session, if there are any.
    fn news(&mut self, endpoint: Id<Endpoint>, receiver: Id<Thread>) -> bool {
        let Some(entry) = self.endpoints.get(endpoint) else { return false };
        let (event, mask) = entry.event;
        let none = Message { tag: Tag::new(0), words: [0; WORDS] };
        if let Some(event) = self.events.get_mut(event)
            && event.bits & mask != 0
        {
            let bits = event.bits & mask;
            event.bits &= !bits;
            if let Some(thread) = self.threads.get_mut(receiver) {
                put(thread, Delivery::Event, bits, none);
            }
            return true;
        }
        let Some(badge) = self.next_closed(endpoint) else { return false };
        if let Some(thread) = self.threads.get_mut(receiver) {
            put(thread, Delivery::Closed, badge, none);
        }
        true
    }

    /// Who waits longest for an endpoint's calls. Threads that are about to end leave the queue here: nothing is handed to them any more.
    #[cold]
    fn live_receiver(&mut self, endpoint: Id<Endpoint>) -> Id<Thread> {
        loop {
            let first = self.endpoints.get(endpoint).map_or(Id::NONE, |entry| entry.receivers.first());
            if self.threads.get(first).is_none_or(|thread| !thread.ended) {
                return first;
            }
            self.unqueue(first);
            self.set_state(first, State::Stopped);
        }
    }

    /// Something happened that receivers of an endpoint are to be told; one that waits on time of its own is told now.
    pub(crate) fn endpoint_news(&mut self, endpoint: Id<Endpoint>) {
        let receiver = self.live_receiver(endpoint);
        let Some(home) = self.threads.get(receiver).map(|thread| thread.home) else { return };
        // A passive server has no time to look at it now: it learns at its next `receive`.
        if self.budgets.get(home).is_none() || !self.news(endpoint, receiver) {
            return;
        }
        if let Some(entry) = self.endpoints.get_mut(endpoint) {
            entry.receivers.remove(&mut self.threads, receiver);
        }
        if let Some(thread) = self.threads.get_mut(receiver) {
            thread.budget = home;
        }
        self.make_ready(receiver);
    }

    /// Answers the call that `server` holds with the message in its registers.
    fn answer(&mut self, server: Id<Thread>) -> Result<Id<Thread>, Error> {
        let held = self
            .threads
            .get(server)
            .map(|thread| thread.holds)
            .filter(|held| !held.is_none())
            .ok_or(Error::BadState)?;
        let purpose = self.threads.get(held).map(|thread| thread.purpose).ok_or(Error::PeerGone)?;
        let message = self.outgoing(server)?;
        if message.tag.leases() != 0 || message.tag.has_deadline() {
            return Err(Error::BadArgument);
        }
        let result = if purpose == Purpose::Call { self.cross(message, server, held) } else { Ok(message) };
        if result.is_err() {
            self.discard_handles(server, message);
        }
        if let Some(thread) = self.threads.get_mut(server) {
            thread.holds = Id::NONE;
        }
        self.alarm_clear(crate::timer::Alarm::Thread(held));
        self.set_state(held, State::Stopped);
        let Some(thread) = self.threads.get_mut(held) else { return Err(Error::PeerGone) };
        thread.purpose = Purpose::Call;
        match (purpose, result) {
            (Purpose::Call, Ok(message)) => put(thread, Delivery::Call, 0, message),
            // The server's answer does not fit: that is the caller's to know, the server is done with it.
            (Purpose::Call, Err(error)) => result_to(&mut thread.activation.registers, Err(error)),
            (Purpose::Page { .. }, _) => {}
            (Purpose::Fault { kind, .. }, _) => {
                if message.tag.label() != 0 {
                    self.fail_thread(held, kind);
                }
            }
        }
        Ok(held)
    }

    /// The handles of an answer that cannot be taken: they left the server with it, and go.
    fn discard_handles(&mut self, server: Id<Thread>, message: Message) {
        let Some(process) = self.threads.get(server).map(|thread| thread.process) else { return };
        for handle in message.words.iter().skip(message.tag.leases() * 2).take(message.tag.handles()) {
            if let Ok(node) = self.transferable(process, *handle) {
                self.node_remove(node);
            }
        }
        self.drain(server);
    }

    /// `reply`.
    pub(crate) fn reply_only(&mut self, caller: &Caller) -> Result<Flow, Error> {
        let held = self.answer(caller.thread)?;
        // The time that was lent goes back with the answer.
        self.end_loan(caller.thread);
        self.make_ready(held);
        self.attend(caller.processor);
        Ok(Flow::Done)
    }

    /// `reply_and_receive`.
    pub(crate) fn reply_and_receive(&mut self, caller: &Caller) -> Result<Flow, Error> {
        let [endpoint, ..] = caller.arguments;
        let (_, endpoint) = self.endpoint(caller.process, endpoint, Rights::RECEIVE)?;
        let held = match self.answer(caller.thread) {
            Ok(held) => held,
            // The caller gave up meanwhile: there is nobody to answer, but there may be other calls.
            Err(Error::BadState | Error::PeerGone) => {
                let message = self.outgoing(caller.thread)?;
                self.discard_handles(caller.thread, message);
                Id::NONE
            }
            Err(error) => return Err(error),
        };
        let lent = |machine: &Self| {
            let budget = |id: Id<Thread>| machine.threads.get(id).map(|thread| thread.budget);
            budget(held).is_some() && budget(held) == budget(caller.thread)
        };
        if lent(self)
            && let Some(entry) = self.endpoints.get_mut(endpoint)
            && entry.nothing_waits()
            && !entry.grave.buried
            && self.hand_over(caller.processor, held)
        {
            if let Some(entry) = self.endpoints.get_mut(endpoint) {
                entry.receivers.push(&mut self.threads, caller.thread);
            }
            self.set_state(caller.thread, State::Receiving(endpoint));
            return Ok(Flow::Blocked);
        }
        // Whoever was answered goes on, whatever becomes of the rest: the answer may have closed the endpoint.
        let flow = self.wait_for_calls(caller, endpoint);
        if !held.is_none() {
            self.run_here(caller.processor, held);
        }
        flow
    }

    /// `lease_read`, `lease_write`: between a lease of the held call and the caller's memory.
    pub(crate) fn lease(&mut self, caller: &Caller, write: bool) -> Result<Flow, Error> {
        let [index, offset, address, length, ..] = caller.arguments;
        let held = self.threads.get(caller.thread).map_or(Id::NONE, |thread| thread.holds);
        let thread = self.threads.get(held).filter(|thread| thread.purpose == Purpose::Call).ok_or(Error::BadState)?;
        let (tag, words) = (Tag(thread.activation.registers.rsi), thread.activation.registers.words());
        if index >= tag.leases() as u64 {
            return Err(Error::NotFound);
        }
        if write && !tag.lease_writable(index as usize) {
            return Err(Error::NoRight);
        }
        let Some([lent, size]) = words.chunks_exact(2).nth(index as usize) else { return Err(Error::NotFound) };
        let space = self.processes.get(thread.process).map(|process| process.space).ok_or(Error::PeerGone)?;
        let step = length.min(LEASE_STEP);
        let result = if write {
            let lease = UserSlice::<true>::new(space, *lent, *size)
                .and_then(|lease| lease.part(offset, length)?.part(0, step))
                .map_err(|_| Error::BadArgument)?;
            let own = UserSlice::new(caller.space, address, length).map_err(|_| Error::BadAddress)?;
            self.copy_user(own, lease)
        } else {
            let lease = UserSlice::<false>::new(space, *lent, *size)
                .and_then(|lease| lease.part(offset, length)?.part(0, step))
                .map_err(|_| Error::BadArgument)?;
            let own = UserSlice::new(caller.space, address, length).map_err(|_| Error::BadAddress)?;
            self.copy_user(lease, own)
        };
        match result {
            Ok(()) if step == length => Ok(Flow::Done),
            Ok(()) => {
                // The rest is what the call is made for again.
                let thread = self.threads.get_mut(caller.thread).ok_or(Error::Gone)?;
                let registers = &mut thread.activation.registers;
                registers.rsi = offset.saturating_add(step);
                registers.rdx = address.saturating_add(step);
                registers.r10 = length.saturating_sub(step);
                Ok(Flow::Again)
            }
            Err(miss) => self.missed(caller, miss),
        }
    }
}

/// Writes a delivered message into the registers that its receiver will go on with.
fn put(thread: &mut Thread, delivery: Delivery, badge: u64, message: Message) {
    let registers = &mut thread.activation.registers;
    registers.rax = (delivery as u64) << 32;
    registers.rdi = badge;
    registers.rsi = message.tag.0;
    registers.set_words(message.words);
}
