//! What a received frame is about, so that it is shown to the one socket that it is for.
//!
//! The protocol library offers a frame to every socket of a set in turn. With thousands of sockets that is thousands of looks
//! a frame, so each socket is a set of its own here, and this file finds which. It reads and decides nothing else:
//! checksums of TCP and of IP below it, addresses and sequence numbers are the library's to check. Frames come from outside: nothing in them can
//! make this file panic, and what it does not understand is `Other`.

use smoltcp::phy::{ChecksumCapabilities, Medium};
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpAddress, IpEndpoint,
    IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, TcpPacket, UdpPacket, UdpRepr,
};
use tessera_interfaces::Marks;

use super::failure::Report;

/// What a frame is.
#[derive(Debug, PartialEq)]
pub enum Class<'a> {
    /// A TCP segment, checked for nothing but its shape.
    Segment(Segment),
    /// A UDP datagram whose checksum is right.
    Datagram { from: IpEndpoint, to: IpEndpoint, marks: Marks, payload: &'a [u8] },
    /// An answer to an echo request (RFC 792, RFC 4443), whole, and the identifier in it.
    Echo { from: IpAddress, to: IpAddress, identifier: u16, message: &'a [u8] },
    /// A datagram or segment that this machine sent did not arrive.
    Undelivered { protocol: IpProtocol, from: IpEndpoint, to: IpEndpoint, report: Report<'a> },
    /// Tells whose hardware address an address has: what waited for it may go on.
    Neighbour,
    /// Nothing that concerns one socket.
    Other,
}

/// Of a TCP segment, what decides who gets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    pub from: IpEndpoint,
    pub to: IpEndpoint,
    pub opens: bool,
    pub resets: bool,
    pub finishes: bool,
    pub sequence: u32,
    /// The sequence number after it.
    pub end: u32,
    pub acknowledges: Option<u32>,
}

/// Tells what a frame is about.
pub fn classify<'a>(medium: Medium, frame: &'a [u8], checks: &ChecksumCapabilities) -> Class<'a> {
    let found = match medium {
        Medium::Ethernet => ethernet(frame, checks),
        Medium::Ip => internet(frame, checks),
    };
    found.unwrap_or(Class::Other)
}

fn ethernet<'a>(frame: &'a [u8], checks: &ChecksumCapabilities) -> Option<Class<'a>> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Arp => Some(Class::Neighbour),
        EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6 => internet(frame.payload(), checks),
        _ => None,
    }
}

fn internet<'a>(packet: &'a [u8], checks: &ChecksumCapabilities) -> Option<Class<'a>> {
    match packet.first()? >> 4 {
        4 => {
            let packet = Ipv4Packet::new_checked(packet).ok()?;
            if packet.more_frags() || packet.frag_offset() != 0 {
                return None;
            }
            let (from, to) = (IpAddress::Ipv4(packet.src_addr()), IpAddress::Ipv4(packet.dst_addr()));
            let protocol = packet.next_header();
            // Of a segment the library looks at the checksum of the header too.
            if protocol != IpProtocol::Tcp {
                Ipv4Repr::parse(&packet, checks).ok()?;
            }
            match protocol {
                IpProtocol::Icmp => control_four(from, to, packet.payload(), checks),
                other => {
                    let marks = Marks { hops: packet.hop_limit(), class: packet.dscp() << 2 | packet.ecn() };
                    transport(other, (from, to), marks, packet.payload(), checks)
                }
            }
        }
        6 => {
            let packet = Ipv6Packet::new_checked(packet).ok()?;
            let (from, to) = (IpAddress::Ipv6(packet.src_addr()), IpAddress::Ipv6(packet.dst_addr()));
            match packet.next_header() {
                IpProtocol::Icmpv6 => control_six(from, to, packet.payload(), checks),
                other => {
                    let marks = Marks { hops: packet.hop_limit(), class: packet.traffic_class() };
                    transport(other, (from, to), marks, packet.payload(), checks)
                }
            }
        }
        _ => None,
    }
}

fn transport<'a>(
    protocol: IpProtocol,
    (from, to): (IpAddress, IpAddress),
    marks: Marks,
    payload: &'a [u8],
    checks: &ChecksumCapabilities,
) -> Option<Class<'a>> {
    match protocol {
        IpProtocol::Tcp => {
            let packet = TcpPacket::new_checked(payload).ok()?;
            let sequence = packet.seq_number().0 as u32;
            Some(Class::Segment(Segment {
                from: IpEndpoint::new(from, packet.src_port()),
                to: IpEndpoint::new(to, packet.dst_port()),
                opens: packet.syn() && !packet.ack(),
                resets: packet.rst(),
                finishes: packet.fin(),
                sequence,
                end: sequence.wrapping_add(packet.segment_len() as u32),
                acknowledges: packet.ack().then(|| packet.ack_number().0 as u32),
            }))
        }
        IpProtocol::Udp => {
            let packet = UdpPacket::new_checked(payload).ok()?;
            let header = UdpRepr::parse(&packet, &from, &to, checks).ok()?;
            Some(Class::Datagram {
                from: IpEndpoint::new(from, header.src_port),
                to: IpEndpoint::new(to, header.dst_port),
                marks,
                payload: packet.payload(),
            })
        }
        _ => None,
    }
}

fn control_four<'a>(
    from: IpAddress,
    to: IpAddress,
    message: &'a [u8],
    checks: &ChecksumCapabilities,
) -> Option<Class<'a>> {
    let packet = Icmpv4Packet::new_checked(message).ok()?;
    if checks.icmpv4.rx() && !packet.verify_checksum() {
        return None;
    }
    match packet.msg_type() {
        Icmpv4Message::EchoReply => Some(Class::Echo { from, to, identifier: packet.echo_ident(), message }),
        Icmpv4Message::DstUnreachable => {
            let inner = Ipv4Packet::new_unchecked(packet.data());
            // The sender need not quote more than 8 bytes of what we sent: no check of the length that the header names.
            let (header, ports) = packet.data().split_at_checked(20)?;
            if header.first()? != &0x45 {
                return None;
            }
            let told = (from, u8::from(packet.msg_type()), packet.msg_code());
            let (source, destination) = (IpAddress::Ipv4(inner.src_addr()), IpAddress::Ipv4(inner.dst_addr()));
            undelivered(inner.next_header(), source, destination, ports, told)
        }
        _ => None,
    }
}

fn control_six<'a>(
    from: IpAddress,
    to: IpAddress,
    message: &'a [u8],
    checks: &ChecksumCapabilities,
) -> Option<Class<'a>> {
    let packet = Icmpv6Packet::new_checked(message).ok()?;
    match packet.msg_type() {
        Icmpv6Message::NeighborAdvert | Icmpv6Message::NeighborSolicit | Icmpv6Message::RouterAdvert => {
            Some(Class::Neighbour)
        }
        Icmpv6Message::EchoReply | Icmpv6Message::DstUnreachable
            if checks.icmpv6.rx() && !verified(&packet, from, to) =>
        {
            None
        }
        Icmpv6Message::EchoReply => Some(Class::Echo { from, to, identifier: packet.echo_ident(), message }),
        Icmpv6Message::DstUnreachable => {
            let inner = Ipv6Packet::new_unchecked(packet.payload());
            let (_, ports) = packet.payload().split_at_checked(40)?;
            let told = (from, u8::from(packet.msg_type()), packet.msg_code());
            let (source, destination) = (IpAddress::Ipv6(inner.src_addr()), IpAddress::Ipv6(inner.dst_addr()));
            undelivered(inner.next_header(), source, destination, ports, told)
        }
        _ => None,
    }
}

fn verified(packet: &Icmpv6Packet<&[u8]>, from: IpAddress, to: IpAddress) -> bool {
    match (from, to) {
        (IpAddress::Ipv6(from), IpAddress::Ipv6(to)) => packet.verify_checksum(&from, &to),
        _ => false,
    }
}

fn undelivered<'a>(
    protocol: IpProtocol,
    from: IpAddress,
    to: IpAddress,
    quoted: &'a [u8],
    (by, kind, code): (IpAddress, u8, u8),
) -> Option<Class<'a>> {
    /// Bytes of UDP's header.
    const HEADER: usize = 8;
    if !matches!(protocol, IpProtocol::Udp | IpProtocol::Tcp) {
        return None;
    }
    let [a, b, c, d, ..] = quoted else { return None };
    let from = IpEndpoint::new(from, u16::from_be_bytes([*a, *b]));
    let to = IpEndpoint::new(to, u16::from_be_bytes([*c, *d]));
    let report = Report { by, kind, code, quoted: quoted.get(HEADER..).unwrap_or_default() };
    Some(Class::Undelivered { protocol, from, to, report })
}

/// Whether the checksum of a frame's TCP segment or UDP datagram is right; also of a frame that has none.
pub fn is_intact(frame: &[u8]) -> bool {
    let Ok(frame) = EthernetFrame::new_checked(frame) else { return false };
    let intact = |protocol, from: IpAddress, to: IpAddress, payload: &[u8]| match protocol {
        IpProtocol::Tcp => TcpPacket::new_checked(payload).is_ok_and(|packet| packet.verify_checksum(&from, &to)),
        IpProtocol::Udp => UdpPacket::new_checked(payload).is_ok_and(|packet| packet.verify_checksum(&from, &to)),
        _ => true,
    };
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => Ipv4Packet::new_checked(frame.payload()).is_ok_and(|packet| {
            // A fragment has its datagram's checksum, not its own; nobody takes it anyway.
            let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
            packet.more_frags() || packet.frag_offset() != 0 || intact(packet.next_header(), from, to, packet.payload())
        }),
        EthernetProtocol::Ipv6 => Ipv6Packet::new_checked(frame.payload()).is_ok_and(|packet| {
            intact(packet.next_header(), packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
        }),
        _ => true,
    }
}

/// Whether a frame to be sent asks for a neighbour's hardware address, rather than carrying something of a socket.
pub fn is_neighbour_request(frame: &[u8]) -> bool {
    let Some(kind) = frame.get(12..14) else { return false };
    match kind {
        [0x08, 0x06] => true,
        // IPv6, ICMPv6, types 133 to 136: RFC 4861 section 4.
        [0x86, 0xdd] => frame.get(20) == Some(&58) && frame.get(54).is_some_and(|kind| (133..=136).contains(kind)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_frame_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for medium in [Medium::Ethernet, Medium::Ip] {
                let _ = classify(medium, &bytes, &ChecksumCapabilities::default());
                let _ = classify(medium, &bytes, &ChecksumCapabilities::ignored());
            }
            let _ = is_neighbour_request(&bytes);
        }

        #[test]
        fn no_internet_packet_panics(
            version in prop_oneof![Just(0x45u8), Just(0x60), Just(0x4f)],
            protocol in prop_oneof![Just(1u8), Just(6), Just(17), Just(58)],
            length in 0u16..200,
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Some(first) = bytes.first_mut() { *first = version; }
            let at = if version == 0x60 { 6 } else { 9 };
            if let Some(place) = bytes.get_mut(at) { *place = protocol; }
            let at = if version == 0x60 { 4 } else { 2 };
            if let Some(place) = bytes.get_mut(at..at + 2) { place.copy_from_slice(&length.to_be_bytes()); }
            let _ = classify(Medium::Ip, &bytes, &ChecksumCapabilities::ignored());
        }
    }

    #[test]
    fn address_resolution_is_about_neighbours() {
        let mut frame = vec![0u8; 42];
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(classify(Medium::Ethernet, &frame, &ChecksumCapabilities::default()), Class::Neighbour);
        assert!(is_neighbour_request(&frame));
    }
}
