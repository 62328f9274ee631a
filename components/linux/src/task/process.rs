//! What others may look at of a thread and of a process.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use tessera_runtime::sync::Mutex;

use super::trace::{Stop, Trace};
use super::{Credentials, WaitQueue, Waiter};
use crate::file::Table;
use crate::fs::{FsContext, Place};
use crate::memory::Mm;
use crate::seccomp::Seccomp;
use crate::signal::{Actions, Pending, Set};
use crate::syscall::Outcomes;

/// Why a thread looks up before its guest goes on; bits of `Task::attention`.
pub mod attention {
    /// A signal may have to be handled.
    pub const SIGNAL: u32 = 1;
    /// The thread ends: its process exits, or another thread replaces the program.
    pub const END: u32 = 2;
    /// The process is stopped.
    pub const STOP: u32 = 4;
    /// Its tracer is to be told something.
    pub const TRACE: u32 = 8;
}

/// Who looks at a thread's calls; bits of `Task::watches`.
pub mod watch {
    /// Filters that it installed.
    pub const SECCOMP: u32 = 1;
    /// A tracer, at entries and returns.
    pub const CALLS: u32 = 2;
    /// A tracer, at signals and events.
    pub const TRACED: u32 = 4;
}

/// How much later than asked timers may fire unless a program says otherwise: nanoseconds.
pub const TIMER_SLACK: u64 = 50_000;

/// A Linux thread.
pub struct Task {
    number: AtomicI32,
    pub process: Arc<Process>,
    pub waiter: Arc<Waiter>,
    attention: AtomicU32,
    watched: AtomicU32,
    pub seccomp: Mutex<Seccomp>,
    /// Who traces it, and where it stands.
    pub trace: Mutex<Option<Trace>>,
    /// What it showed while it was stopped, once its tracer has let it go on, and with which signal.
    pub released: Mutex<Option<(Stop, i32)>>,
    /// Blocked signals. Only the thread itself changes them.
    mask: AtomicU64,
    pub pending: Mutex<Pending>,
    pub name: Mutex<[u8; 16]>,
    /// Processor time used, in ticks of the time stamp counter: in the guest, in the personality.
    pub used: [AtomicU64; 2],
    /// `sched_setscheduler`, nice value.
    pub nice: AtomicI32,
    pub policy: AtomicI32,
    pub priority: AtomicI32,
    /// `ioprio_set`.
    pub disk_priority: AtomicU32,
    /// `PR_SET_TIMERSLACK`, in nanoseconds.
    pub timer_slack: AtomicU64,
    /// What it goes back to: what its maker had when it was made.
    pub usual_slack: AtomicU64,
}

impl Task {
    pub fn new(number: i32, process: Arc<Process>, mask: Set, name: [u8; 16]) -> Arc<Task> {
        Arc::new(Task {
            number: AtomicI32::new(number),
            process,
            waiter: Waiter::new(),
            attention: AtomicU32::new(0),
            watched: AtomicU32::new(0),
            seccomp: Mutex::default(),
            trace: Mutex::new(None),
            released: Mutex::new(None),
            mask: AtomicU64::new(mask.bits()),
            pending: Mutex::new(Pending::default()),
            name: Mutex::new(name),
            used: [const { AtomicU64::new(0) }; 2],
            nice: AtomicI32::new(0),
            policy: AtomicI32::new(0),
            priority: AtomicI32::new(0),
            disk_priority: AtomicU32::new(0),
            timer_slack: AtomicU64::new(TIMER_SLACK),
            usual_slack: AtomicU64::new(TIMER_SLACK),
        })
    }

    pub fn number(&self) -> i32 {
        self.number.load(Ordering::Relaxed)
    }

    /// A thread that replaces the program becomes the process's first.
    pub fn set_number(&self, number: i32) {
        self.number.store(number, Ordering::Relaxed);
    }

    pub fn mask(&self) -> Set {
        Set::from_bits(self.mask.load(Ordering::Acquire))
    }

    pub fn set_mask(&self, mask: Set) {
        self.mask.store(mask.bits(), Ordering::Release);
    }

    #[inline(always)]
    pub fn attention(&self) -> u32 {
        self.attention.load(Ordering::Acquire)
    }

    /// Lets the thread look up, whatever it does.
    pub fn attend(&self, why: u32) {
        if self.attention.fetch_or(why, Ordering::AcqRel) & why != why {
            self.waiter.kick();
        }
    }

    /// Who looks at its calls and signals.
    #[inline(always)]
    pub fn watches(&self) -> u32 {
        self.watched.load(Ordering::Relaxed)
    }

    pub fn watch(&self, who: u32) {
        self.watched.fetch_or(who, Ordering::Relaxed);
    }

    pub fn unwatch(&self, who: u32) {
        self.watched.fetch_and(!who, Ordering::Relaxed);
    }

    pub fn is_traced(&self) -> bool {
        self.watches() & watch::TRACED != 0
    }

    pub fn settle(&self, why: u32) {
        self.attention.fetch_and(!why, Ordering::AcqRel);
    }
}

/// How a process stands towards its parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    Running,
    /// Stopped by this signal; whether the parent was told.
    Stopped {
        signal: i32,
        told: bool,
    },
    /// Running again; whether the parent was told.
    Continued {
        told: bool,
    },
    /// Ended, with the status that wait(2) gives.
    Zombie {
        status: i32,
    },
    /// Waited for.
    Gone,
}

/// A resource limit: soft, hard.
pub type Limit = (u64, u64);

/// How many resources have limits.
pub const LIMITS: usize = 16;

/// No limit.
pub const UNLIMITED: u64 = u64::MAX;

/// A Linux process.
pub struct Process {
    pub number: i32,
    parent_number: AtomicI32,
    group: AtomicI32,
    session: AtomicI32,
    pub relations: Mutex<Relations>,
    pub threads: Mutex<Vec<Arc<Task>>>,
    pub life: Mutex<Life>,
    /// Woken when a child changes.
    pub children_changed: WaitQueue,
    /// Woken when a signal becomes pending (signalfd).
    pub pending_changed: WaitQueue,
    /// Woken when a thread of this process has ended.
    pub thread_ended: WaitQueue,
    /// Signals for any of its threads.
    pub pending: Mutex<Pending>,
    pub actions: Mutex<Actions>,
    /// Who its first thread is, or was last: what others see of it.
    pub credentials: Mutex<Arc<Credentials>>,
    pub limits: Mutex<[Limit; LIMITS]>,
    pub resources: Mutex<Resources>,
    /// The signal that its parent gets when it ends (0: none).
    pub exit_signal: AtomicI32,
    /// Set once the process ends: the status, plus one so that zero means not yet.
    ending: AtomicU64,
    pub executed: Mutex<Executed>,
    /// When it started, nanoseconds since boot.
    pub started: u64,
    /// The ticks that ended threads used, and that waited-for children used: guest, personality.
    pub used: [AtomicU64; 2],
    pub used_by_children: [AtomicU64; 2],
    pub timers: Mutex<crate::time::timers::Timers>,
    /// `PR_SET_CHILD_SUBREAPER`, `PR_SET_DUMPABLE`, `PR_SET_PDEATHSIG`.
    pub is_reaper: AtomicU32,
    pub dumpable: AtomicU32,
    pub parent_death_signal: AtomicI32,
    /// What asynchronous calls came to that was not fetched, by context (io_setup(2)).
    pub outcomes: Mutex<BTreeMap<u64, Arc<Outcomes>>>,
    /// The threads that it traces.
    pub tracees: Mutex<Vec<Arc<Task>>>,
    /// `personality`.
    pub persona: AtomicU32,
    /// The commands of membarrier(2) that it registered for.
    pub barriers: AtomicU32,
    /// `/proc/PID/oom_score_adj`: how many thousandths of all memory are added to what it holds when one is to end for want of it.
    pub oom: AtomicI32,
    /// Woken when the process has ended (pidfd_open(2)).
    pub ended: WaitQueue,
    /// A parent in vfork(2) waits here until this process ends or executes.
    pub released: WaitQueue,
    pub has_released: AtomicU32,
}

/// A process's family.
#[derive(Default)]
pub struct Relations {
    pub parent: Weak<Process>,
    /// Those that run, and zombies that were not waited for.
    pub children: Vec<Arc<Process>>,
}

/// What a process has, for those who look at it from outside. Its threads hold the same.
#[derive(Default, Clone)]
pub struct Resources {
    pub mm: Option<Arc<Mm>>,
    pub files: Option<Arc<Table>>,
    pub fs: Option<Arc<FsContext>>,
}

/// The program.
#[derive(Default, Clone)]
pub struct Executed {
    pub place: Option<Arc<Place>>,
    /// Whether it ran execve(2) since it was forked (setpgid(2) asks).
    pub since_fork: bool,
}

impl Process {
    /// A process without threads yet.
    pub fn new(number: i32, parent: Option<&Arc<Process>>, credentials: Arc<Credentials>, now: u64) -> Arc<Process> {
        let (group, session) = parent.map_or((number, number), |parent| (parent.group(), parent.session()));
        Arc::new(Process {
            number,
            parent_number: AtomicI32::new(parent.map_or(0, |parent| parent.number)),
            group: AtomicI32::new(group),
            session: AtomicI32::new(session),
            relations: Mutex::new(Relations {
                parent: parent.map_or_else(Weak::new, Arc::downgrade),
                children: Vec::new(),
            }),
            threads: Mutex::new(Vec::new()),
            life: Mutex::new(Life::Running),
            children_changed: WaitQueue::new(),
            pending_changed: WaitQueue::new(),
            thread_ended: WaitQueue::new(),
            pending: Mutex::new(Pending::default()),
            actions: Mutex::new(Actions::default()),
            credentials: Mutex::new(credentials),
            limits: Mutex::new(default_limits()),
            resources: Mutex::new(Resources::default()),
            exit_signal: AtomicI32::new(crate::signal::SIGCHLD),
            ending: AtomicU64::new(0),
            executed: Mutex::new(Executed::default()),
            started: now,
            used: [const { AtomicU64::new(0) }; 2],
            used_by_children: [const { AtomicU64::new(0) }; 2],
            timers: Mutex::new(Default::default()),
            is_reaper: AtomicU32::new(0),
            dumpable: AtomicU32::new(1),
            parent_death_signal: AtomicI32::new(0),
            outcomes: Mutex::new(BTreeMap::new()),
            tracees: Mutex::new(Vec::new()),
            persona: AtomicU32::new(0),
            barriers: AtomicU32::new(0),
            oom: AtomicI32::new(0),
            ended: WaitQueue::new(),
            released: WaitQueue::new(),
            has_released: AtomicU32::new(0),
        })
    }

    #[inline(always)]
    pub fn parent_number(&self) -> i32 {
        self.parent_number.load(Ordering::Relaxed)
    }

    pub fn set_parent(&self, parent: &Arc<Process>) {
        self.relations.lock().parent = Arc::downgrade(parent);
        self.parent_number.store(parent.number, Ordering::Relaxed);
    }

    pub fn group(&self) -> i32 {
        self.group.load(Ordering::Relaxed)
    }

    pub fn set_group(&self, group: i32) {
        self.group.store(group, Ordering::Relaxed);
    }

    pub fn session(&self) -> i32 {
        self.session.load(Ordering::Relaxed)
    }

    pub fn set_session(&self, session: i32) {
        self.session.store(session, Ordering::Relaxed);
    }

    /// The status with which it ends, once that is decided.
    pub fn ending(&self) -> Option<i32> {
        self.ending.load(Ordering::Acquire).checked_sub(1).map(|status| status as i32)
    }

    /// Decides that the process ends; the first to say so chooses the status.
    pub fn end(&self, status: i32) {
        let status = u64::from(status as u32) + 1;
        let _ = self.ending.compare_exchange(0, status, Ordering::AcqRel, Ordering::Acquire);
        for task in self.threads.lock().iter() {
            task.attend(attention::END);
        }
    }

    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone()
    }

    /// The ticks that its threads used, those that ended too: in guests, in the personality.
    pub fn used_by_threads(&self) -> [u64; 2] {
        let mut sums = self.used.each_ref().map(|used| used.load(Ordering::Relaxed));
        for task in self.threads.lock().iter() {
            for (sum, used) in sums.iter_mut().zip(&task.used) {
                *sum = sum.wrapping_add(used.load(Ordering::Relaxed));
            }
        }
        sums
    }

    pub fn limit(&self, resource: usize) -> Limit {
        self.limits.lock().get(resource).copied().unwrap_or((UNLIMITED, UNLIMITED))
    }

    pub fn is_alive(&self) -> bool {
        !matches!(*self.life.lock(), Life::Zombie { .. } | Life::Gone)
    }
}

/// The numbers of the limits that are looked at (`RLIMIT_*`).
pub mod limit {
    pub const CPU: usize = 0;
    pub const FILE_SIZE: usize = 1;
    pub const DATA: usize = 2;
    pub const STACK: usize = 3;
    pub const CORE: usize = 4;
    pub const PROCESSES: usize = 6;
    pub const FILES: usize = 7;
    pub const LOCKED: usize = 8;
    pub const ADDRESS_SPACE: usize = 9;
    pub const PENDING_SIGNALS: usize = 11;
    pub const QUEUE_BYTES: usize = 12;
    pub const NICE: usize = 13;
    pub const REALTIME: usize = 14;
}

/// The limits that Docker's containers have.
fn default_limits() -> [Limit; LIMITS] {
    let mut limits = [(UNLIMITED, UNLIMITED); LIMITS];
    for (resource, value) in [
        (limit::STACK, (8 << 20, UNLIMITED)),
        (limit::CORE, (0, UNLIMITED)),
        (limit::FILES, (1024, 1 << 20)),
        (limit::LOCKED, (8 << 20, 8 << 20)),
        (limit::PENDING_SIGNALS, (4096, 4096)),
        (limit::QUEUE_BYTES, (819_200, 819_200)),
        (limit::NICE, (0, 0)),
        (limit::REALTIME, (0, 0)),
    ] {
        if let Some(entry) = limits.get_mut(resource) {
            *entry = value;
        }
    }
    limits
}
