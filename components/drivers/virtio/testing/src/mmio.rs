//! The registers of Virtio 4.2.2.

use tessera_memory::Registers;

use crate::{Device, Select};

/// Reads answer and writes act as on a device of version 2.
#[derive(Debug)]
pub struct MmioRegisters(pub(crate) Device);

fn set_half(value: &mut u64, high: bool, half: u32) {
    let half = u64::from(half);
    *value = if high { *value & 0xffff_ffff | half << 32 } else { *value & !0xffff_ffff | half };
}

impl Registers for MmioRegisters {
    fn read_8(&self, offset: usize) -> u8 {
        match offset.checked_sub(0x100) {
            Some(offset) => self.0.with(|state| state.configuration_bytes(offset, 1) as u8),
            None => 0xff,
        }
    }

    fn read_16(&self, _offset: usize) -> u16 {
        0xffff
    }

    fn read_32(&self, offset: usize) -> u32 {
        self.0.with(|state| match offset {
            0 => 0x7472_6976,
            4 => 2,
            8 => state.device_type,
            0x10 => state.features_half(),
            0x34 => state.queue().map_or(0, |queue| queue.limit.into()),
            0x44 => state.queue().map_or(0, |queue| queue.ready.into()),
            0x60 => state.interrupt_status.into(),
            0x70 => state.read_status().into(),
            0xfc => state.generation,
            0x100.. => state.configuration_bytes(offset - 0x100, 4),
            _ => 0,
        })
    }

    fn write_8(&self, _offset: usize, _value: u8) {}
    fn write_16(&self, _offset: usize, _value: u16) {}

    fn write_32(&self, offset: usize, value: u32) {
        self.0.with(|state| {
            match offset {
                0x14 => state.select(Select::DeviceFeatures, value),
                0x20 => state.accept_half(value),
                0x24 => state.select(Select::DriverFeatures, value),
                0x30 => state.select(Select::Queue, value),
                0x50 => state.notified(value as usize),
                0x64 => state.interrupt_status &= !(value as u8),
                0x70 => state.write_status(value as u8),
                _ => {}
            }
            let Some(queue) = state.queue() else { return };
            match offset {
                0x38 => queue.size = value as u16,
                0x44 => queue.ready = value == 1 && queue.size > 0 && queue.size <= queue.limit,
                0x80 | 0x84 => set_half(&mut queue.descriptors, offset == 0x84, value),
                0x90 | 0x94 => set_half(&mut queue.available, offset == 0x94, value),
                0xa0 | 0xa4 => set_half(&mut queue.used, offset == 0xa4, value),
                _ => {}
            }
        });
    }

    fn length(&self) -> usize {
        0x200
    }
}
