//! The system calls on a host: `super::host` answers them. The functions are those of the real `raw`.

use crate::host;

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
    ($(#[$doc:meta])* $name:ident [$($input:ident),*] [$($zero:literal),*]) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Whatever the call makes the kernel do to this process's memory, mappings and threads must be sound.
        pub unsafe fn $name(number: u64 $(, $input: u64)*) -> Outcome {
            // SAFETY: passed on to the caller.
            unsafe { host::system_call(number, [$($input,)* $($zero),*]) }
        }
    };
}

shape!(#[doc = "A call without arguments."] syscall_0 [] [0, 0, 0, 0, 0, 0]);
shape!(#[doc = "A call with one argument."] syscall_1 [a] [0, 0, 0, 0, 0]);
shape!(#[doc = "A call with two arguments."] syscall_2 [a, b] [0, 0, 0, 0]);
shape!(#[doc = "A call with three arguments."] syscall_3 [a, b, c] [0, 0, 0]);
shape!(#[doc = "A call with four arguments."] syscall_4 [a, b, c, d] [0, 0]);
shape!(#[doc = "A call with five arguments."] syscall_5 [a, b, c, d, e] [0]);
shape!(#[doc = "A call with six arguments."] syscall_6 [a, b, c, d, e, f] []);

/// A message call that loads exactly `N` words.
///
/// # Safety
/// Whatever memory the tag makes the kernel read or write must be lent to the call.
pub unsafe fn message<const N: usize>(number: u64, first: u64, tag: u64, words: [u64; N]) -> MessageOutcome {
    // What a process had in the other registers: not zero, so that nobody comes to rely on it.
    let mut all = [0xdead_beef_dead_beef; 8];
    for (to, from) in all.iter_mut().zip(words) {
        *to = from;
    }
    // SAFETY: passed on to the caller.
    unsafe { host::message_call(number, first, tag, all) }
}

/// `receive`: as the kernel's.
///
/// # Safety
/// As for the kernel's; nothing is touched.
pub unsafe fn receive(endpoint: u64, tag: u64, buffer: u64) -> MessageOutcome {
    // SAFETY: passed on to the caller.
    unsafe { message(tessera_abi::Syscall::Receive as u64, endpoint, tag, [0, 0, 0, 0, 0, 0, 0, buffer]) }
}

/// A counter that rises with time, as the time stamp counter does.
pub fn ticks() -> u64 {
    host::nanoseconds()
}
