//! What tests do that programs must not: raw system calls and instructions that fault. All unsafe code of the tests.
#![allow(unsafe_code)]

use core::arch::asm;

use tessera_runtime::abi::x86_64::Registers;
use tessera_runtime::handle::checked;
use tessera_runtime::object::{Access, Space, Thread};
use tessera_runtime::{Error, Handle, Owned, raw};

/// A system call with these arguments and zero for the rest. Tests pass only what cannot hurt this process, or run in a process
/// that may be hurt.
pub fn call(number: u64, arguments: &[u64]) -> Result<[u64; 6], Error> {
    let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: as said above, the test answers for its arguments.
    checked(unsafe {
        raw::syscall_6(number, argument(0), argument(1), argument(2), argument(3), argument(4), argument(5))
    })
}

/// The handle of this number.
pub fn named(handle: Handle) -> Owned {
    // SAFETY: a test is alone in its domain, and answers for what it names.
    unsafe { Owned::from_handle(handle) }
}

/// A message call with any tag and words.
pub fn message(number: u64, first: u64, tag: u64, words: [u64; 8]) -> Result<(u64, [u64; 8]), Error> {
    // SAFETY: as for `call`.
    let outcome = unsafe { raw::message(number, first, tag, words) };
    match outcome.code as u32 {
        0 => Ok((outcome.tag, outcome.words)),
        code => Err(tessera_runtime::handle::error(code)),
    }
}

/// Removes a mapping of this process that the test made and does not use.
pub fn unmap(space: &Space, address: u64, length: u64) -> Result<(), Error> {
    // SAFETY: the tests unmap only what they mapped, and refused ranges.
    unsafe { space.unmap(address, length) }
}

/// Changes a mapping that the test made.
pub fn protect(space: &Space, address: u64, length: u64, access: Access) -> Result<(), Error> {
    // SAFETY: as for `unmap`.
    unsafe { space.protect(address, length, access) }
}

/// Starts a thread of a process that may be hurt.
pub fn start(thread: &Thread, entry: u64, stack: u64) -> Result<(), Error> {
    // SAFETY: the thread is another process's.
    unsafe { thread.start(entry, stack, 0, 0) }
}

/// Sets a suspended thread's registers.
pub fn set_registers(thread: &Thread, registers: &Registers) -> Result<(), Error> {
    // SAFETY: the test changes only registers that the thread's loop looks at.
    unsafe { thread.set_registers(registers) }
}

/// Loops until somebody changes `r15` from 1 to another value; answers that.
pub fn spin_on_a_register() -> u64 {
    let mut value: u64 = 1;
    // SAFETY: touches the named register only.
    unsafe { asm!("2: pause", "cmp r15, 1", "je 2b", inout("r15") value, options(nomem, nostack)) };
    value
}

/// Reads an address.
pub fn read(address: u64) -> u64 {
    // SAFETY: faults, or reads a byte of memory that the test mapped.
    unsafe { (address as *const u8).read_volatile().into() }
}

/// Writes an address.
pub fn write(address: u64, value: u8) {
    // SAFETY: faults, or writes memory that the test mapped.
    unsafe { (address as *mut u8).write_volatile(value) };
}

/// Reads a device's register.
pub fn read_32(address: u64) -> u32 {
    // SAFETY: the test mapped a device there.
    unsafe { (address as *const u32).read_volatile() }
}

/// Writes a device's register.
pub fn write_32(address: u64, value: u32) {
    // SAFETY: the test mapped a device there.
    unsafe { (address as *mut u32).write_volatile(value) };
}

/// Jumps to an address.
pub fn execute(address: u64) {
    // SAFETY: faults, or runs a `ret` that the test put there.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("C")) };
}

macro_rules! instructions {
    ($($(#[$doc:meta])* $name:ident: $($text:literal),*;)*) => {$(
        $(#[$doc])*
        pub fn $name() {
            // SAFETY: faults.
            unsafe { asm!($($text),*, out("rax") _, out("rcx") _, out("rdx") _, options(nostack)) };
        }
    )*};
}

instructions! {
    /// An undefined instruction.
    undefined: "ud2";
    /// A division by zero.
    divide: "xor edx, edx", "xor ecx, ecx", "mov eax, 1", "div ecx";
    /// A privileged instruction.
    privileged: "hlt";
    /// A port access.
    port: "mov dx, 0x3f8", "in al, dx";
    /// A jump to an address that is not canonical.
    not_canonical: "mov rax, 0x800000000000", "jmp rax";
    /// A breakpoint.
    breakpoint: "int3";
    /// A vector instruction.
    vector: "xorps xmm0, xmm0";
    /// A floating point instruction.
    float: "fld1";
    /// A stack pointer in the kernel, then a push.
    kernel_stack: "mov rcx, rsp", "mov rsp, 0xffffffff80200000", "push rax", "mov rsp, rcx";
}
