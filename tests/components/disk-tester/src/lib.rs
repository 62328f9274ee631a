//! Tests a disk from inside an image: threads write and read back what they wrote, while the driver is killed again and again, and then the bus.
//!
//! Its last line is `N passed, N failed`, and its exit code says the same.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tessera_block_retry::Retried;
use tessera_interfaces::{Block, DomainPhase, DomainReport, Supervisor};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::park;
use tessera_runtime::{exit, log, own, thread};

/// What the component uses, by the names in its component.toml.
pub struct Uses {
    /// The disk.
    pub block: Route<dyn Block>,
    /// Who kills its driver.
    pub supervisor: Route<dyn Supervisor>,
}

/// The component.
#[derive(Debug)]
pub struct DiskTester;

/// The driver's domain.
const DRIVER: &str = "virtio-blk";
/// How long something may take, in nanoseconds.
const PATIENCE: u64 = 30_000_000_000;
/// Starts whose memory all later ones are held against.
const MEASURED: u32 = 16;
/// Threads, each with blocks of its own.
const THREADS: u64 = 3;
/// Blocks of a thread.
const BLOCKS: u64 = 512;

impl DiskTester {
    /// Constructs it; the tests run in a thread.
    pub fn new(context: Context, uses: Uses) -> Result<Arc<DiskTester>, StartError> {
        let kills = context.parsed("kills", 100)?;
        let bus = String::from(context.argument("bus").unwrap_or("pci"));
        thread::spawn(move || {
            let (name, outcome) = match context.argument("held") {
                None => {
                    let told = |done| format!("{done} requests, {kills} kills");
                    ("the-disk-goes-on-while-its-driver-is-killed", run(&uses, &bus, kills).map(told))
                }
                Some(_) => ("memory-that-a-device-reaches-is-held-until-its-reset", held(&uses, &bus)),
            };
            match &outcome {
                Ok(told) => {
                    log!("test {name} ... ok");
                    log!("{told}");
                }
                Err(why) => log!("test {name} ... FAILED: {why}"),
            }
            let failed = u64::from(outcome.is_err());
            log!("{} passed, {failed} failed", 1 - failed);
            exit(failed)
        })?;
        Ok(Arc::new(DiskTester))
    }
}

fn now() -> u64 {
    own::clock().now().unwrap_or(0)
}

fn pause(nanoseconds: u64) {
    let _ = park(Some(now() + nanoseconds));
}

fn report(uses: &Uses, name: &str) -> Result<DomainReport, String> {
    uses.supervisor.cap.report(name).map_err(|error| format!("no report on {name}: {error:?}"))
}

/// Waits until the driver has been started `starts` times and runs.
fn wait_for_start(uses: &Uses, starts: u32) -> Result<(), String> {
    let end = now() + PATIENCE;
    loop {
        let report = report(uses, DRIVER)?;
        if report.starts >= starts && report.phase == DomainPhase::Running {
            return Ok(());
        }
        if now() > end {
            return Err(format!("the driver was not started again: {report:?}"));
        }
        pause(1_000_000);
    }
}

/// Waits until a domain uses no more than it did. Which of its threads has served a long request, and keeps memory for the next
/// one, is chance: what leaks with each kill is told from that by its amount.
fn settles(uses: &Uses, name: &str, before: DomainReport, kills: u32) -> Result<(), String> {
    let end = now() + PATIENCE;
    loop {
        let report = report(uses, name)?;
        if report.pages < before.pages + u64::from(kills) && report.objects <= before.objects {
            return Ok(());
        }
        if now() > end {
            return Err(format!("{name} leaks: {before:?} became {report:?}"));
        }
        pause(5_000_000);
    }
}

/// Writes and reads blocks of its own until told to stop, at sizes that differ; then looks at all of them once more.
fn work(block: &dyn Block, number: u64, stop: &AtomicBool, done: &AtomicU64) -> Result<(), String> {
    let first = number * BLOCKS;
    let mut wrote = vec![0_u64; BLOCKS as usize];
    let mut round = 1_u64;
    let told = |what: &str, error| format!("thread {number}: {what}: {error:?}");
    let content = |block: u64, round: u64| -> Vec<u8> {
        (0..512_u64).map(|at| ((block * 512 + at + round).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    };
    while !stop.load(Ordering::Relaxed) {
        let start = (round * 7) % BLOCKS;
        let count = [1, 8, 200][(round % 3) as usize].min(BLOCKS - start);
        let wanted: Vec<u8> = (start..start + count).flat_map(|at| content(first + at, round)).collect();
        block.write(first + start, &wanted).map_err(|error| told("cannot write", error))?;
        let mut back = vec![0; wanted.len()];
        block.read(first + start, &mut back).map_err(|error| told("cannot read", error))?;
        if back != wanted {
            return Err(format!("thread {number}: {count} blocks at {start} were not read as they were written"));
        }
        for wrote in &mut wrote[start as usize..(start + count) as usize] {
            *wrote = round;
        }
        if round.is_multiple_of(16) {
            block.flush().map_err(|error| told("cannot flush", error))?;
        }
        round += 1;
        done.fetch_add(2, Ordering::Relaxed);
    }
    let mut back = vec![0; 512];
    for (at, round) in (0..).zip(&wrote).filter(|(_, round)| **round > 0) {
        block.read(first + at, &mut back).map_err(|error| told("cannot read", error))?;
        if back != content(first + at, *round) {
            return Err(format!("thread {number}: block {at} lost what was written to it"));
        }
    }
    Ok(())
}

/// Kills the bus: it stops the disk, whose driver then begins anew too. Every other time the driver is killed at the same moment: what the disk reaches then is
/// held by the manager alone.
fn kill_the_bus(uses: &Uses, bus: &str, done: &AtomicU64) -> Result<(), String> {
    for round in 0..6 {
        let starts = report(uses, DRIVER)?.starts;
        if round % 2 == 1 {
            uses.supervisor.cap.kill(DRIVER).map_err(|error| format!("cannot kill: {error:?}"))?;
        }
        uses.supervisor.cap.kill(bus).map_err(|error| format!("cannot kill the bus: {error:?}"))?;
        wait_for_start(uses, starts + 1)?;
        let (before, end) = (done.load(Ordering::Relaxed), now() + PATIENCE);
        while done.load(Ordering::Relaxed) < before + 10 {
            if now() > end {
                return Err(String::from("nothing is done after the bus was killed"));
            }
            pause(100_000);
        }
    }
    Ok(())
}

/// Waits until a report is as it should be.
fn wait_until(uses: &Uses, name: &str, what: &str, is: impl Fn(&DomainReport) -> bool) -> Result<DomainReport, String> {
    let end = now() + PATIENCE;
    loop {
        let report = report(uses, name)?;
        if is(&report) {
            return Ok(report);
        }
        if now() > end {
            return Err(format!("{name}: {what}: {report:?}"));
        }
        pause(1_000_000);
    }
}

/// Kills the driver and the bus, which stay dead: the memory that the disk reaches stays charged to the bus, and is held by the manager alone, until the next bus has reset
/// the disk. Then all of it is given back, and the disk works with its next driver.
fn held(uses: &Uses, bus: &str) -> Result<String, String> {
    /// Pages of the slots for requests (`virtio-blk`, engine.rs), which the disk reaches.
    const REACHED: u64 = 129;
    let told = |error| format!("the disk: {error:?}");
    let wanted = vec![7; 512];
    uses.block.cap.write(3, &wanted).map_err(told)?;
    let (manager, driver, healthy) = (report(uses, "manager")?, report(uses, DRIVER)?, report(uses, bus)?);
    let mut most = 0;
    for round in 0..5 {
        for name in [DRIVER, bus] {
            uses.supervisor.cap.kill(name).map_err(|error| format!("cannot kill {name}: {error:?}"))?;
        }
        for name in [DRIVER, bus] {
            wait_until(uses, name, "it did not end", |report| report.phase == DomainPhase::Ended)?;
        }
        // All else that the two had is given back at their end; this is not, however long nobody resets the disk.
        pause(200_000_000);
        let dead = report(uses, bus)?;
        if !(REACHED..healthy.pages).contains(&dead.pages) {
            return Err(format!(
                "round {round}: the dead bus is charged for {} pages, of {}",
                dead.pages, healthy.pages
            ));
        }
        most = most.max(dead.pages);
        let restart = |name| uses.supervisor.cap.restart(name).map_err(|error| format!("{name}: {error:?}"));
        restart(bus)?;
        let alone = healthy.pages.saturating_sub(REACHED);
        wait_until(uses, bus, "the disk's memory is not given back", |report| {
            report.starts == healthy.starts + round + 1 && report.pages <= alone
        })?;
        restart(DRIVER)?;
        wait_for_start(uses, driver.starts + round + 1)?;
        let mut read = vec![0; 512];
        uses.block.cap.read(3, &mut read).map_err(told)?;
        if read != wanted {
            return Err(format!("round {round}: the disk lost what it held"));
        }
    }
    settles(uses, "manager", manager, 1)?;
    settles(uses, DRIVER, driver, 8)?;
    settles(uses, bus, healthy, 1)?;
    Ok(format!("{most} pages were held for the disk each time"))
}

fn run(uses: &Uses, bus: &str, kills: u32) -> Result<u64, String> {
    let block = Arc::new(Retried::new(uses.block.cap.clone()));
    let geometry = block.geometry().map_err(|error| format!("no geometry: {error:?}"))?;
    if !uses.block.cap.is_remote() || geometry.blocks < THREADS * BLOCKS {
        return Err(format!("this is not the disk that was meant: {geometry:?}"));
    }
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..THREADS)
        .map(|number| {
            let (block, stop, done) = (block.clone(), stop.clone(), done.clone());
            thread::spawn(move || work(&*block, number, &stop, &done))
        })
        .collect();
    // The first requests have been through, so that what the driver keeps for good is counted.
    while done.load(Ordering::Relaxed) < 20 {
        pause(1_000_000);
    }
    let (mut driver, before) = (report(uses, DRIVER)?, report(uses, bus)?);
    let starts = driver.starts;
    let outcome = (0..kills).try_for_each(|kill| {
        let before = done.load(Ordering::Relaxed);
        // How many of its threads have served a long request by now differs from start to start.
        if kill < MEASURED {
            let now = report(uses, DRIVER)?;
            (driver.pages, driver.objects) = (driver.pages.max(now.pages), driver.objects.max(now.objects));
        }
        uses.supervisor.cap.kill(DRIVER).map_err(|error| format!("cannot kill: {error:?}"))?;
        wait_for_start(uses, starts + kill + 1)?;
        // Under load: not before the new one has done something, nor at the same place each time.
        let end = now() + PATIENCE;
        while done.load(Ordering::Relaxed) < before + u64::from(kill % 7) {
            if now() > end {
                return Err(format!("nothing is done after kill {kill}"));
            }
            pause(100_000);
        }
        Ok(())
    });
    let outcome = outcome.and_then(|()| kill_the_bus(uses, bus, &done));
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.map_err(|error| format!("{error}"))?.join()?;
    }
    outcome?;
    settles(uses, DRIVER, driver, kills)?;
    settles(uses, bus, before, kills)?;
    Ok(done.load(Ordering::Relaxed))
}
