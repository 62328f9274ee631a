//! Threads and futexes.

use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU32, Ordering};

use tessera_runtime::object::{park, processors, yield_now};
use tessera_runtime::sync::Mutex;
use tessera_runtime::thread::JoinHandle;

use super::time::TimeSpec;
use crate::errno::Errno;
use crate::{futex, now, program};

/// `FUTEX_RELATIVE_TIMEOUT`.
const RELATIVE: u32 = 1;

/// Threads by their numbers, until they are joined or were seen to have ended.
static THREADS: Mutex<BTreeMap<u32, JoinHandle<()>>> = Mutex::new(BTreeMap::new());
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// Starts a thread; answers its number, or 0.
#[unsafe(no_mangle)]
extern "C" fn sys_spawn2(main: extern "C" fn(usize), argument: usize, _: u8, stack: usize, _: isize) -> u32 {
    // std does not say when it lets go of a thread without joining it: what has ended is joined here, which frees its stack.
    // Joining it later finds nothing to wait for.
    let mut ended: BTreeMap<u32, JoinHandle<()>>;
    {
        let mut threads = THREADS.lock();
        ended = threads.extract_if(.., |_, thread| thread.is_finished()).collect();
    }
    while let Some((_, thread)) = ended.pop_first() {
        thread.join();
    }
    let Ok(thread) = program::spawn(stack as u64, move || main(argument)) else { return 0 };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    THREADS.lock().insert(number, thread);
    number
}

#[unsafe(no_mangle)]
extern "C" fn sys_join(number: u32) -> i32 {
    let thread = THREADS.lock().remove(&number);
    if let Some(thread) = thread {
        thread.join();
    }
    0
}

#[unsafe(no_mangle)]
extern "C" fn sys_yield() {
    yield_now();
}

fn sleep_until(moment: u64) {
    while now() < moment {
        // It can return early: the loop looks again.
        let _ = park(Some(moment));
    }
}

#[unsafe(no_mangle)]
extern "C" fn sys_usleep(microseconds: u64) {
    sleep_until(now().saturating_add(microseconds.saturating_mul(1000)));
}

/// # Safety
/// `time` must be null or a `timespec` that nobody changes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sys_nanosleep(time: *const TimeSpec) -> i32 {
    // SAFETY: passed on.
    let time = unsafe { time.as_ref() }.ok_or(Errno::EFAULT);
    super::told_done(time.map(|time| sleep_until(now().saturating_add(time.nanoseconds()))))
}

#[unsafe(no_mangle)]
pub extern "C" fn sys_available_parallelism() -> usize {
    (processors() as usize).max(1)
}

#[unsafe(no_mangle)]
extern "C" fn sys_get_processor_count() -> usize {
    sys_available_parallelism()
}

/// # Safety
/// `word` must be a word of the program's, which it changes by atomic instructions only; `time` null or a `timespec`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_futex_wait(word: *mut u32, expected: u32, time: *const TimeSpec, flags: u32) -> i32 {
    // SAFETY: passed on.
    let time = unsafe { time.as_ref() }.map(|time| time.nanoseconds());
    let deadline = time.map(|time| if flags & RELATIVE != 0 { now().saturating_add(time) } else { time });
    // SAFETY: passed on: the word is live for as long as somebody waits for it.
    let value = || unsafe { AtomicU32::from_ptr(word) }.load(Ordering::SeqCst);
    super::told_done(match futex::wait(word as usize, || value() != expected, deadline) {
        futex::Waited::Woken => Ok(()),
        futex::Waited::Changed => Err(Errno::EAGAIN),
        futex::Waited::TimedOut => Err(Errno::ETIMEDOUT),
    })
}

#[unsafe(no_mangle)]
extern "C" fn sys_futex_wake(word: *mut u32, count: i32) -> i32 {
    futex::wake(word as usize, usize::try_from(count).unwrap_or(0)) as i32
}
