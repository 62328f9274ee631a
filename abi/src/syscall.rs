//! The system calls: numbers, arguments, results. The table in the book is tested against this file.
//!
//! `rax` holds the number; arguments are in `rdi rsi rdx r10 r8 r9`; the result's error code is in the lower half of `rax` (0: done)
//! and its values in `rdi rsi rdx r10 r8 r9`. Every call but `call`, `receive` and `reply_and_receive` preserves `rbx rbp r12 r13 r14 r15`.

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, [$($argument:literal),*] => [$($result:literal),*];)*) => {
        /// The number of a system call.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u64)]
        pub enum Syscall { $($(#[$doc])* $name = $number,)* }

        impl Syscall {
            /// Every call, in the order of its number.
            pub const ALL: &'static [Syscall] = &[$(Syscall::$name,)*];
            /// The call with this number.
            #[inline(always)]
            pub const fn from_number(number: u64) -> Option<Syscall> {
                match number { $($number => Some(Syscall::$name),)* _ => None }
            }
            /// Its name, arguments and results, as the book prints them.
            pub const fn signature(self) -> (&'static str, &'static [&'static str], &'static [&'static str]) {
                match self { $(Syscall::$name => ($text, &[$($argument),*], &[$($result),*]),)* }
            }
        }
    };
}

calls! {
    /// Does nothing: what an entry costs.
    Null = 0, "null", [] => [];
    /// Lets another thread of the same priority run.
    Yield = 1, "yield", [] => [];
    /// Closes a handle; the object goes with its last handle.
    Close = 2, "close", ["handle"] => [];
    /// Makes a handle with fewer rights, derived from this one. Rights are given as bits.
    Duplicate = 3, "duplicate", ["handle", "rights"] => ["handle"];
    /// Removes everything derived from a handle, in every process, before it returns.
    Revoke = 4, "revoke", ["handle"] => [];
    /// What a handle is.
    Inspect = 5, "inspect", ["handle"] => ["kind", "rights", "handles to the object"];

    /// Splits a pool: `pages` of its memory and the same share of every object table.
    PoolCreate = 6, "pool_create", ["pool", "pages"] => ["pool"];
    /// How much of a resource is used: 0 pages, else a table by [`crate::Kind`] code, 32 handles and mappings.
    PoolInspect = 7, "pool_inspect", ["pool", "resource"] => ["quota", "used"];

    /// Makes memory of `size` bytes (rounded up to pages), zero where it was not written. Pages are charged when first touched.
    VmoCreate = 8, "vmo_create", ["pool", "size"] => ["vmo"];
    /// Makes memory whose absent pages are asked for at `endpoint` under `badge`.
    VmoCreatePaged = 9, "vmo_create_paged", ["pool", "size", "endpoint", "badge"] => ["vmo"];
    /// Copies from memory into the caller's buffer; answers the bytes copied before the first error.
    VmoRead = 10, "vmo_read", ["vmo", "offset", "address", "length"] => ["copied"];
    /// Copies from the caller's buffer into memory.
    VmoWrite = 11, "vmo_write", ["vmo", "offset", "address", "length"] => ["copied"];
    /// Changes the size; pages beyond the end are given back.
    VmoResize = 12, "vmo_resize", ["vmo", "size"] => [];
    /// Makes memory with the same content that changes independently (copy on write).
    VmoSnapshot = 13, "vmo_snapshot", ["vmo", "pool"] => ["vmo"];
    /// Size in bytes, pages held.
    VmoInspect = 14, "vmo_inspect", ["vmo"] => ["size", "pages"];

    /// Makes an address space.
    SpaceCreate = 15, "space_create", ["pool"] => ["space"];
    /// Maps memory (a `Vmo` or `Mmio`): flags are [`map_flags`]; `address` 0 with no FIXED flag lets the kernel choose.
    SpaceMap = 16, "space_map", ["space", "vmo", "offset", "address", "length", "flags"] => ["address"];
    /// Removes all mappings in a range.
    SpaceUnmap = 17, "space_unmap", ["space", "address", "length"] => [];
    /// Lowers or restores the protection of all mappings in a range; never beyond the rights they were made with. `progress` is 0: the
    /// kernel keeps in it how far a long call came.
    SpaceProtect = 18, "space_protect", ["space", "address", "length", "flags", "progress"] => [];

    /// Makes a process in a space; the name is 16 bytes of ASCII in two words.
    ProcessCreate = 19, "process_create", ["pool", "space", "name", "name"] => ["process"];
    /// Moves a handle of the caller into a process.
    ProcessGrant = 20, "process_grant", ["process", "handle"] => ["its handle"];
    /// Ends a process with a code; all its handles are closed.
    ProcessKill = 21, "process_kill", ["process", "code"] => [];
    /// Ends the calling process; when it is the first one, the machine powers off with its code.
    Exit = 22, "exit", ["code"] => [];
    /// State (0 new, 1 running, 2 ended), exit code, [`crate::FaultKind`] or 0, fault address, instruction.
    ProcessInspect = 23, "process_inspect", ["process"] => ["state", "code", "fault", "address", "instruction"];
    /// Raises `bits` of an event when the process ends (at once if it has).
    ProcessWatch = 24, "process_watch", ["process", "event", "bits"] => [];
    /// Sends the process's faults to an endpoint under a badge.
    ProcessHandler = 25, "process_handler", ["process", "endpoint", "badge"] => [];

    /// Makes a thread in a process, with a budget (0: passive, runs on its callers' budgets only).
    ThreadCreate = 26, "thread_create", ["pool", "process", "budget"] => ["thread"];
    /// Starts a thread at an address with a stack and two arguments.
    ThreadStart = 27, "thread_start", ["thread", "entry", "stack", "first", "second"] => [];
    /// Stops a thread until `thread_resume`.
    ThreadSuspend = 28, "thread_suspend", ["thread"] => [];
    /// Lets a suspended thread go on.
    ThreadResume = 29, "thread_resume", ["thread"] => [];
    /// Reads a suspended thread's registers into the caller's memory.
    ThreadRead = 30, "thread_read", ["thread", "address"] => [];
    /// Writes a suspended thread's registers.
    ThreadWrite = 31, "thread_write", ["thread", "address"] => [];
    /// Gives a thread a budget, or none (0).
    ThreadBudget = 32, "thread_budget", ["thread", "budget"] => [];
    /// Ends the calling thread; its own handle may be named to be closed with it (0: none).
    ThreadExit = 33, "thread_exit", ["handle"] => [];
    /// Sets the calling thread's FS base.
    ThreadPointer = 34, "thread_pointer", ["address"] => [];
    /// Waits until the thread is unparked (once) or the deadline.
    Park = 35, "park", ["deadline"] => [];
    /// Lets a thread's current or next `park` return; ends a guest's run.
    Unpark = 36, "unpark", ["thread"] => [];

    /// Makes a budget under another: priority and cores within the parent's; `amount` of every `period` nanoseconds (period 0: as the parent).
    BudgetCreate = 37, "budget_create", ["pool", "budget", "priority", "amount", "period", "cores"] => ["budget"];
    /// Processor time used through a budget, in nanoseconds.
    BudgetInspect = 38, "budget_inspect", ["budget"] => ["used", "priority", "amount", "period", "cores"];

    /// Makes an endpoint.
    EndpointCreate = 39, "endpoint_create", ["pool"] => ["endpoint"];
    /// Makes a session of an endpoint under a badge.
    SessionCreate = 40, "session_create", ["endpoint", "pool", "badge"] => ["session"];
    /// The badge of a session of this endpoint; refused for others'.
    SessionBadge = 41, "session_badge", ["endpoint", "session"] => ["badge"];
    /// Lets `receive` on the endpoint also deliver (and clear) bits of an event.
    EndpointBind = 42, "endpoint_bind", ["endpoint", "event", "bits"] => [];
    /// Calls: `rdi` session, `rsi` [`crate::Tag`], words. Answers: `rsi` tag, words.
    Call = 43, "call", ["session", "tag", "words"] => ["-", "tag", "words"];
    /// Waits for a call, a closed session, or bits of the bound event.
    Receive = 44, "receive", ["endpoint", "tag", "words"] => ["badge", "tag", "words"];
    /// Answers the call that the thread holds, then receives.
    ReplyAndReceive = 45, "reply_and_receive", ["endpoint", "tag", "words"] => ["badge", "tag", "words"];
    /// Answers the call that the thread holds.
    Reply = 46, "reply", ["-", "tag", "words"] => [];
    /// Turns the call that the thread holds into a `Reply` handle.
    ReplyDetach = 47, "reply_detach", ["pool"] => ["reply"];
    /// Takes the call behind a `Reply` handle back, to answer it.
    ReplyAttach = 48, "reply_attach", ["reply"] => [];
    /// Copies from lease `index` of the held call into the caller's memory.
    LeaseRead = 49, "lease_read", ["index", "offset", "address", "length"] => [];
    /// Copies from the caller's memory into lease `index` of the held call.
    LeaseWrite = 50, "lease_write", ["index", "offset", "address", "length"] => [];

    /// Makes an event.
    EventCreate = 51, "event_create", ["pool"] => ["event"];
    /// Raises bits.
    EventRaise = 52, "event_raise", ["event", "bits"] => [];
    /// Clears bits; answers what was raised before.
    EventClear = 53, "event_clear", ["event", "bits"] => ["bits"];
    /// Waits until one of `mask` is raised; answers the raised ones of it and clears those in `clear`.
    EventWait = 54, "event_wait", ["event", "mask", "clear", "deadline"] => ["bits"];

    /// Narrows authority over interrupt lines.
    InterruptCreate = 55, "interrupt_create", ["interrupt", "pool", "first", "count"] => ["interrupt"];
    /// Raises bits of an event at each interrupt of a (single) line.
    InterruptBind = 56, "interrupt_bind", ["interrupt", "event", "bits"] => [];
    /// Lets the line fire again.
    InterruptAcknowledge = 57, "interrupt_acknowledge", ["interrupt"] => [];
    /// Narrows authority over I/O ports.
    IoPortCreate = 58, "io_port_create", ["io port", "pool", "first", "count"] => ["io port"];
    /// Reads a port; `width` is 1, 2 or 4 bytes.
    IoPortRead = 59, "io_port_read", ["io port", "port", "width"] => ["value"];
    /// Writes a port.
    IoPortWrite = 60, "io_port_write", ["io port", "port", "width", "value"] => [];
    /// Narrows authority over device memory; addresses and lengths in bytes, page aligned.
    MmioCreate = 61, "mmio_create", ["mmio", "pool", "first", "length"] => ["mmio"];

    /// Nanoseconds since boot.
    ClockRead = 62, "clock_read", ["clock"] => ["nanoseconds"];
    /// Ticks of the time stamp counter a second, its value at boot.
    ClockInspect = 63, "clock_inspect", ["clock"] => ["ticks a second", "ticks at boot"];
    /// Writes UTF-8 text to the debug log.
    LogWrite = 64, "log_write", ["log", "address", "length"] => [];
    /// 0: power off with a code; 1: reboot.
    PowerControl = 65, "power_control", ["power", "action", "code"] => [];

    /// Makes a sealed pair.
    SealCreate = 66, "seal_create", ["pool"] => ["seal", "unseal"];
    /// Puts a handle into a sealed box.
    SealClose = 67, "seal_close", ["seal", "pool", "handle"] => ["sealed"];
    /// A handle derived from the one in a box that the matching `Seal` closed.
    SealOpen = 68, "seal_open", ["unseal", "sealed"] => ["handle"];

    /// Gives a thread of the caller's process a guest that runs in `space`.
    GuestCreate = 69, "guest_create", ["thread", "pool", "space"] => [];
    /// Runs the calling thread's guest from the registers in a [`crate::x86_64::GuestState`] until it leaves; writes them back.
    GuestEnter = 70, "guest_enter", ["address"] => [];
    /// How many processors run.
    Processors = 71, "processors", [] => ["count"];

    /// Makes a message-signalled interrupt out of authority over messages: a device that writes `data` (32 bits) to `address` fires it.
    InterruptCreateMessage = 72, "interrupt_create_message", ["interrupt", "pool"] => ["interrupt", "address", "data"];
    /// Which lines an interrupt object covers. Lines from `first message` on are message-signalled, those below are pins.
    InterruptInspect = 73, "interrupt_inspect", ["interrupt"] => ["first", "count", "first message"];

    /// Makes an object that holds memory for one device, from authority over any device or the same one. `device` is a PCI segment, bus, device and function (from bit 16, 8, 3 and 0), or [`NO_DEVICE`]. Behind an IOMMU the device reaches what its newest object holds, and nothing else.
    DmaCreate = 74, "dma_create", ["dma", "pool", "device"] => ["dma"];
    /// Pins pages of memory, present or not, and writes the device address of each into an array of 64-bit words. They stay until the last handle of `dma` is closed. Answers how many it pinned before the first error.
    DmaPin = 75, "dma_pin", ["dma", "vmo", "offset", "length", "address"] => ["pages"];
    /// How many pages are pinned; 1 if their addresses are an IOMMU's, which the device must go through.
    DmaInspect = 76, "dma_inspect", ["dma"] => ["pages", "translated"];
    /// Lets go of the pages in a range of memory, which reads as zeroes (or as its pager says) from then on.
    VmoDiscard = 77, "vmo_discard", ["vmo", "offset", "length"] => [];
    /// Copies the start of the vector state of the calling thread's guest, in the format of the processor's `xsave`; answers its size.
    GuestVectorRead = 78, "guest_vector_read", ["address", "length"] => ["size"];
    /// Replaces the start of the vector state of the calling thread's guest; bits that the processor would refuse are cleared.
    GuestVectorWrite = 79, "guest_vector_write", ["address", "length"] => [];
    /// Lets the calling thread's guest go on behind its system call with `value` as its result. Answers the guest's next system call: its number in the upper half of `rax`, its arguments as values; nothing is written. Should the guest leave for another reason, the upper half of `rax` is [`crate::x86_64::GUEST_LEFT`] and the state at `address` is as after `guest_enter`.
    GuestResume = 80, "guest_resume", ["value", "address"] => ["argument", "argument", "argument", "argument", "argument", "argument"];
    /// Writes the registers of the calling thread's guest to a [`crate::x86_64::GuestState`].
    GuestSave = 81, "guest_save", ["address"] => [];
    /// Makes an address space whose threads run at a [`crate::Level`] of privilege. A space made by `space_create` is of user mode, unless its maker is at level 2: then it is for guests in the kernel's mode.
    SpaceCreatePrivileged = 82, "space_create_privileged", ["privilege", "pool", "level"] => ["space"];
    /// Gives a thread that was not started vector registers of its own. One page is charged to the pool until the thread ends.
    ThreadVector = 83, "thread_vector", ["thread", "pool"] => [];
}

/// Flags of `space_map` and `space_protect`.
pub mod map_flags {
    /// Reading is allowed.
    pub const READ: u64 = 1;
    /// Writing is allowed.
    pub const WRITE: u64 = 2;
    /// Executing is allowed. Refused together with WRITE.
    pub const EXECUTE: u64 = 4;
    /// The address is meant exactly; an overlap is refused.
    pub const FIXED: u64 = 8;
    /// Pages that the memory holds are entered at once (at most 512), the rest when touched.
    pub const POPULATE: u64 = 16;
    /// Every flag there is.
    pub const ALL: u64 = 31;
}

/// The `resource` number of handles (and mappings) in `pool_inspect`.
pub const RESOURCE_HANDLES: u64 = 32;

/// The device of a `dma_create` for none that an IOMMU knows.
pub const NO_DEVICE: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense() {
        for (index, call) in Syscall::ALL.iter().enumerate() {
            assert_eq!(*call as usize, index);
            assert_eq!(Syscall::from_number(index as u64), Some(*call));
        }
        assert_eq!(Syscall::from_number(Syscall::ALL.len() as u64), None);
    }
}
