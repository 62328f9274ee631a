use super::*;
use readiness::{ERROR, READABLE};
use tessera_interfaces::{Marks, Shutdown, SocketOption};

#[test]
fn datagrams_cross_the_wire_and_say_who_sent_them() {
    let mut world = World::new(Faults::default(), 1);
    let server = world.open(1, Protocol::Udp, Family::V4);
    world.stacks[1].bind(server, everywhere(53)).unwrap();
    let client = world.open(0, Protocol::Udp, Family::V4);
    assert_eq!(world.stacks[0].send_to(client, at(2, 53), b"who?"), Ok(4));
    world.until(5, |world| world.stacks[1].bits(server) & READABLE != 0);
    let mut into = [0; 3];
    let peeked = world.stacks[1].receive_from(server, &mut into, true).unwrap();
    let got = world.stacks[1].receive_from(server, &mut into, false).unwrap();
    assert_eq!(peeked, got);
    assert_eq!((got.length, &into), (3, b"who"), "what does not fit is lost");
    assert_eq!(got.from, address::address(IpEndpoint::new(IpAddress::v4(10, 0, 0, 1), got.from.port), Family::V4));
    assert_eq!(world.stacks[1].receive_from(server, &mut into, false), Err(NetworkError::WouldBlock));
    world.stacks[1].send_to(server, got.from, b"me").unwrap();
    world.until(5, |world| world.stacks[0].bits(client) & READABLE != 0);
    assert_eq!(world.stacks[0].receive(client, &mut into, false), Ok(2));
}

#[test]
fn a_connected_socket_hears_its_peer_only_and_of_ports_that_nobody_has() {
    let mut world = World::new(Faults::default(), 2);
    let client = world.open(0, Protocol::Udp, Family::V4);
    assert_eq!(world.stacks[0].send(client, b"x"), Err(NetworkError::NotConnected));
    world.stacks[0].connect(client, at(2, 53)).unwrap();
    let own = world.stacks[0].local(client).unwrap();
    assert_eq!(own.ip, at(1, 0).ip);
    assert_eq!(world.stacks[0].send(client, b"x"), Ok(1));
    world.until(5, |world| world.stacks[0].bits(client) & ERROR != 0);
    let mut into = [0; 3];
    assert_eq!(world.stacks[0].receive(client, &mut into, false), Err(NetworkError::ConnectionRefused));
    let stranger = world.open(1, Protocol::Udp, Family::V4);
    world.stacks[1].send_to(stranger, own, b"hello").unwrap();
    for _ in 0..20 {
        world.step();
    }
    assert_eq!(world.stacks[0].receive(client, &mut into, false), Err(NetworkError::WouldBlock));
}

#[test]
fn the_loopback_hands_datagrams_over_at_once() {
    let mut alone = Alone::new(LIMITS);
    let server = alone.open(Protocol::Udp, Family::V4);
    alone.stack.bind(server, four(LOCALHOST, 0)).unwrap();
    let at = alone.stack.local(server).unwrap();
    let client = alone.open(Protocol::Udp, Family::V4);
    alone.stack.connect(client, at).unwrap();
    let big = numbers(65507);
    assert_eq!(alone.stack.send(client, &big), Ok(65507));
    assert_eq!(alone.stack.send(client, &numbers(65508)), Err(NetworkError::MessageTooLong));
    let mut into = vec![0; 70_000];
    assert_eq!(alone.stack.option(server, SocketOption::ReceiveQueued), Ok(65507));
    let got = alone.stack.receive_from(server, &mut into, false).unwrap();
    assert_eq!(got.length, 65507);
    assert_eq!(into[..65507], big);
    alone.stack.close(server);
    alone.settle();
    assert_eq!(alone.stack.send(client, b"x"), Ok(1));
    assert_eq!(alone.stack.send(client, b"x"), Err(NetworkError::ConnectionRefused));
    alone.stack.shutdown(client, Shutdown::Both).unwrap();
    assert_eq!(alone.stack.send(client, b"x"), Err(NetworkError::BrokenPipe));
    assert_eq!(alone.stack.receive(client, &mut into, false), Ok(0));
}

#[test]
fn what_nobody_reads_is_lost_beyond_a_bound() {
    let mut alone = Alone::new(Limits { sockets: 10, bytes: 50_000 });
    let server = alone.open(Protocol::Udp, Family::V4);
    alone.stack.bind(server, four(LOCALHOST, 9)).unwrap();
    let client = alone.open(Protocol::Udp, Family::V4);
    for _ in 0..1000 {
        assert_eq!(alone.stack.send_to(client, four(LOCALHOST, 9), &[7; 1000]), Ok(1000));
    }
    assert!(alone.stack.used(alone.client).1 <= 50_000);
    let mut into = [0; 1000];
    let mut count = 0;
    while alone.stack.receive_from(server, &mut into, false).is_ok() {
        count += 1;
    }
    assert_eq!(count, 45);
    assert_eq!(alone.stack.used(alone.client), (2, 0));
}

#[test]
fn a_datagram_for_a_host_that_is_not_there_does_not_hold_up_the_next() {
    let mut world = World::new(Faults::default(), 3);
    let server = world.open(1, Protocol::Udp, Family::V4);
    world.stacks[1].bind(server, everywhere(53)).unwrap();
    let client = world.open(0, Protocol::Udp, Family::V4);
    world.stacks[0].send_to(client, at(9, 53), b"lost").unwrap();
    let soon = world.now + 5_000_000_000;
    while world.now < soon {
        world.step();
    }
    world.stacks[0].send_to(client, at(2, 53), b"there").unwrap();
    world.until(5, |world| world.stacks[1].bits(server) & READABLE != 0);
    world.stacks[0].close(client);
    world.until(5, |world| world.stacks[0].count() == 0);
    assert_eq!(world.stacks[0].used(world.clients[0]), (0, 0));
}

#[test]
fn datagrams_that_cannot_go_are_refused() {
    let mut world = World::new(Faults::default(), 4);
    let client = world.open(0, Protocol::Udp, Family::V4);
    let stack = &mut world.stacks[0];
    assert_eq!(stack.send_to(client, at(2, 53), &[0; 1473]), Err(NetworkError::MessageTooLong));
    assert_eq!(stack.send_to(client, at(2, 0), b"x"), Err(NetworkError::InvalidArgument));
    assert_eq!(stack.send_to(client, four([8, 8, 8, 8], 53), b"x"), Err(NetworkError::NetworkUnreachable));
    assert_eq!(stack.send_to(client, four([255; 4], 53), b"x"), Err(NetworkError::PermissionDenied));
    assert_eq!(stack.send_to(client, four([10, 0, 0, 255], 53), b"x"), Err(NetworkError::PermissionDenied));
    stack.set_option(client, SocketOption::Broadcast, 1).unwrap();
    assert_eq!(stack.send_to(client, four([255; 4], 53), b"x"), Ok(1));
    assert_eq!(stack.listen(client, 1), Err(NetworkError::NotSupported));
    assert_eq!(stack.accept(client), Err(NetworkError::InvalidArgument));
}

#[test]
fn a_broadcast_is_heard_by_all_that_listen() {
    let mut world = World::new(Faults::default(), 5);
    let ears: Vec<Id> = (0..2).map(|_| world.open(1, Protocol::Udp, Family::V4)).collect();
    for ear in &ears {
        world.stacks[1].set_option(*ear, SocketOption::ReuseAddress, 1).unwrap();
        world.stacks[1].bind(*ear, everywhere(99)).unwrap();
    }
    let mouth = world.open(0, Protocol::Udp, Family::V4);
    world.stacks[0].set_option(mouth, SocketOption::Broadcast, 1).unwrap();
    world.stacks[0].send_to(mouth, four([10, 0, 0, 255], 99), b"all").unwrap();
    world.until(5, |world| ears.iter().all(|ear| world.stacks[1].bits(*ear) & READABLE != 0));
}

#[test]
fn echo_finds_its_way_over_the_wire_and_back_home() {
    let mut world = World::new(Faults::default(), 6);
    let socket = world.open(0, Protocol::Icmp, Family::V4);
    let mut request = vec![8, 0, 0, 0, 0xaa, 0xbb, 0, 1];
    request.extend(b"payload");
    for to in [at(2, 0), at(1, 0), four(LOCALHOST, 0)] {
        assert_eq!(world.stacks[0].send_to(socket, to, &request), Ok(15));
        world.until(5, |world| world.stacks[0].bits(socket) & READABLE != 0);
        let mut into = [0; 100];
        let got = world.stacks[0].receive_from(socket, &mut into, false).unwrap();
        assert_eq!((got.length, got.from.ip), (15, to.ip));
        assert_eq!(into[0], 0, "an echo reply");
        assert_eq!(&into[8..15], b"payload");
    }
    let mut forged = request.clone();
    forged[0] = 5;
    assert_eq!(world.stacks[0].send_to(socket, at(2, 0), &forged), Err(NetworkError::InvalidArgument));
    assert_eq!(world.stacks[0].send_to(socket, at(2, 0), &[8, 0]), Err(NetworkError::InvalidArgument));
}

#[test]
fn names_that_need_no_server_are_answered_at_once() {
    let mut alone = Alone::new(LIMITS);
    let (stack, client) = (&mut alone.stack, alone.client);
    assert_eq!(stack.resolve(client, "10.0.2.2").unwrap(), four([10, 0, 2, 2], 0).ip);
    assert_eq!(stack.resolve(client, "::1").unwrap()[15], 1);
    assert_eq!(stack.resolve(client, "LocalHost.").unwrap().len(), 32);
    assert_eq!(stack.resolve(client, ""), Err(NetworkError::InvalidArgument));
    assert_eq!(stack.resolve(client, &"a".repeat(300)), Err(NetworkError::InvalidArgument));
    assert_eq!(stack.resolve(client, "example.org"), Err(NetworkError::NetworkUnreachable));
}

#[test]
fn marks_cross_the_loopback_and_the_hop_limit_the_wire() {
    let mut alone = Alone::new(LIMITS);
    let server = alone.open(Protocol::Udp, Family::V4);
    alone.stack.bind(server, four(LOCALHOST, 0)).unwrap();
    let to = alone.stack.local(server).unwrap();
    let client = alone.open(Protocol::Udp, Family::V4);
    alone.stack.set_option(client, SocketOption::TrafficClass, 5).unwrap();
    alone.stack.set_option(client, SocketOption::HopLimit, 9).unwrap();
    alone.stack.send_to(client, to, b"a").unwrap();
    alone.pass(3_000_000);
    alone.stack.send_message(client, Some(to), Marks { hops: 1, class: 7 }, b"b").unwrap();
    assert_eq!(
        alone.stack.send_message(client, None, Marks { hops: 1, class: 7 }, b"b"),
        Err(NetworkError::NotConnected)
    );
    let mut into = [0; 3];
    let got = alone.stack.receive_message(server, &mut into, false).unwrap();
    assert_eq!((got.marks, got.to, got.age), (Marks { hops: 9, class: 5 }, to.ip, 3_000_000));
    let got = alone.stack.receive_message(server, &mut into, false).unwrap();
    assert_eq!((got.marks, got.age), (Marks { hops: 1, class: 7 }, 0));

    let mut world = World::new(Faults::default(), 3);
    let server = world.open(1, Protocol::Udp, Family::V4);
    world.stacks[1].bind(server, everywhere(53)).unwrap();
    let client = world.open(0, Protocol::Udp, Family::V4);
    world.stacks[0].set_option(client, SocketOption::HopLimit, 9).unwrap();
    world.stacks[0].send_to(client, at(2, 53), b"who?").unwrap();
    world.until(5, |world| world.stacks[1].bits(server) & READABLE != 0);
    let got = world.stacks[1].receive_message(server, &mut into, false).unwrap();
    assert_eq!((got.marks, got.to), (Marks { hops: 9, class: 0 }, at(2, 53).ip));
}

#[test]
fn udp_lite_is_a_protocol_of_its_own_and_stays_within_the_machine() {
    let mut alone = Alone::new(LIMITS);
    let lite = alone.open(Protocol::UdpLite, Family::V4);
    alone.stack.bind(lite, four(LOCALHOST, 9)).unwrap();
    let plain = alone.open(Protocol::Udp, Family::V4);
    alone.stack.bind(plain, four(LOCALHOST, 9)).unwrap();
    let client = alone.open(Protocol::UdpLite, Family::V4);
    alone.stack.send_to(client, four(LOCALHOST, 9), b"x").unwrap();
    let mut into = [0; 3];
    assert_eq!(alone.stack.receive(plain, &mut into, false), Err(NetworkError::WouldBlock));
    assert_eq!(alone.stack.receive(lite, &mut into, false), Ok(1));
    alone.stack.connect(client, four(LOCALHOST, 10)).unwrap();
    alone.stack.send(client, b"x").unwrap();
    assert_eq!(alone.stack.receive(client, &mut into, false), Err(NetworkError::ConnectionRefused));
    let mut world = World::new(Faults::default(), 4);
    let client = world.open(0, Protocol::UdpLite, Family::V4);
    assert_eq!(world.stacks[0].send_to(client, at(2, 53), b"x"), Err(NetworkError::NetworkUnreachable));
}
