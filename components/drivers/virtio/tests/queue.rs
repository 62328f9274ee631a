//! Queues against a model of the device, which first keeps to the rules and then does not.

use proptest::prelude::*;
use tessera_memory::Memory;
use tessera_virtio::*;
use tessera_virtio_testing::Device;

const QUEUE_BUS: u64 = 0x10_0000;
const DATA_BUS: u64 = 0x80_0000;

/// A device with one queue that a driver has started, and a page of data.
fn started(features: u64, size: u16) -> (Device, Queue, DmaMemory) {
    let device = Device::new(4, features | feature::VERSION_1, &[size], &[]);
    let memory = Memory::private(Layout::BYTES);
    let pages = device.expose(&memory, QUEUE_BUS);
    let data = Memory::private(2 * PAGE);
    let data_pages = device.expose(&data, DATA_BUS);
    let transport = Mmio::new(device.mmio()).unwrap();
    let dma = DmaMemory::new(memory, pages).unwrap();
    let configured: Configured<1> = start(&transport, 4, features, &dma, size, |_| 0).unwrap();
    assert_eq!(configured.features, features | feature::VERSION_1);
    let [queue] = configured.queues;
    (device, queue, DmaMemory::new(data, data_pages).unwrap())
}

fn part(offset: u64, length: u32, device_writes: bool) -> Part {
    Part { address: DATA_BUS + offset, length, device_writes }
}

#[test]
fn chains_go_round_for_longer_than_the_indices() {
    for features in [0, feature::EVENT_INDEX] {
        let (device, mut queue, data) = started(features, 8);
        for round in 0..70_000_u32 {
            data.memory().store_32(0, round);
            let token = queue.add(&[part(0, 4, false), part(64, 8, true)]).unwrap();
            let _ = queue.publish();
            let chain = device.take(0).unwrap();
            assert_eq!(chain.head, token);
            if round % 1000 == 0 {
                assert_eq!(device.read(&chain), round.to_le_bytes());
                assert_eq!(device.write(&chain, &[7; 20]), 8);
            }
            assert_eq!(queue.take(), Ok(None));
            device.give(0, chain.head.into(), 8);
            assert_eq!(queue.take(), Ok(Some(Completed { token, written: 8 })));
            assert!(queue.is_idle());
        }
        device.with(|state| assert_eq!(state.faults, 0, "the device was given addresses of its memory only"));
    }
}

#[test]
fn a_full_queue_takes_no_more_and_loses_nothing() {
    let (device, mut queue, _data) = started(0, 8);
    assert_eq!(queue.add(&[]), Err(Full));
    assert_eq!(queue.add(&[part(0, 1, true); 9]), Err(Full));
    let first = queue.add(&[part(0, 1, true); 3]).unwrap();
    let second = queue.add(&[part(0, 1, true); 5]).unwrap();
    assert_eq!((queue.free(), queue.add(&[part(0, 1, true)])), (0, Err(Full)));
    let _ = queue.publish();
    // Given back in another order.
    assert_eq!((device.take(0).unwrap().head, device.take(0).unwrap().head), (first, second));
    device.give(0, second.into(), 5);
    device.give(0, first.into(), 3);
    assert_eq!(queue.take().unwrap().unwrap().token, second);
    assert_eq!(queue.free(), 5);
    assert_eq!(queue.take().unwrap().unwrap().token, first);
    let last = queue.add(&[part(0, 1, true); 8]).unwrap();
    let _ = queue.publish();
    let chain = device.take(0).unwrap();
    assert_eq!((chain.head, chain.writable.len()), (last, 8));
}

#[test]
fn the_device_is_notified_only_if_it_wants_to_be() {
    let (device, mut queue, _data) = started(0, 8);
    let add = |queue: &mut Queue| queue.add(&[part(0, 1, false)]).unwrap();
    assert!(!queue.publish(), "nothing new");
    add(&mut queue);
    assert!(queue.publish());
    device.suppress(0, true);
    add(&mut queue);
    assert!(!queue.publish());

    let (device, mut queue, _data) = started(feature::EVENT_INDEX, 8);
    add(&mut queue);
    assert!(queue.publish(), "the device wants to hear of the first");
    add(&mut queue);
    assert!(!queue.publish(), "it has not asked again");
    device.notify_at(0, 3);
    add(&mut queue);
    assert!(!queue.publish());
    add(&mut queue);
    add(&mut queue);
    assert!(queue.publish(), "the one that it asked for was among them");
}

#[test]
fn interrupts_come_only_when_the_driver_sleeps() {
    for features in [0, feature::EVENT_INDEX] {
        let (device, mut queue, _data) = started(features, 8);
        for _ in 0..5 {
            queue.add(&[part(0, 1, false)]).unwrap();
        }
        let _ = queue.publish();
        let give = || {
            let chain = device.take(0).unwrap();
            device.give(0, chain.head.into(), 0)
        };
        assert!(queue.sleep().unwrap());
        assert!(give());
        queue.wake();
        assert!(!give());
        assert!(!queue.sleep().unwrap(), "there is something to take");
        queue.wake();
        assert!(queue.take().unwrap().is_some() && queue.take().unwrap().is_some());
        assert!(queue.sleep().unwrap());
        assert!(give());
    }
}

#[test]
fn lies_in_the_used_ring_are_found() {
    // A head that is none, one that is not in flight, one in the middle of a chain, one given back twice.
    for (head, why) in
        [(8, "not of this queue"), (70_000, "more than 16 bits"), (u32::MAX, "all ones"), (1, "no head"), (5, "free")]
    {
        let (device, mut queue, _data) = started(0, 8);
        assert_eq!(queue.add(&[part(0, 1, true); 2]), Ok(0));
        let _ = queue.publish();
        device.give(0, head, 1);
        assert_eq!(queue.take(), Err(Misbehaved::UnknownBuffer), "{why}");
    }
    let (device, mut queue, _data) = started(0, 8);
    let token = queue.add(&[part(0, 1, true)]).unwrap();
    let _ = queue.publish();
    device.give(0, token.into(), u32::MAX);
    device.give(0, token.into(), 1);
    assert_eq!(queue.take(), Ok(Some(Completed { token, written: 1 })), "it cannot have written more than there was");
    assert_eq!(queue.take(), Err(Misbehaved::UnknownBuffer), "twice");
    device.claim(0, 100);
    assert_eq!((queue.take(), queue.sleep()), (Err(Misbehaved::UsedTooMuch), Err(Misbehaved::UsedTooMuch)));
    device.claim(0, 0);
    assert_eq!(queue.take(), Err(Misbehaved::UsedTooMuch), "backwards");
}

proptest! {
    /// Whatever stands in a queue's memory, the driver neither panics nor loses count of its descriptors.
    #[test]
    fn any_memory_is_survived(writes in proptest::collection::vec((0_usize..Layout::BYTES, any::<u16>(), 0_u8..6), 0..300), event in any::<bool>()) {
        let (_device, mut queue, _data) = started(if event { feature::EVENT_INDEX } else { 0 }, 16);
        // The model's view of the memory of the queue is as good as the device's.
        let memory = _device.with(|state| state.reach(QUEUE_BUS, PAGE).unwrap().0);
        let rings = _device.with(|state| state.reach(QUEUE_BUS + 2 * PAGE as u64, PAGE).unwrap().0);
        let mut in_flight = std::collections::BTreeMap::new();
        for (offset, value, what) in writes {
            let target = if offset < PAGE { &memory } else { &rings };
            let small = if what % 2 == 0 { value % 20 } else { value };
            target.store_16((offset % PAGE) & !1, small);
            if what == 5 {
                rings.store_16(1024 + 2, small);
            }
            match what {
                0 | 1 => {
                    let parts = vec![part(0, 8, true); usize::from(value % 5)];
                    if let Ok(token) = queue.add(&parts) {
                        prop_assert!(token < 16 && in_flight.insert(token, parts.len()).is_none());
                    }
                }
                2 => { let _ = queue.publish(); }
                3 => { let _ = queue.sleep(); queue.wake(); }
                _ => if let Ok(Some(done)) = queue.take() {
                    prop_assert!(in_flight.remove(&done.token).is_some());
                }
            }
            let held: usize = in_flight.values().sum();
            prop_assert_eq!(usize::from(queue.free()) + held, 16);
        }
    }
}
