//! The client's side of streams: a TCP socket whose bytes go through rings in shared memory where there are some, else by calls.

use alloc::boxed::Box;
use alloc::sync::Arc;

use tessera_runtime::object::{Access, Event};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{Cap, Mapping, Memory};

use crate::streams::{self, BELL, Reader, State, Writer, state};
use crate::{Network, NetworkError, Socket, readiness};

/// What a client shares with the network stack for all its streams. Nothing where the stack is in the same domain: there a call is a method's, and
/// cheaper than another copy.
#[derive(Clone, Default)]
pub struct Streams(Option<Arc<Shared>>);

struct Shared {
    memory: Memory,
    bell: Event,
}

/// A socket. Its `send`, `receive` and `peek` are to be called here, not on the capability below it; everything else there.
pub struct Stream {
    socket: Cap<dyn Socket>,
    number: u32,
    /// Apart, so that those without are small.
    rings: Option<Box<Rings>>,
}

struct Rings {
    shared: Arc<Shared>,
    state: State,
    writer: Mutex<Writer>,
    reader: Mutex<(Reader, Found)>,
}

/// What a reader found the last time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Bytes,
    Nothing,
}

/// What is longer goes by a call, with one copy less.
const SMALL: usize = 4 << 10;

impl Streams {
    /// Asks the network for the memory, if it is in another domain. Without it streams go by calls.
    pub fn of(network: &Cap<dyn Network>) -> Streams {
        if network.is_remote() { Streams::shared(&**network).unwrap_or_default() } else { Streams::default() }
    }

    /// Asks for the memory wherever the network is.
    ///
    /// # Errors
    /// What the network refuses; `LimitReached` if it cannot be mapped.
    pub fn shared(network: &dyn Network) -> Result<Streams, NetworkError> {
        let (memory, bell) = (network.streams()?, network.bell()?);
        let mapping = Mapping::new(&memory, 0, streams::BYTES as u64, Access::Write);
        let memory = mapping.map_err(|_| NetworkError::LimitReached)?.into_memory();
        Ok(Streams(Some(Arc::new(Shared { memory, bell }))))
    }

    /// A socket, new from the network or from a listener; it has rings when the network grants it some.
    ///
    /// # Errors
    /// The network does not answer.
    pub fn stream(&self, socket: Cap<dyn Socket>) -> Result<Stream, NetworkError> {
        let number = socket.number()?;
        let rings = self.0.as_ref().and_then(|shared| {
            let (writer, reader, state) = streams::client_ends(&shared.memory, number)?;
            let (writer, reader) = (Mutex::new(writer), Mutex::new((reader, Found::Bytes)));
            Some(Box::new(Rings { shared: shared.clone(), state, writer, reader }))
        });
        Ok(Stream { socket, number, rings })
    }
}

impl Rings {
    /// Whether the method answers when the ring is empty.
    fn receives_by_call(&self) -> bool {
        self.state.get() & (state::GRANTED | state::RECEIVE_BY_CALL) != state::GRANTED
    }
}

impl Stream {
    /// The capability, for everything but the bytes.
    pub fn socket(&self) -> &Cap<dyn Socket> {
        &self.socket
    }

    /// Its number in the readiness table.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What is ready, by the word that the readiness table has of it: the table cannot tell what was taken out of a ring.
    pub fn ready(&self, word: u64) -> u64 {
        match &self.rings {
            Some(rings) if word & (readiness::READABLE | readiness::ERROR) == readiness::READABLE => {
                // In this order: what is in the ring was put there before the state was stored.
                let is_there = rings.receives_by_call() || rings.reader.lock().0.waiting() > 0;
                if is_there { word } else { word & !readiness::READABLE }
            }
            _ => word,
        }
    }

    /// As [`Socket::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&self, from: &[u8]) -> Result<u64, NetworkError> {
        if let Some(rings) = self.rings.as_ref().filter(|_| from.len() <= SMALL)
            && rings.state.get() & (state::GRANTED | state::SEND_BY_CALL) == state::GRANTED
        {
            let mut writer = rings.writer.lock();
            if writer.room(from.len()) >= from.len() {
                writer.write(from);
                drop(writer);
                if streams::ask(&rings.shared.memory, self.number) {
                    let _ = rings.shared.bell.raise(BELL);
                }
                return Ok(from.len() as u64);
            }
        }
        self.socket.send(from)
    }

    /// As [`Socket::receive`].
    ///
    /// # Errors
    /// As there.
    pub fn receive(&self, into: &mut [u8]) -> Result<u64, NetworkError> {
        self.take(into, Reader::read, |into| self.socket.receive(into))
    }

    /// As [`Socket::peek`].
    ///
    /// # Errors
    /// As there.
    pub fn peek(&self, into: &mut [u8]) -> Result<u64, NetworkError> {
        self.take(into, Reader::peek, |into| self.socket.peek(into))
    }

    fn take(
        &self,
        into: &mut [u8],
        from_ring: fn(&mut Reader, &mut [u8]) -> usize,
        call: impl FnOnce(&mut [u8]) -> Result<u64, NetworkError>,
    ) -> Result<u64, NetworkError> {
        let Some(rings) = self.rings.as_ref().filter(|_| !into.is_empty()) else { return call(into) };
        let mut reader = rings.reader.lock();
        let (reader, found) = &mut *reader;
        // The state first: what was put into the ring before it was stored is seen then.
        let by_call = rings.receives_by_call();
        let count = from_ring(reader, into);
        if count > 0 {
            *found = Found::Bytes;
            return Ok(count as u64);
        }
        // Who finds nothing twice asks the stack itself: it may be gone.
        if !by_call && core::mem::replace(found, Found::Nothing) == Found::Bytes {
            return Err(NetworkError::WouldBlock);
        }
        match call(into) {
            // What came between the two looks is in the ring.
            Err(NetworkError::WouldBlock) => match from_ring(reader, into) {
                0 => Err(NetworkError::WouldBlock),
                count => Ok(count as u64),
            },
            other => other,
        }
    }
}
