//! The register file of a thread on x86-64.

/// All that the kernel saves of a thread outside its vector state. The entry assembly knows these offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Registers {
    pub rax: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub r10: u64,
    pub r8: u64,
    pub r9: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rbx: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub rip: u64,
    pub rflags: u64,
    pub rcx: u64,
    pub r11: u64,
    /// Base of the FS segment (thread-local storage).
    pub fs_base: u64,
    /// Base of the GS segment.
    pub gs_base: u64,
}

impl Registers {
    /// Bytes of the `syscall` instruction, by which a call that has to be made again steps back.
    pub const SYSCALL_LENGTH: u64 = 2;
    /// Bytes of the instruction that calls the kernel from a program that runs in its mode.
    pub const CALL_LENGTH: u64 = 6;
    /// The flags that user space may set: carry, parity, adjust, zero, sign, trap, direction, overflow, identification.
    pub const USER_FLAGS: u64 = 0x20_0dd5;
    /// The flags that always stand in user mode: reserved bit 1 and interrupts enabled.
    pub const FIXED_FLAGS: u64 = 0x202;

    /// The six arguments of a system call.
    pub const fn arguments(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }

    /// The eight words of a message.
    pub const fn words(&self) -> [u64; 8] {
        [self.rdx, self.r10, self.r8, self.r9, self.r12, self.r13, self.r14, self.r15]
    }

    /// Sets the eight words of a message.
    pub const fn set_words(&mut self, words: [u64; 8]) {
        [self.rdx, self.r10, self.r8, self.r9, self.r12, self.r13, self.r14, self.r15] = words;
    }

    /// The same registers with nothing in them that would harm the kernel: canonical user addresses, harmless flags.
    pub const fn sanitized(mut self) -> Registers {
        self.rflags = self.rflags & Registers::USER_FLAGS | Registers::FIXED_FLAGS;
        if self.rip >= crate::USER_END {
            self.rip = 0;
        }
        if self.fs_base >= crate::USER_END {
            self.fs_base = 0;
        }
        if self.gs_base >= crate::USER_END {
            self.gs_base = 0;
        }
        self
    }
}

/// The upper half of `guest_resume`'s result code when the guest left for another reason than a system call. A system call with
/// this number or a larger one is told as one with the number below.
pub const GUEST_LEFT: u64 = u32::MAX as u64;

/// What `guest_enter` reads and writes: the guest's registers, and why it left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct GuestState {
    /// The guest's registers.
    pub registers: Registers,
    /// Why the guest left: 0 system call, 1 fault, 2 interrupted by `unpark`.
    pub exit: u64,
    /// For a fault: its [`crate::FaultKind`].
    pub fault: u64,
    /// For a fault: the address.
    pub address: u64,
}
