//! Drives virtio devices from the first process: the drivers are linked into it and get their devices from a bus in the same process.
//!
//! The arguments say what is tried: `block`, `network`, `entropy`, `console`, `clock`, `around` (a second entropy source, which goes around the IOMMU); `mmio` that the devices are not on PCI.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_interfaces::{Cap, Device, Keeper, KeeperError};
use tessera_pci::{Authority, Pci, Ports};
use tessera_runtime::object::{Dma, IoPort, Mmio};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{Error, Start, log, own, program};
use tessera_virtio_mmio::VirtioMmio;

mod block;
mod network;
mod others;

program!(main);

fn main(mut start: Start) -> i32 {
    match run(&mut start) {
        Ok(()) => 0,
        Err(reason) => {
            log!("failed: {reason}");
            1
        }
    }
}

/// Keeps what devices reach. In one process with the bus it outlives nothing that the bus does not.
#[derive(Default)]
struct Kept(Mutex<Vec<(u64, Dma)>>);

impl Keeper for Kept {
    fn keep(&self, device: u64, memory: Dma) -> Result<(), KeeperError> {
        let mut kept = self.0.lock();
        if kept.iter().any(|(other, _)| *other == device) {
            return Err(KeeperError::Taken);
        }
        kept.push((device, memory));
        Ok(())
    }

    fn release(&self, device: u64) -> Result<(), KeeperError> {
        self.0.lock().retain(|(other, _)| *other != device);
        Ok(())
    }
}

/// What finds the devices.
enum Bus {
    Pci(Pci),
    Mmio(VirtioMmio),
}

impl Bus {
    fn open(start: &mut Start, ports: &IoPort) -> Result<Bus, Error> {
        let (devices, interrupts, dma): (Mmio, _, _) =
            (start.take("devices")?, start.take("interrupts")?, start.take("dma")?);
        let keeper = Cap::local(Arc::new(Kept::default()) as Arc<dyn Keeper>);
        if start.arguments().any(|argument| argument == "mmio") {
            let registers = devices.narrow(&own::pool(), tessera_virtio_mmio::BASE, 3 * 4096)?;
            let authority = tessera_virtio_mmio::Authority { registers, interrupts, dma, keeper };
            return VirtioMmio::open(authority, false).map(Bus::Mmio).map_err(|_| Error::BadState);
        }
        let ports = ports.narrow(&own::pool(), 0xcf8, 8)?;
        let authority = Authority { devices, interrupts, dma, keeper };
        Ok(Bus::Pci(Pci::open(Arc::new(Ports::new(ports)), authority, Vec::new())))
    }

    fn device(&self, client: &str) -> Cap<dyn Device> {
        Cap::local(match self {
            Bus::Pci(pci) => pci.device(client),
            Bus::Mmio(mmio) => mmio.device(client),
        })
    }
}

fn run(start: &mut Start) -> Result<(), String> {
    let said = |error: Error| format!("{error}");
    let ports: IoPort = start.take("ports").map_err(said)?;
    let bus = Bus::open(start, &ports).map_err(said)?;
    for what in start.arguments() {
        match what {
            "block" => block::run(bus.device("virtio-blk"))?,
            "network" => network::run(bus.device("virtio-net"))?,
            "entropy" => others::entropy(bus.device("virtio-rng"))?,
            "around" => others::around(bus.device("virtio-rng-2"))?,
            "console" => others::console(bus.device("virtio-console"))?,
            "clock" => others::clock(&ports)?,
            _ => {}
        }
    }
    Ok(())
}
