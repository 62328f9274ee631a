//! What `tessera explain` tells of an image of components, from how it was put together.

use std::cmp::Reverse;

use miette::Result;

use super::Description;
use super::manifest::Manifests;
use super::system::{self, Instance, System, Target};
use super::written::WrittenRestart;
use crate::bare;
use crate::explain::linked::{Packages, Part};
use crate::explain::model::{Component, Domain, End, Picture, Route};
use crate::native;
use crate::workspace;

/// The packages that every domain's program has besides its components'.
const EVERY_DOMAIN: [&str; 2] = ["tessera-runtime", "tessera-interfaces"];

/// What `description` describes; nothing if it is an image of programs.
pub fn picture(description: &Description) -> Result<Option<Picture>> {
    let Some(system) = System::new(description, &Manifests::find())? else { return Ok(None) };
    let packages = Packages::read(&workspace::root(), bare::TARGET, "none")?;
    let mut domains = domains(&system);
    for (domain, this) in domains.iter_mut().zip(&system.domains) {
        domain.parts = parts(this, &packages)?;
    }
    let processors = description.processors().count();
    let plural = if processors == 1 { "" } else { "s" };
    Ok(Some(Picture {
        name: description.name().to_owned(),
        machine: format!(
            "{} of memory, {processors} processor{plural}, machine {}",
            description.memory(),
            description.machine()
        ),
        program: None,
        domains,
        kernel: packages.linked(&["tessera-kernel"]),
        manager: if system.alone().is_none() { packages.linked(&["tessera-manager"]) } else { Vec::new() },
    }))
}

/// What is linked into a domain.
fn parts(domain: &system::Domain, packages: &Packages) -> Result<Vec<Part>> {
    let own = domain.instances.iter().map(|instance| instance.manifest.package().get_ref().as_str());
    let names: Vec<&str> = own.chain(EVERY_DOMAIN).collect();
    let mut parts = packages.linked(&names);
    if let Some(project) = domain.program() {
        parts.extend(native::linked(project)?);
        parts.sort_by_key(|part| Reverse(part.count.lines));
    }
    Ok(parts)
}

/// The domains, without their code.
pub fn domains(system: &System) -> Vec<Domain> {
    system.domains.iter().map(|this| domain(system, this)).collect()
}

fn domain(system: &System, domain: &system::Domain) -> Domain {
    let settings = &domain.settings;
    Domain {
        name: domain.name.clone(),
        in_kernel: settings.level != tessera_plan::Level::User,
        memory: settings.memory.written(),
        priority: settings.priority.0,
        comes_back: settings.restart != WrittenRestart::Never,
        essential: settings.essential,
        components: domain.instances.iter().map(|instance| component(system, instance)).collect(),
        parts: Vec::new(),
    }
}

fn component(system: &System, instance: &Instance) -> Component {
    let manifest = &instance.manifest;
    let mut holds: Vec<String> = manifest.needs().into_iter().map(|need| need.allowed_by).collect();
    holds.dedup();
    Component {
        name: instance.name.clone(),
        package: manifest.package().get_ref().clone(),
        program: instance.program.as_deref().map(workspace::shown),
        provides: manifest.provisions().into_iter().map(|offer| (offer.name, offer.interface)).collect(),
        routes: instance
            .uses
            .iter()
            .map(|used| Route {
                name: used.name.clone(),
                interface: used.interface.clone(),
                to: used.target.as_ref().map_or(End::Nowhere, |target| end(system, target)),
            })
            .collect(),
        holds,
    }
}

fn end(system: &System, target: &Target) -> End {
    let (instance, provision) = match target {
        Target::Manager { .. } => return End::Manager,
        Target::Neighbour { instance, provision } | Target::Domain { instance, provision, .. } => (instance, provision),
    };
    let found = system.domains.iter().enumerate().find_map(|(domain, this)| {
        let component = this.instances.iter().position(|other| other.name == *instance)?;
        Some(End::Component { domain, component, provision: provision.clone() })
    });
    found.unwrap_or(End::Nowhere)
}
