//! Timers that send signals: `alarm`, `setitimer`, `timer_create`, and the limit of processor time (`RLIMIT_CPU`).
//!
//! One thread of the personality serves all timers of a container: it sleeps until the next is due. What measures processor time is
//! looked at when it can be due at the earliest, and while nothing works ever more seldom: guests are not counted while they run, so
//! each look lets them leave for a moment.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use tessera_runtime::object::processors;
use tessera_runtime::sync::{Condvar, Mutex, OnceLock};
use tessera_runtime::thread;

use super::SECOND;
use crate::errno::{Errno, Result};
use crate::signal::{Info, SIGALRM, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU, code, send};
use crate::task::process::{UNLIMITED, limit};
use crate::task::{Process, System, Task};

/// The shortest and the longest time between two looks at what measures processor time, in nanoseconds.
const SHORTEST: u64 = 1_000_000;
const SELDOM: u64 = 16_000_000;
/// How long guests are given to leave, so that what they used is counted.
const LEAVING: u64 = 100_000;

/// What a timer measures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Meter {
    /// Nanoseconds since boot.
    #[default]
    Boot,
    /// The processor time of its own process: all of it, and what its program itself used.
    Own,
    Program,
    /// That of a thread, and of another process, by number.
    Thread(i32),
    Process(i32),
}

/// A process's timers.
#[derive(Default)]
pub struct Timers {
    /// `ITIMER_REAL`, `ITIMER_VIRTUAL`, `ITIMER_PROF`.
    intervals: [Timer; 3],
    named: BTreeMap<i32, Timer>,
    next: i32,
    /// The processor time at which the limit is looked at again; 0: there is none.
    limit: u64,
    /// What the process had used at the last look, and how long the one after it is waited for at least.
    seen: u64,
    pause: u64,
}

/// One timer: when it is due (on what it measures, 0: never), and again after each interval (0: not).
#[derive(Clone, Copy, Default, Debug)]
pub struct Timer {
    pub due: u64,
    pub interval: u64,
    pub signal: i32,
    /// The thread that gets the signal, or 0 for the process.
    pub thread: i32,
    pub value: u64,
    pub clock: i32,
    pub meter: Meter,
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

    fn armed(&self) -> impl Iterator<Item = &Timer> {
        self.intervals.iter().chain(self.named.values()).filter(|timer| timer.due != 0)
    }

    fn is_idle(&self) -> bool {
        self.limit == 0 && self.armed().next().is_none()
    }

    fn measures_work(&self) -> bool {
        self.limit != 0 || self.armed().any(|timer| timer.meter != Meter::Boot)
    }

    /// The moment since boot at which to look again; `at_once` threads can work at the same time. Where not all `is_counted`, a guest may have used
    /// much more than what was read.
    fn next_look(
        &mut self,
        now: u64,
        at_once: u64,
        is_counted: bool,
        read: &dyn Fn(Meter) -> Option<u64>,
    ) -> Option<u64> {
        let by_clock = self.armed().filter(|timer| timer.meter == Meter::Boot).map(|timer| timer.due).min();
        if !self.measures_work() {
            return by_clock;
        }
        let used = read(Meter::Own).unwrap_or(0);
        let left = |timer: &Timer| read(timer.meter).map(|shown| timer.due.saturating_sub(shown));
        let least = self.armed().filter(|timer| timer.meter != Meter::Boot).filter_map(left).min();
        let to_limit = (self.limit != 0).then(|| self.limit.saturating_sub(used));
        let least = least.into_iter().chain(to_limit).min().unwrap_or(u64::MAX);
        let is_same = used == self.seen;
        self.pause = if is_same { self.pause.saturating_mul(2).clamp(SHORTEST, SELDOM) } else { SHORTEST };
        self.seen = used;
        let to_least = if is_counted { least / at_once.max(1) } else { 0 };
        let by_work = now.saturating_add(to_least.max(self.pause));
        Some(by_clock.map_or(by_work, |due| due.min(by_work)))
    }

    /// Takes what is due: the signals to send, and to whom.
    fn expire(&mut self, read: &dyn Fn(Meter) -> Option<u64>) -> Vec<(i32, Info)> {
        let mut signals = Vec::new();
        let intervals = self.intervals.iter_mut().map(|timer| (-1, timer));
        for (number, timer) in intervals.chain(self.named.iter_mut().map(|(number, timer)| (*number, timer))) {
            if timer.due == 0 {
                continue;
            }
            // What nobody uses any more, since it has ended, is never due.
            let Some(shown) = read(timer.meter).filter(|shown| timer.due <= *shown) else { continue };
            let late = match shown.saturating_sub(timer.due).checked_div(timer.interval) {
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

    /// What the limit of processor time asks for when so much was used, in nanoseconds: a signal, and the soft limit from then on. The limits
    /// are in seconds.
    fn exceed(&mut self, used: u64, (soft, hard): (u64, u64)) -> Option<(i32, u64)> {
        // No time at all is taken for a second, as in Linux.
        let (least, most) = (soft.max(1), hard.max(1));
        self.limit = if soft == UNLIMITED { 0 } else { least.min(most).saturating_mul(SECOND) };
        if hard != UNLIMITED && used >= most.saturating_mul(SECOND) {
            return Some((SIGKILL, soft));
        }
        if self.limit == 0 || used < self.limit {
            return None;
        }
        self.limit = (least + 1).min(most).saturating_mul(SECOND);
        Some((SIGXCPU, least + 1))
    }
}

/// What a meter shows of a process, in nanoseconds; none when what it measures has ended.
pub fn read(system: &System, process: &Process, meter: Meter) -> Option<u64> {
    Some(match meter {
        Meter::Boot => system.now(),
        Meter::Own => system.nanoseconds(process.used_by_threads().iter().fold(0, |sum, used| sum.wrapping_add(*used))),
        Meter::Program => system.nanoseconds(process.used_by_threads().first().copied().unwrap_or(0)),
        Meter::Thread(number) => {
            let task = system.task(number)?;
            system.nanoseconds(task.used.iter().map(|used| used.load(Relaxed)).sum())
        }
        Meter::Process(number) => return read(system, &*system.process(number)?, Meter::Own),
    })
}

/// What a thread has used of its processor, in ticks, as far as it was counted.
fn counted(task: &Task) -> u64 {
    task.used.iter().fold(0, |sum, used| sum.wrapping_add(used.load(Relaxed)))
}

fn is_at_work(task: &Task) -> bool {
    task.waiter.doing.load(Relaxed) == 0
}

/// Lets the guests of a process leave, so that what they used is counted. Answers the threads that are at work, each with what was counted before.
pub fn count_guests(process: &Process) -> Vec<(Arc<Task>, u64)> {
    let threads = process.threads.lock();
    let at_work = threads.iter().filter(|task| is_at_work(task));
    let at_work: Vec<_> = at_work.map(|task| (task.clone(), counted(task))).collect();
    drop(threads);
    for (task, _) in &at_work {
        task.waiter.kick();
    }
    at_work
}

/// Whether each of these threads was counted since, or waits by now.
fn are_counted(at_work: &[(Arc<Task>, u64)]) -> bool {
    at_work.iter().all(|(task, before)| counted(task) != *before || !is_at_work(task))
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
            processes.retain(|process| process.upgrade().is_some_and(|process| !process.timers.lock().is_idle()));
            let mut live: Vec<Arc<Process>> = processes.iter().filter_map(Weak::upgrade).collect();
            live.retain(|process| process.is_alive());
            let measures_work = |process: &Process| process.timers.lock().measures_work();
            let kicked = |process: &Arc<Process>| measures_work(process).then(|| count_guests(process));
            let kicked: Vec<_> = live.iter().map(kicked).collect();
            if kicked.iter().any(Option::is_some) {
                self.changed.wait_until(&mut processes, Some(system.now().saturating_add(LEAVING)));
            }
            let mut earliest: Option<u64> = None;
            for (process, at_work) in live.iter().zip(&kicked) {
                let read = |meter: Meter| read(&system, process, meter);
                let signals = process.timers.lock().expire(&read);
                for (thread, info) in signals {
                    match system.task(thread).filter(|task| Arc::ptr_eq(&task.process, process)) {
                        Some(task) => send::to_task(&task, info),
                        None => send::to_process(process, info),
                    };
                }
                look_at_limit(&system, process);
                let at_once = processors().min(process.threads.lock().len() as u64);
                let is_counted = at_work.as_ref().is_some_and(|at_work| are_counted(at_work));
                if let Some(due) = process.timers.lock().next_look(system.now(), at_once, is_counted, &read) {
                    earliest = Some(earliest.map_or(due, |other| other.min(due)));
                }
            }
            drop(live);
            self.changed.wait_until(&mut processes, earliest);
        }
    }
}

/// Sends what a process's limit of processor time asks for.
fn look_at_limit(system: &System, process: &Arc<Process>) {
    if process.timers.lock().limit == 0 {
        return;
    }
    let used = read(system, process, Meter::Own).unwrap_or(0);
    let mut limits = process.limits.lock();
    let Some(limits_of_time) = limits.get_mut(limit::CPU) else { return };
    let exceeded = process.timers.lock().exceed(used, *limits_of_time);
    if let Some((signal, soft)) = exceeded {
        limits_of_time.0 = soft;
        drop(limits);
        send::to_process(process, Info::kernel(signal));
    }
}

/// The limit of processor time was set, or inherited.
pub fn limit_changed(system: &Arc<System>, process: &Arc<Process>) {
    let (soft, hard) = process.limit(limit::CPU);
    let mut timers = process.timers.lock();
    if soft == UNLIMITED && hard == UNLIMITED {
        timers.limit = 0;
        return;
    }
    timers.limit = soft.min(hard).clamp(1, UNLIMITED / SECOND) * SECOND;
    drop(timers);
    changed(system, process);
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

/// Sets `ITIMER_*` number `which` to fire after so long; answers the timer as it was.
pub fn set_interval(
    system: &Arc<System>,
    process: &Arc<Process>,
    which: usize,
    after: u64,
    interval: u64,
) -> Result<Timer> {
    let kinds = [(SIGALRM, Meter::Boot), (SIGVTALRM, Meter::Program), (SIGPROF, Meter::Own)];
    let (signal, meter) = *kinds.get(which).ok_or(Errno::EINVAL)?;
    let due = if after == 0 { 0 } else { read(system, process, meter).unwrap_or(0).saturating_add(after) };
    let mut timers = process.timers.lock();
    let timer = timers.intervals.get_mut(which).ok_or(Errno::EINVAL)?;
    let old = core::mem::replace(timer, Timer { due, interval, signal, meter, ..Timer::default() });
    drop(timers);
    changed(system, process);
    Ok(old)
}

/// Arms a timer of timer_create(2), which is due at a reading of what it measures; answers it as it was.
pub fn set_named(system: &Arc<System>, process: &Arc<Process>, number: i32, due: u64, interval: u64) -> Result<Timer> {
    let mut timers = process.timers.lock();
    let timer = timers.named.get_mut(&number).ok_or(Errno::EINVAL)?;
    let old = *timer;
    (timer.due, timer.interval, timer.overrun) = (due, interval, 0);
    drop(timers);
    changed(system, process);
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that shows `boot`, and a process that used so much.
    fn shown(boot: u64, own: u64) -> impl Fn(Meter) -> Option<u64> {
        move |meter| match meter {
            Meter::Boot => Some(boot),
            Meter::Own | Meter::Program => Some(own),
            Meter::Thread(_) | Meter::Process(_) => None,
        }
    }

    fn armed(meter: Meter, due: u64, interval: u64) -> Timers {
        let mut timers = Timers::default();
        let number = timers.create(Timer { meter, due, interval, signal: SIGPROF, ..Timer::default() }).unwrap();
        assert_eq!(number, 0);
        timers
    }

    #[test]
    fn work_is_measured_apart_from_time() {
        let mut timers = armed(Meter::Own, 50, 20);
        assert!(timers.expire(&shown(1000, 49)).is_empty());
        assert_eq!(timers.expire(&shown(1000, 95)).len(), 1);
        let timer = timers.named(0).unwrap();
        assert_eq!((timer.due, timer.overrun), (110, 2));
        let mut ended = armed(Meter::Thread(7), 50, 0);
        assert!(ended.expire(&shown(1000, 1000)).is_empty());
    }

    #[test]
    fn who_does_not_work_is_looked_at_ever_more_seldom() {
        let mut timers = armed(Meter::Own, 100 * SHORTEST, 0);
        assert_eq!(timers.next_look(0, 2, true, &shown(0, 10)), Some(50 * SHORTEST - 5));
        let idle = shown(0, 100 * SHORTEST - 1);
        let looks: Vec<_> = (0..7).map(|_| timers.next_look(0, 1, true, &idle).unwrap() / SHORTEST).collect();
        assert_eq!(looks, [1, 2, 4, 8, 16, 16, 16]);
        assert_eq!(timers.next_look(0, 1, true, &shown(0, 100 * SHORTEST - 2)), Some(SHORTEST));
        let mut by_clock = armed(Meter::Boot, 70, 0);
        assert!(!by_clock.measures_work());
        assert_eq!(by_clock.next_look(0, 1, true, &idle), Some(70));
    }

    #[test]
    fn a_guest_that_was_not_counted_is_looked_at_again_soon() {
        let mut timers = armed(Meter::Own, 1000 * SHORTEST, 0);
        let early = shown(0, 10);
        assert_eq!(timers.next_look(0, 1, true, &early), Some(1000 * SHORTEST - 10));
        assert_eq!(timers.next_look(0, 1, false, &early), Some(2 * SHORTEST), "it may have worked all the time");
        let later = shown(0, 20);
        assert_eq!(timers.next_look(0, 1, false, &later), Some(SHORTEST), "whatever was counted late");
        assert_eq!(timers.next_look(0, 1, true, &later), Some(1000 * SHORTEST - 20));
    }

    #[test]
    fn the_limit_warns_each_second_and_then_ends() {
        let mut timers = Timers::default();
        assert_eq!(timers.exceed(2 * SECOND - 1, (2, 4)), None);
        assert_eq!(timers.limit, 2 * SECOND);
        assert_eq!(timers.exceed(2 * SECOND, (2, 4)), Some((SIGXCPU, 3)));
        assert_eq!((timers.limit, timers.exceed(2 * SECOND, (3, 4))), (3 * SECOND, None));
        assert_eq!(timers.exceed(4 * SECOND, (4, 4)), Some((SIGKILL, 4)));
        assert_eq!(timers.exceed(SECOND, (0, 9)), Some((SIGXCPU, 2)));
        assert_eq!(timers.exceed(SECOND - 1, (0, 0)), None);
        assert_eq!(timers.exceed(u64::MAX, (UNLIMITED, UNLIMITED)), None);
        assert!(timers.is_idle());
    }
}
