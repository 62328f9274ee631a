//! Threads of POSIX, and their mutexes.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ffi::c_void;
use core::sync::atomic::{AtomicUsize, Ordering};

use tessera_runtime::sync::Mutex as Lock;
use tessera_runtime::thread::{self, JoinHandle};

use crate::errno::{Errno, Result};
use crate::mutex::{Kind, Mutex};
use crate::program;

/// Bytes of the stack of a thread. Memory is taken when it is used.
const STACK: u64 = 8 << 20;

/// Threads by their numbers, until they are joined, each with the place of what it answers.
static THREADS: Lock<BTreeMap<usize, (JoinHandle<()>, Arc<AtomicUsize>)>> = Lock::new(BTreeMap::new());
static NUMBER: AtomicUsize = AtomicUsize::new(1);

/// Functions of this family answer the number of the error.
fn number(answer: Result<()>) -> i32 {
    answer.err().map_or(0, |error| error.0)
}

/// What the calling thread has alone.
fn me() -> usize {
    thread::note_place().addr()
}

/// # Safety
/// `to` is a place for a number; `main` may be called once with `argument`, by another thread.
#[unsafe(export_name = "c:pthread_create")]
unsafe extern "C" fn create(
    to: *mut usize,
    _: *const c_void,
    main: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
) -> i32 {
    let answer = Arc::new(AtomicUsize::new(0));
    let (place, argument) = (answer.clone(), argument.expose_provenance());
    // SAFETY: passed on.
    let run = move || unsafe {
        let answered = main(core::ptr::with_exposed_provenance_mut(argument));
        place.store(answered.expose_provenance(), Ordering::Relaxed);
    };
    let Ok(thread) = program::spawn(STACK, run) else { return Errno::EAGAIN.0 };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    THREADS.lock().insert(number, (thread, answer));
    // SAFETY: passed on.
    unsafe { to.write(number) };
    0
}

/// # Safety
/// `to` is null or a place for a pointer.
#[unsafe(export_name = "c:pthread_join")]
unsafe extern "C" fn join(number: usize, to: *mut *mut c_void) -> i32 {
    let taken = THREADS.lock().remove(&number);
    let Some((thread, answer)) = taken else { return Errno::ESRCH.0 };
    thread.join();
    // SAFETY: passed on.
    if let Some(to) = unsafe { to.as_mut() } {
        *to = core::ptr::with_exposed_provenance_mut(answer.load(Ordering::Relaxed));
    }
    0
}

/// # Safety
/// `to` is an attribute's place.
#[unsafe(export_name = "c:pthread_mutexattr_init")]
unsafe extern "C" fn attribute_init(to: *mut u32) -> i32 {
    // SAFETY: passed on.
    unsafe { to.write(Kind::Normal as u32) };
    0
}

/// # Safety
/// `to` is an attribute.
#[unsafe(export_name = "c:pthread_mutexattr_settype")]
unsafe extern "C" fn attribute_set_type(to: *mut u32, kind: u32) -> i32 {
    if Kind::of(kind).is_none() {
        return Errno::EINVAL.0;
    }
    // SAFETY: passed on.
    unsafe { to.write(kind) };
    0
}

#[unsafe(export_name = "c:pthread_mutexattr_destroy")]
extern "C" fn attribute_destroy(_: *mut u32) -> i32 {
    0
}

/// # Safety
/// `to` is a mutex's place, `attribute` null or an attribute.
#[unsafe(export_name = "c:pthread_mutex_init")]
unsafe extern "C" fn mutex_init(to: *mut Mutex, attribute: *const u32) -> i32 {
    // SAFETY: passed on.
    let kind = unsafe { attribute.as_ref() }.map_or(Some(Kind::Normal), |kind| Kind::of(*kind));
    let Some(kind) = kind else { return Errno::EINVAL.0 };
    // SAFETY: passed on.
    unsafe { to.write(Mutex::new(kind)) };
    0
}

#[unsafe(export_name = "c:pthread_mutex_destroy")]
extern "C" fn mutex_destroy(_: *mut Mutex) -> i32 {
    0
}

/// # Safety
/// `mutex` is a mutex.
#[unsafe(export_name = "c:pthread_mutex_lock")]
unsafe extern "C" fn mutex_lock(mutex: *const Mutex) -> i32 {
    // SAFETY: passed on.
    number(unsafe { &*mutex }.lock(me()))
}

/// # Safety
/// `mutex` is a mutex.
#[unsafe(export_name = "c:pthread_mutex_trylock")]
unsafe extern "C" fn mutex_try_lock(mutex: *const Mutex) -> i32 {
    // SAFETY: passed on.
    number(unsafe { &*mutex }.try_lock(me()))
}

/// # Safety
/// `mutex` is a mutex.
#[unsafe(export_name = "c:pthread_mutex_unlock")]
unsafe extern "C" fn mutex_unlock(mutex: *const Mutex) -> i32 {
    // SAFETY: passed on.
    number(unsafe { &*mutex }.unlock(me()))
}
