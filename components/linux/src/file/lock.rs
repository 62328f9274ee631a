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
/// Most locks of one file.
const MOST: usize = 65_536;

/// The first lock that stands against one that is wanted.
pub fn find(file: FileKey, wanted: &Lock) -> Option<Lock> {
    LOCKS.lock().get(&file)?.iter().find(|lock| lock.stands_against(wanted)).copied()
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
    locks.push(wanted);
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
}
