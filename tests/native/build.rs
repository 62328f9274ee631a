//! Compiles the C code, as crates with C code do.

fn main() {
    cc::Build::new().file("src/checked.c").compile("checked");
    println!("cargo:rerun-if-changed=src/checked.c");
}
