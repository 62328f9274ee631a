//! What a connection is known by: the addresses and ports of both sides.

use smoltcp::wire::{IpAddress, IpEndpoint};

/// Both ends of a connection, in the order in which they are searched: all connections of a local port lie together.
pub type Ends = (Ports, IpEndpoint, IpEndpoint);

/// The local port, and below it the remote one: two connections differ there as a rule, so that hardly any search compares addresses.
type Ports = u32;

pub fn ends(local: IpEndpoint, remote: IpEndpoint) -> Ends {
    (u32::from(local.port) << 16 | u32::from(remote.port), local, remote)
}

/// Where the connections of a local port begin in the order of their ends.
pub fn first_of(port: u16) -> Ends {
    let lowest = IpEndpoint::new(IpAddress::v4(0, 0, 0, 0), 0);
    (u32::from(port) << 16, lowest, lowest)
}
