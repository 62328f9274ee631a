//! How a driver starts its device (Virtio 3.1.1).

use crate::{DmaMemory, Layout, MOST, Misbehaved, Queue, Transport, feature};

/// Device status bits (Virtio 2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;

/// How often a status is read while the device resets; each read takes as long as the bus takes.
const PATIENCE: u32 = 100_000;

/// Why a device was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// It is a device of another kind.
    WrongType,
    /// It does not know version 1, or refused the features.
    Features,
    /// It never finished its reset.
    Reset,
    /// It lacks a queue, or refused one.
    Queue,
    /// The memory for the queues is too small.
    Memory,
    /// It broke the rules.
    Misbehaved(Misbehaved),
}

impl From<Misbehaved> for StartError {
    fn from(reason: Misbehaved) -> StartError {
        StartError::Misbehaved(reason)
    }
}

/// A device that runs.
#[derive(Debug)]
pub struct Configured<const QUEUES: usize> {
    /// The features that both sides agreed on.
    pub features: u64,
    /// Its queues, by number.
    pub queues: [Queue; QUEUES],
}

/// Resets the device and starts it: agrees on those of `wanted` features that it has, and sets up queues 0 to `QUEUES`, of up to `size`
/// descriptors each, in `memory`: [`Layout::BYTES`] a queue. Queue n uses interrupt vector `vectors(n)`.
///
/// The device's configuration may be read afterwards. Memory that was given to the device before is out of its reach
/// once this returns, also if it fails with anything but `Reset`.
pub fn start<const QUEUES: usize>(
    transport: &dyn Transport,
    device_type: u32,
    wanted: u64,
    memory: &DmaMemory,
    size: u16,
    vectors: impl Fn(u16) -> u16,
) -> Result<Configured<QUEUES>, StartError> {
    reset(transport)?;
    if transport.device_type() != device_type {
        return Err(StartError::WrongType);
    }
    let outcome = negotiate(transport, wanted, memory, size, vectors);
    if outcome.is_err() {
        transport.set_status(FAILED);
    }
    outcome
}

/// Stops the device: afterwards it touches no memory (Virtio 2.4.1).
fn reset(transport: &dyn Transport) -> Result<(), StartError> {
    transport.set_status(0);
    for _ in 0..PATIENCE {
        if transport.status() == 0 {
            return Ok(());
        }
    }
    Err(StartError::Reset)
}

fn negotiate<const QUEUES: usize>(
    transport: &dyn Transport,
    wanted: u64,
    memory: &DmaMemory,
    size: u16,
    vectors: impl Fn(u16) -> u16,
) -> Result<Configured<QUEUES>, StartError> {
    transport.set_status(ACKNOWLEDGE);
    transport.set_status(ACKNOWLEDGE | DRIVER);
    let features = transport.features() & (wanted | feature::VERSION_1 | feature::ACCESS_PLATFORM);
    if features & feature::VERSION_1 == 0 {
        return Err(StartError::Features);
    }
    transport.set_features(features);
    transport.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
    if transport.status() & FEATURES_OK == 0 {
        return Err(StartError::Features);
    }
    let event_index = features & feature::EVENT_INDEX != 0;
    let mut queues = [const { None }; QUEUES];
    for (number, place) in (0_u16..).zip(&mut queues) {
        let limit = transport.queue_limit(number).min(size).min(MOST);
        if limit == 0 {
            return Err(StartError::Queue);
        }
        // The largest power of two below the limit.
        let size = 1_u16.checked_shl(limit.ilog2()).unwrap_or(1);
        let part = memory.part(usize::from(number).saturating_mul(Layout::BYTES), Layout::BYTES);
        let part = part.ok_or(StartError::Memory)?;
        let queue = Queue::new(&part, size, event_index).ok_or(StartError::Memory)?;
        if !transport.set_queue(number, size, queue.addresses(), vectors(number)) {
            return Err(StartError::Queue);
        }
        *place = Some(queue);
    }
    transport.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    if failed(transport) {
        return Err(Misbehaved::Nonsense.into());
    }
    collect(queues).map(|queues| Configured { features, queues }).ok_or(StartError::Queue)
}

/// All of an array's values, if all are there.
fn collect<T, const COUNT: usize>(values: [Option<T>; COUNT]) -> Option<[T; COUNT]> {
    let values: alloc::vec::Vec<T> = values.into_iter().collect::<Option<_>>()?;
    values.try_into().ok()
}

/// Whether the device says that it needs a reset, or is gone.
pub fn failed(transport: &dyn Transport) -> bool {
    transport.status() & NEEDS_RESET != 0
}
