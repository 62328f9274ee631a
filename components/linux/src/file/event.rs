//! eventfd(2): a counter that can be waited for.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use tessera_runtime::sync::Mutex;

use super::{OpenFile, Sink, Source, ready};
use crate::errno::{Errno, Result};
use crate::fs::{Attributes, Kind};
use crate::task::WaitQueue;

/// The largest value that it holds.
const MOST: u64 = u64::MAX - 1;

/// A counter.
pub struct EventFile {
    count: Mutex<u64>,
    /// Reading takes one instead of all.
    semaphore: bool,
    queue: WaitQueue,
}

impl EventFile {
    /// A counter with a first value.
    pub fn new(count: u64, semaphore: bool) -> Arc<EventFile> {
        Arc::new(EventFile { count: Mutex::new(count), semaphore, queue: WaitQueue::new() })
    }
}

impl OpenFile for EventFile {
    fn information(&self) -> String {
        format!("eventfd-count: {:16x}\neventfd-semaphore: {}\n", *self.count.lock(), u32::from(self.semaphore))
    }

    fn read(&self, _at: u64, to: &mut dyn Sink) -> Result<usize> {
        if to.room() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut count = self.count.lock();
        if *count == 0 {
            return Err(Errno::EAGAIN);
        }
        let taken = if self.semaphore { 1 } else { *count };
        if to.put(&taken.to_ne_bytes())? < 8 {
            return Err(Errno::EFAULT);
        }
        *count -= taken;
        drop(count);
        self.queue.wake_all();
        Ok(8)
    }

    fn write(&self, _at: u64, from: &mut dyn Source) -> Result<usize> {
        let mut bytes = [0; 8];
        if from.left() < 8 || from.take(&mut bytes)? < 8 {
            return Err(Errno::EINVAL);
        }
        let added = u64::from_ne_bytes(bytes);
        if added == u64::MAX {
            return Err(Errno::EINVAL);
        }
        let mut count = self.count.lock();
        *count = count.checked_add(added).filter(|sum| *sum <= MOST).ok_or(Errno::EAGAIN)?;
        drop(count);
        self.queue.wake_all();
        Ok(8)
    }

    fn ready(&self) -> u32 {
        let count = *self.count.lock();
        let mut bits = 0;
        if count > 0 {
            bits |= ready::IN;
        }
        if count < MOST {
            bits |= ready::OUT;
        }
        bits
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::anonymous(Kind::Regular, 0o600, 0))
    }

    fn label(&self) -> String {
        String::from("anon_inode:[eventfd]")
    }
}
