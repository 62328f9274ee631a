//! Checks that the calls of an image can neither deadlock nor invert priorities, and that its domains fit into its memory; and puts
//! components in an order in which each finds what it calls.

use std::collections::BTreeMap;

use miette::Result;

use super::description::Description;
use super::sizes::Amount;
use super::system::{Link, Placed, Settings};

/// Most routes to other domains from one domain: each has a bit of one event.
const ROUTES: usize = 64;
/// Most domains of an image: the manager has a bit of one event for each.
const DOMAINS: usize = 63;
/// Of the machine's memory, what the kernel, the manager and the image itself may need.
const KEPT: u64 = 8 << 20;

/// Checks all; answers the components' indexes, those that are called before those that call, those of a domain together.
pub fn check(
    description: &Description,
    placed: &[Placed],
    settings: &BTreeMap<String, Settings>,
) -> Result<Vec<usize>> {
    circle_of_components(description, placed)?;
    let domains = circle_of_domains(description, placed)?;
    priorities(description, placed, settings)?;
    if domains.len() > DOMAINS {
        let what = format!("this image has {} domains", domains.len());
        let mend = format!("place some components together with `domain`: an image can have {DOMAINS} domains");
        return Err(description.wrong(description.name_place(), &what, &mend));
    }
    memory(description, settings)?;
    routes(description, placed)?;
    let mut order = Vec::new();
    for domain in domains {
        let members: Vec<usize> = (0..placed.len()).filter(|index| placed[*index].domain == domain).collect();
        let calls = |index: usize| {
            let members = &members;
            targets(placed, members[index])
                .filter_map(move |to| members.iter().position(|member| *member == to))
                .collect()
        };
        // A circle was refused above.
        let sorted = sort(members.len(), calls).unwrap_or_default();
        order.extend(sorted.into_iter().map(|index| members[index]));
    }
    Ok(order)
}

/// The components that component `index` calls.
fn targets<'a>(placed: &'a [Placed], index: usize) -> impl Iterator<Item = usize> + 'a {
    placed[index].links.iter().flatten().filter_map(|link| match link {
        Link::To { instance, .. } => Some(*instance),
        Link::Manager => None,
    })
}

/// Sorts `count` things so that each comes after those that it calls, else in their own order; or answers a circle.
fn sort(count: usize, calls: impl Fn(usize) -> Vec<usize>) -> std::result::Result<Vec<usize>, Vec<usize>> {
    fn visit(
        index: usize,
        calls: &impl Fn(usize) -> Vec<usize>,
        done: &mut Vec<usize>,
        path: &mut Vec<usize>,
    ) -> std::result::Result<(), Vec<usize>> {
        if done.contains(&index) {
            return Ok(());
        }
        if let Some(start) = path.iter().position(|other| *other == index) {
            return Err(path[start..].to_vec());
        }
        path.push(index);
        for to in calls(index) {
            visit(to, calls, done, path)?;
        }
        path.pop();
        done.push(index);
        Ok(())
    }
    let mut done = Vec::new();
    for index in 0..count {
        visit(index, &calls, &mut done, &mut Vec::new())?;
    }
    Ok(done)
}

fn circle_of_components(description: &Description, placed: &[Placed]) -> Result<()> {
    let Err(circle) = sort(placed.len(), |index| targets(placed, index).collect()) else { return Ok(()) };
    let names: Vec<&str> = circle.iter().chain(circle.first()).map(|index| placed[*index].name()).collect();
    let first = &placed[circle[0]].written.name;
    let what = format!("these components call one another in a circle, which can deadlock: {}", names.join(" → "));
    let mend = "take one of the uses out: let the one be told by an `Event` of what it now asks for";
    Err(description.wrong(first.span(), &what, mend))
}

/// The domains' names, servers first.
fn circle_of_domains(description: &Description, placed: &[Placed]) -> Result<Vec<String>> {
    let mut names: Vec<&str> = Vec::new();
    for placed in placed {
        if !names.contains(&placed.domain.as_str()) {
            names.push(&placed.domain);
        }
    }
    let number = |name: &str| names.iter().position(|other| *other == name);
    let edges: Vec<(usize, usize, usize)> = (0..placed.len())
        .flat_map(|from| targets(placed, from).map(move |to| (from, to)))
        .filter_map(|(from, to)| Some((number(&placed[from].domain)?, number(&placed[to].domain)?, from)))
        .filter(|(from, to, _)| from != to)
        .collect();
    let calls = |index: usize| edges.iter().filter(|edge| edge.0 == index).map(|edge| edge.1).collect();
    let circle = match sort(names.len(), calls) {
        Ok(order) => return Ok(order.into_iter().map(|index| names[index].to_owned()).collect()),
        Err(circle) => circle,
    };
    let path: Vec<&str> = circle.iter().chain(circle.first()).map(|index| names[*index]).collect();
    let caller = edges.iter().find(|edge| Some(&edge.0) == circle.first()).map_or(0, |edge| edge.2);
    let written = &placed[caller].written;
    let what = format!("these domains call one another in a circle, which can deadlock: {}", path.join(" → "));
    let mend = "place the components that call one another in one `domain`, or split one of the domains";
    Err(description.wrong(written.domain.as_ref().unwrap_or(&written.name).span(), &what, mend))
}

/// A call from high to low priority makes the caller wait for whatever keeps the server from running.
fn priorities(description: &Description, placed: &[Placed], settings: &BTreeMap<String, Settings>) -> Result<()> {
    for (index, client) in placed.iter().enumerate() {
        for server in targets(placed, index).map(|to| &placed[to]) {
            let (Some(high), Some(low)) = (settings.get(&client.domain), settings.get(&server.domain)) else {
                continue;
            };
            if high.priority.0 <= low.priority.0 {
                continue;
            }
            let written = low.priority.1.clone().or(high.priority.1.clone());
            let what = format!(
                "`{}` (priority {}) calls `{}` (priority {}), which may have to wait for what lies between",
                client.domain, high.priority.0, server.domain, low.priority.0
            );
            let mend = format!(
                "give `{}` a priority of {} or more, or `{}` one of {} or less",
                server.domain, high.priority.0, client.domain, low.priority.0
            );
            return Err(description.wrong(written.unwrap_or(client.written.name.span()), &what, &mend));
        }
    }
    Ok(())
}

fn memory(description: &Description, settings: &BTreeMap<String, Settings>) -> Result<()> {
    if settings.values().filter(|settings| settings.memory == Amount::REST).count() > 1 {
        let mend = "let one [domain] have `memory = \"rest\"`, and give the others amounts";
        return Err(description.wrong(description.name_place(), "several domains want the rest of the memory", mend));
    }
    let asked: u64 = settings.values().map(|settings| settings.memory.least.bytes()).sum();
    let whole = description.memory().bytes();
    // The kernel keeps an eighth for its tables.
    let there = (whole - whole / 8).saturating_sub(KEPT);
    if asked <= there {
        return Ok(());
    }
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let what = format!(
        "the domains of this image want {} MiB together, and {} of the machine's {} are left for them",
        mebibytes(asked),
        there >> 20,
        mebibytes(whole)
    );
    let mend = "give the [machine] more `memory`, or a [domain] less; one that says nothing has 4M";
    Err(description.wrong(description.name_place(), &what, mend))
}

fn routes(description: &Description, placed: &[Placed]) -> Result<()> {
    for client in placed {
        let remote = placed.iter().enumerate().filter(|(_, other)| other.domain == client.domain);
        let remote = remote.flat_map(|(index, _)| targets(placed, index));
        let count = remote.filter(|to| placed[*to].domain != client.domain).count();
        if count > ROUTES {
            let what = format!("the domain `{}` has {count} routes to others", client.domain);
            let mend = format!("split it: a domain can have {ROUTES}");
            return Err(description.wrong(client.written.name.span(), &what, &mend));
        }
    }
    Ok(())
}
