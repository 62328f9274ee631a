//! Every call number with arguments that no honest program makes: nothing panics, and a refused call has charged nothing.

use tessera_abi::{Error, Rights, Syscall};
use tessera_core_testing::System;

/// Calls that end or block their caller when they are granted.
const ENDING: [Syscall; 7] = [
    Syscall::Exit,
    Syscall::ThreadExit,
    Syscall::Park,
    Syscall::EventWait,
    Syscall::ProcessKill,
    Syscall::ThreadSuspend,
    Syscall::PowerControl,
];

#[test]
fn handles_that_are_none_are_refused_by_every_call_that_takes_one() {
    let mut system = System::new(512, 1);
    let before = system.machine.charges();
    let without =
        [Syscall::Null, Syscall::Yield, Syscall::Exit, Syscall::Processors, Syscall::Park, Syscall::ThreadPointer];
    let by_state = [
        Syscall::Reply,
        Syscall::LeaseRead,
        Syscall::LeaseWrite,
        Syscall::GuestEnter,
        Syscall::GuestResume,
        Syscall::GuestSave,
        Syscall::ThreadExit,
        Syscall::GuestVectorRead,
        Syscall::GuestVectorWrite,
    ];
    for call in Syscall::ALL.iter().filter(|call| !without.contains(call) && !by_state.contains(call)) {
        for bad in [0, 0xdead, u64::from(u32::MAX), u64::MAX, 1 << 32 | 1] {
            assert_eq!(system.raw(*call as u64, [bad; 6]).error(), Some(Error::BadHandle), "{call:?} of {bad:#x}");
        }
    }
    assert_eq!(system.machine.charges(), before);
}

#[test]
fn handles_without_rights_and_wrapping_ranges_change_nothing() {
    let mut system = System::new(512, 1);
    let names =
        ["pool", "space", "process", "thread", "budget", "interrupts", "ports", "devices", "clock", "log", "power"];
    let handles = names.map(|name| system.first(name));
    let bare = handles.map(|handle| system.call(Syscall::Duplicate, &[handle, u64::from(Rights::NONE.bits())]).value());
    for call in Syscall::ALL.iter().filter(|call| !ENDING.contains(call) && **call != Syscall::Close) {
        for first in bare {
            for rest in [0, 1, u64::MAX, u64::MAX - 4095, 1 << 47, handles[0], bare[0]] {
                let before = system.machine.charges();
                let answer = system.raw(*call as u64, [first, rest, rest, rest, rest, rest]);
                if answer.error().is_some() {
                    assert_eq!(system.machine.charges(), before, "{call:?} of {first:#x} and {rest:#x}");
                }
            }
        }
    }
}
