//! POSIX message queues: `mq_open`, `mq_timedsend`, `mq_timedreceive`, `mq_notify`, `mq_getsetattr`, `mq_unlink`.

use alloc::sync::Arc;

use crate::errno::{Errno, Result};
use crate::file::netlink::NetlinkSocket;
use crate::file::{Description, open};
use crate::fs::path::access;
use crate::fs::{Owner, path};
use crate::ipc::posix::{
    HARD_LONGEST, HARD_MESSAGES, LONGEST, MOST_MESSAGES, Notification, PRIORITIES, Queue, QueueFile,
};
use crate::signal::LAST;
use crate::task::credentials::capability;
use crate::task::{Context, Text, wait};
use crate::time::{clock, moment, read_timespec};

/// The name of a queue, which the C library passes without its slash.
fn read_name(context: &Context, address: u64) -> Result<Text> {
    let name = context.read_text(address, path::LONGEST_PATH)?;
    match name.as_slice() {
        b"" => Err(Errno::ENOENT),
        name if name.len() > 255 => Err(Errno::ENAMETOOLONG),
        name if name.contains(&b'/') || name == b"." || name == b".." => Err(Errno::EACCES),
        _ => Ok(name),
    }
}

pub fn mq_open(context: &mut Context, name: u64, flags: u32, mode: u32, attributes: u64) -> Result<u64> {
    let name = read_name(context, name)?;
    let who = context.credentials();
    let wanted = match flags & open::ACCESS {
        open::READ_ONLY => access::READ,
        open::WRITE_ONLY => access::WRITE,
        open::READ_WRITE => access::READ | access::WRITE,
        _ => return Err(Errno::EINVAL),
    };
    let creates = flags & open::CREATE != 0;
    let (most, longest) = if creates && attributes != 0 {
        let [_, most, longest, _] = context.read_words::<4>(attributes)?;
        let (hard_most, hard_longest) =
            if who.has(capability::SYS_RESOURCE) { (HARD_MESSAGES, HARD_LONGEST) } else { (MOST_MESSAGES, LONGEST) };
        if !(1..=hard_most).contains(&most) || !(1..=hard_longest).contains(&longest) {
            return Err(Errno::EINVAL);
        }
        (most, longest)
    } else {
        (MOST_MESSAGES, LONGEST)
    };
    let queues = &context.system.ipc.queues;
    let queue = match queues.find(&name) {
        Some(_) if creates && flags & open::EXCLUSIVE != 0 => return Err(Errno::EEXIST),
        Some(queue) => {
            queue.check(&who, wanted)?;
            queue
        }
        None if !creates => return Err(Errno::ENOENT),
        None => {
            let owner = Owner { uid: who.file_user, gid: who.file_group };
            let permissions = mode & 0o777 & !context.fs.mask();
            queues.create(&name, Queue::new(permissions, owner, most, longest, context.system.wall_now()))?
        }
    };
    let kept = flags & (open::ACCESS | open::NON_BLOCKING);
    super::file::install(context, Description::new(Arc::new(QueueFile(queue)), None, kept), true)
}

pub fn mq_unlink(context: &mut Context, name: u64) -> Result<u64> {
    let name = read_name(context, name)?;
    context.system.ipc.queues.remove(&name, &context.credentials()).map(|()| 0)
}

fn queue(context: &Context, descriptor: i32) -> Result<(Arc<Description>, Arc<Queue>)> {
    let description = context.description(descriptor)?;
    let queue = description.concrete::<QueueFile>().ok_or(Errno::EBADF)?.0.clone();
    Ok((description, queue))
}

fn deadline(context: &Context, time: u64) -> Result<Option<u64>> {
    match time {
        0 => Ok(None),
        time => Ok(Some(moment(context, clock::REAL, read_timespec(context, time)?)?)),
    }
}

/// Tries until it works, if the descriptor is a blocking one.
fn attempt<T>(
    context: &mut Context,
    description: &Description,
    queue: &Queue,
    deadline: Option<u64>,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    match attempt() {
        Err(Errno::EAGAIN) if description.is_blocking() => {}
        other => return other,
    }
    wait(context, &[queue.changed()], deadline, |_| match attempt() {
        Err(Errno::EAGAIN) => None,
        other => Some(other),
    })?
}

pub fn mq_timedsend(
    context: &mut Context,
    descriptor: i32,
    message: u64,
    size: u64,
    priority: u32,
    time: u64,
) -> Result<u64> {
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    let deadline = deadline(context, time)?;
    let (description, queue) = queue(context, descriptor)?;
    if !description.is_writable() {
        return Err(Errno::EBADF);
    }
    if size > queue.longest {
        return Err(Errno::EMSGSIZE);
    }
    let mut bytes = alloc::vec![0; size as usize];
    context.read_bytes(message, &mut bytes)?;
    let sender = (context.process.number, context.credentials().user);
    attempt(context, &description, &queue, deadline, || queue.send(bytes.clone(), priority, sender))?;
    Ok(0)
}

pub fn mq_timedreceive(
    context: &mut Context,
    descriptor: i32,
    message: u64,
    size: u64,
    priority: u64,
    time: u64,
) -> Result<u64> {
    let deadline = deadline(context, time)?;
    let (description, queue) = queue(context, descriptor)?;
    if !description.is_readable() {
        return Err(Errno::EBADF);
    }
    if size < queue.longest {
        return Err(Errno::EMSGSIZE);
    }
    queue.awaits(true);
    let received = attempt(context, &description, &queue, deadline, || queue.receive());
    queue.awaits(false);
    let (bytes, its_priority) = received?;
    context.write_bytes(message, &bytes)?;
    if priority != 0 {
        context.write_u32(priority, its_priority)?;
    }
    Ok(bytes.len() as u64)
}

pub fn mq_notify(context: &mut Context, descriptor: i32, event: u64) -> Result<u64> {
    const SIGNAL: u32 = 0;
    const NONE: u32 = 1;
    const THREAD: u32 = 2;
    let notification = if event == 0 {
        None
    } else {
        let [value, words] = context.read_words(event)?;
        let (signal, notify) = (words as u32 as i32, (words >> 32) as u32);
        let process = Arc::downgrade(&context.process);
        match notify {
            NONE => Some(Notification { process, signal: 0, value, thread: None }),
            SIGNAL if (1..=LAST).contains(&signal) => Some(Notification { process, signal, value, thread: None }),
            // The C library makes a thread that waits at a netlink socket, whose descriptor stands in the signal's place.
            THREAD => {
                let text = context.read_array(value)?;
                let description = context.description(signal)?;
                description.file.clone().socket().ok_or(Errno::ENOTSOCK)?;
                let socket = description.concrete::<NetlinkSocket>().ok_or(Errno::EINVAL)?;
                Some(Notification { process, signal: 0, value, thread: Some((socket, text)) })
            }
            _ => return Err(Errno::EINVAL),
        }
    };
    let (_, queue) = queue(context, descriptor)?;
    queue.notify(&context.process, notification).map(|()| 0)
}

pub fn mq_getsetattr(context: &mut Context, descriptor: i32, new: u64, old: u64) -> Result<u64> {
    let wanted = match new {
        0 => None,
        new => {
            let flags = context.read_u64(new)?;
            if flags & !u64::from(open::NON_BLOCKING) != 0 {
                return Err(Errno::EINVAL);
            }
            Some(flags as u32)
        }
    };
    let (description, queue) = queue(context, descriptor)?;
    let before = u64::from(description.flags() & open::NON_BLOCKING);
    if let Some(flags) = wanted {
        description.set_flags(description.flags() & !open::NON_BLOCKING | flags);
    }
    if old != 0 {
        context.write_words(old, [before, queue.most, queue.longest, queue.count(), 0, 0, 0, 0])?;
    }
    Ok(0)
}
