//! The rules that core's first page states, each where it once did not hold.

use tessera_abi::{Delivery, Error, PAGE, Rights, Syscall, Tag, syscall::RESOURCE_HANDLES, syscall::map_flags};
use tessera_core_testing::{Answer, System};

const READ_WRITE: u64 = map_flags::READ | map_flags::WRITE;
const ALL: u64 = Rights::ALL.bits() as u64;

/// A machine, and the first program's most used handles.
struct Bench {
    system: System,
    pool: u64,
    space: u64,
    process: u64,
    budget: u64,
    first: u64,
}

fn bench(frames: u64, processors: usize) -> Bench {
    let mut system = System::new(frames, processors);
    let [pool, space, process, budget] = ["pool", "space", "process", "budget"].map(|name| system.first(name));
    let first = system.who();
    Bench { system, pool, space, process, budget, first }
}

impl Bench {
    #[track_caller]
    fn done(&mut self, call: Syscall, arguments: &[u64]) {
        assert_eq!(self.system.call(call, arguments).error(), None, "{call:?}");
    }

    /// A thread of the first program that waits in a call of its own.
    fn waiting(&mut self, stack: u64, call: impl FnOnce(&mut System) -> Answer) -> u64 {
        let thread = self.system.thread(self.pool, self.process, self.budget, stack);
        self.system.switch_to(stack);
        assert_eq!(call(&mut self.system), Answer::Waits);
        self.system.switch_to(self.first);
        thread
    }
}

#[test]
fn a_long_lease_is_copied_a_bounded_part_at_a_time() {
    const LENGTH: u64 = 300 * 1024 + 5;
    for write in [false, true] {
        let mut bench = bench(4096, 1);
        let (_, lent) = bench.system.memory(bench.pool, bench.space, 76);
        let (_, own) = bench.system.memory(bench.pool, bench.space, 76);
        let (from, to) = if write { (own, lent) } else { (lent, own) };
        for page in 0..76 {
            assert!(bench.system.write(from + page * PAGE, &page.to_le_bytes()));
        }
        let endpoint = bench.system.call(Syscall::EndpointCreate, &[bench.pool]).value();
        let session = bench.system.call(Syscall::SessionCreate, &[endpoint, bench.pool, 1]).value();
        let tag = Tag::new(0).with_lease(true);
        bench
            .waiting(0x1000, |system| system.message(Syscall::Call, session, tag, [lent, 76 * PAGE, 0, 0, 0, 0, 0, 0]));
        assert_eq!(bench.system.message(Syscall::Receive, endpoint, Tag::new(0), [0; 8]).error(), None);
        let system = &mut bench.system;
        let call = if write { Syscall::LeaseWrite } else { Syscall::LeaseRead };
        let registers = &mut system.activation().registers;
        (registers.rax, registers.rdi, registers.rsi, registers.rdx, registers.r10) = (call as u64, 0, 0, own, LENGTH);
        let behind = registers.rip + 2;
        let mut entries = 0;
        while system.registers().rip != behind {
            system.activation().registers.rip = behind;
            let before = system.machine.hardware.copied;
            system.machine.syscall(0);
            assert!(system.machine.hardware.copied - before <= 64 * 1024, "one entry copies a bounded part");
            entries += 1;
        }
        assert_eq!((system.result().error(), entries), (None, 5));
        for page in 0..76 {
            let mut bytes = [0; 8];
            assert!(system.read(to + page * PAGE, &mut bytes));
            let copied = page * PAGE < LENGTH;
            assert_eq!(u64::from_le_bytes(bytes), if copied { page } else { 0 }, "page {page}");
        }
    }
}

#[test]
fn a_refused_unmap_or_protect_leaves_mappings_whole() {
    for call in [Syscall::SpaceUnmap, Syscall::SpaceProtect] {
        for left in [0, 1] {
            let mut bench = bench(2048, 1);
            let small = bench.system.call(Syscall::PoolCreate, &[bench.pool, 64]).value();
            let space = bench.system.call(Syscall::SpaceCreate, &[small]).value();
            let vmo = bench.system.call(Syscall::VmoCreate, &[bench.pool, 9 * PAGE]).value();
            let flags = READ_WRITE | map_flags::FIXED;
            bench.done(Syscall::SpaceMap, &[space, vmo, 0, 0x10_0000, 9 * PAGE, flags]);
            let room = |system: &mut System| {
                let [quota, used, ..] = system.call(Syscall::PoolInspect, &[small, RESOURCE_HANDLES]).values();
                quota - used
            };
            let mut at = 0x100_0000;
            while room(&mut bench.system) > left {
                bench.done(Syscall::SpaceMap, &[space, vmo, 0, at, PAGE, flags]);
                at += 2 * PAGE;
            }
            let arguments = [space, 0x10_0000 + 3 * PAGE, 3 * PAGE, map_flags::READ];
            assert_eq!(bench.system.call(call, &arguments).error(), Some(Error::NoQuota), "{call:?}, room for {left}");
            assert_eq!(room(&mut bench.system), left, "nothing was cut");
            // With room for both cuts it is done.
            bench.done(Syscall::SpaceUnmap, &[space, 0x100_0000, 4 * PAGE]);
            bench.done(call, &arguments);
        }
    }
}

/// `count` mappings of a page each, side by side from `at` on; the one numbered `sealed`, if any, may not be written.
fn side_by_side(bench: &mut Bench, at: u64, count: u64, sealed: Option<u64>) -> [u64; 2] {
    let vmo = bench.system.call(Syscall::VmoCreate, &[bench.pool, count * PAGE]).value();
    let rights = Rights::ALL.without(Rights::WRITE).bits();
    let read_only = bench.system.call(Syscall::Duplicate, &[vmo, rights.into()]).value();
    for page in 0..count {
        let (memory, flags) = if sealed == Some(page) { (read_only, map_flags::READ) } else { (vmo, READ_WRITE) };
        let arguments = [bench.space, memory, page * PAGE, at + page * PAGE, PAGE, flags | map_flags::FIXED];
        bench.done(Syscall::SpaceMap, &arguments);
    }
    [vmo, read_only]
}

/// Makes `space_protect` one entry at a time, with `between` after each; answers how many entries it took.
fn protect_in_steps(system: &mut System, arguments: [u64; 4], mut between: impl FnMut(&mut System, u32)) -> u32 {
    let registers = &mut system.activation().registers;
    registers.rax = Syscall::SpaceProtect as u64;
    [registers.rdi, registers.rsi, registers.rdx, registers.r10] = arguments;
    registers.r8 = 0;
    let behind = registers.rip + 2;
    for entries in 1.. {
        system.activation().registers.rip = behind;
        system.machine.syscall(0);
        if system.registers().rip == behind {
            return entries;
        }
        let kept = system.registers();
        between(system, entries);
        system.activation().registers = kept;
    }
    0
}

#[test]
fn protecting_many_mappings_takes_many_entries() {
    let (at, count) = (tessera_abi::NATIVE_BASE + 0x100_0000, 400);
    let mut bench = bench(4096, 1);
    side_by_side(&mut bench, at, count, None);
    for page in 0..count {
        assert!(bench.system.write(at + page * PAGE, &[1]));
    }
    let entries = protect_in_steps(&mut bench.system, [bench.space, at, count * PAGE, map_flags::READ], |_, _| {});
    assert_eq!(bench.system.result().error(), None);
    // 64 mappings are looked at, or changed, in one entry; the last look and the first change share theirs.
    assert_eq!(u64::from(entries), 2 * count.div_ceil(64) - 1);
    assert!((0..count).all(|page| !bench.system.write(at + page * PAGE, &[2])));
}

#[test]
fn a_refused_protect_of_many_mappings_changes_none() {
    let (at, count) = (tessera_abi::NATIVE_BASE + 0x100_0000, 200);
    let mut bench = bench(4096, 1);
    side_by_side(&mut bench, at, count, Some(count - 1));
    bench.done(Syscall::SpaceProtect, &[bench.space, at, count * PAGE, map_flags::READ]);
    let arguments = [bench.space, at, count * PAGE, READ_WRITE];
    assert_eq!(bench.system.call(Syscall::SpaceProtect, &arguments).error(), Some(Error::NoRight));
    assert!((0..count).all(|page| !bench.system.write(at + page * PAGE, &[1])));
    bench.done(Syscall::SpaceProtect, &[bench.space, at, (count - 1) * PAGE, READ_WRITE]);
    assert!((0..count - 1).all(|page| bench.system.write(at + page * PAGE, &[1])));
}

#[test]
fn a_protect_that_has_begun_leaves_alone_what_is_mapped_meanwhile() {
    let (at, count) = (tessera_abi::NATIVE_BASE + 0x100_0000, 200);
    let mut bench = bench(4096, 1);
    let [vmo, read_only] = side_by_side(&mut bench, at, count, None);
    bench.done(Syscall::SpaceProtect, &[bench.space, at, count * PAGE, map_flags::READ]);
    let (space, replaced, gone) = (bench.space, at + (count - 3) * PAGE, at + (count - 9) * PAGE);
    // Four entries look, of which the last changes the first mappings; after it others are put in place of mappings to come.
    protect_in_steps(&mut bench.system, [space, at, count * PAGE, READ_WRITE], |system, entries| {
        if entries == 4 {
            assert!(system.write(at, &[1]));
            for address in [replaced, gone] {
                assert_eq!(system.call(Syscall::SpaceUnmap, &[space, address, PAGE]).error(), None);
            }
            let flags = map_flags::READ | map_flags::FIXED;
            assert_eq!(system.call(Syscall::SpaceMap, &[space, read_only, 0, replaced, PAGE, flags]).error(), None);
            // One that reaches over the end of the range, too.
            let last = at + (count - 1) * PAGE;
            assert_eq!(system.call(Syscall::SpaceUnmap, &[space, last, PAGE]).error(), None);
            assert_eq!(system.call(Syscall::SpaceMap, &[space, vmo, 0, last, 2 * PAGE, flags]).error(), None);
        }
    });
    assert_eq!(bench.system.result().error(), None);
    let writable = |system: &mut System, page: u64| system.write(at + page * PAGE, &[1]);
    for page in 0..=count {
        let changed = ![count - 9, count - 3, count - 1, count].contains(&page);
        assert_eq!(writable(&mut bench.system, page), changed, "page {page}");
    }
}

#[test]
fn text_that_waits_for_a_pager_is_logged_once() {
    let mut bench = bench(2048, 1);
    let log = bench.system.first("log");
    let endpoint = bench.system.call(Syscall::EndpointCreate, &[bench.pool]).value();
    let paged = bench.system.call(Syscall::VmoCreatePaged, &[bench.pool, PAGE, endpoint, 1]).value();
    let vmo = bench.system.call(Syscall::VmoCreate, &[bench.pool, PAGE]).value();
    let at = tessera_abi::NATIVE_BASE + 0x100_0000;
    let flags = READ_WRITE | map_flags::FIXED;
    bench.done(Syscall::SpaceMap, &[bench.space, vmo, 0, at, PAGE, flags]);
    bench.done(Syscall::SpaceMap, &[bench.space, paged, 0, at + PAGE, PAGE, flags]);
    assert!(bench.system.write(at + PAGE - 1000, &[b'a'; 1000]));
    bench.waiting(0x1000, |system| system.call(Syscall::LogWrite, &[log, at + PAGE - 1000, 1500]));
    assert!(bench.system.machine.hardware.log.is_empty(), "none of it before all of it is there");
    assert_eq!(bench.system.message(Syscall::Receive, endpoint, Tag::new(0), [0; 8]).error(), None);
    assert_eq!(bench.system.received().0, Delivery::Page as u64);
    let (_, source) = bench.system.memory(bench.pool, bench.space, 1);
    assert!(bench.system.write(source, &[b'b'; 500]));
    assert_eq!(bench.system.call(Syscall::VmoWrite, &[paged, 0, source, 500]).value(), 500);
    assert_eq!(bench.system.message(Syscall::Reply, 0, Tag::new(0), [0; 8]).error(), None);
    bench.system.switch_to(0x1000);
    assert_eq!(bench.system.result().error(), None);
    assert_eq!(bench.system.machine.hardware.log, [[b'a'; 1000].as_slice(), &[b'b'; 500]].concat());
    // A range whose end is nowhere is refused before its beginning is written.
    assert_eq!(bench.system.call(Syscall::LogWrite, &[log, at + PAGE, 2 * PAGE + 1]).error(), Some(Error::BadAddress));
    assert_eq!(bench.system.machine.hardware.log.len(), 1500);
}

#[test]
fn a_wrong_kind_is_told_before_wrong_arguments() {
    let mut bench = bench(512, 1);
    let event = bench.system.call(Syscall::EventCreate, &[bench.pool]).value();
    let answer = bench.system.call(Syscall::SpaceMap, &[bench.space, event, 1, 1, 1, u64::MAX]);
    assert_eq!(answer.error(), Some(Error::WrongKind));
    let vmo = bench.system.call(Syscall::VmoCreate, &[bench.pool, PAGE]).value();
    let bare = bench.system.call(Syscall::Duplicate, &[vmo, 0]).value();
    let answer = bench.system.call(Syscall::SpaceMap, &[bench.space, bare, 0, 0, PAGE, u64::MAX]);
    assert_eq!(answer.error(), Some(Error::NoRight));
}

/// A server of the first program at `0x1000` and a client with a pool of its own at `0x2000`, which holds that pool and a session.
fn server_and_client(bench: &mut Bench) -> (u64, u64, u64) {
    let small = bench.system.call(Syscall::PoolCreate, &[bench.pool, 128]).value();
    let endpoint = bench.system.call(Syscall::EndpointCreate, &[bench.pool]).value();
    let session = bench.system.call(Syscall::SessionCreate, &[endpoint, bench.pool, 1]).value();
    bench.waiting(0x1000, |system| system.message(Syscall::Receive, endpoint, Tag::new(0), [0; 8]));
    let (_, client) = bench.system.process(small);
    let session = bench.system.grant(client, session);
    bench.system.thread(small, client, bench.budget, 0x2000);
    (endpoint, session, small)
}

#[test]
fn handles_of_an_answer_that_does_not_fit_leave_the_server() {
    for receive in [false, true] {
        let mut bench = bench(2048, 1);
        let (endpoint, session, small) = server_and_client(&mut bench);
        bench.system.switch_to(0x2000);
        while bench.system.call(Syscall::Duplicate, &[session, ALL]).error().is_none() {}
        assert_eq!(bench.system.message(Syscall::Call, session, Tag::new(0), [0; 8]), Answer::Waits);
        bench.system.switch_to(0x1000);
        let event = bench.system.call(Syscall::EventCreate, &[bench.pool]).value();
        let kept = bench.system.call(Syscall::Duplicate, &[event, ALL]).value();
        let (tag, words) = (Tag::new(0).with_handles(1), [event, 0, 0, 0, 0, 0, 0, 0]);
        if receive {
            assert_eq!(bench.system.message(Syscall::ReplyAndReceive, endpoint, tag, words), Answer::Waits);
        } else {
            assert_eq!(bench.system.message(Syscall::Reply, 0, tag, words).error(), None);
        }
        bench.system.switch_to(0x2000);
        assert_eq!(bench.system.result().error(), Some(Error::PeerNoQuota));
        bench.system.switch_to(bench.first);
        assert_eq!(bench.system.call(Syscall::Inspect, &[event]).error(), Some(Error::BadHandle));
        assert_eq!(bench.system.call(Syscall::Inspect, &[kept]).values()[2], 1, "one handle is left");
        let _ = small;
    }
}

#[test]
fn an_answer_whose_handles_end_its_endpoint_reaches_its_caller() {
    let mut bench = bench(2048, 1);
    let small = bench.system.call(Syscall::PoolCreate, &[bench.pool, 128]).value();
    let made = bench.system.call(Syscall::EndpointCreate, &[bench.pool]).value();
    let session = bench.system.call(Syscall::SessionCreate, &[made, bench.pool, 1]).value();
    let (_, server) = bench.system.process(bench.pool);
    let endpoint = bench.system.grant(server, made);
    assert_eq!(bench.system.call(Syscall::Close, &[made]).error(), None);
    bench.system.thread(bench.pool, server, bench.budget, 0x1000);
    bench.system.switch_to(0x1000);
    assert_eq!(bench.system.message(Syscall::Receive, endpoint, Tag::new(0), [0; 8]), Answer::Waits);
    bench.system.switch_to(bench.first);
    let (_, client) = bench.system.process(small);
    let session = bench.system.grant(client, session);
    bench.system.thread(small, client, bench.budget, 0x2000);
    bench.system.switch_to(0x2000);
    while bench.system.call(Syscall::Duplicate, &[session, ALL]).error().is_none() {}
    assert_eq!(bench.system.message(Syscall::Call, session, Tag::new(0), [0; 8]), Answer::Waits);
    bench.system.switch_to(0x1000);
    // The only handle to the endpoint goes along, does not fit, and is closed.
    let (tag, words) = (Tag::new(0).with_handles(1), [endpoint, 0, 0, 0, 0, 0, 0, 0]);
    let answer = bench.system.message(Syscall::ReplyAndReceive, endpoint, tag, words);
    assert!(matches!(answer, Answer::Refused(Error::Gone) | Answer::Waits), "{answer:?}");
    bench.system.switch_to(0x2000);
    assert_eq!(bench.system.result().error(), Some(Error::PeerNoQuota));
}

#[test]
fn a_server_that_its_answer_ends_takes_no_news_from_the_others() {
    let mut bench = bench(2048, 1);
    let endpoint = bench.system.call(Syscall::EndpointCreate, &[bench.pool]).value();
    let session = bench.system.call(Syscall::SessionCreate, &[endpoint, bench.pool, 9]).value();
    let (_, process) = bench.system.process(bench.pool);
    let theirs = bench.system.grant(process, endpoint);
    bench.system.thread(bench.pool, process, bench.budget, 0x1000);
    // The only handle to the server's own process is what it answers with, to nobody.
    let own = bench.system.call(Syscall::ProcessGrant, &[process, process]).value();
    assert_eq!(bench.system.call(Syscall::Close, &[session]).error(), None);
    bench.system.switch_to(0x1000);
    let (tag, words) = (Tag::new(0).with_handles(1), [own, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bench.system.message(Syscall::ReplyAndReceive, theirs, tag, words), Answer::Waits);
    bench.system.switch_to(bench.first);
    assert_eq!(bench.system.message(Syscall::Receive, endpoint, Tag::new(0), [0; 8]).error(), None);
    assert_eq!((bench.system.received().0, bench.system.received().1), (Delivery::Closed as u64, 9));
}

#[test]
fn the_call_of_a_thread_that_is_about_to_end_is_not_received() {
    let mut bench = bench(2048, 1);
    let endpoint = bench.system.call(Syscall::EndpointCreate, &[bench.pool]).value();
    let session = bench.system.call(Syscall::SessionCreate, &[endpoint, bench.pool, 9]).value();
    let (call, tag) = (Syscall::Call, Tag::new(0));
    let ending = bench.waiting(0x1000, |system| system.message(call, session, tag.with_handles(0), [1; 8]));
    bench.waiting(0x2000, |system| system.message(call, session, tag, [2; 8]));
    // Closed and received in one entry: nothing was taken apart between.
    let (tag, words) = (tag.with_handles(1), [ending, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bench.system.message(Syscall::ReplyAndReceive, endpoint, tag, words).error(), None);
    assert_eq!(bench.system.received().3, [2; 8]);
}

#[test]
fn handles_of_an_answer_to_nobody_leave_the_server() {
    let mut bench = bench(2048, 1);
    let (endpoint, session, _) = server_and_client(&mut bench);
    bench.system.switch_to(0x2000);
    let tag = Tag::new(0).with_deadline();
    let words = [0, 0, 0, 0, 0, 0, 1_000, 0];
    assert_eq!(bench.system.message(Syscall::Call, session, tag, words), Answer::Waits);
    bench.system.advance(2_000);
    bench.system.switch_to(0x1000);
    let event = bench.system.call(Syscall::EventCreate, &[bench.pool]).value();
    let (tag, words) = (Tag::new(0).with_handles(1), [event, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bench.system.message(Syscall::Reply, 0, tag, words).error(), Some(Error::BadState));
    assert_eq!(bench.system.call(Syscall::Inspect, &[event]).error(), None, "who is told keeps them");
    assert_eq!(bench.system.message(Syscall::ReplyAndReceive, endpoint, tag, words), Answer::Waits);
    bench.system.switch_to(bench.first);
    assert_eq!(bench.system.call(Syscall::Inspect, &[event]).error(), Some(Error::BadHandle));
}

#[test]
fn a_server_that_is_done_with_a_call_works_on_its_own_time() {
    for how in ["detached", "dropped", "timed out", "client ended"] {
        let mut bench = bench(2048, 1);
        let [own, lent] =
            [0; 2].map(|_| bench.system.call(Syscall::BudgetCreate, &[bench.pool, bench.budget, 63, 0, 0, 0]).value());
        let endpoint = bench.system.call(Syscall::EndpointCreate, &[bench.pool]).value();
        let session = bench.system.call(Syscall::SessionCreate, &[endpoint, bench.pool, 1]).value();
        let other = bench.system.call(Syscall::EndpointCreate, &[bench.pool]).value();
        let receive = |system: &mut System| system.message(Syscall::Receive, endpoint, Tag::new(0), [0; 8]);
        let server = bench.waiting(0x1000, receive);
        bench.done(Syscall::ThreadBudget, &[server, own]);
        let (_, process) = bench.system.process(bench.pool);
        let theirs = bench.system.grant(process, session);
        let client = bench.system.thread(bench.pool, process, lent, 0x2000);
        bench.system.switch_to(0x2000);
        let tag = Tag::new(0).with_deadline();
        let words = [0, 0, 0, 0, 0, 0, 1_000, 0];
        assert_eq!(bench.system.message(Syscall::Call, theirs, tag, words), Answer::Waits);
        bench.system.switch_to(0x1000);
        match how {
            "detached" => {
                bench.system.call(Syscall::ReplyDetach, &[bench.pool]).value();
            }
            "dropped" => {
                let event = bench.system.call(Syscall::EventCreate, &[bench.pool]).value();
                bench.done(Syscall::EndpointBind, &[other, event, 1]);
                bench.done(Syscall::EventRaise, &[event, 1]);
                assert_eq!(bench.system.message(Syscall::Receive, other, Tag::new(0), [0; 8]).error(), None);
            }
            "timed out" => {
                bench.system.advance(2_000);
            }
            _ => {
                bench.done(Syscall::ProcessKill, &[process, 0]);
            }
        }
        bench.system.switch_to(bench.first);
        if how != "client ended" {
            bench.done(Syscall::ThreadSuspend, &[client]);
        }
        bench.system.switch_to(0x1000);
        let used = |system: &mut System, budget| system.call(Syscall::BudgetInspect, &[budget]).value();
        let before = [own, lent].map(|budget| used(&mut bench.system, budget));
        bench.system.advance(5_000);
        bench.system.switch_to(0x1000);
        let after = [own, lent].map(|budget| used(&mut bench.system, budget));
        assert_eq!((after[0] - before[0], after[1] - before[1]), (5_000, 0), "{how}");
    }
}

#[test]
fn the_registers_of_a_suspended_thread_that_waits_for_its_budget_can_be_written() {
    for stalled in [false, true] {
        let mut bench = bench(2048, 1);
        let tiny = bench.system.call(Syscall::BudgetCreate, &[bench.pool, bench.budget, 63, 1_000, 10_000_000, 0]);
        let tiny = tiny.value();
        let thread = bench.system.thread(bench.pool, bench.process, tiny, 0x1000);
        bench.system.switch_to(0x1000);
        bench.system.advance(5_000);
        assert_eq!(bench.system.who(), bench.first, "it waits for its next period");
        if stalled {
            bench.done(Syscall::ThreadBudget, &[thread, 0]);
        }
        let (_, memory) = bench.system.memory(bench.pool, bench.space, 1);
        bench.done(Syscall::ThreadSuspend, &[thread]);
        bench.done(Syscall::ThreadRead, &[thread, memory]);
        assert!(bench.system.write(memory + 13 * 8, &0x5000u64.to_le_bytes()));
        bench.done(Syscall::ThreadWrite, &[thread, memory]);
        bench.done(Syscall::ThreadResume, &[thread]);
        assert_eq!(bench.system.who(), bench.first, "it has no time yet");
        if stalled {
            bench.done(Syscall::ThreadBudget, &[thread, bench.budget]);
        } else {
            bench.system.advance(20_000_000);
        }
        bench.system.switch_to(0x5000);
    }
}

#[test]
fn the_archives_memory_is_memory_when_it_is_given_up() {
    // Among the other memory, below and above it.
    for archive in [24, 3, 5000] {
        let mut system = System::with_archive(1024, 1, archive);
        let [pool, handle] = ["pool", "archive"].map(|name| system.first(name));
        let [quota, used, ..] = system.call(Syscall::PoolInspect, &[pool, 0]).values();
        assert_eq!(system.call(Syscall::Close, &[handle]).error(), None);
        let [_, less, ..] = system.call(Syscall::PoolInspect, &[pool, 0]).values();
        assert_eq!(used - less, 2, "its page and its table");
        // What the pool can pay is there.
        let greedy = system.call(Syscall::PoolCreate, &[pool, quota - less]);
        assert_eq!(greedy.error(), None);
    }
}

#[test]
fn a_handle_sent_within_a_process_has_a_number_of_its_own_there() {
    let mut bench = bench(2048, 1);
    let endpoint = bench.system.call(Syscall::EndpointCreate, &[bench.pool]).value();
    let session = bench.system.call(Syscall::SessionCreate, &[endpoint, bench.pool, 1]).value();
    let event = bench.system.call(Syscall::EventCreate, &[bench.pool]).value();
    // Derived handles stay derived, those of the same parent stay beside it.
    let child = bench.system.call(Syscall::Duplicate, &[event, ALL]).value();
    let grandchild = bench.system.call(Syscall::Duplicate, &[child, ALL]).value();
    let sibling = bench.system.call(Syscall::Duplicate, &[event, ALL]).value();
    let tag = Tag::new(0).with_handles(1).with_deadline();
    bench.waiting(0x1000, |system| system.message(Syscall::Call, session, tag, [child, 0, 0, 0, 0, 0, 1_000, 0]));
    assert_eq!(bench.system.message(Syscall::Receive, endpoint, Tag::new(0), [0; 8]).error(), None);
    let moved = bench.system.received().3[0];
    bench.system.advance(2_000);
    bench.system.switch_to(0x1000);
    assert_eq!(bench.system.result().error(), Some(Error::TimedOut));
    // The sender cannot know whether it was delivered, and closes what it sent.
    assert_eq!(bench.system.call(Syscall::Close, &[child]).error(), Some(Error::BadHandle));
    bench.system.switch_to(bench.first);
    assert_eq!(bench.system.call(Syscall::EventRaise, &[moved, 1]).error(), None);
    bench.done(Syscall::Revoke, &[moved]);
    assert_eq!(bench.system.call(Syscall::Inspect, &[grandchild]).error(), Some(Error::BadHandle));
    assert_eq!(bench.system.call(Syscall::Inspect, &[sibling]).error(), None);
    bench.done(Syscall::Revoke, &[event]);
    for gone in [moved, sibling] {
        assert_eq!(bench.system.call(Syscall::Inspect, &[gone]).error(), Some(Error::BadHandle));
    }
}

#[test]
fn an_event_has_a_bounded_number_of_waiters() {
    let mut bench = bench(8192, 1);
    bench.system.audits = false;
    let event = bench.system.call(Syscall::EventCreate, &[bench.pool]).value();
    for index in 0..256 {
        let stack = 0x1_0000 + index * 16;
        bench.waiting(stack, |system| system.call(Syscall::EventWait, &[event, 1, 0, u64::MAX]));
    }
    bench.system.thread(bench.pool, bench.process, bench.budget, 0x1000);
    bench.system.switch_to(0x1000);
    assert_eq!(bench.system.call(Syscall::EventWait, &[event, 1, 0, u64::MAX]).error(), Some(Error::NoQuota));
    bench.system.audits = true;
    assert_eq!(bench.system.call(Syscall::EventRaise, &[event, 1]).error(), None);
    assert_eq!(bench.system.call(Syscall::EventWait, &[event, 1, 1, u64::MAX]).value(), 1);
    assert_eq!(bench.system.call(Syscall::EventWait, &[event, 1, 0, 1_000]), Answer::Waits);
}

#[test]
fn a_process_has_a_bounded_number_of_threads() {
    let mut bench = bench(80_000, 1);
    bench.system.audits = false;
    let (_, process) = bench.system.process(bench.pool);
    let mut threads = Vec::new();
    let refused = loop {
        match bench.system.call(Syscall::ThreadCreate, &[bench.pool, process, bench.budget]) {
            Answer::Done([thread, ..]) => threads.push(thread),
            other => break other.error(),
        }
    };
    assert_eq!((threads.len(), refused), (4096, Some(Error::NoQuota)));
    assert_eq!(bench.system.call(Syscall::Close, &[threads[7]]).error(), None);
    assert_eq!(bench.system.call(Syscall::ThreadCreate, &[bench.pool, process, bench.budget]).error(), None);
    assert_eq!(bench.system.call(Syscall::ProcessKill, &[process, 0]).error(), None);
    bench.system.audits = true;
    bench.system.settle();
}
