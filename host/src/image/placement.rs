//! In which domain a component is, how the domain is treated, and in which mode of the processor it runs.
//!
//! A preset groups components: `libos` all that drive no device, `monolith` and `unikernel` all. Out of the group stays whoever names a
//! `domain` for itself, or has a `[domain.ITS-NAME]` that says another `privilege` than the preset. What `[domain.ITS-NAME]` says of a
//! component in the group is said of its part of the group: amounts are added up, of everything else the strictest holds. What stands
//! in the `[domain]` of the group itself holds for all of it.

use std::collections::BTreeMap;
use std::ops::Range;

use miette::Result;
use tessera_plan::Level;
use toml::Spanned;

use super::description::Description;
use super::manifest::Manifest;
use super::sizes::Amount;
use super::system::{Placed, Settings};
use super::written::{Placement, Privilege, WrittenComponent, WrittenDomain, WrittenRestart};

/// The domain of what `libos` groups.
const PROGRAM: &str = "program";
/// The domain of what `monolith` and `unikernel` group.
const SYSTEM: &str = "system";
/// What a component is given by another one to drive a device with.
const DEVICE: &str = "Device";
/// What may be allowed to a component that drives no device.
const NO_DEVICES: [&str; 3] = ["supervisor", "power", "archive"];

/// The preset that `description` chooses.
pub fn preset(description: &Description) -> Placement {
    description.placement().map_or(Placement::Isolated, |placement| *placement.get_ref())
}

/// The domain of a component.
pub fn domain(description: &Description, written: &WrittenComponent, manifest: &Manifest) -> String {
    if let Some(domain) = &written.domain {
        return domain.get_ref().clone();
    }
    let name = written.name.get_ref();
    let group = match preset(description) {
        Placement::Isolated => None,
        Placement::Libos => (!drives_device(written, manifest)).then_some(PROGRAM),
        Placement::Monolith | Placement::Unikernel => Some(SYSTEM),
    };
    let own = description.domains().get(name.as_str()).and_then(|domain| domain.privilege.as_ref());
    let stays_out = own.is_some_and(|own| (*own.get_ref() == Privilege::Kernel) != preset(description).is_kernel());
    group.filter(|_| !stays_out).unwrap_or(name).to_owned()
}

fn drives_device(written: &WrittenComponent, manifest: &Manifest) -> bool {
    written.allow.iter().any(|allowed| !NO_DEVICES.contains(&allowed.get_ref().as_str()))
        || manifest.uses().iter().any(|used| used.interface == DEVICE)
}

/// The level of a domain.
pub fn level(description: &Description, domain: &str) -> Level {
    let written = description.domains().get(domain).and_then(|domain| domain.privilege.as_ref());
    match (written.map(|privilege| *privilege.get_ref()), preset(description)) {
        (Some(Privilege::User), _) | (None, Placement::Isolated | Placement::Libos) => Level::User,
        (_, Placement::Unikernel) => Level::Guests,
        (Some(Privilege::Kernel), _) | (None, Placement::Monolith) => Level::Kernel,
    }
}

/// The level of the first program of an image without components.
pub fn first_level(description: &Description) -> Level {
    level(description, "")
}

/// The settings of every domain, by its name.
pub fn settings(description: &Description, placed: &[Placed]) -> Result<BTreeMap<String, Settings>> {
    let mut all: BTreeMap<String, Settings> = BTreeMap::new();
    for placed in placed {
        let name = placed.name();
        // Components that share a domain by its name share what it has; those that a preset groups bring theirs along.
        let grouped = placed.written.domain.is_none() && placed.domain != name;
        let own = description.domains().get(name).filter(|_| grouped);
        let threads = if placed.manifest.is_in_order() { 1 } else { Settings::default().threads };
        let part = read(description, own, Settings { threads, ..Settings::default() })?;
        let whole = match all.remove(&placed.domain) {
            Some(others) if grouped => others.with(&part),
            Some(others) => others,
            None => part,
        };
        all.insert(placed.domain.clone(), whole);
    }
    for (name, settings) in &mut all {
        let parts = std::mem::take(settings);
        let level = level(description, name);
        let written = description.domains().get(name.as_str());
        *settings = Settings { level, ..read(description, written, parts)? };
        if let Some(in_order) = placed.iter().find(|placed| placed.domain == *name && placed.manifest.is_in_order()) {
            if let Some(threads) = written.and_then(|written| written.threads.as_ref()).filter(|_| settings.threads > 1)
            {
                let told = format!("`{}` serves its calls in order, and so with one thread", in_order.name());
                return Err(description.wrong(threads.span(), &told, "leave `threads` out"));
            }
            settings.threads = 1;
        }
    }
    Ok(all)
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            level: Level::User,
            memory: Amount::DEFAULT,
            priority: (20, None),
            share: None,
            processors: 0,
            threads: 2,
            restart: WrittenRestart::Always,
            essential: false,
        }
    }
}

impl Settings {
    /// What a group needs of which one part needs this and another one that.
    fn with(&self, other: &Settings) -> Settings {
        let restricted = self.processors != 0 && other.processors != 0;
        Settings {
            level: self.level,
            memory: self.memory.and(other.memory),
            priority: if other.priority.0 > self.priority.0 { other.priority.clone() } else { self.priority.clone() },
            // An amount of time for a part says nothing of the whole.
            share: None,
            processors: if restricted { self.processors | other.processors } else { 0 },
            threads: self.threads.max(other.threads),
            restart: self.restart.max(other.restart),
            essential: self.essential || other.essential,
        }
    }
}

/// What is written of a domain; `otherwise` where nothing is.
fn read(description: &Description, written: Option<&WrittenDomain>, otherwise: Settings) -> Result<Settings> {
    let mut settings = otherwise;
    let Some(written) = written else { return Ok(settings) };
    let within = |value: &Spanned<i64>, range: Range<i64>, what: &str| match u8::try_from(*value.get_ref()) {
        Ok(small) if range.contains(value.get_ref()) => Ok(small),
        _ => {
            let told = format!("{} is out of range", value.get_ref());
            let mend = format!("{what} go from {} to {}", range.start, range.end - 1);
            Err(description.wrong(value.span(), &told, &mend))
        }
    };
    if let Some(memory) = &written.memory {
        settings.memory = *memory.get_ref();
    }
    if let Some(priority) = &written.priority {
        settings.priority = (within(priority, 0..60, "priorities")?, Some(priority.span()));
    }
    if let Some(share) = &written.processor {
        if share.get_ref().amount.0 > share.get_ref().period.0 {
            let mend = "give an amount of at most the period";
            return Err(description.wrong(share.span(), "the amount is more than the period has", mend));
        }
        settings.share = Some(*share.get_ref());
    }
    if !written.processors.is_empty() {
        settings.processors = 0;
    }
    for processor in &written.processors {
        let count = i64::from(description.processors().count());
        settings.processors |= 1 << within(processor, 0..count, "this image's processors")?;
    }
    if let Some(threads) = &written.threads {
        settings.threads = within(threads, 1..33, "threads")?;
    }
    settings.restart = written.restart.unwrap_or(settings.restart);
    settings.essential |= written.essential;
    Ok(settings)
}
