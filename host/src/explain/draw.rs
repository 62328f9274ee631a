//! An image as a picture: SVG, with light and dark colours, without anything from elsewhere.

use std::fmt::Write;

use super::layout::{Area, Layout, layout, text_width};
use super::linked::sum;
use super::model::{Crossing, Picture, counted, grouped};
use super::source::Count;

/// Colours and shapes. The page around the picture uses the same names.
pub const STYLE: &str = "\
:root { color-scheme: light dark; --paper: #fcfcfa; --ink: #1d2733; --soft: #5c6b7c; --user: #eef2f8; --user-edge: #c6d2e3;
  --ring0: #fbeceb; --ring0-edge: #e5bdb9; --box: #ffffff; --box-edge: #9fb0c6; --part: #e3ebfb; --part-edge: #5876c4;
  --app: #e2f3e6; --app-edge: #35925a; --kernel: #fff7f6; --kernel-edge: #bb4a43; --ipc: #3f5671; --call: #2c8a55; }
@media (prefers-color-scheme: dark) { :root { --paper: #12171e; --ink: #e8edf3; --soft: #9caabb; --user: #18212d;
  --user-edge: #2e3d52; --ring0: #2a1a1b; --ring0-edge: #5b3331; --box: #1e2938; --box-edge: #4a5d77; --part: #26375a;
  --part-edge: #7d9be6; --app: #1d3d2b; --app-edge: #58c083; --kernel: #3a2223; --kernel-edge: #e07b73; --ipc: #a9bdd6;
  --call: #62cf92; } }
";

const SHAPES: &str = "\
text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: var(--ink); }
.soft { fill: var(--soft); font-size: 11.5px; } .name { font-size: 16px; font-weight: 650; }
.part-name { font-size: 15px; font-weight: 600; text-anchor: middle; } .middle { text-anchor: middle; }
.ring { font-size: 13px; font-weight: 600; letter-spacing: .04em; fill: var(--soft); }
.user { fill: var(--user); stroke: var(--user-edge); } .ring0 { fill: var(--ring0); stroke: var(--ring0-edge); }
.box { fill: var(--box); stroke: var(--box-edge); stroke-width: 1.4; } .box.privileged { stroke: var(--kernel-edge); }
.part { fill: var(--part); stroke: var(--part-edge); } .part.app { fill: var(--app); stroke: var(--app-edge); }
.kernel { fill: var(--kernel); stroke: var(--kernel-edge); stroke-width: 1.6; }
.way { fill: none; stroke-width: 1.7; } .ipc { stroke: var(--ipc); } .call { stroke: var(--call); stroke-dasharray: 5 3; }
.head-ipc { fill: var(--ipc); } .head-call { fill: var(--call); }
.over { paint-order: stroke; stroke: var(--box); stroke-width: 4px; stroke-linejoin: round; }
.label { font-size: 11.5px; text-anchor: middle; } .chip { fill: var(--paper); stroke: var(--user-edge); }
";

/// The picture as a file of its own.
pub fn file(picture: &Picture) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", svg(picture, STYLE))
}

/// The picture as an element of a page that has [`STYLE`].
pub fn element(picture: &Picture) -> String {
    svg(picture, "")
}

fn svg(picture: &Picture, style: &str) -> String {
    let own = |domain: usize, component: usize| lines(picture, domain, component);
    let places = layout(picture, &own);
    let mut text = String::new();
    let (width, height) = (places.width, places.height + LEGEND);
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         role=\"img\" aria-label=\"The domains of {}\">\n<style>\n{style}{SHAPES}</style>",
        escaped(&picture.name)
    );
    for kind in ["ipc", "call"] {
        let _ = writeln!(
            text,
            "<marker id=\"{kind}\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7.5\" markerHeight=\"7.5\" \
             orient=\"auto\"><path class=\"head-{kind}\" d=\"M0 0.6 L10 5 L0 9.4 z\"/></marker>"
        );
    }
    let _ = writeln!(text, "<rect width=\"{width:.0}\" height=\"{height:.0}\" fill=\"var(--paper)\"/>");
    rings(&mut text, picture, &places);
    // The words of a domain lie above the arrows into it.
    let mut heads = String::new();
    for (index, _) in picture.domains.iter().enumerate() {
        domain(&mut text, &mut heads, picture, &places, index);
    }
    arrows(&mut text, picture, &places, &heads);
    legend(&mut text, places.height);
    text.push_str("</svg>\n");
    text
}

/// The two lines of a component: its name, and how much code its own crate is.
fn lines(picture: &Picture, domain: usize, component: usize) -> (String, String) {
    let Some(this) = picture.component((domain, component)) else { return Default::default() };
    let parts = picture.domains.get(domain).map(|domain| domain.parts.as_slice()).unwrap_or_default();
    let own = parts.iter().find(|part| part.name == this.package).map(|part| part.count).unwrap_or_default();
    (this.name.clone(), short(own))
}

fn short(count: Count) -> String {
    format!("{} lines · {} unsafe", grouped(count.lines), grouped(count.unsafe_lines))
}

fn rings(text: &mut String, picture: &Picture, places: &Layout) {
    for (area, class, title) in [
        (places.user, "user", "RING 3 · each domain an address space of its own"),
        (places.privileged, "ring0", "RING 0 · the processor's privileged mode"),
    ] {
        rectangle(text, area, class, 14.0, "");
        let _ =
            writeln!(text, "<text class=\"ring\" x=\"{:.1}\" y=\"{:.1}\">{title}</text>", area.x + 16.0, area.y + 25.0);
    }
    if !picture.manager.is_empty() {
        let tip = "Starts the domains, hands out their routes and starts them again. Its end is the machine's.";
        let area = places.manager;
        rectangle(text, area, "box", 10.0, tip);
        let manager = sum(&picture.manager);
        let own = format!("{} lines", grouped(manager.lines));
        let marked = format!("{} with unsafe", grouped(manager.unsafe_lines));
        words(
            text,
            area,
            &[("name", "manager"), ("soft", &own), ("soft", &marked), ("soft", "starts and restarts all")],
        );
    }
    let area = places.kernel;
    rectangle(text, area, "kernel", 10.0, "Every domain rests on the kernel. Its fault is the machine's end.");
    let kernel = format!("{}, everything linked into it", counted(sum(&picture.kernel)));
    words(
        text,
        area,
        &[("name", "kernel"), ("soft", &kernel), ("soft", "every arrow between two boxes above goes through it")],
    );
}

/// Lines of text in a rectangle.
fn words(text: &mut String, area: Area, lines: &[(&str, &str)]) {
    let mut y = area.y + 24.0;
    for (class, line) in lines {
        if y > area.bottom() - 6.0 {
            break;
        }
        let _ =
            writeln!(text, "<text class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>", area.x + 14.0, escaped(line));
        y += 19.0;
    }
}

fn rectangle(text: &mut String, area: Area, class: &str, round: f64, tip: &str) {
    let _ = write!(
        text,
        "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"{round}\">",
        area.x, area.y, area.width, area.height
    );
    if !tip.is_empty() {
        let _ = write!(text, "<title>{}</title>", escaped(tip));
    }
    text.push_str("</rect>\n");
}

fn domain(text: &mut String, heads: &mut String, picture: &Picture, places: &Layout, index: usize) {
    let (Some(domain), Some(placed)) = (picture.domains.get(index), places.domains.get(index)) else { return };
    let tip = format!("A fault in {}: {}", domain.name, picture.fault(index));
    rectangle(text, placed.area, if domain.in_kernel { "box privileged" } else { "box" }, 10.0, &tip);
    let area = placed.area;
    let ring = if domain.in_kernel { 0 } else { 3 };
    let _ = writeln!(
        heads,
        "<text class=\"name over\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n\
         <text class=\"soft over\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">ring {ring} · {} · priority {}</text>\n\
         <text class=\"soft over\" x=\"{:.1}\" y=\"{:.1}\">{} of its own</text>",
        area.x + 16.0,
        area.y + 24.0,
        escaped(&domain.name),
        area.right() - 14.0,
        area.y + 24.0,
        escaped(&domain.memory),
        domain.priority,
        area.x + 16.0,
        area.y + 42.0,
        short(sum(&domain.parts)),
    );
    for (component, area) in placed.components.iter().enumerate() {
        let Some(this) = picture.component((index, component)) else { continue };
        let holds = if this.holds.is_empty() { String::new() } else { format!(" Holds {}.", this.holds.join(", ")) };
        let runs = this.program.as_ref().map_or_else(String::new, |program| format!(" Runs the program of {program}."));
        let tip = format!("{} (package {}).{runs}{holds}", this.name, this.package);
        let is_app = this.program.is_some() || domain.essential && this.provides.is_empty();
        rectangle(text, *area, if is_app { "part app" } else { "part" }, 8.0, &tip);
        let (name, below) = lines(picture, index, component);
        let _ = writeln!(
            text,
            "<text class=\"part-name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n<text class=\"soft middle\" x=\"{:.1}\" y=\"{:.1}\">{below}</text>",
            area.middle(),
            area.y + 22.0,
            escaped(&name),
            area.middle(),
            area.y + 39.0
        );
    }
}

fn arrows(text: &mut String, picture: &Picture, places: &Layout, heads: &str) {
    let mut labels = heads.to_owned();
    let boxes = places.domains.iter().flat_map(|placed| placed.components.iter().copied());
    let mut taken: Vec<Area> = boxes.collect();
    for (link, way) in picture.links().iter().zip(&places.ways) {
        let class = if link.crossing == Crossing::Call { "call" } else { "ipc" };
        let _ = writeln!(text, "<path class=\"way {class}\" marker-end=\"url(#{class})\" d=\"{}\"/>", curve(way));
        let (width, name) = (text_width(&link.route.interface, 11.5) + 14.0, &link.route.interface);
        let at = |part: f64| {
            let (x, y) = along(way, part);
            Area { x: x - width / 2.0, y: y - 9.0, width, height: 18.0 }
        };
        let places = [0.5, 0.4, 0.6, 0.3, 0.7, 0.22, 0.78, 0.85].map(at);
        let free = places.iter().find(|area| !taken.iter().any(|other| other.overlaps(area)));
        let area = *free.unwrap_or(&places[0]);
        taken.push(area);
        rectangle(&mut labels, area, "chip", 9.0, &format!("{}: {name}, {}", link.route.name, link.crossing.text()));
        let _ = writeln!(
            labels,
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            area.middle(),
            area.y + 13.0,
            escaped(name)
        );
    }
    // Above all arrows.
    text.push_str(&labels);
}

/// A line through points that leaves and reaches each of them vertically.
fn curve(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        match index.checked_sub(1).and_then(|before| points.get(before)) {
            None => {
                let _ = write!(path, "M{x:.1} {y:.1}");
            }
            Some((before, above)) => {
                let half = (y - above) / 2.0;
                let _ = write!(path, " C{before:.1} {:.1} {x:.1} {:.1} {x:.1} {y:.1}", above + half, y - half);
            }
        }
    }
    path
}

/// The point of that curve at a part of its height.
fn along(points: &[(f64, f64)], part: f64) -> (f64, f64) {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return (0.0, 0.0) };
    let y = first.1 + (last.1 - first.1) * part;
    for pair in points.windows(2) {
        let [(x0, y0), (x1, y1)] = pair else { continue };
        if *y0 <= y && y <= *y1 && y1 > y0 {
            // A cubic whose middle points lie half way down: the height at `t` is as below.
            let (mut low, mut high) = (0.0_f64, 1.0_f64);
            for _ in 0..30 {
                let t = (low + high) / 2.0;
                let height = 1.5 * t * (1.0 - t) + t * t * t + 1.5 * t * t * (1.0 - t) - 1.5 * t * (1.0 - t) * t;
                if y0 + (y1 - y0) * height < y { low = t } else { high = t }
            }
            let t = low;
            return (x0 + (x1 - x0) * (3.0 * t * t - 2.0 * t * t * t), y);
        }
    }
    (first.0, y)
}

const LEGEND: f64 = 34.0;

fn legend(text: &mut String, y: f64) {
    let y = y + 8.0;
    for (x, class, words) in
        [(40.0, "ipc", "a route to another domain: IPC"), (290.0, "call", "a route within a domain: a method call")]
    {
        let _ = writeln!(
            text,
            "<path class=\"way {class}\" marker-end=\"url(#{class})\" d=\"M{x} {y} h34\"/>\
             <text class=\"soft\" x=\"{}\" y=\"{}\">{words}</text>",
            x + 44.0,
            y + 4.0
        );
    }
}

/// A text inside XML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::model::testing::picture;
    use super::*;

    #[test]
    fn every_part_and_route_is_drawn() {
        let svg = file(&picture());
        for name in ["pci", "driver", "group", "net", "app", "kernel", "manager"] {
            assert!(svg.contains(&format!(">{name}</text>")), "{name}");
        }
        assert_eq!(svg.matches("class=\"way ipc\"").count(), 3 + 1, "three routes and the legend");
        assert_eq!(svg.matches("class=\"way call\"").count(), 1 + 1);
        assert_eq!(svg.matches("class=\"label\"").count(), 4);
        assert!(svg.contains("shop &lt;&amp;&gt;") && !svg.contains("shop <"));
        assert!(!svg.contains("NaN") && !svg.contains("http://") || svg.matches("http://").count() == 1);
    }

    #[test]
    fn a_point_on_a_curve_is_between_its_ends() {
        let points = [(0.0, 0.0), (100.0, 80.0)];
        assert_eq!(along(&points, 0.0).1, 0.0);
        let (x, y) = along(&points, 0.5);
        assert!((x - 50.0).abs() < 0.1 && (y - 40.0).abs() < 0.1, "{x} {y}");
    }
}
