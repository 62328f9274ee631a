//! Two stacks at the ends of a cable, which loses, repeats, reorders and damages as much as a test asks for.

mod datagrams;
mod hostile;
mod limits;
mod setup;
mod share;
mod shared;
mod streams;

use super::*;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::wire::{Ipv4Address, Ipv4Cidr, Ipv4Packet, TcpPacket};
use std::sync::Mutex;

/// How bad the cable is: of 100 frames, so many suffer.
#[derive(Clone, Copy, Default, Debug)]
pub struct Faults {
    pub lost: u64,
    pub repeated: u64,
    pub swapped: u64,
    pub damaged: u64,
}

#[derive(Default)]
pub struct Direction {
    pub frames: VecDeque<Vec<u8>>,
    pub carried: usize,
    /// Frames that were to be cut.
    pub large: usize,
}

/// What the devices at both ends do with segments.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub enum Segmentation {
    /// They take what fits on the wire.
    #[default]
    None,
    /// They cut large ones.
    Cut,
    /// They take large ones, and put segments together: what one end sends as one the other gets as one.
    Whole,
}

struct Plug {
    incoming: Arc<Mutex<Direction>>,
    outgoing: Arc<Mutex<Direction>>,
    faults: Faults,
    seed: u64,
    /// It fills in checksums that it is left.
    computes: bool,
    segmentation: Segmentation,
}

/// The Internet checksum, RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u64 =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// What a device makes of a TCP/IPv4 segment that it is to cut.
fn cut(frame: &[u8], segment: usize) -> Vec<Vec<u8>> {
    let (headers, payload) = frame.split_at(54);
    let sequence = u32::from_be_bytes(headers[38..42].try_into().unwrap());
    let count = payload.len().div_ceil(segment);
    let one = |(number, part): (usize, &[u8])| {
        let mut frame = [headers, part].concat();
        let length = frame.len() as u16 - 14;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame[38..42].copy_from_slice(&sequence.wrapping_add((number * segment) as u32).to_be_bytes());
        if number + 1 < count {
            // Only the last one pushes or finishes.
            frame[47] &= !9;
        }
        let mut packet = Ipv4Packet::new_checked(&mut frame[14..]).unwrap();
        packet.fill_checksum();
        let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
        TcpPacket::new_checked(packet.payload_mut()).unwrap().fill_checksum(&from, &to);
        frame
    };
    payload.chunks(segment).enumerate().map(one).collect()
}

impl Plug {
    fn chance(&mut self, of_100: u64) -> bool {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.seed >> 33) % 100 < of_100
    }
}

impl Port for Plug {
    fn receive(&mut self, into: &mut [u8]) -> Option<Arrived> {
        let frame = self.incoming.lock().unwrap().frames.pop_front()?;
        into[..frame.len()].copy_from_slice(&frame);
        Some(Arrived { length: frame.len(), checked: false })
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        self.outgoing.lock().unwrap().frames.len() + bytes.div_ceil(1514) <= 64
    }

    fn send(&mut self, frame: &[u8], offload: Offload) -> bool {
        if let Some((segment, false)) = offload.segment {
            assert_ne!(self.segmentation, Segmentation::None);
            self.outgoing.lock().unwrap().large += 1;
            if self.segmentation == Segmentation::Cut {
                return cut(frame, segment.into()).iter().all(|frame| self.send(frame, Offload::default()));
            }
        } else {
            assert!(frame.len() <= 1514, "{}", frame.len());
        }
        let mut frame = frame.to_vec();
        let left = self.computes && frame[12..14] == [8, 0] && frame[23] != 1;
        // What was cut above has its checksums.
        assert!(offload.checksum.is_some() == left || self.segmentation == Segmentation::Cut);
        if let Some((start, place)) = offload.checksum {
            let (start, place) = (usize::from(start), usize::from(place));
            let sum = checksum(&frame[start..]);
            frame[start + place..start + place + 2].copy_from_slice(&sum.to_be_bytes());
        }
        if self.chance(self.faults.lost) {
            return true;
        }
        // Address resolution has no checksum but Ethernet's, which finds what this cable does.
        if frame[12..14] != [8, 6] && self.chance(self.faults.damaged) {
            let at = (self.seed >> 40) as usize % frame.len();
            frame[at] ^= 1 << (self.seed % 8);
        }
        let twice = self.chance(self.faults.repeated);
        let swap = self.chance(self.faults.swapped);
        let mut way = self.outgoing.lock().unwrap();
        way.carried += 1;
        let at = if swap { way.frames.len().saturating_sub(2) } else { way.frames.len() };
        if twice {
            way.frames.push_back(frame.clone());
        }
        way.frames.insert(at, frame);
        true
    }

    fn flush(&mut self) {}

    fn sleep(&mut self, _wants_room: bool) -> bool {
        self.incoming.lock().unwrap().frames.is_empty()
    }

    fn wake(&mut self) {}

    fn is_broken(&self) -> bool {
        false
    }

    fn restart(&mut self) {}
}

/// Both ends and their clients.
pub struct World {
    pub stacks: [Stack; 2],
    pub clients: [ClientId; 2],
    pub ways: [Arc<Mutex<Direction>>; 2],
    pub now: u64,
}

pub const LIMITS: Limits = Limits { sockets: 8191, bytes: 1 << 30 };

pub fn device(end: u8) -> Device {
    let checksums = ChecksumCapabilities::default();
    Device { hardware: [2, 0, 0, 0, 0, end], mtu: 1500, checksums, cuts: Cuts::default(), receives_large: false }
}

pub fn given(end: u8) -> Source {
    Source::Given(Static {
        address: Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, end), 24),
        gateway: None,
        name_server: None,
    })
}

impl World {
    pub fn new(faults: Faults, seed: u64) -> World {
        World::with(faults, seed, [given(1), given(2)], Checksum::Both, Segmentation::None)
    }

    /// With addresses from elsewhere, and devices that leave so much of checksums to the stack and do so much with segments.
    pub fn with(
        faults: Faults,
        seed: u64,
        sources: [Source; 2],
        offload: Checksum,
        segmentation: Segmentation,
    ) -> World {
        let ways: [Arc<Mutex<Direction>>; 2] = [Arc::default(), Arc::default()];
        let mut stacks = [0, 1].map(|end| Stack::new((u128::from(seed) << 64 | end).to_le_bytes(), 1_000_000));
        for (end, stack) in stacks.iter_mut().enumerate() {
            let plug = Plug {
                incoming: ways[1 - end].clone(),
                outgoing: ways[end].clone(),
                faults,
                seed: seed.wrapping_add(end as u64),
                computes: !offload.tx(),
                segmentation,
            };
            let mut device = device(end as u8 + 1);
            device.checksums.tcp = offload;
            device.checksums.udp = offload;
            device.cuts.v4 = segmentation != Segmentation::None;
            device.receives_large = segmentation == Segmentation::Whole;
            stack.attach(Box::new(plug), &device, sources[end]);
        }
        let clients = [stacks[0].add_client(LIMITS), stacks[1].add_client(LIMITS)];
        World { stacks, clients, ways, now: 1_000_000 }
    }

    pub fn open(&mut self, end: usize, protocol: Protocol, family: Family) -> Id {
        self.stacks[end].open(self.clients[end], protocol, family).unwrap()
    }

    /// A socket that listens on `port` of an end.
    pub fn listener(&mut self, end: usize, port: u16, backlog: u32) -> Id {
        let id = self.open(end, Protocol::Tcp, Family::V4);
        self.stacks[end].bind(id, everywhere(port)).unwrap();
        self.stacks[end].listen(id, backlog).unwrap();
        id
    }

    /// Runs both ends once; then time goes on, by as much as nothing would happen.
    pub fn step(&mut self) {
        let mut next = self.now + 1_000_000_000;
        for stack in &mut self.stacks {
            stack.set_time(self.now);
            if let Some(time) = stack.run() {
                next = next.min(time);
            }
        }
        let under_way = self.ways.iter().any(|way| !way.lock().unwrap().frames.is_empty());
        self.now = if under_way { self.now + 50_000 } else { next.max(self.now + 50_000) };
        for stack in &mut self.stacks {
            stack.set_time(self.now);
        }
    }

    /// Goes on until something holds, for at most so many seconds of the world's time.
    pub fn until(&mut self, seconds: u64, mut holds: impl FnMut(&mut World) -> bool) {
        let end = self.now + seconds * 1_000_000_000;
        while !holds(self) {
            assert!(self.now < end, "it did not come true in {seconds} s");
            self.step();
        }
    }

    /// Connects end 0 to a listener at end 1; answers both ends of the connection.
    pub fn connected(&mut self, listener: Id, port: u16) -> (Id, Id) {
        let client = self.open(0, Protocol::Tcp, Family::V4);
        assert_eq!(self.stacks[0].connect(client, at(2, port)), Err(NetworkError::InProgress));
        let mut server = None;
        self.until(60, |world| {
            server = server.or(world.stacks[1].accept(listener).ok());
            server.is_some() && world.stacks[0].bits(client) & readiness::WRITABLE != 0
        });
        assert_eq!(self.stacks[0].take_error(client), Ok(()));
        (client, server.unwrap())
    }
}

pub fn everywhere(port: u16) -> Address {
    address::local((None, port), Family::V4)
}

pub fn four(bytes: [u8; 4], port: u16) -> Address {
    address::address(IpEndpoint::new(IpAddress::Ipv4(Ipv4Address::from(bytes)), port), Family::V4)
}

/// The address of an end.
pub fn at(end: u8, port: u16) -> Address {
    four([10, 0, 0, end], port)
}

pub fn numbers(count: usize) -> Vec<u8> {
    (0..count).map(|number| (number * 7 + number / 251) as u8).collect()
}

/// One stack by itself.
pub struct Alone {
    pub stack: Stack,
    pub client: ClientId,
    pub now: u64,
}

impl Alone {
    pub fn new(limits: Limits) -> Alone {
        let mut stack = Stack::new([5; KEY], 0);
        let client = stack.add_client(limits);
        Alone { stack, client, now: 0 }
    }

    pub fn open(&mut self, protocol: Protocol, family: Family) -> Id {
        self.stack.open(self.client, protocol, family).unwrap()
    }

    /// Runs until there is nothing to do now.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            self.stack.set_time(self.now);
            match self.stack.run() {
                Some(time) if time <= self.now => {}
                _ => return,
            }
        }
        panic!("it does not come to rest");
    }

    /// Lets time pass.
    pub fn pass(&mut self, nanoseconds: u64) {
        let end = self.now + nanoseconds;
        loop {
            self.settle();
            match self.stack.run() {
                Some(time) if time < end => self.now = time.max(self.now + 1000),
                _ => break,
            }
        }
        self.now = end;
        self.settle();
    }

    pub fn listener(&mut self, at: Address, backlog: u32) -> Id {
        let id = self.open(Protocol::Tcp, at.family);
        self.stack.bind(id, at).unwrap();
        self.stack.listen(id, backlog).unwrap();
        id
    }

    pub fn connected(&mut self, listener: Id, to: Address) -> (Id, Id) {
        let client = self.open(Protocol::Tcp, to.family);
        assert_eq!(self.stack.connect(client, to), Err(NetworkError::InProgress));
        self.settle();
        assert_eq!(self.stack.take_error(client), Ok(()));
        (client, self.stack.accept(listener).unwrap())
    }
}

pub const LOCALHOST: [u8; 4] = [127, 0, 0, 1];
