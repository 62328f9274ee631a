//! Names to addresses: literals and `localhost` at once, all else by asking the name server for addresses of both versions (RFC 1035, RFC 3596).
//! Answers are kept for a while, so that the client that asks again finds its own.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use smoltcp::socket::dns::{self, GetQueryResultError, QueryHandle};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{DnsQueryType, IpAddress};

use super::address::bytes;
use super::link::OneFrame;
use super::{ClientId, Stack, WireLink, opening};
use tessera_interfaces::NetworkError;

/// Names that are known or asked for at once.
const NAMES: usize = 256;
/// Names that are asked for at once, and by one client.
const ASKED: usize = 32;
const ASKED_BY_ONE: usize = 8;
/// How long an answer is kept, and how long the news that there is none.
const KEPT: Duration = Duration::from_secs(30);
const FAILURE_KEPT: Duration = Duration::from_secs(2);

/// What is known of names.
#[derive(Default)]
pub struct Names {
    questions: BTreeMap<String, Question>,
}

struct Question {
    /// For addresses of version 4 and 6, until answered.
    asked: [Option<QueryHandle>; 2],
    addresses: Vec<IpAddress>,
    until: Option<Instant>,
    by: Vec<ClientId>,
}

impl Stack {
    /// The addresses of a name, 16 bytes each. `WouldBlock` until they are known: the client is told through number 0.
    pub fn resolve(&mut self, client: ClientId, name: &str) -> Result<Vec<u8>, NetworkError> {
        if let Ok(literal) = name.parse::<IpAddr>() {
            return Ok(bytes(IpAddress::from(literal)).to_vec());
        }
        if name.is_empty() || name.len() > 253 {
            return Err(NetworkError::InvalidArgument);
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        // RFC 6761 section 6.3.
        if name == "localhost" || name.ends_with(".localhost") {
            let both = [IpAddress::v4(127, 0, 0, 1), IpAddress::v6(0, 0, 0, 0, 0, 0, 0, 1)];
            return Ok(both.into_iter().flat_map(bytes).collect());
        }
        self.forget_names();
        if let Some(question) = self.names.questions.get_mut(&name) {
            if question.until.is_none() {
                if !question.by.contains(&client) {
                    question.by.push(client);
                }
                return Err(NetworkError::WouldBlock);
            }
            if question.addresses.is_empty() {
                return Err(NetworkError::NotFound);
            }
            return Ok(question.addresses.iter().copied().flat_map(bytes).collect());
        }
        self.ask(client, name)?;
        Err(NetworkError::WouldBlock)
    }

    fn ask(&mut self, client: ClientId, name: String) -> Result<(), NetworkError> {
        let open = self.names.questions.values().filter(|question| question.until.is_none());
        let (all, own) =
            open.fold((0, 0), |(all, own), question| (all + 1, own + usize::from(question.by.contains(&client))));
        if all >= ASKED || own >= ASKED_BY_ONE || self.names.questions.len() >= NAMES {
            return Err(NetworkError::LimitReached);
        }
        let Some(wire) = &mut self.wire else { return Err(NetworkError::NetworkUnreachable) };
        let WireLink { side, outgoing, setup, .. } = &mut **wire;
        if setup.name_server.is_none() {
            return Err(NetworkError::NetworkUnreachable);
        }
        let socket = setup.sockets.get_mut::<dns::Socket<'_>>(setup.dns);
        let mut asked = [None, None];
        for (slot, kind) in asked.iter_mut().zip([DnsQueryType::A, DnsQueryType::Aaaa]) {
            // Its identifier and port are what a forged answer would have to know (RFC 5452).
            let (first, rest) = (self.secret.number() as u32, self.secret.number());
            let mut device = OneFrame { frame: None, transmit: outgoing, capabilities: &side.capabilities, sent: 0 };
            let mut opening = opening::interface(&side.interface, &mut device, first, rest, self.now);
            let handle = socket.start_query(opening.context(), &name, kind);
            *slot = Some(handle.map_err(|_| NetworkError::InvalidArgument)?);
        }
        setup.due = true;
        let question = Question { asked, addresses: Vec::new(), until: None, by: [client].into() };
        self.names.questions.insert(name, question);
        Ok(())
    }

    /// Takes the answers that have come.
    pub(super) fn collect_names(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        let setup = &mut wire.setup;
        let socket = setup.sockets.get_mut::<dns::Socket<'_>>(setup.dns);
        let mut told = Vec::new();
        for question in self.names.questions.values_mut().filter(|question| question.until.is_none()) {
            for slot in &mut question.asked {
                let Some(handle) = slot.take() else { continue };
                match socket.get_query_result(handle) {
                    Ok(addresses) => question.addresses.extend(addresses),
                    Err(GetQueryResultError::Pending) => *slot = Some(handle),
                    Err(GetQueryResultError::Failed) => {}
                }
            }
            if question.asked.iter().all(Option::is_none) {
                let kept = if question.addresses.is_empty() { FAILURE_KEPT } else { KEPT };
                question.until = Some(self.now + kept);
                told.append(&mut question.by);
            }
        }
        for client in told {
            self.tell_all(client);
        }
    }

    fn forget_names(&mut self) {
        let now = self.now;
        self.names.questions.retain(|_, question| question.until.is_none_or(|until| until > now));
    }
}
