//! Random bytes from a model of the device, which gives few, none, or lies.

use tessera_memory::Memory;
use tessera_runtime::object::Event;
use tessera_runtime::{Object, own};
use tessera_virtio::{DmaMemory, Layout, Mmio, PAGE, Transport, feature, start};
use tessera_virtio_driver::Link;
use tessera_virtio_rng::{Failure, INTERRUPT, Source};
use tessera_virtio_testing::{Device, MmioRegisters};

struct Started(Mmio<MmioRegisters>);

impl Link for Started {
    fn transport(&self) -> &dyn Transport {
        &self.0
    }
    fn acknowledge(&self) {}
}

/// Fills `length` bytes from a device that writes as much at a time as `written` says (what it gives, what it says).
fn fill(length: usize, written: fn(u32) -> (u32, u32)) -> Result<Vec<u8>, Failure> {
    let device = Device::new(4, feature::VERSION_1, &[8], &[]);
    let rings = Memory::private(Layout::BYTES);
    let rings = DmaMemory::new(rings.clone(), device.expose(&rings, 0x10_0000)).unwrap();
    let page = Memory::private(PAGE);
    let kept = page.clone();
    let page = DmaMemory::new(page.clone(), device.expose(&page, 0x100_0000)).unwrap();
    let transport = Mmio::new(device.mmio()).unwrap();
    let configured = start::<1>(&transport, 4, 0, &rings, 8, |_| 0).unwrap();
    let [queue] = configured.queues;
    let event = Event::create(&own::pool()).unwrap();
    let bell = event.try_clone().unwrap();
    let mut source = Source::new(Started(transport), queue, event, page);
    let server = std::thread::spawn(move || {
        let mut next = 0_u8;
        loop {
            if let Some(chain) = device.take(0) {
                let (given, said) = written(chain.writable[0].1);
                let bytes: Vec<u8> = (0..given)
                    .map(|_| {
                        next = next.wrapping_add(1).max(1);
                        next
                    })
                    .collect();
                device.write(&chain, &bytes);
                if device.give(0, chain.head.into(), said) {
                    bell.raise(INTERRUPT).unwrap();
                }
            }
            if device.with(|state| state.status) == 0 {
                return;
            }
            std::thread::yield_now();
        }
    });
    let mut bytes = vec![0; length];
    let outcome = source.fill(&mut bytes);
    source.link().transport().set_status(0);
    server.join().unwrap();
    if outcome.is_ok() {
        assert!((0..PAGE).all(|at| kept.load_8(at) == 0), "what was given out is wiped");
    }
    outcome.map(|()| bytes)
}

#[test]
fn every_byte_is_the_devices() {
    for length in [0, 1, 4096, 10_000] {
        let bytes = fill(length, |room| (room, room)).unwrap();
        assert!(bytes.len() == length && bytes.iter().all(|byte| *byte != 0));
    }
    // A device that gives little at a time.
    let bytes = fill(300, |room| (room.min(7), room.min(7))).unwrap();
    assert!(bytes.iter().all(|byte| *byte != 0));
}

#[test]
fn a_device_that_gives_nothing_is_given_up() {
    assert_eq!(fill(10, |_| (0, 0)), Err(Failure));
}

#[test]
fn one_that_says_it_gave_more_than_there_was_room_for_gave_what_there_was() {
    assert_eq!(fill(10, |room| (room, u32::MAX)).map(|bytes| bytes.len()), Ok(10));
}
