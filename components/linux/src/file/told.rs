//! Who is told by a signal that a file is ready: `O_ASYNC`, and the owner of a file (fcntl(2), "Managing signals").

use alloc::sync::{Arc, Weak};

use tessera_runtime::sync::Mutex;

use super::{Description, open, ready};
use crate::errno::{Errno, Result};
use crate::signal::{self, Info, SIGIO, send};
use crate::task::wait::Listener;
use crate::task::{Credentials, Process, System};

/// Who owns a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Owner {
    #[default]
    Nobody,
    Thread(i32),
    Process(i32),
    Group(i32),
}

impl Owner {
    /// As `F_GETOWN` tells it: a group is negative, a thread is its number.
    pub fn number(self) -> i32 {
        match self {
            Owner::Nobody => 0,
            Owner::Thread(number) | Owner::Process(number) => number,
            Owner::Group(number) => -number,
        }
    }

    /// Whether there is such a thread, process or group.
    ///
    /// # Errors
    /// `ESRCH`
    pub fn check(self, system: &System) -> Result<()> {
        let is_there = match self {
            Owner::Nobody => true,
            Owner::Thread(number) => system.task(number).is_some(),
            Owner::Process(number) => system.process(number).is_some(),
            Owner::Group(number) => system.processes().iter().any(|process| process.group() == number),
        };
        if is_there { Ok(()) } else { Err(Errno::ESRCH) }
    }
}

/// What is told of an open file, and to whom.
pub struct Told {
    file: Weak<Description>,
    system: Arc<System>,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    owner: Owner,
    /// In whose name: who made it the owner.
    by: Option<Arc<Credentials>>,
    /// `F_SETSIG`; 0: SIGIO, without a word of what happened.
    signal: i32,
    /// The descriptor by which it was asked for.
    descriptor: i32,
    /// What it was ready for when it was last looked at.
    before: u32,
    is_listening: bool,
}

impl Told {
    fn new(file: &Arc<Description>, system: Arc<System>) -> Arc<Told> {
        Arc::new(Told { file: Arc::downgrade(file), system, state: Mutex::new(State::default()) })
    }

    /// Those of a file, which has none until somebody asks.
    pub fn of(file: &Arc<Description>, system: &Arc<System>) -> Arc<Told> {
        file.told.lock().get_or_insert_with(|| Told::new(file, system.clone())).clone()
    }

    pub fn owner(&self) -> Owner {
        self.state.lock().owner
    }

    pub fn set_owner(&self, owner: Owner, by: Arc<Credentials>) {
        let mut state = self.state.lock();
        (state.owner, state.by) = (owner, Some(by));
    }

    pub fn signal(&self) -> i32 {
        self.state.lock().signal
    }

    /// # Errors
    /// `EINVAL`: no signal has this number.
    pub fn set_signal(&self, signal: i32) -> Result<()> {
        if !(0..=signal::LAST).contains(&signal) {
            return Err(Errno::EINVAL);
        }
        self.state.lock().signal = signal;
        Ok(())
    }

    /// `O_ASYNC` is now as the file's flags say.
    pub fn follow(self: &Arc<Self>, file: &Description, descriptor: i32) {
        let Some(queue) = file.file.queue() else { return };
        let wants = file.flags() & open::ASYNCHRONOUS != 0;
        let listener: Arc<dyn Listener> = self.clone();
        let mut state = self.state.lock();
        if wants == state.is_listening {
            return;
        }
        (state.is_listening, state.descriptor, state.before) = (wants, descriptor, file.file.ready());
        drop(state);
        if wants { queue.listen(&listener) } else { queue.unlisten(&listener) }
    }

    fn tell(&self, state: &State, bits: u32) {
        // Kinds and bands of `SIGPOLL` (sigaction(2)).
        let (code, band) = match bits {
            bits if bits & ready::IN != 0 => (1, 0x41),
            bits if bits & ready::PRIORITY != 0 => (5, 0x82),
            bits if bits & (ready::HANGUP | ready::READ_CLOSED) != 0 => (6, 0x18),
            bits if bits & ready::ERROR != 0 => (4, 0x8),
            _ => (2, 0x304),
        };
        let info = match state.signal {
            0 => Info::kernel(SIGIO),
            signal => Info { signal, error: 0, code, fields: [band, state.descriptor as u64, 0, 0] },
        };
        let may = |process: &Process| {
            let other = process.credentials();
            let among = |id: u32| id == other.user || id == other.saved_user;
            state.by.as_ref().is_some_and(|by| by.effective_user == 0 || among(by.user) || among(by.effective_user))
        };
        match state.owner {
            Owner::Nobody => {}
            Owner::Thread(number) => {
                if let Some(task) = self.system.task(number).filter(|task| may(&task.process)) {
                    send::to_task(&task, info);
                }
            }
            Owner::Process(number) => {
                if let Some(process) = self.system.process(number).filter(|process| may(process)) {
                    send::to_process(&process, info);
                }
            }
            Owner::Group(number) => {
                for process in self.system.processes() {
                    if process.group() == number && may(&process) {
                        send::to_process(&process, info);
                    }
                }
            }
        }
    }
}

impl Listener for Told {
    fn woken(&self) -> bool {
        let Some(file) = self.file.upgrade() else { return false };
        let bits = file.file.ready();
        let mut state = self.state.lock();
        // Each arrival is told, but that there is room only once.
        let told = bits & !(state.before & ready::OUT);
        state.before = bits;
        if told != 0 {
            let state = state.clone();
            self.tell(&state, told);
        }
        false
    }
}
