//! Threads of one process, parking and waking.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_runtime::abi::PAGE;
use tessera_runtime::object::{park, yield_now};
use tessera_runtime::{Error, Kind, own, thread};

use crate::Test;
use crate::context::{Context, now, sleep, within};

pub const TESTS: &[Test] = &[
    ("a thread answers its result to who joins it", joined),
    ("threads that nobody joins are cleaned up", detached),
    ("a result is dropped once, whether the thread is joined or not", results),
    ("a hundred threads count together", hundred),
    ("an unpark before the park is not lost", token),
    ("a park ends at its deadline", deadline),
    ("an unpark wakes a parked thread", woken),
    ("every thread has a record of its own", records),
    ("yielding lets the others of a priority run", yielding),
    ("a stack as large as asked for can be used", stack),
];

fn joined(_: &mut Context) {
    let thread = thread::spawn(|| alloc::string::String::from("result")).unwrap();
    assert_eq!(thread.join(), "result");
    let slow = thread::spawn(|| {
        sleep(20);
        7
    })
    .unwrap();
    assert_eq!(slow.join(), 7);
}

fn detached(_: &mut Context) {
    let pool = own::pool();
    let before = pool.usage(Kind::Thread as u64).unwrap().used;
    for _ in 0..50 {
        drop(thread::spawn(|| ()).unwrap());
        sleep(1);
    }
    let end = within(5000).unwrap();
    while pool.usage(Kind::Thread as u64).unwrap().used != before {
        assert!(now() < end, "{} threads are left", pool.usage(Kind::Thread as u64).unwrap().used - before);
        sleep(1);
    }
    // The stacks of all but the last few were used again.
    thread::spawn(|| ()).unwrap().join();
    let memory = pool.usage(Kind::Vmo as u64).unwrap().used;
    assert!(memory < 45, "{memory} memory objects are left");
}

/// Counts how often it is dropped.
struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn results(_: &mut Context) {
    let drops = Arc::new(AtomicU64::new(0));
    let start = || {
        let counted = Counted(drops.clone());
        thread::spawn(move || counted).unwrap()
    };
    let result = start().join();
    assert_eq!(drops.load(Ordering::Relaxed), 0, "it is the joiner's");
    drop(result);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    drop(start());
    let end = within(5000).unwrap();
    while drops.load(Ordering::Relaxed) != 2 {
        assert!(now() < end);
        sleep(1);
        // What nobody joins is cleared away by those that come after.
        thread::spawn(|| ()).unwrap().join();
    }
    let once = tessera_runtime::sync::OnceLock::new();
    once.get_or_init(|| Counted(drops.clone()));
    drop(once);
    drop(tessera_runtime::sync::OnceLock::<Counted>::new());
    assert_eq!(drops.load(Ordering::Relaxed), 3);
}

fn hundred(_: &mut Context) {
    let count = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..100)
        .map(|_| {
            let count = count.clone();
            thread::spawn(move || {
                for _ in 0..100 {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
            .unwrap()
        })
        .collect();
    threads.into_iter().for_each(thread::JoinHandle::join);
    assert_eq!(count.load(Ordering::Relaxed), 10_000);
}

fn token(_: &mut Context) {
    thread::current().unpark().unwrap();
    thread::current().unpark().unwrap();
    assert_eq!(park(within(5000)), Ok(()));
    assert_eq!(park(within(5)), Err(Error::TimedOut), "two unparks are one");
}

fn deadline(_: &mut Context) {
    let began = now();
    assert_eq!(park(Some(began + 25_000_000)), Err(Error::TimedOut));
    let took = now() - began;
    assert!((25_000_000..2_000_000_000).contains(&took), "it took {took} ns");
    assert_eq!(park(Some(0)), Err(Error::TimedOut));
}

fn woken(_: &mut Context) {
    let thread = thread::spawn(|| park(within(5000))).unwrap();
    sleep(20);
    thread.thread().unpark().unwrap();
    assert_eq!(thread.join(), Ok(()));
}

fn records(_: &mut Context) {
    let numbers: Vec<u32> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                yield_now();
                thread::current().owned_number()
            })
            .unwrap()
        })
        .collect::<Vec<_>>()
        .into_iter()
        .map(thread::JoinHandle::join)
        .collect();
    let mut different = numbers.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), numbers.len(), "{numbers:?}");
    assert!(!numbers.contains(&thread::current().owned_number()));
}

/// The number of a thread's handle.
trait Number {
    fn owned_number(&self) -> u32;
}

impl Number for tessera_runtime::object::Thread {
    fn owned_number(&self) -> u32 {
        use tessera_runtime::Object;
        self.handle().0
    }
}

fn yielding(_: &mut Context) {
    let turn = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..3_u64)
        .map(|index| {
            let turn = turn.clone();
            thread::spawn(move || {
                for round in 0..50 {
                    while turn.load(Ordering::Acquire) != round * 3 + index {
                        yield_now();
                    }
                    turn.fetch_add(1, Ordering::Release);
                }
            })
            .unwrap()
        })
        .collect();
    threads.into_iter().for_each(thread::JoinHandle::join);
    assert_eq!(turn.load(Ordering::Relaxed), 150);
}

fn stack(_: &mut Context) {
    fn deep(levels: u64) -> u64 {
        let page = core::hint::black_box([levels as u8; PAGE as usize]);
        if levels == 0 { u64::from(page[0]) } else { deep(levels - 1) + u64::from(page[1] == levels as u8) }
    }
    let thread = thread::Builder::new().stack((1 << 20) - PAGE).spawn(|| deep(150)).unwrap();
    assert_eq!(thread.join(), 150);
    assert!(thread::Builder::new().stack(64 << 20).spawn(|| ()).is_err());
}
