//! The `syscall` instruction: all inline assembly of the runtime, one function for each shape of its registers.
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
                asm!("syscall",
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

macro_rules! message_shape {
    ($name:ident [$($input:ident $input_register:tt),*] [$($output:ident $output_register:tt),*]) => {
        #[allow(clippy::too_many_arguments, reason = "one argument for each register")]
        #[inline(always)]
        unsafe fn $name(number: u64, mut badge: u64, mut tag: u64 $(, mut $input: u64)*) -> MessageOutcome {
            let code: u64;
            $(let $output: u64;)*
            // SAFETY: the kernel preserves every register that is not named here, and does not touch the stack; for
            // the effects on memory the caller answers.
            unsafe {
                asm!("syscall",
                    inlateout("rax") number => code,
                    inlateout("rdi") badge,
                    inlateout("rsi") tag,
                    $(inlateout($input_register) $input,)*
                    $(lateout($output_register) $output,)*
                    lateout("rcx") _, lateout("r11") _, options(nostack));
            }
            MessageOutcome { code, badge, tag, words: [$($input,)* $($output),*] }
        }
    };
}

message_shape!(message_0 [] [a "rdx", b "r10", c "r8", d "r9", e "r12", f "r13", g "r14", h "r15"]);
message_shape!(message_1 [a "rdx"] [b "r10", c "r8", d "r9", e "r12", f "r13", g "r14", h "r15"]);
message_shape!(message_2 [a "rdx", b "r10"] [c "r8", d "r9", e "r12", f "r13", g "r14", h "r15"]);
message_shape!(message_3 [a "rdx", b "r10", c "r8"] [d "r9", e "r12", f "r13", g "r14", h "r15"]);
message_shape!(message_4 [a "rdx", b "r10", c "r8", d "r9"] [e "r12", f "r13", g "r14", h "r15"]);
message_shape!(message_5 [a "rdx", b "r10", c "r8", d "r9", e "r12"] [f "r13", g "r14", h "r15"]);
message_shape!(message_6 [a "rdx", b "r10", c "r8", d "r9", e "r12", f "r13"] [g "r14", h "r15"]);
message_shape!(message_7 [a "rdx", b "r10", c "r8", d "r9", e "r12", f "r13", g "r14"] [h "r15"]);
message_shape!(message_8 [a "rdx", b "r10", c "r8", d "r9", e "r12", f "r13", g "r14", h "r15"] []);

/// A message call that loads exactly `N` words. The kernel passes all eight registers on: those not loaded hold whatever this
/// process had in them, so a receiver must use only the words that its protocol names.
///
/// # Safety
/// Whatever memory the tag makes the kernel read or write must be lent to the call.
#[inline(always)]
pub unsafe fn message<const N: usize>(number: u64, first: u64, tag: u64, words: [u64; N]) -> MessageOutcome {
    const { assert!(N <= 8, "a message has eight words") };
    let word = |index: usize| words.get(index).copied().unwrap_or(0);
    // SAFETY: passed on to the caller.
    unsafe {
        match N {
            0 => message_0(number, first, tag),
            1 => message_1(number, first, tag, word(0)),
            2 => message_2(number, first, tag, word(0), word(1)),
            3 => message_3(number, first, tag, word(0), word(1), word(2)),
            4 => message_4(number, first, tag, word(0), word(1), word(2), word(3)),
            5 => message_5(number, first, tag, word(0), word(1), word(2), word(3), word(4)),
            6 => message_6(number, first, tag, word(0), word(1), word(2), word(3), word(4), word(5)),
            7 => message_7(number, first, tag, word(0), word(1), word(2), word(3), word(4), word(5), word(6)),
            _ => message_8(number, first, tag, word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7)),
        }
    }
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
            "syscall",
            "2:",
            "mov edi, r12d",
            "mov eax, {exit}",
            "syscall",
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
