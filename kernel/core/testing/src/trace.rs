//! Runs a machine on a trace: bytes that say which calls with which arguments, faults, interrupts and passing of time follow one
//! another. Whatever the bytes say, the machine must not panic, must come to rest, and its books must balance after every step.

use crate::{Answer, System};
use tessera_abi::{Error, FaultKind, PAGE, Syscall, syscall::map_flags};
use tessera_core::{Fault, Next};

/// Most steps of one trace.
const STEPS: usize = 200;
/// Values of earlier results that later arguments are taken from.
const MEMORY: usize = 64;

/// Reads a trace; behind its end everything is zero.
struct Reader<'a>(std::slice::Iter<'a, u8>);

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}

/// Values that calls take.
struct Values(Vec<u64>);

impl Values {
    fn remember(&mut self, value: u64) {
        if value != 0 && !self.0.contains(&value) {
            self.0.push(value);
            if self.0.len() > MEMORY {
                // The first program's own handles stay.
                self.0.remove(16);
            }
        }
    }

    /// An argument: mostly something that was seen before, now and then anything.
    fn argument(&self, reader: &mut Reader<'_>) -> u64 {
        let selector = reader.byte();
        match selector {
            0..128 => self.0[usize::from(selector) % self.0.len()],
            128..176 => u64::from(selector - 128),
            176..200 => u64::from(selector - 176) * PAGE,
            200..216 => tessera_abi::NATIVE_BASE + u64::from(selector - 200) * PAGE,
            216..224 => 0x7fff_ffe0_0000 - u64::from(selector - 215) * 4096 - 8,
            224..232 => 1 << (u32::from(selector - 224) * 9),
            232..240 => tessera_abi::USER_END - u64::from(selector - 232),
            240..248 => u64::MAX - u64::from(selector - 240),
            _ => reader.word(),
        }
    }
}

/// Errors that are found before anything is changed.
fn is_early(error: Error) -> bool {
    matches!(error, Error::BadSyscall | Error::BadHandle | Error::WrongKind | Error::NoRight)
}

/// Runs a machine on a trace.
pub fn run(trace: &[u8]) {
    let mut reader = Reader(trace.iter());
    let (mut system, mut values) = prepare(1 + usize::from(reader.byte() & 1));
    system.audits = true;
    for _ in 0..STEPS {
        if reader.0.len() == 0 || system.machine.hardware.power.is_some() {
            return;
        }
        let selector = reader.byte();
        system.processor = usize::from(selector >> 7) % system.processors;
        if system.settle() != Next::Run && system.advance(1 << 20) != Next::Run {
            continue;
        }
        match selector & 0x7f {
            0..96 => call(&mut system, &mut values, &mut reader),
            96..104 => {
                system.advance(1 << (selector & 31));
            }
            104..112 => {
                let kind = FaultKind::from_code(u64::from(reader.byte() % 11 + 1)).unwrap_or(FaultKind::Read);
                let address = values.argument(&mut reader);
                system.machine.fault(system.processor, Fault { kind, address });
                system.settle();
            }
            112..120 => {
                system.machine.interrupt(system.processor, u32::from(reader.byte() % 32));
                system.settle();
            }
            _ => {
                let address = values.argument(&mut reader);
                system.write(address, &reader.word().to_le_bytes());
            }
        }
    }
}

fn call(system: &mut System, values: &mut Values, reader: &mut Reader<'_>) {
    let number = u64::from(reader.byte()) % (Syscall::ALL.len() as u64 + 1);
    let arguments = std::array::from_fn(|_| values.argument(reader));
    let message = (Syscall::Call as u64..=Syscall::Reply as u64).contains(&number);
    let more = if message { std::array::from_fn(|_| values.argument(reader)) } else { [0; 4] };
    if std::env::var_os("TESSERA_TRACE").is_some() {
        eprintln!(
            "{:#x} on {}: {:?} {arguments:x?} {more:x?}",
            system.who(),
            system.processor,
            Syscall::from_number(number)
        );
    }
    let quiet = system.machine.is_quiet().then(|| system.machine.charges());
    let answer = system.issue(|registers| {
        registers.rax = number;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = arguments;
        if message {
            [registers.r12, registers.r13, registers.r14, registers.r15] = more;
            // Tags are mostly sensible: counts and flags from a few bits.
            if arguments[1] >> 32 == 0 {
                let bits = arguments[1];
                registers.rsi = bits & 0xff | (bits >> 8 & 7) << 43 | (bits >> 11 & 3) << 46 | (bits >> 13 & 63) << 47;
            }
        }
    });
    match answer {
        Answer::Done(results) => results.iter().take(3).for_each(|value| values.remember(*value)),
        Answer::Refused(error) if is_early(error) => {
            if let Some(before) = quiet {
                assert_eq!(before, system.machine.charges(), "call {number} was refused ({error:?}) and had an effect");
            }
        }
        _ => {}
    }
}

/// A machine with two more processes that run, and what there is to name in it.
fn prepare(processors: usize) -> (System, Values) {
    let mut system = System::new(512, processors);
    // The start is the same for every trace: it is audited by other tests.
    system.audits = false;
    let names = [
        "pool",
        "space",
        "process",
        "thread",
        "budget",
        "interrupts",
        "ports",
        "devices",
        "clock",
        "log",
        "power",
        "archive",
        "dma",
    ];
    let mut values = Values(names.iter().map(|name| system.first(name)).collect());
    let [pool, budget] = [values.0[0], values.0[4]];
    let endpoint = system.call(Syscall::EndpointCreate, &[pool]).value();
    let event = system.call(Syscall::EventCreate, &[pool]).value();
    let vmo = system.call(Syscall::VmoCreate, &[pool, 8 * PAGE]).value();
    let small = system.call(Syscall::PoolCreate, &[pool, 64]).value();
    values.0.extend([endpoint, event, vmo, small]);
    for stack in [0x1000, 0x2000] {
        let (space, process) = system.process(small);
        let flags = map_flags::READ | map_flags::WRITE;
        values.remember(system.call(Syscall::SpaceMap, &[space, vmo, 0, 0, 8 * PAGE, flags]).value());
        let session = system.call(Syscall::SessionCreate, &[endpoint, small, stack]).value();
        for handle in [small, endpoint, session, event, vmo, process, budget] {
            values.remember(system.grant(process, handle));
        }
        let thread = system.thread(small, process, budget, stack);
        for handle in [space, process, session, thread] {
            values.remember(handle);
        }
    }
    (system, values)
}
