//! Calls between processes: what crosses, on the fast path and beside it, and what becomes of a call when a side ends.

use tessera_abi::{Delivery, Error, PAGE, Rights, Syscall, Tag, syscall::map_flags};
use tessera_core_testing::{Answer, System};

const SERVER: u64 = 0x1000;
const CLIENT: u64 = 0x2000;
const READ_WRITE: u64 = map_flags::READ | map_flags::WRITE;

/// A server and a client in processes of their own; numbers of handles are those in the process that uses them.
struct Pair {
    system: System,
    pool: u64,
    first: u64,
    endpoint: u64,
    session: u64,
    /// In the first program.
    server: (u64, u64),
    client: (u64, u64),
    /// Memory of each, at the same address in both.
    memory: u64,
    client_pool: u64,
}

/// The server waits in `receive` (with a buffer, for bytes), the client runs.
fn pair(tag: Tag) -> Pair {
    let mut system = System::new(2048, 1);
    let [pool, budget] = ["pool", "budget"].map(|name| system.first(name));
    let first = system.who();
    let made = system.call(Syscall::EndpointCreate, &[pool]).value();
    let called = system.call(Syscall::SessionCreate, &[made, pool, 77]).value();
    let memory = 0x10_0000;
    let mut side = |stack| {
        let (space, process) = system.process(pool);
        let vmo = system.call(Syscall::VmoCreate, &[pool, 4 * PAGE]).value();
        system.call(Syscall::SpaceMap, &[space, vmo, 0, memory, 4 * PAGE, READ_WRITE]).value();
        let thread = system.thread(pool, process, budget, stack);
        (process, thread)
    };
    let (server, client) = (side(SERVER), side(CLIENT));
    let endpoint = system.grant(server.0, made);
    let session = system.grant(client.0, called);
    let client_pool = system.grant(client.0, pool);
    assert_eq!(system.call(Syscall::Close, &[made]).error(), None);
    assert_eq!(system.call(Syscall::Close, &[called]).error(), None);
    system.switch_to(SERVER);
    let words = [0, 0, 0, 0, 0, 0, 0, memory];
    assert_eq!(system.message(Syscall::Receive, endpoint, tag, words), Answer::Waits);
    system.switch_to(CLIENT);
    Pair { system, pool, first, endpoint, session, server, client, memory, client_pool }
}

#[test]
fn plain_words_cross_alike_on_both_paths() {
    let words = [1, 2, 3, 4, 5, 6, 7, 8];
    let mut seen = Vec::new();
    for slow in [false, true] {
        let Pair { mut system, endpoint, session, .. } = pair(Tag::new(0));
        let (tag, words) =
            if slow { (Tag::new(9).with_deadline(), [1, 2, 3, 4, 5, 6, u64::MAX, 8]) } else { (Tag::new(9), words) };
        assert_eq!(system.message(Syscall::Call, session, tag, words), Answer::Waits);
        assert_eq!(system.who(), SERVER, "the server goes on at once");
        let (delivery, badge, tag, mut words) = system.received();
        assert_eq!((delivery, badge, tag.label()), (Delivery::Call as u64, 77, 9));
        words[6] = 7;
        assert_eq!(system.message(Syscall::ReplyAndReceive, endpoint, Tag::new(10), words), Answer::Waits);
        assert_eq!(system.who(), CLIENT);
        let (_, _, tag, words) = system.received();
        seen.push((tag, words));
    }
    assert_eq!(seen[0], (Tag::new(10), words));
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn bytes_and_leases_cross_alike_on_both_paths() {
    let shapes = [Tag::new(9).with_buffer(), Tag::new(9).with_bytes(300), Tag::new(9).with_lease(true)];
    for shape in [shapes[0], shapes[1], shapes[2], shapes[1].with_lease(false).with_lease(true)] {
        let mut seen = Vec::new();
        for slow in [false, true] {
            let Pair { mut system, endpoint, session, memory, .. } = pair(Tag::new(0).with_buffer());
            // The buffer crosses from one page into the next.
            let (buffer, lent) = (memory + PAGE - 100, memory + 3 * PAGE);
            assert!(system.write(buffer, &[3; 300]) && system.write(lent, &[4; 8]));
            let mut words = [lent, 8, lent, 4, 5, 6, u64::MAX, if shape.has_buffer() { buffer } else { 8 }];
            if shape.leases() == 0 {
                words[..4].copy_from_slice(&[1, 2, 3, 4]);
            }
            let tag = if slow { shape.with_deadline() } else { shape };
            assert_eq!(system.message(Syscall::Call, session, tag, words), Answer::Waits);
            assert_eq!(system.who(), SERVER);
            let (delivery, badge, tag, mut words) = system.received();
            assert_eq!((delivery, badge), (Delivery::Call as u64, 77));
            words[6] = 0;
            let mut bytes = [0; 300];
            assert!(system.read(memory, &mut bytes));
            let lease = system.call(Syscall::LeaseRead, &[0, 0, memory + 2 * PAGE, 4]).error();
            assert_eq!(lease.is_none(), shape.leases() != 0);
            assert!(system.write(memory, &[5; 200]));
            let reply = Tag::new(2).with_bytes(if shape.has_buffer() { 200 } else { 0 });
            let answered = [9, 8, 7, 6, 5, 4, 3, memory];
            assert_eq!(system.message(Syscall::ReplyAndReceive, endpoint, reply, answered), Answer::Waits);
            assert_eq!(system.who(), CLIENT);
            let answer = system.received();
            let mut back = [0; 300];
            assert!(system.read(buffer, &mut back));
            let without = Tag(tag.0 & !Tag::DEADLINE);
            seen.push((without, words, bytes.to_vec(), answer, back.to_vec()));
        }
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0].3.3, [9, 8, 7, 6, 5, 4, 3, 0], "nobody is told where the other's buffer is");
    }
}

#[test]
fn messages_whose_memory_is_not_there_are_refused_and_change_nothing() {
    let Pair { mut system, session, memory, .. } = pair(Tag::new(0));
    let call = |system: &mut System, tag, first, last| {
        system.message(Syscall::Call, session, tag, [first, 8, 0, 0, 0, 0, 0, last]).error()
    };
    assert_eq!(call(&mut system, Tag::new(0).with_bytes(8), 0, memory), Some(Error::PeerNoQuota), "no buffer");
    assert_eq!(call(&mut system, Tag::new(0).with_lease(false), u64::MAX - 4, 0), Some(Error::BadAddress));
    assert_eq!(call(&mut system, Tag::new(0).with_lease(false), tessera_abi::USER_END - 7, 0), Some(Error::BadAddress));
    let Pair { mut system, session, memory, .. } = pair(Tag::new(0).with_buffer());
    let call = |system: &mut System, count, buffer| {
        system.message(Syscall::Call, session, Tag::new(0).with_bytes(count), [0, 0, 0, 0, 0, 0, 0, buffer])
    };
    for wrong in [0x7000_0000, memory + 4 * PAGE - 7, tessera_abi::USER_END, u64::MAX - 3] {
        assert_eq!(call(&mut system, 8, wrong).error(), Some(Error::BadAddress), "{wrong:#x}");
    }
    assert_eq!(call(&mut system, 1025, memory).error(), Some(Error::BadArgument));
    assert_eq!(call(&mut system, 1024, memory), Answer::Waits);
    assert_eq!(system.who(), SERVER, "the server still waited");
}

#[test]
fn handles_leases_and_bytes_cross() {
    let Pair { mut system, endpoint, session, memory, client_pool, .. } = pair(Tag::new(0).with_buffer());
    let event = system.call(Syscall::EventCreate, &[client_pool]).value();
    assert!(system.write(memory, b"request"));
    assert!(system.write(memory + PAGE, b"lent"));
    let tag = Tag::new(1).with_bytes(7).with_lease(true).with_handles(1);
    let words = [memory + PAGE, 2 * PAGE, event, 44, 0, 0, 0, memory];
    assert_eq!(system.message(Syscall::Call, session, tag, words), Answer::Waits);
    assert_eq!(system.who(), SERVER);
    let (_, _, tag, words) = system.received();
    assert_eq!((tag.bytes(), tag.handles(), words[0], words[1], words[3]), (7, 1, 0, 2 * PAGE, 44));
    let moved = words[2];
    let mut bytes = [0; 7];
    assert!(system.read(memory, &mut bytes));
    assert_eq!(&bytes, b"request");
    assert_eq!(system.call(Syscall::EventRaise, &[moved, 1]).error(), None);
    assert_eq!(system.call(Syscall::LeaseRead, &[0, 0, memory + 100, 4]).error(), None);
    assert!(system.read(memory + 100, &mut bytes[..4]));
    assert_eq!(&bytes[..4], b"lent");
    assert_eq!(system.call(Syscall::LeaseWrite, &[0, PAGE - 3, memory, 7]).error(), None);
    assert_eq!(system.call(Syscall::LeaseRead, &[0, PAGE, memory, PAGE + 1]).error(), Some(Error::BadArgument));
    assert_eq!(system.call(Syscall::LeaseRead, &[0, u64::MAX, memory, 2]).error(), Some(Error::BadArgument));
    assert_eq!(system.call(Syscall::LeaseRead, &[1, 0, memory, 1]).error(), Some(Error::NotFound));
    let tag = Tag::new(0).with_bytes(4).with_handles(1);
    let answer = system.message(Syscall::Reply, 0, tag, [moved, 0, 0, 0, 0, 0, 0, memory]);
    assert_eq!(answer.error(), None);
    assert_eq!(system.call(Syscall::Inspect, &[moved]).error(), Some(Error::BadHandle));
    assert_eq!(system.call(Syscall::LeaseRead, &[0, 0, memory, 1]).error(), Some(Error::BadState));
    system.switch_to(CLIENT);
    let (_, _, _, words) = system.received();
    assert_eq!(system.call(Syscall::EventClear, &[words[0], 1]).value(), 1);
    assert!(system.read(memory + 2 * PAGE - 3, &mut bytes));
    assert_eq!(&bytes, b"request");
    let _ = endpoint;
}

#[test]
fn a_deadline_ends_a_call_that_nobody_answers() {
    let Pair { mut system, session, .. } = pair(Tag::new(0));
    let tag = Tag::new(0).with_deadline();
    let words = [0, 0, 0, 0, 0, 0, 5_000, 0];
    assert_eq!(system.message(Syscall::Call, session, tag, words), Answer::Waits);
    system.advance(6_000);
    system.switch_to(CLIENT);
    assert_eq!(system.result().error(), Some(Error::TimedOut));
    assert_eq!(system.message(Syscall::Call, session, tag, words), Answer::Refused(Error::TimedOut));
    system.switch_to(SERVER);
    assert_eq!(system.message(Syscall::Reply, 0, Tag::new(0), [0; 8]).error(), Some(Error::BadState));
}

#[test]
fn the_death_of_the_server_ends_its_calls() {
    let Pair { mut system, session, server, first, .. } = pair(Tag::new(0));
    assert_eq!(system.message(Syscall::Call, session, Tag::new(0), [0; 8]), Answer::Waits);
    system.switch_to(first);
    assert_eq!(system.call(Syscall::ProcessKill, &[server.0, 3]).error(), None);
    assert_eq!(system.call(Syscall::ProcessInspect, &[server.0]).values()[..2], [2, 3]);
    system.switch_to(CLIENT);
    assert_eq!(system.result().error(), Some(Error::PeerGone));
    assert_eq!(system.message(Syscall::Call, session, Tag::new(0), [0; 8]), Answer::Refused(Error::PeerGone));
}

#[test]
fn the_death_of_the_client_is_told_once_as_a_closed_session() {
    let Pair { mut system, endpoint, session, client, first, .. } = pair(Tag::new(0));
    assert_eq!(system.message(Syscall::Call, session, Tag::new(0), [0; 8]), Answer::Waits);
    system.switch_to(first);
    assert_eq!(system.call(Syscall::ProcessKill, &[client.0, 0]).error(), None);
    system.switch_to(SERVER);
    assert_eq!(system.message(Syscall::ReplyAndReceive, endpoint, Tag::new(0), [0; 8]).error(), None);
    assert_eq!(system.received().0, Delivery::Closed as u64);
    assert_eq!(system.received().1, 77);
    assert_eq!(system.message(Syscall::ReplyAndReceive, endpoint, Tag::new(0), [0; 8]), Answer::Waits);
}

#[test]
fn a_detached_reply_is_answered_later_or_dropped() {
    for dropped in [false, true] {
        let Pair { mut system, session, server, pool, first, .. } = pair(Tag::new(0));
        assert_eq!(system.message(Syscall::Call, session, Tag::new(0), [0; 8]), Answer::Waits);
        system.switch_to(first);
        let theirs = system.grant(server.0, pool);
        system.switch_to(SERVER);
        let reply = system.call(Syscall::ReplyDetach, &[theirs]).value();
        assert_eq!(system.call(Syscall::ReplyDetach, &[theirs]).error(), Some(Error::BadState));
        let all = u64::from(Rights::ALL.bits());
        assert_eq!(system.call(Syscall::Duplicate, &[reply, all]).error(), Some(Error::NoRight));
        if dropped {
            assert_eq!(system.call(Syscall::Close, &[reply]).error(), None);
        } else {
            assert_eq!(system.call(Syscall::ReplyAttach, &[reply]).error(), None);
            assert_eq!(system.message(Syscall::Reply, 0, Tag::new(5), [1; 8]).error(), None);
        }
        system.switch_to(CLIENT);
        assert_eq!(system.result().error(), dropped.then_some(Error::PeerGone));
    }
}

#[test]
fn a_bound_event_reaches_the_receiver() {
    let Pair { mut system, endpoint, session, server, pool, first, .. } = pair(Tag::new(0));
    system.switch_to(first);
    let event = system.call(Syscall::EventCreate, &[pool]).value();
    let theirs = system.grant(server.0, event);
    // The server is in `receive`: it binds when a call has let it out.
    system.switch_to(CLIENT);
    assert_eq!(system.message(Syscall::Call, session, Tag::new(0), [0; 8]), Answer::Waits);
    assert_eq!(system.call(Syscall::EndpointBind, &[endpoint, theirs, 6]).error(), None);
    assert_eq!(system.message(Syscall::ReplyAndReceive, endpoint, Tag::new(0), [0; 8]), Answer::Waits);
    system.switch_to(first);
    assert_eq!(system.call(Syscall::EventRaise, &[event, 12]).error(), None);
    system.switch_to(SERVER);
    assert_eq!(system.received().0, Delivery::Event as u64);
    assert_eq!(system.received().1, 4);
    system.switch_to(first);
    assert_eq!(system.call(Syscall::EventClear, &[event, 0]).value(), 8, "only what was told is cleared");
}

#[test]
fn a_server_whose_endpoint_ends_goes_on_on_its_own_time() {
    let Pair { mut system, session, endpoint, server, client, first, pool, .. } = pair(Tag::new(0));
    system.switch_to(first);
    let root = system.first("budget");
    let [own, lent] = [0; 2].map(|_| system.call(Syscall::BudgetCreate, &[pool, root, 63, 0, 0, 0]).value());
    assert_eq!(system.call(Syscall::ThreadBudget, &[server.1, own]).error(), None);
    assert_eq!(system.call(Syscall::ThreadBudget, &[client.1, lent]).error(), None);
    system.switch_to(CLIENT);
    assert_eq!(system.message(Syscall::Call, session, Tag::new(0), [0; 8]), Answer::Waits);
    assert_eq!(system.message(Syscall::ReplyAndReceive, endpoint, Tag::new(0), [0; 8]), Answer::Waits);
    system.switch_to(first);
    let used = |system: &mut System, budget| system.call(Syscall::BudgetInspect, &[budget]).value();
    let before = used(&mut system, lent);
    assert_eq!(system.call(Syscall::ThreadSuspend, &[client.1]).error(), None);
    system.thread(pool, server.0, root, 0x3000);
    system.switch_to(0x3000);
    assert_eq!(system.call(Syscall::Close, &[endpoint]).error(), None);
    system.switch_to(SERVER);
    assert_eq!(system.result().error(), Some(Error::Gone));
    system.advance(1_000);
    system.switch_to(first);
    assert_eq!(used(&mut system, lent), before);
    assert_eq!(used(&mut system, own), 1_000);
}
