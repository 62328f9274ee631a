//! Images of components: how they are put together, and what each mistake is told.
//!
//! What is told is compared with the files in `golden/`, line for line. `BLESS=1 cargo test -p tessera` writes them anew.

use std::fs;
use std::path::Path;

use miette::Report;

use super::super::generate;
use super::super::plan::plan;
use super::super::written::Placement;
use super::*;
use crate::mirror::Made;

const SERVER: &str = r#"
name = "server"
package = "tessera-server"
constructor = "Server::new"
[provides]
echo = "Echo"
[needs]
log = true
"#;

const CLIENT: &str = r#"
name = "client"
package = "tessera-client"
constructor = "Client::new"
[uses]
echo = "Echo"
"#;

/// Provides one interface twice, one object for each client, and needs devices.
const BUS: &str = r#"
name = "bus"
package = "tessera-bus"
constructor = "Bus::new"
in-order = true
[provides]
devices = { interface = "Device", for_each = "device_for" }
first = { interface = "Echo", from = "first" }
second = { interface = "Echo", from = "second" }
[needs]
ports = { configuration = { first = 0xcf8, count = 8 } }
memory = { devices = "all" }
authority = ["dma"]
"#;

const DRIVER: &str = r#"
name = "driver"
package = "tessera-driver"
constructor = "Driver::new"
[provides]
echo = "Echo"
[uses]
clock = { interface = "WallClock", optional = true }
device = "Device"
supervisor = "Supervisor"
"#;

/// Calls what calls it.
const ROUND: &str = r#"
name = "round"
package = "tessera-round"
constructor = "Round::new"
[provides]
echo = "Echo"
[uses]
echo = "Echo"
"#;

fn manifests() -> Manifests {
    let read = |text: &str| {
        let name = text.lines().nth(1).and_then(|line| line.split('"').nth(1)).unwrap();
        let folder = format!("components/{name}");
        Manifest::parse(&format!("{folder}/component.toml"), Path::new(&folder), text.to_owned())
    };
    Manifests::new([SERVER, CLIENT, BUS, DRIVER, ROUND].map(read).into_iter().collect())
}

fn build(text: &str) -> Result<System> {
    let description = Description::parse(Path::new("image.toml"), text.to_owned())?;
    System::new(&description, &manifests()).map(|system| system.expect("it has components"))
}

/// A whole image with `text` behind its name.
fn image(text: &str) -> Result<System> {
    build(&format!("name = \"test\"\n{text}"))
}

fn component(name: &str) -> String {
    format!("[[component]]\nname = \"{name}\"\n")
}

/// The whole report of a mistake, as it is printed without colours.
fn told(error: &Report) -> String {
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
    let mut text = String::new();
    handler.render_report(&mut text, error.as_ref()).unwrap();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Compares `found` with the file `golden/NAME.txt`.
fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/image/golden/{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{name} is told otherwise than in {}:\n{found}", path.display());
}

fn mistake(name: &str, text: &str) {
    golden(name, &told(&image(text).expect_err(name)));
}

#[test]
fn every_mistake_is_told_with_its_line_and_its_mend() {
    let pair = [component("server"), component("client")].concat();
    let bus = "[[component]]\nname = \"bus\"\nallow = [\"ports\", \"memory\", \"dma\"]\n";
    let cases: [(&str, String); 27] = [
        ("unknown-key", format!("{pair}[domain.server]\nmemroy = \"8M\"\n")),
        ("unknown-component", component("sever")),
        ("unknown-placement", format!("placement = \"isolate\"\n{pair}")),
        ("missing-route", component("client")),
        ("ambiguous-route", format!("{pair}[[component]]\nname = \"other\"\ncomponent = \"server\"\n")),
        ("route-to-nobody", format!("{pair}[route]\nclient.echo = \"sever\"\n")),
        ("route-to-another-interface", format!("{pair}{bus}[route]\nclient.echo = \"bus.devices\"\n")),
        ("route-to-one-that-provides-it-twice", format!("{pair}{bus}[route]\nclient.echo = \"bus\"\n")),
        ("route-from-nobody", format!("{pair}[route]\nclent.echo = \"server\"\n")),
        ("route-of-nothing", format!("{pair}[route]\nclient.ecko = \"server\"\n")),
        (
            "circle-of-components",
            "[[component]]\nname = \"one\"\ncomponent = \"round\"\n[[component]]\nname = \"two\"\ncomponent = \"round\"\n"
                .to_owned(),
        ),
        (
            "circle-of-domains",
            "[[component]]\nname = \"server\"\ndomain = \"a\"\n[[component]]\nname = \"round\"\ndomain = \"b\"\n\
             [[component]]\nname = \"client\"\ndomain = \"a\"\n[route]\nround.echo = \"server\"\nclient.echo = \"round\"\n"
                .to_owned(),
        ),
        ("priority-inversion", format!("{pair}[domain.client]\npriority = 30\n[domain.server]\npriority = 10\n")),
        ("right-not-offered", component("bus")),
        ("supervisor-not-offered", component("driver")),
        ("right-not-needed", format!("{}allow = [\"power\"]\n", component("server"))),
        ("name-taken", format!("{pair}{}", component("server"))),
        ("name-reserved", "[[component]]\nname = \"manager\"\ncomponent = \"server\"\n".to_owned()),
        ("name-of-domain-too-long", format!("{}domain = \"services-of-the-web\"\n", component("server"))),
        ("settings-of-no-domain", format!("{pair}[domain.sever]\nmemory = \"8M\"\n")),
        ("memory-out-of-range", format!("{pair}[domain.server]\nmemory = \"12K\"\n")),
        ("too-much-memory", format!("{pair}[domain.server]\nmemory = \"64M\"\n")),
        ("priority-out-of-range", format!("{pair}[domain.server]\npriority = 60\n")),
        ("amount-longer-than-period", format!("{pair}[domain.server]\nprocessor = {{ amount = \"2s\", period = \"1s\" }}\n")),
        ("processor-that-is-not-there", format!("{pair}[domain.server]\nprocessors = [1]\n")),
        ("threads-of-one-in-order", format!("{bus}[domain.bus]\nthreads = 2\n")),
        ("init-beside-components", format!("{pair}[init]\nprogram = \"tessera-hello\"\n")),
    ];
    for (name, text) in cases {
        mistake(name, &text);
    }
}

#[test]
fn every_mistake_of_a_component_is_told_with_its_line_and_its_mend() {
    let head = "name = \"a\"\npackage = \"tessera-a\"\nconstructor = \"A::new\"\n";
    let cases: [(&str, String); 9] = [
        ("component-unknown-key", format!("{head}[provide]\necho = \"Echo\"\n")),
        ("component-without-constructor", "name = \"a\"\npackage = \"tessera-a\"\n".to_owned()),
        ("component-bad-constructor", head.replace("A::new", "A::new()")),
        ("component-bad-field", format!("{head}[uses]\nnet-device = \"NetDevice\"\n")),
        ("component-bad-interface", format!("{head}[uses]\necho = \"dyn Echo\"\n")),
        (
            "component-two-sources",
            format!("{head}[provides]\necho = {{ interface = \"Echo\", from = \"a\", for_each = \"b\" }}\n"),
        ),
        ("component-bad-ports", format!("{head}[needs]\nports = {{ uart = {{ first = 0xffff, count = 2 }} }}\n")),
        ("component-bad-memory", format!("{head}[needs]\nmemory = {{ window = {{ first = 16, length = 4096 }} }}\n")),
        (
            "component-need-twice",
            format!("{head}[needs]\nports = {{ uart = \"all\" }}\ninterrupts = {{ uart = \"all\" }}\n"),
        ),
    ];
    for (name, text) in cases {
        let error = Manifest::parse("components/a/component.toml", Path::new("components/a"), text).expect_err(name);
        golden(name, &told(&error));
    }
}

#[test]
fn components_are_put_in_domains_and_bound() {
    let system = image(&[component("client"), component("server")].concat()).unwrap();
    let names: Vec<&str> = system.domains.iter().map(|domain| domain.name.as_str()).collect();
    assert_eq!(names, ["server", "client"], "servers first");
    let target = system.domains[1].instances[0].uses[0].target.clone().unwrap();
    let (instance, provision) = ("server".to_owned(), "echo".to_owned());
    assert_eq!(target, Target::Domain { instance, provision, domain: 0, object: 0, route: 1, bit: 0 });
    plan("test", &system).check().unwrap();
}

#[test]
fn neighbours_are_constructed_servers_first_and_call_one_another_directly() {
    let text =
        "[[component]]\nname = \"client\"\ndomain = \"all\"\n[[component]]\nname = \"server\"\ndomain = \"all\"\n";
    let system = image(text).unwrap();
    assert_eq!(system.domains.len(), 1);
    let names: Vec<&str> = system.domains[0].instances.iter().map(|instance| instance.name.as_str()).collect();
    assert_eq!(names, ["server", "client"]);
    assert!(system.domains[0].objects.is_empty(), "nobody else calls");
    assert!(matches!(system.domains[0].instances[1].uses[0].target, Some(Target::Neighbour { .. })));
}

#[test]
fn a_single_domain_in_the_kernels_mode_that_needs_no_manager_goes_without() {
    const LAST: &str = "memory = \"rest\"\nrestart = \"never\"\nessential = true\n";
    let one = |placement: &str, settings: &str| {
        let server = "[[component]]\nname = \"server\"\narguments = [\"a=1\"]\n[domain.server]\n";
        image(&format!("placement = \"{placement}\"\n{server}{settings}")).unwrap()
    };
    for placement in ["monolith", "unikernel"] {
        let system = one(placement, LAST);
        let arguments = system.alone().map(Domain::started_with);
        assert_eq!(arguments.unwrap(), ["process-name=system", "life=1", "server:a=1"]);
        for other in ["restart = \"always\"\n", "memory = \"rest\"\nrestart = \"never\"\n", ""] {
            assert!(one(placement, other).alone().is_none(), "{other}");
        }
        let devices = image(&format!("placement = \"{placement}\"\n{DEVICES}[domain.loop]\n{LAST}")).unwrap();
        assert!(devices.alone().is_none(), "it is given devices");
    }
    assert!(one("isolated", LAST).alone().is_none(), "the processor holds it: another process gives it what it has");
}

fn domains(system: &System) -> Vec<&str> {
    system.domains.iter().map(|domain| domain.name.as_str()).collect()
}

#[test]
fn monolith_and_unikernel_link_all_with_the_kernel_and_add_up_what_the_parts_have() {
    for (preset, level) in [("monolith", Level::Kernel), ("unikernel", Level::Guests)] {
        let system = image(&format!("placement = \"{preset}\"\n{DEVICES}[domain.loop]\nessential = true\n")).unwrap();
        assert_eq!(domains(&system), ["system"]);
        let settings = &system.domains[0].settings;
        assert_eq!(settings.level, level);
        assert_eq!(settings.memory.most.bytes(), 10 << 20, "2 of the driver, 4 each of those that say nothing");
        assert_eq!((settings.priority.0, settings.essential), (31, true));
        assert_eq!(settings.restart, WrittenRestart::OnFailure, "the strictest holds");
        assert!(settings.share.is_none());
        let direct =
            |used: &Bound| matches!(used.target, None | Some(Target::Neighbour { .. } | Target::Manager { .. }));
        assert!(system.domains[0].instances.iter().flat_map(|instance| &instance.uses).all(direct));
        plan("test", &system).check().unwrap();
    }
}

#[test]
fn each_domain_can_be_placed_by_itself() {
    let out = format!("placement = \"monolith\"\n{DEVICES}")
        .replace("[domain.driver]", "[domain.driver]\nprivilege = \"user\"");
    let out = image(&out.replace("priority = 31", "priority = 31\nprivilege = \"user\"")).unwrap();
    assert_eq!(domains(&out), ["bus", "driver", "system"]);
    let levels = |system: &System| system.domains.iter().map(|domain| domain.settings.level).collect::<Vec<_>>();
    assert_eq!(levels(&out), [Level::User, Level::User, Level::Kernel]);
    let within = image(&DEVICES.replace("[domain.driver]", "[domain.driver]\nprivilege = \"kernel\"")).unwrap();
    assert_eq!(domains(&within), ["bus", "driver", "loop"]);
    assert_eq!(levels(&within), [Level::User, Level::Kernel, Level::User]);
}

/// What each component of a plan may reach, whichever domain it is in.
fn authority(plan: &tessera_plan::Plan) -> BTreeMap<String, String> {
    let components = plan.domains.iter().flat_map(|domain| &domain.components);
    let reach = |component: &tessera_plan::Component| {
        let uses: Vec<String> = component
            .uses
            .iter()
            .map(|used| format!("{} is {} of {}", used.name, used.interface, used.provider))
            .collect();
        format!("{uses:?} {:?} {:?}", component.needs, component.arguments)
    };
    components.map(|component| (component.name.clone(), reach(component))).collect()
}

/// The images in the checkout, in every placement: the manager is told to give each component the same.
#[test]
fn the_authority_of_a_component_is_the_same_in_every_placement() {
    use clap::ValueEnum;
    let folder = crate::workspace::root().join("images");
    let mut compared = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // The trespasser is refused in all placements but one.
        if path.extension().is_none_or(|extension| extension != "toml") || path.ends_with("trespass.toml") {
            continue;
        }
        let mut found = BTreeMap::new();
        for placement in Placement::value_variants() {
            let mut description = Description::read(&path).unwrap();
            description.place(Some(*placement));
            if let Some(system) = System::new(&description, &Manifests::find()).unwrap() {
                let plan = plan(description.name(), &system);
                plan.check().unwrap();
                found.insert(placement.word(), authority(&plan));
            }
        }
        let mut all = found.values();
        if let Some(first) = all.next() {
            assert!(all.all(|other| other == first), "{}: {found:#?}", path.display());
            compared += 1;
        }
    }
    assert!(compared > 3, "the images are where they were");
}

/// A driver and two clients of it on a bus.
const DEVICES: &str = "[[component]]\nname = \"bus\"\nallow = [\"ports\", \"memory\", \"dma\"]\n\
    [[component]]\nname = \"driver\"\nallow = [\"supervisor\"]\narguments = [\"speed=fast\"]\n[[component]]\nname = \"loop\"\ncomponent = \"client\"\n\
    [route]\nloop.echo = \"driver\"\n[domain.driver]\npriority = 30\nmemory = \"2M\"\nrestart = \"on-failure\"\n\
    processor = { amount = \"10ms\", period = \"100ms\" }\n[domain.bus]\npriority = 31\n";

#[test]
fn the_preset_libos_groups_what_drives_no_device() {
    let text = format!("placement = \"libos\"\n{DEVICES}{}", component("server"));
    let system = image(&text.replace("domain.driver]\npriority = 30", "domain.driver]\npriority = 29")).unwrap();
    assert_eq!(domains(&system), ["bus", "driver", "program"]);
    let program = &system.domains[2];
    assert_eq!(program.instances.len(), 2, "the drivers are what the bus gives a device to");
    assert_eq!(program.settings.level, Level::User);
}

#[test]
fn a_plan_holds_what_the_image_says() {
    let system = image(DEVICES).unwrap();
    let plan = plan("test", &system);
    plan.check().unwrap();
    golden("plan", &format!("{plan:#?}\n"));
}

#[test]
fn an_image_is_explained() {
    use crate::explain::{linked::Part, model::Picture, text};
    let domains = super::super::explain::domains(&image(DEVICES).unwrap());
    let manager = vec![Part { name: "tessera-manager".to_owned(), is_own: true, count: Default::default() }];
    golden(
        "explained",
        &text::text(&Picture { name: "test".to_owned(), domains, manager, ..Picture::default() }, None),
    );
}

#[test]
fn the_made_programs_are_short_enough_to_read() {
    let isolated = image(DEVICES).unwrap();
    let grouped = image(&format!("placement = \"monolith\"\n{DEVICES}")).unwrap();
    for (preset, system) in [("isolated", isolated), ("monolith", grouped)] {
        for domain in &system.domains {
            let Made { files, .. } = generate::package(domain, Path::new(""));
            golden(&format!("{preset}-{}-manifest", domain.name), &files["Cargo.toml"]);
            golden(&format!("{preset}-{}", domain.name), &files["src/main.rs"]);
            assert!(files["src/main.rs"].lines().count() < 60);
        }
    }
}

#[test]
fn domains_that_are_made_alike_share_a_package_and_others_do_not() {
    let packages = |text: &str| -> Vec<String> {
        let domains = build(text).unwrap().domains;
        domains.iter().map(|domain| generate::package(domain, Path::new("")).name).collect()
    };
    let one = packages(&format!("name = \"one\"\n{DEVICES}"));
    let told_otherwise = DEVICES.replace("speed=fast", "speed=slow").replace("\"2M\"", "\"3M\"");
    assert_eq!(
        packages(&format!("name = \"other\"\n{told_otherwise}")),
        one,
        "what the manager tells a domain is not in it"
    );
    let renamed = packages(&format!(
        "name = \"one\"\n{}",
        DEVICES.replace("\"loop\"", "\"ring\"").replace("loop.echo", "ring.echo")
    ));
    assert_eq!(one.iter().filter(|name| renamed.contains(name)).count(), 2, "{one:?} {renamed:?}");
}
