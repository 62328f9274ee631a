//! Events.

use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_runtime::{Error, Object, Rights, thread};

use crate::Test;
use crate::context::{Context, event, now, sleep, within};

pub const TESTS: &[Test] = &[
    ("raised bits stay until they are cleared", stay),
    ("a wait answers and clears what it was asked to", cleared),
    ("a raise wakes every waiter of the bit", all_woken),
    ("a raise wakes one waiter if waiters clear the bit", one_woken),
    ("waiters of other bits sleep on", others),
    ("a wait ends at its deadline", deadline),
    ("waiting and raising need their rights", rights),
    ("a waiter is told when the event is revoked", revoked),
];

fn stay(_: &mut Context) {
    let event = event();
    event.raise(0b101).unwrap();
    event.raise(0b010).unwrap();
    assert_eq!(event.clear(0b001), Ok(0b111));
    assert_eq!(event.clear(u64::MAX), Ok(0b110));
    assert_eq!(event.clear(0), Ok(0));
    event.raise(1 << 63).unwrap();
    assert_eq!(event.wait(1 << 63), Ok(1 << 63));
}

fn cleared(_: &mut Context) {
    let event = event();
    event.raise(0b1110).unwrap();
    assert_eq!(event.wait_until(0b0110, 0b0100, None), Ok(0b0110));
    assert_eq!(event.clear(0), Ok(0b1010));
}

fn all_woken(_: &mut Context) {
    let event = Arc::new(event());
    let waiters: Vec<_> = (0..6)
        .map(|_| {
            let event = event.clone();
            thread::spawn(move || event.wait_until(1, 0, within(5000))).unwrap()
        })
        .collect();
    sleep(30);
    event.raise(1).unwrap();
    for waiter in waiters {
        assert_eq!(waiter.join(), Ok(1));
    }
}

fn one_woken(_: &mut Context) {
    let event = Arc::new(event());
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let event = event.clone();
            thread::spawn(move || event.wait_until(1, 1, within(300))).unwrap()
        })
        .collect();
    sleep(30);
    event.raise(1).unwrap();
    let woken = waiters.into_iter().map(thread::JoinHandle::join).filter(Result::is_ok).count();
    assert_eq!(woken, 1);
}

fn others(_: &mut Context) {
    let event = Arc::new(event());
    let theirs = event.clone();
    let waiter = thread::spawn(move || theirs.wait_until(2, 2, within(5000))).unwrap();
    sleep(20);
    event.raise(1).unwrap();
    sleep(20);
    assert!(!waiter.is_finished());
    event.raise(2).unwrap();
    assert_eq!(waiter.join(), Ok(2));
    assert_eq!(event.clear(0), Ok(1));
}

fn deadline(_: &mut Context) {
    let event = event();
    let began = now();
    assert_eq!(event.wait_until(1, 1, Some(began + 30_000_000)), Err(Error::TimedOut));
    assert!(now() - began >= 30_000_000, "it ended early");
    assert_eq!(event.wait_until(1, 1, Some(0)), Err(Error::TimedOut));
    event.raise(1).unwrap();
    assert_eq!(event.wait_until(1, 1, Some(0)), Ok(1), "what is raised needs no waiting");
}

fn rights(_: &mut Context) {
    let event = event();
    let (waiter, raiser) = (event.duplicate(Rights::WAIT).unwrap(), event.duplicate(Rights::SIGNAL).unwrap());
    assert_eq!(waiter.raise(1), Err(Error::NoRight));
    assert_eq!(raiser.wait_until(1, 1, Some(0)), Err(Error::NoRight));
    raiser.raise(1).unwrap();
    assert_eq!(waiter.wait(1), Ok(1));
}

fn revoked(_: &mut Context) {
    let pool = tessera_runtime::own::pool().create(64).unwrap();
    let event = tessera_runtime::object::Event::create(&pool).unwrap();
    let waiter = thread::spawn(move || event.wait_until(1, 1, within(5000))).unwrap();
    sleep(20);
    pool.revoke().unwrap();
    assert_eq!(waiter.join(), Err(Error::Gone));
}
