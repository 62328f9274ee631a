//! Measures the network stack as a client in another domain sees it.
//!
//! Over the loopback it has both ends of a connection and prints figures itself. On the wire it serves whoever measures outside, on port 7: the
//! first connection is echoed until it ends, the second is sent `BULK` bytes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec;

use tessera_interfaces::{
    Address, Cap, Family, Network, NetworkError, Readiness, Socket, SocketOption, Streams, ready,
};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::ticks;
use tessera_runtime::{exit, log, thread};

/// What the component uses, by the names in its component.toml.
pub struct Uses {
    /// What is measured.
    pub network: Route<dyn Network>,
}

/// The component.
#[derive(Debug)]
pub struct Bench;

/// Bytes that are sent to the second client on the wire.
const BULK: usize = 16 << 20;
/// Rounds whose mean is a figure.
const ROUNDS: u64 = 500;
/// Mebibytes that cross the loopback.
const MEBIBYTES: u64 = 4;

impl Bench {
    /// Constructs it; it measures in a thread.
    pub fn new(context: Context, uses: Uses) -> Result<Arc<Bench>, StartError> {
        let wire = context.argument("wire").is_some();
        thread::spawn(move || {
            let network = &uses.network.cap;
            match if wire { serve(network) } else { loopback(network) } {
                Ok(()) => exit(0),
                Err(error) => log!("net-bench: {error:?}"),
            }
            exit(1)
        })?;
        Ok(Arc::new(Bench))
    }
}

/// Makes a call until it need not wait.
fn wait<T>(table: &Readiness, mut call: impl FnMut() -> Result<T, NetworkError>) -> Result<T, NetworkError> {
    loop {
        if let Some(answer) = ready(call())? {
            return Ok(answer);
        }
        table.wait(None);
    }
}

fn listen(network: &dyn Network, port: u16) -> Result<Cap<dyn Socket>, NetworkError> {
    let listener = network.tcp(Family::V4)?;
    listener.bind(Address { ip: [0; 16], port, family: Family::V4 })?;
    listener.listen(8)?;
    Ok(listener)
}

fn loopback(network: &Cap<dyn Network>) -> Result<(), NetworkError> {
    let (table, streams) = (Readiness::of(&**network)?, Streams::of(network));
    let listener = listen(&**network, 7)?;
    let client = network.tcp(Family::V4)?;
    match client.connect(Address { ip: [0; 16], port: 7, family: Family::V4 }) {
        Ok(()) | Err(NetworkError::InProgress) => {}
        Err(error) => return Err(error),
    }
    let server = wait(&table, || listener.accept())?;
    client.set_option(SocketOption::NoDelay, 1)?;
    server.set_option(SocketOption::NoDelay, 1)?;
    let (client, server) = (streams.stream(client)?, streams.stream(server)?);

    let mut bytes = [0; 64];
    let begun = ticks();
    for _ in 0..ROUNDS {
        client.send(&bytes)?;
        wait(&table, || server.receive(&mut bytes))?;
        server.send(&bytes)?;
        wait(&table, || client.receive(&mut bytes))?;
    }
    log!("bench loopback-round-trip-64-bytes {} ticks", (ticks() - begun) / ROUNDS);

    let all = (MEBIBYTES << 20) as usize;
    let (from, mut into) = (vec![7; 32 << 10], vec![0; 32 << 10]);
    let (mut sent, mut got) = (0, 0);
    let begun = ticks();
    while got < all {
        let rest = from.get(..from.len().min(all - sent)).unwrap_or(&[]);
        let out = if rest.is_empty() { None } else { ready(client.send(rest))? };
        let come = ready(server.receive(&mut into))?;
        sent += out.unwrap_or(0) as usize;
        got += come.unwrap_or(0) as usize;
        if out.is_none() && come.is_none() {
            table.wait(None);
        }
    }
    log!("bench loopback-mebibyte {} ticks", (ticks() - begun) / MEBIBYTES);
    Ok(())
}

fn serve(network: &Cap<dyn Network>) -> Result<(), NetworkError> {
    let (table, streams) = (Readiness::of(&**network)?, Streams::of(network));
    let listener = listen(&**network, 7)?;
    log!("net-bench: serving");
    let mut bytes = vec![0; 32 << 10];
    let echo = wait(&table, || listener.accept())?;
    echo.set_option(SocketOption::NoDelay, 1)?;
    let echo = streams.stream(echo)?;
    loop {
        let length = wait(&table, || echo.receive(&mut bytes))? as usize;
        let Some(mut back) = bytes.get(..length).filter(|back| !back.is_empty()) else { break };
        // A client that does not read yet makes what is sent at once less.
        while !back.is_empty() {
            back = back.get(wait(&table, || echo.send(back))? as usize..).unwrap_or_default();
        }
    }
    drop(echo);
    let bulk = streams.stream(wait(&table, || listener.accept())?)?;
    let mut rest = BULK;
    while rest > 0 {
        let piece = bytes.get(..bytes.len().min(rest)).unwrap_or(&[]);
        rest -= wait(&table, || bulk.send(piece))? as usize;
    }
    bulk.socket().shutdown(tessera_interfaces::Shutdown::Send)?;
    // Until the client has it all, and ends too.
    while wait(&table, || bulk.receive(&mut bytes))? > 0 {}
    Ok(())
}
