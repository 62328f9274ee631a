//! A device that really moves memory and really sends messages: QEMU's `edu`, made for teaching (QEMU's docs/specs/edu.txt). These tests
//! run when the command line says `edu=1`, which is said where the machine has one; `iommu=1` says that it has an IOMMU.

use core::sync::atomic::Ordering;

use tessera_runtime::abi::PAGE;
use tessera_runtime::object::{Access, Dma, Event, Interrupt, IoPort, MessageInterrupt, Mmio, Progress, Vmo, Width};
use tessera_runtime::{Mapping, Object, Rights, own};

use crate::context::{Context, event, sleep, within};
use crate::{Role, Test, machine};

pub const TESTS: &[Test] = &[
    ("a device moves pinned memory and tells by its message", moves),
    ("what a device writes after its driver died goes to nobody else", outlived),
    ("a device reaches memory that it was not given only where no IOMMU is", forged),
    ("a device reaches nothing any more when its memory is let go", let_go),
];

pub const ROLES: &[Role] = &[("edu driver", driver)];

/// Configuration space through ports (PCI Local Bus Specification 3.0, section 3.2.2.3.2).
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const EDU: u32 = 0x11e8_1234;
const COMMAND: u8 = 0x04;
const MEMORY_AND_MASTER: u32 = 0b110;
const BAR: u8 = 0x10;
const CAPABILITIES: u8 = 0x34;
const MSI: u32 = 5;

const IDENTITY: u64 = 0x00;
const INTERRUPT_STATUS: u64 = 0x24;
const INTERRUPT_DONE: u64 = 0x64;
const DMA_FROM: u64 = 0x80;
const DMA_TO: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;
const START: u32 = 1;
const TO_MEMORY: u32 = 2;
const INTERRUPT_AT_END: u32 = 4;
/// What the interrupt status says of a transfer's end.
const DMA_ENDED: u32 = 0x100;
/// The device's own memory.
const BUFFER: u32 = 0x4_0000;
/// Bytes of one transfer. The device refuses to fill its buffer to the last byte.
const HALF: u32 = 2048;

/// The device, driven by this process.
struct Edu {
    ports: IoPort,
    registers: Mapping,
    slot: u32,
}

impl Edu {
    fn find(context: &mut Context) -> Edu {
        let ports: IoPort = context.start.take("ports").unwrap();
        let ports = ports.narrow(&own::pool(), CONFIG_ADDRESS.into(), 8).unwrap();
        let devices: Mmio = context.start.take("devices").unwrap();
        let slot = find_slot(&ports);
        set_config(&ports, slot, COMMAND, config(&ports, slot, COMMAND) | MEMORY_AND_MASTER);
        let address = u64::from(config(&ports, slot, BAR) & !0xf);
        let page = devices.narrow(&own::pool(), address, PAGE).unwrap();
        let registers = Mapping::new(&page, 0, PAGE, Access::Write).unwrap();
        let edu = Edu { ports, registers, slot };
        assert_eq!(edu.read(IDENTITY) & 0xff, 0xed);
        edu
    }

    fn read(&self, register: u64) -> u32 {
        machine::read_32(self.registers.address() + register)
    }

    fn write(&self, register: u64, value: u32) {
        machine::write_32(self.registers.address() + register, value);
    }

    /// Lets the device send a message (PCI Local Bus Specification 3.0, section 6.8.1).
    fn send(&self, message: &MessageInterrupt) {
        let mut at = config(&self.ports, self.slot, CAPABILITIES) as u8;
        while config(&self.ports, self.slot, at) & 0xff != MSI {
            at = (config(&self.ports, self.slot, at) >> 8) as u8;
            assert_ne!(at, 0, "the device has the capability");
        }
        let control = config(&self.ports, self.slot, at);
        assert_ne!(control & 1 << 23, 0, "addresses of 64 bits");
        set_config(&self.ports, self.slot, at + 4, message.address as u32);
        set_config(&self.ports, self.slot, at + 8, (message.address >> 32) as u32);
        set_config(&self.ports, self.slot, at + 12, message.data);
        set_config(&self.ports, self.slot, at, control | 1 << 16);
    }

    /// Copies half a page of memory to another place, both as the device sees them.
    fn copy(&self, from: u64, to: u64) {
        for (from, to, direction) in [(short(from), BUFFER, 0), (BUFFER, short(to), TO_MEMORY)] {
            self.begin(from, to, HALF, direction);
            while self.is_busy() {
                sleep(5);
            }
        }
    }

    /// Begins a transfer, which ends a tenth of a second later.
    fn begin(&self, from: u32, to: u32, count: u32, command: u32) {
        self.write(DMA_FROM, from);
        self.write(DMA_TO, to);
        self.write(DMA_COUNT, count);
        self.write(DMA_COMMAND, START | command);
    }

    fn is_busy(&self) -> bool {
        self.read(DMA_COMMAND) & START != 0
    }
}

fn find_slot(ports: &IoPort) -> u32 {
    (0..32).find(|slot| config(ports, *slot, 0) == EDU).expect("the machine has the device")
}

/// By which name a device of bus 0 goes to memory.
fn device(slot: u32) -> u32 {
    slot << 3
}

fn select(ports: &IoPort, slot: u32, register: u8) {
    ports.write(CONFIG_ADDRESS, Width::Double, 1 << 31 | slot << 11 | u32::from(register & 0xfc)).unwrap();
}

fn config(ports: &IoPort, slot: u32, register: u8) -> u32 {
    select(ports, slot, register);
    ports.read(CONFIG_DATA, Width::Double).unwrap()
}

fn set_config(ports: &IoPort, slot: u32, register: u8, value: u32) {
    select(ports, slot, register);
    ports.write(CONFIG_DATA, Width::Double, value).unwrap();
}

/// A device address that this device can use: it has 28 bits.
fn short(address: u64) -> u32 {
    assert!(address < 1 << 28);
    address as u32
}

fn moves(context: &mut Context) {
    let (lines, root): (Interrupt, Dma) =
        (context.start.take("interrupts").unwrap(), context.start.take("dma").unwrap());
    let pool = own::pool();
    let edu = Edu::find(context);
    let message = lines.message(&pool).unwrap();
    let ended: Event = event();
    message.interrupt.bind(&ended, 1).unwrap();
    edu.send(&message);
    let dma = root.create(&pool, device(edu.slot)).unwrap();
    let memory = Vmo::create(&pool, 2 * PAGE).unwrap();
    let mut pages = [0; 2];
    dma.pin(&memory, 0, &mut pages).unwrap();
    let mapping = Mapping::new(&memory, 0, 2 * PAGE, Access::Write).unwrap();
    let (sent, received) = mapping.words().split_at(512);
    for (index, word) in sent.iter().enumerate() {
        word.store(index as u64 * 0x0101_0101, Ordering::Relaxed);
    }
    for (from, to, direction) in [(short(pages[0]), BUFFER, 0), (BUFFER, short(pages[1]), TO_MEMORY)] {
        assert!(received.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        edu.begin(from, to, HALF, direction | INTERRUPT_AT_END);
        assert_eq!(ended.wait_until(1, 1, within(5_000)), Ok(1), "the device tells");
        assert_eq!(edu.read(INTERRUPT_STATUS), DMA_ENDED);
        edu.write(INTERRUPT_DONE, DMA_ENDED);
        message.interrupt.acknowledge().unwrap();
    }
    for (sent, received) in sent.iter().zip(received).take(256) {
        assert_eq!(received.load(Ordering::Relaxed), sent.load(Ordering::Relaxed));
    }
    assert_eq!(ended.clear(0), Ok(0), "once for each transfer");
    // The last handle goes: what the device sends from now on is ignored.
    drop(message);
    edu.begin(short(pages[0]), BUFFER, 64, INTERRUPT_AT_END);
    while edu.is_busy() {
        sleep(5);
    }
    sleep(5);
    assert_eq!(ended.clear(0), Ok(0));
    edu.write(INTERRUPT_DONE, DMA_ENDED);
}

fn outlived(context: &mut Context) {
    let pool = own::pool();
    let (root, ports): (Dma, IoPort) = (context.start.take("dma").unwrap(), context.start.take("ports").unwrap());
    let devices: Mmio = context.start.take("devices").unwrap();
    let dma = root.create(&pool, device(find_slot(&ports))).unwrap();
    // The driver may pin, and nothing else: whoever resets the device keeps the rest.
    let theirs = dma.duplicate(Rights::MAP | Rights::TRANSFER).unwrap();
    let child = context
        .role("edu driver", |program| program.handle("dma", theirs).handle("ports", ports).handle("devices", devices));
    assert_eq!(child.wait(within(10_000)), Ok(Progress::Ended(0)));
    drop(child);
    assert_eq!(dma.pages(), Ok(1));
    // The driver's memory is gone, its device writes on. All of this pool's memory is put to use, to no harm.
    let free = pool.usage(0).unwrap();
    let pages = (free.quota - free.used).min(4000) - 64;
    let memory = Vmo::create(&pool, pages * PAGE).unwrap();
    let mapping = Mapping::new(&memory, 0, pages * PAGE, Access::Write).unwrap();
    mapping.words().iter().step_by(512).for_each(|word| word.store(1, Ordering::Relaxed));
    sleep(300);
    for page in mapping.words().chunks(512) {
        assert_eq!(page[0].load(Ordering::Relaxed), 1);
        assert!(page[1..].iter().all(|word| word.load(Ordering::Relaxed) == 0), "a device wrote to memory of another");
    }
    drop(dma);
}

/// Memory of one page, filled with a word, and its address for the device of `dma`.
fn page(dma: &Dma, word: u64) -> (Mapping, u64) {
    let memory = Vmo::create(&own::pool(), PAGE).unwrap();
    let mut address = [0];
    dma.pin(&memory, 0, &mut address).unwrap();
    let mapping = Mapping::new(&memory, 0, PAGE, Access::Write).unwrap();
    mapping.words().iter().for_each(|place| place.store(word, Ordering::Relaxed));
    (mapping, address[0])
}

/// Whether a device's half of a page holds a word everywhere.
fn holds(page: &Mapping, word: u64) -> bool {
    page.words().iter().take(256).all(|place| place.load(Ordering::Relaxed) == word)
}

fn forged(context: &mut Context) {
    let has_iommu = context.start.argument("iommu").is_some();
    let root: Dma = context.start.take("dma").unwrap();
    let edu = Edu::find(context);
    let dma = root.create(&own::pool(), device(edu.slot)).unwrap();
    assert_eq!(dma.is_translated(), Ok(has_iommu));
    let (_mine, mine_at) = page(&dma, 1);
    let (copied, copied_at) = page(&dma, 0);
    edu.copy(mine_at, copied_at);
    assert!(holds(&copied, 1), "what it was given it reaches");
    // Memory of somebody else, at an address that its driver has guessed.
    let stranger = root.create_for_none(&own::pool()).unwrap();
    let (theirs, theirs_at) = page(&stranger, 7);
    assert_ne!(theirs_at, mine_at);
    edu.copy(mine_at, theirs_at);
    assert!(holds(&theirs, if has_iommu { 7 } else { 1 }), "it wrote to memory of another");
    let (secret, secret_at) = page(&stranger, 9);
    edu.copy(secret_at, copied_at);
    assert_eq!(holds(&copied, 9), !has_iommu, "it read memory of another");
    assert!(holds(&secret, 9));
    // A refused access harms nothing: the device goes on with what is its own.
    edu.copy(mine_at, copied_at);
    assert!(holds(&copied, 1));
}

fn let_go(context: &mut Context) {
    let root: Dma = context.start.take("dma").unwrap();
    if context.start.argument("iommu").is_none() {
        return;
    }
    let edu = Edu::find(context);
    let older = root.create(&own::pool(), device(edu.slot)).unwrap();
    let (old, old_at) = page(&older, 3);
    let newer = root.create(&own::pool(), device(edu.slot)).unwrap();
    let (new, new_at) = page(&newer, 4);
    let (copied, copied_at) = page(&newer, 0);
    assert_eq!(old_at, new_at, "each object has addresses of its own");
    edu.copy(new_at, copied_at);
    assert!(holds(&copied, 4), "the newer one has the device");
    new.words().iter().for_each(|place| place.store(5, Ordering::Relaxed));
    drop(newer);
    edu.copy(new_at, copied_at);
    assert!(holds(&copied, 4) && holds(&new, 5) && holds(&old, 3), "nobody has it");
}

/// Lets the device write to its memory in a tenth of a second, and ends before that.
fn driver(context: &mut Context) -> i32 {
    let dma: Dma = context.start.take("dma").unwrap();
    let edu = Edu::find(context);
    let memory = Vmo::create(&own::pool(), PAGE).unwrap();
    let mut page = [0];
    dma.pin(&memory, 0, &mut page).unwrap();
    // Something else than zeroes for it to write: its own buffer still holds what another test left, or this.
    let mapping = Mapping::new(&memory, 0, PAGE, Access::Write).unwrap();
    mapping.words().iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
    edu.begin(short(page[0]), BUFFER, HALF, 0);
    while edu.is_busy() {
        sleep(5);
    }
    edu.begin(BUFFER, short(page[0]), HALF, TO_MEMORY);
    0
}
