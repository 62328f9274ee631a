//! The 12 bytes before each frame (Virtio 5.1.6), which lie in the headroom of its buffer.
//!
//! The client could change them while the device looks: it garbles its own frames by that.

use tessera_memory::Memory;
use tessera_rings::{Entry, flags};

/// Bytes of the header.
pub const BYTES: usize = 12;

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const TCP4: u8 = 1;
const TCP6: u8 = 4;
/// Bytes of a TCP header without options.
const TCP: u16 = 20;

/// Writes the header of a frame to be sent, which begins with `entry`; `place` is where the header goes.
pub fn write(buffers: &Memory, place: usize, entry: &Entry) {
    let checksum = entry.flags & flags::NEEDS_CHECKSUM != 0;
    let kind = match entry.flags & (flags::SEGMENT_V4 | flags::SEGMENT_V6) {
        flags::SEGMENT_V4 => TCP4,
        flags::SEGMENT_V6 => TCP6,
        _ => 0,
    };
    let headers = if kind == 0 { 0 } else { entry.checksum_start.saturating_add(TCP) };
    let segment = if kind == 0 { 0 } else { entry.segment };
    let (start, offset) = if checksum { (entry.checksum_start, entry.checksum_offset) } else { (0, 0) };
    let mut bytes = [0; BYTES];
    let fields = [headers, segment, start, offset, 0];
    let values = [if checksum { NEEDS_CHECKSUM } else { 0 }, kind];
    let all = values.into_iter().chain(fields.into_iter().flat_map(u16::to_le_bytes));
    for (byte, value) in bytes.iter_mut().zip(all) {
        *byte = value;
    }
    buffers.copy_in(place, &bytes);
}

/// How many buffers a frame that came in takes, of a card that merges them.
pub fn buffers(buffers: &Memory, place: usize) -> usize {
    let byte = |offset: usize| buffers.load_8(place.saturating_add(offset));
    u16::from_le_bytes([byte(10), byte(11)]).into()
}

/// The flags that the client is told of a frame that came in.
pub fn read(buffers: &Memory, place: usize) -> u16 {
    let bits = buffers.load_8(place);
    let flag = |bit: u8, flag: u16| if bits & bit != 0 { flag } else { 0 };
    flag(NEEDS_CHECKSUM, flags::NEEDS_CHECKSUM) | flag(DATA_VALID, flags::CHECKSUM_VALID)
}
