//! Frames between a client's rings and a model of the card, and what either may do to break that.

use tessera_interfaces::offloads;
use tessera_memory::Memory;
use tessera_rings::{BUFFER, Client, Driver, HEADROOM, Offload, Received, layout};
use tessera_virtio::{DmaMemory, Layout, Misbehaved, Mmio, Transport, feature, start};
use tessera_virtio_driver::Link;
use tessera_virtio_net::{Card, Ended, Pump, wanted};
use tessera_virtio_testing::{Device, MmioRegisters};

const NETWORK: u32 = 1;
const RECEIVE: usize = 0;
const SEND: usize = 1;
const CONFIGURATION: [u8; 12] = [0x52, 0x54, 0, 1, 2, 3, 1, 0, 0, 0, 0xdc, 5];

struct Started(Mmio<MmioRegisters>);

impl Link for Started {
    fn transport(&self) -> &dyn Transport {
        &self.0
    }
    fn acknowledge(&self) {}
}

struct Setup {
    device: Device,
    client: Client,
    pump: Pump<Started>,
    rings: Memory,
}

fn setup(features: u64, buffers: u32) -> Setup {
    let device = Device::new(NETWORK, features | feature::VERSION_1, &[64, 128], &CONFIGURATION);
    let queues = Memory::private(2 * Layout::BYTES);
    let queues = DmaMemory::new(queues.clone(), device.expose(&queues, 0x10_0000)).unwrap();
    let memory = Memory::private(buffers as usize * BUFFER);
    let shared = DmaMemory::new(memory.clone(), device.expose(&memory, 0x100_0000)).unwrap();
    let rings = Memory::private(Client::ring_bytes(buffers));
    let client = Client::new(memory.clone(), rings.clone()).unwrap();
    let driver = Driver::new(&rings, memory.length() as u64).unwrap();
    let transport = Mmio::new(device.mmio()).unwrap();
    let configured = start::<2>(&transport, NETWORK, wanted(transport.features()), &queues, 256, |_| 0).unwrap();
    let merges = Card::read(&transport, configured.features).unwrap().merges;
    let pump = Pump::new(Started(transport), configured.queues, driver, shared, merges);
    Setup { device, client, pump, rings }
}

impl Setup {
    /// The card receives a frame, with these bits in its header.
    fn arrives(&self, frame: &[u8], bits: u8) {
        let chain = self.device.take(RECEIVE).expect("the card was given buffers");
        assert!(chain.readable.is_empty());
        let mut bytes = vec![bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        bytes.extend(frame);
        let written = self.device.write(&chain, &bytes);
        self.device.give(RECEIVE, chain.head.into(), written);
    }
}

#[test]
fn frames_go_both_ways() {
    for features in [0, feature::EVENT_INDEX] {
        let mut setup = setup(features, 32);
        let mut into = [0; 2048];
        setup.pump.run().unwrap();
        for round in 0..200_u8 {
            let frame = vec![round; 60 + usize::from(round)];
            setup.arrives(&frame, round % 3);
            setup.pump.run().unwrap();
            let received = setup.client.receive(&mut into).unwrap();
            let right = round % 3 != 0;
            assert_eq!(received, Some(Received { length: frame.len(), checksum_is_right: right }));
            assert_eq!(into[..frame.len()], frame);

            assert!(setup.client.send(&frame, Offload::default()).unwrap());
            let _ = setup.client.publish();
            setup.pump.run().unwrap();
            let chain = setup.device.take(SEND).unwrap();
            let sent = setup.device.read(&chain);
            assert_eq!((&sent[..12], &sent[12..]), (&[0; 12][..], &frame[..]));
            setup.device.give(SEND, chain.head.into(), 0);
        }
        setup.device.with(|state| assert_eq!(state.faults, 0));
    }
}

#[test]
fn what_the_card_has_no_room_for_is_told_and_goes_later() {
    let mut setup = setup(feature::EVENT_INDEX, 512);
    setup.pump.run().unwrap();
    let mut has_room = true;
    for number in 0..200 {
        assert!(setup.client.send(&[number; 60], Offload::default()).unwrap());
        let _ = setup.client.publish();
        let had_room = core::mem::replace(&mut has_room, setup.pump.send().unwrap());
        assert!(had_room || !has_room, "it has taken nothing");
    }
    assert!(!has_room);
    let mut sent = Vec::new();
    while sent.len() < 200 {
        let before = sent.len();
        while let Some(chain) = setup.device.take(SEND) {
            sent.push(setup.device.read(&chain)[12]);
            setup.device.give(SEND, chain.head.into(), 0);
        }
        assert!(sent.len() > before, "the rest never goes");
        // What the card gave back is taken without a look at what it received.
        assert!(setup.pump.send().unwrap() || sent.len() < 200);
    }
    assert!(sent.into_iter().eq(0..200));
    assert!(setup.pump.send().unwrap());
    setup.device.with(|state| assert_eq!(state.faults, 0));
}

#[test]
fn a_large_segment_goes_out_in_one_chain_with_its_header() {
    let mut setup = setup(1 << 0 | 1 << 11, 128);
    let frame: Vec<u8> = (0..40_000_u32).map(|at| at as u8).collect();
    let offload = Offload { checksum: Some((34, 16)), segment: Some((1448, false)) };
    assert!(setup.client.send(&frame, offload).unwrap());
    let _ = setup.client.publish();
    setup.pump.run().unwrap();
    let chain = setup.device.take(SEND).unwrap();
    let sent = setup.device.read(&chain);
    // Flags, kind, bytes of headers, of a segment, where the checksum starts and goes (Virtio 5.1.6).
    let fields: Vec<u16> = sent[2..12].chunks(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]])).collect();
    assert_eq!((sent[0], sent[1], &fields[..]), (1, 1, &[54, 1448, 34, 16, 0][..]));
    assert!(sent[12..] == frame);
    setup.device.give(SEND, chain.head.into(), 0);
    setup.pump.run().unwrap();
    assert!(setup.client.send(&frame, offload).unwrap(), "all its buffers are back");
}

/// Buffers that a received frame may be spread over, and who looks at its checksum.
const MERGES: u64 = 1 << 15 | 1 << 1;

#[test]
fn a_received_frame_can_take_several_buffers() {
    let mut setup = setup(MERGES | 1 << 7, 64);
    setup.pump.run().unwrap();
    let frame: Vec<u8> = (0..9000_u32).map(|at| (at % 251) as u8).collect();
    for round in 0..20 {
        // The first buffer has the header, the others are full.
        let sizes = [2000, 2044, 2044, 2044, 868 + 12];
        let mut rest = &frame[..];
        for (number, size) in sizes.into_iter().enumerate() {
            let chain = setup.device.take(RECEIVE).expect("the card was given buffers");
            let (header, payload) = if number == 0 {
                (vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0], rest.split_off(..size).unwrap())
            } else {
                (Vec::new(), rest.split_off(..size.min(rest.len())).unwrap())
            };
            let written = setup.device.write(&chain, &[&header[..], payload].concat());
            setup.device.give(RECEIVE, chain.head.into(), written);
        }
        assert!(rest.is_empty());
        setup.arrives(&[round; 60], 0);
        setup.pump.run().unwrap();
        let mut into = vec![0; 1 << 16];
        let received = setup.client.receive(&mut into).unwrap();
        assert_eq!(received, Some(Received { length: 9000, checksum_is_right: true }));
        assert!(into[..9000] == frame);
        assert_eq!(setup.client.receive(&mut into).unwrap().unwrap().length, 60, "the next one is one for itself");
        let _ = setup.client.publish();
    }
}

#[test]
fn a_card_that_lies_about_the_buffers_of_a_frame_ends_the_attachment() {
    for count in [0_u8, 3, 35, 255] {
        let mut setup = setup(MERGES | 1 << 7, 16);
        setup.pump.run().unwrap();
        let chain = setup.device.take(RECEIVE).unwrap();
        let mut bytes = vec![0; 72];
        bytes[10] = count;
        let written = setup.device.write(&chain, &bytes);
        setup.device.give(RECEIVE, chain.head.into(), written);
        assert!(matches!(setup.pump.run(), Err(Ended::Device(_))), "{count}");
    }
}

#[test]
fn large_frames_are_not_asked_for_without_buffers_that_merge() {
    let large = 1 << 7 | 1 << 8;
    assert_eq!(wanted(large | MERGES) & large, large);
    assert_eq!(wanted(large | 1 << 1) & large, 0);
    assert_eq!(wanted(large | 1 << 15) & large, 0);
}

#[test]
fn a_frame_without_a_header_is_no_frame_and_its_buffer_is_not_lost() {
    let mut setup = setup(0, 16);
    setup.pump.run().unwrap();
    for written in [0, 5, 12, 25] {
        let chain = setup.device.take(RECEIVE).unwrap();
        setup.device.give(RECEIVE, chain.head.into(), written);
    }
    setup.arrives(&[7; 60], 0);
    setup.pump.run().unwrap();
    let mut into = [0; 2048];
    assert_eq!(setup.client.receive(&mut into).unwrap().unwrap().length, 60);
    let _ = setup.client.publish();
    setup.pump.run().unwrap();
    let back = std::iter::from_fn(|| setup.device.take(RECEIVE)).count();
    assert_eq!(back, 8, "half of the buffers are for receiving, and the card has all of them");
}

#[test]
fn a_length_beyond_the_buffer_is_cut() {
    let mut setup = setup(0, 16);
    setup.pump.run().unwrap();
    let chain = setup.device.take(RECEIVE).unwrap();
    setup.device.give(RECEIVE, chain.head.into(), u32::MAX);
    setup.pump.run().unwrap();
    let received = setup.client.receive(&mut [0; 4096]).unwrap().unwrap();
    assert_eq!(received.length, BUFFER - HEADROOM);
}

#[test]
fn a_card_that_lies_ends_the_attachment() {
    let lies: [fn(&Device); 4] = [
        |device| assert!(device.give(RECEIVE, 63, 100)),
        |device| assert!(device.give(SEND, 0, 0)),
        |device| device.claim(RECEIVE, 30_000),
        |device| device.claim(SEND, 1),
    ];
    for (number, lie) in lies.iter().enumerate() {
        let mut setup = setup(0, 16);
        setup.pump.run().unwrap();
        lie(&setup.device);
        let ended = setup.pump.run();
        assert!(matches!(ended, Err(Ended::Device(_))), "{number}: {ended:?}");
    }
}

#[test]
fn a_client_that_lies_ends_the_attachment_and_the_card_gets_nothing_outside() {
    for (ring, entry) in [
        (layout::SEND, [99, 0]),
        (layout::SEND, [u64::MAX, 0]),
        (layout::SEND, [3 | 16 << 32 | 3000 << 48, 0]),
        (layout::SEND, [3 << 32 | 60 << 48, 0]),
        // A frame that never ends.
        (layout::SEND, [16 << 32 | 60 << 48, 4]),
        (layout::RECEIVE_FREE, [16, 0]),
    ] {
        let mut setup = setup(0, 16);
        setup.pump.run().unwrap();
        let base = layout::FIRST + layout::ring(16) * ring;
        let next = setup.rings.load_32(base + layout::PRODUCED);
        let slot = base + layout::SLOTS + (next as usize % 16) * layout::SLOT;
        setup.rings.store_64(slot, entry[0]);
        setup.rings.store_64(slot + 8, entry[1]);
        setup.rings.store_32(base + layout::PRODUCED, next + 1);
        assert_eq!(setup.pump.run(), Err(Ended::Client), "{ring} {entry:x?}");
        while let Some(chain) = setup.device.take(SEND) {
            setup.device.read(&chain);
        }
        setup.device.with(|state| assert_eq!(state.faults, 0));
    }
}

#[test]
fn nobody_sleeps_over_work() {
    let mut setup = setup(feature::EVENT_INDEX, 16);
    setup.pump.run().unwrap();
    assert!(setup.pump.sleep().unwrap());
    assert!(setup.client.send(&[1; 60], Offload::default()).unwrap());
    assert!(setup.client.publish(), "the driver sleeps: its doorbell must be rung");
    assert!(!setup.pump.sleep().unwrap());
    setup.pump.run().unwrap();
    let chain = setup.device.take(SEND).unwrap();
    assert!(setup.pump.sleep().unwrap());
    assert!(setup.device.give(SEND, chain.head.into(), 0), "with few buffers each one that comes back is told");
    setup.pump.wake();
    setup.pump.run().unwrap();
    setup.pump.sleep().unwrap();
    let chain = setup.device.take(RECEIVE).unwrap();
    assert!(setup.device.give(RECEIVE, chain.head.into(), 100));
}

#[test]
fn a_card_is_what_its_configuration_says() {
    let read = |features: u64, configuration: &[u8]| {
        let device = Device::new(NETWORK, 0, &[], configuration);
        Card::read(&Mmio::new(device.mmio()).unwrap(), features).map(|card| card.information)
    };
    let all = read(wanted(u64::MAX), &CONFIGURATION).unwrap();
    assert_eq!((all.mac, all.mtu), ([0x52, 0x54, 0, 1, 2, 3], 1500));
    let four = offloads::SEND_CHECKSUM | offloads::RECEIVE_CHECKSUM | offloads::SEGMENT_TCP4 | offloads::SEGMENT_TCP6;
    assert_eq!(all.offloads, four | offloads::RECEIVE_LARGE);
    assert_eq!(read(1 << 11, &CONFIGURATION).unwrap().offloads, 0, "cutting needs the checksum");
    let huge = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    assert_eq!(usize::from(read(1 << 3, &huge).unwrap().mtu), BUFFER - HEADROOM - 14);
    assert_eq!(read(1 << 3, &[0; 12]), Err(Misbehaved::Nonsense));
    assert_eq!(read(0, &[]).unwrap().mtu, 1500);
}
