//! Interfaces on a host: every shape through local and remote capabilities, whatever an honest caller can do wrong, and hostile peers.

extern crate alloc;

#[path = "shapes/plain.rs"]
mod plain;
mod shapes;

use std::sync::OnceLock;

use shapes::hostile::{Random, attack, lie, provoke};
use shapes::{Shaper, Shapes, check};
use tessera_runtime::object::{Endpoint, Session};
use tessera_runtime::{Cap, Server, TransportError, own, thread};

/// A capability to an object that another "domain" serves: threads of this process, but through messages.
fn served() -> Cap<dyn Shapes> {
    let endpoint = Endpoint::create(&own::pool()).unwrap();
    let mut server = Server::new(endpoint, 3);
    server.provide::<dyn Shapes>(2, Shaper::new(12));
    let session = server.session(2, 9).unwrap();
    thread::spawn(move || server.run(2)).unwrap();
    Cap::remote(session)
}

/// The server of the tests' own domain.
fn with_server_of_my_own() {
    static OWN: OnceLock<()> = OnceLock::new();
    OWN.get_or_init(|| {
        let server = Server::new(Endpoint::create(&own::pool()).unwrap(), 1);
        thread::spawn(move || server.run(2)).unwrap();
    });
}

#[test]
fn every_shape_travels_within_a_domain() {
    check(&Cap::local(Shaper::new(12)), false);
}

#[test]
fn every_shape_travels_between_domains() {
    with_server_of_my_own();
    let object = served();
    check(&object, true);
    assert_eq!(object.route(), Ok(10));
    assert_eq!(
        object.child(1).unwrap().route(),
        Ok(10),
        "what was handed out has the route over which it was asked for"
    );
}

#[test]
fn a_deadline_ends_the_wait_and_the_next_call_is_answered() {
    let object = served();
    // Long enough for a short call on a busy machine.
    let hasty = object.with_timeout(500_000_000).unwrap();
    assert_eq!(hasty.slow(60_000_000_000), Err(TransportError::Deadline.into()));
    assert_eq!(hasty.large(shapes::LARGE, shapes::LARGE), Ok((shapes::LARGE, shapes::LARGE)));
    let late = object.with_deadline(own::clock().now().unwrap().saturating_sub(1)).unwrap();
    assert_eq!(late.nothing(), Err(TransportError::Deadline.into()));
    assert_eq!(object.add(1, 1), Ok(2));
}

#[test]
fn a_server_that_is_gone_is_told() {
    let endpoint = Endpoint::create(&own::pool()).unwrap();
    let object = Cap::<dyn Shapes>::remote(Session::create(&endpoint, &own::pool(), 0).unwrap());
    let receiver = thread::spawn(move || drop(endpoint.receive())).unwrap();
    assert_eq!(object.nothing(), Err(TransportError::PeerDied.into()));
    receiver.join();
    assert_eq!(object.add(1, 2), Err(TransportError::PeerDied.into()));
}

#[test]
fn badges_of_nothing_and_of_earlier_instances_are_revoked() {
    let endpoint = Endpoint::create(&own::pool()).unwrap();
    let badges = [5 << 32, 2 << 32 | 1 << 50, 1 << 63 | 2 << 32, 1 << 63 | 3 << 32, 1 << 63 | 3 << 32 | 77, u64::MAX];
    let sessions = badges.map(|badge| Session::create(&endpoint, &own::pool(), badge).unwrap());
    let mut server = Server::new(endpoint, 3);
    server.provide::<dyn Shapes>(2, Shaper::new(12));
    thread::spawn(move || server.run(1)).unwrap();
    for session in sessions {
        assert_eq!(Cap::<dyn Shapes>::remote(session).nothing(), Err(TransportError::Revoked.into()));
    }
}

#[test]
fn whatever_a_client_sends_the_server_goes_on_as_before() {
    with_server_of_my_own();
    let endpoint = Endpoint::create(&own::pool()).unwrap();
    let mut server = Server::new(endpoint, 3);
    server.provide::<dyn Shapes>(0, Shaper::new(12));
    let session = server.session(0, 0).unwrap();
    let object = Cap::<dyn Shapes>::remote(server.session(0, 1).unwrap());
    thread::spawn(move || server.run(2)).unwrap();
    let mut random = Random(0x5eed);
    for _ in 0..4000 {
        attack(&session, &mut random);
    }
    drop(session);
    check(&object, true);
}

#[test]
fn whatever_a_server_answers_the_client_gets_a_value_or_an_error() {
    let endpoint = Endpoint::create(&own::pool()).unwrap();
    let object = Cap::<dyn Shapes>::remote(Session::create(&endpoint, &own::pool(), 0).unwrap());
    const ROUNDS: u64 = 200;
    let liar = thread::spawn(move || lie(&endpoint, ROUNDS * 21, &mut Random(0x11a6))).unwrap();
    for _ in 0..ROUNDS {
        assert_eq!(provoke(&object), 21);
    }
    // The end of the last session is the last that it receives.
    drop(object);
    liar.join();
}

#[test]
fn a_server_takes_no_longer_slices_than_it_says() {
    let mut server = Server::new(Endpoint::create(&own::pool()).unwrap(), 3);
    server.provide::<dyn Shapes>(0, Shaper::new(12));
    server.limit_slices(1000);
    let object = Cap::<dyn Shapes>::remote(server.session(0, 1).unwrap());
    thread::spawn(move || server.run(1)).unwrap();
    assert_eq!(object.sum(&[1; 1000]), Ok(1000));
    assert_eq!(object.sum(&[1; 1001]), Err(TransportError::LimitReached.into()));
    assert_eq!(object.count(&mut [0; 1001], 1), Err(TransportError::LimitReached.into()));
    assert_eq!(object.sum(&[1; 10]), Ok(10));
}
