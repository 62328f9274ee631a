//! Writes the manager's plan from an image that was put together.

use tessera_plan::{Component, Domain, Need, Plan, Provision, Restart, Server, Share, Use};

use super::system::{self, Bound, Instance, System, Target};
use super::written::WrittenRestart;

/// The plan of `system`, an image called `image`.
pub fn plan(image: &str, system: &System) -> Plan {
    let domains = system.domains.iter().map(domain).collect();
    Plan { version: Plan::VERSION, image: image.to_owned(), domains }
}

fn domain(domain: &system::Domain) -> Domain {
    let settings = &domain.settings;
    Domain {
        name: domain.name.clone(),
        program: domain.name.clone(),
        pages: settings.memory.most.pages(),
        least: settings.memory.least.pages(),
        priority: settings.priority.0,
        share: settings.share.map(|share| Share { amount: share.amount.0, period: share.period.0 }),
        processors: settings.processors,
        restart: match settings.restart {
            WrittenRestart::Always => Restart::Always,
            WrittenRestart::OnFailure => Restart::OnFailure,
            WrittenRestart::Never => Restart::Never,
        },
        essential: settings.essential,
        level: settings.level,
        components: domain.instances.iter().map(component).collect(),
    }
}

fn component(instance: &Instance) -> Component {
    let provisions = instance.manifest.provisions().into_iter();
    Component {
        name: instance.name.clone(),
        arguments: instance.arguments.clone(),
        provisions: provisions.map(|offer| Provision { name: offer.name, interface: offer.interface }).collect(),
        uses: instance.uses.iter().filter_map(used).collect(),
        needs: instance.manifest.needs().into_iter().map(|need| need.need).collect::<Vec<Need>>(),
    }
}

/// A use that is bound.
fn used(bound: &Bound) -> Option<Use> {
    let narrow = |index: usize| u16::try_from(index).unwrap_or(u16::MAX);
    let (provider, server) = match bound.target.as_ref()? {
        Target::Manager { route } => (system::MANAGER.to_owned(), Server::Manager { route: *route }),
        Target::Neighbour { instance, provision } => (format!("{instance}.{provision}"), Server::Neighbour),
        Target::Domain { instance, provision, domain, object, route, bit } => (
            format!("{instance}.{provision}"),
            Server::Domain { domain: narrow(*domain), object: narrow(*object), route: *route, bit: *bit },
        ),
    };
    Some(Use { name: bound.name.clone(), interface: bound.interface.clone(), provider, server })
}
