//! Memory for devices: what is pinned stays in place until the last handle of the object that pins it is gone.

use tessera_abi::{
    Error, PAGE, Rights, Syscall,
    syscall::{NO_DEVICE, map_flags},
};
use tessera_core::{DeviceId, Hardware};
use tessera_core_testing::{Answer, System};

const READ_WRITE: u64 = map_flags::READ | map_flags::WRITE;

struct Bench {
    system: System,
    pool: u64,
    space: u64,
    dma: u64,
}

fn bench() -> Bench {
    let mut system = System::new(4096, 1);
    let [pool, space, dma] = ["pool", "space", "dma"].map(|name| system.first(name));
    // The stack's page is there, so that reading results charges nothing.
    let stack = system.registers().rsp - 64;
    assert!(system.write(stack, &[0; 8]));
    Bench { system, pool, space, dma }
}

impl Bench {
    /// Pins all of a range as the runtime does; the addresses.
    fn pin(&mut self, dma: u64, vmo: u64, offset: u64, pages: u64) -> Vec<u64> {
        let (array, at) = self.system.memory(self.pool, self.space, (pages * 8).div_ceil(PAGE));
        let mut done = 0;
        while done < pages {
            let arguments = [dma, vmo, offset + done * PAGE, (pages - done) * PAGE, at + done * 8];
            let now = self.system.call(Syscall::DmaPin, &arguments).value();
            assert!(now > 0 && now <= 64, "a bounded number");
            done += now;
        }
        let addresses = (0..pages).map(|page| self.word(at + page * 8)).collect();
        let length = (pages * 8).next_multiple_of(PAGE);
        assert_eq!(self.system.call(Syscall::SpaceUnmap, &[self.space, at, length]).error(), None);
        self.close(array);
        addresses
    }

    fn word(&mut self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        assert!(self.system.read(address, &mut bytes));
        u64::from_le_bytes(bytes)
    }

    #[track_caller]
    fn close(&mut self, handle: u64) {
        assert_eq!(self.system.call(Syscall::Close, &[handle]).error(), None);
    }

    fn create(&mut self) -> u64 {
        self.create_for(NO_DEVICE)
    }

    fn create_for(&mut self, device: u64) -> u64 {
        self.system.call(Syscall::DmaCreate, &[self.dma, self.pool, device]).value()
    }
}

#[test]
fn a_device_and_the_program_see_the_same_memory() {
    let mut bench = bench();
    let dma = bench.create();
    let (vmo, address) = bench.system.memory(bench.pool, bench.space, 3);
    assert!(bench.system.write(address + PAGE, b"program"));
    let addresses = bench.pin(dma, vmo, 0, 3);
    assert!(addresses.iter().all(|address| address.is_multiple_of(PAGE)));
    let mut bytes = [0; 7];
    bench.system.machine.hardware.read_bytes(addresses[1], &mut bytes);
    assert_eq!(&bytes, b"program");
    for page in 0..3 {
        bench.system.machine.hardware.write_bytes(addresses[page as usize] + 9, b"device");
        let mut bytes = [0; 6];
        assert!(bench.system.read(address + page * PAGE + 9, &mut bytes));
        assert_eq!(&bytes, b"device");
    }
    // Writes of every kind leave the pages where they are.
    assert!(bench.system.write(address, b"x"));
    assert_eq!(bench.system.call(Syscall::VmoWrite, &[vmo, PAGE, address, 1]).value(), 1);
    assert_eq!(bench.pin(dma, vmo, 0, 3), addresses);
    assert_eq!(bench.system.call(Syscall::DmaInspect, &[dma]).value(), 6);
}

#[test]
fn pages_outlive_the_memory_and_all_handles_but_the_last() {
    let mut bench = bench();
    let before = bench.system.accounts(bench.pool);
    let dma = bench.create();
    let keeper = bench.system.call(Syscall::Duplicate, &[dma, u64::from(Rights::ALL.bits())]).value();
    let vmo = bench.system.call(Syscall::VmoCreate, &[bench.pool, 5 * PAGE]).value();
    let addresses = bench.pin(dma, vmo, 0, 5);
    bench.close(vmo);
    bench.close(dma);
    assert_eq!(bench.system.call(Syscall::DmaInspect, &[keeper]).value(), 5);
    // All other memory is given to somebody: none of it is what the device may still write.
    let greedy = bench.system.call(Syscall::VmoCreate, &[bench.pool, 4096 * PAGE]).value();
    let probe = bench.create();
    let (array, at) = bench.system.memory(bench.pool, bench.space, 1);
    let mut page = 0;
    while bench.system.call(Syscall::DmaPin, &[probe, greedy, page * PAGE, PAGE, at]).error().is_none() {
        assert!(!addresses.contains(&bench.word(at)), "a pinned page was given away");
        page += 1;
    }
    assert!(page > 1000, "{page} pages were looked at");
    for handle in [greedy, probe, array] {
        bench.close(handle);
    }
    assert_eq!(bench.system.call(Syscall::SpaceUnmap, &[bench.space, at, PAGE]).error(), None);
    bench.close(keeper);
    let after = bench.system.accounts(bench.pool);
    assert_eq!(after[1..], before[1..]);
    assert!(after[0][1] - before[0][1] < 8, "only page tables stay");
}

#[test]
fn many_pages_are_pinned_and_let_go_in_steps() {
    let mut bench = bench();
    let dma = bench.create();
    let vmo = bench.system.call(Syscall::VmoCreate, &[bench.pool, 1024 * PAGE]).value();
    // The page tables of the array are made before anything is compared.
    bench.pin(dma, vmo, 0, 600);
    bench.close(dma);
    let before = bench.system.accounts(bench.pool);
    for pages in [1, 254, 255, 256, 600] {
        let dma = bench.create();
        let mut addresses = bench.pin(dma, vmo, 0, pages);
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len() as u64, pages);
        bench.close(dma);
        assert_eq!(bench.system.accounts(bench.pool), before, "after {pages} pages");
    }
}

#[test]
fn pinned_memory_is_not_snapshotted_and_snapshotted_memory_moves_before_it_is_pinned() {
    let mut bench = bench();
    let dma = bench.create();
    let (vmo, address) = bench.system.memory(bench.pool, bench.space, 2);
    assert!(bench.system.write(address, b"old"));
    let copy = bench.system.call(Syscall::VmoSnapshot, &[vmo, bench.pool]).value();
    let addresses = bench.pin(dma, vmo, 0, 2);
    bench.system.machine.hardware.write_bytes(addresses[0], b"new");
    let view = bench.system.call(Syscall::SpaceMap, &[bench.space, copy, 0, 0, PAGE, READ_WRITE]).value();
    let mut bytes = [0; 3];
    assert!(bench.system.read(view, &mut bytes));
    assert_eq!(&bytes, b"old", "the snapshot is not the device's");
    assert_eq!(bench.system.call(Syscall::VmoSnapshot, &[vmo, bench.pool]).error(), Some(Error::BadState));
    // A page that a resize takes from the memory is still the device's.
    assert_eq!(bench.system.call(Syscall::VmoResize, &[vmo, PAGE]).error(), None);
    assert_eq!(bench.system.call(Syscall::VmoResize, &[vmo, 2 * PAGE]).error(), None);
    let again = bench.pin(dma, vmo, 0, 2);
    assert_eq!(again[0], addresses[0]);
    assert_ne!(again[1], addresses[1]);
    bench.close(dma);
    assert_eq!(bench.system.call(Syscall::VmoSnapshot, &[vmo, bench.pool]).error(), None);
}

#[test]
fn what_cannot_be_pinned_is_refused_and_charges_nothing() {
    let mut bench = bench();
    let (pool, dma) = (bench.pool, bench.create());
    let (vmo, at) = bench.system.memory(pool, bench.space, 4);
    assert!(bench.system.write(at, &[1]));
    let endpoint = bench.system.call(Syscall::EndpointCreate, &[pool]).value();
    let paged = bench.system.call(Syscall::VmoCreatePaged, &[pool, PAGE, endpoint, 1]).value();
    let limited = |bench: &mut Bench, handle, rights: Rights| {
        bench.system.call(Syscall::Duplicate, &[handle, u64::from(rights.bits())]).value()
    };
    let readable = limited(&mut bench, vmo, Rights::READ);
    let weak = limited(&mut bench, dma, Rights::READ | Rights::WRITE | Rights::MANAGE);
    let before = bench.system.machine.charges();
    let cases = [
        ([dma, vmo, 0, 0, at], Error::BadArgument),
        ([dma, vmo, 1, PAGE, at], Error::BadArgument),
        ([dma, vmo, 0, 100, at], Error::BadArgument),
        ([dma, vmo, 0, 5 * PAGE, at], Error::BadArgument),
        ([dma, vmo, 4 * PAGE, PAGE, at], Error::BadArgument),
        ([dma, vmo, u64::MAX - 4095, PAGE, at], Error::BadArgument),
        ([dma, vmo, PAGE, u64::MAX - 4095, at], Error::BadArgument),
        ([dma, vmo, 0, PAGE, at + 4], Error::BadArgument),
        ([dma, paged, 0, PAGE, at], Error::BadArgument),
        ([dma, readable, 0, PAGE, at], Error::NoRight),
        ([weak, vmo, 0, PAGE, at], Error::NoRight),
        ([vmo, vmo, 0, PAGE, at], Error::WrongKind),
        ([dma, dma, 0, PAGE, at], Error::WrongKind),
        ([dma, vmo, 0, PAGE, 0], Error::BadAddress),
        ([dma, vmo, 0, PAGE, u64::MAX - 7], Error::BadAddress),
        ([dma, vmo, 0, PAGE, 1 << 47], Error::BadAddress),
    ];
    for (arguments, error) in cases {
        assert_eq!(bench.system.call(Syscall::DmaPin, &arguments), Answer::Refused(error), "{arguments:x?}");
        assert_eq!(bench.system.machine.charges(), before, "{arguments:x?}");
    }
    let driver = limited(&mut bench, dma, Rights::MAP);
    assert_eq!(bench.system.call(Syscall::DmaCreate, &[driver, pool, NO_DEVICE]).error(), Some(Error::NoRight));
    assert_eq!(bench.pin(driver, vmo, 0, 1).len(), 1);
    bench.close(driver);
    bench.close(dma);
    let dma = bench.create();
    assert_eq!(bench.system.call(Syscall::DmaInspect, &[dma]).value(), 0);
}

#[test]
fn a_pool_that_is_used_up_pins_what_it_can_pay() {
    let mut bench = bench();
    let small = bench.system.call(Syscall::PoolCreate, &[bench.pool, 64]).value();
    let dma = bench.system.call(Syscall::DmaCreate, &[bench.dma, small, NO_DEVICE]).value();
    let vmo = bench.system.call(Syscall::VmoCreate, &[bench.pool, 200 * PAGE]).value();
    let (_, at) = bench.system.memory(bench.pool, bench.space, 1);
    let mut pinned = 0;
    let refused = loop {
        match bench.system.call(Syscall::DmaPin, &[dma, vmo, pinned * PAGE, (200 - pinned) * PAGE, at]) {
            Answer::Done([now, ..]) => pinned += now,
            other => break other,
        }
    };
    assert_eq!((pinned, refused), (63, Answer::Refused(Error::NoQuota)), "one page is the list of them");
    assert_eq!(bench.system.call(Syscall::DmaInspect, &[dma]).value(), 63);
    bench.close(dma);
    assert_eq!(bench.system.accounts(small).iter().map(|account| account[1]).sum::<u64>(), 0);
}

#[test]
fn addresses_may_go_into_the_memory_that_is_pinned() {
    let mut bench = bench();
    let dma = bench.create();
    let (vmo, at) = bench.system.memory(bench.pool, bench.space, 2);
    assert!(bench.system.write(at, &[7]));
    // Shared with a snapshot, so that pinning the first page moves the array.
    let copy = bench.system.call(Syscall::VmoSnapshot, &[vmo, bench.pool]).value();
    assert_eq!(bench.system.call(Syscall::DmaPin, &[dma, vmo, 0, 2 * PAGE, at]).value(), 2);
    let (first, second) = (bench.word(at), bench.word(at + 8));
    bench.system.machine.hardware.write_bytes(first + 16, b"!");
    let mut byte = [0];
    assert!(bench.system.read(at + 16, &mut byte));
    assert_eq!((&byte, second % PAGE), (b"!", 0));
    assert_eq!(bench.system.call(Syscall::VmoRead, &[copy, 0, at + 64, 1]).value(), 1);
    assert!(bench.system.read(at + 64, &mut byte));
    assert_eq!(byte, [7]);
}

/// A bench with an IOMMU.
fn guarded() -> Bench {
    let mut bench = bench();
    bench.system.machine.hardware.iommu = true;
    bench
}

#[test]
fn a_device_reaches_what_was_pinned_for_it_and_nothing_else() {
    let mut bench = guarded();
    let (one, other) = (DeviceId(0x108), DeviceId(0x110));
    let (mine, theirs, nobodys) = (bench.create_for(one.0.into()), bench.create_for(other.0.into()), bench.create());
    let (vmo, at) = bench.system.memory(bench.pool, bench.space, 3);
    assert!(bench.system.write(at, b"program"));
    let reached = bench.pin(mine, vmo, 0, 2);
    let elsewhere = bench.pin(theirs, vmo, 2 * PAGE, 1);
    let real = bench.pin(nobodys, vmo, 0, 3);
    let hardware = &bench.system.machine.hardware;
    assert_eq!(hardware.device_reaches(one, reached[0] + 3), Some(real[0] + 3));
    assert_eq!(hardware.device_reaches(one, reached[1]), Some(real[1]));
    assert_eq!(hardware.device_reaches(other, elsewhere[0]), Some(real[2]));
    assert_ne!(reached[0], real[0], "the machine's addresses are not told");
    for (dma, told) in [(mine, [2, 1]), (theirs, [1, 1]), (nobodys, [3, 0])] {
        assert_eq!(bench.system.call(Syscall::DmaInspect, &[dma]).values()[..2], told);
    }
    let hardware = &bench.system.machine.hardware;
    for address in real.iter().copied().chain([0, reached[1] + PAGE]) {
        assert_eq!(hardware.device_reaches(one, address), None, "{address:#x}");
    }
    assert_eq!(hardware.device_reaches(DeviceId(0x118), reached[0]), None, "a device that was given nothing");
    bench.close(mine);
    assert_eq!(bench.system.machine.hardware.device_reaches(one, reached[0]), None);
    assert_eq!(bench.system.machine.hardware.device_reaches(other, elsewhere[0]), Some(real[2]));
}

#[test]
fn a_new_object_takes_the_device_from_the_old_one() {
    let mut bench = guarded();
    let device = DeviceId(8);
    let old = bench.create_for(8);
    let (vmo, _) = bench.system.memory(bench.pool, bench.space, 3);
    let reached = bench.pin(old, vmo, 0, 3);
    let new = bench.create_for(8);
    assert_eq!(bench.system.machine.hardware.device_reaches(device, reached[0]), None);
    let again = bench.pin(new, vmo, 0, 1);
    bench.pin(old, vmo, 0, 1);
    bench.close(old);
    let hardware = &bench.system.machine.hardware;
    assert!(hardware.device_reaches(device, again[0]).is_some(), "the end of the old one changes nothing");
    assert_eq!(hardware.device_reaches(device, reached[2]), None);
}

#[test]
fn authority_over_one_device_makes_none_over_another() {
    let mut bench = guarded();
    let (one, none) = (bench.create_for(8), bench.create());
    let before = bench.system.machine.charges();
    let cases = [(one, 9), (one, NO_DEVICE), (none, 8), (bench.dma, 1 << 32), (one, 1 << 32), (one, u64::MAX - 1)];
    for (from, device) in cases {
        let made = bench.system.call(Syscall::DmaCreate, &[from, bench.pool, device]);
        assert_eq!(made, Answer::Refused(Error::BadArgument), "{device:#x}");
    }
    let nowhere = bench.system.call(Syscall::DmaCreate, &[bench.dma, bench.pool, 1 << 16]);
    assert_eq!(nowhere, Answer::Refused(Error::NoQuota), "the hardware has no place for it");
    assert_eq!(bench.system.machine.charges(), before);
    for (from, device) in [(one, 8), (none, NO_DEVICE)] {
        assert_eq!(bench.system.call(Syscall::DmaCreate, &[from, bench.pool, device]).error(), None);
    }
}

#[test]
fn tables_are_charged_to_the_pool_of_their_object_and_given_back() {
    let mut bench = guarded();
    // The books are checked where something ends: many pages are slow to count.
    bench.system.audits = false;
    let vmo = bench.system.call(Syscall::VmoCreate, &[bench.pool, 1100 * PAGE]).value();
    let first = bench.create_for(8);
    bench.pin(first, vmo, 0, 1100);
    bench.close(first);
    let payer = bench.system.call(Syscall::PoolCreate, &[bench.pool, 1200]).value();
    for (pages, tables) in [(1, 3), (511, 3), (512, 4), (1100, 5)] {
        let dma = bench.system.call(Syscall::DmaCreate, &[bench.dma, payer, 8]).value();
        bench.pin(dma, vmo, 0, pages);
        let used = bench.system.accounts(payer)[0][1];
        assert_eq!(used, pages + pages.div_ceil(255) + tables, "{pages} pages");
        assert_eq!(bench.system.machine.audit(), Ok(()));
        bench.close(dma);
        assert_eq!(bench.system.machine.audit(), Ok(()));
        assert_eq!(bench.system.accounts(payer).iter().map(|account| account[1]).sum::<u64>(), 0);
    }
    // Every shortage on the way: what was pinned counts, and nothing is lost.
    bench.system.audits = true;
    let (_, at) = bench.system.memory(bench.pool, bench.space, 1);
    assert!(bench.system.write(at, &[1]));
    for pages in 1..8 {
        let small = bench.system.call(Syscall::PoolCreate, &[bench.pool, 64]).value();
        // All but so many are used up: a page each, and the table of them.
        let filler = bench.system.call(Syscall::VmoCreate, &[small, 64 * PAGE]).value();
        for page in 0..63 - pages {
            assert_eq!(bench.system.call(Syscall::VmoWrite, &[filler, page * PAGE, at, 1]).value(), 1);
        }
        let dma = bench.system.call(Syscall::DmaCreate, &[bench.dma, small, 8]).value();
        let pinned = bench.system.call(Syscall::DmaPin, &[dma, vmo, 0, 8 * PAGE, at]);
        let pinned = if let Answer::Done([pinned, ..]) = pinned { Ok(pinned) } else { Err(pinned.error()) };
        // Root, list, two tables.
        let expected = if pages > 4 { Ok(pages - 4) } else { Err(Some(Error::NoQuota)) };
        assert_eq!(pinned, expected, "of {pages}");
        assert_eq!(bench.system.call(Syscall::DmaInspect, &[dma]).value(), pages.saturating_sub(4));
        for handle in [dma, filler, small] {
            bench.close(handle);
        }
    }
}
