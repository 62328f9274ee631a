//! The log of a container's machine: what the kernel and the components say, apart from what the container's programs write.
//!
//! It is kept in a file, one for each container's name and for each of those that run at the same time, and shown only if that is
//! wanted or something went wrong.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
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
        let cannot = |path: &Path| format!("cannot write {}", path.display());
        fs::create_dir_all(&folder).into_diagnostic().wrap_err_with(|| cannot(&folder))?;
        let mut path = folder.join(format!("{name}.log"));
        let mut number = 1;
        let file = loop {
            if let Some(file) = take(&path).into_diagnostic().wrap_err_with(|| cannot(&path))? {
                break file;
            }
            number += 1;
            path = folder.join(format!("{name}-{number}.log"));
        };
        Ok(Self { path, file, is_shown, last: Vec::new(), first: None })
    }

    /// When it began, its last lines unless they were shown, and where all of it is.
    pub fn finish(self) -> (Option<Instant>, String, PathBuf) {
        let last = if self.is_shown { String::new() } else { String::from_utf8_lossy(&self.last).into_owned() };
        (self.first, last, self.path)
    }
}

/// The file at `path`, emptied, unless another command writes its log there.
fn take(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => file.set_len(0).map(|()| Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_write_at_once_do_not_write_into_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        fs::write(&path, "an earlier one").unwrap();
        let first = take(&path).unwrap();
        assert!(first.is_some() && fs::read(&path).unwrap().is_empty());
        assert!(take(&path).unwrap().is_none());
        drop(first);
        assert!(take(&path).unwrap().is_some());
    }
}
