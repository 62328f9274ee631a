//! A thread under the control of another one: made to stand still, its registers read and written.

use super::{State, Thread};
use crate::{Caller, Flow, Hardware, Machine, arena::Id, user::UserSlice};
use tessera_abi::{Error, Rights, x86_64::Registers};

impl<H: Hardware> Machine<H> {
    /// `thread_suspend`: done when no processor runs it.
    pub(crate) fn thread_suspend(&mut self, caller: &Caller, thread: u64) -> Result<Flow, Error> {
        let (_, id) = self.thread(caller.process, thread, Rights::MANAGE)?;
        let thread = self.threads.get_mut(id).ok_or(Error::Gone)?;
        thread.suspended = true;
        match thread.state {
            State::Running if id != caller.thread => {
                self.attend_thread(id);
                Ok(Flow::Again)
            }
            State::Running => {
                self.attend(caller.processor);
                Ok(Flow::Done)
            }
            // It could go on but for its turn or its time: it waits for nothing but `thread_resume` now.
            State::Ready { .. } | State::Throttled(_) | State::Stalled => {
                self.unqueue(id);
                self.set_state(id, State::Stopped);
                Ok(Flow::Done)
            }
            _ => Ok(Flow::Done),
        }
    }

    /// `thread_resume`.
    pub(crate) fn thread_resume(&mut self, caller: &Caller, thread: u64) -> Result<Flow, Error> {
        let (_, id) = self.thread(caller.process, thread, Rights::MANAGE)?;
        let thread = self.threads.get_mut(id).ok_or(Error::Gone)?;
        thread.suspended = false;
        if thread.state == State::Stopped {
            self.make_ready(id);
        }
        Ok(Flow::Done)
    }

    /// The thread, if it is suspended and runs nowhere.
    fn standing(&self, caller: &Caller, thread: u64, rights: Rights) -> Result<Id<Thread>, Error> {
        let (_, id) = self.thread(caller.process, thread, rights)?;
        let thread = self.threads.get(id).ok_or(Error::Gone)?;
        let still = matches!(thread.state, State::New) || thread.suspended && thread.state != State::Running;
        if still { Ok(id) } else { Err(Error::BadState) }
    }

    /// `thread_read`.
    pub(crate) fn thread_read(&mut self, caller: &Caller, thread: u64, address: u64) -> Result<Flow, Error> {
        let id = self.standing(caller, thread, Rights::READ)?;
        let registers = self.threads.get(id).map(|thread| thread.activation.registers).ok_or(Error::Gone)?;
        let bytes = registers_to_bytes(&registers);
        let to = UserSlice::new(caller.space, address, bytes.len() as u64).map_err(|_| Error::BadAddress)?;
        match self.write_user(to, &bytes) {
            Ok(()) => Ok(Flow::Done),
            Err(miss) => self.missed(caller, miss),
        }
    }

    /// `thread_write`.
    pub(crate) fn thread_write(&mut self, caller: &Caller, thread: u64, address: u64) -> Result<Flow, Error> {
        let id = self.standing(caller, thread, Rights::WRITE)?;
        let mut bytes = [0; REGISTER_BYTES];
        let from = UserSlice::new(caller.space, address, bytes.len() as u64).map_err(|_| Error::BadAddress)?;
        if let Err(miss) = self.read_user(from, &mut bytes) {
            return self.missed(caller, miss);
        }
        let thread = self.threads.get_mut(id).ok_or(Error::Gone)?;
        // A thread in the middle of a call keeps what the kernel still needs of it.
        if !matches!(thread.state, State::New | State::Stopped) {
            return Err(Error::BadState);
        }
        // The GS base is a guest's alone: switching between threads without one leaves it as it is.
        thread.activation.registers = Registers { gs_base: 0, ..registers_from_bytes(&bytes).sanitized() };
        thread.activation.full = true;
        Ok(Flow::Done)
    }
}

/// Bytes of a register file in memory.
pub(crate) const REGISTER_BYTES: usize = size_of::<Registers>();

macro_rules! fields {
    ($($name:ident)*) => {
        /// A register file as the bytes that user space sees.
        pub(crate) fn registers_to_bytes(registers: &Registers) -> [u8; REGISTER_BYTES] {
            let mut bytes = [0; REGISTER_BYTES];
            for (to, from) in bytes.chunks_exact_mut(8).zip([$(registers.$name),*]) {
                to.copy_from_slice(&from.to_le_bytes());
            }
            bytes
        }

        /// A register file from the bytes that user space sees.
        pub(crate) fn registers_from_bytes(bytes: &[u8; REGISTER_BYTES]) -> Registers {
            let mut words = bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
            Registers { $($name: words.next().unwrap_or(0)),* }
        }
    };
}

fields!(rax rdi rsi rdx r10 r8 r9 r12 r13 r14 r15 rbx rbp rsp rip rflags rcx r11 fs_base gs_base);
