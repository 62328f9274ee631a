//! Budgets: authority over processor time.

use tessera_abi::Syscall;

use super::Pool;
use crate::handle::{Object, Result, create, object, request};

object! {
    /// Processor time: priority, amount in every period, cores.
    Budget
}

/// What a budget allows, or should allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Higher runs first.
    pub priority: u64,
    /// Nanoseconds of every period.
    pub amount: u64,
    /// Nanoseconds; 0: as the parent.
    pub period: u64,
    /// A bit for each processor.
    pub cores: u64,
}

impl Budget {
    /// Makes a budget within this one's limits.
    pub fn create(&self, pool: &Pool, limits: Limits) -> Result<Budget> {
        let Limits { priority, amount, period, cores } = limits;
        create(Syscall::BudgetCreate, [pool.owned().number(), self.owned().number(), priority, amount, period, cores])
    }

    /// Nanoseconds used through it.
    pub fn used(&self) -> Result<u64> {
        Ok(request(Syscall::BudgetInspect, [self.owned().number()])?[0])
    }

    /// What it allows.
    pub fn limits(&self) -> Result<Limits> {
        let [_, priority, amount, period, cores, _] = request(Syscall::BudgetInspect, [self.owned().number()])?;
        Ok(Limits { priority, amount, period, cores })
    }
}
