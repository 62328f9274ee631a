//! `/proc`: proc(5). What is shown is made when it is read from the start; who goes on where the last read ended sees the rest of it.
//!
//! [`system`] has the files of the whole container, [`process`] those of one process, [`sysfs`] those of `/sys`. A number in a path that is no process's any
//! more gives `ENOENT`, or `ESRCH` from a file that was open.

mod network;
mod process;
mod sysfs;
mod system;

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Attributes, Entry, Inode, Kind, Place, Statistics};
use crate::errno::{Errno, Result};
use crate::file::{Sink, Source};
use crate::memory::reserve;
use crate::task::{Context, Process, System};
use tessera_runtime::sync::Mutex;

/// `st_dev` of /proc, and what `statfs` calls it.
pub const DEVICE: u64 = 0x14;
const MAGIC: u64 = 0x9fa0;
/// The same of /sys.
const SYS_DEVICE: u64 = 0x19;
const SYS_MAGIC: u64 = 0x6265_6572;

/// A file that is always there.
enum Fixed {
    File(&'static str, fn(&System) -> Vec<u8>),
    /// What Linux lets an administrator set: shown, and as in other containers not to be changed.
    Setting(&'static str, &'static str),
    Directory(&'static str, &'static [Fixed]),
    Link(&'static str, &'static str),
    /// A directory that some containers have.
    Optional(&'static str, fn(&System) -> bool, &'static [Fixed]),
}

impl Fixed {
    fn name(&self) -> &'static str {
        match self {
            Fixed::File(name, _) | Fixed::Setting(name, _) | Fixed::Directory(name, _) | Fixed::Link(name, _) => name,
            Fixed::Optional(name, ..) => name,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Fixed::File(..) | Fixed::Setting(..) => Kind::Regular,
            Fixed::Directory(..) | Fixed::Optional(..) => Kind::Directory,
            Fixed::Link(..) => Kind::Link,
        }
    }
}

/// An object of /proc.
struct ProcInode {
    system: Arc<System>,
    /// `st_dev`: of /proc, or of /sys.
    device: u64,
    node: Node,
    rest: Mutex<Option<Rest>>,
}

/// What was made for a reader that has not come to its end, and where it stopped.
struct Rest {
    at: u64,
    content: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Node {
    Root,
    Fixed(&'static Fixed),
    /// `self` and `thread-self`.
    Own {
        thread: bool,
    },
    /// A process's directory, or one of its threads'.
    Process(i32, Option<i32>),
    Tasks(i32),
    /// A file of a process or thread.
    File(i32, Option<i32>, &'static process::File),
    /// `exe`, `cwd`, `root`.
    Place(i32, process::Which),
    Descriptors {
        process: i32,
        information: bool,
    },
    Descriptor(i32, i32),
    DescriptorInformation(i32, i32),
    Namespaces(i32),
    Namespace(i32, usize),
    /// What such a link leads to.
    NamespaceFile(u64),
}

/// The root of /proc.
pub fn root(system: Arc<System>) -> Arc<dyn Inode> {
    Arc::new(ProcInode::new(system, DEVICE, Node::Root))
}

/// The root of /sys.
pub fn sys_root(system: Arc<System>) -> Arc<dyn Inode> {
    Arc::new(ProcInode::new(system, SYS_DEVICE, Node::Fixed(sysfs::ROOT)))
}

/// The process whose directory in /proc this is.
pub fn process_of(inode: &Arc<dyn Inode>) -> Option<Arc<Process>> {
    let inode = super::concrete::<ProcInode>(inode)?;
    match inode.node {
        Node::Process(number, None) => inode.system.process(number),
        _ => None,
    }
}

/// The namespaces of processes: names in `/proc/PID/ns`, kinds, and the numbers of the first ones in Linux. A container has no others.
const NAMESPACES: [(&str, &str, u64); 10] = [
    ("cgroup", "cgroup", 0xefff_fffb),
    ("ipc", "ipc", 0xefff_ffff),
    ("mnt", "mnt", 0xefff_fff8),
    ("net", "net", 0xefff_fff9),
    ("pid", "pid", 0xefff_fffc),
    ("pid_for_children", "pid", 0xefff_fffc),
    ("time", "time", 0xefff_fffa),
    ("time_for_children", "time", 0xefff_fffa),
    ("user", "user", 0xefff_fffd),
    ("uts", "uts", 0xefff_fffe),
];

fn number(name: &[u8]) -> Option<i32> {
    let is_plain = name.iter().all(u8::is_ascii_digit) && (name.len() == 1 || name.first() != Some(&b'0'));
    core::str::from_utf8(name).ok().filter(|_| is_plain)?.parse().ok()
}

impl ProcInode {
    fn new(system: Arc<System>, device: u64, node: Node) -> ProcInode {
        ProcInode { system, device, node, rest: Mutex::new(None) }
    }

    fn at(&self, node: Node) -> Arc<dyn Inode> {
        Arc::new(ProcInode::new(self.system.clone(), self.device, node))
    }

    fn process(&self, number: i32) -> Result<Arc<Process>> {
        self.system.process(number).ok_or(Errno::ENOENT)
    }

    fn kind(&self) -> Kind {
        match self.node {
            Node::Root | Node::Process(..) | Node::Tasks(_) | Node::Descriptors { .. } | Node::Namespaces(_) => {
                Kind::Directory
            }
            Node::Own { .. } | Node::Place(..) | Node::Descriptor(..) | Node::Namespace(..) => Kind::Link,
            Node::File(..) | Node::DescriptorInformation(..) | Node::NamespaceFile(_) => Kind::Regular,
            Node::Fixed(fixed) => fixed.kind(),
        }
    }

    /// A number that differs from those of other objects of /proc.
    fn number(&self) -> u64 {
        let of = |process: i32, thread: Option<i32>, rest: u64| {
            let whose = (process as u64) << 22 | thread.unwrap_or(0) as u64;
            (1 << 63 | whose << 16) ^ rest
        };
        let name = |name: &str| {
            name.bytes().fold(0xcbf2_9ce4_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_01b3))
        };
        match self.node {
            Node::Root => 1,
            Node::Own { thread } => 2 + u64::from(thread),
            Node::Fixed(fixed) => {
                name(fixed.name()) & 0xffff_ffff | 1 << 32 | (core::ptr::from_ref(fixed).addr() as u64) << 33 >> 1
            }
            Node::Process(process, thread) => of(process, thread, 0),
            Node::Tasks(process) => of(process, None, 1),
            Node::File(process, thread, file) => of(process, thread, 0x100 + (name(file.name) & 0xfff)),
            Node::Place(process, which) => of(process, None, 2 + which as u64),
            Node::Descriptors { process, information } => of(process, None, 8 + u64::from(information)),
            Node::Descriptor(process, descriptor) => of(process, Some(descriptor), 0x2000),
            Node::DescriptorInformation(process, descriptor) => of(process, Some(descriptor), 0x3000),
            Node::Namespaces(process) => of(process, None, 10),
            Node::Namespace(process, index) => of(process, None, 0x4000 + index as u64),
            Node::NamespaceFile(number) => number,
        }
    }

    fn content(&self) -> Result<Vec<u8>> {
        match self.node {
            Node::Fixed(Fixed::File(_, content)) => Ok(content(&self.system)),
            Node::Fixed(Fixed::Setting(_, value)) => Ok(format!("{value}\n").into_bytes()),
            Node::File(number, thread, file) => {
                let process = self.system.process(number).ok_or(Errno::ESRCH)?;
                (file.content)(&self.system, &process, thread)
            }
            Node::DescriptorInformation(number, descriptor) => {
                process::descriptor_information(&*self.process(number)?, descriptor)
            }
            _ => Err(Errno::EISDIR),
        }
    }

    fn fixed_entries(&self, fixed: &'static [Fixed], each: &mut dyn FnMut(&[u8], Node)) {
        let is_there = |entry: &&Fixed| match entry {
            Fixed::Optional(_, is_there, _) => is_there(&self.system),
            _ => true,
        };
        for entry in fixed.iter().filter(is_there) {
            each(entry.name().as_bytes(), Node::Fixed(entry));
        }
    }

    /// Calls `each` with every name of a directory.
    fn each(&self, each: &mut dyn FnMut(&[u8], Node)) -> Result<()> {
        match self.node {
            Node::Root => {
                each(b"self", Node::Own { thread: false });
                each(b"thread-self", Node::Own { thread: true });
                self.fixed_entries(system::ROOT, each);
                for process in self.system.processes() {
                    each(format!("{}", process.number).as_bytes(), Node::Process(process.number, None));
                }
            }
            Node::Fixed(Fixed::Directory(_, below) | Fixed::Optional(_, _, below)) => self.fixed_entries(below, each),
            Node::Process(number, thread) => {
                self.process(number)?;
                for file in process::FILES {
                    each(file.name.as_bytes(), Node::File(number, thread, file));
                }
                for (name, which) in process::PLACES {
                    each(name.as_bytes(), Node::Place(number, which));
                }
                each(b"net", Node::Fixed(network::ROOT));
                each(b"ns", Node::Namespaces(number));
                each(b"fd", Node::Descriptors { process: number, information: false });
                each(b"fdinfo", Node::Descriptors { process: number, information: true });
                if thread.is_none() {
                    each(b"task", Node::Tasks(number));
                }
            }
            Node::Namespaces(number) => {
                for (index, (name, ..)) in NAMESPACES.iter().enumerate() {
                    each(name.as_bytes(), Node::Namespace(number, index));
                }
            }
            Node::Tasks(number) => {
                for task in self.process(number)?.threads.lock().iter() {
                    each(format!("{}", task.number()).as_bytes(), Node::Process(number, Some(task.number())));
                }
            }
            Node::Descriptors { process, information } => {
                let files = self.process(process)?.resources.lock().files.clone();
                for descriptor in files.map(|files| files.numbers()).unwrap_or_default() {
                    let node = if information {
                        Node::DescriptorInformation(process, descriptor)
                    } else {
                        Node::Descriptor(process, descriptor)
                    };
                    each(format!("{descriptor}").as_bytes(), node);
                }
            }
            _ => return Err(Errno::ENOTDIR),
        }
        Ok(())
    }
}

impl Inode for ProcInode {
    fn attributes(&self) -> Result<Attributes> {
        let owner = match self.node {
            Node::Process(number, _) | Node::File(number, ..) | Node::Place(number, _) | Node::Tasks(number) => {
                Some(number)
            }
            Node::Namespaces(number) | Node::Namespace(number, _) => Some(number),
            Node::Descriptors { process, .. } => Some(process),
            Node::Descriptor(process, _) | Node::DescriptorInformation(process, _) => Some(process),
            _ => None,
        };
        let (uid, gid) = match owner {
            Some(number) => {
                let who = self.process(number)?.credentials();
                (who.effective_user, who.effective_group)
            }
            None => (0, 0),
        };
        let permissions = match self.node {
            Node::File(_, _, file) => file.permissions,
            Node::Descriptors { .. } => 0o500,
            Node::Fixed(Fixed::Setting(..)) => 0o644,
            _ => match self.kind() {
                Kind::Directory => 0o555,
                Kind::Link => 0o777,
                _ => 0o444,
            },
        };
        let now = self.system.wall_now();
        Ok(Attributes {
            kind: self.kind(),
            permissions,
            uid,
            gid,
            size: 0,
            links: if self.kind() == Kind::Directory { 2 } else { 1 },
            number: self.number(),
            device: self.device,
            names_device: 0,
            blocks: 0,
            block_size: 1024,
            accessed: now,
            modified: now,
            changed: now,
        })
    }

    fn change(&self, _change: &super::Change) -> Result<()> {
        match self.node {
            // Truncation, when it is opened to be written.
            Node::Fixed(Fixed::Setting(..)) => Err(Errno::EROFS),
            Node::File(..) => Ok(()),
            _ => Err(Errno::EPERM),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        // Numbers are not searched for.
        let node = match (self.node, number(name)) {
            (Node::Root, Some(number)) => {
                let process = self.system.process(number).map(|process| Node::Process(process.number, None));
                let thread = || Some(Node::Process(self.system.task(number)?.process.number, Some(number)));
                process.or_else(thread)
            }
            (Node::Descriptors { process, information }, Some(descriptor)) => {
                let files = self.process(process)?.resources.lock().files.clone().ok_or(Errno::ENOENT)?;
                files.get(descriptor).map_err(|_| Errno::ENOENT)?;
                Some(if information {
                    Node::DescriptorInformation(process, descriptor)
                } else {
                    Node::Descriptor(process, descriptor)
                })
            }
            _ => {
                let mut found = None;
                self.each(&mut |entry, node| {
                    if entry == name {
                        found = Some(node);
                    }
                })?;
                found
            }
        };
        node.map(|node| self.at(node)).ok_or(Errno::ENOENT)
    }

    fn create(&self, _name: &[u8], _creation: &super::Creation) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOENT)
    }

    fn entries(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        let (mut position, mut goes_on) = (0, true);
        self.each(&mut |name, node| {
            // Descriptors keep their places when others are closed between two readings of the directory.
            position = match node {
                Node::Descriptor(_, descriptor) | Node::DescriptorInformation(_, descriptor) => descriptor as u64 + 1,
                _ => position + 1,
            };
            if position > from && goes_on {
                let inode = ProcInode::new(self.system.clone(), self.device, node);
                goes_on = each(Entry { name, number: inode.number(), kind: inode.kind(), next: position });
            }
        })
    }

    fn target(&self) -> Result<Vec<u8>> {
        match self.node {
            Node::Fixed(Fixed::Link(_, target)) => Ok(target.as_bytes().to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn target_for(&self, context: &Context) -> Result<Vec<u8>> {
        match self.node {
            Node::Own { thread: false } => Ok(format!("{}", context.process.number).into_bytes()),
            Node::Own { thread: true } => {
                Ok(format!("{}/task/{}", context.process.number, context.task.number()).into_bytes())
            }
            Node::Namespace(_, index) => {
                let (_, kind, number) = NAMESPACES.get(index).ok_or(Errno::ENOENT)?;
                Ok(format!("{kind}:[{number}]").into_bytes())
            }
            Node::Place(number, which) => {
                let place = process::place(&*self.process(number)?, which)?;
                Ok(place.path(&context.fs.root()))
            }
            Node::Descriptor(number, descriptor) => {
                let files = self.process(number)?.resources.lock().files.clone().ok_or(Errno::ENOENT)?;
                let description = files.get(descriptor).map_err(|_| Errno::ENOENT)?;
                Ok(match &description.place {
                    Some(place) => place.path(&context.fs.root()),
                    None => description.file.label().into_bytes(),
                })
            }
            _ => self.target(),
        }
    }

    fn jump(&self, context: &Context) -> Option<Result<Arc<Place>>> {
        let under = |names: &[&str], inode: Arc<dyn Inode>| {
            let mut place = context.fs.root();
            for name in names {
                place = Arc::new(Place { inode: inode.clone(), parent: Some(place), name: name.as_bytes().to_vec() });
            }
            Ok(place)
        };
        match self.node {
            Node::Own { thread } => {
                let process = context.process.number;
                let task = thread.then(|| context.task.number());
                let (process_name, inode) = (format!("{process}"), self.at(Node::Process(process, task)));
                Some(match task {
                    None => under(&["proc", &process_name], inode),
                    Some(task) => under(&["proc", &process_name, "task", &format!("{task}")], inode),
                })
            }
            Node::Namespace(_, index) => {
                let number = NAMESPACES.get(index).map(|known| known.2).ok_or(Errno::ENOENT);
                Some(number.map(|number| Place::root(self.at(Node::NamespaceFile(number)))))
            }
            Node::Place(number, which) => {
                Some(self.process(number).and_then(|process| process::place(&process, which)))
            }
            Node::Descriptor(number, descriptor) => Some((|| {
                let files = self.process(number)?.resources.lock().files.clone().ok_or(Errno::ENOENT)?;
                let description = files.get(descriptor).map_err(|_| Errno::ENOENT)?;
                match (&description.place, description.file.inode()) {
                    (Some(place), _) => Ok(place.clone()),
                    (None, Some(inode)) => Ok(Place::root(inode)),
                    (None, None) => Ok(Place::root(Arc::new(super::OpenInode(description.file.clone())))),
                }
            })()),
            _ => None,
        }
    }

    fn read_at(&self, at: u64, to: &mut dyn Sink) -> Result<usize> {
        let kept = self.rest.lock().take().filter(|rest| at != 0 && rest.at == at);
        let content = kept.map_or_else(|| self.content(), |rest| Ok(rest.content))?;
        let rest = usize::try_from(at).ok().and_then(|at| content.get(at..)).unwrap_or_default();
        let count = to.put(rest.get(..rest.len().min(to.room())).unwrap_or_default())?;
        if count != 0 && count < rest.len() && !reserve::is_half_used() {
            *self.rest.lock() = Some(Rest { at: at + count as u64, content });
        }
        Ok(count)
    }

    fn write_at(&self, _at: u64, from: &mut dyn Source) -> Result<usize> {
        let mut bytes = [0; 256];
        let length = from.left().min(bytes.len());
        let part = bytes.get_mut(..length).unwrap_or_default();
        let count = from.take(part)?;
        match self.node {
            Node::Fixed(Fixed::Setting(..)) => Err(Errno::EROFS),
            Node::File(number, thread, file) => {
                let process = self.system.process(number).ok_or(Errno::ESRCH)?;
                let text = part.get(..count).unwrap_or_default();
                file.write.ok_or(Errno::EACCES)?(&self.system, &process, thread, text)?;
                Ok(count)
            }
            _ => Err(Errno::EACCES),
        }
    }

    fn is_read_only(&self) -> bool {
        matches!(self.node, Node::Fixed(_))
    }

    fn statistics(&self) -> Result<Statistics> {
        let magic = if self.device == SYS_DEVICE { SYS_MAGIC } else { MAGIC };
        Ok(Statistics { magic, block_size: 4096, blocks: 0, free: 0, files: 0, files_free: 0, name_length: 255 })
    }
}
