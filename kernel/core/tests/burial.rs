//! The end of objects where it takes long: what is taken apart in steps, in whatever order its parts come.

use tessera_abi::{Delivery, Error, FaultKind, PAGE, Syscall, Tag, syscall::map_flags};
use tessera_core::{Fault, Next};
use tessera_core_testing::{Answer, System};

#[test]
fn an_idle_processor_waits_for_the_buried_mapping_of_a_space_that_ends() {
    // Whose turn it is when the processor looks around for the last time depends on how it began.
    (0..3).for_each(space_with_a_buried_mapping_ends);
}

fn space_with_a_buried_mapping_ends(before: usize) {
    const PAGES: u64 = 3_500;
    let mut system = System::new(8_000, 2);
    system.audits = false;
    let [pool, budget] = ["pool", "budget"].map(|name| system.first(name));
    let own = system.first("thread");
    let [here, there] =
        [1, 2].map(|cores| system.call(Syscall::BudgetCreate, &[pool, budget, 63, 0, 0, cores]).value());
    assert_eq!(system.call(Syscall::ThreadBudget, &[own, here]).error(), None);
    let small = system.call(Syscall::PoolCreate, &[pool, 4_000]).value();
    let empty = system.accounts(small);
    let (space, process) = system.process(small);
    let vmo = system.call(Syscall::VmoCreate, &[small, PAGES * PAGE]).value();
    let at = 0x100_0000;
    let flags = map_flags::READ | map_flags::WRITE | map_flags::FIXED;
    assert_eq!(system.call(Syscall::SpaceMap, &[space, vmo, 0, at, PAGES * PAGE, flags]).error(), None);
    let theirs = system.grant(process, vmo);
    for handle in [vmo, space] {
        assert_eq!(system.call(Syscall::Close, &[handle]).error(), None);
    }
    system.thread(small, process, there, 0x1000);
    system.thread(small, process, there, 0x2000);
    // From here on all but the first program runs on the second processor, and the first one is left alone.
    system.processor = 1;
    system.settle();
    for page in 0..PAGES {
        assert!(system.write(at + page * PAGE, &[1]));
    }
    let revoker = system.who();
    let registers = &mut system.activation().registers;
    (registers.rax, registers.rdi) = (Syscall::Revoke as u64, theirs);
    system.machine.syscall(1);
    // The handle that stays holds nothing: its mapping is buried. The process ends before it is taken apart, with nobody who waits for that.
    assert_eq!(system.who(), revoker);
    system.machine.fault(1, Fault { kind: FaultKind::Divide, address: 0 });
    let mut steps = 0;
    for _ in 0..before {
        assert_eq!(system.machine.next(1), Next::Work);
    }
    while system.machine.next(1) == Next::Work {
        system.machine.work(1);
        steps += 1;
    }
    assert!(steps > 1, "{steps} steps");
    assert!(system.machine.is_quiet(), "the processor idles, and something is left");
    system.processor = 0;
    assert_eq!(system.call(Syscall::ProcessInspect, &[process]).value(), 2);
    assert_eq!(system.call(Syscall::Close, &[process]).error(), None);
    let mut after = system.accounts(small);
    // The handles to its threads are the first program's.
    after[5] = empty[5];
    assert_eq!(after, empty);
    system.audits = true;
    system.settle();
}

#[test]
fn a_thread_that_fails_in_a_queue_leaves_the_others_in_it() {
    let mut system = System::new(4096, 1);
    let [pool, process, budget] = ["pool", "process", "budget"].map(|name| system.first(name));
    let first = system.who();
    let endpoint = system.call(Syscall::EndpointCreate, &[pool]).value();
    let session = system.call(Syscall::SessionCreate, &[endpoint, pool, 1]).value();
    // The first in the queue waits for a page: when the pager is gone, it cannot go on and its process ends.
    let (space, failing) = system.process(pool);
    let paged = system.call(Syscall::VmoCreatePaged, &[pool, PAGE, endpoint, 1]).value();
    let flags = map_flags::READ | map_flags::FIXED;
    assert_eq!(system.call(Syscall::SpaceMap, &[space, paged, 0, 0x10_0000, PAGE, flags]).error(), None);
    system.thread(pool, failing, budget, 0x1000);
    system.switch_to(0x1000);
    system.machine.fault(0, Fault { kind: FaultKind::Read, address: 0x10_0000 });
    system.settle();
    system.switch_to(first);
    // More callers than one step of the endpoint's end looks at.
    let callers: Vec<u64> = (0..40).map(|index| 0x2_0000 + index * 0x100).collect();
    for stack in &callers {
        system.thread(pool, process, budget, *stack);
        system.switch_to(*stack);
        assert_eq!(system.message(Syscall::Call, session, Tag::new(0), [0; 8]), Answer::Waits);
        system.switch_to(first);
    }
    assert_eq!(system.call(Syscall::Close, &[endpoint]).error(), None);
    assert_eq!(system.call(Syscall::ProcessInspect, &[failing]).values()[..2], [2, 128 + FaultKind::NoMemory as u64]);
    for stack in callers {
        for _ in 0..64 {
            if system.who() == stack {
                break;
            }
            system.call(Syscall::Yield, &[]);
        }
        assert_eq!(system.who(), stack, "it was told");
        assert_eq!(system.result().error(), Some(Error::PeerGone));
        assert_eq!(system.call(Syscall::Park, &[u64::MAX]), Answer::Waits);
    }
}

/// Two processors. On the second runs a client; two processes wait in the same call, the first of them is killed by the first processor,
/// and before that is taken apart the client does something.
fn between_death_and_burial(wait: impl Fn(&mut System, u64, u64), act: impl Fn(&mut System, u64, u64)) -> System {
    let mut machine = System::new(2048, 2);
    let system = &mut machine;
    let ([pool, budget], first) = (["pool", "budget"].map(|name| system.first(name)), system.who());
    let [here, there] =
        [1, 2].map(|cores| system.call(Syscall::BudgetCreate, &[pool, budget, 63, 0, 0, cores]).value());
    let own = system.first("thread");
    assert_eq!(system.call(Syscall::ThreadBudget, &[own, here]).error(), None);
    let endpoint = system.call(Syscall::EndpointCreate, &[pool]).value();
    let session = system.call(Syscall::SessionCreate, &[endpoint, pool, 1]).value();
    let event = system.call(Syscall::EventCreate, &[pool]).value();
    let mut processes = Vec::new();
    for stack in [0x1000, 0x2000] {
        let (_, process) = system.process(pool);
        let (endpoint, event) = (system.grant(process, endpoint), system.grant(process, event));
        system.thread(pool, process, here, stack);
        system.switch_to(stack);
        wait(system, endpoint, event);
        system.switch_to(first);
        processes.push(process);
    }
    let (_, client) = system.process(pool);
    let (session, raised) = (system.grant(client, session), system.grant(client, event));
    assert_eq!(system.call(Syscall::EndpointBind, &[endpoint, event, 2]).error(), None);
    system.thread(pool, client, there, 0x3000);
    system.processor = 1;
    system.settle();
    assert_eq!(system.who(), 0x3000);
    // The kill alone, with nothing that follows from it.
    let registers = &mut system.machine.activation(0).expect("the first program runs").registers;
    (registers.rax, registers.rdi, registers.rsi) = (Syscall::ProcessKill as u64, processes[0], 9);
    system.machine.syscall(0);
    act(system, session, raised);
    system.processor = 0;
    machine
}

#[test]
fn a_call_is_not_handed_to_a_receiver_that_is_about_to_end() {
    let mut system = between_death_and_burial(
        |system, endpoint, _| {
            assert_eq!(system.message(Syscall::Receive, endpoint, Tag::new(0), [0; 8]), Answer::Waits);
        },
        |system, session, _| {
            assert_eq!(system.message(Syscall::Call, session, Tag::new(7), [0; 8]), Answer::Waits);
        },
    );
    // On its caller's time, so where that may run.
    system.processor = 1;
    system.settle();
    assert_eq!(system.who(), 0x2000);
    let (delivery, _, tag, _) = system.received();
    assert_eq!((delivery, tag.label()), (Delivery::Call as u64, 7));
}

#[test]
fn bits_are_not_told_to_a_receiver_that_is_about_to_end() {
    let mut system = between_death_and_burial(
        |system, endpoint, _| {
            assert_eq!(system.message(Syscall::Receive, endpoint, Tag::new(0), [0; 8]), Answer::Waits);
        },
        |system, _, event| assert_eq!(system.call(Syscall::EventRaise, &[event, 2]).error(), None),
    );
    system.settle();
    system.switch_to(0x2000);
    assert_eq!(system.received().0, Delivery::Event as u64);
    assert_eq!(system.received().1, 2);
}

#[test]
fn bits_are_not_cleared_by_a_waiter_that_is_about_to_end() {
    let mut system = between_death_and_burial(
        |system, _, event| {
            assert_eq!(system.call(Syscall::EventWait, &[event, 4, 4, u64::MAX]), Answer::Waits);
        },
        |system, _, event| assert_eq!(system.call(Syscall::EventRaise, &[event, 4]).error(), None),
    );
    system.settle();
    system.switch_to(0x2000);
    assert_eq!(system.result().value(), 4);
}
