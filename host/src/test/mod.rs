//! `tessera test`: every check that a change must pass, as one local command.
//!
//! A suite is a named list of cases; a case runs and says how it went. Nothing outside this folder knows what is
//! tested. Several cases run at once; those that a busy machine would disturb run after them, one by one. The last line is `N passed, N failed`, where a case that itself runs many
//! tests counts as many.

mod attended;
mod command;
mod containers;
mod control;
mod copies;
mod explain;
mod fuzz;
mod host;
mod linux;
mod native;
mod nix;
mod outcome;
mod programs;
mod python;
mod redis;
mod slim;
mod small;
mod suites;
mod system;
mod web;

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use console::style;
use miette::{Result, miette};

use crate::cli::Test;
use crate::process;
use crate::progress::{self, Step};
use outcome::Outcome;
pub use small::nginx_alone;

/// A named list of cases.
struct Suite {
    name: &'static str,
    about: &'static str,
    lane: Lane,
    cases: Vec<Case>,
}

/// What the cases of a suite need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// This machine's cargo, which does one thing at a time: so do they.
    Host,
    /// A virtual machine each, of which several run at once.
    Guests,
}

/// One thing that is tested. Its name says the behaviour, in words separated by `-`.
struct Case {
    name: String,
    run: Run,
    /// Whether nothing else is to run meanwhile: it has several processors, or asks how time is shared.
    is_alone: bool,
}

/// Runs a case, with a place to say how far it is.
type Run = Box<dyn Fn(&mut Step) -> Result<Outcome> + Send + Sync>;

impl Case {
    fn new(name: impl Into<String>, run: impl Fn(&mut Step) -> Result<Outcome> + Send + Sync + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run), is_alone: false }
    }

    fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }
}

/// Runs what `arguments` select; the exit code is 1 if anything failed.
pub fn test(arguments: &Test) -> Result<u8> {
    let suites = select(suites::all()?, &arguments.what)?;
    if arguments.list {
        list(&suites);
        return Ok(0);
    }
    // One more than there are processors: now and then a case waits for what another one builds.
    let several = || thread::available_parallelism().map_or(1, NonZero::get) + 1;
    let totals = run_all(&suites, arguments.jobs.map_or_else(several, NonZero::get));
    if process::interrupted() {
        return Err(miette!("interrupted"));
    }
    totals.report();
    Ok(u8::from(totals.failed > 0))
}

/// A suite's case that is yet to run.
type Waiting<'a> = (&'a Suite, &'a Case);

/// Runs all cases, `jobs` at once: the first job does what needs this machine's cargo, and then what the others do.
fn run_all(suites: &[Suite], jobs: usize) -> Totals {
    let all = || suites.iter().flat_map(|suite| suite.cases.iter().map(move |case| (suite, case)));
    let queue = |is_in: &dyn Fn(&Waiting<'_>) -> bool| Mutex::new(all().filter(is_in).collect());
    let host = queue(&|(suite, case)| suite.lane == Lane::Host && !case.is_alone);
    let guests = queue(&|(suite, case)| suite.lane == Lane::Guests && !case.is_alone);
    let alone = queue(&|(_, case)| case.is_alone);
    let totals = Mutex::new(Totals::default());
    let work = |queues: &[&Mutex<VecDeque<Waiting<'_>>>]| {
        // The lock of a queue is not held while its case runs.
        let next = || queues.iter().find_map(|queue| locked(queue).pop_front());
        while let Some((suite, case)) = next().filter(|_| !process::interrupted()) {
            run_case(suite, case, &totals);
        }
    };
    thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(|| work(&[&guests]));
        }
        work(&[&host, &guests]);
    });
    work(&[&alone]);
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the suite that the first word names, if it names one, and the cases whose names contain one of the others.
fn select(mut suites: Vec<Suite>, what: &[String]) -> Result<Vec<Suite>> {
    let mut parts = what;
    if let Some((first, rest)) = what.split_first()
        && suites.iter().any(|suite| suite.name == first)
    {
        suites.retain(|suite| suite.name == first);
        parts = rest;
    }
    if !parts.is_empty() {
        for suite in &mut suites {
            suite.cases.retain(|case| parts.iter().any(|part| case.name.contains(part.as_str())));
        }
    }
    suites.retain(|suite| !suite.cases.is_empty());
    if suites.is_empty() {
        return Err(miette!(
            help = "`./tessera test --list` names all suites and cases",
            "no suite and no case is called `{}`",
            what.join(" ")
        ));
    }
    Ok(suites)
}

fn list(suites: &[Suite]) {
    for suite in suites {
        println!("{:<8} {}", suite.name, suite.about);
        for case in &suite.cases {
            println!("           {}", case.name);
        }
    }
}

/// What all cases came to, counted in tests.
#[derive(Default)]
struct Totals {
    passed: u64,
    failed: u64,
    skipped: u64,
    failures: Vec<String>,
}

impl Totals {
    fn report(&self) {
        if !self.failures.is_empty() {
            println!("\nfailed:");
            for failure in &self.failures {
                println!("  {failure}");
            }
        }
        let skipped = if self.skipped > 0 { format!(", {} skipped", self.skipped) } else { String::new() };
        println!("\n{} passed, {} failed{skipped}", self.passed, self.failed);
    }
}

fn run_case(suite: &Suite, case: &Case, totals: &Mutex<Totals>) {
    let started = Instant::now();
    let name = format!("{} {}", suite.name, case.name);
    let mut step = Step::start(name.clone());
    step.note("running");
    let outcome = (case.run)(&mut step).unwrap_or_else(|report| Outcome::failed(format!("{report:?}"), String::new()));
    drop(step);
    let seconds = started.elapsed().as_secs_f32();
    let mut totals = locked(totals);
    totals.passed += outcome.passed;
    totals.failed += outcome.failed;
    let count = outcome.passed + outcome.failed;
    let tests = if count > 1 { format!("{count} tests, ") } else { String::new() };
    let said = if let Some(why) = &outcome.skipped {
        totals.skipped += 1;
        format!("  {:<7} {name} ({why})", style("skipped").yellow())
    } else if let Some(why) = &outcome.failure {
        totals.failures.push(format!("{name}: {}", why.lines().next().unwrap_or_default()));
        let output: String = outcome.output.lines().map(|line| format!("\n          | {line}")).collect();
        let first = format!("  {:<7} {name} ({tests}{seconds:.1} s): {why}", style("FAILED").red());
        format!("{first}{output}\n          again: ./tessera test {name}")
    } else {
        format!("  {:<7} {name} ({tests}{seconds:.1} s)", style("ok").green())
    };
    progress::print(&said);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn suites() -> Vec<Suite> {
        let case = |name: &str| Case::new(name, |_| Ok(Outcome::passed(1)));
        let suite = |name, cases: &[&str]| Suite {
            name,
            about: "",
            lane: Lane::Host,
            cases: cases.iter().map(|name| case(name)).collect(),
        };
        vec![suite("host", &["units", "examples"]), suite("system", &["hello-q35", "hello-microvm", "units"])]
    }

    fn selected(what: &[&str]) -> Vec<String> {
        let what: Vec<String> = what.iter().map(|word| (*word).to_owned()).collect();
        let suites = select(suites(), &what).unwrap();
        suites.iter().flat_map(|suite| suite.cases.iter().map(|case| format!("{} {}", suite.name, case.name))).collect()
    }

    #[test]
    fn words_select_suites_and_cases() {
        assert_eq!(selected(&[]).len(), 5);
        assert_eq!(selected(&["host"]), ["host units", "host examples"]);
        assert_eq!(selected(&["system", "hello"]), ["system hello-q35", "system hello-microvm"]);
        assert_eq!(selected(&["units"]), ["host units", "system units"]);
        assert!(select(suites(), &["nothing".to_owned()]).is_err());
        assert!(select(suites(), &["host".to_owned(), "hello".to_owned()]).is_err());
    }

    #[test]
    fn what_a_case_came_to_is_counted_in_tests() {
        let cases = vec![
            Case::new("many", |_| Ok(Outcome::passed(7))),
            Case::new("broken", |_| Err(miette!("no such tool"))),
            Case::new("later", |_| Ok(Outcome::skipped("not here"))),
        ];
        let suite = Suite { name: "s", about: "", lane: Lane::Host, cases };
        let totals = run_all(&[suite], 1);
        assert_eq!((totals.passed, totals.failed, totals.skipped), (7, 1, 1));
        assert_eq!(totals.failures.len(), 1);
        assert!(totals.failures[0].starts_with("s broken: "), "{:?}", totals.failures);
    }

    #[test]
    fn guests_run_at_once_and_what_needs_this_machines_cargo_does_not() {
        let busy = |lane, most: usize| {
            let (now, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let case = |name: &str| {
                let (now, seen) = (Arc::clone(&now), Arc::clone(&seen));
                Case::new(name, move |_| {
                    seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // Until the others are there, if they may be.
                    let end = Instant::now() + Duration::from_secs(20);
                    while seen.load(Ordering::SeqCst) < most && Instant::now() < end {
                        thread::yield_now();
                    }
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok(Outcome::passed(1))
                })
            };
            let suite = Suite { name: "s", about: "", lane, cases: ["a", "b", "c", "d"].map(case).into() };
            assert_eq!(run_all(&[suite], 3).passed, 4);
            seen.load(Ordering::SeqCst)
        };
        assert_eq!(busy(Lane::Guests, 3), 3);
        assert_eq!(busy(Lane::Host, 1), 1);
    }
}
