//! Calls that are kept to be answered later.

use tessera_abi::Syscall;

use super::Pool;
use crate::handle::{Object, Result, create, object, request};

object! {
    /// The right to answer one call, once. Dropped unanswered, the caller is told that its peer is gone.
    Reply
}

impl Reply {
    /// Puts the call that the calling thread holds aside.
    pub fn detach(pool: &Pool) -> Result<Reply> {
        create(Syscall::ReplyDetach, [pool.owned().number()])
    }

    /// Makes it the call that the calling thread holds again, to be answered.
    pub fn attach(self) -> Result<()> {
        request(Syscall::ReplyAttach, [self.owned().number()])?;
        // The handle went with it: closing it again names nothing.
        let _ = self.into_owned().into_handle();
        Ok(())
    }
}
