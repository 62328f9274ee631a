//! Multicast groups that a socket has joined: ip(7), ipv6(7). They are kept as the program says; what is sent to a group by the wire is not
//! received, as the network passes none on.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::interfaces::Interfaces;
use super::{IP, IPV6};
use crate::errno::{Errno, Result};
use crate::file::socket::{AF_INET, AF_INET6, family, word};

/// Options that join and leave: those of one version of IP, and those of either.
const JOIN_4: i32 = 35;
const LEAVE_4: i32 = 36;
const JOIN_6: i32 = 20;
const LEAVE_6: i32 = 21;
const JOIN: i32 = 42;
const LEAVE: i32 = 45;
/// Most groups of a socket (`igmp_max_memberships`).
const MOST: usize = 20;

/// What a socket has joined: groups, by the interface that was said (0: any).
pub type Groups = Vec<(u32, IpAddr)>;

/// A change of the groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    joins: bool,
    interface: u32,
    group: IpAddr,
}

fn address(bytes: &[u8], at: usize, version: u16) -> Option<IpAddr> {
    let rest = bytes.get(at..)?;
    match version {
        AF_INET => rest.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        _ => rest.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
    }
}

/// What an option says to change; none: it is not one of these.
///
/// # Errors
/// `EINVAL`: the value is too short, or no group.
pub fn change(level: i32, name: i32, bytes: &[u8]) -> Option<Result<Change>> {
    let (joins, parsed) = match (level, name) {
        // `struct ip_mreq`, with an address of an interface that is passed over, or `struct ip_mreqn`.
        (IP, JOIN_4 | LEAVE_4) => {
            let group = address(bytes, 0, AF_INET).filter(|_| bytes.len() >= 8);
            (name == JOIN_4, group.map(|group| (word(bytes, 8).unwrap_or(0), group)))
        }
        // `struct ipv6_mreq`.
        (IPV6, JOIN_6 | LEAVE_6) => (name == JOIN_6, word(bytes, 16).zip(address(bytes, 0, AF_INET6))),
        // `struct group_req`: a number, and an address as large as any.
        (IP | IPV6, JOIN | LEAVE) => {
            const WHOLE: usize = 136;
            let version = if level == IP { AF_INET } else { AF_INET6 };
            let rest = bytes.get(8..).filter(|_| bytes.len() >= WHOLE).unwrap_or_default();
            let is_it = family(rest) == Ok(version);
            let group = address(rest, if level == IP { 4 } else { 8 }, version).filter(|_| is_it);
            (name == JOIN, word(bytes, 0).zip(group))
        }
        _ => return None,
    };
    let parsed = parsed.filter(|(_, group)| group.is_multicast());
    Some(parsed.map(|(interface, group)| Change { joins, interface, group }).ok_or(Errno::EINVAL))
}

/// Makes a change.
///
/// # Errors
/// `EADDRINUSE`: it is a member. `EADDRNOTAVAIL`: it is none. `ENODEV`: there is no such interface. `ENOBUFS`: too many.
pub fn make(groups: &mut Groups, change: Change, interfaces: &Interfaces) -> Result<()> {
    let known = groups.iter().position(|(interface, group)| {
        *group == change.group && (change.interface == 0 || *interface == change.interface)
    });
    if !change.joins {
        groups.swap_remove(known.ok_or(Errno::EADDRNOTAVAIL)?);
        return Ok(());
    }
    if change.interface != 0 && interfaces.numbered(change.interface).is_none() {
        return Err(Errno::ENODEV);
    }
    match known {
        Some(_) => Err(Errno::EADDRINUSE),
        None if groups.len() >= MOST => Err(Errno::ENOBUFS),
        None => {
            groups.push((change.interface, change.group));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_joined_once_and_left_once() {
        let (mut groups, none) = (Groups::new(), Interfaces::new(None));
        let join = change(IP, JOIN_4, &[224, 0, 0, 5, 0, 0, 0, 0]).unwrap().unwrap();
        let leave = change(IP, LEAVE_4, &[224, 0, 0, 5, 0, 0, 0, 0]).unwrap().unwrap();
        assert_eq!(make(&mut groups, leave, &none), Err(Errno::EADDRNOTAVAIL));
        assert_eq!(make(&mut groups, join, &none), Ok(()));
        assert_eq!(make(&mut groups, join, &none), Err(Errno::EADDRINUSE));
        assert_eq!(make(&mut groups, leave, &none), Ok(()));
        assert!(groups.is_empty());
        assert_eq!(make(&mut groups, Change { interface: 9, ..join }, &none), Err(Errno::ENODEV));
        for last in 0..MOST as u8 {
            let group = IpAddr::from([239, 0, 0, last]);
            assert_eq!(make(&mut groups, Change { group, ..join }, &none), Ok(()));
        }
        assert_eq!(make(&mut groups, join, &none), Err(Errno::ENOBUFS));
    }

    #[test]
    fn what_is_no_group_is_refused() {
        let mut request = [0; 136];
        (request[8], request[12]) = (AF_INET as u8, 224);
        assert!(change(IP, JOIN, &request).unwrap().is_ok());
        assert_eq!(change(IP, JOIN, &request[..135]), Some(Err(Errno::EINVAL)));
        assert_eq!(change(IPV6, JOIN, &request), Some(Err(Errno::EINVAL)));
        assert_eq!(change(IP, JOIN_4, &[10, 0, 0, 1, 0, 0, 0, 0]), Some(Err(Errno::EINVAL)));
        assert_eq!(change(IP, JOIN_4, &[224, 0, 0, 1]), Some(Err(Errno::EINVAL)));
        assert_eq!(change(IPV6, JOIN_6, &[0xff; 16]), Some(Err(Errno::EINVAL)));
        assert!(change(IPV6, JOIN_6, &[[0xff; 16].as_slice(), &[0; 4]].concat()).unwrap().is_ok());
        assert_eq!(change(IP, 2, &[]), None);
    }
}
