//! signalfd(2): signals that are read instead of handled.
//!
//! The signals are those of the process that made the descriptor, and those sent to the thread that did.

use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};

use tessera_runtime::sync::Mutex;

use super::{OpenFile, Sink, ready};
use crate::errno::{Errno, Result};
use crate::fs::{Attributes, Kind};
use crate::signal::{Info, Set, UNBLOCKABLE, code};
use crate::task::{Process, Task, WaitQueue};

/// Bytes of a `struct signalfd_siginfo`.
const RECORD: usize = 128;

/// A descriptor for signals.
pub struct SignalFile {
    process: Arc<Process>,
    task: Weak<Task>,
    set: Mutex<Set>,
}

impl SignalFile {
    /// One for the signals of a set.
    pub fn new(task: &Arc<Task>, set: Set) -> Arc<SignalFile> {
        Arc::new(SignalFile {
            process: task.process.clone(),
            task: Arc::downgrade(task),
            set: Mutex::new(set.without(UNBLOCKABLE)),
        })
    }

    /// Other signals from now on.
    pub fn set(&self, set: Set) {
        *self.set.lock() = set.without(UNBLOCKABLE);
        self.process.pending_changed.wake_all();
    }

    fn take(&self) -> Option<Info> {
        let set = *self.set.lock();
        let own = self.task.upgrade().and_then(|task| task.pending.lock().take(set));
        own.or_else(|| self.process.pending.lock().take(set))
    }
}

/// `struct signalfd_siginfo`.
fn record(info: &Info) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let mut put = |at: usize, value: &[u8]| {
        for (to, from) in bytes.iter_mut().skip(at).zip(value) {
            *to = *from;
        }
    };
    put(0, &info.signal.to_ne_bytes());
    put(4, &info.error.to_ne_bytes());
    put(8, &info.code.to_ne_bytes());
    let [first, second, third, _] = info.fields.map(u64::to_ne_bytes);
    match info.code {
        code::TIMER => {
            // Timer, overruns; value.
            put(24, first.get(..4).unwrap_or_default());
            put(32, first.get(4..).unwrap_or_default());
            put(44, second.get(..4).unwrap_or_default());
            put(48, &second);
        }
        _ if info.signal == crate::signal::SIGCHLD => {
            put(12, &first);
            put(40, second.get(..4).unwrap_or_default());
            put(56, &third);
        }
        _ => {
            // Sender and user; value.
            put(12, &first);
            put(44, second.get(..4).unwrap_or_default());
            put(48, &second);
        }
    }
    bytes
}

impl OpenFile for SignalFile {
    fn information(&self) -> String {
        format!("sigmask:\t{:016x}\n", self.set.lock().bits())
    }

    fn read(&self, _at: u64, to: &mut dyn Sink) -> Result<usize> {
        if to.room() < RECORD {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        while to.room() >= RECORD {
            let Some(info) = self.take() else { break };
            done += to.put(&record(&info))?;
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn ready(&self) -> u32 {
        let set = *self.set.lock();
        let has = |pending: Set| !pending.intersection(set).is_empty();
        let own = self.task.upgrade().is_some_and(|task| has(task.pending.lock().set()));
        let is_ready = own || has(self.process.pending.lock().set());
        if is_ready { ready::IN } else { 0 }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.process.pending_changed)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::anonymous(Kind::Regular, 0o600, 0))
    }

    fn label(&self) -> String {
        String::from("anon_inode:[signalfd]")
    }
}
