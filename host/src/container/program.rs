//! A single program as a root file system, and whether a program of an image can be started at all: found, for this
//! processor, with its interpreter there.

use std::fs::File;
use std::path::Path;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use object::Endianness;
use object::elf::{EM_386, EM_AARCH64, EM_ARM, EM_RISCV, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use tessera_rootfs::{Image, Kind};

use super::look::{Look, read_head};
use super::root::{Building, Unpacked};
use super::settings::{DEFAULT_PATH, Settings};

/// Enough of a program for its headers and the interpreter's name.
const HEAD: usize = 1 << 16;
/// Scripts that name scripts: Linux's own limit.
const SCRIPTS: usize = 4;

/// What the head of a program says about starting it.
#[derive(Debug, PartialEq, Eq)]
pub enum Start {
    /// An x86-64 program that needs nothing else.
    Alone,
    /// One that needs this loader (`PT_INTERP`).
    Interpreter(String),
    /// A text for this program.
    Script(String),
    /// A program for another processor.
    Foreign(String),
    /// Neither a program nor a script.
    Neither,
}

impl Start {
    pub fn of(head: &[u8]) -> Self {
        if let Some(rest) = head.strip_prefix(b"#!") {
            let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            return match line.split_whitespace().next() {
                Some(program) => Self::Script(program.to_owned()),
                None => Self::Neither,
            };
        }
        if !head.starts_with(b"\x7fELF") {
            return Self::Neither;
        }
        // A file of 32 bits or of the other byte order has its machine in the same place.
        let machine = match (head.get(5), head.get(18..20)) {
            (Some(2), Some(&[high, low])) => u16::from_be_bytes([high, low]),
            (_, Some(&[low, high])) => u16::from_le_bytes([low, high]),
            _ => return Self::Neither,
        };
        if machine != EM_X86_64.0 || head.get(4) != Some(&2) {
            return Self::Foreign(machine_name(machine));
        }
        let Ok(header) = FileHeader64::<Endianness>::parse(head) else { return Self::Neither };
        let endian = Endianness::Little;
        let kind = header.e_type(endian);
        let Ok(segments) = header.program_headers(endian, head) else { return Self::Neither };
        if kind != ET_EXEC && kind != ET_DYN {
            return Self::Neither;
        }
        for segment in segments {
            if segment.p_type(endian) == PT_INTERP {
                let name = segment.data(endian, head).unwrap_or_default();
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                return Self::Interpreter(String::from_utf8_lossy(name).into_owned());
            }
        }
        Self::Alone
    }
}

fn machine_name(machine: u16) -> String {
    let known = [(EM_AARCH64, "AArch64"), (EM_ARM, "32-bit ARM"), (EM_386, "32-bit x86"), (EM_RISCV, "RISC-V")];
    let name = known.iter().find(|(number, _)| number.0 == machine).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| match machine {
        // A file of 32 bits with the number of the 64-bit machine: the x32 convention.
        62 => "x32".to_owned(),
        other => format!("ELF machine {other}"),
    })
}

/// A root file system that holds the program at `path` and nothing else of its own.
pub fn unpack(path: &Path) -> Result<Unpacked> {
    let cannot = || format!("cannot read {}", path.display());
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("program").to_owned();
    let head = read_head(&mut File::open(path).into_diagnostic().wrap_err_with(cannot)?, HEAD).into_diagnostic()?;
    match Start::of(&head) {
        Start::Alone => {}
        Start::Interpreter(loader) => {
            return Err(miette!(
                help = "link it statically (for C: `gcc -static`; for Rust: `--target x86_64-unknown-linux-musl`; for \
                        Go: `CGO_ENABLED=0`), or give a folder or an image that has the libraries too",
                "{} needs the loader {loader} and shared libraries, which a single file does not bring along",
                path.display()
            ));
        }
        Start::Foreign(machine) => return Err(foreign(&path.display().to_string(), &machine)),
        Start::Script(_) | Start::Neither => return Err(miette!("{} is not a program", path.display())),
    }
    let mut building = Building::new()?;
    let mut contents = Vec::new();
    std::io::Read::read_to_end(&mut File::open(path).into_diagnostic()?, &mut contents).into_diagnostic()?;
    building.put_file(&name, 0o755, &contents)?;
    building.put_file("etc/passwd", 0o644, b"root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n")?;
    building.put_file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    building.finish()?;
    let settings = Settings {
        entrypoint: vec![format!("/{name}")],
        environment: vec![DEFAULT_PATH.to_owned()],
        ..Settings::default()
    };
    Ok(Unpacked { building, settings })
}

fn foreign(program: &str, machine: &str) -> miette::Report {
    miette!(
        help = "take an image, or build the program, for linux/amd64 (x86-64)",
        "{program} is for another processor: {machine}, not x86-64"
    )
}

/// Checks that the program of a container can be started from `image`.
pub fn check(image: &Image, name: &str, path_variable: &str, directory: &str) -> Result<()> {
    let look = Look(*image);
    let candidates: Vec<String> = if name.contains('/') {
        vec![absolute(name, directory)]
    } else {
        path_variable.split(':').map(|folder| absolute(&format!("{folder}/{name}"), directory)).collect()
    };
    let found = candidates.iter().find_map(|path| {
        let inode = look.find(path.as_bytes()).ok()?;
        (inode.kind() == Kind::Regular && inode.permissions() & 0o111 != 0).then_some((path, inode))
    });
    let Some((path, inode)) = found else {
        let without_permission = candidates.iter().any(|path| look.find(path.as_bytes()).is_ok());
        return Err(match (without_permission, name.contains('/')) {
            (true, _) => miette!(
                help = "make it executable in the image (`chmod +x`), or give another command after `--`",
                "`{name}` in the image is not an executable file"
            ),
            (false, true) => {
                miette!(help = "give a command that is there after `--`", "there is no `{name}` in the image")
            }
            (false, false) => miette!(
                help = "give its path, or another command, after `--`",
                "there is no program `{name}` in the image's search path ({path_variable})"
            ),
        });
    };
    let mut path = path.clone();
    let mut head = look.head(&inode, HEAD)?;
    for _ in 0..SCRIPTS {
        let needed = match Start::of(&head) {
            Start::Alone => return Ok(()),
            Start::Foreign(machine) => return Err(foreign(&path, &machine)),
            // A shell that starts it runs it as a script; the kernel does not.
            Start::Neither => return Err(miette!("`{path}` in the image is neither a program nor a script with `#!`")),
            Start::Interpreter(loader) | Start::Script(loader) => loader,
        };
        match look.find(absolute(&needed, directory).as_bytes()) {
            Ok(inode) if inode.kind() == Kind::Regular => head = look.head(&inode, HEAD)?,
            _ => {
                return Err(miette!(
                    help = "the image lacks the package that brings it: for programs linked with glibc that is `libc6` \
                            (Debian) or `gcompat` (Alpine), for ones linked with musl it is `musl`",
                    "`{path}` needs `{needed}`, which is not in the image"
                ));
            }
        }
        if matches!(Start::of(&head), Start::Alone) {
            return Ok(());
        }
        path = needed;
    }
    Err(miette!("`{name}` is a script whose interpreter is a script, and so on for more than {SCRIPTS} steps"))
}

fn absolute(path: &str, directory: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") }
}
