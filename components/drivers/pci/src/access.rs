//! Configuration space: 256 bytes for each function, reached through two ports (PCI 3.0, section 3.2.2.3.2).

use alloc::sync::Arc;

use tessera_runtime::object::{IoPort, Width};
use tessera_runtime::sync::Mutex;

/// The place of a function: bus, device, function, from bit 8, 3 and 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Address(pub u16);

impl Address {
    /// The function of a device on a bus; the numbers are cut to their range.
    pub const fn new(bus: u8, device: u8, function: u8) -> Address {
        Address((bus as u16) << 8 | (device as u16 & 31) << 3 | function as u16 & 7)
    }
}

/// How configuration space is reached. A function that is not there reads as all ones.
pub trait Access: Send + Sync {
    /// Reads four bytes; `offset` is a multiple of 4 below 256.
    fn read(&self, address: Address, offset: u8) -> u32;
    /// Writes four bytes.
    fn write(&self, address: Address, offset: u8, value: u32);
}

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

/// The two ports. An access is two steps, which nobody may come between.
#[derive(Clone)]
pub struct Ports(Arc<Mutex<IoPort>>);

impl Ports {
    /// Ports 0xcf8 to 0xcff, which nobody else uses.
    pub fn new(ports: IoPort) -> Ports {
        Ports(Arc::new(Mutex::new(ports)))
    }
}

impl Access for Ports {
    fn read(&self, address: Address, offset: u8) -> u32 {
        let ports = self.0.lock();
        let place = ENABLE | u32::from(address.0) << 8 | u32::from(offset & 0xfc);
        let read = ports.write(ADDRESS, Width::Double, place).and_then(|()| ports.read(DATA, Width::Double));
        read.unwrap_or(u32::MAX)
    }

    fn write(&self, address: Address, offset: u8, value: u32) {
        let ports = self.0.lock();
        let place = ENABLE | u32::from(address.0) << 8 | u32::from(offset & 0xfc);
        // Refused only if the ports are not ours; then reads show nothing either.
        let _ = ports.write(ADDRESS, Width::Double, place).and_then(|()| ports.write(DATA, Width::Double, value));
    }
}
