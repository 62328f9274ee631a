//! Containers as the host hands them over: the guest finds the root image and the note as they were packed.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use miette::{IntoDiagnostic, Result};
use tar::{Builder, EntryType, Header};

use super::outcome::Outcome;
use super::{Case, command};
use crate::container::{self, Overrides, Source, launch};
use crate::image::{Description, MachineKind, Processors};
use crate::progress::Step;
use crate::qemu::{Boot, Ending, Engine};
use crate::workspace;

/// Stands for the system: a program that prints what it finds.
pub const PROBE: &str = "tests/root/image.toml";

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a-container-finds-its-files-and-what-to-run", handed_over),
        Case::new("a-container-runs-its-program-and-ends-with-its-code", runs),
        Case::new("nginx-of-debian-answers-with-its-page", demo),
        Case::new("a-container-that-was-run-before-is-not-made-again", kept),
    ]
}

/// Writes a root file system as a tar file, and answers the number of files and bytes in it and the sum of the bytes.
fn write_root(path: &Path) -> io::Result<(u64, u64, u64)> {
    let mut tar = Builder::new(fs::File::create(path)?);
    let (mut files, mut bytes, mut sum) = (0, 0, 0u64);
    let mut file = |name: &str, contents: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o755);
        header.set_entry_type(EntryType::Regular);
        files += 1;
        bytes += contents.len() as u64;
        sum += contents.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        tar.append_data(&mut header, name, contents)
    };
    // The smallest file that Linux would take for a program: nothing runs it here.
    let mut program = vec![0; 64];
    program[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    program[16] = 2;
    program[18] = 62;
    file("bin/serve", &program)?;
    let pattern: Vec<u8> = (0..5_000_000u32).map(|at| (at / 3) as u8 ^ 0x5a).collect();
    file("data/large", &pattern)?;
    file("data/empty", b"")?;
    for index in 0..300 {
        file(&format!("many/{index:0>100}"), index.to_string().as_bytes())?;
    }
    tar.finish()?;
    Ok((files, bytes, sum))
}

/// A static program for Linux, written by hand: it writes `text` to its standard output and exits with `code`.
fn program(text: &str, code: u8) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: usize = 64 + 56;
    let length = (text.len() as u32).to_le_bytes();
    let instructions = [
        // write(1, text, length): rax, rdi, rsi (relative to the next instruction), rdx
        [0xb8, 1, 0, 0, 0].as_slice(),
        &[0xbf, 1, 0, 0, 0],
        &[0x48, 0x8d, 0x35, 19, 0, 0, 0],
        &[0xba, length[0], length[1], length[2], length[3]],
        &[0x0f, 0x05],
        // exit(code)
        &[0xb8, 60, 0, 0, 0],
        &[0xbf, code, 0, 0, 0],
        &[0x0f, 0x05],
    ]
    .concat();
    let size = (HEADERS + instructions.len() + text.len()) as u64;
    let mut file = vec![0; HEADERS];
    let mut put = |offset: usize, bytes: &[u8]| file[offset..offset + bytes.len()].copy_from_slice(bytes);
    // The file's header: 64 bits, little endian, executable, x86-64, the entry, one segment.
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0, 1, 0, 0, 0]);
    put(24, &(BASE + HEADERS as u64).to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 1, 0]);
    // The segment: loaded, readable and executable, all of the file.
    put(64, &[1, 0, 0, 0, 5, 0, 0, 0]);
    for (offset, value) in [(80, BASE), (88, BASE), (96, size), (104, size), (112, 4096)] {
        put(offset, &value.to_le_bytes());
    }
    [file, instructions, text.as_bytes().to_vec()].concat()
}

/// Boots the container that `overrides` make of the tar file at `path`, and answers its console.
fn boot(path: &Path, overrides: &Overrides, system: &str, machine: MachineKind) -> Result<(Ending, String)> {
    let source = Source::of(&path.display().to_string())?;
    let system = Description::read(&workspace::root().join(system))?;
    let container = container::prepare(&source, overrides, &system, None)?;
    let boot = Boot {
        image: container.image,
        machine,
        memory: container.memory,
        processors: Processors::default(),
        engine: Engine::Tcg,
        limit: Some(Duration::from_secs(60)),
        words: Vec::new(),
        devices: launch::devices(machine, &container.system, &[], &container.volumes)?,
        keys_go_to_the_guest: false,
    };
    let mut console = Vec::new();
    let ending = boot.run(container.symbols, false, &mut console)?;
    Ok((ending, String::from_utf8_lossy(&console).into_owned()))
}

fn handed_over(step: &mut Step) -> Result<Outcome> {
    let folder = tempfile::tempdir().into_diagnostic()?;
    let path = folder.path().join("handed-over.tar");
    let (files, bytes, sum) = write_root(&path).into_diagnostic()?;
    let overrides = Overrides {
        words: vec!["serve".to_owned(), "two words".to_owned()],
        user: Some("12:34".to_owned()),
        directory: Some("/data".to_owned()),
        ..Overrides::default()
    };
    // Files of ours stand in every root: three in /etc.
    let own = [
        "nameserver 10.0.2.3\n",
        "tessera\n",
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\ttessera\n",
    ];
    let own_sum: u64 = own.iter().flat_map(|text| text.bytes()).map(u64::from).sum();
    let own_bytes: usize = own.iter().map(|text| text.len()).sum();
    let expected = [
        "argument: serve".to_owned(),
        "argument: two words".to_owned(),
        "user 12 group 34 in /data".to_owned(),
        "the root image begins 0 bytes into a page".to_owned(),
        format!("10 directories, {} files, 0 links", files + 3),
        format!("{} bytes, sum {:#x}", bytes + own_bytes as u64, sum + own_sum),
        "the largest file begins with [90, 90, 90, 91, 91, 91, 88,".to_owned(),
    ];
    for machine in [MachineKind::Q35, MachineKind::Microvm] {
        step.note("booting");
        let (ending, console) = boot(&path, &overrides, PROBE, machine)?;
        let mut lines = console.lines();
        if let Some(missing) = expected.iter().find(|part| !lines.any(|line| line.contains(part.as_str()))) {
            return Ok(Outcome::failed(format!("it did not print `{missing}` where that was expected"), console));
        }
        if ending != Ending::Guest(0) {
            return Ok(Outcome::failed(format!("it ended with {ending}"), console));
        }
    }
    Ok(Outcome::passed(1))
}

/// On the system that containers run on: a program that needs nothing else.
fn runs(step: &mut Step) -> Result<Outcome> {
    const TEXT: &str = "written by a program of Linux\n";
    let folder = tempfile::tempdir().into_diagnostic()?;
    let path = folder.path().join("by-hand");
    fs::write(&path, program(TEXT, 7)).into_diagnostic()?;
    step.note("booting");
    let (ending, console) = boot(&path, &Overrides::default(), container::DESCRIPTION, MachineKind::Q35)?;
    Ok(if ending != Ending::Guest(7) {
        Outcome::failed(format!("it ended with {ending}, not with the program's exit code 7"), console)
    } else if !console.lines().any(|line| line == TEXT.trim_end()) {
        Outcome::failed("what the program wrote is not on the console", console)
    } else {
        Outcome::passed(1)
    })
}

/// What `./tessera demo` shows: a server that was built for Linux and knows of nothing else.
fn demo(step: &mut Step) -> Result<Outcome> {
    let finished = command::run(Command::new("/proc/self/exe").args(["demo", "--timeout", "180"]), step)?;
    // Told by the reasons that the command gives before anything boots.
    let unreachable = ["apt, which this machine does not have", "packages cannot be fetched"];
    if !finished.succeeded && unreachable.iter().any(|reason| finished.output.contains(reason)) {
        return Ok(Outcome::skipped("Debian's packages cannot be had here"));
    }
    let said = |what: &str| finished.output.contains(what);
    if !(said("HTTP/1.1 200 OK") && said("Welcome to nginx!") && said("the first byte of an answer")) {
        return Ok(Outcome::failed("nginx did not answer with its page", finished.output));
    }
    Ok(finished.outcome())
}

/// The second time nothing is unpacked, built or written: the files stay as they are, to the time.
fn kept(step: &mut Step) -> Result<Outcome> {
    let folder = tempfile::tempdir().into_diagnostic()?;
    let path = folder.path().join("kept.tar");
    write_root(&path).into_diagnostic()?;
    let overrides = Overrides { words: vec!["serve".to_owned()], ..Overrides::default() };
    let source = Source::of(&path.display().to_string())?;
    let system = Description::read(&workspace::root().join(PROBE))?;
    let prepare = || container::prepare(&source, &overrides, &system, None);
    step.note("the first time");
    let first = prepare()?;
    let time = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).into_diagnostic();
    let (written, contents) = (time(&first.image)?, fs::read(&first.image).into_diagnostic()?);
    step.note("the second time");
    let second = prepare()?;
    if time(&second.image)? != written {
        return Ok(Outcome::failed("the file to boot was written again", ""));
    }
    // Made anew, it is the same to the byte.
    fs::remove_file(&first.image).into_diagnostic()?;
    let renewed = Overrides { renew: true, ..overrides.clone() };
    let third = container::prepare(&source, &renewed, &system, None)?;
    if fs::read(&third.image).into_diagnostic()? != contents {
        return Ok(Outcome::failed("made again of the same files, the image is another", ""));
    }
    Ok(Outcome::passed(1))
}
