//! Threads on a host: the host's own, with the interface of the real `thread`. Budgets are not imitated.

use std::cell::Cell;

use crate::handle::{Object, Owned, Result};
use crate::host;
use crate::object::{Budget, Thread};
use tessera_abi::{Error, Handle};

/// The calling thread's handle, made when it first asks and closed when the thread ends.
struct Own(Cell<u32>);

impl Drop for Own {
    fn drop(&mut self) {
        host::close(self.0.get());
    }
}

std::thread_local! {
    static OWN: Own = const { Own(Cell::new(0)) };
    static CALLER: Cell<u64> = const { Cell::new(0) };
    static NOTE: Cell<u64> = const { Cell::new(0) };
}

/// The number of the calling thread's handle.
pub(crate) fn own_number() -> u32 {
    OWN.with(|own| {
        if own.0.get() == 0 {
            own.0.set(host::new_thread());
        }
        own.0.get()
    })
}

/// Whose call the calling thread carries out: 1 plus a route's number, or 0.
pub(crate) fn caller() -> u64 {
    CALLER.get()
}

/// Says whose call the calling thread carries out from now on.
pub(crate) fn set_caller(caller: u64) {
    CALLER.set(caller);
}

/// A word of the calling thread's own, for whoever runs on it: 0, or what it left there last.
pub fn note() -> u64 {
    NOTE.get()
}

/// Leaves a word for [`note`].
pub fn set_note(note: u64) {
    NOTE.set(note);
}

/// The calling thread.
pub fn current() -> core::mem::ManuallyDrop<Thread> {
    core::mem::ManuallyDrop::new(Thread::from_owned(Owned::new(Handle(own_number()))))
}

/// A thread that can be joined. Dropped, the thread goes on by itself.
pub struct JoinHandle<T: Send + 'static> {
    thread: std::thread::JoinHandle<T>,
    number: u32,
}

/// How a thread is to be made.
#[derive(Default)]
pub struct Builder<'a> {
    stack: Option<u64>,
    budget: Option<&'a Budget>,
}

impl<'a> Builder<'a> {
    /// As `spawn` does.
    pub fn new() -> Builder<'a> {
        Builder::default()
    }

    /// Bytes of its stack.
    pub fn stack(mut self, bytes: u64) -> Self {
        self.stack = Some(bytes);
        self
    }

    /// Its budget: without effect on a host.
    pub fn budget(mut self, budget: &'a Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// No budget: without effect on a host.
    pub fn passive(self) -> Self {
        self
    }

    /// Starts the thread.
    pub fn spawn<T: Send + 'static>(self, main: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
        let number = host::new_thread();
        let mut builder = std::thread::Builder::new();
        // Host code needs more than the stacks of the machine.
        if let Some(stack) = self.stack.and_then(|bytes| usize::try_from(bytes).ok()) {
            builder = builder.stack_size(stack.max(1 << 20));
        }
        let started = builder.spawn(move || {
            OWN.with(|own| own.0.set(number));
            main()
        });
        match started {
            Ok(thread) => Ok(JoinHandle { thread, number }),
            Err(_) => {
                host::close(number);
                Err(Error::NoQuota)
            }
        }
    }
}

/// Starts a thread on the process's budget.
pub fn spawn<T: Send + 'static>(main: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    Builder::new().spawn(main)
}

impl<T: Send + 'static> JoinHandle<T> {
    /// The thread's handle, for as long as it runs.
    pub fn thread(&self) -> core::mem::ManuallyDrop<Thread> {
        core::mem::ManuallyDrop::new(Thread::from_owned(Owned::new(Handle(self.number))))
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the thread ends; answers its result. A panic there goes on here, as a test wants it.
    pub fn join(self) -> T {
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
