//! Guests on simulated hardware: what crosses between a thread and its guest in registers, and what in memory.

use tessera_abi::{
    Error, FaultKind, NATIVE_BASE, PAGE, Syscall, syscall::map_flags, x86_64::GUEST_LEFT, x86_64::Registers,
};
use tessera_core::Fault;
use tessera_core_testing::{Answer, System};

const STATE: u64 = NATIVE_BASE + 0x4000_0000;
/// The guest's stack pointer, by which it is told from its thread.
const GUEST: u64 = 0x5000;

/// A thread with a guest, which it has not entered yet; answers the thread's stack pointer.
fn system() -> (System, u64) {
    let mut system = System::new(1024, 1);
    let [pool, space, thread] = ["pool", "space", "thread"].map(|name| system.first(name));
    let memory = system.call(Syscall::VmoCreate, &[pool, PAGE]).value();
    let flags = map_flags::READ | map_flags::WRITE;
    system.call(Syscall::SpaceMap, &[space, memory, 0, STATE, PAGE, flags | map_flags::FIXED]).value();
    let guest = system.call(Syscall::SpaceCreate, &[pool]).value();
    for early in [Syscall::GuestEnter, Syscall::GuestSave] {
        assert_eq!(system.call(early, &[STATE]).error(), Some(Error::BadState));
    }
    assert_eq!(system.call(Syscall::GuestResume, &[1, STATE]).error(), Some(Error::BadState));
    assert_eq!(system.call(Syscall::GuestCreate, &[thread, pool, guest]).error(), None);
    let who = system.who();
    (system, who)
}

/// Writes a register of the state in memory; `index` is its place in `Registers`.
fn set(system: &mut System, index: u64, value: u64) {
    assert!(system.write(STATE + index * 8, &value.to_le_bytes()));
}

fn word(system: &mut System, index: u64) -> u64 {
    let mut bytes = [0; 8];
    assert!(system.read(STATE + index * 8, &mut bytes));
    u64::from_le_bytes(bytes)
}

const RAX: u64 = 0;
const RSP: u64 = 13;
const RIP: u64 = 14;
const EXIT: u64 = 20;

/// The running guest makes a system call; its thread goes on, with this result code.
fn guest_calls(system: &mut System, thread: u64, number: u64, arguments: [u64; 6]) -> u64 {
    assert_eq!(system.who(), GUEST);
    assert_eq!(system.raw(number, arguments), Answer::Waits);
    assert_eq!(system.who(), thread);
    system.registers().rax
}

/// Enters the guest, which makes a system call.
fn entered() -> (System, u64) {
    let (mut system, thread) = system();
    set(&mut system, RSP, GUEST);
    set(&mut system, RIP, 0x40_0000);
    assert_eq!(system.call(Syscall::GuestEnter, &[STATE]), Answer::Waits);
    assert_eq!(guest_calls(&mut system, thread, 39, [1, 2, 3, 4, 5, 6]), 0);
    assert_eq!((word(&mut system, RAX), word(&mut system, EXIT)), (39, 0));
    (system, thread)
}

#[test]
fn a_resumed_guest_tells_its_calls_in_registers() {
    let (mut system, thread) = entered();
    for number in [0, 110, GUEST_LEFT - 1, GUEST_LEFT, u64::MAX] {
        assert_eq!(system.call(Syscall::GuestResume, &[number ^ 5, STATE]), Answer::Waits);
        assert_eq!(system.registers().rax, number ^ 5, "the result of its call");
        let code = guest_calls(&mut system, thread, number, [11, 12, 13, 14, 15, 16]);
        assert_eq!((code as u32, code >> 32), (0, number.min(GUEST_LEFT - 1)));
        assert_eq!(system.registers().arguments(), [11, 12, 13, 14, 15, 16]);
        assert_eq!(word(&mut system, RAX), 39, "nothing is written");
    }
    let rip = word(&mut system, RIP);
    assert_eq!(system.call(Syscall::GuestSave, &[STATE]).error(), None);
    assert_eq!((word(&mut system, RAX), word(&mut system, RSP)), (u64::MAX, GUEST));
    assert_eq!(word(&mut system, RIP), rip + 5 * Registers::SYSCALL_LENGTH);
    assert_eq!(system.call(Syscall::GuestSave, &[0x4000_0000]).error(), Some(Error::BadAddress));
}

#[test]
fn a_resumed_guest_that_faults_or_is_interrupted_leaves_its_state_in_memory() {
    let (mut system, thread) = entered();
    assert_eq!(system.call(Syscall::GuestResume, &[7, STATE]), Answer::Waits);
    system.machine.fault(0, Fault { kind: FaultKind::Divide, address: 9 });
    system.settle();
    assert_eq!((system.who(), system.registers().rax), (thread, GUEST_LEFT << 32));
    assert_eq!((word(&mut system, RAX), word(&mut system, EXIT)), (7, 1));

    // An unpark that came before is told in place of running the guest.
    let own = system.first("thread");
    assert_eq!(system.call(Syscall::Unpark, &[own]).error(), None);
    assert_eq!(system.call(Syscall::GuestResume, &[8, STATE]).error(), Some(Error::Interrupted));
    assert_eq!(system.call(Syscall::GuestResume, &[8, STATE]), Answer::Waits);
    assert_eq!(system.who(), GUEST);
}

#[test]
fn entering_after_resuming_tells_everything_in_memory_again() {
    let (mut system, thread) = entered();
    assert_eq!(system.call(Syscall::GuestResume, &[7, STATE]), Answer::Waits);
    guest_calls(&mut system, thread, 1, [0; 6]);
    set(&mut system, RIP, 0x40_8000);
    assert_eq!(system.call(Syscall::GuestEnter, &[STATE]), Answer::Waits);
    assert_eq!(guest_calls(&mut system, thread, 2, [0; 6]), 0);
    assert_eq!(word(&mut system, RAX), 2);
}
