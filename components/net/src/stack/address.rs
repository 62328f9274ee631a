//! Addresses: the interface's (16 bytes, version 4 mapped into version 6) to and from the protocol library's.

use smoltcp::wire::{IpAddress, IpEndpoint, Ipv4Address, Ipv6Address};

use tessera_interfaces::{Address, Family, NetworkError};

/// An address to bind to: none means every address of this machine.
pub type Local = (Option<IpAddress>, u16);

/// ::ffff:0:0/96, RFC 4291 section 2.5.5.2.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// The IP address in an `Address`; none where it is unspecified.
pub fn ip(address: &Address) -> Option<IpAddress> {
    let (head, tail) = address.ip.split_at(12);
    if head == MAPPED {
        let four: [u8; 4] = tail.try_into().unwrap_or_default();
        return (four != [0; 4]).then(|| IpAddress::Ipv4(Ipv4Address::from(four)));
    }
    (address.ip != [0; 16]).then(|| IpAddress::Ipv6(Ipv6Address::from(address.ip)))
}

/// Refuses an address that a socket of this family cannot use.
pub fn check(address: &Address, family: Family) -> Result<(), NetworkError> {
    match (family, ip(address)) {
        (Family::V4, Some(IpAddress::Ipv6(_))) => Err(NetworkError::InvalidArgument),
        _ => Ok(()),
    }
}

/// The 16 bytes of an IP address.
pub fn bytes(ip: IpAddress) -> [u8; 16] {
    match ip {
        IpAddress::Ipv6(six) => six.octets(),
        IpAddress::Ipv4(four) => {
            let mut all = [0; 16];
            let (head, tail) = all.split_at_mut(12);
            head.copy_from_slice(&MAPPED);
            tail.copy_from_slice(&four.octets());
            all
        }
    }
}

/// What a socket of `family` calls an endpoint.
pub fn address(endpoint: IpEndpoint, family: Family) -> Address {
    Address { ip: bytes(endpoint.addr), port: endpoint.port, family }
}

/// What a socket of `family` calls an address it is bound to.
pub fn local(at: Local, family: Family) -> Address {
    let ip = match (at.0, family) {
        (Some(ip), _) => bytes(ip),
        (None, Family::V4) => bytes(IpAddress::Ipv4(Ipv4Address::UNSPECIFIED)),
        (None, Family::V6) => [0; 16],
    };
    Address { ip, port: at.1, family }
}

/// Whether an address names this machine to itself: 127.0.0.0/8 or ::1.
pub fn is_loopback(ip: &IpAddress) -> bool {
    match ip {
        IpAddress::Ipv4(four) => four.is_loopback(),
        IpAddress::Ipv6(six) => six.is_loopback(),
    }
}

/// Whether an address is one that many hear.
pub fn is_many(ip: &IpAddress) -> bool {
    ip.is_broadcast() || ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_four_survives_the_mapping() {
        let endpoint = IpEndpoint::new(IpAddress::v4(10, 0, 2, 15), 80);
        let there = address(endpoint, Family::V4);
        assert_eq!(ip(&there), Some(endpoint.addr));
        assert_eq!(there.port, 80);
    }

    #[test]
    fn unspecified_addresses_of_both_families_are_none() {
        assert_eq!(ip(&local((None, 1), Family::V4)), None);
        assert_eq!(ip(&local((None, 1), Family::V6)), None);
    }

    #[test]
    fn a_version_four_socket_refuses_a_version_six_address() {
        let six = address(IpEndpoint::new(IpAddress::v6(0xfe80, 0, 0, 0, 0, 0, 0, 1), 1), Family::V6);
        assert_eq!(check(&six, Family::V4), Err(NetworkError::InvalidArgument));
        assert_eq!(check(&six, Family::V6), Ok(()));
    }
}
