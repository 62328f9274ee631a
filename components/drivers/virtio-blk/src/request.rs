//! What is agreed with the device: its features, its configuration, the shape of a request (Virtio 5.2.3 to 5.2.6).

use tessera_interfaces::Geometry;
use tessera_virtio::{Misbehaved, Transport, configuration_consistently, feature};

/// The most parts of a request are in the configuration.
const PARTS_MOST: u64 = 1 << 2;
/// The device cannot be written.
const READ_ONLY: u64 = 1 << 5;
/// The size of a block is in the configuration.
const BLOCK_SIZE: u64 = 1 << 6;
/// It keeps writes in a cache, and knows `flush`.
const FLUSH: u64 = 1 << 9;

/// The features that the driver understands.
pub const FEATURES: u64 = PARTS_MOST | READ_ONLY | BLOCK_SIZE | FLUSH | feature::EVENT_INDEX;

/// The unit of the device's numbers, in bytes (Virtio 5.2.4).
pub const SECTOR: u64 = 512;

/// Kinds of requests (Virtio 5.2.6).
pub mod kind {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const FLUSH: u32 = 4;
}

/// Values of the status byte.
pub mod status {
    pub const DONE: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const UNSUPPORTED: u8 = 2;
    /// None of the device's: not answered yet.
    pub const NONE: u8 = 0xff;
}

/// Bytes of a request's head: kind, reserved, sector.
pub const HEAD: u32 = 16;

/// What a request moves.
#[derive(Debug)]
pub enum Data<'a> {
    /// From the device.
    Read(&'a mut [u8]),
    /// To the device.
    Write(&'a [u8]),
    /// Nothing: make what was written durable.
    Flush,
}

impl Data<'_> {
    /// How many bytes.
    pub fn length(&self) -> usize {
        match self {
            Data::Read(into) => into.len(),
            Data::Write(from) => from.len(),
            Data::Flush => 0,
        }
    }
}

/// What the device says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Characteristics {
    /// Size and blocks.
    pub geometry: Geometry,
    /// The most parts of a request, head and status not counted.
    pub parts: u32,
    /// Whether `flush` is needed and known.
    pub flush: bool,
}

impl Characteristics {
    /// Reads the configuration; fails if it makes no sense.
    pub fn read(transport: &dyn Transport, features: u64) -> Result<Characteristics, Misbehaved> {
        let word = |transport: &dyn Transport, offset: usize| transport.configuration_32(offset);
        let (sectors, parts, block_size) = configuration_consistently(transport, |transport| {
            let sectors = u64::from(word(transport, 0)) | u64::from(word(transport, 4)) << 32;
            (sectors, word(transport, 12), word(transport, 20))
        })?;
        let block_size = if features & BLOCK_SIZE != 0 { block_size } else { SECTOR as u32 };
        let parts = if features & PARTS_MOST != 0 { parts.max(1) } else { 1 };
        if !block_size.is_power_of_two() || !(SECTOR as u32..=65536).contains(&block_size) {
            return Err(Misbehaved::Nonsense);
        }
        let a_block = u64::from(block_size) / SECTOR;
        let blocks = sectors.checked_div(a_block).ok_or(Misbehaved::Nonsense)?;
        // So that no byte's number overflows later.
        if sectors.checked_mul(SECTOR).is_none() {
            return Err(Misbehaved::Nonsense);
        }
        let geometry = Geometry { block_size, blocks, read_only: features & READ_ONLY != 0 };
        Ok(Characteristics { geometry, parts, flush: features & FLUSH != 0 })
    }
}
