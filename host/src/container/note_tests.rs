//! What is run, by the image and by the command line.

use std::collections::BTreeMap;

use super::super::root::Building;
use super::super::testing::{AARCH64, X86_64, program, told};
use super::*;

/// A root image with these files.
fn image(files: &[(&str, &[u8], u16)]) -> Vec<u8> {
    let mut building = Building::new().unwrap();
    for (path, contents, permissions) in files {
        building.put_file(path, *permissions, contents).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root");
    building.write(&path).unwrap();
    std::fs::read(path).unwrap()
}

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var/www:/bin/sh\ndamaged\n";
const GROUP: &[u8] = b"root:x:0:\nweb:x:34:\nlog:x:4:web,other\n";

fn decide(settings: &Settings, overrides: &Overrides) -> Result<Note> {
    let sh = program(X86_64, None);
    let bytes = image(&[
        ("bin/sh", &sh, 0o755),
        ("bin/tool", &sh, 0o755),
        ("bin/text", b"x", 0o644),
        ("bin/foreign", &program(AARCH64, None), 0o755),
        ("bin/lost", &program(X86_64, Some("/lib/ld-musl-x86_64.so.1")), 0o755),
        ("bin/script", b"#! /bin/sh -e\necho\n", 0o755),
        ("bin/badscript", b"#!/usr/bin/python3\n", 0o755),
        ("bin/circle", b"#!/bin/circle\n", 0o755),
        ("etc/passwd", PASSWD, 0o644),
        ("etc/group", GROUP, 0o644),
    ]);
    note(&Image::new(&bytes).unwrap(), settings, overrides, &[])
}

fn with_command(command: &[&str]) -> Settings {
    Settings { command: command.iter().map(|word| (*word).to_owned()).collect(), ..Settings::default() }
}

#[test]
fn words_replace_the_command_and_an_entry_point_replaces_both() {
    let settings = Settings { entrypoint: vec!["tool".into()], ..with_command(&["serve"]) };
    let run = |overrides: &Overrides| decide(&settings, overrides).unwrap().arguments;
    assert_eq!(run(&Overrides::default()), ["tool", "serve"]);
    assert_eq!(run(&Overrides { words: vec!["check".into()], ..Overrides::default() }), ["tool", "check"]);
    let entrypoint = Some("/bin/sh".to_owned());
    assert_eq!(run(&Overrides { entrypoint: entrypoint.clone(), ..Overrides::default() }), ["/bin/sh"]);
    let overrides = Overrides { entrypoint, words: vec!["-c".into()], ..Overrides::default() };
    assert_eq!(run(&overrides), ["/bin/sh", "-c"]);
    let nothing = told(&decide(&Settings::default(), &Overrides::default()).unwrap_err());
    assert!(nothing.contains("does not say what to run"), "{nothing}");
}

#[test]
fn users_are_names_or_numbers_with_groups() {
    let user = |user: &str| {
        let overrides = Overrides { user: Some(user.to_owned()), ..Overrides::default() };
        decide(&with_command(&["sh"]), &overrides).map(|note| (note.user, note.group, note.more_groups))
    };
    let cases: BTreeMap<&str, (u32, u32, Vec<u32>)> = BTreeMap::from([
        ("", (0, 0, vec![])),
        ("web", (33, 34, vec![4])),
        ("33", (33, 34, vec![4])),
        ("web:log", (33, 4, vec![])),
        ("web:77", (33, 77, vec![])),
        ("1000", (1000, 0, vec![])),
        ("1000:1001", (1000, 1001, vec![])),
    ]);
    for (text, expected) in cases {
        assert_eq!(user(text).unwrap(), expected, "{text}");
    }
    assert!(told(&user("nobody").unwrap_err()).contains("no user `nobody`"));
    assert!(told(&user("web:nogroup").unwrap_err()).contains("no group `nogroup`"));
}

#[test]
fn the_environment_is_the_images_then_the_command_lines() {
    let settings = Settings { environment: vec!["A=1".into(), "PATH=/bin".into()], ..with_command(&["sh"]) };
    let environment = vec!["A=2=3".into(), "B=".into(), "NOT_SET_ANYWHERE".into()];
    let overrides = Overrides { environment, user: Some("web".into()), ..Overrides::default() };
    let found = decide(&settings, &overrides).unwrap().environment;
    assert_eq!(found, ["PATH=/bin", "HOME=/var/www", "HOSTNAME=tessera", "A=2=3", "B="]);
    let wrong = Overrides { environment: vec!["=x".into()], ..Overrides::default() };
    assert!(decide(&settings, &wrong).is_err());
}

#[test]
fn a_program_that_cannot_be_started_is_told_before_the_boot() {
    let run = |name: &str| decide(&with_command(&[name]), &Overrides::default());
    for good in ["sh", "/bin/tool", "script", "bin/sh"] {
        run(good).unwrap();
    }
    let cases = [
        ("nothing", "no program `nothing` in the image's search path"),
        ("/nothing", "there is no `/nothing` in the image"),
        ("text", "not an executable file"),
        ("foreign", "another processor: AArch64"),
        ("lost", "`/bin/lost` needs `/lib/ld-musl-x86_64.so.1`, which is not in the image"),
        ("badscript", "needs `/usr/bin/python3`"),
        ("circle", "a script whose interpreter is a script"),
    ];
    for (name, expected) in cases {
        let refused = told(&run(name).unwrap_err());
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn the_stop_signal_and_the_folder_are_the_images() {
    let settings = Settings { stop_signal: "SIGQUIT".into(), directory: "srv".into(), ..with_command(&["sh"]) };
    let note = decide(&settings, &Overrides { grace: Some(3), ..Overrides::default() }).unwrap();
    assert_eq!((note.stop_signal, note.grace, note.directory.as_str()), (3, 3, "/srv"));
    let wrong = Settings { stop_signal: "SIGNOTHING".into(), ..with_command(&["sh"]) };
    assert!(told(&decide(&wrong, &Overrides::default()).unwrap_err()).contains("SIGNOTHING"));
}
