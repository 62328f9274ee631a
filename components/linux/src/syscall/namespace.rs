//! `unshare`, `setns`. A container is one set of namespaces: what processes share is separated, namespaces are not made.

use alloc::sync::Arc;

use crate::errno::{Errno, Result};
use crate::task::Context;
use crate::task::clone::flags;

/// `CLONE_SYSVSEM`, `CLONE_NEWTIME`.
const UNDO: u64 = 0x4_0000;
const NEW_TIME: u64 = 0x80;

pub fn unshare(context: &mut Context, wanted: u64) -> Result<u64> {
    let threads = flags::THREAD | flags::SIGHAND | flags::VM;
    let known = flags::FS | flags::FILES | UNDO | NEW_TIME | flags::NAMESPACES | threads;
    if wanted & !known != 0 {
        return Err(Errno::EINVAL);
    }
    if wanted & threads != 0 && context.process.threads.lock().len() > 1 {
        return Err(Errno::EINVAL);
    }
    if wanted & (flags::NAMESPACES | NEW_TIME) != 0 {
        return Err(Errno::EPERM);
    }
    if wanted & flags::FILES != 0 {
        context.files = Arc::new(context.files.copy()?);
    }
    if wanted & flags::FS != 0 {
        context.fs = Arc::new(context.fs.copy());
    }
    if context.task.number() == context.process.number {
        let mut resources = context.process.resources.lock();
        (resources.files, resources.fs) = (Some(context.files.clone()), Some(context.fs.clone()));
    }
    Ok(0)
}

pub fn setns(context: &mut Context, descriptor: i32, kind: u64) -> Result<u64> {
    context.description(descriptor)?;
    // Descriptors of processes name their namespaces, which are the caller's own; nothing else names any.
    super::pidfd::process(context, descriptor).map_err(|_| Errno::EINVAL)?;
    if kind == 0 || kind & !(flags::NAMESPACES | NEW_TIME) != 0 { Err(Errno::EINVAL) } else { Err(Errno::EPERM) }
}
