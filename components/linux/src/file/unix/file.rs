//! A Unix socket as an open file, and its end.

use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::{FIONREAD, Listening, NAMES, QUEUE, SIOCOUTQ, Stage, UnixSocket};
use crate::errno::{Errno, Result};
use crate::file::socket::{Ancillary, SOCK_DGRAM, Socket};
use crate::file::{OpenFile, Sink, Source, ready};
use crate::fs::{Attributes, Kind};
use crate::task::{Context, WaitQueue};

impl OpenFile for UnixSocket {
    fn socket(self: Arc<Self>) -> Option<Arc<dyn Socket>> {
        Some(self)
    }

    fn read(&self, _at: u64, to: &mut dyn Sink) -> Result<usize> {
        self.take(to, 0).map(|received| received.stored)
    }

    fn write(&self, _at: u64, from: &mut dyn Source) -> Result<usize> {
        let (name, limit) = {
            let mut state = self.state.lock();
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if state.send_ended {
                return Err(Errno::EPIPE);
            }
            (state.name.clone(), state.send_buffer)
        };
        let me = self.me.upgrade().ok_or(Errno::ENOTSOCK)?;
        self.peer()?.deliver(from, &me, name, limit, Ancillary::default())
    }

    fn ready(&self) -> u32 {
        let (mut bits, peer, limit) = {
            let state = self.state.lock();
            if let Stage::Listening(listening) = &state.stage {
                return if listening.pending.is_empty() { 0 } else { ready::IN };
            }
            let mut bits = 0;
            if !state.received.is_empty() {
                bits |= ready::IN;
            }
            if state.error.is_some() {
                bits |= ready::ERROR;
            }
            let is_connected = matches!(state.stage, Stage::Connected);
            if state.receive_ended {
                bits |= ready::IN | ready::READ_CLOSED;
            }
            if state.receive_ended && state.send_ended {
                bits |= ready::HANGUP;
            }
            let peer = state.peer.upgrade();
            if self.kind != SOCK_DGRAM {
                if !is_connected {
                    return bits | ready::OUT | ready::HANGUP;
                }
                if peer.is_none() {
                    bits |= ready::IN | ready::READ_CLOSED | ready::HANGUP | ready::OUT;
                }
            }
            (bits, peer, state.send_buffer)
        };
        let is_writable = peer.is_none_or(|peer| {
            let state = peer.state.lock();
            state.bytes < limit && state.received.len() < QUEUE
        });
        if is_writable {
            bits |= ready::OUT;
        }
        bits
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn control(&self, context: &mut Context, request: u32, argument: u64) -> Result<u64> {
        let count = match request {
            FIONREAD if self.is_stream() => self.state.lock().bytes,
            FIONREAD => self.state.lock().received.front().map_or(0, |message| message.bytes.len()),
            SIOCOUTQ => self.peer().map_or(0, |peer| peer.state.lock().bytes),
            _ => return Err(Errno::ENOTTY),
        };
        context.write_u32(argument, count as u32)?;
        Ok(0)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::anonymous(Kind::Socket, 0o777, self.number))
    }

    fn label(&self) -> String {
        format!("socket:[{}]", self.number)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        let has_unread = !state.received.is_empty();
        let (peer, found_as) = (state.peer.upgrade(), state.found_as.take());
        let unread = core::mem::take(&mut state.received);
        let Listening { pending, held_up, .. } = match core::mem::replace(&mut state.stage, Stage::Fresh) {
            Stage::Listening(listening) => *listening,
            _ => Listening::default(),
        };
        drop(state);
        if let Some(name) = found_as {
            let mut names = NAMES.lock();
            // An accepted socket has its listener's name but is not found by it.
            if names.get(&*name).is_some_and(|socket| socket.strong_count() == 0) {
                names.remove(&name);
            }
        }
        // Connections that nobody accepted are refused, and what was not read of a stream is lost: its sender is told.
        for socket in &pending {
            socket.state.lock().error = None;
            if let Some(client) = socket.state.lock().peer.upgrade() {
                client.state.lock().error = Some(Errno::ECONNRESET);
                client.queue.wake_all();
            }
        }
        drop(pending);
        // Those will find that nobody listens.
        held_up.iter().filter_map(Weak::upgrade).for_each(|client| client.queue.wake_all());
        let senders: Vec<_> = unread.iter().filter_map(|message| message.sender.upgrade()).collect();
        drop(unread);
        if let Some(peer) = peer {
            if has_unread && self.kind != SOCK_DGRAM {
                peer.state.lock().error = Some(Errno::ECONNRESET);
            }
            peer.queue.wake_all();
        }
        for sender in senders {
            sender.queue.wake_all();
        }
    }
}
