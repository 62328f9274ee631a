//! Wakes and waits, the short way and beside it: who runs next, in whose time, on which processor.

use tessera_abi::{NEVER, Syscall};
use tessera_core::Next;
use tessera_core_testing::{Answer, System};

const HIGH: u64 = 0x1000;
const SAME: u64 = 0x2000;

/// The first thread runs at priority 10; threads of its process can be made with handles to budgets of other priorities.
struct Bench {
    system: System,
    pool: u64,
    process: u64,
    first: u64,
    event: u64,
    budget: [u64; 3],
}

fn bench(processors: usize) -> Bench {
    let mut system = System::new(1024, processors);
    let [pool, process, thread, all] = ["pool", "process", "thread", "budget"].map(|name| system.first(name));
    let budget =
        [5, 10, 20].map(|priority| system.call(Syscall::BudgetCreate, &[pool, all, priority, 0, 0, 0]).value());
    let event = system.call(Syscall::EventCreate, &[pool]).value();
    assert_eq!(system.call(Syscall::ThreadBudget, &[thread, budget[1]]).error(), None);
    let first = system.who();
    Bench { system, pool, process, first, event, budget }
}

fn used(system: &mut System, budget: u64) -> u64 {
    system.call(Syscall::BudgetInspect, &[budget]).values()[0]
}

#[test]
fn a_raise_lets_a_higher_waiter_run_at_once_and_the_raiser_go_on_before_its_like() {
    let Bench { mut system, pool, process, first, event, budget } = bench(1);
    system.thread(pool, process, budget[2], HIGH);
    assert_eq!(system.who(), HIGH);
    system.machine.hardware.time += 1_000;
    assert_eq!(system.call(Syscall::EventWait, &[event, 6, 4, NEVER]), Answer::Waits);
    assert_eq!(system.who(), first);
    system.thread(pool, process, budget[1], SAME);
    assert_eq!(system.who(), first, "one of the same priority has its turn later");
    let before = [used(&mut system, budget[1]), used(&mut system, budget[2])];
    system.machine.hardware.time += 300;
    assert_eq!(system.call(Syscall::EventRaise, &[event, 3]), Answer::Waits);
    assert_eq!(system.who(), HIGH);
    assert_eq!(system.result().value(), 2, "the raised ones that it waited for");
    system.machine.hardware.time += 50;
    assert_eq!(system.call(Syscall::EventWait, &[event, 4, 4, NEVER]), Answer::Waits);
    assert_eq!(system.who(), first, "a preempted thread keeps its turn");
    assert_eq!(system.result(), Answer::Done([event, 3, 0, 0, 0, 0]), "a raise answers nothing");
    assert_eq!([used(&mut system, budget[1]) - before[0], used(&mut system, budget[2]) - before[1]], [300, 50]);
    assert_eq!(system.call(Syscall::EventClear, &[event, 0]).value(), 3, "it cleared another bit");
}

#[test]
fn a_lower_or_equal_waiter_goes_on_when_it_is_its_turn() {
    let Bench { mut system, pool, process, first, event, budget } = bench(1);
    let mut low = || {
        system.thread(pool, process, budget[0], SAME);
        assert_eq!(system.call(Syscall::Park, &[1_000]), Answer::Waits);
        assert_eq!(system.who(), SAME);
        assert_eq!(system.call(Syscall::EventWait, &[event, 1, 1, NEVER]), Answer::Waits);
        system.advance(2_000);
    };
    low();
    assert_eq!(system.who(), first);
    assert_eq!(system.call(Syscall::EventRaise, &[event, 1]).error(), None);
    assert_eq!(system.who(), first);
    assert_eq!(system.call(Syscall::Park, &[NEVER]), Answer::Waits);
    assert_eq!((system.who(), system.result().value()), (SAME, 1));
    assert_eq!(system.call(Syscall::EventClear, &[event, 0]).value(), 0);
    assert_eq!(system.call(Syscall::EventWait, &[event, 1, 1, NEVER]), Answer::Waits);
    assert_eq!(system.who(), 0, "nobody is left");
}

#[test]
fn threads_of_one_priority_take_turns_although_they_wake_the_short_way() {
    let Bench { mut system, pool, process, first, event, budget } = bench(1);
    system.thread(pool, process, budget[1], SAME);
    system.switch_to(SAME);
    assert_eq!(system.call(Syscall::EventWait, &[event, 1, 1, NEVER]), Answer::Waits);
    assert_eq!(system.who(), first);
    assert_eq!(system.call(Syscall::EventRaise, &[event, 1]).error(), None);
    assert_eq!(system.who(), first);
    // The timer is set for the end of the turn.
    assert_eq!(system.advance(20_000_000), Next::Run);
    assert_eq!(system.who(), SAME);
}

#[test]
fn park_and_unpark_lose_nothing() {
    let Bench { mut system, pool, process, first, budget, .. } = bench(1);
    let high = system.call(Syscall::ThreadCreate, &[pool, process, budget[2]]).value();
    let mine = system.first("thread");
    assert_eq!(system.call(Syscall::Unpark, &[mine]).error(), None);
    assert_eq!(system.call(Syscall::Park, &[NEVER]).error(), None, "an unpark came before");
    system.call(Syscall::ThreadStart, &[high, tessera_abi::NATIVE_BASE, HIGH]);
    assert_eq!(system.who(), HIGH);
    assert_eq!(system.call(Syscall::Park, &[NEVER]), Answer::Waits);
    assert_eq!(system.who(), first);
    assert_eq!(system.call(Syscall::Unpark, &[high]), Answer::Waits);
    assert_eq!(system.who(), HIGH);
    assert_eq!(system.call(Syscall::Unpark, &[mine]).error(), None);
    assert_eq!(system.call(Syscall::Park, &[NEVER]), Answer::Waits);
    assert_eq!(system.who(), first);
    assert_eq!(system.call(Syscall::Park, &[NEVER]).error(), None, "the one that came while it was preempted");
}

#[test]
fn a_limited_budget_is_kept_by_those_that_are_woken() {
    let Bench { mut system, pool, process, first, event, budget } = bench(1);
    let limited = system.call(Syscall::BudgetCreate, &[pool, budget[2], 20, 200_000, 1_000_000, 0]).value();
    system.thread(pool, process, limited, HIGH);
    for _ in 0..2 {
        assert_eq!(system.who(), HIGH);
        system.machine.hardware.time += 100_000;
        assert_eq!(system.call(Syscall::EventWait, &[event, 1, 1, NEVER]), Answer::Waits);
        assert_eq!(system.who(), first);
        system.call(Syscall::EventRaise, &[event, 1]);
    }
    assert_eq!(system.who(), first, "its amount is used up");
    system.advance(1_000_000);
    assert_eq!(system.who(), HIGH);
}

#[test]
fn a_woken_thread_goes_to_a_processor_that_idles() {
    let Bench { mut system, pool, process, first, event, budget } = bench(2);
    system.processor = 1;
    assert_eq!(system.settle(), Next::Idle);
    system.processor = 0;
    let alone = system.call(Syscall::BudgetCreate, &[pool, budget[2], 20, 0, 0, 1]).value();
    let thread = system.thread(pool, process, alone, HIGH);
    assert_eq!(system.who(), HIGH, "it may run nowhere else");
    assert_eq!(system.call(Syscall::EventWait, &[event, 1, 1, NEVER]), Answer::Waits);
    assert_eq!(system.who(), first);
    assert_eq!(system.call(Syscall::ThreadBudget, &[thread, budget[2]]).error(), None);
    assert_eq!(system.call(Syscall::EventRaise, &[event, 1]).error(), None);
    assert_eq!(system.who(), first);
    system.processor = 1;
    assert_eq!(system.settle(), Next::Run);
    assert_eq!(system.who(), HIGH);
}
