//! Links the program where native programs lie.

use std::env;

fn main() {
    let script = env::var("DEP_TESSERA_RUNTIME_LINKER_SCRIPT").expect("the runtime's build script sets it");
    println!("cargo:rustc-link-arg-bins=-T{script}");
    // Equal functions are there once, and segments stand close together in the file: they begin with blocks of the archive, of which a page's are
    // padded to show the code where it lies.
    for argument in ["--no-pie", "--icf=all", "-zmax-page-size=512"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed={script}");
}
