//! Memory for devices: what is pinned stays in place until the last handle of the object that pins it is gone.

use tessera_abi::{Error, PAGE, Rights, Syscall, syscall::map_flags};
use tessera_core::Hardware;
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
        self.system.call(Syscall::DmaCreate, &[self.dma, self.pool]).value()
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
    assert_eq!(bench.system.call(Syscall::DmaCreate, &[driver, pool]).error(), Some(Error::NoRight));
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
    let dma = bench.system.call(Syscall::DmaCreate, &[bench.dma, small]).value();
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
