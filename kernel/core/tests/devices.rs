//! Authority over devices: what each object lets its holder do, and that it can only be narrowed.

use tessera_abi::{Error, Rights, Syscall};
use tessera_core_testing::System;

/// A machine with 24 pins and 4 messages behind them; its first program's pool and interrupts.
fn bench() -> (System, u64, u64) {
    let mut system = System::new(2048, 1);
    let (pool, lines) = (system.first("pool"), system.first("interrupts"));
    (system, pool, lines)
}

#[test]
fn a_message_raises_the_bits_that_it_is_bound_to() {
    let (mut system, pool, lines) = bench();
    assert_eq!(system.call(Syscall::InterruptInspect, &[lines]).values()[..3], [0, 28, 24]);
    let [message, address, data, ..] = system.call(Syscall::InterruptCreateMessage, &[lines, pool]).values();
    assert_eq!((address, data), (0xfee0_0000, 24), "what the hardware says");
    assert_eq!(system.call(Syscall::InterruptInspect, &[message]).values()[..3], [24, 1, 24]);
    let event = system.call(Syscall::EventCreate, &[pool]).value();
    // Not bound yet: nobody is told.
    system.machine.interrupt(0, 24);
    assert_eq!(system.call(Syscall::InterruptBind, &[message, event, 6]).error(), None);
    assert_eq!(system.call(Syscall::EventClear, &[event, 0]).value(), 0);
    for _ in 0..2 {
        system.machine.interrupt(0, 24);
        assert_eq!(system.call(Syscall::EventClear, &[event, 6]).value(), 6, "without an acknowledgement between");
    }
    assert_eq!(system.call(Syscall::InterruptAcknowledge, &[message]).error(), None);
    assert!(system.machine.hardware.lines.is_empty(), "a message has no mask");
}

#[test]
fn a_message_goes_with_its_last_handle_and_is_ignored_from_then_on() {
    let (mut system, pool, lines) = bench();
    let before = system.accounts(pool);
    let [message, ..] = system.call(Syscall::InterruptCreateMessage, &[lines, pool]).values();
    let copy = system.call(Syscall::Duplicate, &[message, u64::from(Rights::ALL.bits())]).value();
    let event = system.call(Syscall::EventCreate, &[pool]).value();
    assert_eq!(system.call(Syscall::InterruptBind, &[message, event, 1]).error(), None);
    assert_eq!(system.call(Syscall::Close, &[message]).error(), None);
    system.machine.interrupt(0, 24);
    assert_eq!(system.call(Syscall::EventClear, &[event, 1]).value(), 1, "one handle is left");
    assert_eq!(system.call(Syscall::Close, &[copy]).error(), None);
    system.machine.interrupt(0, 24);
    assert_eq!(system.call(Syscall::EventClear, &[event, 1]).value(), 0);
    // The device may still send the old one: others are given out first.
    let numbers = [(); 4].map(|()| system.call(Syscall::InterruptCreateMessage, &[lines, pool]).values());
    assert_eq!(numbers.map(|values| values[2]), [25, 26, 27, 24]);
    system.machine.interrupt(0, 24);
    assert_eq!(system.call(Syscall::EventClear, &[event, 1]).value(), 0);
    for handle in numbers.map(|values| values[0]).into_iter().chain([event]) {
        assert_eq!(system.call(Syscall::Close, &[handle]).error(), None);
    }
    assert_eq!(system.accounts(pool), before);
}

#[test]
fn revoking_the_authority_ends_the_messages_made_of_it() {
    let (mut system, pool, lines) = bench();
    let all = u64::from(Rights::ALL.bits());
    let authority = system.call(Syscall::Duplicate, &[lines, all]).value();
    let [message, ..] = system.call(Syscall::InterruptCreateMessage, &[authority, pool]).values();
    let event = system.call(Syscall::EventCreate, &[pool]).value();
    assert_eq!(system.call(Syscall::InterruptBind, &[message, event, 1]).error(), None);
    assert_eq!(system.call(Syscall::Revoke, &[authority]).error(), None);
    assert_eq!(system.call(Syscall::InterruptAcknowledge, &[message]).error(), Some(Error::BadHandle));
    system.machine.interrupt(0, 24);
    assert_eq!(system.call(Syscall::EventClear, &[event, 1]).value(), 0);
}

#[test]
fn messages_are_made_of_authority_over_messages_only() {
    let (mut system, pool, lines) = bench();
    let before = system.accounts(pool);
    let pins = system.call(Syscall::InterruptCreate, &[lines, pool, 0, 24]).value();
    assert_eq!(system.call(Syscall::InterruptCreateMessage, &[pins, pool]).error(), Some(Error::BadArgument));
    let two = system.call(Syscall::InterruptCreate, &[lines, pool, 25, 2]).value();
    let made = [(); 3].map(|()| system.call(Syscall::InterruptCreateMessage, &[two, pool]));
    assert_eq!([made[0].values()[2], made[1].values()[2]], [25, 26]);
    assert_eq!(made[2].error(), Some(Error::NoQuota), "both are taken");
    // A line is not a message because its number is known.
    let guessed = system.call(Syscall::InterruptCreate, &[lines, pool, 27, 1]).value();
    let event = system.call(Syscall::EventCreate, &[pool]).value();
    assert_eq!(system.call(Syscall::InterruptBind, &[guessed, event, 1]).error(), Some(Error::BadState));
    let taken = system.call(Syscall::InterruptCreate, &[lines, pool, 25, 1]).value();
    assert_eq!(system.call(Syscall::InterruptBind, &[taken, event, 1]).error(), Some(Error::Occupied));
    assert_eq!(system.call(Syscall::InterruptAcknowledge, &[taken]).error(), Some(Error::BadState));
    let weak = system.call(Syscall::Duplicate, &[lines, u64::from(Rights::READ.bits())]).value();
    assert_eq!(system.call(Syscall::InterruptCreateMessage, &[weak, pool]).error(), Some(Error::NoRight));
    for handle in [pins, two, made[0].value(), made[1].value(), guessed, event, taken, weak] {
        assert_eq!(system.call(Syscall::Close, &[handle]).error(), None);
    }
    assert_eq!(system.accounts(pool), before);
}
