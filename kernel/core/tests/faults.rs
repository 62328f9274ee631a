//! Faults: who is told, and what the answer does.

use tessera_abi::{Delivery, Error, FaultKind, NATIVE_BASE, PAGE, Syscall, Tag, syscall::map_flags};
use tessera_core::{Fault, Next};
use tessera_core_testing::{Answer, System};

const FAULTY: u64 = 0x1000;
const ENDED: u64 = 2;

/// A process with a thread that runs, and an endpoint to which its faults go under badge 5.
struct Bench {
    system: System,
    pool: u64,
    first: u64,
    process: u64,
    thread: u64,
    endpoint: u64,
}

fn bench(handled: bool) -> Bench {
    let mut system = System::new(2048, 1);
    let [pool, budget] = ["pool", "budget"].map(|name| system.first(name));
    let first = system.who();
    let (_, process) = system.process(pool);
    let endpoint = system.call(Syscall::EndpointCreate, &[pool]).value();
    if handled {
        assert_eq!(system.call(Syscall::ProcessHandler, &[process, endpoint, 5]).error(), None);
    }
    let thread = system.thread(pool, process, budget, FAULTY);
    system.switch_to(FAULTY);
    Bench { system, pool, first, process, thread, endpoint }
}

impl Bench {
    fn fault(&mut self, kind: FaultKind, address: u64) {
        self.system.machine.fault(0, Fault { kind, address });
        assert_eq!(self.system.settle(), Next::Run);
    }

    fn receive(&mut self) -> (u64, u64, [u64; 3]) {
        self.system.switch_to(self.first);
        assert_eq!(self.system.message(Syscall::Receive, self.endpoint, Tag::new(0), [0; 8]).error(), None);
        let (delivery, badge, _, words) = self.system.received();
        (delivery, badge, [words[0], words[1], words[2]])
    }

    /// State, code, fault, address and instruction of the process.
    fn inspect(&mut self) -> [u64; 5] {
        self.system.switch_to(self.first);
        let values = self.system.call(Syscall::ProcessInspect, &[self.process]).values();
        std::array::from_fn(|index| values[index])
    }
}

#[test]
fn a_handler_learns_of_a_fault_and_lets_the_thread_go_on() {
    for kind in [FaultKind::Read, FaultKind::Write, FaultKind::Instruction, FaultKind::Debug] {
        let mut bench = bench(true);
        bench.system.activation().registers.rip = NATIVE_BASE + 0x123;
        bench.fault(kind, 0x5000);
        assert_eq!(bench.system.who(), bench.first, "the thread waits for an answer");
        let told = bench.receive();
        assert_eq!(told, (Delivery::Fault as u64, 5, [kind as u64, 0x5000, NATIVE_BASE + 0x123]));
        // The handler may look at the thread, and change where it goes on.
        assert_eq!(bench.system.message(Syscall::Reply, 0, Tag::new(0), [9; 8]).error(), None);
        bench.system.switch_to(FAULTY);
        let registers = bench.system.registers();
        assert_eq!(registers.rip, NATIVE_BASE + 0x123, "the instruction is tried again");
        assert_eq!(registers.rdx, 0, "nothing of the answer reaches its registers");
        assert_eq!(bench.inspect()[0], 1, "it runs");
    }
}

#[test]
fn an_answer_with_another_label_ends_the_process() {
    let mut bench = bench(true);
    bench.system.activation().registers.rip = NATIVE_BASE + 0x40;
    bench.fault(FaultKind::Divide, NATIVE_BASE + 0x40);
    bench.receive();
    assert_eq!(bench.system.message(Syscall::Reply, 0, Tag::new(1), [0; 8]).error(), None);
    let code = 128 + FaultKind::Divide as u64;
    assert_eq!(bench.inspect(), [ENDED, code, FaultKind::Divide as u64, 0, NATIVE_BASE + 0x40]);
}

#[test]
fn a_handler_that_mends_the_fault_sees_the_thread_go_on() {
    let mut bench = bench(true);
    let first = bench.first;
    let address = 0x10_0000;
    bench.fault(FaultKind::Write, address);
    bench.receive();
    // The thread's space is the process's: a page is put where it was missing.
    let pool = bench.pool;
    let vmo = bench.system.call(Syscall::VmoCreate, &[pool, PAGE]).value();
    let (other, _) = bench.system.process(pool);
    let flags = map_flags::READ | map_flags::WRITE | map_flags::FIXED;
    assert_eq!(bench.system.call(Syscall::SpaceMap, &[other, vmo, 0, address, PAGE, flags]).error(), None);
    assert_eq!(bench.system.message(Syscall::Reply, 0, Tag::new(0), [0; 8]).error(), None);
    bench.system.switch_to(FAULTY);
    assert!(!bench.system.write(address, &[1]), "another space's page is not this one's: it faults again");
    assert_eq!(bench.system.who(), first);
    assert_eq!(bench.receive().2[1], address);
}

#[test]
fn a_handler_that_ends_or_drops_the_fault_ends_the_process() {
    for dropped in [false, true] {
        let mut bench = bench(true);
        bench.fault(FaultKind::Execute, 0x7000);
        bench.receive();
        if dropped {
            let event = bench.system.call(Syscall::EventCreate, &[bench.pool]).value();
            assert_eq!(bench.system.call(Syscall::EndpointBind, &[bench.endpoint, event, 1]).error(), None);
            assert_eq!(bench.system.call(Syscall::EventRaise, &[event, 1]).error(), None);
            assert_eq!(bench.system.message(Syscall::Receive, bench.endpoint, Tag::new(0), [0; 8]).error(), None);
        } else {
            let reply = bench.system.call(Syscall::ReplyDetach, &[bench.pool]).value();
            assert_eq!(bench.inspect()[0], 1, "it waits");
            assert_eq!(bench.system.call(Syscall::Close, &[reply]).error(), None);
        }
        let [state, code, fault, ..] = bench.inspect();
        let kind = FaultKind::Execute as u64;
        assert_eq!((state, code, fault), (ENDED, 128 + kind, kind));
    }
}

#[test]
fn a_fault_that_waits_for_its_handler_ends_with_it() {
    let mut bench = bench(true);
    bench.fault(FaultKind::Read, 0x3000);
    assert_eq!(bench.system.call(Syscall::Close, &[bench.endpoint]).error(), None);
    let [state, code, fault, ..] = bench.inspect();
    let kind = FaultKind::Read as u64;
    assert_eq!((state, code, fault), (ENDED, 128 + kind, kind));
}

#[test]
fn without_a_handler_or_with_one_that_is_gone_a_fault_ends_the_process_and_is_reported() {
    for gone in [false, true] {
        let mut bench = bench(gone);
        bench.system.switch_to(bench.first);
        if gone {
            assert_eq!(bench.system.call(Syscall::Close, &[bench.endpoint]).error(), None);
        }
        bench.system.switch_to(FAULTY);
        bench.system.activation().registers.rip = NATIVE_BASE + 8;
        bench.fault(FaultKind::Write, 0x3000);
        let kind = FaultKind::Write as u64;
        assert_eq!(bench.inspect(), [ENDED, 128 + kind, kind, 0x3000, NATIVE_BASE + 8]);
        let log = String::from_utf8(bench.system.machine.hardware.log.clone()).expect("text");
        assert!(log.starts_with("tessera: test ended: write to an address"), "{log}");
        assert!(log.contains(&format!("  at test {:#x}\n", NATIVE_BASE + 8)) && log.contains("end of report"), "{log}");
        assert_eq!(bench.system.call(Syscall::ThreadStart, &[bench.thread, 0, 0]).error(), Some(Error::BadState));
    }
}

#[test]
fn a_thread_that_waits_for_a_handler_can_be_killed() {
    let mut bench = bench(true);
    bench.fault(FaultKind::Read, 0x3000);
    bench.receive();
    assert_eq!(bench.system.call(Syscall::ProcessKill, &[bench.process, 4]).error(), None);
    assert_eq!(bench.inspect()[..2], [ENDED, 4], "the code is the killer's");
    let answer = bench.system.message(Syscall::Reply, 0, Tag::new(0), [0; 8]);
    assert_eq!(answer, Answer::Refused(Error::BadState));
}
