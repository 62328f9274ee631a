//! Options of sockets, and the calls that all kinds of sockets have.

use smoltcp::socket::tcp::State;

use super::{Id, Kind, Ring, Stack};
use tessera_interfaces::{NetworkError, Shutdown, SocketOption};

const SECOND: u64 = 1_000_000_000;

impl Stack {
    /// Sends bytes of a stream, or a datagram to where the socket is connected to.
    pub fn send(&mut self, id: Id, from: &[u8]) -> Result<u64, NetworkError> {
        if self.is_tcp(id) { self.send_stream(id, from) } else { self.send_datagram(id, from) }
    }

    /// Receives bytes of a stream, or of a datagram; `keep` leaves them there.
    pub fn receive(&mut self, id: Id, into: &mut [u8], keep: bool) -> Result<u64, NetworkError> {
        if self.is_tcp(id) {
            self.receive_stream(id, into, keep)
        } else {
            self.receive_from(id, into, keep).map(|datagram| datagram.length.into())
        }
    }

    /// Ends one or both directions.
    pub fn shutdown(&mut self, id: Id, how: Shutdown) -> Result<(), NetworkError> {
        if self.is_tcp(id) { self.shutdown_stream(id, how) } else { self.shutdown_datagrams(id, how) }
    }

    /// Changes an option.
    pub fn set_option(&mut self, id: Id, option: SocketOption, value: u64) -> Result<(), NetworkError> {
        let entry = self.entry_mut(id)?;
        let options = &mut entry.options;
        let size = usize::try_from(value).unwrap_or(usize::MAX);
        match option {
            SocketOption::NoDelay => options.no_delay = value != 0,
            SocketOption::KeepAlive => options.keep_alive = value.div_ceil(SECOND),
            SocketOption::ReuseAddress => options.reuse_address = value != 0,
            SocketOption::ReceiveBuffer => options.receive_buffer = Some(size),
            SocketOption::SendBuffer => options.send_buffer = Some(size),
            SocketOption::Linger => options.linger = (value != u64::MAX).then_some(value),
            SocketOption::HopLimit => {
                let hops = u8::try_from(value).ok().filter(|hops| *hops > 0);
                options.time_to_live = Some(hops.ok_or(NetworkError::InvalidArgument)?);
            }
            SocketOption::TrafficClass => {
                options.traffic_class = u8::try_from(value).map_err(|_| NetworkError::InvalidArgument)?;
            }
            SocketOption::Broadcast => options.broadcast = value != 0,
            SocketOption::ReceiveErrors => options.receive_errors = value != 0,
            SocketOption::OnlyV6 if entry.bound => return Err(NetworkError::InvalidArgument),
            SocketOption::OnlyV6 => options.only_version_6 = value != 0,
            SocketOption::UserTimeout => options.user_timeout = value.div_ceil(SECOND / 1000),
            SocketOption::ReceiveQueued | SocketOption::SendQueued | SocketOption::Listening => {
                return Err(NetworkError::InvalidArgument);
            }
        }
        let options = *options;
        match &mut entry.kind {
            Kind::Connection(connection) => {
                connection.apply(&options);
                // When it is looked at next is for others to say; what was held back may go.
                let is_due = match option {
                    SocketOption::KeepAlive | SocketOption::UserTimeout => true,
                    SocketOption::NoDelay => connection.may_hold || entry.ring.is_some(),
                    _ => false,
                };
                if is_due {
                    self.schedule(id);
                }
            }
            Kind::Datagrams(datagrams) => datagrams.apply(&options),
            _ => {}
        }
        Ok(())
    }

    /// The value of an option.
    pub fn option(&self, id: Id, option: SocketOption) -> Result<u64, NetworkError> {
        let entry = self.entry(id)?;
        let options = &entry.options;
        let connection = match &entry.kind {
            Kind::Connection(connection) => Some(connection),
            _ => None,
        };
        let in_rings = |count: fn(&Ring) -> usize| entry.ring.as_ref().map_or(0, count) as u64;
        Ok(match option {
            SocketOption::NoDelay => options.no_delay.into(),
            SocketOption::KeepAlive => options.keep_alive.saturating_mul(SECOND),
            SocketOption::ReuseAddress => options.reuse_address.into(),
            SocketOption::ReceiveBuffer => {
                let asked = options.receive_buffer.unwrap_or_else(|| entry.kind.receive_buffer());
                connection.map_or(asked, |connection| connection.sizes.receive) as u64
            }
            SocketOption::SendBuffer => {
                let asked = options.send_buffer.unwrap_or(super::tcp::BUFFER);
                connection.map_or(asked, |connection| connection.sizes.send) as u64
            }
            SocketOption::Linger => options.linger.unwrap_or(u64::MAX),
            SocketOption::HopLimit => options.marks().hops.into(),
            SocketOption::TrafficClass => options.traffic_class.into(),
            SocketOption::Broadcast => options.broadcast.into(),
            SocketOption::ReceiveErrors => options.receive_errors.into(),
            SocketOption::OnlyV6 => options.only_version_6.into(),
            SocketOption::UserTimeout => options.user_timeout.saturating_mul(SECOND / 1000),
            SocketOption::ReceiveQueued => match &entry.kind {
                Kind::Connection(connection) => connection.look().recv_queue() as u64 + in_rings(Ring::unread),
                Kind::Datagrams(datagrams) => datagrams.next_length() as u64,
                _ => 0,
            },
            SocketOption::SendQueued => match &entry.kind {
                Kind::Connection(connection) if connection.state() != State::Closed => {
                    connection.look().send_queue() as u64 + in_rings(Ring::unsent)
                }
                Kind::Datagrams(datagrams) => datagrams.sending() as u64,
                _ => 0,
            },
            SocketOption::Listening => matches!(entry.kind, Kind::Listener(_)).into(),
        })
    }
}

impl Kind {
    fn receive_buffer(&self) -> usize {
        match self {
            Kind::Datagrams(_) => super::datagram::QUEUE,
            _ => super::tcp::BUFFER,
        }
    }
}
