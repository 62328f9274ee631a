//! Of a root image, what one program needs to start: itself, its loader and the libraries that it names, all at their places. The rest of a
//! distribution's packages is left out, which counts where memory is small.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use tessera_rootfs::Image;

use crate::container::Look;

/// Where a loader looks for libraries on Debian.
const LIBRARIES: [&str; 4] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib", "usr/lib"];
/// Most bytes of one file.
const MOST: usize = 256 << 20;

/// Writes the files that `program` needs of the root image at `root` into `folder`.
pub fn write(root: &Path, program: &str, folder: &Path) -> Result<()> {
    let bytes = fs::read(root).into_diagnostic().wrap_err_with(|| format!("cannot read {}", root.display()))?;
    let look = Look(Image::new(&bytes).into_diagnostic().wrap_err("the root image is not what was written")?);
    let mut known = BTreeSet::new();
    let mut wanted = vec![program.trim_start_matches('/').to_owned()];
    while let Some(path) = wanted.pop() {
        if !known.insert(path.clone()) {
            continue;
        }
        let file = look.head(&look.find(path.as_bytes())?, MOST)?;
        let Needs { loader, libraries } = needs(&file).wrap_err_with(|| format!("`{path}` is no program of Linux"))?;
        wanted.extend(loader);
        for library in libraries {
            let place = LIBRARIES.iter().map(|folder| format!("{folder}/{library}"));
            let found = place.into_iter().find(|path| look.find(path.as_bytes()).is_ok());
            wanted.push(found.ok_or_else(|| miette!("`{path}` needs the library {library}, which is not there"))?);
        }
        let to = folder.join(&path);
        let cannot = || format!("cannot write {}", to.display());
        to.parent().map_or(Ok(()), fs::create_dir_all).into_diagnostic().wrap_err_with(cannot)?;
        fs::write(&to, file).into_diagnostic().wrap_err_with(cannot)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).into_diagnostic().wrap_err_with(cannot)?;
    }
    Ok(())
}

/// What a program or library says that it needs.
struct Needs {
    /// The path of its loader, from the root.
    loader: Option<String>,
    libraries: Vec<String>,
}

fn needs(file: &[u8]) -> Result<Needs> {
    let header = FileHeader64::<Endianness>::parse(file).into_diagnostic()?;
    let endian = header.endian().into_diagnostic()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    let segments = header.program_headers(endian, file).into_diagnostic()?;
    let loader = segments.iter().find(|segment| segment.p_type(endian) == PT_INTERP);
    let loader = loader
        .and_then(|segment| segment.data(endian, file).ok())
        .map(|path| text(path).trim_start_matches('/').to_owned());
    let sections = header.sections(endian, file).into_diagnostic()?;
    let mut libraries = Vec::new();
    if let Some((entries, link)) = sections.dynamic(endian, file).into_diagnostic()? {
        let strings = sections.strings(endian, file, link).into_diagnostic()?;
        for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
            libraries.push(text(entry.string(endian, strings).into_diagnostic()?));
        }
    }
    Ok(Needs { loader, libraries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_names_its_loader_and_its_libraries() {
        // This test is a program of Linux itself.
        let needs = needs(&fs::read("/proc/self/exe").unwrap()).unwrap();
        assert!(needs.loader.is_some_and(|loader| loader.contains("ld-")));
        assert!(needs.libraries.iter().any(|library| library.starts_with("libc.so")), "{:?}", needs.libraries);
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(needs(b"#!/bin/sh\n").is_err());
        assert!(needs(b"\x7fELF\x02\x01\x01").is_err());
    }
}
