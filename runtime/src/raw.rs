//! The `syscall` instruction: all inline assembly of the runtime, one function for each shape of its registers.
//!
//! The instruction has four prefixes, which say nothing to the processor. In a program that is linked with the kernel, `tessera build`
//! puts a call of as many bytes in its place, which goes through [`tessera_kernel_calls`]: so the same object code makes system calls in user
//! mode and plain calls in the kernel's.
//!
//! Nothing here interprets what it passes on. A call can make the kernel read or write any memory of this process that an
//! argument names, which is why every function is unsafe; the modules above make safe calls of them.

use core::arch::asm;

/// What a system call answered: the result code and the six value registers.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// `rax`: error code in the lower half.
    pub code: u64,
    /// `rdi rsi rdx r10 r8 r9`.
    pub values: [u64; 6],
}

/// What a message call answered.
#[derive(Clone, Copy, Debug)]
pub struct MessageOutcome {
    /// `rax`: error code in the lower half, [`tessera_abi::Delivery`] in the upper.
    pub code: u64,
    /// `rdi`: a badge or event bits.
    pub badge: u64,
    /// `rsi`: the tag.
    pub tag: u64,
    /// The eight words.
    pub words: [u64; 8],
}

/// Where the kernel is called, and where it is jumped to with the way back in `rcx`. Filled in when the program is linked with the kernel.
#[used]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".tessera.calls")]
static tessera_kernel_calls: [u64; 2] = [0; 2];

/// The instruction that is replaced by a call through the first word.
macro_rules! kernel {
    () => {
        ".byte 0x3e, 0x3e, 0x3e, 0x3e, 0x0f, 0x05"
    };
}

/// The instruction that is replaced by a jump through the second word. It uses no stack.
macro_rules! kernel_without_stack {
    () => {
        "lea rcx, [rip + 99f]\n.byte 0x26, 0x26, 0x26, 0x26, 0x0f, 0x05\n99:"
    };
}

macro_rules! shape {
    ($(#[$doc:meta])* $name:ident [$($input:ident $input_register:tt),*] [$($output:ident $output_register:tt),*]) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Whatever the call makes the kernel do to this process's memory, mappings and threads must be sound.
        #[inline(always)]
        pub unsafe fn $name(number: u64 $(, mut $input: u64)*) -> Outcome {
            let code: u64;
            $(let $output: u64;)*
            // SAFETY: the kernel preserves every register that is not named here, and does not touch the stack; for
            // the effects on memory the caller answers.
            unsafe {
                asm!(kernel!(),
                    inlateout("rax") number => code,
                    $(inlateout($input_register) $input,)*
                    $(lateout($output_register) $output,)*
                    lateout("rcx") _, lateout("r11") _, options(nostack));
            }
            Outcome { code, values: [$($input,)* $($output),*] }
        }
    };
}

shape!(#[doc = "A call without arguments."] syscall_0 [] [a "rdi", b "rsi", c "rdx", d "r10", e "r8", f "r9"]);
shape!(#[doc = "A call with one argument."] syscall_1 [a "rdi"] [b "rsi", c "rdx", d "r10", e "r8", f "r9"]);
shape!(#[doc = "A call with two arguments."] syscall_2 [a "rdi", b "rsi"] [c "rdx", d "r10", e "r8", f "r9"]);
shape!(#[doc = "A call with three arguments."] syscall_3 [a "rdi", b "rsi", c "rdx"] [d "r10", e "r8", f "r9"]);
shape!(#[doc = "A call with four arguments."] syscall_4 [a "rdi", b "rsi", c "rdx", d "r10"] [e "r8", f "r9"]);
shape!(#[doc = "A call with five arguments."] syscall_5 [a "rdi", b "rsi", c "rdx", d "r10", e "r8"] [f "r9"]);
shape!(#[doc = "A call with six arguments."] syscall_6 [a "rdi", b "rsi", c "rdx", d "r10", e "r8", f "r9"] []);

/// A message call. Words that are not given are sent as zero, so that no one is told what this process had in its registers.
///
/// # Safety
/// Whatever memory the tag makes the kernel read or write must be lent to the call.
#[inline(always)]
pub unsafe fn message<const N: usize>(number: u64, first: u64, tag: u64, words: [u64; N]) -> MessageOutcome {
    const { assert!(N <= 8, "a message has eight words") };
    let mut all = [0; 8];
    for (to, from) in all.iter_mut().zip(words) {
        *to = from;
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = all;
    let (code, badge, received): (u64, u64, u64);
    // SAFETY: the kernel preserves every register that is not named here, and does not touch the stack; for the effects on
    // memory the caller answers.
    unsafe {
        asm!(kernel!(),
            inlateout("rax") number => code,
            inlateout("rdi") first => badge,
            inlateout("rsi") tag => received,
            inlateout("rdx") a, inlateout("r10") b, inlateout("r8") c, inlateout("r9") d,
            inlateout("r12") e, inlateout("r13") f, inlateout("r14") g, inlateout("r15") h,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    MessageOutcome { code, badge, tag: received, words: [a, b, c, d, e, f, g, h] }
}

/// `receive`: nothing is sent, and the kernel looks at no word but the buffer's address.
///
/// # Safety
/// `buffer` must be zero and `tag` without one, or it must point to a message's buffer that is lent to the call.
#[inline(always)]
pub unsafe fn receive(endpoint: u64, tag: u64, buffer: u64) -> MessageOutcome {
    let (code, badge, received): (u64, u64, u64);
    let (a, b, c, d, e, f, g): (u64, u64, u64, u64, u64, u64, u64);
    let mut last = buffer;
    // SAFETY: as for `message`.
    unsafe {
        asm!(kernel!(),
            inlateout("rax") tessera_abi::Syscall::Receive as u64 => code,
            inlateout("rdi") endpoint => badge,
            inlateout("rsi") tag => received,
            lateout("rdx") a, lateout("r10") b, lateout("r8") c, lateout("r9") d,
            lateout("r12") e, lateout("r13") f, lateout("r14") g, inlateout("r15") last,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    MessageOutcome { code, badge, tag: received, words: [a, b, c, d, e, f, g, last] }
}

/// Ends the calling thread after its `state` was set to `ended`: unparks the thread whose handle was in `state` (0: nobody) and
/// exits, closing `own`. Uses no stack from the moment in which `state` says that the stack may be freed.
///
/// # Safety
/// `state` must point to a live 32-bit atomic. Nothing of the calling thread may be needed afterwards.
pub unsafe fn end_thread(state: *const core::sync::atomic::AtomicU32, ended: u32, own: u32) -> ! {
    // SAFETY: the exchange is on memory that the caller vouches for; what follows uses registers only and does not return.
    unsafe {
        asm!(
            "xchg dword ptr [rsi], edi",
            "test edi, edi",
            "jz 2f",
            "mov eax, {unpark}",
            kernel_without_stack!(),
            "2:",
            "mov edi, r12d",
            "mov eax, {exit}",
            kernel_without_stack!(),
            "ud2",
            in("rsi") state,
            in("edi") ended,
            in("r12d") own,
            unpark = const tessera_abi::Syscall::Unpark as u64,
            exit = const tessera_abi::Syscall::ThreadExit as u64,
            options(noreturn, nostack),
        )
    }
}

/// The word at the start of the calling thread's record, which is the record's own address.
///
/// # Safety
/// The thread's FS base must point to a record whose first word is its address.
#[inline(always)]
pub unsafe fn thread_pointer() -> u64 {
    let value: u64;
    // SAFETY: the caller vouches for FS.
    unsafe { asm!("mov {}, fs:[0]", out(reg) value, options(nostack, readonly, preserves_flags)) };
    value
}

/// The frame pointer of the calling function.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let value: u64;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rbp", out(reg) value, options(nostack, nomem, preserves_flags)) };
    value
}

/// The time stamp counter.
#[inline(always)]
pub fn ticks() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter that the kernel leaves readable.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nostack, nomem, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}
