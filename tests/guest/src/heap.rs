//! The heap.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use tessera_runtime::object::{Access, Vmo};
use tessera_runtime::{Mapping, own, thread};

use crate::Test;
use crate::context::Context;
use crate::random::Random;

pub const TESTS: &[Test] = &[
    ("allocations do not overlap and keep their content", kept),
    ("large allocations grow the heap, freed ones are used again", large),
    ("an allocation that the pool cannot pay for fails", refused),
    ("threads allocate side by side", side_by_side),
    ("the heap grows although memory was mapped meanwhile", beside_mappings),
];

fn kept(_: &mut Context) {
    let mut random = Random::new(11);
    let mut live: Vec<(u8, Vec<u8>)> = Vec::new();
    for round in 0..3000_u32 {
        if random.below(3) == 0 && !live.is_empty() {
            let (mark, content) = live.swap_remove(random.below(live.len() as u64) as usize);
            assert!(content.iter().all(|byte| *byte == mark));
        } else {
            let size = 1 << random.below(13);
            live.push((round as u8, vec![round as u8; size]));
        }
        if live.len() > 200 {
            live.clear();
        }
    }
    let mut text = String::new();
    for _ in 0..1000 {
        text.push_str("word ");
    }
    assert_eq!(text.len(), 5000);
}

fn large(_: &mut Context) {
    for _ in 0..20 {
        let block = vec![3_u8; 3 << 20];
        assert_eq!(block[block.len() - 1], 3);
    }
    let used = own::pool().usage(0).unwrap().used;
    assert!(used < 3000, "{used} pages are used");
}

fn refused(_: &mut Context) {
    let mut block: Vec<u8> = Vec::new();
    assert!(block.try_reserve_exact(1 << 45).is_err());
    assert!(block.try_reserve_exact(100).is_ok());
}

fn side_by_side(_: &mut Context) {
    let threads: Vec<_> = (0..6_u64)
        .map(|seed| {
            thread::spawn(move || {
                let mut random = Random::new(seed);
                let mut list: Vec<Box<[u64; 8]>> = Vec::new();
                for _ in 0..500 {
                    list.push(Box::new([seed; 8]));
                    if random.below(4) == 0 {
                        list.clear();
                    }
                }
                list.iter().all(|block| block.iter().all(|word| *word == seed))
            })
            .unwrap()
        })
        .collect();
    assert!(threads.into_iter().all(thread::JoinHandle::join));
}

fn beside_mappings(_: &mut Context) {
    for _ in 0..3 {
        // What the kernel places must not lie where the heap is going to grow.
        let memory = Vmo::create(&own::pool(), 8192).unwrap();
        let mapping = Mapping::new(&memory, 0, 8192, Access::Write).unwrap();
        let large = vec![1_u8; 3 << 20];
        assert_eq!(large.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 3 << 20);
        drop(mapping);
    }
}
