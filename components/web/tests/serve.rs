//! The server on the machine's own loopback: a network stack without a device, in the same process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tessera_interfaces::{
    Address, Cap, Family, NetDevice, NetDeviceError, NetInformation, NetPump, Network, NetworkError, Node, NodeKind,
    Owner, Socket, Time,
};
use tessera_net::Net;
use tessera_runtime::component::{Context, Route};
use tessera_runtime::object::{Event, Vmo};
use tessera_runtime::{Object, own};
use tessera_web::{Uses, Web};

/// A device that is not there.
struct Absent;

impl NetDevice for Absent {
    fn information(&self) -> Result<NetInformation, NetDeviceError> {
        Err(NetDeviceError::Device)
    }

    fn attach(&self, _: Vmo, _: Vmo, _: Event, _: Event) -> Result<(), NetDeviceError> {
        Err(NetDeviceError::Device)
    }

    fn attach_here(&self, _: Vmo, _: Vmo, _: Event) -> Result<Cap<dyn NetPump>, NetDeviceError> {
        Err(NetDeviceError::Device)
    }
}

fn patiently<T>(mut act: impl FnMut() -> Result<T, NetworkError>) -> Result<T, NetworkError> {
    let begun = Instant::now();
    loop {
        match act() {
            Err(NetworkError::WouldBlock) if begun.elapsed().as_secs() < 20 => {
                std::thread::sleep(Duration::from_micros(100));
            }
            other => return other,
        }
    }
}

const PAGE: &[u8] = b"<title>Tessera</title><p>It works</p>\n";
const OWNER: Owner = Owner { user: 0, group: 0 };

fn site() -> Arc<dyn Node> {
    let clock = Box::new(|| Time { seconds: 0, nanoseconds: 0 });
    let root = tessera_files::root(own::pool().try_clone().unwrap(), 1 << 20, None, clock).unwrap();
    root.create(b"index.html", NodeKind::File, 0o644, OWNER, 0).unwrap().write(0, PAGE).unwrap();
    root.create(b"about", NodeKind::Directory, 0o755, OWNER, 0).unwrap();
    let large = root.create(b"large", NodeKind::File, 0o644, OWNER, 0).unwrap();
    large.write(0, &[b'x'; 40 << 10]).unwrap();
    root.local_as::<tessera_files::Handle>().unwrap()
}

fn started() -> Arc<Net> {
    let uses = tessera_net::Uses { device: Route::local(Arc::new(Absent) as Arc<dyn NetDevice>), entropy: None };
    let net = Net::new(Context::fake("net", &[]), uses).unwrap();
    let network = Route::local(net.client("web") as Arc<dyn Network>);
    Web::new(Context::fake("web", &["port=8080"]), Uses { network, site: Route::local(site()) }).unwrap();
    net
}

fn connect(network: &dyn Network) -> Cap<dyn Socket> {
    let begun = Instant::now();
    let to = Address { ip: [0; 16], port: 8080, family: Family::V4 };
    loop {
        let socket = network.tcp(Family::V4).unwrap();
        assert_eq!(socket.connect(to), Err(NetworkError::InProgress));
        match patiently(|| socket.send(b"GET / HTTP/1.1\r\n")) {
            Ok(_) => return socket,
            // The server has not begun to listen.
            Err(error) => assert!(begun.elapsed().as_secs() < 20, "{error:?}"),
        }
    }
}

/// Reads until `end` has come.
fn until(socket: &dyn Socket, end: &str) -> String {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.ends_with(end) {
        let length = patiently(|| socket.receive(&mut bytes)).unwrap();
        assert!(length > 0, "{text}");
        text += core::str::from_utf8(&bytes[..length as usize]).unwrap();
    }
    text
}

/// Reads until `count` pages have come.
fn pages(socket: &dyn Socket, count: usize) -> String {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while text.matches("It works").count() < count || !text.ends_with("</p>\n") {
        let length = patiently(|| socket.receive(&mut bytes)).unwrap();
        assert!(length > 0, "{text}");
        text += core::str::from_utf8(&bytes[..length as usize]).unwrap();
    }
    text
}

#[test]
fn requests_are_answered_whole_in_pieces_and_several_at_once() {
    let net = started();
    let network = net.client("browser");
    let socket = connect(&*network);
    socket.send(b"Host: x\r\n\r\n").unwrap();
    let answer = pages(&*socket, 1);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
    socket.send(b"GET / HTTP/1.1\r\n\r\nGET /index.html HTTP/1.1\r\n\r\nGET").unwrap();
    assert_eq!(pages(&*socket, 2).matches("200 OK").count(), 2);
    for path in [" /other", " /about", " /large", " /index.html/x", " /about/../index.html", ""] {
        socket.send(format!("{path} HTTP/1.1\r\n\r\nGET").as_bytes()).unwrap();
        let answer = until(&*socket, "no such page.</p>\n");
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{path}: {answer}");
    }
}

#[test]
fn a_request_without_an_end_is_not_kept_for_ever() {
    let net = started();
    let network = net.client("browser");
    let socket = connect(&*network);
    let mut outcome = Ok(0);
    let begun = Instant::now();
    while begun.elapsed().as_secs() < 20 {
        outcome = patiently(|| socket.send(&[b'x'; 1000]));
        if outcome.is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(matches!(outcome, Err(NetworkError::ConnectionReset | NetworkError::BrokenPipe)), "{outcome:?}");
}

#[test]
fn two_hundred_visitors_are_served_at_once() {
    let net = started();
    let network = net.client("browser");
    let sockets: Vec<_> = (0..200).map(|_| connect(&*network)).collect();
    for socket in &sockets {
        socket.send(b"\r\n").unwrap();
    }
    for socket in &sockets {
        pages(&**socket, 1);
    }
}
