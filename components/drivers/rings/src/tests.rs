//! The two sides against each other, in one thread and in two, and each against a peer that writes anything anywhere.

use std::thread;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use tessera_memory::Memory;

use crate::*;

fn pair(buffers: u32) -> (Client, Driver, Memory, Memory) {
    let memory = Memory::private(buffers as usize * BUFFER);
    let rings = Memory::private(Client::ring_bytes(buffers));
    let client = Client::new(memory.clone(), rings.clone()).unwrap();
    let driver = Driver::new(&rings, memory.length() as u64).unwrap();
    (client, driver, memory, rings)
}

/// What a driver does with a frame that came in.
fn deliver(driver: &mut Driver, buffers: &Memory, frame: &[u8], flags: u16) -> bool {
    let Some(buffer) = driver.take_free().unwrap() else { return false };
    let entry = Entry { buffer, offset: HEADROOM as u16, length: frame.len() as u16, flags, ..Entry::default() };
    assert!(buffers.copy_in(entry.place(), frame));
    driver.received(entry).unwrap();
    true
}

#[test]
fn frames_go_both_ways_for_longer_than_the_rings() {
    let (mut client, mut driver, buffers, _rings) = pair(8);
    let mut into = [0; 2000];
    for round in 0..100_u8 {
        assert!(deliver(&mut driver, &buffers, &[round; 60], flags::CHECKSUM_VALID));
        let _ = driver.publish();
        let received = client.receive(&mut into).unwrap().unwrap();
        assert_eq!((received.length, received.checksum_is_right), (60, true));
        assert_eq!(into[..60], [round; 60]);
        assert_eq!(client.receive(&mut into).unwrap(), None);

        assert!(client.send(&[round; 99], Offload { checksum: Some((34, 6)), segment: None }).unwrap());
        assert_eq!(driver.take_to_send().unwrap(), None, "not published yet");
        let _ = client.publish();
        let entry = driver.take_to_send().unwrap().unwrap();
        assert_eq!((entry.flags, entry.checksum_start, entry.checksum_offset), (flags::NEEDS_CHECKSUM, 34, 6));
        let mut sent = [0; 99];
        assert!(buffers.copy_out(entry.place(), &mut sent));
        assert_eq!(sent, [round; 99]);
        driver.sent(entry).unwrap();
        let _ = driver.publish();
    }
}

#[test]
fn without_room_a_frame_is_refused_and_receiving_keeps_its_share() {
    let (mut client, mut driver, ..) = pair(8);
    let mut sent = 0;
    while client.send(&[1; 100], Offload::default()).unwrap() {
        sent += 1;
    }
    assert_eq!(sent, 4);
    let _ = client.publish();
    let first = driver.take_to_send().unwrap().unwrap();
    driver.sent(first).unwrap();
    assert!(!client.send(&[1; 100], Offload::default()).unwrap(), "not published");
    let _ = driver.publish();
    assert!(client.send(&[1; 100], Offload::default()).unwrap());
    assert!(!client.send(&[], Offload::default()).unwrap(), "nothing is no frame");
}

#[test]
fn frames_one_at_a_time_use_the_same_few_buffers_again() {
    let (mut client, mut driver, ..) = pair(512);
    let mut used = std::collections::BTreeSet::new();
    let mut into = [0; 100];
    for _ in 0..1000 {
        let free = driver.take_free().unwrap().unwrap();
        used.insert(free);
        driver.received(Entry { buffer: free, offset: HEADROOM as u16, length: 60, ..Entry::default() }).unwrap();
        let _ = driver.publish();
        assert!(client.receive(&mut into).unwrap().is_some());
        assert!(client.send(&[1; 100], Offload::default()).unwrap());
        let _ = client.publish();
        let entry = driver.take_to_send().unwrap().unwrap();
        used.insert(entry.buffer);
        driver.sent(entry).unwrap();
        let _ = driver.publish();
    }
    assert!(used.len() <= 64 + 16, "{} buffers", used.len());
}

#[test]
fn a_driver_that_needs_more_buffers_to_fill_gets_them() {
    let (mut client, mut driver, buffers, _rings) = pair(512);
    let mut into = [0; 100];
    let mut most = 0;
    for _ in 0..8 {
        let mut burst = 0;
        while deliver(&mut driver, &buffers, &[1; 60], 0) {
            burst += 1;
        }
        most = most.max(burst);
        let _ = driver.publish();
        let received = core::iter::from_fn(|| client.receive(&mut into).unwrap()).count();
        assert_eq!(received, burst, "none is lost");
        let _ = client.publish();
    }
    assert_eq!(most, 256, "half of all, and no more");
    let sent = core::iter::from_fn(|| client.send(&[1; 100], Offload::default()).unwrap().then_some(())).count();
    assert_eq!(sent, 256, "sending has the other half");
}

#[test]
fn a_long_frame_takes_several_buffers() {
    let (mut client, mut driver, buffers, _rings) = pair(16);
    let frame: Vec<u8> = (0..5000).map(|number| number as u8).collect();
    assert!(client.send(&frame, Offload { checksum: Some((34, 16)), segment: Some((1400, false)) }).unwrap());
    let _ = client.publish();
    let mut back = Vec::new();
    loop {
        let entry = driver.take_to_send().unwrap().unwrap();
        assert_ne!(entry.flags & flags::SEGMENT_V4, 0);
        let mut part = vec![0; entry.length.into()];
        assert!(buffers.copy_out(entry.place(), &mut part));
        back.extend(part);
        if entry.flags & flags::MORE == 0 {
            break;
        }
    }
    assert_eq!(back, frame);

    // The same the other way.
    for (number, part) in back.chunks(FRAME).enumerate() {
        let more = if (number + 1) * FRAME < frame.len() { flags::MORE } else { 0 };
        assert!(deliver(&mut driver, &buffers, part, more));
    }
    let _ = driver.publish();
    let mut into = vec![0; 6000];
    assert_eq!(client.receive(&mut into).unwrap().unwrap().length, 5000);
    assert_eq!(into[..5000], frame);
}

#[test]
fn a_frame_too_long_for_the_receiver_and_a_damaged_one_are_dropped() {
    let (mut client, mut driver, buffers, _rings) = pair(8);
    assert!(deliver(&mut driver, &buffers, &[1; 1500], 0));
    assert!(deliver(&mut driver, &buffers, &[2; 50], flags::FAILED));
    assert!(deliver(&mut driver, &buffers, &[3; 50], 0));
    let _ = driver.publish();
    let mut into = [0; 100];
    assert_eq!(client.receive(&mut into).unwrap().unwrap(), Received { length: 50, checksum_is_right: false });
    assert_eq!(into[..50], [3; 50]);
}

#[test]
fn the_doorbell_is_rung_only_for_who_sleeps() {
    let (mut client, mut driver, buffers, _rings) = pair(8);
    let mut into = [0; 2000];
    assert!(deliver(&mut driver, &buffers, &[0; 60], 0));
    assert!(!driver.publish(), "nobody sleeps yet");
    assert!(!client.sleep(false).unwrap(), "there is something to take");
    client.receive(&mut into).unwrap().unwrap();
    assert!(client.sleep(false).unwrap());
    assert!(!driver.publish(), "nothing new");
    assert!(deliver(&mut driver, &buffers, &[0; 60], 0));
    assert!(driver.publish());
    assert!(deliver(&mut driver, &buffers, &[0; 60], 0));
    assert!(!driver.publish(), "it was told already");

    while driver.take_free().unwrap().is_some() {}
    assert!(driver.sleep(false).unwrap());
    assert!(client.send(&[0; 60], Offload::default()).unwrap());
    assert!(client.publish());
    assert!(!driver.sleep(true).unwrap());
    let entry = driver.take_to_send().unwrap().unwrap();
    driver.sent(entry).unwrap();
    assert!(driver.sleep(false).unwrap());
    client.receive(&mut into).unwrap();
    client.receive(&mut into).unwrap();
    assert!(!client.publish(), "buffers to fill are no reason to wake this driver");
    assert!(!client.sleep(true).unwrap() || driver.publish());
}

#[test]
fn after_a_restart_nothing_is_lost_that_was_not_sent() {
    let (mut client, mut driver, _buffers, rings) = pair(16);
    for number in 0..5_u8 {
        assert!(client.send(&[number; 60], Offload::default()).unwrap());
    }
    let _ = client.publish();
    // The old driver took three, sent one of them, filled nothing, and died.
    let taken: Vec<Entry> = (0..3).map(|_| driver.take_to_send().unwrap().unwrap()).collect();
    driver.sent(taken[1]).unwrap();
    let _ = driver.publish();
    driver.take_free().unwrap();
    client.room(16).unwrap();
    drop(driver);

    client.restart().unwrap();
    let mut driver = Driver::new(&rings, 16 * BUFFER as u64).unwrap();
    let again: Vec<u32> = core::iter::from_fn(|| driver.take_to_send().unwrap()).map(|entry| entry.buffer).collect();
    assert_eq!(again.len(), 4);
    assert_eq!(again[..2], [taken[0].buffer, taken[2].buffer]);
    assert_eq!(core::iter::from_fn(|| driver.take_free().unwrap()).count(), 8, "all buffers for receiving are back");
}

#[test]
fn memory_that_cannot_hold_the_rings_is_refused() {
    for (capacity, length) in [(0, 4096), (3, 4096), (8192, 1 << 20), (256, 4096), (u32::MAX, 1 << 20)] {
        let rings = Memory::private(length);
        assert!(!format(&rings, capacity));
        rings.store_32(layout::CAPACITY, capacity);
        assert!(Driver::new(&rings, 1 << 20).is_err(), "{capacity}");
    }
    assert!(Client::new(Memory::private(BUFFER), Memory::private(4096)).is_err());
    assert!(Client::new(Memory::private(64 * BUFFER), Memory::private(4096)).is_err());
    let rings = Memory::private(4096);
    assert!(format(&rings, 4));
    assert!(Driver::new(&rings, 8 * BUFFER as u64).is_err(), "more buffers than slots");
    assert!(Driver::new(&rings, 100).is_err(), "no buffer at all");
}

#[test]
fn a_peer_that_gives_what_it_does_not_have_is_found() {
    let entry = Entry { buffer: 0, offset: HEADROOM as u16, length: 60, ..Entry::default() };
    let mut into = [0; 100];
    // A buffer that the client never gave to be filled; one given back twice; one that does not exist; one that overlaps the next.
    let (mut client, mut driver, ..) = pair(8);
    driver.received(Entry { buffer: 7, ..entry }).unwrap();
    let _ = driver.publish();
    assert_eq!(client.receive(&mut into), Err(Broken));
    let (mut client, mut driver, ..) = pair(8);
    driver.sent(entry).unwrap();
    let _ = driver.publish();
    assert_eq!(client.room(8), Err(Broken));
    for wrong in [
        Entry { buffer: 8, ..entry },
        Entry { buffer: u32::MAX, ..entry },
        Entry { offset: 0, ..entry },
        Entry { length: u16::MAX, ..entry },
    ] {
        let (mut client, mut driver, ..) = pair(8);
        driver.received(wrong).unwrap();
        let _ = driver.publish();
        assert_eq!(client.receive(&mut into), Err(Broken));
    }
    // A later part may begin in the headroom, and not end behind its buffer.
    for (offset, length, is_fine) in [(4, 40, true), (4, 2044, true), (5, 2044, false), (0, 2049, false)] {
        let (mut client, mut driver, ..) = pair(8);
        driver.received(Entry { flags: flags::MORE, ..entry }).unwrap();
        driver.received(Entry { buffer: 1, offset, length, ..entry }).unwrap();
        let _ = driver.publish();
        let length = 60 + usize::from(length);
        let received = Ok(Some(Received { length, checksum_is_right: false }));
        assert_eq!(client.receive(&mut [0; 4096]), if is_fine { received } else { Err(Broken) });
    }
    // A frame whose end never comes.
    let (mut client, mut driver, buffers, _rings) = pair(8);
    assert!(deliver(&mut driver, &buffers, &[1; 60], flags::MORE));
    let _ = driver.publish();
    assert_eq!(client.receive(&mut into), Err(Broken));
    // More taken than there was; less taken than before; more published than there is room for.
    for (at, value) in [(layout::CONSUMED, 5), (layout::CONSUMED, u32::MAX), (layout::PRODUCED, 9)] {
        let rings = Memory::private(layout::bytes(8));
        assert!(format(&rings, 8));
        let mut producer = Producer::new(&rings, 0, 8).unwrap();
        let mut consumer = Consumer::new(&rings, 0, 8).unwrap();
        for _ in 0..4 {
            assert_eq!(producer.push(entry), Ok(true));
        }
        let _ = producer.publish();
        for _ in 0..4 {
            assert_eq!(producer.push(entry), Ok(true));
        }
        rings.store_32(layout::FIRST + at, value);
        assert!(producer.push(entry).is_err() || consumer.pop().is_err(), "{at} {value}");
    }
}

#[test]
fn two_threads_lose_nothing_and_never_sleep_over_work() {
    use std::sync::mpsc;
    const FRAMES: u32 = 20_000;
    let (mut client, mut driver, buffers, _rings) = pair(16);
    let (to_driver, driver_bell) = mpsc::channel::<()>();
    let (to_client, client_bell) = mpsc::channel::<()>();
    // The driver sends back what it is given.
    let echo = thread::spawn(move || {
        let mut bytes = [0; FRAME];
        let mut done = 0;
        while done < FRAMES {
            while let Some(entry) = driver.take_to_send().unwrap() {
                let frame = &mut bytes[..entry.length.into()];
                assert!(buffers.copy_out(entry.place(), frame));
                while !deliver(&mut driver, &buffers, frame, 0) {
                    let _ = driver.publish().then(|| to_client.send(()));
                    if driver.sleep(true).unwrap_or(false) {
                        driver_bell.recv().unwrap();
                    }
                    thread::yield_now();
                }
                driver.sent(entry).unwrap();
                done += 1;
            }
            let _ = driver.publish().then(|| to_client.send(()));
            if done < FRAMES && driver.sleep(false).unwrap() {
                driver_bell.recv().unwrap();
                driver.wake();
            }
        }
    });
    let mut into = [0; FRAME];
    let (mut sent, mut received) = (0_u32, 0_u32);
    while received < FRAMES {
        while sent < FRAMES && client.send(&sent.to_le_bytes(), Offload::default()).unwrap() {
            sent += 1;
        }
        while let Some(frame) = client.receive(&mut into).unwrap() {
            assert_eq!(into[..frame.length], received.to_le_bytes());
            received += 1;
        }
        let _ = client.publish().then(|| to_driver.send(()));
        if received < FRAMES && client.sleep(sent < FRAMES).unwrap() {
            client_bell.recv_timeout(std::time::Duration::from_secs(20)).expect("the driver rings");
            client.wake();
        }
    }
    echo.join().unwrap();
}

proptest! {
    /// A driver that writes anything anywhere cannot make the client panic, or believe that it has a buffer twice.
    #[test]
    fn a_client_survives_any_memory(writes in proptest::collection::vec((0_usize..3000, any::<u32>(), 0_u8..5), 0..200)) {
        let (mut client, _driver, _buffers, rings) = pair(16);
        let mut into = [0; 3000];
        for (offset, value, what) in writes {
            rings.store_32(offset & !3, if what & 1 == 0 { value % 32 } else { value });
            let broken = match what {
                0 => client.receive(&mut into).is_err(),
                1 => client.send(&into[..value as usize % 3000], Offload::default()).is_err(),
                2 => client.sleep(true).is_err(),
                3 => { let _ = client.publish(); false }
                _ => client.room(16).is_err(),
            };
            if broken {
                client.restart().unwrap();
            }
        }
    }

    /// Nor can a client do so to a driver.
    #[test]
    fn a_driver_survives_any_memory(writes in proptest::collection::vec((0_usize..3000, any::<u32>(), 0_u8..5), 0..200)) {
        let (_client, mut driver, _buffers, rings) = pair(16);
        for (offset, value, what) in writes {
            rings.store_32(offset & !3, if what & 1 == 0 { value % 32 } else { value });
            let broken = match what {
                0 => driver.take_free().is_ok_and(|buffer| { assert!(buffer.is_none_or(|buffer| buffer < 16)); true }),
                1 => driver.take_to_send().is_ok_and(|entry| { assert!(entry.is_none_or(|entry| entry.is_within(16))); true }),
                2 => driver.sleep(true).is_ok(),
                3 => driver.received(Entry::default()).is_ok(),
                _ => driver.sent(Entry::default()).is_ok(),
            };
            if !broken {
                driver = Driver::new(&rings, 16 * BUFFER as u64).unwrap_or(driver);
            }
        }
    }
}
