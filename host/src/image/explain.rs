//! Words for an image that was put together.

use std::fmt::Write;

use tessera_plan::Level;

use super::system::{Instance, System, Target};

/// One paragraph for each domain.
pub fn explain(system: &System) -> String {
    let mut text = String::new();
    let (mut direct, mut crossing) = (0, 0);
    for domain in &system.domains {
        let settings = &domain.settings;
        let _ = writeln!(
            text,
            "\ndomain {}: {}, {}, priority {}{}",
            domain.name,
            match settings.level {
                Level::User => "ring 3",
                Level::Kernel => "ring 0",
                Level::Guests => "ring 0, its guests too",
            },
            settings.memory,
            settings.priority.0,
            if settings.essential { ", essential" } else { "" }
        );
        for instance in &domain.instances {
            let _ = writeln!(text, "  {} (package {})", instance.name, instance.manifest.package().get_ref());
            for offer in instance.manifest.provisions() {
                let _ = writeln!(text, "    provides {}: {}", offer.name, offer.interface);
            }
            for used in &instance.uses {
                let target = match &used.target {
                    None => "nobody".to_owned(),
                    Some(Target::Manager { .. }) => {
                        crossing += 1;
                        "the manager, by IPC".to_owned()
                    }
                    Some(Target::Neighbour { instance, provision }) => {
                        direct += 1;
                        format!("{instance}.{provision}, a method call")
                    }
                    Some(Target::Domain { instance, provision, .. }) => {
                        crossing += 1;
                        format!("{instance}.{provision}, by IPC")
                    }
                };
                let _ = writeln!(text, "    uses {}: {} of {target}", used.name, used.interface);
            }
            authority(&mut text, instance);
        }
    }
    let _ = writeln!(text, "\n{direct} routes are method calls, {crossing} cross a protection boundary");
    text
}

fn authority(text: &mut String, instance: &Instance) {
    let needs = instance.manifest.needs();
    let mut words: Vec<&str> = needs.iter().map(|need| need.allowed_by.as_str()).collect();
    words.dedup();
    if !words.is_empty() {
        let _ = writeln!(text, "    holds {}", words.join(", "));
    }
}
