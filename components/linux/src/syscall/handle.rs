//! `name_to_handle_at`: names of files that outlive their paths. Opening by them takes a capability that containers do not have.

use super::stat::{at, found_at};
use crate::errno::{Errno, Result};
use crate::fs::proc;
use crate::task::Context;

/// Bytes of a handle, behind their count and its kind: the inode's number and a generation.
const LENGTH: u32 = 12;
const KIND: u32 = 1;
/// `MAX_HANDLE_SZ`
const LONGEST: u32 = 128;
/// What `/proc/PID/fdinfo` tells too.
const MOUNT: u32 = 20;

pub fn name_to_handle_at(
    context: &mut Context,
    directory: i32,
    path: u64,
    handle: u64,
    mount: u64,
    flags: u32,
) -> Result<u64> {
    if flags & !(at::FOLLOW | at::EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = if flags & at::FOLLOW != 0 { 0 } else { at::NO_FOLLOW };
    let inode = found_at(context, directory, path, follow | flags & at::EMPTY_PATH)?.inode;
    let attributes = inode.attributes()?;
    if attributes.device == proc::DEVICE {
        return Err(Errno::EOPNOTSUPP);
    }
    let room = context.read_u32(handle)?;
    if room > LONGEST {
        return Err(Errno::EINVAL);
    }
    context.write_u32(mount, MOUNT)?;
    context.write_u32(handle, LENGTH)?;
    if room < LENGTH {
        return Err(Errno::EOVERFLOW);
    }
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(KIND.to_le_bytes().into_iter().chain(attributes.number.to_le_bytes())) {
        *to = from;
    }
    context.write_bytes(handle.wrapping_add(4), &bytes).map(|()| 0)
}
