//! Names: making, moving and removing them; directories; permissions, owners and times.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::file::new_owner;
use super::stat::{Found, at, found_at, place_at};
use crate::errno::{Errno, Result};
use crate::file::inotify::{self, event};
use crate::fs::path::{Walk, Walked, access, check, permitted, walk};
use crate::fs::{Attributes, Change, Creation, Kind, Place, Rename};
use crate::task::credentials::capability;
use crate::task::{Context, Credentials};

/// Walks to a name that is to be made or removed.
fn walk_to(context: &Context, directory: i32, path: &[u8]) -> Result<Walked> {
    let start = context.start(directory, path)?;
    walk(context, start, path, Walk { no_follow: true, ..Walk::default() })
}

/// Checks that names may be made and removed in a directory.
fn may_change(context: &Context, directory: &Place) -> Result<()> {
    check(&directory.inode, &context.credentials(), access::WRITE | access::EXECUTE)
}

/// Checks that a name may be removed: in a sticky directory only by who owns the file or the directory.
fn may_remove(context: &Context, directory: &Place, node: &Place) -> Result<()> {
    may_change(context, directory)?;
    let (above, own) = (directory.inode.attributes()?, node.inode.attributes()?);
    let who = context.credentials();
    if above.permissions & 0o1000 != 0 && !who.owns(own.uid) && who.file_user != above.uid {
        return Err(Errno::EPERM);
    }
    Ok(())
}

fn creation(context: &Context, parent: &Place, kind: Kind, mode: u32) -> Result<Creation> {
    Ok(Creation {
        kind,
        permissions: mode & 0o7777 & !context.fs.mask(),
        owner: new_owner(context, &parent.inode)?,
        names_device: 0,
        time: context.system.wall_now(),
    })
}

pub fn mkdirat(context: &mut Context, directory: i32, path: u64, mode: u32) -> Result<u64> {
    let path = context.read_path(path)?;
    let (parent, name) = walk_to(context, directory, &path)?.free()?;
    may_change(context, &parent)?;
    let mut creation = creation(context, &parent, Kind::Directory, mode & 0o1777)?;
    creation.permissions |= parent.inode.attributes()?.permissions & 0o2000;
    parent.inode.create(&name, &creation)?;
    inotify::tell_name(&parent, &name, Kind::Directory, event::CREATE);
    Ok(0)
}

pub fn mkdir(context: &mut Context, path: u64, mode: u32) -> Result<u64> {
    mkdirat(context, -100, path, mode)
}

pub fn mknodat(context: &mut Context, directory: i32, path: u64, mode: u32, device: u64) -> Result<u64> {
    let kind = Kind::of_mode(mode)?;
    match kind {
        Kind::Directory => return Err(Errno::EPERM),
        Kind::Link => return Err(Errno::EINVAL),
        Kind::Character | Kind::Block if !context.credentials().has(capability::MKNOD) => return Err(Errno::EPERM),
        _ => {}
    }
    let path = context.read_path(path)?;
    let walked = walk_to(context, directory, &path)?;
    if walked.wants_directory && walked.place.is_none() {
        return Err(Errno::ENOENT);
    }
    let (parent, name) = walked.free()?;
    may_change(context, &parent)?;
    let creation = Creation { names_device: device, ..creation(context, &parent, kind, mode)? };
    parent.inode.create(&name, &creation)?;
    inotify::tell_name(&parent, &name, kind, event::CREATE);
    Ok(0)
}

pub fn mknod(context: &mut Context, path: u64, mode: u32, device: u64) -> Result<u64> {
    mknodat(context, -100, path, mode, device)
}

pub fn symlinkat(context: &mut Context, target: u64, directory: i32, path: u64) -> Result<u64> {
    let target = context.read_path(target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = context.read_path(path)?;
    let walked = walk_to(context, directory, &path)?;
    if walked.wants_directory && walked.place.is_none() {
        return Err(Errno::ENOENT);
    }
    let (parent, name) = walked.free()?;
    may_change(context, &parent)?;
    let creation = creation(context, &parent, Kind::Link, 0o777)?;
    parent.inode.symlink(&name, &target, &creation)?;
    inotify::tell_name(&parent, &name, Kind::Link, event::CREATE);
    Ok(0)
}

pub fn symlink(context: &mut Context, target: u64, path: u64) -> Result<u64> {
    symlinkat(context, target, -100, path)
}

pub fn linkat(context: &mut Context, from: i32, old: u64, to: i32, new: u64, flags: u32) -> Result<u64> {
    if flags & !(at::FOLLOW | at::EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = if flags & at::FOLLOW != 0 { 0 } else { at::NO_FOLLOW };
    let inode = found_at(context, from, old, follow | flags & at::EMPTY_PATH)?.inode;
    let path = context.read_path(new)?;
    let walked = walk_to(context, to, &path)?;
    if walked.wants_directory && walked.place.is_none() {
        return Err(Errno::ENOENT);
    }
    let (parent, name) = walked.free()?;
    may_change(context, &parent)?;
    parent.inode.link(&name, &inode, context.system.wall_now())?;
    inotify::tell_inode(&inode, event::ATTRIBUTES);
    inotify::tell_name(&parent, &name, Kind::Regular, event::CREATE);
    Ok(0)
}

pub fn link(context: &mut Context, old: u64, new: u64) -> Result<u64> {
    linkat(context, -100, old, -100, new, 0)
}

pub fn unlinkat(context: &mut Context, directory: i32, path: u64, flags: u32) -> Result<u64> {
    const REMOVE_DIRECTORY: u32 = 0x200;
    if flags & !REMOVE_DIRECTORY != 0 {
        return Err(Errno::EINVAL);
    }
    let removes_directory = flags & REMOVE_DIRECTORY != 0;
    let path = context.read_path(path)?;
    let walked = walk_to(context, directory, &path)?;
    if removes_directory {
        match &*walked.name {
            b"" => return Err(Errno::EBUSY),
            b"." => return Err(Errno::EINVAL),
            b".." => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
    } else if matches!(&*walked.name, b"" | b"." | b"..") {
        return Err(Errno::EISDIR);
    }
    let place = walked.place.ok_or(Errno::ENOENT)?;
    if !removes_directory && walked.wants_directory {
        let is_directory = place.inode.attributes()?.kind == Kind::Directory;
        return Err(if is_directory { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    may_remove(context, &walked.parent, &place)?;
    walked.parent.inode.unlink(&walked.name, removes_directory, context.system.wall_now())?;
    context.system.walks.forget();
    if !removes_directory {
        inotify::tell_inode(&place.inode, event::ATTRIBUTES);
    }
    let kind = if removes_directory { Kind::Directory } else { Kind::Regular };
    inotify::tell_name(&walked.parent, &walked.name, kind, event::DELETE);
    Ok(0)
}

pub fn unlink(context: &mut Context, path: u64) -> Result<u64> {
    unlinkat(context, -100, path, 0)
}

pub fn rmdir(context: &mut Context, path: u64) -> Result<u64> {
    unlinkat(context, -100, path, 0x200)
}

pub fn renameat2(context: &mut Context, from: i32, old: u64, to: i32, new: u64, flags: u32) -> Result<u64> {
    let how = match flags {
        0 => Rename::Replace,
        1 => Rename::NoReplace,
        2 => Rename::Exchange,
        _ => return Err(Errno::EINVAL),
    };
    let (old, new) = (context.read_path(old)?, context.read_path(new)?);
    let source = walk_to(context, from, &old)?;
    let target = walk_to(context, to, &new)?;
    for name in [&source.name, &target.name] {
        if matches!(&**name, b"" | b"." | b"..") {
            return Err(Errno::EBUSY);
        }
    }
    let place = source.place.ok_or(Errno::ENOENT)?;
    let is_directory = place.inode.attributes()?.kind == Kind::Directory;
    if !is_directory && (source.wants_directory || target.wants_directory && how != Rename::Exchange) {
        return Err(Errno::ENOTDIR);
    }
    may_remove(context, &source.parent, &place)?;
    match &target.place {
        Some(_) if how == Rename::NoReplace => return Err(Errno::EEXIST),
        Some(there) => may_remove(context, &target.parent, there)?,
        None => may_change(context, &target.parent)?,
    }
    let now = context.system.wall_now();
    source.parent.inode.rename(&source.name, &target.parent.inode, &target.name, how, now)?;
    context.system.walks.forget();
    let (from, to) = ((&*source.parent, &*source.name), (&*target.parent, &*target.name));
    inotify::tell_moved(from, to, &place.inode);
    if let Some(there) = &target.place {
        match how {
            Rename::Exchange => inotify::tell_moved(to, from, &there.inode),
            _ => inotify::tell_inode(&there.inode, event::ATTRIBUTES),
        }
    }
    Ok(0)
}

pub fn renameat(context: &mut Context, from: i32, old: u64, to: i32, new: u64) -> Result<u64> {
    renameat2(context, from, old, to, new, 0)
}

pub fn rename(context: &mut Context, old: u64, new: u64) -> Result<u64> {
    renameat2(context, -100, old, -100, new, 0)
}

/// How a directory's names stand in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Record {
    /// `struct linux_dirent`: the kind is the last byte.
    Old,
    /// `struct linux_dirent64`.
    New,
}

impl Record {
    /// Bytes before a name, and bytes behind its end.
    fn around(self) -> (usize, usize) {
        match self {
            Record::Old => (18, 2),
            Record::New => (19, 1),
        }
    }
}

pub fn getdents64(context: &mut Context, descriptor: i32, to: u64, size: u32) -> Result<u64> {
    read_names(context, descriptor, to, size, Record::New)
}

pub fn getdents(context: &mut Context, descriptor: i32, to: u64, size: u32) -> Result<u64> {
    read_names(context, descriptor, to, size, Record::Old)
}

/// The first two names are `.` and `..`.
fn read_names(context: &mut Context, descriptor: i32, to: u64, size: u32, record: Record) -> Result<u64> {
    let description = context.description(descriptor)?;
    if description.is_path_only() {
        return Err(Errno::EBADF);
    }
    let inode = description.file.inode().ok_or(Errno::ENOTDIR)?;
    let own = inode.attributes()?;
    if own.kind != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    let above = description.place.as_ref().and_then(|place| place.parent.as_ref());
    let above = above.map_or(Ok(own), |parent| parent.inode.attributes())?;
    let mut position = description.position.lock();
    let mut bytes: Vec<u8> = Vec::new();
    let most = size as usize;
    let mut next = *position;
    let mut add = |name: &[u8], number: u64, kind: Kind, after: u64| -> bool {
        let (before, behind) = record.around();
        let length = (before + name.len() + behind).next_multiple_of(8);
        if bytes.len() + length > most {
            return false;
        }
        let start = bytes.len();
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&after.to_le_bytes());
        bytes.extend_from_slice(&(length as u16).to_le_bytes());
        if record == Record::New {
            bytes.push(kind as u8);
        }
        bytes.extend_from_slice(name);
        bytes.resize(start + length, 0);
        if let (Record::Old, Some(last)) = (record, bytes.last_mut()) {
            *last = kind as u8;
        }
        next = after;
        true
    };
    let mut full = false;
    if *position == 0 {
        full = !add(b".", own.number, Kind::Directory, 1);
    }
    if *position <= 1 && !full {
        full = !add(b"..", above.number, Kind::Directory, 2);
    }
    if !full {
        inode.entries(position.saturating_sub(2), &mut |entry| {
            full = !add(entry.name, entry.number, entry.kind, entry.next + 2);
            !full
        })?;
    }
    if bytes.is_empty() && full {
        return Err(Errno::EINVAL);
    }
    context.write_bytes(to, &bytes)?;
    *position = next;
    Ok(bytes.len() as u64)
}

/// Goes to a directory.
fn enter(context: &Context, place: &Arc<Place>) -> Result<()> {
    let attributes = place.inode.attributes()?;
    if attributes.kind != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    permitted(&attributes, &context.credentials(), access::EXECUTE)
}

pub fn chdir(context: &mut Context, path: u64) -> Result<u64> {
    let path = context.read_path(path)?;
    let place = place_at(context, -100, &path, 0)?;
    enter(context, &place)?;
    context.fs.set_directory(place);
    Ok(0)
}

pub fn fchdir(context: &mut Context, descriptor: i32) -> Result<u64> {
    let place = context.description(descriptor)?.place.clone().ok_or(Errno::ENOTDIR)?;
    enter(context, &place)?;
    context.fs.set_directory(place);
    Ok(0)
}

pub fn chroot(context: &mut Context, path: u64) -> Result<u64> {
    let path = context.read_path(path)?;
    let place = place_at(context, -100, &path, 0)?;
    enter(context, &place)?;
    if !context.credentials().has(capability::SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    context.fs.set_root(place);
    Ok(0)
}

pub fn getcwd(context: &mut Context, to: u64, size: u64) -> Result<u64> {
    let place = context.fs.directory();
    if place.inode.attributes()?.links == 0 {
        return Err(Errno::ENOENT);
    }
    let root = context.fs.root();
    let mut path = place.path(&root);
    // As Linux says it of a directory outside the root that chroot(2) gave.
    if !place.is_below(&root) {
        path.splice(0..0, *b"(unreachable)");
    }
    path.push(0);
    if path.len() as u64 > size {
        return Err(Errno::ERANGE);
    }
    context.write_bytes(to, &path)?;
    Ok(path.len() as u64)
}

pub fn umask(context: &mut Context, mask: u32) -> Result<u64> {
    Ok(context.fs.set_mask(mask).into())
}

fn set_permissions(context: &Context, found: &Found, mode: u32) -> Result<u64> {
    let attributes = found.inode.attributes()?;
    let who = context.credentials();
    if !who.owns(attributes.uid) {
        return Err(Errno::EPERM);
    }
    let mut permissions = mode & 0o7777;
    if !who.is_in_group(attributes.gid) && !who.has(capability::FSETID) {
        permissions &= !0o2000;
    }
    let changed = Some(context.system.wall_now());
    found.inode.change(&Change { permissions: Some(permissions), changed, ..Change::default() })?;
    found.tell(event::ATTRIBUTES);
    Ok(0)
}

pub fn fchmodat2(context: &mut Context, directory: i32, path: u64, mode: u32, flags: u32) -> Result<u64> {
    if flags & !(at::NO_FOLLOW | at::EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = found_at(context, directory, path, flags)?;
    if found.inode.attributes()?.kind == Kind::Link {
        return Err(Errno::EOPNOTSUPP);
    }
    set_permissions(context, &found, mode)
}

pub fn fchmodat(context: &mut Context, directory: i32, path: u64, mode: u32) -> Result<u64> {
    fchmodat2(context, directory, path, mode, 0)
}

pub fn chmod(context: &mut Context, path: u64, mode: u32) -> Result<u64> {
    fchmodat2(context, -100, path, mode, 0)
}

pub fn fchmod(context: &mut Context, descriptor: i32, mode: u32) -> Result<u64> {
    let description = context.description(descriptor)?;
    if description.is_path_only() {
        return Err(Errno::EBADF);
    }
    let found = Found::of(&description).ok_or(Errno::EINVAL)?;
    set_permissions(context, &found, mode)
}

/// Whether someone may give a file to these owners.
fn may_give(attributes: &Attributes, who: &Credentials, uid: u32, gid: u32) -> bool {
    const KEEP: u32 = u32::MAX;
    if who.has(capability::CHOWN) {
        return true;
    }
    let user_stays = uid == KEEP || uid == attributes.uid && who.file_user == uid;
    let group_allowed =
        gid == KEEP || who.file_user == attributes.uid && (gid == attributes.gid || who.is_in_group(gid));
    user_stays && group_allowed
}

fn set_owner(context: &Context, found: &Found, uid: u32, gid: u32) -> Result<u64> {
    let attributes = found.inode.attributes()?;
    if !may_give(&attributes, &context.credentials(), uid, gid) {
        return Err(Errno::EPERM);
    }
    let given = |id: u32| (id != u32::MAX).then_some(id);
    // Executables lose the bits that would give their new owner's rights.
    let lose = if attributes.permissions & 0o010 != 0 { 0o6000 } else { 0o4000 };
    let permissions = (attributes.kind == Kind::Regular && attributes.permissions & lose != 0)
        .then_some(attributes.permissions & !lose);
    let changed = Some(context.system.wall_now());
    found.inode.change(&Change { uid: given(uid), gid: given(gid), permissions, changed, ..Change::default() })?;
    found.tell(event::ATTRIBUTES);
    Ok(0)
}

pub fn fchownat(context: &mut Context, directory: i32, path: u64, uid: u32, gid: u32, flags: u32) -> Result<u64> {
    if flags & !(at::NO_FOLLOW | at::EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = found_at(context, directory, path, flags)?;
    set_owner(context, &found, uid, gid)
}

pub fn chown(context: &mut Context, path: u64, uid: u32, gid: u32) -> Result<u64> {
    fchownat(context, -100, path, uid, gid, 0)
}

pub fn lchown(context: &mut Context, path: u64, uid: u32, gid: u32) -> Result<u64> {
    fchownat(context, -100, path, uid, gid, at::NO_FOLLOW)
}

pub fn fchown(context: &mut Context, descriptor: i32, uid: u32, gid: u32) -> Result<u64> {
    let description = context.description(descriptor)?;
    if description.is_path_only() {
        return Err(Errno::EBADF);
    }
    let found = Found::of(&description).ok_or(Errno::EINVAL)?;
    set_owner(context, &found, uid, gid)
}

/// Sets times: `None` stays as it is. `by_owner` says that times were given, which only the owner may.
fn set_times(context: &Context, found: &Found, times: [Option<i64>; 2], by_owner: bool) -> Result<u64> {
    let attributes = found.inode.attributes()?;
    let who = context.credentials();
    if !who.owns(attributes.uid) {
        if by_owner {
            return Err(Errno::EPERM);
        }
        permitted(&attributes, &who, access::WRITE)?;
    }
    let [accessed, modified] = times;
    if accessed.is_some() || modified.is_some() {
        found.inode.change(&Change {
            accessed,
            modified,
            changed: Some(context.system.wall_now()),
            ..Change::default()
        })?;
        found.tell(event::ATTRIBUTES);
    }
    Ok(0)
}

pub fn utimensat(context: &mut Context, directory: i32, path: u64, times: u64, flags: u32) -> Result<u64> {
    const NOW: u64 = (1 << 30) - 1;
    const OMIT: u64 = (1 << 30) - 2;
    if flags & !(at::NO_FOLLOW | at::EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let now = context.system.wall_now();
    let (times, by_owner) = if times == 0 {
        ([Some(now); 2], false)
    } else {
        let [a, a_rest, b, b_rest] = context.read_words(times)?;
        let mut result = [None; 2];
        for (place, (seconds, rest)) in result.iter_mut().zip([(a, a_rest), (b, b_rest)]) {
            *place = match rest {
                OMIT => None,
                NOW => Some(now),
                0..1_000_000_000 => Some((seconds as i64).saturating_mul(1_000_000_000).saturating_add(rest as i64)),
                _ => return Err(Errno::EINVAL),
            };
        }
        (result, !(a_rest == NOW && b_rest == NOW))
    };
    let found = if path == 0 {
        if directory == -100 {
            return Err(Errno::EFAULT);
        }
        Found::of(&*context.description(directory)?).ok_or(Errno::EINVAL)?
    } else {
        found_at(context, directory, path, flags)?
    };
    set_times(context, &found, times, by_owner)
}

/// `utimes`, `futimesat`: microseconds.
pub fn futimesat(context: &mut Context, directory: i32, path: u64, times: u64) -> Result<u64> {
    let now = context.system.wall_now();
    let (times, by_owner) = if times == 0 {
        ([Some(now); 2], false)
    } else {
        let [a, a_micro, b, b_micro] = context.read_words(times)?;
        if a_micro >= 1_000_000 || b_micro >= 1_000_000 {
            return Err(Errno::EINVAL);
        }
        let time = |seconds: u64, micro: u64| {
            Some((seconds as i64).saturating_mul(1_000_000_000).saturating_add(micro as i64 * 1000))
        };
        ([time(a, a_micro), time(b, b_micro)], true)
    };
    let found = found_at(context, directory, path, 0)?;
    set_times(context, &found, times, by_owner)
}

pub fn utimes(context: &mut Context, path: u64, times: u64) -> Result<u64> {
    futimesat(context, -100, path, times)
}

pub fn utime(context: &mut Context, path: u64, times: u64) -> Result<u64> {
    let now = context.system.wall_now();
    let (times, by_owner) = if times == 0 {
        ([Some(now); 2], false)
    } else {
        (context.read_words::<2>(times)?.map(|time| Some((time as i64).saturating_mul(1_000_000_000))), true)
    };
    let found = found_at(context, -100, path, 0)?;
    set_times(context, &found, times, by_owner)
}
