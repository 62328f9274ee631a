//! System V semaphores: sets of numbers that are changed together or not at all (semop(2)).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use tessera_runtime::sync::Mutex;

use super::{Permissions, Shared};
use crate::errno::{Errno, Result};
use crate::task::WaitQueue;

/// The most semaphores of a set, operations of a call, sets; the largest value (`SEMMSL`, `SEMOPM`, `SEMMNI`, `SEMVMX`).
pub const MOST_IN_SET: u64 = 32_000;
pub const MOST_OPERATIONS: u64 = 500;
pub const MOST_SETS: u64 = 32_000;
pub const LARGEST: i32 = 32_767;

/// One operation of a call (`struct sembuf`).
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub index: u16,
    pub change: i16,
    pub waits: bool,
    pub undo: bool,
}

/// One semaphore.
#[derive(Clone, Copy, Default, Debug)]
pub struct Semaphore {
    pub value: i32,
    /// The process that changed it last.
    pub process: i32,
    /// Threads that wait for it to grow, and to be zero.
    pub waiting: u32,
    pub waiting_for_zero: u32,
}

/// A set.
pub struct Semaphores {
    permissions: Mutex<Permissions>,
    pub state: Mutex<State>,
    /// Woken at each change.
    pub changed: WaitQueue,
}

pub struct State {
    pub semaphores: Vec<Semaphore>,
    /// What is to be added when a process ends, by its number.
    undo: BTreeMap<i32, Vec<i32>>,
    pub removed: bool,
    /// Seconds since 1970 of the last operation and the last change otherwise.
    pub operated: i64,
    pub modified: i64,
}

/// Why operations could not be done now: the operation that would wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    Wait { index: u16, for_zero: bool, waits: bool },
    Error(Errno),
}

impl Shared for Semaphores {
    const MOST: usize = MOST_SETS as usize;

    fn permissions(&self) -> Permissions {
        *self.permissions.lock()
    }

    fn set_permissions(&self, permissions: Permissions) {
        *self.permissions.lock() = permissions;
    }
}

impl Semaphores {
    /// `count` semaphores at zero.
    pub fn new(permissions: Permissions, count: usize, now: i64) -> Arc<Semaphores> {
        let state = State {
            semaphores: vec![Semaphore::default(); count],
            undo: BTreeMap::new(),
            removed: false,
            operated: 0,
            modified: now,
        };
        Arc::new(Semaphores {
            permissions: Mutex::new(permissions),
            state: Mutex::new(state),
            changed: WaitQueue::new(),
        })
    }

    /// Whether something is undone when a process ends.
    pub fn undoes(&self, process: i32) -> bool {
        self.state.lock().undo.contains_key(&process)
    }

    /// A process has ended: what it did with `SEM_UNDO` is undone.
    pub fn undo(&self, process: i32) {
        let mut state = self.state.lock();
        let Some(changes) = state.undo.remove(&process) else { return };
        for (semaphore, change) in state.semaphores.iter_mut().zip(changes).filter(|(_, change)| *change != 0) {
            semaphore.value = semaphore.value.saturating_add(change).clamp(0, LARGEST);
            semaphore.process = process;
        }
        drop(state);
        self.changed.wake_all();
    }
}

impl State {
    /// Does all operations or none.
    pub fn operate(&mut self, operations: &[Operation], process: i32, now: i64) -> core::result::Result<(), Refusal> {
        if self.removed {
            return Err(Refusal::Error(Errno::EIDRM));
        }
        let mut after: BTreeMap<u16, i32> = BTreeMap::new();
        for operation in operations {
            let current = self.semaphores.get(usize::from(operation.index)).ok_or(Refusal::Error(Errno::EFBIG))?;
            let value = after.entry(operation.index).or_insert(current.value);
            let wait = |for_zero| Refusal::Wait { index: operation.index, for_zero, waits: operation.waits };
            let changed = *value + i32::from(operation.change);
            match operation.change {
                0 if *value != 0 => return Err(wait(true)),
                _ if changed < 0 => return Err(wait(false)),
                _ if changed > LARGEST => return Err(Refusal::Error(Errno::ERANGE)),
                _ => *value = changed,
            }
        }
        let count = self.semaphores.len();
        for operation in operations.iter().filter(|operation| operation.undo) {
            let changes = self.undo.entry(process).or_insert_with(|| vec![0; count]);
            if let Some(change) = changes.get_mut(usize::from(operation.index)) {
                *change -= i32::from(operation.change);
            }
        }
        for operation in operations {
            if let Some(semaphore) = self.semaphores.get_mut(usize::from(operation.index)) {
                semaphore.value = after.get(&operation.index).copied().unwrap_or(semaphore.value);
                semaphore.process = process;
            }
        }
        self.operated = now;
        Ok(())
    }

    /// Sets a value from outside: nobody undoes what was done to it before.
    pub fn set(&mut self, index: usize, value: i32, process: i32, now: i64) -> Result<()> {
        if !(0..=LARGEST).contains(&value) {
            return Err(Errno::ERANGE);
        }
        let semaphore = self.semaphores.get_mut(index).ok_or(Errno::EINVAL)?;
        (semaphore.value, semaphore.process) = (value, process);
        self.undo.values_mut().filter_map(|changes| changes.get_mut(index)).for_each(|change| *change = 0);
        self.modified = now;
        Ok(())
    }

    /// Counts a thread that begins or ends to wait.
    pub fn count(&mut self, index: u16, for_zero: bool, begins: bool) {
        let Some(semaphore) = self.semaphores.get_mut(usize::from(index)) else { return };
        let place = if for_zero { &mut semaphore.waiting_for_zero } else { &mut semaphore.waiting };
        *place = if begins { place.saturating_add(1) } else { place.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(values: &[i32]) -> State {
        let semaphores = values.iter().map(|value| Semaphore { value: *value, ..Semaphore::default() }).collect();
        State { semaphores, undo: BTreeMap::new(), removed: false, operated: 0, modified: 0 }
    }

    fn operation(index: u16, change: i16) -> Operation {
        Operation { index, change, waits: true, undo: false }
    }

    #[test]
    fn operations_are_done_together_or_not_at_all() {
        let mut two = state(&[1, 0]);
        let refused = two.operate(&[operation(0, -1), operation(1, -1)], 9, 0);
        assert_eq!(refused, Err(Refusal::Wait { index: 1, for_zero: false, waits: true }));
        assert_eq!((two.semaphores[0].value, two.semaphores[0].process), (1, 0));
        assert_eq!(two.operate(&[operation(1, 1), operation(1, -1), operation(0, -1), operation(0, 0)], 9, 0), Ok(()));
        assert_eq!((two.semaphores[0].value, two.semaphores[0].process), (0, 9));
        assert_eq!(two.operate(&[operation(2, 1)], 9, 0), Err(Refusal::Error(Errno::EFBIG)));
        assert_eq!(two.operate(&[operation(0, i16::MAX), operation(0, 1)], 9, 0), Err(Refusal::Error(Errno::ERANGE)));
    }

    #[test]
    fn what_a_process_did_is_undone_at_its_end() {
        let set = Semaphores::new(Permissions::new(0, 0o600, &crate::task::Credentials::new(0, 0, Vec::new())), 1, 0);
        let take = Operation { undo: true, ..operation(0, -2) };
        set.state.lock().set(0, 5, 1, 0).unwrap();
        set.state.lock().operate(&[take], 9, 0).unwrap();
        assert_eq!(set.state.lock().semaphores[0].value, 3);
        set.undo(9);
        assert_eq!(set.state.lock().semaphores[0].value, 5);
        set.state.lock().operate(&[take], 9, 0).unwrap();
        set.state.lock().set(0, 1, 1, 0).unwrap();
        set.undo(9);
        assert_eq!(set.state.lock().semaphores[0].value, 1);
    }
}
