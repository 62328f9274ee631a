//! What any socket tells of the network's interfaces (netdevice(7)): the loop, and the one that the container was given.

use crate::errno::{Errno, Result};
use crate::task::Context;

/// Bytes of a `struct ifreq`, and of the name in it.
const REQUEST: usize = 40;
const NAME: usize = 16;

/// An interface: its number, name, flags (`IFF_UP | IFF_RUNNING` and what it is) and the longest packet.
struct Interface {
    number: u32,
    name: &'static [u8],
    flags: u16,
    longest: u32,
}

const LOOP: Interface = Interface { number: 1, name: b"lo", flags: 0x49, longest: 65_536 };
const WIRE: Interface = Interface { number: 2, name: b"eth0", flags: 0x1043, longest: 1500 };

/// Whether a request of `ioctl` is one of these.
pub fn is_known(request: u32) -> bool {
    matches!(request, NAME_OF | FLAGS | SET_FLAGS | AT_MARK | ADDRESS | MASK | LONGEST | NUMBER_OF | LIST)
}

const NAME_OF: u32 = 0x8910;
const LIST: u32 = 0x8912;
const FLAGS: u32 = 0x8913;
const SET_FLAGS: u32 = 0x8914;
const ADDRESS: u32 = 0x8915;
const AT_MARK: u32 = 0x8905;
const MASK: u32 = 0x891b;
const LONGEST: u32 = 0x8921;
const NUMBER_OF: u32 = 0x8933;

/// A `struct sockaddr_in` of an address.
fn address(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [2, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]
}

pub fn control(context: &mut Context, request: u32, argument: u64) -> Result<u64> {
    let interfaces: &[Interface] = if context.system.inet.is_some() { &[LOOP, WIRE] } else { &[LOOP] };
    if request == LIST {
        return list(context, argument);
    }
    if request == AT_MARK {
        // Nothing urgent is passed on.
        return context.write_u32(argument, 0).map(|()| 0);
    }
    let asked: [u8; REQUEST] = context.read_array(argument)?;
    let (name, value) = asked.split_at(NAME);
    let by_name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let found = if request == NAME_OF {
        let number = value.first_chunk().map_or(0, |number| u32::from_ne_bytes(*number));
        interfaces.iter().find(|interface| interface.number == number)
    } else {
        interfaces.iter().find(|interface| interface.name == by_name)
    };
    let found = found.ok_or(Errno::ENODEV)?;
    if request == SET_FLAGS {
        return Err(Errno::EPERM);
    }
    let at = argument.wrapping_add(NAME as u64);
    match request {
        NAME_OF => {
            let mut name = [0; NAME];
            for (to, from) in name.iter_mut().zip(found.name) {
                *to = *from;
            }
            context.write_bytes(argument, &name)?;
        }
        NUMBER_OF => context.write_u32(at, found.number)?,
        FLAGS => context.write_bytes(at, &found.flags.to_ne_bytes())?,
        LONGEST => context.write_u32(at, found.longest)?,
        // The wire's address is the network's affair, which tells it to connected sockets.
        ADDRESS | MASK if found.number != LOOP.number => return Err(Errno::EADDRNOTAVAIL),
        ADDRESS => context.write_bytes(at, &address([127, 0, 0, 1]))?,
        _ => context.write_bytes(at, &address([255, 0, 0, 0]))?,
    }
    Ok(0)
}

/// `SIOCGIFCONF`: the interfaces with an address that is known.
fn list(context: &mut Context, argument: u64) -> Result<u64> {
    let [length, at] = context.read_words(argument)?;
    let mut entry = [0; REQUEST];
    let parts = LOOP.name.iter().chain(&[0; NAME]).take(NAME);
    for (to, from) in entry.iter_mut().zip(parts.copied().chain(address([127, 0, 0, 1]))) {
        *to = from;
    }
    let fits = at == 0 || length as u32 as usize >= REQUEST;
    if fits && at != 0 {
        context.write_bytes(at, &entry)?;
    }
    context.write_u32(argument, if fits { REQUEST as u32 } else { 0 }).map(|()| 0)
}
