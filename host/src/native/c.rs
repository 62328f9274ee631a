//! The C code of crates: how the compiler of this machine makes code for Tessera.
//!
//! Crates compile C by the crate `cc`, which takes the compiler and its flags from the environment. A compiler for Linux on this processor
//! makes the right code if it is told what is otherwise there: the headers are musl's, and the thread pointer is read as in Rust's code, so that
//! it can be replaced in the kernel's mode. Of musl's functions those are used that only compute; `components/native` has others.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::TARGET;
use crate::bare;
use crate::toolchain::BareToolChain;

/// What names the compiler that the entry script found.
const GIVEN: &str = "TESSERA_C_COMPILER";
/// Those that are looked for without it.
const NAMES: [&str; 3] = ["cc", "gcc", "clang"];

/// Flags of GCC and Clang alike.
const FLAGS: [&str; 14] = [
    "-nostdinc",
    // It is not Linux, whatever the compiler was made for.
    "-U__linux__",
    "-U__linux",
    "-U__gnu_linux__",
    "-Ulinux",
    "-D__hermit__",
    "-fPIC",
    "-mno-red-zone",
    "-ftls-model=local-exec",
    "-mno-tls-direct-seg-refs",
    // What distributions add on their own.
    "-fno-stack-protector",
    "-fcf-protection=none",
    // Crash reports walk the frame pointers, and nothing is unwound.
    "-fno-omit-frame-pointer",
    "-fno-asynchronous-unwind-tables",
];

/// Where Debian's package `musl-dev` has its headers and its library.
const HEADERS: &str = "/usr/include/x86_64-linux-musl";
const LIBRARY: &str = "/usr/lib/x86_64-linux-musl/libc.a";

/// The C library that functions are taken from, if there is one.
pub fn library() -> Option<&'static Path> {
    Some(Path::new(LIBRARY)).filter(|path| path.exists())
}

/// Tells the crate `cc` in the builds that `cargo` makes which compiler there is, if there is one, and how to use it.
pub fn give_compiler(cargo: &mut Command, tool_chain: &BareToolChain) {
    let Some(compiler) = compiler() else { return };
    let mut flags = FLAGS.map(str::to_owned).to_vec();
    for headers in [Some(HEADERS.to_owned()), own_headers(&compiler)].into_iter().flatten() {
        flags.extend(["-isystem".to_owned(), headers]);
    }
    // No path of this machine comes into what is built.
    let renamed = bare::renamed_paths(tool_chain);
    let renamed = renamed.iter().filter_map(|flag| flag.strip_prefix("--remap-path-prefix="));
    flags.extend(renamed.map(|pair| format!("-ffile-prefix-map={pair}")));
    let target = TARGET.replace('-', "_");
    cargo.env(format!("CC_{target}"), compiler).env(format!("CFLAGS_{target}"), flags.join(" "));
}

fn compiler() -> Option<PathBuf> {
    if let Some(given) = env::var_os(GIVEN) {
        return Some(given.into());
    }
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.exists())
}

/// The folder of the headers that come with the compiler itself: `stddef.h` and its like.
fn own_headers(compiler: &Path) -> Option<String> {
    let output = Command::new(compiler).arg("-print-file-name=include").output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    Some(folder.trim().to_owned()).filter(|folder| folder.starts_with('/'))
}
