//! An image as a page for a browser: the picture, and the words in tables. It needs nothing from elsewhere.

use std::fmt::Write;

use super::cost::Costs;
use super::draw::{self, STYLE, escaped};
use super::linked::sum;
use super::model::{Component, Crossing, End, Picture, counted, grouped};
use super::text::how;

const PAGE: &str = "\
body { margin: 0 auto; max-width: 1200px; padding: 28px 20px 60px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
h1 { font-size: 27px; margin: 0 0 2px; } h2 { font-size: 19px; margin: 38px 0 10px; } p { margin: 6px 0; }
.soft-text { color: var(--soft); } figure { margin: 22px 0; overflow-x: auto; text-align: center; } svg { max-width: 100%; height: auto; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 18px 0; }
.card { flex: 1 1 150px; background: var(--box); border: 1px solid var(--user-edge); border-radius: 10px; padding: 10px 14px; }
.card b { display: block; font-size: 22px; } .card span { color: var(--soft); font-size: 13px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; } th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--user-edge); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.scroll { overflow-x: auto; } code { font-size: 13px; } ul { margin: 0; padding-left: 18px; }
.tag { display: inline-block; border: 1px solid var(--user-edge); border-radius: 9px; padding: 0 8px; font-size: 12px; }
.tag.call { color: var(--call); } .tag.ipc { color: var(--ipc); }
";

/// The whole page.
pub fn page(picture: &Picture, costs: Option<&Costs>) -> String {
    let name = escaped(&picture.name);
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{name} · Tessera</title>\n\
         <style>\n{STYLE}{PAGE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n<p class=\"soft-text\">{}</p>\n",
        escaped(&picture.machine)
    );
    if let Some(program) = &picture.program {
        let _ = writeln!(text, "<p>It runs <code>{}</code></p>", escaped(program));
    }
    cards(&mut text, picture);
    let _ = writeln!(text, "<figure>\n{}</figure>", draw::element(picture));
    request(&mut text, picture, costs);
    domains(&mut text, picture);
    routes(&mut text, picture);
    parts(&mut text, picture);
    text.push_str(
        "<p class=\"soft-text\">Whole crates are counted, without comments, tests and what is not compiled; Rust's own library is not counted.</p>\n\
         </body>\n</html>\n",
    );
    text
}

fn cards(text: &mut String, picture: &Picture) {
    let links = picture.links();
    let ipc = links.iter().filter(|link| link.crossing == Crossing::Ipc).count();
    let privileged = picture.trusted_base(0).1;
    text.push_str("<div class=\"cards\">\n");
    for (value, words) in [
        (grouped(picture.domains.len()), "domains"),
        (grouped(picture.domains.iter().map(|domain| domain.components.len()).sum()), "components"),
        (grouped(ipc), "routes between domains"),
        (grouped(links.len() - ipc), "routes that are method calls"),
        (grouped(privileged.lines), "lines in ring 0"),
        (grouped(privileged.unsafe_lines), "of them with unsafe"),
    ] {
        let _ = writeln!(text, "<div class=\"card\"><b>{value}</b><span>{words}</span></div>");
    }
    text.push_str("</div>\n");
}

fn tag(crossing: Crossing) -> String {
    let class = if crossing == Crossing::Call { "call" } else { "ipc" };
    format!("<span class=\"tag {class}\">{}</span>", crossing.text())
}

fn name(picture: &Picture, place: (usize, usize)) -> String {
    escaped(picture.component(place).map_or("", |component| component.name.as_str()))
}

fn request(text: &mut String, picture: &Picture, costs: Option<&Costs>) {
    let way = picture.request();
    text.push_str("<h2>What a request crosses</h2>\n");
    if way.is_empty() {
        text.push_str("<p>No request comes from outside: the image has no network.</p>\n");
    } else {
        text.push_str("<div class=\"scroll\"><table>\n<tr><th>from</th><th>to</th><th>interface</th><th>how</th><th class=\"number\">instructions a call</th></tr>\n");
        for link in &way {
            let cost =
                costs.map_or_else(|| "not measured".to_owned(), |costs| costs.of_crossing(link.crossing).to_string());
            let _ = writeln!(
                text,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}{}</td><td class=\"number\">{cost}</td></tr>",
                name(picture, link.from),
                name(picture, link.to),
                escaped(&link.route.interface),
                tag(link.crossing),
                how(&link.route.interface)
            );
        }
        text.push_str("</table></div>\n");
    }
    let origin = costs.map_or_else(
        || "What calls cost was not measured here: <code>./tessera bench interface</code> does.".to_owned(),
        |costs| {
            let origin = escaped(&costs.origin);
            format!(
                "A call with two numbers: {} instructions within a domain, {} between two. From {origin}.",
                costs.call, costs.ipc
            )
        },
    );
    let _ = writeln!(text, "<p class=\"soft-text\">{origin}</p>");
}

fn domains(text: &mut String, picture: &Picture) {
    text.push_str("<h2>Domains</h2>\n<div class=\"scroll\"><table>\n<tr><th>domain</th><th>ring</th><th>memory</th><th>components</th><th class=\"number\">lines of its own</th><th class=\"number\">with unsafe</th><th>a fault in it</th></tr>\n");
    let row = |text: &mut String,
               name: &str,
               ring: u8,
               memory: &str,
               components: &str,
               count: super::source::Count,
               fault: &str| {
        let _ = writeln!(
            text,
            "<tr><td><b>{}</b></td><td>{ring}</td><td>{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td></tr>",
            escaped(name),
            escaped(memory),
            escaped(components),
            grouped(count.lines),
            grouped(count.unsafe_lines),
            escaped(fault)
        );
    };
    for (index, domain) in picture.domains.iter().enumerate() {
        let names: Vec<&str> = domain.components.iter().map(|component| component.name.as_str()).collect();
        let ring = if domain.in_kernel { 0 } else { 3 };
        row(text, &domain.name, ring, &domain.memory, &names.join(", "), sum(&domain.parts), &picture.fault(index));
    }
    if !picture.manager.is_empty() {
        row(
            text,
            "manager",
            3,
            "",
            "starts the domains and hands out their routes",
            sum(&picture.manager),
            "the machine ends",
        );
    }
    row(text, "kernel", 0, "", "everything rests on it", sum(&picture.kernel), "the machine ends");
    text.push_str("</table></div>\n");
}

fn routes(text: &mut String, picture: &Picture) {
    text.push_str("<h2>What each component may reach</h2>\n<div class=\"scroll\"><table>\n<tr><th>component</th><th>calls</th><th>holds besides</th></tr>\n");
    for (index, domain) in picture.domains.iter().enumerate() {
        for component in &domain.components {
            let calls: String = component.routes.iter().map(|route| reached(picture, index, route)).collect();
            let calls = if calls.is_empty() { "nobody".to_owned() } else { format!("<ul>{calls}</ul>") };
            let _ = writeln!(
                text,
                "<tr><td><b>{}</b>{}</td><td>{calls}</td><td>{}</td></tr>",
                escaped(&component.name),
                runs(component),
                held(component)
            );
        }
    }
    text.push_str("</table></div>\n");
}

fn runs(component: &Component) -> String {
    component.program.as_ref().map_or_else(String::new, |program| {
        format!("<br><span class=\"soft-text\">runs the program of {}</span>", escaped(program))
    })
}

fn held(component: &Component) -> String {
    if component.holds.is_empty() { "nothing".to_owned() } else { escaped(&component.holds.join(", ")) }
}

fn reached(picture: &Picture, domain: usize, route: &super::model::Route) -> String {
    let (target, crossing) = match &route.to {
        End::Nowhere => return format!("<li>{}: {} of nobody</li>", escaped(&route.name), escaped(&route.interface)),
        End::Manager => ("the manager".to_owned(), Crossing::Ipc),
        End::Component { domain: server, component, provision } => {
            let crossing = if *server == domain { Crossing::Call } else { Crossing::Ipc };
            (format!("{}.{}", name(picture, (*server, *component)), escaped(provision)), crossing)
        }
    };
    format!("<li>{}: {} of {target} {}</li>", escaped(&route.name), escaped(&route.interface), tag(crossing))
}

fn parts(text: &mut String, picture: &Picture) {
    text.push_str("<h2>The code of each</h2>\n<div class=\"scroll\"><table>\n<tr><th>linked into</th><th>crates, and the lines of each</th></tr>\n");
    let all = picture.domains.iter().map(|domain| (domain.name.as_str(), &domain.parts));
    for (name, parts) in all.chain([("manager", &picture.manager), ("kernel", &picture.kernel)]) {
        let list: Vec<String> =
            parts.iter().map(|part| format!("{} {}", escaped(&part.name), grouped(part.count.lines))).collect();
        let _ = writeln!(
            text,
            "<tr><td><b>{}</b><br><span class=\"soft-text\">{}</span></td><td>{}</td></tr>",
            escaped(name),
            counted(sum(parts)),
            list.join(", ")
        );
    }
    text.push_str("</table></div>\n");
}

#[cfg(test)]
mod tests {
    use super::super::model::testing::picture;
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_is_well_formed() {
        let page = page(&picture(), None);
        for outside in ["<script", "<link", "<img", "@import", "url(http", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("shop &lt;&amp;&gt;") && !page.contains("shop <"));
        for tag in ["table", "tr", "td", "svg", "figure", "div", "ul", "li", "h2", "b"] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert!(page.contains("not measured"));
    }
}
