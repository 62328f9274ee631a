//! System V message queues (msgop(2)).

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_runtime::sync::Mutex;

use super::{Permissions, Shared};
use crate::errno::{Errno, Result};
use crate::task::WaitQueue;

/// The longest message, the bytes that a queue holds, the most queues (`MSGMAX`, `MSGMNB`, `MSGMNI`).
pub const LONGEST: u64 = 8192;
pub const CAPACITY: u64 = 16_384;
pub const MOST: u64 = 32_000;

/// A queue.
pub struct Messages {
    permissions: Mutex<Permissions>,
    pub state: Mutex<State>,
    /// Woken at each change.
    pub changed: WaitQueue,
}

/// A message: its type, which is positive, and its bytes.
pub struct Message {
    pub kind: i64,
    pub bytes: Vec<u8>,
}

pub struct State {
    queue: VecDeque<Message>,
    bytes: u64,
    pub capacity: u64,
    pub removed: bool,
    /// Seconds since 1970: sent, received, changed.
    pub times: [i64; 3],
    /// The processes that sent and received last.
    pub sender: i32,
    pub receiver: i32,
}

/// Which message is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    First,
    Kind(i64),
    /// The first of any other kind.
    Not(i64),
    /// The first of the lowest kind up to this one.
    UpTo(i64),
    /// The one at this place, which stays (`MSG_COPY`).
    Copy(usize),
}

impl Shared for Messages {
    const MOST: usize = MOST as usize;

    fn permissions(&self) -> Permissions {
        *self.permissions.lock()
    }

    fn set_permissions(&self, permissions: Permissions) {
        *self.permissions.lock() = permissions;
    }
}

impl Messages {
    /// An empty queue.
    pub fn new(permissions: Permissions, now: i64) -> Arc<Messages> {
        let state = State {
            queue: VecDeque::new(),
            bytes: 0,
            capacity: CAPACITY,
            removed: false,
            times: [0, 0, now],
            sender: 0,
            receiver: 0,
        };
        Arc::new(Messages { permissions: Mutex::new(permissions), state: Mutex::new(state), changed: WaitQueue::new() })
    }
}

impl State {
    /// Messages and bytes in the queue.
    pub fn content(&self) -> (u64, u64) {
        (self.queue.len() as u64, self.bytes)
    }

    /// Adds a message; `EAGAIN` if there is no room for it.
    pub fn send(&mut self, kind: i64, bytes: &[u8], process: i32, now: i64) -> Result<()> {
        if self.removed {
            return Err(Errno::EIDRM);
        }
        let after = self.bytes + bytes.len() as u64;
        // Messages without bytes take room too, in their number.
        if after > self.capacity || self.queue.len() as u64 >= self.capacity {
            return Err(Errno::EAGAIN);
        }
        self.queue.push_back(Message { kind, bytes: bytes.to_vec() });
        self.bytes = after;
        (self.sender, self.times[0]) = (process, now);
        Ok(())
    }

    /// Takes a message of at most `most` bytes; a longer one is cut if `cuts`, else `E2BIG`. `ENOMSG` if none is there.
    pub fn receive(&mut self, wanted: Wanted, most: usize, cuts: bool, process: i32, now: i64) -> Result<Message> {
        if self.removed {
            return Err(Errno::EIDRM);
        }
        let kinds = || self.queue.iter().map(|message| message.kind);
        let index = match wanted {
            Wanted::First => (!self.queue.is_empty()).then_some(0),
            Wanted::Kind(kind) => kinds().position(|other| other == kind),
            Wanted::Not(kind) => kinds().position(|other| other != kind),
            Wanted::UpTo(most) => {
                let lowest = kinds().filter(|kind| *kind <= most).min();
                lowest.and_then(|lowest| kinds().position(|kind| kind == lowest))
            }
            Wanted::Copy(index) => (index < self.queue.len()).then_some(index),
        };
        let index = index.ok_or(Errno::ENOMSG)?;
        let found = self.queue.get(index).ok_or(Errno::ENOMSG)?;
        if found.bytes.len() > most && !cuts {
            return Err(Errno::E2BIG);
        }
        let mut message = if matches!(wanted, Wanted::Copy(_)) {
            Message { kind: found.kind, bytes: found.bytes.clone() }
        } else {
            let message = self.queue.remove(index).ok_or(Errno::ENOMSG)?;
            self.bytes -= message.bytes.len() as u64;
            (self.receiver, self.times[1]) = (process, now);
            message
        };
        message.bytes.truncate(most);
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Arc<Messages> {
        Messages::new(Permissions::new(0, 0o600, &crate::task::Credentials::new(0, 0, Vec::new())), 0)
    }

    #[test]
    fn messages_are_taken_by_kind() {
        let queue = queue();
        let mut state = queue.state.lock();
        for (kind, text) in [(3, b"three"), (1, b"one.."), (2, b"two..")] {
            state.send(kind, text, 1, 0).unwrap();
        }
        let mut take = |wanted| state.receive(wanted, 100, false, 1, 0).map(|message| message.kind);
        assert_eq!(take(Wanted::Copy(2)), Ok(2));
        assert_eq!(take(Wanted::Copy(3)), Err(Errno::ENOMSG));
        assert_eq!(take(Wanted::UpTo(2)), Ok(1));
        assert_eq!(take(Wanted::Not(3)), Ok(2));
        assert_eq!(take(Wanted::Kind(7)), Err(Errno::ENOMSG));
        assert_eq!(take(Wanted::First), Ok(3));
        assert_eq!(state.content(), (0, 0));
    }

    #[test]
    fn a_message_that_is_too_long_stays_unless_it_may_be_cut() {
        let queue = queue();
        let mut state = queue.state.lock();
        state.send(1, b"12345", 1, 0).unwrap();
        assert_eq!(state.receive(Wanted::First, 3, false, 1, 0).err(), Some(Errno::E2BIG));
        assert_eq!(state.receive(Wanted::First, 3, true, 1, 0).unwrap().bytes, b"123");
        state.capacity = 4;
        assert_eq!(state.send(1, b"12345", 1, 0), Err(Errno::EAGAIN));
    }
}
