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
use tessera_runtime::object::IoPort;
use tessera_runtime::{Start, log, own, program};
use tessera_virtio_blk::VirtioBlk;

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

fn run(start: &mut Start) -> Result<(), alloc::string::String> {
    let said = |error: tessera_runtime::Error| alloc::format!("{error}");
    let ports: IoPort = start.take("ports").map_err(said)?;
    let authority = Authority {
        devices: start.take("devices").map_err(said)?,
        interrupts: start.take("interrupts").map_err(said)?,
        dma: start.take("dma").map_err(said)?,
    };
    let ports = ports.narrow(&own::pool(), 0xcf8, 8).map_err(said)?;
    let pci = Pci::open(Arc::new(Ports::new(ports)), authority, Vec::new());
    for device in pci.devices() {
        log!("{:?}", device.function());
    }
    let device: Cap<dyn Device> = Cap::local(pci.device("virtio-blk"));
    let block = VirtioBlk::open(device).map_err(|error| alloc::format!("{error}"))?;
    log!("{:?}", block.geometry());
    let mut bytes = vec![0; 1 << 20];
    block.read(0, &mut bytes).map_err(|error| alloc::format!("{error:?}"))?;
    log!("first bytes: {:x?}", &bytes[..16]);
    let pattern: Vec<u8> = (0..1_u32 << 20).map(|number| (number * 7 >> 3) as u8).collect();
    block.write(3, &pattern).map_err(|error| alloc::format!("{error:?}"))?;
    block.flush().map_err(|error| alloc::format!("{error:?}"))?;
    block.read(3, &mut bytes).map_err(|error| alloc::format!("{error:?}"))?;
    log!("same: {}", bytes == pattern);
    network::run(Cap::local(pci.device("virtio-net")))
}
