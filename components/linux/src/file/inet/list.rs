//! The sockets of the network, for those who list them: `/proc/net/tcp` and its like.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use tessera_interfaces::{Address, SocketOption};

use super::{Inet, InetSocket};
use crate::file::socket::SOCK_DGRAM;

/// What is told of a socket.
#[derive(Clone, Copy)]
pub struct Row {
    pub family: u16,
    pub kind: u32,
    pub protocol: i32,
    pub number: u32,
    pub local: Address,
    /// None: it has none, or none yet.
    pub peer: Option<Address>,
    pub stage: Stage,
    /// Bytes that wait to be sent and to be received.
    pub queued: [u64; 2],
}

/// The states that tcp(7) has names for, as far as they are told apart here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Established = 1,
    Connecting = 2,
    Closed = 7,
    Listening = 10,
}

impl Inet {
    /// All sockets that have an address.
    pub fn list(&self) -> Vec<Row> {
        let sockets: Vec<Arc<InetSocket>> =
            self.sockets.lock().values().filter_map(|known| known.socket.upgrade()).collect();
        sockets.iter().filter_map(|socket| socket.row()).collect()
    }
}

impl InetSocket {
    fn row(&self) -> Option<Row> {
        let socket = self.stream.socket();
        let local = socket.local().ok()?;
        let peer = socket.peer().ok();
        let stage = match peer {
            _ if self.state.lock().is_listening => Stage::Listening,
            _ if self.connecting.load(Ordering::Acquire) => Stage::Connecting,
            Some(_) => Stage::Established,
            // A stream without a peer that does not listen is nowhere yet.
            None if self.kind != SOCK_DGRAM && local.port == 0 => return None,
            None => Stage::Closed,
        };
        let count = |option: SocketOption| socket.option(option).unwrap_or(0);
        let queued = [count(SocketOption::SendQueued), count(SocketOption::ReceiveQueued)];
        let (family, kind, protocol, number) = (self.family, self.kind, self.protocol, self.stream.number());
        Some(Row { family, kind, protocol, number, local, peer, stage, queued })
    }
}
