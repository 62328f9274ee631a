//! The system suite: boots images and checks what they print and how they end.
//!
//! [`boots`] is the table of cases. Guests run in QEMU's translator, so that a case means the same on every machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use miette::{Result, miette};

use super::outcome::{Counts, Outcome, count};
use super::{Case, Lane, Suite, containers, control, copies, native, small, web};
use crate::accelerator::{GREETING, PROBE_IMAGE};
use crate::container;
use crate::devices;
use crate::image::{self, Description, MachineKind, Placement};
use crate::native::{Project, Wishes};
use crate::progress::Step;
use crate::qemu::{Boot, Ending, Engine};
use crate::symbols::Symbols;
use crate::workspace;

/// One boot and what is expected of it.
#[derive(Clone, Copy)]
struct Expected {
    name: &'static str,
    image: &'static str,
    /// Another placement than the image's own.
    placement: Option<Placement>,
    machine: MachineKind,
    processors: u8,
    memory: &'static str,
    engine: Engine,
    /// Appended to the first process's arguments.
    words: &'static [&'static str],
    /// QEMU's arguments for devices that no image asks for.
    devices: &'static [&'static str],
    seconds: u64,
    ending: Ending,
    /// Each is part of a line, in this order.
    lines: &'static [&'static str],
    /// The guest closes with `N passed, N failed`: its tests count one by one.
    runs_tests: bool,
}

/// What a case is unless it says otherwise.
const HELLO: Expected = Expected {
    name: "",
    image: PROBE_IMAGE,
    placement: None,
    machine: MachineKind::Q35,
    processors: 1,
    memory: "64M",
    engine: Engine::Tcg,
    words: &[],
    devices: &[],
    seconds: 30,
    ending: Ending::Guest(0),
    lines: &[GREETING],
    runs_tests: false,
};

/// All tests that run inside the machine.
const TESTS: Expected =
    Expected { image: "images/test.toml", memory: "256M", seconds: 150, lines: &[], runs_tests: true, ..HELLO };

/// The same with a device that moves memory and sends messages.
const WITH_EDU: Expected = Expected { words: &["edu=1"], devices: &["-device", "edu"], ..TESTS };

/// Those of devices behind an IOMMU, which tells what it kept the device from.
const WITH_IOMMU: Expected = Expected {
    words: &["edu=1", "iommu=1", "device", "pinn", "message"],
    devices: &["-device", "intel-iommu", "-device", "edu"],
    lines: &[
        "tessera: an IOMMU keeps devices from memory that they were not given",
        "test a device moves pinned memory and tells by its message ... ok",
        "device 00:01.0 was kept from memory that it was not given: a write at 0x",
        "device 00:01.0 was kept from memory that it was not given: a read at 0x1000 ",
    ],
    ..TESTS
};

/// The smallest image of components.
const COMPONENTS: &str = "images/echo.toml";
const ECHOED: &str = "the echo of `Good morning` is `Good morning`, and it was asked 1 times";

/// The component system: a component that is crashed and killed a thousand times, and one that goes on using it.
const RESTART: Expected = Expected {
    image: "images/restart.toml",
    // Half a minute on a machine that does nothing else.
    seconds: 600,
    lines: &[
        "fragile: panic at tests/components/fragile/src/lib.rs:",
        "manager: fragile ended with code 101; starting it again in 0 ms",
        "test killed-again-and-again-it-comes-back-and-nothing-leaks ... ok",
    ],
    runs_tests: true,
    ..HELLO
};

/// The network stack, over the machine's own loopback.
const NETWORK: Expected =
    Expected { image: "images/net.toml", memory: "256M", seconds: 120, lines: &[], runs_tests: true, ..HELLO };

/// Drivers linked into the first process: a disk, the network, random numbers, the clock.
const DRIVERS: Expected = Expected {
    image: "images/drivers.toml",
    seconds: 150,
    words: &["block", "network", "entropy", "clock"],
    lines: &[
        "the disk keeps what it is given",
        "1000 answers over 10 attachments",
        "20000 random bytes",
        "seconds since 1970: ",
    ],
    ..HELLO
};

/// A disk that is written and read while its driver is killed a hundred times.
const DISK: Expected = Expected {
    image: "images/disk.toml",
    memory: "128M",
    seconds: 240,
    lines: &["test the-disk-goes-on-while-its-driver-is-killed ... ok"],
    runs_tests: true,
    ..HELLO
};

/// What closes a crash report.
const END_OF_REPORT: &str = "tessera: end of report";

/// Systems of components in the placements that are not their own.
fn placements() -> Vec<Expected> {
    use Placement::{Libos, Monolith, Unikernel};
    const IN_KERNEL: &str = "images/restart-kernel.toml";
    const ECHO: Expected = Expected { image: COMPONENTS, lines: &[ECHOED], ..HELLO };
    let placed = |name, placement, expected| Expected { name, placement: Some(placement), ..expected };
    vec![
        placed("hello-in-the-kernels-mode", Monolith, HELLO),
        placed("components-as-libos", Libos, ECHO),
        placed("components-as-monolith", Monolith, ECHO),
        placed("components-as-unikernel", Unikernel, ECHO),
        placed("the-network-stack-as-libos", Libos, NETWORK),
        placed("the-network-stack-as-monolith", Monolith, NETWORK),
        placed("the-network-stack-as-monolith-on-4-processors", Monolith, Expected { processors: 4, ..NETWORK }),
        placed("the-network-stack-as-unikernel", Unikernel, NETWORK),
        placed("drivers-in-the-kernels-mode", Monolith, DRIVERS),
        Expected { name: "a-component-in-the-kernels-mode-that-dies-is-started-again", image: IN_KERNEL, ..RESTART },
        Expected {
            name: "a-component-in-the-kernels-mode-that-dies-is-started-again-on-4-processors",
            image: IN_KERNEL,
            processors: 4,
            ..RESTART
        },
        placed("tests-in-the-kernels-mode", Monolith, WITH_EDU),
        placed("tests-in-the-kernels-mode-on-4-processors", Monolith, Expected { processors: 4, ..WITH_EDU }),
    ]
}

/// The cases, in the order in which they run.
fn boots() -> Vec<Expected> {
    use MachineKind::Microvm;
    vec![
        Expected { name: "hello-on-q35", ..HELLO },
        Expected { name: "hello-on-microvm", machine: Microvm, ..HELLO },
        Expected { name: "hello-in-4-mebibytes", memory: "4M", ..HELLO },
        Expected { name: "hello-in-4-mebibytes-on-microvm", memory: "4M", machine: Microvm, ..HELLO },
        Expected { name: "hello-in-16-mebibytes", memory: "16M", ..HELLO },
        Expected { name: "hello-in-16-mebibytes-on-microvm", memory: "16M", machine: Microvm, ..HELLO },
        Expected { name: "hello-in-6-gibibytes", memory: "6G", ..HELLO },
        Expected { name: "hello-on-2-processors", processors: 2, ..HELLO },
        Expected { name: "hello-on-8-processors", processors: 8, ..HELLO },
        Expected { name: "hello-on-8-processors-of-microvm", processors: 8, machine: Microvm, ..HELLO },
        Expected { name: "hello-counting-instructions", engine: Engine::Counting, ..HELLO },
        Expected {
            name: "words-of-the-command-line-become-arguments",
            words: &["first", "second=2"],
            lines: &[GREETING, "argument: first", "argument: second=2"],
            ..HELLO
        },
        Expected { name: "tests-on-1-processor", ..WITH_EDU },
        Expected { name: "tests-on-4-processors", processors: 4, ..WITH_EDU },
        Expected { name: "tests-behind-an-iommu", ..WITH_IOMMU },
        Expected { name: "tests-behind-an-iommu-on-2-processors", processors: 2, ..WITH_IOMMU },
        Expected { name: "tests-on-2-processors-of-microvm", processors: 2, machine: Microvm, ..TESTS },
        Expected {
            name: "one-component-calls-another-in-its-own-domain",
            image: COMPONENTS,
            lines: &[ECHOED],
            ..HELLO
        },
        Expected { name: "the-network-stack-serves-another-domain", ..NETWORK },
        Expected { name: "the-network-stack-serves-another-domain-on-4-processors", processors: 4, ..NETWORK },
        Expected { name: "a-component-that-dies-is-started-again", ..RESTART },
        Expected { name: "a-component-that-dies-is-started-again-on-4-processors", processors: 4, ..RESTART },
        Expected {
            name: "a-component-does-not-reach-what-it-was-not-given",
            image: "images/trespass.toml",
            seconds: 60,
            lines: &["manager: trespasser crashed at 0x", "test a trespasser does not reach control registers ... ok"],
            runs_tests: true,
            ..HELLO
        },
        Expected { name: "drivers-on-pci", ..DRIVERS },
        Expected {
            name: "a-device-that-goes-around-the-iommu-is-refused",
            words: &["around", "entropy"],
            devices: &[
                "-object",
                "rng-random,id=around,filename=/dev/urandom",
                "-device",
                "virtio-rng-pci,rng=around,disable-legacy=on",
            ],
            lines: &["refused: the device goes around the machine's IOMMU", "20000 random bytes"],
            ..DRIVERS
        },
        Expected { name: "drivers-on-pci-and-2-processors", processors: 2, ..DRIVERS },
        Expected {
            name: "drivers-on-mmio",
            machine: Microvm,
            words: &["mmio", "block", "network", "entropy"],
            lines: &["the disk keeps what it is given", "1000 answers over 10 attachments", "20000 random bytes"],
            ..DRIVERS
        },
        Expected {
            name: "a-domain-that-takes-all-it-can-get-leaves-others-their-share",
            image: "images/hog.toml",
            // Where another program of the host takes the processor, its time is not counted as the hog's.
            engine: Engine::Counting,
            seconds: 240,
            lines: &["test a-hog-leaves-the-processor ... ok", "test a-hog-leaves-the-server ... ok"],
            runs_tests: true,
            ..HELLO
        },
        Expected { name: "a-disk-goes-on-while-its-driver-is-killed", ..DISK },
        Expected {
            name: "memory-that-a-device-reaches-is-held-until-its-reset",
            image: "images/held.toml",
            lines: &["test memory-that-a-device-reaches-is-held-until-its-reset ... ok"],
            ..DISK
        },
        Expected {
            name: "a-disk-on-mmio-goes-on-while-its-driver-is-killed",
            image: "images/disk-microvm.toml",
            machine: Microvm,
            ..DISK
        },
        Expected {
            name: "a-panic-of-the-kernel-is-reported",
            words: &["crash=panic"],
            ending: Ending::Crash,
            lines: &[
                "tessera: kernel crash on processor 0: the command line asks for a panic (kernel/src/provoke.rs:",
                "panic_on_purpose, kernel/src/provoke.rs:",
                "boot_on_own_stack, kernel/src/main.rs:",
                END_OF_REPORT,
            ],
            ..HELLO
        },
        Expected {
            name: "a-fault-of-the-kernel-is-reported-and-stops-all-processors",
            words: &["crash=fault"],
            processors: 4,
            ending: Ending::Crash,
            lines: &[
                "tessera: kernel crash on processor 0: page fault, error code 0x2, address 0x10",
                "  rip 0xffffffff80",
                "fault_on_purpose, kernel/src/provoke.rs:",
                "boot_on_own_stack, kernel/src/main.rs:",
                END_OF_REPORT,
            ],
            ..HELLO
        },
        Expected {
            name: "an-undefined-instruction-in-the-kernel-is-reported-on-microvm",
            words: &["crash=instruction"],
            machine: Microvm,
            ending: Ending::Crash,
            lines: &[
                "tessera: kernel crash on processor 0: undefined instruction",
                "undefined_on_purpose, kernel/src/provoke.rs:",
                END_OF_REPORT,
            ],
            ..HELLO
        },
        Expected {
            name: "an-overflow-of-the-kernels-stack-is-reported",
            words: &["crash=stack"],
            ending: Ending::Crash,
            lines: &[
                "tessera: kernel crash on processor 0: page fault (a stack overflow, most likely)",
                "overflow_on_purpose, kernel/src/provoke.rs:",
                END_OF_REPORT,
            ],
            ..HELLO
        },
        Expected {
            name: "a-crash-of-no-known-kind-is-refused",
            words: &["crash=nothing"],
            ending: Ending::Guest(125),
            lines: &["a crash of no known kind"],
            ..HELLO
        },
        Expected {
            name: "the-guests-exit-code-is-the-commands",
            words: &["no-test-has-this-name"],
            lines: &["0 passed, 0 failed"],
            ending: Ending::Guest(1),
            runs_tests: false,
            ..TESTS
        },
    ]
}

/// The images that were built in this run, by their description's path.
type Built = Arc<Mutex<BTreeMap<String, (PathBuf, Symbols)>>>;

pub fn suite() -> Suite {
    let built = Built::default();
    let mut cases = vec![
        Case::new("the-programs-of-all-images-are-built", build),
        Case::new("images-are-the-same-to-the-byte", |step| copies::same_to_the_byte(COMPONENTS, step)),
    ];
    cases.extend(boots().into_iter().chain(placements()).map(|expected| {
        let built = Arc::clone(&built);
        let case = Case::new(expected.name, move |step| boot(&expected, &built, step));
        if expected.processors > 1 || expected.image == TESTS.image { case.alone() } else { case }
    }));
    cases.extend(containers::cases());
    cases.extend(small::cases());
    cases.extend(super::attended::cases());
    cases.extend(super::linux::cases());
    cases.extend(super::nix::cases());
    cases.extend(native::cases());
    cases.extend(super::explain::cases());
    cases.extend(control::cases());
    cases.push(web::case());
    cases.push(Case::new("a-component-that-nothing-would-hold-is-refused", refused));
    cases.push(Case::new("a-component-is-written-as-the-book-says", copies::follow_the_book));
    Suite { name: "system", about: "booted images do what they should", lane: Lane::Guests, cases }
}

/// What the other cases need, in one call of cargo, which has work for all processors then.
fn build(step: &mut Step) -> Result<Outcome> {
    step.note("building");
    let mut wanted: Vec<(&str, Option<Placement>)> =
        boots().into_iter().chain(placements()).map(|expected| (expected.image, expected.placement)).collect();
    wanted.extend([control::IMAGE, web::IMAGE, containers::PROBE].map(|image| (image, None)));
    for placement in Placement::value_variants() {
        wanted.extend([container::DESCRIPTION, native::TESTER].map(|image| (image, Some(*placement))));
    }
    let mut descriptions = Vec::new();
    for (path, placement) in wanted {
        let path = workspace::root().join(path);
        let mut description = match path.is_dir() {
            true => Project::read(&path)?.description(&Wishes::default())?,
            false => Description::read(&path)?,
        };
        description.place(placement);
        descriptions.push(description);
    }
    image::build_programs(&descriptions)?;
    Ok(Outcome::passed(1))
}

fn boot(expected: &Expected, built: &Built, step: &mut Step) -> Result<Outcome> {
    let mut description = Description::read(&workspace::root().join(expected.image))?;
    description.place(expected.placement);
    let known = || built.lock().unwrap_or_else(PoisonError::into_inner);
    let found = known().get(&description.file_stem()).cloned();
    let (image, symbols) = match found {
        Some(found) => found,
        None => {
            let made = image::build_to_target(&description)?;
            known().insert(description.file_stem(), made.clone());
            made
        }
    };
    step.note("booting");
    let mut devices = devices::arguments(expected.machine, description.name(), &description.devices()?, &[])?;
    devices.extend(expected.devices.iter().map(|argument| (*argument).to_owned()));
    let boot = Boot {
        image,
        machine: expected.machine,
        memory: expected.memory.parse().map_err(|error: String| miette!(error))?,
        processors: i64::from(expected.processors).try_into().map_err(|error: String| miette!(error))?,
        engine: expected.engine,
        limit: Some(Duration::from_secs(expected.seconds)),
        words: expected.words.iter().map(|word| (*word).to_owned()).collect(),
        devices,
        keys_go_to_the_guest: false,
    };
    let mut console = Vec::new();
    let ending = boot.run(symbols, false, &mut console);
    devices::remove_scratch();
    let ending = ending?;
    Ok(judge(expected, ending, String::from_utf8_lossy(&console).into_owned()))
}

/// Where the processor does not hold a component, one with `unsafe` is not built.
fn refused(_: &mut Step) -> Result<Outcome> {
    for placement in [Placement::Libos, Placement::Monolith, Placement::Unikernel] {
        let mut description = Description::read(&workspace::root().join("images/trespass.toml"))?;
        description.place(Some(placement));
        let Err(report) = image::build(&description) else {
            return Ok(Outcome::failed(format!("it was built as {placement:?}"), ""));
        };
        let told = format!("{report:?}");
        if !told.contains("`trespasser`") || !told.contains("forbid(unsafe_code)") {
            return Ok(Outcome::failed(format!("as {placement:?} it was refused for another reason"), told));
        }
    }
    Ok(Outcome::passed(3))
}

/// Compares what happened with what was expected.
fn judge(expected: &Expected, ending: Ending, console: String) -> Outcome {
    let counts = if expected.runs_tests { count(&console) } else { Counts::default() };
    let mut lines = console.lines();
    let missing = expected.lines.iter().find(|part| !lines.any(|line| line.contains(*part)));
    let failure = if ending != expected.ending {
        Some(format!("it ended with {ending}, not with {}", expected.ending))
    } else {
        missing.map(|part| format!("it did not print `{part}` where that was expected"))
    };
    match failure {
        Some(why) => Outcome {
            passed: counts.passed,
            failed: counts.failed.max(1),
            failure: Some(why),
            output: console,
            skipped: None,
        },
        None if expected.runs_tests => Outcome::of_runner(true, counts, console),
        None => Outcome::passed(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Expected = Expected { lines: &["begin", "end"], ..TESTS };

    #[test]
    fn names_are_unique_and_every_machine_is_possible() {
        let all = || boots().into_iter().chain(placements());
        let mut names: Vec<&str> = all().map(|boot| boot.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        for boot in all() {
            assert!(boot.memory.parse::<crate::image::Memory>().is_ok(), "{}", boot.name);
            assert!((1..=8).contains(&boot.processors), "{}", boot.name);
            assert!(workspace::root().join(boot.image).exists(), "{}", boot.name);
        }
    }

    #[test]
    fn a_boot_is_judged_by_its_end_its_lines_and_their_order() {
        let good = "begin\nend\n3 passed, 0 failed\n".to_owned();
        assert_eq!(judge(&SAMPLE, Ending::Guest(0), good.clone()), Outcome::passed(3));
        assert!(judge(&SAMPLE, Ending::Guest(1), good.clone()).failure.is_some());
        assert!(judge(&SAMPLE, Ending::Crash, good).failure.is_some());
        let swapped = "end\nbegin\n3 passed, 0 failed\n".to_owned();
        assert!(judge(&SAMPLE, Ending::Guest(0), swapped).failure.is_some());
        let failed = "begin\nend\n2 passed, 1 failed\n".to_owned();
        assert_eq!(judge(&SAMPLE, Ending::Guest(0), failed).failed, 1);
        assert!(judge(&SAMPLE, Ending::Guest(0), "begin\nend\n".to_owned()).failure.is_some(), "no test was run");
    }
}
