//! Links a program with the domain that it runs in.
//!
//! Both were compiled by one compiler and have a copy of its library, so that many of their names are the same. The domain is therefore
//! made one object first, whose names are its own but for the few by which the two find each other.

use std::fs;
use std::path::Path;
use std::process::Command;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use object::build::elf::Builder;
use object::elf::{SHN_UNDEF, STB_LOCAL};

use crate::toolchain::BareToolChain;
use crate::workspace;

/// What of a domain the program or the kernel looks for by name.
const PREFIX: &[u8] = b"sys_";
const NAMES: [&[u8]; 2] = [b"_start", b"tessera_kernel_calls"];

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
    run(&mut command, "the program cannot be linked with what it runs on")
}

fn linker(tool_chain: &BareToolChain) -> Command {
    let mut command = Command::new(&tool_chain.linker);
    command.args(["-flavor", "gnu"]);
    command
}

fn run(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output().into_diagnostic().wrap_err("cannot start the linker")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let missing = missing(&said);
    if missing.is_empty() {
        return Err(miette!(help = said.trim().to_owned(), "{what}"));
    }
    Err(miette!(
        help = "one of its crates calls functions that Tessera does not have; the book, \"Native programs\", lists what there is",
        "the program needs what is not there: {}",
        missing.join(", ")
    ))
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
        if is_defined && !is_sought && symbol.st_bind() != STB_LOCAL {
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
}
