//! What clients hold: the network as each of them sees it, and its sockets. A socket is closed when its object goes.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use tessera_interfaces::{
    Address, Cap, Configuration, Datagram, Failure, Family, Marks, Message, Network, NetworkError, NetworkListener,
    Shutdown, Socket, SocketOption, readiness, streams,
};
use tessera_runtime::abi::PAGE;
use tessera_runtime::object::{Access, Event, Vmo};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{Error, Mapping, Memory, Object, Rights, log, own};

use crate::arguments::allowance;
use crate::component::Core;
use crate::rules::Rules;
use crate::stack::{Backing, ClientId, Id, Limits, Protocol, Signals, Streams};

/// The network as one client sees it.
pub struct Client {
    core: Arc<Core>,
    id: ClientId,
    /// None where everybody may be spoken to.
    guard: Option<Arc<Guard>>,
    /// The memory that its streams go through, once it asked for that.
    streams: Mutex<Option<Vmo>>,
}

/// What holds a client to its rules.
struct Guard {
    rules: Rules,
    /// What was denied and told of, so that it is told once.
    told: Mutex<Vec<(Protocol, Address)>>,
}

/// Denials that are told of.
const TOLD: usize = 32;
/// How many addresses a socket may answer without a rule: those that it heard last.
const HEARD: usize = 64;

impl Guard {
    /// Refuses what the rules do not allow.
    fn check(&self, protocol: Protocol, to: &Address) -> Result<(), NetworkError> {
        let Err(reason) = self.rules.check(protocol, to) else { return Ok(()) };
        let mut told = self.told.lock();
        if told.len() < TOLD && !told.contains(&(protocol, *to)) {
            told.push((protocol, *to));
            log!("net: denied: {protocol:?} to {}: {reason}", shown(to));
        }
        Err(NetworkError::PermissionDenied)
    }
}

/// An address as people write it.
fn shown(address: &Address) -> alloc::string::String {
    let ip = core::net::Ipv6Addr::from(address.ip);
    match ip.to_ipv4_mapped() {
        Some(ip) => alloc::format!("{ip}:{}", address.port),
        None => alloc::format!("[{ip}]:{}", address.port),
    }
}

impl Client {
    /// A client with limits and rules of its own.
    pub fn new(core: Arc<Core>, limits: Limits, rules: Rules) -> Arc<Client> {
        let id = core.act(|stack| stack.add_client(limits));
        let guard = (!rules.are_none()).then(|| Arc::new(Guard { rules, told: Mutex::new(Vec::new()) }));
        Arc::new(Client { core, id, guard, streams: Mutex::new(None) })
    }

    fn open(&self, protocol: Protocol, family: Family) -> Result<Cap<dyn Socket>, NetworkError> {
        let id = self.core.act(|stack| stack.open(self.id, protocol, family))?;
        let guard = self.guard.clone().map(|guard| Guarded { guard, protocol, heard: Mutex::new(VecDeque::new()) });
        Ok(Open::cap(&self.core, id, guard))
    }
}

impl Network for Client {
    fn readiness(&self, notify: Event, bits: u64) -> Result<Vmo, NetworkError> {
        let made = Vmo::create(&own::pool(), readiness::BYTES)
            .and_then(|vmo| Ok((Mapping::new(&vmo, 0, readiness::BYTES, Access::Write)?, vmo)));
        let (mapping, vmo) = made.map_err(|_| NetworkError::LimitReached)?;
        self.core.act(|stack| {
            stack.limit(self.id, allowance());
            stack.listen_for(self.id, Box::new(Table { mapping, notify, bits }));
        });
        vmo.duplicate(LENT).map_err(|_| NetworkError::LimitReached)
    }

    fn listen_here(&self, listener: Cap<dyn NetworkListener>) -> Result<(), NetworkError> {
        // Who is in another domain could keep the stack waiting.
        if listener.is_remote() {
            return Err(NetworkError::NotSupported);
        }
        self.core.act(|stack| stack.listen_here(self.id, listener));
        Ok(())
    }

    fn streams(&self) -> Result<Vmo, NetworkError> {
        let mut shared = self.streams.lock();
        let vmo = match &mut *shared {
            Some(vmo) => vmo,
            none => {
                let (memory, backed) = back_streams().map_err(|_| NetworkError::LimitReached)?;
                let vmo = backed.0.try_clone().map_err(|_| NetworkError::LimitReached)?;
                self.core.act(|stack| stack.share_streams(self.id, Streams::new(memory, Box::new(backed))));
                none.insert(vmo)
            }
        };
        vmo.duplicate(LENT).map_err(|_| NetworkError::LimitReached)
    }

    fn bell(&self) -> Result<Event, NetworkError> {
        self.core.bell().map_err(|_| NetworkError::LimitReached)
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

    fn udp_lite(&self, family: Family) -> Result<Cap<dyn Socket>, NetworkError> {
        self.open(Protocol::UdpLite, family)
    }

    fn resolve(&self, name: &str) -> Result<Vec<u8>, NetworkError> {
        if let Some(guard) = &self.guard {
            // A question to the stack's own name server is one to a port of it.
            let ip = self.core.look(|stack| stack.configuration()).name_server;
            guard.check(Protocol::Udp, &Address { ip, port: 53, family: Family::V4 })?;
        }
        self.core.act(|stack| stack.resolve(self.id, name))
    }

    fn configuration(&self) -> Result<Configuration, NetworkError> {
        Ok(self.core.look(|stack| stack.configuration()))
    }
}

/// What a client may do with memory that it shares with the stack: it can neither make it smaller nor take pages of it away.
const LENT: Rights = Rights::READ.union(Rights::WRITE).union(Rights::MAP).union(Rights::TRANSFER);

/// Memory for the streams of a client, of which all but the rings is there.
fn back_streams() -> Result<(Memory, Backed), Error> {
    let vmo = Vmo::create(&own::pool(), streams::BYTES as u64)?;
    let memory = Mapping::new(&vmo, 0, streams::BYTES as u64, Access::Write)?.into_memory();
    let mut backed = Backed(vmo);
    if backed.back(0, streams::HEAD) { Ok((memory, backed)) } else { Err(Error::NoQuota) }
}

/// Memory whose pages are asked of the kernel by name: touching one for which there is no frame would end the stack.
struct Backed(Vmo);

impl Backing for Backed {
    fn back(&mut self, offset: usize, length: usize) -> bool {
        let mut pages = (offset..offset + length).step_by(PAGE as usize);
        pages.all(|page| self.0.write(page as u64, &[0]).is_ok_and(|count| count == 1))
    }
}

/// A client's readiness table. What is in it the client may overwrite: only itself is misled by that.
struct Table {
    mapping: Mapping,
    notify: Event,
    bits: u64,
}

impl Signals for Table {
    fn set(&mut self, number: u32, bits: u64, is_news: bool) {
        let number = number as usize;
        let words = self.mapping.words();
        let Some(word) = words.get(number).filter(|_| number < readiness::CAPACITY) else { return };
        let events = (word.load(Ordering::Relaxed) >> readiness::EVENT_SHIFT).wrapping_add(is_news.into());
        word.store(events << readiness::EVENT_SHIFT | bits, Ordering::Release);
        if is_news {
            readiness::mark(words, number);
        }
    }

    fn raise(&mut self) {
        let _ = self.notify.raise(self.bits);
    }
}

/// An open socket.
struct Open {
    core: Arc<Core>,
    id: Id,
    /// None where everybody may be spoken to. A connection that was accepted is to whoever began it.
    guarded: Option<Guarded>,
}

/// A socket of a client with rules.
struct Guarded {
    guard: Arc<Guard>,
    protocol: Protocol,
    /// Who spoke to it, and may be answered.
    heard: Mutex<VecDeque<Address>>,
}

impl Guarded {
    fn check(&self, to: &Address) -> Result<(), NetworkError> {
        if self.heard.lock().contains(to) { Ok(()) } else { self.guard.check(self.protocol, to) }
    }

    fn hear(&self, from: Address) {
        let mut heard = self.heard.lock();
        if !heard.contains(&from) {
            heard.truncate(HEARD.saturating_sub(1));
            heard.push_front(from);
        }
    }
}

impl Open {
    fn cap(core: &Arc<Core>, id: Id, guarded: Option<Guarded>) -> Cap<dyn Socket> {
        Cap::local(Arc::new(Open { core: core.clone(), id, guarded }) as Arc<dyn Socket>)
    }

    fn check(&self, to: &Address) -> Result<(), NetworkError> {
        self.guarded.as_ref().map_or(Ok(()), |guarded| guarded.check(to))
    }

    fn hear(&self, datagram: Datagram) -> Datagram {
        if let Some(guarded) = &self.guarded {
            guarded.hear(datagram.from);
        }
        datagram
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
        let id = self.core.ask(|stack| stack.accept(self.id))?;
        Ok(Open::cap(&self.core, id, None))
    }

    fn connect(&self, to: Address) -> Result<(), NetworkError> {
        self.check(&to)?;
        self.core.ask(|stack| stack.connect(self.id, to))
    }

    fn local(&self) -> Result<Address, NetworkError> {
        self.core.look(|stack| stack.local(self.id))
    }

    fn peer(&self) -> Result<Address, NetworkError> {
        self.core.look(|stack| stack.peer(self.id))
    }

    fn send(&self, from: &[u8]) -> Result<u64, NetworkError> {
        self.core.ask(|stack| stack.send(self.id, from))
    }

    fn send_to(&self, to: Address, from: &[u8]) -> Result<u64, NetworkError> {
        self.check(&to)?;
        self.core.ask(|stack| stack.send_to(self.id, to, from))
    }

    fn receive(&self, into: &mut [u8]) -> Result<u64, NetworkError> {
        self.core.ask(|stack| stack.receive(self.id, into, false))
    }

    fn peek(&self, into: &mut [u8]) -> Result<u64, NetworkError> {
        self.core.ask(|stack| stack.receive(self.id, into, true))
    }

    fn receive_from(&self, into: &mut [u8]) -> Result<Datagram, NetworkError> {
        self.core.ask(|stack| stack.receive_from(self.id, into, false)).map(|datagram| self.hear(datagram))
    }

    fn peek_from(&self, into: &mut [u8]) -> Result<Datagram, NetworkError> {
        self.core.ask(|stack| stack.receive_from(self.id, into, true)).map(|datagram| self.hear(datagram))
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

    fn release(&self) -> Result<(), NetworkError> {
        self.core.act(|stack| stack.release(self.id))
    }

    fn send_message(&self, to: Option<Address>, marks: Marks, from: &[u8]) -> Result<u64, NetworkError> {
        to.map_or(Ok(()), |to| self.check(&to))?;
        self.core.ask(|stack| stack.send_message(self.id, to, marks, from))
    }

    fn receive_message(&self, into: &mut [u8], keep: bool) -> Result<Message, NetworkError> {
        let message = self.core.ask(|stack| stack.receive_message(self.id, into, keep))?;
        if let Some(guarded) = &self.guarded {
            guarded.hear(message.from);
        }
        Ok(message)
    }

    fn receive_error(&self, into: &mut [u8]) -> Result<Failure, NetworkError> {
        self.core.ask(|stack| stack.receive_error(self.id, into))
    }
}
