//! Who runs in the kernel's mode: whoever holds `privilege` says so, and nobody else.

use tessera_abi::{Error, Kind, Level, NATIVE_BASE, Rights, Syscall};
use tessera_core_testing::System;

const MANAGE: u64 = Rights::MANAGE.bits() as u64;
/// The stack pointer of a started thread, by which it is told.
const STACK: u64 = 0x7000;

/// Starts a thread of a new process in `space`; it runs when this returns.
fn start(system: &mut System, space: u64) {
    let [pool, budget] = ["pool", "budget"].map(|name| system.first(name));
    let process = system.call(Syscall::ProcessCreate, &[pool, space, 0, 0]).value();
    for name in ["pool", "privilege"] {
        let number = system.first(name);
        let copy = system.call(Syscall::Duplicate, &[number, u64::from(Rights::ALL.bits())]).value();
        system.call(Syscall::ProcessGrant, &[process, copy]).value();
    }
    let thread = system.call(Syscall::ThreadCreate, &[pool, process, budget]).value();
    assert_eq!(system.call(Syscall::ThreadStart, &[thread, NATIVE_BASE, STACK, 0, 0]).error(), None);
    system.call(Syscall::Yield, &[]);
    assert_eq!(system.who(), STACK);
}

#[test]
fn only_who_holds_privilege_makes_spaces_of_the_kernels_mode() {
    let mut system = System::new(1024, 1);
    let [pool, power, privilege] = ["pool", "power", "privilege"].map(|name| system.first(name));
    let make =
        |system: &mut System, with: u64, level: u64| system.call(Syscall::SpaceCreatePrivileged, &[with, pool, level]);
    for other in [pool, power] {
        assert_eq!(make(&mut system, other, 1).error(), Some(Error::WrongKind));
    }
    let less = u64::from(Rights::ALL.bits()) & !MANAGE;
    let less = system.call(Syscall::Duplicate, &[privilege, less]).value();
    assert_eq!(make(&mut system, less, 1).error(), Some(Error::NoRight));
    assert_eq!(make(&mut system, privilege, 3).error(), Some(Error::BadArgument));
    let space = make(&mut system, privilege, 1).value();
    assert_eq!(system.call(Syscall::Inspect, &[space]).value(), Kind::Space as u64);
}

#[test]
fn threads_run_at_the_level_of_their_space() {
    for (level, kernel) in [(Level::User, false), (Level::Kernel, true), (Level::Guests, true)] {
        let mut system = System::new(1024, 1);
        let [pool, privilege] = ["pool", "privilege"].map(|name| system.first(name));
        assert!(!system.activation().kernel, "the first program was not linked with the kernel");
        let space = system.call(Syscall::SpaceCreatePrivileged, &[privilege, pool, level as u64]).value();
        start(&mut system, space);
        assert_eq!(system.activation().kernel, kernel);
    }
}

#[test]
fn a_guest_runs_in_the_kernels_mode_only_for_a_thread_whose_guests_may() {
    let mut system = System::new(1024, 1);
    let [pool, privilege, thread] = ["pool", "privilege", "thread"].map(|name| system.first(name));
    let space = system.call(Syscall::SpaceCreatePrivileged, &[privilege, pool, Level::Kernel as u64]).value();
    assert_eq!(system.call(Syscall::GuestCreate, &[thread, pool, space]).error(), Some(Error::NoRight));
    assert!(!system.activation().kernel);
}
