//! What clients hold: the network as each of them sees it, and its sockets. A socket is closed when its object goes.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use tessera_interfaces::{
    Address, Cap, Configuration, Datagram, Family, Network, NetworkError, Shutdown, Socket, SocketOption, readiness,
};
use tessera_runtime::object::{Access, Event, Vmo};
use tessera_runtime::{Mapping, own};

use crate::component::Core;
use crate::stack::{ClientId, Id, Limits, Protocol, Signals};

/// The network as one client sees it.
pub struct Client {
    core: Arc<Core>,
    id: ClientId,
}

impl Client {
    /// A client with limits of its own.
    pub fn new(core: Arc<Core>, limits: Limits) -> Arc<Client> {
        let id = core.act(|stack| stack.add_client(limits));
        Arc::new(Client { core, id })
    }

    fn open(&self, protocol: Protocol, family: Family) -> Result<Cap<dyn Socket>, NetworkError> {
        let id = self.core.act(|stack| stack.open(self.id, protocol, family))?;
        Ok(Open::cap(&self.core, id))
    }
}

impl Network for Client {
    fn readiness(&self, notify: Event, bits: u64) -> Result<Vmo, NetworkError> {
        let made = Vmo::create(&own::pool(), readiness::BYTES)
            .and_then(|vmo| Ok((Mapping::new(&vmo, 0, readiness::BYTES, Access::Write)?, vmo)));
        let (mapping, vmo) = made.map_err(|_| NetworkError::LimitReached)?;
        self.core.act(|stack| stack.listen_for(self.id, Box::new(Table { mapping, notify, bits })));
        Ok(vmo)
    }

    fn tcp(&self, family: Family) -> Result<Cap<dyn Socket>, NetworkError> {
        self.open(Protocol::Tcp, family)
    }

    fn udp(&self, family: Family) -> Result<Cap<dyn Socket>, NetworkError> {
        self.open(Protocol::Udp, family)
    }

    fn icmp(&self, family: Family) -> Result<Cap<dyn Socket>, NetworkError> {
        self.open(Protocol::Icmp, family)
    }

    fn resolve(&self, name: &str) -> Result<Vec<u8>, NetworkError> {
        self.core.act(|stack| stack.resolve(self.id, name))
    }

    fn configuration(&self) -> Result<Configuration, NetworkError> {
        Ok(self.core.look(|stack| stack.configuration()))
    }
}

/// A client's readiness table. What is in it the client may overwrite: only itself is misled by that.
struct Table {
    mapping: Mapping,
    notify: Event,
    bits: u64,
}

impl Signals for Table {
    fn set(&mut self, number: u32, bits: u64) {
        let number = number as usize;
        let words = self.mapping.words();
        let changed = words.get(readiness::CAPACITY + number / 64);
        let (Some(word), Some(changed), true) = (words.get(number), changed, number < readiness::CAPACITY) else {
            return;
        };
        let events = (word.load(Ordering::Relaxed) >> readiness::EVENT_SHIFT).wrapping_add(1);
        word.store(events << readiness::EVENT_SHIFT | bits, Ordering::Release);
        changed.fetch_or(1 << (number % 64), Ordering::Release);
    }

    fn raise(&mut self) {
        let _ = self.notify.raise(self.bits);
    }
}

/// An open socket.
struct Open {
    core: Arc<Core>,
    id: Id,
}

impl Open {
    fn cap(core: &Arc<Core>, id: Id) -> Cap<dyn Socket> {
        Cap::local(Arc::new(Open { core: core.clone(), id }) as Arc<dyn Socket>)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.core.act(|stack| stack.close(self.id));
    }
}

impl Socket for Open {
    fn number(&self) -> Result<u32, NetworkError> {
        self.core.look(|stack| stack.number(self.id))
    }

    fn bind(&self, at: Address) -> Result<(), NetworkError> {
        self.core.act(|stack| stack.bind(self.id, at))
    }

    fn listen(&self, backlog: u32) -> Result<(), NetworkError> {
        self.core.act(|stack| stack.listen(self.id, backlog))
    }

    fn accept(&self) -> Result<Cap<dyn Socket>, NetworkError> {
        let id = self.core.act(|stack| stack.accept(self.id))?;
        Ok(Open::cap(&self.core, id))
    }

    fn connect(&self, to: Address) -> Result<(), NetworkError> {
        self.core.act(|stack| stack.connect(self.id, to))
    }

    fn local(&self) -> Result<Address, NetworkError> {
        self.core.look(|stack| stack.local(self.id))
    }

    fn peer(&self) -> Result<Address, NetworkError> {
        self.core.look(|stack| stack.peer(self.id))
    }

    fn send(&self, from: &[u8]) -> Result<u64, NetworkError> {
        self.core.act(|stack| stack.send(self.id, from))
    }

    fn send_to(&self, to: Address, from: &[u8]) -> Result<u64, NetworkError> {
        self.core.act(|stack| stack.send_to(self.id, to, from))
    }

    fn receive(&self, into: &mut [u8]) -> Result<u64, NetworkError> {
        self.core.act(|stack| stack.receive(self.id, into, false))
    }

    fn peek(&self, into: &mut [u8]) -> Result<u64, NetworkError> {
        self.core.act(|stack| stack.receive(self.id, into, true))
    }

    fn receive_from(&self, into: &mut [u8]) -> Result<Datagram, NetworkError> {
        self.core.act(|stack| stack.receive_from(self.id, into, false))
    }

    fn peek_from(&self, into: &mut [u8]) -> Result<Datagram, NetworkError> {
        self.core.act(|stack| stack.receive_from(self.id, into, true))
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), NetworkError> {
        self.core.act(|stack| stack.shutdown(self.id, how))
    }

    fn error(&self) -> Result<(), NetworkError> {
        self.core.act(|stack| stack.take_error(self.id))
    }

    fn set_option(&self, option: SocketOption, value: u64) -> Result<(), NetworkError> {
        self.core.act(|stack| stack.set_option(self.id, option, value))
    }

    fn option(&self, option: SocketOption) -> Result<u64, NetworkError> {
        self.core.look(|stack| stack.option(self.id, option))
    }
}
