//! Keeps a table in SQLite: in the file that is the first argument, or in memory.

use std::thread;

use rusqlite::{Connection, Result};

/// Readings of a day, by the minute.
const READINGS: i64 = 1440;
const STATIONS: [&str; 4] = ["Berlin", "Brocken", "Helgoland", "Zugspitze"];

fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| ":memory:".to_owned());
    let mut connection = Connection::open(&path)?;
    println!("SQLite {} in {path}", rusqlite::version());
    fill(&mut connection)?;
    ask(&connection)?;
    undo(&mut connection)?;
    if path != ":memory:" {
        drop(connection);
        connection = from_many_threads(&path)?;
    }
    let state: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
    let readings = count(&connection)?;
    println!("{readings} readings, integrity: {state}");
    Ok(())
}

fn fill(connection: &mut Connection) -> Result<()> {
    connection.execute_batch(
        "CREATE TABLE reading (station TEXT NOT NULL, minute INTEGER NOT NULL, degrees REAL NOT NULL);
         CREATE INDEX by_station ON reading (station, minute);
         CREATE VIRTUAL TABLE remark USING fts5 (text);",
    )?;
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare("INSERT INTO reading VALUES (?1, ?2, ?3)")?;
        for (index, station) in STATIONS.iter().enumerate() {
            for minute in 0..READINGS {
                let degrees = 15.0 - 4.0 * index as f64 + (minute % 60) as f64 / 60.0;
                insert.execute((station, minute, degrees))?;
            }
        }
    }
    transaction.execute("INSERT INTO remark VALUES ('fog at noon'), ('a storm at night')", ())?;
    transaction.commit()
}

fn ask(connection: &Connection) -> Result<()> {
    let mut means = connection.prepare("SELECT station, avg(degrees) FROM reading GROUP BY station ORDER BY 2 DESC")?;
    for mean in means.query_map((), |row| Ok((row.get::<_, String>(0)?, row.get::<_, f64>(1)?)))? {
        let (station, degrees) = mean?;
        println!("{station:10} {degrees:6.2}");
    }
    let remark: String =
        connection
            .query_row("SELECT text FROM remark WHERE remark MATCH 'storm' ORDER BY rank", (), |row| row.get(0))?;
    let local: String =
        connection.query_row("SELECT datetime(86400, 'unixepoch', 'localtime')", (), |row| row.get(0))?;
    println!("{remark}; {} letters in a date", local.len());
    Ok(())
}

/// What is not committed has not happened.
fn undo(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute("DELETE FROM reading", ())?;
    assert_eq!(count(&transaction)?, 0);
    transaction.rollback()
}

/// Each thread opens the file for itself and deletes the readings of one station, waiting for the others.
fn from_many_threads(path: &str) -> Result<Connection> {
    let delete = |station: &str| -> Result<usize> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(20))?;
        connection.execute("DELETE FROM reading WHERE station = ?1 AND minute % 2 = 1", (station,))
    };
    thread::scope(|scope| {
        let deleting: Vec<_> = STATIONS.iter().map(|station| scope.spawn(move || delete(station))).collect();
        for thread in deleting {
            assert_eq!(thread.join().expect("it does not panic")?, READINGS as usize / 2);
        }
        Connection::open(path)
    })
}

fn count(connection: &Connection) -> Result<i64> {
    connection.query_row("SELECT count(*) FROM reading", (), |row| row.get(0))
}
