//! Interfaces between processes: every shape, objects that are handed out and given back, deaths on either side, and peers that keep
//! to nothing.

use tessera_runtime::object::{Endpoint, Progress, Session};
use tessera_runtime::{Cap, Child, Object, Rights, Server, TransportError, own, thread};

use crate::context::{Context, MILLISECOND, sleep, within};
use crate::shapes::hostile::{Random, attack, lie, provoke};
use crate::shapes::{LARGE, Shaper, Shapes, check};
use crate::{Role, Test};

pub const TESTS: &[Test] = &[
    ("whatever a client sends, a server of objects goes on as before", hostile_client),
    ("whatever a server answers, a client gets a value or an error", hostile_server),
    ("every shape of a method travels between processes", every_shape),
    ("what a client held is given back when it dies", client_dies),
    ("a server that dies is told, and a new instance takes the next calls", server_dies),
    ("a capability of an earlier instance is revoked", revoked),
    ("a deadline ends a call, and the server goes on", deadline),
    ("a server learns over which route it is called", routes),
    ("many clients call many objects at once", many_clients),
];

pub const ROLES: &[Role] =
    &[("shapes", serve), ("shapes-holder", hold), ("shapes-client", work), ("shapes-liar", tell_lies)];

/// Serves root object 2, named 12, with two threads.
fn serve(context: &mut Context) -> i32 {
    let mut server = Server::new(context.start.take("endpoint").unwrap(), context.number("epoch"));
    server.provide::<dyn Shapes>(2, Shaper::new(12));
    let error = server.run(2);
    panic!("the server cannot go on: {error}")
}

/// A session of root object 2.
fn session(endpoint: &Endpoint, route: u64) -> Session {
    Session::create(endpoint, &own::pool(), 2 << 32 | route).unwrap()
}

fn object(endpoint: &Endpoint) -> Cap<dyn Shapes> {
    Cap::remote(session(endpoint, 9))
}

fn start(context: &mut Context, endpoint: &Endpoint, epoch: u64) -> Child {
    let theirs = endpoint.try_clone().unwrap();
    context.role("shapes", |program| program.handle("endpoint", theirs).argument(&alloc::format!("epoch={epoch}")))
}

fn endpoint() -> Endpoint {
    Endpoint::create(&own::pool()).unwrap()
}

/// The server of the test's own process, for the objects that it passes on.
fn server_of_my_own() {
    let server = Server::new(endpoint(), 1);
    let _ = thread::spawn(move || server.run(2)).unwrap();
}

fn every_shape(context: &mut Context) {
    let endpoint = endpoint();
    let _child = start(context, &endpoint, 1);
    server_of_my_own();
    check(&object(&endpoint), true);
    check(&Cap::local(Shaper::new(12)), false);
}

/// Takes objects until it is killed.
fn hold(context: &mut Context) -> i32 {
    let object = Cap::<dyn Shapes>::remote(context.start.take("session").unwrap());
    let held: alloc::vec::Vec<_> = (0..50).map(|name| object.child(name).unwrap()).collect();
    assert_eq!(held.iter().map(|child| child.name().unwrap()).sum::<u64>(), 49 * 25);
    sleep(60_000);
    1
}

/// Waits until an object has this many children.
fn children(object: &Cap<dyn Shapes>, count: u64) {
    let mut patience = 20_000;
    while object.children() != Ok(count) {
        assert!(patience > 0, "{:?} and not {count} children", object.children());
        patience -= 1;
        sleep(1);
    }
}

fn client_dies(context: &mut Context) {
    let endpoint = endpoint();
    let _child = start(context, &endpoint, 1);
    let object = object(&endpoint);
    for _ in 0..3 {
        let theirs = session(&endpoint, 1);
        let holder = context.role("shapes-holder", |program| program.handle("session", theirs));
        children(&object, 50);
        holder.kill(7).unwrap();
        children(&object, 0);
    }
}

fn server_dies(context: &mut Context) {
    let endpoint = endpoint();
    let object = object(&endpoint);
    let first = start(context, &endpoint, 1);
    assert_eq!(object.add(1, 2), Ok(3));
    assert_eq!(object.die(), Err(TransportError::PeerDied.into()));
    assert_eq!(first.wait(within(60_000)), Ok(Progress::Ended(3)));
    // Nobody receives: a call waits for the next instance, or for its deadline.
    let hasty = object.with_timeout(20 * MILLISECOND).unwrap();
    assert_eq!(hasty.nothing(), Err(TransportError::Deadline.into()));
    let waiting = object.clone();
    let caller = thread::spawn(move || waiting.large(LARGE, LARGE)).unwrap();
    sleep(5);
    assert!(!caller.is_finished());
    let _second = start(context, &endpoint, 2);
    assert_eq!(caller.join(), Ok((LARGE, LARGE)));
    assert_eq!(object.name(), Ok(12));
    // Killed while it works on a call, it is told of as well.
    let slow = object.clone();
    let caller = thread::spawn(move || slow.slow(60_000 * MILLISECOND)).unwrap();
    sleep(20);
    _second.kill(9).unwrap();
    assert_eq!(caller.join(), Err(TransportError::PeerDied.into()));
    // Without anybody who could receive, calls do not wait.
    drop(endpoint);
    assert_eq!(object.nothing(), Err(TransportError::PeerDied.into()));
}

fn revoked(context: &mut Context) {
    let endpoint = endpoint();
    let object = object(&endpoint);
    let first = start(context, &endpoint, 1);
    let (one, other) = (object.child(5).unwrap(), object.child(6).unwrap());
    assert_eq!((one.name(), other.name()), (Ok(5), Ok(6)));
    first.kill(9).unwrap();
    let _second = start(context, &endpoint, 2);
    assert_eq!(one.name(), Err(TransportError::Revoked.into()));
    // The new instance's first object is another one.
    let third = object.child(7).unwrap();
    assert_eq!(third.name(), Ok(7));
    assert_eq!(other.name(), Err(TransportError::Revoked.into()));
    assert_eq!(object.name_of(other).map(|_| ()), Err(TransportError::Revoked.into()));
    drop(one);
    assert_eq!(third.name(), Ok(7), "the end of an old capability is not that of a new object");
    children(&object, 1);
    // A capability whose holder has revoked it names nothing.
    let parent = session(&endpoint, 1);
    let derived = parent.duplicate(Rights::CALL | Rights::DUPLICATE | Rights::TRANSFER).unwrap();
    let derived = Cap::<dyn Shapes>::remote(derived);
    assert_eq!(derived.nothing(), Ok(()));
    parent.revoke().unwrap();
    assert_eq!(derived.nothing(), Err(TransportError::Revoked.into()));
}

fn deadline(context: &mut Context) {
    let endpoint = endpoint();
    let _child = start(context, &endpoint, 1);
    let object = object(&endpoint);
    assert_eq!(object.nothing(), Ok(()));
    let hasty = object.with_timeout(10 * MILLISECOND).unwrap();
    let mut bytes = [0; 64];
    for _ in 0..3 {
        assert_eq!(hasty.slow(50 * MILLISECOND), Err(TransportError::Deadline.into()));
        // Both threads may be busy with what nobody waits for any more.
        assert_eq!(object.count(&mut bytes, 1), Ok(()));
    }
    assert_eq!(hasty.sum(&[1; 64]), Ok(64));
    assert_eq!(hasty.large(LARGE, LARGE), Ok((LARGE, LARGE)));
}

fn routes(context: &mut Context) {
    let endpoint = endpoint();
    let _child = start(context, &endpoint, 1);
    for route in [0, 1, u64::from(u32::MAX)] {
        let object = Cap::<dyn Shapes>::remote(session(&endpoint, route));
        assert_eq!(object.route(), Ok(route + 1));
        let child = object.child(1).unwrap();
        assert_eq!(child.route(), Ok(route + 1));
        assert_eq!(child.child(2).unwrap().route(), Ok(route + 1));
    }
    assert_eq!(Cap::<dyn Shapes>::local(Shaper::new(1)).route(), Ok(0));
}

/// Makes objects and calls them, a number of times.
fn work(context: &mut Context) -> i32 {
    let object = Cap::<dyn Shapes>::remote(context.start.take("session").unwrap());
    let mut memory = [0; 3000];
    for round in 0..12_u64 {
        let child = object.child(round).unwrap();
        assert_eq!(child.name(), Ok(round));
        assert_eq!(child.add(round, 1), Ok(round + 1));
        let filled = child.some(&mut memory, round).unwrap();
        assert_eq!(child.sum(&memory[..filled as usize]), Ok(round));
        assert_eq!(object.name_of(child), Ok((round, true)));
    }
    0
}

fn many_clients(context: &mut Context) {
    let endpoint = endpoint();
    let _child = start(context, &endpoint, 1);
    let clients: alloc::vec::Vec<Child> = (0..4)
        .map(|route| {
            let theirs = session(&endpoint, route);
            context.role("shapes-client", |program| program.handle("session", theirs))
        })
        .collect();
    for client in clients {
        assert_eq!(client.wait(within(100_000)), Ok(Progress::Ended(0)));
    }
    children(&object(&endpoint), 0);
}

fn hostile_client(context: &mut Context) {
    let endpoint = endpoint();
    let child = start(context, &endpoint, 1);
    server_of_my_own();
    let (victim, mut random) = (session(&endpoint, 1), Random(0x7e55));
    for _ in 0..1000 {
        attack(&victim, &mut random);
    }
    check(&object(&endpoint), true);
    assert_eq!(child.process.progress(), Ok(Progress::Running));
}

fn tell_lies(context: &mut Context) -> i32 {
    lie(&context.start.take("endpoint").unwrap(), context.number("calls"), &mut Random(0x11a5));
    0
}

fn hostile_server(context: &mut Context) {
    const ROUNDS: u64 = 100;
    let endpoint = endpoint();
    let theirs = endpoint.try_clone().unwrap();
    let calls = alloc::format!("calls={}", ROUNDS * 21);
    let liar = context.role("shapes-liar", |program| program.handle("endpoint", theirs).argument(&calls));
    let object = Cap::<dyn Shapes>::remote(Session::create(&endpoint, &own::pool(), 0).unwrap());
    for _ in 0..ROUNDS {
        provoke(&object);
    }
    // The end of the last session is the last that it receives.
    drop(object);
    assert_eq!(liar.wait(within(60_000)), Ok(Progress::Ended(0)));
}
