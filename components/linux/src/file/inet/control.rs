//! What is told of a datagram beside its bytes, and may be said of one: ip(7), ipv6(7), RFC 3542, and the time of socket(7).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use tessera_interfaces::{Failure, Message};

use super::{IP, IPV6};
use crate::errno::{Errno, Result};
use crate::file::socket::{AF_INET, AF_INET6, number, option};

/// Level, kind and data of a control message.
pub type Told = (i32, i32, Vec<u8>);

/// Kinds by which a message that is sent says how many routers it may pass: `IP_TTL`, `IPV6_HOPLIMIT` and its older number.
pub const HOPS: [(i32, i32); 3] = [(IP, TIME_TO_LIVE), (IPV6, HOP_LIMIT), (IPV6, HOP_LIMIT_2292)];
/// Kinds by which it says its traffic class: `IP_TOS`, `IPV6_TCLASS`.
pub const CLASSES: [(i32, i32); 2] = [(IP, SERVICE), (IPV6, TRAFFIC_CLASS)];

const SERVICE: i32 = 1;
const TIME_TO_LIVE: i32 = 2;
const PACKET_INFORMATION: i32 = 8;
const RECEIVE_TIME_TO_LIVE: i32 = 12;
pub const RECEIVE_ERRORS: i32 = 11;
const RECEIVE_SERVICE: i32 = 13;

/// Where a datagram was sent to: `IP_RECVORIGDSTADDR` and `IPV6_RECVORIGDSTADDR`, and what they tell.
const ORIGINAL: i32 = 20;
const ORIGINAL_6: i32 = 74;

const HOP_LIMIT_2292: i32 = 8;
pub const RECEIVE_ERRORS_6: i32 = 25;
const RECEIVE_INFORMATION_6: i32 = 49;
const INFORMATION_6: i32 = 50;
const RECEIVE_HOP_LIMIT: i32 = 51;
const HOP_LIMIT: i32 = 52;
const RECEIVE_TRAFFIC_CLASS: i32 = 66;
const TRAFFIC_CLASS: i32 = 67;

/// The numbers of the loopback link and of the wire, as [`crate::syscall::interface`] has them.
const LOOPBACK: i32 = 1;
const WIRE: i32 = 2;

const SECOND: i64 = 1_000_000_000;
/// `SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE`
const SOFTWARE: i32 = 0x18;

/// A hop limit or traffic class that a message is sent with; none, which is -1: as the socket says.
///
/// # Errors
/// `EINVAL`: it is no number, or none of 0 to 255.
pub fn mark(data: &[u8]) -> Result<Option<u8>> {
    let wanted = match data {
        // A type of service may be one byte.
        [byte] => i32::from(*byte),
        data => number(data)?,
    };
    match wanted {
        -1 => Ok(None),
        wanted => u8::try_from(wanted).map(Some).map_err(|_| Errno::EINVAL),
    }
}

/// What the options of a socket ask to be told.
#[derive(Clone, Copy, Default)]
pub struct Asked {
    nanoseconds: bool,
    microseconds: bool,
    three_times: bool,
    information: bool,
    hops: bool,
    class: bool,
    information_6: bool,
    hops_6: bool,
    hops_2292: bool,
    class_6: bool,
    lost: bool,
    original: bool,
    original_6: bool,
}

impl Asked {
    /// Reads the options that a socket keeps, by level and name.
    pub fn of(kept: &BTreeMap<(i32, i32), Vec<u8>>) -> Asked {
        if kept.is_empty() {
            return Asked::default();
        }
        let value = |level: i32, name: i32| match kept.get(&(level, name)).map(Vec::as_slice) {
            Some([byte]) => i32::from(*byte),
            Some(kept) => number(kept).unwrap_or(0),
            None => 0,
        };
        let is_set = |level: i32, name: i32| value(level, name) != 0;
        Asked {
            nanoseconds: is_set(option::LEVEL, option::TIMESTAMP_NANOSECONDS),
            microseconds: is_set(option::LEVEL, option::TIMESTAMP),
            three_times: value(option::LEVEL, option::TIMESTAMPING) & SOFTWARE == SOFTWARE,
            information: is_set(IP, PACKET_INFORMATION),
            hops: is_set(IP, RECEIVE_TIME_TO_LIVE),
            class: is_set(IP, RECEIVE_SERVICE),
            information_6: is_set(IPV6, RECEIVE_INFORMATION_6),
            hops_6: is_set(IPV6, RECEIVE_HOP_LIMIT),
            hops_2292: is_set(IPV6, HOP_LIMIT_2292),
            class_6: is_set(IPV6, RECEIVE_TRAFFIC_CLASS),
            lost: is_set(option::LEVEL, option::LOST),
            original: is_set(IP, ORIGINAL),
            original_6: is_set(IPV6, ORIGINAL_6),
        }
    }

    pub fn is_nothing(self) -> bool {
        let Asked { nanoseconds, microseconds, three_times, information, hops, class, .. } = self;
        let Asked { information_6, hops_6, hops_2292, class_6, lost, .. } = self;
        let of_v6 = [information_6, hops_6, hops_2292, class_6, self.wants_port()];
        ![nanoseconds, microseconds, three_times, information, hops, class, lost].contains(&true)
            && !of_v6.contains(&true)
    }

    /// Whether what is told has the port that a message came to.
    pub fn wants_port(self) -> bool {
        self.original || self.original_6
    }

    /// What is told of a message, in the order of Linux; `now` is the time in nanoseconds since 1970, `port` the one that it came to.
    pub fn told(self, message: &Message, now: i64, port: u16) -> Vec<Told> {
        let mut told = Vec::new();
        let came = now.saturating_sub_unsigned(message.age);
        let (seconds, rest) = (came.div_euclid(SECOND), came.rem_euclid(SECOND));
        let pair = |rest: i64| [seconds, rest].map(i64::to_ne_bytes).as_flattened().to_vec();
        if self.nanoseconds {
            told.push((option::LEVEL, option::TIMESTAMP_NANOSECONDS, pair(rest)));
        } else if self.microseconds {
            told.push((option::LEVEL, option::TIMESTAMP, pair(rest / 1000)));
        }
        if self.three_times {
            let mut three = pair(rest);
            three.resize(48, 0);
            told.push((option::LEVEL, option::TIMESTAMPING, three));
        }
        let word = |value: i32| value.to_ne_bytes().to_vec();
        if self.lost && message.lost != 0 {
            told.push((option::LEVEL, option::LOST, word(message.lost as i32)));
        }
        let (hops, class) = (i32::from(message.marks.hops), i32::from(message.marks.class));
        let to = core::net::Ipv6Addr::from(message.to);
        match to.to_ipv4_mapped() {
            Some(to) => {
                if self.information {
                    let link = if to.is_loopback() { LOOPBACK } else { WIRE };
                    told.push((IP, PACKET_INFORMATION, [link.to_ne_bytes(), to.octets(), to.octets()].concat()));
                }
                if self.hops {
                    told.push((IP, TIME_TO_LIVE, word(hops)));
                }
                if self.class {
                    told.push((IP, SERVICE, alloc::vec![message.marks.class]));
                }
                if self.original {
                    let name = [&AF_INET.to_ne_bytes()[..], &port.to_be_bytes(), &to.octets(), &[0; 8]].concat();
                    told.push((IP, ORIGINAL, name));
                }
            }
            None => {
                if self.information_6 {
                    let link = if to.is_loopback() { LOOPBACK } else { WIRE };
                    told.push((IPV6, INFORMATION_6, [&message.to[..], &link.to_ne_bytes()].concat()));
                }
                if self.hops_6 {
                    told.push((IPV6, HOP_LIMIT, word(hops)));
                }
                if self.class_6 {
                    told.push((IPV6, TRAFFIC_CLASS, word(class)));
                }
                if self.hops_2292 {
                    told.push((IPV6, HOP_LIMIT_2292, word(hops)));
                }
                if self.original_6 {
                    let head = [AF_INET6.to_ne_bytes(), port.to_be_bytes()].concat();
                    told.push((IPV6, ORIGINAL_6, [&head[..], &[0; 4], &message.to, &[0; 4]].concat()));
                }
            }
        }
        told
    }
}

/// `IP_RECVERR` and `IPV6_RECVERR`: `struct sock_extended_err` and the address of who told, for a socket of this family.
pub fn failure(failure: &Failure, family: u16) -> Told {
    const FROM_ICMP: u8 = 2;
    const FROM_ICMP_6: u8 = 3;
    let by = core::net::Ipv6Addr::from(failure.by);
    let v4 = by.to_ipv4_mapped();
    let error = match (v4, failure.kind, failure.code) {
        (Some(_), 3, code) => match code {
            0 | 5 | 6 | 11 => Errno::ENETUNREACH,
            2 => Errno::ENOPROTOOPT,
            3 => Errno::ECONNREFUSED,
            4 => Errno::EMSGSIZE,
            _ => Errno::EHOSTUNREACH,
        },
        (None, 1, code) => match code {
            0 => Errno::ENETUNREACH,
            1 | 5 | 6 => Errno::EACCES,
            4 => Errno::ECONNREFUSED,
            _ => Errno::EHOSTUNREACH,
        },
        _ => Errno::EPROTO,
    };
    let origin = if v4.is_some() { FROM_ICMP } else { FROM_ICMP_6 };
    let mut data = (error.number() as u32).to_ne_bytes().to_vec();
    data.extend([origin, failure.kind, failure.code, 0]);
    data.extend([0; 8]);
    match v4 {
        Some(v4) if family == AF_INET => {
            data.extend(AF_INET.to_ne_bytes());
            data.extend([0; 2]);
            data.extend(v4.octets());
            data.extend([0; 8]);
            (IP, RECEIVE_ERRORS, data)
        }
        _ => {
            data.extend(AF_INET6.to_ne_bytes());
            data.extend([0; 6]);
            data.extend(failure.by);
            data.extend([0; 4]);
            (IPV6, RECEIVE_ERRORS_6, data)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tessera_interfaces::{Address, Family, Marks};

    fn message(to: [u8; 16]) -> Message {
        let from = Address { ip: to, port: 1, family: Family::V6 };
        Message { length: 0, from, to, marks: Marks { hops: 64, class: 3 }, age: 2_500_000_000, lost: 2 }
    }

    const SIX: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const FOUR: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 2, 15];

    #[test]
    fn of_each_version_its_own_options_are_told() {
        let on = 1i32.to_ne_bytes().to_vec();
        let names = [(IP, RECEIVE_TIME_TO_LIVE), (IP, PACKET_INFORMATION), (IPV6, RECEIVE_HOP_LIMIT)];
        let asked = Asked::of(&names.into_iter().map(|name| (name, on.clone())).collect());
        assert!(!asked.is_nothing());
        assert_eq!(asked.told(&message(SIX), 0, 7), [(IPV6, HOP_LIMIT, 64i32.to_ne_bytes().to_vec())]);
        let information = [2i32.to_ne_bytes(), [10, 0, 2, 15], [10, 0, 2, 15]].concat();
        let wanted = [(IP, PACKET_INFORMATION, information), (IP, TIME_TO_LIVE, 64i32.to_ne_bytes().to_vec())];
        assert_eq!(asked.told(&message(FOUR), 0, 7), wanted);
    }

    #[test]
    fn a_failure_names_its_error_and_who_told_of_it() {
        let to = Address { ip: FOUR, port: 9, family: Family::V4 };
        let refused = Failure { length: 0, whole: 0, to, by: FOUR, kind: 3, code: 3 };
        let (level, name, data) = failure(&refused, AF_INET);
        assert_eq!((level, name, data.len()), (IP, RECEIVE_ERRORS, 32));
        assert_eq!(data[..8], [111, 0, 0, 0, 2, 3, 3, 0]);
        assert_eq!(data[16..24], [2, 0, 0, 0, 10, 0, 2, 15]);
        let (level, name, data) = failure(&Failure { by: SIX, kind: 1, code: 3, ..refused }, AF_INET6);
        assert_eq!((level, name, data.len()), (IPV6, RECEIVE_ERRORS_6, 44));
        assert_eq!(data[..8], [113, 0, 0, 0, 3, 1, 3, 0]);
        assert_eq!(data[24..40], SIX);
    }

    #[test]
    fn where_a_message_was_sent_to_is_told_with_its_port() {
        let names = [(IP, ORIGINAL), (IPV6, ORIGINAL_6)];
        let asked = Asked::of(&names.into_iter().map(|name| (name, 1i32.to_ne_bytes().to_vec())).collect());
        assert!(asked.wants_port() && !asked.is_nothing());
        let four = alloc::vec![2, 0, 1, 2, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(asked.told(&message(FOUR), 0, 0x102), [(IP, ORIGINAL, four)]);
        let six = [&[10, 0, 1, 2, 0, 0, 0, 0], &SIX[..], &[0; 4]].concat();
        assert_eq!(asked.told(&message(SIX), 0, 0x102), [(IPV6, ORIGINAL_6, six)]);
    }

    #[test]
    fn what_was_lost_is_told_of_if_anything_was() {
        let kept = [((option::LEVEL, option::LOST), 1i32.to_ne_bytes().to_vec())].into_iter().collect();
        let asked = Asked::of(&kept);
        assert_eq!(asked.told(&message(SIX), 0, 7), [(option::LEVEL, option::LOST, 2i32.to_ne_bytes().to_vec())]);
        assert!(!asked.is_nothing() && asked.told(&Message { lost: 0, ..message(SIX) }, 0, 7).is_empty());
    }

    #[test]
    fn the_time_is_that_at_which_it_came() {
        let kept = [((option::LEVEL, option::TIMESTAMP), 1i32.to_ne_bytes().to_vec())].into_iter().collect();
        let told = Asked::of(&kept).told(&message(SIX), 10 * SECOND, 7);
        let wanted = [7i64, 500_000].map(i64::to_ne_bytes).as_flattened().to_vec();
        assert_eq!(told, [(option::LEVEL, option::TIMESTAMP, wanted)]);
    }

    #[test]
    fn a_mark_is_a_byte_or_left_to_the_socket() {
        assert_eq!(mark(&7i32.to_ne_bytes()), Ok(Some(7)));
        assert_eq!(mark(&(-1i32).to_ne_bytes()), Ok(None));
        assert_eq!(mark(&256i32.to_ne_bytes()), Err(Errno::EINVAL));
        assert_eq!(mark(&[]), Err(Errno::EINVAL));
        assert!(Asked::of(&BTreeMap::new()).is_nothing());
    }
}
