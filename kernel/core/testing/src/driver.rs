//! Issues system calls as the kernel's entry code does: through the registers of the thread that runs. Threads are told apart by
//! their stack pointers, which no call changes.

use crate::FakeHardware;
use std::collections::BTreeMap;
use tessera_abi::{Error, FaultKind, PAGE, Startup, Syscall, Tag, syscall::map_flags, x86_64::Registers};
use tessera_core::{Activation, Config, Fault, FirstProgram, Frame, Machine, Next};

/// Resource numbers of `pool_inspect`: pages, the kinds, handles.
pub const POOL_RESOURCES: [u64; 22] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, tessera_abi::syscall::RESOURCE_HANDLES];

/// Steps after which a machine that does not come to rest counts as stuck.
const PATIENCE: usize = 200_000;
/// Bytes of a `syscall` instruction.
const INSTRUCTION: u64 = Registers::SYSCALL_LENGTH;

/// What a call came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The caller goes on with these values.
    Done([u64; 6]),
    /// The caller goes on: it was refused.
    Refused(Error),
    /// Somebody else runs, or nobody.
    Waits,
}

impl Answer {
    /// The first value of a call that was not refused.
    #[track_caller]
    pub fn value(self) -> u64 {
        self.values()[0]
    }

    /// The values of a call that was not refused.
    #[track_caller]
    pub fn values(self) -> [u64; 6] {
        match self {
            Answer::Done(values) => values,
            other => panic!("the call came to {other:?}"),
        }
    }

    /// Why it was refused, if it was.
    pub fn error(self) -> Option<Error> {
        if let Answer::Refused(error) = self { Some(error) } else { None }
    }
}

/// A machine with its first program, and what of it the tests keep in mind.
pub struct System {
    pub machine: Machine<FakeHardware>,
    /// The processor whose entries the driver makes.
    pub processor: usize,
    /// How many processors there are.
    pub processors: usize,
    /// Whether the books are checked whenever the machine comes to rest.
    pub audits: bool,
    /// Where each thread that made a call goes on behind it.
    pending: BTreeMap<u64, u64>,
}

impl System {
    /// A machine of so many frames (and the archive's one page among them, at frame 24) with its first program running.
    pub fn new(frames: u64, processors: usize) -> System {
        System::with_archive(frames, processors, 24)
    }

    /// The same with the archive's page at another frame, which may lie beyond all other memory.
    pub fn with_archive(frames: u64, processors: usize, archive: u64) -> System {
        let free = if archive == 24 { [16..24, 25..17 + frames] } else { [16..24, 24..16 + frames] };
        let held = archive..archive + 1;
        let mut machine = Machine::new(FakeHardware::default(), Config { processors, free: &free, held });
        machine
            .start_first(&FirstProgram {
                segments: &[],
                entry: tessera_abi::NATIVE_BASE,
                level: tessera_abi::Level::User,
                archive: (Frame(archive), PAGE),
                arguments: &["one", "two"],
                interrupt_lines: 24,
                interrupt_messages: 4,
                devices: 0x10_0000..0x10_0100,
            })
            .expect("the first program starts");
        let mut system = System { machine, processor: 0, processors, audits: true, pending: BTreeMap::new() };
        assert_eq!(system.settle(), Next::Run);
        system
    }

    /// Works until the machine runs a thread (the calls that are to be made again are made) or has nothing to do.
    pub fn settle(&mut self) -> Next {
        let next = self.come_to_rest();
        // A machine that was ended does not go on, and owes nobody an account.
        if self.audits
            && self.machine.hardware.power.is_none()
            && let Err(what) = self.machine.audit()
        {
            panic!("the books do not balance: {what}");
        }
        next
    }

    fn come_to_rest(&mut self) -> Next {
        if self.who() == 0 {
            // Only an interrupt lets an idle processor into the kernel.
            self.machine.notified(self.processor);
        }
        for _ in 0..PATIENCE {
            match self.machine.next(self.processor) {
                Next::Work => self.machine.work(self.processor),
                Next::Idle => return Next::Idle,
                Next::Run => {
                    let registers = self.registers();
                    match self.pending.get(&registers.rsp) {
                        Some(behind) if registers.rip == behind.wrapping_sub(INSTRUCTION) => {
                            self.activation().registers.rip = *behind;
                            self.enter();
                        }
                        _ => return Next::Run,
                    }
                }
            }
            self.notify_others();
        }
        panic!("the machine does not come to rest");
    }

    /// The other processors enter the kernel if they were asked to.
    fn notify_others(&mut self) {
        for other in std::mem::take(&mut self.machine.hardware.notified) {
            if other == self.processor {
                continue;
            }
            self.machine.notified(other);
            for _ in 0..PATIENCE {
                match self.machine.next(other) {
                    Next::Work => self.machine.work(other),
                    Next::Run | Next::Idle => break,
                }
            }
        }
    }

    /// The running thread, which was loaded whole if need be, makes a system call.
    fn enter(&mut self) {
        self.activation().full = false;
        self.machine.syscall(self.processor);
    }

    /// The running thread's record.
    pub fn activation(&mut self) -> &mut Activation {
        self.machine.activation(self.processor).expect("a thread runs")
    }

    /// The running thread's registers.
    pub fn registers(&mut self) -> Registers {
        self.activation().registers
    }

    /// The stack pointer of the thread that runs; zero when none does.
    pub fn who(&mut self) -> u64 {
        self.machine.activation(self.processor).map_or(0, |activation| activation.registers.rsp)
    }

    /// Makes a call with these registers and lets the machine come to rest.
    pub fn issue(&mut self, change: impl FnOnce(&mut Registers)) -> Answer {
        let registers = &mut self.activation().registers;
        change(registers);
        registers.rip = registers.rip.wrapping_add(INSTRUCTION);
        let (who, behind) = (registers.rsp, registers.rip);
        self.pending.insert(who, behind);
        self.enter();
        if self.settle() == Next::Run && self.who() == who && self.registers().rip == behind {
            return self.result();
        }
        Answer::Waits
    }

    /// Makes a call by number.
    pub fn raw(&mut self, number: u64, arguments: [u64; 6]) -> Answer {
        self.issue(|registers| {
            registers.rax = number;
            [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = arguments;
        })
    }

    /// Makes a call; arguments that are not given are zero.
    pub fn call(&mut self, call: Syscall, arguments: &[u64]) -> Answer {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        self.raw(call as u64, all)
    }

    /// `call`, `receive`, `reply`: a handle, a tag, eight words.
    pub fn message(&mut self, call: Syscall, handle: u64, tag: Tag, words: [u64; 8]) -> Answer {
        self.issue(|registers| {
            (registers.rax, registers.rdi, registers.rsi) = (call as u64, handle, tag.0);
            registers.set_words(words);
        })
    }

    /// The result in the registers of the thread that runs.
    pub fn result(&mut self) -> Answer {
        let registers = self.registers();
        match Error::from_code(registers.rax & 0xffff_ffff) {
            Some(error) => Answer::Refused(error),
            None => Answer::Done(registers.arguments()),
        }
    }

    /// What the thread that runs received: delivery, badge, tag, words.
    pub fn received(&mut self) -> (u64, u64, Tag, [u64; 8]) {
        let registers = self.registers();
        assert_eq!(registers.rax & 0xffff_ffff, 0, "it was refused");
        (registers.rax >> 32, registers.rdi, Tag(registers.rsi), registers.words())
    }

    /// Yields until a thread runs, which must be of the same priority as those that run meanwhile.
    #[track_caller]
    pub fn switch_to(&mut self, thread: u64) {
        for _ in 0..64 {
            if self.who() == thread {
                return;
            }
            assert_ne!(self.who(), 0, "nobody runs: thread {thread:#x} waits");
            self.call(Syscall::Yield, &[]);
        }
        panic!("thread {thread:#x} does not get its turn");
    }

    /// Lets time pass, with a timer entry at the end.
    pub fn advance(&mut self, nanoseconds: u64) -> Next {
        self.machine.hardware.time += nanoseconds;
        self.machine.timer(self.processor);
        self.settle()
    }

    /// The physical address behind an address of the thread that runs; a missing page is asked for as by a page fault.
    fn reach(&mut self, address: u64, write: bool) -> Option<u64> {
        use tessera_core::Hardware;
        let who = self.who();
        let root = self.activation().root;
        if let Some(physical) = self.machine.hardware.translate(root, address, write) {
            return Some(physical);
        }
        let kind = if write { FaultKind::Write } else { FaultKind::Read };
        self.machine.fault(self.processor, Fault { kind, address });
        if self.settle() != Next::Run || self.who() != who {
            return None;
        }
        self.machine.hardware.translate(root, address, write)
    }

    /// Reads memory as the running thread would; false when it faulted and does not run any more.
    pub fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        use tessera_core::Hardware;
        bytes.iter_mut().zip((0..).map(|index: u64| address.wrapping_add(index))).all(|(byte, address)| {
            self.reach(address, false)
                .map(|physical| self.machine.hardware.read_bytes(physical, std::slice::from_mut(byte)))
                .is_some()
        })
    }

    /// Writes memory as the running thread would; false when it faulted and does not run any more.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        use tessera_core::Hardware;
        bytes.iter().zip((0..).map(|index: u64| address.wrapping_add(index))).all(|(byte, address)| {
            self.reach(address, true).map(|physical| self.machine.hardware.write_bytes(physical, &[*byte])).is_some()
        })
    }

    /// The first program's handle of this name; to be asked before its registers change.
    #[track_caller]
    pub fn first(&mut self, name: &str) -> u64 {
        let mut block = [0; 4096];
        assert!(self.read(tessera_abi::USER_END - 0x20_0000, &mut block), "the start-up block can be read");
        u64::from(Startup::new(&block).handle(name).expect("a handle of this name").0)
    }

    /// Quota and use of every resource of a pool.
    pub fn accounts(&mut self, pool: u64) -> Vec<[u64; 2]> {
        POOL_RESOURCES
            .iter()
            .map(|resource| {
                let [quota, used, ..] = self.call(Syscall::PoolInspect, &[pool, *resource]).values();
                [quota, used]
            })
            .collect()
    }

    /// Maps new memory of so many pages into a space; answers its handle and address.
    #[track_caller]
    pub fn memory(&mut self, pool: u64, space: u64, pages: u64) -> (u64, u64) {
        let vmo = self.call(Syscall::VmoCreate, &[pool, pages * PAGE]).value();
        let flags = map_flags::READ | map_flags::WRITE;
        let address = self.call(Syscall::SpaceMap, &[space, vmo, 0, 0, pages * PAGE, flags]).value();
        (vmo, address)
    }

    /// A process with a space of its own; answers space and process.
    #[track_caller]
    pub fn process(&mut self, pool: u64) -> (u64, u64) {
        let space = self.call(Syscall::SpaceCreate, &[pool]).value();
        let name = u64::from_le_bytes(*b"test\0\0\0\0");
        let process = self.call(Syscall::ProcessCreate, &[pool, space, name, 0]).value();
        (space, process)
    }

    /// A started thread of a process; its stack pointer is its name.
    #[track_caller]
    pub fn thread(&mut self, pool: u64, process: u64, budget: u64, stack: u64) -> u64 {
        let thread = self.call(Syscall::ThreadCreate, &[pool, process, budget]).value();
        let started = self.call(Syscall::ThreadStart, &[thread, tessera_abi::NATIVE_BASE, stack]);
        assert_eq!(started.error(), None, "the thread starts");
        thread
    }

    /// Gives a process a handle derived from one of the caller's, with all its rights; answers its number there.
    #[track_caller]
    pub fn grant(&mut self, process: u64, handle: u64) -> u64 {
        let [_, rights, ..] = self.call(Syscall::Inspect, &[handle]).values();
        let copy = self.call(Syscall::Duplicate, &[handle, rights]).value();
        self.call(Syscall::ProcessGrant, &[process, copy]).value()
    }
}
