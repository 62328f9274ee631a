//! A tree in memory, over a read-only root image: the root file system of a container, and with no image below, tmpfs.
//!
//! What the image holds is seen as it is; a node is made for it when it is first looked up, and its content is copied when it is
//! first written. Names that were removed stand in the node of their directory as removed.

mod content;
mod names;

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_rootfs::{Image, NodeNumber};
use tessera_runtime::object::Vmo;
use tessera_runtime::sync::Mutex;

use super::path::known;
use super::{Attributes, Change, Creation, Entry, Inode, Kind, Owner, Rename, Statistics, Time, concrete, seal};
use crate::errno::{Errno, Result};
use crate::file::transfer::{Sink, Source, copy_out, put_all, through_buffer};
use crate::file::{OpenFile, inotify};
use crate::memory::{Memory, PAGE};
use crate::task::Context;

/// `st_dev` of memory files, which can be sealed.
pub const MEMORY_DEVICE: u64 = 0x17;
/// The longest target of a link.
const LONGEST_TARGET: usize = 4095;
/// Files up to this size are kept as bytes until they are mapped.
const SMALL: u64 = 64 << 10;
/// The same when the heap is half used.
const SMALLER: u64 = 1 << 10;
/// The largest file.
const LARGEST: u64 = 1 << 38;

/// What opening a device node, a fifo or a socket gives.
pub type Devices = fn(&Context, &Arc<Node>, u32) -> Result<Option<Arc<dyn OpenFile>>>;

/// A file system.
pub struct Ram {
    device: u64,
    image: Option<Image<'static>>,
    /// The memory in which the image lies, and where in it.
    image_memory: Option<(Vmo, u64)>,
    next: AtomicU64,
    /// Nodes of the image that have several names.
    several: Mutex<BTreeMap<u64, Weak<Node>>>,
    /// One rename at a time: no directory may end up below itself.
    renaming: Mutex<()>,
    /// What opening a device node or fifo gives.
    devices: Devices,
}

impl Ram {
    /// A file system with this `st_dev`, over an image if there is one; answers its root.
    pub fn root(device: u64, image: Option<Image<'static>>, devices: Devices) -> Result<Arc<Node>> {
        Self::root_in(device, image, None, devices)
    }

    /// The same over an image that lies in memory from a place on, from where its files are mapped.
    pub fn root_in(
        device: u64,
        image: Option<Image<'static>>,
        image_memory: Option<(Vmo, u64)>,
        devices: Devices,
    ) -> Result<Arc<Node>> {
        let first_new = image.as_ref().map_or(2, |image| image.length() + 2);
        let root = image.as_ref().map(|image| image.root());
        let ram = Arc::new(Ram {
            device,
            image,
            image_memory,
            next: AtomicU64::new(first_new),
            several: Mutex::new(BTreeMap::new()),
            renaming: Mutex::new(()),
            devices,
        });
        match root {
            Some(number) => ram.node_of_image(number),
            None => {
                let creation = Creation {
                    kind: Kind::Directory,
                    permissions: 0o755,
                    owner: Owner { uid: 0, gid: 0 },
                    names_device: 0,
                    time: 0,
                };
                Ok(ram.node(&creation, Content::Directory(Directory::default())))
            }
        }
    }

    fn node(self: &Arc<Self>, creation: &Creation, content: Content) -> Arc<Node> {
        let links = if creation.kind == Kind::Directory { 2 } else { 1 };
        Arc::new(Node {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            kind: creation.kind,
            names_device: creation.names_device,
            system: self.clone(),
            state: Mutex::new(State {
                permissions: creation.permissions & 0o7777,
                owner: creation.owner,
                links,
                accessed: creation.time,
                modified: creation.time,
                changed: creation.time,
                content,
                extended: BTreeMap::new(),
                seals: None,
            }),
            pipe: Mutex::new(None),
        })
    }

    fn node_of_image(self: &Arc<Self>, number: NodeNumber) -> Result<Arc<Node>> {
        let image = self.image.as_ref().ok_or(Errno::EIO)?;
        let inode = image.inode(number).map_err(|_| Errno::EIO)?;
        let kind = Kind::of_mode(inode.mode.into())?;
        let several = inode.links > 1 && kind != Kind::Directory;
        if several && let Some(node) = self.several.lock().get(&number.0).and_then(Weak::upgrade) {
            return Ok(node);
        }
        let content = match kind {
            Kind::Directory => Content::Directory(Directory { below: Some(number), names: BTreeMap::new(), order: 0 }),
            Kind::Regular => Content::Image(number, inode.size),
            Kind::Link => Content::Link(image.link_target(&inode).map_err(|_| Errno::EIO)?.to_vec()),
            _ => Content::Nothing,
        };
        let time = (inode.mtime as i64).saturating_mul(1_000_000_000).saturating_add(inode.mtime_nanoseconds.into());
        let device = inode.device().map_or(0, |(major, minor)| make_device(major, minor));
        let mut extended = BTreeMap::new();
        if let Ok(attributes) = image.attributes(&inode) {
            for attribute in attributes.flatten() {
                let name = [attribute.prefix, attribute.name].concat();
                extended.insert(name, attribute.value.to_vec());
            }
        }
        let node = Arc::new(Node {
            number: number.0 + 1,
            kind,
            names_device: device,
            system: self.clone(),
            state: Mutex::new(State {
                permissions: u32::from(inode.mode) & 0o7777,
                owner: Owner { uid: inode.uid, gid: inode.gid },
                links: inode.links.max(1),
                accessed: time,
                modified: time,
                changed: time,
                content,
                extended,
                seals: None,
            }),
            pipe: Mutex::new(None),
        });
        if several {
            self.several.lock().insert(number.0, Arc::downgrade(&node));
        }
        Ok(node)
    }
}

/// The number of a device (`makedev(3)`).
pub fn make_device(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & 0xfff) << 8 | (major >> 12) << 32 | minor & 0xff | (minor >> 8) << 12
}

/// An inode of a [`Ram`].
pub struct Node {
    number: u64,
    kind: Kind,
    pub names_device: u64,
    system: Arc<Ram>,
    state: Mutex<State>,
    /// What the openers of a fifo or a bound socket share.
    pub pipe: Mutex<Option<Arc<dyn core::any::Any + Send + Sync>>>,
}

struct State {
    permissions: u32,
    owner: Owner,
    links: u32,
    accessed: Time,
    modified: Time,
    changed: Time,
    content: Content,
    extended: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The seals of a memory file.
    seals: Option<u32>,
}

enum Content {
    Nothing,
    Directory(Directory),
    Link(Vec<u8>),
    /// As the image has it: node, size.
    Image(NodeNumber, u64),
    Bytes(Vec<u8>),
    Pages(Arc<Memory>, u64),
}

#[derive(Default)]
struct Directory {
    /// The image's directory below.
    below: Option<NodeNumber>,
    /// What was looked up, made or removed (`None`).
    names: BTreeMap<Vec<u8>, Option<Arc<Node>>>,
    /// Counts changes.
    order: u64,
}

impl State {
    fn size(&self) -> u64 {
        match &self.content {
            Content::Nothing => 0,
            Content::Directory(_) => 4096,
            Content::Link(target) => target.len() as u64,
            Content::Image(_, size) | Content::Pages(_, size) => *size,
            Content::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Whether one of these seals is on it.
    fn is_sealed(&self, seals: u32) -> bool {
        self.seals.is_some_and(|own| own & seals != 0)
    }

    fn touch(&mut self, time: Time) {
        (self.modified, self.changed) = (time, time);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.state.get_mut().links == 0 {
            inotify::gone(self.system.device, self.number, inotify::event::DELETE_SELF);
        }
    }
}

impl Inode for Node {
    fn attributes(&self) -> Result<Attributes> {
        let state = self.state.lock();
        let size = state.size();
        Ok(Attributes {
            kind: self.kind,
            permissions: state.permissions,
            uid: state.owner.uid,
            gid: state.owner.gid,
            size,
            links: state.links,
            number: self.number,
            device: self.system.device,
            names_device: self.names_device,
            blocks: if self.kind == Kind::Regular { size.div_ceil(PAGE) * 8 } else { 0 },
            block_size: PAGE as u32,
            accessed: state.accessed,
            modified: state.modified,
            changed: state.changed,
        })
    }

    fn change(&self, change: &Change) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(size) = change.size {
            self.resize(&mut state, size)?;
        }
        if let Some(permissions) = change.permissions {
            state.permissions = permissions & 0o7777;
        }
        if change.permissions.is_some() || change.uid.is_some() || change.gid.is_some() {
            known::changed();
        }
        state.owner.uid = change.uid.unwrap_or(state.owner.uid);
        state.owner.gid = change.gid.unwrap_or(state.owner.gid);
        state.accessed = change.accessed.unwrap_or(state.accessed);
        state.modified = change.modified.unwrap_or(state.modified);
        state.changed = change.changed.unwrap_or(state.changed);
        Ok(())
    }

    fn is_steady(&self) -> bool {
        true
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        match self.find(&mut self.state.lock(), name)? {
            Some(node) => Ok(node),
            None => Err(Errno::ENOENT),
        }
    }

    fn create(&self, name: &[u8], creation: &Creation) -> Result<Arc<dyn Inode>> {
        let content = match creation.kind {
            Kind::Directory => Content::Directory(Directory::default()),
            Kind::Regular => Content::Bytes(Vec::new()),
            Kind::Link => return Err(Errno::EINVAL),
            _ => Content::Nothing,
        };
        let node = self.system.node(creation, content);
        self.add(name, node.clone(), creation.time)?;
        Ok(node)
    }

    fn create_unnamed(&self, creation: &Creation) -> Result<Arc<dyn Inode>> {
        let node = self.system.node(creation, Content::Bytes(Vec::new()));
        node.state.lock().links = 0;
        Ok(node)
    }

    fn symlink(&self, name: &[u8], target: &[u8], creation: &Creation) -> Result<Arc<dyn Inode>> {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.len() > LONGEST_TARGET {
            return Err(Errno::ENAMETOOLONG);
        }
        let creation = Creation { kind: Kind::Link, permissions: 0o777, ..*creation };
        let node = self.system.node(&creation, Content::Link(target.to_vec()));
        self.add(name, node.clone(), creation.time)?;
        Ok(node)
    }

    fn link(&self, name: &[u8], to: &Arc<dyn Inode>, time: Time) -> Result<()> {
        let node = concrete::<Node>(to).filter(|node| Arc::ptr_eq(&node.system, &self.system)).ok_or(Errno::EXDEV)?;
        if node.kind == Kind::Directory {
            return Err(Errno::EPERM);
        }
        self.add(name, node.clone(), time)?;
        let mut state = node.state.lock();
        state.links += 1;
        state.changed = time;
        Ok(())
    }

    fn unlink(&self, name: &[u8], directory: bool, time: Time) -> Result<()> {
        let _guard = self.system.renaming.lock();
        let node = self.find(&mut self.state.lock(), name)?.ok_or(Errno::ENOENT)?;
        if directory {
            if node.kind != Kind::Directory {
                return Err(Errno::ENOTDIR);
            }
            if !node.is_empty()? {
                return Err(Errno::ENOTEMPTY);
            }
        } else if node.kind == Kind::Directory {
            return Err(Errno::EISDIR);
        }
        self.remove_name(name, &node, time)
    }

    fn rename(&self, name: &[u8], into: &Arc<dyn Inode>, new_name: &[u8], how: Rename, time: Time) -> Result<()> {
        let into = concrete::<Node>(into).filter(|node| Arc::ptr_eq(&node.system, &self.system)).ok_or(Errno::EXDEV)?;
        let _guard = self.system.renaming.lock();
        let node = self.find(&mut self.state.lock(), name)?.ok_or(Errno::ENOENT)?;
        let target = into.find(&mut into.state.lock(), new_name)?;
        if node.kind == Kind::Directory && node.holds(&into) {
            return Err(Errno::EINVAL);
        }
        match (&target, how) {
            (None, Rename::Exchange) => return Err(Errno::ENOENT),
            (Some(_), Rename::NoReplace) => return Err(Errno::EEXIST),
            (Some(target), Rename::Exchange) => {
                if target.kind == Kind::Directory && target.holds(self) {
                    return Err(Errno::EINVAL);
                }
                self.set_name(name, Some(target.clone()), time)?;
                into.set_name(new_name, Some(node.clone()), time)?;
                node.state.lock().changed = time;
                target.state.lock().changed = time;
                return Ok(());
            }
            (Some(target), Rename::Replace) => {
                if Arc::ptr_eq(target, &node) {
                    return Ok(());
                }
                match (node.kind == Kind::Directory, target.kind == Kind::Directory) {
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    (true, true) if !target.is_empty()? => return Err(Errno::ENOTEMPTY),
                    _ => {}
                }
                into.remove_name(new_name, target, time)?;
            }
            (None, _) => {}
        }
        self.set_name(name, None, time)?;
        into.set_name(new_name, Some(node.clone()), time)?;
        if node.kind == Kind::Directory && !core::ptr::eq(self, &*into) {
            let mut state = self.state.lock();
            state.links = state.links.saturating_sub(1);
            drop(state);
            into.state.lock().links += 1;
        }
        node.state.lock().changed = time;
        Ok(())
    }

    fn entries(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        let names = match &self.state.lock().content {
            Content::Directory(directory) => self.names(directory)?,
            _ => return Err(Errno::ENOTDIR),
        };
        for (index, (name, (number, kind))) in names.iter().enumerate().skip(from as usize) {
            if !each(Entry { name, number: *number, kind: *kind, next: index as u64 + 1 }) {
                break;
            }
        }
        Ok(())
    }

    fn target(&self) -> Result<Vec<u8>> {
        match &self.state.lock().content {
            Content::Link(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn read_at(&self, at: u64, to: &mut dyn Sink) -> Result<usize> {
        let state = self.state.lock();
        let left = state.size().saturating_sub(at);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(to.room());
        match &state.content {
            Content::Directory(_) => Err(Errno::EISDIR),
            Content::Bytes(bytes) => {
                let bytes = bytes.get(at as usize..).unwrap_or_default();
                to.put(bytes.get(..length).unwrap_or_default())
            }
            Content::Pages(memory, _) => {
                let memory = memory.clone();
                drop(state);
                copy_out(to, length, |done, into| Ok(memory.vmo().read(at + done as u64, into).unwrap_or(0)))
            }
            Content::Image(number, _) => {
                let number = *number;
                drop(state);
                let image = self.system.image.as_ref().ok_or(Errno::EIO)?;
                let inode = image.inode(number).map_err(|_| Errno::EIO)?;
                // Straight from the image, which is mapped.
                put_all(to, image.contents(&inode, at).map_err(|_| Errno::EIO)?)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn write_at(&self, at: u64, from: &mut dyn Source) -> Result<usize> {
        through_buffer(from.left(), |buffer| self.write_through(buffer, at, from))
    }

    fn memory(&self) -> Result<Arc<Memory>> {
        let mut state = self.state.lock();
        let content = match &state.content {
            Content::Image(number, length) => self.content_of(*number, *length, true)?,
            Content::Bytes(bytes) => {
                let memory = Memory::new((bytes.len() as u64).max(1).next_multiple_of(PAGE))?;
                memory.vmo().write(0, bytes)?;
                Content::Pages(memory, bytes.len() as u64)
            }
            Content::Pages(memory, _) => return Ok(memory.clone()),
            _ => return Err(Errno::ENODEV),
        };
        state.content = content;
        match &state.content {
            Content::Pages(memory, _) => Ok(memory.clone()),
            _ => Err(Errno::ENODEV),
        }
    }

    fn lies_in(&self) -> Result<Option<(Arc<Memory>, u64)>> {
        let state = self.state.lock();
        let (Content::Image(number, _), Some((vmo, start))) = (&state.content, &self.system.image_memory) else {
            return Ok(None);
        };
        let image = self.system.image.as_ref().ok_or(Errno::EIO)?;
        let inode = image.inode(*number).map_err(|_| Errno::EIO)?;
        let Some(extent) = image.data_extent(&inode).map_err(|_| Errno::EIO)? else { return Ok(None) };
        let (first, end) = (start.saturating_add(extent.start), start.saturating_add(extent.end));
        if !first.is_multiple_of(PAGE) || extent.is_empty() {
            return Ok(None);
        }
        // The rest of the last page is zeroes.
        Ok(Some((Memory::part_of(vmo, end.next_multiple_of(PAGE))?, first)))
    }

    fn punch(&self, start: u64, end: u64) -> Result<()> {
        let mut state = self.state.lock();
        if state.is_sealed(seal::WRITE | seal::FUTURE_WRITE) {
            return Err(Errno::EPERM);
        }
        let end = end.min(state.size());
        if start >= end {
            return Ok(());
        }
        match self.writable(&mut state, 0)? {
            Content::Bytes(bytes) => {
                if let Some(part) = bytes.get_mut(start as usize..end as usize) {
                    part.fill(0);
                }
            }
            Content::Pages(memory, _) => {
                let (first, last) = (start.next_multiple_of(PAGE), end & !(PAGE - 1));
                if first < last {
                    memory.vmo().discard(first, last - first)?;
                }
                let zeroes = [0; PAGE as usize];
                let edges = if first < last { [(start, first), (last, end)] } else { [(start, end), (end, end)] };
                for (from, to) in edges {
                    let mut at = from;
                    while at < to {
                        let part = zeroes.get(..(to - at).min(PAGE) as usize).unwrap_or_default();
                        memory.vmo().write(at, part)?;
                        at += part.len() as u64;
                    }
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn seals(&self) -> Option<u32> {
        self.state.lock().seals
    }

    fn seal(&self, seals: u32) -> Result<()> {
        let mut state = self.state.lock();
        let own = match state.seals {
            None if self.system.device != MEMORY_DEVICE => return Err(Errno::EINVAL),
            own => own.unwrap_or(0),
        };
        if own & seal::SEAL != 0 {
            return Err(Errno::EPERM);
        }
        // Somebody has its pages mapped, and could write.
        let is_mapped = matches!(&state.content, Content::Pages(memory, _) if Arc::strong_count(memory) > 1);
        if seals & !own & seal::WRITE != 0 && is_mapped {
            return Err(Errno::EBUSY);
        }
        state.seals = Some(own | seals);
        Ok(())
    }

    fn open(self: Arc<Self>, context: &Context, flags: u32) -> Result<Option<Arc<dyn OpenFile>>> {
        match self.kind {
            Kind::Regular | Kind::Directory | Kind::Link => Ok(None),
            _ => (self.system.devices)(context, &self, flags),
        }
    }

    fn attribute(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.state.lock().extended.get(name).cloned().ok_or(Errno::ENODATA)
    }

    fn set_attribute(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        let mut state = self.state.lock();
        match (flags, state.extended.contains_key(name)) {
            (1, true) => Err(Errno::EEXIST),
            (2, false) => Err(Errno::ENODATA),
            _ => {
                state.extended.insert(name.to_vec(), value.to_vec());
                Ok(())
            }
        }
    }

    fn remove_attribute(&self, name: &[u8]) -> Result<()> {
        self.state.lock().extended.remove(name).map(|_| ()).ok_or(Errno::ENODATA)
    }

    fn attribute_names(&self) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        for name in self.state.lock().extended.keys() {
            names.extend_from_slice(name);
            names.push(0);
        }
        Ok(names)
    }

    fn statistics(&self) -> Result<Statistics> {
        let usage = tessera_runtime::own::pool().usage(0)?;
        Ok(Statistics {
            magic: 0x0102_1994,
            block_size: PAGE,
            blocks: usage.quota,
            free: usage.quota.saturating_sub(usage.used),
            files: 1 << 20,
            files_free: 1 << 19,
            name_length: 255,
        })
    }
}
