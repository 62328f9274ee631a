//! Devices that send and receive Ethernet frames, through rings in shared memory.

use tessera_runtime::object::{Event, Vmo};
use tessera_runtime::{Cap, InterfaceError, Plain, TransportError, interface};

/// A network device. Frames do not travel in calls: whoever attaches shares the packet buffers and four rings with the driver.
#[interface]
pub trait NetDevice {
    /// What the device is like.
    fn information(&self) -> Result<NetInformation, NetDeviceError>;

    /// Starts using `buffers` (the packet memory) and `rings` (laid out as the crate `tessera-rings` says). `to_device` is raised by the caller when it
    /// has put something into a ring whose other side sleeps, `from_device` by the device likewise; bit 0 of
    /// each. Bit 1 of `from_device` says that the device has ended the attachment. Bits 62 and 63 of `to_device` are the device's own.
    ///
    /// Attaching again ends what was attached before: its buffers are not touched any more when the answer comes.
    fn attach(&self, buffers: Vmo, rings: Vmo, to_device: Event, from_device: Event) -> Result<(), NetDeviceError>;

    /// The same for who is in the device's domain, where a call costs less than to wake somebody: frames move when the caller runs the pump, and bit 0 of
    /// `from_device` says when there are some. `Device` from one that cannot do it.
    fn attach_here(&self, buffers: Vmo, rings: Vmo, from_device: Event) -> Result<Cap<dyn NetPump>, NetDeviceError>;
}

/// Moves frames between a device and the rings of whoever attached. After an error it moves nothing any more: attach again.
#[interface]
pub trait NetPump {
    /// Gives the device what is to be sent. False if it has no room for all of it now: that goes when it is run again.
    fn send(&self) -> Result<bool, NetDeviceError>;

    /// Moves all that there is, both ways.
    fn run(&self) -> Result<(), NetDeviceError>;

    /// Nobody runs it for a while: the device is to say when there is something. False if there is already.
    fn sleep(&self) -> Result<bool, NetDeviceError>;

    /// Somebody runs it again.
    fn wake(&self) -> Result<(), NetDeviceError>;
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
    /// It may put TCP segments that it receives together, into frames of up to 64 KiB.
    pub const RECEIVE_LARGE: u32 = 1 << 4;
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
