//! What a test has: the handles that it was started with, and short ways to what most tests need.

use alloc::format;

use tessera_runtime::abi::Syscall;
use tessera_runtime::archive::Archive;
use tessera_runtime::object::{Budget, Event, Limits, Pool, Vmo, park};
use tessera_runtime::{Child, Error, Handle, Object, Program, Start, own};

use crate::machine;

/// A millisecond in nanoseconds.
pub const MILLISECOND: u64 = 1_000_000;

/// What a test, or another process of it, was started with.
pub struct Context {
    pub start: Start,
}

impl Context {
    pub fn new(start: Start) -> Context {
        Context { start }
    }

    /// Starts another process of this test: this program in a role, with what `prepare` adds.
    pub fn role(&mut self, role: &str, prepare: impl FnOnce(Program<'_>) -> Program<'_>) -> Child {
        let memory: Vmo = self.start.take("archive").unwrap();
        let archive = Archive::new(&memory).unwrap();
        let file = archive.program("tests").unwrap();
        let (pool, budget) = (own::pool(), own::budget());
        let program = Program::new(role, file, &pool, &budget).standard().unwrap().argument(&format!("role={role}"));
        let child = prepare(program).start().unwrap();
        // The next one needs it too: the handle is not closed.
        core::mem::forget(memory);
        child
    }

    /// The value of a numeric argument.
    pub fn number(&self, name: &str) -> u64 {
        self.start.argument(name).and_then(|text| text.parse().ok()).unwrap()
    }
}

/// Nanoseconds since boot.
pub fn now() -> u64 {
    own::clock().now().unwrap()
}

/// A deadline this many milliseconds from now.
pub fn within(milliseconds: u64) -> Option<u64> {
    Some(now() + milliseconds * MILLISECOND)
}

/// Waits.
pub fn sleep(milliseconds: u64) {
    let end = now() + milliseconds * MILLISECOND;
    while now() < end {
        let _ = park(Some(end));
    }
}

/// A new event.
pub fn event() -> Event {
    Event::create(&own::pool()).unwrap()
}

/// A budget of a priority, without a limit, on all or some cores (0: all).
pub fn budget(priority: u64, cores: u64) -> Budget {
    own::budget().create(&own::pool(), Limits { priority, amount: 0, period: 0, cores }).unwrap()
}

/// A pool of this test's own.
pub fn pool(pages: u64) -> Pool {
    own::pool().create(pages).unwrap()
}

/// A system call with any arguments that do no harm to this process; its error, if it was refused.
pub fn call(call: Syscall, arguments: &[u64]) -> Result<[u64; 6], Error> {
    machine::call(call as u64, arguments)
}

/// The number of an object's handle.
pub fn number(object: &impl Object) -> u64 {
    object.handle().0.into()
}

/// A handle number that names nothing.
pub const NO_HANDLE: Handle = Handle(0xfff_fffe);
