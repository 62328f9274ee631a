//! The component: checks what clients ask, and starts the device anew when it fails.

use alloc::sync::Arc;

use tessera_interfaces::{Block, BlockError, Cap, Device, Geometry};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::Event;
use tessera_runtime::sync::Mutex;
use tessera_runtime::{log, own};
use tessera_virtio::device_type::BLOCK;
use tessera_virtio_driver::{AttachError, Attached, Link, end_with_bus};

use crate::engine::INTERRUPT;
use crate::request::SECTOR;
use crate::{Characteristics, Data, Engine, FEATURES, Failure};

/// What it uses.
pub struct Uses {
    /// The device, which it alone drives.
    pub device: Route<dyn Device>,
}

/// A virtio block device.
pub struct VirtioBlk {
    device: Cap<dyn Device>,
    engine: Mutex<Arc<Engine<Attached>>>,
    geometry: Geometry,
}

/// Takes the device over and starts it.
fn open(device: &Cap<dyn Device>) -> Result<Engine<Attached>, AttachError> {
    let attached = Attached::new(device)?;
    let event = Event::create(&own::pool())?;
    let memory = attached.memory(Engine::<Attached>::MEMORY)?;
    let configured = attached.start::<1>(BLOCK, FEATURES, 256, &event, INTERRUPT)?;
    let [queue] = configured.queues;
    let characteristics = Characteristics::read(attached.transport(), configured.features)
        .map_err(|misbehaved| AttachError::Start(misbehaved.into()))?;
    Ok(Engine::new(attached, queue, event, memory, characteristics))
}

impl VirtioBlk {
    /// Starts the device.
    pub fn new(_context: Context, uses: Uses) -> Result<Arc<VirtioBlk>, StartError> {
        end_with_bus(&uses.device)?;
        Ok(Arc::new(VirtioBlk::open(uses.device.cap)?))
    }

    /// Starts a device.
    pub fn open(device: Cap<dyn Device>) -> Result<VirtioBlk, AttachError> {
        let engine = open(&device)?;
        let geometry = engine.geometry();
        Ok(VirtioBlk { device, engine: Mutex::new(Arc::new(engine)), geometry })
    }

    /// The running device in place of one that has failed. Whoever comes first starts it.
    fn again(&self, failed: &Arc<Engine<Attached>>) -> Result<(), BlockError> {
        let mut engine = self.engine.lock();
        if !Arc::ptr_eq(&engine, failed) {
            return Ok(());
        }
        log!("the block device does not answer by the rules; starting it anew");
        let new = open(&self.device).map_err(|error| {
            log!("the block device cannot be started: {error}");
            BlockError::Device
        })?;
        if new.geometry() != self.geometry {
            // It is another device by now: what clients know of it is wrong.
            return Err(BlockError::Device);
        }
        *engine = Arc::new(new);
        Ok(())
    }

    fn transfer(&self, first: u64, mut data: Data<'_>) -> Result<(), BlockError> {
        const TRIES: u32 = 3;
        for _ in 0..TRIES {
            let engine = self.engine.lock().clone();
            let again = match &mut data {
                Data::Read(into) => Data::Read(into),
                Data::Write(from) => Data::Write(from),
                Data::Flush => Data::Flush,
            };
            match engine.transfer(first, again) {
                Ok(()) => return Ok(()),
                Err(Failure::Refused) => return Err(BlockError::Device),
                Err(Failure::Unsupported) => return Err(BlockError::NotSupported),
                Err(Failure::Broken) => self.again(&engine)?,
            }
        }
        Err(BlockError::Device)
    }

    /// The sector that a range of blocks begins at, if all of it exists.
    fn check(&self, first: u64, bytes: usize) -> Result<u64, BlockError> {
        check(self.geometry, first, bytes)
    }
}

/// The sector that a range of blocks begins at, if all of it exists.
pub(crate) fn check(geometry: Geometry, first: u64, bytes: usize) -> Result<u64, BlockError> {
    let Geometry { block_size, blocks, .. } = geometry;
    let bytes = bytes as u64;
    if !bytes.is_multiple_of(block_size.into()) {
        return Err(BlockError::NotWholeBlocks);
    }
    let count = bytes.checked_div(block_size.into()).ok_or(BlockError::Device)?;
    let end = first.checked_add(count).ok_or(BlockError::OutOfRange)?;
    if end > blocks {
        return Err(BlockError::OutOfRange);
    }
    first.checked_mul(u64::from(block_size) / SECTOR).ok_or(BlockError::OutOfRange)
}

impl Block for VirtioBlk {
    fn geometry(&self) -> Result<Geometry, BlockError> {
        Ok(self.geometry)
    }

    fn read(&self, first: u64, into: &mut [u8]) -> Result<(), BlockError> {
        let sector = self.check(first, into.len())?;
        self.transfer(sector, Data::Read(into))
    }

    fn write(&self, first: u64, from: &[u8]) -> Result<(), BlockError> {
        let sector = self.check(first, from.len())?;
        if self.geometry.read_only {
            return Err(BlockError::ReadOnly);
        }
        self.transfer(sector, Data::Write(from))
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.transfer(0, Data::Flush)
    }
}
