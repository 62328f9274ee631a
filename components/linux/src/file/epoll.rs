//! epoll(7): a set of open files that reports those that are ready, without looking at the others.
//!
//! Each watched file tells its item when something about it may have changed; the item then stands in the list of candidates,
//! and waiting looks at candidates only. A level-triggered item that was reported stays a candidate.
//!
//! Locks: an item's state before the list of candidates; a watched file's own locks are never held when either is taken by
//! a wake, as whoever wakes a queue holds none of the file's.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;
use tessera_runtime::sync::Mutex;

use super::{Description, OpenFile, ready};
use crate::errno::{Errno, Result};
use crate::fs::{Attributes, Kind};
use crate::task::WaitQueue;
use crate::task::wait::Listener;

/// `EPOLLEXCLUSIVE`, `EPOLLONESHOT`, `EPOLLET`, `EPOLLWAKEUP`.
pub const EXCLUSIVE: u32 = 1 << 28;
pub const WAKE_UP: u32 = 1 << 29;
pub const ONE_SHOT: u32 = 1 << 30;
pub const EDGE: u32 = 1 << 31;
/// What is reported whether it was asked for or not.
const ALWAYS: u32 = ready::ERROR | ready::HANGUP;
/// Sets that watch sets that watch sets: how deep (`EP_MAX_NESTS`).
const DEEPEST: usize = 4;
/// So many items are never looked through for files that were closed.
const FEW: usize = 16;

/// What a set reports: the bits, and the number that the program gave.
pub type Report = (u32, u64);

/// A set.
pub struct Epoll {
    items: Mutex<Items>,
    candidates: Arc<Candidates>,
}

/// What is watched.
struct Items {
    /// By descriptor and open file, as Linux does: a descriptor that was closed and used again is another item.
    map: BTreeMap<(i32, usize), Arc<Item>>,
    /// With so many, those of files that were closed are swept out: the work for each that is added stays the same however many there are.
    sweep: usize,
}

impl Items {
    fn insert(&mut self, key: (i32, usize), item: Arc<Item>) {
        if self.map.len() >= self.sweep {
            self.map.retain(|_, item| item.file.strong_count() > 0);
            self.sweep = self.map.len().saturating_mul(2).max(FEW);
        }
        self.map.insert(key, item);
    }
}

/// Items that may be ready, first come first served.
struct Candidates {
    list: Mutex<VecDeque<Arc<Item>>>,
    queue: WaitQueue,
}

struct Item {
    file: Weak<Description>,
    state: Mutex<State>,
    /// Whether it stands among the candidates.
    listed: AtomicBool,
    candidates: Weak<Candidates>,
    me: Weak<Item>,
}

#[derive(Clone, Copy)]
struct State {
    events: u32,
    data: u64,
    enabled: bool,
}

impl Item {
    fn list(&self) {
        let (Some(candidates), Some(me)) = (self.candidates.upgrade(), self.me.upgrade()) else { return };
        if !self.listed.swap(true, Ordering::AcqRel) {
            candidates.list.lock().push_back(me);
        }
        candidates.queue.wake_all();
    }

    /// What it would report now.
    fn ready(&self) -> Option<Report> {
        let file = self.file.upgrade()?;
        let state = *self.state.lock();
        let bits = file.file.ready() & (state.events | ALWAYS) & !(EDGE | ONE_SHOT | EXCLUSIVE | WAKE_UP);
        (state.enabled && bits != 0).then_some((bits, state.data))
    }
}

impl Listener for Item {
    #[cfg_attr(target_os = "none", optimize(speed))]
    fn woken(&self) -> bool {
        let state = *self.state.lock();
        if !state.enabled {
            return false;
        }
        let wakes =
            state.events & EXCLUSIVE != 0 && self.candidates.upgrade().is_some_and(|set| set.queue.has_waiters());
        self.list();
        wakes
    }

    fn is_alone(&self) -> bool {
        self.state.lock().events & EXCLUSIVE != 0
    }
}

impl Epoll {
    /// An empty set.
    pub fn new() -> Arc<Epoll> {
        let candidates = Candidates { list: Mutex::new(VecDeque::new()), queue: WaitQueue::new() };
        let items = Items { map: BTreeMap::new(), sweep: FEW };
        Arc::new(Epoll { items: Mutex::new(items), candidates: Arc::new(candidates) })
    }

    /// Watches a file: `EEXIST` if it is watched, `EPERM` for files that never wait, `ELOOP` for sets in a circle,
    /// `EINVAL` for the set itself, and for a set that is to be woken alone.
    pub fn add(self: &Arc<Self>, descriptor: i32, file: &Arc<Description>, events: u32, data: u64) -> Result<()> {
        let queue = file.file.queue().ok_or(Errno::EPERM)?;
        if let Some(other) = file.concrete::<Epoll>() {
            if Arc::ptr_eq(&other, self) || events & EXCLUSIVE != 0 {
                return Err(Errno::EINVAL);
            }
            if other.depth(self, DEEPEST + 1)? > DEEPEST {
                return Err(Errno::ELOOP);
            }
        }
        let item = Arc::new_cyclic(|me| Item {
            file: Arc::downgrade(file),
            state: Mutex::new(State { events, data, enabled: true }),
            listed: AtomicBool::new(false),
            candidates: Arc::downgrade(&self.candidates),
            me: me.clone(),
        });
        {
            let mut items = self.items.lock();
            let key = (descriptor, Arc::as_ptr(file).addr());
            if items.map.get(&key).is_some_and(|item| item.file.strong_count() > 0) {
                return Err(Errno::EEXIST);
            }
            items.insert(key, item.clone());
        }
        let listener: Arc<dyn Listener> = item.clone();
        queue.listen(&listener);
        if item.ready().is_some() {
            item.list();
        }
        Ok(())
    }

    /// How deep the sets below this one go; `ELOOP` if `top` is among them.
    fn depth(&self, top: &Arc<Epoll>, limit: usize) -> Result<usize> {
        if limit == 0 {
            return Ok(1);
        }
        let files: alloc::vec::Vec<_> = self.items.lock().map.values().filter_map(|item| item.file.upgrade()).collect();
        let mut deepest = 0;
        for below in files.iter().filter_map(|file| file.concrete::<Epoll>()) {
            if Arc::ptr_eq(&below, top) {
                return Err(Errno::ELOOP);
            }
            deepest = deepest.max(below.depth(top, limit - 1)?);
        }
        Ok(deepest + 1)
    }

    fn item(&self, descriptor: i32, file: &Arc<Description>) -> Result<Arc<Item>> {
        self.items.lock().map.get(&(descriptor, Arc::as_ptr(file).addr())).cloned().ok_or(Errno::ENOENT)
    }

    /// Changes what is watched for.
    pub fn change(&self, descriptor: i32, file: &Arc<Description>, events: u32, data: u64) -> Result<()> {
        let item = self.item(descriptor, file)?;
        if events & EXCLUSIVE != 0 || item.state.lock().events & EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        *item.state.lock() = State { events, data, enabled: true };
        if item.ready().is_some() {
            item.list();
        }
        Ok(())
    }

    /// Watches a file no more.
    pub fn remove(&self, descriptor: i32, file: &Arc<Description>) -> Result<()> {
        let item = self.item(descriptor, file)?;
        self.items.lock().map.remove(&(descriptor, Arc::as_ptr(file).addr()));
        item.state.lock().enabled = false;
        if let Some(queue) = file.file.queue() {
            let listener: Arc<dyn Listener> = item;
            queue.unlisten(&listener);
        }
        Ok(())
    }

    /// Takes reports of what is ready, at most `most`, without waiting.
    #[cfg_attr(target_os = "none", optimize(speed))]
    pub fn take(&self, most: usize, mut report: impl FnMut(Report) -> Result<()>) -> Result<usize> {
        let (mut done, mut kept) = (0, SmallVec::<[Arc<Item>; 4]>::new());
        let rounds = self.candidates.list.lock().len();
        let mut outcome = Ok(());
        for _ in 0..rounds {
            if done >= most || outcome.is_err() {
                break;
            }
            let Some(item) = self.candidates.list.lock().pop_front() else { break };
            // From here on a wake lists it again: none is lost between the look and the next one.
            item.listed.store(false, Ordering::Release);
            let Some(found) = item.ready() else { continue };
            outcome = report(found);
            if outcome.is_err() {
                kept.insert(0, item);
                continue;
            }
            done += 1;
            let mut state = item.state.lock();
            if state.events & ONE_SHOT != 0 {
                state.enabled = false;
            } else if state.events & EDGE == 0 {
                drop(state);
                kept.push(item);
            }
        }
        for item in kept {
            if !item.listed.swap(true, Ordering::AcqRel) {
                self.candidates.list.lock().push_back(item);
            }
        }
        if done > 0 { Ok(done) } else { outcome.map(|()| 0) }
    }

    /// Woken when something may be ready.
    pub fn changes(&self) -> &WaitQueue {
        &self.candidates.queue
    }

    /// Whether something is ready.
    pub fn is_ready(&self) -> bool {
        let list: alloc::vec::Vec<_> = self.candidates.list.lock().iter().cloned().collect();
        list.iter().any(|item| item.ready().is_some())
    }
}

impl OpenFile for Epoll {
    fn ready(&self) -> u32 {
        if self.is_ready() { ready::IN } else { 0 }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.candidates.queue)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::anonymous(Kind::Regular, 0o600, 0))
    }

    fn label(&self) -> String {
        String::from("anon_inode:[eventpoll]")
    }
}
