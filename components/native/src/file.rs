//! Files and directories.

use alloc::vec;
use alloc::vec::Vec;

use tessera_interfaces::{AttributeChange, Attributes, Cap, Changes, Node, NodeKind, Owner, Time, Unlink};
use tessera_runtime::sync::Mutex;

use crate::PIECE;
use crate::errno::{Errno, Result};
use crate::path::walk;

/// How a file is opened: the numbers are those of `O_` constants.
#[derive(Clone, Copy, Debug)]
pub struct Opening(pub i32);

impl Opening {
    const ACCESS: i32 = 3;
    const WRITE_ONLY: i32 = 1;
    const READ_WRITE: i32 = 2;
    const CREATE: i32 = 0o100;
    const EXCLUSIVE: i32 = 0o200;
    const TRUNCATE: i32 = 0o1000;
    const APPEND: i32 = 0o2000;
    const DIRECTORY: i32 = 0o200_000;

    fn has(self, flag: i32) -> bool {
        self.0 & flag != 0
    }

    fn reads(self) -> bool {
        self.0 & Self::ACCESS != Self::WRITE_ONLY
    }

    fn writes(self) -> bool {
        matches!(self.0 & Self::ACCESS, Self::WRITE_ONLY | Self::READ_WRITE)
    }
}

/// From where a place is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    Start,
    Current,
    End,
}

/// An open file or directory.
pub struct OpenFile {
    node: Cap<dyn Node>,
    opening: Opening,
    at: Mutex<u64>,
}

const NOBODY: Owner = Owner { user: 0, group: 0 };

impl OpenFile {
    /// Opens the file at `path`, and makes it if that is asked for.
    ///
    /// # Errors
    /// What opening refuses (open(2)).
    pub fn open(root: &Cap<dyn Node>, path: &[u8], opening: Opening, mode: u32) -> Result<OpenFile> {
        let place = walk(root, path, !opening.has(Opening::EXCLUSIVE))?;
        let node = match place.node {
            Some(_) if opening.has(Opening::CREATE) && opening.has(Opening::EXCLUSIVE) => return Err(Errno::EEXIST),
            Some(node) => {
                let kind = node.attributes()?.kind;
                if opening.has(Opening::DIRECTORY) && kind != NodeKind::Directory {
                    return Err(Errno::ENOTDIR);
                }
                if kind == NodeKind::Directory && opening.writes() {
                    return Err(Errno::EISDIR);
                }
                if opening.has(Opening::TRUNCATE) && opening.writes() {
                    node.set_attributes(change(Changes::SIZE, |_| {}))?;
                }
                node
            }
            None if opening.has(Opening::CREATE) && !opening.has(Opening::DIRECTORY) => {
                place.directory.create(&place.name, NodeKind::File, mode & 0o755, NOBODY, 0)?
            }
            None => return Err(Errno::ENOENT),
        };
        Ok(OpenFile { node, opening, at: Mutex::new(0) })
    }

    /// Reads from its place on.
    ///
    /// # Errors
    /// `EBADF`: it was opened for writing; and what the file system refuses.
    pub fn read(&self, into: &mut [u8]) -> Result<usize> {
        if !self.opening.reads() {
            return Err(Errno::EBADF);
        }
        let mut at = self.at.lock();
        let piece = into.len().min(PIECE);
        let count = self.node.read(*at, into.get_mut(..piece).unwrap_or_default())?;
        *at = at.saturating_add(count);
        Ok(count as usize)
    }

    /// Writes at its place, or at the end.
    ///
    /// # Errors
    /// `EBADF`: it was opened for reading; and what the file system refuses.
    pub fn write(&self, from: &[u8]) -> Result<usize> {
        if !self.opening.writes() {
            return Err(Errno::EBADF);
        }
        let from = from.get(..PIECE).unwrap_or(from);
        let mut at = self.at.lock();
        if self.opening.has(Opening::APPEND) {
            let written = self.node.append(from)?;
            *at = written.at.saturating_add(written.bytes);
            return Ok(written.bytes as usize);
        }
        let count = self.node.write(*at, from)?;
        *at = at.saturating_add(count);
        Ok(count as usize)
    }

    /// Moves its place; answers the new one.
    ///
    /// # Errors
    /// `EINVAL`: that would be before the start.
    pub fn seek(&self, by: i64, whence: Whence) -> Result<u64> {
        let mut at = self.at.lock();
        let from = match whence {
            Whence::Start => 0,
            Whence::Current => *at,
            Whence::End => self.node.attributes()?.size,
        };
        *at = from.checked_add_signed(by).filter(|to| i64::try_from(*to).is_ok()).ok_or(Errno::EINVAL)?;
        Ok(*at)
    }

    /// What is known of it.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn attributes(&self) -> Result<Attributes> {
        Ok(self.node.attributes()?)
    }

    /// Gives it another size: what is beyond goes, what is new is zeroes.
    ///
    /// # Errors
    /// `EINVAL`: it was opened for reading; and what the file system refuses.
    pub fn resize(&self, size: u64) -> Result<()> {
        if !self.opening.writes() {
            return Err(Errno::EINVAL);
        }
        self.change(change(Changes::SIZE, |change| change.size = size))
    }

    /// Changes its attributes.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn change(&self, change: AttributeChange) -> Result<()> {
        Ok(self.node.set_attributes(change)?)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn synchronise(&self) -> Result<()> {
        Ok(self.node.synchronise()?)
    }

    /// Calls `visit` with number, kind and name of each entry of a directory.
    ///
    /// # Errors
    /// What the file system or `visit` refuses.
    pub fn entries(&self, mut visit: impl FnMut(u64, u8, &[u8]) -> Result<()>) -> Result<()> {
        let (mut from, mut buffer) = (0, vec![0; 16 << 10]);
        loop {
            let entries = self.node.entries(from, &mut buffer)?;
            let mut rest = buffer.get(..entries.bytes as usize).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            while let Some((entry, more)) = Entry::first(rest) {
                visit(entry.number, entry.kind, entry.name)?;
                rest = more;
            }
            from = entries.next;
        }
    }
}

/// An entry of a directory, as `Node::entries` packs it.
struct Entry<'a> {
    number: u64,
    kind: u8,
    name: &'a [u8],
}

impl Entry<'_> {
    fn first(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
        let (number, rest) = bytes.split_first_chunk::<8>()?;
        let (_next, rest) = rest.split_first_chunk::<8>()?;
        let ([kind, length], rest) = rest.split_first_chunk::<2>()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        Some((Entry { number: u64::from_le_bytes(*number), kind: *kind, name }, rest))
    }
}

/// What is known of what is at `path`.
///
/// # Errors
/// As [`walk`].
pub fn attributes(root: &Cap<dyn Node>, path: &[u8], follow: bool) -> Result<Attributes> {
    Ok(walk(root, path, follow)?.found()?.attributes()?)
}

/// A change of the attributes `which`, bits of [`Changes`], whose values `set` gives.
pub fn change(which: u32, set: impl FnOnce(&mut AttributeChange)) -> AttributeChange {
    let zero = Time::default();
    let mut change = AttributeChange { which, mode: 0, owner: NOBODY, size: 0, accessed: zero, modified: zero };
    set(&mut change);
    change
}

/// Changes attributes of what is at `path`.
///
/// # Errors
/// As [`walk`], and what the file system refuses.
pub fn change_at(root: &Cap<dyn Node>, path: &[u8], change: AttributeChange) -> Result<()> {
    Ok(walk(root, path, true)?.found()?.set_attributes(change)?)
}

/// Puts the target of the symbolic link at `path` into `into`, as far as there is room; answers its bytes there.
///
/// # Errors
/// As [`walk`], and what the file system refuses: it is no link.
pub fn target(root: &Cap<dyn Node>, path: &[u8], into: &mut [u8]) -> Result<usize> {
    Ok(walk(root, path, false)?.found()?.target(into)? as usize)
}

/// Makes a directory.
///
/// # Errors
/// `EEXIST`: something is there; and what the file system refuses.
pub fn make_directory(root: &Cap<dyn Node>, path: &[u8], mode: u32) -> Result<()> {
    let place = walk(root, path, true)?;
    if place.node.is_some() {
        return Err(Errno::EEXIST);
    }
    place.directory.create(&place.name, NodeKind::Directory, mode & 0o755, NOBODY, 0)?;
    Ok(())
}

/// Takes a name away.
///
/// # Errors
/// `EBUSY`: it is the root's; and what the file system refuses.
pub fn remove(root: &Cap<dyn Node>, path: &[u8], what: Unlink) -> Result<()> {
    let place = walk(root, path, false)?;
    if place.name.is_empty() {
        return Err(Errno::EBUSY);
    }
    Ok(place.directory.unlink(&place.name, what)?)
}

/// All entries of a directory as `getdents64` packs them: number (u64), 0 (i64), length of the record (u16), kind (u8), the name and a
/// zero byte; each record a multiple of 8 bytes.
///
/// # Errors
/// `EINVAL`: they do not fit into `limit` bytes.
pub fn packed_entries(file: &OpenFile, limit: usize) -> Result<Vec<u8>> {
    const HEAD: usize = 19;
    let mut all = Vec::new();
    file.entries(|number, kind, name| {
        let length = (HEAD + name.len() + 1).next_multiple_of(8);
        let end = all.len() + length;
        if end > limit {
            return Err(Errno::EINVAL);
        }
        all.extend(number.to_le_bytes());
        all.extend([0; 8]);
        all.extend((length as u16).to_le_bytes());
        all.push(kind);
        all.extend(name);
        all.resize(end, 0);
        Ok(())
    })?;
    Ok(all)
}
