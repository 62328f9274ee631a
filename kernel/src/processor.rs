//! What each processor has of its own: the block that GS points to while it is in the kernel.
//!
//! The entry assembly in `entry.rs` knows the first offsets. All fields are atomics with relaxed order (plain moves on
//! this machine): a field is written by its own processor, or by the holder of the big lock where the comment says so.

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use tessera_abi::x86_64::Registers;
use tessera_core::Door;

/// Most processors that are started.
pub const MAX: usize = tessera_core::MAX_PROCESSORS;

/// No vector state is loaded, CR0.TS is set.
pub const NO_VECTOR: u64 = 0;
/// The loaded vector state belongs to nobody any more; CR0.TS is clear.
pub const LOST_VECTOR: u64 = u64::MAX;

/// One processor's block.
#[repr(C, align(64))]
pub struct Processor {
    /// Where the kernel stack begins at each entry.
    pub stack: AtomicU64,
    /// The record of the running thread: where the entry assembly puts its registers.
    pub registers: AtomicPtr<Registers>,
    /// The user's stack pointer, for the few instructions until it is stored.
    pub scratch: AtomicU64,
    /// The address of this block.
    pub this: AtomicPtr<Processor>,
    /// This processor's number.
    pub number: AtomicUsize,
    /// Frame number of the loaded root table. Others read it, holding the big lock.
    pub root: AtomicU64,
    /// That of the process of the joint root that was loaded last.
    pub viewed: AtomicU64,
    /// Frame number of the loaded vector state. Others may set it to [`LOST_VECTOR`], holding the big lock.
    pub vector: AtomicU64,
    /// The FS base that is loaded.
    pub fs_base: AtomicU64,
    /// The user's GS base, in the register that `swapgs` exchanges.
    pub gs_base: AtomicU64,
    /// When the local timer fires, in nanoseconds; `u64::MAX` when it does not.
    pub deadline: AtomicU64,
    /// Whether the system call that is looked at a second time is that of a program in the kernel's mode.
    pub direct: AtomicBool,
    /// The number of this processor's local APIC.
    pub apic: AtomicU32,
    /// The kernel itself has let interrupts in.
    pub window: AtomicBool,
    /// The thread pointer of the program in the kernel's mode that runs.
    pub pointer: AtomicU64,
    /// Where `syscall` lands: a [`Door`](tessera_core::Door).
    pub door: AtomicU8,
}

pub const STACK: usize = offset_of!(Processor, stack);
pub const REGISTERS: usize = offset_of!(Processor, registers);
pub const SCRATCH: usize = offset_of!(Processor, scratch);
pub const THIS: usize = offset_of!(Processor, this);
pub const WINDOW: usize = offset_of!(Processor, window);
pub const DOOR: usize = offset_of!(Processor, door);
pub const POINTER: usize = offset_of!(Processor, pointer);

/// The blocks of all processors.
static PROCESSORS: [Processor; MAX] = [const { Processor::new() }; MAX];
/// How many of them run.
static RUNNING: AtomicUsize = AtomicUsize::new(1);

impl Processor {
    const fn new() -> Processor {
        Processor {
            stack: AtomicU64::new(0),
            registers: AtomicPtr::new(core::ptr::null_mut()),
            scratch: AtomicU64::new(0),
            this: AtomicPtr::new(core::ptr::null_mut()),
            number: AtomicUsize::new(0),
            root: AtomicU64::new(0),
            viewed: AtomicU64::new(0),
            vector: AtomicU64::new(NO_VECTOR),
            fs_base: AtomicU64::new(0),
            gs_base: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            direct: AtomicBool::new(false),
            apic: AtomicU32::new(0),
            window: AtomicBool::new(false),
            pointer: AtomicU64::new(0),
            door: AtomicU8::new(Door::Closed as u8),
        }
    }

    /// This processor's block. Only after `features::initialize` loaded GS on it.
    #[inline(always)]
    pub fn current() -> &'static Processor {
        let this: *const Processor;
        // SAFETY: in the kernel GS points to a block of `PROCESSORS`, whose `this` was set before GS was.
        unsafe {
            asm!("mov {}, gs:[{offset}]", out(reg) this, offset = const THIS, options(pure, readonly, nostack, preserves_flags));
            &*this
        }
    }

    /// Lets interrupts into the kernel itself while `wait` runs, which opens them. No lock is held.
    pub fn open_window(&self, wait: fn()) {
        self.window.store(true, Ordering::Relaxed);
        wait();
        self.window.store(false, Ordering::Relaxed);
    }

    /// This processor's number.
    #[inline(always)]
    pub fn number(&self) -> usize {
        self.number.load(Ordering::Relaxed)
    }

    /// Readies the block of processor `number`; answers it.
    pub fn prepare(number: usize, stack: u64, root: u64, apic: u32) -> &'static Processor {
        let processor = &PROCESSORS[number];
        processor.stack.store(stack, Ordering::Relaxed);
        processor.this.store(core::ptr::from_ref(processor).cast_mut(), Ordering::Relaxed);
        processor.number.store(number, Ordering::Relaxed);
        processor.root.store(root, Ordering::Relaxed);
        processor.apic.store(apic, Ordering::Relaxed);
        processor.deadline.store(u64::MAX, Ordering::Relaxed);
        processor
    }

    /// The block of processor `number`.
    pub fn get(number: usize) -> Option<&'static Processor> {
        PROCESSORS.get(number)
    }
}

/// The blocks of the processors that run.
#[inline(always)]
pub fn running() -> &'static [Processor] {
    PROCESSORS.get(..RUNNING.load(Ordering::Relaxed)).unwrap_or(&[])
}

/// Counts one more processor as running.
pub fn add_running() {
    RUNNING.fetch_add(1, Ordering::Release);
}
