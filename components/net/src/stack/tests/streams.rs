use super::*;
use proptest::prelude::*;
use readiness::{ERROR, HANGUP, READ_CLOSED, READABLE, WRITABLE};
use tessera_interfaces::{Shutdown, SocketOption};

#[test]
fn a_connection_over_the_wire_carries_both_ways_and_ends() {
    let mut world = World::new(Faults::default(), 1);
    let listener = world.listener(1, 80, 8);
    let (client, server) = world.connected(listener, 80);
    assert_eq!(world.stacks[0].peer(client), Ok(at(2, 80)));
    assert_eq!(world.stacks[1].local(server), Ok(at(2, 80)));
    let own = world.stacks[0].local(client).unwrap();
    assert_eq!(world.stacks[1].peer(server), Ok(own));

    assert_eq!(world.stacks[0].send(client, b"question"), Ok(8));
    let mut into = [0; 100];
    assert_eq!(world.stacks[1].receive(server, &mut into, false), Err(NetworkError::WouldBlock));
    world.until(5, |world| world.stacks[1].bits(server) & READABLE != 0);
    assert_eq!(world.stacks[1].receive(server, &mut into, true), Ok(8), "a look leaves it there");
    assert_eq!(world.stacks[1].receive(server, &mut into, false), Ok(8));
    assert_eq!(&into[..8], b"question");
    assert_eq!(world.stacks[1].send(server, b"answer"), Ok(6));
    world.stacks[1].close(server);
    world.until(5, |world| world.stacks[0].bits(client) & READ_CLOSED != 0);
    assert_eq!(world.stacks[0].receive(client, &mut into, false), Ok(6));
    assert_eq!(world.stacks[0].receive(client, &mut into, true), Ok(0), "the end");
    assert_eq!(world.stacks[0].receive(client, &mut into, false), Ok(0), "the end");
    world.stacks[0].close(client);
    world.until(30, |world| world.stacks[0].count() == 0 && world.stacks[1].count() == 1);
    assert_eq!(world.stacks[0].used(world.clients[0]), (0, 0));
}

/// Sends `data` each way at once and reads both; then ends both directions.
fn exchange(faults: Faults, seed: u64, length: usize) {
    exchange_over(World::new(faults, seed), length);
}

fn exchange_over(mut world: World, length: usize) -> World {
    let listener = world.listener(1, 80, 8);
    let (client, server) = world.connected(listener, 80);
    let data = numbers(length);
    let mut sent = [0, 0];
    let mut got: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
    let mut ended = [false, false];
    let ids = [client, server];
    let mut into = vec![0; 5000];
    world.until(4000, |world| {
        for end in 0..2 {
            let (stack, id) = (&mut world.stacks[end], ids[end]);
            while sent[end] < length {
                match stack.send(id, &data[sent[end]..]) {
                    Ok(count) => sent[end] += count as usize,
                    Err(error) => {
                        assert_eq!(error, NetworkError::WouldBlock);
                        break;
                    }
                }
                if sent[end] == length {
                    stack.shutdown(id, Shutdown::Send).unwrap();
                }
            }
            while !ended[end] {
                match stack.receive(id, &mut into, false) {
                    Ok(0) => ended[end] = true,
                    Ok(count) => got[end].extend(&into[..count as usize]),
                    Err(error) => {
                        assert_eq!(error, NetworkError::WouldBlock);
                        break;
                    }
                }
            }
        }
        ended == [true, true]
    });
    assert!(got[0] == data && got[1] == data);
    world.stacks[0].close(client);
    world.stacks[1].close(server);
    world.until(1000, |world| world.stacks[0].count() == 0 && world.stacks[1].count() == 1);
    world
}

#[test]
fn devices_cut_segments_and_put_them_together() {
    for segmentation in [Segmentation::Cut, Segmentation::Whole] {
        for faults in [Faults::default(), Faults { lost: 3, swapped: 5, damaged: 2, ..Faults::default() }] {
            let is_good = faults.lost == 0;
            let world = World::with(faults, 17, [given(1), given(2)], Checksum::None, segmentation);
            let world = exchange_over(world, 1 << 20);
            for way in &world.ways {
                let way = way.lock().unwrap();
                assert!(way.large > 50 || !is_good, "{segmentation:?}: {} large of {}", way.large, way.carried);
            }
        }
    }
}

#[test]
fn devices_take_over_checksums() {
    for offload in [Checksum::Rx, Checksum::None, Checksum::Tx] {
        // Where the device is to look at checksums and has not, the stack does: damage is found all the same.
        let faults = Faults { damaged: 4, ..Faults::default() };
        let world = World::with(faults, 11, [given(1), given(2)], offload, Segmentation::None);
        exchange_over(world, 100_000);
    }
}

#[test]
fn a_megabyte_crosses_a_good_cable() {
    exchange(Faults::default(), 3, 1 << 20);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]
    #[test]
    fn streams_survive_bad_cables(
        seed in any::<u64>(), length in 1usize..60_000,
        lost in 0u64..8, repeated in 0u64..15, swapped in 0u64..30, damaged in 0u64..5,
    ) {
        exchange(Faults { lost, repeated, swapped, damaged }, seed, length);
    }
}

#[test]
fn where_nobody_listens_a_connection_is_refused() {
    let mut world = World::new(Faults::default(), 4);
    let client = world.open(0, Protocol::Tcp, Family::V4);
    assert_eq!(world.stacks[0].connect(client, at(2, 81)), Err(NetworkError::InProgress));
    assert_eq!(world.stacks[0].connect(client, at(2, 81)), Err(NetworkError::InProgress));
    assert_eq!(world.stacks[0].send(client, b"x"), Err(NetworkError::WouldBlock));
    world.until(5, |world| world.stacks[0].bits(client) & ERROR != 0);
    assert_eq!(world.stacks[0].take_error(client), Err(NetworkError::ConnectionRefused));
    assert_eq!(world.stacks[0].take_error(client), Ok(()));
    assert_eq!(world.stacks[0].used(world.clients[0]), (1, 0), "its buffers are given back");
    // The socket can try again.
    let _listener = world.listener(1, 81, 1);
    assert_eq!(world.stacks[0].connect(client, at(2, 81)), Err(NetworkError::InProgress));
    world.until(5, |world| world.stacks[0].bits(client) & WRITABLE != 0);
    assert_eq!(world.stacks[0].take_error(client), Ok(()));
    assert_eq!(world.stacks[0].connect(client, at(2, 81)), Err(NetworkError::AlreadyConnected));
}

#[test]
fn a_host_that_is_not_there_times_out() {
    let mut world = World::new(Faults::default(), 5);
    let client = world.open(0, Protocol::Tcp, Family::V4);
    assert_eq!(world.stacks[0].connect(client, at(9, 80)), Err(NetworkError::InProgress));
    world.until(100, |world| world.stacks[0].bits(client) & ERROR != 0);
    assert_eq!(world.stacks[0].take_error(client), Err(NetworkError::TimedOut));
    assert_eq!(world.stacks[0].connect(client, four([8, 8, 8, 8], 80)), Err(NetworkError::NetworkUnreachable));
}

#[test]
fn a_full_queue_drops_requests_and_takes_them_later() {
    let mut world = World::new(Faults::default(), 6);
    let listener = world.listener(1, 80, 2);
    let clients: Vec<Id> = (0..6).map(|_| world.open(0, Protocol::Tcp, Family::V4)).collect();
    for client in &clients[..2] {
        assert_eq!(world.stacks[0].connect(*client, at(2, 80)), Err(NetworkError::InProgress));
    }
    let ready = |world: &World, id: Id| world.stacks[0].bits(id) & WRITABLE != 0;
    world.until(5, |world| ready(world, clients[0]) && ready(world, clients[1]));
    for client in &clients[2..] {
        assert_eq!(world.stacks[0].connect(*client, at(2, 80)), Err(NetworkError::InProgress));
    }
    let soon = world.now + 3_000_000_000;
    while world.now < soon {
        world.step();
    }
    for client in &clients[2..] {
        assert_eq!(world.stacks[0].bits(*client), 0, "neither connected nor refused");
    }
    let mut accepted = 0;
    world.until(60, |world| {
        accepted += usize::from(world.stacks[1].accept(listener).is_ok());
        accepted == 6
    });
}

#[test]
fn closing_with_unread_data_resets() {
    let mut world = World::new(Faults::default(), 7);
    let listener = world.listener(1, 80, 8);
    let (client, server) = world.connected(listener, 80);
    assert_eq!(world.stacks[0].send(client, b"nobody reads this"), Ok(17));
    world.until(5, |world| world.stacks[1].bits(server) & READABLE != 0);
    world.stacks[1].close(server);
    world.until(5, |world| world.stacks[0].bits(client) & ERROR != 0);
    assert_eq!(world.stacks[0].bits(client) & HANGUP, HANGUP);
    let mut into = [0; 10];
    assert_eq!(world.stacks[0].receive(client, &mut into, false), Err(NetworkError::ConnectionReset));
    assert_eq!(world.stacks[0].receive(client, &mut into, false), Ok(0), "told once");
    assert_eq!(world.stacks[0].send(client, b"x"), Err(NetworkError::BrokenPipe));
    assert_eq!(world.stacks[0].peer(client), Err(NetworkError::NotConnected));
}

#[test]
fn sending_to_what_was_closed_is_answered_by_a_reset() {
    let mut world = World::new(Faults::default(), 9);
    let listener = world.listener(1, 80, 8);
    let (client, server) = world.connected(listener, 80);
    assert_eq!(world.stacks[0].send(client, b"the last word"), Ok(13));
    world.stacks[0].close(client);
    world.until(5, |world| world.stacks[1].bits(server) & READ_CLOSED != 0);
    let mut into = [0; 20];
    assert_eq!(world.stacks[1].receive(server, &mut into, false), Ok(13));
    assert_eq!(world.stacks[1].receive(server, &mut into, false), Ok(0), "the end");
    assert_eq!(world.stacks[1].send(server, b"unheard"), Ok(7));
    world.until(5, |world| world.stacks[1].bits(server) & HANGUP != 0 && world.stacks[0].count() == 0);
    assert_eq!(world.stacks[1].send(server, b"x"), Err(NetworkError::ConnectionReset));
    assert_eq!(world.stacks[1].send(server, b"x"), Err(NetworkError::BrokenPipe));
}

#[test]
fn what_came_before_a_reset_can_be_read() {
    let mut world = World::new(Faults::default(), 8);
    let listener = world.listener(1, 80, 8);
    let (client, server) = world.connected(listener, 80);
    assert_eq!(world.stacks[0].send(client, b"unread"), Ok(6));
    assert_eq!(world.stacks[1].send(server, b"read"), Ok(4));
    world
        .until(5, |world| world.stacks[0].bits(client) & READABLE != 0 && world.stacks[1].bits(server) & READABLE != 0);
    world.stacks[1].close(server);
    world.until(5, |world| world.stacks[0].bits(client) & ERROR != 0);
    let mut into = [0; 10];
    assert_eq!(world.stacks[0].receive(client, &mut into, false), Ok(4));
    assert_eq!(world.stacks[0].receive(client, &mut into, false), Err(NetworkError::ConnectionReset));
}

#[test]
fn one_direction_can_end_before_the_other() {
    let mut alone = Alone::new(LIMITS);
    let listener = alone.listener(four(LOCALHOST, 80), 8);
    let (client, server) = alone.connected(listener, four(LOCALHOST, 80));
    alone.stack.send(client, b"all").unwrap();
    alone.stack.shutdown(client, Shutdown::Send).unwrap();
    assert_eq!(alone.stack.send(client, b"more"), Err(NetworkError::BrokenPipe));
    alone.settle();
    let mut into = [0; 10];
    assert_eq!(alone.stack.receive(server, &mut into, false), Ok(3));
    assert_eq!(alone.stack.receive(server, &mut into, false), Ok(0));
    assert_eq!(alone.stack.bits(server), READABLE | WRITABLE | READ_CLOSED);
    alone.stack.send(server, b"answer").unwrap();
    alone.settle();
    assert_eq!(alone.stack.receive(client, &mut into, false), Ok(6));
    alone.stack.shutdown(server, Shutdown::Both).unwrap();
    alone.settle();
    assert_eq!(alone.stack.receive(client, &mut into, false), Ok(0));
    assert_eq!(alone.stack.bits(client) & HANGUP, HANGUP);
}

#[test]
fn the_loopback_speaks_both_versions_and_all_its_addresses() {
    let mut alone = Alone::new(LIMITS);
    let six = address::address(IpEndpoint::new(IpAddress::v6(0, 0, 0, 0, 0, 0, 0, 1), 80), Family::V6);
    let listener = alone.listener(address::local((None, 80), Family::V6), 8);
    for to in [six, four(LOCALHOST, 80), four([127, 0, 1, 1], 80), everywhere(80)] {
        let (client, server) = alone.connected(listener, to);
        alone.stack.send(client, b"hello").unwrap();
        alone.settle();
        let mut into = [0; 10];
        assert_eq!(alone.stack.receive(server, &mut into, false), Ok(5), "{to:?}");
        assert_eq!(alone.stack.peer(server).unwrap().family, Family::V6);
    }
    // One that is for version 6 only does not hear version 4.
    let only = alone.open(Protocol::Tcp, Family::V6);
    alone.stack.set_option(only, SocketOption::OnlyV6, 1).unwrap();
    alone.stack.bind(only, address::local((None, 81), Family::V6)).unwrap();
    alone.stack.listen(only, 1).unwrap();
    let client = alone.open(Protocol::Tcp, Family::V4);
    assert_eq!(alone.stack.connect(client, four(LOCALHOST, 81)), Err(NetworkError::InProgress));
    alone.settle();
    assert_eq!(alone.stack.take_error(client), Err(NetworkError::ConnectionRefused));
}

#[test]
fn a_machine_reaches_itself_by_its_own_address() {
    let mut world = World::new(Faults::default(), 9);
    let listener = world.listener(0, 80, 4);
    let client = world.open(0, Protocol::Tcp, Family::V4);
    assert_eq!(world.stacks[0].connect(client, at(1, 80)), Err(NetworkError::InProgress));
    world.until(1, |world| world.stacks[0].bits(client) & WRITABLE != 0);
    let server = world.stacks[0].accept(listener).unwrap();
    assert_eq!(world.stacks[0].peer(server).unwrap().ip, at(1, 0).ip);
    assert_eq!(world.ways[0].lock().unwrap().frames.iter().filter(|frame| frame[12..14] == [8, 0]).count(), 0);
}

#[test]
fn ports_are_held_until_they_may_be_used_again() {
    let mut alone = Alone::new(LIMITS);
    let first = alone.listener(four(LOCALHOST, 80), 8);
    let second = alone.open(Protocol::Tcp, Family::V4);
    assert_eq!(alone.stack.bind(second, everywhere(80)), Err(NetworkError::AddressInUse));
    assert_eq!(alone.stack.bind(second, four([1, 2, 3, 4], 80)), Err(NetworkError::AddressNotAvailable));
    let (client, server) = alone.connected(first, four(LOCALHOST, 80));
    alone.stack.close(first);
    // The server ends first: its end rests, and keeps the port.
    alone.stack.close(server);
    alone.settle();
    alone.stack.close(client);
    alone.settle();
    assert_eq!(alone.stack.count(), 1, "who rests needs no socket");
    assert_eq!(alone.stack.used(alone.client), (1, 0));
    assert_eq!(alone.stack.bind(second, everywhere(80)), Err(NetworkError::AddressInUse));
    alone.stack.set_option(second, SocketOption::ReuseAddress, 1).unwrap();
    assert_eq!(alone.stack.bind(second, everywhere(80)), Ok(()));
    assert_eq!(alone.stack.bind(second, everywhere(81)), Err(NetworkError::InvalidArgument), "bound already");
    let third = alone.open(Protocol::Tcp, Family::V4);
    alone.pass(11_000_000_000);
    alone.stack.close(second);
    assert_eq!(alone.stack.bind(third, everywhere(80)), Ok(()), "the rest is over");
}

#[test]
fn what_gives_its_address_up_leaves_it_to_others_at_once() {
    let mut alone = Alone::new(LIMITS);
    let listener = alone.listener(four(LOCALHOST, 80), 8);
    let (client, server) = alone.connected(listener, four(LOCALHOST, 80));
    let second = alone.open(Protocol::Tcp, Family::V4);
    alone.stack.set_option(second, SocketOption::ReuseAddress, 1).unwrap();
    assert_eq!(alone.stack.bind(second, everywhere(80)), Err(NetworkError::AddressInUse));
    assert_eq!(alone.stack.release(listener), Ok(()));
    assert_eq!(alone.stack.bind(second, everywhere(80)), Ok(()));
    assert_eq!(alone.stack.accept(listener), Err(NetworkError::InvalidArgument));
    assert_eq!(alone.stack.release(server), Ok(()), "what is connected stays so");
    assert_eq!(alone.stack.send(client, b"still"), Ok(5));
    let datagrams = alone.open(Protocol::Udp, Family::V4);
    alone.stack.bind(datagrams, everywhere(53)).unwrap();
    assert_eq!(alone.stack.release(datagrams), Ok(()));
    let other = alone.open(Protocol::Udp, Family::V4);
    assert_eq!(alone.stack.bind(other, everywhere(53)), Ok(()));
    alone.stack.close(datagrams);
    alone.stack.close(listener);
}

#[test]
fn port_zero_is_any_free_port() {
    let mut alone = Alone::new(LIMITS);
    let listener = alone.open(Protocol::Tcp, Family::V4);
    alone.stack.listen(listener, 4).unwrap();
    let at = alone.stack.local(listener).unwrap();
    assert!(at.port >= 32768);
    let (client, _server) = alone.connected(listener, four(LOCALHOST, at.port));
    assert_eq!(alone.stack.peer(client), Ok(four(LOCALHOST, at.port)));
}

#[test]
fn a_late_end_is_acknowledged_again_and_a_new_connection_may_begin() {
    let mut world = World::new(Faults::default(), 10);
    let listener = world.listener(1, 80, 8);
    let (client, server) = world.connected(listener, 80);
    let port = world.stacks[0].local(client).unwrap().port;
    world.stacks[1].close(server);
    world.until(5, |world| world.stacks[0].bits(client) & READ_CLOSED != 0);
    world.stacks[0].close(client);
    // The first acknowledgement of the client's end is lost.
    let mut lost = false;
    world.until(20, |world| {
        let mut way = world.ways[1].lock().unwrap();
        if !lost && !way.frames.is_empty() {
            way.frames.clear();
            lost = true;
        }
        drop(way);
        lost && world.stacks[0].count() == 0
    });
    assert_eq!(world.stacks[1].count(), 1);
    // The same port again: the server's end rests, and gives way.
    let again = world.open(0, Protocol::Tcp, Family::V4);
    world.stacks[0].bind(again, everywhere(port)).unwrap();
    assert_eq!(world.stacks[0].connect(again, at(2, 80)), Err(NetworkError::InProgress));
    let begun = world.now;
    world.until(20, |world| world.stacks[0].bits(again) & WRITABLE != 0 || world.stacks[0].bits(again) & ERROR != 0);
    assert_eq!(world.stacks[0].take_error(again), Ok(()), "after {} ns", world.now - begun);
}

#[test]
fn a_connection_that_ends_before_it_is_accepted_goes_with_its_listener() {
    for accept in [false, true] {
        let mut alone = Alone::new(LIMITS);
        let listener = alone.listener(everywhere(80), 8);
        let client = alone.open(Protocol::Tcp, Family::V4);
        assert_eq!(alone.stack.connect(client, four(LOCALHOST, 80)), Err(NetworkError::InProgress));
        alone.settle();
        alone.stack.set_option(client, SocketOption::Linger, 0).unwrap();
        alone.stack.close(client);
        alone.settle();
        if accept {
            let server = alone.stack.accept(listener).unwrap();
            let mut into = [0; 1];
            assert_eq!(alone.stack.receive(server, &mut into, false), Err(NetworkError::ConnectionReset));
            alone.stack.close(server);
        }
        alone.stack.close(listener);
        alone.settle();
        assert_eq!((alone.stack.count(), alone.stack.used(alone.client)), (0, (0, 0)));
    }
}

#[test]
fn wrong_uses_of_a_stream_are_refused() {
    let mut alone = Alone::new(LIMITS);
    let socket = alone.open(Protocol::Tcp, Family::V4);
    let mut into = [0; 1];
    assert_eq!(alone.stack.send(socket, b"x"), Err(NetworkError::NotConnected));
    assert_eq!(alone.stack.receive(socket, &mut into, false), Err(NetworkError::NotConnected));
    assert_eq!(alone.stack.accept(socket), Err(NetworkError::InvalidArgument));
    assert_eq!(alone.stack.shutdown(socket, Shutdown::Both), Err(NetworkError::NotConnected));
    assert_eq!(alone.stack.peer(socket), Err(NetworkError::NotConnected));
    assert_eq!(alone.stack.connect(socket, four(LOCALHOST, 0)), Err(NetworkError::AddressNotAvailable));
    assert_eq!(alone.stack.send_to(socket, four(LOCALHOST, 1), b"x"), Err(NetworkError::NotSupported));
    assert_eq!(alone.stack.receive_from(socket, &mut into, false), Err(NetworkError::NotSupported));
    let six = address::address(IpEndpoint::new(IpAddress::v6(0, 0, 0, 0, 0, 0, 0, 1), 80), Family::V6);
    assert_eq!(alone.stack.connect(socket, six), Err(NetworkError::InvalidArgument));
    let listener = alone.listener(four(LOCALHOST, 80), 8);
    assert_eq!(alone.stack.accept(listener), Err(NetworkError::WouldBlock));
    assert_eq!(alone.stack.connect(listener, four(LOCALHOST, 80)), Err(NetworkError::InvalidArgument));
    assert_eq!(alone.stack.listen(listener, 9), Ok(()), "another backlog");
    assert_eq!(alone.stack.number(77), Err(NetworkError::InvalidArgument));
    assert_eq!(alone.stack.option(listener, SocketOption::Listening), Ok(1));
    assert_eq!(alone.stack.set_option(listener, SocketOption::HopLimit, 0), Err(NetworkError::InvalidArgument));
    assert_eq!(alone.stack.set_option(listener, SocketOption::Listening, 0), Err(NetworkError::InvalidArgument));
}

#[test]
fn connections_begin_with_the_sequence_number_of_our_choice() {
    use crate::stack::frame::{Class, classify};
    let mut world = World::new(Faults::default(), 9);
    world.listener(1, 80, 8);
    let client = world.open(0, Protocol::Tcp, Family::V4);
    let began = world.stacks[0].now;
    assert_eq!(world.stacks[0].connect(client, at(2, 80)), Err(NetworkError::InProgress));
    let answer = loop {
        let now = world.stacks[1].now;
        world.step();
        let way = world.ways[1].lock().unwrap();
        let mut segments = way.frames.iter().filter_map(|frame| {
            match classify(Medium::Ethernet, frame, &ChecksumCapabilities::default()) {
                Class::Segment(segment) => Some(segment),
                _ => None,
            }
        });
        if let Some(segment) = segments.next_back() {
            break (segment, now);
        }
        assert!(now < began + smoltcp::time::Duration::from_secs(1), "nobody answered");
    };
    let (segment, now) = answer;
    assert_eq!(segment.sequence, world.stacks[1].secret.sequence(&ends(segment.from, segment.to), now));
    let asked = world.stacks[0].secret.sequence(&ends(segment.to, segment.from), began);
    assert_eq!(segment.acknowledges, Some(asked.wrapping_add(1)));
}
