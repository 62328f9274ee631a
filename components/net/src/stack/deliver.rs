//! Frames in: each is shown to the socket that it is for.

use alloc::boxed::Box;

use smoltcp::iface::{Interface, SocketSet};
use smoltcp::phy::{Device, Medium, TxToken};
use smoltcp::socket::tcp::State;
use smoltcp::wire::{
    ETHERNET_HEADER_LEN, EthernetFrame, IpAddress, IpEndpoint, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::connection::{Connection, Options};
use super::frame::{Class, Segment, classify, is_intact};
use super::link::{OneFrame, Transmit};
use super::{Entry, Id, Kind, LoopbackLink, Protocol, Stack, Which, WireLink, address, ends, opening};
use tessera_interfaces::Marks;

/// Where a frame came in, and where answers go.
struct Way<'a, 'b> {
    which: Which,
    medium: Medium,
    interface: &'a mut Interface,
    device: &'a mut OneFrame<'b>,
    /// The sockets of the stack itself: DHCP and DNS.
    own: Option<&'a mut SocketSet<'static>>,
}

impl Stack {
    /// Takes at most so many frames from the wire; answers whether there may be more.
    pub(super) fn receive_from_wire(&mut self, most: usize) -> bool {
        let Some(mut link) = self.wire.take() else { return false };
        let mut more = true;
        for _ in 0..most {
            let Some(arrived) = link.outgoing.port.receive(&mut link.incoming) else {
                more = false;
                break;
            };
            let WireLink { side, outgoing, incoming, setup } = &mut *link;
            let Some(frame) = incoming.get(..arrived.length) else { continue };
            let checks = &side.capabilities.checksum;
            // Where the device looks at checksums the library does not: what the device has not looked at, this does.
            if !checks.tcp.rx() && !arrived.checked && !is_intact(frame) {
                continue;
            }
            let class = classify(Medium::Ethernet, frame, checks);
            setup.due |= !matches!(class, Class::Segment(_));
            let mut device =
                OneFrame { frame: Some(frame), transmit: outgoing, capabilities: &side.capabilities, sent: 0 };
            let way = Way {
                which: Which::Wire,
                medium: Medium::Ethernet,
                interface: &mut side.interface,
                device: &mut device,
                own: Some(&mut setup.sockets),
            };
            self.deliver(way, frame, class);
        }
        self.wire = Some(link);
        more
    }

    /// The same from this machine itself.
    pub(super) fn receive_from_loopback(&mut self, most: usize) -> bool {
        let Some(mut link) = self.loopback.take() else { return false };
        let mut more = true;
        for _ in 0..most {
            let Some(frame) = link.queue.take() else {
                more = false;
                break;
            };
            let LoopbackLink { side, queue } = &mut *link;
            let class = classify(Medium::Ip, &frame, &side.capabilities.checksum);
            let mut device =
                OneFrame { frame: Some(&frame), transmit: queue, capabilities: &side.capabilities, sent: 0 };
            let way = Way {
                which: Which::Loopback,
                medium: Medium::Ip,
                interface: &mut side.interface,
                device: &mut device,
                own: None,
            };
            self.deliver(way, &frame, class);
            link.queue.give_back(frame);
        }
        let room = link.queue.has_room();
        self.loopback = Some(link);
        if room {
            self.room_again(Which::Loopback);
        }
        more
    }

    fn deliver(&mut self, way: Way<'_, '_>, frame: &[u8], class: Class<'_>) {
        match class {
            Class::Segment(segment) => self.deliver_segment(way, frame, segment),
            Class::Datagram { from, to, marks, payload } => self.deliver_datagram(way, (from, to), marks, payload),
            Class::Echo { to, .. } if !way.interface.has_ip_addr(to) => {}
            Class::Echo { from, to, identifier, message } => {
                let (from, to) = (IpEndpoint::new(from, 0), IpEndpoint::new(to, identifier));
                let _ = self.hand_over(Protocol::Icmp, (from, to), Options::default().marks(), message);
            }
            Class::Undelivered { protocol: IpProtocol::Udp, from, to, report }
                if way.interface.has_ip_addr(from.addr) =>
            {
                self.undelivered(Protocol::Udp, from, to, report);
            }
            Class::Undelivered { .. } => {}
            Class::Neighbour => {
                self.show_nobody(way);
                self.neighbour_known();
            }
            Class::Other => self.show_nobody(way),
        }
    }

    /// Lets the library answer a frame that is no socket's.
    fn show_nobody(&mut self, way: Way<'_, '_>) {
        let _ = way.interface.poll_ingress_single(self.now, way.device, &mut self.nobody);
    }

    fn deliver_segment(&mut self, way: Way<'_, '_>, frame: &[u8], segment: Segment) {
        let key = ends(segment.to, segment.from);
        if let Some(&id) = self.connections.get(&key)
            && let Some(Entry { kind: Kind::Connection(connection), ring, .. }) = self.sockets.get_mut(id)
            && connection.which == way.which
        {
            let before = connection.state();
            let _ = way.interface.poll_ingress_single(self.now, way.device, &mut connection.set);
            if segment.resets && before != State::Closed && connection.state() == State::Closed {
                connection.reset = true;
            }
            connection.last_sequence = segment.end;
            // One that does nothing but acknowledge all that was sent: there is nothing more to send, and its timers may ring too early.
            let carries = segment.resets || segment.end != segment.sequence;
            let is_idle = before == State::Established && connection.state() == before && ring.is_none();
            if !carries && is_idle && connection.look().send_queue() == 0 {
                self.publish(id, false);
            } else {
                self.schedule(id);
            }
            return;
        }
        if let Some(rest) = self.resting.get(&key) {
            // RFC 9293 section 3.10.7.4: a new connection may begin where an old one rests, above its sequence numbers.
            let newer = (segment.sequence.wrapping_sub(rest.sequence) as i32) >= 0;
            if !segment.opens || !newer {
                // RFC 1337: a reset does not end the rest.
                if !segment.resets && !segment.opens && segment.end != segment.sequence {
                    answer_late(way, frame, segment);
                }
                return;
            }
            self.resting.remove(&key);
        }
        if segment.opens
            && !segment.resets
            && let Some(listener) = self.hearer(Protocol::Tcp, segment.from, segment.to)
        {
            if let Some((id, connection)) = self.begin(listener, way.which, segment.to, segment.from) {
                self.show_request(way, id, connection);
            }
            return;
        }
        self.show_nobody(way);
    }

    fn show_request(&mut self, way: Way<'_, '_>, id: Id, mut connection: Box<Connection>) {
        let (local, remote) = (connection.local, connection.remote);
        let first = self.secret.sequence(&ends(local, remote), self.now);
        let mut on = opening::interface(way.interface, way.device, first, self.secret.number(), self.now);
        let own = way.interface.ip_addrs().iter().find(|own| own.address() == local.addr);
        on.update_ip_addrs(|addresses| addresses.extend(own.copied()));
        let _ = on.poll_ingress_single(self.now, way.device, &mut connection.set);
        if connection.state() == State::SynReceived {
            self.began(id, connection);
        } else {
            self.not_begun(id, connection);
        }
    }

    fn deliver_datagram(
        &mut self,
        way: Way<'_, '_>,
        (from, to): (IpEndpoint, IpEndpoint),
        marks: Marks,
        payload: &[u8],
    ) {
        // DHCP answers come before there is an address; answers to the stack's own questions for names go to ports of its choice.
        let configuring = matches!((from.port, to.port), (67, 68) | (547, 546));
        if way.which == Which::Wire && configuring {
            self.show_own(way);
            return;
        }
        let many = address::is_many(&to.addr) || self.is_subnet_broadcast(to.addr);
        if !many && !way.interface.has_ip_addr(to.addr) {
            return;
        }
        let heard = if many {
            self.hand_to_all((from, to), marks, payload)
        } else {
            self.hand_over(Protocol::Udp, (from, to), marks, payload)
        };
        if heard || many {
            return;
        }
        if way.which == Which::Wire && from.port == 53 { self.show_own(way) } else { self.show_nobody(way) }
    }

    fn show_own(&mut self, way: Way<'_, '_>) {
        if let Some(own) = way.own {
            let _ = way.interface.poll_ingress_single(self.now, way.device, own);
        }
    }

    fn is_subnet_broadcast(&self, ip: IpAddress) -> bool {
        let IpAddress::Ipv4(ip) = ip else { return false };
        self.addresses.iter().any(|own| match own {
            smoltcp::wire::IpCidr::Ipv4(own) => own.broadcast() == Some(ip),
            smoltcp::wire::IpCidr::Ipv6(_) => false,
        })
    }
}

/// Acknowledges the end of a connection at rest again: the peer has not heard it. What the peer acknowledges is our last sequence number.
fn answer_late(way: Way<'_, '_>, frame: &[u8], segment: Segment) {
    let Some(sequence) = segment.acknowledges else { return };
    if !way.interface.has_ip_addr(segment.to.addr) {
        return;
    }
    let checks = way.device.capabilities.checksum.clone();
    // The checksum has not been looked at yet.
    let ip = match way.medium {
        Medium::Ethernet => frame.get(ETHERNET_HEADER_LEN..).unwrap_or(&[]),
        Medium::Ip => frame,
    };
    let payload = match segment.to.addr {
        IpAddress::Ipv4(_) => Ipv4Packet::new_checked(ip).ok().map(|packet| packet.payload()),
        IpAddress::Ipv6(_) => Ipv6Packet::new_checked(ip).ok().map(|packet| packet.payload()),
    };
    let fine = payload
        .and_then(|payload| TcpPacket::new_checked(payload).ok())
        .is_some_and(|packet| !checks.tcp.rx() || packet.verify_checksum(&segment.from.addr, &segment.to.addr));
    if !fine {
        return;
    }
    let answer = TcpRepr {
        src_port: segment.to.port,
        dst_port: segment.from.port,
        control: TcpControl::None,
        seq_number: TcpSeqNumber(sequence as i32),
        ack_number: Some(TcpSeqNumber(segment.end as i32)),
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (from, to) = (segment.to.addr, segment.from.addr);
    let header = IpRepr::new(from, to, IpProtocol::Tcp, answer.buffer_len(), 64);
    let link = if way.medium == Medium::Ethernet { ETHERNET_HEADER_LEN } else { 0 };
    let Some(token) = way.device.transmit(smoltcp::time::Instant::ZERO) else { return };
    token.consume(link + header.header_len() + answer.buffer_len(), |out| {
        if link > 0 {
            // Back to where it came from.
            let asked = EthernetFrame::new_unchecked(frame);
            let mut ethernet = EthernetFrame::new_unchecked(&mut *out);
            ethernet.set_src_addr(asked.dst_addr());
            ethernet.set_dst_addr(asked.src_addr());
            ethernet.set_ethertype(asked.ethertype());
        }
        let Some(packet) = out.get_mut(link..) else { return };
        header.emit(&mut *packet, &checks);
        if let Some(segment) = packet.get_mut(header.header_len()..) {
            answer.emit(&mut TcpPacket::new_unchecked(segment), &from, &to, &checks);
        }
    });
}
