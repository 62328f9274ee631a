//! Everything outside is refused without a trace; everything inside is what was stored.

use alloc::sync::Arc;
use alloc::vec;
use core::sync::atomic::AtomicU64;

use crate::{Memory, Registers, Window};

#[test]
fn what_is_stored_is_loaded_in_every_width() {
    let memory = Memory::private(64);
    memory.store_64(8, 0x8877_6655_4433_2211);
    assert_eq!(memory.load_8(9), 0x22);
    assert_eq!(memory.load_16(14), 0x8877);
    assert_eq!(memory.load_32(12), 0x8877_6655);
    memory.store_8(8, 0);
    memory.store_16(10, 0);
    memory.store_32(12, 0);
    assert_eq!(memory.load_64(8), 0x2200);
}

#[test]
fn outside_nothing_answers() {
    let memory = Memory::private(16);
    for offset in [9, 12, 13, 16, 17, usize::MAX, usize::MAX - 7, usize::MAX - 8] {
        memory.store_64(offset, 0);
        assert_eq!(memory.load_64(offset), u64::MAX, "{offset}");
    }
    assert_eq!(memory.load_16(15), u16::MAX, "not aligned and not inside");
    assert_eq!(memory.load_8(16), u8::MAX);
    let mut bytes = [7; 8];
    assert!(!memory.copy_out(9, &mut bytes) && !memory.copy_out(usize::MAX, &mut bytes));
    assert_eq!(bytes, [7; 8]);
    assert!(!memory.copy_in(9, &bytes) && !memory.copy_in(usize::MAX - 3, &bytes));
    assert_eq!((memory.load_64(0), memory.load_64(8)), (0, 0));
}

#[test]
fn copies_of_any_length_and_alignment_are_exact() {
    let memory = Memory::private(256);
    let bytes: vec::Vec<u8> = (1..=200).collect();
    for offset in 0..17 {
        for length in (0..40).chain([199, 200]) {
            memory.clear(0, 256);
            assert!(memory.copy_in(offset, &bytes[..length]));
            let mut back = vec![0xaa; length];
            assert!(memory.copy_out(offset, &mut back));
            assert_eq!(back, bytes[..length]);
            let mut all = vec![0; 256];
            assert!(memory.copy_out(0, &mut all));
            assert_eq!(all.iter().filter(|byte| **byte != 0).count(), length, "nothing beside it was touched");
        }
    }
}

#[test]
fn a_part_ends_where_it_says_and_keeps_the_whole_alive() {
    let memory = Memory::private(64);
    let part = memory.part(16, 8).unwrap();
    assert!(memory.part(60, 8).is_none() && memory.part(4, 8).is_none() && memory.part(8, usize::MAX).is_none());
    memory.store_64(16, 5);
    drop(memory);
    assert_eq!((part.load_64(0), part.load_64(8)), (5, u64::MAX));
    part.clear(3, usize::MAX);
    assert_eq!(part.load_64(0), 5);
    part.clear(0, 1);
    assert_eq!(part.load_64(0), 0);
}

#[test]
fn registers_outside_of_the_window_read_as_all_ones() {
    let owner = Arc::new([const { AtomicU64::new(0) }; 4]);
    // SAFETY: the words are interior-mutable and live as long as the window.
    let window = unsafe { Window::new(owner.as_ptr().cast::<u8>().cast_mut(), 32, owner.clone()) };
    window.write_32(4, 0x0102_0304);
    window.write_8(0, 9);
    window.write_16(2, 0x0506);
    assert_eq!((window.read_8(4), window.read_16(6), window.read_32(0)), (4, 0x0102, 0x0506_0009));
    window.write_32(32, 1);
    window.write_16(31, 1);
    assert_eq!((window.read_32(32), window.read_16(1), window.read_8(usize::MAX)), (u32::MAX, u16::MAX, u8::MAX));
    let part = window.part(4, 4).unwrap();
    assert_eq!((part.read_32(0), part.read_8(4)), (0x0102_0304, u8::MAX));
    assert!(window.part(30, 4).is_none());
}
