//! Bytes come out as they went in, whatever the other side writes beside them.

use std::collections::VecDeque;

use proptest::prelude::*;
use tessera_interfaces::streams::{
    BYTES, RING, SLOTS, ask, asked, client_ends, rings_of, sleep, slot, slot_of, stack_ends,
};
use tessera_runtime::Memory;

fn memory() -> Memory {
    Memory::private(BYTES)
}

/// Less, for the slots up to 9.
fn little() -> Memory {
    Memory::private(rings_of(10))
}

#[test]
fn there_are_rings_for_the_numbers_that_have_a_slot() {
    let memory = memory();
    for number in [0, SLOTS, SLOTS + 1, u32::MAX] {
        assert!(stack_ends(&memory, number).is_none() && client_ends(&memory, number).is_none());
    }
    let (mut last, mut first) = (stack_ends(&memory, SLOTS - 1).unwrap().0, stack_ends(&memory, 1).unwrap().0);
    assert_eq!((last.write(&vec![1; 2 * RING]), first.write(&vec![2; 2 * RING])), (RING, RING));
    let mut into = vec![0; RING];
    assert_eq!(client_ends(&memory, SLOTS - 1).unwrap().1.read(&mut into), RING);
    assert!(into.iter().all(|byte| *byte == 1), "they do not overlap");
}

#[test]
fn who_was_marked_is_told_once_and_the_bell_is_rung_for_who_sleeps() {
    let memory = memory();
    let taken = || {
        let mut numbers = Vec::new();
        asked(&memory, |number| numbers.push(number));
        numbers
    };
    assert!(!ask(&memory, 5), "it is awake");
    assert!(!sleep(&memory), "there is something to do");
    assert!(!ask(&memory, SLOTS - 1));
    assert_eq!(taken(), [5, SLOTS - 1]);
    assert!(taken().is_empty() && sleep(&memory));
    assert!(ask(&memory, 1) && !ask(&memory, 2), "one bell is enough");
    assert_eq!(taken(), [1, 2]);
}

#[test]
fn what_is_put_in_after_the_seal_does_not_count() {
    let memory = memory();
    let (_, mut reader, _) = stack_ends(&memory, 3).unwrap();
    let (mut writer, ..) = client_ends(&memory, 3).unwrap();
    writer.write(b"before");
    reader.seal();
    writer.write(b"after");
    let mut into = [0; 16];
    assert_eq!((reader.peek(&mut into), reader.read(&mut into), reader.read(&mut into)), (6, 6, 0));
}

proptest! {
    #[test]
    fn bytes_come_out_in_order(steps in proptest::collection::vec((any::<bool>(), 0..2 * RING), 1..60)) {
        let memory = little();
        let (mut writer, ..) = stack_ends(&memory, 9).unwrap();
        let (_, mut reader, _) = client_ends(&memory, 9).unwrap();
        let mut expected = VecDeque::new();
        let mut put = 0_usize;
        for (puts, length) in steps {
            if puts {
                let bytes: Vec<u8> = (put..put + length).map(|number| (number * 7 + number / 251) as u8).collect();
                let written = writer.write(&bytes);
                prop_assert_eq!(written, length.min(RING - expected.len()));
                put += written;
                expected.extend(&bytes[..written]);
            } else {
                let mut into = vec![0; length];
                let read = reader.read(&mut into);
                prop_assert_eq!(read, length.min(expected.len()));
                prop_assert!(into[..read].iter().copied().eq(expected.drain(..read)));
            }
            prop_assert_eq!(writer.unread(), expected.len());
        }
    }

    #[test]
    fn positions_that_cannot_be_are_not_believed(lies in proptest::collection::vec((any::<bool>(), any::<u32>(), 0..RING), 1..60)) {
        let memory = little();
        let (mut writer, mut reader, _) = stack_ends(&memory, 2).unwrap();
        let mut into = vec![0; 2 * RING];
        for (takes, lie, length) in lies {
            let place = if takes { slot::RECEIVE_CONSUMED } else { slot::SEND_PRODUCED };
            // Lies near the truth as well.
            let lie = if lie % 2 == 0 { lie } else { lie % (3 * RING as u32) };
            memory.store_32(slot_of(2) + place, lie);
            prop_assert!(writer.write(&into[..length]) <= RING && writer.unread() <= RING);
            prop_assert!(reader.waiting() <= RING && reader.read(&mut into) <= RING);
        }
    }
}
