//! Where frames come from and go to, and how the protocol library is shown exactly one of them at a time.
//!
//! A received frame is read where it lies, a frame to be sent is written where the device will take it: the library's only copies
//! are those into and out of its socket buffers.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities};
use smoltcp::time::Instant;

use super::frame::is_neighbour_request;
use super::gather::{Cuts, Gathered, MOST};

/// What a device is asked to do to a frame that it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Fill in a checksum: from which byte on it counts, and where after that byte it stands.
    pub checksum: Option<(u16, u16)>,
    /// Cut it into TCP segments with so many bytes of payload each; over IPv6 if the flag says so.
    pub segment: Option<(u16, bool)>,
}

/// A frame that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Its bytes.
    pub length: usize,
    /// The device has looked at its transport's checksum.
    pub checked: bool,
}

/// A network device.
pub trait Port: Send {
    /// Copies the next received frame. None when there is none.
    fn receive(&mut self, into: &mut [u8]) -> Option<Arrived>;
    /// Whether frames of so many bytes in all can be sent now.
    fn has_room(&mut self, bytes: usize) -> bool;
    /// Sends a frame. False when there is no room.
    fn send(&mut self, frame: &[u8], offload: Offload) -> bool;
    /// Tells the device of what was sent and taken since the last time, if it has to be told.
    fn flush(&mut self);
    /// Nobody will look for a while: the device is to call when there is something, or if `wants_room`, when there is room. False when there is
    /// something already.
    fn sleep(&mut self, wants_room: bool) -> bool;
    /// Somebody looks again.
    fn wake(&mut self);
    /// Whether the device broke the rules, so that it carries nothing any more.
    fn is_broken(&self) -> bool;
    /// Begins anew, with what was not sent yet.
    fn restart(&mut self);
}

/// A frame to be sent, written where it will be taken from.
pub trait Transmit {
    /// Whether a frame can be sent now.
    fn has_room(&mut self) -> bool;
    /// The bytes of the next frame, to be written.
    fn next(&mut self, length: usize) -> &mut [u8];
    /// Sends what was written there.
    fn send(&mut self);
}

/// The device of the protocol library: at most one frame in, and frames out.
pub struct OneFrame<'a> {
    pub frame: Option<&'a [u8]>,
    pub transmit: &'a mut dyn Transmit,
    pub capabilities: &'a DeviceCapabilities,
    /// Frames sent that were not about neighbours.
    pub sent: usize,
}

impl Device for OneFrame<'_> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Sending<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let frame = self.frame.take()?;
        Some((Received(frame), Sending { transmit: &mut *self.transmit, sent: &mut self.sent }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        if !self.transmit.has_room() {
            return None;
        }
        Some(Sending { transmit: &mut *self.transmit, sent: &mut self.sent })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.capabilities.clone()
    }
}

/// A frame that came.
pub struct Received<'a>(&'a [u8]);

impl smoltcp::phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for a frame.
pub struct Sending<'a> {
    transmit: &'a mut dyn Transmit,
    sent: &'a mut usize,
}

impl smoltcp::phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let frame = self.transmit.next(length);
        let result = write(frame);
        *self.sent += usize::from(!is_neighbour_request(frame));
        self.transmit.send();
        result
    }
}

/// The frames that this machine sends to itself.
#[derive(Default)]
pub struct Loopback {
    queue: VecDeque<Vec<u8>>,
    next: Vec<u8>,
    spare: Vec<Vec<u8>>,
}

/// Frames on their way at once. Beyond it senders wait, as they do for a device.
const LOOPBACK_FRAMES: usize = 256;

impl Loopback {
    /// Whether a frame is on its way.
    pub fn has_frames(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Takes the next frame out.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.queue.pop_front()
    }

    /// Keeps a frame's memory for a later one.
    pub fn give_back(&mut self, frame: Vec<u8>) {
        if self.spare.len() < 32 {
            self.spare.push(frame);
        }
    }
}

impl Transmit for Loopback {
    fn has_room(&mut self) -> bool {
        self.queue.len() < LOOPBACK_FRAMES
    }

    fn next(&mut self, length: usize) -> &mut [u8] {
        self.next.resize(length, 0);
        &mut self.next
    }

    fn send(&mut self) {
        // Answers come on top of what senders may have under way; each takes a frame out first, so this is bounded too.
        let another = self.spare.pop().unwrap_or_default();
        self.queue.push_back(core::mem::replace(&mut self.next, another));
    }
}

/// A port, and the memory in which frames are put together for it. Segments that follow one another wait there for the next, if the device cuts such
/// frames apart: until another frame comes, or [`Outgoing::flush`].
pub struct Outgoing {
    pub port: Box<dyn Port>,
    /// What waits, `waiting` bytes of it, and behind that the frame that is being written.
    frame: Vec<u8>,
    waiting: usize,
    gathered: Option<Gathered>,
    /// Bytes of the frame that is being written.
    length: usize,
    /// Bytes of the longest frame that goes over the wire.
    longest: usize,
    checksums: ChecksumCapabilities,
    cuts: Cuts,
}

impl Outgoing {
    /// With room for frames of up to `longest` bytes; the checksums that are not computed here are left to the device, and it cuts what it `cuts`.
    pub fn new(port: Box<dyn Port>, longest: usize, checksums: ChecksumCapabilities, cuts: Cuts) -> Outgoing {
        let room = if cuts.is_none() { longest } else { MOST + longest };
        Outgoing { port, frame: vec![0; room], waiting: 0, gathered: None, length: 0, longest, checksums, cuts }
    }

    /// Sends what waits, and shows the device all that was sent.
    pub fn flush(&mut self) {
        self.send_waiting();
        self.port.flush();
    }

    fn send_waiting(&mut self) {
        let waiting = core::mem::take(&mut self.waiting);
        let Some(gathered) = self.gathered.take() else { return };
        let Some(frame) = self.frame.get_mut(..waiting) else { return };
        let segment = gathered.close(frame);
        let offload = Offload { segment, ..offload(frame, &self.checksums) };
        // Sockets look for room first.
        let _ = self.port.send(frame, offload);
    }
}

impl Transmit for Outgoing {
    fn has_room(&mut self) -> bool {
        self.port.has_room(self.waiting + self.longest)
    }

    fn next(&mut self, length: usize) -> &mut [u8] {
        let end = self.waiting + length;
        if self.frame.len() < end {
            self.frame.resize(end, 0);
        }
        self.length = length;
        self.frame.get_mut(self.waiting..end).unwrap_or_default()
    }

    fn send(&mut self) {
        if let Some(gathered) = &mut self.gathered {
            let Some((waiting, fresh)) = self.frame.split_at_mut_checked(self.waiting) else { return };
            if let Some(payload) = gathered.add(waiting, fresh.get(..self.length).unwrap_or_default()) {
                // Only the payload stays, right behind what was there.
                self.frame.copy_within(self.waiting + payload.start..self.waiting + payload.end, self.waiting);
                self.waiting += payload.len();
                if gathered.is_whole() {
                    self.send_waiting();
                }
                return;
            }
            let start = self.waiting;
            self.send_waiting();
            self.frame.copy_within(start..start + self.length, 0);
        }
        let frame = self.frame.get_mut(..self.length).unwrap_or_default();
        self.gathered = Gathered::begin(frame, self.cuts);
        if self.gathered.is_some() {
            self.waiting = self.length;
            return;
        }
        let offload = offload(frame, &self.checksums);
        // An answer to a received frame when the device is full is lost, as on any wire. Sockets look for room first.
        let _ = self.port.send(frame, offload);
    }
}

/// Fills in the checksum that the protocol library left out; or what the device is to do to this frame, if it is to fill it in. The device adds up
/// what follows the place where it begins to count, so the pseudo header's sum is put where the checksum will stand (virtio 1.2 section 5.1.6.2).
fn offload(frame: &mut [u8], checksums: &ChecksumCapabilities) -> Offload {
    transport_checksum(frame, checksums).unwrap_or_default()
}

fn transport_checksum(frame: &mut [u8], checksums: &ChecksumCapabilities) -> Option<Offload> {
    let (network, protocol, addresses) = match frame.get(12..14)? {
        [0x08, 0x00] => (usize::from(frame.get(14)? & 15) * 4, *frame.get(23)?, frame.get(26..34)?),
        [0x86, 0xdd] => (40, *frame.get(20)?, frame.get(22..54)?),
        _ => return None,
    };
    let (place, by_device) = match protocol {
        6 => (16, !checksums.tcp.tx()),
        17 if !checksums.udp.tx() => (6, true),
        _ => return None,
    };
    let start = 14 + network;
    let length = frame.len().checked_sub(start)?;
    let pseudo = fold(u64::from(sum(addresses)) + length as u64 + u64::from(protocol));
    frame.get_mut(start + place..start + place + 2)?.copy_from_slice(&pseudo.to_be_bytes());
    if by_device {
        return Some(Offload { checksum: Some((start as u16, place as u16)), segment: None });
    }
    let checksum = !sum(frame.get(start..)?);
    frame.get_mut(start + place..start + place + 2)?.copy_from_slice(&checksum.to_be_bytes());
    None
}

/// The sum of bytes as numbers of 16 bits, before it is complemented to a checksum (RFC 1071). The order of the bytes plays no part until the end, nor
/// how many are added at once: what is carried out at one end is added at the other.
fn sum(bytes: &[u8]) -> u16 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut last = [0; 32];
    if let Some(place) = last.get_mut(..rest.len()) {
        place.copy_from_slice(rest);
    }
    let sum = blocks.iter().chain([&last]).fold(0_u64, |sum, block| {
        let [a, b, c, d] = *block.as_chunks::<8>().0 else { return sum };
        let [a, b, c, d] = [a, b, c, d].map(u64::from_ne_bytes);
        let (sum, carry) = sum.overflowing_add(a);
        let (sum, carry) = sum.carrying_add(b, carry);
        let (sum, carry) = sum.carrying_add(c, carry);
        let (sum, carry) = sum.carrying_add(d, carry);
        // No sum of two numbers is all ones and carries.
        sum.wrapping_add(carry.into())
    });
    u16::from_be(fold(sum))
}

/// Adds the parts of 16 bits to one.
fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sum_is_that_of_its_numbers(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let numbers = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low)));
            // Zero has two forms in this arithmetic, of which sums of anything but zeroes have one.
            let expected = numbers.fold(0, |sum, number| { let sum = sum + number; (sum & 0xffff) + (sum >> 16) });
            prop_assert_eq!(u64::from(sum(&bytes)), expected);
        }
    }

    #[test]
    fn the_largest_numbers_carry() {
        assert_eq!(sum(&[0xff; 4096]), 0xffff);
        assert_eq!(sum(&[]), 0);
        assert_eq!(fold(u64::MAX), 0xffff);
    }
}
