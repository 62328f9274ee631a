//! The rules of compatibility: what may change while older and newer peers talk to each other.
//!
//! After those of FIDL ("ABI and API compatibility guide") and Protocol Buffers ("Updating a message type"). Both sides of a call know its
//! shape from the signature alone, so less may change than there: no field can be added, and nothing changes its place.

use std::collections::BTreeSet;

use super::{Method, Record};

/// A recorded type: what stands behind the argument's name.
fn kind(argument: &str) -> &str {
    argument.split_once(": ").map_or(argument, |(_, kind)| kind)
}

fn kinds(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(|argument| kind(argument)).collect()
}

/// The words of a type that can be names.
fn names(kind: &str) -> impl Iterator<Item = &str> {
    kind.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

/// All named types that a type consists of.
fn reached(record: &Record, written: &str, all: &mut BTreeSet<String>) {
    for name in names(written) {
        let known = record.structs.contains_key(name) || record.enums.contains_key(name);
        if known && all.insert(name.into()) {
            for field in record.structs.get(name).into_iter().flatten() {
                reached(record, kind(field), all);
            }
        }
    }
}

/// Why a peer that was built with `old` cannot talk to one built with `new`, one sentence for each reason.
pub fn breaks(old: &Record, new: &Record) -> Vec<String> {
    let mut all = Vec::new();
    for before in &old.methods {
        match new.methods.iter().find(|method| method.number == before.number) {
            Some(after) => compare_methods(before, after, new, &mut all),
            None => match new.methods.iter().find(|method| method.name == before.name) {
                Some(after) => all.push(format!(
                    "a method keeps its number: `{}` was {} and is {}",
                    before.name, before.number, after.number
                )),
                None => all.push(format!(
                    "a method is not removed: `{}` (number {}) is gone; answer an error from it if it is over",
                    before.name, before.number
                )),
            },
        }
    }
    for (name, before) in &old.structs {
        if let Some(after) = new.structs.get(name)
            && kinds(before) != kinds(after)
        {
            all.push(format!(
                "a struct keeps the types and the order of its fields: `{name}` had ({}) and has ({}); make another struct and method",
                before.join(", "),
                after.join(", ")
            ));
        }
    }
    let mut answered = BTreeSet::new();
    for method in &old.methods {
        reached(old, &method.answer, &mut answered);
        method.arguments.iter().filter(|argument| argument.contains("&mut")).for_each(|argument| {
            reached(old, kind(argument), &mut answered);
        });
    }
    for (name, before) in &old.enums {
        let Some(after) = new.enums.get(name) else { continue };
        compare_variants("an enum", name, before, after, &mut all);
        let added = after.keys().find(|variant| !before.contains_key(*variant));
        if let (true, Some(added)) = (answered.contains(name), added) {
            all.push(format!(
                "an enum that is answered gets no new variant: an older caller would refuse `{name}::{added}`; answer another enum from another method"
            ));
        }
    }
    for (name, before) in &old.errors {
        if let Some(after) = new.errors.get(name) {
            compare_variants("an error", name, before, after, &mut all);
        }
    }
    all
}

type Variants = std::collections::BTreeMap<String, i64>;

fn compare_variants(what: &str, name: &str, before: &Variants, after: &Variants, all: &mut Vec<String>) {
    for (variant, number) in before {
        match after.get(variant) {
            Some(now) if now == number => {}
            Some(now) => all.push(format!(
                "{what}'s variant keeps its number: `{name}::{variant}` was {number} and is {now}; new ones come last"
            )),
            // A name may change: its number is what travels.
            None if after.iter().any(|(other, now)| now == number && !before.contains_key(other)) => {}
            None => all.push(format!("{what}'s variant is not removed: `{name}::{variant}` ({number}) is gone")),
        }
    }
}

fn compare_methods(before: &Method, after: &Method, new: &Record, all: &mut Vec<String>) {
    let name = &before.name;
    // The method was renamed, unless its name has another number now: then it has changed its number, and another took its.
    if let Some(moved) = new.methods.iter().find(|method| method.name == *name && method.number != before.number) {
        let (was, is) = (before.number, moved.number);
        return all.push(format!("a method keeps its number: `{name}` was {was} and is {is}; new ones come last"));
    }
    if kinds(&before.arguments) != kinds(&after.arguments) {
        all.push(format!(
            "a method keeps the types of its arguments: `{name}` took ({}) and takes ({}); add a method beside it",
            before.arguments.join(", "),
            after.arguments.join(", ")
        ));
    }
    if before.answer != after.answer {
        all.push(format!(
            "a method keeps the type of its answer: `{name}` answered `{}` and answers `{}`; add a method beside it",
            before.answer, after.answer
        ));
    }
    if before.error != after.error {
        all.push(format!("a method keeps its error: that of `{name}` was `{}` and is `{}`", before.error, after.error));
    }
    if before.fills != after.fills {
        all.push(format!("a method keeps how much it copies back: `#[fills]` of `{name}` has changed"));
    }
}
