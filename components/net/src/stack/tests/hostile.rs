use super::*;
use proptest::prelude::*;
use tessera_interfaces::{Shutdown, SocketOption};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// A wire that carries noise and damaged frames cannot make the stack panic, leave its limits, or stop working.
    #[test]
    fn no_noise_on_the_wire_harms(
        seed in any::<u64>(),
        noise in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..40),
        flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..60),
    ) {
        let mut world = World::new(Faults::default(), seed);
        let listener = world.listener(1, 80, 8);
        let (client, server) = world.connected(listener, 80);
        let mut noise = noise.into_iter();
        for (at, value) in flips {
            let _ = world.stacks[0].send(client, &numbers(usize::from(at) % 3000));
            world.stacks[0].set_time(world.now);
            let _ = world.stacks[0].run();
            {
                let mut way = world.ways[0].lock().unwrap();
                if let Some(frame) = way.frames.front_mut().filter(|frame| frame[12..14] != [8, 6]) {
                    let at = usize::from(at) % frame.len();
                    // Behind the checks that would throw the frame away at once: addresses stay.
                    if at >= 34 { frame[at] = value } else { frame[at] ^= value & 1 }
                }
                if let Some(mut frame) = noise.next() {
                    // Half of it looks as if it were for this machine.
                    if value & 1 == 0 && frame.len() > 14 {
                        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
                        frame[12..14].copy_from_slice(if value & 2 == 0 { &[8, 0] } else { &[0x86, 0xdd] });
                        frame[14] = if value & 2 == 0 { 0x45 } else { 0x60 };
                    }
                    way.frames.push_back(frame);
                }
            }
            let _ = world.stacks[1].run();
            let mut into = [0; 4000];
            let _ = world.stacks[1].receive(server, &mut into, false);
            world.step();
        }
        // Another connection works still.
        let (again, there) = world.connected(listener, 80);
        prop_assert_eq!(world.stacks[0].send(again, b"fine"), Ok(4));
        world.until(20, |world| world.stacks[1].bits(there) & readiness::READABLE != 0);
    }

    /// Calls of any kind in any order neither panic nor leak.
    #[test]
    fn no_order_of_calls_harms(calls in proptest::collection::vec((0u8..18, any::<u8>(), any::<u8>()), 0..120)) {
        let mut alone = Alone::new(Limits { sockets: 12, bytes: 2 << 20 });
        let mut held: Vec<Id> = Vec::new();
        let mut into = [0; 3000];
        for (call, first, second) in calls {
            let id = if held.is_empty() { 7 } else { held[usize::from(first) % held.len()] };
            let near = [four(LOCALHOST, 80 + u16::from(second % 3)), everywhere(80), at(5, 5),
                address::address(IpEndpoint::new(IpAddress::v6(0, 0, 0, 0, 0, 0, 0, 1), 81), Family::V6)];
            let to = near[usize::from(second) % near.len()];
            let options = [SocketOption::NoDelay, SocketOption::KeepAlive, SocketOption::ReuseAddress, SocketOption::ReceiveBuffer,
                SocketOption::SendBuffer, SocketOption::Linger, SocketOption::HopLimit, SocketOption::UserTimeout,
                SocketOption::OnlyV6, SocketOption::ReceiveQueued, SocketOption::SendQueued];
            let option = options[usize::from(second) % options.len()];
            let stack = &mut alone.stack;
            match call {
                0 | 1 => {
                    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp, Protocol::Tcp][usize::from(second % 4)];
                    let family = if first & 1 == 0 { Family::V4 } else { Family::V6 };
                    held.extend(stack.open(alone.client, protocol, family));
                }
                2 => { let _ = stack.bind(id, to); }
                3 => { let _ = stack.listen(id, second.into()); }
                4 => held.extend(stack.accept(id)),
                5 | 6 => { let _ = stack.connect(id, to); }
                7 => { let _ = stack.send(id, &into[..usize::from(second) * 10]); }
                8 => { let _ = stack.send_to(id, to, &into[..usize::from(second)]); }
                9 => { let _ = stack.receive(id, &mut into, second & 1 == 0); }
                10 => { let _ = stack.receive_from(id, &mut into, second & 1 == 0); }
                11 => { let _ = stack.shutdown(id, [Shutdown::Send, Shutdown::Receive, Shutdown::Both][usize::from(second % 3)]); }
                12 => { let _ = stack.set_option(id, option, u64::from(second) * 1000); }
                13 => { let _ = stack.option(id, option); }
                14 => { let _ = (stack.take_error(id), stack.local(id), stack.peer(id), stack.number(id)); }
                15 if !held.is_empty() => { stack.close(id); held.retain(|other| *other != id); }
                16 => alone.pass(u64::from(second) * 100_000_000),
                _ => alone.settle(),
            }
            prop_assert!(alone.stack.used(alone.client).0 <= 12);
            prop_assert!(alone.stack.used(alone.client).1 <= 2 << 20);
        }
        for id in held {
            alone.stack.close(id);
        }
        alone.pass(200_000_000_000);
        prop_assert_eq!(alone.stack.used(alone.client), (0, 0));
        prop_assert_eq!(alone.stack.count(), 0);
        prop_assert!(alone.stack.connections.is_empty() && alone.stack.bound.is_empty() && alone.stack.timers.is_empty());
    }
}

#[test]
fn a_flood_of_requests_fills_no_memory_and_shuts_nobody_out_for_long() {
    let mut world = World::new(Faults::default(), 3);
    let listener = world.listener(1, 80, 16);
    // Requests from addresses that never answer, made by taking one apart.
    let client = world.open(0, Protocol::Tcp, Family::V4);
    assert_eq!(world.stacks[0].connect(client, at(2, 80)), Err(NetworkError::InProgress));
    let mut request = None;
    while request.is_none() {
        let _ = world.stacks[0].run();
        request = world.ways[0].lock().unwrap().frames.iter().find(|frame| frame[12..14] == [8, 0]).cloned();
        let _ = world.stacks[1].run();
    }
    let request = request.unwrap();
    for number in 0..5000u16 {
        let mut forged = request.clone();
        // The port changes, and the checksum with it: RFC 1624.
        let port = u16::from_be_bytes([forged[34], forged[35]]);
        let sum = u16::from_be_bytes([forged[50], forged[51]]);
        let new = 1024 + number;
        let mut total = u32::from(!sum) + u32::from(!port) + u32::from(new);
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        forged[34..36].copy_from_slice(&new.to_be_bytes());
        forged[50..52].copy_from_slice(&(!(total as u16)).to_be_bytes());
        world.ways[0].lock().unwrap().frames.push_back(forged);
        if number % 32 == 0 {
            world.stacks[1].set_time(world.now);
            let _ = world.stacks[1].run();
            world.ways[1].lock().unwrap().frames.clear();
        }
    }
    let _ = world.stacks[1].run();
    assert!(world.stacks[1].count() <= 1 + 64 + 1, "{}", world.stacks[1].count());
    let mut accepted = false;
    world.until(200, |world| {
        accepted |= world.stacks[1].accept(listener).is_ok();
        accepted
    });
}
