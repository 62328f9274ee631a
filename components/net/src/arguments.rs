//! What the image says to the component.

use core::str::FromStr;

use smoltcp::wire::{Ipv4Address, Ipv4Cidr};
use tessera_interfaces::readiness;
use tessera_runtime::abi::PAGE;
use tessera_runtime::component::{Context, StartError};
use tessera_runtime::own;

use crate::stack::{Limits, Source, Static};

/// Bytes of the domain's memory for each frame that is shared with the device, if nothing is said.
const BUFFERS_OF: u64 = 128 << 10;

/// All arguments, read.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    pub source: Source,
    pub limits: Limits,
    pub buffers: u32,
}

impl Arguments {
    /// Reads them; one that cannot be read is told of, with what was expected.
    pub fn read(context: &Context) -> Result<Arguments, StartError> {
        let source = match context.argument("address") {
            Some(text) => Source::Given(Static {
                address: address(text)?,
                gateway: context.argument("gateway").map(ip).transpose()?,
                name_server: context.argument("dns").map(ip).transpose()?,
            }),
            None => Source::Asked(context.argument("fallback").map(fallback).transpose()?),
        };
        let most = readiness::CAPACITY as u32 - 1;
        let memory = own::pool().usage(0).map_or(0, |usage| usage.quota.saturating_mul(PAGE));
        let mut limits =
            Limits { sockets: context.parsed("sockets", most)?.min(most), bytes: context.parsed("bytes", 16 << 20)? };
        limits.bytes = limits.bytes.min(memory / 2);
        let buffers = context.parsed("buffers", (memory / BUFFERS_OF).clamp(64, 512) as u32)?;
        if !(16..=4096).contains(&buffers) {
            return Err(StartError::new(format_args!("buffers={buffers}: must be between 16 and 4096")));
        }
        Ok(Arguments { source, limits, buffers })
    }
}

/// What a client may hold of the memory that buffers come from, in bytes: half of what is left, and in a small machine a quarter. Asked when the
/// client begins: it may have set memory aside, if it lives in the same domain.
pub fn allowance() -> u64 {
    let usage = own::heap_pool().usage(0);
    let free = usage.map_or(0, |usage| usage.quota.saturating_sub(usage.used).saturating_mul(PAGE));
    (free / 2).saturating_sub((free / 4).min(1 << 20))
}

fn fallback(text: &str) -> Result<Static, StartError> {
    let mut parts = text.split(',');
    Ok(Static {
        address: address(parts.next().unwrap_or_default())?,
        gateway: parts.next().map(ip).transpose()?,
        name_server: parts.next().map(ip).transpose()?,
    })
}

fn ip(text: &str) -> Result<Ipv4Address, StartError> {
    Ipv4Address::from_str(text).map_err(|_| StartError::new(format_args!("{text} is no IPv4 address")))
}

fn address(text: &str) -> Result<Ipv4Cidr, StartError> {
    let wrong = || StartError::new(format_args!("{text} is no address with the bits of its network, as 10.0.2.15/24"));
    let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
    let bits = bits.parse().ok().filter(|bits| *bits <= 32).ok_or_else(wrong)?;
    let address = ip(address)?;
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
        return Err(wrong());
    }
    Ok(Ipv4Cidr::new(address, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_can_be_given_or_fallen_back_on() {
        let given = ["address=10.0.2.15/24", "gateway=10.0.2.2", "sockets=100000", "bytes=5"];
        let arguments = Arguments::read(&Context::fake("net", &given)).unwrap();
        let expected = Static {
            address: Ipv4Cidr::new(Ipv4Address::new(10, 0, 2, 15), 24),
            gateway: Some(Ipv4Address::new(10, 0, 2, 2)),
            name_server: None,
        };
        assert_eq!(arguments.source, Source::Given(expected));
        assert_eq!((arguments.limits.sockets, arguments.limits.bytes), (8191, 5));
        let arguments = Arguments::read(&Context::fake("net", &["fallback=10.0.2.15/24,10.0.2.2"])).unwrap();
        assert_eq!(arguments.source, Source::Asked(Some(expected)));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let wrong = [
            "address=10.0.2.15",
            "address=10.0.2.15/33",
            "address=x/24",
            "address=224.0.0.1/8",
            "fallback=",
            "fallback=1.2.3.4/8,x",
            "sockets=many",
            "buffers=1",
        ];
        for text in wrong {
            assert!(Arguments::read(&Context::fake("net", &[text])).is_err(), "{text}");
        }
    }
}
