//! What programs do with a Unix socket as a socket.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::{
    BACKLOG, CURRENT, FILES, HEAD, LEAST_BUFFER, Listening, MOST_BUFFER, NAMES, Name, PATH, Stage, UnixSocket, Wanted,
    told, unnamed, wanted,
};
use crate::errno::{Errno, Result};
use crate::file::socket::{
    AF_UNIX, AF_UNSPEC, Ancillary, Credentials, Limits, Received, SOCK_DGRAM, Socket, family, message, number, option,
    time_limit, time_limit_bytes, value,
};
use crate::file::{OpenFile, Sink, Source};
use crate::fs::path::{self, Walk};
use crate::fs::{Creation, Kind, Owner};
use crate::task::Context;

/// The credentials of whoever calls.
fn credentials(context: &Context) -> Credentials {
    let who = context.credentials();
    Credentials { process: context.process.number, user: who.effective_user, group: who.effective_group }
}

impl Socket for UnixSocket {
    fn shape(&self) -> (u16, u32, i32) {
        (AF_UNIX, self.kind, 0)
    }

    fn bind(&self, context: &mut Context, address: &[u8]) -> Result<()> {
        if !self.state.lock().name.get(HEAD..).unwrap_or_default().is_empty() {
            return Err(Errno::EINVAL);
        }
        let (name, address) = match wanted(address)? {
            Wanted::Nothing => {
                // Autobind: five hexadecimal digits.
                let mut address = unnamed();
                address.extend(format!("\0{:05x}", self.number & 0xf_ffff).into_bytes());
                (Name::Abstract(address.get(HEAD..).unwrap_or_default().to_vec()), address)
            }
            Wanted::Abstract(name) => (Name::Abstract(name.to_vec()), address.to_vec()),
            Wanted::Path(path) => {
                let walked = path::walk(context, context.start(CURRENT, path)?, path, Walk::default())?;
                let (parent, last) = walked.free().map_err(|error| match error {
                    Errno::EEXIST => Errno::EADDRINUSE,
                    other => other,
                })?;
                path::check(&parent.inode, &context.credentials(), path::access::WRITE | path::access::EXECUTE)?;
                let who = context.credentials();
                let creation = Creation {
                    kind: Kind::Socket,
                    permissions: 0o777 & !context.fs.mask(),
                    owner: Owner { uid: who.file_user, gid: who.file_group },
                    names_device: 0,
                    time: context.system.wall_now(),
                };
                let inode = parent.inode.create(&last, &creation).map_err(|error| match error {
                    Errno::EEXIST => Errno::EADDRINUSE,
                    other => other,
                })?;
                let attributes = inode.attributes()?;
                let mut address = unnamed();
                address.extend_from_slice(path);
                // As Linux tells a path: with its NUL, where there is room.
                if address.len() < HEAD + PATH {
                    address.push(0);
                }
                (Name::Inode(attributes.device, attributes.number), address)
            }
        };
        {
            let mut names = NAMES.lock();
            names.retain(|_, socket| socket.strong_count() > 0);
            if names.contains_key(&name) {
                return Err(Errno::EADDRINUSE);
            }
            names.insert(name.clone(), self.me.clone());
        }
        let mut state = self.state.lock();
        state.name = address;
        state.found_as = Some(Box::new(name));
        Ok(())
    }

    fn listen(&self, context: &mut Context, backlog: u32) -> Result<()> {
        if self.kind == SOCK_DGRAM {
            return Err(Errno::EOPNOTSUPP);
        }
        let mine = credentials(context);
        let backlog = (backlog as usize).min(BACKLOG);
        let mut state = self.state.lock();
        if state.found_as.is_none() {
            return Err(Errno::EINVAL);
        }
        match &mut state.stage {
            Stage::Connected => return Err(Errno::EINVAL),
            Stage::Listening(listening) => listening.backlog = backlog,
            stage @ Stage::Fresh => {
                *stage = Stage::Listening(Box::new(Listening { backlog, ..Listening::default() }));
            }
        }
        state.peer_credentials = mine;
        drop(state);
        self.queue.wake_all();
        Ok(())
    }

    fn connect(&self, context: &mut Context, address: &[u8]) -> Result<()> {
        if self.kind == SOCK_DGRAM && family(address)? == AF_UNSPEC {
            let mut state = self.state.lock();
            state.stage = Stage::Fresh;
            state.peer = Weak::new();
            state.peer_name = Vec::new();
            return Ok(());
        }
        let other = UnixSocket::find(context, address)?;
        if other.kind != self.kind {
            return Err(Errno::EPROTOTYPE);
        }
        if self.kind != SOCK_DGRAM {
            return self.connect_to(&other, credentials(context));
        }
        let peer_name = other.state.lock().name.clone();
        let mut state = self.state.lock();
        state.stage = Stage::Connected;
        state.peer = Arc::downgrade(&other);
        state.peer_name = peer_name;
        Ok(())
    }

    fn outcome(&self) -> Option<Result<()>> {
        Some(Ok(()))
    }

    fn accept(&self, _context: &mut Context) -> Result<(Arc<dyn OpenFile>, Vec<u8>)> {
        let mut state = self.state.lock();
        let Stage::Listening(listening) = &mut state.stage else {
            return Err(if self.kind == SOCK_DGRAM { Errno::EOPNOTSUPP } else { Errno::EINVAL });
        };
        let Some(accepted) = listening.pending.pop_front() else {
            return Err(if state.receive_ended { Errno::EINVAL } else { Errno::EAGAIN });
        };
        let held_up = core::mem::take(&mut listening.held_up);
        drop(state);
        // There is room now.
        held_up.iter().filter_map(Weak::upgrade).for_each(|client| client.queue.wake_all());
        let name = told(&accepted.state.lock().peer_name);
        Ok((accepted, name))
    }

    fn name(&self) -> Result<Vec<u8>> {
        Ok(told(&self.state.lock().name))
    }

    fn peer_name(&self) -> Result<Vec<u8>> {
        let state = self.state.lock();
        match state.stage {
            Stage::Connected => Ok(told(&state.peer_name)),
            _ => Err(Errno::ENOTCONN),
        }
    }

    fn send(
        &self,
        context: &mut Context,
        from: &mut dyn Source,
        to: Option<&[u8]>,
        mut ancillary: Ancillary,
        flags: u32,
    ) -> Result<usize> {
        if flags & message::OUT_OF_BAND != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if ancillary.files.len() > FILES {
            return Err(Errno::EINVAL);
        }
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
        let peer = match to {
            Some(address) if self.kind == SOCK_DGRAM => {
                let peer = UnixSocket::find(context, address)?;
                if peer.kind != SOCK_DGRAM {
                    return Err(Errno::EPROTOTYPE);
                }
                peer
            }
            Some(_) if matches!(self.state.lock().stage, Stage::Connected) => return Err(Errno::EISCONN),
            Some(_) => return Err(Errno::EOPNOTSUPP),
            None => self.peer()?,
        };
        if ancillary.credentials.is_none() && peer.state.lock().pass_credentials {
            ancillary.credentials = Some(credentials(context));
        }
        let me = self.me.upgrade().ok_or(Errno::ENOTSOCK)?;
        peer.deliver(from, &me, name, limit, ancillary)
    }

    fn receive(&self, context: &mut Context, to: &mut dyn Sink, flags: u32) -> Result<Received> {
        if flags & message::OUT_OF_BAND != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut received = self.take(to, flags)?;
        if !self.state.lock().pass_credentials {
            received.ancillary.credentials = None;
        } else if received.ancillary.credentials.is_none() && received.whole > 0 {
            received.ancillary.credentials = Some(Credentials { process: 0, user: 65534, group: 65534 });
        }
        let _ = context;
        Ok(received)
    }

    fn shutdown(&self, receiving: bool, sending: bool) -> Result<()> {
        let mut state = self.state.lock();
        if !matches!(state.stage, Stage::Connected | Stage::Listening(_)) {
            return Err(Errno::ENOTCONN);
        }
        state.receive_ended |= receiving;
        state.send_ended |= sending;
        let peer = state.peer.upgrade();
        drop(state);
        if let Some(peer) = peer.filter(|_| self.kind != SOCK_DGRAM) {
            let mut state = peer.state.lock();
            state.receive_ended |= sending;
            state.send_ended |= receiving;
            drop(state);
            peer.queue.wake_all();
        }
        self.queue.wake_all();
        Ok(())
    }

    fn option(&self, level: i32, name: i32) -> Result<Vec<u8>> {
        if level != option::LEVEL {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        Ok(match name {
            option::TYPE => value(self.kind as i32),
            option::DOMAIN => value(i32::from(AF_UNIX)),
            option::PROTOCOL | option::REUSE_ADDRESS | option::BROADCAST | option::KEEP_ALIVE => value(0),
            option::DO_NOT_ROUTE | option::PRIORITY | option::OUT_OF_BAND_INLINE | option::TIMESTAMP => value(0),
            option::REUSE_PORT => value(0),
            option::ERROR => value(state.error.take().map_or(0, Errno::number)),
            option::SEND_BUFFER | option::RECEIVE_BUFFER => value(state.send_buffer as i32),
            option::ACCEPTS => value(i32::from(matches!(state.stage, Stage::Listening(_)))),
            option::PASS_CREDENTIALS => value(i32::from(state.pass_credentials)),
            option::PEER_CREDENTIALS => match state.stage {
                Stage::Fresh => Credentials { process: 0, user: u32::MAX, group: u32::MAX }.to_bytes().to_vec(),
                _ => state.peer_credentials.to_bytes().to_vec(),
            },
            option::RECEIVE_LOW | option::SEND_LOW => value(1),
            option::LINGER => alloc::vec![0; 8],
            option::RECEIVE_TIMEOUT => time_limit_bytes(state.limits.receive),
            option::SEND_TIMEOUT => time_limit_bytes(state.limits.send),
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }

    fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level != option::LEVEL {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        match name {
            option::RECEIVE_TIMEOUT => state.limits.receive = time_limit(value)?,
            option::SEND_TIMEOUT => state.limits.send = time_limit(value)?,
            option::PASS_CREDENTIALS => state.pass_credentials = number(value)? != 0,
            option::SEND_BUFFER | option::SEND_BUFFER_FORCE => {
                // Linux doubles what is asked for, for its own book-keeping.
                let bytes = usize::try_from(number(value)?).unwrap_or(0).saturating_mul(2);
                state.send_buffer = bytes.clamp(LEAST_BUFFER, MOST_BUFFER);
            }
            option::RECEIVE_BUFFER | option::RECEIVE_BUFFER_FORCE => {
                number(value)?;
            }
            option::REUSE_ADDRESS | option::BROADCAST | option::KEEP_ALIVE | option::DO_NOT_ROUTE => {
                number(value)?;
            }
            option::PRIORITY | option::OUT_OF_BAND_INLINE | option::TIMESTAMP | option::REUSE_PORT => {
                number(value)?;
            }
            option::LINGER | option::RECEIVE_LOW => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        self.state.lock().limits
    }

    fn depth(&self) -> Option<u32> {
        Some(self.state.lock().depth)
    }
}
