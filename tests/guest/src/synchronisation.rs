//! Locks, condition variables, things done once.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_runtime::object::yield_now;
use tessera_runtime::sync::{Condvar, Mutex, Once, OnceLock};
use tessera_runtime::thread;

use crate::Test;
use crate::context::{Context, budget, sleep, within};

pub const TESTS: &[Test] = &[
    ("a mutex admits one thread at a time", exclusive),
    ("a mutex is handed on in the order of waiting", fair),
    ("a mutex that is held is not taken by trying", tried),
    ("a queue behind a condition variable loses nothing", queue),
    ("one notification wakes one waiter, a general one all", notified),
    ("waiting for a condition ends at its deadline", deadline),
    ("what is done once is done once", once),
];

fn exclusive(_: &mut Context) {
    let shared = Arc::new((Mutex::new(0_u64), AtomicU64::new(0)));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let shared = shared.clone();
            thread::spawn(move || {
                for _ in 0..200 {
                    let mut count = shared.0.lock();
                    assert_eq!(shared.1.fetch_add(1, Ordering::SeqCst), 0, "two threads hold the lock");
                    let before = *count;
                    yield_now();
                    *count = before + 1;
                    shared.1.fetch_sub(1, Ordering::SeqCst);
                }
            })
            .unwrap()
        })
        .collect();
    threads.into_iter().for_each(thread::JoinHandle::join);
    assert_eq!(*shared.0.lock(), 1600);
}

fn fair(_: &mut Context) {
    let shared = Arc::new(Mutex::new(Vec::new()));
    let guard = shared.lock();
    // On one core, each of a lower priority than the one before: each waits before the next one runs.
    let threads: Vec<_> = (0..5)
        .map(|index| {
            let (shared, budget) = (shared.clone(), budget(30 - index, 1));
            let thread = thread::Builder::new().budget(&budget).spawn(move || shared.lock().push(index));
            (thread.unwrap(), budget)
        })
        .collect();
    let last = budget(5, 1);
    thread::Builder::new().budget(&last).spawn(|| ()).unwrap().join();
    drop(guard);
    for (thread, budget) in threads {
        thread.join();
        drop(budget);
    }
    assert_eq!(*shared.lock(), [0, 1, 2, 3, 4]);
}

fn tried(_: &mut Context) {
    let mutex = Mutex::new(1);
    let guard = mutex.lock();
    assert!(mutex.try_lock().is_none());
    drop(guard);
    assert!(mutex.try_lock().is_some());
}

fn queue(_: &mut Context) {
    let shared = Arc::new((Mutex::new(VecDeque::new()), Condvar::new()));
    let takers: Vec<_> = (0..3)
        .map(|_| {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut sum = 0;
                loop {
                    let mut queue = shared.0.lock();
                    while queue.is_empty() {
                        shared.1.wait(&mut queue);
                    }
                    match queue.pop_front() {
                        Some(0) | None => return sum,
                        Some(number) => sum += number,
                    }
                }
            })
            .unwrap()
        })
        .collect();
    for number in 1..=300_u64 {
        shared.0.lock().push_back(number);
        shared.1.notify_one();
        if number % 7 == 0 {
            yield_now();
        }
    }
    for _ in 0..3 {
        shared.0.lock().push_back(0);
    }
    shared.1.notify_all();
    let sum: u64 = takers.into_iter().map(thread::JoinHandle::join).sum();
    assert_eq!(sum, 300 * 301 / 2);
}

fn notified(_: &mut Context) {
    let shared = Arc::new((Mutex::new(0_u64), Condvar::new()));
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut woken = shared.0.lock();
                shared.1.wait(&mut woken);
                *woken += 1;
            })
            .unwrap()
        })
        .collect();
    sleep(40);
    shared.1.notify_one();
    sleep(40);
    assert_eq!(*shared.0.lock(), 1);
    shared.1.notify_all();
    waiters.into_iter().for_each(thread::JoinHandle::join);
    assert_eq!(*shared.0.lock(), 4);
}

fn deadline(_: &mut Context) {
    let (mutex, condition) = (Mutex::new(()), Condvar::new());
    let mut guard = mutex.lock();
    assert!(!condition.wait_until(&mut guard, within(20)));
    // The queue is empty again: a notification finds nobody, and the next waiter is not disturbed.
    condition.notify_one();
    assert!(!condition.wait_until(&mut guard, within(20)));
}

fn once(_: &mut Context) {
    static ONCE: Once = Once::new();
    static VALUE: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    assert_eq!(VALUE.get(), None);
    let threads: Vec<_> = (0..6_u64)
        .map(|index| {
            thread::spawn(move || {
                ONCE.call_once(|| {
                    sleep(20);
                    COUNT.fetch_add(1, Ordering::Relaxed);
                });
                assert_eq!(COUNT.load(Ordering::Relaxed), 1);
                *VALUE.get_or_init(|| index + 1)
            })
            .unwrap()
        })
        .collect();
    let values: Vec<u64> = threads.into_iter().map(thread::JoinHandle::join).collect();
    assert!(values.iter().all(|value| *value == values[0] && *value != 0), "{values:?}");
}
