//! What a client may speak to: rules that the image gives for it. Who has none may speak to everybody.
//!
//! A rule is `PROTOCOL:ADDRESS[/BITS]:PORT`, with `*` for any of the three: `tcp:10.0.2.2:5432`, `udp:*:53`, `*:10.0.0.0/8:*`. An IPv6
//! address stands in brackets. What a machine says to itself, and answers to whoever spoke first, needs no rule.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use smoltcp::wire::{IpAddress, IpCidr, Ipv4Address, Ipv6Address};
use tessera_interfaces::{Address, Family};

use crate::stack::Protocol;

/// The rules for one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// If there are any, nothing else may be spoken to.
    only: Vec<Rule>,
    /// What may not be spoken to in any case.
    never: Vec<Rule>,
}

/// What is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    text: String,
    protocol: Option<Protocol>,
    network: Option<IpCidr>,
    port: Option<u16>,
}

/// A rule that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRule;

impl FromStr for Rule {
    type Err = NoRule;

    fn from_str(text: &str) -> Result<Rule, NoRule> {
        let (protocol, rest) = text.split_once(':').ok_or(NoRule)?;
        let (network, port) = rest.rsplit_once(':').ok_or(NoRule)?;
        let protocol = match protocol {
            "*" => None,
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            "icmp" => Some(Protocol::Icmp),
            _ => return Err(NoRule),
        };
        let network = if network == "*" { None } else { Some(read_network(network)?) };
        let port = if port == "*" { None } else { Some(port.parse().map_err(|_| NoRule)?) };
        Ok(Rule { text: text.into(), protocol, network, port })
    }
}

fn read_network(text: &str) -> Result<IpCidr, NoRule> {
    let (address, bits) = match text.rsplit_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let (address, longest): (IpAddress, u8) = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => (inside.parse::<Ipv6Address>().map_err(|_| NoRule)?.into(), 128),
        None => (address.parse::<Ipv4Address>().map_err(|_| NoRule)?.into(), 32),
    };
    let bits = bits.map_or(Ok(longest), str::parse).ok().filter(|bits| *bits <= longest).ok_or(NoRule)?;
    Ok(IpCidr::new(address, bits))
}

/// The address as IP has it: one of IPv4 may be written as one of IPv6.
fn ip(address: &Address) -> IpAddress {
    let v6 = Ipv6Address::from(address.ip);
    match v6.to_ipv4_mapped() {
        Some(v4) => v4.into(),
        None if address.family == Family::V4 => Ipv4Address::UNSPECIFIED.into(),
        None => v6.into(),
    }
}

impl Rule {
    fn covers(&self, protocol: Protocol, ip: IpAddress, port: u16) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.network.is_none_or(|network| network.contains_addr(&ip))
            && (protocol == Protocol::Icmp || self.port.is_none_or(|wanted| wanted == port))
    }
}

impl Rules {
    /// Reads two lists of rules, each separated by commas.
    pub fn read(only: Option<&str>, never: Option<&str>) -> Result<Rules, NoRule> {
        let list = |text: Option<&str>| match text {
            Some(text) => text.split(',').map(str::parse).collect(),
            None => Ok(Vec::new()),
        };
        Ok(Rules { only: list(only)?, never: list(never)? })
    }

    /// Those of a client that may speak to nobody.
    pub fn nobody() -> Rules {
        let all = Rule { text: "*:*:*".into(), protocol: None, network: None, port: None };
        Rules { only: Vec::new(), never: alloc::vec![all] }
    }

    /// Whether there are any.
    pub fn are_none(&self) -> bool {
        self.only.is_empty() && self.never.is_empty()
    }

    /// Whether a client may speak to an address.
    ///
    /// # Errors
    /// The reason why not.
    pub fn check(&self, protocol: Protocol, to: &Address) -> Result<(), Denied<'_>> {
        let ip = ip(to);
        let own = match ip {
            IpAddress::Ipv4(v4) => v4.is_loopback() || v4.is_unspecified(),
            IpAddress::Ipv6(v6) => v6.is_loopback() || v6.is_unspecified(),
        };
        let covers = |rule: &&Rule| rule.covers(protocol, ip, to.port);
        if own {
            Ok(())
        } else if let Some(rule) = self.never.iter().find(covers) {
            Err(Denied::By(rule))
        } else if self.only.is_empty() || self.only.iter().any(|rule| covers(&rule)) {
            Ok(())
        } else {
            Err(Denied::ByNone)
        }
    }
}

/// Why something is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied<'a> {
    /// A rule forbids it.
    By(&'a Rule),
    /// There are rules that allow something, and none covers it.
    ByNone,
}

impl fmt::Display for Denied<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::By(rule) => write!(formatter, "the rule `deny {}` forbids it", rule.text),
            Denied::ByNone => write!(formatter, "no rule allows it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(ip: [u8; 4], port: u16) -> Address {
        let mut bytes = [0; 16];
        bytes[10..12].fill(0xff);
        bytes[12..].copy_from_slice(&ip);
        Address { ip: bytes, port, family: Family::V4 }
    }

    fn to_v6(text: &str, port: u16) -> Address {
        Address { ip: text.parse::<Ipv6Address>().unwrap().octets(), port, family: Family::V6 }
    }

    #[test]
    fn without_rules_everything_may_be_spoken_to() {
        let rules = Rules::read(None, None).unwrap();
        assert!(rules.are_none());
        assert_eq!(rules.check(Protocol::Tcp, &to([8, 8, 8, 8], 53)), Ok(()));
    }

    #[test]
    fn what_is_allowed_is_all_that_is() {
        let rules = Rules::read(Some("tcp:10.0.2.2:5432,udp:*:53,*:[fd00::]/8:*"), None).unwrap();
        for (protocol, address, may) in [
            (Protocol::Tcp, to([10, 0, 2, 2], 5432), true),
            (Protocol::Tcp, to([10, 0, 2, 2], 5433), false),
            (Protocol::Tcp, to([10, 0, 2, 3], 5432), false),
            (Protocol::Udp, to([10, 0, 2, 2], 5432), false),
            (Protocol::Udp, to([1, 1, 1, 1], 53), true),
            (Protocol::Icmp, to([10, 0, 2, 2], 0), false),
            (Protocol::Tcp, to([127, 0, 0, 1], 80), true),
            (Protocol::Tcp, to_v6("::1", 80), true),
            (Protocol::Icmp, to_v6("fd00::7", 0), true),
            (Protocol::Tcp, to_v6("fe00::7", 80), false),
            // An address of IPv4 in the clothes of IPv6 is what it is.
            (Protocol::Tcp, Address { family: Family::V6, ..to([10, 0, 2, 3], 80) }, false),
            (Protocol::Tcp, Address { family: Family::V6, ..to([10, 0, 2, 2], 5432) }, true),
        ] {
            assert_eq!(rules.check(protocol, &address).is_ok(), may, "{protocol:?} {address:?}");
        }
    }

    #[test]
    fn what_is_denied_is_denied_even_if_it_is_allowed() {
        let rules = Rules::read(Some("tcp:*:*"), Some("*:10.0.0.0/8:*")).unwrap();
        assert_eq!(rules.check(Protocol::Tcp, &to([9, 0, 0, 1], 1)), Ok(()));
        let denied = rules.check(Protocol::Tcp, &to([10, 200, 0, 1], 1)).unwrap_err();
        assert_eq!(alloc::format!("{denied}"), "the rule `deny *:10.0.0.0/8:*` forbids it");
        assert_eq!(rules.check(Protocol::Udp, &to([9, 0, 0, 1], 1)), Err(Denied::ByNone));
        let rules = Rules::read(None, Some("tcp:*:25")).unwrap();
        assert!(rules.check(Protocol::Tcp, &to([9, 0, 0, 1], 25)).is_err());
        assert!(rules.check(Protocol::Tcp, &to([9, 0, 0, 1], 26)).is_ok());
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in [
            "",
            "tcp",
            "tcp:1.2.3.4",
            "sctp:*:1",
            "tcp:db:5432",
            "tcp:1.2.3.4/33:1",
            "tcp:*:70000",
            "tcp:::1:80",
            "tcp:[::1]/129:1",
        ] {
            assert_eq!(Rules::read(Some(text), None), Err(NoRule), "{text}");
        }
    }
}
