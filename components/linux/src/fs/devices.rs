//! What is behind device nodes and fifos, and `/dev/pts`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::{Arc, Weak};

use tessera_runtime::sync::Mutex;

use super::ram::make_device;
use super::{Attributes, Creation, Entry, Inode, Kind, Mounts, Owner, Statistics, proc};
use crate::errno::{Errno, Result};
use crate::file::console::{LogConsole, Simple};
use crate::file::pipe::{End, Pipe};
use crate::file::terminal::Terminal;
use crate::file::{Description, OpenFile, open as flags};
use crate::task::{Context, System, wait};

/// `st_dev` of /dev/pts, and what `statfs` calls it.
pub const PTS_DEVICE: u64 = 0x16;
const PTS_MAGIC: u64 = 0x1cd1;
/// The major number of the programs' sides of pseudo-terminals.
const PTS_MAJOR: u32 = 136;

/// Pipes of the fifos that are open, by file system and number.
static FIFOS: Mutex<BTreeMap<(u64, u64), Weak<Pipe>>> = Mutex::new(BTreeMap::new());

/// Opens a device by its number.
pub fn open_device(context: &Context, device: u64, how: u32) -> Result<Arc<dyn OpenFile>> {
    let is = |major, minor| device == make_device(major, minor);
    if is(1, 3) {
        return Ok(Arc::new(Simple::Null));
    } else if is(1, 5) {
        return Ok(Arc::new(Simple::Zero));
    } else if is(1, 7) {
        return Ok(Arc::new(Simple::Full));
    } else if is(1, 8) || is(1, 9) {
        return Ok(Arc::new(Simple::Random(context.system.clone())));
    } else if is(5, 0) {
        return Ok(Terminal::of_session(context.process.session())
            .ok_or(Errno::ENXIO)?
            .open(context, how | flags::NO_TERMINAL)?);
    } else if is(5, 1) {
        return match Terminal::find_console() {
            Some(terminal) => Ok(terminal.open(context, how)?),
            None => Ok(LogConsole::new()),
        };
    } else if is(5, 2) {
        return Ok(Terminal::create(context.system.clone())?);
    }
    let terminal = Terminal::numbers().into_iter().find(|number| is(PTS_MAJOR, *number)).and_then(Terminal::find);
    Ok(terminal.ok_or(Errno::ENXIO)?.open(context, how)?)
}

/// Opens a fifo. What has to be waited for is waited for in [`await_other_end`].
pub fn open_fifo(inode: Arc<dyn Inode>, how: u32) -> Result<Arc<dyn OpenFile>> {
    let attributes = inode.attributes()?;
    let key = (attributes.device, attributes.number);
    let pipe = {
        let mut fifos = FIFOS.lock();
        fifos.retain(|_, pipe| pipe.strong_count() > 0);
        match fifos.get(&key).and_then(Weak::upgrade) {
            Some(pipe) => pipe,
            None => {
                let pipe = Pipe::new();
                fifos.insert(key, Arc::downgrade(&pipe));
                pipe
            }
        }
    };
    let mode = how & flags::ACCESS;
    let (reads, writes) = (mode != flags::WRITE_ONLY, mode != flags::READ_ONLY);
    if !reads && how & flags::NON_BLOCKING != 0 && pipe.ends().0.0 == 0 {
        return Err(Errno::ENXIO);
    }
    Ok(pipe.open(reads, writes, Some(inode)))
}

/// fifo(7): opening one end waits for the other, unless it is not to wait.
pub fn await_other_end(context: &mut Context, description: &Description) -> Result<()> {
    let Some(end) = description.concrete::<End>() else { return Ok(()) };
    let mode = description.flags() & flags::ACCESS;
    if !description.is_blocking() || mode == flags::READ_WRITE || description.file.inode().is_none() {
        return Ok(());
    }
    let waits_for_writer = mode == flags::READ_ONLY;
    let before = end.pipe().ends().1;
    let pipe = end.pipe().clone();
    wait(context, &[pipe.queue(waits_for_writer, !waits_for_writer)], None, |_| {
        let ((readers, writers), (opened_to_read, opened_to_write)) = pipe.ends();
        let has_come = if waits_for_writer {
            writers > 0 || opened_to_write > before.1
        } else {
            readers > 0 || opened_to_read > before.0
        };
        has_come.then_some(())
    })
}

/// The directory of pseudo-terminals.
struct Terminals {
    system: Arc<System>,
}

struct TerminalInode(Arc<System>, u32);

fn attributes(system: &System, kind: Kind, number: u64, device: u64) -> Attributes {
    let now = system.wall_now();
    Attributes {
        kind,
        permissions: if kind == Kind::Directory { 0o755 } else { 0o620 },
        uid: 0,
        gid: if kind == Kind::Directory { 0 } else { 5 },
        size: 0,
        links: 1,
        number,
        device: PTS_DEVICE,
        names_device: device,
        blocks: 0,
        block_size: 1024,
        accessed: now,
        modified: now,
        changed: now,
    }
}

impl Inode for TerminalInode {
    fn attributes(&self) -> Result<Attributes> {
        Terminal::find(self.1).ok_or(Errno::ENOENT)?;
        Ok(attributes(&self.0, Kind::Character, u64::from(self.1) + 3, make_device(PTS_MAJOR, self.1)))
    }

    fn change(&self, _change: &super::Change) -> Result<()> {
        Ok(())
    }

    fn open(self: Arc<Self>, context: &Context, how: u32) -> Result<Option<Arc<dyn OpenFile>>> {
        Ok(Some(Terminal::find(self.1).ok_or(Errno::EIO)?.open(context, how)?))
    }
}

impl Inode for Terminals {
    fn attributes(&self) -> Result<Attributes> {
        Ok(attributes(&self.system, Kind::Directory, 1, 0))
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let number = Terminal::numbers().into_iter().find(|number| format!("{number}").as_bytes() == name);
        Ok(Arc::new(TerminalInode(self.system.clone(), number.ok_or(Errno::ENOENT)?)))
    }

    fn entries(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        for number in Terminal::numbers().into_iter().filter(|number| u64::from(*number) >= from) {
            let name = format!("{number}");
            let next = u64::from(number) + 1;
            if !each(Entry { name: name.as_bytes(), number: next + 2, kind: Kind::Character, next }) {
                break;
            }
        }
        Ok(())
    }

    fn statistics(&self) -> Result<Statistics> {
        Ok(Statistics {
            magic: PTS_MAGIC,
            block_size: 4096,
            blocks: 0,
            free: 0,
            files: 0,
            files_free: 0,
            name_length: 255,
        })
    }
}

/// Mounts /proc and /dev/pts, where the root has places for them or can be given some.
pub fn mount(system: &Arc<System>, root: &Arc<dyn Inode>, mounts: &Mounts) -> Result<()> {
    let directory = Creation {
        kind: Kind::Directory,
        permissions: 0o755,
        owner: Owner { uid: 0, gid: 0 },
        names_device: 0,
        time: system.wall_now(),
    };
    let place = |parent: &Arc<dyn Inode>, name: &[u8]| match parent.lookup(name) {
        Err(Errno::ENOENT) => parent.create(name, &directory),
        found => found,
    };
    let on = place(root, b"proc")?;
    mounts.add(&on, proc::root(system.clone()))?;
    let on = place(root, b"sys")?;
    mounts.add(&on, proc::sys_root(system.clone()))?;
    let dev = mounts.cover(place(root, b"dev")?);
    let on = place(&dev, b"pts")?;
    mounts.add(&on, Arc::new(Terminals { system: system.clone() }))
}
