//! Calls that need a capability which containers are not given, and those that are no more than asked for.

use crate::errno::{Errno, Result};
use crate::task::Context;

/// What only the owner of a whole machine may do: mount, load modules, swap, reboot.
pub fn privileged(_context: &mut Context) -> Result<u64> {
    Err(Errno::EPERM)
}
