//! Signals (signal(7)): sets, queues, actions; who gets one, and what becomes of it. [`deliver`] builds the handlers' frames.

pub mod deliver;
mod frame;
pub mod send;

use alloc::collections::VecDeque;

use crate::task::Context;

pub const SIGHUP: i32 = 1;
pub const SIGINT: i32 = 2;
pub const SIGQUIT: i32 = 3;
pub const SIGILL: i32 = 4;
pub const SIGTRAP: i32 = 5;
pub const SIGABRT: i32 = 6;
pub const SIGBUS: i32 = 7;
pub const SIGFPE: i32 = 8;
pub const SIGKILL: i32 = 9;
pub const SIGSEGV: i32 = 11;
pub const SIGPIPE: i32 = 13;
pub const SIGALRM: i32 = 14;
pub const SIGTERM: i32 = 15;
pub const SIGCHLD: i32 = 17;
pub const SIGCONT: i32 = 18;
pub const SIGSTOP: i32 = 19;
pub const SIGTSTP: i32 = 20;
pub const SIGTTIN: i32 = 21;
pub const SIGTTOU: i32 = 22;
pub const SIGURG: i32 = 23;
pub const SIGXCPU: i32 = 24;
pub const SIGXFSZ: i32 = 25;
pub const SIGVTALRM: i32 = 26;
pub const SIGPROF: i32 = 27;
pub const SIGWINCH: i32 = 28;
pub const SIGIO: i32 = 29;
pub const SIGSYS: i32 = 31;
/// The first real-time signal: these queue.
pub const FIRST_REALTIME: i32 = 32;
/// The highest signal.
pub const LAST: i32 = 64;

/// A set of signals; bit 0 is signal 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Set(u64);

impl Set {
    pub const EMPTY: Set = Set(0);

    pub const fn from_bits(bits: u64) -> Set {
        Set(bits)
    }

    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set of one signal, empty for what is none.
    pub const fn of(signal: i32) -> Set {
        if signal >= 1 && signal <= LAST { Set(1 << (signal - 1)) } else { Set(0) }
    }

    pub const fn contains(self, signal: i32) -> bool {
        self.0 & Set::of(signal).0 != 0
    }

    pub const fn union(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    pub const fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    pub const fn intersection(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest of them.
    pub const fn first(self) -> Option<i32> {
        if self.0 == 0 { None } else { Some(self.0.trailing_zeros() as i32 + 1) }
    }
}

/// The signals that nobody can block, catch or ignore.
pub const UNBLOCKABLE: Set = Set::of(SIGKILL).union(Set::of(SIGSTOP));
/// The signals that an instruction causes: handled before others.
const SYNCHRONOUS: Set = Set::of(SIGSEGV)
    .union(Set::of(SIGBUS))
    .union(Set::of(SIGILL))
    .union(Set::of(SIGTRAP))
    .union(Set::of(SIGFPE))
    .union(Set::of(SIGSYS));

/// What is told with a signal (`siginfo_t`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Info {
    pub signal: i32,
    pub error: i32,
    pub code: i32,
    /// The four words after the head, as the code says: sender, status, address, value.
    pub fields: [u64; 4],
}

/// `si_code`: why.
pub mod code {
    pub const USER: i32 = 0;
    pub const KERNEL: i32 = 0x80;
    pub const QUEUE: i32 = -1;
    pub const TIMER: i32 = -2;
    pub const TKILL: i32 = -6;
    pub const EXITED: i32 = 1;
    pub const KILLED: i32 = 2;
    pub const DUMPED: i32 = 3;
    pub const STOPPED: i32 = 5;
    pub const CONTINUED: i32 = 6;
    pub const MAP_ERROR: i32 = 1;
    pub const ACCESS_ERROR: i32 = 2;
    pub const ALIGNMENT: i32 = 1;
    pub const NO_ADDRESS: i32 = 2;
    pub const DIVIDE: i32 = 1;
    pub const FLOAT_INVALID: i32 = 7;
    pub const ILLEGAL_OPERAND: i32 = 2;
    pub const BREAKPOINT: i32 = 1;
}

impl Info {
    /// A signal of the kernel's own making.
    pub fn kernel(signal: i32) -> Info {
        Info { signal, code: code::KERNEL, ..Info::default() }
    }

    /// One that a process sent.
    pub fn user(signal: i32, code: i32, process: i32, user: u32) -> Info {
        Info { signal, code, fields: [u64::from(process as u32) | u64::from(user) << 32, 0, 0, 0], error: 0 }
    }

    /// Whether the container's first process gets it though it does not handle it: what its own instructions caused, and what was sent
    /// from outside the container, by nobody who has a number in it.
    pub fn reaches_the_first(&self) -> bool {
        let sender = self.fields[0] as u32;
        self.code > 0 && SYNCHRONOUS.contains(self.signal) || self.code == code::USER && sender == 0
    }

    /// One that an instruction caused.
    pub fn fault(signal: i32, code: i32, address: u64) -> Info {
        Info { signal, code, fields: [address, 0, 0, 0], error: 0 }
    }

    /// As it stands in memory.
    pub fn to_bytes(self) -> [u8; 128] {
        let mut bytes = [0; 128];
        let head = [self.signal, self.error, self.code, 0].map(i32::to_le_bytes);
        let fields = self.fields.map(u64::to_le_bytes);
        for (to, from) in bytes.iter_mut().zip(head.as_flattened().iter().chain(fields.as_flattened())) {
            *to = *from;
        }
        bytes
    }

    /// Read from memory, as `sigqueue` passes it.
    pub fn from_words(words: [u64; 6]) -> Info {
        let [head, code, a, b, c, d] = words;
        Info { signal: head as i32, error: (head >> 32) as i32, code: code as i32, fields: [a, b, c, d] }
    }
}

/// Signals that were sent and not yet taken.
#[derive(Default)]
pub struct Pending {
    set: Set,
    queue: VecDeque<Info>,
}

/// Most real-time signals that queue at one place.
const MOST_QUEUED: usize = 4096;

impl Pending {
    pub fn set(&self) -> Set {
        self.set
    }

    /// Adds one. An ordinary signal that is pending already is not added again. Whether there was room.
    pub fn add(&mut self, info: Info) -> bool {
        if info.signal < FIRST_REALTIME && self.set.contains(info.signal) {
            return true;
        }
        if self.queue.len() >= MOST_QUEUED {
            // It comes, but what was to be told with it is lost.
            self.set = self.set.union(Set::of(info.signal));
            return false;
        }
        self.set = self.set.union(Set::of(info.signal));
        self.queue.push_back(info);
        true
    }

    /// Takes the next one out of a set.
    pub fn take(&mut self, from: Set) -> Option<Info> {
        let candidates = self.set.intersection(from);
        let signal = candidates.intersection(SYNCHRONOUS).first().or_else(|| candidates.first())?;
        let index = self.queue.iter().position(|info| info.signal == signal);
        let info = index.and_then(|index| self.queue.remove(index));
        if !self.queue.iter().any(|info| info.signal == signal) {
            self.set = self.set.without(Set::of(signal));
        }
        Some(info.unwrap_or(Info { signal, ..Info::default() }))
    }

    /// Forgets all of a set.
    pub fn forget(&mut self, signals: Set) {
        self.set = self.set.without(signals);
        self.queue.retain(|info| !signals.contains(info.signal));
    }
}

/// What is done at a signal (`struct sigaction`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Action {
    /// 0: as usual, 1: nothing, else the handler's address.
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: Set,
}

pub const DEFAULT: u64 = 0;
pub const IGNORE: u64 = 1;

/// `sa_flags`.
pub mod flags {
    pub const NO_CHILD_STOP: u64 = 1;
    pub const NO_CHILD_WAIT: u64 = 2;
    pub const INFO: u64 = 4;
    pub const RESTORER: u64 = 0x0400_0000;
    pub const ON_STACK: u64 = 0x0800_0000;
    pub const RESTART: u64 = 0x1000_0000;
    pub const NO_DEFER: u64 = 0x4000_0000;
    pub const RESET: u64 = 0x8000_0000;
}

/// A process's actions.
#[derive(Clone)]
pub struct Actions([Action; LAST as usize]);

impl Default for Actions {
    fn default() -> Actions {
        Actions([Action::default(); LAST as usize])
    }
}

impl Actions {
    pub fn get(&self, signal: i32) -> Action {
        usize::try_from(signal - 1).ok().and_then(|index| self.0.get(index)).copied().unwrap_or_default()
    }

    /// Sets one; answers the old one.
    pub fn set(&mut self, signal: i32, action: Action) -> Action {
        match usize::try_from(signal - 1).ok().and_then(|index| self.0.get_mut(index)) {
            Some(place) => core::mem::replace(place, action),
            None => Action::default(),
        }
    }

    /// After execve(2): what is caught is as usual again, what is ignored stays so.
    pub fn executed(&mut self) {
        for action in &mut self.0 {
            let handler = if action.handler == IGNORE { IGNORE } else { DEFAULT };
            *action = Action { handler, ..Action::default() };
        }
    }

    /// Whether a signal would be thrown away.
    pub fn ignores(&self, signal: i32) -> bool {
        match self.get(signal).handler {
            IGNORE => true,
            DEFAULT => usual(signal) == Usual::Ignore,
            _ => false,
        }
    }
}

/// What happens at a signal that is neither caught nor ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usual {
    Terminate,
    /// Terminate; a core dump would be written.
    Dump,
    Ignore,
    Stop,
    Continue,
}

/// The table of signal(7).
pub fn usual(signal: i32) -> Usual {
    match signal {
        SIGCHLD | SIGURG | SIGWINCH => Usual::Ignore,
        SIGCONT => Usual::Continue,
        SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => Usual::Stop,
        SIGQUIT | SIGILL | SIGTRAP | SIGABRT | SIGBUS | SIGFPE | SIGSEGV | SIGXCPU | SIGXFSZ | SIGSYS => Usual::Dump,
        _ => Usual::Terminate,
    }
}

/// Whether a signal that is not blocked waits for this thread.
pub fn is_pending(context: &Context) -> bool {
    let task = &context.task;
    let mask = task.mask();
    let pending = task.pending.lock().set().union(context.process.pending.lock().set());
    let found = !pending.without(mask.without(UNBLOCKABLE)).is_empty();
    if !found && task.attention() == crate::task::process::attention::SIGNAL {
        task.settle(crate::task::process::attention::SIGNAL);
        // One may have come between the look and the settling.
        let pending = task.pending.lock().set().union(context.process.pending.lock().set());
        if !pending.without(mask.without(UNBLOCKABLE)).is_empty() {
            task.attend(crate::task::process::attention::SIGNAL);
            return true;
        }
    }
    found
}
