//! What `shmctl`, `semctl` and `msgctl` have in common.

use crate::errno::Result;
use crate::ipc::Shared;
use crate::task::{Context, Credentials};

pub const REMOVE: u32 = 0;
pub const SET: u32 = 1;
pub const STAT: u32 = 2;
pub const INFORMATION: u32 = 3;
/// Some libraries say by this that their structures are those of 64 bits, which they always are here.
pub const SIXTY_FOUR: u32 = 0x100;

/// What `IPC_SET` changes.
pub struct Change {
    uid: u32,
    gid: u32,
    mode: u32,
}

/// Reads the `struct ipc64_perm` at the start of a description.
pub fn read_permissions(context: &Context, address: u64) -> Result<Change> {
    let [key_and_uid, gid, mode] = context.read_words(address)?;
    Ok(Change { uid: (key_and_uid >> 32) as u32, gid: gid as u32, mode: (mode >> 32) as u32 })
}

/// Changes owner and mode, if `who` may.
pub fn change(object: &impl Shared, who: &Credentials, change: Change) -> Result<()> {
    let mut permissions = object.permissions();
    permissions.check_owner(who)?;
    (permissions.uid, permissions.gid, permissions.mode) = (change.uid, change.gid, change.mode & 0o777);
    object.set_permissions(permissions);
    Ok(())
}

/// The time in seconds since 1970.
pub fn seconds(context: &Context) -> i64 {
    context.system.wall_now().div_euclid(1_000_000_000)
}
