//! Links the program where native programs lie.

use std::env;

fn main() {
    let script = env::var("DEP_TESSERA_RUNTIME_LINKER_SCRIPT").expect("the runtime's build script sets it");
    println!("cargo:rustc-link-arg-bins=-T{script}");
    println!("cargo:rustc-link-arg-bins=--no-pie");
    println!("cargo:rerun-if-changed={script}");
}
