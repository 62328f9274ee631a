//! For tests: what a machine holds, owes and waits for, as an outside observer would write it down. Built only with the feature `audit`.

use crate::{
    Hardware, Machine,
    node::{Holder, Object},
    pool::{LAST_KIND, Resource},
    thread::{Answerer, State},
};
use alloc::vec::Vec;
use tessera_abi::{Rights, syscall::RESOURCE_HANDLES, x86_64::Registers};

/// What a thread does, as far as others can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    New,
    /// It goes on when it has its turn and is not suspended.
    Going,
    Ended,
    /// It could go on, but nothing will ever let it: there is no such state.
    Stranded,
    Parked,
    /// Event, mask, bits to clear.
    Waiting(Object, u64, u64),
    Calling(Object),
    Receiving(Object),
    /// A thread or reply that answers it.
    Awaiting(Object),
}

/// What there is to see.
#[derive(Default)]
pub struct Seen {
    /// Process, number, object, rights.
    pub handles: Vec<(Object, u64, Object, Rights)>,
    /// Pool; quota and use of pages, each kind, handles.
    pub accounts: Vec<(Object, Vec<(u32, u32)>)>,
    pub threads: Vec<(Object, Doing, Registers)>,
}

impl<H: Hardware> Machine<H> {
    /// Takes everything apart that waits for it, as an idle processor would.
    pub fn bury_all(&mut self) {
        while self.reap() {}
    }

    /// Writes down what is.
    pub fn observe(&self) -> Seen {
        let mut seen = Seen::default();
        for (_, node) in self.nodes.iter() {
            if let Holder::Process(process) = node.holder {
                seen.handles.push((Object::Process(process), u64::from(node.number), node.object, node.rights));
            }
        }
        for (id, pool) in self.pools.iter() {
            let numbers = (0..=LAST_KIND).chain([RESOURCE_HANDLES]).filter_map(Resource::from_number);
            seen.accounts.push((Object::Pool(id), numbers.map(|resource| pool.account(resource)).collect()));
        }
        for (id, thread) in self.threads.iter() {
            let doing = match thread.state {
                _ if thread.process.is_none() => Doing::Ended,
                State::New => Doing::New,
                State::Stopped if !thread.suspended => Doing::Stranded,
                State::Ready { .. } | State::Running | State::Stopped | State::Stalled | State::Throttled(_) => {
                    Doing::Going
                }
                State::Parked => Doing::Parked,
                State::Waiting { event, mask, clear } => Doing::Waiting(Object::Event(event), mask, clear),
                State::Calling(endpoint) => Doing::Calling(Object::Endpoint(endpoint)),
                State::Receiving(endpoint) => Doing::Receiving(Object::Endpoint(endpoint)),
                State::Awaiting(Answerer::Thread(server)) => Doing::Awaiting(Object::Thread(server)),
                State::Awaiting(Answerer::Reply(reply)) => Doing::Awaiting(Object::Reply(reply)),
            };
            seen.threads.push((Object::Thread(id), doing, thread.activation.registers));
        }
        seen
    }
}
