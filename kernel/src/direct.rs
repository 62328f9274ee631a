//! The way in for programs that run in the kernel's mode, and the door between such a program and its guest.
//!
//! `direct_call` is what stands in the place of a `syscall` instruction in a program that was linked with the kernel; `direct_jump` is
//! the same with the way back in `rcx`, for who has no stack to leave it on. Up to the `cli` it is still the program that runs, and so
//! it is at the jump that ends each way out (`entry::finish_leaving`).
//!
//! `guest_resume` of a thread whose knob says that the door is open goes straight to the guest: the registers that a call keeps go
//! into the thread's record, and the guest's come out of its own. A system call of that guest comes straight back. What core would have
//! written is written here (`tessera_core::door` says where), so that it finds all in order when it is asked next: at an interrupt, a
//! fault, or another call. No lock is needed: the records are those of the thread that runs here, and of what others may look at, only
//! the knob decides, which whoever sets it follows by an interrupt to this processor.
//!
//! While the two take turns, FS is the guest's. The program finds its own thread pointer in the processor's block, by an instruction that
//! was put in the place of the one that goes by FS.

use core::arch::global_asm;
use core::mem::offset_of;

use tessera_abi::Syscall;
use tessera_abi::x86_64::{GUEST_LEFT, Registers};
use tessera_core::door;

use crate::entry::PROGRAM_RUNS;
use crate::{cpu, processor, with_offsets};

const CR4_SMAP: u64 = 1 << 21;

with_offsets!(global_asm!(
    r#"
    .global program_pointer
    .set program_pointer, {pointer}

    # The registers that a call hands over, into the record that rsp points to.
    .macro save_arguments
    mov [rsp + {RAX}], rax
    mov [rsp + {RDI}], rdi
    mov [rsp + {RSI}], rsi
    mov [rsp + {RDX}], rdx
    mov [rsp + {R10}], r10
    mov [rsp + {R8}], r8
    mov [rsp + {R9}], r9
    .endm

    # Those that it keeps, of the record at base.
    .macro save_kept base
    mov [\base + {R12}], r12
    mov [\base + {R13}], r13
    mov [\base + {R14}], r14
    mov [\base + {R15}], r15
    mov [\base + {RBX}], rbx
    mov [\base + {RBP}], rbp
    mov [\base + {RIP}], rcx
    .endm
    .macro load_kept base
    mov r12, [\base + {R12}]
    mov r13, [\base + {R13}]
    mov r14, [\base + {R14}]
    mov r15, [\base + {R15}]
    mov rbx, [\base + {RBX}]
    mov rbp, [\base + {RBP}]
    mov rcx, [\base + {RIP}]
    .endm

    .pushsection .text.entry, "ax"
    .balign 64
    .global direct_call
    .global direct_jump
direct_call:
    pop rcx
direct_jump:
    cli
    cmp eax, {resume}
    je 2f
1:
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{registers}]
    save_arguments
    save_kept rsp
    mov qword ptr [rsp + {RFLAGS}], {program_runs}
    mov rcx, gs:[{scratch}]
    mov [rsp + {RSP}], rcx
    mov rsp, gs:[{stack}]
    push 2
    popfq
    mov r12, gs:[{this}]
    mov r13, rax
    call {direct}
    ud2

    # To the guest: its result is in rdi.
2:
    mov rax, gs:[{registers}]
    cmp word ptr [rax + {KNOB}], {OPEN}
    jne 3f
    mov [rax + {RSP}], rsp
    save_kept rax
    mov [rax + {STATE}], rsi
    mov byte ptr [rax + {IN_GUEST}], 1
    mov byte ptr [rax + {RESUMED}], 1
    lea rsp, [rax + {GUEST}]
    mov gs:[{registers}], rsp
    mov rax, rdi
    load_kept rsp
    mov rdi, [rsp + {RDI}]
    mov rsi, [rsp + {RSI}]
    mov rdx, [rsp + {RDX}]
    mov r10, [rsp + {R10}]
    mov r8, [rsp + {R8}]
    mov r9, [rsp + {R9}]
    cmp byte ptr gs:[{door}], {user}
    jne 4f
    mov r11, [rsp + {RFLAGS}]
    mov rsp, [rsp + {RSP}]
    swapgs
    sysretq
4:
    sti
    mov rsp, [rsp + {RSP}]
    jmp rcx
3:
    mov eax, {resume}
    jmp 1b

    # Back from a guest. `keep` lets the program at the guest's memory.
    .macro guest_call name, swap, keep
    .balign 64
\name:
    \swap
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{registers}]
    save_arguments
    save_kept rsp
    mov [rsp + {RFLAGS}], r11
    mov rcx, gs:[{scratch}]
    mov [rsp + {RSP}], rcx
    sub rsp, {GUEST}
    cmp byte ptr [rsp + {RESUMED}], 0
    je guest_call_slowly
    mov gs:[{registers}], rsp
    mov byte ptr [rsp + {IN_GUEST}], 0
    mov ecx, {most}
    cmp rax, rcx
    cmova rax, rcx
    shl rax, 32
    load_kept rsp
    \keep
    sti
    mov rsp, [rsp + {RSP}]
    jmp rcx
    .endm

    guest_call user_guest, swapgs,
    guest_call user_guest_with_smap, swapgs, stac
    guest_call kernel_guest, ,

guest_call_slowly:
    mov rsp, gs:[{stack}]
    mov r12, gs:[{this}]
    mov r13, rax
    call {guest}
    ud2
    .popsection
    /* {RCX} {R11} */
"#,
    pointer = const processor::POINTER,
    scratch = const processor::SCRATCH,
    registers = const processor::REGISTERS,
    stack = const processor::STACK,
    this = const processor::THIS,
    door = const processor::DOOR,
    user = const tessera_core::Door::User as u8,
    resume = const Syscall::GuestResume as u64,
    program_runs = const PROGRAM_RUNS,
    most = const GUEST_LEFT - 1,
    KNOB = const door::KNOB,
    OPEN = const door::OPEN,
    STATE = const door::STATE,
    IN_GUEST = const door::IN_GUEST,
    RESUMED = const door::RESUMED,
    GUEST = const door::GUEST,
    direct = sym crate::run::system_call::<true>,
    guest = sym crate::run::system_call::<false>,
));

unsafe extern "C" {
    fn user_guest();
    fn user_guest_with_smap();
    fn kernel_guest();
}

/// Where the `syscall` of a guest in user mode lands.
pub fn user_guest_address() -> u64 {
    // Without the protection there is nothing to let the program through, and the instruction that does is undefined.
    let entry = if cpu::read_cr4() & CR4_SMAP == 0 { user_guest } else { user_guest_with_smap };
    entry as *const () as u64
}

/// Where that of a guest in the kernel's mode lands.
pub fn kernel_guest_address() -> u64 {
    kernel_guest as *const () as u64
}
