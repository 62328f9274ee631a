//! `execve`: another program takes the process over.
//!
//! It is loaded into memory of its own. When that has worked, the process's other threads end, and a new thread of the personality
//! goes on with the task in the new memory: a thread has one guest in its life.

use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_runtime::abi::x86_64::Registers;

use super::context::Next;
use super::process::attention;
use super::run::{self, Parts};
use super::wait::wait;
use super::{Context, exit, trace};
use crate::errno::{Errno, Result};
use crate::file::Table;
use crate::fs::Place;
use crate::program::load::load;

/// Replaces the program. Does not return to the old one if it answers `Ok`.
pub fn execute(
    context: &mut Context,
    place: Arc<Place>,
    path: &[u8],
    arguments: Vec<Vec<u8>>,
    environment: &[Vec<u8>],
) -> Result<u64> {
    let loaded = load(context, place, path, arguments, environment)?;
    end_other_threads(context)?;
    // From here on there is no way back.
    let process = context.process.clone();
    let task = context.task.clone();
    let former = task.number();
    if former != process.number {
        context.system.remove_task(task.number());
        task.set_number(process.number);
        context.system.add_task(&task);
    }
    let files = if Arc::strong_count(&context.files) > 2 {
        // Where that fails the program ends: its memory is no longer there.
        Arc::new(Table::copy(&context.files).unwrap_or_default())
    } else {
        context.files.clone()
    };
    for description in files.take_close_on_exec() {
        description.file.closed_by(process.number);
    }
    process.actions.lock().executed();
    process.timers.lock().executed();
    process.barriers.store(0, core::sync::atomic::Ordering::Relaxed);
    process.outcomes.lock().clear();
    *process.credentials.lock() = loaded.credentials.clone();
    *task.name.lock() = loaded.name;
    {
        let mut executed = process.executed.lock();
        executed.place = Some(loaded.place);
        executed.since_fork = true;
    }
    {
        let mut resources = process.resources.lock();
        resources.mm = Some(loaded.mm.clone());
        resources.files = Some(files.clone());
    }
    if context.clear_number != 0 && Arc::strong_count(context.memory.mm()) > 1 {
        let _ = context.write_u32(context.clear_number, 0);
    }
    trace::executed(&task, former as u64);
    exit::release_parent(&process);
    let started = run::start(Parts {
        task,
        identity: loaded.credentials,
        mm: loaded.mm,
        files,
        fs: context.fs.clone(),
        system: context.system.clone(),
        registers: Registers { rip: loaded.entry, rsp: loaded.stack, ..Registers::default() },
        vector: None,
        signal_stack: (0, crate::signal::deliver::DISABLED, 0),
        clear_number: 0,
        robust_list: 0,
    });
    match started {
        Ok(()) => context.next = Next::Moved,
        Err(_) => {
            process.end(crate::signal::SIGKILL);
            context.next = Next::Exit(crate::signal::SIGKILL);
        }
    }
    Ok(0)
}

/// Only this thread goes on.
fn end_other_threads(context: &mut Context) -> Result<()> {
    let process = context.process.clone();
    let others: Vec<_> = {
        let threads = process.threads.lock();
        threads.iter().filter(|other| !Arc::ptr_eq(other, &context.task)).cloned().collect()
    };
    for other in &others {
        other.attend(attention::END);
    }
    loop {
        let alone = |_: &mut Context| (process.threads.lock().len() <= 1).then_some(());
        match wait(context, &[&process.thread_ended], None, alone) {
            Ok(()) => return Ok(()),
            Err(_) if context.task.attention() & attention::END != 0 => return Err(Errno::EINTR),
            // Other signals wait until the new program runs; the threads end soon.
            Err(_) => tessera_runtime::object::yield_now(),
        }
    }
}
