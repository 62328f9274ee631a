//! Processes, seen from outside and, for `exit`, from inside.

use tessera_abi::{FaultKind, Handle, Syscall};

use super::{Endpoint, Event, Pool, Space};
use crate::handle::{Object, Owned, Result, create, object, request};

object! {
    /// A space and a handle table.
    Process
}

/// How far a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// No thread was started yet.
    New,
    /// It runs.
    Running,
    /// It ended by itself or was ended, with this code.
    Ended(u64),
    /// It was ended because of a fault.
    Faulted(Fault),
}

/// Why a thread could not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// The address that was accessed, where there is one.
    pub address: u64,
    /// The instruction that did it.
    pub instruction: u64,
}

impl Process {
    /// Makes a process in a space. Of the name, the first 16 bytes count.
    pub fn create(pool: &Pool, space: &Space, name: &str) -> Result<Process> {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        let name = u128::from_le_bytes(bytes);
        let words = [pool.owned().number(), space.owned().number(), name as u64, (name >> 64) as u64];
        create(Syscall::ProcessCreate, words)
    }

    /// Moves a handle into the process; answers its number there. When refused the handle is closed.
    pub fn grant(&self, owned: Owned) -> Result<Handle> {
        let values = request(Syscall::ProcessGrant, [self.owned().number(), owned.number()])?;
        let _ = owned.into_handle();
        Ok(Handle(values[0] as u32))
    }

    /// Ends it.
    pub fn kill(&self, code: u64) -> Result<()> {
        request(Syscall::ProcessKill, [self.owned().number(), code]).map(|_| ())
    }

    /// How far it is.
    pub fn progress(&self) -> Result<Progress> {
        let [state, code, fault, address, instruction, _] = request(Syscall::ProcessInspect, [self.owned().number()])?;
        Ok(match (state, FaultKind::from_code(fault)) {
            (0, _) => Progress::New,
            (1, _) => Progress::Running,
            (_, Some(kind)) => Progress::Faulted(Fault { kind, address, instruction }),
            (_, None) => Progress::Ended(code),
        })
    }

    /// Raises bits of an event when it ends, at once if it has.
    pub fn watch(&self, event: &Event, bits: u64) -> Result<()> {
        request(Syscall::ProcessWatch, [self.owned().number(), event.owned().number(), bits]).map(|_| ())
    }

    /// Sends its faults to an endpoint.
    pub fn handle_faults(&self, endpoint: &Endpoint, badge: u64) -> Result<()> {
        request(Syscall::ProcessHandler, [self.owned().number(), endpoint.owned().number(), badge]).map(|_| ())
    }
}

/// Ends the calling process.
pub fn exit(code: u64) -> ! {
    loop {
        // Never refused; the loop tells the compiler that nothing comes after.
        let _ = request(Syscall::Exit, [code]);
    }
}
