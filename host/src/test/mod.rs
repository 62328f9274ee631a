//! `tessera test`: every check that a change must pass, as one local command.
//!
//! A suite is a named list of cases; a case runs and says how it went. Nothing outside this folder knows what is
//! tested. The last line is `N passed, N failed`, where a case that itself runs many tests counts as many.

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
mod suites;
mod system;
mod web;

use std::time::Instant;

use console::style;
use miette::{Result, miette};

use crate::cli::Test;
use crate::process;
use crate::progress::Step;
use outcome::Outcome;

/// A named list of cases.
struct Suite {
    name: &'static str,
    about: &'static str,
    cases: Vec<Case>,
}

/// One thing that is tested. Its name says the behaviour, in words separated by `-`.
struct Case {
    name: String,
    run: Run,
}

/// Runs a case, with a place to say how far it is.
type Run = Box<dyn Fn(&mut Step) -> Result<Outcome>>;

impl Case {
    fn new(name: impl Into<String>, run: impl Fn(&mut Step) -> Result<Outcome> + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// Runs what `arguments` select; the exit code is 1 if anything failed.
pub fn test(arguments: &Test) -> Result<u8> {
    let suites = select(suites::all()?, &arguments.what)?;
    if arguments.list {
        list(&suites);
        return Ok(0);
    }
    let mut totals = Totals::default();
    for suite in &suites {
        println!("{} {}", style(format!("{}:", suite.name)).bold(), suite.about);
        for case in &suite.cases {
            run_case(suite, case, &mut totals);
            if process::interrupted() {
                return Err(miette!("interrupted"));
            }
        }
    }
    totals.report();
    Ok(u8::from(totals.failed > 0))
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

fn run_case(suite: &Suite, case: &Case, totals: &mut Totals) {
    let started = Instant::now();
    let mut step = Step::start(format!("{} {}", suite.name, case.name));
    step.note("running");
    let outcome = (case.run)(&mut step).unwrap_or_else(|report| Outcome::failed(format!("{report:?}"), String::new()));
    drop(step);
    let seconds = started.elapsed().as_secs_f32();
    totals.passed += outcome.passed;
    totals.failed += outcome.failed;
    let count = outcome.passed + outcome.failed;
    let tests = if count > 1 { format!("{count} tests, ") } else { String::new() };
    if let Some(why) = &outcome.skipped {
        totals.skipped += 1;
        println!("  {:<7} {} ({why})", style("skipped").yellow(), case.name);
    } else if let Some(why) = &outcome.failure {
        totals.failures.push(format!("{} {}: {}", suite.name, case.name, why.lines().next().unwrap_or_default()));
        println!("  {:<7} {} ({tests}{seconds:.1} s): {why}", style("FAILED").red(), case.name);
        for line in outcome.output.lines() {
            println!("          | {line}");
        }
        println!("          again: ./tessera test {} {}", suite.name, case.name);
    } else {
        println!("  {:<7} {} ({tests}{seconds:.1} s)", style("ok").green(), case.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites() -> Vec<Suite> {
        let case = |name: &str| Case::new(name, |_| Ok(Outcome::passed(1)));
        let suite =
            |name, cases: &[&str]| Suite { name, about: "", cases: cases.iter().map(|name| case(name)).collect() };
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
        let mut totals = Totals::default();
        let suite = Suite { name: "s", about: "", cases: Vec::new() };
        run_case(&suite, &Case::new("many", |_| Ok(Outcome::passed(7))), &mut totals);
        run_case(&suite, &Case::new("broken", |_| Err(miette!("no such tool"))), &mut totals);
        run_case(&suite, &Case::new("later", |_| Ok(Outcome::skipped("not here"))), &mut totals);
        assert_eq!((totals.passed, totals.failed, totals.skipped), (7, 1, 1));
        assert_eq!(totals.failures.len(), 1);
        assert!(totals.failures[0].starts_with("s broken: "), "{:?}", totals.failures);
    }
}
