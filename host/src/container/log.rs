//! The log of a container's machine: what the kernel and the components say, apart from what the container's programs write.
//!
//! It is kept in a file, one for each container's name, and shown only if that is wanted or something went wrong.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use miette::{IntoDiagnostic, Result, WrapErr};

use crate::workspace;

/// Bytes of the log's end that are remembered.
const LAST: usize = 8 << 10;

/// Takes the log.
pub struct Log {
    path: PathBuf,
    file: File,
    is_shown: bool,
    last: Vec<u8>,
    first: Option<Instant>,
}

impl Log {
    pub fn new(name: &str, is_shown: bool) -> Result<Self> {
        let folder = workspace::target().join("tessera/logs");
        let path = folder.join(format!("{name}.log"));
        let file = fs::create_dir_all(&folder).and_then(|()| File::create(&path));
        let file = file.into_diagnostic().wrap_err_with(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, file, is_shown, last: Vec::new(), first: None })
    }

    /// When it began, its last lines unless they were shown, and where all of it is.
    pub fn finish(self) -> (Option<Instant>, String, PathBuf) {
        let last = if self.is_shown { String::new() } else { String::from_utf8_lossy(&self.last).into_owned() };
        (self.first, last, self.path)
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.first.get_or_insert_with(Instant::now);
        }
        self.file.write_all(bytes)?;
        if self.is_shown {
            io::stderr().write_all(bytes)?;
        }
        self.last.extend_from_slice(bytes);
        if self.last.len() > 2 * LAST {
            // Whole lines are kept.
            let from = self.last.len() - LAST;
            let line = self.last[from..].iter().position(|byte| *byte == b'\n').map_or(from, |at| from + at + 1);
            self.last.drain(..line);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
