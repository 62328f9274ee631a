//! The tests. Each gets the network, and leaves nothing open.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use tessera_interfaces::{
    Address, Cap, Family, Network, NetworkError, NetworkListener, Readiness, Shutdown, Socket, SocketOption, Stream,
    Streams, readiness, ready,
};
use tessera_runtime::{log, own};

/// How much the tests do.
pub struct Sizes {
    pub connections: usize,
    pub megabytes: usize,
    /// Whether the network is in another domain.
    pub is_remote: bool,
}

type Outcome = Result<(), String>;
type Case = fn(&dyn Network, &Streams, &Sizes) -> Outcome;

/// All tests, by name. They are run with streams that go by calls, then with such that go through shared memory.
pub const CASES: &[(&str, Case)] = &[
    ("a-connection-carries-both-ways", carries),
    ("what-is-ready-is-in-the-table", tells),
    ("a-socket-whose-capability-is-gone-is-closed", closes),
    ("nobody-listens-nobody-connects", refuses),
    ("datagrams-say-who-sent-them", datagrams),
    ("many-connections-at-once", many),
    ("a-stream-arrives-whole", stream),
    ("a-stream-of-small-pieces-arrives-whole", small_pieces),
    ("what-was-sent-before-the-end-arrives", sends_and_goes),
    ("round-trips", round_trips),
    ("only-who-is-in-its-domain-is-called", listens_here),
];

const LOCALHOST: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];

fn local(port: u16) -> Address {
    Address { ip: LOCALHOST, port, family: Family::V4 }
}

fn words(error: NetworkError) -> String {
    format!("{error:?}")
}

fn check(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// Waits until a call does not answer `WouldBlock`, for at most 10 s.
fn patiently<T>(table: &Readiness, mut call: impl FnMut() -> Result<T, NetworkError>) -> Result<T, String> {
    let end = own::clock().now().unwrap_or(0) + 10_000_000_000;
    loop {
        if let Some(answer) = ready(call()).map_err(words)? {
            return Ok(answer);
        }
        if own::clock().now().unwrap_or(u64::MAX) > end {
            return Err("nothing happened for 10 s".into());
        }
        table.wait(Some(end));
    }
}

fn listener(network: &dyn Network) -> Result<(Cap<dyn Socket>, Address), String> {
    let listener = network.tcp(Family::V4).map_err(words)?;
    listener.bind(local(0)).map_err(words)?;
    listener.listen(64).map_err(words)?;
    let at = listener.local().map_err(words)?;
    Ok((listener, at))
}

fn connect(network: &dyn Network, to: Address) -> Result<Cap<dyn Socket>, String> {
    let socket = network.tcp(Family::V4).map_err(words)?;
    match socket.connect(to) {
        Ok(()) | Err(NetworkError::InProgress) => Ok(socket),
        Err(error) => Err(words(error)),
    }
}

struct Pair {
    table: Readiness,
    client: Stream,
    server: Stream,
}

fn pair(network: &dyn Network, streams: &Streams) -> Result<Pair, String> {
    let table = Readiness::of(network).map_err(words)?;
    let (listener, at) = listener(network)?;
    let client = connect(network, at)?;
    let server = patiently(&table, || listener.accept())?;
    client.error().map_err(words)?;
    let (client, server) = (streams.stream(client).map_err(words)?, streams.stream(server).map_err(words)?);
    Ok(Pair { table, client, server })
}

fn carries(network: &dyn Network, streams: &Streams, _: &Sizes) -> Outcome {
    let Pair { table, client, server } = pair(network, streams)?;
    let mut into = [0; 16];
    for round in 0..10_u8 {
        check(client.send(&[round; 9]).map_err(words)? == 9, "9 bytes fit")?;
        check(patiently(&table, || server.receive(&mut into))? == 9, "9 bytes come")?;
        check(into.iter().take(9).all(|byte| *byte == round), "those that were sent")?;
        check(server.send(&[round; 5]).map_err(words)? == 5, "5 bytes fit")?;
        check(patiently(&table, || client.receive(&mut into))? == 5, "5 bytes come back")?;
    }
    check(client.socket().peer() == server.socket().local(), "both ends name the same")
}

fn tells(network: &dyn Network, streams: &Streams, _: &Sizes) -> Outcome {
    let Pair { table, client, server } = pair(network, streams)?;
    let number = server.number();
    let _ = table.changed().count();
    let before = table.word(number);
    check(before & readiness::READABLE == 0, "nothing to read yet")?;
    client.send(b"x").map_err(words)?;
    let end = own::clock().now().unwrap_or(0) + 10_000_000_000;
    while table.word(number) & readiness::READABLE == 0 {
        check(own::clock().now().unwrap_or(u64::MAX) < end, "it becomes readable")?;
        table.wait(Some(end));
    }
    check(table.changed().any(|changed| changed == number), "the map says which changed")?;
    check(table.word(number) >> readiness::EVENT_SHIFT != before >> readiness::EVENT_SHIFT, "an event was counted")
}

/// A listener that has nothing to do.
struct Deaf;

impl NetworkListener for Deaf {
    fn changed(&self) -> Result<(), NetworkError> {
        Ok(())
    }
}

fn listens_here(network: &dyn Network, _: &Streams, sizes: &Sizes) -> Outcome {
    let _table = Readiness::of(network).map_err(words)?;
    let answer = network.listen_here(Cap::local(Arc::new(Deaf) as Arc<dyn NetworkListener>));
    let expected = if sizes.is_remote { Err(NetworkError::NotSupported) } else { Ok(()) };
    check(answer == expected, &format!("{answer:?}, where {expected:?} was expected"))
}

fn closes(network: &dyn Network, streams: &Streams, _: &Sizes) -> Outcome {
    let Pair { table, client, server } = pair(network, streams)?;
    drop(client);
    let mut into = [0; 16];
    check(patiently(&table, || server.receive(&mut into))? == 0, "the end is seen")
}

fn refuses(network: &dyn Network, _: &Streams, _: &Sizes) -> Outcome {
    let table = Readiness::of(network).map_err(words)?;
    let socket = connect(network, local(1))?;
    let refused = patiently(&table, || match socket.error() {
        Ok(()) => Err(NetworkError::WouldBlock),
        Err(error) => Ok(error),
    })?;
    check(refused == NetworkError::ConnectionRefused, "it is refused")
}

fn datagrams(network: &dyn Network, _: &Streams, _: &Sizes) -> Outcome {
    let table = Readiness::of(network).map_err(words)?;
    let server = network.udp(Family::V4).map_err(words)?;
    server.bind(local(0)).map_err(words)?;
    let client = network.udp(Family::V4).map_err(words)?;
    client.send_to(server.local().map_err(words)?, b"question").map_err(words)?;
    let mut into = [0; 16];
    let got = patiently(&table, || server.receive_from(&mut into))?;
    check(got.length == 8 && into.starts_with(b"question"), "it comes whole")?;
    server.send_to(got.from, b"answer").map_err(words)?;
    check(patiently(&table, || client.receive(&mut into))? == 6, "the answer finds its way")
}

fn many(network: &dyn Network, streams: &Streams, sizes: &Sizes) -> Outcome {
    let table = Readiness::of(network).map_err(words)?;
    let (listener, at) = listener(network)?;
    let mut pairs = Vec::new();
    for _ in 0..sizes.connections {
        let client = connect(network, at)?;
        let server = patiently(&table, || listener.accept())?;
        pairs.push((streams.stream(client).map_err(words)?, streams.stream(server).map_err(words)?));
    }
    let mut into = [0; 16];
    for (number, (client, server)) in pairs.iter().enumerate() {
        let text = format!("{number}");
        client.send(text.as_bytes()).map_err(words)?;
        let length = patiently(&table, || server.receive(&mut into))? as usize;
        check(into.get(..length) == Some(text.as_bytes()), "each gets its own")?;
    }
    Ok(())
}

fn stream(network: &dyn Network, streams: &Streams, sizes: &Sizes) -> Outcome {
    let Pair { table, client, server } = pair(network, streams)?;
    let all = sizes.megabytes << 20;
    let from: Vec<u8> = (0..32 << 10).map(|number: u32| (number.wrapping_mul(7) >> 3) as u8).collect();
    let mut into = vec![0; 32 << 10];
    let begun = own::clock().now().unwrap_or(0);
    let (mut sent, mut got) = (0_usize, 0_usize);
    while got < all {
        let mut waits = true;
        let rest = from.get(sent % from.len()..).unwrap_or(&[]);
        let rest = rest.get(..rest.len().min(all - sent)).unwrap_or(&[]);
        if !rest.is_empty()
            && let Some(count) = ready(client.send(rest)).map_err(words)?
        {
            sent += count as usize;
            waits = false;
        }
        if let Some(count) = ready(server.receive(&mut into)).map_err(words)? {
            let count = count as usize;
            let expected = from.iter().cycle().skip(got % from.len()).take(count);
            check(into.iter().take(count).eq(expected), "what came is what was sent")?;
            got += count;
            waits = false;
        }
        if waits {
            table.wait(Some(own::clock().now().unwrap_or(0) + 1_000_000_000));
        }
    }
    let took = own::clock().now().unwrap_or(0) - begun;
    log!("net: {} MiB over the loopback in {} ms", sizes.megabytes, took / 1_000_000);
    client.socket().shutdown(Shutdown::Send).map_err(words)?;
    check(patiently(&table, || server.receive(&mut into))? == 0, "then it ends")
}

/// Pieces of all lengths up to 1500 bytes, read in others.
fn small_pieces(network: &dyn Network, streams: &Streams, _: &Sizes) -> Outcome {
    const ALL: usize = 200_000;
    let Pair { table, client, server } = pair(network, streams)?;
    let bytes: Vec<u8> = (0..ALL as u32).map(|number| (number ^ number >> 8) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    let mut into = [0; 1000];
    while got.len() < ALL {
        let piece = bytes.get(sent..ALL.min(sent + 1 + sent % 1500)).unwrap_or(&[]);
        let out = if piece.is_empty() { None } else { ready(client.send(piece)).map_err(words)? };
        sent += out.unwrap_or(0) as usize;
        // Slower than it comes, so that rings and buffers are full at times.
        let come = if out.is_none() || sent % 7 == 0 { ready(server.receive(&mut into)).map_err(words)? } else { None };
        got.extend_from_slice(into.get(..come.unwrap_or(0) as usize).unwrap_or(&[]));
        if out.is_none() && come.is_none() {
            table.wait(Some(own::clock().now().unwrap_or(0) + 1_000_000_000));
        }
    }
    check(got == bytes, "what came is what was sent")
}

/// The sender is gone before the receiver reads.
fn sends_and_goes(network: &dyn Network, streams: &Streams, _: &Sizes) -> Outcome {
    let Pair { table, client, server } = pair(network, streams)?;
    let mut sent = 0;
    while let Some(count) = ready(client.send(&[7; 1000])).map_err(words)? {
        sent += count as usize;
    }
    drop(client);
    let (mut got, mut into) = (0, [0; 999]);
    loop {
        match patiently(&table, || server.receive(&mut into))? as usize {
            0 => break,
            count => got += count,
        }
    }
    check(got == sent, &format!("{got} bytes came of {sent}"))
}

fn round_trips(network: &dyn Network, streams: &Streams, _: &Sizes) -> Outcome {
    const ROUNDS: u64 = 500;
    let Pair { table, client, server } = pair(network, streams)?;
    client.socket().set_option(SocketOption::NoDelay, 1).map_err(words)?;
    server.socket().set_option(SocketOption::NoDelay, 1).map_err(words)?;
    let mut into = [0; 64];
    let begun = own::clock().now().unwrap_or(0);
    for _ in 0..ROUNDS {
        client.send(&[1; 64]).map_err(words)?;
        patiently(&table, || server.receive(&mut into))?;
        server.send(&into).map_err(words)?;
        patiently(&table, || client.receive(&mut into))?;
    }
    let took = own::clock().now().unwrap_or(0) - begun;
    log!("net: a round trip of 64 bytes over the loopback in {} ns", took / ROUNDS);
    Ok(())
}
