//! `tessera bench placement`: what the same program costs in each placement, beside a Linux guest.
//!
//! The program (`bench/linux/calls.c`) is compiled once and booted as a container in each placement, counting instructions and plain. Servers, sqlite
//! and the smallest memory are measured beside it, each in a file of its own.
//! Linux's figures and the goals are data, in `bench/placement.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;
use console::style;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::{Deserialize, Serialize};

use super::linux::Peer;
use super::memory::{self, Nginx};
use super::servers::{How, SERVERS};
use super::sqlite::Sqlite;
use super::{Figure, LIMIT, Machine, figure, plain_name, this_machine};
use crate::container::{self, Overrides, Source, launch};
use crate::image::{MachineKind, Placement, Processors};
use crate::progress::Step;
use crate::qemu::{Boot, Ending, Engine};
use crate::workspace;

const PROGRAM: &str = "bench/linux/calls.c";
pub const TABLE: &str = "bench/placement.toml";
/// What is not counted by the program: bytes of the system's image without the container's files.
const IMAGE: &str = "image-size";

/// The peers' figures and the goals.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// What the peers' figures were measured on.
    peers: String,
    #[serde(rename = "row")]
    rows: Vec<Known>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    name: String,
    about: String,
    /// Linux's figure, in instructions or the row's own unit.
    linux: Option<f64>,
    #[serde(default)]
    higher_is_better: bool,
    /// What a placement is to reach, in the same.
    #[serde(default)]
    goals: BTreeMap<String, f64>,
}

/// One line: a figure for each placement.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    unit: String,
    placements: BTreeMap<&'static str, f64>,
    linux: Option<f64>,
    goals: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    higher_is_better: bool,
}

impl Row {
    fn reaches(&self, value: f64, goal: f64) -> bool {
        if self.higher_is_better { value >= goal } else { value <= goal }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    rows: Vec<Row>,
}

/// Measures all placements and prints the table. The exit code says whether it could be measured.
pub fn bench(json: bool) -> Result<u8> {
    let table = read_table()?;
    let folder = tempfile::tempdir().into_diagnostic()?;
    let program = folder.path().join("calls");
    compile(PROGRAM, &program)?;
    let (sqlite, nginx) = (Sqlite::compile()?, Nginx::prepare()?);
    let source = Source::of(&program.display().to_string())?;
    let (mut counted, mut plain) = (Vec::new(), Vec::new());
    for placement in Placement::value_variants() {
        let overrides = Overrides::default();
        let (mut figures, size) = measure(&source, &overrides, *placement, Engine::Counting)?;
        figures.push(Figure { name: IMAGE.to_owned(), value: size, unit: "bytes".to_owned() });
        let (mut times, _) = measure(&source, &overrides, *placement, Engine::Tcg)?;
        for server in &SERVERS {
            let (of_counted, of_plain) = both(|how| server.measure(*placement, how))?;
            figures.extend(of_counted);
            times.extend(of_plain);
        }
        figures.extend(sqlite.measure(*placement, Engine::Counting)?);
        times.extend(sqlite.measure(*placement, Engine::Tcg)?);
        figures.extend([memory::hello(*placement)?, nginx.measure(*placement)?]);
        counted.push((*placement, figures));
        plain.push((*placement, times));
    }
    let on_linux = measure_peer(&sqlite, &nginx).unwrap_or_else(|error| {
        eprintln!("tessera: without new figures of Debian's kernel: {error:?}");
        Vec::new()
    });
    let known = |name: &str| table.rows.iter().find(|row| row.name == name);
    let mut rows = rows(&counted, "instructions", known);
    rows.extend(self::rows(&plain, "ticks", |name| known(name).filter(|row| row.higher_is_better)).into_iter().map(
        |row| match row {
            // What is counted by the clock alone needs no other name.
            row if row.unit != "ticks" => row,
            row => Row { name: plain_name(&row.name), ..row },
        },
    ));
    let missing: Vec<&str> = table.rows.iter().map(|known| known.name.as_str()).collect();
    let missing: Vec<&str> = missing.into_iter().filter(|name| !rows.iter().any(|row| row.name == *name)).collect();
    for figure in on_linux {
        if let Some(row) = rows.iter_mut().find(|row| row.name == figure.name) {
            row.linux = Some(figure.value);
        }
    }
    let report = Report { machine: this_machine(), rows };
    if json {
        println!("{}", serde_json::to_string_pretty(&report).into_diagnostic()?);
    } else {
        print(&report, &table);
    }
    for name in &missing {
        eprintln!("tessera: `{name}` is in {TABLE}, but was not measured");
    }
    Ok(u8::from(!missing.is_empty()))
}

/// Figures that are counted, and those of the clock, on one processor and on two.
fn both(measure: impl Fn(How) -> Result<Vec<Figure>>) -> Result<(Vec<Figure>, Vec<Figure>)> {
    let counted = measure(How::Counted)?;
    let mut plain = measure(How::Plain { processors: Processors::default() })?;
    let two = "2".parse().map_err(|error: String| miette!(error))?;
    plain.extend(measure(How::Plain { processors: two })?);
    Ok((counted, plain))
}

/// The servers' and sqlite's figures on Debian's kernel.
fn measure_peer(sqlite: &Sqlite, nginx: &Nginx) -> Result<Vec<Figure>> {
    let peer = Peer::prepare()?;
    let mut figures = Vec::new();
    for server in &SERVERS {
        let (counted, plain) = both(|how| server.measure_peer(&peer, how))?;
        figures.extend(counted);
        figures.extend(plain);
    }
    figures.extend(sqlite.measure_peer(&peer, Engine::Counting)?);
    let times = sqlite.measure_peer(&peer, Engine::Tcg)?;
    figures.extend(times.into_iter().map(|time| Figure { name: plain_name(&time.name), ..time }));
    figures.push(nginx.measure_peer(&peer)?);
    Ok(figures)
}

fn read_table() -> Result<Table> {
    let path = workspace::root().join(TABLE);
    let text =
        fs::read_to_string(&path).into_diagnostic().wrap_err_with(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).into_diagnostic().wrap_err_with(|| format!("{TABLE} is not a table of peers"))
}

/// Compiles a measuring program, from its source in the checkout.
pub fn compile(source: &str, program: &Path) -> Result<()> {
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-static", "-o"]).arg(program).arg(workspace::root().join(source));
    let output = compiler.output().into_diagnostic().wrap_err("cannot start the C compiler `cc`")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(miette!(help = said, "the C compiler here makes no static program of {source}"));
    }
    Ok(())
}

/// Boots a measuring program; answers its figures, and the size of the image without the container's files.
pub fn measure(
    source: &Source,
    overrides: &Overrides,
    placement: Placement,
    engine: Engine,
) -> Result<(Vec<Figure>, f64)> {
    let system = launch::system(None, Some(placement))?;
    let container = container::prepare(source, overrides, &system, None)?;
    let size = fs::metadata(&container.image).into_diagnostic()?.len().saturating_sub(container.root);
    let mut step = Step::start("measuring");
    step.note(placement.word());
    let boot = Boot {
        image: container.image,
        machine: MachineKind::Q35,
        memory: container.memory,
        processors: Processors::default(),
        engine,
        limit: Some(LIMIT),
        words: Vec::new(),
        devices: launch::devices(MachineKind::Q35, &container.system, &[], &[])?,
        keys_go_to_the_guest: false,
    };
    let mut console = Vec::new();
    let ending = boot.run(container.symbols, false, &mut console)?;
    let console = String::from_utf8_lossy(&console).into_owned();
    if ending != Ending::Guest(0) {
        return Err(miette!(help = console, "as {}, the measuring program ended with {ending}", placement.word()));
    }
    Ok((console.lines().filter_map(figure).collect(), size as f64))
}

/// One row for each name, in the order of the first placement's figures.
fn rows<'a>(measured: &[(Placement, Vec<Figure>)], tick: &str, known: impl Fn(&str) -> Option<&'a Known>) -> Vec<Row> {
    let Some((_, first)) = measured.first() else { return Vec::new() };
    let of = |figure: &Figure| {
        let found = measured.iter().filter_map(|(placement, figures)| {
            Some((placement.word(), figures.iter().find(|other| other.name == figure.name)?.value))
        });
        let known = known(&figure.name);
        Row {
            name: figure.name.clone(),
            unit: if figure.unit == "ticks" { tick.to_owned() } else { figure.unit.clone() },
            placements: found.collect(),
            linux: known.and_then(|known| known.linux),
            goals: known.map(|known| known.goals.clone()).unwrap_or_default(),
            higher_is_better: known.is_some_and(|known| known.higher_is_better),
        }
    };
    first.iter().map(of).collect()
}

fn print(report: &Report, table: &Table) {
    println!("{}; {}", report.machine.processor, report.machine.emulator);
    println!("Linux: {}", table.peers);
    print!("\n{:<24}", "");
    let placements = Placement::value_variants().iter().map(|placement| placement.word());
    for word in placements.clone().chain(["Linux"]) {
        print!(" {word:>13}");
    }
    println!("  unit");
    let (mut reached, mut goals) = (0, 0);
    for row in &report.rows {
        print!("{:<24}", row.name);
        for word in placements.clone() {
            let value = row.placements.get(word).copied();
            let text = format!(" {:>13}", value.map_or_else(String::new, |value| value.to_string()));
            let goal = row.goals.get(word).zip(value).map(|(goal, value)| row.reaches(value, *goal));
            goals += usize::from(goal.is_some());
            reached += usize::from(goal == Some(true));
            print!(
                "{}",
                match goal {
                    Some(true) => style(text).green(),
                    Some(false) => style(text).red(),
                    None => style(text),
                }
            );
        }
        println!(" {:>13}  {}", row.linux.map_or_else(String::new, |linux| linux.to_string()), row.unit);
    }
    println!("\n{reached} of {goals} goals reached");
    for row in &report.rows {
        for (word, goal) in &row.goals {
            let about = table.rows.iter().find(|known| known.name == row.name).map_or("", |known| &known.about);
            if row.placements.get(word.as_str()).is_some_and(|value| !row.reaches(*value, *goal)) {
                println!("  missed: {} as {word} ({about}): goal {goal}", row.name);
            }
        }
    }
    println!(
        "\nUnder this emulation every load of the page tables' root empties the translator's own table, so that plain figures\n\
         of `isolated` and `libos` tell more of the emulator than of processors. Instructions are the same everywhere."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_checkout_is_valid_and_its_goals_are_of_placements() {
        let table = read_table().unwrap();
        let words: Vec<&str> = Placement::value_variants().iter().map(|placement| placement.word()).collect();
        for row in &table.rows {
            assert!(!row.about.is_empty());
            assert!(row.goals.keys().all(|word| words.contains(&word.as_str())), "{}", row.name);
        }
    }

    #[test]
    fn a_row_has_a_figure_of_each_placement() {
        let figures = |value| vec![Figure { name: "getppid".into(), value, unit: "ticks".into() }];
        let measured = [(Placement::Isolated, figures(3.0)), (Placement::Unikernel, figures(1.0))];
        let rows = rows(&measured, "instructions", |_| None);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].placements, BTreeMap::from([("isolated", 3.0), ("unikernel", 1.0)]));
        assert_eq!(rows[0].unit, "instructions");
    }
}
