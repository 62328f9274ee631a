//! Device authority. These tests alone are given the first program's `interrupts` and `devices`.

use alloc::vec::Vec;

use tessera_runtime::abi::PAGE;
use tessera_runtime::object::{Access, Event, Interrupt, MessageInterrupt, Mmio};
use tessera_runtime::{Error, Mapping, Object, Program, Start, own};

use crate::context::{Context, event, within};
use crate::{Test, machine};

pub const TESTS: &[Test] = &[
    ("a message that is sent raises the bits that its interrupt is bound to", message_fires),
    ("a message whose interrupt was closed is ignored", closed_message),
    ("messages are not made of authority over pins, nor bound by their number", not_a_message),
];

/// What the tests of this file are lent in addition to what every test has.
pub struct Devices {
    interrupts: Interrupt,
    devices: Mmio,
}

impl Devices {
    pub fn take(start: &mut Start) -> Result<Devices, Error> {
        Ok(Devices { interrupts: start.take("interrupts")?, devices: start.take("devices")? })
    }

    pub fn lend<'a>(&self, program: Program<'a>) -> Result<Program<'a>, Error> {
        Ok(program.handle("interrupts", self.interrupts.try_clone()?).handle("devices", self.devices.try_clone()?))
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
    sender.send(&MessageInterrupt { data: other.data, ..closed });
    assert!(is_raised(&event, 1000));
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
