//! An image in words.

use std::fmt::Write;

use super::cost::Costs;
use super::linked::{Part, sum};
use super::model::{Component, Crossing, End, Picture, counted, grouped};

/// Parts that are named one by one; the others are summed up.
const NAMED: usize = 4;

/// All that is known, a paragraph for each domain.
pub fn text(picture: &Picture, costs: Option<&Costs>) -> String {
    let mut text = format!("image {}: {}\n", picture.name, picture.machine);
    if let Some(program) = &picture.program {
        let _ = writeln!(text, "runs {program}");
    }
    let _ = writeln!(text, "\nring 0: the kernel, {}\n  {}", counted(sum(&picture.kernel)), parts(&picture.kernel));
    let _ = writeln!(text, "  a fault in it: the machine ends");
    if !picture.manager.is_empty() {
        let _ =
            writeln!(text, "\nring 3: the manager, {}\n  {}", counted(sum(&picture.manager)), parts(&picture.manager));
        let _ = writeln!(
            text,
            "  starts the domains, hands out their routes, starts them again; a fault in it: the machine ends"
        );
    }
    for (index, domain) in picture.domains.iter().enumerate() {
        let ring = if domain.in_kernel { 0 } else { 3 };
        let _ = writeln!(
            text,
            "\ndomain {}: ring {ring}, {} of memory, priority {}{}",
            domain.name,
            domain.memory,
            domain.priority,
            if domain.essential { ", essential" } else { "" }
        );
        let (own, privileged) = picture.trusted_base(index);
        let _ = writeln!(
            text,
            "  trusted base: {} of its own, {} in ring 0\n    {}",
            counted(own),
            counted(privileged),
            parts(&domain.parts)
        );
        for component in &domain.components {
            describe(&mut text, picture, index, component);
        }
        let _ = writeln!(text, "  a fault in it: {}", picture.fault(index));
    }
    crossings(&mut text, picture, costs);
    text
}

fn parts(parts: &[Part]) -> String {
    let named = parts.iter().take(NAMED).map(|part| format!("{} {}", part.name, grouped(part.count.lines)));
    let mut words: Vec<String> = named.collect();
    let rest = parts.get(NAMED..).unwrap_or_default();
    if !rest.is_empty() {
        words.push(format!("{} more {}", rest.len(), grouped(sum(rest).lines)));
    }
    words.join(", ")
}

fn describe(text: &mut String, picture: &Picture, domain: usize, component: &Component) {
    let _ = writeln!(text, "  {} (package {})", component.name, component.package);
    if let Some(program) = &component.program {
        let _ = writeln!(text, "    runs the program of {program}");
    }
    for (name, interface) in &component.provides {
        let _ = writeln!(text, "    provides {name}: {interface}");
    }
    for route in &component.routes {
        let target = match &route.to {
            End::Nowhere => "nobody".to_owned(),
            End::Manager => format!("the manager, {}", Crossing::Ipc.text()),
            End::Component { domain: server, component, provision } => {
                let crossing = if *server == domain { Crossing::Call } else { Crossing::Ipc };
                let name = picture.component((*server, *component)).map_or("", |component| component.name.as_str());
                format!("{name}.{provision}, {}", crossing.text())
            }
        };
        let _ = writeln!(text, "    uses {}: {} of {target}", route.name, route.interface);
    }
    if !component.holds.is_empty() {
        let _ = writeln!(text, "    holds {}", component.holds.join(", "));
    }
}

fn crossings(text: &mut String, picture: &Picture, costs: Option<&Costs>) {
    let way = picture.request();
    if !way.is_empty() {
        let _ = writeln!(text, "\na request from the network crosses, for each call on the way:");
        for link in &way {
            let name = |place| picture.component(place).map_or("", |component| component.name.as_str());
            let cost =
                costs.map_or_else(String::new, |costs| format!(", {} instructions", costs.of_crossing(link.crossing)));
            let _ = writeln!(
                text,
                "  {} to {}: {}, {}{cost}{}",
                name(link.from),
                name(link.to),
                link.route.interface,
                link.crossing.text(),
                how(&link.route.interface)
            );
        }
    }
    let links = picture.links();
    let managers = picture.domains.iter().flat_map(|domain| &domain.components).flat_map(|component| &component.routes);
    let to_manager = managers.filter(|route| route.to == End::Manager).count();
    let direct = links.iter().filter(|link| link.crossing == Crossing::Call).count();
    let crossing = links.len() - direct + to_manager;
    let _ = writeln!(text, "\n{direct} routes are method calls, {crossing} cross a protection boundary");
    match costs {
        Some(costs) => {
            let _ = writeln!(
                text,
                "a call with two numbers costs {} instructions within a domain, {} between two (from {})",
                costs.call, costs.ipc, costs.origin
            );
        }
        None => {
            let _ = writeln!(
                text,
                "what calls cost was not measured here: `./tessera bench interface` does, or `--measure`"
            );
        }
    }
    let _ = writeln!(
        text,
        "whole crates are counted, without comments, tests and what is not compiled; Rust's own library is not counted"
    );
}

/// How often an interface is called, where that is not once for each operation.
pub fn how(interface: &str) -> &'static str {
    match interface {
        "NetDevice" | "Block" => {
            "; frames go through shared rings: an event wakes the other side, a call only sets them up"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::testing::picture;
    use super::*;

    #[test]
    fn all_is_told_and_no_figure_is_made_up() {
        let told = text(&picture(), None);
        for line in [
            "ring 0: the kernel, 6,000 lines, 110 with unsafe",
            "domain group: ring 3, 4M of memory, priority 20, essential",
            "  trusted base: 1,100 lines, 11 with unsafe of its own, 6,000 lines, 110 with unsafe in ring 0",
            "    uses network: Network of net.network, a method call",
            "    uses device: NetDevice of driver.device, by IPC",
            "  app to net: Network, a method call",
            "1 routes are method calls, 3 cross a protection boundary",
            "what calls cost was not measured here: `./tessera bench interface` does, or `--measure`",
        ] {
            assert!(told.lines().any(|told| told == line), "{line}\n{told}");
        }
        assert!(!told.contains("instructions"));
        let costs = Costs { call: 4.0, ipc: 560.0, origin: "a test".to_owned() };
        let told = text(&picture(), Some(&costs));
        assert!(told.contains("  net to driver: NetDevice, by IPC, 560 instructions; frames go"), "{told}");
        assert!(told.contains("(from a test)"));
    }
}
