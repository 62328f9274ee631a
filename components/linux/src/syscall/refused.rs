//! Calls that need a capability which containers are not given, and those that are no more than asked for.

use crate::errno::{Errno, Result};
use crate::task::Context;

/// What only the owner of a whole machine may do: mount, load modules, swap, reboot.
pub fn privileged(_context: &mut Context) -> Result<u64> {
    Err(Errno::EPERM)
}

/// `name_to_handle_at`: file systems that nobody exports have no handles.
pub fn no_handles(_context: &mut Context) -> Result<u64> {
    Err(Errno::EOPNOTSUPP)
}
