//! How a driver reaches its device's registers, whatever the bus (Virtio 4).

use crate::Misbehaved;

/// Bus addresses of a queue's three parts (Virtio 2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueAddresses {
    /// The descriptor table.
    pub descriptors: u64,
    /// The driver's area.
    pub available: u64,
    /// The device's area.
    pub used: u64,
}

/// A virtio device's registers. What they answer is the device's word only.
pub trait Transport: Send + Sync {
    /// What kind of device it is (Virtio 5).
    fn device_type(&self) -> u32;
    /// The device status field (Virtio 2.1).
    fn status(&self) -> u8;
    /// Writes the device status field; 0 resets the device.
    fn set_status(&self, status: u8);
    /// The features that the device offers (Virtio 2.2).
    fn features(&self) -> u64;
    /// Tells the device which of them the driver understands.
    fn set_features(&self, features: u64);
    /// The most descriptors of a queue; 0 if there is no such queue.
    fn queue_limit(&self, queue: u16) -> u16;
    /// Sets a queue up and enables it; its interrupts use the device's `vector`, where the bus has such. Answers whether the device agreed.
    fn set_queue(&self, queue: u16, size: u16, addresses: QueueAddresses, vector: u16) -> bool;
    /// Tells the device that a queue has new buffers.
    fn notify(&self, queue: u16);
    /// What the device interrupted for, and acknowledges it: bit 0 a queue, bit 1 the configuration (Virtio 4.1.4.5, 4.2.2). Needed for
    /// interrupts on a line only.
    fn interrupt_status(&self) -> u8;
    /// Changes when the configuration does (Virtio 2.5.1).
    fn configuration_generation(&self) -> u32;
    /// Bytes of device-specific configuration; all ones where there are none.
    fn configuration_8(&self, offset: usize) -> u8;
    /// Four bytes of it; `offset` is a multiple of 4.
    fn configuration_32(&self, offset: usize) -> u32;
    /// Writes four bytes of it.
    fn set_configuration_32(&self, offset: usize, value: u32);
}

/// Reads configuration with `read` until none of it changed meanwhile (Virtio 2.5.1). A device whose configuration never stands still misbehaves.
pub fn configuration_consistently<T>(
    transport: &dyn Transport,
    read: impl Fn(&dyn Transport) -> T,
) -> Result<T, Misbehaved> {
    const TRIES: u32 = 16;
    for _ in 0..TRIES {
        let before = transport.configuration_generation();
        let value = read(transport);
        if transport.configuration_generation() == before {
            return Ok(value);
        }
    }
    Err(Misbehaved::Restless)
}
