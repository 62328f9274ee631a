//! What a container may reach, as the command line says: `--allow net=tcp:10.0.2.2:5432`, `--deny net`, volumes.
//!
//! Nothing of this is checked in the personality. What a container is not to have is not in the system that it runs on: a copy of the
//! system's description is changed before it is built. Without a network there is no driver and no card; with rules, the network stack
//! hands the personality a capability that is narrower; a volume is a capability to its root, and one that is read-only refuses changes.

use std::net::{IpAddr, ToSocketAddrs};
use std::str::FromStr;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use toml::{Table, Value};

use super::Volume;
use crate::image::Description;

/// Most volumes, which are as many as the personality has places for.
pub const VOLUMES: usize = 4;
/// This machine, as a container sees it, and the name by which rules can call it.
const HOST: (&str, &str) = ("host", "10.0.2.2");

/// One thing that is allowed or denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The network as a whole.
    Network,
    /// A part of it: rules as the network stack reads them.
    Part(Vec<String>),
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        const WANTED: &str = "it is `net`, or `net=PROTOCOL:ADDRESS[/BITS]:PORT` with `*` for any of the three, such as \
            net=tcp:10.0.2.2:5432, net=tcp:db.example.org:443 or net=udp:*:53; `host` is this machine";
        let wrong = || format!("`{text}` is nothing that can be allowed or denied: {WANTED}");
        let Some(rule) = text.strip_prefix("net=") else {
            return if text == "net" { Ok(Self::Network) } else { Err(wrong()) };
        };
        let (protocol, rest) = rule.split_once(':').ok_or_else(wrong)?;
        let (address, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let is_protocol = matches!(protocol, "tcp" | "udp" | "icmp" | "*");
        if !is_protocol || (port != "*" && port.parse::<u16>().is_err()) {
            return Err(wrong());
        }
        let addresses = addresses(address).ok_or_else(wrong)?;
        let addresses = addresses.map_err(|error| format!("`{address}` in `{text}` has no address: {error}"))?;
        Ok(Self::Part(addresses.into_iter().map(|address| format!("{protocol}:{address}:{port}")).collect()))
    }
}

/// The addresses that an address, a network or a name stands for; nothing if it is none of them.
fn addresses(text: &str) -> Option<std::io::Result<Vec<String>>> {
    let shown = |address: IpAddr, bits: &str| match address {
        IpAddr::V4(address) => format!("{address}{bits}"),
        IpAddr::V6(address) => format!("[{address}]{bits}"),
    };
    if text == "*" {
        return Some(Ok(vec![text.to_owned()]));
    }
    if text == HOST.0 {
        return Some(Ok(vec![HOST.1.to_owned()]));
    }
    let (address, bits) = text.rfind('/').map_or((text, ""), |at| text.split_at(at));
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if let Ok(address) = bare.parse::<IpAddr>() {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let fits = bits.is_empty() || bits[1..].parse::<u8>().is_ok_and(|bits| bits <= most);
        return fits.then(|| Ok(vec![shown(address, bits)]));
    }
    let is_name = bits.is_empty() && !text.is_empty() && !text.contains([':', ',', '*', '[']);
    is_name.then(|| {
        let found = (text, 0).to_socket_addrs()?;
        Ok(found.map(|address| shown(address.ip(), "")).collect())
    })
}

/// All that was said of what a container may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    pub allowed: Vec<Grant>,
    pub denied: Vec<Grant>,
}

impl Authority {
    /// Whether there is any network but the machine's own.
    pub fn has_network(&self) -> bool {
        !self.denied.contains(&Grant::Network)
    }

    fn rules(grants: &[Grant]) -> Vec<&str> {
        let parts = grants.iter().filter_map(|grant| match grant {
            Grant::Part(rules) => Some(rules),
            Grant::Network => None,
        });
        parts.flatten().map(String::as_str).collect()
    }

    /// What is to be told of a connection that is refused, in words; nothing if none is.
    pub fn told(&self) -> Option<String> {
        if !self.has_network() {
            return Some("--deny net".to_owned());
        }
        let of =
            |word: &'static str, grants| Self::rules(grants).into_iter().map(move |rule| format!("{word} net={rule}"));
        let all: Vec<String> = of("--allow", &self.allowed).chain(of("--deny", &self.denied)).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }

    /// The system that is described, changed so that it gives this much and these volumes. Its name stays, so that what is the same in it is
    /// built once.
    pub fn narrow(&self, system: &Description, volumes: &[&Volume]) -> Result<Description> {
        let mut narrowed = self.changed(system, volumes)?;
        narrowed.place(system.placement().map(|placement| *placement.get_ref()));
        Ok(narrowed)
    }

    fn changed(&self, described: &Description, volumes: &[&Volume]) -> Result<Description> {
        let (path, text) = (described.path(), described.text());
        if *self == Self::default() && volumes.is_empty() {
            return Description::parse(path, text.to_owned());
        }
        if volumes.len() > VOLUMES {
            return Err(miette!(
                help = "put folders below one that is given whole, or use `:copy` for some of them",
                "a container can have {VOLUMES} volumes, and these are {}",
                volumes.len()
            ));
        }
        let cannot = || format!("cannot read the image description {}", path.display());
        let mut system: Table = toml::from_str(text).into_diagnostic().wrap_err_with(cannot)?;
        if !self.has_network() {
            take_network(&mut system);
        }
        for (kind, grants) in [("only", &self.allowed), ("never", &self.denied)] {
            let rules = Self::rules(grants);
            if !rules.is_empty() {
                let net = component(&mut system, "net").ok_or_else(|| {
                    miette!(
                        help = "write the rules into that description, or leave `--system` out",
                        "the system {} has no component `net` that could hold a container to rules",
                        path.display()
                    )
                })?;
                list(net, "arguments").push(Value::from(format!("{kind}.linux={}", rules.join(","))));
            }
        }
        if !volumes.is_empty() {
            let together = described.placement().is_some_and(|placement| placement.get_ref().is_kernel());
            give_volumes(&mut system, volumes, together);
        }
        let text = toml::to_string(&system).into_diagnostic()?;
        Description::parse(path, text)
    }
}

fn list<'a>(table: &'a mut Table, key: &str) -> &'a mut Vec<Value> {
    let value = table.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("it was made one"),
    }
}

fn component<'a>(system: &'a mut Table, name: &str) -> Option<&'a mut Table> {
    let components = list(system, "component").iter_mut().filter_map(Value::as_table_mut);
    components.into_iter().find(|component| component.get("name").and_then(Value::as_str) == Some(name))
}

/// In place of the network card's driver, one that has no card.
fn take_network(system: &mut Table) {
    list(system, "device").retain(|device| device.get("kind").and_then(Value::as_str) != Some("network"));
    if let Some(driver) = component(system, "virtio-net") {
        driver.clear();
        driver.insert("name".to_owned(), Value::from("no-wire"));
    }
    if let Some(Value::Table(domains)) = system.get_mut("domain") {
        domains.remove("virtio-net");
    }
}

/// Drivers for as many volumes as there can be, so that one system serves all numbers of them; all in one domain, which is everybody's where all are
/// `together`, and the personality's routes to them. One without a device refuses everything.
fn give_volumes(system: &mut Table, volumes: &[&Volume], together: bool) {
    let table = |pairs: &[(&str, Value)]| -> Value {
        Value::Table(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    };
    let mut routes = Table::new();
    for index in 0..VOLUMES {
        let name = if index == 0 { "virtio-9p".to_owned() } else { format!("virtio-9p-{}", index + 1) };
        let is_read_only = volumes.get(index).is_some_and(|volume| volume.is_read_only());
        let arguments = if is_read_only { vec![Value::from("read-only")] } else { Vec::new() };
        let mut driver = vec![
            ("name", Value::from(name.clone())),
            ("component", Value::from("virtio-9p")),
            ("arguments", Value::Array(arguments)),
        ];
        if !together {
            driver.push(("domain", Value::from("volumes")));
        }
        list(system, "component").push(table(&driver));
        routes.insert(format!("volume_{}", index + 1), Value::from(name));
    }
    let mut sub = |key: &str, name: &str, more: Table| {
        let all = system.entry(key).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(all) = all {
            let own = all.entry(name).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(own) = own {
                own.extend(more);
            }
        }
    };
    sub("route", "linux", routes);
    if !together {
        sub("domain", "volumes", Table::from_iter([("memory".to_owned(), Value::from("16M"))]));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DESCRIPTION;
    use super::*;
    use crate::devices::Device;
    use crate::image::Placement;
    use crate::workspace;

    fn grant(text: &str) -> Grant {
        text.parse().unwrap()
    }

    #[test]
    fn grants_are_read() {
        assert_eq!(grant("net"), Grant::Network);
        for (text, rule) in [
            ("net=tcp:10.0.2.2:5432", "tcp:10.0.2.2:5432"),
            ("net=tcp:host:5432", "tcp:10.0.2.2:5432"),
            ("net=udp:*:53", "udp:*:53"),
            ("net=*:10.0.0.0/8:*", "*:10.0.0.0/8:*"),
            ("net=tcp:[::1]/64:80", "tcp:[::1]/64:80"),
        ] {
            assert_eq!(grant(text), Grant::Part(vec![rule.to_owned()]), "{text}");
        }
        assert!(matches!(grant("net=tcp:localhost:80"), Grant::Part(rules) if !rules.is_empty()));
        for text in [
            "",
            "files",
            "net=",
            "net=tcp:80",
            "net=sctp:*:1",
            "net=tcp:*:70000",
            "net=tcp:1.2.3.4/33:1",
            "net=tcp:a,b:1",
        ] {
            let told = text.parse::<Grant>().unwrap_err();
            assert!(told.contains("nothing that can be"), "{told}");
        }
    }

    fn narrowed(allowed: &[&str], denied: &[&str], volumes: &[&Volume]) -> Description {
        let grants = |texts: &[&str]| texts.iter().map(|text| grant(text)).collect();
        let authority = Authority { allowed: grants(allowed), denied: grants(denied) };
        authority.narrow(&Description::read(&workspace::root().join(DESCRIPTION)).unwrap(), volumes).unwrap()
    }

    fn arguments<'a>(description: &'a Description, name: &str) -> Vec<&'a str> {
        let found = description.components().iter().find(|component| component.name.get_ref() == name);
        found.map(|found| found.arguments.iter().map(|text| text.get_ref().as_str()).collect()).unwrap_or_default()
    }

    #[test]
    fn by_default_the_system_is_the_one_that_is_described() {
        let text = std::fs::read_to_string(workspace::root().join(DESCRIPTION)).unwrap();
        assert_eq!(narrowed(&[], &[], &[]).text(), text);
    }

    #[test]
    fn without_a_network_there_is_no_driver_of_one_and_no_card() {
        let system = narrowed(&[], &["net"], &[]);
        let names: Vec<&str> = system.components().iter().map(|component| component.name.get_ref().as_str()).collect();
        assert!(names.contains(&"no-wire") && !names.contains(&"virtio-net"), "{names:?}");
        assert!(!system.devices().unwrap().contains(&Device::Network));
        assert!(crate::image::picture(&system).is_ok(), "nor a domain for it");
    }

    #[test]
    fn rules_are_the_network_stacks() {
        let system = narrowed(&["net=tcp:host:5432", "net=udp:*:53"], &["net=tcp:*:25"], &[]);
        let arguments = arguments(&system, "net");
        assert!(arguments.contains(&"only.linux=tcp:10.0.2.2:5432,udp:*:53"), "{arguments:?}");
        assert!(arguments.contains(&"never.linux=tcp:*:25"), "{arguments:?}");
    }

    #[test]
    fn each_volume_has_a_driver() {
        let folder = tempfile::tempdir().unwrap();
        let volume = |text: &str| -> Volume { format!("{}:{text}", folder.path().display()).parse().unwrap() };
        let (first, second) = (volume("/a"), volume("/b:ro"));
        let system = narrowed(&[], &[], &[&first, &second]);
        assert!(arguments(&system, "virtio-9p").is_empty());
        assert_eq!(arguments(&system, "virtio-9p-2"), ["read-only"]);
        let many = vec![&first; VOLUMES + 1];
        let described = Description::read(&workspace::root().join(DESCRIPTION)).unwrap();
        let refused = Authority::default().changed(&described, &many).unwrap_err();
        assert!(refused.to_string().contains("4 volumes"));
    }

    #[test]
    fn the_drivers_of_volumes_go_where_the_bus_and_the_personality_are() {
        let folder = tempfile::tempdir().unwrap();
        let volume: Volume = format!("{}:/a", folder.path().display()).parse().unwrap();
        for placement in [Placement::Isolated, Placement::Libos, Placement::Monolith, Placement::Unikernel] {
            let mut described = Description::read(&workspace::root().join(DESCRIPTION)).unwrap();
            described.place(Some(placement));
            let system = Authority::default().narrow(&described, &[&volume]).unwrap();
            assert_eq!(system.domains().contains_key("volumes"), !placement.is_kernel());
            assert!(crate::image::picture(&system).is_ok(), "all that call one another are placed so that they can");
        }
    }
}
