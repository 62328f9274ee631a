//! Runs a command for a test case: its output is kept for the reader of a failure, its last line shown as progress.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr};

use super::outcome::Outcome;
use crate::process::Running;
use crate::progress::Step;

/// No command of a suite takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// What a command printed, on both outputs, and how it ended.
pub struct Finished {
    pub output: String,
    pub succeeded: bool,
    pub code: Option<i32>,
}

impl Finished {
    /// The outcome of a command that is itself one test.
    pub fn outcome(self) -> Outcome {
        match (self.succeeded, self.code) {
            (true, _) => Outcome::passed(1),
            (false, Some(code)) => Outcome::failed(format!("it ended with exit code {code}"), self.output),
            (false, None) => Outcome::failed("a signal or the time-out ended it", self.output),
        }
    }
}

/// Runs `command` to its end.
pub fn run(command: &mut Command, step: &mut Step) -> Result<Finished> {
    run_within(command, LIMIT, step)
}

/// Runs `command` to its end, or kills it after `limit`.
pub fn run_within(command: &mut Command, limit: Duration, step: &mut Step) -> Result<Finished> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running =
        Running::start(command, Some(limit)).into_diagnostic().wrap_err_with(|| format!("cannot start {name}"))?;
    let (sender, lines) = mpsc::channel();
    let child = running.child();
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    if let (Some(output), Some(errors)) = (output, errors) {
        forward(output, sender.clone());
        forward(errors, sender);
    }
    let mut output = String::new();
    for line in lines {
        step.note(line.trim());
        output.push_str(&line);
        output.push('\n');
    }
    let (status, _) = running.wait().into_diagnostic()?;
    Ok(Finished { output, succeeded: status.success(), code: status.code() })
}

fn forward(pipe: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if lines.send(text).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_and_the_exit_code_are_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let finished = run(&mut command, &mut Step::start("test")).unwrap();
        assert!(finished.output.contains("out\n") && finished.output.contains("err\n"), "{}", finished.output);
        let outcome = finished.outcome();
        assert_eq!(outcome.failed, 1);
        assert!(outcome.failure.unwrap().contains("exit code 3"));
    }

    #[test]
    fn a_command_that_does_not_exist_is_an_error() {
        assert!(run(&mut Command::new("/nonexistent/program"), &mut Step::start("test")).is_err());
    }
}
