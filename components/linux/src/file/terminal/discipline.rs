//! The line discipline: what keys do to the line that is typed, and what becomes of output.

use alloc::vec::Vec;

use super::modes::{control, flag};
use super::{INPUT, State};
use crate::signal::{SIGINT, SIGQUIT, SIGTSTP};

/// What input did beside becoming readable.
#[derive(Default)]
pub(super) struct Effects {
    pub echo: Vec<u8>,
    pub signals: Vec<i32>,
}

impl State {
    pub(super) fn length(&self) -> usize {
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

    pub(super) fn take_key(&mut self, mut byte: u8, effects: &mut Effects) {
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
    pub(super) fn processed(&self, bytes: &[u8]) -> Vec<u8> {
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
