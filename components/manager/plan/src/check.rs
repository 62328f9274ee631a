//! Judging a plan that was read: nothing of it is used before all of it is in range.

use alloc::collections::BTreeSet;

use crate::Refusal;
use crate::plan::{Component, Domain, Need, Plan, Server};

/// Most domains of an image.
const DOMAINS: usize = 63;
/// Priorities that a domain may have: the manager's own is above them.
const PRIORITIES: core::ops::Range<u8> = 0..60;
/// Bytes of a page.
const PAGE: u64 = 4096;

impl Plan {
    /// Reads what [`Plan::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Plan, Refusal> {
        let (version, _) = postcard::take_from_bytes::<u32>(bytes).map_err(|_| Refusal::Encoding)?;
        if version != Plan::VERSION {
            return Err(Refusal::Version(version));
        }
        let plan: Plan = postcard::from_bytes(bytes).map_err(|_| Refusal::Encoding)?;
        plan.check()?;
        Ok(plan)
    }

    /// Whether every value is in range.
    pub fn check(&self) -> Result<(), Refusal> {
        need(self.domains.len() <= DOMAINS, "the number of domains")?;
        let rest = self.domains.iter().filter(|domain| domain.pages == Domain::REST).count();
        need(rest <= 1, "the domains that have the rest of the memory")?;
        let mut names = BTreeSet::new();
        let mut routes = BTreeSet::new();
        for domain in &self.domains {
            need(names.insert(domain.name.as_str()), "a domain's name")?;
            domain.check(self, &mut routes)?;
        }
        Ok(())
    }
}

impl Domain {
    fn check(&self, plan: &Plan, routes: &mut BTreeSet<u32>) -> Result<(), Refusal> {
        need(is_name(&self.name) && is_name(&self.program), "a domain's name")?;
        need(PRIORITIES.contains(&self.priority), "a domain's priority")?;
        need(self.least > 0 && self.least <= self.pages && self.pages < 1 << 40, "a domain's memory")?;
        if let Some(share) = self.share {
            need(share.amount > 0 && share.amount <= share.period, "a domain's share of processor time")?;
        }
        let mut names = BTreeSet::new();
        let mut bits = BTreeSet::new();
        for component in &self.components {
            need(is_name(&component.name) && names.insert(component.name.as_str()), "a component's name")?;
            component.check(plan, routes, &mut bits)?;
        }
        Ok(())
    }
}

impl Component {
    fn check(&self, plan: &Plan, routes: &mut BTreeSet<u32>, bits: &mut BTreeSet<u8>) -> Result<(), Refusal> {
        for provision in &self.provisions {
            need(is_name(&provision.name), "a provision's name")?;
        }
        for used in &self.uses {
            need(is_name(&used.name), "a use's name")?;
            match used.server {
                Server::Neighbour => {}
                Server::Manager { route } => need(routes.insert(route), "a route's number")?,
                Server::Domain { domain, route, bit, .. } => {
                    need(usize::from(domain) < plan.domains.len(), "a route's domain")?;
                    need(routes.insert(route), "a route's number")?;
                    need(bit < 64 && bits.insert(bit), "a route's bit")?;
                }
            }
        }
        let mut names = BTreeSet::new();
        for needed in &self.needs {
            let name = match needed {
                Need::Log | Need::Clock => continue,
                Need::Ports { name, first, count } => {
                    need(*count > 0 && first.checked_add(count - 1).is_some(), "a range of ports")?;
                    name
                }
                Need::Interrupt { name, .. } => name,
                Need::Memory { name, first, length } => {
                    let aligned = first.is_multiple_of(PAGE) && length.is_multiple_of(PAGE);
                    need(aligned && *length > 0 && first.checked_add(*length).is_some(), "a range of device memory")?;
                    name
                }
                Need::Authority { name, of } => {
                    need(is_name(of), "an authority's name")?;
                    name
                }
            };
            need(is_name(name) && names.insert(name.as_str()), "a need's name")?;
        }
        Ok(())
    }
}

/// Names take part in the names of handles, whose parts are separated by `.`, `:` and `=`.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=31).contains(&text.len()) && text.bytes().all(allowed)
}

fn need(holds: bool, which: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Value(which)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Provision, Restart, Share, Use};
    use alloc::string::{String, ToString};
    use alloc::vec;

    fn domain(name: &str) -> Domain {
        Domain {
            name: name.to_string(),
            program: name.to_string(),
            pages: 1024,
            least: 1024,
            priority: 20,
            share: Some(Share { amount: 10, period: 100 }),
            processors: 0,
            restart: Restart::Always,
            essential: false,
            level: Default::default(),
            components: vec![],
        }
    }

    fn plan() -> Plan {
        let mut server = domain("server");
        server.components.push(Component {
            name: "server".into(),
            arguments: vec!["a=b".into()],
            provisions: vec![Provision { name: "echo".into(), interface: "Echo".into() }],
            uses: vec![],
            needs: vec![
                Need::Log,
                Need::Ports { name: "uart".into(), first: 0xfff8, count: 8 },
                Need::Memory { name: "window".into(), first: 0xfe00_0000, length: 4096 },
            ],
        });
        let mut client = domain("client");
        client.components.push(Component {
            name: "client".into(),
            arguments: vec![],
            provisions: vec![],
            uses: vec![
                Use {
                    name: "echo".into(),
                    interface: "Echo".into(),
                    provider: "server.echo".into(),
                    server: Server::Domain { domain: 0, object: 0, route: 1, bit: 0 },
                },
                Use {
                    name: "supervisor".into(),
                    interface: "Supervisor".into(),
                    provider: "manager".into(),
                    server: Server::Manager { route: 2 },
                },
            ],
            needs: vec![Need::Authority { name: "power".into(), of: "power".into() }],
        });
        Plan { version: Plan::VERSION, image: "test".into(), domains: vec![server, client] }
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Plan::decode(&plan().encode()), Ok(plan()));
    }

    #[test]
    fn another_version_is_told() {
        let other = Plan { version: 9, ..plan() };
        assert_eq!(Plan::decode(&other.encode()), Err(Refusal::Version(9)));
    }

    #[test]
    fn every_value_out_of_range_is_refused() {
        type Spoil = fn(&mut Plan);
        let spoil: [(&str, Spoil); 13] = [
            ("a route's domain", |plan| {
                plan.domains[1].components[0].uses[0].server = Server::Domain { domain: 2, object: 0, route: 1, bit: 0 }
            }),
            ("a route's bit", |plan| {
                plan.domains[1].components[0].uses[0].server =
                    Server::Domain { domain: 0, object: 0, route: 1, bit: 64 }
            }),
            ("a route's number", |plan| plan.domains[1].components[0].uses[1].server = Server::Manager { route: 1 }),
            ("a domain's priority", |plan| plan.domains[0].priority = 60),
            ("a domain's memory", |plan| plan.domains[0].pages = 0),
            ("the domains that have the rest of the memory", |plan| {
                plan.domains[0].pages = Domain::REST;
                plan.domains[1].pages = Domain::REST;
            }),
            ("a domain's share of processor time", |plan| {
                plan.domains[0].share = Some(Share { amount: 101, period: 100 })
            }),
            ("a domain's name", |plan| plan.domains[1].name = "server".into()),
            ("a domain's name", |plan| plan.domains[1].program = "../init".into()),
            ("a component's name", |plan| plan.domains[1].components[0].name = "a.b".into()),
            ("a range of ports", |plan| {
                plan.domains[0].components[0].needs[1] = Need::Ports { name: "uart".into(), first: 0xfff9, count: 8 }
            }),
            ("a range of device memory", |plan| {
                plan.domains[0].components[0].needs[2] =
                    Need::Memory { name: "window".into(), first: u64::MAX - 4095, length: 4096 }
            }),
            ("a need's name", |plan| {
                plan.domains[1].components[0].needs[0] = Need::Authority { name: String::new(), of: "power".into() }
            }),
        ];
        for (which, spoil) in spoil {
            let mut plan = plan();
            spoil(&mut plan);
            assert_eq!(Plan::decode(&plan.encode()), Err(Refusal::Value(which)));
        }
    }

    #[test]
    fn one_domain_has_what_the_others_leave() {
        let mut plan = plan();
        let others: u64 = plan.domains[1..].iter().map(|domain| domain.pages).sum();
        plan.domains[0].pages = Domain::REST;
        plan.share_memory(others + 300, 100);
        assert_eq!(plan.domains[0].pages, 200);
        plan.domains[0].pages = Domain::REST;
        plan.share_memory(10, 100);
        assert_eq!(plan.domains[0].pages, 1, "too little is told when its pool is made, not here");
    }

    #[test]
    fn domains_that_can_do_with_less_have_what_half_of_the_memory_allows() {
        let shared = |free: u64| {
            let mut plan = plan();
            plan.domains.truncate(2);
            plan.domains.push(plan.domains[0].clone());
            for (domain, (least, pages)) in plan.domains.iter_mut().zip([(10, 110), (20, 220), (1, Domain::REST)]) {
                (domain.least, domain.pages) = (least, pages);
            }
            plan.share_memory(free + 5, 5);
            let pages: alloc::vec::Vec<u64> = plan.domains.iter().map(|domain| domain.pages).collect();
            <[u64; 3]>::try_from(pages).unwrap()
        };
        assert_eq!(shared(1000), [110, 220, 670], "all that they may have");
        assert_eq!(shared(660), [110, 220, 330]);
        assert_eq!(shared(360), [60, 120, 180], "halfway");
        assert_eq!(shared(60), [10, 20, 30]);
        assert_eq!(shared(32), [10, 20, 2], "never less than the least");
    }

    #[test]
    fn damaged_bytes_are_refused_or_make_a_plan_in_range() {
        let good = plan().encode();
        for length in 0..good.len() {
            assert!(Plan::decode(&good[..length]).is_err(), "cut at {length}");
        }
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let mut read = 0;
        for _ in 0..200_000 {
            let mut bytes = good.clone();
            for _ in 0..1 + next() % 4 {
                let at = next() as usize % bytes.len();
                bytes[at] = next() as u8;
            }
            if let Ok(plan) = Plan::decode(&bytes) {
                plan.check().unwrap();
                read += 1;
            }
        }
        assert!(read > 0, "damage to a text leaves a plan that can be read");
    }
}
