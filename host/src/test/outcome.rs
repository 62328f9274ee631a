//! What a test case came to, and how that is read from the output of a test runner.

use console::strip_ansi_codes;

/// What a case came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub passed: u64,
    pub failed: u64,
    /// Why the case was not run.
    pub skipped: Option<String>,
    /// Why it failed, in a line.
    pub failure: Option<String>,
    /// What was printed, for the reader of a failure.
    pub output: String,
}

impl Outcome {
    pub fn passed(count: u64) -> Self {
        Self { passed: count, ..Self::default() }
    }

    pub fn skipped(why: impl Into<String>) -> Self {
        Self { skipped: Some(why.into()), ..Self::default() }
    }

    pub fn failed(why: impl Into<String>, output: impl Into<String>) -> Self {
        Self { failed: 1, failure: Some(why.into()), output: output.into(), ..Self::default() }
    }

    /// The outcome of a program that ran many tests: it passed if `succeeded` and every one did.
    pub fn of_runner(succeeded: bool, counted: Counts, output: String) -> Self {
        match (succeeded, counted) {
            (true, Counts { failed: 0, passed: 0 }) => Self::failed("no test was run", output),
            (true, Counts { failed: 0, passed }) => Self::passed(passed),
            (_, Counts { failed, passed }) => {
                let why =
                    if failed > 0 { format!("{failed} tests failed") } else { "it ended with an error".to_owned() };
                Self { passed, failed: failed.max(1), failure: Some(why), output, ..Self::default() }
            }
        }
    }
}

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
}

/// Sums up the closing lines of `cargo test` ("test result: ok. 3 passed; 0 failed; …"), of nextest ("Summary [ 1 s]
/// 3 tests run: 3 passed, 0 skipped", which counts what the tests that it shows said of themselves) and of the guest's tests
/// ("3 passed, 0 failed").
pub fn count(output: &str) -> Counts {
    let mut counts = Counts::default();
    for line in output.lines() {
        let line = strip_ansi_codes(line);
        let line = line.trim();
        let is_closing = line.starts_with("test result:")
            || (line.starts_with("Summary [") && line.contains(" run: "))
            || line.split(' ').next().is_some_and(|word| word.parse::<u64>().is_ok());
        if !is_closing {
            continue;
        }
        if line.starts_with("Summary [") {
            counts = Counts::default();
        }
        counts.passed += number_before(line, "passed").unwrap_or(0);
        counts.failed += number_before(line, "failed").unwrap_or(0);
    }
    counts
}

/// The number before `word`, which may be followed by punctuation.
fn number_before(line: &str, word: &str) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|found| found.trim_end_matches([',', ';', '.']) == word)?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_all_runners_are_counted() {
        let cargo = "running 2 tests\ntest a ... ok\ntest result: ok. 2 passed; 1 failed; 0 ignored; 0 measured\n\
                     test result: ok. 5 passed; 0 failed; 0 ignored\n";
        assert_eq!(count(cargo), Counts { passed: 7, failed: 1 });
        let nextest =
            "    PASS [ 0.1s] (1/2) a b\n     Summary [   0.216s] 4 tests run: 3 passed, 1 failed, 0 skipped\n";
        assert_eq!(count(nextest), Counts { passed: 3, failed: 1 });
        let shown = format!("    test result: FAILED. 0 passed; 1 failed; 0 ignored\n{nextest}");
        assert_eq!(count(&shown), Counts { passed: 3, failed: 1 });
        let guest = "test calls ... ok\n12 passed, 3 failed\r\n";
        assert_eq!(count(guest), Counts { passed: 12, failed: 3 });
        assert_eq!(count("the test that passed, failed\n"), Counts::default());
    }

    #[test]
    fn a_runner_that_ran_nothing_has_failed() {
        assert!(Outcome::of_runner(true, Counts::default(), String::new()).failure.is_some());
        assert!(Outcome::of_runner(true, Counts { passed: 1, failed: 0 }, String::new()).failure.is_none());
        assert_eq!(Outcome::of_runner(false, Counts { passed: 1, failed: 0 }, String::new()).failed, 1);
        assert_eq!(Outcome::of_runner(true, Counts { passed: 1, failed: 2 }, String::new()).failed, 2);
    }
}
