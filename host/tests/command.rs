//! The command and the entry script as their users meet them: what is printed, where, and the exit code.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn tessera(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tessera")).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `run` on an image description with these contents.
fn run_description(contents: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.toml");
    fs::write(&path, contents).unwrap();
    tessera(&["run", path.to_str().unwrap()])
}

#[test]
fn a_mistake_in_an_image_is_told_with_file_line_and_mend() {
    let output = run_description("name = \"x\"\n[init]\nprogam = \"tessera-hello\"\n");
    let told = errors(&output);
    assert_eq!(output.status.code(), Some(125), "{told}");
    assert!(told.contains("image.toml:3:1"), "{told}");
    assert!(told.contains("did you mean `program`?"), "{told}");
    assert!(output.stdout.is_empty(), "errors go to standard error");
}

#[test]
fn an_image_that_is_not_there_is_an_error_and_no_guest_code() {
    for image in ["nowhere/image.toml", "nowhere/image.elf"] {
        let output = tessera(&["run", image]);
        assert_eq!(output.status.code(), Some(125));
        assert!(errors(&output).contains(image), "{}", errors(&output));
    }
}

#[test]
fn a_file_that_can_be_run_in_no_way_is_not_booted() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    fs::write(&text, "a text").unwrap();
    let cases = [
        (text.to_str().unwrap(), "neither an image, nor a tar file, nor a program"),
        // A program of this machine, but not a static one.
        (env!("CARGO_BIN_EXE_tessera"), "needs the loader"),
        ("debian:Not_a_package", "is not the name of a Debian package"),
        ("docker://UPPER", "is not the name of an image"),
    ];
    for (given, expected) in cases {
        let output = tessera(&["run", given]);
        let told = errors(&output).split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(125), "{told}");
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_port_in_use_and_a_wrong_mapping_are_told_before_anything_is_made() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let output = tessera(&["run", folder.path().to_str().unwrap(), "-p", &format!("{port}:80")]);
    assert_eq!(output.status.code(), Some(125));
    assert!(errors(&output).contains("is in use"), "{}", errors(&output));
    let output = tessera(&["run", "x", "-p", "80"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("HOST:GUEST"), "{}", errors(&output));
}

#[test]
fn wrong_usage_is_told_with_exit_code_2() {
    for arguments in [&["run"] as &[&str], &["run", "a.toml", "--memory", "3M"], &["destroy"]] {
        assert_eq!(tessera(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn every_command_teaches_with_examples() {
    for command in ["run", "demo", "build", "test"] {
        let output = tessera(&[command, "--help"]);
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success());
        assert!(help.contains(&format!("./tessera {command}")), "{help}");
    }
}

/// The entry script on a search path that has `programs` of this machine and nothing else.
fn doctor(programs: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for program in programs {
        let real = ["/usr/bin", "/bin"].iter().map(|from| Path::new(from).join(program)).find(|path| path.exists());
        if let Some(real) = real {
            std::os::unix::fs::symlink(real, folder.path().join(program)).unwrap();
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tessera");
    let mut command = Command::new("/bin/bash");
    command.arg(script).arg("doctor").env_clear().env("PATH", folder.path()).env("HOME", folder.path());
    command.output().unwrap()
}

#[test]
fn doctor_names_what_is_missing_and_installs_nothing() {
    let output = doctor(&["readlink", "dirname", "grep", "sort", "tail", "head"]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{table}{}", errors(&output));
    let missing = |what: &str| table.lines().any(|line| line.starts_with(what) && line.contains("MISSING"));
    assert!(missing("QEMU"), "{table}");
    assert!(missing("C compiler"), "{table}");
    assert!(missing("lld"), "{table}");
}
