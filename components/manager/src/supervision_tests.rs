//! The manager's rules in a world of the test's own.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use tessera_plan::{Component, Domain, Ending, Phase, Plan, Provision, Restart, Server, Use};

use super::*;
use crate::world::Usage;

#[derive(Default)]
struct Fake {
    now: u64,
    /// What runs, and how what ended has.
    running: Vec<usize>,
    ended: Vec<(usize, Ending)>,
    starts: Vec<(usize, u32)>,
    told: Vec<(usize, u64)>,
    off: Vec<u64>,
    said: Vec<String>,
    /// Domains that cannot be started now.
    refused: Vec<usize>,
}

impl Fake {
    fn end(&mut self, domain: usize, ending: Ending) {
        assert!(self.running.contains(&domain), "{domain} does not run");
        self.running.retain(|other| *other != domain);
        self.ended.push((domain, ending));
    }
}

impl World for Fake {
    fn now(&self) -> u64 {
        self.now
    }

    fn start(&mut self, domain: usize, life: u32) -> Result<(), u64> {
        assert!(!self.running.contains(&domain), "{domain} runs already");
        self.starts.push((domain, life));
        if self.refused.contains(&domain) {
            return Err(7);
        }
        self.running.push(domain);
        Ok(())
    }

    fn ended(&mut self, domain: usize) -> Option<Ending> {
        let index = self.ended.iter().position(|(other, _)| *other == domain)?;
        Some(self.ended.remove(index).1)
    }

    fn kill(&mut self, domain: usize) {
        self.end(domain, Ending::Code(9));
    }

    fn tell(&mut self, client: usize, bits: u64) {
        self.told.push((client, bits));
    }

    fn usage(&self, _: usize) -> Usage {
        Usage::default()
    }

    fn own_usage(&self) -> (Usage, (u64, u64)) {
        (Usage { time: 4, pages: 12, objects: 5 }, (100, 12))
    }

    fn power_off(&mut self, code: u64) {
        self.off.push(code);
    }

    fn say(&mut self, text: fmt::Arguments<'_>) {
        self.said.push(alloc::format!("{text}"));
    }
}

fn domain(name: &str, restart: Restart) -> Domain {
    Domain {
        name: name.into(),
        program: name.into(),
        pages: 1,
        least: 1,
        priority: 1,
        share: None,
        processors: 0,
        restart,
        essential: false,
        level: Default::default(),
        components: Vec::new(),
    }
}

/// A server (0), a client of it (1) and a third that has nothing to do with them (2).
fn supervised() -> Supervision<Fake> {
    let mut server = domain("server", Restart::Always);
    let component = |name: &str| Component {
        name: name.into(),
        arguments: Vec::new(),
        provisions: Vec::new(),
        uses: Vec::new(),
        needs: Vec::new(),
    };
    server.components.push(Component {
        provisions: vec![Provision { name: "echo".into(), interface: "Echo".into() }],
        ..component("echo")
    });
    let mut client = domain("client", Restart::OnFailure);
    client.components.push(Component {
        uses: vec![Use {
            name: "echo".into(),
            interface: "Echo".into(),
            provider: "echo.echo".into(),
            server: Server::Domain { domain: 0, object: 0, route: 1, bit: 5 },
        }],
        ..component("client")
    });
    let plan = Plan {
        version: Plan::VERSION,
        image: "test".into(),
        domains: vec![server, client, domain("other", Restart::Never)],
    };
    plan.check().unwrap();
    let mut supervision = Supervision::new(plan, Fake::default());
    assert_eq!(supervision.look(), None);
    assert_eq!(supervision.world.starts, [(0, 1), (1, 1), (2, 1)]);
    supervision
}

#[test]
fn a_crashed_server_is_started_again_and_its_clients_alone_are_told() {
    let mut supervision = supervised();
    assert_eq!(supervision.world.told, [], "a first start is no news");
    supervision.world.end(0, Ending::Fault { kind: 2, address: 3, instruction: 4 });
    assert_eq!(supervision.look(), None, "at once, the first time");
    assert_eq!(supervision.world.starts[3..], [(0, 2)]);
    assert_eq!(supervision.world.told, [(1, 1 << 5)]);
    assert!(supervision.world.said[0].contains("server crashed at 0x4"), "{:?}", supervision.world.said);
    let state = supervision.state();
    assert_eq!(state.reports.len(), 1);
    assert_eq!((state.domains[0].starts, state.domains[0].phase), (2, Phase::Running));
}

#[test]
fn one_that_keeps_crashing_is_started_when_its_delay_is_over_and_not_before() {
    let mut supervision = supervised();
    supervision.world.end(0, Ending::Code(1));
    supervision.look();
    supervision.world.end(0, Ending::Code(1));
    let due = supervision.look().unwrap();
    assert_eq!(supervision.state().domains[0].phase, Phase::Waiting(due));
    supervision.world.now = due - 1;
    assert_eq!(supervision.look(), Some(due));
    assert_eq!(supervision.state().domains[0].starts, 2);
    supervision.world.now = due;
    assert_eq!(supervision.look(), None);
    assert_eq!(supervision.state().domains[0].starts, 3);
}

#[test]
fn one_that_cannot_be_started_is_tried_again() {
    let mut supervision = supervised();
    supervision.world.refused.push(0);
    supervision.world.end(0, Ending::Code(1));
    let mut due = supervision.look();
    for _ in 0..5 {
        supervision.world.now = due.unwrap();
        due = supervision.look();
    }
    assert!(supervision.state().reports.iter().any(|report| report.ending == Ending::NotStarted(7)));
    supervision.world.refused.clear();
    supervision.world.now = due.unwrap();
    assert_eq!(supervision.look(), None);
    assert!(supervision.world.running.contains(&0));
}

#[test]
fn a_kill_is_not_held_against_the_domain_and_only_the_last_reports_are_kept() {
    let mut supervision = supervised();
    for kill in 0..1000 {
        supervision.kill("echo").unwrap();
        assert_eq!(supervision.look(), None, "kill {kill}");
    }
    let state = supervision.state();
    assert_eq!(state.domains[0].starts, 1001);
    assert_eq!(state.reports.len(), REPORTS);
    assert!(state.reports.iter().all(|report| report.ending == Ending::Killed));
    assert_eq!(state.reports.last().unwrap().life, 1000);
    assert_eq!(supervision.kill("nobody"), Err(Unknown));
}

#[test]
fn a_restart_is_carried_out_whatever_the_policy() {
    let mut supervision = supervised();
    supervision.restart("other").unwrap();
    supervision.look();
    assert_eq!(supervision.state().domains[2].starts, 2);
    supervision.kill("other").unwrap();
    supervision.look();
    assert_eq!(supervision.state().domains[2].phase, Phase::Ended);
    supervision.restart("other").unwrap();
    supervision.look();
    assert_eq!((supervision.state().domains[2].starts, supervision.state().domains[2].phase), (3, Phase::Running));
}

#[test]
fn what_the_manager_gave_to_domains_is_not_its_own() {
    let own = supervised().own_state();
    assert_eq!((own.pages, own.objects, own.time, own.phase), (12 - 3, 5, 4, Phase::Running));
}

#[test]
fn the_machine_is_turned_off_with_the_code_of_an_essential_domain() {
    let mut supervision = supervised();
    supervision.plan.domains[2].essential = true;
    supervision.world.end(2, Ending::Code(42));
    supervision.look();
    assert_eq!(supervision.world.off, [42]);
}

#[test]
fn the_machine_is_turned_off_when_nothing_is_left_to_run() {
    let mut supervision = supervised();
    supervision.plan.domains[0].restart = Restart::OnFailure;
    for domain in 0..3 {
        assert_eq!(supervision.world.off, []);
        supervision.world.end(domain, Ending::Code(0));
        supervision.look();
    }
    assert_eq!(supervision.world.off, [0]);
}
