//! Terminals: termios(3), tty_ioctl(4), pty(7). The line discipline between the master of a pseudo-terminal and the programs that read
//! and write the other side. The container's console is one whose master is the command's that runs it.
//!
//! Locks: a terminal's state; signals are sent and queues woken without it.

mod ends;
mod modes;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use tessera_runtime::sync::Mutex;

pub use self::ends::Master;
use self::ends::Slave;
use self::modes::{Modes, control, flag};
use super::{Sink, Source, open, ready};
use crate::errno::{Errno, Result};
use crate::fs::ram::make_device;
use crate::signal::{Info, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH, send};
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

/// What input did beside becoming readable.
#[derive(Default)]
struct Effects {
    echo: Vec<u8>,
    signals: Vec<i32>,
}

impl State {
    fn length(&self) -> usize {
        self.lines.iter().map(Vec::len).sum::<usize>()
    }

    fn echo_byte(&self, byte: u8, effects: &mut Effects) {
        if byte < 32 && !matches!(byte, b'\n' | b'\t') && self.modes.has(flag::ECHOCTL) {
            effects.echo.extend([b'^', byte ^ 0x40]);
        } else if byte == 127 && self.modes.has(flag::ECHOCTL) {
            effects.echo.extend(b"^?");
        } else {
            effects.echo.push(byte);
        }
    }

    /// Takes the last character off the line that is edited, and off the screen.
    fn erase_character(&mut self, effects: &mut Effects) {
        let Some(mut last) = self.editing.pop() else { return };
        while self.modes.input & flag::IUTF8 != 0 && last & 0xc0 == 0x80 {
            let Some(before) = self.editing.pop() else { break };
            last = before;
        }
        if self.modes.has(flag::ECHO) && self.modes.has(flag::ECHOE) {
            let width = if last < 32 && self.modes.has(flag::ECHOCTL) { 2 } else { 1 };
            for _ in 0..width {
                effects.echo.extend(b"\x08 \x08");
            }
        }
    }

    fn take_key(&mut self, mut byte: u8, effects: &mut Effects) {
        let modes = self.modes;
        if !core::mem::take(&mut self.is_literal) {
            match byte {
                b'\r' if modes.input & flag::IGNCR != 0 => return,
                b'\r' if modes.input & flag::ICRNL != 0 => byte = b'\n',
                b'\n' if modes.input & flag::INLCR != 0 => byte = b'\r',
                _ => {}
            }
            if modes.input & flag::IXON != 0 && modes.is(byte, control::STOP) {
                self.is_stopped = true;
                return;
            }
            if modes.input & flag::IXON != 0 && (modes.is(byte, control::START) || self.is_stopped) {
                self.is_stopped = false;
                if modes.is(byte, control::START) {
                    return;
                }
            }
            if modes.has(flag::ISIG) {
                let keys = [(control::INTERRUPT, SIGINT), (control::QUIT, SIGQUIT), (control::SUSPEND, SIGTSTP)];
                if let Some((_, signal)) = keys.iter().find(|(place, _)| modes.is(byte, *place)) {
                    if !modes.has(flag::NOFLSH) {
                        self.lines.clear();
                        self.editing.clear();
                    }
                    if modes.has(flag::ECHO) {
                        self.echo_byte(byte, effects);
                    }
                    effects.signals.push(*signal);
                    return;
                }
            }
            if modes.has(flag::ICANON) && self.edit(byte, effects) {
                return;
            }
        }
        let is_full = self.length() + self.editing.len() >= INPUT;
        if modes.has(flag::ICANON) {
            let ends = byte == b'\n' || modes.is(byte, control::END_OF_LINE) || modes.is(byte, control::END_OF_LINE_2);
            // The end of a line is always taken, or a full terminal could never be read again.
            if is_full && !ends {
                effects.echo.push(7);
                return;
            }
            if modes.has(flag::ECHO) || (byte == b'\n' && modes.has(flag::ECHONL)) {
                self.echo_byte(byte, effects);
            }
            self.editing.push(byte);
            if ends {
                self.lines.push_back(core::mem::take(&mut self.editing));
            }
        } else if !is_full {
            if modes.has(flag::ECHO) {
                self.echo_byte(byte, effects);
            }
            match self.lines.back_mut() {
                Some(bytes) => bytes.push(byte),
                None => self.lines.push_back(alloc::vec![byte]),
            }
        }
    }

    /// The keys that edit a line. Whether it was one.
    fn edit(&mut self, byte: u8, effects: &mut Effects) -> bool {
        let modes = self.modes;
        let is_extended = modes.has(flag::IEXTEN);
        if modes.is(byte, control::ERASE) {
            self.erase_character(effects);
        } else if modes.is(byte, control::KILL) {
            if modes.has(flag::ECHOKE) && modes.has(flag::ECHOE) {
                while !self.editing.is_empty() {
                    self.erase_character(effects);
                }
            } else {
                self.editing.clear();
                if modes.has(flag::ECHO) && modes.has(flag::ECHOK) {
                    effects.echo.push(b'\n');
                }
            }
        } else if is_extended && modes.is(byte, control::WORD_ERASE) {
            let is_blank = |state: &State| state.editing.last().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
            while is_blank(self) {
                self.erase_character(effects);
            }
            while !self.editing.is_empty() && !is_blank(self) {
                self.erase_character(effects);
            }
        } else if is_extended && modes.is(byte, control::LITERAL) {
            self.is_literal = true;
            if modes.has(flag::ECHO) {
                effects.echo.extend(b"^\x08");
            }
        } else if is_extended && modes.is(byte, control::REPRINT) {
            if modes.has(flag::ECHO) {
                effects.echo.extend(b"^R\n");
                for byte in self.editing.clone() {
                    self.echo_byte(byte, effects);
                }
            }
        } else if modes.is(byte, control::END) {
            self.lines.push_back(core::mem::take(&mut self.editing));
        } else {
            return false;
        }
        true
    }

    /// Output as the modes want it.
    fn processed(&self, bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::with_capacity(bytes.len());
        for byte in bytes {
            match byte {
                b'\n' if self.modes.output & (flag::OPOST | flag::ONLCR) == flag::OPOST | flag::ONLCR => {
                    all.extend(b"\r\n");
                }
                b'\r' if self.modes.output & (flag::OPOST | flag::OCRNL) == flag::OPOST | flag::OCRNL => {
                    all.push(b'\n')
                }
                b'\r' if self.modes.output & (flag::OPOST | flag::ONLRET) == flag::OPOST | flag::ONLRET => {}
                byte => all.push(*byte),
            }
        }
        all
    }
}

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
            if there == 0 && least == 0 {
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

    fn control(self: &Arc<Self>, context: &mut Context, request: u32, argument: u64, is_master: bool) -> Result<u64> {
        const TCGETS: u32 = 0x5401;
        const TCSETS: u32 = 0x5402;
        const TCSETSW: u32 = 0x5403;
        const TCSETSF: u32 = 0x5404;
        const TCGETA: u32 = 0x5405;
        const TCSETA: u32 = 0x5406;
        const TCSETAW: u32 = 0x5407;
        const TCSETAF: u32 = 0x5408;
        const TCSBRK: u32 = 0x5409;
        const TCXONC: u32 = 0x540a;
        const TCFLSH: u32 = 0x540b;
        const TIOCSCTTY: u32 = 0x540e;
        const TIOCGPGRP: u32 = 0x540f;
        const TIOCSPGRP: u32 = 0x5410;
        const TIOCOUTQ: u32 = 0x5411;
        const TIOCGWINSZ: u32 = 0x5413;
        const TIOCSWINSZ: u32 = 0x5414;
        const FIONREAD: u32 = 0x541b;
        const TIOCNOTTY: u32 = 0x5422;
        const TCSBRKP: u32 = 0x5425;
        const TIOCGSID: u32 = 0x5429;
        const TIOCGPTN: u32 = 0x8004_5430;
        const TIOCSPTLCK: u32 = 0x4004_5431;
        const TIOCGPTLCK: u32 = 0x8004_5439;
        /// What only those in front may do.
        const CHANGES: [u32; 11] =
            [TCSETS, TCSETSW, TCSETSF, TCSETA, TCSETAW, TCSETAF, TCSBRK, TCSBRKP, TCXONC, TCFLSH, TIOCSPGRP];
        let process = context.process.clone();
        if !is_master && CHANGES.contains(&request) {
            self.admit(context, SIGTTOU)?;
        }
        match request {
            TCGETS => context.write_bytes(argument, &self.state.lock().modes.to_bytes())?,
            TCSETS | TCSETSW | TCSETSF => {
                let modes = Modes::from_bytes(&context.read_array(argument)?);
                self.set_modes(modes, request == TCSETSF);
            }
            TCGETA => context.write_bytes(argument, &self.state.lock().modes.to_old_bytes())?,
            TCSETA | TCSETAW | TCSETAF => {
                let old = context.read_array(argument)?;
                let modes = self.state.lock().modes.with_old_bytes(&old);
                self.set_modes(modes, request == TCSETAF);
            }
            TCSBRK | TCSBRKP => {}
            TCXONC => match argument {
                0 => self.state.lock().is_stopped = true,
                1 => {
                    self.state.lock().is_stopped = false;
                    self.programs.wake_all();
                }
                2 | 3 => {}
                _ => return Err(Errno::EINVAL),
            },
            TCFLSH => {
                let mut state = self.state.lock();
                let (input, output) = match argument {
                    0 => (true, false),
                    1 => (false, true),
                    2 => (true, true),
                    _ => return Err(Errno::EINVAL),
                };
                // On the master's side the two are named the other way round.
                if if is_master { output } else { input } {
                    state.lines.clear();
                    state.editing.clear();
                }
                if if is_master { input } else { output } {
                    state.to_master.clear();
                }
            }
            TIOCSCTTY => {
                if process.session() != process.number {
                    return Err(Errno::EPERM);
                }
                let session = self.state.lock().session;
                if session != process.session() {
                    if session != 0 || Terminal::of_session(process.session()).is_some() {
                        return Err(Errno::EPERM);
                    }
                    let mut state = self.state.lock();
                    (state.session, state.front) = (process.session(), process.group());
                }
            }
            TIOCNOTTY => {
                let mut state = self.state.lock();
                if state.session != process.session() {
                    return Err(Errno::ENOTTY);
                }
                if process.session() == process.number {
                    let front = state.front;
                    (state.session, state.front) = (0, 0);
                    drop(state);
                    self.signal(front, SIGHUP);
                    self.signal(front, SIGCONT);
                }
            }
            TIOCGPGRP | TIOCGSID => {
                let state = self.state.lock();
                if !is_master && (state.session == 0 || state.session != process.session()) {
                    return Err(Errno::ENOTTY);
                }
                let answer = if request == TIOCGSID { state.session } else { state.front };
                drop(state);
                context.write_u32(argument, answer as u32)?;
            }
            TIOCSPGRP => {
                let group = context.read_u32(argument)? as i32;
                if group < 0 {
                    return Err(Errno::EINVAL);
                }
                let session = self.state.lock().session;
                if session == 0 || session != process.session() {
                    return Err(Errno::ENOTTY);
                }
                let mut members = self.system.processes().into_iter().filter(|other| other.group() == group);
                match members.next() {
                    None => return Err(Errno::ESRCH),
                    Some(other) if other.session() != session => return Err(Errno::EPERM),
                    Some(_) => self.state.lock().front = group,
                }
            }
            TIOCOUTQ => context.write_u32(argument, self.state.lock().to_master.len() as u32)?,
            FIONREAD => {
                let state = self.state.lock();
                let count = if is_master { state.to_master.len() } else { state.length() };
                drop(state);
                context.write_u32(argument, count as u32)?;
            }
            TIOCGWINSZ => {
                let size = self.state.lock().size.map(u16::to_ne_bytes);
                context.write_bytes(argument, size.as_flattened())?;
            }
            TIOCSWINSZ => {
                let bytes: [u8; 8] = context.read_array(argument)?;
                let [a, b, c, d, e, f, g, h] = bytes;
                self.resize([[a, b], [c, d], [e, f], [g, h]].map(u16::from_ne_bytes));
            }
            TIOCGPTN => context.write_u32(argument, self.number)?,
            TIOCSPTLCK if is_master => self.state.lock().is_locked = context.read_u32(argument)? != 0,
            TIOCGPTLCK if is_master => context.write_u32(argument, u32::from(self.state.lock().is_locked))?,
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
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
