//! Every object by itself: what its calls do, who else notices, and that all of it is given back.

use tessera_abi::{Error, FaultKind, PAGE, Rights, Syscall, Tag, syscall::map_flags};
use tessera_core::{Fault, Next, PowerAction};
use tessera_core_testing::{Answer, System};

const READ_WRITE: u64 = map_flags::READ | map_flags::WRITE;

/// A machine, and the first program's most used handles.
struct Bench {
    system: System,
    pool: u64,
    space: u64,
    process: u64,
    budget: u64,
    first: u64,
}

fn bench() -> Bench {
    let mut system = System::new(2048, 1);
    let [pool, space, process, budget] = ["pool", "space", "process", "budget"].map(|name| system.first(name));
    let first = system.who();
    Bench { system, pool, space, process, budget, first }
}

#[test]
fn the_first_program_runs_logs_and_ends_the_machine() {
    let mut system = System::new(1024, 1);
    let (log, power, clock) = (system.first("log"), system.first("power"), system.first("clock"));
    assert_eq!(system.call(Syscall::Null, &[]).error(), None);
    let text = system.registers().rsp - 64;
    assert!(system.write(text, b"hello"));
    assert_eq!(system.call(Syscall::LogWrite, &[log, text, 5]).error(), None);
    assert_eq!(system.machine.hardware.log, b"hello");
    system.machine.hardware.time = 5;
    assert_eq!(system.call(Syscall::ClockRead, &[clock]).value(), 5);
    assert_eq!(system.call(Syscall::LogWrite, &[clock, text, 5]), Answer::Refused(Error::WrongKind));
    assert_eq!(system.call(Syscall::PowerControl, &[power, 0, 7]).error(), None);
    assert_eq!(system.machine.hardware.power, Some(PowerAction::Off(7)));
    assert_eq!(system.raw(u64::MAX, [0; 6]), Answer::Refused(Error::BadSyscall));
}

#[test]
fn memory_beyond_the_highest_mapping_is_found_below_it() {
    let Bench { mut system, pool, space, .. } = bench();
    let size = 16 << 20;
    let vmo = system.call(Syscall::VmoCreate, &[pool, size]).value();
    system.call(Syscall::SpaceMap, &[space, vmo, 0, 0, size, READ_WRITE]).value();
}

#[test]
fn who_maps_and_unmaps_again_and_again_needs_the_same_tables() {
    let Bench { mut system, pool, space, .. } = bench();
    let size = 4 << 20;
    let mut round = || {
        let [first, second] = [size, size].map(|size| {
            let vmo = system.call(Syscall::VmoCreate, &[pool, size]).value();
            let at = system.call(Syscall::SpaceMap, &[space, vmo, 0, 0, size, READ_WRITE]).value();
            assert!(system.write(at, b"touched"));
            assert_eq!(system.call(Syscall::Close, &[vmo]).error(), None);
            at
        });
        for at in [second, first] {
            assert_eq!(system.call(Syscall::SpaceUnmap, &[space, at, size]).error(), None);
        }
        (first, system.machine.hardware.table_frames())
    };
    let first = round();
    for _ in 0..100 {
        assert_eq!(round(), first);
    }
}

#[test]
fn revoking_a_handle_leaves_its_siblings_families_alone() {
    let Bench { mut system, pool, .. } = bench();
    let all = u64::from(Rights::ALL.bits());
    let mut copy = |of| system.call(Syscall::Duplicate, &[of, all]).value();
    let older = copy(pool);
    let younger = copy(pool);
    let grandchild = copy(older);
    let own = copy(younger);
    assert_eq!(system.call(Syscall::Close, &[older]).error(), None);
    assert_eq!(system.call(Syscall::Revoke, &[younger]).error(), None);
    assert_eq!(system.call(Syscall::Inspect, &[own]).error(), Some(Error::BadHandle));
    assert_eq!(system.call(Syscall::Inspect, &[younger]).error(), None);
    assert_eq!(system.call(Syscall::Inspect, &[grandchild]).error(), None, "derived from a sibling");
    assert_eq!(system.call(Syscall::Revoke, &[pool]).error(), None);
    assert_eq!(system.call(Syscall::Inspect, &[grandchild]).error(), Some(Error::BadHandle));
}

#[test]
fn threads_of_one_priority_share_the_processor() {
    let Bench { mut system, pool, process, budget, first, .. } = bench();
    system.advance(1_000);
    system.thread(pool, process, budget, 0x1000);
    let at = *system.machine.hardware.timers.get(&0).expect("the timer is set for the end of the turn");
    assert!(at <= 1_000 + 10_000_000);
    assert_eq!(system.who(), first);
    system.advance(20_000_000);
    assert_eq!(system.who(), 0x1000);
}

#[test]
fn a_mapping_of_many_pages_changes_its_protection_and_goes() {
    let Bench { mut system, pool, space, .. } = bench();
    let before = system.accounts(pool);
    let (vmo, address) = system.memory(pool, space, 700);
    for page in 0..700 {
        assert!(system.write(address + page * PAGE, &[1]));
    }
    let answer = system.call(Syscall::SpaceProtect, &[space, address, 700 * PAGE, map_flags::READ]);
    assert_eq!(answer.error(), None);
    let root = system.activation().root;
    assert!((0..700).all(|page| system.machine.hardware.page(root, address + page * PAGE).is_none()));
    assert_eq!(system.call(Syscall::SpaceUnmap, &[space, address, 700 * PAGE]).error(), None);
    assert_eq!(system.call(Syscall::Close, &[vmo]).error(), None);
    let tables = system.accounts(pool)[0][1] - before[0][1];
    assert!(tables < 8, "only page tables stay: {tables}");
}

#[test]
fn a_child_budget_cannot_outlive_its_parents_limit() {
    let Bench { mut system, pool, process, budget, first, .. } = bench();
    let limited = system.call(Syscall::BudgetCreate, &[pool, budget, 63, 1_000_000, 10_000_000, 0]).value();
    let child = system.call(Syscall::BudgetCreate, &[pool, limited, 63, 0, 0, 0]).value();
    system.thread(pool, process, child, 0x1000);
    assert_eq!(system.call(Syscall::Close, &[limited]).error(), None);
    system.switch_to(0x1000);
    system.advance(2_000_000);
    assert_eq!(system.who(), first, "the other is out of time");
    system.advance(1_000_000);
    assert_eq!(system.call(Syscall::Yield, &[]).error(), None);
    assert_eq!(system.who(), first);
    system.advance(10_000_000);
    system.switch_to(0x1000);
}

#[test]
fn a_tiny_amount_throttles_without_end_of_work() {
    let Bench { mut system, pool, process, budget, first, .. } = bench();
    let tiny = system.call(Syscall::BudgetCreate, &[pool, budget, 63, 1, 100_000, 0]).value();
    for stack in [0x1000, 0x2000, 0x3000] {
        system.thread(pool, process, tiny, stack);
    }
    for _ in 0..200 {
        system.advance(33_333);
        assert_ne!(system.who(), 0);
        system.call(Syscall::Yield, &[]);
    }
    system.advance(1);
    system.switch_to(first);
}

#[test]
fn a_ready_thread_whose_budget_is_gone_does_not_run() {
    let Bench { mut system, pool, process, budget, first, .. } = bench();
    let own = system.call(Syscall::BudgetCreate, &[pool, budget, 63, 0, 0, 0]).value();
    let thread = system.thread(pool, process, own, 0x1000);
    assert_eq!(system.call(Syscall::Close, &[own]).error(), None);
    system.call(Syscall::Yield, &[]);
    assert_eq!(system.who(), first);
    assert_eq!(system.call(Syscall::ThreadBudget, &[thread, budget]).error(), None);
    system.switch_to(0x1000);
}

#[test]
fn a_page_is_asked_for_and_supplied() {
    let Bench { mut system, pool, space, budget, first, .. } = bench();
    let endpoint = system.call(Syscall::EndpointCreate, &[pool]).value();
    let paged = system.call(Syscall::VmoCreatePaged, &[pool, PAGE, endpoint, 3]).value();
    let (other_space, process) = system.process(pool);
    let address = system.call(Syscall::SpaceMap, &[other_space, paged, 0, 0, PAGE, READ_WRITE]).value();
    system.thread(pool, process, budget, 0x1000);
    system.switch_to(0x1000);
    system.machine.fault(0, Fault { kind: FaultKind::Read, address });
    assert_eq!(system.settle(), Next::Run);
    assert_eq!(system.who(), first);
    assert_eq!(system.message(Syscall::Receive, endpoint, Tag::new(0), [0; 8]).error(), None);
    assert_eq!(system.received().0, 3);
    assert_eq!(system.received().3[..2], [0, 0]);
    let (_, source) = system.memory(pool, space, 1);
    assert!(system.write(source, b"paged"));
    assert_eq!(system.call(Syscall::VmoWrite, &[paged, 0, source, 5]).value(), 5);
    assert_eq!(system.message(Syscall::Reply, 0, Tag::new(0), [0; 8]).error(), None);
    system.switch_to(0x1000);
    let mut bytes = [0; 5];
    assert!(system.read(address, &mut bytes));
    assert_eq!(&bytes, b"paged");
}

#[test]
fn a_snapshot_and_its_source_change_independently() {
    let Bench { mut system, pool, space, .. } = bench();
    let before = system.accounts(pool);
    let (vmo, address) = system.memory(pool, space, 3);
    assert!(system.write(address, b"before"));
    let copy = system.call(Syscall::VmoSnapshot, &[vmo, pool]).value();
    let view = system.call(Syscall::SpaceMap, &[space, copy, 0, 0, 3 * PAGE, READ_WRITE]).value();
    let mut bytes = [0; 6];
    assert!(system.write(address, b"source"));
    assert!(system.read(view, &mut bytes));
    assert_eq!(&bytes, b"before");
    assert!(system.write(view, b"copied"));
    assert!(system.read(address, &mut bytes));
    assert_eq!(&bytes, b"source");
    let again = system.call(Syscall::VmoSnapshot, &[copy, pool]).value();
    assert_eq!(system.call(Syscall::VmoRead, &[again, 0, address + PAGE, 6]).value(), 6);
    assert!(system.read(address + PAGE, &mut bytes));
    assert_eq!(&bytes, b"copied");
    // A resize takes pages from one side only, and what grows again is zero.
    assert!(system.write(address + PAGE, b"beyond"));
    assert_eq!(system.call(Syscall::VmoResize, &[vmo, PAGE]).error(), None);
    assert_eq!(system.call(Syscall::VmoRead, &[vmo, PAGE, address, 1]).error(), Some(Error::BadArgument));
    assert_eq!(system.call(Syscall::VmoResize, &[vmo, 2 * PAGE]).error(), None);
    assert!(system.read(address + PAGE, &mut bytes));
    assert_eq!(bytes, [0; 6]);
    // Discarded pages read as zeroes on one side only; a range that is not there is refused.
    assert_eq!(system.call(Syscall::VmoDiscard, &[copy, 0, PAGE]).error(), None);
    assert!(system.read(view, &mut bytes));
    assert_eq!(bytes, [0; 6]);
    assert!(system.read(address, &mut bytes));
    assert_eq!(&bytes, b"source");
    for (offset, length) in [(PAGE, 3 * PAGE), (1, PAGE), (0, 1), (u64::MAX - PAGE + 1, PAGE)] {
        assert_eq!(system.call(Syscall::VmoDiscard, &[copy, offset, length]).error(), Some(Error::BadArgument));
    }
    // Whoever was lent memory to write to can take no page from its owner.
    let lent = (Rights::READ | Rights::WRITE | Rights::MAP).bits().into();
    let lent = system.call(Syscall::Duplicate, &[copy, lent]).value();
    assert_eq!(system.call(Syscall::VmoDiscard, &[lent, 0, PAGE]).error(), Some(Error::NoRight));
    assert_eq!(system.call(Syscall::VmoResize, &[lent, PAGE]).error(), Some(Error::NoRight));
    assert_eq!(system.call(Syscall::Close, &[lent]).error(), None);
    assert_eq!(system.call(Syscall::SpaceUnmap, &[space, address, 3 * PAGE]).error(), None);
    assert_eq!(system.call(Syscall::SpaceUnmap, &[space, view, 3 * PAGE]).error(), None);
    for handle in [vmo, copy, again] {
        assert_eq!(system.call(Syscall::Close, &[handle]).error(), None);
    }
    let after = system.accounts(pool);
    assert_eq!(after[1..], before[1..], "all but page tables is given back");
}

#[test]
fn memory_of_one_pool_pays_for_a_shared_page_once_and_for_each_copy() {
    let Bench { mut system, pool, space, .. } = bench();
    let own = system.call(Syscall::PoolCreate, &[pool, 200]).value();
    let (_, bytes) = system.memory(pool, space, 1);
    let filler = system.call(Syscall::VmoCreate, &[own, 200 * PAGE]).value();
    (0..187).for_each(|page| {
        assert_eq!(system.call(Syscall::VmoWrite, &[filler, page * PAGE, bytes, 1]).value(), 1);
    });
    let pages = |system: &mut System| system.accounts(own)[0][1] - 188;
    let source = system.call(Syscall::VmoCreate, &[own, 8 * PAGE]).value();
    assert!(system.write(bytes, b"content"));
    let write = |system: &mut System, vmo: u64, page: u64| {
        let answer = system.call(Syscall::VmoWrite, &[vmo, page * PAGE, bytes, 7]);
        if answer.error().is_some() { 0 } else { answer.value() }
    };
    (0..8).for_each(|page| assert_eq!(write(&mut system, source, page), 7));
    assert_eq!(pages(&mut system), 8 + 1, "and a table");
    let copy = system.call(Syscall::VmoSnapshot, &[source, own]).value();
    assert_eq!(pages(&mut system), 8 + 2, "the pages are shared");
    // What there is no memory for is refused, and there is some once another copy is gone.
    (0..2).for_each(|page| assert_eq!(write(&mut system, copy, page), 7));
    assert_eq!(pages(&mut system), 12);
    assert_eq!((write(&mut system, copy, 2), write(&mut system, source, 2)), (0, 0));
    assert_eq!(system.call(Syscall::VmoDiscard, &[copy, 0, PAGE]).error(), None);
    assert_eq!(pages(&mut system), 11);
    assert_eq!(system.call(Syscall::VmoDiscard, &[copy, 2 * PAGE, PAGE]).error(), None);
    assert_eq!(pages(&mut system), 11, "the source still has it");
    assert_eq!(write(&mut system, source, 2), 7, "which is alone with it now");
    assert_eq!(write(&mut system, source, 3), 7);
    assert_eq!(pages(&mut system), 12);
    // Another pool does not pay for pages that this one shares.
    assert_eq!(system.call(Syscall::VmoSnapshot, &[source, pool]).error(), Some(Error::BadState));
    assert_eq!(system.call(Syscall::Close, &[source]).error(), None);
    assert_eq!(pages(&mut system), 1 + 6, "of the copy: two of eight were discarded");
    assert_eq!(system.call(Syscall::Close, &[copy]).error(), None);
    assert_eq!(pages(&mut system), 0);
}

#[test]
fn memory_of_several_pools_is_paid_for_by_each() {
    let Bench { mut system, pool, space, .. } = bench();
    let [own, other] = [200; 2].map(|pages| system.call(Syscall::PoolCreate, &[pool, pages]).value());
    let source = system.call(Syscall::VmoCreate, &[own, 8 * PAGE]).value();
    let (_, bytes) = system.memory(pool, space, 1);
    (0..7).for_each(|page| {
        assert_eq!(system.call(Syscall::VmoWrite, &[source, page * PAGE, bytes, 1]).value(), 1);
    });
    let copy = system.call(Syscall::VmoSnapshot, &[source, other]).value();
    assert_eq!(system.accounts(other)[0][1], 8);
    // It is paid for, so that no write to it can fail.
    (0..7).for_each(|page| {
        assert_eq!(system.call(Syscall::VmoWrite, &[copy, page * PAGE, bytes, 1]).value(), 1);
    });
    assert_eq!(system.call(Syscall::VmoSnapshot, &[source, own]).error(), None);
    assert_eq!(system.accounts(own)[0][1], 16, "the same within the pool, from then on");
    assert_eq!(system.call(Syscall::Close, &[copy]).error(), None);
    assert_eq!(system.accounts(other)[0][1], 0);
}

#[test]
fn all_that_objects_were_charged_comes_back() {
    let Bench { mut system, pool, .. } = bench();
    let before = system.accounts(pool);
    let own = system.call(Syscall::PoolCreate, &[pool, 400]).value();
    let empty = system.accounts(own);
    let (space, process) = system.process(own);
    let (vmo, _) = system.memory(own, space, 5);
    let snapshot = system.call(Syscall::VmoSnapshot, &[vmo, own]).value();
    let endpoint = system.call(Syscall::EndpointCreate, &[own]).value();
    let session = system.call(Syscall::SessionCreate, &[endpoint, own, 9]).value();
    let event = system.call(Syscall::EventCreate, &[own]).value();
    let [seal, unseal, ..] = system.call(Syscall::SealCreate, &[own]).values();
    let boxed = system.call(Syscall::SealClose, &[seal, own, event]).value();
    let opened = system.call(Syscall::SealOpen, &[unseal, boxed]).value();
    assert_eq!(system.call(Syscall::SealOpen, &[seal, boxed]).error(), Some(Error::WrongKind));
    assert_eq!(system.call(Syscall::EventRaise, &[opened, 3]).error(), None);
    assert_eq!(system.call(Syscall::EventClear, &[opened, 1]).value(), 3);
    for handle in [space, process, vmo, snapshot, endpoint, session, seal, unseal, boxed, opened] {
        assert_eq!(system.call(Syscall::Close, &[handle]).error(), None);
    }
    assert_eq!(system.accounts(own), empty);
    assert_eq!(system.call(Syscall::Close, &[own]).error(), None);
    assert_eq!(system.accounts(pool), before);
}

#[test]
fn revoking_memory_undoes_its_mappings_in_every_process() {
    let Bench { mut system, pool, space, budget, .. } = bench();
    let (vmo, address) = system.memory(pool, space, 1);
    let (other, process) = system.process(pool);
    let there = system.call(Syscall::SpaceMap, &[other, vmo, 0, 0, PAGE, READ_WRITE]).value();
    let copy = system.grant(process, vmo);
    assert_ne!(copy, 0);
    system.thread(pool, process, budget, 0x1000);
    assert!(system.write(address, &[7]));
    let first = system.who();
    system.switch_to(0x1000);
    let mut byte = [0];
    assert!(system.read(there, &mut byte));
    assert_eq!(byte, [7]);
    system.switch_to(first);
    assert_eq!(system.call(Syscall::Revoke, &[vmo]).error(), None);
    system.switch_to(0x1000);
    assert_eq!(system.call(Syscall::Inspect, &[copy]).error(), Some(Error::BadHandle));
    assert!(!system.read(there, &mut byte), "the access faults");
    assert_eq!(system.who(), first);
    let [state, code, fault, at, ..] = system.call(Syscall::ProcessInspect, &[process]).values();
    assert_eq!((state, code, fault, at), (2, 128 + FaultKind::Read as u64, FaultKind::Read as u64, there));
}

#[test]
fn events_wake_all_who_wait_and_deadlines_pass() {
    let Bench { mut system, pool, process, budget, first, .. } = bench();
    let event = system.call(Syscall::EventCreate, &[pool]).value();
    for stack in [0x1000, 0x2000] {
        system.thread(pool, process, budget, stack);
        system.switch_to(stack);
        assert_eq!(system.call(Syscall::EventWait, &[event, 1, 0, u64::MAX]), Answer::Waits);
        system.switch_to(first);
    }
    assert_eq!(system.call(Syscall::EventRaise, &[event, 1]).error(), None);
    for stack in [0x1000, 0x2000] {
        system.switch_to(stack);
        assert_eq!(system.result().value(), 1);
    }
    assert_eq!(system.call(Syscall::EventWait, &[event, 2, 0, 1_000]), Answer::Waits);
    system.advance(2_000);
    system.switch_to(0x2000);
    assert_eq!(system.result().error(), Some(Error::TimedOut));
    system.switch_to(0x1000);
    assert_eq!(system.call(Syscall::EventWait, &[event, 2, 0, u64::MAX]), Answer::Waits);
    system.switch_to(first);
    assert_eq!(system.call(Syscall::Close, &[event]).error(), None);
    system.switch_to(0x1000);
    assert_eq!(system.result().error(), Some(Error::Gone));
}

#[test]
fn parked_threads_are_unparked_once_and_suspended_ones_stand() {
    let Bench { mut system, pool, space, process, budget, first } = bench();
    let thread = system.thread(pool, process, budget, 0x1000);
    system.switch_to(0x1000);
    assert_eq!(system.call(Syscall::Park, &[u64::MAX]), Answer::Waits);
    assert_eq!(system.call(Syscall::Unpark, &[thread]).error(), None);
    system.switch_to(0x1000);
    assert_eq!(system.result().error(), None);
    system.switch_to(first);
    assert_eq!(system.call(Syscall::Unpark, &[thread]).error(), None);
    system.switch_to(0x1000);
    assert_eq!(system.call(Syscall::Park, &[u64::MAX]).error(), None, "the token was there");
    system.switch_to(first);
    let (_, memory) = system.memory(pool, space, 1);
    assert_eq!(system.call(Syscall::ThreadRead, &[thread, memory]).error(), Some(Error::BadState));
    assert_eq!(system.call(Syscall::ThreadSuspend, &[thread]).error(), None);
    assert_eq!(system.call(Syscall::ThreadRead, &[thread, memory]).error(), None);
    let mut stack = [0; 8];
    assert!(system.read(memory + 13 * 8, &mut stack));
    assert_eq!(u64::from_le_bytes(stack), 0x1000);
    assert!(system.write(memory + 13 * 8, &0x5000u64.to_le_bytes()));
    assert!(system.write(memory + 15 * 8, &u64::MAX.to_le_bytes()));
    assert_eq!(system.call(Syscall::ThreadWrite, &[thread, memory]).error(), None);
    assert_eq!(system.call(Syscall::ThreadResume, &[thread]).error(), None);
    system.switch_to(0x5000);
    assert_eq!(system.registers().rflags & !0x20_0dd5, 0x202, "no flag that harms the kernel");
}

#[test]
fn higher_priorities_run_first_and_amounts_are_kept() {
    let Bench { mut system, pool, process, budget, first, .. } = bench();
    let low = system.call(Syscall::BudgetCreate, &[pool, budget, 5, 0, 0, 0]).value();
    let thread = system.thread(pool, process, low, 0x1000);
    for _ in 0..3 {
        system.call(Syscall::Yield, &[]);
        assert_eq!(system.who(), first, "the lower one waits");
    }
    assert_eq!(system.call(Syscall::Park, &[50_000]), Answer::Waits);
    assert_eq!(system.who(), 0x1000);
    system.advance(60_000);
    assert_eq!(system.who(), first, "preempted at the deadline");
    let [used, priority, ..] = system.call(Syscall::BudgetInspect, &[low]).values();
    assert_eq!((used, priority), (60_000, 5));
    assert_eq!(system.call(Syscall::BudgetCreate, &[pool, low, 6, 0, 0, 0]).error(), Some(Error::BadArgument));
    assert_eq!(system.call(Syscall::ThreadBudget, &[thread, 0]).error(), None);
    assert_eq!(system.call(Syscall::Park, &[100_000]), Answer::Waits);
    assert_eq!(system.who(), 0, "nobody has time");
    system.advance(100_000);
    assert_eq!(system.who(), first);
}

#[test]
fn a_turn_that_no_equal_waits_for_has_no_end_to_wait_for() {
    let Bench { mut system, pool, process, budget, first, .. } = bench();
    let low = system.call(Syscall::BudgetCreate, &[pool, budget, 5, 0, 0, 0]).value();
    system.thread(pool, process, low, 0x1000);
    for _ in 0..3 {
        system.machine.hardware.timers.clear();
        system.advance(20_000_000);
        assert_eq!(system.who(), first);
        let now = system.machine.hardware.time;
        let at = system.machine.hardware.timers.get(&0).copied();
        assert!(at.is_none_or(|at| at > now), "a timer set to {at:?} fires again at once: it is {now}");
    }
}

#[test]
fn a_device_that_interrupts_an_idle_processor_lets_it_idle_on() {
    let Bench { mut system, pool, .. } = bench();
    let lines = system.first("interrupts");
    let line = system.call(Syscall::InterruptCreate, &[lines, pool, 3, 1]).value();
    let event = system.call(Syscall::EventCreate, &[pool]).value();
    assert_eq!(system.call(Syscall::InterruptBind, &[line, event, 8]).error(), None);
    assert!(system.machine.hardware.lines.contains(&3));
    assert_eq!(system.call(Syscall::EventWait, &[event, 1, 0, u64::MAX]), Answer::Waits);
    system.machine.interrupt(0, 3);
    assert_eq!(system.machine.next(0), Next::Idle);
    system.machine.interrupt(0, 99);
    assert_eq!(system.machine.next(0), Next::Idle);
}

#[test]
fn a_threads_vector_registers_are_charged_until_it_ends() {
    let Bench { mut system, pool, space, process, budget, first } = bench();
    let used = |system: &mut System| system.call(Syscall::PoolInspect, &[pool, 0]).values()[1];
    let thread = system.call(Syscall::ThreadCreate, &[pool, process, budget]).value();
    let before = used(&mut system);
    assert_eq!(system.call(Syscall::ThreadVector, &[thread, pool]).error(), None);
    assert_eq!(used(&mut system), before + 1);
    assert_eq!(system.call(Syscall::ThreadVector, &[thread, pool]), Answer::Refused(Error::Occupied));
    let guest = system.call(Syscall::SpaceCreate, &[pool]).value();
    assert_eq!(system.call(Syscall::GuestCreate, &[thread, pool, guest]), Answer::Refused(Error::Occupied));
    assert_eq!(system.call(Syscall::Close, &[guest]).error(), None);
    // A thread that runs may be loaded where its registers would be lost.
    let own = system.first("thread");
    assert_eq!(system.call(Syscall::ThreadVector, &[own, pool]), Answer::Refused(Error::BadState));
    assert_eq!(system.call(Syscall::ThreadVector, &[thread, space]), Answer::Refused(Error::WrongKind));
    let started = system.call(Syscall::ThreadStart, &[thread, tessera_abi::NATIVE_BASE, 0x7000]);
    assert_eq!(started.error(), None);
    system.switch_to(0x7000);
    assert_ne!(system.activation().vector.0, 0);
    system.raw(Syscall::ThreadExit as u64, [0; 6]);
    system.settle();
    assert_eq!(system.who(), first);
    assert_eq!(system.activation().vector.0, 0);
    system.machine.bury_all();
    assert_eq!(used(&mut system), before);
    assert_eq!(system.call(Syscall::ThreadVector, &[thread, pool]), Answer::Refused(Error::BadState));
}
