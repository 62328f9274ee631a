//! Processes by descriptor: `pidfd_open`, `pidfd_send_signal`, `pidfd_getfd`.

use alloc::sync::Arc;

use super::file::install;
use super::signal::may_signal;
use crate::errno::{Errno, Result};
use crate::file::pidfd::ProcessFile;
use crate::file::{Description, open};
use crate::fs::proc;
use crate::signal::{Info, LAST, code, send};
use crate::task::process::Life;
use crate::task::{Context, Process};

/// A descriptor for a process.
pub fn describe(process: &Arc<Process>, flags: u32) -> Arc<Description> {
    Description::new(Arc::new(ProcessFile(process.clone())), None, open::READ_WRITE | flags & open::NON_BLOCKING)
}

pub fn pidfd_open(context: &mut Context, number: i32, flags: u32) -> Result<u64> {
    if flags & !open::NON_BLOCKING != 0 || number <= 0 {
        return Err(Errno::EINVAL);
    }
    let Some(process) = context.system.process(number) else {
        // A thread that is not its process's first has a number, but no descriptor.
        return Err(if context.system.task(number).is_some() { Errno::EINVAL } else { Errno::ESRCH });
    };
    install(context, describe(&process, flags), true)
}

/// The process of a descriptor; `EBADF` if it is another's.
pub fn process(context: &Context, descriptor: i32) -> Result<(Arc<Process>, Arc<Description>)> {
    let description = context.description(descriptor)?;
    let file = description.concrete::<ProcessFile>().ok_or(Errno::EBADF)?;
    Ok((file.0.clone(), description))
}

/// The same for signals, which a directory of /proc is good for too.
fn signalled(context: &Context, descriptor: i32) -> Result<Arc<Process>> {
    match process(context, descriptor) {
        Err(Errno::EBADF) => {
            let inode = context.description(descriptor)?.inode();
            inode.and_then(|inode| proc::process_of(&inode)).ok_or(Errno::EBADF)
        }
        other => other.map(|(process, _)| process),
    }
}

pub fn pidfd_send_signal(context: &mut Context, descriptor: i32, signal: i32, info: u64, flags: u32) -> Result<u64> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let process = signalled(context, descriptor)?;
    if !(0..=LAST).contains(&signal) {
        return Err(Errno::EINVAL);
    }
    let told = if info == 0 {
        Info::user(signal, code::USER, context.process.number, context.credentials().user)
    } else {
        let told = Info::from_words(context.read_words(info)?);
        if told.signal != signal {
            return Err(Errno::EINVAL);
        }
        if !Arc::ptr_eq(&process, &context.process) && (told.code >= 0 || told.code == code::TKILL) {
            return Err(Errno::EPERM);
        }
        told
    };
    if *process.life.lock() == Life::Gone {
        return Err(Errno::ESRCH);
    }
    if !may_signal(&context.credentials(), &context.process, &process, signal) {
        return Err(Errno::EPERM);
    }
    if signal != 0 {
        send::to_process(&process, told);
    }
    Ok(0)
}

pub fn pidfd_getfd(context: &mut Context, descriptor: i32, number: i32, flags: u32) -> Result<u64> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (process, _) = process(context, descriptor)?;
    let files = process.resources.lock().files.clone().ok_or(Errno::ESRCH)?;
    super::identity::may_inspect(context, &process)?;
    let description = files.get(number)?;
    install(context, description, true)
}
