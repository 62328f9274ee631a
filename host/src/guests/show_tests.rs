//! What people see of a running image.

use tessera_plan::{Component, Provision, Restart};

use super::*;

fn sample() -> (Plan, State) {
    let component = Component {
        name: "echo".into(),
        arguments: Vec::new(),
        provisions: vec![Provision { name: "echo".into(), interface: "Echo".into() }],
        uses: Vec::new(),
        needs: vec![Need::Ports { name: "uart".into(), first: 0x2f8, count: 8 }],
    };
    let server = Domain {
        name: "echo".into(),
        program: "echo".into(),
        pages: 1024,
        least: 1024,
        priority: 20,
        share: None,
        processors: 0,
        restart: Restart::Always,
        level: Default::default(),
        essential: false,
        components: vec![component.clone()],
    };
    let used = Use {
        name: "echo".into(),
        interface: "Echo".into(),
        provider: "echo.echo".into(),
        server: Server::Domain { domain: 0, object: 0, route: 1, bit: 0 },
    };
    let client = Domain {
        name: "client".into(),
        program: "client".into(),
        components: vec![Component {
            name: "client".into(),
            provisions: Vec::new(),
            uses: vec![used],
            needs: Vec::new(),
            ..component
        }],
        ..server.clone()
    };
    let running = DomainState {
        phase: Phase::Running,
        starts: 3,
        started: 1_000_000_000,
        time: 2_000_000,
        pages: 100,
        objects: 40,
    };
    let waiting = DomainState { phase: Phase::Waiting(5_000_000_000), ..running.clone() };
    let ending = Ending::Fault { kind: 2, address: 0x10, instruction: 0x7f00_0000_1000 };
    let state = State {
        now: 3_000_000_000,
        manager_time: 1,
        manager_objects: 100,
        memory: (10_000, 2_048),
        domains: vec![running, waiting],
        reports: vec![Report { domain: 0, life: 2, at: 900_000_000, ending }],
    };
    (Plan { version: Plan::VERSION, image: "sample".into(), domains: vec![server, client] }, state)
}

#[test]
fn the_table_has_a_row_for_each_domain() {
    let (plan, state) = sample();
    let text = table(&rows(&plan, &state, None));
    let expected = "\
DOMAIN  STATE         STARTS     UP   CPU  MEMORY    OF  OBJECTS  COMPONENTS
echo    running            3  2.0 s  2 ms    0.4M  4.0M       40  echo
client  starts in 2.0 s       3      -  2 ms    0.4M  4.0M       40  client
";
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), expected.lines().count());
    for (found, expected) in lines.iter().zip(expected.lines()) {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(found), words(expected));
    }
}

#[test]
fn shares_of_the_processor_are_those_since_the_table_before() {
    let (plan, before) = sample();
    let mut now = before.clone();
    now.now += 1_000_000_000;
    now.domains[0].time += 250_000_000;
    let rows = rows(&plan, &now, Some(&before));
    assert_eq!((rows[1][4].as_str(), rows[2][4].as_str()), ("25.0", "0.0"));
}

#[test]
fn a_domain_is_described_with_what_it_holds_and_how_it_died() {
    let (plan, state) = sample();
    let mut symboliser = Symboliser::new(Symbols::default());
    let server = describe(&plan, 0, &state.domains[0], &state, &mut symboliser);
    for part in [
        "provides echo: Echo",
        "ports 0x2f8 to 0x2ff (uart)",
        "life 2 crashed at 900 ms: write to an address",
        "at echo 0x7f0000001000",
    ] {
        assert!(server.contains(part), "{part} in {server}");
    }
    let client = describe(&plan, 1, &state.domains[1], &state, &mut symboliser);
    assert!(client.contains("uses echo: Echo of echo.echo (in the domain echo)"), "{client}");
}

#[test]
fn the_json_says_the_same() {
    let (plan, state) = sample();
    let guest =
        Guest { id: 7, note: super::super::Note { image: "sample".into(), file: "x".into() }, folder: "/x".into() };
    let value = state_json(&guest, &plan, &state);
    assert_eq!(value["domains"][0]["pages_limit"], 1024);
    assert_eq!(value["domains"][1]["phase"], "waiting");
    assert_eq!(value["domains"][1]["components"][0]["uses"][0]["provider"], "echo.echo");
    assert_eq!(value["reports"][0]["ending"]["fault"], 2);
}

#[test]
fn only_names_go_into_questions() {
    assert!(checked("virtio-net").is_ok());
    for name in ["", "a b", "a\nkill b", &"x".repeat(32)] {
        assert!(checked(name).is_err(), "{name:?}");
    }
}
