//! Lines of text for the debug log.

use core::fmt::{self, Write};

use crate::own;

/// The longest line that is written as one piece, so that the lines of several processes do not mix.
const LINE: usize = 512;

struct Line {
    text: [u8; LINE],
    used: usize,
}

impl Line {
    fn flush(&mut self) {
        let text = self.text.get(..self.used).unwrap_or(&[]);
        // A character that was cut in two by the end of the line is written as far as it is valid.
        let text = match core::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => core::str::from_utf8(text.get(..error.valid_up_to()).unwrap_or(&[])).unwrap_or(""),
        };
        if !text.is_empty() {
            let _ = own::log().write(text);
        }
        self.used = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let mut bytes = [0; 4];
            let bytes = character.encode_utf8(&mut bytes).as_bytes();
            if self.used + bytes.len() > LINE {
                self.flush();
            }
            for (to, from) in self.text.iter_mut().skip(self.used).zip(bytes) {
                *to = *from;
            }
            self.used += bytes.len();
        }
        Ok(())
    }
}

/// Writes text; what `log!` and `log_part!` expand to.
pub fn write(arguments: fmt::Arguments<'_>) {
    let mut line = Line { text: [0; LINE], used: 0 };
    let _ = line.write_fmt(arguments);
    line.flush();
}

/// Writes a line to the debug log.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => { $crate::log::write(format_args!("{}\n", format_args!($($argument)*))) };
}

/// Writes text to the debug log without ending the line.
#[macro_export]
macro_rules! log_part {
    ($($argument:tt)*) => { $crate::log::write(format_args!($($argument)*)) };
}
