//! The tests that run inside the machine.
//!
//! Started first, the program supervises: it runs each test in a process of its own, a copy of itself, with a pool of its own,
//! and checks after each that everything was given back. Its arguments choose tests by parts of their names.
//! Started with `test=NAME` it is that test; with `role=NAME` it is another process that a test needs.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod budgets;
mod calls;
mod context;
mod deaths;
mod devices;
mod edu;
mod events;
mod faults;
mod garbage;
mod guests;
mod handles;
mod heap;
mod hostile;
mod interfaces;
mod leases;
mod machine;
mod memory;
mod pager;
mod processes;
mod random;
mod registers;
mod seals;
#[path = "../../../runtime/tests/shapes/mod.rs"]
mod shapes;
mod soak;
mod supervisor;
mod synchronisation;
mod threads;

use context::Context;
use tessera_runtime::{Start, program};

/// One test: a name that says the behaviour, and what to do. It fails by panicking.
type Test = (&'static str, fn(&mut Context));

/// Another process that a test needs: its name and what it does. Its result is its exit code.
type Role = (&'static str, fn(&mut Context) -> i32);

/// All tests, hostile ones first.
const TESTS: &[&[Test]] = &[
    hostile::TESTS,
    garbage::TESTS,
    handles::TESTS,
    memory::TESTS,
    pager::TESTS,
    calls::TESTS,
    leases::TESTS,
    deaths::TESTS,
    events::TESTS,
    threads::TESTS,
    synchronisation::TESTS,
    registers::TESTS,
    budgets::TESTS,
    seals::TESTS,
    devices::TESTS,
    edu::TESTS,
    heap::TESTS,
    processes::TESTS,
    interfaces::TESTS,
    faults::TESTS,
    guests::TESTS,
    soak::TESTS,
];

/// All roles.
const ROLES: &[&[Role]] = &[
    garbage::ROLES,
    handles::ROLES,
    calls::ROLES,
    processes::ROLES,
    faults::ROLES,
    deaths::ROLES,
    devices::ROLES,
    edu::ROLES,
    interfaces::ROLES,
    soak::ROLES,
];

program!(main);

fn main(start: Start) -> i32 {
    if let Some(name) = start.argument("test") {
        let Some((_, test)) = TESTS.iter().copied().flatten().find(|(test, _)| *test == name) else { return 2 };
        test(&mut Context::new(start));
        return 0;
    }
    if let Some(name) = start.argument("role") {
        let Some((_, role)) = ROLES.iter().copied().flatten().find(|(role, _)| *role == name) else { return 2 };
        return role(&mut Context::new(start));
    }
    supervisor::run(start)
}
