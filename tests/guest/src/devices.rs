//! Device authority. These tests alone are given the first program's `interrupts` and `devices`.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use tessera_runtime::abi::PAGE;
use tessera_runtime::object::{Access, Dma, Endpoint, Event, Interrupt, IoPort, MessageInterrupt, Mmio, Progress, Vmo};
use tessera_runtime::{Error, Mapping, Object, Program, Rights, Start, own};

use crate::context::{Context, event, pool, within};
use crate::{Role, Test, machine};

pub const TESTS: &[Test] = &[
    ("a message that is sent raises the bits that its interrupt is bound to", message_fires),
    ("a message whose interrupt was closed is ignored", closed_message),
    ("memory that a process pinned outlives it until the last handle is closed", pinned),
    ("pinning charges its pool, and refuses what is not there", pin_refused),
    ("messages are not made of authority over pins, nor bound by their number", not_a_message),
];

pub const ROLES: &[Role] = &[("pinner", pinner)];

/// What the tests of this file are lent in addition to what every test has.
pub struct Devices {
    interrupts: Interrupt,
    devices: Mmio,
    dma: Dma,
    ports: IoPort,
}

impl Devices {
    pub fn take(start: &mut Start) -> Result<Devices, Error> {
        let (interrupts, devices) = (start.take("interrupts")?, start.take("devices")?);
        Ok(Devices { interrupts, devices, dma: start.take("dma")?, ports: start.take("ports")? })
    }

    pub fn lend<'a>(&self, program: Program<'a>) -> Result<Program<'a>, Error> {
        let program = program.handle("interrupts", self.interrupts.try_clone()?);
        let program = program.handle("devices", self.devices.try_clone()?);
        Ok(program.handle("dma", self.dma.try_clone()?).handle("ports", self.ports.try_clone()?))
    }
}

/// Where messages go, as a device sees it: the local controllers take a store there for a message in QEMU.
struct Sender(Mapping);

impl Sender {
    fn new(context: &mut Context, message: &MessageInterrupt) -> Sender {
        let devices: Mmio = context.start.take("devices").unwrap();
        let page = devices.narrow(&own::pool(), message.address & !(PAGE - 1), PAGE).unwrap();
        Sender(Mapping::new(&page, 0, PAGE, Access::Write).unwrap())
    }

    fn send(&self, message: &MessageInterrupt) {
        machine::write_32(self.0.address() + message.address % PAGE, message.data);
    }
}

fn is_raised(event: &Event, milliseconds: u64) -> bool {
    event.wait_until(4, 4, within(milliseconds)) == Ok(4)
}

fn message_fires(context: &mut Context) {
    let lines: Interrupt = context.start.take("interrupts").unwrap();
    let message = lines.message(&own::pool()).unwrap();
    let sender = Sender::new(context, &message);
    let event = event();
    message.interrupt.bind(&event, 4).unwrap();
    for _ in 0..100 {
        sender.send(&message);
        assert!(is_raised(&event, 1000));
    }
    assert!(!is_raised(&event, 10), "once for each");
    message.interrupt.acknowledge().unwrap();
    assert!(!is_raised(&event, 10));
}

fn closed_message(context: &mut Context) {
    let lines: Interrupt = context.start.take("interrupts").unwrap();
    let event = event();
    let closed = lines.message(&own::pool()).unwrap();
    let sender = Sender::new(context, &closed);
    closed.interrupt.bind(&event, 4).unwrap();
    let MessageInterrupt { interrupt, address, data } = closed;
    drop(interrupt);
    let other = lines.message(&own::pool()).unwrap();
    assert_ne!(other.data, data, "the one that was given back is used again last");
    other.interrupt.bind(&event, 4).unwrap();
    let closed = MessageInterrupt { interrupt: other.interrupt, address, data };
    sender.send(&closed);
    assert!(!is_raised(&event, 10));
    // Held until it has fired: another processor may take it.
    let open = MessageInterrupt { data: other.data, ..closed };
    sender.send(&open);
    assert!(is_raised(&event, 1000));
}

/// Pages that are pinned at once: more than one call pins.
const PAGES: usize = 100;

fn pinned(context: &mut Context) {
    let (root, pool): (Dma, _) = (context.start.take("dma").unwrap(), own::pool());
    let dma = root.create_for_none(&pool).unwrap();
    let told = Vmo::create(&pool, PAGE).unwrap();
    let (theirs, paper) = (dma.try_clone().unwrap(), told.try_clone().unwrap());
    let child = context.role("pinner", |program| program.handle("dma", theirs).handle("told", paper));
    assert_eq!(child.wait(within(10_000)).unwrap(), Progress::Ended(0));
    drop(child);
    assert_eq!(dma.pages(), Ok(PAGES as u64));
    let mapping = Mapping::new(&told, 0, PAGE, Access::Read).unwrap();
    let held: Vec<u64> = mapping.words()[..PAGES].iter().map(|word| word.load(Ordering::Relaxed)).collect();
    assert!(held.iter().all(|address| address.is_multiple_of(PAGE) && *address != 0));
    // What the machine gives to others meanwhile is none of it.
    let others = root.create_for_none(&pool).unwrap();
    let memory = Vmo::create(&pool, 500 * PAGE).unwrap();
    let mut addresses = [0; 500];
    others.pin(&memory, 0, &mut addresses).unwrap();
    assert!(addresses.iter().all(|address| !held.contains(address)));
    assert_eq!(memory.snapshot(&pool), Err(Error::BadState), "a device would go on with the old pages");
    let used = pool.usage(0).unwrap().used;
    drop(dma);
    // The list of a hundred pages is one page more.
    assert_eq!(used - pool.usage(0).unwrap().used, PAGES as u64 + 1);
    drop(others);
    memory.snapshot(&pool).unwrap();
}

/// Pins, says what, and ends.
fn pinner(context: &mut Context) -> i32 {
    let dma: Dma = context.start.take("dma").unwrap();
    let told: Vmo = context.start.take("told").unwrap();
    let memory = Vmo::create(&own::pool(), PAGES as u64 * PAGE).unwrap();
    let mut addresses = [0; PAGES];
    dma.pin(&memory, 0, &mut addresses).unwrap();
    let mapping = Mapping::new(&told, 0, PAGE, Access::Write).unwrap();
    for (to, from) in mapping.words().iter().zip(addresses) {
        to.store(from, Ordering::Relaxed);
    }
    0
}

fn pin_refused(context: &mut Context) {
    let root: Dma = context.start.take("dma").unwrap();
    let small = pool(128);
    let dma = root.create_for_none(&small).unwrap();
    let memory = Vmo::create(&own::pool(), 200 * PAGE).unwrap();
    let mut addresses = [0; 200];
    assert_eq!(dma.pin(&memory, 0, &mut addresses), Err(Error::NoQuota));
    assert_eq!(dma.pages(), Ok(127), "and one page for the list");
    assert_eq!(dma.pin(&memory, PAGE, &mut addresses), Err(Error::BadArgument), "beyond the end");
    assert_eq!(dma.pin(&memory, 8, &mut addresses[..1]), Err(Error::BadArgument));
    let endpoint = Endpoint::create(&own::pool()).unwrap();
    let paged = Vmo::create_paged(&own::pool(), PAGE, &endpoint, 1).unwrap();
    assert_eq!(dma.pin(&paged, 0, &mut addresses[..1]), Err(Error::BadArgument));
    let readable = memory.duplicate(Rights::READ).unwrap();
    assert_eq!(dma.pin(&readable, 0, &mut addresses[..1]), Err(Error::NoRight));
    let weak = dma.duplicate(Rights::READ | Rights::MANAGE).unwrap();
    assert_eq!(weak.pin(&memory, 0, &mut addresses[..1]), Err(Error::NoRight));
    let driver = dma.duplicate(Rights::MAP).unwrap();
    assert_eq!(driver.create_for_none(&small), Err(Error::NoRight));
    drop((dma, weak, driver));
    assert_eq!(small.usage(0).unwrap().used, 0);
}

fn not_a_message(context: &mut Context) {
    let (lines, pool): (Interrupt, _) = (context.start.take("interrupts").unwrap(), own::pool());
    let all = lines.lines().unwrap();
    assert!(all.first == 0 && all.first_message < all.count);
    if all.first_message > 0 {
        let pins = lines.narrow(&pool, 0, all.first_message).unwrap();
        assert_eq!(pins.message(&pool), Err(Error::BadArgument));
    }
    let last = lines.narrow(&pool, all.count - 1, 1).unwrap();
    assert_eq!(last.bind(&event(), 1), Err(Error::BadState));
    assert_eq!(last.acknowledge(), Err(Error::BadState));
    let message = last.message(&pool).unwrap();
    assert_eq!(last.message(&pool), Err(Error::NoQuota));
    assert_eq!(last.bind(&event(), 1), Err(Error::Occupied));
    drop(message);
    let mut made = Vec::new();
    let refused = loop {
        match lines.message(&pool) {
            Ok(message) => made.push(message),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::NoQuota);
    assert!(made.len() > 1);
}
