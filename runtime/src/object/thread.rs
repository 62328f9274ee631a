//! Threads as kernel objects. `crate::thread` makes threads of this process with stacks and closures.

use tessera_abi::x86_64::Registers;
use tessera_abi::{NEVER, Syscall};

use super::{Budget, Pool, Process};
use crate::handle::{Object, Result, checked, create, object, request};
use crate::raw;

object! {
    /// Something that runs in a process.
    Thread
}

impl Thread {
    /// Makes a thread in a process; without a budget it runs only on its callers' budgets.
    pub fn create(pool: &Pool, process: &Process, budget: Option<&Budget>) -> Result<Thread> {
        let budget = budget.map_or(0, |budget| budget.owned().number());
        create(Syscall::ThreadCreate, [pool.owned().number(), process.owned().number(), budget])
    }

    /// Starts it at an address with a stack and two arguments.
    ///
    /// # Safety
    /// If it is a thread of this process, `entry` must be code that may run so, on a stack of its own.
    pub unsafe fn start(&self, entry: u64, stack: u64, first: u64, second: u64) -> Result<()> {
        let number = self.owned().number();
        // SAFETY: passed on to the caller.
        checked(unsafe { raw::syscall_5(Syscall::ThreadStart as u64, number, entry, stack, first, second) }).map(|_| ())
    }

    /// Gives it vector registers, before it is started. A page is charged to the pool.
    pub fn use_vector(&self, pool: &Pool) -> Result<()> {
        request(Syscall::ThreadVector, [self.owned().number(), pool.owned().number()]).map(|_| ())
    }

    /// Stops it until `resume`.
    pub fn suspend(&self) -> Result<()> {
        request(Syscall::ThreadSuspend, [self.owned().number()]).map(|_| ())
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        request(Syscall::ThreadResume, [self.owned().number()]).map(|_| ())
    }

    /// The registers of a suspended thread.
    pub fn registers(&self) -> Result<Registers> {
        let mut registers = Registers::default();
        // SAFETY: the kernel writes the record only.
        checked(unsafe {
            raw::syscall_2(Syscall::ThreadRead as u64, self.owned().number(), &raw mut registers as u64)
        })?;
        Ok(registers)
    }

    /// Sets the registers of a suspended thread.
    ///
    /// # Safety
    /// If it is a thread of this process, its code must be able to go on so.
    pub unsafe fn set_registers(&self, registers: &Registers) -> Result<()> {
        let address = &raw const *registers as u64;
        // SAFETY: the kernel reads the record only; for what the thread then does the caller answers.
        checked(unsafe { raw::syscall_2(Syscall::ThreadWrite as u64, self.owned().number(), address) }).map(|_| ())
    }

    /// Gives it a budget, or none.
    pub fn set_budget(&self, budget: Option<&Budget>) -> Result<()> {
        let budget = budget.map_or(0, |budget| budget.owned().number());
        request(Syscall::ThreadBudget, [self.owned().number(), budget]).map(|_| ())
    }

    /// Lets its current or next `park` return.
    pub fn unpark(&self) -> Result<()> {
        request(Syscall::Unpark, [self.owned().number()]).map(|_| ())
    }
}

/// Waits until the calling thread is unparked or the deadline. Can return early: callers look again at what they wait for.
pub fn park(deadline: Option<u64>) -> Result<()> {
    request(Syscall::Park, [deadline.unwrap_or(NEVER)]).map(|_| ())
}

/// Lets another thread of the same priority run.
#[inline(always)]
pub fn yield_now() {
    let _ = request(Syscall::Yield, []);
}

/// A system call that does nothing.
#[inline(always)]
pub fn null() {
    let _ = request(Syscall::Null, []);
}

/// How many processors run.
pub fn processors() -> u64 {
    request(Syscall::Processors, []).map_or(1, |values| values[0])
}
