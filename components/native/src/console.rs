//! Standard output and standard error: text for the debug log.

use alloc::string::String;
use alloc::vec::Vec;

use tessera_runtime::own;
use tessera_runtime::sync::Mutex;

/// Longest text that the log takes at once.
const PIECE: usize = 1024;

/// A stream of bytes that becomes text: what is no UTF-8 is shown as U+FFFD.
#[derive(Debug, Default)]
pub struct Console {
    /// The start of a character whose rest was not written yet.
    begun: Mutex<Vec<u8>>,
}

impl Console {
    /// Shows `bytes`.
    pub fn write(&self, bytes: &[u8]) {
        let mut begun = self.begun.lock();
        begun.extend_from_slice(bytes);
        let (text, rest) = decoded(&begun);
        *begun = rest;
        let mut left = text.as_str();
        while !left.is_empty() {
            let (piece, more) = left.split_at(left.floor_char_boundary(PIECE));
            // The log takes text at any time; a domain without one writes to nobody.
            let _ = own::log().write(piece);
            left = more;
        }
    }
}

/// The text in `bytes`, and the start of a character at their end.
fn decoded(bytes: &[u8]) -> (String, Vec<u8>) {
    let (mut text, mut rest) = (String::new(), bytes);
    loop {
        match core::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return (text, Vec::new());
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(core::str::from_utf8(valid).unwrap_or_default());
                let Some(bad) = error.error_len() else { return (text, after.to_vec()) };
                text.push('\u{fffd}');
                rest = after.get(bad..).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_may_come_in_pieces() {
        let (text, rest) = decoded("a€".as_bytes().get(..3).unwrap());
        assert_eq!((text.as_str(), rest.len()), ("a", 2));
        assert_eq!(decoded(b"x\xff\xfey").0, "x\u{fffd}\u{fffd}y");
    }
}
