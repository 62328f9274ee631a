//! Segments, the task state and the interrupt table: what the processor consults at each entry.
//!
//! The selectors' order is dictated by `syscall` and `sysretq` (AMD APM volume 2, section 6.1). Every vector names a stack: in the
//! kernel's mode the processor would else use that of the program which runs in it. Faults that may come at any instruction of the
//! kernel (NMI, double fault, machine check) have one each.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::{MaybeUninit, size_of};

use crate::entry;
use crate::processor::MAX;

pub const KERNEL_CODE: u16 = 0x08;
pub const KERNEL_DATA: u16 = 0x10;
pub const USER_DATA: u16 = 0x18 | 3;
pub const USER_CODE: u16 = 0x20 | 3;
const TASK: u16 = 0x28;

/// Vectors with a stack of their own, in the order of [`Stacks::separate`]. Behind those stacks come that of the other exceptions and that
/// of interrupts.
const SEPARATE: [usize; 3] = [8, 2, 18];
/// How many stacks a processor has besides the kernel's.
pub const STACKS: usize = SEPARATE.len() + 2;
/// The vectors below it are exceptions.
const EXCEPTIONS: usize = 32;

/// The tops of one processor's stacks.
#[derive(Clone, Copy)]
pub struct Stacks {
    pub kernel: u64,
    /// For double fault, NMI and machine check; for other exceptions; for interrupts.
    pub separate: [u64; STACKS],
}

/// 64-bit task state segment. Packed, as its 64-bit fields lie at odd multiples of four.
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
struct TaskState {
    reserved_0: u32,
    stacks: [u64; 3],
    reserved_1: u64,
    separate: [u64; 7],
    reserved_2: u64,
    reserved_3: u16,
    io_map: u16,
}

#[repr(C, align(16))]
struct Tables {
    descriptors: [u64; 7],
    task: TaskState,
}

struct PerProcessor(UnsafeCell<[MaybeUninit<Tables>; MAX]>);
// SAFETY: element `number` is written by processor `number` alone, before the processor reads it.
unsafe impl Sync for PerProcessor {}

/// What a processor's tables begin with: its task state's descriptor has the last two places, and the map of ports would begin behind it.
const TABLES_AT_FIRST: Tables = Tables {
    descriptors: [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff, 0, 0],
    task: TaskState {
        reserved_0: 0,
        stacks: [0; 3],
        reserved_1: 0,
        separate: [0; 7],
        reserved_2: 0,
        reserved_3: 0,
        io_map: size_of::<TaskState>() as u16,
    },
};

static TABLES: PerProcessor = PerProcessor(UnsafeCell::new([const { MaybeUninit::uninit() }; MAX]));

#[repr(C, align(16))]
struct Gates(UnsafeCell<[[u64; 2]; 256]>);
// SAFETY: filled by the first processor before any loads it, constant afterwards.
unsafe impl Sync for Gates {}

static GATES: Gates = Gates(UnsafeCell::new([[0; 2]; 256]));

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// Fills the interrupt table. Once, by the first processor.
#[optimize(size)]
pub fn fill_gates() {
    // SAFETY: boot is alone on the machine, and the table is not loaded yet.
    let gates = unsafe { &mut *GATES.0.get() };
    for (vector, gate) in gates.iter_mut().enumerate() {
        let target = entry::stub(vector);
        let shared = SEPARATE.len() + usize::from(vector >= EXCEPTIONS);
        let stack = SEPARATE.iter().position(|&own| own == vector).unwrap_or(shared) as u64 + 1;
        // Interrupt gate, present, from level 3 only for the breakpoint instruction.
        let level: u64 = if vector == 3 { 3 } else { 0 };
        gate[0] = target & 0xffff
            | u64::from(KERNEL_CODE) << 16
            | stack << 32
            | (0x8e00 | level << 13) << 32
            | (target >> 16 & 0xffff) << 48;
        gate[1] = target >> 32;
    }
}

/// Loads the tables on processor `number`.
pub fn load(number: usize, stacks: Stacks) {
    // SAFETY: element `number` is this processor's own, and it has not loaded it yet.
    let tables = unsafe { (*TABLES.0.get())[number].write(TABLES_AT_FIRST) };
    tables.task.stacks[0] = stacks.kernel;
    let mut separate = [0; 7];
    separate[..STACKS].copy_from_slice(&stacks.separate);
    tables.task.separate = separate;
    let base = &raw const tables.task as u64;
    let limit = size_of::<TaskState>() as u64 - 1;
    tables.descriptors[5] = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    tables.descriptors[6] = base >> 32;

    let descriptors =
        TablePointer { limit: size_of::<[u64; 7]>() as u16 - 1, base: &raw const tables.descriptors as u64 };
    let gates = TablePointer { limit: size_of::<[[u64; 2]; 256]>() as u16 - 1, base: GATES.0.get() as u64 };
    // SAFETY: both tables are static; the code segment that is loaded is like the one that runs.
    unsafe {
        asm!(
            "lgdt [{descriptors}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ss, {data:e}",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "lidt [{gates}]",
            "ltr {task:x}",
            descriptors = in(reg) &descriptors,
            gates = in(reg) &gates,
            code = const KERNEL_CODE,
            data = in(reg) u32::from(KERNEL_DATA),
            task = in(reg) TASK,
            scratch = out(reg) _,
        );
    }
}
