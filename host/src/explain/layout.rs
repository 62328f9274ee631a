//! Where the parts of a picture are: domains in layers, callers above those they call, and arrows that go around what lies between
//! (Sugiyama, Tagawa and Toda, 1981).

use super::model::{Link, Picture};

/// A rectangle.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Area {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Area {
    pub fn middle(&self) -> f64 {
        self.x + self.width / 2.0
    }

    pub fn bottom(&self) -> f64 {
        self.y + self.height
    }

    pub fn right(&self) -> f64 {
        self.x + self.width
    }

    /// Whether two have a point in common.
    pub fn overlaps(&self, other: &Area) -> bool {
        self.x < other.right() && other.x < self.right() && self.y < other.bottom() && other.y < self.bottom()
    }

    fn moved(self, x: f64, y: f64) -> Area {
        Area { x: self.x + x, y: self.y + y, ..self }
    }
}

/// A domain's place and those of its components.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    pub area: Area,
    pub components: Vec<Area>,
}

/// Where everything is.
#[derive(Debug, Default)]
pub struct Layout {
    /// In the order of the picture's domains.
    pub domains: Vec<Placed>,
    /// The points that each of the picture's links goes through.
    pub ways: Vec<Vec<(f64, f64)>>,
    /// What belongs to ring 3 and to ring 0, and the manager and the kernel therein.
    pub user: Area,
    pub privileged: Area,
    pub manager: Area,
    pub kernel: Area,
    pub width: f64,
    pub height: f64,
}

const MARGIN: f64 = 24.0;
/// Room for the title of a ring.
const TITLE: f64 = 40.0;
const PADDING: f64 = 16.0;
/// Room for the words of a domain.
pub const HEAD: f64 = 54.0;
const COMPONENT: f64 = 50.0;
const BETWEEN: f64 = 26.0;
/// Between two layers: arrows and their words.
const GAP: f64 = 92.0;
const INNER_GAP: f64 = 64.0;
/// The way of an arrow past a layer.
const WAY: f64 = 28.0;
const KERNEL: f64 = 76.0;

/// The width of a text whose letters are `size` high; a letter of the usual fonts is somewhat more than half as wide.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.58
}

/// Something in a layer: a node, or the way of a link that goes past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Node(usize),
    Way(usize),
}

/// The layer of each of `count` nodes: every edge `(from, to)` leads down. There are no circles.
fn layers(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut layers = vec![0; count];
    for _ in 0..count {
        for &(from, to) in edges {
            layers[to] = layers[to].max(layers[from] + 1);
        }
    }
    layers
}

/// Nodes in rows, with the ways of long edges between; answers the rows, with few crossings.
fn rows(count: usize, edges: &[(usize, usize)]) -> Vec<Vec<Item>> {
    let layers = layers(count, edges);
    let depth = layers.iter().max().map_or(0, |last| last + 1);
    let mut rows: Vec<Vec<Item>> = vec![Vec::new(); depth];
    (0..count).for_each(|node| rows[layers[node]].push(Item::Node(node)));
    // What each item is joined to in the row above and in the row below.
    let mut joined: Vec<(usize, Item, Item)> = Vec::new();
    for (edge, &(from, to)) in edges.iter().enumerate() {
        let mut last = Item::Node(from);
        for (layer, row) in rows.iter_mut().enumerate().take(layers[to]).skip(layers[from] + 1) {
            row.push(Item::Way(edge));
            joined.push((layer, last, Item::Way(edge)));
            last = Item::Way(edge);
        }
        joined.push((layers[to], last, Item::Node(to)));
    }
    for round in 0..8 {
        let down = round % 2 == 0;
        let order: Vec<usize> = if down { (1..depth).collect() } else { (0..depth.saturating_sub(1)).rev().collect() };
        for layer in order {
            let beside = if down { layer - 1 } else { layer + 1 };
            let place = |item: Item| {
                rows[beside].iter().position(|other| *other == item).unwrap_or(0) as f64
                    / rows[beside].len().max(1) as f64
            };
            let weight = |index: usize, item: Item| {
                let ends = joined.iter().filter_map(|(lower, above, below)| match down {
                    true => (*lower == layer && *below == item).then(|| place(*above)),
                    false => (*lower == layer + 1 && *above == item).then(|| place(*below)),
                });
                let ends: Vec<f64> = ends.collect();
                let own = index as f64 / rows[layer].len().max(1) as f64;
                if ends.is_empty() { own } else { ends.iter().sum::<f64>() / ends.len() as f64 }
            };
            let mut weighed: Vec<(f64, Item)> =
                rows[layer].iter().enumerate().map(|(index, item)| (weight(index, *item), *item)).collect();
            weighed.sort_by(|one, other| one.0.total_cmp(&other.0));
            rows[layer] = weighed.into_iter().map(|(_, item)| item).collect();
        }
    }
    rows
}

/// The way of a link past other rows: where it is in each, and where the row begins and ends.
type Way = Vec<(f64, f64, f64)>;

/// Puts rows below one another; answers the area of each node, the points of each way (row by row), and the whole size.
fn spread(rows: &[Vec<Item>], sizes: &[(f64, f64)], ways: usize, gap: f64) -> (Vec<Area>, Vec<Way>, (f64, f64)) {
    let width = |item: &Item| match item {
        Item::Node(node) => sizes[*node].0,
        Item::Way(_) => WAY,
    };
    let row_width = |row: &[Item]| row.iter().map(width).sum::<f64>() + BETWEEN * row.len().saturating_sub(1) as f64;
    let whole = rows.iter().map(|row| row_width(row)).fold(0.0, f64::max);
    let (mut areas, mut points) = (vec![Area::default(); sizes.len()], vec![Vec::new(); ways]);
    let mut y = 0.0;
    for (index, row) in rows.iter().enumerate() {
        let heights = row.iter().map(|item| if let Item::Node(node) = item { sizes[*node].1 } else { 0.0 });
        let height = heights.fold(0.0, f64::max);
        let mut x = (whole - row_width(row)) / 2.0;
        for item in row {
            match item {
                Item::Node(node) => {
                    let (width, own) = sizes[*node];
                    areas[*node] = Area { x, y: y + (height - own) / 2.0, width, height: own };
                }
                Item::Way(way) => points[*way].push((x + WAY / 2.0, y, y + height)),
            }
            x += width(item) + BETWEEN;
        }
        y += height + if index + 1 < rows.len() { gap } else { 0.0 };
    }
    (areas, points, (whole, y))
}

/// Places the components of a domain; answers them and the domain's size.
fn inside(
    picture: &Picture,
    domain: usize,
    links: &[Link<'_>],
    labels: &dyn Fn(usize, usize) -> (String, String),
) -> Placed {
    let Some(this) = picture.domains.get(domain) else { return Placed::default() };
    let inner = links.iter().filter(|link| link.from.0 == domain && link.to.0 == domain);
    let mut edges: Vec<(usize, usize)> = inner.map(|link| (link.from.1, link.to.1)).collect();
    edges.dedup();
    let sizes: Vec<(f64, f64)> = (0..this.components.len())
        .map(|component| {
            let (name, below) = labels(domain, component);
            (text_width(&name, 15.0).max(text_width(&below, 11.5)) + 28.0, COMPONENT)
        })
        .collect();
    let rows = rows(sizes.len(), &edges);
    let (areas, _, (width, height)) = spread(&rows, &sizes, edges.len(), INNER_GAP);
    let ring = format!("ring 3 · {} · priority {}", this.memory, this.priority);
    let least = text_width(&this.name, 16.0) + text_width(&ring, 11.5) + 24.0;
    let inner_width = width.max(least).max(text_width("123,456 lines · 1,234 unsafe of its own", 11.5));
    let components = areas.iter().map(|area| area.moved(PADDING + (inner_width - width) / 2.0, HEAD)).collect();
    let area = Area { x: 0.0, y: 0.0, width: inner_width + 2.0 * PADDING, height: HEAD + height + PADDING };
    Placed { area, components }
}

/// Places everything. `labels` gives the two lines of a component.
pub fn layout(picture: &Picture, labels: &dyn Fn(usize, usize) -> (String, String)) -> Layout {
    let links = picture.links();
    let mut domains: Vec<Placed> =
        (0..picture.domains.len()).map(|domain| inside(picture, domain, &links, labels)).collect();
    let between: Vec<usize> = (0..links.len()).filter(|link| links[*link].from.0 != links[*link].to.0).collect();
    let mut layout = Layout::default();
    let mut y = MARGIN + TITLE;
    let mut points: Vec<Way> = vec![Vec::new(); links.len()];
    let (mut left, mut right): (f64, f64) = (0.0, 0.0);
    for in_kernel in [false, true] {
        let here: Vec<usize> =
            (0..domains.len()).filter(|domain| picture.domains[*domain].in_kernel == in_kernel).collect();
        let index = |domain: usize| here.iter().position(|other| *other == domain);
        let own: Vec<(usize, (usize, usize))> = between
            .iter()
            .filter_map(|link| Some((*link, (index(links[*link].from.0)?, index(links[*link].to.0)?))))
            .collect();
        let edges: Vec<(usize, usize)> = own.iter().map(|(_, edge)| *edge).collect();
        let sizes: Vec<(f64, f64)> =
            here.iter().map(|domain| (domains[*domain].area.width, domains[*domain].area.height)).collect();
        let (areas, ways, (width, height)) = spread(&rows(sizes.len(), &edges), &sizes, edges.len(), GAP);
        for (domain, area) in here.iter().zip(areas) {
            let (x, y) = (area.x - width / 2.0, area.y + y);
            let placed = &mut domains[*domain];
            placed.area = placed.area.moved(x, y);
            placed.components = placed.components.iter().map(|component| component.moved(x, y)).collect();
        }
        for ((link, _), way) in own.iter().zip(ways) {
            points[*link] = way.into_iter().map(|(x, top, bottom)| (x - width / 2.0, top + y, bottom + y)).collect();
        }
        (left, right) = (left.min(-width / 2.0), right.max(width / 2.0));
        if in_kernel {
            if !here.is_empty() {
                y += height + BETWEEN;
            }
            layout.kernel = Area { x: 0.0, y, width: 0.0, height: KERNEL };
            layout.privileged.height = y + KERNEL + PADDING - layout.privileged.y;
        } else {
            layout.user = Area { x: 0.0, y: MARGIN, width: 0.0, height: y + height + PADDING - MARGIN };
            layout.privileged.y = layout.user.bottom() + BETWEEN;
            y = layout.privileged.y + TITLE;
        }
    }
    place_rings(&mut layout, &mut domains, &mut points, left, right);
    layout.ways =
        links.iter().enumerate().map(|(index, link)| way(&domains, &links, index, link, &points[index])).collect();
    layout.domains = domains;
    layout
}

/// Widths, now that all are known; and everything is moved to the right of the margin.
fn place_rings(layout: &mut Layout, domains: &mut [Placed], points: &mut [Way], left: f64, right: f64) {
    const MANAGER: f64 = 190.0;
    let inner = (right - left).max(420.0);
    let width = inner + BETWEEN + MANAGER + 2.0 * PADDING;
    let x = MARGIN + PADDING + (inner - (right - left)) / 2.0 - left;
    for placed in domains.iter_mut() {
        placed.area = placed.area.moved(x, 0.0);
        placed.components = placed.components.iter().map(|component| component.moved(x, 0.0)).collect();
    }
    points.iter_mut().flatten().for_each(|point| point.0 += x);
    for ring in [&mut layout.user, &mut layout.privileged] {
        (ring.x, ring.width) = (MARGIN, width);
    }
    let manager = width + MARGIN - PADDING - MANAGER;
    layout.manager = Area {
        x: manager,
        y: MARGIN + TITLE,
        width: MANAGER,
        height: (layout.user.height - TITLE - PADDING).clamp(60.0, 108.0),
    };
    (layout.kernel.x, layout.kernel.width) = (MARGIN + PADDING, width - 2.0 * PADDING);
    layout.width = width + 2.0 * MARGIN;
    layout.height = layout.privileged.bottom() + MARGIN;
}

/// The points of a link: from below its client to above its server, each at a place of its own.
fn way(
    domains: &[Placed],
    links: &[Link<'_>],
    index: usize,
    link: &Link<'_>,
    between: &[(f64, f64, f64)],
) -> Vec<(f64, f64)> {
    let area = |(domain, component): (usize, usize)| {
        domains.get(domain).and_then(|placed| placed.components.get(component)).copied().unwrap_or_default()
    };
    let target = |place: (usize, usize)| area(place).middle();
    // Arrows that share a side are spread over it, in the order in which they lead away.
    let spread = |side: Vec<usize>, other: &dyn Fn(usize) -> f64, at: Area| {
        let mut side = side;
        side.sort_by(|one, two| other(*one).total_cmp(&other(*two)).then(one.cmp(two)));
        let place = side.iter().position(|other| *other == index).unwrap_or(0) as f64;
        at.x + at.width * (place + 1.0) / (side.len() as f64 + 1.0)
    };
    let all = |is: &dyn Fn(&Link<'_>) -> bool| (0..links.len()).filter(|other| is(&links[*other])).collect::<Vec<_>>();
    let (from, to) = (area(link.from), area(link.to));
    let start = spread(all(&|other| other.from == link.from), &|other| target(links[other].to), from);
    let end = spread(all(&|other| other.to == link.to), &|other| target(links[other].from), to);
    let mut points = vec![(start, from.bottom())];
    if link.from.0 != link.to.0 {
        // Out of the domain straight, and into the other.
        points.push((start, domains.get(link.from.0).map_or(0.0, |placed| placed.area.bottom())));
    }
    points.extend(between.iter().flat_map(|(x, top, bottom)| [(*x, *top), (*x, *bottom)]));
    if link.from.0 != link.to.0 {
        points.push((end, domains.get(link.to.0).map_or(0.0, |placed| placed.area.y)));
    }
    points.push((end, to.y));
    points
}

#[cfg(test)]
mod tests {
    use super::super::model::testing::picture;
    use super::*;

    fn placed() -> (Picture, Layout) {
        let picture = picture();
        let layout = layout(&picture, &|domain, component| {
            (picture.component((domain, component)).unwrap().name.clone(), "1,234 lines · 0 unsafe".to_owned())
        });
        (picture, layout)
    }

    #[test]
    fn who_calls_is_above_whom_it_calls() {
        assert_eq!(layers(4, &[(0, 1), (1, 2), (0, 2), (3, 2)]), [0, 1, 2, 0]);
        let rows = rows(3, &[(0, 1), (1, 2), (0, 2)]);
        assert_eq!(rows[0], [Item::Node(0)]);
        assert!(rows[1].contains(&Item::Way(2)), "the long edge has a way of its own past the middle");
    }

    #[test]
    fn nothing_lies_over_anything_else() {
        let (_, layout) = placed();
        for (index, one) in layout.domains.iter().enumerate() {
            for other in layout.domains.iter().skip(index + 1) {
                assert!(!one.area.overlaps(&other.area), "{one:?} {other:?}");
            }
            assert!(!one.area.overlaps(&layout.manager) && !one.area.overlaps(&layout.kernel));
            for (place, component) in one.components.iter().enumerate() {
                assert!(component.x >= one.area.x && component.right() <= one.area.right());
                assert!(component.y >= one.area.y + HEAD && component.bottom() <= one.area.bottom());
                assert!(one.components.iter().skip(place + 1).all(|other| !component.overlaps(other)));
            }
        }
        assert!(!layout.user.overlaps(&layout.privileged));
    }

    #[test]
    fn arrows_lead_down_and_past_the_domains_that_they_do_not_mean() {
        let (picture, layout) = placed();
        for (link, way) in picture.links().iter().zip(&layout.ways) {
            assert!(way.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{way:?}");
            let others = (0..layout.domains.len()).filter(|domain| *domain != link.from.0 && *domain != link.to.0);
            for domain in others {
                let area = layout.domains[domain].area;
                let inside = |point: &(f64, f64)| {
                    point.0 > area.x && point.0 < area.right() && point.1 > area.y && point.1 < area.bottom()
                };
                assert!(!way.iter().any(inside));
            }
        }
    }
}
