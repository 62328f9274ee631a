//! A web server for the pages of a file system, in one thread: it sleeps until the network's table says that a socket changed, and looks at that one.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

use alloc::{collections::BTreeMap, format, sync::Arc, vec::Vec};
use tessera_interfaces::{
    Address, Cap, Family, Network, NetworkError, Node, Readiness, Stream, Streams, contents, ready,
};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::{log, own, thread};

pub struct Uses {
    pub network: Route<dyn Network>,
    pub site: Route<dyn Node>,
}

pub struct Web;

impl Web {
    pub fn new(context: Context, uses: Uses) -> Result<Arc<Web>, StartError> {
        let port = context.parsed("port", 80)?;
        // Serving ends when the network was started again, and all its sockets with it: then all begins anew.
        thread::spawn(move || {
            while let Err(error) = serve(&uses.network.cap, &uses.site.cap, port) {
                log!("web: {error:?}");
                let _ = uses.network.restarted.wait(own::clock().now().ok().map(|now| now + 100_000_000));
            }
        })?;
        Ok(Arc::new(Web))
    }
}

fn serve(network: &Cap<dyn Network>, site: &Cap<dyn Node>, port: u16) -> Result<(), NetworkError> {
    let (table, streams) = (Readiness::of(&**network)?, Streams::of(network));
    let (listener, mut visitors) = (network.tcp(Family::V4)?, BTreeMap::new());
    listener.bind(Address { ip: [0; 16], port, family: Family::V4 })?;
    listener.listen(1024)?;
    loop {
        let mut changed: Vec<u32> = table.changed().collect();
        while let Some(socket) = ready(listener.accept())? {
            // What came before it was accepted may have been told already, when nobody knew whose it was.
            let stream = streams.stream(socket)?;
            changed.push(stream.number());
            visitors.insert(stream.number(), (stream, Vec::new()));
        }
        let goes = |(stream, asked): &mut (Stream, Vec<u8>)| answer(stream, asked, site).is_err();
        changed.retain(|number| visitors.get_mut(number).is_some_and(goes));
        changed.iter().for_each(|number| drop(visitors.remove(number)));
        table.wait(own::clock().now().ok().map(|now| now + 1_000_000_000));
    }
}

/// Reads what has come and answers each whole request; an error when the visitor is to go.
fn answer(stream: &Stream, asked: &mut Vec<u8>, site: &Cap<dyn Node>) -> Result<(), NetworkError> {
    let mut bytes = [0; 2048];
    while let Some(count) = ready(stream.receive(&mut bytes))? {
        asked.extend(bytes.iter().take(count as usize));
        while let Some(end) = asked.windows(4).position(|four| four == b"\r\n\r\n") {
            let path = asked.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            let path = [path, if path.ends_with(b"/") { b"index.html" } else { b"" }].concat();
            let found = contents(site, &path, 32 << 10).map(|page| ("200 OK", page));
            let (status, page) = found.unwrap_or(("404 Not Found", b"<p>There is no such page.</p>\n".to_vec()));
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {}", page.len());
            let whole = [head.as_bytes(), b"\r\n\r\n", &page].concat();
            // Who asks on and on and does not read the answers goes.
            (stream.send(&whole)? == whole.len() as u64).then_some(()).ok_or(NetworkError::LimitReached)?;
            asked.drain(..end + 4);
        }
        (count > 0 && asked.len() <= 8192).then_some(()).ok_or(NetworkError::BrokenPipe)?;
    }
    Ok(())
}
