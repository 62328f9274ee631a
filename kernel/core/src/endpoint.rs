//! Endpoints, sessions, replies: the objects of a call. How a message crosses is in `call.rs`.

use crate::{
    Caller, Flow, Hardware, Machine,
    arena::Id,
    event::Event,
    node::Object,
    pool::{Pool, Resource},
    queue::Queue,
    reaper::{Grave, Progress},
    thread::{Answerer, State, Thread},
};
use tessera_abi::{Error, Kind, Rights};

/// Where calls are received.
#[derive(Default)]
pub struct Endpoint {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) grave: Grave,
    pub(crate) callers: Queue,
    pub(crate) receivers: Queue,
    /// Sessions whose last handle is gone and of which no receiver was told yet.
    pub(crate) closed: (Id<Session>, Id<Session>),
    /// The event whose bits receivers are told of.
    pub(crate) event: (Id<Event>, u64),
}

impl Endpoint {
    /// Whether nobody calls, nobody receives, and there is nothing to tell a receiver.
    #[inline(always)]
    pub(crate) fn nothing_waits(&self) -> bool {
        // Only names of nothing have all bits of the index set.
        let names = self.callers.first().index() & self.receivers.first().index();
        names & self.closed.0.index() & self.event.0.index() == Id::<Thread>::NONE.index()
    }
}

/// The right to call an endpoint under a badge.
#[derive(Default)]
pub struct Session {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) endpoint: Id<Endpoint>,
    pub(crate) badge: u64,
    pub(crate) next_closed: Id<Session>,
}

/// The right to answer one call.
#[derive(Default)]
pub struct Reply {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) caller: Id<Thread>,
}

impl<H: Hardware> Machine<H> {
    /// `endpoint_create`.
    pub(crate) fn endpoint_create(&mut self, caller: &Caller, pool: u64) -> Result<u64, Error> {
        let (node, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Endpoint, handles)?;
        let endpoint = self.endpoints.insert(Endpoint { pool, ..Endpoint::default() }).ok_or(Error::NoQuota)?;
        self.publish(caller.process, node, Object::Endpoint(endpoint), Rights::ALL)
    }

    /// `session_create`: derived from the endpoint's handle, so revoking that ends all sessions made with it.
    pub(crate) fn session_create(
        &mut self,
        caller: &Caller,
        endpoint: u64,
        pool: u64,
        badge: u64,
    ) -> Result<u64, Error> {
        let (node, endpoint) = self.endpoint(caller.process, endpoint, Rights::MANAGE)?;
        let (_, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Session, handles)?;
        let session =
            self.sessions.insert(Session { pool, endpoint, badge, ..Session::default() }).ok_or(Error::NoQuota)?;
        self.publish(caller.process, node, Object::Session(session), Rights::ALL)
    }

    /// `session_badge`.
    pub(crate) fn session_badge(&mut self, caller: &Caller, endpoint: u64, session: u64) -> Result<u64, Error> {
        let (_, endpoint) = self.endpoint(caller.process, endpoint, Rights::RECEIVE)?;
        let (_, session) = self.session(caller.process, session, Rights::NONE)?;
        let session = self.sessions.get(session).ok_or(Error::Gone)?;
        if session.endpoint == endpoint { Ok(session.badge) } else { Err(Error::NoRight) }
    }

    /// `endpoint_bind`.
    pub(crate) fn endpoint_bind(
        &mut self,
        caller: &Caller,
        endpoint: u64,
        event: u64,
        bits: u64,
    ) -> Result<Flow, Error> {
        let (_, endpoint) = self.endpoint(caller.process, endpoint, Rights::MANAGE)?;
        let (_, event) = self.event(caller.process, event, Rights::WAIT)?;
        let entry = self.events.get_mut(event).ok_or(Error::Gone)?;
        if !entry.endpoint.is_none() && entry.endpoint != endpoint {
            return Err(Error::Occupied);
        }
        entry.endpoint = endpoint;
        let entry = self.endpoints.get_mut(endpoint).ok_or(Error::Gone)?;
        let (before, _) = core::mem::replace(&mut entry.event, (event, bits));
        if before != event
            && let Some(before) = self.events.get_mut(before)
        {
            before.endpoint = Id::NONE;
        }
        self.endpoint_news(endpoint);
        Ok(Flow::Done)
    }

    /// The last handle to a session is gone: the endpoint's receiver is told, then the session goes.
    pub(crate) fn session_unnamed(&mut self, id: Id<Session>) {
        let Some(session) = self.sessions.get(id) else { return };
        let endpoint = session.endpoint;
        let Some(entry) = self.endpoints.get_mut(endpoint).filter(|endpoint| !endpoint.grave.buried) else {
            self.session_free(id);
            return;
        };
        let last = core::mem::replace(&mut entry.closed.1, id);
        match self.sessions.get_mut(last) {
            Some(last) => last.next_closed = id,
            None => entry.closed.0 = id,
        }
        self.endpoint_news(endpoint);
    }

    /// Takes the first closed session off an endpoint's list; answers its badge.
    pub(crate) fn next_closed(&mut self, endpoint: Id<Endpoint>) -> Option<u64> {
        let entry = self.endpoints.get_mut(endpoint)?;
        let id = entry.closed.0;
        let session = self.sessions.get(id)?;
        let badge = session.badge;
        entry.closed.0 = session.next_closed;
        if entry.closed.0.is_none() {
            entry.closed.1 = Id::NONE;
        }
        self.session_free(id);
        Some(badge)
    }

    fn session_free(&mut self, id: Id<Session>) {
        if let Some(session) = self.sessions.remove(id) {
            self.credit(session.pool, Resource::of(Kind::Session), 1);
        }
    }

    /// `reply_detach`.
    pub(crate) fn reply_detach(&mut self, caller: &Caller, pool: u64) -> Result<u64, Error> {
        let (node, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let held = self
            .threads
            .get(caller.thread)
            .map(|thread| thread.holds)
            .filter(|held| !held.is_none())
            .ok_or(Error::BadState)?;
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Reply, handles)?;
        let reply = self.replies.insert(Reply { pool, caller: held, ..Reply::default() }).ok_or(Error::NoQuota)?;
        if let Some(thread) = self.threads.get_mut(caller.thread) {
            thread.holds = Id::NONE;
        }
        self.set_state(held, State::Awaiting(Answerer::Reply(reply)));
        self.end_loan(caller.thread);
        self.publish(caller.process, node, Object::Reply(reply), Rights::ALL.without(Rights::DUPLICATE))
    }

    /// `reply_attach`.
    pub(crate) fn reply_attach(&mut self, caller: &Caller, reply: u64) -> Result<Flow, Error> {
        let (node, reply) = self.reply(caller.process, reply, Rights::NONE)?;
        if self.threads.get(caller.thread).is_none_or(|thread| !thread.holds.is_none()) {
            return Err(Error::BadState);
        }
        let held = self.replies.get_mut(reply).map(|reply| core::mem::take(&mut reply.caller)).ok_or(Error::Gone)?;
        self.node_remove(node);
        if held.is_none() {
            return Err(Error::PeerGone);
        }
        if let Some(thread) = self.threads.get_mut(caller.thread) {
            thread.holds = held;
        }
        self.set_state(held, State::Awaiting(Answerer::Thread(caller.thread)));
        Ok(Flow::Done)
    }

    /// A reply was dropped: its caller is told.
    pub(crate) fn reply_unnamed(&mut self, id: Id<Reply>) {
        let Some(reply) = self.replies.remove(id) else { return };
        self.credit(reply.pool, Resource::of(Kind::Reply), 1);
        if !reply.caller.is_none() {
            self.cancel_wait(reply.caller, Error::PeerGone);
        }
    }

    /// An endpoint ends: whoever waits for it is told.
    pub(crate) fn endpoint_reap(&mut self, id: Id<Endpoint>) -> Progress {
        for _ in 0..16 {
            let Some(endpoint) = self.endpoints.get(id) else { return Progress::Finished };
            let (caller, receiver) = (endpoint.callers.first(), endpoint.receivers.first());
            if !caller.is_none() {
                self.cancel_wait(caller, Error::PeerGone);
            } else if !receiver.is_none() {
                self.cancel_wait(receiver, Error::Gone);
            } else if self.next_closed(id).is_none() {
                if let Some(endpoint) = self.endpoints.remove(id) {
                    self.credit(endpoint.pool, Resource::of(Kind::Endpoint), 1);
                    if let Some(event) = self.events.get_mut(endpoint.event.0) {
                        event.endpoint = Id::NONE;
                    }
                }
                return Progress::Finished;
            }
        }
        Progress::More
    }
}
