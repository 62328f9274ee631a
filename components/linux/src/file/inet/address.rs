//! Addresses of sockets as programs write and read them (ip(7), ipv6(7)). What a program writes is looked at here alone: too few bytes and
//! other families are refused.

use alloc::vec::Vec;

use tessera_interfaces::{Address, Family};

use super::InetSocket;
use crate::errno::{Errno, Result};
use crate::file::socket::{AF_INET, AF_INET6, AF_UNSPEC, family};

impl InetSocket {
    /// An address as programs write it: `struct sockaddr_in` or `sockaddr_in6`.
    pub(super) fn address(&self, bytes: &[u8]) -> Result<Address> {
        let wanted = family(bytes)?;
        let port = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).map(|port| u16::from_be_bytes(*port));
        match (wanted, self.family) {
            (AF_INET, _) | (AF_UNSPEC, AF_INET) if bytes.len() >= 16 => {
                if self.family == AF_INET6 {
                    return Err(Errno::EAFNOSUPPORT);
                }
                let v4: [u8; 4] = *bytes.get(4..).and_then(<[u8]>::first_chunk).ok_or(Errno::EINVAL)?;
                Ok(Address { ip: mapped(v4), port: port(2).ok_or(Errno::EINVAL)?, family: Family::V4 })
            }
            (AF_INET6, AF_INET6) if bytes.len() >= 24 => {
                let ip = *bytes.get(8..).and_then(<[u8]>::first_chunk).ok_or(Errno::EINVAL)?;
                Ok(Address { ip, port: port(2).ok_or(Errno::EINVAL)?, family: Family::V6 })
            }
            (AF_INET | AF_INET6, _) if wanted == self.family => Err(Errno::EINVAL),
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// An address as programs read it.
    pub(super) fn bytes_of(&self, address: &Address) -> Vec<u8> {
        written(self.family, address)
    }

    pub(super) fn any(&self) -> Address {
        let family = if self.family == AF_INET { Family::V4 } else { Family::V6 };
        Address { ip: if self.family == AF_INET { mapped([0; 4]) } else { [0; 16] }, port: 0, family }
    }
}

/// `struct sockaddr_in` or `sockaddr_in6`, as the family says.
fn written(family: u16, address: &Address) -> Vec<u8> {
    let ([a, b], [c, d]) = (family.to_ne_bytes(), address.port.to_be_bytes());
    if family == AF_INET {
        let [.., e, f, g, h] = address.ip;
        return [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0].into();
    }
    let mut bytes = [0; 28];
    let (head, rest) = bytes.split_at_mut(8);
    head.copy_from_slice(&[a, b, c, d, 0, 0, 0, 0]);
    for (byte, of_address) in rest.iter_mut().zip(address.ip) {
        *byte = of_address;
    }
    bytes.into()
}

/// An IPv4 address as one of IPv6.
fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_their_manual_pages_say() {
        let four = Address { ip: mapped([10, 0, 2, 15]), port: 0x1234, family: Family::V4 };
        assert_eq!(written(AF_INET, &four), [2, 0, 0x12, 0x34, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 0, 0]);
        let ip = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        let six = written(AF_INET6, &Address { ip, port: 80, family: Family::V6 });
        // The family, the port, no flow, the address, no scope.
        assert_eq!((six.len(), &six[..8], &six[24..]), (28, &[10, 0, 0, 80, 0, 0, 0, 0][..], &[0; 4][..]));
        assert_eq!(six[8..24], ip);
    }
}
