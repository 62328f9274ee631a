//! Kernel objects as user space sees them: kinds, handles, fault kinds.

/// A number in a process's handle table. Zero is never a handle.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct Handle(pub u32);

impl Handle {
    /// The number that names nothing.
    pub const NONE: Handle = Handle(0);
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        /// What a handle names.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $name = $code,)* }
        impl Kind {
            /// Every kind, in the order of its code.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];
            /// The kind with this code.
            pub const fn from_code(code: u64) -> Option<Kind> {
                match code { $($code => Some(Kind::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// Authority over memory and object tables.
    Pool = 1;
    /// Memory.
    Vmo = 2;
    /// An address space.
    Space = 3;
    /// A space and a handle table.
    Process = 4;
    /// Something that runs in a process.
    Thread = 5;
    /// Authority over processor time.
    Budget = 6;
    /// Where calls are received.
    Endpoint = 7;
    /// The right to call one endpoint under one badge.
    Session = 8;
    /// The right to answer one call, once.
    Reply = 9;
    /// 64 signal bits.
    Event = 10;
    /// One or more interrupt lines: pins, or messages that devices send.
    Interrupt = 11;
    /// A range of I/O ports.
    IoPort = 12;
    /// A range of device memory.
    Mmio = 13;
    /// Tells time.
    Clock = 14;
    /// Writes the debug log.
    Log = 15;
    /// Turns the machine off.
    Power = 16;
    /// Seals handles.
    Seal = 17;
    /// Unseals what the matching `Seal` sealed.
    Unseal = 18;
    /// A sealed handle.
    Sealed = 19;
    /// Holds memory still for a device that reaches it by itself, and lets it reach no other.
    Dma = 20;
    /// Lets programs run in the kernel's mode of the processor.
    Privilege = 21;
}

macro_rules! levels {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        /// In which mode of the processor the threads of a space run.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[repr(u8)]
        pub enum Level { $($(#[$doc])* $name = $code,)* }
        impl Level {
            /// The level with this code.
            pub const fn from_code(code: u64) -> Option<Level> {
                match code { $($code => Some(Level::$name),)* _ => None }
            }
        }
    };
}

levels! {
    /// In user mode.
    #[default]
    User = 0;
    /// In the kernel's mode; spaces that they make are of user mode.
    Kernel = 1;
    /// In the kernel's mode, and so do the guests in spaces that they make.
    Guests = 2;
}

impl Level {
    /// Whether threads of this level run in the kernel's mode.
    #[inline(always)]
    pub const fn is_kernel(self) -> bool {
        !matches!(self, Level::User)
    }
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a thread could not go on.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum FaultKind { $($(#[$doc])* $name = $code,)* }
        impl FaultKind {
            /// The fault with this code.
            pub const fn from_code(code: u64) -> Option<FaultKind> {
                match code { $($code => Some(FaultKind::$name),)* _ => None }
            }
            /// A few words for people.
            pub const fn text(self) -> &'static str {
                match self { $(FaultKind::$name => $text,)* }
            }
        }
    };
}

faults! {
    /// A page was read that may not be.
    Read = 1, "read of an address that is not mapped for reading";
    /// A page was written that may not be.
    Write = 2, "write to an address that is not mapped for writing";
    /// A page was executed that may not be.
    Execute = 3, "jump to an address that is not mapped for executing";
    /// An undefined instruction.
    Instruction = 4, "undefined instruction";
    /// Division by zero or overflow of a quotient.
    Divide = 5, "division error";
    /// A privileged instruction, a non-canonical address, a bad segment.
    Protection = 6, "general protection fault";
    /// Breakpoint or single step.
    Debug = 7, "breakpoint";
    /// Floating point or vector use by a thread without that state, or an unmasked floating point exception.
    FloatingPoint = 8, "floating point or vector instruction in a thread without that state";
    /// Unaligned access where that is checked.
    Alignment = 9, "unaligned access";
    /// The program ended itself with a report (a panic).
    Abort = 10, "the program gave up";
    /// The pool could not supply the page, or its pager is gone.
    NoMemory = 11, "no memory to supply the page";
}
