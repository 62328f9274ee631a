//! Drives virtio devices from the first process: the drivers are linked into it and get their devices from a bus in the same process.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use tessera_interfaces::{Block, Cap, Device};
use tessera_pci::{Authority, Pci, Ports};
use tessera_runtime::object::{IoPort, Mmio};
use tessera_runtime::{Error, Start, log, own, program};
use tessera_virtio_blk::VirtioBlk;
use tessera_virtio_mmio::VirtioMmio;

mod network;

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

/// What finds the devices.
enum Bus {
    Pci(Pci),
    Mmio(VirtioMmio),
}

impl Bus {
    fn open(start: &mut Start) -> Result<Bus, Error> {
        let ports: IoPort = start.take("ports")?;
        let (devices, interrupts, dma): (Mmio, _, _) =
            (start.take("devices")?, start.take("interrupts")?, start.take("dma")?);
        if start.arguments().any(|argument| argument == "mmio") {
            let registers = devices.narrow(&own::pool(), tessera_virtio_mmio::BASE, 3 * 4096)?;
            let authority = tessera_virtio_mmio::Authority { registers, interrupts, dma };
            return VirtioMmio::open(authority, false).map(Bus::Mmio).map_err(|_| Error::BadState);
        }
        let ports = ports.narrow(&own::pool(), 0xcf8, 8)?;
        let authority = Authority { devices, interrupts, dma };
        Ok(Bus::Pci(Pci::open(Arc::new(Ports::new(ports)), authority, Vec::new())))
    }

    fn device(&self, client: &str) -> Cap<dyn Device> {
        Cap::local(match self {
            Bus::Pci(pci) => pci.device(client),
            Bus::Mmio(mmio) => mmio.device(client),
        })
    }
}

fn run(start: &mut Start) -> Result<(), alloc::string::String> {
    let bus = Bus::open(start).map_err(|error| alloc::format!("{error}"))?;
    let block = VirtioBlk::open(bus.device("virtio-blk")).map_err(|error| alloc::format!("{error}"))?;
    log!("{:?}", block.geometry());
    let mut bytes = vec![0; 1 << 20];
    block.read(0, &mut bytes).map_err(|error| alloc::format!("{error:?}"))?;
    log!("first bytes: {:x?}", &bytes[..16]);
    let pattern: Vec<u8> = (0..1_u32 << 20).map(|number| (number * 7 >> 3) as u8).collect();
    block.write(3, &pattern).map_err(|error| alloc::format!("{error:?}"))?;
    block.flush().map_err(|error| alloc::format!("{error:?}"))?;
    block.read(3, &mut bytes).map_err(|error| alloc::format!("{error:?}"))?;
    log!("same: {}", bytes == pattern);
    network::run(bus.device("virtio-net"))
}
