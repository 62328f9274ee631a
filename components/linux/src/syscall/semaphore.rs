//! System V semaphores: `semget`, `semop`, `semtimedop`, `semctl`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::ipc_control as control;
use crate::errno::{Errno, Result};
use crate::ipc::semaphores::{LARGEST, MOST_IN_SET, MOST_OPERATIONS, MOST_SETS, Operation, Refusal, Semaphores, State};
use crate::ipc::{Permissions, Shared};
use crate::task::{Context, wait};
use crate::time::read_timespec;

pub fn semget(context: &mut Context, key: i32, count: i32, flags: u32) -> Result<u64> {
    let count = usize::try_from(count).ok().filter(|count| *count as u64 <= MOST_IN_SET).ok_or(Errno::EINVAL)?;
    let now = control::seconds(context);
    let fits = |set: &Semaphores| {
        if count > set.state.lock().semaphores.len() { Err(Errno::EINVAL) } else { Ok(()) }
    };
    let make = |permissions: Permissions| {
        if count == 0 { Err(Errno::EINVAL) } else { Ok(Semaphores::new(permissions, count, now)) }
    };
    context.system.ipc.semaphores.get(&context.credentials(), key, flags, fits, make)
}

/// Reads an array of `struct sembuf`.
fn read_operations(context: &Context, address: u64, count: u64) -> Result<Vec<Operation>> {
    const DO_NOT_WAIT: i16 = 0o4000;
    const UNDO: i16 = 0x1000;
    let mut operations = Vec::with_capacity(count as usize);
    for index in 0..count {
        let [a, b, c, d, e, f] = context.read_array(address.wrapping_add(index * 6))?;
        let flags = i16::from_le_bytes([e, f]);
        operations.push(Operation {
            index: u16::from_le_bytes([a, b]),
            change: i16::from_le_bytes([c, d]),
            waits: flags & DO_NOT_WAIT == 0,
            undo: flags & UNDO != 0,
        });
    }
    Ok(operations)
}

pub fn semtimedop(context: &mut Context, number: i32, operations: u64, count: u64, time: u64) -> Result<u64> {
    if count == 0 || number < 0 {
        return Err(Errno::EINVAL);
    }
    if count > MOST_OPERATIONS {
        return Err(Errno::E2BIG);
    }
    let operations = read_operations(context, operations, count)?;
    let deadline = match time {
        0 => None,
        time => Some(context.system.now().saturating_add(read_timespec(context, time)?)),
    };
    let set = context.system.ipc.semaphores.find(number)?;
    let changes = operations.iter().any(|operation| operation.change != 0);
    if operations.iter().any(|operation| usize::from(operation.index) >= set.state.lock().semaphores.len()) {
        return Err(Errno::EFBIG);
    }
    set.permissions().check(&context.credentials(), if changes { 0o2 } else { 0o4 })?;
    let process = context.process.number;
    let mut counted = None;
    let outcome = wait(context, &[&set.changed], deadline, |context| {
        let now = control::seconds(context);
        let mut state = set.state.lock();
        recount(&mut state, &mut counted, None);
        let outcome = state.operate(&operations, process, now);
        match outcome {
            Ok(()) => Some(Ok(())),
            Err(Refusal::Error(error)) => Some(Err(error)),
            Err(Refusal::Wait { waits: false, .. }) => Some(Err(Errno::EAGAIN)),
            Err(Refusal::Wait { index, for_zero, .. }) => {
                recount(&mut state, &mut counted, Some((index, for_zero)));
                None
            }
        }
    });
    recount(&mut set.state.lock(), &mut counted, None);
    match outcome {
        Ok(done) => {
            done?;
            set.changed.wake_all();
            Ok(0)
        }
        Err(Errno::ETIMEDOUT) => Err(Errno::EAGAIN),
        // Never made again, whatever the handler says (semop(2)).
        Err(Errno::ERESTARTSYS) => Err(Errno::EINTR),
        Err(error) => Err(error),
    }
}

/// What a thread waits for, for those who ask how many do.
fn recount(state: &mut State, counted: &mut Option<(u16, bool)>, now: Option<(u16, bool)>) {
    if let Some((index, for_zero)) = core::mem::replace(counted, now) {
        state.count(index, for_zero, false);
    }
    if let Some((index, for_zero)) = now {
        state.count(index, for_zero, true);
    }
}

pub fn semop(context: &mut Context, number: i32, operations: u64, count: u64) -> Result<u64> {
    semtimedop(context, number, operations, count, 0)
}

/// `struct semid64_ds` of x86-64.
fn describe(set: &Semaphores) -> [u64; 13] {
    let [a, b, c, d, e, f] = set.permissions().to_words();
    let state = set.state.lock();
    [a, b, c, d, e, f, state.operated as u64, 0, state.modified as u64, 0, state.semaphores.len() as u64, 0, 0]
}

const GET_PROCESS: u32 = 11;
const GET_VALUE: u32 = 12;
const GET_ALL: u32 = 13;
const GET_WAITING: u32 = 14;
const GET_WAITING_FOR_ZERO: u32 = 15;
const SET_VALUE: u32 = 16;
const SET_ALL: u32 = 17;
const STAT_BY_INDEX: u32 = 18;
const USE: u32 = 19;
const STAT_ANY: u32 = 20;

pub fn semctl(context: &mut Context, number: i32, index: i32, command: u32, argument: u64) -> Result<u64> {
    if number < 0 {
        return Err(Errno::EINVAL);
    }
    let who = context.credentials();
    let registry = &context.system.ipc.semaphores;
    match command & !control::SIXTY_FOUR {
        command @ (control::INFORMATION | USE) => {
            let all = registry.all();
            let semaphores: usize = all.iter().map(|(_, set)| set.state.lock().semaphores.len()).sum();
            let (sets, count) =
                if command == USE { (all.len() as u32, semaphores as u32) } else { (20, LARGEST as u32) };
            let most = (MOST_SETS * MOST_IN_SET) as u32;
            // struct seminfo: map, sets, semaphores, undos, in a set, operations, undos of a process, use, largest, undo.
            let words = [
                most,
                MOST_SETS as u32,
                most,
                most,
                MOST_IN_SET as u32,
                MOST_OPERATIONS as u32,
                MOST_OPERATIONS as u32,
                sets,
                LARGEST as u32,
                count,
            ];
            context.write_bytes(argument, words.map(u32::to_le_bytes).as_flattened())?;
            Ok(registry.highest())
        }
        command @ (control::STAT | STAT_BY_INDEX | STAT_ANY) => {
            let (answer, set) = match command {
                control::STAT => (0, registry.find(number)?),
                _ => registry.at(number)?,
            };
            if command != STAT_ANY {
                set.permissions().check(&who, 0o4)?;
            }
            context.write_words(argument, describe(&set))?;
            Ok(answer)
        }
        control::SET => {
            let set = registry.find(number)?;
            let change = control::read_permissions(context, argument)?;
            control::change(&*set, &who, change)?;
            set.state.lock().modified = control::seconds(context);
            Ok(0)
        }
        control::REMOVE => {
            let set = registry.find(number)?;
            set.permissions().check_owner(&who)?;
            set.state.lock().removed = true;
            registry.remove(&set);
            set.changed.wake_all();
            Ok(0)
        }
        command => {
            let set = registry.find(number)?;
            values(context, &set, index, command, argument)
        }
    }
}

/// The commands on the semaphores of a set.
fn values(context: &Context, set: &Arc<Semaphores>, index: i32, command: u32, argument: u64) -> Result<u64> {
    let who = context.credentials();
    let process = context.process.number;
    let now = control::seconds(context);
    let wanted = if matches!(command, SET_VALUE | SET_ALL) { 0o2 } else { 0o4 };
    if !(GET_PROCESS..=SET_ALL).contains(&command) {
        return Err(Errno::EINVAL);
    }
    set.permissions().check(&who, wanted)?;
    match command {
        GET_ALL => {
            let state = set.state.lock();
            let bytes: Vec<u8> = state.semaphores.iter().flat_map(|one| (one.value as u16).to_le_bytes()).collect();
            drop(state);
            context.write_bytes(argument, &bytes)?;
            return Ok(0);
        }
        SET_ALL => {
            let count = set.state.lock().semaphores.len();
            let mut bytes = alloc::vec![[0; 2]; count];
            context.read_bytes(argument, bytes.as_flattened_mut())?;
            let values: Vec<i32> = bytes.iter().map(|bytes| u16::from_le_bytes(*bytes).into()).collect();
            if values.iter().any(|value| *value > LARGEST) {
                return Err(Errno::ERANGE);
            }
            let mut state = set.state.lock();
            for (index, value) in values.into_iter().enumerate() {
                state.set(index, value, process, now)?;
            }
            drop(state);
            set.changed.wake_all();
            return Ok(0);
        }
        _ => {}
    }
    let mut state = set.state.lock();
    let index = usize::try_from(index).map_err(|_| Errno::EINVAL)?;
    let semaphore = *state.semaphores.get(index).ok_or(Errno::EINVAL)?;
    match command {
        GET_VALUE => Ok(semaphore.value as u64),
        GET_PROCESS => Ok(semaphore.process as u64),
        GET_WAITING => Ok(semaphore.waiting.into()),
        GET_WAITING_FOR_ZERO => Ok(semaphore.waiting_for_zero.into()),
        _ => {
            state.set(index, argument as u32 as i32, process, now)?;
            drop(state);
            set.changed.wake_all();
            Ok(0)
        }
    }
}
