//! System V message queues: `msgget`, `msgsnd`, `msgrcv`, `msgctl`.

use super::ipc_control as control;
use crate::errno::{Errno, Result};
use crate::ipc::messages::{CAPACITY, LONGEST, MOST, Messages, Wanted};
use crate::ipc::{Permissions, Shared};
use crate::task::credentials::capability;
use crate::task::{Context, wait};

const DO_NOT_WAIT: u32 = 0o4000;

pub fn msgget(context: &mut Context, key: i32, flags: u32) -> Result<u64> {
    let now = control::seconds(context);
    let make = |permissions: Permissions| Ok(Messages::new(permissions, now));
    context.system.ipc.messages.get(&context.credentials(), key, flags, |_| Ok(()), make)
}

pub fn msgsnd(context: &mut Context, number: i32, message: u64, size: u64, flags: u32) -> Result<u64> {
    if size > LONGEST || number < 0 {
        return Err(Errno::EINVAL);
    }
    let kind = context.read_u64(message)? as i64;
    if kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![0; size as usize];
    context.read_bytes(message.wrapping_add(8), &mut bytes)?;
    let queue = context.system.ipc.messages.find(number)?;
    queue.permissions().check(&context.credentials(), 0o2)?;
    let process = context.process.number;
    let mut send =
        |context: &mut Context| match queue.state.lock().send(kind, &bytes, process, control::seconds(context)) {
            Err(Errno::EAGAIN) if flags & DO_NOT_WAIT == 0 => None,
            other => Some(other),
        };
    wait(context, &[&queue.changed], None, &mut send).map_err(interrupted)??;
    queue.changed.wake_all();
    Ok(0)
}

/// Not made again after a handler, whatever it says (signal(7)).
fn interrupted(error: Errno) -> Errno {
    if error == Errno::ERESTARTSYS { Errno::ERESTARTNOHAND } else { error }
}

pub fn msgrcv(context: &mut Context, number: i32, message: u64, size: u64, kind: i64, flags: u32) -> Result<u64> {
    const CUT: u32 = 0o10000;
    const EXCEPT: u32 = 0o20000;
    const COPY: u32 = 0o40000;
    if size > i64::MAX as u64 || number < 0 {
        return Err(Errno::EINVAL);
    }
    let wanted = if flags & COPY != 0 {
        if flags & EXCEPT != 0 || flags & DO_NOT_WAIT == 0 {
            return Err(Errno::EINVAL);
        }
        Wanted::Copy(usize::try_from(kind).unwrap_or(usize::MAX))
    } else {
        match kind {
            0 => Wanted::First,
            kind if kind < 0 => Wanted::UpTo(kind.checked_neg().unwrap_or(i64::MAX)),
            kind if flags & EXCEPT != 0 => Wanted::Not(kind),
            kind => Wanted::Kind(kind),
        }
    };
    let queue = context.system.ipc.messages.find(number)?;
    queue.permissions().check(&context.credentials(), 0o4)?;
    let process = context.process.number;
    let most = size.min(LONGEST.max(CAPACITY)) as usize;
    let receive = |context: &mut Context| {
        let now = control::seconds(context);
        match queue.state.lock().receive(wanted, most, flags & CUT != 0, process, now) {
            Err(Errno::ENOMSG) if flags & DO_NOT_WAIT == 0 => None,
            other => Some(other),
        }
    };
    let found = wait(context, &[&queue.changed], None, receive).map_err(interrupted)??;
    queue.changed.wake_all();
    context.write_u64(message, found.kind as u64)?;
    context.write_bytes(message.wrapping_add(8), &found.bytes)?;
    Ok(found.bytes.len() as u64)
}

/// `struct msqid64_ds`.
fn describe(queue: &Messages) -> [u64; 15] {
    let [a, b, c, d, e, f] = queue.permissions().to_words();
    let state = queue.state.lock();
    let [sent, received, changed] = state.times.map(|time| time as u64);
    let (count, bytes) = state.content();
    let processes = u64::from(state.sender as u32) | u64::from(state.receiver as u32) << 32;
    [a, b, c, d, e, f, sent, received, changed, bytes, count, state.capacity, processes, 0, 0]
}

pub fn msgctl(context: &mut Context, number: i32, command: u32, buffer: u64) -> Result<u64> {
    const STAT_BY_INDEX: u32 = 11;
    const USE: u32 = 12;
    const STAT_ANY: u32 = 13;
    if number < 0 {
        return Err(Errno::EINVAL);
    }
    let registry = &context.system.ipc.messages;
    let who = context.credentials();
    match command & !control::SIXTY_FOUR {
        command @ (control::INFORMATION | USE) => {
            let all = registry.all();
            let (mut messages, mut bytes) = (0, 0);
            for (_, queue) in &all {
                let (count, size) = queue.state.lock().content();
                (messages, bytes) = (messages + count, bytes + size);
            }
            let (queues, messages, bytes) =
                if command == USE { (all.len() as u64, messages, bytes) } else { (MOST, MOST, CAPACITY) };
            // struct msginfo: pool, map, longest, of a queue, queues, segment size, headers, segments.
            let words = [queues, messages, LONGEST, CAPACITY, MOST, 16, bytes, 0xffff].map(|word| word as u32);
            let bytes = words.map(u32::to_le_bytes);
            // The last is a short number, with padding behind it.
            context.write_bytes(buffer, bytes.as_flattened())?;
            Ok(registry.highest())
        }
        command @ (control::STAT | STAT_BY_INDEX | STAT_ANY) => {
            let (answer, queue) = match command {
                control::STAT => (0, registry.find(number)?),
                _ => registry.at(number)?,
            };
            if command != STAT_ANY {
                queue.permissions().check(&who, 0o4)?;
            }
            context.write_words(buffer, describe(&queue))?;
            Ok(answer)
        }
        control::SET => {
            let queue = registry.find(number)?;
            let change = control::read_permissions(context, buffer)?;
            // msg_qbytes is the twelfth word.
            let capacity = context.read_u64(buffer.wrapping_add(11 * 8))?;
            queue.permissions().check_owner(&who)?;
            if capacity > CAPACITY && !who.has(capability::SYS_RESOURCE) {
                return Err(Errno::EPERM);
            }
            control::change(&*queue, &who, change)?;
            let mut state = queue.state.lock();
            (state.capacity, state.times[2]) = (capacity, control::seconds(context));
            drop(state);
            queue.changed.wake_all();
            Ok(0)
        }
        control::REMOVE => {
            let queue = registry.find(number)?;
            queue.permissions().check_owner(&who)?;
            queue.state.lock().removed = true;
            registry.remove(&queue);
            queue.changed.wake_all();
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
