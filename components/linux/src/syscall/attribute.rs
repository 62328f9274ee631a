//! Extended attributes: xattr(7).

use alloc::sync::Arc;

use super::stat::{Found, at, found_at};
use crate::errno::{Errno, Result};
use crate::file::inotify::event;
use crate::fs::path::{access, permitted};
use crate::fs::{Inode, Kind};
use crate::task::credentials::capability;
use crate::task::{Context, Text};

/// `XATTR_NAME_MAX` with the NUL, `XATTR_SIZE_MAX`.
const LONGEST_NAME: usize = 256;
const LONGEST_VALUE: u64 = 65_536;
/// `AT_FDCWD`.
const CURRENT: i32 = -100;

fn by_path(context: &Context, path: u64, follow: bool) -> Result<Found> {
    found_at(context, CURRENT, path, if follow { 0 } else { at::NO_FOLLOW })
}

fn by_descriptor(context: &Context, descriptor: i32) -> Result<Found> {
    let description = context.description(descriptor)?;
    if description.is_path_only() {
        return Err(Errno::EBADF);
    }
    Found::of(&description).ok_or(Errno::EOPNOTSUPP)
}

fn name(context: &Context, address: u64) -> Result<Text> {
    let name = context.read_text(address, LONGEST_NAME).map_err(|error| match error {
        Errno::ENAMETOOLONG => Errno::ERANGE,
        other => other,
    })?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

/// Whether this process may read or change an attribute of this name.
fn check(context: &Context, inode: &Arc<dyn Inode>, name: &[u8], wanted: u32) -> Result<()> {
    let (attributes, who) = (inode.attributes()?, context.credentials());
    if name.starts_with(b"user.") {
        if !matches!(attributes.kind, Kind::Regular | Kind::Directory) {
            return Err(if wanted == access::WRITE { Errno::EPERM } else { Errno::ENODATA });
        }
        return permitted(&attributes, &who, wanted);
    }
    if name.starts_with(b"trusted.") {
        return match (who.has(capability::SYS_ADMIN), wanted) {
            (true, _) => Ok(()),
            (false, access::WRITE) => Err(Errno::EPERM),
            (false, _) => Err(Errno::ENODATA),
        };
    }
    if name.starts_with(b"security.") {
        return if wanted == access::WRITE && !who.owns(attributes.uid) { Err(Errno::EPERM) } else { Ok(()) };
    }
    // Access lists (`system.`) are not kept; other names mean nothing.
    Err(Errno::EOPNOTSUPP)
}

/// Stores a value or a list, or tells how long it is.
fn tell(context: &Context, bytes: &[u8], to: u64, size: u64) -> Result<u64> {
    if size != 0 {
        if bytes.len() as u64 > size {
            return Err(Errno::ERANGE);
        }
        context.write_bytes(to, bytes)?;
    }
    Ok(bytes.len() as u64)
}

fn get(context: &Context, found: &Found, key: u64, to: u64, size: u64) -> Result<u64> {
    let name = name(context, key)?;
    check(context, &found.inode, &name, access::READ)?;
    tell(context, &found.inode.attribute(&name)?, to, size)
}

fn set(context: &Context, found: &Found, key: u64, value: u64, size: u64, flags: u32) -> Result<u64> {
    const CREATE_OR_REPLACE: u32 = 3;
    if flags & !CREATE_OR_REPLACE != 0 || flags == CREATE_OR_REPLACE {
        return Err(Errno::EINVAL);
    }
    let name = name(context, key)?;
    if size > LONGEST_VALUE {
        return Err(Errno::E2BIG);
    }
    let mut bytes = alloc::vec![0; size as usize];
    context.read_bytes(value, &mut bytes)?;
    check(context, &found.inode, &name, access::WRITE)?;
    found.inode.set_attribute(&name, &bytes, flags)?;
    found.tell(event::ATTRIBUTES);
    Ok(0)
}

fn list(context: &Context, found: &Found, to: u64, size: u64) -> Result<u64> {
    tell(context, &found.inode.attribute_names()?, to, size)
}

fn remove(context: &Context, found: &Found, key: u64) -> Result<u64> {
    let name = name(context, key)?;
    check(context, &found.inode, &name, access::WRITE)?;
    found.inode.remove_attribute(&name)?;
    found.tell(event::ATTRIBUTES);
    Ok(0)
}

pub fn getxattr(context: &mut Context, path: u64, key: u64, to: u64, size: u64) -> Result<u64> {
    get(context, &by_path(context, path, true)?, key, to, size)
}

pub fn lgetxattr(context: &mut Context, path: u64, key: u64, to: u64, size: u64) -> Result<u64> {
    get(context, &by_path(context, path, false)?, key, to, size)
}

pub fn fgetxattr(context: &mut Context, descriptor: i32, key: u64, to: u64, size: u64) -> Result<u64> {
    get(context, &by_descriptor(context, descriptor)?, key, to, size)
}

pub fn setxattr(context: &mut Context, path: u64, key: u64, value: u64, size: u64, flags: u32) -> Result<u64> {
    set(context, &by_path(context, path, true)?, key, value, size, flags)
}

pub fn lsetxattr(context: &mut Context, path: u64, key: u64, value: u64, size: u64, flags: u32) -> Result<u64> {
    set(context, &by_path(context, path, false)?, key, value, size, flags)
}

pub fn fsetxattr(context: &mut Context, descriptor: i32, key: u64, value: u64, size: u64, flags: u32) -> Result<u64> {
    set(context, &by_descriptor(context, descriptor)?, key, value, size, flags)
}

pub fn listxattr(context: &mut Context, path: u64, to: u64, size: u64) -> Result<u64> {
    list(context, &by_path(context, path, true)?, to, size)
}

pub fn llistxattr(context: &mut Context, path: u64, to: u64, size: u64) -> Result<u64> {
    list(context, &by_path(context, path, false)?, to, size)
}

pub fn flistxattr(context: &mut Context, descriptor: i32, to: u64, size: u64) -> Result<u64> {
    list(context, &by_descriptor(context, descriptor)?, to, size)
}

pub fn removexattr(context: &mut Context, path: u64, key: u64) -> Result<u64> {
    remove(context, &by_path(context, path, true)?, key)
}

pub fn lremovexattr(context: &mut Context, path: u64, key: u64) -> Result<u64> {
    remove(context, &by_path(context, path, false)?, key)
}

pub fn fremovexattr(context: &mut Context, descriptor: i32, key: u64) -> Result<u64> {
    remove(context, &by_descriptor(context, descriptor)?, key)
}
