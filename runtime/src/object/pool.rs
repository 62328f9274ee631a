//! Pools: authority over memory and object tables.

use tessera_abi::Syscall;

use crate::handle::{Object, Result, create, object, request};

object! {
    /// What every object and page is charged to.
    Pool
}

/// How much of a resource a pool has and has given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// The most that can be used.
    pub quota: u64,
    /// What is used now, by smaller pools split off too.
    pub used: u64,
}

impl Pool {
    /// Splits off a pool of `pages` pages and the same share of every object table.
    pub fn create(&self, pages: u64) -> Result<Pool> {
        create(Syscall::PoolCreate, [self.owned().number(), pages])
    }

    /// Usage of a resource: 0 pages, else a kind's code, or [`tessera_abi::syscall::RESOURCE_HANDLES`].
    pub fn usage(&self, resource: u64) -> Result<Usage> {
        let [quota, used, ..] = request(Syscall::PoolInspect, [self.owned().number(), resource])?;
        Ok(Usage { quota, used })
    }
}
