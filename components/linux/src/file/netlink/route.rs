//! What rtnetlink(7) answers: links, addresses, routes and rules, of the interfaces as they are. Nothing can be changed: a container has no right to.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::message::{Message, Request, Thread, attributes, flag, kind, requests};
use crate::errno::{Errno, Result};
use crate::file::inet::interfaces::{Held, Interface, Interfaces, LOOP, WIRE, flag as link};
use crate::file::socket::{AF_INET, AF_INET6, AF_UNSPEC, word};

/// Kinds of messages: what is new, of which what is asked for is two more.
const LINK: u16 = 16;
const ADDRESS: u16 = 20;
const ROUTE: u16 = 24;
const NEIGHBOUR: u16 = 28;
const RULE: u16 = 32;
const QUEUE: u16 = 36;
const ASK: u16 = 2;
/// The last that Linux 6.1 knows.
const LAST: u16 = 123;

/// Bytes of a datagram at most: what programs have room for.
const TOGETHER: usize = 3776;

const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u8 = 255;
const TABLE_DEFAULT: u8 = 253;

/// Scopes of addresses and routes.
mod scope {
    pub const EVERYWHERE: u8 = 0;
    pub const LINK: u8 = 253;
    pub const HOST: u8 = 254;
}

/// Who made a route.
mod origin {
    pub const KERNEL: u8 = 2;
    pub const BOOT: u8 = 3;
    pub const ROUTER: u8 = 9;
}

/// What a route does with packets.
mod way {
    pub const UNICAST: u8 = 1;
    pub const LOCAL: u8 = 2;
    pub const BROADCAST: u8 = 3;
    pub const MULTICAST: u8 = 5;
}

/// Whether an answer depends on addresses that the network may not have been given yet.
pub fn asks_for_addresses(bytes: &[u8]) -> bool {
    requests(bytes).any(|request| matches!(request.kind, kind if kind == ADDRESS + ASK || kind == ROUTE + ASK))
}

/// What the socket says of how it wants its answers.
#[derive(Clone, Copy, Default)]
pub struct Wishes {
    pub port: u32,
    /// `NETLINK_CAP_ACK`: errors do not repeat what was asked.
    pub short: bool,
    /// `NETLINK_GET_STRICT_CHK`: what is said beside the kind of what is wanted holds.
    pub strict: bool,
}

/// Answers what was sent at once: the datagrams to be received.
pub fn answer(bytes: &[u8], interfaces: &Interfaces, wishes: Wishes) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    for request in requests(bytes) {
        let result = if request.flags & flag::REQUEST == 0 || request.kind < kind::LEAST {
            Ok(Answer::Nothing)
        } else {
            one(&request, interfaces, wishes)
        };
        let to = Thread { sequence: request.sequence, port: wishes.port };
        let error = match result {
            Ok(Answer::All(messages)) => {
                together(messages, &mut answers);
                answers.push(Message::new(kind::DONE, flag::MULTIPLE, to, &[0; 4]).end());
                continue;
            }
            Ok(Answer::One(message)) => {
                answers.push(message);
                0
            }
            Ok(Answer::Nothing) => 0,
            Err(error) => error.number(),
        };
        if error != 0 || request.flags & flag::ACKNOWLEDGE != 0 {
            answers.push(outcome(&request, error, wishes));
        }
    }
    answers
}

/// `NLMSG_ERROR`: how a request went.
pub fn outcome(request: &Request, error: i32, wishes: Wishes) -> Vec<u8> {
    let is_short = error == 0 || wishes.short;
    let (flags, repeated) = if is_short { (flag::CAPPED, request.whole.get(..16)) } else { (0, Some(request.whole)) };
    let first = [&(-error).to_ne_bytes(), repeated.unwrap_or_default()].concat();
    Message::new(kind::ERROR, flags, Thread { sequence: request.sequence, port: wishes.port }, &first).end()
}

enum Answer {
    Nothing,
    One(Vec<u8>),
    All(Vec<Vec<u8>>),
}

/// Puts messages into datagrams that programs have room for.
fn together(messages: Vec<Vec<u8>>, answers: &mut Vec<Vec<u8>>) {
    let mut datagram: Vec<u8> = Vec::new();
    for message in messages {
        if !datagram.is_empty() && datagram.len() + message.len() > TOGETHER {
            answers.push(core::mem::take(&mut datagram));
        }
        datagram.extend(message);
    }
    if !datagram.is_empty() {
        answers.push(datagram);
    }
}

fn one(request: &Request, interfaces: &Interfaces, wishes: Wishes) -> Result<Answer> {
    let family = request.body.first().copied();
    if request.kind > LAST {
        return Err(Errno::EOPNOTSUPP);
    }
    let Some(family) = family.map(u16::from) else { return Ok(Answer::Nothing) };
    if request.kind & 3 != ASK {
        return Err(Errno::EPERM);
    }
    let is_dump = request.flags & flag::DUMP != 0;
    let to = Thread { sequence: request.sequence, port: wishes.port };
    let from = Maker { to, flags: if is_dump { flag::MULTIPLE } else { 0 } };
    let family_wanted = |ip: IpAddr| family == AF_UNSPEC || family == of(ip);
    match (request.kind - ASK, is_dump) {
        (LINK, true) => Ok(Answer::All(interfaces.all().iter().map(|interface| from.link(interface)).collect())),
        (LINK, false) => Ok(Answer::One(from.link(&wanted_link(request, interfaces)?))),
        (ADDRESS, true) => {
            let number = if wishes.strict { word(request.body, 4).unwrap_or(0) } else { 0 };
            if number != 0 && interfaces.numbered(number).is_none() {
                return Err(Errno::ENODEV);
            }
            let from = if number == 0 { from } else { Maker { flags: flag::MULTIPLE | flag::FILTERED, ..from } };
            let addresses = interfaces.addresses().into_iter();
            let held = addresses.filter(|held| family_wanted(held.ip) && (number == 0 || held.interface == number));
            Ok(Answer::All(held.map(|held| from.address(&held, interfaces)).collect()))
        }
        (ADDRESS, false) if family == AF_INET6 => {
            let wanted =
                attributes(request.body, 8).find(|(kind, _)| matches!(kind, 1 | 2)).and_then(|(_, data)| ip(data));
            let wanted = wanted.ok_or(Errno::EINVAL)?;
            let held = interfaces.addresses().into_iter().find(|held| held.ip == wanted);
            Ok(Answer::One(from.address(&held.ok_or(Errno::EADDRNOTAVAIL)?, interfaces)))
        }
        (ROUTE, true) => {
            let filter = wishes.strict.then(|| Filter::of(request));
            let is_narrow = filter.as_ref().is_some_and(|filter| !filter.is_nothing());
            let from = if is_narrow { Maker { flags: flag::MULTIPLE | flag::FILTERED, ..from } } else { from };
            let routes = routes(interfaces).into_iter().filter(|route| family == AF_UNSPEC || family == route.family);
            let routes = routes.filter(|route| filter.as_ref().is_none_or(|filter| filter.lets(route)));
            Ok(Answer::All(routes.map(|route| from.route(&route, 0)).collect()))
        }
        (ROUTE, false) => wanted_route(request, interfaces, &from).map(Answer::One),
        (RULE, true) => {
            let rule = |family: u16, priority: u32, table: u8| from.rule(family, priority, table);
            let mut rules = Vec::new();
            if matches!(family, AF_UNSPEC | AF_INET) {
                rules.extend([rule(AF_INET, 0, TABLE_LOCAL), rule(AF_INET, 32_766, TABLE_MAIN)]);
                rules.push(rule(AF_INET, 32_767, TABLE_DEFAULT));
            }
            if matches!(family, AF_UNSPEC | AF_INET6) {
                rules.extend([rule(AF_INET6, 0, TABLE_LOCAL), rule(AF_INET6, 32_766, TABLE_MAIN)]);
            }
            Ok(Answer::All(rules))
        }
        // Whom the network has met, it keeps to itself; packets wait in no queue of their own.
        (NEIGHBOUR | QUEUE, true) => Ok(Answer::All(Vec::new())),
        (NEIGHBOUR, false) => Err(Errno::ENOENT),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn of(ip: IpAddr) -> u16 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn ip(data: &[u8]) -> Option<IpAddr> {
    match data.len() {
        4 => data.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        16 => data.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The link that is asked for by number or by name.
fn wanted_link(request: &Request, interfaces: &Interfaces) -> Result<Interface> {
    const NAME: u16 = 3;
    const OTHER_NAME: u16 = 53;
    if request.body.len() < 16 {
        return Err(Errno::EINVAL);
    }
    let number = word(request.body, 4).unwrap_or(0);
    if number as i32 > 0 {
        return interfaces.numbered(number).ok_or(Errno::ENODEV);
    }
    let name = attributes(request.body, 16).find(|(kind, _)| matches!(*kind, NAME | OTHER_NAME));
    let (_, name) = name.ok_or(Errno::EINVAL)?;
    interfaces.named(name.split(|byte| *byte == 0).next().unwrap_or_default()).ok_or(Errno::ENODEV)
}

/// A route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    pub family: u16,
    /// Where it leads: a network; none: everywhere.
    pub to: Option<IpAddr>,
    pub length: u8,
    table: u8,
    origin: u8,
    scope: u8,
    way: u8,
    pub interface: u32,
    pub gateway: Option<IpAddr>,
    /// The address that packets are sent from.
    source: Option<IpAddr>,
    pub metric: u32,
}

impl Route {
    /// Whether it leads to others: the rest is what this machine itself is.
    pub fn is_main(&self) -> bool {
        self.table == TABLE_MAIN
    }
}

/// All routes, as Linux has them for such interfaces.
pub fn routes(interfaces: &Interfaces) -> Vec<Route> {
    let mut routes = Vec::new();
    let addresses = interfaces.addresses();
    for gateway in interfaces.gateways() {
        let is_v4 = gateway.is_ipv4();
        routes.push(Route {
            family: of(gateway),
            to: None,
            length: 0,
            table: TABLE_MAIN,
            origin: if is_v4 { origin::BOOT } else { origin::ROUTER },
            scope: scope::EVERYWHERE,
            way: way::UNICAST,
            interface: WIRE,
            gateway: Some(gateway),
            source: None,
            metric: if is_v4 { 0 } else { 1024 },
        });
    }
    for held in &addresses {
        let is_v4 = held.ip.is_ipv4();
        let bits = if is_v4 { 32 } else { 128 };
        let own = Route {
            family: of(held.ip),
            to: Some(held.ip),
            length: bits,
            table: TABLE_LOCAL,
            origin: origin::KERNEL,
            scope: if is_v4 { scope::HOST } else { scope::EVERYWHERE },
            way: way::LOCAL,
            interface: held.interface,
            gateway: None,
            source: Some(held.ip).filter(|_| is_v4),
            metric: 0,
        };
        let network = Route { to: Some(held.network()), length: held.prefix, ..own };
        let is_loop = held.interface == LOOP;
        match held.broadcast() {
            _ if !is_v4 => {
                routes.push(Route { table: TABLE_MAIN, way: way::UNICAST, metric: 256, ..network });
            }
            // The whole network of the loop is this machine.
            _ if is_loop => routes.push(network),
            _ => routes.push(Route { table: TABLE_MAIN, scope: scope::LINK, way: way::UNICAST, ..network }),
        }
        routes.push(own);
        if let Some(all) = held.broadcast() {
            routes.push(Route { to: Some(all.into()), scope: scope::LINK, way: way::BROADCAST, ..own });
        }
        if !is_v4 && !is_loop {
            let to = core::net::Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into();
            routes.push(Route { to: Some(to), length: 8, way: way::MULTICAST, metric: 256, ..own });
        }
    }
    routes
}

/// What is wanted of a dump of routes.
struct Filter {
    table: u32,
    interface: u32,
    origin: u8,
    way: u8,
}

impl Filter {
    fn of(request: &Request) -> Filter {
        const INTERFACE: u16 = 4;
        const TABLE: u16 = 15;
        let byte = |at: usize| request.body.get(at).copied().unwrap_or(0);
        let named = |wanted: u16| attributes(request.body, 12).find(|(kind, _)| *kind == wanted);
        let number = |wanted: u16| named(wanted).and_then(|(_, data)| word(data, 0));
        Filter {
            table: number(TABLE).unwrap_or(byte(4).into()),
            interface: number(INTERFACE).unwrap_or(0),
            origin: byte(5),
            way: byte(7),
        }
    }

    fn is_nothing(&self) -> bool {
        self.table == 0 && self.interface == 0 && self.origin == 0 && self.way == 0
    }

    fn lets(&self, route: &Route) -> bool {
        (self.table == 0 || self.table == u32::from(route.table))
            && (self.interface == 0 || self.interface == route.interface)
            && (self.origin == 0 || self.origin == route.origin)
            && (self.way == 0 || self.way == route.way)
    }
}

/// `RTM_GETROUTE` of one address: the way that a packet to it takes.
fn wanted_route(request: &Request, interfaces: &Interfaces, from: &Maker) -> Result<Vec<u8>> {
    const CLONED: u32 = 0x200;
    if request.body.len() < 12 {
        return Err(Errno::EINVAL);
    }
    let family = u16::from(request.body.first().copied().unwrap_or(0));
    let wanted = attributes(request.body, 12).find(|(kind, _)| *kind == 1).and_then(|(_, data)| ip(data));
    let wanted = match (wanted, family) {
        (Some(wanted), family) if of(wanted) == family => wanted,
        (None, AF_INET) => IpAddr::from([0; 4]),
        (None, AF_INET6) => IpAddr::from([0; 16]),
        (_, AF_INET | AF_INET6) => return Err(Errno::EINVAL),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let fits = |route: &Route| {
        let Some(ip) = route.to else { return route.family == family };
        Held { interface: 0, ip, prefix: route.length }.reaches(wanted)
    };
    let routes = routes(interfaces).into_iter().filter(fits);
    let way = routes.max_by_key(|route| (route.length, route.table)).ok_or(Errno::ENETUNREACH)?;
    let is_local = way.way == way::LOCAL;
    let same = |held: &&Held| held.interface == way.interface && of(held.ip) == family;
    let source = interfaces.addresses().iter().find(same).map(|held| held.ip);
    let source = if is_local { Some(wanted) } else { source };
    let all_bits = if family == AF_INET { 32 } else { 128 };
    let interface = if is_local { LOOP } else { way.interface };
    let found =
        Route { to: Some(wanted), length: all_bits, scope: scope::EVERYWHERE, source, interface, metric: 0, ..way };
    Ok(from.route(&found, CLONED))
}

/// Makes messages of one answer.
#[derive(Clone, Copy)]
struct Maker {
    to: Thread,
    flags: u16,
}

impl Maker {
    fn begin(&self, kind: u16, first: &[u8]) -> Message {
        Message::new(kind, self.flags, self.to, first)
    }

    fn link(&self, interface: &Interface) -> Vec<u8> {
        const OPERATES: u8 = 6;
        let mut first = [0; 16];
        let parts = [[0, 0], interface.hardware.to_ne_bytes()].concat();
        let parts = [parts, interface.number.to_ne_bytes().into(), interface.flags.to_ne_bytes().into()].concat();
        for (to, from) in first.iter_mut().zip(parts) {
            *to = from;
        }
        let is_loop = interface.flags & link::LOOPBACK != 0;
        let least = if is_loop { 0 } else { 68 };
        let most = if is_loop { 0 } else { u32::from(u16::MAX) };
        self.begin(LINK, &first)
            .with_text(3, interface.name)
            .with_word(13, 1000)
            .with(16, &[if is_loop { 0 } else { OPERATES }])
            .with(17, &[0])
            .with_word(4, interface.longest)
            .with_word(50, least)
            .with_word(51, most)
            .with_word(27, 0)
            .with_word(30, 0)
            .with_word(31, 1)
            .with_word(32, 1)
            .with(33, &[1])
            .with_text(6, "noqueue")
            .with(1, &interface.address)
            .with(2, &interface.broadcast)
            // Counters, which nobody keeps: of 64 bits, and of 32.
            .with(23, &[0; 24 * 8])
            .with(7, &[0; 24 * 4])
            .end()
    }

    fn address(&self, held: &Held, interfaces: &Interfaces) -> Vec<u8> {
        const PERMANENT: u8 = 0x80;
        let is_host = held.ip.is_loopback();
        let reach = match held.ip {
            _ if is_host => scope::HOST,
            ip if is_link_local(ip) => scope::LINK,
            _ => scope::EVERYWHERE,
        };
        let mut first = alloc::vec![of(held.ip) as u8, held.prefix, PERMANENT, reach];
        first.extend(held.interface.to_ne_bytes());
        let name = interfaces.numbered(held.interface).map_or("", |interface| interface.name);
        let mut message = self.begin(ADDRESS, &first).with(1, &octets(held.ip));
        if held.ip.is_ipv4() {
            message = message.with(2, &octets(held.ip));
            if let Some(broadcast) = held.broadcast().filter(|_| !is_host) {
                message = message.with(4, &broadcast.octets());
            }
            message = message.with_text(3, name);
        }
        // Valid for ever; made and changed at boot.
        let times = [[0xff; 4], [0xff; 4], [0; 4], [0; 4]];
        message.with_word(8, PERMANENT.into()).with(6, times.as_flattened()).end()
    }

    fn route(&self, route: &Route, flags: u32) -> Vec<u8> {
        let mut first =
            alloc::vec![route.family as u8, route.length, 0, 0, route.table, route.origin, route.scope, route.way];
        first.extend(flags.to_ne_bytes());
        let mut message = self.begin(ROUTE, &first).with_word(15, route.table.into());
        if let Some(to) = route.to {
            message = message.with(1, &octets(to));
        }
        if route.metric != 0 {
            message = message.with_word(6, route.metric);
        }
        if let Some(source) = route.source {
            message = message.with(7, &octets(source));
        }
        if let Some(gateway) = route.gateway {
            message = message.with(5, &octets(gateway));
        }
        message = message.with_word(4, route.interface);
        if flags != 0 || route.family == AF_INET6 {
            // `struct rta_cacheinfo`.
            message = message.with(12, &[0; 32]);
        }
        if route.family == AF_INET6 {
            message = message.with(20, &[0]);
        }
        message.end()
    }

    fn rule(&self, family: u16, priority: u32, table: u8) -> Vec<u8> {
        const TO_TABLE: u8 = 1;
        let first = [family as u8, 0, 0, 0, table, 0, 0, TO_TABLE, 0, 0, 0, 0];
        let message = self.begin(RULE, &first).with_word(15, table.into()).with_word(14, u32::MAX);
        // The first of all has no priority of its own.
        if priority == 0 { message.end() } else { message.with_word(6, priority).end() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{HEAD, half};
    use super::*;
    use crate::file::inet::interfaces::tests::configuration;

    const WISHES: Wishes = Wishes { port: 5, short: false, strict: false };

    /// What a message says of an error, if it is one that does.
    fn error_of(message: &[u8]) -> Option<i32> {
        (half(message, 4) == Some(kind::ERROR)).then(|| word(message, 16).map(|error| -(error as i32))).flatten()
    }

    fn ask(kind: u16, flags: u16, first: &[u8]) -> Message {
        Message::new(kind, flag::REQUEST | flags, Thread { sequence: 3, port: 0 }, first)
    }

    fn answered(message: Message, wishes: Wishes) -> Vec<Vec<u8>> {
        answer(&message.end(), &Interfaces::new(Some(configuration())), wishes)
    }

    fn refused(message: Message) -> Option<i32> {
        answered(message, WISHES).first().and_then(|message| error_of(message))
    }

    #[test]
    fn a_dump_is_in_parts_that_have_room_and_ends() {
        for (kind, count) in [(LINK, 2), (ADDRESS, 4), (ROUTE, 12), (RULE, 5), (NEIGHBOUR, 0)] {
            let answers = answered(ask(kind + ASK, flag::DUMP | flag::ACKNOWLEDGE, &[0; 16]), WISHES);
            let (done, parts) = answers.split_last().unwrap();
            assert_eq!(half(done, 4), Some(super::kind::DONE));
            let messages: Vec<_> = parts.iter().flat_map(|part| requests(part)).collect();
            assert_eq!(messages.len(), count, "{kind}");
            assert!(messages.iter().all(|message| message.kind == kind && message.flags == flag::MULTIPLE));
            assert!(messages.iter().all(|message| message.sequence == 3 && word(message.whole, 12) == Some(5)));
            assert!(parts.iter().all(|part| part.len() <= TOGETHER));
        }
    }

    #[test]
    fn a_link_is_found_by_number_and_by_name() {
        let mut by_number = [0; 16];
        by_number[4] = 2;
        let answers = answered(ask(LINK + ASK, flag::ACKNOWLEDGE, &by_number), WISHES);
        assert_eq!(answers.len(), 2);
        assert_eq!(error_of(&answers[1]), Some(0));
        let named = |name| ask(LINK + ASK, 0, &[0; 16]).with_text(3, name);
        let answers = answered(named("eth0"), WISHES);
        assert_eq!((answers.len(), word(&answers[0], HEAD + 4)), (1, Some(2)));
        assert_eq!(refused(named("eth7")), Some(Errno::ENODEV.number()));
        assert_eq!(refused(ask(LINK + ASK, 0, &[0; 16])), Some(Errno::EINVAL.number()));
    }

    #[test]
    fn nothing_can_be_changed_and_what_is_not_there_is_told() {
        for kind in [LINK, LINK + 1, LINK + 3, ADDRESS, ADDRESS + 1, ROUTE, ROUTE + 1, NEIGHBOUR, RULE] {
            assert_eq!(refused(ask(kind, 0, &[0; 16])), Some(Errno::EPERM.number()), "{kind}");
        }
        assert_eq!(refused(ask(LAST + 1, 0, &[0; 16])), Some(Errno::EOPNOTSUPP.number()));
        assert_eq!(refused(ask(ADDRESS + ASK, 0, &[AF_INET as u8; 8])), Some(Errno::EOPNOTSUPP.number()));
        assert!(answered(ask(LINK + ASK, 0, &[]), WISHES).is_empty());
        assert!(answered(ask(1, 0, &[]), WISHES).is_empty());
        let not_asked = Message::new(LINK, flag::ACKNOWLEDGE, Thread::default(), &[0; 16]);
        assert_eq!(refused(not_asked), Some(0));
    }

    #[test]
    fn errors_repeat_what_was_asked_unless_the_socket_wants_them_short() {
        let long = answered(ask(LINK, 0, &[0; 16]), WISHES);
        let short = answered(ask(LINK, 0, &[0; 16]), Wishes { short: true, ..WISHES });
        assert_eq!((long[0].len(), short[0].len()), (20 + 32, 20 + 16));
        assert_eq!((half(&long[0], 6), half(&short[0], 6)), (Some(0), Some(flag::CAPPED)));
    }

    #[test]
    fn the_way_to_an_address_is_told() {
        let to = |ip: [u8; 4]| {
            let first = [AF_INET as u8, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            answered(ask(ROUTE + ASK, 0, &first).with(1, &ip), WISHES)
        };
        let found = |answers: &[Vec<u8>], wanted: u16| {
            let request = requests(&answers[0]).next().unwrap();
            attributes(request.body, 12).find(|(kind, _)| *kind == wanted).map(|(_, data)| data.to_vec())
        };
        let far = to([1, 1, 1, 1]);
        assert_eq!(found(&far, 5), Some(alloc::vec![10, 0, 2, 2]));
        assert_eq!(found(&far, 7), Some(alloc::vec![10, 0, 2, 15]));
        assert_eq!(found(&to([10, 0, 2, 9]), 5), None);
        let own = to([10, 0, 2, 15]);
        assert_eq!((found(&own, 4), own[0][HEAD + 7]), (Some(1u32.to_ne_bytes().to_vec()), way::LOCAL));
        let lone = answer(
            &ask(ROUTE + ASK, 0, &[AF_INET as u8, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).with(1, &[1, 1, 1, 1]).end(),
            &Interfaces::new(None),
            WISHES,
        );
        assert_eq!(error_of(&lone[0]), Some(Errno::ENETUNREACH.number()));
    }

    #[test]
    fn a_strict_socket_is_told_what_it_asked_for_alone() {
        let strict = Wishes { strict: true, ..WISHES };
        let count = |message, wishes| answered(message, wishes).iter().flat_map(|part| requests(part)).count() - 1;
        let main = || ask(ROUTE + ASK, flag::DUMP, &[AF_INET as u8, 0, 0, 0, TABLE_MAIN, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((count(main(), strict), count(main(), WISHES)), (2, 7));
        let of_loop = || ask(ADDRESS + ASK, flag::DUMP, &[AF_UNSPEC as u8, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!((count(of_loop(), strict), count(of_loop(), WISHES)), (2, 4));
    }
}
