//! Watching files: `inotify_init`, `inotify_add_watch`, `inotify_rm_watch`.

use alloc::sync::Arc;

use super::stat::{at, place_at};
use crate::errno::{Errno, Result};
use crate::file::inotify::{Inotify, event};
use crate::file::{Description, open};
use crate::fs::Kind;
use crate::fs::path::{access, check};
use crate::task::Context;

pub fn inotify_init1(context: &mut Context, flags: u32) -> Result<u64> {
    if flags & !(open::CLOSE_ON_EXEC | open::NON_BLOCKING) != 0 {
        return Err(Errno::EINVAL);
    }
    let description = Description::new(Inotify::new(), None, flags & open::NON_BLOCKING);
    super::file::install(context, description, flags & open::CLOSE_ON_EXEC != 0)
}

pub fn inotify_init(context: &mut Context) -> Result<u64> {
    inotify_init1(context, 0)
}

fn instance(context: &Context, descriptor: i32) -> Result<Arc<Inotify>> {
    context.description(descriptor)?.concrete::<Inotify>().ok_or(Errno::EINVAL)
}

pub fn inotify_add_watch(context: &mut Context, descriptor: i32, path: u64, mask: u32) -> Result<u64> {
    const HOW: u32 = event::ONLY_DIRECTORY
        | event::DO_NOT_FOLLOW
        | event::EXCLUDE_UNLINKED
        | event::MASK_CREATE
        | event::MASK_ADD
        | event::ONE_SHOT;
    const TOLD: u32 = event::UNMOUNT | event::OVERFLOW | event::IGNORED | event::IS_DIRECTORY;
    let both = event::MASK_CREATE | event::MASK_ADD;
    if mask & event::ALL == 0 || mask & !(event::ALL | HOW | TOLD) != 0 || mask & both == both {
        return Err(Errno::EINVAL);
    }
    context.description(descriptor)?;
    let watcher = instance(context, descriptor)?;
    let path = context.read_path(path)?;
    let flags = if mask & event::DO_NOT_FOLLOW != 0 { at::NO_FOLLOW } else { 0 };
    let place = place_at(context, -100, &path, flags)?;
    if mask & event::ONLY_DIRECTORY != 0 && place.inode.attributes()?.kind != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    check(&place.inode, &context.credentials(), access::READ)?;
    Ok(watcher.watch(&place.inode, mask)? as u64)
}

pub fn inotify_rm_watch(context: &mut Context, descriptor: i32, number: i32) -> Result<u64> {
    instance(context, descriptor)?.forget(number).map(|()| 0)
}
