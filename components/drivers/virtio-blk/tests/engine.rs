//! Requests against a model of the device: one that serves, one that fails, one that lies, one that says nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tessera_memory::Memory;
use tessera_runtime::object::Event;
use tessera_runtime::{Object, own};
use tessera_virtio::{DmaMemory, Layout, Misbehaved, Mmio, Transport, feature, start};
use tessera_virtio_blk::{Characteristics, Data, Engine, FEATURES, Failure};
use tessera_virtio_driver::Link;
use tessera_virtio_testing::{Device, MmioRegisters};

const INTERRUPT: u64 = 1 << 32;
const PARTS: u64 = 1 << 2;
const FLUSH: u64 = 1 << 9;
const BLOCK: u32 = 2;

/// The started device as the engine sees it.
struct Started(Mmio<MmioRegisters>);

impl Link for Started {
    fn transport(&self) -> &dyn Transport {
        &self.0
    }
    fn acknowledge(&self) {
        self.0.interrupt_status();
    }
}

/// Configuration: sectors, most parts of a request, bytes of a block.
fn configuration(sectors: u64, parts: u32, block: u32) -> Vec<u8> {
    let mut bytes = sectors.to_le_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(parts.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(block.to_le_bytes());
    bytes
}

fn engine(device: &Device) -> (Arc<Engine<Started>>, Event) {
    let rings = Memory::private(Layout::BYTES);
    let rings = DmaMemory::new(rings.clone(), device.expose(&rings, 0x10_0000)).unwrap();
    let data = Memory::private(Engine::<Started>::MEMORY);
    let data = DmaMemory::new(data.clone(), device.expose(&data, 0x100_0000)).unwrap();
    let transport = Mmio::new(device.mmio()).unwrap();
    let configured = start::<1>(&transport, BLOCK, FEATURES, &rings, 256, |_| 0).unwrap();
    let [queue] = configured.queues;
    let characteristics = Characteristics::read(&transport, configured.features).unwrap();
    let event = Event::create(&own::pool()).unwrap();
    let bell = event.try_clone().unwrap();
    (Arc::new(Engine::new(Started(transport), queue, event, data, characteristics)), bell)
}

/// How the model answers a request.
type Answer = fn(request: u32, sector: u64) -> u8;

/// Serves requests from `disk` in a thread, until told to stop.
struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new(device: &Device, bell: Event, disk: Arc<Mutex<Vec<u8>>>, answer: Answer) -> Server {
        let (device, stop) = (device.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Some(chain) = device.take(0) else {
                    thread::yield_now();
                    continue;
                };
                let bytes = device.read(&chain);
                let kind = u32::from_le_bytes(bytes[..4].try_into().unwrap());
                let sector = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
                let status = answer(kind, sector);
                let room: u32 = chain.writable.iter().map(|(_, length)| length).sum();
                let mut disk = disk.lock().unwrap();
                let at = sector as usize * 512;
                let mut out = Vec::new();
                match kind {
                    0 => out.extend(&disk[at..at + room as usize - 1]),
                    1 => disk[at..at + bytes.len() - 16].copy_from_slice(&bytes[16..]),
                    _ => assert_eq!((kind, bytes.len()), (4, 16)),
                }
                out.push(status);
                let written = device.write(&chain, &out);
                if device.give(0, chain.head.into(), written) {
                    bell.raise(INTERRUPT).unwrap();
                }
            }
        });
        Server { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn disk() -> Arc<Mutex<Vec<u8>>> {
    Arc::new(Mutex::new((0..1_u32 << 20).map(|at| ((at * 31) >> 7) as u8).collect()))
}

fn device(features: u64, parts: u32) -> Device {
    Device::new(BLOCK, features | feature::VERSION_1, &[256], &configuration(2048, parts, 512))
}

#[test]
fn what_is_read_is_what_is_there_and_what_is_written_arrives() {
    for (features, parts) in [(PARTS | FLUSH | feature::EVENT_INDEX, 254), (PARTS, 1), (0, 99)] {
        let device = device(features, parts);
        let (engine, bell) = engine(&device);
        let disk = disk();
        let _server = Server::new(&device, bell, disk.clone(), |_, _| 0);
        for (first, length) in [(0, 512), (7, 4096), (1, 70 * 1024), (100, 300 * 1024)] {
            let mut bytes = vec![0; length];
            engine.transfer(first, Data::Read(&mut bytes)).unwrap();
            assert_eq!(bytes, disk.lock().unwrap()[first as usize * 512..][..length]);
            bytes.reverse();
            engine.transfer(first, Data::Write(&bytes)).unwrap();
            assert_eq!(bytes, disk.lock().unwrap()[first as usize * 512..][..length]);
        }
        engine.transfer(0, Data::Flush).unwrap();
        engine.transfer(0, Data::Read(&mut [])).unwrap();
        device.with(|state| assert_eq!(state.faults, 0, "the device was given addresses of its memory only"));
    }
}

#[test]
fn many_threads_get_each_its_own() {
    let device = device(PARTS | feature::EVENT_INDEX, 254);
    let (engine, bell) = engine(&device);
    let _server = Server::new(&device, bell, disk(), |_, _| 0);
    let threads = (0..6_u64).map(|number| {
        let engine = engine.clone();
        thread::spawn(move || {
            for round in 0..30_u8 {
                let wrote = vec![number as u8 * 40 + round; 66 * 1024];
                engine.transfer(number * 200, Data::Write(&wrote)).unwrap();
                let mut read = vec![0; wrote.len()];
                engine.transfer(number * 200, Data::Read(&mut read)).unwrap();
                assert!(read == wrote, "thread {number}, round {round}");
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
}

#[test]
fn what_the_device_cannot_do_is_an_error_and_the_next_request_is_served() {
    let device = device(PARTS | FLUSH, 254);
    let (engine, bell) = engine(&device);
    let answer: Answer = |kind, sector| match (kind, sector) {
        (4, _) => 2,
        (_, 128..) => 1,
        _ => 0,
    };
    let _server = Server::new(&device, bell, disk(), answer);
    let mut bytes = vec![0; 256 * 1024];
    // Some pieces of this fail, some do not.
    assert_eq!(engine.transfer(0, Data::Read(&mut bytes)), Err(Failure::Refused));
    assert_eq!(engine.transfer(0, Data::Flush), Err(Failure::Unsupported));
    assert_eq!(engine.transfer(0, Data::Read(&mut bytes[..4096])), Ok(()));
    assert!(!engine.is_broken());
}

#[test]
fn a_device_that_lies_is_given_up_by_all_who_wait() {
    let lies: [fn(&Device, u16) -> bool; 4] = [
        // A request that it was not given; more than there can be; done without an answer; a number that is none.
        |device, _| device.give(0, 200, 1),
        |device, _| {
            device.claim(0, 999);
            true
        },
        |device, head| device.give(0, head.into(), 0),
        |device, head| device.give(0, u32::from(head) | 0x10000, 1),
    ];
    for lie in lies {
        let device = device(PARTS, 254);
        let (engine, bell) = engine(&device);
        let waiting: Vec<_> = (0..3)
            .map(|number| {
                let engine = engine.clone();
                thread::spawn(move || engine.transfer(number * 8, Data::Read(&mut [0; 4096])))
            })
            .collect();
        let chain = loop {
            if let Some(chain) = device.take(0) {
                break chain;
            }
            thread::yield_now();
        };
        lie(&device, chain.head);
        bell.raise(INTERRUPT).unwrap();
        for thread in waiting {
            assert_eq!(thread.join().unwrap(), Err(Failure::Broken));
        }
        assert!(engine.is_broken());
        assert_eq!(engine.transfer(0, Data::Write(&[0; 512])), Err(Failure::Broken));
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let read = |sectors: u64, block: u32| {
        let device = Device::new(BLOCK, 0, &[], &configuration(sectors, 1, block));
        Characteristics::read(&Mmio::new(device.mmio()).unwrap(), 1 << 6 | 1 << 5)
    };
    assert_eq!(read(1000, 0), Err(Misbehaved::Nonsense));
    assert_eq!(read(1000, 513), Err(Misbehaved::Nonsense));
    assert_eq!(read(1000, 256), Err(Misbehaved::Nonsense));
    assert_eq!(read(u64::MAX, 512), Err(Misbehaved::Nonsense), "more bytes than can be counted");
    let whole = read(1001, 4096).unwrap().geometry;
    assert_eq!((whole.blocks, whole.block_size, whole.read_only), (125, 4096, true));
}
