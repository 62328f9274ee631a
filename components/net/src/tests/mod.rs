//! Two components on one cable, each behind a driver that speaks the real rings and can be killed.

mod driver;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tessera_interfaces::{
    Address, Cap, Family, Network, NetworkError, NetworkListener, Shutdown, Socket, SocketOption, Streams, readiness,
};
use tessera_runtime::component::{Context, Notice, Route};
use tessera_runtime::object::{Access, Event};
use tessera_runtime::{Mapping, own};

use crate::{Net, Uses};
use driver::{Cable, Driver};

fn address(last: u8, port: u16) -> Address {
    let mut ip = [0; 16];
    ip[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, last]);
    Address { ip, port, family: Family::V4 }
}

struct End {
    network: Arc<crate::Client>,
    driver: Arc<Driver>,
    restarted: Arc<Event>,
    _net: Arc<Net>,
}

fn end(cable: &Arc<Cable>, number: usize) -> End {
    let driver = Arc::new(Driver::new(cable.clone(), number));
    let restarted = Arc::new(Event::create(&own::pool()).unwrap());
    let mut device = Route::local(driver.clone() as Arc<dyn tessera_interfaces::NetDevice>);
    device.restarted = Notice::new(restarted.clone(), 1);
    let argument = alloc::format!("address=10.0.0.{}/24", number + 1);
    let context = Context::fake("net", &[&argument, "only.held=tcp:10.0.0.2:80", "never.mute=rubbish"]);
    let net = Net::new(context, Uses { device, entropy: None }).unwrap();
    End { network: net.client("test"), driver, restarted, _net: net }
}

/// Tries until it is not to be tried again, for at most 20 s.
fn patiently<T>(mut act: impl FnMut() -> Result<T, NetworkError>) -> Result<T, NetworkError> {
    let begun = Instant::now();
    loop {
        match act() {
            Err(NetworkError::WouldBlock | NetworkError::NetworkUnreachable) if begun.elapsed().as_secs() < 20 => {
                std::thread::sleep(Duration::from_micros(200));
            }
            other => return other,
        }
    }
}

fn connect(ends: &[End; 2], port: u16) -> (Cap<dyn Socket>, Cap<dyn Socket>) {
    let listener = ends[1].network.tcp(Family::V4).unwrap();
    listener.bind(address(0, port)).unwrap_err();
    let everywhere = Address { ip: [0; 16], port, family: Family::V4 };
    listener.bind(everywhere).unwrap();
    listener.listen(8).unwrap();
    let client = ends[0].network.tcp(Family::V4).unwrap();
    assert_eq!(patiently(|| client.connect(address(2, port))), Err(NetworkError::InProgress));
    let server = patiently(|| listener.accept()).unwrap();
    (client, server)
}

/// Sends `data` from one to the other, and reads it there.
fn carry(from: &Cap<dyn Socket>, to: &Cap<dyn Socket>, data: &[u8], mut meanwhile: impl FnMut(usize)) {
    let (sender, bytes) = (from.clone(), data.to_vec());
    let sending = std::thread::spawn(move || {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let sent = patiently(|| sender.send(rest)).unwrap();
            rest = &rest[sent as usize..];
        }
    });
    let mut got: Vec<u8> = Vec::new();
    let mut into = vec![0; 8192];
    while got.len() < data.len() {
        let count = patiently(|| to.receive(&mut into)).unwrap();
        assert!(count > 0);
        got.extend(&into[..count as usize]);
        meanwhile(got.len());
    }
    sending.join().unwrap();
    assert!(got == data);
}

fn numbers(count: usize) -> Vec<u8> {
    (0..count).map(|number| (number * 7 + number / 251) as u8).collect()
}

fn ends() -> [End; 2] {
    let cable = Arc::new(Cable::default());
    [end(&cable, 0), end(&cable, 1)]
}

#[test]
fn bytes_go_through_rings_and_drivers() {
    let ends = ends();
    let (client, server) = connect(&ends, 80);
    carry(&client, &server, &numbers(300_000), |_| {});
    carry(&server, &client, &numbers(300_000), |_| {});
    assert_eq!(server.peer().unwrap().ip, address(1, 0).ip);
    let configuration = ends[0].network.configuration().unwrap();
    assert_eq!((configuration.v4, configuration.v4_prefix), ([10, 0, 0, 1], 24));
    assert_eq!(configuration.mac, [2, 0, 0, 0, 0, 1]);
}

#[test]
fn bytes_go_through_shared_memory_and_the_bell_wakes_the_stack() {
    let ends = ends();
    let streams = [0, 1].map(|end: usize| Streams::shared(&*ends[end].network).unwrap());
    let (client, server) = connect(&ends, 80);
    let (client, server) = (streams[0].stream(client).unwrap(), streams[1].stream(server).unwrap());
    let data = numbers(200_000);
    let bytes = data.clone();
    let sending = std::thread::spawn(move || {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            // Small pieces go through the ring, large ones by calls.
            let piece = 1 + rest.len() * 7 % if rest.len().is_multiple_of(3) { 9000 } else { 900 };
            let sent = patiently(|| client.send(&rest[..piece.min(rest.len())])).unwrap();
            rest = &rest[sent as usize..];
        }
        client.socket().shutdown(Shutdown::Send).unwrap();
        client
    });
    let (mut got, mut into, mut looked) = (Vec::<u8>::new(), vec![0; 3000], vec![0; 100]);
    loop {
        let seen = patiently(|| server.peek(&mut looked)).unwrap() as usize;
        let count = patiently(|| server.receive(&mut into)).unwrap() as usize;
        assert!(seen <= count && looked[..seen] == into[..seen]);
        if count == 0 {
            break;
        }
        got.extend(&into[..count]);
    }
    assert!(got == data);
    let client = sending.join().unwrap();
    assert_eq!(client.ready(readiness::READABLE), 0, "nothing is left in its ring");
    drop(server);
    assert_eq!(patiently(|| client.receive(&mut into)), Ok(0));
    assert_eq!(client.ready(readiness::READABLE), readiness::READABLE);
}

#[test]
fn connections_outlive_their_drivers() {
    let ends = ends();
    let (client, server) = connect(&ends, 80);
    let mut killed = 0;
    carry(&client, &server, &numbers(400_000), |got| {
        if got / 40_000 > killed {
            let end = &ends[killed % 2];
            killed += 1;
            end.driver.kill();
            std::thread::sleep(Duration::from_millis(5));
            end.driver.revive();
            end.restarted.raise(1).unwrap();
        }
    });
    assert!(killed >= 9);
}

#[test]
fn a_device_that_writes_nonsense_into_the_rings_is_begun_anew_with() {
    let ends = ends();
    let (client, server) = connect(&ends, 80);
    let mut attacks = 0;
    carry(&client, &server, &numbers(200_000), |got| {
        if got / 50_000 > attacks {
            attacks += 1;
            ends[1].driver.attack();
        }
    });
    assert!(attacks >= 3);
    assert!(ends[1].driver.attached() > 1, "it was attached again");
}

#[test]
fn a_client_sees_what_is_ready_in_its_table() {
    let ends = ends();
    let notify = Event::create(&own::pool()).unwrap();
    let table = ends[1].network.readiness(notify.try_clone().unwrap(), 4).unwrap();
    let table = Mapping::new(&table, 0, readiness::BYTES, Access::Write).unwrap();
    let (client, server) = connect(&ends, 80);
    let number = server.number().unwrap() as usize;
    let word = || table.words()[number].load(Ordering::Acquire);
    assert_eq!(word() & readiness::READABLE, 0);
    let _ = notify.clear(4);
    table.words()[readiness::CAPACITY].fetch_and(0, Ordering::AcqRel);
    client.send(b"hello").unwrap();
    let begun = Instant::now();
    while word() & readiness::READABLE == 0 {
        assert!(begun.elapsed().as_secs() < 20);
        let _ = notify.wait_until(4, 4, Some(own::clock().now().unwrap() + 1_000_000_000));
    }
    assert_ne!(table.words()[readiness::CAPACITY].load(Ordering::Acquire) & 1 << number, 0);
}

use tessera_runtime::Object;

#[test]
fn a_socket_that_is_let_go_is_closed() {
    let ends = ends();
    let (client, server) = connect(&ends, 80);
    drop(client);
    let mut into = [0; 10];
    assert_eq!(patiently(|| server.receive(&mut into)), Ok(0));
}

#[test]
fn a_client_speaks_to_whom_its_rules_allow_and_answers_who_spoke_to_it() {
    let ends = ends();
    let (_client, _server) = connect(&ends, 80);
    let everywhere = Address { ip: [0; 16], port: 53, family: Family::V4 };
    let held = ends[0]._net.client("held");
    let stream = held.tcp(Family::V4).unwrap();
    for (to, outcome) in [
        (address(2, 81), NetworkError::PermissionDenied),
        (address(3, 80), NetworkError::PermissionDenied),
        (address(2, 80), NetworkError::InProgress),
    ] {
        assert_eq!(stream.connect(to), Err(outcome));
    }
    let datagrams = held.udp(Family::V4).unwrap();
    datagrams.bind(everywhere).unwrap();
    let other = ends[1].network.udp(Family::V4).unwrap();
    other.bind(Address { port: 99, ..everywhere }).unwrap();
    assert_eq!(datagrams.send_to(address(2, 99), b"first"), Err(NetworkError::PermissionDenied));
    assert_eq!(datagrams.connect(address(2, 99)), Err(NetworkError::PermissionDenied));
    assert_eq!(patiently(|| other.send_to(address(1, 53), b"asked")), Ok(5));
    let mut into = [0; 16];
    let from = patiently(|| datagrams.receive_from(&mut into)).unwrap().from;
    assert_eq!(datagrams.send_to(from, b"answered"), Ok(8));
    assert_eq!(patiently(|| other.receive_from(&mut into)).unwrap().length, 8);
    // Rules that cannot be read allow nothing.
    let mute = ends[0]._net.client("mute");
    assert_eq!(mute.tcp(Family::V4).unwrap().connect(address(2, 80)), Err(NetworkError::PermissionDenied));
}

#[test]
fn a_socket_that_keeps_errors_learns_what_did_not_arrive() {
    let ends = ends();
    let socket = ends[0].network.udp(Family::V4).unwrap();
    let (nobody, mut quoted) = (address(2, 9), [0; 16]);
    assert_eq!(socket.receive_error(&mut quoted), Err(NetworkError::WouldBlock));
    assert_eq!(socket.option(SocketOption::ReceiveErrors), Ok(0));
    // Over the wire, where the other side's ICMP tells, and within the machine.
    socket.set_option(SocketOption::ReceiveErrors, 1).unwrap();
    let loopback = Address { ip: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1], ..nobody };
    for to in [nobody, loopback] {
        assert_eq!(patiently(|| socket.send_to(to, b"ABCDEF")), Ok(6));
        let failure = patiently(|| socket.receive_error(&mut quoted)).unwrap();
        assert_eq!((failure.to, failure.by, failure.kind, failure.code), (to, to.ip, 3, 3));
        assert_eq!((&quoted[..failure.length as usize], failure.whole), (b"ABCDEF".as_slice(), 6));
        // What was told is no error of the socket any more.
        assert_eq!(socket.receive_from(&mut quoted), Err(NetworkError::WouldBlock));
    }
    // What is not taken is lost in the end, and nothing else is.
    for _ in 0..40 {
        assert_eq!(socket.send_to(loopback, b"x"), Ok(1));
    }
    let kept = core::iter::from_fn(|| socket.receive_error(&mut []).ok()).count();
    assert!((1..40).contains(&kept));
}

#[test]
fn a_small_buffer_holds_one_datagram_and_tells_what_was_lost() {
    let ends = ends();
    let (from, to) = (ends[0].network.udp(Family::V4).unwrap(), ends[0].network.udp(Family::V4).unwrap());
    to.bind(Address { ip: [0; 16], port: 77, family: Family::V4 }).unwrap();
    to.set_option(SocketOption::ReceiveBuffer, 1).unwrap();
    let at = Address { ip: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1], port: 77, family: Family::V4 };
    let mut into = [0; 16];
    for round in 0..3 {
        for _ in 0..3 {
            assert_eq!(from.send_to(at, b"datagram"), Ok(8));
        }
        let message = to.receive_message(&mut into, false).unwrap();
        assert_eq!((message.length, message.lost), (8, round * 2));
        assert_eq!(to.receive_message(&mut into, false), Err(NetworkError::WouldBlock));
    }
}

/// A client that uses the network when it is called.
struct Called {
    network: Arc<crate::Client>,
    times: AtomicUsize,
}

impl NetworkListener for Called {
    fn changed(&self) -> Result<(), NetworkError> {
        self.network.configuration()?;
        self.times.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn who_listens_here_is_called_and_may_use_the_network() {
    let cable = Arc::default();
    let ends = [0, 1].map(|number| end(&cable, number));
    let bell = Event::create(&own::pool()).unwrap();
    let table = ends[1].network.readiness(bell.try_clone().unwrap(), 1).unwrap();
    let table = Mapping::new(&table, 0, readiness::BYTES, Access::Write).unwrap();
    let called = Arc::new(Called { network: ends[1].network.clone(), times: AtomicUsize::new(0) });
    ends[1].network.listen_here(Cap::local(called.clone() as Arc<dyn NetworkListener>)).unwrap();

    let (client, server) = connect(&ends, 80);
    let number = server.number().unwrap();
    // A socket that is new is no news.
    assert_eq!(readiness::changed(table.words()).filter(|changed| *changed == number).count(), 0);
    let before = called.times.load(Ordering::SeqCst);
    patiently(|| client.send(b"hello")).unwrap();
    let begun = Instant::now();
    while called.times.load(Ordering::SeqCst) == before {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody was called");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(readiness::changed(table.words()).filter(|changed| *changed == number).count(), 1);
    assert_ne!(table.words()[number as usize].load(Ordering::SeqCst) & readiness::READABLE, 0);

    // What a call of its own brings is told by the event, before the call returns.
    let _ = bell.wait_until(1, 1, Some(own::clock().now().unwrap()));
    server.shutdown(Shutdown::Send).unwrap();
    bell.wait_until(1, 1, Some(own::clock().now().unwrap())).unwrap();
}
