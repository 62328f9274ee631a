//! Who waits for what: calls, events, parking, and what each is told when it goes on.

use super::{Body, Cap, Capability, HANDLES, Holder, Model, Place, Thing};
use tessera_abi::{Delivery, Error, Kind, Rights, Tag};

/// A value in a register.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    Exactly(u64),
    /// The number of this handle, which is not known before.
    Handle(Cap),
    /// The badge of one of this endpoint's closed sessions.
    Closed(Place),
}

/// What a thread finds in its registers when it goes on: `rax`, then `rdi rsi rdx r10 r8 r9 r12 r13 r14 r15` as far as they are told.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub code: u64,
    pub words: Vec<Word>,
}

impl Expected {
    pub fn done() -> Expected {
        Expected { code: 0, words: Vec::new() }
    }

    pub fn value(value: u64) -> Expected {
        Expected { code: 0, words: vec![Word::Exactly(value)] }
    }

    pub fn handle(cap: Cap) -> Expected {
        Expected { code: 0, words: vec![Word::Handle(cap)] }
    }

    pub fn error(error: Error) -> Expected {
        Expected { code: error as u64, words: Vec::new() }
    }

    fn told(delivery: Delivery, badge: Word, message: &Message) -> Expected {
        let words = [badge, Word::Exactly(message.tag.0)].into_iter().chain(message.words).collect();
        Expected { code: (delivery as u64) << 32, words }
    }
}

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    New,
    Nothing,
    Parked,
    Event {
        event: Place,
        mask: u64,
        clear: u64,
    },
    Calling(Place),
    Receiving(Place),
    /// A thread or a reply.
    Answer(Place),
}

/// A thread of the model.
#[derive(Clone, Debug)]
pub(super) struct Thread {
    pub process: Place,
    pub wait: Wait,
    pub deadline: u64,
    pub suspended: bool,
    pub ended: bool,
    pub token: bool,
    /// Whose call it answers.
    pub holds: Option<Place>,
    /// The call that it makes: session, tag, words.
    pub call: (u64, Tag, [u64; 8]),
    pub expected: Option<Expected>,
    /// Its stack pointer, by which the driver knows it.
    pub name: u64,
}

impl Thread {
    pub fn new(process: Place) -> Thread {
        Thread {
            process,
            wait: Wait::New,
            deadline: u64::MAX,
            suspended: false,
            ended: false,
            token: false,
            holds: None,
            call: (0, Tag(0), [0; 8]),
            expected: None,
            name: 0,
        }
    }
}

/// A message as its receiver sees it.
struct Message {
    tag: Tag,
    words: [Word; 8],
}

const NOTHING: Message = Message { tag: Tag(0), words: [Word::Exactly(0); 8] };

/// What a call came to; `None`: its thread waits.
pub(super) type Outcome = Result<Option<Expected>, Error>;

impl Model {
    pub(super) fn thread(&self, place: Place) -> &Thread {
        match &self.things[&place].body {
            Body::Thread(thread) => thread,
            other => panic!("{other:?} is no thread"),
        }
    }

    pub(super) fn thread_mut(&mut self, place: Place) -> &mut Thread {
        match &mut self.things.get_mut(&place).expect("a thread").body {
            Body::Thread(thread) => thread,
            other => panic!("{other:?} is no thread"),
        }
    }

    /// Whether a thread has not ended.
    pub(super) fn lives(&self, place: Place) -> bool {
        self.things.get(&place).is_some_and(|thing| thing.thread_of().is_some())
    }

    /// Takes a thread out of what it waits in.
    fn leave(&mut self, place: Place) {
        let wait = std::mem::replace(&mut self.thread_mut(place).wait, Wait::Nothing);
        self.thread_mut(place).deadline = u64::MAX;
        let target = match wait {
            Wait::Event { event, .. } => event,
            Wait::Calling(endpoint) | Wait::Receiving(endpoint) => endpoint,
            Wait::Answer(answerer) => answerer,
            Wait::New | Wait::Nothing | Wait::Parked => return,
        };
        match self.things.get_mut(&target).map(|thing| &mut thing.body) {
            Some(Body::Event { waiters, .. }) => waiters.retain(|other| *other != place),
            Some(Body::Endpoint { callers, receivers, .. }) => {
                callers.retain(|other| *other != place);
                receivers.retain(|other| *other != place);
            }
            Some(Body::Thread(thread)) if thread.holds == Some(place) => thread.holds = None,
            Some(Body::Reply { caller }) if *caller == Some(place) => *caller = None,
            _ => {}
        }
    }

    /// Ends a wait.
    pub(super) fn wake(&mut self, place: Place, expected: Expected) {
        self.leave(place);
        self.thread_mut(place).expected = Some(expected);
    }

    pub(super) fn cancel(&mut self, place: Place, error: Error) {
        self.wake(place, Expected::error(error));
    }

    pub(super) fn end_thread(&mut self, place: Place) {
        let thread = self.thread_mut(place);
        if std::mem::replace(&mut thread.ended, true) {
            return;
        }
        let (held, process) = (thread.holds.take(), thread.process);
        self.leave(place);
        let told = self.thread_mut(place).expected.take();
        self.lost |= told.is_some_and(|told| told.words.iter().any(|word| !matches!(word, Word::Exactly(_))));
        if let Some(held) = held {
            self.cancel(held, Error::PeerGone);
        }
        if !self.things.values().any(|thing| thing.thread_of() == Some(process)) {
            self.end_process(process);
        }
    }

    /// What passed its deadline.
    pub(super) fn pass(&mut self, now: u64) {
        self.now = now;
        let due = |thing: &Thing| matches!(&thing.body, Body::Thread(thread) if thread.deadline <= now);
        let due: Vec<Place> = self.things.iter().filter(|(_, thing)| due(thing)).map(|(place, _)| *place).collect();
        due.into_iter().for_each(|place| self.cancel(place, Error::TimedOut));
    }

    pub(super) fn park(&mut self, actor: Place, deadline: u64) -> Outcome {
        if std::mem::take(&mut self.thread_mut(actor).token) {
            return Ok(Some(Expected::done()));
        }
        self.block(actor, Wait::Parked, deadline)
    }

    fn block(&mut self, actor: Place, wait: Wait, deadline: u64) -> Outcome {
        if deadline <= self.now {
            return Err(Error::TimedOut);
        }
        let thread = self.thread_mut(actor);
        (thread.wait, thread.deadline) = (wait, deadline);
        Ok(None)
    }

    pub(super) fn unpark(&mut self, thread: Place) -> Expected {
        match self.thread(thread).wait {
            Wait::Parked => self.wake(thread, Expected::done()),
            _ => self.thread_mut(thread).token = true,
        }
        Expected::done()
    }

    pub(super) fn wait_for(&mut self, actor: Place, event: Place, mask: u64, clear: u64, deadline: u64) -> Outcome {
        if mask == 0 {
            return Err(Error::BadArgument);
        }
        let now = self.now;
        let Body::Event { bits, waiters, .. } = &mut self.things.get_mut(&event).expect("an event").body else {
            panic!("no event");
        };
        let raised = *bits & mask;
        if raised != 0 {
            *bits &= !clear;
            return Ok(Some(Expected::value(raised)));
        }
        if deadline > now {
            waiters.push_back(actor);
        }
        self.block(actor, Wait::Event { event, mask, clear }, deadline)
    }

    pub(super) fn raise(&mut self, event: Place, more: u64) {
        let Some(Thing { body: Body::Event { bits, waiters, endpoint }, .. }) = self.things.get_mut(&event) else {
            return;
        };
        *bits |= more;
        let (waiters, endpoint) = (waiters.clone(), *endpoint);
        for waiter in waiters {
            let Wait::Event { mask, clear, .. } = self.thread(waiter).wait else { panic!("it waits for no event") };
            let Body::Event { bits, .. } = &mut self.things.get_mut(&event).expect("an event").body else { return };
            let raised = *bits & mask;
            if raised != 0 {
                *bits &= !clear;
                self.wake(waiter, Expected::value(raised));
            }
        }
        if let Some(endpoint) = endpoint {
            self.announce(endpoint);
        }
    }

    /// Tells a receiver that waits, if there is something to tell.
    pub(super) fn announce(&mut self, endpoint: Place) {
        let Some(Thing { body: Body::Endpoint { receivers, .. }, .. }) = self.things.get(&endpoint) else { return };
        if let Some(first) = receivers.front().copied()
            && let Some(news) = self.news(endpoint)
        {
            self.wake(first, news);
        }
    }

    /// Raised bits, or a closed session. Which one of several is the machine's choice.
    fn news(&mut self, endpoint: Place) -> Option<Expected> {
        let Body::Endpoint { closed, telling, event, .. } = &self.things[&endpoint].body else { return None };
        let any_closed = closed.len() > *telling;
        if let Some((event, mask)) = *event
            && let Some(Thing { body: Body::Event { bits, .. }, .. }) = self.things.get_mut(&event)
            && *bits & mask != 0
        {
            let told = *bits & mask;
            *bits &= !told;
            return Some(Expected::told(Delivery::Event, Word::Exactly(told), &NOTHING));
        }
        if !any_closed {
            return None;
        }
        // One fewer is left to tell; which, shows when the badge is seen.
        if let Body::Endpoint { telling, .. } = &mut self.things.get_mut(&endpoint).expect("an endpoint").body {
            *telling += 1;
        }
        Some(Expected::told(Delivery::Closed, Word::Closed(endpoint), &NOTHING))
    }

    /// The last handle to a session is gone; whether its endpoint is still to be told.
    pub(super) fn close_session(&mut self, session: Place) -> bool {
        let Body::Session { endpoint, closed: told, .. } = &mut self.things.get_mut(&session).expect("a session").body
        else {
            return false;
        };
        *told = true;
        let endpoint = *endpoint;
        self.closed.insert(endpoint);
        let Some(Thing { body: Body::Endpoint { closed, .. }, .. }) = self.things.get_mut(&endpoint) else {
            return false;
        };
        closed.push(session);
        self.announce(endpoint);
        true
    }

    /// The handles that a message of a process would move.
    fn outgoing(&self, process: Place, tag: Tag, words: &[u64; 8]) -> Result<Vec<Cap>, Error> {
        let numbers = &words[..tag.handles()];
        let mut caps = Vec::new();
        for (index, number) in numbers.iter().enumerate() {
            caps.push(self.movable(process, *number)?);
            if numbers[..index].contains(number) {
                return Err(Error::BadArgument);
            }
        }
        Ok(caps)
    }

    /// Moves a message's handles; answers the message as its receiver sees it.
    fn cross(&mut self, from: Place, to: Place, tag: Tag, words: [u64; 8]) -> Result<Message, Error> {
        let caps = self.outgoing(from, tag, &words)?;
        let pool = self.pool_of(to);
        self.pay(&[(pool, HANDLES, caps.len() as u32)]).map_err(|_| Error::PeerNoQuota)?;
        let mut seen = words.map(Word::Exactly);
        for (word, cap) in seen.iter_mut().zip(caps) {
            self.give(cap, to).expect("it was paid for");
            *word = Word::Handle(cap);
        }
        if tag.has_deadline() {
            seen[6] = Word::Exactly(0);
        }
        Ok(Message { tag, words: seen })
    }

    /// Hands a caller's message to a receiver.
    fn deliver(&mut self, caller: Place, receiver: Place) -> Result<(), Error> {
        let (number, tag, words) = self.thread(caller).call;
        let (from, to) = (self.thread(caller).process, self.thread(receiver).process);
        let (_, session) = self.want(from, number, Kind::Session, Rights::CALL)?;
        let Body::Session { badge, .. } = self.things[&session].body else { return Err(Error::PeerGone) };
        let message = self.cross(from, to, tag, words)?;
        self.thread_mut(caller).wait = Wait::Answer(receiver);
        let told = Expected::told(Delivery::Call, Word::Exactly(badge), &message);
        let thread = self.thread_mut(receiver);
        thread.holds = Some(caller);
        thread.expected = Some(told);
        Ok(())
    }

    pub(super) fn call(&mut self, actor: Place, call: (u64, Tag, [u64; 8])) -> Outcome {
        let (number, tag, words) = call;
        let process = self.thread(actor).process;
        let (_, session) = self.want(process, number, Kind::Session, Rights::CALL)?;
        self.outgoing(process, tag, &words)?;
        let deadline = if tag.has_deadline() { words[6] } else { u64::MAX };
        if deadline <= self.now {
            return Err(Error::TimedOut);
        }
        let Body::Session { endpoint, .. } = self.things[&session].body else { return Err(Error::PeerGone) };
        self.thread_mut(actor).call = call;
        let Some(Thing { body: Body::Endpoint { callers, receivers, .. }, .. }) = self.things.get_mut(&endpoint) else {
            return Err(Error::PeerGone);
        };
        let Some(receiver) = receivers.front().copied() else {
            callers.push_back(actor);
            return self.block(actor, Wait::Calling(endpoint), deadline);
        };
        self.deliver(actor, receiver)?;
        self.leave(receiver);
        self.thread_mut(actor).deadline = deadline;
        Ok(None)
    }

    pub(super) fn receive(&mut self, actor: Place, endpoint: Place) -> Outcome {
        if let Some(held) = self.thread(actor).holds {
            self.cancel(held, Error::PeerGone);
        }
        self.wait_for_calls(actor, endpoint)
    }

    fn wait_for_calls(&mut self, actor: Place, endpoint: Place) -> Outcome {
        if !self.lives(actor) {
            return Ok(None);
        }
        loop {
            if !self.things.contains_key(&endpoint) {
                return Err(Error::Gone);
            }
            if let Some(news) = self.news(endpoint) {
                return Ok(Some(news));
            }
            let Body::Endpoint { callers, receivers, .. } =
                &mut self.things.get_mut(&endpoint).expect("an endpoint").body
            else {
                return Err(Error::Gone);
            };
            let Some(caller) = callers.pop_front() else {
                receivers.push_back(actor);
                return self.block(actor, Wait::Receiving(endpoint), u64::MAX);
            };
            match self.deliver(caller, actor) {
                // What it receives is expected of it already.
                Ok(()) => return Ok(self.thread_mut(actor).expected.take()),
                Err(error) => self.cancel(caller, error),
            }
        }
    }

    /// The handles of an answer that cannot be taken go. A session is closed before anything else is received; how far the end of
    /// larger things has come by then, nobody can know.
    fn discard(&mut self, caps: Vec<Cap>) {
        let large = |model: &Model| {
            let is_large = |thing: &&Thing| match &thing.body {
                Body::Process { ended, .. } => !ended,
                Body::Thread(thread) => !thread.ended,
                Body::Session { .. } => false,
                _ => true,
            };
            model.things.values().filter(is_large).count()
        };
        let before = large(self);
        caps.into_iter().for_each(|cap| self.remove(cap));
        self.collect();
        self.lost |= large(self) != before;
    }

    /// Answers the held call.
    fn answer(&mut self, actor: Place, tag: Tag, words: [u64; 8]) -> Result<(), Error> {
        let held = self.thread(actor).holds.ok_or(Error::BadState)?;
        let (from, to) = (self.thread(actor).process, self.thread(held).process);
        let caps = self.outgoing(from, tag, &words)?;
        if tag.has_deadline() {
            return Err(Error::BadArgument);
        }
        match self.cross(from, to, tag, words) {
            Ok(message) => self.wake(held, Expected::told(Delivery::Call, Word::Exactly(0), &message)),
            Err(error) => {
                self.discard(caps);
                self.cancel(held, error);
            }
        }
        Ok(())
    }

    pub(super) fn reply(&mut self, actor: Place, tag: Tag, words: [u64; 8]) -> Outcome {
        self.answer(actor, tag, words)?;
        Ok(Some(Expected::done()))
    }

    pub(super) fn reply_and_receive(&mut self, actor: Place, endpoint: Place, tag: Tag, words: [u64; 8]) -> Outcome {
        match self.answer(actor, tag, words) {
            Ok(()) => {}
            Err(Error::BadState) => {
                let caps = self.outgoing(self.thread(actor).process, tag, &words)?;
                self.discard(caps);
            }
            Err(error) => return Err(error),
        }
        self.wait_for_calls(actor, endpoint)
    }

    pub(super) fn detach(&mut self, actor: Place, parent: Cap, pool: Place) -> Outcome {
        let held = self.thread(actor).holds.ok_or(Error::BadState)?;
        let process = self.thread(actor).process;
        let made = self.create(process, parent, pool, Kind::Reply, 0, Body::Reply { caller: Some(held) })?;
        let Some(Word::Handle(cap)) = made.words.first().copied() else { panic!("a handle") };
        let Capability { place, rights, .. } = self.caps.get_mut(&cap).expect("a capability");
        *rights = rights.without(Rights::DUPLICATE);
        let reply = *place;
        self.thread_mut(actor).holds = None;
        self.thread_mut(held).wait = Wait::Answer(reply);
        Ok(Some(made))
    }

    pub(super) fn attach(&mut self, actor: Place, cap: Cap, reply: Place) -> Outcome {
        if self.thread(actor).holds.is_some() {
            return Err(Error::BadState);
        }
        let Body::Reply { caller } = &mut self.things.get_mut(&reply).expect("a reply").body else {
            return Err(Error::WrongKind);
        };
        let held = caller.take();
        self.remove(cap);
        let held = held.ok_or(Error::PeerGone)?;
        self.thread_mut(actor).holds = Some(held);
        self.thread_mut(held).wait = Wait::Answer(actor);
        Ok(Some(Expected::done()))
    }

    /// What a register said about something that was not known before.
    pub(super) fn learn(&mut self, word: Word, value: u64) {
        match word {
            Word::Exactly(wanted) => assert_eq!(value, wanted, "a value"),
            Word::Handle(id) => {
                assert_ne!(value, 0, "a handle's number");
                // It may be gone again, with its process.
                if let Some(Capability { holder: Holder::Process(_, number), .. }) = self.caps.get_mut(&id) {
                    *number = value;
                }
            }
            Word::Closed(endpoint) => {
                let Some(Thing { body: Body::Endpoint { closed, .. }, .. }) = self.things.get(&endpoint) else {
                    return;
                };
                let badge = |session: &Place| match self.things[session].body {
                    Body::Session { badge, .. } => badge,
                    _ => 0,
                };
                let told = closed.iter().position(|session| badge(session) == value);
                let told = told.expect("the badge of a closed session");
                if let Body::Endpoint { closed, telling, .. } =
                    &mut self.things.get_mut(&endpoint).expect("an endpoint").body
                {
                    *telling -= 1;
                    let session = closed.remove(told);
                    self.things.remove(&session);
                }
            }
        }
    }
}
