//! The program's network: what is ready of its sockets, and names.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use tessera_interfaces::{Cap, Family, Network, Readiness, Streams};
use tessera_runtime::sync::Mutex;
use tessera_runtime::thread;

use crate::errno::{Errno, Result};
use crate::socket::Socket;
use crate::wait::{Patience, Queue, until};

/// How long a name is looked for.
const NAME_LIMIT: u64 = 20_000_000_000;

/// The network. One thread waits for the stack's bell and wakes the sockets that changed.
pub struct Net {
    network: Cap<dyn Network>,
    streams: Streams,
    readiness: Readiness,
    sockets: Mutex<BTreeMap<u32, Weak<Socket>>>,
    /// Those who wait for names.
    names: Queue,
}

impl Net {
    /// Takes the capability and begins to listen for changes.
    ///
    /// # Errors
    /// The network refuses, or there is no memory.
    pub fn new(network: Cap<dyn Network>) -> Result<Arc<Net>> {
        let readiness = Readiness::of(&*network)?;
        let streams = Streams::of(&network);
        let net = Arc::new(Net { network, streams, readiness, sockets: Mutex::default(), names: Queue::default() });
        let watching = net.clone();
        thread::spawn(move || {
            loop {
                watching.readiness.wait(None);
                for number in watching.readiness.changed() {
                    watching.wake(number);
                }
            }
        })
        .map_err(|_| Errno::ENOMEM)?;
        Ok(net)
    }

    fn wake(&self, number: u32) {
        if number == 0 {
            self.names.wake();
        }
        let socket = self.sockets.lock().get(&number).and_then(Weak::upgrade);
        if let Some(socket) = socket {
            socket.queue.wake();
        }
    }

    /// What is ready of the socket with a number: bits of `readiness`.
    pub fn word(&self, number: u32) -> u64 {
        self.readiness.word(number)
    }

    /// A new socket.
    ///
    /// # Errors
    /// The network refuses it.
    pub fn open(self: &Arc<Self>, family: Family, is_stream: bool, nonblocking: bool) -> Result<Arc<Socket>> {
        let socket = if is_stream { self.network.tcp(family) } else { self.network.udp(family) };
        self.adopt(socket?, family, is_stream, nonblocking)
    }

    /// Takes a socket in, to wake it.
    ///
    /// # Errors
    /// The network refuses.
    pub fn adopt(
        self: &Arc<Self>,
        socket: Cap<dyn tessera_interfaces::Socket>,
        family: Family,
        is_stream: bool,
        nonblocking: bool,
    ) -> Result<Arc<Socket>> {
        let stream = self.streams.stream(socket)?;
        let number = stream.number();
        let socket = Arc::new(Socket::new(self.clone(), stream, family, is_stream, nonblocking));
        // A number is given again when its socket is gone: then this takes the old one's place.
        self.sockets.lock().insert(number, Arc::downgrade(&socket));
        Ok(socket)
    }

    /// The addresses of a name, those of IPv4 as `::ffff:a.b.c.d`.
    ///
    /// # Errors
    /// `EAGAIN`: nobody answers; and what the network refuses.
    pub fn resolve(&self, name: &str) -> Result<Vec<[u8; 16]>> {
        let last = core::cell::RefCell::new(None);
        let found = until(
            &self.names,
            Patience::Until(Some(crate::now().saturating_add(NAME_LIMIT))),
            || {
                let answer = self.network.resolve(name).map_err(Errno::from);
                let is_there = answer != Err(Errno::EAGAIN);
                *last.borrow_mut() = is_there.then_some(answer);
                is_there
            },
            || last.borrow_mut().take().unwrap_or_else(|| self.network.resolve(name).map_err(Errno::from)),
        )?;
        Ok(found.as_chunks::<16>().0.to_vec())
    }
}
