//! A bus of fake functions: found, measured, and hostile.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tessera_pci::{Access, Address, Function, MessageTable, SingleMessage, capability, place, scan, wanted, windows};
use tessera_runtime::{Memory, Registers};

/// Configuration spaces by place. Base address registers keep only the bits that their size lets them.
#[derive(Default)]
struct Fake {
    spaces: Mutex<BTreeMap<u16, [u8; 256]>>,
    masks: BTreeMap<(u16, u8), u32>,
    /// Every write, in order.
    writes: Mutex<Vec<(u16, u8, u32)>>,
}

impl Access for Fake {
    fn read(&self, address: Address, offset: u8) -> u32 {
        let spaces = self.spaces.lock().unwrap();
        let Some(space) = spaces.get(&address.0) else { return u32::MAX };
        let at = usize::from(offset & 0xfc);
        u32::from_le_bytes(space[at..at + 4].try_into().unwrap())
    }

    fn write(&self, address: Address, offset: u8, value: u32) {
        self.writes.lock().unwrap().push((address.0, offset, value));
        let mask = self.masks.get(&(address.0, offset)).copied();
        let mut spaces = self.spaces.lock().unwrap();
        let Some(space) = spaces.get_mut(&address.0) else { return };
        let at = usize::from(offset & 0xfc);
        let old = u32::from_le_bytes(space[at..at + 4].try_into().unwrap());
        let new = match (offset, mask) {
            (0x10..0x28, Some(mask)) => value & mask | old & !mask,
            (0x10..0x28, None) => old,
            _ => value,
        };
        space[at..at + 4].copy_from_slice(&new.to_le_bytes());
    }
}

impl Fake {
    fn function(&mut self, address: Address, vendor: u16, device: u16, header: u8) -> &mut Self {
        let mut space = [0; 256];
        space[..2].copy_from_slice(&vendor.to_le_bytes());
        space[2..4].copy_from_slice(&device.to_le_bytes());
        space[0x0e] = header;
        self.spaces.lock().unwrap().insert(address.0, space);
        self
    }

    fn set(&mut self, address: Address, offset: usize, bytes: &[u8]) -> &mut Self {
        let mut spaces = self.spaces.lock().unwrap();
        spaces.get_mut(&address.0).unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
        drop(spaces);
        self
    }
}

#[test]
fn functions_are_found_behind_bridges_and_circles_of_bridges() {
    let mut bus = Fake::default();
    bus.function(Address::new(0, 0, 0), 0x8086, 1, 0x80)
        .function(Address::new(0, 0, 3), 0x8086, 2, 0)
        .function(Address::new(0, 1, 0), 0x8086, 3, 0)
        // A second function of a device that has one only is not there.
        .function(Address::new(0, 1, 1), 0x8086, 4, 0)
        .function(Address::new(0, 2, 0), 0x8086, 5, 1)
        .set(Address::new(0, 2, 0), 0x19, &[7])
        .function(Address::new(7, 31, 0), 0x1af4, 0x1041, 0)
        .function(Address::new(7, 3, 0), 0x8086, 6, 1)
        .set(Address::new(7, 3, 0), 0x19, &[0])
        .function(Address::new(7, 4, 0), 0x8086, 8, 1)
        .set(Address::new(7, 4, 0), 0x19, &[7])
        .function(Address::new(9, 0, 0), 0x8086, 9, 0)
        // A header that nobody knows, and no vendor.
        .function(Address::new(7, 5, 0), 0x8086, 10, 0x55)
        .function(Address::new(7, 6, 0), 0, 11, 0);
    let found: Vec<u16> = scan(&bus).iter().map(|function| function.device).collect();
    assert_eq!(found, [1, 2, 3, 0x1041]);
    assert!(scan(&Fake::default()).is_empty());
}

#[test]
fn windows_are_measured_and_left_as_they_were() {
    let place = Address::new(0, 3, 0);
    let mut bus = Fake::default();
    bus.function(place, 0x1af4, 0x1041, 0).set(place, 4, &[7, 0]);
    bus.masks = BTreeMap::from([
        ((place.0, 0x10), 0xffff_ffe0),
        ((place.0, 0x14), 0xffff_f000),
        ((place.0, 0x18), 0xffff_c000),
        ((place.0, 0x1c), 0xffff_ffff),
        // A 64-bit one without an upper half.
        ((place.0, 0x24), 0xffff_0000),
    ]);
    bus.set(place, 0x10, &[0x01, 0xc0, 0, 0])
        .set(place, 0x14, &[0, 0x10, 0xd0, 0xfe])
        .set(place, 0x18, &[0x0c, 0, 0, 0xd0, 1, 0, 0, 0])
        .set(place, 0x24, &[0x04, 0, 0, 0]);
    let function = Function::probe(&bus, place).unwrap();
    let before = *bus.spaces.lock().unwrap().get(&place.0).unwrap();
    let found = windows(&bus, &function);
    let seen: Vec<_> = found.iter().map(|window| (window.number, window.first, window.length, window.wide)).collect();
    assert_eq!(
        seen,
        [(1, 0xfed0_1000, 0x1000, false), (2, 0x1_d000_0000, 0x4000, true), (5, 0, 0x1_0000, false)],
        "ports are no windows"
    );
    assert_eq!(before, *bus.spaces.lock().unwrap().get(&place.0).unwrap());
    let writes = bus.writes.lock().unwrap();
    assert_eq!(writes[0], (place.0, 4, 4), "it answers nowhere while it is measured");
    let ones = writes.iter().position(|(_, _, value)| *value == u32::MAX).unwrap();
    assert!(ones > 0);
}

#[test]
fn windows_that_touch_one_page_are_told() {
    let window =
        |first: u64, length: u64| tessera_pci::Window { function: Address(0), number: 0, first, length, wide: false };
    let one = window(0x1000, 0x1000);
    assert!(one.shares_a_page_with(&window(0x1800, 16)) && window(0x1ff0, 16).shares_a_page_with(&one));
    assert!(!one.shares_a_page_with(&window(0x2000, 0x1000)) && !window(0xff0, 16).shares_a_page_with(&one));
    assert!(one.shares_a_page_with(&window(0, u64::MAX)));
}

#[test]
fn a_list_of_capabilities_may_be_a_circle() {
    let place = Address::new(0, 3, 0);
    let mut bus = Fake::default();
    bus.function(place, 0x1af4, 0x1041, 0).set(place, 0x34, &[0x40]);
    assert_eq!(capability(&bus, place, 0x11), None, "the status says that there is none");
    bus.set(place, 6, &[0x10]).set(place, 0x40, &[9, 0x50]).set(place, 0x50, &[5, 0x40]);
    assert_eq!((capability(&bus, place, 5), capability(&bus, place, 0x11)), (Some(0x50), None));
    bus.set(place, 0x50, &[5, 0x20]);
    assert_eq!(capability(&bus, place, 0x11), None, "into the head");
}

#[test]
fn messages_are_written_into_the_table_and_nowhere_else() {
    let place = Address::new(0, 3, 0);
    let mut bus = Fake::default();
    bus.function(place, 0x1af4, 0x1041, 0).set(place, 6, &[0x10]).set(place, 0x34, &[0x98]);
    bus.set(place, 0x98, &[0x11, 0, 2, 0, 1, 0x10, 0, 0, 1, 8, 0, 0]);
    let table = MessageTable::find(&bus, place).unwrap();
    assert_eq!((table.count, table.window, table.offset, table.pending), (3, 1, 0x1000, (1, 0x800)));
    let registers = Table(Memory::private(64));
    table.enable(&bus, place, &registers);
    assert_eq!(bus.read(place, 0x98) >> 30, 2, "on, and not masked as a whole");
    assert!((0..3).all(|number| registers.0.load_32(number * 16 + 12) == 1), "each masked");
    table.set(&registers, 1, 0xfee0_1000, 0x51);
    let entry: Vec<u32> = (4..8).map(|word| registers.0.load_32(word * 4)).collect();
    assert_eq!(entry, [0xfee0_1000, 0, 0x51, 0]);
    table.set(&registers, 3, 1, 1);
    assert_eq!(registers.0.load_64(48), 0, "there is no such message");
    table.disable(&bus, place);
    assert_eq!(bus.read(place, 0x98) >> 30, 1);
    // At the very end of configuration space there is no room for one.
    bus.set(place, 0x34, &[0xfc]).set(place, 0xfc, &[0x11, 0, 2, 0]);
    assert_eq!(MessageTable::find(&bus, place), None);
}

#[test]
fn the_one_message_of_a_function_without_a_table_is_set_where_its_address_leaves_room() {
    let place = Address::new(0, 3, 0);
    for (wide, to, last) in [(false, 0xfee0_1000_u64, 0x48), (true, 0x1_fee0_1000, 0x4c)] {
        let mut bus = Fake::default();
        bus.function(place, 0x1234, 0x11e8, 0).set(place, 6, &[0x10]).set(place, 0x34, &[0x40]);
        // On, with two of four messages, and something behind the data that is not the bus's.
        bus.set(place, 0x40, &[5, 0, 0x15 | if wide { 0x80 } else { 0 }, 0]);
        bus.set(place, last, &[0xaa, 0xaa, 0xbb, 0xbb]);
        let single = SingleMessage::find(&bus, place).unwrap();
        assert!(single.set(&bus, place, to, 0x51));
        assert_eq!(bus.read(place, 0x40) >> 16 & 0x7f, 0x05, "on, with one message");
        assert_eq!((bus.read(place, 0x44), bus.read(place, last as u8)), (to as u32, 0xbbbb_0051));
        assert_eq!(single.set(&bus, place, 1 << 32, 0x52), wide);
        let writes = bus.writes.lock().unwrap().clone();
        assert_eq!(writes[0].2 >> 16 & 1, 0, "off while it is changed");
        single.disable(&bus, place);
        assert_eq!(bus.read(place, 0x40) >> 16 & 1, 0);
    }
    assert_eq!(SingleMessage::find(&Fake::default(), place), None);
}

/// Registers that are memory.
struct Table(Memory);

impl Registers for Table {
    fn read_8(&self, offset: usize) -> u8 {
        self.0.load_8(offset)
    }
    fn read_16(&self, offset: usize) -> u16 {
        self.0.load_16(offset)
    }
    fn read_32(&self, offset: usize) -> u32 {
        self.0.load_32(offset)
    }
    fn write_8(&self, offset: usize, value: u8) {
        self.0.store_8(offset, value);
    }
    fn write_16(&self, offset: usize, value: u16) {
        self.0.store_16(offset, value);
    }
    fn write_32(&self, offset: usize, value: u32) {
        self.0.store_32(offset, value);
    }
    fn length(&self) -> usize {
        self.0.length()
    }
}

#[test]
fn a_client_gets_what_its_name_or_the_image_says() {
    assert_eq!(wanted("virtio-net", None), Some((0x1af4, 0x1041, 0)));
    assert_eq!(wanted("virtio-blk-3", None), Some((0x1af4, 0x1042, 2)));
    assert_eq!(wanted("disk", Some("1af4:1042")), Some((0x1af4, 0x1042, 0)));
    assert_eq!(wanted("virtio-net", Some("8086:100e:1")), Some((0x8086, 0x100e, 1)));
    for wish in ["", "1af4", "1af4:1042:1:1", "x:y", "1af4:10421"] {
        assert_eq!(wanted("virtio-net", Some(wish)), None, "{wish}");
    }
    assert_eq!(wanted("disk", None), None);
}

/// The host bridge of Q35, with configuration space at 0xb0000000, and a function with a window of each of `sizes`.
fn bus_without_addresses(device: u16, sizes: &[u32]) -> Fake {
    let (bridge, function) = (Address::new(0, 0, 0), Address::new(0, 1, 0));
    let mut bus = Fake::default();
    bus.function(bridge, 0x8086, device, 0).set(bridge, 0x60, &0xb000_0001_u32.to_le_bytes());
    bus.function(function, 0x1af4, 0x1041, 0);
    for (number, size) in (0_u8..).zip(sizes) {
        bus.masks.insert((function.0, 0x10 + number * 4), !(size - 1));
    }
    bus
}

fn placed(bus: &Fake) -> Vec<(u64, u64)> {
    let functions = scan(bus);
    let mut all: Vec<_> = functions.iter().flat_map(|function| windows(bus, function)).collect();
    place(bus, &functions, &mut all);
    // What was written is what is told.
    let read: Vec<_> = functions.iter().flat_map(|function| windows(bus, function)).collect();
    assert_eq!(read, all);
    all.iter().map(|window| (window.first, window.length)).collect()
}

#[test]
fn windows_without_addresses_are_placed_where_nothing_else_is() {
    let bus = bus_without_addresses(0x29c0, &[16, 0x4000, 4096, 1 << 24]);
    let all = placed(&bus);
    assert!(all.iter().all(|(first, length)| first.is_multiple_of((*length).max(4096)) && *first >= 0xc000_0000));
    for (index, (first, length)) in all.iter().enumerate() {
        let pages = |first: u64, length: u64| (first >> 12, (first + length - 1) >> 12);
        let (low, high) = pages(*first, *length);
        for (other, other_length) in &all[index + 1..] {
            let (other_low, other_high) = pages(*other, *other_length);
            assert!(high < other_low || other_high < low, "{all:x?}");
        }
    }
    // The second time nothing is left to do.
    assert_eq!(placed(&bus), all);
}

#[test]
fn what_the_firmware_placed_stays_and_what_is_too_large_is_left_out() {
    let function = Address::new(0, 1, 0);
    let mut bus = bus_without_addresses(0x29c0, &[4096, 1 << 31, 4096]);
    bus.set(function, 0x10, &0xc000_0000_u32.to_le_bytes());
    assert_eq!(placed(&bus), [(0xc000_0000, 4096), (0, 1 << 31), (0xc000_1000, 4096)]);
    // Configuration space may lie there too.
    let mut bus = bus_without_addresses(0x29c0, &[4096]);
    bus.set(Address::new(0, 0, 0), 0x60, &0xc000_0001_u32.to_le_bytes());
    assert_eq!(placed(&bus), [(0xd000_0000, 4096)]);
}

#[test]
fn nothing_is_placed_where_nobody_knows_what_is_free() {
    assert_eq!(placed(&bus_without_addresses(0x1237, &[4096])), [(0, 4096)]);
}
