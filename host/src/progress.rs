//! Says what a long step is doing: a spinner on a terminal, one line every now and then elsewhere, nothing at all for
//! a step that is over at once.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A step shorter than this leaves no trace.
const QUIET: Duration = Duration::from_millis(700);
/// Without a terminal a long step says so this often.
const REPEAT: Duration = Duration::from_secs(20);

/// All spinners: those of steps that go on at the same time stand below one another.
static SPINNERS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Writes a line to the standard output, above the spinners.
pub fn print(line: &str) {
    SPINNERS.suspend(|| println!("{line}"));
}

/// A step under way. Dropping it removes the spinner.
pub struct Step {
    name: String,
    started: Instant,
    bar: Option<ProgressBar>,
    next_line: Duration,
}

impl Step {
    pub fn start(name: impl Into<String>) -> Self {
        Self { name: name.into(), started: Instant::now(), bar: None, next_line: QUIET }
    }

    /// Shows `detail` if the step has been going on for long enough to need an explanation.
    pub fn note(&mut self, detail: &str) {
        let elapsed = self.started.elapsed();
        if elapsed < self.next_line {
            return;
        }
        if Term::stderr().is_term() {
            let name = &self.name;
            let bar = self.bar.get_or_insert_with(|| spinner(name, elapsed));
            bar.set_message(detail.to_owned());
        } else {
            eprintln!("tessera: {} ({} s): {detail}", self.name, elapsed.as_secs());
            self.next_line = elapsed + REPEAT;
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn spinner(name: &str, elapsed: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix} ({elapsed}): {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar =
        SPINNERS.add(ProgressBar::new_spinner()).with_style(style).with_prefix(name.to_owned()).with_elapsed(elapsed);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
