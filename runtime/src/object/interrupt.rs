//! Interrupt lines.

use tessera_abi::Syscall;

use super::{Event, Pool};
use crate::handle::{Object, Result, create, object, request};

object! {
    /// One or more interrupt lines.
    Interrupt
}

impl Interrupt {
    /// Authority over some of these lines only, counted from the first of the machine.
    pub fn narrow(&self, pool: &Pool, first: u64, count: u64) -> Result<Interrupt> {
        create(Syscall::InterruptCreate, [self.owned().number(), pool.owned().number(), first, count])
    }

    /// Raises bits of an event at each interrupt of this (single) line.
    pub fn bind(&self, event: &Event, bits: u64) -> Result<()> {
        request(Syscall::InterruptBind, [self.owned().number(), event.owned().number(), bits]).map(|_| ())
    }

    /// Lets the line fire again.
    pub fn acknowledge(&self) -> Result<()> {
        request(Syscall::InterruptAcknowledge, [self.owned().number()]).map(|_| ())
    }
}
