//! How clients share a wire: by turns of theirs, not of their sockets.

use super::*;
use tessera_interfaces::SocketOption;

const HOG: usize = 100;

/// A client of end 0 with so many connections to end 1, and those there.
fn connections(world: &mut World, client: ClientId, listener: Id, count: usize) -> Vec<(Id, Id)> {
    world.clients[0] = client;
    (0..count).map(|_| world.connected(listener, 80)).collect()
}

/// Sends all that there is room for.
fn fill(stack: &mut Stack, id: Id) {
    while stack.send(id, &[7; 4096]).is_ok() {}
}

/// Reads all that has come; answers how much it was.
fn drain(stack: &mut Stack, id: Id) -> u64 {
    let mut into = [0; 4096];
    core::iter::from_fn(|| stack.receive(id, &mut into, false).ok().filter(|count| *count > 0)).sum()
}

fn fill_all(stack: &mut Stack, pairs: &[(Id, Id)]) {
    pairs.iter().for_each(|(id, _)| fill(stack, *id));
}

fn drain_all(stack: &mut Stack, pairs: &[(Id, Id)]) -> u64 {
    pairs.iter().map(|(_, id)| drain(stack, *id)).sum()
}

#[test]
fn a_client_with_a_hundred_busy_sockets_leaves_another_its_share() {
    let mut world = World::new(Faults::default(), 5);
    let listener = world.listener(1, 80, 4096);
    let (modest, hog) = (world.stacks[0].add_client(LIMITS), world.stacks[0].add_client(LIMITS));
    let [(modest, its_end)] = connections(&mut world, modest, listener, 1)[..] else { panic!() };
    let hogs = connections(&mut world, hog, listener, HOG);
    let mut received = [0, 0];
    for step in 0..600 {
        // Slow start is over by then.
        if step == 200 {
            received = [0, 0];
        }
        fill(&mut world.stacks[0], modest);
        fill_all(&mut world.stacks[0], &hogs);
        world.step();
        received[0] += drain(&mut world.stacks[1], its_end);
        received[1] += drain_all(&mut world.stacks[1], &hogs);
    }
    let [modest, hog] = received;
    assert!(hog > 5 << 20, "the wire carries much: {hog} bytes");
    assert!(modest * 2 > hog, "half and half would be fair: {modest} bytes against {hog}");
}

#[test]
fn what_a_modest_client_sends_waits_for_no_more_than_a_turn_of_a_busy_one() {
    let mut world = World::new(Faults::default(), 6);
    let listener = world.listener(1, 80, 4096);
    let (modest, hog) = (world.stacks[0].add_client(LIMITS), world.stacks[0].add_client(LIMITS));
    let [(modest, its_end)] = connections(&mut world, modest, listener, 1)[..] else { panic!() };
    let hogs = connections(&mut world, hog, listener, HOG);
    world.stacks[0].set_option(modest, SocketOption::NoDelay, 1).unwrap();
    let mut worst = 0;
    for _ in 0..20 {
        for _ in 0..10 {
            fill_all(&mut world.stacks[0], &hogs);
            world.step();
            drain_all(&mut world.stacks[1], &hogs);
        }
        fill_all(&mut world.stacks[0], &hogs);
        world.stacks[0].send(modest, b"a word").unwrap();
        let mut steps = 0;
        while drain(&mut world.stacks[1], its_end) == 0 {
            steps += 1;
            world.step();
            drain_all(&mut world.stacks[1], &hogs);
        }
        worst = worst.max(steps);
    }
    assert!(worst <= 3, "it took {worst} rounds of the wire");
}
