//! Who is bound to which port, and which way an address lies.

use smoltcp::wire::{IpAddress, IpEndpoint, Ipv4Address, Ipv6Address};

use super::address::{self, Local};
use super::{Entry, Id, Kind, Protocol, Stack, Which, ends, first_of};
use tessera_interfaces::{Address, Family, NetworkError};

/// Ports given to those who do not ask for one.
const EPHEMERAL: core::ops::RangeInclusive<u16> = 32768..=60999;

/// Whether a socket bound to `at` hears what is sent to `ip`.
pub(super) fn covers(entry: &Entry, ip: IpAddress) -> bool {
    match (entry.local.0, ip, entry.family) {
        (Some(own), _, _) => own == ip,
        (None, IpAddress::Ipv4(_), Family::V4) | (None, IpAddress::Ipv6(_), Family::V6) => true,
        (None, IpAddress::Ipv4(_), Family::V6) => !entry.options.only_version_6,
        (None, IpAddress::Ipv6(_), Family::V4) => false,
    }
}

/// Whether two sockets bound to the same port would hear the same.
fn overlap(one: &Entry, other: &Entry) -> bool {
    match (one.local.0, other.local.0) {
        (Some(ip), _) => covers(other, ip),
        (None, Some(ip)) => covers(one, ip),
        (None, None) => {
            let four = IpAddress::Ipv4(Ipv4Address::LOCALHOST);
            let six = IpAddress::Ipv6(Ipv6Address::LOCALHOST);
            (covers(one, four) && covers(other, four)) || (covers(one, six) && covers(other, six))
        }
    }
}

impl Stack {
    /// Gives a socket a local address.
    pub fn bind(&mut self, id: Id, at: Address) -> Result<(), NetworkError> {
        let entry = self.entry(id)?;
        let protocol = match &entry.kind {
            Kind::Idle => Protocol::Tcp,
            Kind::Datagrams(datagrams) => datagrams.protocol,
            _ => return Err(NetworkError::InvalidArgument),
        };
        if entry.bound {
            return Err(NetworkError::InvalidArgument);
        }
        address::check(&at, entry.family)?;
        let ip = address::ip(&at);
        if let Some(ip) = ip
            && !self.is_own(ip)
            && (protocol == Protocol::Tcp || !address::is_many(&ip))
        {
            return Err(NetworkError::AddressNotAvailable);
        }
        self.bind_to(id, protocol, (ip, at.port))
    }

    /// Binds a socket to an address that can be bound to; port 0 is any that is free.
    pub(super) fn bind_to(&mut self, id: Id, protocol: Protocol, at: Local) -> Result<(), NetworkError> {
        let port = if at.1 == 0 { self.free_port(protocol, None)? } else { at.1 };
        let entry = self.entry_mut(id)?;
        let before = core::mem::replace(&mut entry.local, (at.0, port));
        if at.1 != 0 && self.conflicts(id, protocol, port) {
            self.entry_mut(id)?.local = before;
            return Err(NetworkError::AddressInUse);
        }
        self.entry_mut(id)?.bound = true;
        self.bound.entry((protocol, port)).or_default().push(id);
        Ok(())
    }

    /// Gives a socket's address up, if it has no peer: it hears nothing more.
    pub fn release(&mut self, id: Id) -> Result<(), NetworkError> {
        let protocol = match &self.entry(id)?.kind {
            Kind::Connection(_) | Kind::Ended { .. } => return Ok(()),
            Kind::Datagrams(datagrams) => datagrams.protocol,
            Kind::Listener(_) | Kind::Idle => Protocol::Tcp,
        };
        if matches!(self.entry(id)?.kind, Kind::Listener(_)) {
            self.end_listener(id);
        }
        let entry = self.entry_mut(id)?;
        if core::mem::take(&mut entry.bound) {
            let (_, port) = core::mem::take(&mut entry.local);
            self.unbind(protocol, port, id);
        }
        self.publish(id, true);
        Ok(())
    }

    fn conflicts(&self, id: Id, protocol: Protocol, port: u16) -> bool {
        let Some(own) = self.sockets.get(id) else { return true };
        let others = self.bound.get(&(protocol, port)).into_iter().flatten();
        for other in others.filter_map(|other| self.sockets.get(*other)) {
            let listens = matches!(other.kind, Kind::Listener(_));
            let both = own.options.reuse_address && other.options.reuse_address && !listens;
            if !both && overlap(own, other) {
                return true;
            }
        }
        // A connection that is there, or waits after its end, keeps the port from whoever did not say that this is fine.
        protocol == Protocol::Tcp
            && !own.options.reuse_address
            && (self.has_connection(port) || self.resting.has_port(port))
    }

    /// Whether another socket listens where this one wants to.
    pub(super) fn is_listened_to(&self, id: Id) -> bool {
        let Some(own) = self.sockets.get(id) else { return true };
        let others = self.bound.get(&(Protocol::Tcp, own.local.1)).into_iter().flatten();
        others
            .filter(|other| **other != id)
            .filter_map(|other| self.sockets.get(*other))
            .any(|other| matches!(other.kind, Kind::Listener(_)) && overlap(own, other))
    }

    /// The socket of a protocol that hears best what is sent from `from` to `to`: one connected to the sender, else one bound to the
    /// address itself, else one bound to all.
    pub(super) fn hearer(&self, protocol: Protocol, from: IpEndpoint, to: IpEndpoint) -> Option<Id> {
        let candidates = self.bound.get(&(protocol, to.port))?.iter();
        let fits = candidates.filter_map(|id| {
            let entry = self.sockets.get(*id)?;
            let listens = match &entry.kind {
                Kind::Listener(_) => Some(0),
                Kind::Datagrams(datagrams) => match datagrams.remote {
                    Some(remote) => (remote == from).then_some(2),
                    None => Some(0),
                },
                _ => None,
            }?;
            covers(entry, to.addr).then_some((listens + u8::from(entry.local.0.is_some()), *id))
        });
        fits.max_by_key(|(fit, id)| (*fit, core::cmp::Reverse(*id))).map(|(_, id)| id)
    }

    pub(super) fn unbind(&mut self, protocol: Protocol, port: u16, id: Id) {
        if let Some(holders) = self.bound.get_mut(&(protocol, port)) {
            holders.retain(|holder| *holder != id);
            if holders.is_empty() {
                self.bound.remove(&(protocol, port));
            }
        }
    }

    fn has_connection(&self, port: u16) -> bool {
        let first = self.connections.range(first_of(port)..).next();
        first.is_some_and(|((_, local, _), _)| local.port == port)
    }

    /// A port that is free: altogether, or for a connection between these addresses.
    pub(super) fn free_port(
        &mut self,
        protocol: Protocol,
        between: Option<(IpAddress, IpEndpoint)>,
    ) -> Result<u16, NetworkError> {
        let count = u32::from(EPHEMERAL.end() - EPHEMERAL.start()) + 1;
        let first = (self.secret.number() % u64::from(count)) as u32;
        for step in 0..count {
            let port = EPHEMERAL.start() + ((first + step) % count) as u16;
            let taken = self.bound.contains_key(&(protocol, port))
                || match between {
                    None => protocol == Protocol::Tcp && (self.has_connection(port) || self.resting.has_port(port)),
                    Some((local, remote)) => {
                        let ends = ends(IpEndpoint::new(local, port), remote);
                        self.connections.contains_key(&ends) || self.resting.get(&ends).is_some()
                    }
                };
            if !taken {
                return Ok(port);
            }
        }
        Err(NetworkError::AddressNotAvailable)
    }

    /// Whether an address is this machine's.
    pub(super) fn is_own(&self, ip: IpAddress) -> bool {
        address::is_loopback(&ip) || self.addresses.iter().any(|own| own.address() == ip)
    }

    /// Which way an address lies.
    pub(super) fn way(&self, ip: IpAddress) -> Result<Which, NetworkError> {
        if self.is_own(ip) {
            return Ok(Which::Loopback);
        }
        let near = self.addresses.iter().any(|own| own.contains_addr(&ip));
        let (four, six) = self.gateways;
        let gateway = match ip {
            IpAddress::Ipv4(_) => four,
            IpAddress::Ipv6(address) => six && !address.is_unicast_link_local(),
        };
        let spoken = self.addresses.iter().any(|own| own.address().version() == ip.version());
        if self.wire.is_some() && spoken && (near || gateway || address::is_many(&ip)) {
            Ok(Which::Wire)
        } else {
            Err(NetworkError::NetworkUnreachable)
        }
    }

    /// The own address from which one speaks to another.
    pub(super) fn source_for(&self, to: IpAddress) -> Option<IpAddress> {
        match (to, self.way(to).ok()?) {
            (IpAddress::Ipv4(four), Which::Loopback) if four.is_loopback() => Some(IpAddress::v4(127, 0, 0, 1)),
            (_, Which::Loopback) => Some(to),
            (_, Which::Wire) => self.wire.as_ref()?.side.interface.get_source_address(&to),
        }
    }

    /// Lets the loopback link take what is sent to one of this machine's own addresses. It holds a few only: those of the wire, and others of
    /// 127.0.0.0/8 as they are used.
    pub(super) fn hold_on_loopback(&mut self, ip: IpAddress) -> Result<(), NetworkError> {
        let Some(link) = &mut self.loopback else { return Err(NetworkError::AddressNotAvailable) };
        if link.side.interface.has_ip_addr(ip) {
            return Ok(());
        }
        let bits = if ip.version() == smoltcp::wire::IpVersion::Ipv4 { 32 } else { 128 };
        let mut fits = false;
        link.side.interface.update_ip_addrs(|addresses| {
            fits = addresses.push(smoltcp::wire::IpCidr::new(ip, bits)).is_ok();
        });
        if fits { Ok(()) } else { Err(NetworkError::AddressNotAvailable) }
    }
}
