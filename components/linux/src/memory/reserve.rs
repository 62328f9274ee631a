//! The personality's own memory: a reserve that no program can use up, so that nothing a guest does ends the personality.
//!
//! What guests map and store is charged to the component's pool. The heap and the threads' stacks have a part of it for themselves from the start.
//! The heap is what guests make grow by what they ask for: processes, descriptors, names, bytes in pipes. Calls that do so are refused with
//! `ENOMEM` once it has reached its limit; other calls take little, and only for as long as they last. Between the limit and the end of
//! the reserve there is room for them, and for what the heap loses by being in pieces.

use core::sync::atomic::{AtomicUsize, Ordering};

use tessera_runtime::{heap, own};

use super::PAGE;
use crate::errno::{Errno, Result};

/// The reserve's part of the component's memory.
const SHARE: u64 = 4;
/// Most pages of the reserve.
const MOST: u64 = (256 << 20) / PAGE;
/// The part of what guests have that files leave free.
const FILES: u64 = 16;
/// What a thread's stack takes of it, in bytes: what is touched, not what is mapped.
const STACK: usize = 24 << 10;

/// Most bytes that the heap and the stacks may take before calls are refused.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// What stacks are counted as.
static STACKS: AtomicUsize = AtomicUsize::new(0);

/// Splits the reserve off. Before the first program runs.
///
/// # Errors
/// The component has no memory for it.
pub fn split_off() -> Result<()> {
    let pool = own::pool();
    let usage = pool.usage(0)?;
    let pages = (usage.quota.saturating_sub(usage.used) / SHARE).min(MOST);
    own::set_heap_pool(pool.create(pages)?);
    let bytes = (pages * PAGE) as usize;
    LIMIT.store(heap::used().saturating_add(bytes / 8 * 5), Ordering::Relaxed);
    Ok(())
}

/// Whether calls that take memory for long are refused.
#[inline(always)]
pub fn is_used_up() -> bool {
    used() >= LIMIT.load(Ordering::Relaxed)
}

/// Whether more than half of what may be taken is taken.
#[inline(always)]
pub fn is_half_used() -> bool {
    used() >= LIMIT.load(Ordering::Relaxed) / 2
}

/// What the heap and the stacks take.
#[inline(always)]
fn used() -> usize {
    heap::used().saturating_add(STACKS.load(Ordering::Relaxed))
}

/// Refuses what would take more than there is.
pub fn check(bytes: usize) -> Result<()> {
    if used().saturating_add(bytes) > LIMIT.load(Ordering::Relaxed) { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// Refuses that files grow into the last part of what guests have: programs need some to go on.
pub fn check_files() -> Result<()> {
    let usage = own::pool().usage(0)?;
    if usage.quota.saturating_sub(usage.used) < usage.quota / FILES { Err(Errno::ENOSPC) } else { Ok(()) }
}

/// The stack of a thread, for as long as it is held.
#[derive(Debug)]
pub struct Stack(());

impl Stack {
    /// # Errors
    /// `EAGAIN`: there is no room for another.
    pub fn take() -> Result<Stack> {
        check(STACK).map_err(|_| Errno::EAGAIN)?;
        STACKS.fetch_add(STACK, Ordering::Relaxed);
        Ok(Stack(()))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        STACKS.fetch_sub(STACK, Ordering::Relaxed);
    }
}
