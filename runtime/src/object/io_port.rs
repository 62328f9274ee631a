//! I/O ports.

use tessera_abi::Syscall;

use super::Pool;
use crate::handle::{Object, Result, create, object, request};

object! {
    /// A range of I/O ports.
    IoPort
}

/// How wide an access is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Width {
    /// One byte.
    Byte = 1,
    /// Two bytes.
    Word = 2,
    /// Four bytes.
    Double = 4,
}

impl IoPort {
    /// Authority over some of these ports only.
    pub fn narrow(&self, pool: &Pool, first: u64, count: u64) -> Result<IoPort> {
        create(Syscall::IoPortCreate, [self.owned().number(), pool.owned().number(), first, count])
    }

    /// Reads a port.
    pub fn read(&self, port: u16, width: Width) -> Result<u32> {
        Ok(request(Syscall::IoPortRead, [self.owned().number(), port.into(), width as u64])?[0] as u32)
    }

    /// Writes a port.
    pub fn write(&self, port: u16, width: Width, value: u32) -> Result<()> {
        request(Syscall::IoPortWrite, [self.owned().number(), port.into(), width as u64, value.into()]).map(|_| ())
    }
}
