//! Bytes in and out against a model of the device.

use tessera_interfaces::ConsoleSize;
use tessera_memory::Memory;
use tessera_virtio::{DmaMemory, Layout, Misbehaved, Mmio, Transport, feature, start};
use tessera_virtio_console::{FEATURES, Port, SIZE_KNOWN};
use tessera_virtio_driver::Link;
use tessera_virtio_testing::{Device, MmioRegisters};

const RECEIVE: usize = 0;
const SEND: usize = 1;

struct Started(Mmio<MmioRegisters>);

impl Link for Started {
    fn transport(&self) -> &dyn Transport {
        &self.0
    }
    fn acknowledge(&self) {}
}

fn port(size: u16) -> (Device, Port<Started>) {
    let device = Device::new(3, feature::VERSION_1 | SIZE_KNOWN, &[size, size], &[80, 0, 25, 0]);
    let rings = Memory::private(2 * Layout::BYTES);
    let rings = DmaMemory::new(rings.clone(), device.expose(&rings, 0x10_0000)).unwrap();
    let memory = Memory::private(Port::<Started>::MEMORY);
    let memory = DmaMemory::new(memory.clone(), device.expose(&memory, 0x100_0000)).unwrap();
    let transport = Mmio::new(device.mmio()).unwrap();
    let configured = start::<2>(&transport, 3, FEATURES, &rings, 64, |_| 0).unwrap();
    let size = Port::<Started>::size(&transport, configured.features);
    assert_eq!(size, ConsoleSize { columns: 80, rows: 25 });
    (device, Port::new(Started(transport), configured.queues, memory).unwrap())
}

fn typed(device: &Device, text: &[u8]) {
    let chain = device.take(RECEIVE).expect("the device was given a page");
    let written = device.write(&chain, text);
    device.give(RECEIVE, chain.head.into(), written);
}

#[test]
fn what_is_typed_is_read_in_order_in_pieces_of_any_size() {
    let (device, mut port) = port(64);
    let mut all = Vec::new();
    let mut read: Vec<u8> = Vec::new();
    for round in 0..200_usize {
        let text: Vec<u8> = (0..round * 3 + 1).map(|at| (round + at) as u8).collect();
        typed(&device, &text);
        all.extend(text);
        assert_eq!(port.harvest(), Ok(true));
        assert!(port.is_readable());
        let mut into = vec![0; round % 50 + 700];
        let count = port.read(&mut into).unwrap();
        read.extend(&into[..count]);
    }
    let mut rest = vec![0; all.len()];
    let count = port.read(&mut rest).unwrap();
    read.extend(&rest[..count]);
    assert!(read == all);
    assert_eq!((port.harvest(), port.is_readable(), port.read(&mut rest)), (Ok(false), false, Ok(0)));
}

#[test]
fn what_nobody_reads_stays_with_the_device() {
    let (device, mut port) = port(64);
    for _ in 0..8 {
        typed(&device, &[b'x'; 4096]);
    }
    port.harvest().unwrap();
    assert_eq!(device.take(RECEIVE), None, "the driver's memory is full");
    assert_eq!(port.read(&mut [0; 5000]), Ok(5000));
    assert!(device.take(RECEIVE).is_some() && device.take(RECEIVE).is_none(), "one page was read to its end");
}

#[test]
fn what_is_written_is_sent_as_far_as_there_is_room() {
    let (device, mut port) = port(64);
    let text: Vec<u8> = (0..50_000_u32).map(|at| (at * 7) as u8).collect();
    let mut sent = Vec::new();
    let mut rest = &text[..];
    while !rest.is_empty() {
        let count = port.write(rest).unwrap();
        rest = &rest[count..];
        assert!(count == 8 * 4096 || rest.is_empty());
        assert!(rest.is_empty() || port.write(rest) == Ok(0), "no room until the device has sent");
        while let Some(chain) = device.take(SEND) {
            sent.extend(device.read(&chain));
            device.give(SEND, chain.head.into(), 0);
        }
        port.harvest().unwrap();
    }
    assert!(sent == text);
    device.with(|state| assert_eq!(state.faults, 0));
}

#[test]
fn who_found_no_room_hears_when_there_is_some() {
    let (device, mut port) = port(64);
    assert_eq!(port.write(&[0; 4096]), Ok(4096));
    let chain = device.take(SEND).unwrap();
    device.give(SEND, chain.head.into(), 0);
    assert_eq!(port.harvest(), Ok(false), "nobody waits for room");
    assert_eq!(port.write(&[0; 9 * 4096]), Ok(8 * 4096));
    assert_eq!(port.harvest(), Ok(false), "nothing was sent yet");
    let chain = device.take(SEND).unwrap();
    assert!(device.give(SEND, chain.head.into(), 0), "the device is to interrupt");
    assert_eq!((port.harvest(), port.harvest()), (Ok(true), Ok(false)));
    assert_eq!(port.write(&[0; 4096]), Ok(4096));
}

#[test]
fn queues_shorter_than_the_drivers_memory_do() {
    let (device, mut port) = port(2);
    typed(&device, b"one");
    typed(&device, b"two");
    port.harvest().unwrap();
    let mut into = [0; 6];
    assert_eq!(port.read(&mut into), Ok(6));
    assert_eq!(&into, b"onetwo");
    assert_eq!(port.write(&[0; 40_000]), Ok(8192));
}

#[test]
fn a_device_that_lies_is_found() {
    let (device, mut first) = port(64);
    device.give(RECEIVE, 63, 10);
    assert_eq!(first.harvest(), Err(Misbehaved::UnknownBuffer));
    let (device, mut second) = port(64);
    device.claim(SEND, 7);
    assert_eq!(second.harvest(), Err(Misbehaved::UnknownBuffer));
    let (device, mut third) = port(64);
    let chain = device.take(RECEIVE).unwrap();
    device.give(RECEIVE, chain.head.into(), u32::MAX);
    third.harvest().unwrap();
    assert_eq!(third.read(&mut [0; 10_000]), Ok(4096), "no more than the page had room for");
}
