//! Devices that send and receive Ethernet frames, through rings in shared memory.

use tessera_runtime::object::{Event, Vmo};
use tessera_runtime::{InterfaceError, Plain, TransportError, interface};

/// A network device. Frames do not travel in calls: whoever attaches shares the packet buffers and four rings with the driver.
#[interface]
pub trait NetDevice {
    /// What the device is like.
    fn information(&self) -> Result<NetInformation, NetDeviceError>;

    /// Starts using `buffers` (the packet memory) and `rings` (laid out as [`ring`] says). `to_device` is raised by the caller when it
    /// has put something into a ring whose other side sleeps, `from_device` by the device likewise; bit 0 of each.
    ///
    /// Attaching again ends what was attached before: its buffers are not touched any more when the answer comes.
    fn attach(&self, buffers: Vmo, rings: Vmo, to_device: Event, from_device: Event) -> Result<(), NetDeviceError>;
}

/// What a network device is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct NetInformation {
    /// The hardware address.
    pub mac: [u8; 6],
    /// The longest packet above the Ethernet header, in bytes.
    pub mtu: u16,
    /// What the device does by itself: bits of [`offloads`].
    pub offloads: u32,
}

/// Work that a device takes over.
pub mod offloads {
    /// It fills in the checksum of what it sends, as the entry says.
    pub const SEND_CHECKSUM: u32 = 1 << 0;
    /// It marks received frames whose checksum it has verified.
    pub const RECEIVE_CHECKSUM: u32 = 1 << 1;
    /// It cuts large TCP/IPv4 segments into frames.
    pub const SEGMENT_TCP4: u32 = 1 << 2;
    /// It cuts large TCP/IPv6 segments into frames.
    pub const SEGMENT_TCP6: u32 = 1 << 3;
}

/// The layout of the rings' memory.
///
/// Four rings, one after the other, each [`RING_BYTES`](ring::RING_BYTES) long: a header page, then [`ENTRIES`](ring::ENTRIES) entries of
/// [`ENTRY_BYTES`](ring::ENTRY_BYTES) bytes. Each has one side that puts in and one that takes out. The header holds, as little-endian 32-bit
/// words on cache lines of their own, how many entries were ever put in (`PUT`) and taken out (`TAKEN`), modulo 2^32, and whether each side
/// sleeps and wants its event raised (`PUTTER_SLEEPS`, `TAKER_SLEEPS`: 1). All that one side reads here is what the other claims: it masks indices and
/// checks the rest.
///
/// An entry: buffer index (u32), offset in the buffer (u16), length (u16), flags (u16), where the checksum starts (u16), the offset of its
/// place from there (u16), and the payload bytes of a segment (u16), little-endian, in this order.
pub mod ring {
    /// Bytes of a packet buffer. Two lie in each page.
    pub const BUFFER_BYTES: usize = 2048;
    /// Entries of a ring.
    pub const ENTRIES: usize = 256;
    /// Bytes of an entry.
    pub const ENTRY_BYTES: usize = 16;
    /// Bytes of a ring's header.
    pub const HEADER_BYTES: usize = 4096;
    /// Bytes of a ring.
    pub const RING_BYTES: usize = HEADER_BYTES + ENTRIES * ENTRY_BYTES;
    /// Empty buffers for the device to fill: the stack puts in.
    pub const RECEIVE_FREE: usize = 0;
    /// Received frames: the device puts in.
    pub const RECEIVE_DONE: usize = 1;
    /// Frames to be sent: the stack puts in.
    pub const SEND: usize = 2;
    /// Buffers whose frame was sent: the device puts in.
    pub const SEND_DONE: usize = 3;
    /// How many rings there are.
    pub const RINGS: usize = 4;
    /// Byte offsets in a ring's header.
    pub const PUT: usize = 0;
    /// How many were taken out.
    pub const TAKEN: usize = 64;
    /// Whether the side that puts in wants to be told when something was taken out.
    pub const PUTTER_SLEEPS: usize = 128;
    /// Whether the side that takes out wants to be told when something was put in.
    pub const TAKER_SLEEPS: usize = 192;
    /// Flag of an entry: the checksum is to be filled in; or, received, need not be verified.
    pub const CHECKSUM: u16 = 1 << 0;
    /// Flag of an entry to be sent: cut it into TCP segments.
    pub const SEGMENT: u16 = 1 << 1;
    /// Flag of an entry: the packet goes on in the next entry.
    pub const CONTINUES: u16 = 1 << 2;
}

/// Why a network device refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum NetDeviceError {
    /// The memory is too small, or of another layout.
    BadLayout,
    /// The pool is used up.
    LimitReached,
    /// The device could not do it.
    Device,
    /// The call did not reach the object, or its answer did not come back.
    Transport(TransportError),
}
