//! POSIX message queues (mq_overview(7)): named queues of messages with priorities, reached through descriptors.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_runtime::sync::Mutex;

use crate::errno::{Errno, Result};
use crate::file::netlink::NetlinkSocket;
use crate::file::{OpenFile, Sink, ready};
use crate::fs::path::permitted;
use crate::fs::{Attributes, Kind, Owner, Time};
use crate::signal::{Info, send};
use crate::task::{Credentials, Process, WaitQueue};

/// The most messages of a queue, bytes of a message, and queues; what a queue has unless it is said (`/proc/sys/fs/mqueue`).
pub const MOST_MESSAGES: u64 = 10;
pub const LONGEST: u64 = 8192;
pub const MOST_QUEUES: usize = 256;
/// The same for those who may override limits (`HARD_MSGMAX`, `HARD_MSGSIZEMAX`).
pub const HARD_MESSAGES: u64 = 65_536;
pub const HARD_LONGEST: u64 = 16 << 20;
/// One past the highest priority (`MQ_PRIO_MAX`).
pub const PRIORITIES: u32 = 32_768;
/// `st_dev` of message queues.
const DEVICE: u64 = 0x18;

/// The queues that have names.
#[derive(Default)]
pub struct Queues(Mutex<BTreeMap<Vec<u8>, Arc<Queue>>>);

/// A queue.
pub struct Queue {
    number: u64,
    permissions: u32,
    owner: Owner,
    made: Time,
    pub most: u64,
    pub longest: u64,
    state: Mutex<State>,
    changed: WaitQueue,
}

#[derive(Default)]
struct State {
    /// By priority; the oldest of the highest is taken first.
    messages: BTreeMap<u32, VecDeque<Vec<u8>>>,
    count: u64,
    bytes: u64,
    /// Threads that wait for a message: while one does, nobody is notified.
    receivers: u32,
    notify: Option<Notification>,
}

/// Whom to tell of a message in an empty queue (mq_notify(3)), once.
pub struct Notification {
    pub process: Weak<Process>,
    /// 0: nobody is told, but nobody else may ask to be.
    pub signal: i32,
    pub value: u64,
    /// The C library's thread that waits at a netlink socket for this text (`SIGEV_THREAD`), whose last byte says what has happened.
    pub thread: Option<(Arc<NetlinkSocket>, [u8; TEXT])>,
}

/// Bytes of a notification by netlink, and what its last one says: a message came; nobody will be told any more.
pub const TEXT: usize = 32;
const CAME: u8 = 1;
const REMOVED: u8 = 2;

impl Notification {
    /// Tells the thread, if it is one that is told.
    fn tell_thread(&self, what: u8) {
        if let Some((socket, text)) = &self.thread {
            let mut text = text.to_vec();
            if let Some(last) = text.last_mut() {
                *last = what;
            }
            socket.deliver(text);
        }
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Queues {
    pub fn find(&self, name: &[u8]) -> Option<Arc<Queue>> {
        self.0.lock().get(name).cloned()
    }

    /// Makes a queue under a name that is free.
    pub fn create(&self, name: &[u8], queue: Queue) -> Result<Arc<Queue>> {
        let mut queues = self.0.lock();
        if queues.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        if queues.len() >= MOST_QUEUES {
            return Err(Errno::ENOSPC);
        }
        let queue = Arc::new(queue);
        queues.insert(name.to_vec(), queue.clone());
        Ok(queue)
    }

    /// Removes a name; whoever has the queue open keeps it.
    pub fn remove(&self, name: &[u8], who: &Credentials) -> Result<()> {
        let mut queues = self.0.lock();
        let queue = queues.get(name).ok_or(Errno::ENOENT)?;
        if !who.owns(queue.owner.uid) {
            return Err(Errno::EACCES);
        }
        queues.remove(name);
        Ok(())
    }
}

impl Queue {
    /// An empty one.
    pub fn new(permissions: u32, owner: Owner, most: u64, longest: u64, made: Time) -> Queue {
        Queue {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            permissions,
            owner,
            made,
            most,
            longest,
            state: Mutex::new(State::default()),
            changed: WaitQueue::new(),
        }
    }

    /// Whether `who` may open it to read (4) or write (2).
    pub fn check(&self, who: &Credentials, wanted: u32) -> Result<()> {
        permitted(&self.attributes(), who, wanted)
    }

    fn attributes(&self) -> Attributes {
        Attributes {
            uid: self.owner.uid,
            gid: self.owner.gid,
            size: 80,
            device: DEVICE,
            accessed: self.made,
            modified: self.made,
            changed: self.made,
            ..Attributes::anonymous(Kind::Regular, self.permissions, self.number)
        }
    }

    /// Woken at each change.
    pub fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    /// How many messages there are.
    pub fn count(&self) -> u64 {
        self.state.lock().count
    }

    /// Adds a message; `EAGAIN` if the queue is full. Who asked to be told of the first is.
    pub fn send(&self, bytes: Vec<u8>, priority: u32, sender: (i32, u32)) -> Result<()> {
        let mut state = self.state.lock();
        if state.count >= self.most {
            return Err(Errno::EAGAIN);
        }
        let was_empty = state.count == 0;
        state.count += 1;
        state.bytes += bytes.len() as u64;
        state.messages.entry(priority).or_default().push_back(bytes);
        let told = if was_empty && state.receivers == 0 { state.notify.take() } else { None };
        drop(state);
        self.changed.wake_all();
        if let Some(told) = &told {
            told.tell_thread(CAME);
        }
        if let Some(told) = told.filter(|told| told.signal != 0)
            && let Some(process) = told.process.upgrade()
        {
            const MESSAGE: i32 = -3;
            let (number, user) = sender;
            let mut info = Info::user(told.signal, MESSAGE, number, user);
            info.fields = [info.fields[0], told.value, 0, 0];
            send::to_process(&process, info);
        }
        Ok(())
    }

    /// Takes the oldest message of the highest priority; `EAGAIN` if there is none.
    pub fn receive(&self) -> Result<(Vec<u8>, u32)> {
        let mut state = self.state.lock();
        let mut highest = state.messages.last_entry().ok_or(Errno::EAGAIN)?;
        let priority = *highest.key();
        let bytes = highest.get_mut().pop_front().ok_or(Errno::EAGAIN)?;
        if highest.get().is_empty() {
            highest.remove();
        }
        state.count = state.count.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(bytes.len() as u64);
        drop(state);
        self.changed.wake_all();
        Ok((bytes, priority))
    }

    /// A thread begins or ends to wait for a message.
    pub fn awaits(&self, begins: bool) {
        let mut state = self.state.lock();
        state.receivers = if begins { state.receivers.saturating_add(1) } else { state.receivers.saturating_sub(1) };
    }

    /// Notes whom to tell, or with `None` forgets that it was `process`. `EBUSY` if another is noted.
    pub fn notify(&self, process: &Arc<Process>, notification: Option<Notification>) -> Result<()> {
        let mut state = self.state.lock();
        let holder = state.notify.as_ref().and_then(|known| known.process.upgrade()).filter(|holder| holder.is_alive());
        match (notification, holder) {
            (Some(_), Some(_)) => Err(Errno::EBUSY),
            (Some(new), None) => {
                state.notify = Some(new);
                Ok(())
            }
            (None, Some(holder)) if !Arc::ptr_eq(&holder, process) => Ok(()),
            (None, _) => {
                if let Some(before) = state.notify.take() {
                    before.tell_thread(REMOVED);
                }
                Ok(())
            }
        }
    }
}

/// An open queue.
pub struct QueueFile(pub Arc<Queue>);

impl OpenFile for QueueFile {
    fn read(&self, at: u64, to: &mut dyn Sink) -> Result<usize> {
        let (bytes, signal, process) = {
            let state = self.0.state.lock();
            let noted = state.notify.as_ref();
            let process = noted.and_then(|noted| noted.process.upgrade()).map_or(0, |process| process.number);
            (state.bytes, noted.map_or(0, |noted| noted.signal), process)
        };
        let notify = if signal == 0 { 1 } else { 0 };
        let text = alloc::format!("QSIZE:{bytes:<10} NOTIFY:{notify:<5} SIGNO:{signal:<5} NOTIFY_PID:{process:<6}\n");
        to.put(text.as_bytes().get(at as usize..).unwrap_or_default())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn ready(&self) -> u32 {
        let count = self.0.count();
        let readable = if count > 0 { ready::IN } else { 0 };
        let writable = if count < self.0.most { ready::OUT } else { 0 };
        readable | writable
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.changed)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.0.attributes())
    }

    fn closed_by(&self, process: i32) {
        // Closing any descriptor of a queue gives up that the process is told (mq_close(3)).
        let mut state = self.0.state.lock();
        let is_ours = |known: &Notification| known.process.upgrade().is_none_or(|holder| holder.number == process);
        if let Some(before) = state.notify.take_if(|known| is_ours(known)) {
            before.tell_thread(REMOVED);
        }
    }

    fn label(&self) -> String {
        String::from("anon_inode:[mqueue]")
    }
}
