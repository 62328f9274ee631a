//! Files that only one command at a time may change: who comes second waits, says so, and can be interrupted.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::thread;
use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use crate::process;
use crate::progress::Step;

const PAUSE: Duration = Duration::from_millis(20);

/// Holds the lock file at `path` until the answer is dropped. `what` says what is waited for.
pub fn hold(path: &Path, what: &str) -> Result<File> {
    let cannot = || format!("cannot lock {}", path.display());
    let file = File::create(path).into_diagnostic().wrap_err_with(cannot)?;
    let mut step = Step::start(format!("waiting for another command, which {what}"));
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error).into_diagnostic().wrap_err_with(cannot),
            Err(TryLockError::WouldBlock) if process::interrupted() => return Err(miette!("interrupted")),
            Err(TryLockError::WouldBlock) => {
                step.note(&path.display().to_string());
                thread::sleep(PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_second_waits_until_the_first_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let first = hold(&path, "tests").unwrap();
        let held = Instant::now();
        let second = thread::spawn({
            let path = path.clone();
            move || hold(&path, "tests").map(|_| held.elapsed()).unwrap()
        });
        thread::sleep(3 * PAUSE);
        drop(first);
        assert!(second.join().unwrap() >= 3 * PAUSE);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(hold(Path::new("/nonexistent/a.lock"), "tests").is_err());
    }
}
