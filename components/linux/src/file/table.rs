//! A process's descriptors.

use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_runtime::sync::Mutex;

use super::Description;
use crate::errno::{Errno, Result};

/// Descriptors; shared by threads (`CLONE_FILES`).
#[derive(Default)]
pub struct Table(Mutex<Vec<Option<Slot>>>);

#[derive(Clone)]
struct Slot {
    description: Arc<Description>,
    close_on_exec: bool,
}

impl Table {
    /// What a descriptor leads to.
    pub fn get(&self, descriptor: i32) -> Result<Arc<Description>> {
        let table = self.0.lock();
        let slot = usize::try_from(descriptor).ok().and_then(|index| table.get(index)).and_then(Option::as_ref);
        slot.map(|slot| slot.description.clone()).ok_or(Errno::EBADF)
    }

    /// The lowest free descriptor from `least` on, below `limit`, leads to a description.
    pub fn add(&self, description: Arc<Description>, least: i32, limit: u64, close_on_exec: bool) -> Result<i32> {
        let mut table = self.0.lock();
        let least = usize::try_from(least).map_err(|_| Errno::EINVAL)?;
        let index = (least..).find(|index| table.get(*index).is_none_or(Option::is_none)).ok_or(Errno::EMFILE)?;
        if index as u64 >= limit {
            return Err(Errno::EMFILE);
        }
        if table.len() <= index {
            table.resize(index + 1, None);
        }
        if let Some(slot) = table.get_mut(index) {
            *slot = Some(Slot { description, close_on_exec });
        }
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
        let mut table = self.0.lock();
        if table.len() <= index {
            table.resize(index + 1, None);
        }
        let slot = table.get_mut(index).ok_or(Errno::EBADF)?;
        Ok(slot.replace(Slot { description, close_on_exec }).map(|slot| slot.description))
    }

    /// Closes a descriptor; answers what it led to.
    pub fn close(&self, descriptor: i32) -> Result<Arc<Description>> {
        let mut table = self.0.lock();
        let slot = usize::try_from(descriptor).ok().and_then(|index| table.get_mut(index)).and_then(Option::take);
        slot.map(|slot| slot.description).ok_or(Errno::EBADF)
    }

    pub fn close_on_exec(&self, descriptor: i32) -> Result<bool> {
        let table = self.0.lock();
        let slot = usize::try_from(descriptor).ok().and_then(|index| table.get(index)).and_then(Option::as_ref);
        slot.map(|slot| slot.close_on_exec).ok_or(Errno::EBADF)
    }

    pub fn set_close_on_exec(&self, descriptor: i32, value: bool) -> Result<()> {
        let mut table = self.0.lock();
        let slot = usize::try_from(descriptor).ok().and_then(|index| table.get_mut(index)).and_then(Option::as_mut);
        slot.map(|slot| slot.close_on_exec = value).ok_or(Errno::EBADF)
    }

    /// A copy that changes independently.
    pub fn copy(&self) -> Table {
        Table(Mutex::new(self.0.lock().clone()))
    }

    /// Takes out what must not survive execve(2).
    pub fn take_close_on_exec(&self) -> Vec<Arc<Description>> {
        let mut table = self.0.lock();
        let slots = table.iter_mut().filter(|slot| slot.as_ref().is_some_and(|slot| slot.close_on_exec));
        slots.filter_map(|slot| slot.take().map(|slot| slot.description)).collect()
    }

    /// Takes out all.
    pub fn take_all(&self) -> Vec<Arc<Description>> {
        core::mem::take(&mut *self.0.lock()).into_iter().flatten().map(|slot| slot.description).collect()
    }

    /// The descriptors in use.
    pub fn numbers(&self) -> Vec<i32> {
        let table = self.0.lock();
        table.iter().enumerate().filter(|(_, slot)| slot.is_some()).map(|(index, _)| index as i32).collect()
    }
}
