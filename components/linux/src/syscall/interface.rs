//! What any socket tells of the network's interfaces (netdevice(7)). Nothing of them can be changed.

use core::net::{IpAddr, Ipv4Addr};

use crate::errno::{Errno, Result};
use crate::file::inet::interfaces::{Interface, Interfaces, await_address, mask};
use crate::file::socket::{SOCK_STREAM, Socket};
use crate::task::Context;

/// Bytes of a `struct ifreq`, and of the name in it.
const REQUEST: usize = 40;
const NAME: usize = 16;

const AT_MARK: u32 = 0x8905;
const NAME_OF: u32 = 0x8910;
const LIST: u32 = 0x8912;
const FLAGS: u32 = 0x8913;
const ADDRESS: u32 = 0x8915;
const OTHER_SIDE: u32 = 0x8917;
const BROADCAST: u32 = 0x8919;
const MASK: u32 = 0x891b;
const METRIC: u32 = 0x891d;
const LONGEST: u32 = 0x8921;
const HARDWARE: u32 = 0x8927;
const NUMBER_OF: u32 = 0x8933;
const QUEUE: u32 = 0x8942;
const MAP: u32 = 0x8970;
/// Those that change something: flags, addresses, metric, longest packet, name, hardware address, queue, routes.
const CHANGES: [u32; 14] =
    [0x890b, 0x890c, 0x8914, 0x8916, 0x8918, 0x891a, 0x891c, 0x891e, 0x8922, 0x8923, 0x8924, 0x8937, 0x8943, 0x8971];

/// Whether a request of `ioctl` is one of these.
pub fn is_known(request: u32) -> bool {
    let tells = matches!(
        request,
        AT_MARK | NAME_OF | LIST | FLAGS | ADDRESS | OTHER_SIDE | BROADCAST | MASK | METRIC | LONGEST | HARDWARE
    );
    tells || matches!(request, NUMBER_OF | QUEUE | MAP) || CHANGES.contains(&request)
}

/// A `struct sockaddr_in` of an address.
fn address(address: Ipv4Addr) -> [u8; 16] {
    let [a, b, c, d] = address.octets();
    [2, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// The IPv4 address of an interface, with the bits of it that name the network.
fn v4_of(interfaces: &Interfaces, interface: &Interface) -> Option<(Ipv4Addr, u8)> {
    interfaces.addresses().into_iter().find_map(|held| match held.ip {
        IpAddr::V4(ip) if held.interface == interface.number => Some((ip, held.prefix)),
        _ => None,
    })
}

/// The name, with zeros behind it.
fn name_of(interface: &Interface) -> [u8; NAME] {
    let mut name = [0; NAME];
    for (to, from) in name.iter_mut().zip(interface.name.bytes()) {
        *to = from;
    }
    name
}

pub fn control(context: &mut Context, socket: &dyn Socket, request: u32, argument: u64) -> Result<u64> {
    if request == AT_MARK {
        // Streams have a mark; nothing urgent is passed on.
        if socket.shape().1 != SOCK_STREAM {
            return Err(Errno::ENOTTY);
        }
        return context.write_u32(argument, 0).map(|()| 0);
    }
    let system = context.system.clone();
    if let (LIST | ADDRESS | OTHER_SIDE | BROADCAST | MASK, Some(inet)) = (request, &system.inet) {
        await_address(context, inet)?;
    }
    let interfaces = Interfaces::of(system.inet.as_deref());
    if request == LIST {
        return list(context, argument, &interfaces);
    }
    let asked: [u8; REQUEST] = context.read_array(argument)?;
    if CHANGES.contains(&request) {
        return Err(Errno::EPERM);
    }
    let (name, value) = asked.split_at(NAME);
    let found = if request == NAME_OF {
        interfaces.numbered(value.first_chunk().map_or(0, |number| u32::from_ne_bytes(*number)))
    } else {
        interfaces.named(name.split(|byte| *byte == 0).next().unwrap_or_default())
    };
    let found = found.ok_or(Errno::ENODEV)?;
    let at = argument.wrapping_add(NAME as u64);
    let v4 = || v4_of(&interfaces, &found).ok_or(Errno::EADDRNOTAVAIL);
    match request {
        NAME_OF => context.write_bytes(argument, &name_of(&found))?,
        NUMBER_OF => context.write_u32(at, found.number)?,
        FLAGS => context.write_bytes(at, &(found.flags as u16).to_ne_bytes())?,
        LONGEST => context.write_u32(at, found.longest)?,
        METRIC => context.write_u32(at, 0)?,
        QUEUE => context.write_u32(at, 1000)?,
        MAP => context.write_bytes(at, &[0; 24])?,
        HARDWARE => {
            context.write_bytes(at, &[&found.hardware.to_ne_bytes()[..], &found.address, &[0; 8]].concat())?;
        }
        ADDRESS | OTHER_SIDE => context.write_bytes(at, &address(v4()?.0))?,
        MASK => context.write_bytes(at, &address(Ipv4Addr::from_bits(mask(v4()?.1))))?,
        _ => {
            let (ip, prefix) = v4()?;
            let all = if ip.is_loopback() { 0 } else { ip.to_bits() | !mask(prefix) };
            context.write_bytes(at, &address(Ipv4Addr::from_bits(all)))?;
        }
    }
    Ok(0)
}

/// `SIOCGIFCONF`: the interfaces that have an IPv4 address.
fn list(context: &mut Context, argument: u64, interfaces: &Interfaces) -> Result<u64> {
    let [length, at] = context.read_words(argument)?;
    let all = interfaces.all();
    let held = all.iter().filter_map(|interface| Some((interface, v4_of(interfaces, interface)?.0)));
    let entries = held.map(|(interface, ip)| [&name_of(interface)[..], &address(ip), &[0; 8]].concat());
    let room = if at == 0 { usize::MAX } else { length as u32 as usize };
    let bytes: alloc::vec::Vec<u8> = entries.take(room / REQUEST).flatten().collect();
    if at != 0 {
        context.write_bytes(at, &bytes)?;
    }
    context.write_u32(argument, bytes.len() as u32).map(|()| 0)
}
