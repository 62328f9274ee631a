//! What became of datagrams that were sent and did not arrive: errors that ICMP tells of them, kept for sockets that want to know (RFC 1122, section
//! 4.1.3.3).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, IpEndpoint};

use super::{Id, Kind, Protocol, Stack, address};
use tessera_interfaces::{Failure, NetworkError};

/// Errors of a socket that wait at most: later ones are lost.
const MOST: usize = 16;
/// What one costs over the bytes that it quotes.
const OVERHEAD: usize = 96;

/// What a message of ICMP says of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report<'a> {
    /// Who said it.
    pub by: IpAddress,
    /// Type and code, as the datagram's version of IP numbers them.
    pub kind: u8,
    pub code: u8,
    /// As much of the datagram's payload as it quotes.
    pub quoted: &'a [u8],
}

impl Report<'_> {
    /// Nobody listens at the port: RFC 792, and RFC 4443 section 3.1.
    pub fn refused(by: IpAddress, quoted: &[u8]) -> Report<'_> {
        let (kind, code) = if matches!(by, IpAddress::Ipv4(_)) { (3, 3) } else { (1, 4) };
        Report { by, kind, code, quoted }
    }

    fn error(&self) -> NetworkError {
        match (self.by, self.kind, self.code) {
            (IpAddress::Ipv4(_), 3, 3) | (IpAddress::Ipv6(_), 1, 4) => NetworkError::ConnectionRefused,
            _ => NetworkError::HostUnreachable,
        }
    }
}

/// An error that is kept.
pub struct Kept {
    to: IpEndpoint,
    by: IpAddress,
    kind: u8,
    code: u8,
    bytes: Vec<u8>,
}

/// The errors of a socket, oldest first.
pub type Failures = VecDeque<Kept>;

impl Stack {
    /// A datagram from `from` did not reach `to`: whoever is connected to there is told, and whoever keeps errors.
    pub(super) fn undelivered(&mut self, protocol: Protocol, from: IpEndpoint, to: IpEndpoint, report: Report<'_>) {
        let Some(id) = self.hearer(protocol, to, from) else { return };
        let Some(entry) = self.sockets.get_mut(id) else { return };
        let Kind::Datagrams(datagrams) = &mut entry.kind else { return };
        let keeps = entry.options.receive_errors;
        if !keeps && datagrams.remote != Some(to) {
            return;
        }
        let cost = (report.quoted.len() + OVERHEAD) as u64;
        if keeps
            && datagrams.failures.len() < MOST
            && self.clients.get_mut(entry.client).is_some_and(|client| client.charge(cost).is_ok())
        {
            entry.charged += cost;
            let Report { by, kind, code, quoted } = report;
            datagrams.failures.push_back(Kept { to, by, kind, code, bytes: quoted.to_vec() });
        }
        entry.error = Some(report.error());
        self.publish(id, true);
    }

    /// Takes the oldest error that is kept, and the bytes that it quotes.
    pub fn receive_error(&mut self, id: Id, into: &mut [u8]) -> Result<Failure, NetworkError> {
        let entry = self.entry_mut(id)?;
        let family = entry.family;
        let Kind::Datagrams(datagrams) = &mut entry.kind else { return Err(NetworkError::WouldBlock) };
        let Kept { to, by, kind, code, bytes } = datagrams.failures.pop_front().ok_or(NetworkError::WouldBlock)?;
        // With the last one the socket's own error is known as well.
        if datagrams.failures.is_empty() {
            entry.error = None;
        }
        let length = bytes.len().min(into.len());
        if let (Some(into), Some(bytes)) = (into.get_mut(..length), bytes.get(..length)) {
            into.copy_from_slice(bytes);
        }
        let cost = (bytes.len() + OVERHEAD) as u64;
        entry.charged = entry.charged.saturating_sub(cost);
        let client = entry.client;
        if let Some(client) = self.clients.get_mut(client) {
            client.discharge(cost);
        }
        self.publish(id, false);
        let to = address::address(to, family);
        Ok(Failure { length: length as u32, whole: bytes.len() as u32, to, by: address::bytes(by), kind, code })
    }
}
