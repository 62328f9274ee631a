//! The first instructions: from 32-bit protected mode (PVH, or the trampoline of a started processor) to Rust in the
//! high half.
//!
//! Relies on: the loader put the image at its physical addresses, `ebx` holds the address of `hvm_start_info` (Xen,
//! "x86/HVM direct boot ABI"), paging is off. The early page tables built here map the first GiB three times: at its
//! own address (for the switch itself and for starting processors), at the direct map, and at the kernel's base.
//! They stay in memory, as each further processor starts through them, but no processor runs Rust code on them for
//! longer than it takes to load the real ones.

use core::arch::global_asm;

global_asm!(
    r#"
    .pushsection .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18          # name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long boot_entry - 0xffffffff80000000
    .popsection

    .pushsection .bss.early, "aw", @nobits
    .balign 4096
    .global early_root
early_root:     .skip 4096
early_low:      .skip 4096
early_high:     .skip 4096
early_pages:    .skip 4096
early_stack:    .skip 32768
early_stack_top:
    .popsection

    .pushsection .rodata.early, "a"
    .balign 16
early_gdt:
    .quad 0
    .quad 0x00af9a000000ffff    # 64-bit code
    .quad 0x00cf92000000ffff    # data
early_gdt_pointer:
    .word 23
    .quad early_gdt - 0xffffffff80000000
    .popsection

    .pushsection .text.boot, "ax"
    .code32
    .global boot_entry
boot_entry:
    cli
    cld
    # Page directory: 512 pages of 2 MiB, present, writable.
    movl $(early_pages - 0xffffffff80000000), %edi
    movl $0x83, %eax
    movl $512, %ecx
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b
    movl $(early_pages - 0xffffffff80000000 + 3), %eax
    movl %eax, (early_low - 0xffffffff80000000)
    movl %eax, (early_high - 0xffffffff80000000 + 510 * 8)
    movl $(early_low - 0xffffffff80000000 + 3), %eax
    movl %eax, (early_root - 0xffffffff80000000)
    movl %eax, (early_root - 0xffffffff80000000 + 256 * 8)
    movl $(early_high - 0xffffffff80000000 + 3), %eax
    movl %eax, (early_root - 0xffffffff80000000 + 511 * 8)

    # Further processors enter here with ebx = 0: the tables are there already.
    .global boot_long_mode
boot_long_mode:
    movl $0x20, %eax            # CR4.PAE
    movl %eax, %cr4
    movl $(early_root - 0xffffffff80000000), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      # EFER
    xorl %edx, %edx
    movl $0x901, %eax           # NXE, LME, SCE: every processor with long mode that Tessera can meet has them
    wrmsr
    movl $0x80010011, %eax      # CR0: PG, WP, ET, PE
    movl %eax, %cr0
    lgdt (early_gdt_pointer - 0xffffffff80000000)
    ljmpl $8, $(boot_long - 0xffffffff80000000)

    .code64
boot_long:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movabsq $boot_high, %rax
    jmpq *%rax
boot_high:
    xorl %ebp, %ebp
    movl %ebx, %edi
    testl %ebx, %ebx
    jz 2f
    leaq early_stack_top(%rip), %rsp
    call boot_first_processor
2:  movq started_stack(%rip), %rsp
    call boot_further_processor
    .popsection

    # Copied to a page below 1 MiB; a processor that got a start-up IPI begins here in real mode, cs = page >> 4.
    .pushsection .rodata.trampoline, "a"
    .global trampoline_start
    .global trampoline_end
    .balign 16
    .code16
trampoline_start:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl (trampoline_pointer - trampoline_start)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $8, $(0x8000 + trampoline_flat - trampoline_start)
    .code32
trampoline_flat:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %ebx, %ebx
    movl $(boot_long_mode - 0xffffffff80000000), %eax
    jmpl *%eax
    .balign 8
trampoline_gdt:
    .quad 0
    .quad 0x00cf9a000000ffff    # 32-bit code
    .quad 0x00cf92000000ffff    # data
trampoline_pointer:
    .word 23
    .long 0x8000 + trampoline_gdt - trampoline_start
trampoline_end:
    .code64
    .popsection
"#,
    options(att_syntax)
);

/// The page below 1 MiB in which further processors begin; the trampoline is assembled for it.
pub const TRAMPOLINE: u64 = 0x8000;
