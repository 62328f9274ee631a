//! The structures of Virtio 4.1.4.

use tessera_memory::Registers;

use crate::{Device, Select};

/// Vectors that the device has.
const VECTORS: u16 = 4;

macro_rules! not_there {
    ($($read:ident $write:ident $number:ty),*) => {$(
        fn $read(&self, _offset: usize) -> $number {
            <$number>::MAX
        }
        fn $write(&self, _offset: usize, _value: $number) {}
    )*};
}

/// The common configuration (4.1.4.3).
#[derive(Debug)]
pub struct Common(pub(crate) Device);

impl Registers for Common {
    fn read_8(&self, offset: usize) -> u8 {
        self.0.with(|state| match offset {
            20 => state.read_status(),
            21 => state.generation as u8,
            _ => 0xff,
        })
    }

    fn read_16(&self, offset: usize) -> u16 {
        self.0.with(|state| {
            if offset == 18 {
                return state.queues.len() as u16;
            }
            let limit_only = offset == 24;
            // The model's notification offset of a queue is its number.
            let number = state.queues.len();
            let Some(queue) = state.queue() else { return 0 };
            match offset {
                24 if limit_only && queue.size == 0 => queue.limit,
                24 => queue.size,
                26 => queue.vector,
                28 => queue.ready.into(),
                30 => queue.limit.min(number as u16),
                _ => 0xffff,
            }
        })
    }

    fn read_32(&self, offset: usize) -> u32 {
        self.0.with(|state| if offset == 4 { state.features_half() } else { u32::MAX })
    }

    fn write_8(&self, offset: usize, value: u8) {
        if offset == 20 {
            self.0.with(|state| state.write_status(value));
        }
    }

    fn write_16(&self, offset: usize, value: u16) {
        self.0.with(|state| {
            if offset == 22 {
                return state.select(Select::Queue, value.into());
            }
            let Some(queue) = state.queue() else { return };
            match offset {
                24 => queue.size = value,
                26 => queue.vector = if value < VECTORS { value } else { 0xffff },
                28 => queue.ready = value == 1,
                _ => {}
            }
        });
    }

    fn write_32(&self, offset: usize, value: u32) {
        self.0.with(|state| {
            match offset {
                0 => return state.select(Select::DeviceFeatures, value),
                8 => return state.select(Select::DriverFeatures, value),
                12 => return state.accept_half(value),
                _ => {}
            }
            let Some(queue) = state.queue() else { return };
            let place = match offset & !7 {
                32 => &mut queue.descriptors,
                40 => &mut queue.available,
                48 => &mut queue.used,
                _ => return,
            };
            let half = u64::from(value);
            *place = if offset & 4 != 0 { *place & 0xffff_ffff | half << 32 } else { *place & !0xffff_ffff | half };
        });
    }

    fn length(&self) -> usize {
        56
    }
}

/// The notification registers (4.1.4.4): any write there of a queue's number.
#[derive(Debug)]
pub struct Notify(pub(crate) Device);

impl Registers for Notify {
    not_there!(read_8 write_8 u8, read_32 write_32 u32);

    fn read_16(&self, _offset: usize) -> u16 {
        0xffff
    }

    fn write_16(&self, _offset: usize, value: u16) {
        self.0.with(|state| state.notified(value.into()));
    }

    fn length(&self) -> usize {
        4096
    }
}

/// The interrupt status (4.1.4.5), cleared when read.
#[derive(Debug)]
pub struct Isr(pub(crate) Device);

impl Registers for Isr {
    not_there!(read_16 write_16 u16, read_32 write_32 u32);

    fn read_8(&self, _offset: usize) -> u8 {
        self.0.with(|state| std::mem::take(&mut state.interrupt_status))
    }

    fn write_8(&self, _offset: usize, _value: u8) {}

    fn length(&self) -> usize {
        1
    }
}

/// The device-specific configuration (4.1.4.6).
#[derive(Debug)]
pub struct Specific(pub(crate) Device);

impl Registers for Specific {
    not_there!(read_16 write_16 u16);

    fn read_8(&self, offset: usize) -> u8 {
        self.0.with(|state| state.configuration_bytes(offset, 1) as u8)
    }

    fn read_32(&self, offset: usize) -> u32 {
        self.0.with(|state| state.configuration_bytes(offset, 4))
    }

    fn write_8(&self, _offset: usize, _value: u8) {}
    fn write_32(&self, _offset: usize, _value: u32) {}

    fn length(&self) -> usize {
        self.0.with(|state| state.configuration.len())
    }
}
