//! Who runs in the kernel's mode of the processor. It changes what enforces the rules, not the rules: such a process has the same handles,
//! spaces, pools and budgets as any other, and makes the same calls.
//!
//! The level belongs to the space, so it is the same for all threads of a process and for all guests that run in a space. It is given by
//! whoever holds `privilege`, which the first program alone is given. A process whose guests run in the kernel's mode makes their spaces by
//! `space_create`, as it would without: that gives it nothing that its own threads do not have.

use crate::{Activation, Caller, Hardware, Machine, node::Object};
use tessera_abi::{Error, Level, Rights, x86_64::Registers};

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
