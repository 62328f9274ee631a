//! Deaths: either side's end is an error to the other, never a hang; and who waits for a session's end is told.

use tessera_runtime::abi::Delivery;
use tessera_runtime::object::{Endpoint, Progress, Session, reply};
use tessera_runtime::{Error, Message, Object, own, thread};

use crate::calls::{ADD_ONE, EXIT, pair, serve};
use crate::context::{Context, event, sleep, within};
use crate::{Role, Test};

pub const TESTS: &[Test] = &[
    ("a server that ends in a call tells its caller", server_exits),
    ("a server that is killed in a call tells its caller", server_killed),
    ("a server that ends tells those who queue", queue),
    ("a call to an endpoint that is gone is refused", endpoint_gone),
    ("a receiver is told when its endpoint is revoked", receiver_told),
    ("a client that is killed in a call leaves its server working", client_killed),
    ("the last handle of a session closes it, and the server is told", closed),
    ("a client's end closes its sessions", closed_by_death),
    ("bits of a bound event arrive between calls", bound),
];

pub const ROLES: &[Role] = &[("caller", caller)];

/// Calls once. Exit code: the error, or 0.
fn caller(context: &mut Context) -> i32 {
    let session: Session = context.start.take("session").unwrap();
    match session.call_words(ADD_ONE, [1]) {
        Ok(_) => 0,
        Err(error) => error as i32,
    }
}

fn server_exits(context: &mut Context) {
    let (endpoint, session) = pair(1);
    let child = context.role("server", |program| program.handle("endpoint", endpoint));
    assert_eq!(session.call_words(EXIT, [33]), Err(Error::PeerGone));
    assert_eq!(child.wait(within(5000)), Ok(Progress::Ended(33)));
    assert_eq!(session.call_words(ADD_ONE, [1]), Err(Error::PeerGone));
}

fn server_killed(context: &mut Context) {
    let (endpoint, session) = pair(1);
    let child = context.role("server", |program| program.handle("endpoint", endpoint));
    let client = thread::spawn(move || session.call_words(7, [60_000])).unwrap();
    sleep(50);
    child.kill(5).unwrap();
    assert_eq!(client.join(), Err(Error::PeerGone));
}

fn queue(_: &mut Context) {
    let (endpoint, session) = pair(1);
    let second = session.try_clone().unwrap();
    let clients = [
        thread::spawn(move || session.call_words(1, [0])).unwrap(),
        thread::spawn(move || second.call_words(1, [0])).unwrap(),
    ];
    sleep(20);
    drop(endpoint);
    for client in clients {
        assert_eq!(client.join(), Err(Error::PeerGone));
    }
}

fn endpoint_gone(_: &mut Context) {
    let (endpoint, session) = pair(1);
    drop(endpoint);
    assert_eq!(session.call_words(1, [0]), Err(Error::PeerGone));
    assert_eq!(session.call(Message::new(1)).map(|_| ()), Err(Error::PeerGone));
}

fn receiver_told(_: &mut Context) {
    let pool = own::pool().create(64).unwrap();
    let endpoint = Endpoint::create(&pool).unwrap();
    let waiting = thread::spawn(move || endpoint.receive().map(|_| ())).unwrap();
    sleep(20);
    pool.revoke().unwrap();
    assert_eq!(waiting.join(), Err(Error::Gone));
}

fn client_killed(context: &mut Context) {
    let (endpoint, session) = pair(1);
    let theirs = session.try_clone().unwrap();
    let child = context.role("caller", |program| program.handle("session", theirs));
    let received = endpoint.receive().unwrap();
    assert_eq!(received.label(), ADD_ONE);
    child.kill(3).unwrap();
    assert_eq!(child.wait(within(5000)), Ok(Progress::Ended(3)));
    let late = reply(Message::new(0));
    assert!(matches!(late, Err(Error::BadState | Error::PeerGone)), "{late:?}");
    let server = thread::spawn(move || serve(&endpoint)).unwrap();
    assert_eq!(session.call_words(ADD_ONE, [1]), Ok((ADD_ONE, [2])));
    crate::calls::stop(&session, server);
}

fn closed(_: &mut Context) {
    let (endpoint, session) = pair(77);
    let copy = session.try_clone().unwrap();
    let other = Session::create(&endpoint, &own::pool(), 78).unwrap();
    drop(session);
    drop(copy);
    let received = endpoint.receive().unwrap();
    assert_eq!((received.delivery, received.badge), (Delivery::Closed, 77));
    let waiting =
        thread::spawn(move || endpoint.receive().map(|received| (received.delivery, received.badge))).unwrap();
    sleep(20);
    drop(other);
    assert_eq!(waiting.join(), Ok((Delivery::Closed, 78)));
}

fn closed_by_death(context: &mut Context) {
    let (endpoint, session) = pair(55);
    let child = context.role("caller", |program| program.handle("session", session));
    drop(endpoint.receive().unwrap());
    child.kill(1).unwrap();
    let received = endpoint.receive().unwrap();
    assert_eq!((received.delivery, received.badge), (Delivery::Closed, 55));
}

fn bound(_: &mut Context) {
    let (endpoint, session) = pair(1);
    let event = event();
    endpoint.bind(&event, 6).unwrap();
    event.raise(3).unwrap();
    let received = endpoint.receive().unwrap();
    assert_eq!((received.delivery, received.badge), (Delivery::Event, 2));
    assert_eq!(event.clear(0), Ok(1), "the other bit stays, this one is cleared");
    let client = thread::spawn(move || session.call_words(4, [0])).unwrap();
    let received = endpoint.receive().unwrap();
    assert_eq!((received.delivery, received.label()), (Delivery::Call, 4));
    event.raise(4).unwrap();
    let received = endpoint.reply_and_receive_words(0, [0]).unwrap();
    assert_eq!((received.delivery, received.badge), (Delivery::Event, 4));
    assert!(client.join().is_ok());
}
