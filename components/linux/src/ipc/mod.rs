//! What processes share by key or name beside files: System V shared memory, semaphores and message queues (sysvipc(7)), and
//! POSIX message queues (mq_overview(7)).
//!
//! The calls are in `syscall`; here is what they work on. No method waits: who finds no room, no message or a semaphore too low
//! waits on the object's queue and tries again.

pub mod messages;
pub mod posix;
pub mod semaphores;
pub mod shared;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_runtime::sync::Mutex;

use crate::errno::{Errno, Result};
use crate::task::Credentials;

pub use messages::Messages;
pub use semaphores::Semaphores;
pub use shared::Segment;

/// The key of what nobody else finds by key.
const PRIVATE: i32 = 0;
/// The flags of the `get` calls.
const CREATE: u32 = 0o1000;
const EXCLUSIVE: u32 = 0o2000;
/// Identifiers are an index and a count of reuses: how many indices there can be (`IPCMNI`).
const INDICES: i32 = 32_768;
/// `CAP_IPC_OWNER`.
const OWNER: u32 = 15;

/// All that processes of a container share this way.
#[derive(Default)]
pub struct Ipc {
    pub segments: Registry<Segment>,
    pub semaphores: Registry<Semaphores>,
    pub messages: Registry<Messages>,
    pub queues: posix::Queues,
}

/// Whose an object is (`struct ipc_perm`).
#[derive(Clone, Copy, Debug)]
pub struct Permissions {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub creator_uid: u32,
    pub creator_gid: u32,
    pub mode: u32,
    pub sequence: u16,
}

impl Permissions {
    /// Those of what `who` makes.
    fn new(key: i32, mode: u32, who: &Credentials) -> Permissions {
        let (uid, gid) = (who.effective_user, who.effective_group);
        Permissions { key, uid, gid, creator_uid: uid, creator_gid: gid, mode: mode & 0o777, sequence: 0 }
    }

    /// Whether `who` may do what the bits of a mode say: 4 read, 2 write, in any of its three places.
    pub fn check(&self, who: &Credentials, wanted: u32) -> Result<()> {
        let wanted = (wanted >> 6 | wanted >> 3 | wanted) & 7;
        let shift = if [self.uid, self.creator_uid].contains(&who.effective_user) {
            6
        } else if who.is_in_group(self.gid) || who.is_in_group(self.creator_gid) {
            3
        } else {
            0
        };
        if wanted & !(self.mode >> shift) != 0 && !who.has(OWNER) { Err(Errno::EACCES) } else { Ok(()) }
    }

    /// Whether `who` may change or remove the object.
    pub fn check_owner(&self, who: &Credentials) -> Result<()> {
        let owns = [self.uid, self.creator_uid].contains(&who.effective_user);
        if owns || who.has(crate::task::credentials::capability::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// As it stands in memory: `struct ipc64_perm`.
    pub fn to_words(self) -> [u64; 6] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        [
            pair(self.key as u32, self.uid),
            pair(self.gid, self.creator_uid),
            pair(self.creator_gid, self.mode),
            self.sequence.into(),
            0,
            0,
        ]
    }
}

/// What can stand in a [`Registry`].
pub trait Shared: Send + Sync {
    /// How many there can be (`kernel.sem`, `kernel.msgmni`, `kernel.shmmni`).
    const MOST: usize;

    fn permissions(&self) -> Permissions;
    fn set_permissions(&self, permissions: Permissions);
}

/// The objects of one kind, by identifier and by key.
pub struct Registry<T>(Mutex<Slots<T>>);

struct Slots<T> {
    list: Vec<Slot<T>>,
    /// The indices of slots that are empty, of keys, and of objects by their addresses.
    free: BTreeSet<usize>,
    keys: BTreeMap<i32, usize>,
    places: BTreeMap<usize, usize>,
}

struct Slot<T> {
    sequence: u16,
    object: Option<Arc<T>>,
}

impl<T> Default for Registry<T> {
    fn default() -> Registry<T> {
        Registry(Mutex::new(Slots {
            list: Vec::new(),
            free: BTreeSet::new(),
            keys: BTreeMap::new(),
            places: BTreeMap::new(),
        }))
    }
}

impl<T: Shared> Registry<T> {
    /// The object with a key, which is made if there is none and `flags` say so; answers its identifier. `fits` may refuse one
    /// that is there.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `EACCES`; `ENOSPC` if there are too many.
    pub fn get(
        &self,
        who: &Credentials,
        key: i32,
        flags: u32,
        fits: impl FnOnce(&T) -> Result<()>,
        make: impl FnOnce(Permissions) -> Result<Arc<T>>,
    ) -> Result<u64> {
        let mut slots = self.0.lock();
        if key != PRIVATE {
            let found = slots.keys.get(&key).and_then(|index| {
                let slot = slots.list.get(*index)?;
                Some((identifier(*index, slot.sequence), slot.object.clone()?))
            });
            if let Some((identifier, object)) = found {
                if flags & (CREATE | EXCLUSIVE) == CREATE | EXCLUSIVE {
                    return Err(Errno::EEXIST);
                }
                fits(&object)?;
                object.permissions().check(who, flags)?;
                return Ok(identifier as u64);
            }
            if flags & CREATE == 0 {
                return Err(Errno::ENOENT);
            }
        }
        let index = slots.free.first().copied().unwrap_or(slots.list.len());
        if index >= T::MOST {
            return Err(Errno::ENOSPC);
        }
        let sequence = slots.list.get(index).map_or(0, |slot| slot.sequence);
        let object = make(Permissions { sequence, ..Permissions::new(key, flags, who) })?;
        slots.places.insert(Arc::as_ptr(&object).addr(), index);
        if key != PRIVATE {
            slots.keys.insert(key, index);
        }
        slots.free.remove(&index);
        let slot = Slot { sequence, object: Some(object) };
        match slots.list.get_mut(index) {
            Some(place) => *place = slot,
            None => slots.list.push(slot),
        }
        Ok(identifier(index, sequence) as u64)
    }

    /// The object with an identifier.
    ///
    /// # Errors
    /// `EINVAL` if there is none; `EIDRM` if it was removed.
    pub fn find(&self, number: i32) -> Result<Arc<T>> {
        let (index, sequence) = split(number)?;
        let slots = self.0.lock();
        let slot = slots.list.get(index).ok_or(Errno::EINVAL)?;
        let object = slot.object.as_ref().ok_or(Errno::EINVAL)?;
        if slot.sequence == sequence { Ok(object.clone()) } else { Err(Errno::EIDRM) }
    }

    /// The object at an index, for the calls that list all; answers its identifier too.
    pub fn at(&self, index: i32) -> Result<(u64, Arc<T>)> {
        let index = usize::try_from(index).map_err(|_| Errno::EINVAL)?;
        let slots = self.0.lock();
        let slot = slots.list.get(index).ok_or(Errno::EINVAL)?;
        let object = slot.object.clone().ok_or(Errno::EINVAL)?;
        Ok((identifier(index, slot.sequence) as u64, object))
    }

    /// All objects, with their identifiers.
    pub fn all(&self) -> Vec<(i32, Arc<T>)> {
        let slots = self.0.lock();
        let present = slots.list.iter().enumerate().filter_map(|(index, slot)| {
            slot.object.as_ref().map(|object| (identifier(index, slot.sequence), object.clone()))
        });
        present.collect()
    }

    /// The highest index in use, or 0: what the calls that tell of a kind answer.
    pub fn highest(&self) -> u64 {
        self.0.lock().list.iter().rposition(|slot| slot.object.is_some()).unwrap_or(0) as u64
    }

    /// Takes an object out; its identifier will not name another soon.
    pub fn remove(&self, object: &Arc<T>) {
        let key = object.permissions().key;
        let mut slots = self.0.lock();
        // Another one that was removed already may have stood at its address.
        let Some(index) = slots.places.remove(&Arc::as_ptr(object).addr()) else { return };
        let taken = slots.list.get_mut(index).and_then(|slot| {
            slot.sequence = (slot.sequence + 1) % (i32::MAX / INDICES) as u16;
            slot.object.take()
        });
        slots.free.insert(index);
        if slots.keys.get(&key) == Some(&index) {
            slots.keys.remove(&key);
        }
        drop(slots);
        drop(taken);
    }
}

fn identifier(index: usize, sequence: u16) -> i32 {
    i32::from(sequence) * INDICES + index as i32
}

fn split(number: i32) -> Result<(usize, u16)> {
    if number < 0 {
        return Err(Errno::EINVAL);
    }
    Ok(((number % INDICES) as usize, (number / INDICES) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(Mutex<Permissions>);

    impl Shared for Thing {
        const MOST: usize = 3;

        fn permissions(&self) -> Permissions {
            *self.0.lock()
        }
        fn set_permissions(&self, permissions: Permissions) {
            *self.0.lock() = permissions;
        }
    }

    fn get(registry: &Registry<Thing>, who: &Credentials, key: i32, flags: u32) -> Result<u64> {
        registry.get(who, key, flags, |_| Ok(()), |permissions| Ok(Arc::new(Thing(Mutex::new(permissions)))))
    }

    #[test]
    fn a_key_names_one_object_until_it_is_removed() {
        let (registry, root) = (Registry::default(), Credentials::new(0, 0, Vec::new()));
        assert_eq!(get(&registry, &root, 7, 0), Err(Errno::ENOENT));
        let first = get(&registry, &root, 7, CREATE | 0o600).unwrap();
        assert_eq!(get(&registry, &root, 7, CREATE | EXCLUSIVE), Err(Errno::EEXIST));
        assert_eq!(get(&registry, &root, 7, 0o600), Ok(first));
        assert_ne!(get(&registry, &root, PRIVATE, 0), get(&registry, &root, PRIVATE, 0));
        registry.remove(&registry.find(first as i32).unwrap());
        let second = get(&registry, &root, 7, CREATE | 0o600).unwrap();
        assert_ne!(first, second, "an identifier that was removed must not name another object");
        assert_eq!(registry.find(first as i32).err(), Some(Errno::EIDRM));
        assert_eq!(registry.find(-1).err(), Some(Errno::EINVAL));
    }

    #[test]
    fn there_are_no_more_than_can_be() {
        let (registry, root) = (Registry::default(), Credentials::new(0, 0, Vec::new()));
        for key in 1..=3 {
            assert!(get(&registry, &root, key, CREATE).is_ok());
        }
        assert_eq!(get(&registry, &root, 4, CREATE), Err(Errno::ENOSPC));
        let second = get(&registry, &root, 2, 0).unwrap();
        registry.remove(&registry.find(second as i32).unwrap());
        assert_eq!(get(&registry, &root, 2, 0), Err(Errno::ENOENT));
        assert_eq!(get(&registry, &root, PRIVATE, 0).map(|number| number % INDICES as u64), Ok(1));
    }

    #[test]
    fn others_reach_only_what_the_mode_says() {
        let registry = Registry::default();
        let (owner, other) = (Credentials::new(5, 5, Vec::new()), Credentials::new(6, 6, Vec::new()));
        get(&registry, &owner, 7, CREATE | 0o640).unwrap();
        assert_eq!(get(&registry, &other, 7, 0o400), Err(Errno::EACCES));
        assert!(get(&registry, &Credentials::new(6, 5, Vec::new()), 7, 0o400).is_ok());
        assert_eq!(get(&registry, &Credentials::new(6, 5, Vec::new()), 7, 0o600), Err(Errno::EACCES));
    }
}
