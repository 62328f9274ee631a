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

use super::{OpenFile, Sink, Source, ready};
use crate::errno::{Errno, Result};
use crate::fs::{Attributes, Inode, Kind};
use crate::memory::reserve;
use crate::task::{Context, WaitQueue};

/// Bytes that a new pipe holds, and the least and most that `F_SETPIPE_SZ` makes of it.
const CAPACITY: usize = 64 << 10;
const LEAST: usize = 4096;
const MOST: usize = 1 << 20;
/// `PIPE_BUF`.
pub const ATOMIC: usize = 4096;
/// Bytes that are copied at a time.
const PIECE: usize = 4096;
const FIONREAD: u32 = 0x541b;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A pipe.
pub struct Pipe {
    number: u64,
    state: Mutex<State>,
    queue: WaitQueue,
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
        Arc::new(Pipe { number, state: Mutex::new(state), queue: WaitQueue::new() })
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
        self.queue.wake_all();
        Arc::new(End { pipe: self.clone(), reads, writes, inode })
    }

    /// How many readers and writers there are, and how many there have been.
    pub fn ends(&self) -> ((usize, usize), (u64, u64)) {
        let state = self.state.lock();
        ((state.readers, state.writers), state.opened)
    }

    /// Woken at every change.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
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
        if capacity > MOST {
            return Err(Errno::EPERM);
        }
        let mut state = self.pipe.state.lock();
        if state.bytes.len() > capacity {
            return Err(Errno::EBUSY);
        }
        state.capacity = capacity;
        drop(state);
        self.pipe.queue.wake_all();
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
        self.pipe.queue.wake_all();
        Ok(done)
    }

    fn write(&self, _at: u64, from: &mut dyn Source) -> Result<usize> {
        if !self.writes {
            return Err(Errno::EBADF);
        }
        let mut state = self.pipe.state.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE);
        }
        let wanted = from.left();
        if wanted == 0 {
            return Ok(0);
        }
        let room = state.capacity.saturating_sub(state.bytes.len());
        if room == 0 || (wanted <= ATOMIC && room < wanted) {
            return Err(Errno::EAGAIN);
        }
        let (mut piece, mut done) = ([0; PIECE], 0);
        let wanted = wanted.min(room);
        reserve::check(wanted)?;
        while done < wanted {
            let part = piece.get_mut(..(wanted - done).min(PIECE)).unwrap_or_default();
            let taken = match from.take(part) {
                Ok(0) => break,
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            state.bytes.extend(part.get(..taken).unwrap_or_default());
            done += taken;
        }
        drop(state);
        self.pipe.queue.wake_all();
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
            if state.capacity.saturating_sub(state.bytes.len()) >= ATOMIC {
                bits |= ready::OUT;
            }
            if state.readers == 0 {
                bits |= ready::ERROR;
            }
        }
        bits
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.pipe.queue)
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
        self.pipe.queue.wake_all();
    }
}
