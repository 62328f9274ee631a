//! Devices that store blocks of a fixed size.

use tessera_runtime::{InterfaceError, Plain, TransportError, interface};

/// A device that stores fixed-size blocks.
///
/// A write that was answered survives a loss of power only after a `flush` that came later was answered.
#[interface]
pub trait Block {
    /// What the device is like. It does not change while the capability lives.
    fn geometry(&self) -> Result<Geometry, BlockError>;

    /// Fills `into`, whole blocks, from block `first` on.
    fn read(&self, first: u64, into: &mut [u8]) -> Result<(), BlockError>;

    /// Stores `from`, whole blocks, from block `first` on. On an error any of these blocks may hold the old content, the new, or part of each.
    fn write(&self, first: u64, from: &[u8]) -> Result<(), BlockError>;

    /// Makes all writes that were answered before durable.
    fn flush(&self) -> Result<(), BlockError>;
}

/// What a block device is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Geometry {
    /// Bytes of a block, a power of two.
    pub block_size: u32,
    /// How many blocks there are.
    pub blocks: u64,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// Why a block device refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum BlockError {
    /// The range ends behind the last block.
    OutOfRange,
    /// The buffer is not a whole number of blocks.
    NotWholeBlocks,
    /// The device cannot be written.
    ReadOnly,
    /// The device could not do it: the data is lost or was not stored.
    Device,
    /// The device does not do this.
    NotSupported,
    /// The call did not reach the object, or its answer did not come back.
    Transport(TransportError),
}
