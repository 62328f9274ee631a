//! Memory objects and address spaces.

use alloc::vec;

use tessera_runtime::abi::PAGE;
use tessera_runtime::abi::syscall::map_flags::{EXECUTE, POPULATE, READ, WRITE};
use tessera_runtime::object::{Access, Vmo};
use tessera_runtime::{Error, Mapping, Object, Rights, own};

use crate::context::{Context, pool};
use crate::{Test, machine};

pub const TESTS: &[Test] = &[
    ("memory is zero until it is written", zero),
    ("what is written is read, across page borders", written),
    ("copying stops at the end of the memory", end),
    ("pages are charged when first touched and given back", charged),
    ("memory mapped twice is the same memory", shared),
    ("rights of the handle bound what a mapping may do", bounded),
    ("a snapshot keeps what was, both sides change on their own", snapshot),
    ("a snapshot of a snapshot is independent of both", snapshot_of_snapshot),
    ("writing through a mapping leaves a snapshot alone", snapshot_mapped),
    ("shrinking gives pages back, growing brings zeroes", resized),
    ("a closed handle leaves the mapping in place", closed),
    ("unmapping the middle leaves the ends", middle),
    ("protection is lowered and restored, never raised", protected),
    ("a populated mapping shows what the memory holds", populated),
    ("a thousand mappings can be made and removed", many),
    ("memory beyond the pool is refused and the pool stays usable", too_much),
];

fn memory(pages: u64) -> Vmo {
    Vmo::create(&own::pool(), pages * PAGE).unwrap()
}

fn byte(memory: &Vmo, offset: u64) -> u8 {
    let mut byte = [0xff];
    assert_eq!(memory.read(offset, &mut byte), Ok(1));
    byte[0]
}

fn zero(_: &mut Context) {
    let memory = memory(3);
    let mut content = vec![1; 3 * PAGE as usize];
    assert_eq!(memory.read(0, &mut content), Ok(content.len()));
    assert!(content.iter().all(|byte| *byte == 0));
    let mapping = Mapping::new(&memory, 0, 3 * PAGE, Access::Read).unwrap();
    assert!(mapping.words().iter().all(|word| word.load(core::sync::atomic::Ordering::Relaxed) == 0));
}

fn written(_: &mut Context) {
    let memory = memory(4);
    let content: alloc::vec::Vec<u8> = (0..9000_u32).map(|index| (index * 7) as u8).collect();
    assert_eq!(memory.write(100, &content), Ok(9000));
    let mut found = vec![0; 9000];
    assert_eq!(memory.read(100, &mut found), Ok(9000));
    assert_eq!(content, found);
    assert_eq!((byte(&memory, 99), byte(&memory, 9100)), (0, 0));
}

fn end(_: &mut Context) {
    let memory = memory(1);
    let copied = |result| match result {
        Ok(bytes) => bytes,
        Err(error) => {
            assert_eq!(error, Error::BadArgument);
            0
        }
    };
    assert!(copied(memory.write(PAGE - 10, &[1; 20])) <= 10);
    assert_eq!(copied(memory.read(PAGE, &mut [0; 4])), 0);
    assert_eq!(memory.size(), Ok(PAGE));
}

fn charged(_: &mut Context) {
    let small = pool(64);
    let memory = Vmo::create(&small, 32 * PAGE).unwrap();
    let used = || small.usage(0).unwrap().used;
    assert_eq!((used(), memory.pages()), (0, Ok(0)));
    memory.write(0, &[1]).unwrap();
    assert_eq!(memory.pages(), Ok(1));
    assert!((1..=3).contains(&used()), "{} pages for one and its tables", used());
    memory.write(10 * PAGE, &[1]).unwrap();
    assert_eq!(memory.pages(), Ok(2));
    drop(memory);
    assert_eq!(used(), 0);
}

fn shared(_: &mut Context) {
    let memory = memory(2);
    let space = own::space();
    let first = space.map(&memory, 0, 2 * PAGE, Access::Write).unwrap();
    let second = space.map(&memory, PAGE, PAGE, Access::Read).unwrap();
    machine::write(first + PAGE + 5, 77);
    assert_eq!((machine::read(second + 5), byte(&memory, PAGE + 5)), (77, 77));
    memory.write(PAGE + 6, &[78]).unwrap();
    assert_eq!(machine::read(second + 6), 78);
    machine::unmap(&space, first, 2 * PAGE).unwrap();
    machine::unmap(&space, second, PAGE).unwrap();
}

fn bounded(_: &mut Context) {
    let memory = memory(1);
    let reader = memory.duplicate(Rights::READ | Rights::MAP).unwrap();
    let space = own::space();
    let map = |vmo: &Vmo, flags| space.map_flags(vmo, 0, 0, PAGE, flags);
    assert_eq!(map(&reader, READ | WRITE), Err(Error::NoRight));
    assert_eq!(map(&reader, READ | EXECUTE), Err(Error::NoRight));
    let unmappable = memory.duplicate(Rights::READ | Rights::WRITE).unwrap();
    assert_eq!(map(&unmappable, READ), Err(Error::NoRight));
    let address = map(&reader, READ).unwrap();
    assert_eq!(machine::protect(&space, address, PAGE, Access::Write), Err(Error::NoRight));
    assert_eq!(reader.write(0, &[1]), Err(Error::NoRight));
    machine::unmap(&space, address, PAGE).unwrap();
}

fn snapshot(_: &mut Context) {
    let memory = memory(600);
    for page in [0, 1, 511, 512, 599] {
        memory.write(page * PAGE, &[page as u8 ^ 0x55]).unwrap();
    }
    let copy = memory.snapshot(&own::pool()).unwrap();
    for page in [0, 1, 511, 512, 599] {
        assert_eq!(byte(&copy, page * PAGE), page as u8 ^ 0x55, "page {page}");
    }
    memory.write(PAGE, &[1]).unwrap();
    copy.write(512 * PAGE, &[2]).unwrap();
    memory.write(20 * PAGE, &[3]).unwrap();
    assert_eq!((byte(&memory, PAGE), byte(&copy, PAGE)), (1, 1 ^ 0x55));
    assert_eq!((byte(&memory, 512 * PAGE), byte(&copy, 512 * PAGE)), (0x55, 2));
    assert_eq!((byte(&memory, 20 * PAGE), byte(&copy, 20 * PAGE)), (3, 0));
    drop(memory);
    assert_eq!((byte(&copy, PAGE), byte(&copy, 599 * PAGE)), (1 ^ 0x55, 599_u64 as u8 ^ 0x55));
}

fn snapshot_of_snapshot(_: &mut Context) {
    let first = memory(2);
    first.write(0, &[1]).unwrap();
    let second = first.snapshot(&own::pool()).unwrap();
    second.write(0, &[2]).unwrap();
    let third = second.snapshot(&own::pool()).unwrap();
    third.write(0, &[3]).unwrap();
    first.write(0, &[4]).unwrap();
    assert_eq!((byte(&first, 0), byte(&second, 0), byte(&third, 0)), (4, 2, 3));
    drop(second);
    assert_eq!((byte(&first, 0), byte(&third, 0)), (4, 3));
}

fn snapshot_mapped(_: &mut Context) {
    let memory = memory(2);
    let space = own::space();
    let address = space.map(&memory, 0, 2 * PAGE, Access::Write).unwrap();
    machine::write(address, 1);
    let copy = memory.snapshot(&own::pool()).unwrap();
    machine::write(address, 2);
    assert_eq!((byte(&copy, 0), byte(&memory, 0)), (1, 2));
    let shown = space.map(&copy, 0, PAGE, Access::Write).unwrap();
    assert_eq!(machine::read(shown), 1);
    machine::write(shown, 3);
    assert_eq!((machine::read(address), byte(&copy, 0)), (2, 3));
    machine::unmap(&space, address, 2 * PAGE).unwrap();
    machine::unmap(&space, shown, PAGE).unwrap();
}

fn resized(_: &mut Context) {
    let memory = memory(600);
    for page in 0..600 {
        memory.write(page * PAGE, &[9]).unwrap();
    }
    let before = own::pool().usage(0).unwrap().used;
    memory.resize(10 * PAGE).unwrap();
    assert_eq!((memory.size(), memory.pages()), (Ok(10 * PAGE), Ok(10)));
    let after = own::pool().usage(0).unwrap().used;
    assert!(before - after >= 590, "{before} before, {after} after");
    memory.resize(600 * PAGE).unwrap();
    assert_eq!((byte(&memory, 9 * PAGE), byte(&memory, 10 * PAGE), byte(&memory, 599 * PAGE)), (9, 0, 0));
}

fn closed(_: &mut Context) {
    let memory = memory(1);
    let address = own::space().map(&memory, 0, PAGE, Access::Write).unwrap();
    drop(memory);
    machine::write(address, 6);
    assert_eq!(machine::read(address), 6);
    machine::unmap(&own::space(), address, PAGE).unwrap();
}

fn middle(_: &mut Context) {
    let memory = memory(5);
    for page in 0..5 {
        memory.write(page * PAGE, &[page as u8 + 1]).unwrap();
    }
    let space = own::space();
    let base = 0x7f30_0000_0000;
    space.map_at(&memory, 0, base, 5 * PAGE, Access::Read).unwrap();
    machine::unmap(&space, base + PAGE, 3 * PAGE).unwrap();
    assert_eq!((machine::read(base), machine::read(base + 4 * PAGE)), (1, 5));
    space.map_at(&memory, 0, base + 2 * PAGE, PAGE, Access::Read).unwrap();
    assert_eq!(machine::read(base + 2 * PAGE), 1);
    machine::unmap(&space, base, 5 * PAGE).unwrap();
    assert_eq!(machine::protect(&space, base, PAGE, Access::Read), Err(Error::NotFound));
}

fn protected(_: &mut Context) {
    let memory = memory(2);
    let space = own::space();
    let address = space.map(&memory, 0, 2 * PAGE, Access::Write).unwrap();
    machine::write(address, 1);
    machine::protect(&space, address, PAGE, Access::Read).unwrap();
    assert_eq!(machine::read(address), 1);
    machine::write(address + PAGE, 2);
    machine::protect(&space, address, 2 * PAGE, Access::Write).unwrap();
    machine::write(address, 3);
    assert_eq!(byte(&memory, 0), 3);
    machine::unmap(&space, address, 2 * PAGE).unwrap();
}

fn populated(_: &mut Context) {
    let memory = memory(600);
    for page in 0..600 {
        memory.write(page * PAGE, &[page as u8]).unwrap();
    }
    let space = own::space();
    let address = space.map_flags(&memory, 0, 0, 600 * PAGE, READ | POPULATE).unwrap();
    for page in 0..600 {
        assert_eq!(machine::read(address + page * PAGE), page & 0xff);
    }
    machine::unmap(&space, address, 600 * PAGE).unwrap();
}

fn many(_: &mut Context) {
    let memory = memory(1);
    memory.write(0, &[8]).unwrap();
    let space = own::space();
    let base = 0x7f30_0000_0000;
    let mut made = 0;
    while made < 1000 {
        match space.map_at(&memory, 0, base + made * 2 * PAGE, PAGE, Access::Read) {
            Ok(()) => made += 1,
            Err(error) => {
                assert_eq!(error, Error::NoQuota);
                break;
            }
        }
    }
    assert!(made > 100, "only {made} could be made");
    assert_eq!(machine::read(base + (made - 1) * 2 * PAGE), 8);
    machine::unmap(&space, base, made * 2 * PAGE).unwrap();
    assert_eq!(memory.inspect().unwrap().handles, 1, "no mapping is left");
}

fn too_much(_: &mut Context) {
    let small = pool(16);
    let memory = Vmo::create(&small, 64 * PAGE).unwrap();
    let mut written = 0;
    while written < 64 && memory.write(written * PAGE, &[1]) == Ok(1) {
        written += 1;
    }
    assert!((8..16).contains(&written), "{written} pages fitted into 16 with their tables");
    assert_eq!(byte(&memory, 0), 1);
    memory.resize(PAGE).unwrap();
    assert_eq!(memory.write(10, &[2]), Ok(1));
}
