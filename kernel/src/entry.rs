//! The way in from programs and the way out, in assembly.
//!
//! In: interrupts are off, the program's registers go straight into the running thread's record (which the processor's
//! block names), the kernel stack begins anew at its top, and Rust never returns. Out: from a record, by `sysretq` when
//! only what a system call gives back matters, else by `iretq`. The kernel runs with its own GS base from the first
//! instruction to the last but one; the few instructions before and after can be met by NMI, double fault and machine
//! check alone, which have stacks of their own and look at no GS.
//!
//! A program that runs in the kernel's mode comes in by `direct.rs` and is left to by a jump. It keeps the kernel's GS base. It has
//! interrupts on, by which an interrupt or exception tells it from the kernel itself, whose few windows for interrupts say so in the
//! processor's block.
//!
//! Every interrupt and exception has a stack that is not the program's: in the kernel's mode the processor would use that one, which
//! may not be there or hold something below its pointer. In the kernel itself an exception keeps its registers there and goes to
//! `traps::from_kernel`.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use tessera_abi::USER_END;
use tessera_abi::x86_64::Registers;
use tessera_core::Door;

use crate::segments::{KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA};
use crate::{direct, memory, processor};

/// Bytes from one interrupt stub to the next: what the longest takes.
const STUB: usize = 9;
/// The flags of a program in the kernel's mode while it is left to: fixed bits, and access to pages of user mode (its guests' memory).
pub const PROGRAM_FLAGS: u64 = 0x4_0002;
/// With interrupts on.
pub const PROGRAM_RUNS: u64 = PROGRAM_FLAGS | 0x200;

const _: () = assert!(USER_END < 1 << 47, "behind the last instruction of user space there is a canonical address");

/// Gives assembly the offsets of all registers in their record.
#[macro_export]
macro_rules! with_offsets {
    ($macro:ident!($($body:tt)*)) => {
        $macro! { $($body)*
            RAX = const offset_of!(Registers, rax), RDI = const offset_of!(Registers, rdi), RSI = const offset_of!(Registers, rsi),
            RDX = const offset_of!(Registers, rdx), R10 = const offset_of!(Registers, r10), R8 = const offset_of!(Registers, r8),
            R9 = const offset_of!(Registers, r9), R12 = const offset_of!(Registers, r12), R13 = const offset_of!(Registers, r13),
            R14 = const offset_of!(Registers, r14), R15 = const offset_of!(Registers, r15), RBX = const offset_of!(Registers, rbx),
            RBP = const offset_of!(Registers, rbp), RSP = const offset_of!(Registers, rsp), RIP = const offset_of!(Registers, rip),
            RFLAGS = const offset_of!(Registers, rflags), RCX = const offset_of!(Registers, rcx), R11 = const offset_of!(Registers, r11),
        }
    };
}

with_offsets!(global_asm!(
    r#"
    .pushsection .text.entry, "ax"
    .balign 64
    .global system_call_entry
system_call_entry:
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{registers}]
    mov [rsp + {RAX}], rax
    mov [rsp + {RDI}], rdi
    mov [rsp + {RSI}], rsi
    mov [rsp + {RDX}], rdx
    mov [rsp + {R10}], r10
    mov [rsp + {R8}], r8
    mov [rsp + {R9}], r9
    mov [rsp + {R12}], r12
    mov [rsp + {R13}], r13
    mov [rsp + {R14}], r14
    mov [rsp + {R15}], r15
    mov [rsp + {RBX}], rbx
    mov [rsp + {RBP}], rbp
    mov [rsp + {RIP}], rcx
    mov [rsp + {RFLAGS}], r11
    mov rcx, gs:[{scratch}]
    mov [rsp + {RSP}], rcx
    mov rsp, gs:[{stack}]
    mov r12, gs:[{this}]
    mov r13, rax
    call {system_call}
    ud2

    # A vector is one byte, so that the stubs are small: what is pushed is that byte with its sign.
    .balign 16
    .global interrupt_stubs
interrupt_stubs:
    .set vector, 0
    .rept 256
    .org interrupt_stubs + vector * {stub}
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    push 0
    .endif
    .byte 0x6a, vector
    jmp interrupt_common
    .set vector, vector + 1
    .endr

    # On the stack: vector (the lowest byte), error code, rip, cs, rflags, rsp, ss.
    .balign 16
interrupt_common:
    push 2
    popfq
    test byte ptr [rsp + 24], 3
    jz 2f
    swapgs
1:
    push rbx
    mov rbx, gs:[{registers}]
    mov [rbx + {RAX}], rax
    mov [rbx + {RDI}], rdi
    mov [rbx + {RSI}], rsi
    mov [rbx + {RDX}], rdx
    mov [rbx + {R10}], r10
    mov [rbx + {R8}], r8
    mov [rbx + {R9}], r9
    mov [rbx + {R12}], r12
    mov [rbx + {R13}], r13
    mov [rbx + {R14}], r14
    mov [rbx + {R15}], r15
    mov [rbx + {RBP}], rbp
    mov [rbx + {RCX}], rcx
    mov [rbx + {R11}], r11
    pop rax
    mov [rbx + {RBX}], rax
    mov rax, [rsp + 16]
    mov [rbx + {RIP}], rax
    mov rax, [rsp + 32]
    mov [rbx + {RFLAGS}], rax
    mov rax, [rsp + 40]
    mov [rbx + {RSP}], rax
    movzx esi, byte ptr [rsp]
    mov rdx, [rsp + 8]
    mov rdi, gs:[{this}]
    mov rsp, gs:[{stack}]
    xor ebp, ebp
    call {from_program}
    ud2
2:
    test byte ptr [rsp + 33], 2
    jz 3f
    cmp byte ptr gs:[{window}], 0
    je 1b
3:
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    mov rbx, rsp
    and rsp, -16
    call {from_kernel}
    mov rsp, rbx
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq
    .popsection
"#,
    stub = const STUB,
    scratch = const processor::SCRATCH,
    registers = const processor::REGISTERS,
    stack = const processor::STACK,
    this = const processor::THIS,
    window = const processor::WINDOW,
    system_call = sym crate::run::system_call::<false>,
    from_program = sym crate::traps::from_program,
    from_kernel = sym crate::traps::from_kernel,
));

unsafe extern "C" {
    fn system_call_entry();
    static interrupt_stubs: u8;
}

/// What the processor and the stub leave on the stack when the kernel itself is interrupted.
#[repr(C)]
pub struct KernelFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    /// With the sign of its lowest byte: see [`KernelFrame::vector`].
    pushed: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl KernelFrame {
    /// The vector of the interrupt or exception.
    pub fn vector(&self) -> u64 {
        self.pushed & 0xff
    }
}

/// Where `syscall` lands for a thread and a guest between which there is this door.
pub fn system_call_address(door: Door) -> u64 {
    match door {
        Door::Closed => system_call_entry as *const () as u64,
        Door::User => direct::user_guest_address(),
        Door::Kernel => direct::kernel_guest_address(),
    }
}

/// Where interrupt `vector` lands.
pub fn stub(vector: usize) -> u64 {
    (&raw const interrupt_stubs) as u64 + (vector * STUB) as u64
}

/// Leaves to user mode with what a system call gives back; `rcx` and `r11` are lost.
///
/// # Safety
/// `registers` is the record of the thread whose space is loaded; the big lock is released.
#[inline(always)]
pub unsafe fn leave_fast(registers: *const Registers) -> ! {
    // SAFETY: the caller vouches for the record. `sysretq` to an address that is not canonical would fault in the
    // kernel: this way leads only to behind a `syscall` instruction, which lies below `USER_END`.
    unsafe {
        with_offsets!(asm!(
            "mov rsp, {record}",
            "mov rcx, [rsp + {RIP}]",
            "mov r11, [rsp + {RFLAGS}]",
            "mov rax, [rsp + {RAX}]",
            "mov rdi, [rsp + {RDI}]",
            "mov rsi, [rsp + {RSI}]",
            "mov rdx, [rsp + {RDX}]",
            "mov r10, [rsp + {R10}]",
            "mov r8, [rsp + {R8}]",
            "mov r9, [rsp + {R9}]",
            "mov r12, [rsp + {R12}]",
            "mov r13, [rsp + {R13}]",
            "mov r14, [rsp + {R14}]",
            "mov r15, [rsp + {R15}]",
            "mov rbx, [rsp + {RBX}]",
            "mov rbp, [rsp + {RBP}]",
            "mov rsp, [rsp + {RSP}]",
            "swapgs",
            "sysretq /* {RCX} and {R11} hold what sysretq takes */",
            record = in(reg) registers,
            options(noreturn),
        ))
    }
}

/// Leaves to a program in the kernel's mode with what a system call gives back.
///
/// # Safety
/// As for [`leave_fast`], and the thread runs in the kernel's mode.
#[inline(always)]
pub unsafe fn leave_direct(registers: *const Registers) -> ! {
    // SAFETY: the caller vouches for the record. Interrupts are let in when nothing is left to do but the jump: not in its place, for
    // QEMU 7.2 looks for no interrupt behind a jump through a register that follows `sti`, nor behind those that the program makes next.
    unsafe {
        with_offsets!(asm!(
            "push {flags}",
            "popfq",
            "mov rsp, {record}",
            "mov rcx, [rsp + {RIP}]",
            "mov rax, [rsp + {RAX}]",
            "mov rdi, [rsp + {RDI}]",
            "mov rsi, [rsp + {RSI}]",
            "mov rdx, [rsp + {RDX}]",
            "mov r10, [rsp + {R10}]",
            "mov r8, [rsp + {R8}]",
            "mov r9, [rsp + {R9}]",
            "mov r12, [rsp + {R12}]",
            "mov r13, [rsp + {R13}]",
            "mov r14, [rsp + {R14}]",
            "mov r15, [rsp + {R15}]",
            "mov rbx, [rsp + {RBX}]",
            "mov rbp, [rsp + {RBP}]",
            "sti",
            "mov rsp, [rsp + {RSP}]",
            "jmp rcx /* {RCX} {R11} {RFLAGS} are not what a call gives back */",
            record = in(reg) registers,
            flags = const PROGRAM_FLAGS,
            options(noreturn),
        ))
    }
}

/// Leaves to a program in the kernel's mode with all registers.
///
/// # Safety
/// As for [`leave_direct`].
#[inline(always)]
pub unsafe fn leave_direct_full(registers: *const Registers) -> ! {
    // SAFETY: the caller vouches for the record.
    unsafe { asm!("jmp leave_direct_record", in("rdi") registers, options(noreturn)) }
}

/// The jump that the ways to a program in the kernel's mode end in: `jmp rcx`.
const LAST: [u8; 2] = [0xff, 0xe1];

/// A program in the kernel's mode that an interrupt met at the last instruction of the way to it stands where that leads: nobody is to see
/// an address of the kernel's in its registers.
pub fn finish_leaving(registers: &mut Registers) {
    let text = &memory::image().text;
    let place = registers.rip.wrapping_sub(memory::KERNEL);
    if !text.contains(&place) || !text.contains(&(place + 1)) {
        return;
    }
    // SAFETY: both bytes lie in the kernel's text, which is mapped and never changes.
    if unsafe { (registers.rip as *const [u8; 2]).read() } == LAST {
        registers.rip = registers.rcx;
    }
}

/// Leaves to user mode with all registers. The record is sanitized: a canonical address, harmless flags.
///
/// # Safety
/// As for [`leave_fast`].
#[inline(always)]
pub unsafe fn leave_full(registers: *const Registers) -> ! {
    // SAFETY: the caller vouches for the record.
    unsafe { asm!("jmp leave_full_record", in("rdi") registers, options(noreturn)) }
}

with_offsets!(global_asm!(
    r#"
    .macro frame data, code
    push \data
    push qword ptr [rdi + {RSP}]
    push qword ptr [rdi + {RFLAGS}]
    push \code
    push qword ptr [rdi + {RIP}]
    mov rax, [rdi + {RAX}]
    mov rsi, [rdi + {RSI}]
    mov rdx, [rdi + {RDX}]
    mov r10, [rdi + {R10}]
    mov r8, [rdi + {R8}]
    mov r9, [rdi + {R9}]
    mov r12, [rdi + {R12}]
    mov r13, [rdi + {R13}]
    mov r14, [rdi + {R14}]
    mov r15, [rdi + {R15}]
    mov rbx, [rdi + {RBX}]
    mov rbp, [rdi + {RBP}]
    mov rcx, [rdi + {RCX}]
    mov r11, [rdi + {R11}]
    .endm

    .pushsection .text.entry, "ax"
leave_full_record:
    frame {user_data}, {user_code}
    mov rdi, [rdi + {RDI}]
    swapgs
    iretq

leave_direct_record:
    frame {kernel_data}, {kernel_code}
    or qword ptr [rsp + 16], {program_runs}
    mov rdi, [rdi + {RDI}]
    iretq
    .popsection
"#,
    user_data = const USER_DATA,
    user_code = const USER_CODE,
    kernel_data = const KERNEL_DATA,
    kernel_code = const KERNEL_CODE,
    program_runs = const PROGRAM_RUNS,
));
