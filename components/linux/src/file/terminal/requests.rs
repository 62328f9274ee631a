//! What `ioctl` asks of a terminal: tty_ioctl(4).

use alloc::sync::Arc;

use super::Terminal;
use super::modes::Modes;
use crate::errno::{Errno, Result};
use crate::signal::{SIGCONT, SIGHUP, SIGTTOU};
use crate::task::Context;

impl Terminal {
    /// `ioctl` on either side.
    pub(super) fn control(
        self: &Arc<Self>,
        context: &mut Context,
        request: u32,
        argument: u64,
        is_master: bool,
    ) -> Result<u64> {
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
}
