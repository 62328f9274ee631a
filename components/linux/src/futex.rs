//! Futexes (futex(2)): queues of threads by the memory word that they wait for.
//!
//! A word is named by where it is: for private memory the process's memory and the address, for shared memory the memory
//! object and the offset, so that processes that map it at different addresses meet. The queue's lock is held while the
//! word is compared, and taken by whoever wakes: a wake between the look and the wait is not lost.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tessera_runtime::object::{ticks, yield_now};
use tessera_runtime::sync::{Mutex, MutexGuard};

use crate::errno::{Errno, Result};
use crate::memory::Protection;
use crate::task::{Context, System, Waiter, wait};

/// What names a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Key {
    /// The address of the `Mm` or `Memory` in the personality, which names it while it lives.
    object: usize,
    offset: u64,
}

/// A word to wait for, among others.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub address: u64,
    pub key: Key,
    pub expected: u32,
}

/// How many queues there are; words share them.
const QUEUES: usize = 64;

struct Sleeper {
    waiter: Arc<Waiter>,
    key: Mutex<Key>,
    bits: u32,
    woken: AtomicBool,
    order: u64,
    /// The time stamp counter when it began to wait.
    since: u64,
}

/// All futexes of a container.
pub struct Futexes {
    queues: [Mutex<Vec<Arc<Sleeper>>>; QUEUES],
    order: AtomicU64,
}

impl Default for Futexes {
    fn default() -> Futexes {
        Futexes::new()
    }
}

/// Who has waited for more nanoseconds than these runs before who wakes it.
const PATIENCE: u64 = 1_000_000;
/// Which threads a wake concerns; all.
pub const ANY: u32 = u32::MAX;

impl Futexes {
    pub fn new() -> Futexes {
        Futexes { queues: [const { Mutex::new(Vec::new()) }; QUEUES], order: AtomicU64::new(0) }
    }

    fn index(key: Key) -> usize {
        let mixed = (key.object as u64 ^ key.offset).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 58) as usize % QUEUES
    }

    fn queue(&self, key: Key) -> MutexGuard<'_, Vec<Arc<Sleeper>>> {
        self.at(Futexes::index(key))
    }

    fn at(&self, index: usize) -> MutexGuard<'_, Vec<Arc<Sleeper>>> {
        // The index is always below QUEUES; the first stands for none.
        let [first, ..] = &self.queues;
        self.queues.get(index).unwrap_or(first).lock()
    }

    /// Waits while the word is `expected`.
    ///
    /// # Errors
    /// `EAGAIN` if it is something else, `ETIMEDOUT`, `ERESTARTSYS`, `EFAULT`.
    pub fn wait(
        &self,
        context: &Context,
        address: u64,
        key: Key,
        expected: u32,
        bits: u32,
        deadline: Option<u64>,
    ) -> Result<()> {
        let waiter = context.task.waiter.clone();
        let mut queue = self.queue(key);
        if context.memory.load(address)? != expected {
            return Err(Errno::EAGAIN);
        }
        let order = self.order.fetch_add(1, Ordering::Relaxed);
        let sleeper = Arc::new(Sleeper {
            waiter: waiter.clone(),
            key: Mutex::new(key),
            bits,
            woken: AtomicBool::new(false),
            order,
            since: ticks(),
        });
        waiter.prepare();
        queue.push(sleeper.clone());
        drop(queue);
        loop {
            if sleeper.woken.load(Ordering::Acquire) {
                return Ok(());
            }
            match wait::sleep(context, &waiter, deadline) {
                Ok(()) => waiter.prepare(),
                Err(error) => {
                    // Who took it out of the queue has woken it: then that counts.
                    return if self.leave(&sleeper) { Err(error) } else { Ok(()) };
                }
            }
        }
    }

    /// Waits while all words are as expected; answers which of them was woken.
    ///
    /// # Errors
    /// As [`Futexes::wait`].
    pub fn wait_any(&self, context: &Context, wanted: &[Wanted], deadline: Option<u64>) -> Result<usize> {
        let waiter = context.task.waiter.clone();
        let mut sleepers: Vec<Arc<Sleeper>> = Vec::with_capacity(wanted.len());
        waiter.prepare();
        for one in wanted {
            let mut queue = self.queue(one.key);
            let refused = match context.memory.load(one.address) {
                Ok(value) if value == one.expected => None,
                Ok(_) => Some(Errno::EAGAIN),
                Err(error) => Some(error),
            };
            if let Some(error) = refused {
                drop(queue);
                return self.leave_all(&sleepers).ok_or(error);
            }
            let sleeper = Arc::new(Sleeper {
                waiter: waiter.clone(),
                key: Mutex::new(one.key),
                bits: ANY,
                woken: AtomicBool::new(false),
                order: self.order.fetch_add(1, Ordering::Relaxed),
                since: ticks(),
            });
            queue.push(sleeper.clone());
            sleepers.push(sleeper);
        }
        loop {
            if sleepers.iter().any(|sleeper| sleeper.woken.load(Ordering::Acquire)) {
                return self.leave_all(&sleepers).ok_or(Errno::EAGAIN);
            }
            match wait::sleep(context, &waiter, deadline) {
                Ok(()) => waiter.prepare(),
                Err(error) => return self.leave_all(&sleepers).ok_or(error),
            }
        }
    }

    /// Takes all out of their queues; the last that was woken before.
    fn leave_all(&self, sleepers: &[Arc<Sleeper>]) -> Option<usize> {
        let mut woken = None;
        for (index, sleeper) in sleepers.iter().enumerate() {
            if !self.leave(sleeper) {
                woken = Some(index);
            }
        }
        woken
    }

    /// Takes a sleeper out of its queue; whether it was still there.
    fn leave(&self, sleeper: &Arc<Sleeper>) -> bool {
        loop {
            let key = *sleeper.key.lock();
            let mut queue = self.queue(key);
            if sleeper.woken.load(Ordering::Acquire) {
                return false;
            }
            if let Some(index) = queue.iter().position(|other| Arc::ptr_eq(other, sleeper)) {
                queue.remove(index);
                return true;
            }
            // It was moved to another word this moment.
        }
    }

    /// Wakes at most `most` who wait for the word, those that came first; answers how many.
    pub fn wake(&self, key: Key, most: u32, bits: u32) -> u32 {
        wake_in(&mut self.queue(key), key, most, bits).0
    }

    /// The same, and then lets one run that has waited for longer than [`PATIENCE`], as Linux's scheduler does (`sched_wakeup_granularity`). Without,
    /// a thread that releases a lock and takes it again for most of its time, and rests only while it holds it, is never
    /// interrupted between the two, and who waits for the lock never gets it.
    pub fn wake_and_give_way(&self, system: &System, key: Key, most: u32, bits: u32) -> u32 {
        let (woken, since) = wake_in(&mut self.queue(key), key, most, bits);
        if woken > 0 && system.nanoseconds(ticks().saturating_sub(since)) > PATIENCE {
            yield_now();
        }
        woken
    }

    /// Wakes `most` who wait for `from`, and lets up to `move_most` others wait for `to`; answers woken and moved. `check` is asked
    /// under the locks.
    pub fn requeue(
        &self,
        from: Key,
        to: Key,
        most: u32,
        move_most: u32,
        check: impl FnOnce() -> Result<()>,
    ) -> Result<(u32, u32)> {
        let (a, b) = (Futexes::index(from), Futexes::index(to));
        let mut first = self.at(a.min(b));
        let mut second = (a != b).then(|| self.at(a.max(b)));
        check()?;
        let (source, mut target) = match &mut second {
            None => (&mut *first, None),
            Some(second) if a < b => (&mut *first, Some(&mut **second)),
            Some(second) => (&mut **second, Some(&mut *first)),
        };
        let (woken, _) = wake_in(source, from, most, ANY);
        let mut moved = 0;
        if from == to {
            return Ok((woken, moved));
        }
        let mut index = 0;
        while moved < move_most {
            let Some(found) = source.iter().skip(index).position(|sleeper| *sleeper.key.lock() == from) else { break };
            index += found;
            if let Some(sleeper) = source.get(index) {
                *sleeper.key.lock() = to;
            }
            match &mut target {
                Some(target) => target.push(source.remove(index)),
                None => index += 1,
            }
            moved += 1;
        }
        Ok((woken, moved))
    }
}

/// Wakes those who wait for a word; answers how many, and since when the first of them has waited.
fn wake_in(queue: &mut Vec<Arc<Sleeper>>, key: Key, most: u32, bits: u32) -> (u32, u64) {
    let (mut woken, mut since) = (0, u64::MAX);
    while woken < most {
        let matching = queue.iter().enumerate().filter(|(_, other)| *other.key.lock() == key && other.bits & bits != 0);
        let Some((index, _)) = matching.min_by_key(|(_, sleeper)| sleeper.order) else { break };
        let sleeper = queue.remove(index);
        sleeper.woken.store(true, Ordering::Release);
        sleeper.waiter.wake();
        woken += 1;
        since = since.min(sleeper.since);
    }
    (woken, since)
}

/// The name of the word at an address.
///
/// # Errors
/// `EINVAL` if it is not aligned, `EFAULT` if nothing is there.
pub fn key(context: &Context, address: u64, private: bool) -> Result<Key> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let mm = context.memory.mm();
    let own = Key { object: Arc::as_ptr(mm) as usize, offset: address };
    if private {
        return Ok(own);
    }
    let layout = mm.lock();
    let (start, area) = layout.find(address).ok_or(Errno::EFAULT)?;
    let is_there = !area.of_file || area.memory.read(area.offset + (address - start), &mut [0]) == Ok(1);
    if !area.protection.contains(Protection::READ) || !is_there {
        return Err(Errno::EFAULT);
    }
    Ok(if area.shared {
        Key { object: Arc::as_ptr(&area.memory) as usize, offset: area.offset + (address - start) }
    } else {
        own
    })
}
