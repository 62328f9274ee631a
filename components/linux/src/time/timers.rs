//! Timers that send signals: `alarm`, `setitimer`, `timer_create`.
//!
//! One thread of the personality serves all timers of a container: it sleeps until the next is due.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use tessera_runtime::sync::{Condvar, Mutex, OnceLock};
use tessera_runtime::thread;

use crate::errno::{Errno, Result};
use crate::signal::{Info, SIGALRM, SIGPROF, SIGVTALRM, code, send};
use crate::task::{Process, System};

/// A process's timers.
#[derive(Default)]
pub struct Timers {
    /// `ITIMER_REAL`, `ITIMER_VIRTUAL`, `ITIMER_PROF`. The latter two run with the wall clock: no finer account is kept of who works.
    intervals: [Timer; 3],
    named: BTreeMap<i32, Timer>,
    next: i32,
}

/// One timer: when it is due (nanoseconds since boot, 0: never), and again after each interval (0: not).
#[derive(Clone, Copy, Default, Debug)]
pub struct Timer {
    pub due: u64,
    pub interval: u64,
    pub signal: i32,
    /// The thread that gets the signal, or 0 for the process.
    pub thread: i32,
    pub value: u64,
    pub clock: i32,
    /// How often it was due since the signal that was sent last.
    pub overrun: u32,
    /// Whether it was made by timer_create(2).
    pub named: bool,
}

/// Most timers of a process.
const MOST: usize = 4096;

impl Timers {
    pub fn interval(&self, which: usize) -> Result<Timer> {
        self.intervals.get(which).copied().ok_or(Errno::EINVAL)
    }

    pub fn named(&self, number: i32) -> Result<Timer> {
        self.named.get(&number).copied().ok_or(Errno::EINVAL)
    }

    pub fn create(&mut self, timer: Timer) -> Result<i32> {
        if self.named.len() >= MOST {
            return Err(Errno::EAGAIN);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1) & i32::MAX;
        self.named.insert(number, Timer { named: true, ..timer });
        Ok(number)
    }

    /// Sets what its signals tell.
    pub fn set_value(&mut self, number: i32, value: u64) {
        if let Some(timer) = self.named.get_mut(&number) {
            timer.value = value;
        }
    }

    pub fn delete(&mut self, number: i32) -> Result<()> {
        self.named.remove(&number).map(|_| ()).ok_or(Errno::EINVAL)
    }

    /// After execve(2) named timers are gone; after fork(2) the child has none at all, which is how it starts.
    pub fn executed(&mut self) {
        self.named.clear();
    }

    fn next_due(&self) -> Option<u64> {
        self.intervals.iter().chain(self.named.values()).map(|timer| timer.due).filter(|due| *due != 0).min()
    }

    /// Takes what is due: the signals to send, and to whom.
    fn expire(&mut self, now: u64) -> Vec<(i32, Info)> {
        let mut signals = Vec::new();
        let intervals = self.intervals.iter_mut().map(|timer| (-1, timer));
        for (number, timer) in intervals.chain(self.named.iter_mut().map(|(number, timer)| (*number, timer))) {
            if timer.due == 0 || timer.due > now {
                continue;
            }
            let late = match now.saturating_sub(timer.due).checked_div(timer.interval) {
                Some(late) => {
                    timer.due += (late + 1) * timer.interval;
                    late
                }
                None => {
                    timer.due = 0;
                    0
                }
            };
            timer.overrun = late.min(i32::MAX as u64) as u32;
            if timer.signal == 0 {
                continue;
            }
            let info = if timer.named {
                let first = u64::from(number as u32) | u64::from(timer.overrun) << 32;
                Info { signal: timer.signal, code: code::TIMER, fields: [first, timer.value, 0, 0], error: 0 }
            } else {
                Info::kernel(timer.signal)
            };
            signals.push((timer.thread, info));
        }
        signals
    }
}

/// The thread that serves the timers.
pub struct Service {
    processes: Mutex<Vec<Weak<Process>>>,
    changed: Condvar,
}

static SERVICE: OnceLock<Arc<Service>> = OnceLock::new();

impl Service {
    fn run(self: Arc<Self>, system: Arc<System>) {
        let mut processes = self.processes.lock();
        loop {
            processes
                .retain(|process| process.upgrade().is_some_and(|process| process.timers.lock().next_due().is_some()));
            let now = system.now();
            let live: Vec<Arc<Process>> = processes.iter().filter_map(Weak::upgrade).collect();
            let mut earliest: Option<u64> = None;
            for process in &live {
                let signals = process.timers.lock().expire(now);
                for (thread, info) in signals {
                    match system.task(thread).filter(|task| Arc::ptr_eq(&task.process, process)) {
                        Some(task) => send::to_task(&task, info),
                        None => send::to_process(process, info),
                    };
                }
                if let Some(due) = process.timers.lock().next_due() {
                    earliest = Some(earliest.map_or(due, |other| other.min(due)));
                }
            }
            drop(live);
            self.changed.wait_until(&mut processes, earliest);
        }
    }
}

/// A timer of this process was changed: the service is to look, and is started with the first.
fn changed(system: &Arc<System>, process: &Arc<Process>) {
    let service = SERVICE.get_or_init(|| {
        let service = Arc::new(Service { processes: Mutex::new(Vec::new()), changed: Condvar::new() });
        let (theirs, system) = (service.clone(), system.clone());
        // Without a thread no timer would fire; calls that set one are refused when memory is out, this one is not known to.
        drop(thread::spawn(move || theirs.run(system)));
        service
    });
    let mut processes = service.processes.lock();
    if !processes.iter().any(|other| core::ptr::eq(other.as_ptr(), Arc::as_ptr(process))) {
        processes.push(Arc::downgrade(process));
    }
    service.changed.notify_one();
}

/// Sets `ITIMER_*` number `which`; answers the timer as it was.
pub fn set_interval(
    system: &Arc<System>,
    process: &Arc<Process>,
    which: usize,
    due: u64,
    interval: u64,
) -> Result<Timer> {
    let signal = *[SIGALRM, SIGVTALRM, SIGPROF].get(which).ok_or(Errno::EINVAL)?;
    let mut timers = process.timers.lock();
    let timer = timers.intervals.get_mut(which).ok_or(Errno::EINVAL)?;
    let old = core::mem::replace(timer, Timer { due, interval, signal, ..Timer::default() });
    drop(timers);
    changed(system, process);
    Ok(old)
}

/// Arms a timer of timer_create(2); answers it as it was.
pub fn set_named(system: &Arc<System>, process: &Arc<Process>, number: i32, due: u64, interval: u64) -> Result<Timer> {
    let mut timers = process.timers.lock();
    let timer = timers.named.get_mut(&number).ok_or(Errno::EINVAL)?;
    let old = *timer;
    (timer.due, timer.interval, timer.overrun) = (due, interval, 0);
    drop(timers);
    changed(system, process);
    Ok(old)
}
