//! Start-up of a device over both transports, and what it may answer to prevent it.

use std::sync::Arc;

use tessera_memory::{Memory, Registers};
use tessera_virtio::*;
use tessera_virtio_testing::Device;

fn queues(device: &Device) -> DmaMemory {
    let memory = Memory::private(2 * Layout::BYTES);
    let pages = device.expose(&memory, 0x10_0000);
    DmaMemory::new(memory, pages).unwrap()
}

fn place(window: u8, length: u32) -> Place {
    Place { window, offset: 0, length }
}

fn on_pci(device: &Device, messages: bool) -> Pci {
    let windows = device.pci();
    let places = Capabilities {
        common: place(0, 56),
        notify: place(1, 4096),
        notify_multiplier: 4,
        interrupt_status: place(2, 1),
        device: Some(place(3, 64)),
    };
    Pci::new(2, &places, messages, |place| windows.get(usize::from(place.window)).map(Arc::clone)).unwrap()
}

fn both(device: &Device) -> [Box<dyn Transport>; 2] {
    [Box::new(Mmio::new(device.mmio()).unwrap()), Box::new(on_pci(device, true))]
}

#[test]
fn a_device_starts_over_both_transports() {
    let offered = feature::VERSION_1 | feature::EVENT_INDEX | 1 << 5 | 1 << 40;
    let device = Device::new(2, offered, &[256, 100], &[1, 2, 3, 4, 5, 6, 7, 8]);
    for transport in both(&device) {
        device.with(|state| state.reset_takes = 3);
        let configured: Configured<2> =
            start(&*transport, 2, 1 << 5 | 1 << 6, &queues(&device), 256, |queue| queue + 1).unwrap();
        assert_eq!(configured.features, feature::VERSION_1 | 1 << 5, "what both want");
        assert_eq!(configured.queues.each_ref().map(Queue::size), [256, 64], "a power of two within the limit");
        device.with(|state| {
            assert_eq!((state.status, state.accepted), (15, configured.features));
            for (number, queue) in state.queues.iter().enumerate() {
                assert!(queue.ready);
                let base = 0x10_0000 + number as u64 * 2 * 8192;
                assert_eq!((queue.descriptors, queue.available, queue.used), (base, base + 8192, base + 8192 + 1024));
            }
        });
        transport.notify(1);
        transport.notify(9);
        device.with(|state| assert_eq!((state.queues[0].notifications, state.queues[1].notifications), (0, 1)));
        device.with(|state| state.interrupt_status = 1);
        assert_eq!((transport.interrupt_status(), transport.interrupt_status()), (1, 0));
        let word = configuration_consistently(&*transport, |transport| transport.configuration_32(4)).unwrap();
        assert_eq!((word, transport.configuration_8(2), transport.configuration_8(100)), (0x0807_0605, 3, 0xff));
    }
}

#[test]
fn vectors_are_set_for_messages_only() {
    let device = Device::new(2, feature::VERSION_1, &[8], &[]);
    let memory = queues(&device);
    let begin = |messages: bool, vector: u16| {
        start::<1>(&on_pci(&device, messages), 2, 0, &memory, 8, |_| vector).map(|configured| configured.features)
    };
    begin(true, 2).unwrap();
    device.with(|state| assert_eq!(state.queues[0].vector, 2));
    begin(false, 2).unwrap();
    device.with(|state| assert_eq!(state.queues[0].vector, 0));
    assert_eq!(begin(true, 77), Err(StartError::Queue), "the device has no such vector");
}

#[test]
fn a_device_that_does_not_keep_to_the_rules_is_not_started() {
    let try_start = |change: &dyn Fn(&Device)| {
        let device = Device::new(2, feature::VERSION_1, &[8], &[]);
        let memory = queues(&device);
        change(&device);
        both(&device).map(|transport| start::<1>(&*transport, 2, 0, &memory, 8, |_| 0).err().unwrap())
    };
    let set = |change: fn(&mut tessera_virtio_testing::State)| try_start(&move |device: &Device| device.with(change));
    assert_eq!(set(|state| state.features = 0), [StartError::Features; 2], "a legacy device");
    assert_eq!(set(|state| state.refuses = true), [StartError::Features; 2]);
    assert_eq!(set(|state| state.reset_takes = u32::MAX), [StartError::Reset; 2]);
    assert_eq!(set(|state| state.queues.clear()), [StartError::Queue; 2]);
    assert_eq!(set(|state| state.queues[0].limit = 0), [StartError::Queue; 2]);

    let device = Device::new(1, feature::VERSION_1, &[8], &[]);
    let transport = Mmio::new(device.mmio()).unwrap();
    assert_eq!(start::<1>(&transport, 2, 0, &queues(&device), 8, |_| 0).err(), Some(StartError::WrongType));
    let small = DmaMemory::new(Memory::private(PAGE), vec![0]).unwrap();
    assert_eq!(start::<1>(&transport, 1, 0, &small, 8, |_| 0).err(), Some(StartError::Memory));
    device.with(|state| assert_eq!(state.status & 128, 128, "the device is told that it is given up"));
}

#[test]
fn a_slot_without_a_device_is_none() {
    struct Constant(u32);
    impl Registers for Constant {
        fn read_8(&self, _: usize) -> u8 {
            self.0 as u8
        }
        fn read_16(&self, _: usize) -> u16 {
            self.0 as u16
        }
        fn read_32(&self, _: usize) -> u32 {
            self.0
        }
        fn write_8(&self, _: usize, _: u8) {}
        fn write_16(&self, _: usize, _: u16) {}
        fn write_32(&self, _: usize, _: u32) {}
        fn length(&self) -> usize {
            0x200
        }
    }
    assert!(Mmio::new(Constant(0)).is_none() && Mmio::new(Constant(u32::MAX)).is_none());
    assert!(Mmio::new(Constant(0x7472_6976)).is_none(), "its version is not 2");
    assert!(Mmio::new(Device::new(0, 0, &[], &[]).mmio()).is_none(), "device type 0 is an empty slot");
}

#[test]
fn a_configuration_that_never_stands_still_is_given_up() {
    let device = Device::new(2, feature::VERSION_1, &[8], &[0; 8]);
    device.with(|state| state.restless = true);
    for transport in both(&device) {
        let read = configuration_consistently(&*transport, |transport| transport.configuration_32(0));
        assert_eq!(read, Err(Misbehaved::Restless));
    }
}

/// A configuration space of 256 bytes.
struct Space([u8; 256]);

impl Configuration for Space {
    fn read_8(&self, offset: u16) -> u8 {
        self.0.get(usize::from(offset)).copied().unwrap_or(0xff)
    }
    fn read_32(&self, offset: u16) -> u32 {
        (0..4).rev().fold(0, |value, index| value << 8 | u32::from(self.read_8(offset + index)))
    }
}

/// One with a list of capabilities: where each lies, and kind, window, offset, length of what it tells.
fn space(list: &[(u8, u8, u8, u32, u32)]) -> Space {
    let mut bytes = [0; 256];
    bytes[6] = 0x10;
    let mut link = 0x34;
    for (at, kind, window, offset, length) in list {
        bytes[link] = *at;
        let at = usize::from(*at);
        link = at + 1;
        (bytes[at], bytes[at + 2], bytes[at + 3], bytes[at + 4]) = (9, 20, *kind, *window);
        bytes[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&length.to_le_bytes());
        bytes[at + 16] = 4;
    }
    Space(bytes)
}

#[test]
fn structures_are_found_by_their_capabilities() {
    let found = parse(&space(&[
        (0x40, 1, 9, 0, 4096),
        (0x54, 1, 4, 0, 4096),
        (0x68, 2, 4, 0x3000, 4096),
        (0x7c, 3, 4, 0x1000, 1),
        (0x90, 4, 4, 0x2000, 60),
        (0xa4, 1, 2, 0, 4096),
    ]));
    let found = found.unwrap();
    assert_eq!(found.common, Place { window: 4, offset: 0, length: 4096 }, "the first in a window that exists");
    assert_eq!((found.notify.offset, found.notify_multiplier), (0x3000, 4));
    assert_eq!((found.interrupt_status.offset, found.device.unwrap().length), (0x1000, 60));
}

#[test]
fn a_list_of_capabilities_may_be_a_circle_or_garbage() {
    assert_eq!(parse(&space(&[(0x40, 1, 4, 0, 4096), (0x54, 2, 4, 0, 64)])), None, "no interrupt status");
    assert_eq!(parse(&space(&[(0x40, 1, 4, 0, 8), (0x54, 2, 4, 0, 64), (0x68, 3, 4, 0, 1)])), None, "too short");
    let mut circle = space(&[(0x40, 1, 4, 0, 4096), (0x54, 2, 4, 0, 64)]);
    circle.0[0x55] = 0x40;
    assert_eq!(parse(&circle), None);
    assert_eq!(parse(&Space([0xff; 256])), None);
    assert_eq!(parse(&Space([0; 256])), None);
    for seed in 0..=255_u8 {
        let mut bytes = [0; 256];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = (index as u8).wrapping_mul(seed).wrapping_add(seed) & if seed & 1 == 0 { 0x4d } else { 0xff };
        }
        bytes[6] = 0x10;
        let _ = parse(&Space(bytes));
    }
}

#[test]
fn only_devices_of_version_1_are_virtio_here() {
    assert_eq!((pci_device_type(0x1af4, 0x1041), pci_device_type(0x1af4, 0x1042)), (Some(1), Some(2)));
    assert_eq!((pci_device_type(0x1af4, 0x1000), pci_device_type(0x8086, 0x1041)), (None, None));
    assert_eq!((pci_device_type(0x1af4, 0x1040), pci_device_type(0x1af4, 0xffff)), (None, None));
}

#[test]
fn pieces_follow_the_bus_addresses() {
    let memory = Memory::private(4 * PAGE);
    let dma = DmaMemory::new(memory.clone(), vec![0x1000, 0x2000, 0x9000, 0x4000]).unwrap();
    let pieces: Vec<_> = dma.pieces(100, 4 * PAGE).collect();
    assert_eq!(pieces, [(0x1064, 8092), (0x9000, 4096), (0x4000, 4096)], "ends where the memory does");
    assert_eq!(dma.address(4 * PAGE), None);
    let part = dma.part(0, PAGE).unwrap();
    assert_eq!(part.address(8), Some((0x1008, PAGE - 8)), "what follows it on the bus is not its own");
    assert_eq!(dma.pieces(usize::MAX, 10).count(), 0);
    assert!(DmaMemory::new(memory, vec![0; 3]).is_none());
    let wraps = DmaMemory::new(Memory::private(PAGE), vec![u64::MAX]).unwrap();
    assert_eq!(wraps.address(8), None);
}

#[test]
fn a_clients_name_says_which_device_it_is_meant_to_get() {
    assert_eq!(client_wants("virtio-net"), Some((1, 0)));
    assert_eq!(client_wants("virtio-blk-2"), Some((2, 1)));
    for other in ["net", "virtio-net-0", "virtio-net-x", "virtio-network", "virtio-net-99999999999999999999", ""] {
        assert_eq!(client_wants(other), None, "{other}");
    }
}
