//! The kernel as the manager's rules act on it: domains are processes.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use tessera_manager::{Usage, World};
use tessera_plan::{Domain, Ending, Need, Plan, Server, badge};
use tessera_runtime::abi::PAGE;
use tessera_runtime::abi::syscall::RESOURCE_HANDLES;
use tessera_runtime::archive::Archive;
use tessera_runtime::object::{
    Budget, Dma, Endpoint, Event, Interrupt, IoPort, Limits, Mmio, Pool, Power, Privilege, Progress, Session, Vmo,
};
use tessera_runtime::{Child, Error, Object, Owned, Program, Start, log, own};

/// The bit of the news event that says only: look.
pub const LOOK: u64 = 1 << 63;
/// The manager's objects: that of the interface `Supervisor`, and that of `Keeper`.
pub const SUPERVISOR: u16 = 0;
pub const KEEPER: u16 = 1;
/// Most domains: each has a bit of the news event.
const DOMAINS: usize = 63;
/// The exit code of a domain that the manager ends.
const KILLED: u64 = 137;

/// The manager's handles.
pub struct Kernel {
    domains: Vec<Held>,
    archive: Archive,
    authority: Authority,
    endpoint: Endpoint,
    news: Arc<Event>,
}

/// What the manager holds of a domain. All but the child outlives the domain's process.
struct Held {
    plan: Domain,
    pool: Pool,
    budget: Budget,
    endpoint: Endpoint,
    restarts: Event,
    child: Option<Child>,
}

/// The handles with which the machine was started.
struct Authority {
    ports: IoPort,
    interrupts: Interrupt,
    devices: Mmio,
    archive: Vmo,
    power: Power,
    dma: Dma,
    privilege: Privilege,
}

impl Kernel {
    /// Makes what outlives processes. Answers also the manager's own endpoint, to serve.
    pub fn new(
        plan: &Plan,
        mut start: Start,
        archive: Archive,
        memory: Vmo,
        news: Arc<Event>,
    ) -> Result<(Kernel, Endpoint), Error> {
        if plan.domains.len() > DOMAINS {
            return Err(Error::NoQuota);
        }
        let authority = Authority {
            ports: start.take("ports")?,
            interrupts: start.take("interrupts")?,
            devices: start.take("devices")?,
            archive: memory,
            power: start.take("power")?,
            dma: start.take("dma")?,
            privilege: start.take("privilege")?,
        };
        let domains = plan.domains.iter().map(Held::new).collect::<Result<Vec<Held>, Error>>()?;
        let endpoint = Endpoint::create(&own::pool())?;
        let served = endpoint.try_clone()?;
        Ok((Kernel { domains, archive, authority, endpoint, news }, served))
    }

    fn try_start(&mut self, index: usize, life: u32) -> Result<(), Error> {
        let held = self.domains.get(index).ok_or(Error::NotFound)?;
        let file = self.archive.program(&held.plan.program)?;
        // What was restarted while the domain did not run is no news to a process that begins now.
        held.restarts.clear(u64::MAX)?;
        let mut program = Program::new(&held.plan.name, file, &held.pool, &held.budget)
            .level(&self.authority.privilege, held.plan.level.into())
            .lies_in(&self.authority.archive, self.archive.place_of(file)?);
        for (name, owned) in self.handles(held)? {
            program = program.owned(&name, owned);
        }
        program = program.argument(&format!("life={life}"));
        for component in &held.plan.components {
            for argument in &component.arguments {
                program = program.argument(&format!("{}:{argument}", component.name));
            }
        }
        let child = program.start()?;
        child.process.watch(&self.news, 1 << index)?;
        if let Some(held) = self.domains.get_mut(index) {
            held.child = Some(child);
        }
        Ok(())
    }

    /// The handles of a domain's next process, by their names.
    fn handles(&self, held: &Held) -> Result<Vec<(String, Owned)>, Error> {
        let mut handles = Vec::new();
        let mut add = |name: &str, owned: Owned| handles.push((String::from(name), owned));
        add("endpoint", held.endpoint.try_clone()?.into_owned());
        add("restarts", held.restarts.try_clone()?.into_owned());
        let needs = held.plan.components.iter().flat_map(|component| &component.needs);
        if needs.clone().any(|need| *need == Need::Log) {
            add("log", own::log().try_clone()?.into_owned());
        }
        if needs.clone().any(|need| *need == Need::Clock) {
            add("clock", own::clock().try_clone()?.into_owned());
        }
        for component in &held.plan.components {
            for used in &component.uses {
                let (endpoint, badge) = match used.server {
                    Server::Neighbour => continue,
                    Server::Manager { route } => {
                        let object = if used.interface == "Keeper" { KEEPER } else { SUPERVISOR };
                        (&self.endpoint, badge(object, route))
                    }
                    Server::Domain { domain, object, route, .. } => {
                        let server = self.domains.get(usize::from(domain)).ok_or(Error::NotFound)?;
                        (&server.endpoint, badge(object, route))
                    }
                };
                let session = Session::create(endpoint, &held.pool, badge)?;
                add(&format!("route.{}.{}", component.name, used.name), session.into_owned());
            }
            for need in &component.needs {
                if let Some((name, owned)) = self.authority.narrowed(&held.pool, need)? {
                    add(&format!("{}.{name}", component.name), owned);
                }
            }
        }
        Ok(handles)
    }
}

impl Held {
    fn new(plan: &Domain) -> Result<Held, Error> {
        let pool = own::pool().create(plan.pages).inspect_err(|_| {
            let kibibytes = plan.pages.saturating_mul(PAGE >> 10);
            log!(
                "manager: {} is to have {kibibytes} KiB, which are not there: give the machine more memory",
                plan.name
            );
        })?;
        let share = plan.share.map_or((0, 0), |share| (share.amount, share.period));
        let limits =
            Limits { priority: plan.priority.into(), amount: share.0, period: share.1, cores: plan.processors };
        let budget = own::budget().create(&own::pool(), limits)?;
        let endpoint = Endpoint::create(&own::pool())?;
        let restarts = Event::create(&own::pool())?;
        Ok(Held { plan: plan.clone(), pool, budget, endpoint, restarts, child: None })
    }
}

impl Authority {
    /// The handle for a need, charged to `pool` where a new object is made; its name among the component's.
    fn narrowed<'a>(&self, pool: &Pool, need: &'a Need) -> Result<Option<(&'a str, Owned)>, Error> {
        Ok(Some(match need {
            Need::Log | Need::Clock => return Ok(None),
            Need::Ports { name, first, count } => {
                (name, self.ports.narrow(pool, (*first).into(), (*count).into())?.into_owned())
            }
            Need::Interrupt { name, line } => (name, self.interrupts.narrow(pool, (*line).into(), 1)?.into_owned()),
            Need::Memory { name, first, length } => (name, self.devices.narrow(pool, *first, *length)?.into_owned()),
            Need::Authority { name, of } => {
                let owned = match of.as_str() {
                    "ports" => self.ports.try_clone()?.into_owned(),
                    "interrupts" => self.interrupts.try_clone()?.into_owned(),
                    "devices" => self.devices.try_clone()?.into_owned(),
                    "archive" => self.archive.try_clone()?.into_owned(),
                    "power" => self.power.try_clone()?.into_owned(),
                    "dma" => self.dma.try_clone()?.into_owned(),
                    _ => return Err(Error::NotFound),
                };
                (name, owned)
            }
        }))
    }
}

impl World for Kernel {
    fn now(&self) -> u64 {
        own::clock().now().unwrap_or(0)
    }

    fn start(&mut self, domain: usize, life: u32) -> Result<(), u64> {
        self.try_start(domain, life).map_err(|error| error as u64)
    }

    fn ended(&mut self, domain: usize) -> Option<Ending> {
        let held = self.domains.get_mut(domain)?;
        let ending = match held.child.as_ref()?.process.progress() {
            Ok(Progress::New | Progress::Running) => return None,
            Ok(Progress::Ended(code)) => Ending::Code(code),
            Ok(Progress::Faulted(fault)) => {
                Ending::Fault { kind: fault.kind as u64, address: fault.address, instruction: fault.instruction }
            }
            Err(error) => Ending::NotStarted(error as u64),
        };
        held.child = None;
        Some(ending)
    }

    fn kill(&mut self, domain: usize) {
        if let Some(child) = self.domains.get(domain).and_then(|held| held.child.as_ref()) {
            // Refused if it has ended by itself meanwhile.
            let _ = child.kill(KILLED);
        }
    }

    fn tell(&mut self, client: usize, bits: u64) {
        if let Some(held) = self.domains.get(client) {
            let _ = held.restarts.raise(bits);
        }
    }

    fn usage(&self, domain: usize) -> Usage {
        self.domains.get(domain).map_or(Usage::default(), |held| usage(&held.pool, &held.budget))
    }

    fn own_usage(&self) -> (Usage, (u64, u64)) {
        let pages = own::pool().usage(0).map_or((0, 0), |usage| (usage.quota, usage.used));
        (usage(&own::pool(), &own::budget()), pages)
    }

    fn power_off(&mut self, code: u64) {
        let _ = self.authority.power.off(code);
    }

    fn say(&mut self, text: fmt::Arguments<'_>) {
        log!("manager: {text}");
    }
}

fn usage(pool: &Pool, budget: &Budget) -> Usage {
    let used = |resource| pool.usage(resource).map_or(0, |usage| usage.used);
    let objects = (1..=19).map(used).fold(used(RESOURCE_HANDLES), u64::saturating_add);
    Usage { time: budget.used().unwrap_or(0), pages: used(0), objects }
}
