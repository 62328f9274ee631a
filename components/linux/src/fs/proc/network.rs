//! `/proc/net`: what netstat(8), ifconfig(8), route(8) and ss(8) read of interfaces, routes and sockets. Counters are zero: nobody keeps them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use tessera_interfaces::{Address, Family};

use super::Fixed::{self, Directory, File};
use crate::file::inet::interfaces::{Interfaces, mask};
use crate::file::inet::list::Row;
use crate::file::netlink;
use crate::file::netlink::route::{Route, routes};
use crate::file::socket::{AF_INET, AF_INET6};
use crate::file::unix;
use crate::task::System;

const TCP: i32 = 6;
const UDP: i32 = 17;
const ICMP: i32 = 1;
const ICMP_6: i32 = 58;
const UDP_LITE: i32 = 136;

/// The folder: every process's is the same.
pub const ROOT: &Fixed = &Directory(
    "net",
    &[
        File("dev", devices),
        File("if_inet6", addresses_6),
        File("route", routes_4),
        File("ipv6_route", routes_6),
        File("arp", |_| b"IP address       HW type     Flags       HW address            Mask     Device\n".to_vec()),
        File("tcp", |system| sockets(system, AF_INET, TCP)),
        File("tcp6", |system| sockets(system, AF_INET6, TCP)),
        File("udp", |system| sockets(system, AF_INET, UDP)),
        File("udp6", |system| sockets(system, AF_INET6, UDP)),
        File("udplite", |system| sockets(system, AF_INET, UDP_LITE)),
        File("udplite6", |system| sockets(system, AF_INET6, UDP_LITE)),
        File("icmp", |system| sockets(system, AF_INET, ICMP)),
        File("icmp6", |system| sockets(system, AF_INET6, ICMP_6)),
        File("raw", |system| sockets(system, AF_INET, -1)),
        File("raw6", |system| sockets(system, AF_INET6, -1)),
        File("unix", |_| unix_sockets()),
        File("netlink", |_| netlink_sockets()),
        File("packet", |_| b"sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n".to_vec()),
    ],
);

fn interfaces(system: &System) -> Interfaces {
    Interfaces::of(system.inet.as_deref())
}

fn devices(system: &System) -> Vec<u8> {
    let mut text = String::from(
        "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed \
         multicast|bytes    packets errs drop fifo colls carrier compressed\n",
    );
    for interface in interfaces(system).all() {
        let name = interface.name;
        text += &format!(
            "{name:>6}: {0:>7} {0:>7} {0:>4} {0:>4} {0:>4} {0:>5} {0:>10} {0:>9} {0:>8} {0:>7} {0:>4} {0:>4} {0:>4} {0:>5} {0:>7} {0:>10}\n",
            0
        );
    }
    text.into_bytes()
}

fn addresses_6(system: &System) -> Vec<u8> {
    let interfaces = interfaces(system);
    let mut text = String::new();
    for held in interfaces.addresses() {
        let IpAddr::V6(ip) = held.ip else { continue };
        let scope = match ip {
            ip if ip.is_loopback() => 0x10,
            ip if ip.is_unicast_link_local() => 0x20,
            _ => 0,
        };
        let name = interfaces.numbered(held.interface).map_or("", |interface| interface.name);
        text += &format!("{:032x} {:02x} {:02x} {scope:02x} 80 {name:>8}\n", ip.to_bits(), held.interface, held.prefix);
    }
    text.into_bytes()
}

/// An IPv4 address as these files write one: as the bytes lie in memory.
fn hexadecimal(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{:08X}", u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(ip) => {
            let words = ip.octets();
            let (words, _) = words.as_chunks::<4>();
            words.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect()
        }
    }
}

fn name_of(interfaces: &Interfaces, route: &Route) -> &'static str {
    interfaces.numbered(route.interface).map_or("", |interface| interface.name)
}

fn routes_4(system: &System) -> Vec<u8> {
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    let interfaces = interfaces(system);
    let mut text =
        format!("{:<127}\n", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT");
    let none = IpAddr::from([0; 4]);
    for route in routes(&interfaces).iter().filter(|route| route.is_main() && route.family == AF_INET) {
        let flags = if route.gateway.is_some() { UP | GATEWAY } else { UP };
        let [to, gateway] = [route.to, route.gateway].map(|ip| hexadecimal(ip.unwrap_or(none)));
        let mask = hexadecimal(IpAddr::from(mask(route.length).to_be_bytes()));
        let line = format!(
            "{}\t{to}\t{gateway}\t{flags:04X}\t0\t0\t{}\t{mask}\t0\t0\t0",
            name_of(&interfaces, route),
            route.metric
        );
        text += &format!("{line:<127}\n");
    }
    text.into_bytes()
}

fn routes_6(system: &System) -> Vec<u8> {
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    const LOCAL: u32 = 0x8000_0000;
    let interfaces = interfaces(system);
    let bits = |ip: Option<IpAddr>| match ip {
        Some(IpAddr::V6(ip)) => ip.to_bits(),
        _ => 0,
    };
    let mut text = String::new();
    for route in routes(&interfaces).iter().filter(|route| route.family == AF_INET6) {
        let flags = UP | if route.gateway.is_some() { GATEWAY } else { 0 } | if route.is_main() { 0 } else { LOCAL };
        text += &format!(
            "{:032x} {:02x} {:032x} 00 {:032x} {:08x} 00000001 00000000 {flags:08x} {:>8}\n",
            bits(route.to),
            route.length,
            0,
            bits(route.gateway),
            route.metric,
            name_of(&interfaces, route)
        );
    }
    text.into_bytes()
}

/// Address and port of one end, of a socket of one version.
fn end(address: Option<Address>, family: u16) -> String {
    let any = Address { ip: [0; 16], port: 0, family: Family::V6 };
    let address = address.unwrap_or(any);
    let ip = match address.ip.last_chunk::<4>() {
        Some(v4) if family == AF_INET => IpAddr::from(*v4),
        _ => IpAddr::from(address.ip),
    };
    format!("{}:{:04X}", hexadecimal(ip), address.port)
}

fn sockets(system: &System, family: u16, protocol: i32) -> Vec<u8> {
    let rows = system.inet.as_ref().map(|inet| inet.list()).unwrap_or_default();
    let rows = rows.into_iter().filter(|row| row.family == family && row.protocol == protocol);
    table(rows, family, protocol == TCP).into_bytes()
}

fn table(rows: impl Iterator<Item = Row>, family: u16, is_tcp: bool) -> String {
    let head = match (is_tcp, family) {
        (true, AF_INET) => {
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
        }
        (true, _) => {
            "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   \
             uid  timeout inode"
        }
        (false, AF_INET) => {
            "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops"
        }
        _ => {
            "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   \
             uid  timeout inode ref pointer drops"
        }
    };
    let mut text = if family == AF_INET { format!("{head:<149}\n") } else { format!("{head}\n") };
    for (index, row) in rows.enumerate() {
        let [sending, receiving] = row.queued;
        let [local, peer] = [Some(row.local), row.peer].map(|address| end(address, family));
        let rest = if is_tcp { "1 0000000000000000 100 0 0 10 0" } else { "2 0000000000000000 0" };
        let line = format!(
            "{index:>4}: {local} {peer} {:02X} {sending:08X}:{receiving:08X} 00:00000000 00000000     0        0 {} {rest}",
            row.stage as u8, row.number
        );
        text += &if family == AF_INET { format!("{line:<149}\n") } else { format!("{line}\n") };
    }
    text
}

fn unix_sockets() -> Vec<u8> {
    let mut text = b"Num       RefCount Protocol Flags    Type St Inode Path\n".to_vec();
    for socket in unix::list() {
        // `__SO_ACCEPTCON`; SS_UNCONNECTED and SS_CONNECTED.
        let flags = if socket.listens { 0x1_0000 } else { 0 };
        let stage = if socket.is_connected { 3 } else { 1 };
        let (kind, number) = (socket.kind, socket.number);
        text.extend(format!("{:016x}: {:08X} {:08X} {flags:08X} {kind:04X} {stage:02X} {number:>5} ", 0, 2, 0).bytes());
        text.extend(socket.path.iter().map(|byte| if *byte == 0 { b'@' } else { *byte }));
        text.push(b'\n');
    }
    text
}

fn netlink_sockets() -> Vec<u8> {
    let mut text =
        String::from("sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n");
    for (protocol, port, groups, number) in netlink::list() {
        text += &format!(
            "{:016x} {protocol:<3} {port:<10} {groups:08x} {:<8} {:<8} {:<5} {:<8} {:<8} {number:<8}\n",
            0, 0, 0, 0, 2, 0
        );
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::inet::list::Stage;

    #[test]
    fn addresses_are_written_as_they_lie_in_memory() {
        assert_eq!(hexadecimal(IpAddr::from([127, 0, 0, 1])), "0100007F");
        let loopback = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(hexadecimal(loopback), "00000000000000000000000001000000");
    }

    #[test]
    fn a_socket_is_a_line_as_long_as_all_others() {
        let local =
            Address { ip: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1], port: 8080, family: Family::V4 };
        let row = Row {
            family: AF_INET,
            kind: 1,
            protocol: TCP,
            number: 17,
            local,
            peer: None,
            stage: Stage::Listening,
            queued: [0, 5],
        };
        let text = table([row].into_iter(), AF_INET, true);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000005 00:00000000"));
        assert!(lines[1].contains("        0 17 1 "));
        assert!(lines.iter().all(|line| line.len() == 149));
    }
}
