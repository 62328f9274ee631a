//! Budgets: priorities, amounts, cores, time that is lent over a call.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_runtime::object::{Limits, null, park, processors};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{Error, own, thread};

use crate::Test;
use crate::calls::{ADD_ONE, pair, serve, stop};
use crate::context::{Context, MILLISECOND, budget, event, now, sleep};

pub const TESTS: &[Test] = &[
    ("of threads that become ready together the highest priority runs first", order),
    ("a thread that calls the kernel without end gives way to one of higher priority whose time has come", endless),
    ("a limited budget gets its share of the time and not more", throttled),
    ("a budget within a limited one is limited too", nested),
    ("a budget beyond its parent's limits is refused", refused),
    ("time is charged to who uses it, over calls to the caller", charged),
    ("a thread stays on the cores of its budget", cores),
];

fn order(_: &mut Context) {
    let least = budget(1, 1);
    let record = Arc::new(Mutex::new(Vec::new()));
    let told = record.clone();
    // It goes on when none of the others can on the same processor: when they wait, and when they are done.
    let starter = thread::Builder::new().budget(&least).spawn(move || {
        let gate = Arc::new(event());
        let start = |priority: u64| {
            let (gate, record) = (gate.clone(), told.clone());
            let budget = budget(priority, 1);
            let thread = thread::Builder::new().budget(&budget).spawn(move || {
                gate.wait_until(1, 0, None).unwrap();
                record.lock().push(priority);
            });
            (thread.unwrap(), budget)
        };
        let threads = [5, 20, 10, 15].map(start);
        gate.raise(1).unwrap();
        for (thread, budget) in threads {
            thread.join();
            drop(budget);
        }
    });
    starter.unwrap().join();
    assert_eq!(*record.lock(), [20, 15, 10, 5]);
}

fn endless(_: &mut Context) {
    let (low, high) = (budget(5, 1), budget(20, 1));
    let stop = Arc::new(AtomicU64::new(0));
    let told = stop.clone();
    let calling = thread::Builder::new().budget(&low).spawn(move || {
        let mut calls = 0_u64;
        while told.load(Ordering::Relaxed) == 0 {
            null();
            calls += 1;
        }
        calls
    });
    let sleeping = thread::Builder::new().budget(&high).spawn(|| {
        let mut latest = 0;
        for _ in 0..100 {
            let due = now() + MILLISECOND;
            while now() < due {
                let _ = park(Some(due));
            }
            latest = latest.max(now() - due);
        }
        latest
    });
    let latest = sleeping.unwrap().join();
    stop.store(1, Ordering::Relaxed);
    assert!(calling.unwrap().join() > 0);
    // A busy machine may hold all of this up, but not for so long.
    assert!(latest < 1_000 * MILLISECOND, "{latest} ns late");
}

const LIMITED: Limits = Limits { priority: 10, amount: 4_000_000, period: 20_000_000, cores: 0 };

/// Runs until told, and counts.
fn spin(until: u64) -> u64 {
    let mut rounds = 0;
    while now() < until {
        rounds += 1;
    }
    rounds
}

fn throttled(_: &mut Context) {
    let limited = own::budget().create(&own::pool(), LIMITED).unwrap();
    let began = now();
    let until = began + 300_000_000;
    let spinning = thread::Builder::new().budget(&limited).spawn(move || spin(until)).unwrap();
    spinning.join();
    let (used, elapsed) = (limited.used().unwrap(), now() - began);
    // A fifth, give or take a period and what the emulator's timer is late.
    assert!(used * 100 / elapsed <= 45, "{used} of {elapsed} ns");
    assert!(used >= 8_000_000, "{used} of {elapsed} ns");
}

fn nested(_: &mut Context) {
    let limited = own::budget().create(&own::pool(), LIMITED).unwrap();
    let inner = limited.create(&own::pool(), Limits { priority: 9, amount: 0, period: 0, cores: 0 }).unwrap();
    let began = now();
    let until = began + 200_000_000;
    let spinning = thread::Builder::new().budget(&inner).spawn(move || spin(until)).unwrap();
    spinning.join();
    let (used, elapsed) = (limited.used().unwrap(), now() - began);
    assert!(used > 0 && used * 100 / elapsed <= 45, "{used} of {elapsed} ns");
}

fn refused(_: &mut Context) {
    let parent = budget(20, 0);
    let create = |limits| parent.create(&own::pool(), limits).map(|_| ());
    let fine = Limits { priority: 20, amount: 0, period: 0, cores: 0 };
    assert_eq!(create(fine), Ok(()));
    assert_eq!(create(Limits { priority: 21, ..fine }), Err(Error::BadArgument));
    assert_eq!(create(Limits { priority: u64::MAX, ..fine }), Err(Error::BadArgument));
    assert_eq!(create(Limits { cores: 1 << processors(), ..fine }), Err(Error::BadArgument));
    assert_eq!(create(Limits { amount: 2_000_000, period: 1_000_000, ..fine }), Err(Error::BadArgument));
    assert_eq!(create(Limits { amount: 0, period: 1_000_000, ..fine }), Err(Error::BadArgument));
    assert_eq!(create(Limits { amount: 1, period: 1, ..fine }), Err(Error::BadArgument));
}

fn charged(_: &mut Context) {
    let (theirs, callers) = (budget(30, 0), budget(30, 0));
    let (endpoint, session) = pair(1);
    let server = thread::Builder::new()
        .budget(&theirs)
        .spawn(move || {
            loop {
                let Ok(received) = endpoint.receive() else { return };
                if received.label() == 0 {
                    return;
                }
                spin(now() + 50_000_000);
                let _ = tessera_runtime::object::reply(tessera_runtime::Message::new(0));
            }
        })
        .unwrap();
    sleep(10);
    let before = theirs.used().unwrap();
    let caller = thread::Builder::new()
        .budget(&callers)
        .spawn(move || {
            session.call_words(1, [0]).unwrap();
            let _ = session.call_words(0, [0]);
        })
        .unwrap();
    caller.join();
    server.join();
    let (server_used, caller_used) = (theirs.used().unwrap() - before, callers.used().unwrap());
    assert!(caller_used >= 30_000_000, "the caller was charged {caller_used} ns");
    assert!(server_used <= 20_000_000, "the server was charged {server_used} ns");
}

fn cores(_: &mut Context) {
    // Two threads on one core, of which the higher spins: the other does not run before it is done, however many cores there are.
    let (high, low) = (budget(20, 1), budget(10, 1));
    let flag = Arc::new(AtomicU64::new(0));
    let until = now() + 60_000_000;
    let theirs = flag.clone();
    let spinning = thread::Builder::new()
        .budget(&high)
        .spawn(move || {
            spin(until);
            theirs.store(1, Ordering::SeqCst);
        })
        .unwrap();
    sleep(10);
    let theirs = flag.clone();
    let second = thread::Builder::new().budget(&low).spawn(move || theirs.load(Ordering::SeqCst)).unwrap();
    assert_eq!(second.join(), 1);
    spinning.join();
    let (session, server) = {
        let (endpoint, session) = pair(1);
        (session, thread::Builder::new().budget(&low).spawn(move || serve(&endpoint)).unwrap())
    };
    assert_eq!(session.call_words(ADD_ONE, [1]), Ok((ADD_ONE, [2])));
    stop(&session, server);
}
