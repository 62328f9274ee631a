//! `tessera bench`: measures the system and prints its figures beside its peers'.
//!
//! The guest of a benchmark prints lines `bench NAME VALUE UNIT`. It is booted twice: counting instructions, where
//! figures are exact and the peers' apply, and plain, where they are times. The peers' figures and the goals are data,
//! in `bench/*.toml`; nothing here knows a figure. One peer can be measured beside: Debian's kernel, on the same QEMU
//! ([`linux`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use console::style;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::{Deserialize, Serialize};

use crate::cli::{Bench, Benchmark};
use crate::image::{self, Description, Processors};
use crate::progress::Step;
use crate::qemu::{self, Boot, Ending, Engine};
use crate::symbols::Symbols;
use crate::workspace;

#[path = "bench_linux.rs"]
mod linux;
#[path = "bench_memory.rs"]
mod memory;
#[path = "bench_placement.rs"]
mod placement;
#[path = "bench_servers.rs"]
pub mod servers;
#[path = "bench_sqlite.rs"]
mod sqlite;
#[path = "bench_wire.rs"]
mod wire;

/// A guest that measures takes less than this, even counting.
const LIMIT: Duration = Duration::from_secs(180);

/// A disk that answers at once, so that a guest whose clock counts instructions does not wait for this machine: its clock would jump to the
/// next alarm. It stores nothing.
const INSTANT_DISK: [&str; 4] = [
    "-drive",
    "if=none,id=disk,driver=null-co,size=64M,read-zeroes=on",
    "-device",
    "virtio-blk-pci,drive=disk,disable-legacy=on,ioeventfd=off",
];

/// A file of peers and goals.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(rename = "row")]
    rows: Vec<Goal>,
}

/// One line of the table: what is measured, what others need for it, and what Tessera wants to need.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goal {
    name: String,
    about: String,
    #[serde(default)]
    peers: BTreeMap<String, f64>,
    goal: Option<f64>,
}

/// A figure that the guest printed.
#[derive(Debug, PartialEq)]
pub struct Figure {
    name: String,
    value: f64,
    unit: String,
}

/// What every benchmark answers with `--json`.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    emulator: String,
}

/// One figure beside its peers'. Lower is better.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    unit: String,
    tessera: f64,
    peers: BTreeMap<String, f64>,
    goal: Option<f64>,
    #[serde(skip)]
    about: String,
}

impl Row {
    fn reaches_goal(&self) -> Option<bool> {
        self.goal.map(|goal| self.tessera <= goal)
    }
}

/// Measures what `arguments` name. The exit code says whether it could be measured, not whether goals are reached.
pub fn bench(arguments: &Bench) -> Result<u8> {
    let what = arguments.what;
    if what == Benchmark::Placement {
        return placement::bench(arguments.json);
    }
    if arguments.peer && what.of_the_peer().is_none() {
        return Err(miette!(
            help = "leave `--peer` out; it goes with `net`, `block` and `linux`",
            "a Linux kernel does nothing that is the same as what this measures"
        ));
    }
    let table = read_table(&workspace::root().join(what.table()))?;
    let counted = what.measure(Engine::Counting)?;
    let timed = what.measure(Engine::Tcg)?;
    let mut rows = with_peers(&table, counted);
    let missing = not_measured(&table, &rows);
    rows.extend(plain(&table, timed));
    if (arguments.peer || what == Benchmark::Linux)
        && let Err(error) = measure_peer(what, &mut rows)
    {
        eprintln!("tessera: without the figures of Debian's kernel: {error:?}");
    }
    let report = Report { machine: this_machine(), rows };
    if arguments.what == Benchmark::Interface {
        crate::explain::record(&report)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).into_diagnostic()?);
    } else {
        print(&report);
    }
    for name in &missing {
        eprintln!("tessera: `{name}` is in the table of peers, but the guest did not measure it");
    }
    Ok(u8::from(!missing.is_empty()))
}

impl Benchmark {
    /// The file of peers and goals.
    fn table(self) -> &'static str {
        match self {
            Benchmark::Ipc => "bench/ipc.toml",
            Benchmark::Interface => "bench/interface.toml",
            Benchmark::Net => "bench/net.toml",
            Benchmark::Block => "bench/block.toml",
            Benchmark::Linux => "bench/linux.toml",
            Benchmark::Placement => placement::TABLE,
        }
    }

    /// What the measuring program of Linux calls it, if it can do the same.
    fn of_the_peer(self) -> Option<&'static str> {
        match self {
            Benchmark::Ipc | Benchmark::Interface | Benchmark::Placement => None,
            Benchmark::Net => Some("net"),
            Benchmark::Block => Some("block"),
            Benchmark::Linux => Some("calls"),
        }
    }

    /// The devices of the machine that is measured.
    fn devices(self) -> Vec<String> {
        let devices: &[&str] = if self == Benchmark::Block { &INSTANT_DISK } else { &[] };
        devices.iter().map(|argument| (*argument).to_owned()).collect()
    }

    /// Tessera's figures.
    fn measure(self, engine: Engine) -> Result<Vec<Figure>> {
        let image = match self {
            Benchmark::Ipc => "images/bench.toml",
            Benchmark::Interface => "images/bench-interface.toml",
            Benchmark::Net => "images/bench-net.toml",
            Benchmark::Block => "images/bench-block.toml",
            Benchmark::Placement => return Ok(Vec::new()),
            Benchmark::Linux => {
                let (boot, symbols) = linux::personality("calls", engine)?;
                return figures(&boot, symbols);
            }
        };
        let (boot, symbols) = guest(&Description::read(&workspace::root().join(image))?, self.devices(), engine)?;
        let mut measured = figures(&boot, symbols)?;
        if self == Benchmark::Net {
            measured.extend(wire::measure(engine)?);
        }
        Ok(measured)
    }
}

/// Measures Debian's kernel and puts its figures into the rows that have the same names.
fn measure_peer(what: Benchmark, rows: &mut [Row]) -> Result<()> {
    let Some(word) = what.of_the_peer() else { return Ok(()) };
    let peer = linux::Peer::prepare()?;
    for engine in [Engine::Counting, Engine::Tcg] {
        let mut measured = figures(&peer.boot(word, &what.devices(), engine), Symbols::default())?;
        if what == Benchmark::Net {
            measured.extend(wire::measure_peer(&peer, engine)?);
        }
        put_beside(rows, &peer.name, measured, engine == Engine::Counting);
    }
    Ok(())
}

/// Puts a measured peer's figures into the rows of the same run.
fn put_beside(rows: &mut [Row], peer: &str, measured: Vec<Figure>, counted: bool) {
    for figure in measured {
        let name = if counted { figure.name } else { plain_name(&figure.name) };
        if let Some(row) = rows.iter_mut().find(|row| row.name == name) {
            row.peers.insert(peer.to_owned(), figure.value);
        }
    }
}

fn read_table(path: &Path) -> Result<Table> {
    let text =
        fs::read_to_string(path).into_diagnostic().wrap_err_with(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).into_diagnostic().wrap_err_with(|| format!("{} is not a table of peers", path.display()))
}

/// The machine of an image, built.
fn guest(description: &Description, devices: Vec<String>, engine: Engine) -> Result<(Boot, Symbols)> {
    let (image, symbols) = image::build_to_target(description)?;
    let boot = Boot {
        image,
        machine: description.machine(),
        memory: description.memory(),
        processors: Processors::default(),
        engine,
        limit: Some(LIMIT),
        words: Vec::new(),
        devices,
        keys_go_to_the_guest: false,
    };
    Ok((boot, symbols))
}

/// What a guest prints until it ends.
fn figures(boot: &Boot, symbols: Symbols) -> Result<Vec<Figure>> {
    let mut step = Step::start("measuring");
    step.note(if boot.engine == Engine::Counting { "counting instructions" } else { "plain" });
    let mut console = Vec::new();
    let ending = boot.run(symbols, false, &mut console)?;
    let console = String::from_utf8_lossy(&console).into_owned();
    if ending != Ending::Guest(0) {
        return Err(miette!(help = console, "the measuring guest ended with {ending}, not with exit code 0"));
    }
    let figures: Vec<Figure> = console.lines().filter_map(figure).collect();
    if figures.is_empty() {
        return Err(miette!(help = console, "the measuring guest printed no line `bench NAME VALUE UNIT`"));
    }
    Ok(figures)
}

/// Reads a line `bench NAME VALUE UNIT`.
fn figure(line: &str) -> Option<Figure> {
    let mut words = line.strip_prefix("bench ")?.split_whitespace();
    let figure =
        Figure { name: words.next()?.to_owned(), value: words.next()?.parse().ok()?, unit: words.next()?.to_owned() };
    words.next().is_none().then_some(figure)
}

/// Puts each counted figure beside its peers.
fn with_peers(table: &Table, figures: Vec<Figure>) -> Vec<Row> {
    figures.into_iter().map(|figure| row(table, figure, true)).collect()
}

/// The lines of the table that were not measured. That is an error: a goal must not get lost.
fn not_measured<'a>(table: &'a Table, rows: &[Row]) -> Vec<&'a str> {
    let names = table.rows.iter().map(|goal| goal.name.as_str());
    names.filter(|name| !rows.iter().any(|row| row.name == *name)).collect()
}

/// The figures of the plain run, which are times: the peers' do not apply.
fn plain(table: &Table, figures: Vec<Figure>) -> Vec<Row> {
    let renamed = figures.into_iter().map(|figure| row(table, figure, false));
    renamed.map(|row| Row { name: plain_name(&row.name), ..row }).collect()
}

fn plain_name(name: &str) -> String {
    format!("{name}-plain")
}

fn row(table: &Table, figure: Figure, counted: bool) -> Row {
    let goal = table.rows.iter().find(|goal| goal.name == figure.name);
    let beside = goal.filter(|_| counted);
    Row {
        peers: beside.map(|goal| goal.peers.clone()).unwrap_or_default(),
        goal: beside.and_then(|goal| goal.goal),
        about: goal.map(|goal| goal.about.clone()).unwrap_or_default(),
        name: figure.name,
        // When QEMU counts, a tick of the guest's clock is one instruction.
        unit: if counted && figure.unit == "ticks" { "instructions".to_owned() } else { figure.unit },
        tessera: figure.value,
    }
}

fn this_machine() -> Machine {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let version = qemu::emulator().and_then(|path| Command::new(path).arg("--version").output().ok());
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let unknown = || "unknown".to_owned();
    Machine {
        processor: model.map_or_else(unknown, |(_, name)| name.trim().to_owned()),
        emulator: version.lines().next().map_or_else(unknown, str::to_owned),
    }
}

fn print(report: &Report) {
    println!("{}; {}", report.machine.processor, report.machine.emulator);
    println!("\n{:<30} {:>12} {:<14} {:>9}  peers", "", "Tessera", "unit", "goal");
    for row in &report.rows {
        let goal = row.goal.map_or_else(String::new, |goal| goal.to_string());
        let peers: Vec<String> = row.peers.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let tessera = format!("{:>12}", row.tessera);
        let tessera = match row.reaches_goal() {
            Some(true) => style(tessera).green(),
            Some(false) => style(tessera).red(),
            None => style(tessera),
        };
        println!("{:<30} {tessera} {:<14} {goal:>9}  {}", row.name, row.unit, peers.join(", "));
    }
    let told: Vec<&Row> = report.rows.iter().filter(|row| row.goal.is_some()).collect();
    let missed: Vec<&&Row> = told.iter().filter(|row| row.reaches_goal() == Some(false)).collect();
    println!("\n{} of {} goals reached", told.len() - missed.len(), told.len());
    for row in missed {
        println!("  missed: {} ({})", row.name, row.about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        toml::from_str("[[row]]\nname = \"call\"\nabout = \"a call\"\npeers = { seL4 = 416 }\ngoal = 400\n").unwrap()
    }

    fn call(value: f64) -> Figure {
        Figure { name: "call".into(), value, unit: "ticks".into() }
    }

    #[test]
    fn only_whole_bench_lines_are_figures() {
        assert_eq!(figure("bench call 398 ticks"), Some(call(398.0)));
        assert_eq!(figure("bench call 398"), None);
        assert_eq!(figure("bench call many ticks"), None);
        assert_eq!(figure("bench call 398 ticks more"), None);
        assert_eq!(figure("benchmark call 398 ticks"), None);
    }

    #[test]
    fn a_goal_that_is_not_measured_is_told() {
        let other = Figure { name: "other".into(), value: 1.0, unit: "x".into() };
        assert_eq!(not_measured(&table(), &with_peers(&table(), vec![other])), ["call"]);
        assert!(not_measured(&table(), &with_peers(&table(), vec![call(398.0)])).is_empty());
    }

    #[test]
    fn the_peers_of_instructions_are_not_those_of_times() {
        let rows = with_peers(&table(), vec![call(398.0)]);
        assert_eq!(rows[0].peers["seL4"], 416.0);
        assert_eq!(rows[0].reaches_goal(), Some(true));
        assert_eq!(with_peers(&table(), vec![call(401.0)])[0].reaches_goal(), Some(false));
        let timed = plain(&table(), vec![call(2100.0)]);
        assert_eq!((timed[0].name.as_str(), timed[0].unit.as_str(), timed[0].goal), ("call-plain", "ticks", None));
        assert!(timed[0].peers.is_empty());
    }

    #[test]
    fn a_measured_peer_stands_beside_the_figures_of_the_same_run() {
        let mut rows = with_peers(&table(), vec![call(398.0)]);
        rows.extend(plain(&table(), vec![call(2100.0)]));
        put_beside(&mut rows, "other", vec![call(500.0)], true);
        put_beside(&mut rows, "other", vec![call(3000.0)], false);
        assert_eq!((rows[0].peers["other"], rows[0].peers["seL4"]), (500.0, 416.0));
        assert_eq!(rows[1].peers["other"], 3000.0);
    }

    #[test]
    fn the_json_has_the_shape_of_every_benchmark() {
        let report = Report { machine: this_machine(), rows: with_peers(&table(), vec![call(398.0)]) };
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["machine"].is_object());
        let row = serde_json::json!({
            "name": "call", "unit": "instructions", "tessera": 398.0, "peers": { "seL4": 416.0 }, "goal": 400.0,
        });
        assert_eq!(json["rows"], serde_json::json!([row]));
    }

    #[test]
    fn the_tables_in_the_checkout_are_valid() {
        for file in ["ipc", "interface", "net", "block", "linux"].map(|name| format!("bench/{name}.toml")) {
            let table = read_table(&workspace::root().join(file)).unwrap();
            assert!(table.rows.iter().all(|row| !row.about.is_empty()));
        }
    }
}
