//! What is told of an image, whether in words or as a picture.

use super::linked::{Part, sum};
use super::source::Count;

/// An image.
#[derive(Debug, Default)]
pub struct Picture {
    pub name: String,
    /// The virtual machine.
    pub machine: String,
    /// What runs in it, if that is not one of its components.
    pub program: Option<String>,
    /// Servers before their clients.
    pub domains: Vec<Domain>,
    /// What is linked into the kernel, and into the manager; nothing where there is none.
    pub kernel: Vec<Part>,
    pub manager: Vec<Part>,
}

/// One protection domain.
#[derive(Debug, Default)]
pub struct Domain {
    pub name: String,
    /// Whether it runs in the kernel's mode of the processor.
    pub in_kernel: bool,
    pub memory: String,
    pub priority: u8,
    /// Whether it is started again when it has ended with a fault.
    pub comes_back: bool,
    /// Whether its end is the machine's.
    pub essential: bool,
    /// Those that are called before those that call.
    pub components: Vec<Component>,
    /// What is linked into it.
    pub parts: Vec<Part>,
}

/// One component.
#[derive(Debug, Default)]
pub struct Component {
    pub name: String,
    pub package: String,
    /// The Cargo project whose program it runs.
    pub program: Option<String>,
    /// Names and interfaces.
    pub provides: Vec<(String, String)>,
    pub routes: Vec<Route>,
    /// What it holds besides.
    pub holds: Vec<String>,
}

/// What a component may call.
#[derive(Debug)]
pub struct Route {
    pub name: String,
    pub interface: String,
    pub to: End,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It is optional, and nobody provides it.
    Nowhere,
    Manager,
    /// Indexes of the domain and of the component in it, and what it provides.
    Component {
        domain: usize,
        component: usize,
        provision: String,
    },
}

/// How a call gets from one component to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// Within a domain: a method call.
    Call,
    /// Into another: a call of the kernel, and back.
    Ipc,
}

impl Crossing {
    pub fn text(self) -> &'static str {
        match self {
            Self::Call => "a method call",
            Self::Ipc => "by IPC",
        }
    }
}

/// A route with both its ends.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// Indexes of a domain and of a component in it.
    pub from: (usize, usize),
    pub to: (usize, usize),
    pub route: &'a Route,
    pub crossing: Crossing,
}

impl Picture {
    /// All routes between components.
    pub fn links(&self) -> Vec<Link<'_>> {
        let mut links = Vec::new();
        for (domain, from) in self.domains.iter().enumerate() {
            for (component, client) in from.components.iter().enumerate() {
                for route in &client.routes {
                    if let End::Component { domain: server, component: target, .. } = route.to {
                        let crossing = if server == domain { Crossing::Call } else { Crossing::Ipc };
                        links.push(Link { from: (domain, component), to: (server, target), route, crossing });
                    }
                }
            }
        }
        links
    }

    /// A component by its indexes.
    pub fn component(&self, (domain, component): (usize, usize)) -> Option<&Component> {
        self.domains.get(domain)?.components.get(component)
    }

    /// The code that can break a domain whatever it does itself: its own, and all that runs in the kernel's mode. The manager is told apart.
    pub fn trusted_base(&self, index: usize) -> (Count, Count) {
        let Some(domain) = self.domains.get(index) else { return Default::default() };
        let mut privileged: Vec<&Part> = self.kernel.iter().collect();
        for other in self.domains.iter().filter(|other| other.in_kernel) {
            let new: Vec<&Part> =
                other.parts.iter().filter(|part| !privileged.iter().any(|known| known.name == part.name)).collect();
            privileged.extend(new);
        }
        (sum(&domain.parts), sum(privileged))
    }

    /// The way of a request: from the component that nobody calls over the network to the driver. Empty if there is no network.
    pub fn request(&self) -> Vec<Link<'_>> {
        let links = self.links();
        let is_called = |place| links.iter().any(|link| link.to == place);
        let Some(first) = links.iter().find(|link| link.route.interface == "Network" && !is_called(link.from)) else {
            return Vec::new();
        };
        let mut way = vec![*first];
        while let Some(next) = way
            .last()
            .and_then(|last| links.iter().find(|link| link.from == last.to && link.route.interface == "NetDevice"))
        {
            way.push(*next);
        }
        way
    }

    /// What a fault in a domain takes along, in words.
    pub fn fault(&self, index: usize) -> String {
        let Some(domain) = self.domains.get(index) else { return String::new() };
        if domain.in_kernel {
            return "the machine ends: it shares the kernel's address space and mode".to_owned();
        }
        let names: Vec<&str> = domain.components.iter().map(|component| component.name.as_str()).collect();
        let links = self.links();
        let mut clients: Vec<&str> = Vec::new();
        for link in links.iter().filter(|link| link.to.0 == index && link.from.0 != index) {
            if let Some(client) = self.component(link.from).filter(|client| !clients.contains(&client.name.as_str())) {
                clients.push(&client.name);
            }
        }
        let together = if names.len() > 1 { format!(" ({} go together)", names.join(", ")) } else { String::new() };
        let after = match (domain.comes_back, domain.essential) {
            (true, _) => "it is started again",
            (false, true) => "the machine ends",
            (false, false) => "it stays down",
        };
        let told = match (clients.is_empty(), domain.comes_back) {
            (true, _) => String::new(),
            (false, true) => format!("; calls of {} fail until then", clients.join(", ")),
            (false, false) => format!("; calls of {} fail", clients.join(", ")),
        };
        format!("it ends{together}; {after}{told}")
    }
}

/// A number with separators between thousands.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1,234 lines, 5 with unsafe`
pub fn counted(count: Count) -> String {
    format!("{} lines, {} with unsafe", grouped(count.lines), grouped(count.unsafe_lines))
}

#[cfg(test)]
pub mod testing {
    use super::*;

    pub fn part(name: &str, lines: usize, unsafe_lines: usize) -> Part {
        Part { name: name.to_owned(), is_own: true, count: Count { lines, unsafe_lines } }
    }

    fn route(name: &str, interface: &str, domain: usize, component: usize) -> Route {
        let to = End::Component { domain, component, provision: name.to_owned() };
        Route { name: name.to_owned(), interface: interface.to_owned(), to }
    }

    fn component(name: &str, routes: Vec<Route>) -> Component {
        Component { name: name.to_owned(), package: format!("tessera-{name}"), routes, ..Component::default() }
    }

    /// A bus, a driver, and a stack and a program that share a domain.
    pub fn picture() -> Picture {
        let domain = |name: &str, components, comes_back| Domain {
            name: name.to_owned(),
            memory: "4M".to_owned(),
            priority: 20,
            comes_back,
            essential: !comes_back,
            components,
            parts: vec![part(name, 100, 1), part("tessera-runtime", 1000, 10)],
            ..Domain::default()
        };
        let net = component("net", vec![route("device", "NetDevice", 1, 0)]);
        let app = component("app", vec![route("network", "Network", 2, 0), route("bus", "Device", 0, 0)]);
        Picture {
            name: "shop <&>".to_owned(),
            machine: "64M of memory".to_owned(),
            program: None,
            domains: vec![
                domain("pci", vec![component("pci", vec![])], true),
                domain("driver", vec![component("driver", vec![route("bus", "Device", 0, 0)])], true),
                domain("group", vec![net, app], false),
            ],
            kernel: vec![part("tessera-kernel", 5000, 100), part("tessera-runtime", 1000, 10)],
            manager: vec![part("tessera-manager", 700, 0)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::picture;
    use super::*;

    #[test]
    fn the_way_of_a_request_leads_to_the_driver() {
        let picture = picture();
        let way: Vec<_> = picture.request().iter().map(|link| (link.from, link.to, link.crossing)).collect();
        assert_eq!(way, [((2, 1), (2, 0), Crossing::Call), ((2, 0), (1, 0), Crossing::Ipc)]);
    }

    #[test]
    fn a_fault_takes_along_what_shares_its_domain_and_is_told_to_those_who_call() {
        let mut picture = picture();
        assert_eq!(picture.fault(0), "it ends; it is started again; calls of driver, app fail until then");
        assert_eq!(picture.fault(2), "it ends (net, app go together); the machine ends");
        picture.domains[1].in_kernel = true;
        assert!(picture.fault(1).starts_with("the machine ends"));
    }

    #[test]
    fn what_runs_in_the_kernels_mode_is_everybodys_trusted_base() {
        let mut picture = picture();
        assert_eq!(
            picture.trusted_base(0),
            (Count { lines: 1100, unsafe_lines: 11 }, Count { lines: 6000, unsafe_lines: 110 })
        );
        picture.domains[1].in_kernel = true;
        // The runtime is there already.
        assert_eq!(picture.trusted_base(0).1, Count { lines: 6100, unsafe_lines: 111 });
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
