//! `tessera ps`, `top`, `inspect`, `kill` and `restart`: tables for people, JSON for programs.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use console::{Term, style};
use miette::{Result, miette};
use serde_json::{Value, json};
use tessera_plan::{Domain, DomainState, Ending, FaultKind, Need, Phase, Plan, Report, Server, State, Use};

use super::{Guest, find};
use crate::cli::{Ask, Inspect, Name, Top};
use crate::process;
use crate::symbols::{Symboliser, Symbols};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// `tessera ps`.
pub fn ps(ask: &Ask) -> Result<u8> {
    let guest = find(ask.guest.as_deref())?;
    let (plan, state) = (guest.plan()?, guest.state()?);
    if ask.json {
        println!("{}", state_json(&guest, &plan, &state));
    } else {
        print!("{}", table(&rows(&plan, &state, None)));
    }
    Ok(0)
}

/// `tessera top`.
pub fn top(top: &Top) -> Result<u8> {
    let guest = find(top.ask.guest.as_deref())?;
    let plan = guest.plan()?;
    let mut before = guest.state()?;
    let terminal = Term::stdout();
    let mut shown = 0;
    while top.count.is_none_or(|count| shown < count) {
        let until = Instant::now() + Duration::from_secs(top.seconds);
        while Instant::now() < until && !process::interrupted() {
            thread::sleep(Duration::from_millis(20));
        }
        if process::interrupted() {
            return Ok(0);
        }
        let now = guest.state()?;
        if top.ask.json {
            println!("{}", state_json(&guest, &plan, &now));
        } else {
            if terminal.is_term() {
                // A terminal that cannot be cleared shows one table below the other.
                let _ = terminal.clear_screen();
            }
            let (quota, used) = now.memory;
            println!(
                "{} · up {} · memory {} of {} given out",
                plan.image,
                time(now.now),
                mebibytes(used),
                mebibytes(quota)
            );
            print!("{}", table(&rows(&plan, &now, Some(&before))));
        }
        before = now;
        shown += 1;
    }
    Ok(0)
}

/// `tessera kill`.
pub fn kill(name: &Name) -> Result<u8> {
    find(name.guest.as_deref())?.ask(&format!("kill {}", checked(&name.name)?)).map(|_| 0)
}

/// `tessera restart`.
pub fn restart(name: &Name) -> Result<u8> {
    find(name.guest.as_deref())?.ask(&format!("restart {}", checked(&name.name)?)).map(|_| 0)
}

/// A name that can stand in a question.
fn checked(name: &str) -> Result<&str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.bytes().all(allowed) && (1..=31).contains(&name.len()) {
        return Ok(name);
    }
    Err(miette!(help = "`./tessera ps` lists the domains and their components", "`{name}` is not a name"))
}

/// `tessera inspect`.
pub fn inspect(inspect: &Inspect) -> Result<u8> {
    let guest = find(inspect.ask.guest.as_deref())?;
    let (plan, state) = (guest.plan()?, guest.state()?);
    let named = |domain: &Domain| {
        inspect.name.as_ref().is_none_or(|name| {
            domain.name == *name || domain.components.iter().any(|component| component.name == *name)
        })
    };
    let chosen: Vec<usize> = (0..plan.domains.len()).filter(|index| named(&plan.domains[*index])).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = plan.domains.iter().map(|domain| domain.name.as_str()).collect();
        return Err(miette!(
            help = format!("there are: {}", names.join(", ")),
            "no domain and no component is called `{}`",
            inspect.name.as_deref().unwrap_or_default()
        ));
    }
    if inspect.ask.json {
        let domains: Vec<Value> =
            chosen.iter().filter_map(|index| Some(domain_json(&plan, *index, state.domains.get(*index)?))).collect();
        println!("{}", json!({ "image": plan.image, "domains": domains }));
        return Ok(0);
    }
    let mut symboliser = Symboliser::new(symbols(&guest));
    for index in chosen {
        let Some(domain_state) = state.domains.get(index) else { continue };
        print!("{}", describe(&plan, index, domain_state, &state, &mut symboliser));
    }
    Ok(0)
}

fn symbols(guest: &Guest) -> Symbols {
    fs::read(&guest.note.file).ok().and_then(|file| Symbols::recall(&file)).unwrap_or_default()
}

/// Rows of `ps` and `top`, the heading first. With `before`, the processor's share since then in place of its time.
fn rows(plan: &Plan, state: &State, before: Option<&State>) -> Vec<Vec<String>> {
    let processor = if before.is_some() { "CPU %" } else { "CPU" };
    let heading = ["DOMAIN", "STATE", "STARTS", "UP", processor, "MEMORY", "OF", "OBJECTS", "COMPONENTS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (index, (domain, now)) in plan.domains.iter().zip(&state.domains).enumerate() {
        let used = match before.and_then(|before| Some((before.now, before.domains.get(index)?))) {
            Some((then, earlier)) => {
                let span = state.now.saturating_sub(then).max(1);
                let used = now.time.saturating_sub(earlier.time);
                format!("{:.1}", used as f64 * 100.0 / span as f64)
            }
            None => time(now.time),
        };
        let components: Vec<&str> = domain.components.iter().map(|component| component.name.as_str()).collect();
        rows.push(vec![
            domain.name.clone(),
            phase(now.phase, state.now),
            now.starts.to_string(),
            if now.phase == Phase::Running { time(state.now.saturating_sub(now.started)) } else { "-".to_owned() },
            used,
            mebibytes(now.pages),
            mebibytes(domain.pages),
            now.objects.to_string(),
            components.join(" "),
        ]);
    }
    rows
}

/// Columns as wide as their widest text; numbers at the right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|text| text.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            2..=7 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// All that is known of a domain.
fn describe(
    plan: &Plan,
    index: usize,
    domain_state: &DomainState,
    state: &State,
    symboliser: &mut Symboliser,
) -> String {
    let domain = &plan.domains[index];
    let mut text = format!("{} {}\n", style("domain").dim(), style(&domain.name).bold());
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<10} {value}\n"));
    line("state", format!("{}, started {} times", phase(domain_state.phase, state.now), domain_state.starts));
    line("memory", format!("{} of {}", mebibytes(domain_state.pages), mebibytes(domain.pages)));
    let share = domain.share.map(|share| format!(", {} of every {}", time(share.amount), time(share.period)));
    line(
        "processor",
        format!("{}, priority {}{}", time(domain_state.time), domain.priority, share.unwrap_or_default()),
    );
    let essential = if domain.essential { ", essential" } else { "" };
    line("restart", format!("{}{essential}", restart_text(domain)));
    for component in &domain.components {
        text.push_str(&format!("  {} {}\n", style("component").dim(), component.name));
        for provision in &component.provisions {
            text.push_str(&format!("    provides {}: {}\n", provision.name, provision.interface));
        }
        for used in &component.uses {
            text.push_str(&format!(
                "    uses {}: {} of {}{}\n",
                used.name,
                used.interface,
                used.provider,
                over(plan, used)
            ));
        }
        for need in &component.needs {
            text.push_str(&format!("    holds {}\n", need_text(need)));
        }
    }
    let reports = state.reports.iter().filter(|report| usize::from(report.domain) == index);
    for report in reports {
        text.push_str(&format!("  life {} {}\n", report.life, ending_text(report)));
        if let Ending::Fault { instruction, .. } = report.ending {
            let mut shown = Vec::new();
            symboliser.pass(format!("  at {} {instruction:#x}\n", domain.name).as_bytes(), &mut shown);
            text.push_str(&String::from_utf8_lossy(&shown));
        }
    }
    text
}

fn over(plan: &Plan, used: &Use) -> String {
    match used.server {
        Server::Neighbour => " (a method call)".to_owned(),
        Server::Manager { .. } => String::new(),
        Server::Domain { domain, .. } => {
            let name = plan.domains.get(usize::from(domain)).map_or("?", |domain| domain.name.as_str());
            format!(" (in the domain {name})")
        }
    }
}

fn restart_text(domain: &Domain) -> &'static str {
    match domain.restart {
        tessera_plan::Restart::Always => "always",
        tessera_plan::Restart::OnFailure => "on failure",
        tessera_plan::Restart::Never => "never",
    }
}

fn need_text(need: &Need) -> String {
    match need {
        Need::Log => "the log".to_owned(),
        Need::Clock => "the clock".to_owned(),
        Need::Ports { name, first, count } => {
            let last = u32::from(*first) + u32::from(*count) - 1;
            format!("ports {first:#x} to {last:#x} ({name})")
        }
        Need::Interrupt { name, line } => format!("interrupt {line} ({name})"),
        Need::Memory { name, first, length } => format!("device memory {first:#x}, {length:#x} bytes ({name})"),
        Need::Authority { name, of } if name == of => format!("all {of}"),
        Need::Authority { name, of } => format!("all {of} ({name})"),
    }
}

fn ending_text(report: &Report) -> String {
    let at = time(report.at);
    match report.ending {
        Ending::Code(code) => format!("ended with code {code} at {at}"),
        Ending::Fault { kind, address, instruction } => {
            let kind = FaultKind::from_code(kind).map_or("a fault", FaultKind::text);
            format!("crashed at {at}: {kind}, address {address:#x}, instruction {instruction:#x}")
        }
        Ending::Killed => format!("was killed at {at}"),
        Ending::NotStarted(code) => format!("could not be started at {at}: error {code}"),
    }
}

fn phase(phase: Phase, now: u64) -> String {
    match phase {
        Phase::Running => "running".to_owned(),
        Phase::Waiting(at) => format!("starts in {}", time(at.saturating_sub(now))),
        Phase::Ended => "ended".to_owned(),
    }
}

/// Nanoseconds, for people.
fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000_000 => format!("{} us", nanoseconds / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", nanoseconds / 1_000_000),
        1_000_000_000..120_000_000_000 => format!("{:.1} s", nanoseconds as f64 / 1e9),
        _ => format!("{} min", nanoseconds / 60_000_000_000),
    }
}

fn mebibytes(pages: u64) -> String {
    format!("{:.1}M", (pages * PAGE) as f64 / f64::from(1 << 20))
}

fn state_json(guest: &Guest, plan: &Plan, state: &State) -> Value {
    let domains: Vec<Value> =
        state.domains.iter().enumerate().map(|(index, domain)| domain_json(plan, index, domain)).collect();
    let reports: Vec<Value> = state.reports.iter().map(|report| report_json(plan, report)).collect();
    json!({
        "guest": guest.id,
        "image": plan.image,
        "now_ns": state.now,
        "memory_pages": { "quota": state.memory.0, "used": state.memory.1 },
        "manager_time_ns": state.manager_time,
        "manager_objects": state.manager_objects,
        "domains": domains,
        "reports": reports,
    })
}

fn domain_json(plan: &Plan, index: usize, state: &DomainState) -> Value {
    let Some(domain) = plan.domains.get(index) else { return Value::Null };
    let components: Vec<Value> = domain
        .components
        .iter()
        .map(|component| {
            let uses: Vec<Value> = component
                .uses
                .iter()
                .map(|used| json!({ "name": used.name, "interface": used.interface, "provider": used.provider }))
                .collect();
            let provides: Vec<Value> = component
                .provisions
                .iter()
                .map(|provision| json!({ "name": provision.name, "interface": provision.interface }))
                .collect();
            let holds: Vec<String> = component.needs.iter().map(need_text).collect();
            json!({ "name": component.name, "provides": provides, "uses": uses, "holds": holds })
        })
        .collect();
    let (phase, starts_in) = match state.phase {
        Phase::Running => ("running", None),
        Phase::Waiting(at) => ("waiting", Some(at)),
        Phase::Ended => ("ended", None),
    };
    json!({
        "name": domain.name,
        "phase": phase,
        "starts_at_ns": starts_in,
        "starts": state.starts,
        "started_ns": state.started,
        "time_ns": state.time,
        "pages": state.pages,
        "pages_limit": domain.pages,
        "objects": state.objects,
        "priority": domain.priority,
        "restart": restart_text(domain),
        "essential": domain.essential,
        "components": components,
    })
}

fn report_json(plan: &Plan, report: &Report) -> Value {
    let ending = match report.ending {
        Ending::Code(code) => json!({ "code": code }),
        Ending::Fault { kind, address, instruction } => {
            json!({ "fault": kind, "address": address, "instruction": instruction })
        }
        Ending::Killed => json!("killed"),
        Ending::NotStarted(code) => json!({ "not_started": code }),
    };
    let domain = plan.domains.get(usize::from(report.domain)).map(|domain| domain.name.as_str());
    json!({ "domain": domain, "life": report.life, "at_ns": report.at, "ending": ending })
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
