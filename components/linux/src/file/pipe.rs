//! Pipes: pipe(7). A bounded buffer between ends that come and go.
//!
//! Writes of at most [`ATOMIC`] bytes are not torn. An end is an open file; the pipe knows how many of each kind there are, and
//! tells the other side when the last is gone. A fifo is a pipe that an inode keeps.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_runtime::sync::Mutex;

use super::transfer::through_buffer;
use super::{OpenFile, Sink, Source, ready};
use crate::errno::{Errno, Result};
use crate::fs::{Attributes, Inode, Kind};
use crate::memory::reserve;
use crate::task::{Context, WaitQueue};

/// Bytes that a new pipe holds, and the least and most that `F_SETPIPE_SZ` makes of it.
const CAPACITY: usize = 64 << 10;
const LEAST: usize = 4096;
const MOST: usize = 1 << 20;
/// What nobody can ask for, whatever they may.
const LARGEST: usize = 1 << 31;
/// `PIPE_BUF`.
pub const ATOMIC: usize = 4096;
const FIONREAD: u32 = 0x541b;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A pipe.
pub struct Pipe {
    number: u64,
    state: Mutex<State>,
    /// Of those who want to read, to write, and of ends that do both: who waits for one is not told of the other.
    to_read: WaitQueue,
    to_write: WaitQueue,
    to_do_both: WaitQueue,
}

struct State {
    bytes: VecDeque<u8>,
    capacity: usize,
    readers: usize,
    writers: usize,
    /// How often an end of a kind was opened: who waits for one to come sees that it came, even if it left again.
    opened: (u64, u64),
}

/// One end, or for a fifo that was opened for both, both.
pub struct End {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// The fifo, if it has a name.
    inode: Option<Arc<dyn Inode>>,
}

impl Pipe {
    /// One without ends.
    pub fn new() -> Arc<Pipe> {
        let state = State { bytes: VecDeque::new(), capacity: CAPACITY, readers: 0, writers: 0, opened: (0, 0) };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [to_read, to_write, to_do_both] = [const { WaitQueue::new() }; 3];
        Arc::new(Pipe { number, state: Mutex::new(state), to_read, to_write, to_do_both })
    }

    /// What `pipe(2)` makes: the end to read from and the one to write to.
    pub fn pair() -> (Arc<End>, Arc<End>) {
        let pipe = Pipe::new();
        (pipe.open(true, false, None), pipe.open(false, true, None))
    }

    /// A new end.
    pub fn open(self: &Arc<Self>, reads: bool, writes: bool, inode: Option<Arc<dyn Inode>>) -> Arc<End> {
        let mut state = self.state.lock();
        if reads {
            state.readers += 1;
            state.opened.0 += 1;
        }
        if writes {
            state.writers += 1;
            state.opened.1 += 1;
        }
        drop(state);
        self.wake_all();
        Arc::new(End { pipe: self.clone(), reads, writes, inode })
    }

    /// How many readers and writers there are, and how many there have been.
    pub fn ends(&self) -> ((usize, usize), (u64, u64)) {
        let state = self.state.lock();
        ((state.readers, state.writers), state.opened)
    }

    /// The queue of those who open it to read, or to write.
    pub fn queue(&self, reads: bool, writes: bool) -> &WaitQueue {
        match (reads, writes) {
            (true, true) => &self.to_do_both,
            (true, false) => &self.to_read,
            _ => &self.to_write,
        }
    }

    /// There is something to read.
    fn wake_readers(&self) {
        self.to_read.wake_all();
        self.to_do_both.wake_all();
    }

    /// There is room.
    fn wake_writers(&self) {
        self.to_write.wake_all();
        self.to_do_both.wake_all();
    }

    /// An end came or went.
    fn wake_all(&self) {
        self.to_read.wake_all();
        self.wake_writers();
    }
}

impl State {
    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    /// Takes up to `wanted` bytes, as many at a time as the buffer holds.
    #[cfg_attr(target_os = "none", optimize(speed))]
    fn fill(&mut self, from: &mut dyn Source, wanted: usize, buffer: &mut [u8]) -> Result<usize> {
        let most = buffer.len();
        let mut done = 0;
        while done < wanted {
            let part = buffer.get_mut(..(wanted - done).min(most)).unwrap_or_default();
            let taken = match from.take(part) {
                Ok(0) => break,
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            self.bytes.extend(part.get(..taken).unwrap_or_default());
            done += taken;
        }
        Ok(done)
    }
}

impl End {
    /// Bytes that the pipe holds at most.
    pub fn capacity(&self) -> usize {
        self.pipe.state.lock().capacity
    }

    /// `F_SETPIPE_SZ`: answers what it became.
    pub fn set_capacity(&self, bytes: usize) -> Result<usize> {
        let capacity = bytes.clamp(LEAST, usize::MAX).checked_next_power_of_two().ok_or(Errno::EINVAL)?;
        if capacity > LARGEST {
            return Err(Errno::EINVAL);
        }
        if capacity > MOST {
            return Err(Errno::EPERM);
        }
        let mut state = self.pipe.state.lock();
        if state.bytes.len() > capacity {
            return Err(Errno::EBUSY);
        }
        state.capacity = capacity;
        drop(state);
        self.pipe.wake_writers();
        Ok(capacity)
    }

    /// Copies up to `most` of the bytes that are there, which stay (tee(2)).
    pub fn peek(&self, most: usize) -> Result<Vec<u8>> {
        let state = self.pipe.state.lock();
        if state.bytes.is_empty() {
            return if state.writers == 0 { Ok(Vec::new()) } else { Err(Errno::EAGAIN) };
        }
        Ok(state.bytes.iter().take(most).copied().collect())
    }

    /// The pipe that it is an end of.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    /// Whether the two are ends of one pipe.
    pub fn is_of(&self, other: &End) -> bool {
        Arc::ptr_eq(&self.pipe, &other.pipe)
    }
}

impl OpenFile for End {
    #[cfg_attr(target_os = "none", optimize(speed))]
    fn read(&self, _at: u64, to: &mut dyn Sink) -> Result<usize> {
        if !self.reads {
            return Err(Errno::EBADF);
        }
        if to.room() == 0 {
            return Ok(0);
        }
        let mut state = self.pipe.state.lock();
        if state.bytes.is_empty() {
            return if state.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let was_full = state.room() < ATOMIC;
        let mut done = 0;
        while to.room() > 0 && !state.bytes.is_empty() {
            let piece = state.bytes.as_slices().0;
            let stored = match to.put(piece) {
                Ok(0) => break,
                Ok(stored) => stored,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            state.bytes.drain(..stored);
            done += stored;
        }
        drop(state);
        // Who waits to write does so because there was less.
        if was_full {
            self.pipe.wake_writers();
        }
        Ok(done)
    }

    #[cfg_attr(target_os = "none", optimize(speed))]
    fn write(&self, _at: u64, from: &mut dyn Source) -> Result<usize> {
        if !self.writes {
            return Err(Errno::EBADF);
        }
        let wanted = from.left();
        if wanted == 0 {
            return Ok(0);
        }
        let mut state = self.pipe.state.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE);
        }
        let room = state.room();
        if room == 0 || (wanted <= ATOMIC && room < wanted) {
            return Err(Errno::EAGAIN);
        }
        let wanted = wanted.min(room);
        reserve::check(wanted)?;
        let done = through_buffer(wanted, |buffer| state.fill(from, wanted, buffer))?;
        drop(state);
        self.pipe.wake_readers();
        Ok(done)
    }

    fn ready(&self) -> u32 {
        let state = self.pipe.state.lock();
        let mut bits = 0;
        if self.reads {
            if !state.bytes.is_empty() {
                bits |= ready::IN;
            }
            if state.writers == 0 && state.opened.1 > 0 {
                bits |= ready::HANGUP;
            }
        }
        if self.writes {
            if state.room() >= ATOMIC {
                bits |= ready::OUT;
            }
            if state.readers == 0 {
                bits |= ready::ERROR;
            }
        }
        bits
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(self.pipe.queue(self.reads, self.writes))
    }

    fn control(&self, context: &mut Context, request: u32, argument: u64) -> Result<u64> {
        match request {
            FIONREAD => {
                let count = self.pipe.state.lock().bytes.len() as u32;
                context.write_u32(argument, count)?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn attributes(&self) -> Result<Attributes> {
        match &self.inode {
            Some(inode) => inode.attributes(),
            None => Ok(Attributes::anonymous(Kind::Fifo, 0o600, self.pipe.number)),
        }
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        self.inode.clone()
    }

    fn label(&self) -> String {
        format!("pipe:[{}]", self.pipe.number)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.pipe.state.lock();
        state.readers -= usize::from(self.reads);
        state.writers -= usize::from(self.writes);
        if state.readers == 0 && state.writers == 0 {
            state.bytes = VecDeque::new();
        }
        drop(state);
        self.pipe.wake_all();
    }
}
