//! What files are: `stat` and its relatives, `access`, `readlink`, `statfs`.

use alloc::sync::Arc;

use crate::errno::{Errno, Result};
use crate::file::{Description, inotify};
use crate::fs::path::{Walk, access, permitted, walk};
use crate::fs::{Attributes, Inode, Place, Statistics};
use crate::task::{Context, Text};

/// `AT_` flags.
pub mod at {
    pub const NO_FOLLOW: u32 = 0x100;
    pub const EFFECTIVE: u32 = 0x200;
    pub const FOLLOW: u32 = 0x400;
    pub const NO_AUTOMOUNT: u32 = 0x800;
    pub const EMPTY_PATH: u32 = 0x1000;
}

const SECOND: i64 = 1_000_000_000;

/// A `struct stat` of x86-64.
#[cfg_attr(target_os = "none", optimize(speed))]
pub fn stat_bytes(attributes: &Attributes) -> [u8; 144] {
    let time = |time: i64| [time.div_euclid(SECOND) as u64, time.rem_euclid(SECOND) as u64];
    let [accessed, modified, changed] = [attributes.accessed, attributes.modified, attributes.changed].map(time);
    let words = [
        attributes.device,
        attributes.number,
        attributes.links.into(),
        u64::from(attributes.mode()) | u64::from(attributes.uid) << 32,
        attributes.gid.into(),
        attributes.names_device,
        attributes.size,
        attributes.block_size.into(),
        attributes.blocks,
        accessed[0],
        accessed[1],
        modified[0],
        modified[1],
        changed[0],
        changed[1],
        0,
        0,
        0,
    ];
    let mut bytes = [0; 144];
    for (to, from) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    bytes
}

/// What a path names, or with `AT_EMPTY_PATH` and no path, the descriptor.
fn attributes_at(context: &Context, directory: i32, path: u64, flags: u32) -> Result<Attributes> {
    let text = if path == 0 && flags & at::EMPTY_PATH != 0 { Text::new() } else { context.read_path(path)? };
    if text.is_empty() && flags & at::EMPTY_PATH != 0 {
        return if directory == -100 {
            context.fs.directory().inode.attributes()
        } else {
            context.description(directory)?.attributes()
        };
    }
    place_at(context, directory, &text, flags)?.inode.attributes()
}

/// What a path names.
pub fn place_at(context: &Context, directory: i32, path: &[u8], flags: u32) -> Result<Arc<Place>> {
    let start = context.start(directory, path)?;
    walk(context, start, path, Walk { no_follow: flags & at::NO_FOLLOW != 0, ..Walk::default() })?.found()
}

/// An inode, and where it was found, for what has a path.
pub struct Found {
    pub inode: Arc<dyn Inode>,
    place: Option<Arc<Place>>,
}

impl Found {
    /// What a descriptor leads to, if that is in a file system.
    pub fn of(description: &Description) -> Option<Found> {
        Some(Found { inode: description.inode()?, place: description.place.clone() })
    }

    /// Tells those who watch it.
    pub fn tell(&self, event: u32) {
        match &self.place {
            Some(place) => inotify::tell(place, event),
            None => inotify::tell_inode(&self.inode, event),
        }
    }
}

/// What a path names, or with `AT_EMPTY_PATH` and no path, the descriptor's.
pub fn found_at(context: &Context, directory: i32, path: u64, flags: u32) -> Result<Found> {
    let text = context.read_path(path)?;
    if text.is_empty() && flags & at::EMPTY_PATH != 0 {
        if directory != -100 {
            return Found::of(&*context.description(directory)?).ok_or(Errno::EINVAL);
        }
        let place = context.fs.directory();
        return Ok(Found { inode: place.inode.clone(), place: Some(place) });
    }
    let place = place_at(context, directory, &text, flags)?;
    Ok(Found { inode: place.inode.clone(), place: Some(place) })
}

pub fn newfstatat(context: &mut Context, directory: i32, path: u64, to: u64, flags: u32) -> Result<u64> {
    if flags & !(at::NO_FOLLOW | at::NO_AUTOMOUNT | at::EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let attributes = attributes_at(context, directory, path, flags)?;
    context.write_bytes(to, &stat_bytes(&attributes)).map(|()| 0)
}

pub fn stat(context: &mut Context, path: u64, to: u64) -> Result<u64> {
    newfstatat(context, -100, path, to, 0)
}

pub fn lstat(context: &mut Context, path: u64, to: u64) -> Result<u64> {
    newfstatat(context, -100, path, to, at::NO_FOLLOW)
}

pub fn fstat(context: &mut Context, descriptor: i32, to: u64) -> Result<u64> {
    let attributes = context.description(descriptor)?.attributes()?;
    context.write_bytes(to, &stat_bytes(&attributes)).map(|()| 0)
}

pub fn statx(context: &mut Context, directory: i32, path: u64, flags: u32, mask: u32, to: u64) -> Result<u64> {
    let known = at::NO_FOLLOW | at::NO_AUTOMOUNT | at::EMPTY_PATH | 0x6000;
    if flags & !known != 0 || flags & 0x6000 == 0x6000 || mask & 0x8000_0000 != 0 {
        return Err(Errno::EINVAL);
    }
    let attributes = attributes_at(context, directory, path, flags)?;
    let mut bytes = [0; 256];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    };
    // STATX_BASIC_STATS, STATX_MNT_ID: the mount that `/proc/PID/mountinfo` has first.
    put(0, &0x17ff_u32.to_le_bytes());
    put(144, &20_u64.to_le_bytes());
    put(4, &attributes.block_size.to_le_bytes());
    put(16, &attributes.links.to_le_bytes());
    put(20, &attributes.uid.to_le_bytes());
    put(24, &attributes.gid.to_le_bytes());
    put(28, &(attributes.mode() as u16).to_le_bytes());
    put(32, &attributes.number.to_le_bytes());
    put(40, &attributes.size.to_le_bytes());
    put(48, &attributes.blocks.to_le_bytes());
    for (at, time) in [(64, attributes.accessed), (96, attributes.changed), (112, attributes.modified)] {
        put(at, &time.div_euclid(SECOND).to_le_bytes());
        put(at + 8, &(time.rem_euclid(SECOND) as u32).to_le_bytes());
    }
    let split = |device: u64| {
        let major = (device >> 8 & 0xfff | device >> 32 & !0xfff) as u32;
        [major, (device & 0xff | device >> 12 & !0xff) as u32]
    };
    let [major, minor] = split(attributes.names_device);
    put(128, &major.to_le_bytes());
    put(132, &minor.to_le_bytes());
    let [major, minor] = split(attributes.device);
    put(136, &major.to_le_bytes());
    put(140, &minor.to_le_bytes());
    context.write_bytes(to, &bytes).map(|()| 0)
}

pub fn faccessat2(context: &mut Context, directory: i32, path: u64, mode: u32, flags: u32) -> Result<u64> {
    if mode & !7 != 0 || flags & !(at::EFFECTIVE | at::NO_FOLLOW | at::EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let attributes = if flags & at::EMPTY_PATH != 0 {
        attributes_at(context, directory, path, flags)?
    } else {
        let inode = found_at(context, directory, path, flags)?.inode;
        if mode & access::WRITE != 0 && inode.is_read_only() {
            return Err(Errno::EROFS);
        }
        inode.attributes()?
    };
    let mut who = (*context.credentials()).clone();
    if flags & at::EFFECTIVE == 0 {
        (who.file_user, who.file_group) = (who.user, who.group);
        if who.user != 0 {
            who.effective = 0;
        } else {
            who.effective = who.permitted;
        }
    }
    if mode != 0 {
        permitted(&attributes, &who, mode)?;
    }
    Ok(0)
}

pub fn faccessat(context: &mut Context, directory: i32, path: u64, mode: u32) -> Result<u64> {
    faccessat2(context, directory, path, mode, 0)
}

pub fn access_path(context: &mut Context, path: u64, mode: u32) -> Result<u64> {
    faccessat2(context, -100, path, mode, 0)
}

pub fn readlinkat(context: &mut Context, directory: i32, path: u64, to: u64, size: i32) -> Result<u64> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    let text = context.read_path(path)?;
    let place = if text.is_empty() && directory != -100 {
        let description = context.description(directory)?;
        description.place.clone().filter(|_| description.is_path_only()).ok_or(Errno::ENOENT)?
    } else {
        place_at(context, directory, &text, at::NO_FOLLOW)?
    };
    let target = place.inode.target_for(context)?;
    let target = target.get(..target.len().min(size as usize)).unwrap_or_default();
    context.write_bytes(to, target)?;
    Ok(target.len() as u64)
}

pub fn readlink(context: &mut Context, path: u64, to: u64, size: i32) -> Result<u64> {
    readlinkat(context, -100, path, to, size)
}

fn write_statistics(context: &Context, to: u64, statistics: &Statistics) -> Result<u64> {
    let words = [
        statistics.magic,
        statistics.block_size,
        statistics.blocks,
        statistics.free,
        statistics.free,
        statistics.files,
        statistics.files_free,
        0,
        statistics.name_length,
        statistics.block_size,
        // ST_VALID, ST_RELATIME
        0x1020,
        0,
        0,
        0,
        0,
    ];
    context.write_words(to, words).map(|()| 0)
}

pub fn statfs(context: &mut Context, path: u64, to: u64) -> Result<u64> {
    let path = context.read_path(path)?;
    let statistics = place_at(context, -100, &path, 0)?.inode.statistics()?;
    write_statistics(context, to, &statistics)
}

pub fn fstatfs(context: &mut Context, descriptor: i32, to: u64) -> Result<u64> {
    let description = context.description(descriptor)?;
    let statistics = match description.inode() {
        Some(inode) => inode.statistics()?,
        // PIPEFS_MAGIC and the like: what has no file system has no room either.
        None => Statistics {
            magic: 0x5049_5045,
            block_size: 4096,
            blocks: 0,
            free: 0,
            files: 0,
            files_free: 0,
            name_length: 255,
        },
    };
    write_statistics(context, to, &statistics)
}
