//! Image descriptions: what is accepted, and what each mistake is told.

use super::*;

const WHOLE: &str = r#"
name = "hello"
[machine]
memory = "1G"
processors = 4
machine = "microvm"
[init]
program = "tessera-hello"
arguments = ["one", "two words"]
[[program]]
name = "echo"
package = "tessera-echo"
bin = "server"
"#;

fn parse(text: &str) -> Result<Description> {
    Description::parse(Path::new("image.toml"), text.to_owned())
}

/// The whole report of a mistake, as it is printed without colours.
fn told(error: &Report) -> String {
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
    let mut text = String::new();
    handler.render_report(&mut text, error.as_ref()).unwrap();
    text
}

fn mistake(text: &str) -> String {
    told(&parse(text).expect_err("the description has a mistake"))
}

fn packages() -> Vec<Package> {
    let package = |name: &str, bins: &[&str]| Package {
        name: name.to_owned(),
        manifest: "Cargo.toml".into(),
        bins: bins.iter().map(|bin| (*bin).to_owned()).collect(),
        has_library: false,
        is_bare: true,
        is_tested_on_host: false,
    };
    vec![package("tessera-hello", &["tessera-hello"]), package("tessera-echo", &["client", "server"])]
}

#[test]
fn a_whole_description_is_read() {
    let description = parse(WHOLE).unwrap();
    assert_eq!(description.name(), "hello");
    assert_eq!(description.memory().to_string(), "1024M");
    assert_eq!(description.processors().count(), 4);
    assert_eq!(description.machine(), MachineKind::Microvm);
    assert_eq!(description.packed_arguments().unwrap(), b"one\0two words");
    let members: Vec<String> = description.programs().map(|program| program.member()).collect();
    assert_eq!(members, ["init", "bin/echo"]);
    description.check_packages(&packages()).unwrap();
}

#[test]
fn the_machine_has_defaults_and_arguments_may_be_missing() {
    let description = parse("name = \"a\"\n[init]\nprogram = \"p\"\n").unwrap();
    assert_eq!(description.memory().to_string(), "64M");
    assert_eq!(description.processors().count(), 1);
    assert_eq!(description.machine(), MachineKind::Q35);
    assert_eq!(description.packed_arguments(), None);
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_nearest_known_one() {
    let told = mistake("name = \"a\"\n[machine]\nmemroy = \"64M\"\n[init]\nprogram = \"p\"\n");
    assert!(told.contains("image.toml:3:1"), "{told}");
    assert!(told.contains("unknown field `memroy`"), "{told}");
    assert!(told.contains("did you mean `memory`?"), "{told}");
}

#[test]
fn a_missing_init_is_told_with_its_mend() {
    let told = mistake("name = \"a\"\n");
    assert!(told.contains("neither an [init] nor a [[component]]"), "{told}");
    assert!(told.contains("add an [init]"), "{told}");
}

#[test]
fn sizes_out_of_range_are_told_with_the_range() {
    for memory in ["64", "3M", "64K", "M", "-1G", "99999999999G", "2048G"] {
        let told = mistake(&format!("name = \"a\"\n[machine]\nmemory = \"{memory}\"\n[init]\nprogram = \"p\"\n"));
        assert!(told.contains("image.toml:3:"), "{told}");
        assert!(told.contains("4M"), "{told}");
    }
    for processors in ["0", "9", "-1", "4294967297"] {
        let told = mistake(&format!("name = \"a\"\n[machine]\nprocessors = {processors}\n[init]\nprogram = \"p\"\n"));
        assert!(told.contains("image.toml:3:"), "{told}");
        assert!(told.contains("1 to 8"), "{told}");
    }
}

#[test]
fn names_are_checked() {
    for name in ["", "Hello", "a b", "a/b", "..", &"x".repeat(32)] {
        let told = mistake(&format!("name = \"{name}\"\n[init]\nprogram = \"p\"\n"));
        assert!(told.contains("image.toml:1:8"), "{told}");
        assert!(told.contains("is not a name"), "{told}");
    }
}

#[test]
fn a_name_is_given_once_and_never_that_of_the_first_process() {
    for (first, second) in [("a", "a"), ("b", "init")] {
        let program = |name: &str| format!("[[program]]\nname = \"{name}\"\npackage = \"p\"\n");
        let head = "name = \"x\"\n[init]\nprogram = \"p\"\n";
        let told = mistake(&format!("{head}{}{}", program(first), program(second)));
        assert!(told.contains("image.toml:8:"), "{told}");
        assert!(told.contains(&format!("`{second}` is taken")), "{told}");
    }
}

#[test]
fn an_argument_with_a_separator_in_it_is_refused() {
    let told = mistake("name = \"a\"\n[init]\nprogram = \"p\"\narguments = [\"a\\u0000b\"]\n");
    assert!(told.contains("image.toml:4:14"), "{told}");
}

#[test]
fn a_missing_package_is_told_with_its_line_and_the_nearest_one() {
    let description = parse("name = \"a\"\n[init]\nprogram = \"tessera-helo\"\n").unwrap();
    let told = told(&description.check_packages(&packages()).unwrap_err());
    assert!(told.contains("image.toml:3:11"), "{told}");
    assert!(told.contains("did you mean `tessera-hello`?"), "{told}");
}

#[test]
fn a_package_with_several_programs_wants_a_choice_that_exists() {
    let several = parse("name = \"a\"\n[init]\nprogram = \"tessera-echo\"\n").unwrap();
    let text = told(&several.check_packages(&packages()).unwrap_err());
    assert!(text.contains("has 2 programs"), "{text}");
    let missing = parse(&WHOLE.replace("\"server\"", "\"serve\"")).unwrap();
    let text = told(&missing.check_packages(&packages()).unwrap_err());
    assert!(text.contains("did you mean `server`?"), "{text}");
}

#[test]
fn a_microvm_with_an_iommu_is_refused() {
    let text = |machine: &str, iommu: &str| {
        format!(
            "name = \"a\"\n[machine]\nmachine = \"{machine}\"\n{iommu}[init]\nprogram = \"p\"\n[[device]]\nkind = \"network\"\n"
        )
    };
    let told = mistake(&text("microvm", "iommu = true\n"));
    assert!(told.contains("image.toml:4:9"), "{told}");
    assert!(told.contains("a microvm has no IOMMU"), "{told}");
    let has_one = |iommu| parse(&text("q35", iommu)).unwrap().devices().unwrap().contains(&Device::Iommu);
    assert!(has_one("") && has_one("iommu = true\n") && !has_one("iommu = false\n"));
}

#[test]
fn a_network_can_be_an_interface_of_this_machine_by_its_plain_name() {
    let image = |device: &str| format!("name = \"a\"\n[init]\nprogram = \"p\"\n[[device]]\n{device}\n");
    let read = |device: &str| parse(&image(device)).unwrap().devices();
    let found = read("kind = \"network\"\ntap = \"tap0\"").unwrap();
    assert!(found.contains(&crate::devices::Device::Tap("tap0".to_owned())), "{found:?}");
    for name in ["", "tap0,script=/bin/sh", "a-name-that-is-too-long"] {
        let told = told(&read(&format!("kind = \"network\"\ntap = \"{name}\"")).unwrap_err());
        assert!(told.contains("no interface is called") && told.contains("image.toml:6:"), "{told}");
    }
    let told = told(&read("kind = \"disk\"\nsize = \"1M\"\ntap = \"tap0\"").unwrap_err());
    assert!(told.contains("only a network has an interface"), "{told}");
}
