//! Faults: each kind ends its process, which tells what and where; a handler hears of it first.

use alloc::format;

use tessera_runtime::abi::{Delivery, FaultKind, PAGE};
use tessera_runtime::object::{Access, Endpoint, Fault, Progress, Vmo, reply};
use tessera_runtime::{Message, own};

use crate::context::{Context, pool, within};
use crate::{Role, Test, machine};

pub const TESTS: &[Test] = &[
    ("every kind of fault ends its process and is told", every_kind),
    ("a fault in a thread's guard page ends the process", guard_page),
    ("a fault handler hears of a fault and lets the process end", handled),
    ("a fault handler mends a fault and the process goes on", mended),
];

pub const ROLES: &[Role] = &[("crash", crash), ("crash-later", crash_later), ("overflow", overflow)];

/// An address at which nothing is mapped.
const NOWHERE: u64 = 0x7f20_0000_0000;

/// A name, the fault that follows, the address it names, and what to do.
type Crime = (&'static str, FaultKind, Option<u64>, fn());

/// The faults: how the crashing process calls them, what they are, and the address if it is known.
const KINDS: &[Crime] = &[
    ("read", FaultKind::Read, Some(NOWHERE), || {
        machine::read(NOWHERE);
    }),
    ("null", FaultKind::Read, Some(0), || {
        machine::read(core::hint::black_box(0));
    }),
    ("kernel-read", FaultKind::Read, None, || {
        machine::read(0xffff_ffff_8020_0000);
    }),
    ("kernel-write", FaultKind::Write, None, || machine::write(0xffff_8000_0000_0000, 1)),
    ("write", FaultKind::Write, Some(NOWHERE + 8), || machine::write(NOWHERE + 8, 1)),
    ("write-text", FaultKind::Write, None, || machine::write(every_kind as *const () as u64, 1)),
    ("execute-data", FaultKind::Execute, None, || {
        static mut DATA: [u8; 16] = [0xc3; 16];
        machine::execute(&raw const DATA as u64);
    }),
    ("execute-nothing", FaultKind::Execute, Some(NOWHERE), || machine::execute(NOWHERE)),
    ("undefined", FaultKind::Instruction, None, machine::undefined),
    ("divide", FaultKind::Divide, None, machine::divide),
    ("privileged", FaultKind::Protection, None, machine::privileged),
    ("port", FaultKind::Protection, None, machine::port),
    ("not-canonical", FaultKind::Protection, None, machine::not_canonical),
    ("kernel-stack", FaultKind::Write, None, machine::kernel_stack),
    ("breakpoint", FaultKind::Debug, None, machine::breakpoint),
    ("vector", FaultKind::FloatingPoint, None, machine::vector),
    ("float", FaultKind::FloatingPoint, None, machine::float),
    ("no-memory", FaultKind::NoMemory, None, no_memory),
];

fn crash(context: &mut Context) -> i32 {
    let name = context.start.argument("crash").unwrap_or("");
    if let Some((.., act)) = KINDS.iter().find(|(kind, ..)| *kind == name) {
        act();
    }
    0
}

fn no_memory() {
    let small = pool(64);
    let memory = Vmo::create(&small, 256 * PAGE).unwrap();
    let address = own::space().map(&memory, 0, 256 * PAGE, Access::Write).unwrap();
    for page in 0..256 {
        machine::write(address + page * PAGE, 1);
    }
}

fn every_kind(context: &mut Context) {
    for (name, kind, address, _) in KINDS {
        let child = context.role("crash", |program| program.argument(&format!("crash={name}")));
        match child.wait(within(5000)) {
            Ok(Progress::Faulted(fault)) => {
                assert_eq!(fault.kind, *kind, "{name}: {fault:x?}");
                assert!(address.is_none_or(|address| address == fault.address), "{name}: {fault:x?}");
                assert!(fault.instruction != 0, "{name}: {fault:x?}");
            }
            other => panic!("{name}: {other:x?}"),
        }
    }
}

fn overflow(_: &mut Context) -> i32 {
    #[allow(unconditional_recursion)]
    fn deeper(level: u64) -> u64 {
        let page = core::hint::black_box([level; 64]);
        deeper(level + 1) + page[3]
    }
    let thread = tessera_runtime::thread::spawn(|| deeper(0)).unwrap();
    thread.join() as i32
}

fn guard_page(context: &mut Context) {
    let child = context.role("overflow", |program| program);
    let ended = child.wait(within(5000));
    assert!(
        matches!(ended, Ok(Progress::Faulted(Fault { kind: FaultKind::Write | FaultKind::Read, .. }))),
        "{ended:?}"
    );
}

fn handled(context: &mut Context) {
    let endpoint = Endpoint::create(&own::pool()).unwrap();
    let child = suspended_until_handled(context, &endpoint, "crash=divide");
    let received = endpoint.receive().unwrap();
    assert_eq!((received.delivery, received.badge), (Delivery::Fault, 9));
    assert_eq!(received.words[0], FaultKind::Divide as u64);
    assert!(received.words[2] != 0);
    reply(Message::new(1)).unwrap();
    let ended = child.wait(within(5000));
    assert!(matches!(ended, Ok(Progress::Faulted(Fault { kind: FaultKind::Divide, .. }))), "{ended:?}");
}

fn mended(context: &mut Context) {
    let endpoint = Endpoint::create(&own::pool()).unwrap();
    let child = suspended_until_handled(context, &endpoint, "crash=breakpoint");
    let received = endpoint.receive().unwrap();
    assert_eq!(received.words[0], FaultKind::Debug as u64);
    // A breakpoint is reported behind its instruction: the thread goes on there.
    reply(Message::new(0)).unwrap();
    assert_eq!(child.wait(within(5000)), Ok(Progress::Ended(0)));
}

/// A process that will fault, with a fault handler that was there before it could.
fn suspended_until_handled(context: &mut Context, endpoint: &Endpoint, argument: &str) -> tessera_runtime::Child {
    let gate = crate::context::event();
    use tessera_runtime::Object;
    let theirs = gate.try_clone().unwrap();
    let child = context.role("crash-later", |program| program.handle("gate", theirs).argument(argument));
    child.process.handle_faults(endpoint, 9).unwrap();
    gate.raise(1).unwrap();
    child
}

/// Crashes when told.
fn crash_later(context: &mut Context) -> i32 {
    let gate: tessera_runtime::object::Event = context.start.take("gate").unwrap();
    gate.wait(1).unwrap();
    crash(context)
}
