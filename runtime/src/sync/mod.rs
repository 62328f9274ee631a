//! Locks on `park` and `unpark`: what waits is parked, nothing spins.
//!
//! A lock is handed to the thread that has waited longest, so that nobody starves; before it waits, a thread gives way once. None of them
//! allocates: the heap's own lock is one of them.

mod condvar;
mod mutex;
mod once;
mod unparker;
mod waiter;

pub use condvar::Condvar;
pub use mutex::{Mutex, MutexGuard, RawMutex};
pub use once::{Once, OnceLock};
pub use unparker::Unparker;
