//! The server of a domain: the threads that answer calls of other domains on the domain's objects.
//!
//! A session's badge says which object it reaches. Root objects have the badges that their sessions were made with; an object that is
//! handed out later gets a session under a badge of its own, and is kept until the last handle to that session is gone.
//! Badges cannot be forged, but may be of an earlier instance of the domain: those are answered with `Revoked`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicUsize, Ordering};

use tessera_abi::{Delivery, Error, Kind, Tag};

use crate::cap::Served;
use crate::handle::{Object, Owned, Result, error};
use crate::object::{Endpoint, Session};
use crate::raw::MessageOutcome;
use crate::sync::{Mutex, OnceLock};
use crate::transport::{Call, Interface, MAX_SLICE, TransportError};
use crate::{own, thread};

/// An object behind a badge, whatever its interface.
pub trait Dispatch: Any + Send + Sync {
    /// Carries out a call.
    fn dispatch(&self, call: &mut Call<'_>) -> core::result::Result<(), TransportError>;
}

/// Whose object a session reaches.
pub enum Owner {
    /// One of this domain.
    This(Arc<dyn Dispatch>),
    /// Another domain's.
    Other,
}

/// A badge of an object that was handed out: this bit, the epoch (31 bits), the object's slot (32 bits).
const HANDED_OUT: u64 = 1 << 63;
const EPOCH_BITS: u64 = 0x7fff_ffff;
/// A root object's badge: its number (16 bits), the route (32 bits).
const ROOTS: usize = 1 << 16;
/// Most objects that are handed out at a time.
const SLOTS: usize = 1 << 20;

/// What the threads of a server share.
pub struct Shared {
    endpoint: Endpoint,
    epoch: u64,
    roots: OnceLock<Vec<Option<Arc<dyn Dispatch>>>>,
    table: Mutex<Table>,
    longest_slice: AtomicUsize,
}

/// Root objects, by their numbers.
type Roots = [Option<Arc<dyn Dispatch>>];

/// Objects that were handed out, by their slots.
struct Table {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
}

#[derive(Clone)]
struct Slot {
    object: Arc<dyn Dispatch>,
    route: u64,
}

/// The server that a domain's objects are handed out through: the first one that was made.
static CURRENT: OnceLock<Arc<Shared>> = OnceLock::new();

/// That server, if there is one.
pub(crate) fn current() -> Option<&'static Shared> {
    CURRENT.get().map(|shared| &**shared)
}

/// The route over which the call came that the calling thread carries out: the number that the session's maker gave. An object that was handed
/// out has the route over which it was asked for. `None` outside of calls from other domains.
pub fn caller() -> Option<u64> {
    match thread::caller() {
        0 => None,
        route => Some(route - 1),
    }
}

/// A server that is being set up.
pub struct Server {
    shared: Arc<Shared>,
    roots: Vec<Option<Arc<dyn Dispatch>>>,
}

impl Server {
    /// A server that answers the calls of `endpoint`. `epoch` tells this instance of the domain from those before it.
    pub fn new(endpoint: Endpoint, epoch: u64) -> Server {
        let table = Mutex::new(Table { slots: Vec::new(), free: Vec::new() });
        let (roots, longest_slice) = (OnceLock::new(), AtomicUsize::new(MAX_SLICE));
        let shared = Arc::new(Shared { endpoint, epoch: epoch & EPOCH_BITS, roots, table, longest_slice });
        CURRENT.get_or_init(|| shared.clone());
        Server { shared, roots: Vec::new() }
    }

    /// Makes `object` root object number `index`, below 65536: sessions whose badge is `(index << 32) | route` reach it.
    pub fn provide<T: Interface + ?Sized>(&mut self, index: u32, object: Arc<T>) {
        let index = index as usize;
        assert!(index < ROOTS, "a root object's number has 16 bits");
        if self.roots.len() <= index {
            self.roots.resize(index + 1, None);
        }
        if let Some(root) = self.roots.get_mut(index) {
            *root = Some(Arc::new(Served(object)));
        }
    }

    /// Refuses slices of more than this many bytes (at most [`MAX_SLICE`], which is the limit otherwise). Each thread keeps memory for three
    /// of the longest that it was sent: a domain's memory must suffice for that.
    pub fn limit_slices(&mut self, bytes: usize) {
        self.shared.longest_slice.store(bytes.min(MAX_SLICE), Ordering::Relaxed);
    }

    /// Refuses slices so long that those of `threads` threads would take more than three quarters of `free` bytes of memory.
    pub fn limit_slices_within(&mut self, free: u64, threads: usize) {
        self.limit_slices(longest_slice(free, threads));
    }

    /// A session of root object `index`, for a client on `route`.
    pub fn session(&self, index: u32, route: u32) -> Result<Session> {
        Session::create(&self.shared.endpoint, &own::pool(), u64::from(index) << 32 | u64::from(route))
    }

    /// Answers calls with this many threads, the calling one among them. Comes back only with the reason why it cannot go on.
    pub fn run(self, threads: usize) -> Error {
        let Server { shared, roots } = self;
        shared.roots.get_or_init(|| roots);
        for _ in 1..threads {
            let shared = shared.clone();
            if let Err(error) = thread::spawn(move || shared.serve()) {
                return error;
            }
        }
        shared.serve()
    }
}

impl Shared {
    /// Answers calls until the endpoint is gone.
    fn serve(&self) -> Error {
        let roots = self.roots.get().map_or(&[][..], Vec::as_slice);
        let mut call = Call::new(self);
        let mut outcome = self.endpoint.receive_raw(&mut call.buffer);
        loop {
            if outcome.code as u32 != 0 {
                return error(outcome.code as u32);
            }
            outcome = match Delivery::from_code(outcome.code >> 32) {
                Some(Delivery::Call) => {
                    call.begin(Tag(outcome.tag), &outcome.words);
                    if let Err(error) = self.carry_out(roots, outcome.badge, &mut call) {
                        call.fail(error);
                    }
                    self.answer(&mut call)
                }
                Some(Delivery::Closed) => {
                    self.forget(outcome.badge);
                    self.endpoint.receive_raw(&mut call.buffer)
                }
                // Nothing is bound to the endpoint, and it is nobody's pager: receiving again refuses.
                _ => self.endpoint.receive_raw(&mut call.buffer),
            }
        }
    }

    #[inline(always)]
    fn carry_out(&self, roots: &Roots, badge: u64, call: &mut Call<'_>) -> core::result::Result<(), TransportError> {
        if badge & HANDED_OUT == 0 {
            let Some(Some(root)) = roots.get((badge >> 32) as usize) else { return Err(TransportError::Revoked) };
            thread::set_caller((badge & u64::from(u32::MAX)) + 1);
            return root.dispatch(call);
        }
        // The lock is not held while the object works.
        let slot = self.slot(badge).ok_or(TransportError::Revoked)?;
        thread::set_caller(slot.route);
        slot.object.dispatch(call)
    }

    fn slot(&self, badge: u64) -> Option<Slot> {
        if badge >> 32 & EPOCH_BITS != self.epoch {
            return None;
        }
        self.table.lock().slots.get(badge as u32 as usize)?.clone()
    }

    #[inline(always)]
    fn answer(&self, call: &mut Call<'_>) -> MessageOutcome {
        thread::set_caller(0);
        let tag = call.end();
        if call.given != 0 {
            return self.answer_with_handles(tag, call);
        }
        let [a, b, c, d, e, f] = call.words;
        self.endpoint.answer_and_receive(tag, [a, b, c, d, e, f, 0], &mut call.buffer)
    }

    /// In two steps, as only `reply` alone tells whether the handles went.
    #[inline(never)]
    fn answer_with_handles(&self, tag: Tag, call: &mut Call<'_>) -> MessageOutcome {
        let handles = core::mem::take(&mut call.handles);
        call.given = 0;
        let numbers = handles.iter().flatten().map(Owned::number);
        let mut words = [0; 7];
        for (to, from) in words.iter_mut().zip(numbers.chain(call.words)) {
            *to = from;
        }
        let tag = tag.with_handles(handles.iter().flatten().count());
        if self.endpoint.answer(tag, words, &mut call.buffer).is_ok() {
            for handle in handles.into_iter().flatten() {
                let _ = handle.into_handle();
            }
        }
        // Those that did not go are closed, which is how this server learns that nobody has the object.
        self.endpoint.receive_raw(&mut call.buffer)
    }

    /// The last handle to a badge is gone.
    fn forget(&self, badge: u64) {
        if badge & HANDED_OUT == 0 || badge >> 32 & EPOCH_BITS != self.epoch {
            return;
        }
        let mut table = self.table.lock();
        let gone = table.slots.get_mut(badge as u32 as usize).and_then(Option::take);
        if gone.is_some() {
            table.free.push(badge as u32);
        }
        // The object's end may be long, or hand out others: the table is free for it.
        drop(table);
        drop(gone);
    }

    /// A session under a badge of its own by which other domains reach `object`.
    pub(crate) fn export(&self, object: Arc<dyn Dispatch>) -> core::result::Result<Session, TransportError> {
        let slot = Slot { object, route: thread::caller() };
        let mut table = self.table.lock();
        let number = match table.free.pop() {
            Some(number) => number,
            None if table.slots.len() < SLOTS => {
                table.slots.push(None);
                (table.slots.len() - 1) as u32
            }
            None => return Err(TransportError::LimitReached),
        };
        if let Some(to) = table.slots.get_mut(number as usize) {
            *to = Some(slot);
        }
        drop(table);
        let badge = HANDED_OUT | self.epoch << 32 | u64::from(number);
        Session::create(&self.endpoint, &own::pool(), badge).map_err(|error| {
            self.forget(badge);
            TransportError::from_refusal(error)
        })
    }

    /// Whose object a session reaches; refuses what is no session, and sessions of objects that are no more.
    pub(crate) fn owner(&self, session: &Session) -> core::result::Result<Owner, TransportError> {
        let badge = match self.endpoint.badge(session) {
            Ok(badge) => badge,
            Err(Error::NoRight) => return Ok(Owner::Other),
            Err(_) => return Err(TransportError::Malformed),
        };
        let object = if badge & HANDED_OUT == 0 {
            self.roots.get().and_then(|roots| roots.get((badge >> 32) as usize)?.clone())
        } else {
            self.slot(badge).map(|slot| slot.object)
        };
        object.map(Owner::This).ok_or(TransportError::Revoked)
    }

    /// The longest slice that is taken, in bytes.
    pub(crate) fn longest_slice(&self) -> usize {
        self.longest_slice.load(Ordering::Relaxed)
    }

    /// How many objects are handed out.
    pub fn handed_out(&self) -> usize {
        let table = self.table.lock();
        table.slots.len() - table.free.len()
    }
}

/// Where there is no server, every session is another's; refuses what is no session.
pub(crate) fn checked_session(session: &Session) -> core::result::Result<Owner, TransportError> {
    match session.inspect() {
        Ok(inspected) if inspected.kind == Kind::Session => Ok(Owner::Other),
        _ => Err(TransportError::Malformed),
    }
}

/// How many objects this domain's server has handed out.
pub fn handed_out() -> usize {
    current().map_or(0, Shared::handed_out)
}

/// How long a slice may be that a client lends: each thread keeps memory for as many of them as a call can lend, and a quarter of the free memory must
/// be left, or a client could use up all of it.
fn longest_slice(free: u64, threads: usize) -> usize {
    let slices = (threads.max(1) as u64).saturating_mul(Tag::MAX_LEASES as u64);
    let bytes = free.saturating_sub(free / 4) / slices;
    usize::try_from(bytes).unwrap_or(MAX_SLICE).min(MAX_SLICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_all_threads_leave_a_quarter_of_the_memory() {
        for (free, threads) in [(3 << 20, 2), (1 << 20, 1), (100 << 10, 32)] {
            let all = (longest_slice(free, threads) * threads * Tag::MAX_LEASES) as u64;
            assert!(all <= free - free / 4 && all * 2 > free, "{all} of {free}");
        }
        assert_eq!(longest_slice(1 << 30, 2), MAX_SLICE);
        assert_eq!(longest_slice(0, 0), 0);
    }
}
