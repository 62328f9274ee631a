//! Every domain of a plan through its lives.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use tessera_plan::{Domain, DomainState, Ending, FaultKind, Phase, Plan, Report, Server, State};

use crate::policy::{Backoff, Next};
use crate::world::World;

/// Crash reports that are kept.
const REPORTS: usize = 32;
/// The code with which the machine is turned off when an essential domain ended by a fault.
const FAULTED: u64 = 101;

/// No domain and no component has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// The domains of an image and what becomes of them.
pub struct Supervision<W> {
    plan: Plan,
    lives: Vec<Life>,
    reports: VecDeque<Report>,
    world: W,
}

/// How one domain is.
struct Life {
    phase: Phase,
    starts: u32,
    started: u64,
    backoff: Backoff,
    /// Somebody asked for its end.
    asked: bool,
    /// Somebody asked for its restart, whatever the policy.
    forced: bool,
}

impl<W: World> Supervision<W> {
    /// Supervises `plan`; nothing is started yet.
    pub fn new(plan: Plan, world: W) -> Self {
        let new = |_: &Domain| Life {
            phase: Phase::Waiting(0),
            starts: 0,
            started: 0,
            backoff: Backoff::default(),
            asked: false,
            forced: false,
        };
        let lives = plan.domains.iter().map(new).collect();
        Supervision { plan, lives, reports: VecDeque::new(), world }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Does all that is to be done now: sees what has ended, and starts what is due. Answers when something is due next.
    pub fn look(&mut self) -> Option<u64> {
        for domain in 0..self.lives.len() {
            self.see_end(domain);
        }
        for domain in 0..self.lives.len() {
            self.start_if_due(domain);
        }
        if self.lives.iter().all(|life| life.phase == Phase::Ended) {
            self.world.power_off(0);
        }
        let due = self.lives.iter().filter_map(|life| match life.phase {
            Phase::Waiting(at) => Some(at),
            Phase::Running | Phase::Ended => None,
        });
        due.min()
    }

    fn see_end(&mut self, domain: usize) {
        let Some(life) = self.lives.get_mut(domain) else { return };
        if life.phase != Phase::Running {
            return;
        }
        let Some(mut ending) = self.world.ended(domain) else { return };
        if core::mem::take(&mut life.asked) {
            ending = Ending::Killed;
        }
        self.after(domain, ending);
    }

    /// Decides what becomes of a domain that has just ended.
    fn after(&mut self, domain: usize, ending: Ending) {
        let now = self.world.now();
        let (Some(life), Some(planned)) = (self.lives.get_mut(domain), self.plan.domains.get(domain)) else { return };
        if self.reports.len() == REPORTS {
            self.reports.pop_front();
        }
        let number = u16::try_from(domain).unwrap_or(u16::MAX);
        self.reports.push_back(Report { domain: number, life: life.starts, at: now, ending });
        let lived = now.saturating_sub(life.started);
        let next = match life.backoff.after(planned.restart, ending, lived) {
            Next::Stay if core::mem::take(&mut life.forced) => Next::Start(0),
            next => next,
        };
        life.forced = false;
        match next {
            Next::Start(delay) => {
                life.phase = Phase::Waiting(now.saturating_add(delay));
                if ending != Ending::Killed {
                    let milliseconds = delay / 1_000_000;
                    self.world.say(format_args!(
                        "{} {}; starting it again in {milliseconds} ms",
                        planned.name,
                        Told(ending)
                    ));
                }
            }
            Next::Stay => {
                life.phase = Phase::Ended;
                if ending != Ending::Code(0) {
                    self.world.say(format_args!("{} {}", planned.name, Told(ending)));
                }
                if planned.essential {
                    self.world.power_off(match ending {
                        Ending::Code(code) => code,
                        Ending::Fault { .. } | Ending::Killed | Ending::NotStarted(_) => FAULTED,
                    });
                }
            }
        }
    }

    fn start_if_due(&mut self, domain: usize) {
        let now = self.world.now();
        let Some(life) = self.lives.get_mut(domain) else { return };
        match life.phase {
            Phase::Waiting(at) if at <= now => {}
            _ => return,
        }
        life.starts = life.starts.saturating_add(1);
        life.started = now;
        (life.asked, life.forced) = (false, false);
        match self.world.start(domain, life.starts) {
            Ok(()) => {
                life.phase = Phase::Running;
                if life.starts > 1 {
                    self.tell_clients(domain);
                }
            }
            Err(code) => self.after(domain, Ending::NotStarted(code)),
        }
    }

    /// Tells each domain that has a route to `server`.
    fn tell_clients(&mut self, server: usize) {
        for (client, planned) in self.plan.domains.iter().enumerate() {
            let uses = planned.components.iter().flat_map(|component| &component.uses);
            let bits = uses.filter_map(|used| match used.server {
                Server::Domain { domain, bit, .. } if usize::from(domain) == server => 1_u64.checked_shl(bit.into()),
                _ => None,
            });
            let bits = bits.fold(0, |all, bit| all | bit);
            if bits != 0 {
                self.world.tell(client, bits);
            }
        }
    }

    /// Ends the domain of this name, or that of the component of this name. Its policy says what follows.
    pub fn kill(&mut self, name: &str) -> Result<(), Unknown> {
        let domain = self.find(name)?;
        if let Some(life) = self.lives.get_mut(domain)
            && life.phase == Phase::Running
        {
            life.asked = true;
            self.world.kill(domain);
        }
        Ok(())
    }

    /// Ends the domain if it runs, and starts it (again), whatever its policy.
    pub fn restart(&mut self, name: &str) -> Result<(), Unknown> {
        let domain = self.find(name)?;
        if let Some(life) = self.lives.get_mut(domain) {
            if life.phase == Phase::Running {
                (life.asked, life.forced) = (true, true);
                self.world.kill(domain);
            } else {
                life.phase = Phase::Waiting(0);
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<usize, Unknown> {
        let domains = &self.plan.domains;
        let has = |domain: &Domain| domain.components.iter().any(|component| component.name == name);
        domains.iter().position(|domain| domain.name == name).or_else(|| domains.iter().position(has)).ok_or(Unknown)
    }

    /// How the domain of this name is.
    pub fn domain_state(&self, name: &str) -> Result<DomainState, Unknown> {
        let domain = self.find(name)?;
        self.lives.get(domain).map(|life| self.tell_state(domain, life)).ok_or(Unknown)
    }

    fn tell_state(&self, domain: usize, life: &Life) -> DomainState {
        let usage = self.world.usage(domain);
        DomainState {
            phase: life.phase,
            starts: life.starts,
            started: life.started,
            time: usage.time,
            pages: usage.pages,
            objects: usage.objects,
        }
    }

    /// How the manager itself is. The memory that it gave to domains is not among its pages.
    pub fn own_state(&self) -> DomainState {
        let (own, (_, used)) = self.world.own_usage();
        let domains = self.plan.domains.iter().map(|domain| domain.pages);
        let pages = used.saturating_sub(domains.fold(0, u64::saturating_add));
        let objects = own.objects;
        DomainState { phase: Phase::Running, starts: 1, started: 0, time: own.time, pages, objects }
    }

    /// How all is.
    pub fn state(&self) -> State {
        let (own, memory) = self.world.own_usage();
        State {
            now: self.world.now(),
            manager_time: own.time,
            manager_objects: own.objects,
            memory,
            domains: self.lives.iter().enumerate().map(|(domain, life)| self.tell_state(domain, life)).collect(),
            reports: self.reports.iter().cloned().collect(),
        }
    }
}

/// An ending in words.
struct Told(Ending);

impl core::fmt::Display for Told {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Ending::Code(code) => write!(formatter, "ended with code {code}"),
            Ending::Fault { kind, address, instruction } => {
                let kind = FaultKind::from_code(kind).map_or("a fault", FaultKind::text);
                write!(formatter, "crashed at {instruction:#x}: {kind}, address {address:#x}")
            }
            Ending::Killed => formatter.write_str("was killed"),
            Ending::NotStarted(code) => write!(formatter, "could not be started (error {code})"),
        }
    }
}

#[cfg(test)]
#[path = "supervision_tests.rs"]
mod tests;
