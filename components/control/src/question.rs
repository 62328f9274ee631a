//! Reading questions out of a stream of bytes that anybody may have written.

use alloc::string::String;
use alloc::vec::Vec;

/// The longest line that is read; what is longer is left out.
const LINE: usize = 128;
/// The longest tag.
const TAG: usize = 20;

/// Puts lines together from pieces.
#[derive(Default)]
pub struct Lines {
    line: Vec<u8>,
    /// The line has become too long: its rest is skipped.
    skipping: bool,
}

impl Lines {
    /// Takes a piece of the stream; answers the lines that it ends, without their ends.
    pub fn take(&mut self, piece: &[u8]) -> Vec<Vec<u8>> {
        let mut ended = Vec::new();
        for byte in piece {
            match byte {
                b'\n' | b'\r' => {
                    let line = core::mem::take(&mut self.line);
                    if !core::mem::take(&mut self.skipping) && !line.is_empty() {
                        ended.push(line);
                    }
                }
                _ if self.line.len() == LINE => self.skipping = true,
                _ => self.line.push(*byte),
            }
        }
        ended
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub tag: String,
    pub what: What,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Plan,
    State,
    Kill(String),
    Restart(String),
}

impl Question {
    /// Reads a line; nothing if it is no question.
    pub fn read(line: &[u8]) -> Option<Question> {
        let line = core::str::from_utf8(line).ok()?;
        let mut words = line.split(' ');
        let tag = words.next().filter(|tag| tag.len() <= TAG && tag.bytes().all(|byte| byte.is_ascii_digit()))?;
        let what = match (words.next()?, words.next()) {
            ("plan", None) => What::Plan,
            ("state", None) => What::State,
            ("kill", Some(name)) => What::Kill(name.into()),
            ("restart", Some(name)) => What::Restart(name.into()),
            _ => return None,
        };
        (!tag.is_empty() && words.next().is_none()).then(|| Question { tag: tag.into(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"1 pl"), Vec::<Vec<u8>>::new());
        assert_eq!(lines.take(b"an\n\r\n2 state\n3"), vec![b"1 plan".to_vec(), b"2 state".to_vec()]);
        assert_eq!(lines.take(&[b'x'; 100_000]), Vec::<Vec<u8>>::new());
        assert_eq!(lines.take(b"\n4 plan\n"), vec![b"4 plan".to_vec()], "what was too long is left out");
    }

    #[test]
    fn only_questions_are_read() {
        assert_eq!(Question::read(b"1 kill net"), Some(Question { tag: "1".into(), what: What::Kill("net".into()) }));
        for line in [
            &b""[..],
            b"plan",
            b" plan",
            b"1",
            b"1 ",
            b"1 kill",
            b"1 plan now",
            b"1 kill a b",
            b"x plan",
            b"123456789012345678901 plan",
            b"1 dance",
            b"1 kill \xff",
        ] {
            assert_eq!(Question::read(line), None, "{line:?}");
        }
    }
}
