//! What a terminal does with bytes: the flags and control characters of a `struct termios`.

/// The flags of a `struct termios` that mean something here.
pub mod flag {
    // Input.
    pub const IGNCR: u32 = 0o200;
    pub const INLCR: u32 = 0o100;
    pub const ICRNL: u32 = 0o400;
    pub const IXON: u32 = 0o2000;
    pub const IUTF8: u32 = 0o40000;
    // Output.
    pub const OPOST: u32 = 1;
    pub const ONLCR: u32 = 4;
    pub const OCRNL: u32 = 8;
    pub const ONLRET: u32 = 0o40;
    // Local.
    pub const ISIG: u32 = 1;
    pub const ICANON: u32 = 2;
    pub const ECHO: u32 = 0o10;
    pub const ECHOE: u32 = 0o20;
    pub const ECHOK: u32 = 0o40;
    pub const ECHONL: u32 = 0o100;
    pub const NOFLSH: u32 = 0o200;
    pub const TOSTOP: u32 = 0o400;
    pub const ECHOCTL: u32 = 0o1000;
    pub const ECHOKE: u32 = 0o4000;
    pub const IEXTEN: u32 = 0o100000;
}

/// Places in the control characters.
pub mod control {
    pub const INTERRUPT: usize = 0;
    pub const QUIT: usize = 1;
    pub const ERASE: usize = 2;
    pub const KILL: usize = 3;
    pub const END: usize = 4;
    pub const TIME: usize = 5;
    pub const LEAST: usize = 6;
    pub const START: usize = 8;
    pub const STOP: usize = 9;
    pub const SUSPEND: usize = 10;
    pub const END_OF_LINE: usize = 11;
    pub const REPRINT: usize = 12;
    pub const WORD_ERASE: usize = 14;
    pub const LITERAL: usize = 15;
    pub const END_OF_LINE_2: usize = 16;
}

/// `struct termios` of the kernel: four flags, the discipline, 19 control characters.
#[derive(Clone, Copy)]
pub struct Modes {
    pub input: u32,
    pub output: u32,
    pub control: u32,
    pub local: u32,
    pub line: u8,
    pub characters: [u8; 19],
}

/// Its bytes.
pub const MODES: usize = 36;
/// Those of a `struct termio`.
pub const OLD_MODES: usize = 18;

impl Default for Modes {
    /// As a terminal of Linux begins (`tty_std_termios`), with UTF-8.
    fn default() -> Modes {
        Modes {
            input: flag::ICRNL | flag::IXON | flag::IUTF8,
            output: flag::OPOST | flag::ONLCR,
            control: 0o277,
            local: flag::ISIG
                | flag::ICANON
                | flag::ECHO
                | flag::ECHOE
                | flag::ECHOK
                | flag::ECHOCTL
                | flag::ECHOKE
                | flag::IEXTEN,
            line: 0,
            characters: [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0],
        }
    }
}

impl Modes {
    pub fn to_bytes(self) -> [u8; MODES] {
        let mut bytes = [0; MODES];
        let flags = [self.input, self.output, self.control, self.local].map(u32::to_ne_bytes);
        let all = flags.as_flattened().iter().copied().chain([self.line]).chain(self.characters);
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = from;
        }
        bytes
    }

    pub fn from_bytes(bytes: &[u8; MODES]) -> Modes {
        let word =
            |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_ne_bytes(*word));
        let characters = bytes.get(17..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        let line = bytes.get(16).copied().unwrap_or(0);
        Modes { input: word(0), output: word(4), control: word(8), local: word(12), line, characters }
    }

    /// As the older `struct termio`: flags of 16 bits, eight characters.
    pub fn to_old_bytes(self) -> [u8; OLD_MODES] {
        let mut bytes = [0; OLD_MODES];
        let flags = [self.input, self.output, self.control, self.local].map(|word| (word as u16).to_ne_bytes());
        let all = flags.as_flattened().iter().copied().chain([self.line]).chain(self.characters);
        for (to, from) in bytes.iter_mut().take(17).zip(all) {
            *to = from;
        }
        bytes
    }

    /// With what a `struct termio` has in place of its own.
    pub fn with_old_bytes(mut self, bytes: &[u8; OLD_MODES]) -> Modes {
        let words = [&mut self.input, &mut self.output, &mut self.control, &mut self.local];
        for (to, from) in words.into_iter().zip(bytes.as_chunks().0) {
            *to = *to & 0xffff_0000 | u32::from(u16::from_ne_bytes(*from));
        }
        let [_, _, _, _, _, _, _, _, line, characters @ ..] = bytes;
        self.line = *line;
        for (to, from) in self.characters.iter_mut().zip(characters.iter().take(8)) {
            *to = *from;
        }
        self
    }

    /// `VTIME`, in nanoseconds; it counts tenths of a second.
    pub fn time_limit(&self) -> u64 {
        self.characters.get(control::TIME).map_or(0, |tenths| u64::from(*tenths) * 100_000_000)
    }

    pub fn has(&self, local: u32) -> bool {
        self.local & local != 0
    }

    /// Whether a byte is the control character at a place; 0 stands for none.
    pub fn is(&self, byte: u8, place: usize) -> bool {
        byte != 0 && self.characters.get(place) == Some(&byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_form_keeps_what_it_does_not_hold() {
        let modes = Modes { input: 0x1_0000 | flag::ICRNL, ..Modes::default() };
        let mut old = modes.to_old_bytes();
        assert_eq!(Modes::default().with_old_bytes(&old).to_bytes()[2..], Modes::default().to_bytes()[2..]);
        old[0] = 0;
        let changed = modes.with_old_bytes(&old);
        assert_eq!((changed.input & 0xff, changed.input >> 16), (0, 1));
        assert_eq!(changed.characters, modes.characters);
    }
}
