//! Queues of threads, linked through the threads themselves: a thread waits in at most one.

use crate::{arena::Arena, arena::Id, thread::Thread};

/// A first-in, first-out queue.
#[derive(Clone, Copy, Default, Debug)]
pub struct Queue {
    first: Id<Thread>,
    last: Id<Thread>,
}

impl Queue {
    /// Whether nobody waits.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Who waits longest.
    #[inline(always)]
    pub fn first(&self) -> Id<Thread> {
        self.first
    }

    /// Puts a thread at the end.
    #[inline(always)]
    pub fn push(&mut self, threads: &mut Arena<Thread>, id: Id<Thread>) {
        let last = core::mem::replace(&mut self.last, id);
        if let Some(thread) = threads.get_mut(id) {
            thread.ahead = last;
            thread.behind = Id::NONE;
        }
        match threads.get_mut(last) {
            Some(thread) => thread.behind = id,
            None => self.first = id,
        }
    }

    /// Puts a thread at the front.
    pub fn push_front(&mut self, threads: &mut Arena<Thread>, id: Id<Thread>) {
        let first = core::mem::replace(&mut self.first, id);
        if let Some(thread) = threads.get_mut(id) {
            thread.behind = first;
            thread.ahead = Id::NONE;
        }
        match threads.get_mut(first) {
            Some(thread) => thread.ahead = id,
            None => self.last = id,
        }
    }

    /// Takes a thread out, wherever it stands in this queue.
    #[inline(always)]
    pub fn remove(&mut self, threads: &mut Arena<Thread>, id: Id<Thread>) {
        let Some(thread) = threads.get_mut(id) else { return };
        let (ahead, behind) = (core::mem::take(&mut thread.ahead), core::mem::take(&mut thread.behind));
        match threads.get_mut(ahead) {
            Some(thread) => thread.behind = behind,
            None => self.first = behind,
        }
        match threads.get_mut(behind) {
            Some(thread) => thread.ahead = ahead,
            None => self.last = ahead,
        }
    }

    /// The only thread of the queue; `NONE` if there is not just one.
    #[inline(always)]
    pub fn only(&self) -> Id<Thread> {
        if self.first == self.last { self.first } else { Id::NONE }
    }

    /// A queue of one thread, whose links are clear.
    #[inline(always)]
    pub fn of(thread: Id<Thread>) -> Queue {
        Queue { first: thread, last: thread }
    }

    /// Takes the first thread out.
    #[inline(always)]
    pub fn pop(&mut self, threads: &mut Arena<Thread>) -> Option<Id<Thread>> {
        let first = self.first;
        if first.is_none() {
            return None;
        }
        self.remove(threads, first);
        Some(first)
    }
}
