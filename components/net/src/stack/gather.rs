//! Segments of one connection that follow one another, put together into one frame for a device that cuts it apart again (TCP segmentation offload).
//!
//! The protocol library makes segments as the wire takes them, and knows nothing of this: what the device sends is to the byte what the library made, but for the
//! identification of IPv4 packets, which nobody needs of packets that are not fragmented (RFC 6864).

use core::ops::Range;

/// Bytes of the largest frame: an Ethernet header, and the longest packet that IPv4 knows.
pub const MOST: usize = ETHERNET + 0xffff;

const ETHERNET: usize = 14;
/// Where things are in headers: of IPv4 and IPv6 (RFC 791, RFC 8200), and of TCP (RFC 9293).
const V4: usize = 20;
const V6: usize = 40;
const TCP: usize = 20;
const SEQUENCE: Range<usize> = 4..8;
const FLAGS: usize = 13;
const CHECKSUM: Range<usize> = 16..18;
const ACKNOWLEDGES: u8 = 0x10;
const PUSHES: u8 = 0x08;
const FINISHES: u8 = 0x01;

/// Which segments a device cuts: over IPv4, over IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    pub v4: bool,
    pub v6: bool,
}

impl Cuts {
    /// Whether it cuts none.
    pub fn is_none(self) -> bool {
        self == Cuts::default()
    }
}

/// A frame that others may be added to.
#[derive(Debug)]
pub struct Gathered {
    is_v6: bool,
    /// Bytes of the headers, Ethernet's included.
    headers: usize,
    /// Where TCP's begins.
    transport: usize,
    /// Bytes of the payload of each segment but the last.
    segment: usize,
    count: usize,
    /// The sequence number of the next one.
    next: u32,
    /// No other can follow.
    is_whole: bool,
}

/// A TCP segment in a frame.
struct Segment {
    is_v6: bool,
    transport: usize,
    headers: usize,
    flags: u8,
    sequence: u32,
}

impl Segment {
    fn of(frame: &[u8]) -> Option<Segment> {
        let (is_v6, network, whole) = match (frame.get(12..14)?, *frame.get(ETHERNET)?) {
            // No options, not a fragment.
            ([0x08, 0x00], 0x45) if *frame.get(23)? == 6 && u16_at(frame, 20)? & 0x3fff == 0 => {
                (false, V4, usize::from(u16_at(frame, 16)?))
            }
            ([0x86, 0xdd], first) if first >> 4 == 6 && *frame.get(20)? == 6 => {
                (true, V6, usize::from(u16_at(frame, 18)?) + V6)
            }
            _ => return None,
        };
        let transport = ETHERNET + network;
        let headers = transport + usize::from(*frame.get(transport + 12)? >> 4) * 4;
        let fits = whole + ETHERNET == frame.len() && headers >= transport + TCP && headers <= frame.len();
        let sequence = frame.get(transport + SEQUENCE.start..transport + SEQUENCE.end)?.try_into().ok()?;
        let flags = *frame.get(transport + FLAGS)?;
        fits.then_some(Segment { is_v6, transport, headers, flags, sequence: u32::from_be_bytes(sequence) })
    }
}

fn u16_at(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?))
}

impl Gathered {
    /// Begins with a frame, if it is a segment that others can follow, of a kind that the device cuts.
    pub fn begin(frame: &[u8], cuts: Cuts) -> Option<Gathered> {
        if cuts.is_none() {
            return None;
        }
        let Segment { is_v6, transport, headers, flags, sequence } = Segment::of(frame)?;
        let segment = frame.len() - headers;
        let cut = if is_v6 { cuts.v6 } else { cuts.v4 };
        let next = sequence.wrapping_add(segment as u32);
        let begins = cut && segment > 0 && flags == ACKNOWLEDGES;
        begins.then_some(Gathered { is_v6, headers, transport, segment, count: 1, next, is_whole: false })
    }

    /// Adds a frame to `waiting`, if it follows and says the same; answers where in it the payload is, which the caller is to put behind.
    pub fn add(&mut self, waiting: &mut [u8], frame: &[u8]) -> Option<Range<usize>> {
        let found = Segment::of(frame)?;
        let payload = found.headers..frame.len();
        let follows = found.headers == self.headers
            && found.is_v6 == self.is_v6
            && found.sequence == self.next
            && found.flags & !(PUSHES | FINISHES) == ACKNOWLEDGES
            && (1..=self.segment).contains(&payload.len())
            && waiting.len() + payload.len() <= MOST
            && self.says_the_same(waiting, frame);
        if !follows {
            return None;
        }
        // What ends the stream, or is to be passed on at once, does so with its last segment.
        if let Some(flags) = waiting.get_mut(self.transport + FLAGS) {
            *flags |= found.flags;
        }
        self.count += 1;
        self.next = self.next.wrapping_add(payload.len() as u32);
        self.is_whole = payload.len() < self.segment || found.flags != ACKNOWLEDGES;
        Some(payload)
    }

    /// Whether the headers are equal but for what differs from segment to segment: lengths, identification, checksums, sequence number and flags.
    fn says_the_same(&self, waiting: &[u8], frame: &[u8]) -> bool {
        let transport = self.transport;
        let same = |range: Range<usize>| waiting.get(range.clone()) == frame.get(range);
        let network = match self.is_v6 {
            true => same(0..18) && same(20..transport),
            false => same(0..16) && same(20..24) && same(26..transport),
        };
        network
            && same(transport..transport + SEQUENCE.start)
            && same(transport + SEQUENCE.end..transport + FLAGS)
            && same(transport + FLAGS + 1..transport + CHECKSUM.start)
            && same(transport + CHECKSUM.end..self.headers)
    }

    /// Whether no other can follow.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Writes the lengths of the whole frame into its headers; answers how it is to be cut, if it is to be. The transport's checksum is left to the device.
    pub fn close(&self, frame: &mut [u8]) -> Option<(u16, bool)> {
        if self.count < 2 {
            return None;
        }
        let length = frame.len() - ETHERNET;
        let mut put = |at: usize, value: u16| {
            if let Some(place) = frame.get_mut(at..at + 2) {
                place.copy_from_slice(&value.to_be_bytes());
            }
        };
        if self.is_v6 {
            put(18, (length - V6) as u16);
        } else {
            put(16, length as u16);
            put(24, 0);
            let checksum = header_checksum(frame.get(ETHERNET..self.transport).unwrap_or_default());
            if let Some(place) = frame.get_mut(24..26) {
                place.copy_from_slice(&checksum.to_be_bytes());
            }
        }
        Some((self.segment as u16, self.is_v6))
    }
}

/// The checksum of an IPv4 header whose field for it is zero (RFC 1071).
fn header_checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use smoltcp::wire::{EthernetFrame, Ipv4Packet, Ipv6Packet, TcpPacket};

    const BOTH: Cuts = Cuts { v4: true, v6: true };

    /// A segment of a connection, with the checksum of its network header.
    fn segment(is_v6: bool, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let network = if is_v6 { V6 } else { V4 };
        let mut frame = vec![0; ETHERNET + network + TCP];
        frame.extend_from_slice(payload);
        let length = frame.len() - ETHERNET;
        if is_v6 {
            frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
            frame[18..20].copy_from_slice(&((length - V6) as u16).to_be_bytes());
            frame[20] = 6;
        } else {
            frame[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
            frame[16..18].copy_from_slice(&(length as u16).to_be_bytes());
            // The identification counts.
            frame[18..20].copy_from_slice(&(sequence as u16).to_be_bytes());
            frame[22..24].copy_from_slice(&[64, 6]);
            let mut packet = Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]);
            packet.fill_checksum();
        }
        let tcp = ETHERNET + network;
        frame[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
        frame[tcp + 12..tcp + 14].copy_from_slice(&[5 << 4, flags]);
        frame
    }

    /// A frame that is sent, and how it is to be cut.
    type Sent = (Vec<u8>, Option<(u16, bool)>);

    /// Gathers frames as `Outgoing` does; answers what is sent.
    fn gather(frames: &[Vec<u8>]) -> Vec<Sent> {
        let (mut sent, mut current): (Vec<_>, Option<(Vec<u8>, Gathered)>) = (Vec::new(), None);
        let close = |(mut frame, gathered): (Vec<u8>, Gathered)| {
            let cut = gathered.close(&mut frame);
            (frame, cut)
        };
        for frame in frames {
            if let Some((waiting, gathered)) = &mut current
                && let Some(payload) = gathered.add(waiting, frame)
            {
                waiting.extend_from_slice(&frame[payload]);
                if gathered.is_whole() {
                    sent.push(close(current.take().unwrap()));
                }
                continue;
            }
            sent.extend(current.take().map(close));
            match Gathered::begin(frame, BOTH) {
                Some(gathered) => current = Some((frame.clone(), gathered)),
                None => sent.push((frame.clone(), None)),
            }
        }
        sent.extend(current.map(close));
        sent
    }

    #[test]
    fn segments_that_follow_one_another_go_as_one() {
        for is_v6 in [false, true] {
            let bytes: Vec<u8> = (0..3500_u32).map(|at| at as u8).collect();
            let mut frames: Vec<Vec<u8>> = Vec::new();
            for (number, part) in (0..).zip(bytes.chunks(1000)) {
                let flags = if part.len() < 1000 { ACKNOWLEDGES | PUSHES } else { ACKNOWLEDGES };
                frames.push(segment(is_v6, 7 + number * 1000, flags, part));
            }
            let sent = gather(&frames);
            let [(frame, Some(cut))] = &sent[..] else { panic!("{} frames", sent.len()) };
            assert_eq!(*cut, (1000, is_v6));
            let payload = EthernetFrame::new_checked(&frame[..]).unwrap().payload();
            let tcp = if is_v6 {
                let packet = Ipv6Packet::new_checked(payload).unwrap();
                assert_eq!(usize::from(packet.payload_len()), TCP + 3500);
                packet.payload().to_vec()
            } else {
                let packet = Ipv4Packet::new_checked(payload).unwrap();
                assert!(packet.verify_checksum());
                assert_eq!(usize::from(packet.total_len()), V4 + TCP + 3500);
                packet.payload().to_vec()
            };
            let tcp = TcpPacket::new_checked(&tcp[..]).unwrap();
            assert_eq!((tcp.seq_number().0, tcp.psh(), tcp.ack()), (7, true, true));
            assert_eq!(tcp.payload(), bytes);
        }
    }

    #[test]
    fn what_does_not_follow_or_says_something_else_goes_alone() {
        let first = segment(false, 0, ACKNOWLEDGES, &[1; 100]);
        let alone = |second: Vec<u8>| {
            let sent = gather(&[first.clone(), second.clone()]);
            assert_eq!(sent, [(first.clone(), None), (second, None)]);
        };
        alone(segment(false, 101, ACKNOWLEDGES, &[1; 100]));
        alone(segment(false, 100, ACKNOWLEDGES, &[1; 101]));
        alone(segment(false, 100, ACKNOWLEDGES, &[]));
        alone(segment(false, 100, 0x14, &[1; 100]));
        alone(segment(true, 100, ACKNOWLEDGES, &[1; 100]));
        let next = segment(false, 100, ACKNOWLEDGES, &[1; 100]);
        // Hardware address, time to live, address, port, acknowledgement, window, urgent pointer.
        for place in [3, 22, 29, 34, 42, 48, 52] {
            let mut other = next.clone();
            other[place] ^= 1;
            let mut packet = Ipv4Packet::new_unchecked(&mut other[ETHERNET..]);
            packet.fill_checksum();
            alone(other);
        }
        assert_eq!(gather(&[next.clone(), first]).len(), 2, "not backwards");
        assert!(Gathered::begin(&next, Cuts { v4: false, v6: true }).is_none());
        // Nothing follows one that is to be passed on at once.
        let frames = [
            segment(false, 0, ACKNOWLEDGES, &[1; 100]),
            segment(false, 100, ACKNOWLEDGES | PUSHES, &[1; 100]),
            segment(false, 200, ACKNOWLEDGES, &[1; 100]),
        ];
        assert_eq!(gather(&frames).len(), 2);
    }

    #[test]
    fn no_frame_is_longer_than_a_packet_can_be() {
        let frames: Vec<Vec<u8>> =
            (0..100).map(|number| segment(false, number * 1460, ACKNOWLEDGES, &[2; 1460])).collect();
        let sent = gather(&frames);
        assert!(sent.iter().all(|(frame, _)| frame.len() <= MOST));
        assert_eq!(sent.len(), 3);
        let payload: usize = sent.iter().map(|(frame, _)| frame.len() - 54).sum();
        assert_eq!(payload, 146_000);
    }

    proptest! {
        #[test]
        fn no_frame_panics(
            first in proptest::collection::vec(any::<u8>(), 0..100),
            second in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            for is_v6 in [false, true] {
                let mut begun = segment(is_v6, 0, ACKNOWLEDGES, &[1; 50]);
                for (to, from) in begun.iter_mut().skip(15).zip(&first) {
                    *to ^= from & from.rotate_left(3) & from.rotate_left(5);
                }
                if let Some(mut gathered) = Gathered::begin(&begun, BOTH) {
                    let _ = gathered.add(&mut begun.clone(), &second);
                    let _ = gathered.close(&mut begun);
                }
            }
            let _ = Gathered::begin(&first, BOTH);
        }
    }
}
