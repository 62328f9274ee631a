//! The two sides of a terminal as open files: the programs' and the master.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use super::modes::flag;
use super::{CONSOLE, INPUT, Terminal};
use crate::errno::{Errno, Result};
use crate::file::console::device_attributes;
use crate::file::{Description, OpenFile, Sink, Source, open, ready};
use crate::fs::Attributes;
use crate::fs::devices::PTS_DEVICE;
use crate::fs::ram::make_device;
use crate::signal::{SIGTTIN, SIGTTOU};
use crate::task::{Context, WaitQueue};

/// The side that programs use, opened.
pub struct Slave(pub(super) Arc<Terminal>);

impl OpenFile for Slave {
    fn admit(&self, context: &Context, writes: bool) -> Result<()> {
        match writes {
            false => self.0.admit(context, SIGTTIN),
            true if self.0.state.lock().modes.has(flag::TOSTOP) => self.0.admit(context, SIGTTOU),
            true => Ok(()),
        }
    }

    fn read(&self, _at: u64, to: &mut dyn Sink) -> Result<usize> {
        self.0.read(to)
    }

    fn write(&self, _at: u64, from: &mut dyn Source) -> Result<usize> {
        self.0.write(from)
    }

    fn ready(&self) -> u32 {
        self.0.ready()
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.programs)
    }

    fn patience(&self) -> Option<u64> {
        self.0.patience()
    }

    fn control(&self, context: &mut Context, request: u32, argument: u64) -> Result<u64> {
        self.0.control(context, request, argument, false)
    }

    fn attributes(&self) -> Result<Attributes> {
        let number = u64::from(self.0.number) + 3;
        // The same file as the name in /dev/pts leads to, which ttyname(3) compares.
        Ok(Attributes { device: PTS_DEVICE, ..device_attributes(number, self.0.names_device()) })
    }

    fn label(&self) -> String {
        format!("/dev/pts/{}", self.0.number)
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.slaves -= 1;
        drop(state);
        self.0.keyboard.wake_all();
    }
}

/// The side of a pseudo-terminal where the keyboard would be.
pub struct Master(pub(super) Arc<Terminal>);

impl Master {
    /// Makes the terminal the container's console, and lets it be opened.
    pub fn become_console(&self) {
        self.0.state.lock().is_locked = false;
        *CONSOLE.lock() = Arc::downgrade(&self.0);
    }

    /// The terminal.
    pub fn terminal(&self) -> &Arc<Terminal> {
        &self.0
    }
}

impl OpenFile for Master {
    fn read(&self, _at: u64, to: &mut dyn Sink) -> Result<usize> {
        let mut state = self.0.state.lock();
        if state.to_master.is_empty() {
            return Err(if state.was_opened && state.slaves == 0 { Errno::EIO } else { Errno::EAGAIN });
        }
        let mut done = 0;
        while to.room() > 0 && !state.to_master.is_empty() {
            let piece = state.to_master.as_slices().0;
            let stored = to.put(piece.get(..piece.len().min(to.room())).unwrap_or_default())?;
            state.to_master.drain(..stored);
            done += stored;
        }
        drop(state);
        self.0.programs.wake_all();
        Ok(done)
    }

    fn write(&self, _at: u64, from: &mut dyn Source) -> Result<usize> {
        let mut buffer = [0; 256];
        let mut done = 0;
        while from.left() > 0 {
            let room = {
                let state = self.0.state.lock();
                INPUT.saturating_sub(state.length() + state.editing.len())
            };
            // A line without end must stay open to the key that ends it.
            let part = buffer.get_mut(..room.clamp(1, 256)).unwrap_or_default();
            if room == 0 && !self.0.state.lock().lines.is_empty() {
                return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
            }
            let taken = match from.take(part) {
                Ok(0) => break,
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            self.0.typed(part.get(..taken).unwrap_or_default());
            done += taken;
        }
        Ok(done)
    }

    fn ready(&self) -> u32 {
        let state = self.0.state.lock();
        let mut bits = 0;
        if !state.to_master.is_empty() {
            bits |= ready::IN;
        }
        if state.length() + state.editing.len() < INPUT || state.lines.is_empty() {
            bits |= ready::OUT;
        }
        if state.was_opened && state.slaves == 0 {
            bits |= ready::HANGUP;
        }
        bits
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.keyboard)
    }

    fn control(&self, context: &mut Context, request: u32, argument: u64) -> Result<u64> {
        const TIOCGPTPEER: u32 = 0x5441;
        if request == TIOCGPTPEER {
            let flags = argument as u32;
            let slave = self.0.open(context, flags)?;
            let description = Description::new(slave, None, flags);
            let limit = context.process.limit(crate::task::process::limit::FILES).0;
            return context
                .files
                .add(description, 0, limit, flags & open::CLOSE_ON_EXEC != 0)
                .map(|number| number as u64);
        }
        self.0.control(context, request, argument, true)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(device_attributes(2, make_device(5, 2)))
    }

    fn label(&self) -> String {
        String::from("/dev/ptmx")
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.0.state.lock().masters -= 1;
        self.0.hang_up();
    }
}
