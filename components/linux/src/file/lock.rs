//! Locks of files: flock(2), and record locks of fcntl(2).
//!
//! Advisory all: reading and writing do not look at them. A record lock is a process's, or an open file description's; a lock of the
//! whole file by flock is a description's and does not meet the others.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use tessera_runtime::sync::Mutex;

use crate::errno::{Errno, Result};
use crate::task::WaitQueue;

/// Which file: device and number.
pub type FileKey = (u64, u64);

/// Whose a lock is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    Process(i32),
    /// An open file description, by its address: it gives its locks back before it goes.
    Description(usize),
    /// The same, of flock(2).
    Whole(usize),
}

impl Owner {
    /// Whether locks of these two can meet at all.
    fn meets(self, other: Owner) -> bool {
        matches!(self, Owner::Whole(_)) == matches!(other, Owner::Whole(_))
    }
}

/// A lock on bytes `start..end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lock {
    pub owner: Owner,
    pub exclusive: bool,
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Lock {
    fn overlaps(&self, other: &Lock) -> bool {
        self.start < other.end && other.start < self.end
    }

    fn stands_against(&self, wanted: &Lock) -> bool {
        self.owner != wanted.owner
            && self.owner.meets(wanted.owner)
            && self.overlaps(wanted)
            && (self.exclusive || wanted.exclusive)
    }
}

static LOCKS: Mutex<BTreeMap<FileKey, Vec<Lock>>> = Mutex::new(BTreeMap::new());
/// Woken when locks went.
pub static CHANGED: WaitQueue = WaitQueue::new();
/// Which process waits for which, of those that wait for record locks.
static WAITING: Mutex<BTreeMap<i32, i32>> = Mutex::new(BTreeMap::new());

/// Notes that a process waits for the one whose lock stands against what it wants, until [`waits_no_more`].
///
/// # Errors
/// `EDEADLK`: that one waits for it, or for one that does.
pub fn waits(process: i32, file: FileKey, wanted: &Lock) -> Result<()> {
    let Some(Lock { owner: Owner::Process(holder), .. }) = find(file, wanted) else { return Ok(()) };
    let mut waiting = WAITING.lock();
    let mut at = holder;
    // A circle among others, which the locks that changed meanwhile can leave for a moment, is not gone around for ever.
    for _ in 0..=waiting.len() {
        if at == process {
            return Err(Errno::EDEADLK);
        }
        match waiting.get(&at) {
            Some(next) => at = *next,
            None => break,
        }
    }
    waiting.insert(process, holder);
    Ok(())
}

pub fn waits_no_more(process: i32) {
    WAITING.lock().remove(&process);
}

/// Most locks of one file.
const MOST: usize = 65_536;

/// The lock that stands against one that is wanted: of several, the one that begins first.
pub fn find(file: FileKey, wanted: &Lock) -> Option<Lock> {
    let all = LOCKS.lock();
    all.get(&file)?.iter().filter(|lock| lock.stands_against(wanted)).min_by_key(|lock| lock.start).copied()
}

/// Takes what is the owner's out of a range, cutting locks that reach beyond it.
fn cut(locks: &mut Vec<Lock>, range: &Lock) {
    let mut kept = Vec::with_capacity(locks.len() + 1);
    for lock in locks.drain(..) {
        if lock.owner != range.owner || !lock.overlaps(range) {
            kept.push(lock);
            continue;
        }
        if lock.start < range.start {
            kept.push(Lock { end: range.start, ..lock });
        }
        if lock.end > range.end {
            kept.push(Lock { start: range.end, ..lock });
        }
    }
    *locks = kept;
}

/// Takes out the owner's locks of the same kind that touch a new one; answers the lock that is all of them.
fn joined(locks: &mut Vec<Lock>, new: Lock) -> Lock {
    let mut whole = new;
    locks.retain(|lock| {
        let touches = (lock.owner, lock.exclusive) == (new.owner, new.exclusive)
            && (lock.end == new.start || lock.start == new.end);
        if touches {
            (whole.start, whole.end) = (whole.start.min(lock.start), whole.end.max(lock.end));
        }
        !touches
    });
    whole
}

/// Locks a range in place of what the owner has there.
///
/// # Errors
/// `EAGAIN` if a lock of another stands against it; `ENOLCK` if there are too many.
pub fn set(file: FileKey, wanted: Lock) -> Result<()> {
    let mut all = LOCKS.lock();
    let locks = all.entry(file).or_default();
    if locks.iter().any(|lock| lock.stands_against(&wanted)) {
        return Err(Errno::EAGAIN);
    }
    if locks.len() >= MOST {
        return Err(Errno::ENOLCK);
    }
    cut(locks, &wanted);
    let whole = joined(locks, wanted);
    locks.push(whole);
    drop(all);
    // A lock that became a shared one lets others in.
    CHANGED.wake_all();
    Ok(())
}

/// Unlocks a range of an owner's.
pub fn clear(file: FileKey, range: &Lock) {
    let mut all = LOCKS.lock();
    let Some(locks) = all.get_mut(&file) else { return };
    cut(locks, range);
    if locks.is_empty() {
        all.remove(&file);
    }
    drop(all);
    CHANGED.wake_all();
}

/// Unlocks all of an owner's on a file.
pub fn clear_all(file: FileKey, owner: Owner) {
    clear(file, &Lock { owner, exclusive: false, start: 0, end: u64::MAX });
}

/// All locks, as `/proc/locks` shows them.
pub fn all() -> Vec<(FileKey, Lock)> {
    let all = LOCKS.lock();
    all.iter().flat_map(|(file, locks)| locks.iter().map(|lock| (*file, *lock))).collect()
}

/// Whether anybody has a lock: a look that saves others looking.
pub fn is_any() -> bool {
    !LOCKS.lock().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(owner: i32, exclusive: bool, start: u64, end: u64) -> Lock {
        Lock { owner: Owner::Process(owner), exclusive, start, end }
    }

    #[test]
    fn shared_locks_meet_and_exclusive_ones_do_not() {
        let file = (1, 1);
        set(file, lock(1, false, 0, 10)).unwrap();
        set(file, lock(2, false, 5, 15)).unwrap();
        assert_eq!(set(file, lock(3, true, 9, 12)), Err(Errno::EAGAIN));
        assert_eq!(set(file, lock(1, true, 0, 5)), Ok(()), "its own is replaced where nobody else is");
        assert_eq!(find(file, &lock(2, false, 0, 1)), Some(lock(1, true, 0, 5)));
        set(file, Lock { owner: Owner::Whole(1), ..lock(0, true, 0, u64::MAX) }).unwrap();
        clear_all(file, Owner::Process(1));
        clear_all(file, Owner::Process(2));
        clear_all(file, Owner::Whole(1));
        assert_eq!(find(file, &lock(3, true, 0, u64::MAX)), None);
    }

    #[test]
    fn unlocking_the_middle_leaves_both_ends() {
        let file = (1, 2);
        set(file, lock(1, true, 0, 30)).unwrap();
        clear(file, &lock(1, true, 10, 20));
        assert_eq!(find(file, &lock(2, true, 10, 20)), None);
        assert!(find(file, &lock(2, true, 0, 10)).is_some() && find(file, &lock(2, true, 20, 21)).is_some());
        clear_all(file, Owner::Process(1));
    }

    #[test]
    fn locks_that_touch_become_one_and_the_first_is_told() {
        let file = (1, 5);
        for (start, end) in [(20, 30), (0, 10), (10, 20), (40, 50)] {
            set(file, lock(1, true, start, end)).unwrap();
        }
        assert_eq!(find(file, &lock(2, false, 5, u64::MAX)), Some(lock(1, true, 0, 30)));
        assert_eq!(find(file, &lock(2, false, 30, u64::MAX)), Some(lock(1, true, 40, 50)));
        clear_all(file, Owner::Process(1));
    }

    #[test]
    fn who_would_wait_in_a_circle_is_refused() {
        let (one, other) = ((1, 3), (1, 4));
        set(one, lock(71, true, 0, 1)).unwrap();
        set(other, lock(72, true, 0, 1)).unwrap();
        assert_eq!(waits(71, other, &lock(71, true, 0, 1)), Ok(()));
        assert_eq!(waits(72, one, &lock(72, true, 0, 1)), Err(Errno::EDEADLK));
        waits_no_more(71);
        assert_eq!(waits(72, one, &lock(72, true, 0, 1)), Ok(()), "nobody waits for it any more");
        waits_no_more(72);
        clear_all(one, Owner::Process(71));
        clear_all(other, Owner::Process(72));
    }
}
