//! Sessions: the calling side.

use tessera_abi::{Syscall, Tag};

use super::{Endpoint, Pool};
use crate::handle::{Object, Result, create, error, object};
use crate::message::{Answer, Message, close_handles};
use crate::raw;

object! {
    /// The right to call one endpoint under one badge.
    Session
}

impl Session {
    /// Makes a session of an endpoint; its calls arrive with `badge`.
    pub fn create(endpoint: &Endpoint, pool: &Pool, badge: u64) -> Result<Session> {
        create(Syscall::SessionCreate, [endpoint.owned().number(), pool.owned().number(), badge])
    }

    /// Calls with plain words; answers the answer's label and as many words. What else a server sends along is dropped.
    #[inline(always)]
    pub fn call_words<const N: usize>(&self, label: u32, words: [u64; N]) -> Result<(u32, [u64; N])> {
        // SAFETY: a plain tag makes the kernel touch registers only.
        let outcome = unsafe { raw::message(Syscall::Call as u64, self.owned().number(), Tag::new(label).0, words) };
        if outcome.code as u32 != 0 {
            return Err(error(outcome.code as u32));
        }
        let tag = Tag(outcome.tag);
        if tag.handles() != 0 {
            close_handles(tag, outcome.words);
        }
        let mut answer = [0; N];
        for (to, from) in answer.iter_mut().zip(outcome.words) {
            *to = from;
        }
        Ok((tag.label(), answer))
    }

    /// Calls with a message of any shape.
    #[inline(always)]
    pub fn call(&self, message: Message<'_>) -> Result<Answer> {
        let (tag, words) = message.assemble()?;
        // SAFETY: the memory that the tag names is borrowed by `message` until the call is over.
        let outcome = unsafe { raw::message(Syscall::Call as u64, self.owned().number(), tag.0, words) };
        message.sent(outcome.code as u32 == 0);
        if outcome.code as u32 != 0 {
            return Err(error(outcome.code as u32));
        }
        Ok(Answer::new(Tag(outcome.tag), outcome.words))
    }
}
