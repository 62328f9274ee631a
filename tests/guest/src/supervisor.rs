//! Runs each test in a process of its own and looks after it: did it end in time, did it end well, did it give everything back.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use tessera_runtime::abi::syscall::RESOURCE_HANDLES;
use tessera_runtime::archive::Archive;
use tessera_runtime::object::{Limits, Pool, Power, Progress, Vmo};
use tessera_runtime::{Object, Program, Start, log, log_part, own};

use crate::context::{now, sleep, within};
use crate::devices::{self, Devices};
use crate::edu;
use crate::{TESTS, Test};

/// Pages of a test's pool.
const PAGES: u64 = 8192;
/// A test that runs longer than this fails.
const LIMIT: u64 = 60_000;
/// How long may pass until everything is given back.
const SETTLE: u64 = 5_000;
/// Resources of a pool: pages, each kind of object, handles.
const RESOURCES: usize = 22;

/// The priority of tests: below the supervisor's, so that a test that spins can be ended.
const PRIORITY: u64 = 40;

/// What tests are lent of the first program's.
struct Authority {
    archive: Vmo,
    devices: Devices,
    has_iommu: bool,
}

/// Runs the tests that the arguments choose; powers off.
pub fn run(mut start: Start) -> i32 {
    let power: Power = start.take("power").unwrap();
    let has_iommu = start.argument("iommu").is_some();
    let archive = start.take("archive").unwrap();
    let authority = Authority { archive, devices: Devices::take(&mut start).unwrap(), has_iommu };
    let archive = Archive::new(&authority.archive).unwrap();
    let file = archive.program("tests").unwrap();
    // The heap's first pages stay: they are touched before anything is compared.
    drop(core::hint::black_box(vec![1_u8; 512 << 10]));
    let chosen = |name: &str| {
        let mut filters = start.arguments().filter(|argument| !argument.contains('=')).peekable();
        filters.peek().is_none() || filters.any(|filter| name.contains(filter))
    };
    let (mut passed, mut failed) = (0, 0);
    // The device of these tests is not in every machine.
    let has_edu = start.argument("edu").is_some();
    let possible = |name: &str| has_edu || edu::TESTS.iter().all(|(test, _)| *test != name);
    for test in TESTS.iter().copied().flatten().filter(|(name, _)| chosen(name) && possible(name)) {
        log_part!("test {} ...", test.0);
        match one(test, file, &authority) {
            Ok(milliseconds) => {
                log!(" ok ({milliseconds} ms)");
                passed += 1;
            }
            Err(why) => {
                log!(" FAILED: {why}");
                failed += 1;
            }
        }
    }
    log!("{passed} passed, {failed} failed");
    let code = u64::from(failed != 0 || passed == 0);
    power.off(code).unwrap();
    code as i32
}

fn one(test: &Test, file: &[u8], authority: &Authority) -> Result<u64, String> {
    let before = usages(&own::pool());
    let began = now();
    let pool = own::pool().create(PAGES).map_err(|error| format!("cannot make its pool: {error}"))?;
    let outcome = watch(test, file, authority, &pool);
    let milliseconds = (now() - began) / 1_000_000;
    if outcome.is_err() {
        // Other processes of the test may still run: they end with their last handle.
        let _ = pool.revoke();
    }
    let theirs = settle(&pool, &[0; RESOURCES]);
    drop(pool);
    let ours = settle(&own::pool(), &before);
    outcome?;
    if let Some(leak) = theirs {
        return Err(format!("its pool is still charged for {leak}"));
    }
    if let Some(leak) = ours {
        return Err(format!("the first pool is charged for {leak}"));
    }
    Ok(milliseconds)
}

/// Runs the test to its end.
fn watch(test: &Test, file: &[u8], authority: &Authority, pool: &Pool) -> Result<(), String> {
    let said = |what: &'static str| move |error: tessera_runtime::Error| format!("{what}: {error}");
    let limits = Limits { priority: PRIORITY, amount: 0, period: 0, cores: 0 };
    let budget = own::budget().create(pool, limits).map_err(said("cannot make its budget"))?;
    let program = Program::new("tests", file, pool, &budget).standard().map_err(said("cannot lend the log"))?;
    let archive = authority.archive.try_clone().map_err(said("cannot lend the archive"))?;
    let mut program = program.handle("archive", archive);
    if devices::TESTS.iter().chain(edu::TESTS).any(|(name, _)| *name == test.0) {
        program = authority.devices.lend(program).map_err(said("cannot lend the devices"))?;
    }
    if authority.has_iommu {
        program = program.argument("iommu=1");
    }
    let child = program.argument(&format!("test={}", test.0)).start().map_err(said("cannot start it"))?;
    match child.wait(within(LIMIT)) {
        Ok(Progress::Ended(0)) => Ok(()),
        Ok(Progress::Ended(code)) => Err(format!("it ended with code {code}")),
        Ok(Progress::Faulted(fault)) => {
            let (text, address, instruction) = (fault.kind.text(), fault.address, fault.instruction);
            Err(format!("{text}, address {address:#x}, at {instruction:#x}"))
        }
        Ok(progress) => Err(format!("it is {progress:?}")),
        Err(error) => Err(format!("it did not end: {error}")),
    }
}

fn usages(pool: &Pool) -> [u64; RESOURCES] {
    let mut usages = [0; RESOURCES];
    for (resource, usage) in usages.iter_mut().enumerate() {
        let number = if resource == RESOURCES - 1 { RESOURCE_HANDLES } else { resource as u64 };
        *usage = pool.usage(number).map_or(u64::MAX, |usage| usage.used);
    }
    usages
}

/// Waits until a pool is charged as it should be; answers what it is charged for too much, or too little, if it never is.
fn settle(pool: &Pool, wanted: &[u64; RESOURCES]) -> Option<String> {
    let end = now() + SETTLE * 1_000_000;
    loop {
        let found = usages(pool);
        let difference = found.iter().zip(wanted).position(|(found, wanted)| found != wanted);
        let resource = difference?;
        if now() > end {
            let all: [i64; RESOURCES] = core::array::from_fn(|index| found[index] as i64 - wanted[index] as i64);
            return Some(format!("resource {resource} and perhaps others: {all:?}"));
        }
        sleep(2);
    }
}
