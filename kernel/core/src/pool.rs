//! Pools: who pays for what. A pool of a share of the memory has the same share of every object table,
//! so no table can be used up by one pool at the expense of another.

use crate::{Hardware, Machine, arena::Id, node::Object};
use tessera_abi::{Error, Kind, Rights};

/// A thing that is charged: pages of memory, an entry of an object table, or a handle (a mapping counts as one).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resource(usize);

/// The last kind with a table of its own.
pub(crate) const LAST_KIND: u64 = Kind::Dma as u64;
/// How many resources there are: pages, the kinds from 1 on, handles.
pub const RESOURCES: usize = LAST_KIND as usize + 2;

impl Resource {
    /// Pages of memory.
    pub const PAGES: Resource = Resource(0);
    /// Handles and mappings.
    pub const HANDLES: Resource = Resource(RESOURCES - 1);

    /// An entry of the table of this kind.
    pub const fn of(kind: Kind) -> Resource {
        Resource(kind as usize)
    }

    /// The resource with this number in `pool_inspect`.
    pub fn from_number(number: u64) -> Option<Resource> {
        match number {
            0..=LAST_KIND => Some(Resource(number as usize)),
            tessera_abi::syscall::RESOURCE_HANDLES => Some(Resource::HANDLES),
            _ => None,
        }
    }
}

/// What a pool may use and does use. Units: pages, or entries.
#[derive(Default)]
pub struct Pool {
    pub(crate) references: u32,
    /// `NONE` for the first pool.
    pub(crate) parent: Id<Pool>,
    quota: [u32; RESOURCES],
    used: [u32; RESOURCES],
}

impl Pool {
    /// A pool without a parent.
    pub(crate) fn first(quota: [u32; RESOURCES]) -> Pool {
        Pool { quota, ..Pool::default() }
    }

    /// Adds pages to what the first pool may use.
    pub(crate) fn extend(&mut self, pages: u32) {
        if let Some(quota) = self.quota.first_mut() {
            *quota = quota.saturating_add(pages);
        }
    }

    /// Quota and use of a resource.
    pub fn account(&self, resource: Resource) -> (u32, u32) {
        (self.quota.get(resource.0).copied().unwrap_or(0), self.used.get(resource.0).copied().unwrap_or(0))
    }

    fn charge(&mut self, resource: Resource, amount: u32) -> Result<(), Error> {
        let (quota, used) = self.account(resource);
        let after = used.checked_add(amount).filter(|after| *after <= quota).ok_or(Error::NoQuota)?;
        if let Some(entry) = self.used.get_mut(resource.0) {
            *entry = after;
        }
        Ok(())
    }

    fn credit(&mut self, resource: Resource, amount: u32) {
        if let Some(entry) = self.used.get_mut(resource.0) {
            debug_assert!(*entry >= amount, "resource {} gave back more than was charged", resource.0);
            *entry = entry.saturating_sub(amount);
        }
    }

    fn is_empty(&self) -> bool {
        self.used.iter().all(|used| *used == 0)
    }
}

impl<H: Hardware> Machine<H> {
    /// Charges a pool; refused when its quota does not allow it.
    pub(crate) fn charge(&mut self, pool: Id<Pool>, resource: Resource, amount: u32) -> Result<(), Error> {
        self.pools.get_mut(pool).ok_or(Error::Gone)?.charge(resource, amount)
    }

    /// Gives back what was charged. A pool that nobody names and that owes nothing goes back into its parent.
    #[inline(always)]
    pub(crate) fn credit(&mut self, pool: Id<Pool>, resource: Resource, amount: u32) {
        let Some(entry) = self.pools.get_mut(pool) else { return };
        entry.credit(resource, amount);
        if entry.references == 0 {
            self.dissolve(pool);
        }
    }

    /// Charges one object of `kind` to a pool and one handle to the caller's process.
    pub(crate) fn charge_object(&mut self, pool: Id<Pool>, kind: Kind, handles: Id<Pool>) -> Result<(), Error> {
        self.charge(handles, Resource::HANDLES, 1)?;
        self.charge(pool, Resource::of(kind), 1).inspect_err(|_| self.credit(handles, Resource::HANDLES, 1))
    }

    /// Splits a pool of `pages` pages off `parent`.
    pub(crate) fn pool_create(&mut self, caller: &crate::Caller, parent: u64, pages: u64) -> Result<u64, Error> {
        let (node, id) = self.pool(caller.process, parent, Rights::MANAGE)?;
        let pages = u32::try_from(pages).ok().filter(|pages| *pages > 0).ok_or(Error::BadArgument)?;
        let total = u64::from(self.total_pages);
        let mut quota = [0; RESOURCES];
        for (share, capacity) in quota.iter_mut().zip(&self.capacities) {
            *share = (u64::from(*capacity).saturating_mul(u64::from(pages)) / total) as u32;
        }
        quota[0] = pages;
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(id, Kind::Pool, handles)?;
        for (index, share) in quota.iter().enumerate() {
            if let Err(error) = self.charge(id, Resource(index), *share) {
                for (index, share) in quota.iter().enumerate().take(index) {
                    self.credit(id, Resource(index), *share);
                }
                self.credit(id, Resource::of(Kind::Pool), 1);
                self.credit(handles, Resource::HANDLES, 1);
                return Err(error);
            }
        }
        let pool =
            self.pools.insert(Pool { references: 0, parent: id, quota, used: [0; RESOURCES] }).ok_or(Error::NoQuota)?;
        self.publish(caller.process, node, Object::Pool(pool), Rights::ALL)
    }

    /// The last handle to a pool is gone: it stays only while something is charged to it.
    pub(crate) fn pool_unnamed(&mut self, id: Id<Pool>) {
        self.dissolve(id);
    }

    /// A pool goes that nobody names and that owes nothing.
    #[inline(never)]
    fn dissolve(&mut self, id: Id<Pool>) {
        // Depth of pools is bounded by their count; each step frees one, so this ends.
        let mut id = id;
        while let Some(pool) = self.pools.get(id) {
            let parent = pool.parent;
            if pool.references != 0 || !pool.is_empty() || parent.is_none() {
                return;
            }
            let quota = pool.quota;
            self.pools.remove(id);
            if let Some(parent) = self.pools.get_mut(parent) {
                for (index, share) in quota.iter().enumerate() {
                    parent.credit(Resource(index), *share);
                }
                parent.credit(Resource::of(Kind::Pool), 1);
            }
            id = parent;
        }
    }
}

impl Pool {
    /// Charges pages where the whole machine cannot be borrowed.
    pub(crate) fn charge_pages(&mut self, amount: u32) -> Result<(), Error> {
        self.charge(Resource::PAGES, amount)
    }
}
