//! Terminals: termios(3), tty_ioctl(4), pty(7). The line discipline between the master of a pseudo-terminal and the programs that read
//! and write the other side. The container's console is one whose master is the command's that runs it.
//!
//! Locks: a terminal's state; signals are sent and queues woken without it.

mod discipline;
mod ends;
mod modes;
mod requests;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use tessera_runtime::sync::Mutex;

use self::discipline::Effects;
pub use self::ends::Master;
use self::ends::Slave;
use self::modes::{Modes, control, flag};
use super::{Sink, Source, open, ready};
use crate::errno::{Errno, Result};
use crate::fs::ram::make_device;
use crate::signal::{Info, SIGCONT, SIGHUP, SIGTTIN, SIGWINCH, send};
use crate::task::exit::is_orphaned;
use crate::task::{Context, System, WaitQueue};

/// Bytes of input that wait at most, and of output on its way to a master.
const INPUT: usize = 4096;
const OUTPUT: usize = 16 << 10;
/// Most pseudo-terminals.
const MOST: u32 = 4096;

/// A terminal.
pub struct Terminal {
    /// Its place among the pseudo-terminals.
    number: u32,
    system: Arc<System>,
    state: Mutex<State>,
    /// Woken when the programs' side, and the master's, may be ready.
    programs: WaitQueue,
    keyboard: WaitQueue,
}

struct State {
    modes: Modes,
    /// Rows, columns, and in pixels.
    size: [u16; 4],
    /// Lines that are whole, or without lines what came. An empty line is an end of file.
    lines: VecDeque<Vec<u8>>,
    editing: Vec<u8>,
    is_literal: bool,
    is_stopped: bool,
    to_master: VecDeque<u8>,
    /// The group of processes that is in front, and the session that the terminal controls; 0: none.
    front: i32,
    session: i32,
    is_locked: bool,
    masters: usize,
    slaves: usize,
    was_opened: bool,
}

/// Every pseudo-terminal that there is, and which of them is the container's console.
static TERMINALS: Mutex<BTreeMap<u32, Weak<Terminal>>> = Mutex::new(BTreeMap::new());
static CONSOLE: Mutex<Weak<Terminal>> = Mutex::new(Weak::new());

impl Terminal {
    fn build(system: Arc<System>, number: u32) -> Arc<Terminal> {
        let state = State {
            modes: Modes::default(),
            size: [0; 4],
            lines: VecDeque::new(),
            editing: Vec::new(),
            is_literal: false,
            is_stopped: false,
            to_master: VecDeque::new(),
            front: 0,
            session: 0,
            is_locked: true,
            masters: 0,
            slaves: 0,
            was_opened: false,
        };
        Arc::new(Terminal {
            number,
            system,
            state: Mutex::new(state),
            programs: WaitQueue::new(),
            keyboard: WaitQueue::new(),
        })
    }

    /// A new pseudo-terminal; answers its master.
    pub fn create(system: Arc<System>) -> Result<Arc<Master>> {
        let mut terminals = TERMINALS.lock();
        terminals.retain(|_, terminal| terminal.strong_count() > 0);
        let number = (0..MOST).find(|number| !terminals.contains_key(number)).ok_or(Errno::ENOSPC)?;
        let terminal = Terminal::build(system, number);
        terminals.insert(number, Arc::downgrade(&terminal));
        drop(terminals);
        terminal.state.lock().masters = 1;
        Ok(Arc::new(Master(terminal)))
    }

    /// The pseudo-terminal with a number.
    pub fn find(number: u32) -> Option<Arc<Terminal>> {
        TERMINALS.lock().get(&number).and_then(Weak::upgrade)
    }

    /// The console, where there is one.
    pub fn find_console() -> Option<Arc<Terminal>> {
        CONSOLE.lock().upgrade()
    }

    /// The numbers of all pseudo-terminals.
    pub fn numbers() -> Vec<u32> {
        let terminals = TERMINALS.lock();
        let live = terminals.iter().filter(|(_, terminal)| terminal.strong_count() > 0);
        live.map(|(number, _)| *number).collect()
    }

    /// The terminal that controls a session.
    pub fn of_session(session: i32) -> Option<Arc<Terminal>> {
        let all: Vec<_> = TERMINALS.lock().values().filter_map(Weak::upgrade).collect();
        all.into_iter().find(|terminal| session != 0 && terminal.state.lock().session == session)
    }

    /// The side that programs use.
    ///
    /// # Errors
    /// `EIO` for a pseudo-terminal that is locked or whose master is gone.
    pub fn open(self: &Arc<Self>, context: &Context, flags: u32) -> Result<Arc<Slave>> {
        let mut state = self.state.lock();
        if state.is_locked || state.masters == 0 {
            return Err(Errno::EIO);
        }
        state.slaves += 1;
        state.was_opened = true;
        let process = &context.process;
        let is_leader = process.session() == process.number;
        if flags & open::NO_TERMINAL == 0 && is_leader && state.session == 0 {
            drop(state);
            if Terminal::of_session(process.session()).is_none() {
                let mut state = self.state.lock();
                state.session = process.session();
                state.front = process.group();
            }
        }
        Ok(Arc::new(Slave(self.clone())))
    }

    fn signal(&self, group: i32, signal: i32) {
        if group <= 0 {
            return;
        }
        for process in self.system.processes() {
            if process.group() == group {
                send::to_process(&process, Info::kernel(signal));
            }
        }
    }

    /// What was typed.
    pub fn typed(&self, bytes: &[u8]) {
        let mut effects = Effects::default();
        let mut state = self.state.lock();
        for byte in bytes {
            state.take_key(*byte, &mut effects);
        }
        let front = state.front;
        let echo = state.processed(&effects.echo);
        drop(state);
        if !echo.is_empty() {
            self.put(&echo);
        }
        for signal in effects.signals {
            self.signal(front, signal);
        }
        self.programs.wake_all();
    }

    /// Output that was processed.
    fn put(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        // An echo that finds no room is lost, as on Linux.
        let room = OUTPUT.saturating_sub(state.to_master.len());
        state.to_master.extend(bytes.iter().take(room));
        drop(state);
        self.keyboard.wake_all();
    }

    /// Whether a process may use the terminal in a way that is for those in front: whoever is behind is stopped by `signal`
    /// (`tty_check_change` of Linux).
    fn admit(&self, context: &Context, signal: i32) -> Result<()> {
        let process = &context.process;
        let (session, front) = {
            let state = self.state.lock();
            (state.session, state.front)
        };
        if session != process.session() || front == 0 || front == process.group() {
            return Ok(());
        }
        if context.task.mask().contains(signal) || process.actions.lock().ignores(signal) {
            return if signal == SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
        }
        if is_orphaned(process) {
            return Err(Errno::EIO);
        }
        self.signal(process.group(), signal);
        Err(Errno::ERESTARTSYS)
    }

    fn write(&self, from: &mut dyn Source) -> Result<usize> {
        let mut done = 0;
        let mut buffer = [0; 512];
        while from.left() > 0 {
            {
                let state = self.state.lock();
                if state.masters == 0 {
                    return Err(Errno::EIO);
                }
                // Each byte may become two.
                let room = OUTPUT.saturating_sub(state.to_master.len());
                if state.is_stopped || room < 2 * buffer.len() {
                    return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
                }
            }
            let taken = match from.take(&mut buffer) {
                Ok(0) => break,
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let bytes = self.state.lock().processed(buffer.get(..taken).unwrap_or_default());
            self.put(&bytes);
            done += taken;
        }
        Ok(done)
    }

    /// How many nanoseconds a read waits for its first byte, if it does not insist on one.
    fn patience(&self) -> Option<u64> {
        let state = self.state.lock();
        let is_limited = !state.modes.has(flag::ICANON) && state.modes.characters.get(control::LEAST) == Some(&0);
        is_limited.then(|| state.modes.time_limit())
    }

    fn read(&self, to: &mut dyn Sink) -> Result<usize> {
        let mut state = self.state.lock();
        if to.room() == 0 {
            return Ok(0);
        }
        let least = usize::from(state.modes.characters.get(control::LEAST).copied().unwrap_or(1));
        let is_canonical = state.modes.has(flag::ICANON);
        let is_over = state.masters == 0;
        if !is_canonical && !is_over {
            let there = state.length();
            if there == 0 && least == 0 && state.modes.time_limit() == 0 {
                return Ok(0);
            }
            if there < least.min(to.room()).max(1) {
                return Err(Errno::EAGAIN);
            }
        }
        let mut done = 0;
        while to.room() > 0 {
            let Some(line) = state.lines.front_mut() else { break };
            if line.is_empty() {
                state.lines.pop_front();
                // An end of file counts only at the start.
                if done == 0 && is_canonical {
                    return Ok(0);
                }
                continue;
            }
            let stored = to.put(line.get(..line.len().min(to.room())).unwrap_or_default())?;
            line.drain(..stored);
            done += stored;
            if line.is_empty() {
                state.lines.pop_front();
            }
            if is_canonical {
                break;
            }
        }
        drop(state);
        if done == 0 {
            return if is_over { Err(Errno::EIO) } else { Err(Errno::EAGAIN) };
        }
        self.keyboard.wake_all();
        Ok(done)
    }

    fn ready(&self) -> u32 {
        let state = self.state.lock();
        let mut bits = 0;
        let least = usize::from(state.modes.characters.get(control::LEAST).copied().unwrap_or(1)).max(1);
        let has_time = state.modes.characters.get(control::TIME) != Some(&0);
        let is_readable = if state.modes.has(flag::ICANON) {
            !state.lines.is_empty()
        } else {
            state.length() >= if has_time { 1 } else { least }
        };
        if is_readable {
            bits |= ready::IN;
        }
        if !state.is_stopped && state.to_master.len() + 1024 <= OUTPUT {
            bits |= ready::OUT;
        }
        if state.masters == 0 {
            bits |= ready::HANGUP | ready::IN | ready::OUT;
        }
        bits
    }

    fn set_modes(&self, modes: Modes, flush: bool) {
        let mut state = self.state.lock();
        let was_canonical = state.modes.has(flag::ICANON);
        state.modes = modes;
        if flush {
            state.lines.clear();
            state.editing.clear();
        } else if was_canonical && !modes.has(flag::ICANON) {
            // What was typed of a line can be read now.
            let editing = core::mem::take(&mut state.editing);
            let all: Vec<u8> = core::mem::take(&mut state.lines).into_iter().flatten().chain(editing).collect();
            if !all.is_empty() {
                state.lines.push_back(all);
            }
        }
        state.is_stopped &= modes.input & flag::IXON != 0;
        drop(state);
        self.programs.wake_all();
    }

    /// Another size: rows, columns, and in pixels. The programs in front are told.
    pub fn resize(&self, size: [u16; 4]) {
        let mut state = self.state.lock();
        if core::mem::replace(&mut state.size, size) != size {
            let front = state.front;
            drop(state);
            self.signal(front, SIGWINCH);
        }
    }

    /// The leader of the session has ended, or the master is gone.
    pub fn hang_up(&self) {
        let (session, front) = {
            let mut state = self.state.lock();
            (core::mem::take(&mut state.session), core::mem::take(&mut state.front))
        };
        self.signal(front, SIGHUP);
        self.signal(front, SIGCONT);
        if session != front
            && let Some(leader) = self.system.process(session)
        {
            send::to_process(&leader, Info::kernel(SIGHUP));
        }
        self.programs.wake_all();
    }

    fn names_device(&self) -> u64 {
        make_device(136, self.number)
    }
}
