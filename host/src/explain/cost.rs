//! What crossings cost: from the last run of `./tessera bench interface` on this machine. No figure comes from anywhere else.

use std::fs;
use std::path::PathBuf;

use miette::{IntoDiagnostic, Result};
use serde::{Deserialize, Serialize};

use super::model::Crossing;
use crate::workspace;

/// The rows of the benchmark that are read: two numbers in, one out.
const CALL: &str = "local-2-words";
const IPC: &str = "remote-2-words";

/// Measured costs, in guest instructions.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    pub call: f64,
    pub ipc: f64,
    /// When and on what they were measured.
    pub origin: String,
}

/// What a benchmark leaves.
#[derive(Deserialize, Serialize)]
struct Recorded {
    /// Days of 1970 on, as a date.
    date: String,
    report: Report,
}

#[derive(Deserialize, Serialize)]
struct Report {
    machine: serde_json::Value,
    rows: Vec<Row>,
}

#[derive(Deserialize, Serialize)]
struct Row {
    name: String,
    unit: String,
    tessera: f64,
}

fn file() -> PathBuf {
    workspace::target().join("tessera/bench/interface.json")
}

impl Costs {
    /// Those of the last run; nothing if there was none.
    pub fn recorded() -> Option<Self> {
        Self::of(&fs::read(file()).ok()?)
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let recorded: Recorded = serde_json::from_slice(bytes).ok()?;
        let row = |name: &str| {
            let row = recorded.report.rows.iter().find(|row| row.name == name && row.unit == "instructions");
            row.map(|row| row.tessera)
        };
        let emulator =
            recorded.report.machine.get("emulator").and_then(|text| text.as_str()).unwrap_or("an unknown emulator");
        let origin = format!("`./tessera bench interface` of {} on this machine, {emulator}", recorded.date);
        Some(Self { call: row(CALL)?, ipc: row(IPC)?, origin })
    }

    /// What a crossing costs, there and back.
    pub fn of_crossing(&self, crossing: Crossing) -> f64 {
        match crossing {
            Crossing::Call => self.call,
            Crossing::Ipc => self.ipc,
        }
    }
}

/// Keeps what `bench interface` measured.
pub fn record(report: &impl Serialize) -> Result<()> {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let recorded = serde_json::json!({ "date": date(seconds), "report": report });
    crate::image::write(&file(), &serde_json::to_vec_pretty(&recorded).into_diagnostic()?)
}

/// Seconds of 1970 on as a date (Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_those_that_were_measured_or_none() {
        let row =
            |name: &str, unit: &str, value: f64| serde_json::json!({ "name": name, "unit": unit, "tessera": value });
        let of = |rows: Vec<serde_json::Value>| {
            let report = serde_json::json!({ "machine": { "emulator": "QEMU" }, "rows": rows });
            Costs::of(serde_json::json!({ "date": "2026-11-26", "report": report }).to_string().as_bytes())
        };
        let costs = of(vec![row(CALL, "instructions", 4.0), row(IPC, "instructions", 560.0)]).unwrap();
        assert_eq!([Crossing::Call, Crossing::Ipc].map(|crossing| costs.of_crossing(crossing)), [4.0, 560.0]);
        assert!(costs.origin.contains("2026-11-26") && costs.origin.contains("QEMU"));
        assert_eq!(of(vec![row(CALL, "instructions", 4.0)]), None);
        assert_eq!(of(vec![row(CALL, "ns", 4.0), row(IPC, "ns", 560.0)]), None);
        assert_eq!(Costs::of(b"{}"), None);
    }

    #[test]
    fn dates_are_right() {
        assert_eq!([0, 951_782_400, 1_795_651_200].map(date), ["1970-01-01", "2000-02-29", "2026-11-26"]);
    }
}
