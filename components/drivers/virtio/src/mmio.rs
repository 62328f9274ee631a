//! Virtio over MMIO (Virtio 4.2), for machines without PCI.

use tessera_memory::Registers;

use crate::{QueueAddresses, Transport};

/// Register offsets (Virtio 4.2.2, table 4.1).
const MAGIC: usize = 0x000;
const VERSION: usize = 0x004;
const DEVICE_ID: usize = 0x008;
const DEVICE_FEATURES: usize = 0x010;
const DEVICE_FEATURES_SELECT: usize = 0x014;
const DRIVER_FEATURES: usize = 0x020;
const DRIVER_FEATURES_SELECT: usize = 0x024;
const QUEUE_SELECT: usize = 0x030;
const QUEUE_SIZE_MAX: usize = 0x034;
const QUEUE_SIZE: usize = 0x038;
const QUEUE_READY: usize = 0x044;
const QUEUE_NOTIFY: usize = 0x050;
const INTERRUPT_STATUS: usize = 0x060;
const INTERRUPT_ACKNOWLEDGE: usize = 0x064;
const STATUS: usize = 0x070;
const QUEUE_DESCRIPTORS: usize = 0x080;
const QUEUE_DRIVER: usize = 0x090;
const QUEUE_DEVICE: usize = 0x0a0;
const CONFIGURATION_GENERATION: usize = 0x0fc;
const CONFIGURATION: usize = 0x100;

/// "virt", little-endian.
const MAGIC_VALUE: u32 = 0x7472_6976;

/// A device whose registers lie in one window.
#[derive(Debug)]
pub struct Mmio<R> {
    registers: R,
    device_type: u32,
}

impl<R: Registers> Mmio<R> {
    /// Looks at a window; none if no device of version 2 ("modern", not legacy) is behind it.
    pub fn new(registers: R) -> Option<Mmio<R>> {
        if registers.read_32(MAGIC) != MAGIC_VALUE || registers.read_32(VERSION) != 2 {
            return None;
        }
        let device_type = registers.read_32(DEVICE_ID);
        // 0 is a slot without a device (Virtio 4.2.2).
        (device_type != 0).then_some(Mmio { registers, device_type })
    }

    fn write_64(&self, offset: usize, value: u64) {
        self.registers.write_32(offset, value as u32);
        self.registers.write_32(offset.saturating_add(4), (value >> 32) as u32);
    }
}

impl<R: Registers> Transport for Mmio<R> {
    fn device_type(&self) -> u32 {
        self.device_type
    }

    fn status(&self) -> u8 {
        self.registers.read_32(STATUS) as u8
    }

    fn set_status(&self, status: u8) {
        self.registers.write_32(STATUS, status.into());
    }

    fn features(&self) -> u64 {
        let half = |select: u32| {
            self.registers.write_32(DEVICE_FEATURES_SELECT, select);
            u64::from(self.registers.read_32(DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    fn set_features(&self, features: u64) {
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.registers.write_32(DRIVER_FEATURES_SELECT, select);
            self.registers.write_32(DRIVER_FEATURES, half);
        }
    }

    fn queue_limit(&self, queue: u16) -> u16 {
        self.registers.write_32(QUEUE_SELECT, queue.into());
        self.registers.read_32(QUEUE_SIZE_MAX).min(u32::from(u16::MAX)) as u16
    }

    fn set_queue(&self, queue: u16, size: u16, addresses: QueueAddresses, _vector: u16) -> bool {
        self.registers.write_32(QUEUE_SELECT, queue.into());
        if self.registers.read_32(QUEUE_READY) != 0 {
            return false;
        }
        self.registers.write_32(QUEUE_SIZE, size.into());
        self.write_64(QUEUE_DESCRIPTORS, addresses.descriptors);
        self.write_64(QUEUE_DRIVER, addresses.available);
        self.write_64(QUEUE_DEVICE, addresses.used);
        self.registers.write_32(QUEUE_READY, 1);
        self.registers.read_32(QUEUE_READY) == 1
    }

    fn notify(&self, queue: u16) {
        self.registers.write_32(QUEUE_NOTIFY, queue.into());
    }

    fn interrupt_status(&self) -> u8 {
        let status = self.registers.read_32(INTERRUPT_STATUS);
        self.registers.write_32(INTERRUPT_ACKNOWLEDGE, status);
        status as u8
    }

    fn configuration_generation(&self) -> u32 {
        self.registers.read_32(CONFIGURATION_GENERATION)
    }

    fn configuration_8(&self, offset: usize) -> u8 {
        self.registers.read_8(CONFIGURATION.saturating_add(offset))
    }

    fn configuration_32(&self, offset: usize) -> u32 {
        self.registers.read_32(CONFIGURATION.saturating_add(offset))
    }

    fn set_configuration_32(&self, offset: usize, value: u32) {
        self.registers.write_32(CONFIGURATION.saturating_add(offset), value);
    }
}
