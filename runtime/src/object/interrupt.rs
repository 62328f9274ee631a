//! Interrupt lines: pins, and messages that devices send.

use tessera_abi::Syscall;

use super::{Event, Pool};
use crate::handle::{Object, Result, create, object, owned, request};

object! {
    /// One or more interrupt lines: pins, or messages that devices send.
    Interrupt
}

/// A message-signalled interrupt: what a driver writes into its device's MSI or MSI-X registers.
#[derive(Debug, PartialEq, Eq)]
pub struct MessageInterrupt {
    /// The interrupt. It is an edge: acknowledging it is harmless and not needed.
    pub interrupt: Interrupt,
    /// The physical address that the device writes to.
    pub address: u64,
    /// What it writes there.
    pub data: u32,
}

/// Which lines an interrupt object covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// The machine's lines from this number on are messages, those below are pins.
    pub first_message: u64,
}

impl Interrupt {
    /// Makes a message-signalled interrupt from authority over messages; refused with `BadArgument` if there is none among these lines,
    /// with `NoQuota` if all are taken. When its last handle is closed, a device that still sends it is ignored.
    pub fn message(&self, pool: &Pool) -> Result<MessageInterrupt> {
        let arguments = [self.owned().number(), pool.owned().number()];
        let [handle, address, data, ..] = request(Syscall::InterruptCreateMessage, arguments)?;
        Ok(MessageInterrupt { interrupt: Interrupt::from_owned(owned(handle)), address, data: data as u32 })
    }

    /// Which lines these are.
    pub fn lines(&self) -> Result<Lines> {
        let [first, count, first_message, ..] = request(Syscall::InterruptInspect, [self.owned().number()])?;
        Ok(Lines { first, count, first_message })
    }

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
