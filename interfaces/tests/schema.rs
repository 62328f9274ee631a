//! Holds the interfaces to what is recorded of them in `schema/`, one file each.
//!
//! A change that an older or newer peer could not live with is refused, and the test says which rule it breaks. Any other change is to be
//! recorded:
//!
//!     BLESS=1 cargo test -p tessera-interfaces --test schema
//!
//! While nothing of Tessera is released, a break may be recorded on purpose with `BLESS=break`.

mod record;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use record::Record;
use record::rules::breaks;
use tessera_interfaces::SCHEMAS;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// `NetDevice` is recorded in `net_device.toml`.
fn file_name(interface: &str) -> String {
    let mut name = String::new();
    for letter in interface.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name + ".toml"
}

#[test]
fn interfaces_are_as_recorded() {
    let bless = std::env::var("BLESS").ok();
    let mut problems = Vec::new();
    for schema in SCHEMAS {
        let now = Record::of(schema);
        let path = folder("schema").join(file_name(schema.name));
        let recorded = fs::read_to_string(&path).ok().map(|text| Record::read(&text));
        let broken = recorded.as_ref().map(|old| breaks(old, &now)).unwrap_or_default();
        if recorded.as_ref() == Some(&now) {
            continue;
        }
        if bless.as_deref() == Some("break") || bless.is_some() && broken.is_empty() {
            fs::write(&path, now.write()).unwrap();
        } else if broken.is_empty() {
            problems.push(format!("{}: the change breaks no peer, but is not recorded: BLESS=1", schema.name));
        } else {
            problems.extend(broken.iter().map(|rule| format!("{}: {rule}", schema.name)));
        }
    }
    assert!(problems.is_empty(), "the interfaces are not as recorded:\n  {}", problems.join("\n  "));
}

#[test]
fn every_interface_is_listed_and_every_record_is_of_one() {
    let known: BTreeSet<String> = SCHEMAS.iter().map(|schema| file_name(schema.name)).collect();
    assert_eq!(known.len(), SCHEMAS.len(), "two interfaces have one name");
    let files = fs::read_dir(folder("schema")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for file in files {
        assert!(known.contains(&file), "an interface is not removed: that of schema/{file} is gone");
    }
    let sources = fs::read_dir(folder("src")).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let declared: usize = sources.map(|text| text.lines().filter(|line| line.trim() == "#[interface]").count()).sum();
    assert_eq!(declared, SCHEMAS.len(), "`SCHEMAS` lists every interface");
}

const SAMPLE: &str = r#"
interface = "Sample"
method = [
    { number = 0, name = "first", arguments = ["one: u64", "two: &mut [u8]"], answer = "Answered", error = "SampleError", fills = true },
    { number = 1, name = "second", arguments = ["how: How"], answer = "Vec<u8> of at most 64", error = "SampleError" },
]
[structs]
Answered = ["value: u32", "kind: Kind"]
[enums]
How = { Fast = 1, Slow = 2 }
Kind = { Good = 0, Bad = 1 }
[errors]
SampleError = { Refused = 1, Failed = 2 }
"#;

type Variants = std::collections::BTreeMap<String, i64>;

/// Adds a variant, or gives one another number.
fn renumber(variants: &mut Variants, name: &str) {
    variants.insert(name.to_owned(), 9);
}

/// The rules that a change breaks.
fn broken_by(change: impl FnOnce(&mut Record)) -> Vec<String> {
    let old = Record::read(SAMPLE);
    let mut new = old.clone();
    change(&mut new);
    assert_ne!(old, new);
    breaks(&old, &new)
}

/// That a change breaks exactly one rule, whose sentence begins so.
fn assert_breaks(rule: &str, change: impl FnOnce(&mut Record)) {
    let broken = broken_by(change);
    assert!(broken.len() == 1 && broken[0].starts_with(rule), "{rule}: {broken:#?}");
}

#[test]
fn changes_that_break_a_peer_are_refused() {
    assert_breaks("a method is not removed", |new| drop(new.methods.pop()));
    assert_breaks("a method keeps its number", |new| new.methods[1].number = 5);
    assert_breaks("a method keeps the types of its arguments", |new| new.methods[0].arguments[0] = "one: u32".into());
    assert_breaks("a method keeps the types of its arguments", |new| new.methods[0].arguments.reverse());
    assert_breaks("a method keeps the types of its arguments", |new| new.methods[1].arguments.push("more: u8".into()));
    assert_breaks("a method keeps the type of its answer", |new| new.methods[0].answer = "u64".into());
    assert_breaks("a method keeps the type of its answer", |new| {
        new.methods[1].answer = "Vec<u8> of at most 65".into()
    });
    assert_breaks("a method keeps its error", |new| new.methods[1].error = "Other".into());
    assert_breaks("a method keeps how much it copies back", |new| new.methods[0].fills = false);
    assert_breaks("a struct keeps the types", |new| new.structs.get_mut("Answered").unwrap().push("more: u8".into()));
    assert_breaks("a struct keeps the types", |new| new.structs.get_mut("Answered").unwrap().reverse());
    let remove = |all: &mut Variants, name: &str| {
        all.remove(name);
    };
    assert_breaks("an enum's variant is not removed", |new| remove(new.enums.get_mut("How").unwrap(), "Slow"));
    assert_breaks("an error's variant is not removed", |new| {
        remove(new.errors.get_mut("SampleError").unwrap(), "Refused")
    });
    assert_breaks("an enum's variant keeps its number", |new| renumber(new.enums.get_mut("How").unwrap(), "Slow"));
    assert_breaks("an error's variant keeps its number", |new| {
        renumber(new.errors.get_mut("SampleError").unwrap(), "Refused");
    });
    assert_breaks("an enum that is answered gets no new variant", |new| {
        renumber(new.enums.get_mut("Kind").unwrap(), "Ugly");
    });
}

#[test]
fn a_method_that_is_put_between_others_moves_their_numbers_and_is_refused() {
    let broken = broken_by(|new| {
        let mut inserted = new.methods[1].clone();
        inserted.name = "between".into();
        new.methods[1].number = 2;
        new.methods.insert(1, inserted);
    });
    assert!(
        broken.len() == 1 && broken[0].starts_with("a method keeps its number: `second` was 1 and is 2"),
        "{broken:#?}"
    );
}

#[test]
fn changes_that_break_nobody_are_only_to_be_recorded() {
    let none: Vec<String> = Vec::new();
    assert_eq!(broken_by(|new| new.methods[1].name = "renamed".into()), none);
    assert_eq!(broken_by(|new| new.methods[0].arguments[0] = "other: u64".into()), none);
    assert_eq!(
        broken_by(|new| {
            let mut added = new.methods[1].clone();
            (added.number, added.name) = (2, "third".into());
            new.methods.push(added);
        }),
        none
    );
    assert_eq!(broken_by(|new| renumber(new.enums.get_mut("How").unwrap(), "Medium")), none);
    assert_eq!(broken_by(|new| renumber(new.errors.get_mut("SampleError").unwrap(), "Busy")), none);
}
