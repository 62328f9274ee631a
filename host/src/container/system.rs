//! Tessera's own programs for containers: an image without a container, built once and kept until a source changes.

use std::env;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use blake3::Hasher;
use miette::{IntoDiagnostic, Result, WrapErr};

use crate::image::{self, Description};
use crate::symbols::Symbols;
use crate::toolchain::BareToolChain;
use crate::workspace;

/// The description of the programs that a container runs on, below the checkout.
pub const DESCRIPTION: &str = "images/container.toml";

/// What is not a source: build results, the book, and what is hidden.
const NO_SOURCES: [&str; 2] = ["target", "docs"];

/// The image without a container.
pub struct System {
    pub file: Vec<u8>,
    pub symbols: Symbols,
}

/// Builds `description`, or takes what was built if no source has changed since.
pub fn base(description: &Description) -> Result<System> {
    // Systems with the same components may differ in what these are told.
    let told = blake3::hash(description.text().as_bytes()).to_hex();
    let name = format!("{}-{}.elf", description.file_stem(), told.get(..8).unwrap_or_default());
    let path = workspace::built_images().join(name);
    let stamp_path = path.with_extension("stamp");
    let stamp = stamp(description)?;
    if fs::read(&stamp_path).is_ok_and(|kept| kept == stamp.as_bytes())
        && let Ok(file) = fs::read(&path)
        && let Some(symbols) = Symbols::recall(&file)
    {
        return Ok(System { file, symbols });
    }
    let image = image::build(description)?;
    image::write(&path, &image.file)?;
    image.symbols.remember(&image.file)?;
    // Taken before the build: a change during it makes the next one build again.
    image::write(&stamp_path, stamp.as_bytes())?;
    Ok(System { file: image.file, symbols: image.symbols })
}

/// Changes with every source, the tool chain, and this command.
fn stamp(description: &Description) -> Result<String> {
    let mut hash = Hasher::new();
    hash.update(description.path().as_os_str().as_bytes()).update(description.text().as_bytes());
    // Cargo's settings may also come from the environment.
    for (name, value) in env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"CARGO_PROFILE_")) {
        hash.update(name.as_bytes()).update(b"=").update(value.as_bytes()).update(b"\0");
    }
    let tool_chain = BareToolChain::find()?;
    let mut waiting: Vec<PathBuf> = vec![tool_chain.rustc, tool_chain.linker, PathBuf::from("/proc/self/exe")];
    waiting.push(workspace::root());
    while let Some(path) = waiting.pop() {
        let cannot = || format!("cannot read {}", path.display());
        let found = fs::metadata(&path).into_diagnostic().wrap_err_with(cannot)?;
        if !found.is_dir() {
            hash.update(path.as_os_str().as_bytes()).update(b"\0");
            for number in [found.size(), found.mtime().cast_unsigned(), found.mtime_nsec().cast_unsigned()] {
                hash.update(&number.to_le_bytes());
            }
            continue;
        }
        let mut below = Vec::new();
        for entry in fs::read_dir(&path).into_diagnostic().wrap_err_with(cannot)?.flatten() {
            let name = entry.file_name();
            let is_source = !name.as_bytes().starts_with(b".") && !NO_SOURCES.iter().any(|other| name == *other);
            if is_source && (path != workspace::root() || entry.file_type().is_ok_and(|kind| !kind.is_symlink())) {
                below.push(entry.path());
            }
        }
        below.sort();
        waiting.extend(below);
    }
    Ok(hash.finalize().to_hex().to_string())
}
