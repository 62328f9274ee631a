//! Puts an image of components together: which domain each component is in, what each use is bound to, in which order all is made.
//!
//! What comes out is complete: whoever writes the plan or the domains' programs finds every name, number and order here and
//! decides nothing. That the bindings are sound is checked in `soundness.rs`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use miette::Result;
use tessera_plan::{Level, Need};
use toml::Spanned;

use super::description::Description;
use super::manifest::{FREE, Manifest, Manifests, Provision, Source};
use super::mistake::{check_name, closest, listed};
use super::sizes::Amount;
use super::written::{WrittenComponent, WrittenRestart, WrittenShare};
use super::{language, placement, soundness};

/// The name by which routes and people call the manager.
pub const MANAGER: &str = "manager";
/// What the manager provides.
const SUPERVISOR: &str = "Supervisor";
const KEEPER: &str = "Keeper";
/// The word by which an image allows a component to use it.
const ALLOWS_SUPERVISOR: &str = "supervisor";
/// Names that reports use for something else.
const RESERVED: [&str; 4] = [MANAGER, "init", "kernel", "route"];
/// Most arguments, and bytes of them, that a domain which the kernel starts is given: its start-up block has room for these and its handles.
const FIRST_ARGUMENTS: usize = 60;
const FIRST_BYTES: usize = 3 << 10;
/// The kernel keeps that much of a process's name for its reports.
const DOMAIN_NAME: usize = 16;

/// An image of components, put together.
#[derive(Debug)]
pub struct System {
    /// Servers before their clients.
    pub domains: Vec<Domain>,
}

/// One protection domain.
#[derive(Debug)]
pub struct Domain {
    pub name: String,
    pub settings: Settings,
    /// In the order in which they are constructed: those that are called before those that call.
    pub instances: Vec<Instance>,
    /// What others call, in the order of their numbers.
    pub objects: Vec<Object>,
}

/// What a domain is given and how it is treated.
#[derive(Clone, Debug)]
pub struct Settings {
    pub level: Level,
    pub memory: Amount,
    /// The priority, and where it is written if it is.
    pub priority: (u8, Option<Range<usize>>),
    pub share: Option<WrittenShare>,
    /// A bit for each processor; 0 if all.
    pub processors: u64,
    pub threads: u8,
    pub restart: WrittenRestart,
    pub essential: bool,
}

impl Domain {
    /// The arguments of the process, as the manager would give them to the domain's first life.
    pub fn started_with(&self) -> Vec<String> {
        let own = [format!("process-name={}", self.name), "life=1".to_owned()];
        let given = self
            .instances
            .iter()
            .flat_map(|instance| instance.arguments.iter().map(|argument| format!("{}:{argument}", instance.name)));
        own.into_iter().chain(given).collect()
    }

    /// The Cargo project whose program is linked into it.
    pub fn program(&self) -> Option<&Path> {
        self.instances.iter().find_map(|instance| instance.program.as_deref())
    }
}

/// One component in a domain.
#[derive(Debug)]
pub struct Instance {
    pub name: String,
    /// The Cargo project whose program it runs.
    pub program: Option<PathBuf>,
    pub manifest: Rc<Manifest>,
    pub arguments: Vec<String>,
    pub uses: Vec<Bound>,
}

/// A use and what it is bound to.
#[derive(Clone, Debug)]
pub struct Bound {
    pub name: String,
    pub interface: String,
    pub optional: bool,
    /// Nothing if it is optional and nobody provides it.
    pub target: Option<Target>,
}

/// What a use is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Manager {
        route: u32,
    },
    /// In the same domain.
    Neighbour {
        instance: String,
        provision: String,
    },
    /// In another domain.
    Domain {
        instance: String,
        provision: String,
        domain: usize,
        /// Index in the domain's `objects`.
        object: usize,
        route: u32,
        bit: u8,
    },
}

/// Something in a domain that other domains call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub instance: String,
    pub provision: String,
    /// For which client, if each has one of its own.
    pub client: Option<String>,
}

/// A use that is bound to a provision, both by their indexes, before domains are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Manager,
    To { instance: usize, provision: usize },
}

/// A component of the image while it is being put together.
pub struct Placed<'a> {
    pub written: &'a WrittenComponent,
    pub manifest: Rc<Manifest>,
    pub provisions: Vec<Provision>,
    pub domain: String,
    /// One for each use; nothing where it is optional and absent.
    pub links: Vec<Option<Link>>,
}

impl Placed<'_> {
    pub fn name(&self) -> &str {
        self.written.name.get_ref()
    }
}

impl System {
    /// The domain that the kernel starts itself, as the first process: one that is alone in the kernel's mode, is not started again, and has
    /// nothing that only the manager can give. An image that has one goes without the manager.
    pub fn alone(&self) -> Option<&Domain> {
        let [domain] = self.domains.as_slice() else { return None };
        let settings = &domain.settings;
        let is_plain = settings.level != Level::User
            && settings.restart == WrittenRestart::Never
            && settings.essential
            && settings.memory == Amount::REST
            && settings.share.is_none()
            && settings.processors == 0;
        let needs_no_manager = |instance: &Instance| {
            let needs = instance.manifest.needs();
            let is_managers = |used: &Bound| matches!(used.target, Some(Target::Manager { .. }));
            needs.iter().all(|need| matches!(need.need, Need::Log | Need::Clock))
                && !instance.uses.iter().any(is_managers)
        };
        let fits = domain.started_with().len() <= FIRST_ARGUMENTS
            && domain.started_with().iter().map(|argument| argument.len() + 8).sum::<usize>() <= FIRST_BYTES;
        (is_plain && fits && domain.instances.iter().all(needs_no_manager)).then_some(domain)
    }

    /// Puts `description` together from the components in `manifests`; nothing if it is an image of programs.
    pub fn new(description: &Description, manifests: &Manifests) -> Result<Option<Self>> {
        if description.components().is_empty() {
            return check_unused(description).map(|()| None);
        }
        let mut placed = place(description, manifests)?;
        check_domains(description, &placed)?;
        check_programs(description, &placed)?;
        link(description, &mut placed)?;
        let settings = placement::settings(description, &placed)?;
        language::check(description, &placed, &settings)?;
        let order = soundness::check(description, &placed, &settings)?;
        Ok(Some(assemble(description, &placed, settings, &order)))
    }
}

/// An image without components has no use for what is said of them.
fn check_unused(description: &Description) -> Result<()> {
    let domain = description.domains().keys().next().map(Spanned::span);
    let route = description.routes().keys().next().map(Spanned::span);
    match domain.or(route) {
        Some(span) => {
            let what = "this image has no [[component]] that this could be about";
            Err(description.wrong(span, what, "remove it, or add the components"))
        }
        None => Ok(()),
    }
}

/// Finds each component's description and domain.
fn place<'a>(description: &'a Description, manifests: &Manifests) -> Result<Vec<Placed<'a>>> {
    let mut placed: Vec<Placed<'a>> = Vec::new();
    for written in description.components() {
        let name = &written.name;
        check_name(description.source(), name)?;
        if RESERVED.contains(&name.get_ref().as_str()) {
            let what = format!("the name `{}` is taken", name.get_ref());
            return Err(description.wrong(name.span(), &what, "choose another: the system itself uses this one"));
        }
        if placed.iter().any(|other| other.name() == name.get_ref()) {
            let mend = "choose another for this instance, and say with `component` what it is an instance of";
            return Err(description.wrong(name.span(), &format!("the name `{}` is taken", name.get_ref()), mend));
        }
        let wanted = written.component.as_ref().unwrap_or(name);
        let Some(manifest) = manifests.get(wanted.get_ref())? else {
            let mend = format!(
                "{}name one that has a component.toml below components/",
                closest(wanted.get_ref(), &manifests.names())
            );
            return Err(description.wrong(
                wanted.span(),
                &format!("there is no component `{}`", wanted.get_ref()),
                &mend,
            ));
        };
        check_allowed(description, written, &manifest)?;
        check_program(description, written, &manifest)?;
        let domain = placement::domain(description, written, &manifest);
        let provisions = manifest.provisions();
        placed.push(Placed { written, manifest, provisions, domain, links: Vec::new() });
    }
    Ok(placed)
}

/// What a component needs must be allowed, and what is allowed must be needed.
fn check_allowed(description: &Description, written: &WrittenComponent, manifest: &Manifest) -> Result<()> {
    let needs = manifest.needs();
    let mut needs: Vec<&str> =
        needs.iter().map(|need| need.allowed_by.as_str()).filter(|by| !FREE.contains(by)).collect();
    if manifest.uses().iter().any(|used| used.interface == SUPERVISOR) {
        // Whoever has it can end every domain.
        needs.push(ALLOWS_SUPERVISOR);
    }
    if manifest.uses().iter().any(|used| used.interface == KEEPER) && !needs.contains(&"dma") {
        // Whoever has it can let go of what a device still reaches.
        needs.push("dma");
    }
    if let Some(missing) = needs.iter().find(|by| !written.allow.iter().any(|allowed| allowed.get_ref() == *by)) {
        let mend = format!("if it may have them, add `allow = [{}]` to this component", quoted(&needs));
        let what = format!("`{}` needs `{missing}`, which this image does not offer", written.name.get_ref());
        return Err(description.wrong(written.name.span(), &what, &mend));
    }
    if let Some(more) = written.allow.iter().find(|allowed| !needs.contains(&allowed.get_ref().as_str())) {
        let mend = if needs.is_empty() {
            "remove it: the component needs nothing that has to be allowed".to_owned()
        } else {
            format!("remove it, or write what its component.toml needs: {}", listed(&needs))
        };
        let what = format!("`{}` does not need `{}`", written.name.get_ref(), more.get_ref());
        return Err(description.wrong(more.span(), &what, &mend));
    }
    Ok(())
}

/// Who runs a program must be told which, and nobody else.
fn check_program(description: &Description, written: &WrittenComponent, manifest: &Manifest) -> Result<()> {
    match &written.program {
        None if manifest.runs_a_program() => {
            let what = format!("`{}` runs a program, and this image does not say which", written.name.get_ref());
            Err(description.wrong(written.name.span(), &what, "add `program` with the folder of a Cargo project"))
        }
        Some(program) if !manifest.runs_a_program() => {
            let what = format!("`{}` runs no program", manifest.name());
            Err(description.wrong(program.span(), &what, "remove it, or use the component `native`"))
        }
        Some(program) if !description.beside(program.get_ref()).join("Cargo.toml").is_file() => {
            let folder = description.beside(program.get_ref());
            let mend = format!("the path begins at the folder of this file; it leads to {}", folder.display());
            Err(description.wrong(program.span(), "this is not the folder of a Cargo project", &mend))
        }
        _ => Ok(()),
    }
}

fn quoted(words: &[&str]) -> String {
    let mut words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    words.dedup();
    words.join(", ")
}

/// Checks the names of domains, and that each that has settings has components.
fn check_domains(description: &Description, placed: &[Placed]) -> Result<()> {
    let names: Vec<&str> = placed.iter().map(|placed| placed.domain.as_str()).collect();
    for placed in placed {
        let written = placed.written.domain.as_ref().unwrap_or(&placed.written.name);
        check_name(description.source(), written)?;
        if RESERVED.contains(&placed.domain.as_str()) || placed.domain.len() > DOMAIN_NAME {
            let mend =
                format!("choose another of at most {DOMAIN_NAME} characters, with `domain` if it is the component's");
            let what = format!("`{}` cannot be the name of a domain", placed.domain);
            return Err(description.wrong(written.span(), &what, &mend));
        }
    }
    for name in description.domains().keys() {
        let part = |placed: &Placed| placed.name() == name.get_ref() && placed.written.domain.is_none();
        if !names.contains(&name.get_ref().as_str()) && !placed.iter().any(part) {
            let mend = format!("{}the domains of this image are: {}", closest(name.get_ref(), &names), listed(&names));
            let what = format!("no component is in the domain `{}`", name.get_ref());
            return Err(description.wrong(name.span(), &what, &mend));
        }
    }
    Ok(())
}

/// The functions that a program calls have one name each: a domain has room for one.
fn check_programs(description: &Description, placed: &[Placed]) -> Result<()> {
    for (index, this) in placed.iter().enumerate() {
        let with =
            placed.iter().take(index).find(|other| other.domain == this.domain && other.written.program.is_some());
        if let (Some(program), Some(other)) = (&this.written.program, with) {
            let what =
                format!("the domain `{}` has two programs, this one and that of `{}`", this.domain, other.name());
            return Err(description.wrong(program.span(), &what, "give each a `domain` of its own"));
        }
    }
    Ok(())
}

/// Binds every use.
fn link(description: &Description, placed: &mut [Placed]) -> Result<()> {
    check_routes(description, placed)?;
    for client in 0..placed.len() {
        let uses = placed[client].manifest.uses();
        let mut links = Vec::new();
        for used in &uses {
            let route =
                description.routes().get(placed[client].name()).and_then(|routes| routes.get(used.name.as_str()));
            links.push(match route {
                Some(route) => Some(chosen(description, placed, route, &used.interface)?),
                None => only(description, placed, client, used)?,
            });
        }
        placed[client].links = links;
    }
    Ok(())
}

/// Each route must begin at a use that exists.
fn check_routes(description: &Description, placed: &[Placed]) -> Result<()> {
    let names: Vec<&str> = placed.iter().map(Placed::name).collect();
    for (client, routes) in description.routes() {
        let Some(placed) = placed.iter().find(|placed| placed.name() == client.get_ref()) else {
            let mend =
                format!("{}the components of this image are: {}", closest(client.get_ref(), &names), listed(&names));
            let what = format!("this image has no component `{}`", client.get_ref());
            return Err(description.wrong(client.span(), &what, &mend));
        };
        let uses = placed.manifest.uses();
        let uses: Vec<&str> = uses.iter().map(|used| used.name.as_str()).collect();
        if let Some(name) = routes.keys().find(|name| !uses.contains(&name.get_ref().as_str())) {
            let mend = format!("{}its [uses] are: {}", closest(name.get_ref(), &uses), listed(&uses));
            let what = format!("`{}` uses nothing called `{}`", client.get_ref(), name.get_ref());
            return Err(description.wrong(name.span(), &what, &mend));
        }
    }
    Ok(())
}

/// Whether an interface is one of the manager's.
fn is_managers(interface: &str) -> bool {
    interface == SUPERVISOR || interface == KEEPER
}

/// What an explicit route names.
fn chosen(description: &Description, placed: &[Placed], route: &Spanned<String>, interface: &str) -> Result<Link> {
    let (name, provision) = match route.get_ref().split_once('.') {
        Some((name, provision)) => (name, Some(provision)),
        None => (route.get_ref().as_str(), None),
    };
    if name == MANAGER && is_managers(interface) {
        return Ok(Link::Manager);
    }
    let Some(instance) = placed.iter().position(|placed| placed.name() == name) else {
        let names: Vec<&str> = placed.iter().map(Placed::name).collect();
        let mend = format!("{}the components of this image are: {}", closest(name, &names), listed(&names));
        return Err(description.wrong(route.span(), &format!("this image has no component `{name}`"), &mend));
    };
    let offered = &placed[instance].provisions;
    let fits = |offer: &&Provision| offer.interface == interface && provision.is_none_or(|name| offer.name == name);
    let fitting: Vec<&Provision> = offered.iter().filter(fits).collect();
    match fitting.as_slice() {
        [_] => {
            let provision = offered.iter().position(|offer| fits(&offer)).unwrap_or_default();
            Ok(Link::To { instance, provision })
        }
        [] => {
            let all: Vec<String> =
                offered.iter().map(|offer| format!("{} ({})", offer.name, offer.interface)).collect();
            let mend = format!("it provides: {}", if all.is_empty() { "nothing".to_owned() } else { all.join(", ") });
            let what = format!("`{}` provides no `{interface}`", route.get_ref());
            Err(description.wrong(route.span(), &what, &mend))
        }
        several => {
            let names: Vec<String> = several.iter().map(|offer| format!("\"{name}.{}\"", offer.name)).collect();
            let what = format!("`{name}` provides `{interface}` {} times", several.len());
            Err(description.wrong(route.span(), &what, &format!("choose one of: {}", names.join(", "))))
        }
    }
}

/// The one provider of an interface.
fn only(
    description: &Description,
    placed: &[Placed],
    client: usize,
    used: &super::manifest::Use,
) -> Result<Option<Link>> {
    if is_managers(&used.interface) {
        return Ok(Some(Link::Manager));
    }
    let mut found = Vec::new();
    for (instance, other) in placed.iter().enumerate().filter(|(instance, _)| *instance != client) {
        for (provision, offer) in other.provisions.iter().enumerate() {
            if offer.interface == used.interface {
                found.push((Link::To { instance, provision }, format!("{}.{}", other.name(), offer.name)));
            }
        }
    }
    let route = format!("{}.{}", placed[client].name(), used.name);
    match found.as_slice() {
        [(link, _)] => Ok(Some(*link)),
        [] if used.optional => Ok(None),
        [] => {
            let place = placed[client].manifest.place_of_use(&used.name);
            let mend = format!(
                "add a [[component]] that provides `{}` (it is used as `{}` in {place})",
                used.interface, used.name
            );
            let what = format!("nothing provides the `{}` that `{}` uses", used.interface, placed[client].name());
            Err(description.wrong(placed[client].written.name.span(), &what, &mend))
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(_, name)| name.as_str()).collect();
            let first = names.first().copied().unwrap_or_default();
            let mend = format!(
                "choose with a line in [route], such as `{route} = \"{first}\"`; there are: {}",
                listed(&names)
            );
            let what = format!("`{route}` could be {} components", several.len());
            Err(description.wrong(placed[client].written.name.span(), &what, &mend))
        }
    }
}

/// Numbers everything. `order` has the indexes of all components, servers before clients, those of a domain together.
fn assemble(
    description: &Description,
    placed: &[Placed],
    mut settings: BTreeMap<String, Settings>,
    order: &[usize],
) -> System {
    let mut domains: Vec<Domain> = Vec::new();
    let mut route = 0;
    for &index in order {
        let this = &placed[index];
        let domain = match domains.iter().position(|domain| domain.name == this.domain) {
            Some(domain) => domain,
            None => {
                let Some(settings) = settings.remove(&this.domain) else { continue };
                let name = this.domain.clone();
                domains.push(Domain { name, settings, instances: Vec::new(), objects: Vec::new() });
                domains.len() - 1
            }
        };
        let mut uses = Vec::new();
        for (used, link) in this.manifest.uses().into_iter().zip(&this.links) {
            let target = link.map(|link| match link {
                Link::Manager => Target::Manager { route: next(&mut route) },
                Link::To { instance, provision } => {
                    let (other, provision) = (&placed[instance], &placed[instance].provisions[provision]);
                    let (instance, provision_name) = (other.name().to_owned(), provision.name.clone());
                    if other.domain == this.domain {
                        Target::Neighbour { instance, provision: provision_name }
                    } else {
                        let each = matches!(provision.source, Source::ForEach(_));
                        let client = each.then(|| this.name().to_owned());
                        let object = Object { instance: instance.clone(), provision: provision_name.clone(), client };
                        let server = domains.iter().position(|domain| domain.name == other.domain).unwrap_or_default();
                        let object = number(&mut domains[server].objects, object);
                        let bit = remote_uses(&domains[domain]) + remote(&uses);
                        let bit = u8::try_from(bit).unwrap_or(u8::MAX);
                        let route = next(&mut route);
                        Target::Domain { instance, provision: provision_name, domain: server, object, route, bit }
                    }
                }
            });
            uses.push(Bound { name: used.name, interface: used.interface, optional: used.optional, target });
        }
        domains[domain].instances.push(Instance {
            name: this.name().to_owned(),
            program: this.written.program.as_ref().map(|program| description.beside(program.get_ref())),
            manifest: Rc::clone(&this.manifest),
            arguments: this.written.arguments.iter().map(|argument| argument.get_ref().clone()).collect(),
            uses,
        });
    }
    System { domains }
}

fn next(route: &mut u32) -> u32 {
    *route += 1;
    *route
}

/// The index of an object, which is added if it is new.
fn number(objects: &mut Vec<Object>, object: Object) -> usize {
    objects.iter().position(|other| *other == object).unwrap_or_else(|| {
        objects.push(object);
        objects.len() - 1
    })
}

fn remote_uses(domain: &Domain) -> usize {
    domain.instances.iter().map(|instance| remote(&instance.uses)).sum()
}

fn remote(uses: &[Bound]) -> usize {
    uses.iter().filter(|used| matches!(used.target, Some(Target::Domain { .. }))).count()
}

#[cfg(test)]
#[path = "system_tests.rs"]
mod tests;
