//! Addresses from a DHCP server and names from a DNS server, which are sockets of the other end.

use super::*;
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr};
use tessera_interfaces::SocketOption;

const FALLBACK: Static =
    Static { address: Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, 77), 24), gateway: None, name_server: None };

/// Answers one message of a DHCP client.
fn dhcp_answer(request: &[u8], mine: [u8; 4]) -> Option<Vec<u8>> {
    let packet = DhcpPacket::new_checked(request).ok()?;
    let mut answer = DhcpRepr::parse(&packet).ok()?;
    answer.message_type = match answer.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request => DhcpMessageType::Ack,
        _ => return None,
    };
    answer.your_ip = Ipv4Address::new(10, 0, 0, 50);
    answer.server_identifier = Some(mine.into());
    answer.subnet_mask = Some(Ipv4Address::new(255, 255, 255, 0));
    answer.router = Some(mine.into());
    answer.lease_duration = Some(3600);
    answer.parameter_request_list = None;
    answer.requested_ip = None;
    answer.client_identifier = None;
    answer.dns_servers = Some(Default::default());
    answer.dns_servers.as_mut()?.push(mine.into()).ok()?;
    let mut bytes = vec![0; answer.buffer_len()];
    answer.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).ok()?;
    Some(bytes)
}

/// Answers a question for a name: `known.test` has one address of each version, all else none.
fn dns_answer(question: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    let known = question[12..].starts_with(b"\x05known\x04test\x00");
    let kind = question[question.len() - 3];
    answer[2..4].copy_from_slice(if known { &[0x81, 0x80] } else { &[0x81, 0x83] });
    if known {
        answer[7] = 1;
        answer.extend([0xc0, 0x0c, 0, kind, 0, 1, 0, 0, 0, 60]);
        if kind == 1 {
            answer.extend([0, 4, 1, 2, 3, 4]);
        } else {
            answer.extend([0, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        }
    }
    answer
}

/// End 1 serves DHCP, and names if `names`.
struct Servers {
    dhcp: Id,
    dns: Id,
}

fn servers(world: &mut World) -> Servers {
    let (dhcp, dns) = (world.open(1, Protocol::Udp, Family::V4), world.open(1, Protocol::Udp, Family::V4));
    world.stacks[1].bind(dhcp, everywhere(67)).unwrap();
    world.stacks[1].bind(dns, everywhere(53)).unwrap();
    world.stacks[1].set_option(dhcp, SocketOption::Broadcast, 1).unwrap();
    Servers { dhcp, dns }
}

fn serve(world: &mut World, servers: &Servers) {
    let stack = &mut world.stacks[1];
    let mut into = [0; 1500];
    while let Ok(got) = stack.receive_from(servers.dhcp, &mut into, false) {
        if let Some(answer) = dhcp_answer(&into[..got.length as usize], [10, 0, 0, 2]) {
            stack.send_to(servers.dhcp, four([255; 4], 68), &answer).unwrap();
        }
    }
    while let Ok(got) = stack.receive_from(servers.dns, &mut into, false) {
        let answer = dns_answer(&into[..got.length as usize]);
        stack.send_to(servers.dns, got.from, &answer).unwrap();
    }
}

fn configured() -> (World, Servers) {
    let mut world = World::with(
        Faults::default(),
        1,
        [Source::Asked(Some(FALLBACK)), given(2)],
        Checksum::Both,
        Segmentation::None,
    );
    let servers = servers(&mut world);
    world.until(4, |world| {
        serve(world, &servers);
        world.stacks[0].configuration().v4 != [0; 4]
    });
    (world, servers)
}

#[test]
fn an_address_a_gateway_and_a_name_server_come_from_dhcp() {
    let (mut world, _servers) = configured();
    let configuration = world.stacks[0].configuration();
    assert_eq!((configuration.v4, configuration.v4_prefix), ([10, 0, 0, 50], 24));
    assert_eq!(configuration.v4_gateway, [10, 0, 0, 2]);
    assert_eq!(configuration.name_server, four([10, 0, 0, 2], 0).ip);
    assert_eq!(configuration.v6[..2], [0xfe, 0x80]);
    let listener = world.listener(1, 80, 8);
    let (_client, server) = world.connected(listener, 80);
    assert_eq!(world.stacks[1].peer(server).unwrap().ip, four([10, 0, 0, 50], 0).ip);
    // The address to fall back on is not taken any more.
    let later = world.now + 10_000_000_000;
    while world.now < later {
        world.step();
    }
    assert_eq!(world.stacks[0].configuration().v4, [10, 0, 0, 50]);
}

#[test]
fn without_a_dhcp_server_the_address_to_fall_back_on_is_taken() {
    let mut world = World::with(
        Faults::default(),
        2,
        [Source::Asked(Some(FALLBACK)), given(2)],
        Checksum::Both,
        Segmentation::None,
    );
    let client = world.open(0, Protocol::Tcp, Family::V4);
    assert_eq!(world.stacks[0].connect(client, at(2, 80)), Err(NetworkError::NetworkUnreachable));
    world.until(7, |world| world.stacks[0].configuration().v4 == [10, 0, 0, 77]);
    let listener = world.listener(1, 80, 8);
    let _ = world.connected(listener, 80);
}

#[test]
fn names_are_asked_for_in_both_versions_and_remembered() {
    let (mut world, servers) = configured();
    let client = world.clients[0];
    let mut answer = world.stacks[0].resolve(client, "Known.test");
    assert_eq!(answer, Err(NetworkError::WouldBlock));
    world.until(5, |world| {
        serve(world, &servers);
        answer = world.stacks[0].resolve(client, "known.test.");
        answer != Err(NetworkError::WouldBlock)
    });
    let answer = answer.unwrap();
    assert_eq!(answer.len(), 32);
    assert_eq!(answer[..16], four([1, 2, 3, 4], 0).ip);
    assert_eq!((answer[16], answer[31]), (0x20, 9));
    let mut unknown = Ok(Vec::new());
    world.until(5, |world| {
        serve(world, &servers);
        unknown = world.stacks[0].resolve(client, "unknown.test");
        unknown != Err(NetworkError::WouldBlock)
    });
    assert_eq!(unknown, Err(NetworkError::NotFound));
    // One client cannot ask for everything.
    let refused = (0..50).filter(|number| {
        world.stacks[0].resolve(client, &alloc::format!("n{number}.test")) == Err(NetworkError::LimitReached)
    });
    assert_eq!(refused.count(), 42);
}
