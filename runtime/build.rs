//! Tells the build scripts of programs where the linker script is (`DEP_TESSERA_RUNTIME_LINKER_SCRIPT`).

use std::env;
use std::path::PathBuf;

fn main() {
    let directory = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let script = directory.join("program.ld");
    println!("cargo:linker-script={}", script.display());
    println!("cargo:rerun-if-changed=program.ld");
    println!("cargo:rerun-if-changed=build.rs");
}
