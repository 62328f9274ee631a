//! Questions over a guest's control channel, and their answers. `components/control` is at the other end.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use tessera_plan::{Plan, State};

use super::Guest;

/// How long a guest may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the longest answer that is taken.
const LONGEST: usize = 16 << 20;

impl Guest {
    /// What the image consists of.
    pub fn plan(&self) -> Result<Plan> {
        let answer = self.ask("plan")?;
        Plan::decode(&answer).map_err(|refusal| miette!("the guest's plan cannot be read: {refusal}"))
    }

    /// How all is.
    pub fn state(&self) -> Result<State> {
        let answer = self.ask("state")?;
        State::decode(&answer).map_err(|refusal| miette!("the guest's state cannot be read: {refusal}"))
    }

    /// Asks a question; the answer's bytes.
    pub fn ask(&self, question: &str) -> Result<Vec<u8>> {
        let silent = || {
            format!(
                "the guest {} ({}) does not answer; only images with the component `control` do",
                self.id, self.note.image
            )
        };
        let socket = UnixStream::connect(self.socket()).into_diagnostic().wrap_err_with(silent)?;
        socket.set_read_timeout(Some(PATIENCE)).into_diagnostic()?;
        socket.set_write_timeout(Some(PATIENCE)).into_diagnostic()?;
        let tag = tag();
        // The empty line ends what an asker before may have left unfinished.
        (&socket).write_all(format!("\n{tag} {question}\n").as_bytes()).into_diagnostic().wrap_err_with(silent)?;
        match answer(&mut BufReader::new(&socket), &tag).into_diagnostic().wrap_err_with(silent)? {
            Ok(answer) => Ok(answer),
            Err(why) => Err(miette!("the guest refuses: {why}")),
        }
    }
}

/// A number that no answer to an earlier question has.
fn tag() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos().to_string().chars().rev().take(12).collect()
}

/// The answer under `tag`; what came before it is left out.
fn answer(stream: &mut impl BufRead, tag: &str) -> std::io::Result<std::result::Result<Vec<u8>, String>> {
    let ok = format!("{tag} ok ");
    let error = format!("{tag} error ");
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.take(4096).read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&line);
        // An older answer's last bytes may stand before it on the line.
        if let Some((_, length)) = text.split_once(ok.as_str()) {
            let length = length.trim_end().parse().ok().filter(|length| *length <= LONGEST);
            let mut body = vec![0; length.ok_or(std::io::ErrorKind::InvalidData)?];
            stream.read_exact(&mut body)?;
            return Ok(Ok(body));
        }
        if let Some((_, why)) = text.split_once(error.as_str()) {
            return Ok(Err(why.trim_end().to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_by_its_tag_behind_whatever_else_came() {
        let mut stream: &[u8] = b"rest of\xff an older one\n7 ok 3\nabc\n8 ok 4\na\nbc9 ok 1\nx";
        assert_eq!(answer(&mut stream, "8").unwrap(), Ok(b"a\nbc".to_vec()));
        assert_eq!(answer(&mut stream, "9").unwrap(), Ok(b"x".to_vec()));
        let mut stream: &[u8] = b"8 error no such thing\n";
        assert_eq!(answer(&mut stream, "8").unwrap(), Err("no such thing".to_owned()));
    }

    #[test]
    fn an_answer_that_is_cut_short_or_too_long_is_an_error() {
        for stream in ["", "8 ok 4\nabc", "8 ok x\n", "8 ok 99999999999\n", "8 ok", "nothing\n"] {
            assert!(answer(&mut stream.as_bytes(), "8").is_err(), "{stream}");
        }
    }
}
