//! timerfd_create(2): timers that are read.
//!
//! Whether a timer is due is seen from the clock; one thread of the personality sleeps until the next is, to wake who waits for it.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use tessera_runtime::sync::{Condvar, Mutex, OnceLock};
use tessera_runtime::thread;

use super::{OpenFile, Sink, ready};
use crate::errno::{Errno, Result};
use crate::fs::{Attributes, Kind};
use crate::task::{System, WaitQueue};

/// A timer.
pub struct TimerFile {
    system: Arc<System>,
    pub clock: i32,
    state: Mutex<State>,
    queue: WaitQueue,
    me: Weak<TimerFile>,
}

/// When it is due (nanoseconds since boot, 0: never), and again after each interval (0: not).
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct State {
    pub due: u64,
    pub interval: u64,
}

impl State {
    /// How often it has been due at `now`.
    fn expirations(&self, now: u64) -> u64 {
        if self.due == 0 || now < self.due {
            return 0;
        }
        now.saturating_sub(self.due).checked_div(self.interval).unwrap_or(0).saturating_add(1)
    }

    /// The timer behind those that were read.
    fn after(self, expirations: u64) -> State {
        if self.interval == 0 {
            return State::default();
        }
        State { due: self.due.saturating_add(expirations.saturating_mul(self.interval)), ..self }
    }
}

impl TimerFile {
    /// One that is not set.
    pub fn new(system: Arc<System>, clock: i32) -> Arc<TimerFile> {
        Arc::new_cyclic(|me| TimerFile {
            system,
            clock,
            state: Mutex::new(State::default()),
            queue: WaitQueue::new(),
            me: me.clone(),
        })
    }

    /// Sets it; answers it as it was.
    pub fn set(&self, state: State) -> Result<State> {
        let before = core::mem::replace(&mut *self.state.lock(), state);
        if state.due != 0 {
            alarms(&self.system)?.add(state.due, &self.me);
        }
        self.queue.wake_all();
        Ok(before)
    }

    /// When it is due next.
    pub fn get(&self) -> State {
        let state = *self.state.lock();
        let passed = state.expirations(self.system.now());
        // One that was due once and was not read is not due again.
        if state.interval == 0 || passed == 0 { state } else { state.after(passed) }
    }
}

impl OpenFile for TimerFile {
    fn read(&self, _at: u64, to: &mut dyn Sink) -> Result<usize> {
        if to.room() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.lock();
        let count = state.expirations(self.system.now());
        if count == 0 {
            return Err(Errno::EAGAIN);
        }
        if to.put(&count.to_ne_bytes())? < 8 {
            return Err(Errno::EFAULT);
        }
        *state = state.after(count);
        let due = state.due;
        drop(state);
        if due != 0 {
            alarms(&self.system)?.add(due, &self.me);
        }
        Ok(8)
    }

    fn ready(&self) -> u32 {
        if self.state.lock().expirations(self.system.now()) > 0 { ready::IN } else { 0 }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::anonymous(Kind::Regular, 0o600, 0))
    }

    fn label(&self) -> String {
        String::from("anon_inode:[timerfd]")
    }
}

/// Who wakes timers that are due.
struct Alarms {
    due: Mutex<BTreeMap<(u64, usize), Weak<TimerFile>>>,
    changed: Condvar,
}

static ALARMS: OnceLock<Arc<Alarms>> = OnceLock::new();

fn alarms(system: &Arc<System>) -> Result<&'static Arc<Alarms>> {
    if let Some(alarms) = ALARMS.get() {
        return Ok(alarms);
    }
    let alarms = Arc::new(Alarms { due: Mutex::new(BTreeMap::new()), changed: Condvar::new() });
    let (theirs, system) = (alarms.clone(), system.clone());
    // Started before it is known: a second one that comes at the same time serves nobody and sleeps.
    thread::spawn(move || theirs.run(&system))?;
    Ok(ALARMS.get_or_init(|| alarms))
}

impl Alarms {
    fn add(&self, due: u64, timer: &Weak<TimerFile>) {
        self.due.lock().insert((due, timer.as_ptr().addr()), timer.clone());
        self.changed.notify_one();
    }

    fn run(&self, system: &System) {
        let mut due = self.due.lock();
        loop {
            let now = system.now();
            let later = due.split_off(&(now.saturating_add(1), 0));
            let passed: Vec<_> = core::mem::replace(&mut *due, later).into_values().collect();
            if passed.is_empty() {
                let next = due.keys().next().map(|(at, _)| *at);
                self.changed.wait_until(&mut due, next);
                continue;
            }
            drop(due);
            for timer in passed.iter().filter_map(Weak::upgrade) {
                timer.queue.wake_all();
                // A timer with an interval that nobody reads is due again for those who watch its edges.
                let next = timer.get();
                if next.interval != 0 && next.due > system.now() {
                    self.add(next.due, &timer.me);
                }
            }
            due = self.due.lock();
        }
    }
}
