//! System V shared memory: segments that processes attach to their memory (shmop(2)).

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};

use tessera_runtime::sync::Mutex;

use super::{Permissions, Registry, Shared};
use crate::errno::Result;
use crate::memory::Memory;
use crate::task::System;

/// The largest segment, and the most of them (`SHMMAX`, `SHMMNI`).
pub const LARGEST: u64 = 1 << 38;
pub const MOST: u64 = 4096;
/// Marks of a segment, beside its mode: removed with its last attachment, locked in memory.
pub const REMOVED: u32 = 0o1000;
pub const LOCKED: u32 = 0o2000;

/// A segment.
pub struct Segment {
    permissions: Mutex<Permissions>,
    pub size: u64,
    pub memory: Arc<Memory>,
    pub creator: i32,
    /// `REMOVED`, `LOCKED`.
    pub marks: AtomicU32,
    /// Mappings of it.
    attached: AtomicU64,
    pub last: AtomicI32,
    /// When it was attached, detached, changed: seconds since 1970.
    pub times: [AtomicI64; 3],
    system: Weak<System>,
}

impl Shared for Segment {
    const MOST: usize = MOST as usize;

    fn permissions(&self) -> Permissions {
        *self.permissions.lock()
    }

    fn set_permissions(&self, permissions: Permissions) {
        *self.permissions.lock() = permissions;
    }
}

impl Segment {
    /// Zeroes of `size` bytes.
    pub fn new(permissions: Permissions, size: u64, creator: i32, system: &Arc<System>) -> Result<Arc<Segment>> {
        let segment = Segment {
            permissions: Mutex::new(permissions),
            size,
            memory: Memory::new(size.next_multiple_of(crate::memory::PAGE))?,
            creator,
            marks: AtomicU32::new(0),
            attached: AtomicU64::new(0),
            last: AtomicI32::new(0),
            times: [const { AtomicI64::new(0) }; 3],
            system: Arc::downgrade(system),
        };
        segment.stamp(2, system);
        Ok(Arc::new(segment))
    }

    /// Notes the time of one of the three events.
    pub fn stamp(&self, event: usize, system: &System) {
        if let Some(time) = self.times.get(event) {
            time.store(system.wall_now().div_euclid(1_000_000_000), Ordering::Relaxed);
        }
    }

    /// How many mappings there are.
    pub fn attached(&self) -> u64 {
        self.attached.load(Ordering::SeqCst)
    }

    /// Notes a mapping.
    pub fn attach(self: &Arc<Self>, process: i32, system: &System) -> Attachment {
        self.last.store(process, Ordering::Relaxed);
        self.stamp(0, system);
        self.attached.fetch_add(1, Ordering::SeqCst);
        Attachment(self.clone())
    }

    /// Removes the segment now or with its last mapping.
    pub fn remove(self: &Arc<Self>, registry: &Registry<Segment>) {
        self.marks.fetch_or(REMOVED, Ordering::SeqCst);
        let mut permissions = self.permissions.lock();
        permissions.key = super::PRIVATE;
        drop(permissions);
        if self.attached() == 0 {
            registry.remove(self);
        }
    }
}

/// One mapping's hold on a segment. Copies of the mapping (parts of it, a child's) hold it too.
pub struct Attachment(Arc<Segment>);

impl Attachment {
    pub fn segment(&self) -> &Arc<Segment> {
        &self.0
    }
}

impl Clone for Attachment {
    fn clone(&self) -> Attachment {
        self.0.attached.fetch_add(1, Ordering::SeqCst);
        Attachment(self.0.clone())
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let was = self.0.attached.fetch_sub(1, Ordering::SeqCst);
        let Some(system) = self.0.system.upgrade() else { return };
        self.0.stamp(1, &system);
        if was == 1 && self.0.marks.load(Ordering::SeqCst) & REMOVED != 0 {
            system.ipc.segments.remove(&self.0);
        }
    }
}
