//! The mutex of C programs (pthread_mutex_lock(3)), in the memory that they have for one. All zeroes, as a static one begins, is one that is free.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::errno::{Errno, Result};
use crate::futex;

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody may wait for it.
const AWAITED: u32 = 2;
/// Nobody's number.
const NOBODY: usize = 0;

/// What becomes of a thread that locks what it has locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It waits for ever.
    Normal = 0,
    /// It has to unlock once more.
    Recursive = 1,
    /// It is told.
    Checked = 2,
}

impl Kind {
    /// The kind of this number.
    #[must_use]
    pub fn of(number: u32) -> Option<Kind> {
        [Kind::Normal, Kind::Recursive, Kind::Checked].into_iter().find(|kind| *kind as u32 == number)
    }
}

/// A mutex. Threads are told apart by numbers that are not 0.
#[repr(C)]
#[derive(Debug)]
pub struct Mutex {
    state: AtomicU32,
    kind: u32,
    /// Who holds it; read by others, for whom any other number does.
    holder: AtomicUsize,
    /// How often the holder has locked it beside the first time.
    again: AtomicU32,
}

/// Bytes that C code has for one (`pthread_mutex_t`).
const ROOM: usize = 40;
const _: () = assert!(size_of::<Mutex>() <= ROOM);

impl Mutex {
    /// A free one.
    #[must_use]
    pub const fn new(kind: Kind) -> Mutex {
        Mutex {
            state: AtomicU32::new(FREE),
            kind: kind as u32,
            holder: AtomicUsize::new(NOBODY),
            again: AtomicU32::new(0),
        }
    }

    /// Whether thread `me` held it already, and has entered once more.
    fn enter_again(&self, me: usize) -> Result<bool> {
        if self.kind == Kind::Normal as u32 || self.holder.load(Ordering::Relaxed) != me {
            return Ok(false);
        }
        if self.kind != Kind::Recursive as u32 {
            return Err(Errno::EDEADLK);
        }
        self.again.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Waits until it is thread `me`'s.
    ///
    /// # Errors
    /// `EDEADLK`: a checked one is that already.
    pub fn lock(&self, me: usize) -> Result<()> {
        if self.enter_again(me)? {
            return Ok(());
        }
        if self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            while self.state.swap(AWAITED, Ordering::Acquire) != FREE {
                let address = (&raw const self.state).addr();
                futex::wait(address, || self.state.load(Ordering::Relaxed) != AWAITED, None);
            }
        }
        self.holder.store(me, Ordering::Relaxed);
        Ok(())
    }

    /// Makes it thread `me`'s, if it is free.
    ///
    /// # Errors
    /// `EBUSY`: it is not.
    pub fn try_lock(&self, me: usize) -> Result<()> {
        if self.enter_again(me).map_err(|_| Errno::EBUSY)? {
            return Ok(());
        }
        let taken = self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        taken.map_err(|_| Errno::EBUSY)?;
        self.holder.store(me, Ordering::Relaxed);
        Ok(())
    }

    /// Lets go of it, or of one of several times.
    ///
    /// # Errors
    /// `EPERM`: it is not thread `me`'s, and of a kind that looks.
    pub fn unlock(&self, me: usize) -> Result<()> {
        if self.kind != Kind::Normal as u32 {
            if self.holder.load(Ordering::Relaxed) != me {
                return Err(Errno::EPERM);
            }
            let again = self.again.load(Ordering::Relaxed);
            if again > 0 {
                self.again.store(again - 1, Ordering::Relaxed);
                return Ok(());
            }
        }
        self.holder.store(NOBODY, Ordering::Relaxed);
        if self.state.swap(FREE, Ordering::Release) == AWAITED {
            futex::wake((&raw const self.state).addr(), 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time_holds_it() {
        let (mutex, count) = (Mutex::new(Kind::Normal), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for me in 1..=4 {
                let (mutex, count) = (&mutex, &count);
                scope.spawn(move || {
                    for _ in 0..1000 {
                        mutex.lock(me).unwrap();
                        let before = count.load(Ordering::Relaxed);
                        std::thread::yield_now();
                        count.store(before + 1, Ordering::Relaxed);
                        mutex.unlock(me).unwrap();
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 4000);
    }

    #[test]
    fn a_recursive_one_is_unlocked_as_often_as_it_was_locked() {
        let mutex = Mutex::new(Kind::Recursive);
        assert_eq!([mutex.lock(1), mutex.lock(1), mutex.try_lock(1)], [Ok(()); 3]);
        for _ in 0..3 {
            assert_eq!(mutex.try_lock(2), Err(Errno::EBUSY));
            assert_eq!(mutex.unlock(2), Err(Errno::EPERM));
            assert_eq!(mutex.unlock(1), Ok(()));
        }
        assert_eq!(mutex.try_lock(2), Ok(()));
    }

    #[test]
    fn a_checked_one_tells_who_locks_it_twice() {
        let mutex = Mutex::new(Kind::Checked);
        assert_eq!(mutex.lock(1), Ok(()));
        assert_eq!([mutex.lock(1), mutex.try_lock(1)], [Err(Errno::EDEADLK), Err(Errno::EBUSY)]);
        assert_eq!([mutex.unlock(1), mutex.unlock(1)], [Ok(()), Err(Errno::EPERM)]);
        assert_eq!([Kind::of(1), Kind::of(3)], [Some(Kind::Recursive), None]);
    }
}
