//! Suspending threads, reading and writing their registers.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_runtime::abi::NATIVE_BASE;
use tessera_runtime::object::park;
use tessera_runtime::{Error, thread};

use crate::context::{Context, sleep, within};
use crate::{Test, machine};

pub const TESTS: &[Test] = &[
    ("a suspended thread stands still and goes on when resumed", stands),
    ("registers of a running thread are not given out", running),
    ("a thread goes on with the registers that were written", written),
    ("a thread that was woken while suspended goes on when resumed", woken),
];

fn stands(_: &mut Context) {
    let count = Arc::new(AtomicU64::new(0));
    let theirs = count.clone();
    let spinning = thread::spawn(move || while theirs.fetch_add(1, Ordering::Relaxed) < 1 << 62 {}).unwrap();
    sleep(30);
    spinning.thread().suspend().unwrap();
    let before = count.load(Ordering::Relaxed);
    assert!(before > 0);
    sleep(30);
    assert_eq!(count.load(Ordering::Relaxed), before);
    let registers = spinning.thread().registers().unwrap();
    assert!(registers.rip > NATIVE_BASE && registers.rsp > NATIVE_BASE, "{registers:x?}");
    spinning.thread().resume().unwrap();
    sleep(30);
    assert!(count.load(Ordering::Relaxed) > before);
    count.store(1 << 62, Ordering::Relaxed);
    spinning.join();
}

fn running(_: &mut Context) {
    assert_eq!(thread::current().registers().map(|_| ()), Err(Error::BadState));
}

fn written(_: &mut Context) {
    let spinning = thread::spawn(machine::spin_on_a_register).unwrap();
    let end = crate::context::now() + 5_000_000_000;
    loop {
        sleep(10);
        spinning.thread().suspend().unwrap();
        let mut registers = spinning.thread().registers().unwrap();
        // It may not have got to its loop yet.
        if registers.r15 == 1 {
            registers.r15 = 4321;
            machine::set_registers(&spinning.thread(), &registers).unwrap();
            spinning.thread().resume().unwrap();
            break;
        }
        spinning.thread().resume().unwrap();
        assert!(crate::context::now() < end);
    }
    assert_eq!(spinning.join(), 4321);
}

fn woken(_: &mut Context) {
    let parked = thread::spawn(|| park(within(10_000))).unwrap();
    sleep(20);
    parked.thread().suspend().unwrap();
    parked.thread().unpark().unwrap();
    sleep(20);
    assert!(!parked.is_finished());
    parked.thread().resume().unwrap();
    assert_eq!(parked.join(), Ok(()));
}
