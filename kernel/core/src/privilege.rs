//! Who runs in the kernel's mode of the processor. It changes what enforces the rules, not the rules: such a process has the same handles,
//! spaces, pools and budgets as any other, and makes the same calls.
//!
//! The level belongs to the space, so it is the same for all threads of a process and for all guests that run in a space. It is given by
//! whoever holds `privilege`, which the first program alone is given. A process whose guests run in the kernel's mode makes their spaces by
//! `space_create`, as it would without: that gives it nothing that its own threads do not have.

use crate::{Activation, Caller, Hardware, Machine, node::Object};
use tessera_abi::{Error, Level, Rights, x86_64::Registers};

/// How a thread and its guest take turns without core: `guest_resume` goes straight to the guest, a system call of the guest straight back
/// to the thread, if nothing else needs a look. That is for threads in the kernel's mode: what they could do to the machine they can do
/// anyway, and core finds what it would have written itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Door {
    /// Not at all.
    #[default]
    Closed,
    /// The guest runs in user mode.
    User,
    /// The guest runs in the kernel's mode too.
    Kernel,
}

impl Door {
    /// The door between a thread and a guest of these levels.
    pub(crate) const fn between(thread: Level, guest: Level) -> Door {
        match (thread.is_kernel(), guest.is_kernel()) {
            (false, _) => Door::Closed,
            (true, false) => Door::User,
            (true, true) => Door::Kernel,
        }
    }
}

/// What is looked at before the door is taken, at once.
#[derive(Clone, Copy, Default)]
#[repr(C, align(2))]
pub(crate) struct Knob {
    /// The thread has a guest and a door to it.
    pub door: bool,
    /// An `unpark` came before its `park`, or before it went to its guest.
    pub token: bool,
}

/// Where the way through the door finds what it writes and reads: distances in bytes from the registers of a thread.
pub mod door {
    use crate::thread::Thread;
    use core::mem::offset_of;

    const fn from_registers(offset: usize) -> isize {
        offset as isize - offset_of!(Thread, activation.registers) as isize
    }

    /// The registers of its guest.
    pub const GUEST: isize = from_registers(offset_of!(Thread, guest.activation.registers));
    /// Two bytes that make [`OPEN`] when the door can be taken.
    pub const KNOB: isize = from_registers(offset_of!(Thread, knob));
    /// See [`KNOB`].
    pub const OPEN: u16 = 1;
    /// A byte: the thread is in its guest.
    pub const IN_GUEST: isize = from_registers(offset_of!(Thread, in_guest));
    /// A byte: the guest was resumed, so that its system call is told in registers.
    pub const RESUMED: isize = from_registers(offset_of!(Thread, guest.resumed));
    /// Where the thread keeps the guest's state.
    pub const STATE: isize = from_registers(offset_of!(Thread, guest.address));
}

impl Activation {
    /// Bytes of the instruction by which the thread calls, which it makes again when the call is to be made again.
    #[inline(always)]
    pub(crate) const fn call_length(&self) -> u64 {
        if self.kernel { Registers::CALL_LENGTH } else { Registers::SYSCALL_LENGTH }
    }
}

impl<H: Hardware> Machine<H> {
    /// `space_create_privileged`.
    pub(crate) fn space_create_privileged(
        &mut self,
        caller: &Caller,
        privilege: u64,
        pool: u64,
        level: u64,
    ) -> Result<u64, Error> {
        self.single(caller.process, privilege, Object::Privilege, Rights::MANAGE)?;
        let level = Level::from_code(level).ok_or(Error::BadArgument)?;
        self.space_create_at(caller, pool, level)
    }

    /// The level of a space that the caller makes by `space_create`.
    pub(crate) fn level_of_made(&self, caller: &Caller) -> Level {
        match self.spaces.get(caller.space).map(|space| space.level) {
            Some(Level::Guests) => Level::Kernel,
            _ => Level::User,
        }
    }
}
