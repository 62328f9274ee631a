//! A process's descriptors.

use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_runtime::sync::Mutex;

use super::Description;
use crate::errno::{Errno, Result};
use crate::memory::reserve;

/// Descriptors; shared by threads (`CLONE_FILES`).
#[derive(Default)]
pub struct Table(Mutex<Slots>);

/// The slots by descriptor.
#[derive(Default, Clone)]
struct Slots {
    list: Vec<Option<Slot>>,
    /// Every slot below is taken: where the search for a free one begins.
    full: usize,
}

#[derive(Clone)]
struct Slot {
    description: Arc<Description>,
    close_on_exec: bool,
}

impl Slots {
    #[cfg_attr(target_os = "none", optimize(speed))]
    fn get(&self, descriptor: i32) -> Option<&Slot> {
        self.list.get(usize::try_from(descriptor).ok()?)?.as_ref()
    }

    /// Puts something where a descriptor leads; answers what was there.
    fn put(&mut self, index: usize, slot: Slot) -> Result<Option<Slot>> {
        let more = (index + 1).saturating_sub(self.list.len());
        if more > 0 {
            reserve::check(more * size_of::<Option<Slot>>())?;
            self.list.resize(index + 1, None);
        }
        Ok(self.list.get_mut(index).ok_or(Errno::EBADF)?.replace(slot))
    }

    /// The lowest free slot from `least` on.
    fn free(&mut self, least: usize) -> usize {
        let mut index = least.max(self.full);
        while self.list.get(index).is_some_and(Option::is_some) {
            index += 1;
        }
        if least <= self.full {
            self.full = index;
        }
        index
    }

    fn take(&mut self, index: usize) -> Option<Slot> {
        let taken = self.list.get_mut(index)?.take();
        self.full = self.full.min(index);
        taken
    }
}

impl Table {
    /// What a descriptor leads to.
    #[cfg_attr(target_os = "none", optimize(speed))]
    pub fn get(&self, descriptor: i32) -> Result<Arc<Description>> {
        self.0.lock().get(descriptor).map(|slot| slot.description.clone()).ok_or(Errno::EBADF)
    }

    /// The lowest free descriptor from `least` on, below `limit`, leads to a description.
    pub fn add(&self, description: Arc<Description>, least: i32, limit: u64, close_on_exec: bool) -> Result<i32> {
        let mut table = self.0.lock();
        let least = usize::try_from(least).map_err(|_| Errno::EINVAL)?;
        let index = table.free(least);
        if index as u64 >= limit {
            return Err(Errno::EMFILE);
        }
        table.put(index, Slot { description, close_on_exec })?;
        Ok(index as i32)
    }

    /// A certain descriptor leads to a description; answers what it led to.
    pub fn set(
        &self,
        descriptor: i32,
        description: Arc<Description>,
        limit: u64,
        close_on_exec: bool,
    ) -> Result<Option<Arc<Description>>> {
        let index = usize::try_from(descriptor).ok().filter(|index| (*index as u64) < limit).ok_or(Errno::EBADF)?;
        let before = self.0.lock().put(index, Slot { description, close_on_exec })?;
        Ok(before.map(|slot| slot.description))
    }

    /// Closes a descriptor; answers what it led to.
    pub fn close(&self, descriptor: i32) -> Result<Arc<Description>> {
        let slot = usize::try_from(descriptor).ok().and_then(|index| self.0.lock().take(index));
        slot.map(|slot| slot.description).ok_or(Errno::EBADF)
    }

    pub fn close_on_exec(&self, descriptor: i32) -> Result<bool> {
        self.0.lock().get(descriptor).map(|slot| slot.close_on_exec).ok_or(Errno::EBADF)
    }

    pub fn set_close_on_exec(&self, descriptor: i32, value: bool) -> Result<()> {
        let mut table = self.0.lock();
        let slot =
            usize::try_from(descriptor).ok().and_then(|index| table.list.get_mut(index)).and_then(Option::as_mut);
        slot.map(|slot| slot.close_on_exec = value).ok_or(Errno::EBADF)
    }

    /// A copy that changes independently.
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn copy(&self) -> Result<Table> {
        let table = self.0.lock();
        reserve::check(size_of_val(table.list.as_slice()))?;
        Ok(Table(Mutex::new(table.clone())))
    }

    /// Takes out what must not survive execve(2).
    pub fn take_close_on_exec(&self) -> Vec<Arc<Description>> {
        let mut table = self.0.lock();
        let marked = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.close_on_exec);
        let numbers: Vec<usize> =
            (0..table.list.len()).filter(|index| table.list.get(*index).is_some_and(marked)).collect();
        numbers.into_iter().filter_map(|index| table.take(index)).map(|slot| slot.description).collect()
    }

    /// Takes out all.
    pub fn take_all(&self) -> Vec<Arc<Description>> {
        core::mem::take(&mut *self.0.lock()).list.into_iter().flatten().map(|slot| slot.description).collect()
    }

    /// The descriptors in use.
    pub fn numbers(&self) -> Vec<i32> {
        let table = self.0.lock();
        table.list.iter().enumerate().filter(|(_, slot)| slot.is_some()).map(|(index, _)| index as i32).collect()
    }
}
