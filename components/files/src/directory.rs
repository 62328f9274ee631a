//! The entries of one directory: by name, and in an order that lasts while entries come and go.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use crate::inode::Inode;

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Directory {
    by_name: BTreeMap<Box<[u8]>, (u64, Arc<Inode>)>,
    /// The names by cookie: a reader goes on behind the last cookie it saw, and meets each entry that stays exactly once.
    by_cookie: BTreeMap<u64, Box<[u8]>>,
    next: u64,
}

impl Directory {
    /// The entry of this name.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Inode>> {
        self.by_name.get(name).map(|(_, inode)| inode)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Enters a name; answers what stood under it before.
    pub fn insert(&mut self, name: &[u8], inode: Arc<Inode>) -> Option<Arc<Inode>> {
        if let Some((_, before)) = self.by_name.get_mut(name) {
            return Some(core::mem::replace(before, inode));
        }
        self.next = self.next.saturating_add(1);
        self.by_cookie.insert(self.next, name.into());
        self.by_name.insert(name.into(), (self.next, inode));
        None
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<Inode>> {
        let (cookie, inode) = self.by_name.remove(name)?;
        self.by_cookie.remove(&cookie);
        Some(inode)
    }

    /// The entries behind a cookie (0: all), each with its own.
    pub fn after(&self, cookie: u64) -> impl Iterator<Item = (u64, &[u8], &Arc<Inode>)> {
        self.by_cookie.range(cookie.saturating_add(1)..).filter_map(|(cookie, name)| {
            let (_, inode) = self.by_name.get(name)?;
            Some((*cookie, &**name, inode))
        })
    }
}
