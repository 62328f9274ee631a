//! inotify(7): who watches a file or directory reads what happens to it.
//!
//! Watches stand in one list by inode, which those ask that change something: [`tell`] costs one look at a counter while nobody
//! watches anything.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use tessera_runtime::sync::Mutex;

use super::{OpenFile, Sink, ready};
use crate::errno::{Errno, Result};
use crate::fs::{Attributes, Inode, Kind, Place};
use crate::task::{Context, WaitQueue};

/// What happens.
pub mod event {
    pub const ACCESS: u32 = 1;
    pub const MODIFY: u32 = 2;
    pub const ATTRIBUTES: u32 = 4;
    pub const CLOSE_WRITTEN: u32 = 8;
    pub const CLOSE: u32 = 0x10;
    pub const OPEN: u32 = 0x20;
    pub const MOVED_FROM: u32 = 0x40;
    pub const MOVED_TO: u32 = 0x80;
    pub const CREATE: u32 = 0x100;
    pub const DELETE: u32 = 0x200;
    pub const DELETE_SELF: u32 = 0x400;
    pub const MOVE_SELF: u32 = 0x800;
    /// All that can be watched for.
    pub const ALL: u32 = 0xfff;
    /// What comes by itself: the file system is gone, events were lost, the watch is gone.
    pub const UNMOUNT: u32 = 0x2000;
    pub const OVERFLOW: u32 = 0x4000;
    pub const IGNORED: u32 = 0x8000;
    /// How to watch.
    pub const ONLY_DIRECTORY: u32 = 0x0100_0000;
    pub const DO_NOT_FOLLOW: u32 = 0x0200_0000;
    pub const EXCLUDE_UNLINKED: u32 = 0x0400_0000;
    pub const MASK_CREATE: u32 = 0x1000_0000;
    pub const MASK_ADD: u32 = 0x2000_0000;
    pub const IS_DIRECTORY: u32 = 0x4000_0000;
    pub const ONE_SHOT: u32 = 0x8000_0000;
}

/// Most events that wait to be read, and most watches (`/proc/sys/fs/inotify`).
pub const MOST_EVENTS: usize = 16_384;
pub const MOST_WATCHES: usize = 65_536;
const FIONREAD: u32 = 0x541b;
/// Bytes of a `struct inotify_event` without its name.
const HEAD: usize = 16;

/// An inode, by file system and number.
type Key = (u64, u64);

/// All watches of the container.
static WATCHES: Mutex<BTreeMap<Key, Vec<Listed>>> = Mutex::new(BTreeMap::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// What two events of one rename have in common.
static COOKIE: AtomicU32 = AtomicU32::new(0);

struct Listed {
    watcher: Weak<Inotify>,
    number: i32,
}

/// An instance.
pub struct Inotify {
    state: Mutex<State>,
    queue: WaitQueue,
    me: Weak<Inotify>,
}

#[derive(Default)]
struct State {
    watches: BTreeMap<i32, (Key, u32)>,
    last: i32,
    events: VecDeque<Event>,
}

#[derive(PartialEq, Eq, Clone)]
struct Event {
    watch: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Event {
    /// As it is read: the name ends with zeroes up to a multiple of the head's size.
    fn to_bytes(&self) -> Vec<u8> {
        let length = if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(HEAD) };
        let mut bytes = Vec::with_capacity(HEAD + length);
        bytes.extend(self.watch.to_ne_bytes());
        bytes.extend(self.mask.to_ne_bytes());
        bytes.extend(self.cookie.to_ne_bytes());
        bytes.extend((length as u32).to_ne_bytes());
        bytes.extend(&self.name);
        bytes.resize(HEAD + length, 0);
        bytes
    }
}

/// Whether anybody watches anything.
#[inline]
pub fn is_any() -> bool {
    COUNT.load(Ordering::Relaxed) != 0
}

fn key(attributes: &Attributes) -> Key {
    (attributes.device, attributes.number)
}

impl Inotify {
    /// One that watches nothing yet.
    pub fn new() -> Arc<Inotify> {
        Arc::new_cyclic(|me| Inotify { state: Mutex::new(State::default()), queue: WaitQueue::new(), me: me.clone() })
    }

    /// Watches an inode, or changes how; answers the watch's number.
    ///
    /// # Errors
    /// `EEXIST` if only a new watch is wanted; `ENOSPC` if there are too many.
    pub fn watch(&self, inode: &Arc<dyn Inode>, mask: u32) -> Result<i32> {
        let key = key(&inode.attributes()?);
        let kept = mask & (event::ALL | event::EXCLUDE_UNLINKED | event::ONE_SHOT);
        let mut watches = WATCHES.lock();
        let mut state = self.state.lock();
        if let Some((number, (_, old))) = state.watches.iter_mut().find(|(_, watch)| watch.0 == key) {
            if mask & event::MASK_CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            *old = if mask & event::MASK_ADD != 0 { *old | kept } else { kept };
            return Ok(*number);
        }
        if COUNT.load(Ordering::Relaxed) >= MOST_WATCHES {
            return Err(Errno::ENOSPC);
        }
        state.last = state.last.checked_add(1).ok_or(Errno::ENOSPC)?;
        let number = state.last;
        state.watches.insert(number, (key, kept));
        watches.entry(key).or_default().push(Listed { watcher: self.me.clone(), number });
        COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(number)
    }

    /// Watches no more.
    pub fn forget(&self, number: i32) -> Result<()> {
        let mut watches = WATCHES.lock();
        let mut state = self.state.lock();
        let (key, _) = state.watches.remove(&number).ok_or(Errno::EINVAL)?;
        state.add(Event { watch: number, mask: event::IGNORED, cookie: 0, name: Vec::new() });
        drop(state);
        unlist(&mut watches, key, &self.me, number);
        drop(watches);
        self.queue.wake_all();
        Ok(())
    }

    /// Something happened to what the watch `number` watches. Whether the watch stays.
    fn take(&self, number: i32, mask: u32, cookie: u32, name: &[u8], is_unlinked: bool) -> bool {
        let mut state = self.state.lock();
        let Some((_, wanted)) = state.watches.get(&number).copied() else { return false };
        let excluded = is_unlinked && wanted & event::EXCLUDE_UNLINKED != 0 && !name.is_empty();
        if mask & wanted & event::ALL == 0 && mask & event::UNMOUNT == 0 || excluded {
            return true;
        }
        state.add(Event { watch: number, mask, cookie, name: name.to_vec() });
        let stays = wanted & event::ONE_SHOT == 0;
        if !stays {
            state.watches.remove(&number);
            state.add(Event { watch: number, mask: event::IGNORED, cookie: 0, name: Vec::new() });
        }
        drop(state);
        self.queue.wake_all();
        stays
    }
}

impl State {
    fn add(&mut self, event: Event) {
        // An event that repeats the last one that was not read is not added.
        if self.events.back() == Some(&event) {
            return;
        }
        if self.events.len() >= MOST_EVENTS {
            let lost = Event { watch: -1, mask: event::OVERFLOW, cookie: 0, name: Vec::new() };
            if self.events.back() != Some(&lost) {
                self.events.push_back(lost);
            }
            return;
        }
        self.events.push_back(event);
    }
}

fn unlist(watches: &mut BTreeMap<Key, Vec<Listed>>, key: Key, watcher: &Weak<Inotify>, number: i32) {
    let Some(listed) = watches.get_mut(&key) else { return };
    let before = listed.len();
    listed.retain(|one| !(one.number == number && one.watcher.ptr_eq(watcher)));
    COUNT.fetch_sub(before - listed.len(), Ordering::Relaxed);
    if listed.is_empty() {
        watches.remove(&key);
    }
}

/// Tells those who watch the inode `key`.
fn tell_key(key: Key, mask: u32, cookie: u32, name: &[u8], is_unlinked: bool) {
    let mut watches = WATCHES.lock();
    let Some(listed) = watches.get_mut(&key) else { return };
    let before = listed.len();
    listed.retain(|one| {
        let watcher = one.watcher.upgrade();
        watcher.is_some_and(|watcher| watcher.take(one.number, mask, cookie, name, is_unlinked))
    });
    COUNT.fetch_sub(before - listed.len(), Ordering::Relaxed);
    if listed.is_empty() {
        watches.remove(&key);
    }
}

/// Something happened to what is at a place: those who watch it are told, and those who watch its directory, with its name.
pub fn tell(place: &Place, mask: u32) {
    if !is_any() {
        return;
    }
    let Ok(attributes) = place.inode.attributes() else { return };
    let mask = if attributes.kind == Kind::Directory { mask | event::IS_DIRECTORY } else { mask };
    if let Some(parent) = &place.parent
        && let Ok(above) = parent.inode.attributes()
    {
        tell_key(key(&above), mask, 0, &place.name, attributes.links == 0);
    }
    tell_key(key(&attributes), mask, 0, &[], false);
}

/// Something happened to a name of a directory.
pub fn tell_name(directory: &Place, name: &[u8], kind: Kind, mask: u32) {
    if is_any()
        && let Ok(attributes) = directory.inode.attributes()
    {
        let mask = if kind == Kind::Directory { mask | event::IS_DIRECTORY } else { mask };
        tell_key(key(&attributes), mask, 0, name, false);
    }
}

/// Something happened to an inode itself, whatever its name.
pub fn tell_inode(inode: &Arc<dyn Inode>, mask: u32) {
    if is_any()
        && let Ok(attributes) = inode.attributes()
    {
        tell_key(key(&attributes), mask, 0, &[], false);
    }
}

/// `moved` has another name, maybe in another directory.
pub fn tell_moved(from: (&Place, &[u8]), to: (&Place, &[u8]), moved: &Arc<dyn Inode>) {
    if !is_any() {
        return;
    }
    let Ok(attributes) = moved.attributes() else { return };
    let directory = if attributes.kind == Kind::Directory { event::IS_DIRECTORY } else { 0 };
    let cookie = COOKIE.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
    for ((place, name), mask) in [(from, event::MOVED_FROM), (to, event::MOVED_TO)] {
        if let Ok(above) = place.inode.attributes() {
            tell_key(key(&above), mask | directory, cookie, name, false);
        }
    }
    tell_key(key(&attributes), event::MOVE_SELF, 0, &[], false);
}

/// An inode is no more; with it go its watches.
pub fn gone(device: u64, number: u64, mask: u32) {
    if !is_any() {
        return;
    }
    tell_key((device, number), mask, 0, &[], false);
    let Some(listed) = WATCHES.lock().remove(&(device, number)) else { return };
    COUNT.fetch_sub(listed.len(), Ordering::Relaxed);
    for one in listed {
        let Some(watcher) = one.watcher.upgrade() else { continue };
        let mut state = watcher.state.lock();
        state.watches.remove(&one.number);
        state.add(Event { watch: one.number, mask: event::IGNORED, cookie: 0, name: Vec::new() });
        drop(state);
        watcher.queue.wake_all();
    }
}

impl OpenFile for Inotify {
    fn information(&self) -> String {
        let state = self.state.lock();
        let line = |(number, ((device, inode), mask)): (&i32, &(Key, u32))| {
            format!("inotify wd:{number} ino:{inode:x} sdev:{device:x} mask:{mask:x} ignored_mask:0\n")
        };
        state.watches.iter().map(line).collect()
    }

    fn read(&self, _at: u64, to: &mut dyn Sink) -> Result<usize> {
        let mut state = self.state.lock();
        let mut done = 0;
        while let Some(event) = state.events.front() {
            let bytes = event.to_bytes();
            if bytes.len() > to.room() {
                return if done > 0 { Ok(done) } else { Err(Errno::EINVAL) };
            }
            done += to.put(&bytes)?;
            state.events.pop_front();
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn ready(&self) -> u32 {
        if self.state.lock().events.is_empty() { 0 } else { ready::IN }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn control(&self, context: &mut Context, request: u32, argument: u64) -> Result<u64> {
        if request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize = self.state.lock().events.iter().map(|event| event.to_bytes().len()).sum();
        context.write_u32(argument, bytes as u32).map(|()| 0)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::anonymous(Kind::Regular, 0o600, 0))
    }

    fn label(&self) -> String {
        String::from("anon_inode:inotify")
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let own = core::mem::take(&mut self.state.lock().watches);
        if own.is_empty() {
            return;
        }
        let mut watches = WATCHES.lock();
        for (number, (key, _)) in own {
            unlist(&mut watches, key, &self.me, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_padded_and_a_repeated_event_is_told_once() {
        let mut state = State::default();
        let event = Event { watch: 1, mask: event::MODIFY, cookie: 0, name: b"a".to_vec() };
        state.add(event.clone());
        state.add(event.clone());
        assert_eq!(state.events.len(), 1);
        let bytes = event.to_bytes();
        assert_eq!((bytes.len(), &bytes[12..18]), (32, &[16, 0, 0, 0, b'a', 0][..]));
        assert_eq!(Event { name: Vec::new(), ..event }.to_bytes().len(), HEAD);
    }

    #[test]
    fn too_many_events_are_one_overflow() {
        let mut state = State::default();
        for watch in 0..MOST_EVENTS as i32 + 5 {
            state.add(Event { watch, mask: event::OPEN, cookie: 0, name: Vec::new() });
        }
        assert_eq!(state.events.len(), MOST_EVENTS + 1);
        assert_eq!(state.events.back().map(|event| (event.watch, event.mask)), Some((-1, event::OVERFLOW)));
    }
}
