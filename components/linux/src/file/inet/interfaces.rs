//! What is known of the network's interfaces: the loop, and the wire that the container was given; their addresses and the ways they lead.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tessera_interfaces::Configuration;

use super::Inet;
use crate::errno::{Errno, Result};
use crate::task::{Context, wait};

/// The numbers of the loop and of the wire.
pub const LOOP: u32 = 1;
pub const WIRE: u32 = 2;

/// Until so long after the start (nanoseconds) who asks for addresses waits for the network to be given one: other systems start programs on a
/// network that is set up, and programs conclude from no address that names of this version need not be asked for.
const PATIENCE: u64 = 4_000_000_000;

/// Waits until the network has an address, but not for long.
///
/// # Errors
/// `ERESTARTSYS` if a signal is to be handled.
pub fn await_address(context: &mut Context, inet: &Inet) -> Result<()> {
    let is_there = |_: &mut Context| (!Interfaces::of(Some(inet)).awaits_address()).then_some(());
    match wait(context, &[&inet.changed], Some(PATIENCE), is_there) {
        Ok(()) | Err(Errno::ETIMEDOUT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Flags of an interface (netdevice(7)).
pub mod flag {
    pub const UP: u32 = 1;
    pub const BROADCAST: u32 = 2;
    pub const LOOPBACK: u32 = 8;
    pub const RUNNING: u32 = 0x40;
    pub const MULTICAST: u32 = 0x1000;
    /// The cable is plugged in.
    pub const LOWER_UP: u32 = 0x1_0000;
}

/// Hardware types, as ARP numbers them.
pub const ETHERNET: u16 = 1;
pub const LOOPBACK: u16 = 772;

/// An interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interface {
    pub number: u32,
    pub name: &'static str,
    pub hardware: u16,
    pub flags: u32,
    pub address: [u8; 6],
    pub broadcast: [u8; 6],
    /// The longest packet.
    pub longest: u32,
}

/// An address of an interface, with the bits of it that name the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    pub interface: u32,
    pub ip: IpAddr,
    pub prefix: u8,
}

impl Held {
    /// The address by which all of an IPv4 network are reached.
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.ip {
            IpAddr::V4(ip) if self.prefix < 31 => Some(Ipv4Addr::from_bits(ip.to_bits() | !mask(self.prefix))),
            _ => None,
        }
    }

    /// The first address of the network.
    pub fn network(&self) -> IpAddr {
        match self.ip {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask(self.prefix))),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask_6(self.prefix))),
        }
    }

    /// Whether an address lies in the network.
    pub fn reaches(&self, other: IpAddr) -> bool {
        match other {
            IpAddr::V4(ip) => Held { ip: IpAddr::V4(ip), ..*self }.network() == self.network(),
            IpAddr::V6(ip) => Held { ip: IpAddr::V6(ip), ..*self }.network() == self.network(),
        }
    }
}

/// The mask of a prefix.
pub fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

fn mask_6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0)
}

/// All of it, as it is at one moment.
#[derive(Clone, Copy)]
pub struct Interfaces {
    wire: Option<Configuration>,
}

impl Interfaces {
    /// As the network tells now; without one there is the loop alone.
    pub fn of(inet: Option<&Inet>) -> Interfaces {
        Interfaces::new(inet.and_then(|inet| inet.configuration().ok()))
    }

    /// A network that takes no packets at all has no wire.
    pub fn new(configuration: Option<Configuration>) -> Interfaces {
        Interfaces { wire: configuration.filter(|configuration| configuration.mtu != 0) }
    }

    /// Whether there is a wire that has no IPv4 address yet. One of IPv6 can come before it.
    pub fn awaits_address(&self) -> bool {
        self.wire.is_some_and(|wire| wire.v4 == [0; 4])
    }

    pub fn all(&self) -> Vec<Interface> {
        let mut all = alloc::vec![Interface {
            number: LOOP,
            name: "lo",
            hardware: LOOPBACK,
            flags: flag::UP | flag::LOOPBACK | flag::RUNNING | flag::LOWER_UP,
            address: [0; 6],
            broadcast: [0; 6],
            longest: 65_536,
        }];
        all.extend(self.wire.map(|wire| Interface {
            number: WIRE,
            name: "eth0",
            hardware: ETHERNET,
            flags: flag::UP | flag::BROADCAST | flag::RUNNING | flag::MULTICAST | flag::LOWER_UP,
            address: wire.mac,
            broadcast: [0xff; 6],
            longest: wire.mtu.into(),
        }));
        all
    }

    /// The interface of a name.
    pub fn named(&self, name: &[u8]) -> Option<Interface> {
        self.all().into_iter().find(|interface| interface.name.as_bytes() == name)
    }

    /// The interface of a number.
    pub fn numbered(&self, number: u32) -> Option<Interface> {
        self.all().into_iter().find(|interface| interface.number == number)
    }

    /// The addresses: those of IPv4 first.
    pub fn addresses(&self) -> Vec<Held> {
        let mut all = alloc::vec![Held { interface: LOOP, ip: Ipv4Addr::LOCALHOST.into(), prefix: 8 }];
        let wire = |ip: IpAddr, prefix: u8| (!ip.is_unspecified()).then_some(Held { interface: WIRE, ip, prefix });
        all.extend(self.wire.and_then(|known| wire(IpAddr::from(known.v4), known.v4_prefix)));
        all.push(Held { interface: LOOP, ip: Ipv6Addr::LOCALHOST.into(), prefix: 128 });
        all.extend(self.wire.and_then(|known| wire(IpAddr::from(known.v6), known.v6_prefix)));
        all
    }

    /// Where packets to other networks go, by version of IP.
    pub fn gateways(&self) -> Vec<IpAddr> {
        let known = |known: Configuration| [IpAddr::from(known.v4_gateway), IpAddr::from(known.v6_gateway)];
        self.wire.map(known).into_iter().flatten().filter(|ip| !ip.is_unspecified()).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A wire as QEMU's network gives it.
    pub fn configuration() -> Configuration {
        Configuration {
            mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
            mtu: 1500,
            v4: [10, 0, 2, 15],
            v4_prefix: 24,
            v4_gateway: [10, 0, 2, 2],
            v6: [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0x12, 0x34, 0x56],
            v6_prefix: 64,
            v6_gateway: [0; 16],
            name_server: [0; 16],
        }
    }

    #[test]
    fn a_network_without_a_wire_has_the_loop_alone() {
        let none = Configuration { mtu: 0, ..configuration() };
        for interfaces in [Interfaces::new(None), Interfaces::new(Some(none))] {
            assert_eq!(interfaces.all().len(), 1);
            assert!(interfaces.addresses().iter().all(|held| held.interface == LOOP));
            assert!(!interfaces.awaits_address() && interfaces.gateways().is_empty());
        }
    }

    #[test]
    fn a_wire_awaits_its_address_until_it_has_one() {
        assert!(!Interfaces::new(Some(configuration())).awaits_address());
        let early = Configuration { v4: [0; 4], v4_gateway: [0; 4], ..configuration() };
        let interfaces = Interfaces::new(Some(early));
        assert!(interfaces.awaits_address() && interfaces.gateways().is_empty());
        assert!(interfaces.addresses().iter().all(|held| held.ip != IpAddr::from([0; 4])));
        let v6_alone = Configuration { v6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5).octets(), ..early };
        assert!(Interfaces::new(Some(v6_alone)).awaits_address());
    }

    #[test]
    fn networks_are_cut_at_the_prefix() {
        let held = Held { interface: WIRE, ip: IpAddr::from([10, 0, 2, 15]), prefix: 24 };
        assert_eq!(held.network(), IpAddr::from([10, 0, 2, 0]));
        assert_eq!(held.broadcast(), Some(Ipv4Addr::new(10, 0, 2, 255)));
        assert!(held.reaches(IpAddr::from([10, 0, 2, 99])) && !held.reaches(IpAddr::from([10, 0, 3, 1])));
        assert_eq!((mask(0), mask(32), mask(8)), (0, u32::MAX, 0xff00_0000));
        assert_eq!(Held { prefix: 32, ..held }.broadcast(), None);
        assert!(!held.reaches(IpAddr::from(Ipv6Addr::LOCALHOST)));
    }
}
