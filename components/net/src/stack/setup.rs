//! How the wire gets its addresses: from a DHCP server (RFC 2131), with addresses to fall back on, or from the image's arguments; for version 6 a
//! link-local address (RFC 4291 section 2.5.1) and what routers announce (RFC 4862).

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::socket::{dhcpv4, dns};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr,
};

use super::gather::{Cuts, MOST};
use super::link::OneFrame;
use super::{Outgoing, Port, Side, Stack, Which, WireLink, nanoseconds};
use tessera_interfaces::Configuration;

/// Addresses that are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Static {
    pub address: Ipv4Cidr,
    pub gateway: Option<Ipv4Address>,
    pub name_server: Option<Ipv4Address>,
}

/// Where addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// They are these.
    Given(Static),
    /// A DHCP server says; if none has after some seconds, these.
    Asked(Option<Static>),
}

/// What the device of the wire is like.
#[derive(Clone, Debug)]
pub struct Device {
    pub hardware: [u8; 6],
    /// Bytes of the longest packet above the Ethernet header.
    pub mtu: u16,
    pub checksums: ChecksumCapabilities,
    /// What it cuts into frames by itself.
    pub cuts: Cuts,
    /// It may receive frames of up to 64 KiB.
    pub receives_large: bool,
}

/// The stack's own sockets on the wire, and what they found out.
pub struct Setup {
    pub sockets: SocketSet<'static>,
    dhcp: Option<SocketHandle>,
    pub dns: SocketHandle,
    source: Source,
    /// When it is too late for a DHCP server.
    patience: Option<Instant>,
    pub name_server: Option<IpAddress>,
    gateway: Option<Ipv4Address>,
    /// Something may have come for these sockets.
    pub due: bool,
    next: Option<Instant>,
}

/// How long a DHCP server is waited for before the addresses to fall back on are taken.
const PATIENCE: Duration = Duration::from_secs(5);
const ETHERNET_HEADER: usize = 14;

impl Stack {
    /// Connects a wire.
    pub fn attach(&mut self, port: Box<dyn Port>, device: &Device, source: Source) {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        // IPv6 asks for links of 1280 bytes at least, RFC 8200 section 5.
        capabilities.max_transmission_unit = usize::from(device.mtu).max(1280) + ETHERNET_HEADER;
        capabilities.checksum = device.checksums.clone();
        // Filled in on the way out, by the device or here, in larger steps than the library's.
        capabilities.checksum.tcp = if device.checksums.tcp.rx() { Checksum::Rx } else { Checksum::None };
        let longest = capabilities.max_transmission_unit;
        let mut outgoing = Outgoing::new(port, longest, device.checksums.clone(), device.cuts);
        let largest = if device.receives_large { MOST } else { longest };
        let hardware = unicast(device.hardware);
        let mut config = Config::new(HardwareAddress::Ethernet(hardware));
        config.random_seed = self.secret.number();
        config.slaac = true;
        let mut first = OneFrame { frame: None, transmit: &mut outgoing, capabilities: &capabilities, sent: 0 };
        let mut interface = Interface::new(config, &mut first, self.now);
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::Ipv6(Ipv6Cidr::new(link_local(hardware), 64)));
        });
        let mut sockets = SocketSet::new(Vec::new());
        let dns = sockets.add(dns::Socket::new(&[], vec![]));
        let dhcp = matches!(source, Source::Asked(_)).then(|| sockets.add(dhcpv4::Socket::new()));
        let patience = matches!(source, Source::Asked(Some(_))).then(|| self.now + PATIENCE);
        let setup =
            Setup { sockets, dhcp, dns, source, patience, name_server: None, gateway: None, due: true, next: None };
        let side = Side { interface, capabilities };
        self.wire = Some(Box::new(WireLink { side, outgoing, incoming: vec![0; largest], setup }));
        if let Source::Given(given) = source {
            self.configure(Some(given));
        }
        self.addresses_changed();
    }

    /// Nobody will run the stack until the device calls or a timer rings. False when there is something to do already.
    pub fn rest(&mut self) -> bool {
        let wants_room = self.wants_room();
        self.rests_for_room = wants_room;
        self.wire.as_mut().is_none_or(|wire| wire.outgoing.port.sleep(wants_room))
    }

    /// Whether it rests, and the device is not to call for what has come to be waited for since.
    pub fn must_rest_anew(&self) -> bool {
        self.wants_room() && !self.rests_for_room
    }

    /// Somebody runs it again.
    pub fn rise(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.outgoing.port.wake();
        }
    }

    /// Whether the device broke the rules of its port.
    pub fn wire_is_broken(&self) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.outgoing.port.is_broken())
    }

    /// The device is another instance, or is to begin anew: all state but that of the port stays.
    pub fn restart_wire(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.outgoing.port.restart();
        }
        self.room_again(Which::Wire);
    }

    /// What the machine is called on the network.
    pub fn configuration(&self) -> Configuration {
        let mut answer = Configuration {
            mac: [0; 6],
            mtu: 0,
            v4: [0; 4],
            v4_prefix: 0,
            v4_gateway: [0; 4],
            v6: [0; 16],
            v6_prefix: 0,
            v6_gateway: [0; 16],
            name_server: [0; 16],
        };
        let Some(wire) = &self.wire else { return answer };
        if let HardwareAddress::Ethernet(hardware) = wire.side.interface.hardware_addr() {
            answer.mac = hardware.0;
        }
        answer.mtu = self.wire_mtu() as u16;
        for own in &self.addresses {
            match own {
                IpCidr::Ipv4(own) => (answer.v4, answer.v4_prefix) = (own.address().octets(), own.prefix_len()),
                // An address that routers announced says more than the link's own.
                IpCidr::Ipv6(own) if answer.v6_prefix == 0 || !own.address().is_unicast_link_local() => {
                    (answer.v6, answer.v6_prefix) = (own.address().octets(), own.prefix_len());
                }
                IpCidr::Ipv6(_) => {}
            }
        }
        if let Some(gateway) = wire.setup.gateway {
            answer.v4_gateway = gateway.octets();
        }
        if let Some(server) = wire.setup.name_server {
            answer.name_server = super::address::bytes(server);
        }
        answer
    }

    /// Bytes of the longest packet above the wire's header.
    pub(super) fn wire_mtu(&self) -> usize {
        self.wire.as_ref().map_or(0, |wire| wire.side.capabilities.max_transmission_unit - ETHERNET_HEADER)
    }

    /// When the stack's own sockets want to be looked at.
    pub(super) fn wire_time(&self) -> Option<Instant> {
        let setup = &self.wire.as_ref()?.setup;
        if setup.due { Some(self.now) } else { setup.next.into_iter().chain(setup.patience).min() }
    }

    /// Lets the stack's own sockets work, if it is time.
    pub(super) fn look_after_wire(&mut self) {
        let Some(time) = self.wire_time() else { return };
        let Some(wire) = &mut self.wire else { return };
        if time > self.now {
            return;
        }
        wire.setup.due = false;
        let WireLink { side, outgoing, setup, .. } = &mut **wire;
        side.interface.poll_maintenance(self.now);
        let mut device = OneFrame { frame: None, transmit: outgoing, capabilities: &side.capabilities, sent: 0 };
        for _ in 0..super::TURN {
            if side.interface.poll_egress(self.now, &mut device, &mut setup.sockets) == PollResult::None {
                break;
            }
        }
        let next = side.interface.poll_at(self.now, &setup.sockets);
        // What cannot go now is tried again soon.
        setup.next = next.map(|next| next.max(self.now + Duration::from_millis(10)));
        let known = side.interface.ip_addrs() == self.addresses.as_slice();
        let leased = setup.dhcp.and_then(|dhcp| match setup.sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp).poll()? {
            dhcpv4::Event::Configured(lease) => Some(Some(Static {
                address: lease.address,
                gateway: lease.router,
                name_server: lease.dns_servers.first().copied(),
            })),
            dhcpv4::Event::Deconfigured => Some(None),
        });
        match leased {
            Some(Some(lease)) => {
                wire.setup.patience = None;
                self.configure(Some(lease));
            }
            // The first news is that there is none; after that a lease has ended.
            Some(None) if !known || self.has_version_4() => self.configure(None),
            _ => {}
        }
        self.fall_back();
        if !known {
            self.addresses_changed();
        }
        self.collect_names();
    }

    fn has_version_4(&self) -> bool {
        self.addresses.iter().any(|own| matches!(own, IpCidr::Ipv4(_)))
    }

    fn fall_back(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        if wire.setup.patience.is_some_and(|patience| patience <= self.now) {
            wire.setup.patience = None;
            if let Source::Asked(Some(given)) = wire.setup.source {
                self.configure(Some(given));
            }
        }
    }

    /// Takes a version 4 address and what belongs to it, or gives it up.
    fn configure(&mut self, given: Option<Static>) {
        let Some(wire) = &mut self.wire else { return };
        let WireLink { side, setup, .. } = &mut **wire;
        let address = given.map(|given| given.address).filter(|own| {
            !own.address().is_unspecified() && !own.address().is_multicast() && !own.address().is_broadcast()
        });
        side.interface.update_ip_addrs(|addresses| {
            addresses.retain(|own| matches!(own, IpCidr::Ipv6(_)));
            if let Some(address) = address {
                let _ = addresses.insert(0, IpCidr::Ipv4(address));
            }
        });
        let routes = side.interface.routes_mut();
        routes.remove_default_ipv4_route();
        setup.gateway = given.and_then(|given| given.gateway);
        if let Some(gateway) = setup.gateway {
            let _ = routes.add_default_ipv4_route(gateway);
        }
        setup.name_server = given.and_then(|given| given.name_server).map(IpAddress::Ipv4);
        let server = setup.name_server;
        setup.sockets.get_mut::<dns::Socket<'_>>(setup.dns).update_servers(server.as_slice());
        self.addresses_changed();
    }

    /// The wire's addresses are others than before.
    fn addresses_changed(&mut self) {
        let Some(wire) = &self.wire else { return };
        let before = core::mem::replace(&mut self.addresses, wire.side.interface.ip_addrs().to_vec());
        let mut six = false;
        // The default route of version 6 is what routers announced.
        wire.side.interface.routes().get_default_ipv6_route().inspect(|_| six = true);
        self.gateways = (wire.setup.gateway.is_some(), six);
        let gone = before.iter().filter(|old| !self.addresses.contains(old)).map(IpCidr::address);
        let gone: Vec<IpAddress> = gone.collect();
        if let Some(link) = &mut self.loopback {
            link.side.interface.update_ip_addrs(|held| held.retain(|own| !gone.contains(&own.address())));
        }
        for own in self.addresses.clone() {
            // It holds as many addresses as the wire, and two of its own; more of 127.0.0.0/8 only if there is room.
            let _ = self.hold_on_loopback(own.address());
        }
        let everybody: Vec<_> = self.clients.iter_mut().map(|(id, _)| id).collect();
        for client in everybody {
            self.tell_all(client);
        }
        // What could not be sent may now find a way.
        self.neighbour_known();
    }

    /// Tells a client that something changed about the network as a whole.
    pub(super) fn tell_all(&mut self, client: super::ClientId) {
        if let Some(client) = self.clients.get_mut(client) {
            client.set(0, tessera_interfaces::readiness::READABLE, true);
        }
    }

    /// The time, in nanoseconds since boot.
    pub fn time(&self) -> u64 {
        nanoseconds(self.now)
    }
}

/// A hardware address that the protocol library takes: a device that claims to be many is taken at its word but for that.
fn unicast(mut hardware: [u8; 6]) -> EthernetAddress {
    let [first, ..] = &mut hardware;
    *first &= 0xfe;
    if hardware == [0; 6] {
        hardware = [2, 0, 0, 0, 0, 1];
    }
    EthernetAddress(hardware)
}

/// The link-local address that a hardware address makes, RFC 4291 appendix A.
fn link_local(EthernetAddress([a, b, c, d, e, f]): EthernetAddress) -> Ipv6Address {
    Ipv6Address::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
