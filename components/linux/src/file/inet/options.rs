//! The options of IPv4 and IPv6 sockets: getsockopt(2), with ip(7), ipv6(7), tcp(7) and udp(7). An option is the network stack's, or kept and told as it
//! was set because it changes nothing here, or refused.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use tessera_interfaces::SocketOption;

use super::control;
use super::groups;
use super::interfaces::Interfaces;
use super::{IP, IPV6, InetSocket, PROTOCOL_UDP_LITE, SEGMENT, TCP, UDP, refused};
use crate::errno::{Errno, Result};
use crate::file::socket::{AF_INET, Socket, number, option, time_limit, time_limit_bytes, value};

/// `TCP_CONGESTION`, and what the network does on a wire, with room for names as Linux tells it.
const CONGESTION: i32 = 13;
/// `TCP_ULP`, of which none is there; `IP_MTU`.
const PROTOCOL_ABOVE: i32 = 31;
const LONGEST_PACKET: i32 = 14;
/// `TCP_MAXSEG`, what it is before there is a connection (RFC 9293, section 3.7.1), and what it can be set to.
const LONGEST_SEGMENT: i32 = 2;
const SEGMENT_BEFORE: i32 = 536;
const SEGMENTS: core::ops::RangeInclusive<i32> = 88..=32_767;
const ALGORITHM: &[u8] = b"reno\0\0\0\0\0\0\0\0\0\0\0\0";

impl InetSocket {
    /// What getsockopt(2) tells.
    pub(super) fn get_option(&self, level: i32, name: i32) -> Result<Vec<u8>> {
        if level == option::LEVEL {
            let state = self.state.lock();
            match name {
                option::TYPE => return Ok(value(self.kind as i32)),
                option::DOMAIN => return Ok(value(i32::from(self.family))),
                option::PROTOCOL => return Ok(value(self.protocol)),
                option::ACCEPTS => return Ok(value(i32::from(state.is_listening))),
                option::RECEIVE_TIMEOUT => return Ok(time_limit_bytes(state.limits.receive)),
                option::SEND_TIMEOUT => return Ok(time_limit_bytes(state.limits.send)),
                option::ERROR => {
                    drop(state);
                    if self.connecting.load(Ordering::Acquire) {
                        return Ok(value(self.outcome().and_then(Result::err).map_or(0, Errno::number)));
                    }
                    return Ok(value(self.stream.socket().error().err().map_or(0, |error| refused(error).number())));
                }
                option::LINGER => return Ok(state.kept.get(&(level, name)).cloned().unwrap_or(alloc::vec![0; 8])),
                option::BIND_TO_DEVICE => return Ok(state.kept.get(&(level, name)).cloned().unwrap_or_default()),
                _ => {}
            }
        }
        if let Some((known, unit)) = InetSocket::known(level, name) {
            let found = self.stream.socket().option(known).map_err(refused)?;
            return Ok(value(i32::try_from(found / unit).unwrap_or(i32::MAX)));
        }
        if (level, name) == (TCP, 11) {
            return Ok(self.tcp_information());
        }
        if (level, name) == (TCP, CONGESTION) {
            return Ok(ALGORITHM.to_vec());
        }
        if (level, name) == (TCP, LONGEST_SEGMENT) {
            return Ok(self.longest_segment());
        }
        if (level, name) == (IP, LONGEST_PACKET) {
            return self.longest_packet();
        }
        if InetSocket::is_harmless(level, name) {
            return Ok(self.state.lock().kept.get(&(level, name)).cloned().unwrap_or(value(0)));
        }
        // Of a level that there is, an option that there is not; the other way around Linux says something else, when it is asked.
        Err(if matches!(level, option::LEVEL | IP | IPV6 | TCP) { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP })
    }

    /// What setsockopt(2) does.
    pub(super) fn change_option(&self, level: i32, name: i32, bytes: &[u8]) -> Result<()> {
        if level == option::LEVEL {
            match name {
                option::RECEIVE_TIMEOUT => {
                    self.state.lock().limits.receive = time_limit(bytes)?;
                    return Ok(());
                }
                option::SEND_TIMEOUT => {
                    self.state.lock().limits.send = time_limit(bytes)?;
                    return Ok(());
                }
                option::BIND_TO_DEVICE => return self.bind_to_device(bytes),
                option::LINGER => {
                    let (on, seconds) = (number(bytes)?, number(bytes.get(4..).unwrap_or_default())?);
                    let linger = if on == 0 { u64::MAX } else { seconds.max(0) as u64 * 1_000_000_000 };
                    self.stream.socket().set_option(SocketOption::Linger, linger).map_err(refused)?;
                    self.state.lock().kept.insert((level, name), bytes.get(..8).unwrap_or_default().to_vec());
                    return Ok(());
                }
                _ => {}
            }
        }
        if let Some((known, unit)) = InetSocket::known(level, name) {
            let wanted = u64::try_from(number(bytes)?).map_err(|_| Errno::EINVAL)?;
            return self.stream.socket().set_option(known, wanted.saturating_mul(unit)).map_err(refused);
        }
        if (level, name) == (TCP, LONGEST_SEGMENT) && !SEGMENTS.contains(&number(bytes)?) {
            return Err(Errno::EINVAL);
        }
        if (level, name) == (TCP, PROTOCOL_ABOVE) {
            return Err(Errno::ENOENT);
        }
        if (level, name) == (TCP, CONGESTION) {
            let is_it = bytes.split(|byte| *byte == 0).next() == ALGORITHM.split(|byte| *byte == 0).next();
            return if is_it { Ok(()) } else { Err(Errno::ENOENT) };
        }
        if let Some(change) = groups::change(level, name, bytes) {
            let interfaces = Interfaces::of(Some(&self.inet));
            return groups::make(&mut self.state.lock().groups, change?, &interfaces);
        }
        if InetSocket::is_harmless(level, name) {
            if level == option::LEVEL {
                number(bytes)?;
            }
            self.state.lock().kept.insert((level, name), bytes.get(..bytes.len().min(64)).unwrap_or_default().to_vec());
            return Ok(());
        }
        Err(Errno::ENOPROTOOPT)
    }

    /// The option of the network stack that an option of Linux is, and what one unit of Linux's is there.
    fn known(level: i32, name: i32) -> Option<(SocketOption, u64)> {
        const SECOND: u64 = 1_000_000_000;
        Some(match (level, name) {
            (option::LEVEL, option::REUSE_ADDRESS) => (SocketOption::ReuseAddress, 1),
            (option::LEVEL, option::BROADCAST) => (SocketOption::Broadcast, 1),
            (option::LEVEL, option::RECEIVE_BUFFER) => (SocketOption::ReceiveBuffer, 1),
            (option::LEVEL, option::SEND_BUFFER) => (SocketOption::SendBuffer, 1),
            (IP, 2) | (IPV6, 16) => (SocketOption::HopLimit, 1),
            (IP, 1) | (IPV6, 67) => (SocketOption::TrafficClass, 1),
            (IP, control::RECEIVE_ERRORS) | (IPV6, control::RECEIVE_ERRORS_6) => (SocketOption::ReceiveErrors, 1),
            (IPV6, 26) => (SocketOption::OnlyV6, 1),
            (TCP, 1) => (SocketOption::NoDelay, 1),
            (TCP, 5) => (SocketOption::KeepAlive, SECOND),
            (TCP, 18) => (SocketOption::UserTimeout, 1_000_000),
            _ => return None,
        })
    }

    /// `IP_MTU`: the longest packet on the way to the other side.
    fn longest_packet(&self) -> Result<Vec<u8>> {
        let peer = self.stream.socket().peer().map_err(|_| Errno::ENOTCONN)?;
        let is_own = self.bytes_of(&peer).get(4) == Some(&127);
        Ok(value(if is_own { i32::from(u16::MAX) } else { 1500 }))
    }

    /// `TCP_MAXSEG`: of a connection what the way lets through, else what was asked for.
    fn longest_segment(&self) -> Vec<u8> {
        if let Some(longest) = self.longest_packet().ok().and_then(|longest| number(&longest).ok()) {
            // The headers of IP and TCP, without options.
            let headers = if self.family == AF_INET { 40 } else { 60 };
            return value(longest - headers);
        }
        self.state.lock().kept.get(&(TCP, LONGEST_SEGMENT)).cloned().unwrap_or(value(SEGMENT_BEFORE))
    }

    /// `SO_BINDTODEVICE`: the name is kept, and there is no other way to go than the network's own.
    fn bind_to_device(&self, name: &[u8]) -> Result<()> {
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let mut state = self.state.lock();
        let key = (option::LEVEL, option::BIND_TO_DEVICE);
        match name {
            b"" => state.kept.remove(&key),
            b"lo" | b"eth0" => state.kept.insert(key, [name, b"\0"].concat()),
            _ => return Err(Errno::ENODEV),
        };
        Ok(())
    }

    /// Whether an option is one that programs set and that changes nothing here.
    fn is_harmless(level: i32, name: i32) -> bool {
        match level {
            option::LEVEL => {
                matches!(
                    name,
                    5 | 8 | 7 | 9 | 10 | 12 | 15 | 18 | 19 | 29 | 32 | 33 | 35 | 36 | 37 | 40 | 46 | 47 | 60 | 61
                )
            }
            // Packet information, options, MTU discovery, multicast.
            IP => matches!(name, 4 | 6 | 8 | 10 | 12 | 13 | 15 | 20 | 24 | 32 | 33 | 34),
            IPV6 => matches!(name, 8 | 17 | 18 | 19 | 23 | 49 | 51 | 62 | 66 | 74),
            UDP => matches!(name, SEGMENT | 104),
            // How much of a datagram a checksum covers, of those that are sent and taken.
            PROTOCOL_UDP_LITE => matches!(name, 10 | 11),
            // Segment size, cork, keep-alive intervals, defer accept, window clamp, quick ack, congestion, fast open.
            TCP => matches!(name, 2 | 3 | 4 | 6 | 7 | 8 | 9 | 10 | 12 | 13 | 23 | 25 | 30 | 37),
            _ => false,
        }
    }

    /// As much of `struct tcp_info` as is known: the state.
    fn tcp_information(&self) -> Vec<u8> {
        const ESTABLISHED: u8 = 1;
        const CLOSED: u8 = 7;
        const LISTENING: u8 = 10;
        let mut bytes = alloc::vec![0; 104];
        if let Some(state) = bytes.first_mut() {
            *state = if self.state.lock().is_listening {
                LISTENING
            } else if self.stream.socket().peer().is_ok() {
                ESTABLISHED
            } else {
                CLOSED
            };
        }
        bytes
    }
}
