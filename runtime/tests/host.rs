//! What components rely on when they are tested on a host: the imitated objects behave as the machine's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tessera_runtime::object::{Access, Event, Vmo};
use tessera_runtime::sync::{Condvar, Mutex};
use tessera_runtime::{Error, Mapping, Object, Rights, own, thread};

#[test]
fn memory_is_shared_by_its_mappings_and_bounded() {
    let memory = Vmo::create(&own::pool(), 5000).unwrap();
    assert_eq!(memory.size(), Ok(8192));
    assert_eq!(memory.write(8190, &[1, 2, 3, 4]), Ok(2));
    let mut back = [9; 4];
    assert_eq!(memory.read(8190, &mut back), Ok(2));
    assert_eq!(back, [1, 2, 9, 9]);
    assert_eq!(memory.read(8192, &mut back), Err(Error::BadArgument));
    let (one, other) = (
        Mapping::new(&memory, 0, 8192, Access::Write).unwrap(),
        Mapping::new(&memory, 4096, 10, Access::Read).unwrap(),
    );
    one.words()[512].store(77, Ordering::Relaxed);
    assert_eq!((other.words().len(), other.words()[0].load(Ordering::Relaxed)), (512, 77));
    let copy = memory.snapshot(&own::pool()).unwrap();
    one.words()[0].store(5, Ordering::Relaxed);
    let mut word = [1; 8];
    copy.read(0, &mut word).unwrap();
    assert_eq!(word, [0; 8]);
    assert!(Mapping::new(&memory, 8192, 4096, Access::Read).is_err());
}

#[test]
fn handles_have_rights_and_are_closed_once() {
    let event = Event::create(&own::pool()).unwrap();
    let weak = event.duplicate(Rights::WAIT).unwrap();
    assert_eq!(weak.raise(1), Err(Error::NoRight));
    assert_eq!(weak.duplicate(Rights::WAIT).map(|_| ()), Err(Error::NoRight));
    assert_eq!(event.inspect().unwrap().handles, 2);
    let number = weak.handle();
    drop(weak);
    assert_eq!(event.inspect().unwrap().handles, 1);
    // SAFETY: the handle was this test's, and numbers are never used again.
    let stale = Event::from_owned(unsafe { tessera_runtime::Owned::from_handle(number) });
    assert_eq!(stale.inspect().map(|_| ()), Err(Error::BadHandle));
    assert_eq!(Vmo::from_owned(event.into_owned()).size(), Err(Error::WrongKind));
}

#[test]
fn events_wait_until_a_bit_or_the_deadline() {
    let event = Arc::new(Event::create(&own::pool()).unwrap());
    let now = own::clock().now().unwrap();
    assert_eq!(event.wait_until(1, 1, Some(now + 1_000_000)), Err(Error::TimedOut));
    let theirs = event.clone();
    let raiser = thread::spawn(move || theirs.raise(6)).unwrap();
    assert_eq!(event.wait(2), Ok(2));
    assert_eq!(event.clear(u64::MAX), Ok(4));
    assert_eq!(raiser.join(), Ok(()));
}

#[test]
fn locks_and_condition_variables_hold_threads_together() {
    let shared = Arc::new((Mutex::new(0_u32), Condvar::new()));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let shared = shared.clone();
            thread::spawn(move || {
                for _ in 0..1000 {
                    *shared.0.lock() += 1;
                }
                shared.1.notify_all();
            })
            .unwrap()
        })
        .collect();
    let mut sum = shared.0.lock();
    while *sum < 4000 {
        shared.1.wait(&mut sum);
    }
    drop(sum);
    threads.into_iter().for_each(|thread| thread.join());
}
