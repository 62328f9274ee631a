//! A web server with one page, in one thread: it sleeps until the network's table says that a socket changed, and looks at that one.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

use alloc::{collections::BTreeMap, format, sync::Arc, vec::Vec};
use tessera_interfaces::{Address, Family, Network, NetworkError, Readiness, Socket, ready};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::{log, own, thread};

const PAGE: &str = "<!doctype html><title>Tessera</title><h1>It works</h1><p>Served by a component of its own.</p>\n";

pub struct Uses {
    pub network: Route<dyn Network>,
}

pub struct Web;

impl Web {
    pub fn new(context: Context, uses: Uses) -> Result<Arc<Web>, StartError> {
        let port = context.parsed("port", 80)?;
        // Serving ends when the network was started again, and all its sockets with it: then all begins anew.
        thread::spawn(move || {
            while let Err(error) = serve(&*uses.network.cap, port) {
                log!("web: {error:?}");
                let _ = uses.network.restarted.wait(own::clock().now().ok().map(|now| now + 100_000_000));
            }
        })?;
        Ok(Arc::new(Web))
    }
}

fn serve(network: &dyn Network, port: u16) -> Result<(), NetworkError> {
    let (table, listener, mut visitors) = (Readiness::of(network)?, network.tcp(Family::V4)?, BTreeMap::new());
    listener.bind(Address { ip: [0; 16], port, family: Family::V4 })?;
    listener.listen(1024)?;
    loop {
        while let Some(socket) = ready(listener.accept())? {
            let (number, mut asked) = (socket.number()?, Vec::new());
            // What came before it was accepted may have been told already, when nobody knew whose it was.
            if matches!(answer(&*socket, &mut asked), Ok(true)) {
                visitors.insert(number, (socket, asked));
            }
        }
        for number in table.changed() {
            if visitors.get_mut(&number).is_some_and(|(socket, asked)| !matches!(answer(&**socket, asked), Ok(true))) {
                visitors.remove(&number);
            }
        }
        table.wait(own::clock().now().ok().map(|now| now + 1_000_000_000));
    }
}

/// Reads what has come and answers each whole request; false when the visitor is to go.
fn answer(socket: &dyn Socket, asked: &mut Vec<u8>) -> Result<bool, NetworkError> {
    let mut bytes = [0; 2048];
    while let Some(count) = ready(socket.receive(&mut bytes))? {
        asked.extend(bytes.iter().take(count as usize));
        while let Some(end) = asked.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length";
            socket.send(format!("{head}: {}\r\n\r\n{PAGE}", PAGE.len()).as_bytes())?;
            asked.drain(..end + 4);
        }
        if count == 0 || asked.len() > 8192 {
            return Ok(false);
        }
    }
    Ok(true)
}
