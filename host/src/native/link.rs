//! Links a program with the domain that it runs in.
//!
//! Both were compiled by one compiler and have a copy of its library, so that many of their names are the same. The domain is therefore
//! made one object first, whose names are its own but for the few by which the two find each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use miette::{IntoDiagnostic, Report, Result, WrapErr, miette};
use object::build::elf::Builder;
use object::elf::{SHN_UNDEF, STB_LOCAL};
use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection};

use super::c;
use crate::toolchain::BareToolChain;
use crate::workspace;

/// What of a domain the program or the kernel looks for by name.
const PREFIX: &[u8] = b"sys_";
const NAMES: [&[u8]; 2] = [b"_start", b"tessera_kernel_calls"];
/// How the names of functions for C code begin in the domain.
const FOR_C: &[u8] = b"c:";
/// How the names of sections of code begin.
const CODE: &str = ".text";

/// Links the domain in the static library `domain` with the object `program` into the ELF file `to`.
pub fn link(domain: &Path, program: &Path, to: &Path) -> Result<()> {
    let tool_chain = BareToolChain::find()?;
    let (joined, closed) = (to.with_extension("joined.o"), to.with_extension("closed.o"));
    let mut command = linker(&tool_chain);
    command.args(["-r", "--whole-archive"]).arg(domain).arg("-o").arg(&joined);
    run(&mut command, "the domain's parts cannot be joined")?;
    let bytes = fs::read(&joined).into_diagnostic().wrap_err_with(|| format!("cannot read {}", joined.display()))?;
    let object = closed_object(&bytes).wrap_err_with(|| format!("{} cannot be changed", joined.display()))?;
    fs::write(&closed, object).into_diagnostic().wrap_err_with(|| format!("cannot write {}", closed.display()))?;
    let mut command = linker(&tool_chain);
    command.arg("-T").arg(workspace::root().join("runtime/program.ld"));
    command
        .args([
            "--no-pie",
            "--no-dynamic-linker",
            "--gc-sections",
            "--icf=all",
            "-zmax-page-size=512",
            "-znoexecstack",
            "-o",
        ])
        .arg(to);
    command.arg(&closed).arg(program);
    let what = "the program cannot be linked with what it runs on";
    let missing = run(&mut command, what)?;
    match c::library() {
        _ if missing.is_empty() => Ok(()),
        // Nothing of it comes into programs that do not need it.
        Some(library) => link_with_library(&mut command, library, &to.with_extension("map"), what, &missing),
        None => Err(lacks(&missing)),
    }
}

/// Links again, with what the C library has of the names `wanted`. `map` is a file that says what was taken.
fn link_with_library(command: &mut Command, library: &Path, map: &Path, what: &str, wanted: &[String]) -> Result<()> {
    let missing = run(command.arg(library).arg(format!("-Map={}", map.display())), what)?;
    if !missing.is_empty() {
        return Err(lacks(&missing));
    }
    let cannot = |path: &Path| format!("cannot read {}", path.display());
    let map = fs::read_to_string(map).into_diagnostic().wrap_err_with(|| cannot(map))?;
    let archive = fs::read(library).into_diagnostic().wrap_err_with(|| cannot(library))?;
    let refused = refused(&archive, &taken(&map, library)).wrap_err_with(|| cannot(library))?;
    if refused.is_empty() {
        return Ok(());
    }
    // What the program itself asked for says more than what that asks for in turn.
    let asked: Vec<String> = refused.iter().filter(|name| wanted.contains(name)).cloned().collect();
    Err(lacks(if asked.is_empty() { &refused } else { &asked }))
}

/// A member of the C library and a section of its code, which was taken into the program.
type Taken<'a> = (&'a str, &'a str);

/// What was taken from `library`, as lld's map of the program has it: lines that end with `LIBRARY(MEMBER):(SECTION)`.
fn taken<'a>(map: &'a str, library: &Path) -> BTreeSet<Taken<'a>> {
    let begin = format!("{}(", library.display());
    let read = |line: &'a str| line.split_once(&begin)?.1.strip_suffix(')')?.split_once("):(");
    map.lines().filter_map(read).filter(|(_, section)| section.starts_with(CODE)).collect()
}

/// The names of those that do not only compute: they would call another system, or have another one's thread pointer.
fn refused(library: &[u8], taken: &BTreeSet<Taken>) -> Result<Vec<String>> {
    let mut refused = Vec::new();
    for member in ArchiveFile::parse(library).into_diagnostic()?.members() {
        let member = member.into_diagnostic()?;
        let name = String::from_utf8_lossy(member.name());
        let mut sections = taken.iter().filter(|(other, _)| *other == name).peekable();
        if sections.peek().is_none() {
            continue;
        }
        // Before it is linked: no distance to something else is taken for an instruction.
        let object = object::File::parse(member.data(library).into_diagnostic()?).into_diagnostic()?;
        for (_, section) in sections {
            let code = object.section_by_name(section).ok_or_else(|| miette!("{name} has no {section}"))?;
            if !only_computes(code.data().into_diagnostic()?) {
                let function = section.strip_prefix(CODE).and_then(|rest| rest.strip_prefix('.'));
                refused.push(function.unwrap_or(&name).to_owned());
            }
        }
    }
    Ok(refused)
}

/// Whether code has neither system calls nor a thread pointer.
fn only_computes(code: &[u8]) -> bool {
    const CALL: [u8; 2] = [0x0f, 0x05];
    // An instruction of a 64-bit register and a fixed place behind FS: with any register and operation.
    let is_pointer = |code: &[u8]| matches!(*code, [0x64, 0x48 | 0x4c, _, place, 0x25] if place & 0xc7 == 0x04);
    !code.windows(2).any(|bytes| bytes == CALL) && !code.windows(5).any(is_pointer)
}

fn linker(tool_chain: &BareToolChain) -> Command {
    let mut command = Command::new(&tool_chain.linker);
    command.args(["-flavor", "gnu"]);
    command
}

/// Runs lld; answers the names that it did not find, if that is all that failed.
fn run(command: &mut Command, what: &str) -> Result<Vec<String>> {
    let output = command.output().into_diagnostic().wrap_err("cannot start the linker")?;
    if output.status.success() {
        return Ok(Vec::new());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let missing = missing(&said);
    if missing.is_empty() {
        return Err(miette!(help = said.trim().to_owned(), "{what}"));
    }
    Ok(missing.into_iter().map(str::to_owned).collect())
}

fn lacks(names: &[String]) -> Report {
    miette!(
        help = "one of its crates calls functions that Tessera does not have; the book, \"Native programs\", lists what there is",
        "the program needs what is not there: {}",
        names.join(", ")
    )
}

/// The names that lld does not find: "ld.lld: error: undefined symbol: NAME".
fn missing(said: &str) -> Vec<&str> {
    let mut names: Vec<&str> =
        said.lines().filter_map(|line| line.split_once("undefined symbol: ").map(|(_, name)| name.trim())).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The object with all its names its own, but for those that others look for.
fn closed_object(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(bytes).into_diagnostic()?;
    for symbol in &mut builder.symbols {
        let is_defined = symbol.section.is_some() || symbol.st_shndx != SHN_UNDEF;
        let is_sought = symbol.name.starts_with(PREFIX) || NAMES.contains(&symbol.name.as_slice());
        if let Some(name) = symbol.name.strip_prefix(FOR_C).filter(|_| is_defined) {
            symbol.name = name.to_vec().into();
        } else if is_defined && !is_sought && symbol.st_bind() != STB_LOCAL {
            symbol.set_st_info(STB_LOCAL, symbol.st_type());
        }
    }
    let mut object = Vec::new();
    builder.write(&mut object).into_diagnostic()?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_missing_are_told_once() {
        let said = "ld.lld: error: undefined symbol: sys_fork\n>>> referenced by a.rs\nld.lld: error: undefined symbol: kill\n\
                    ld.lld: error: undefined symbol: sys_fork\n";
        assert_eq!(missing(said), ["kill", "sys_fork"]);
        assert!(missing("ld.lld: error: cannot open x\n").is_empty());
    }

    #[test]
    fn the_map_says_what_was_taken_from_the_library() {
        let map = "    7f0000001000     7f0000001000       55     1         /l/libc.a(strchr.lo):(.text.strchr)\n\
                   \x20   7f0000001055     7f0000001055       55     1                 strchr\n\
                   \x20   7f0000002000     7f0000002000       10     1         /l/libc.a(__tz.lo):(.rodata.__utc)\n\
                   \x20   7f0000002800     7f0000002800       10     1         /l/libc.a(syscall.lo):(.text)\n\
                   \x20   7f0000003000     7f0000003000       10     1         /p/program.o:(.text.main)\n";
        assert_eq!(
            taken(map, Path::new("/l/libc.a")),
            BTreeSet::from([("strchr.lo", ".text.strchr"), ("syscall.lo", ".text")])
        );
    }

    #[test]
    fn code_of_another_system_is_told_from_code_that_computes() {
        // add rax, rcx; ret
        assert!(only_computes(&[0x48, 0x01, 0xc8, 0xc3]));
        // syscall; ret
        assert!(!only_computes(&[0x0f, 0x05, 0xc3]));
        // sub rax, fs:[0x28], with which the end of a function looks for a damaged stack; mov r8, fs:[0]
        assert!(!only_computes(&[0x90, 0x64, 0x48, 0x2b, 0x04, 0x25, 0x28, 0, 0, 0]));
        assert!(!only_computes(&[0x64, 0x4c, 0x8b, 0x04, 0x25, 0, 0, 0, 0]));
    }
}
