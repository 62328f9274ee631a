//! Links the program where native programs lie, and builds the code that is mapped into every Linux program.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let script = env::var("DEP_TESSERA_RUNTIME_LINKER_SCRIPT").expect("the runtime's build script sets it");
    println!("cargo:rustc-link-arg-bins=-T{script}");
    println!("cargo:rustc-link-arg-bins=--no-pie");
    println!("cargo:rerun-if-changed={script}");
    build_vdso(&PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")));
}

/// Builds `vdso/vdso.rs` to a shared object that needs no relocation, for Linux and thus with the tool chain that builds this script.
fn build_vdso(out: &Path) {
    let (source, script) = ("vdso/vdso.rs", "vdso/vdso.lds");
    println!("cargo:rerun-if-changed={source}");
    println!("cargo:rerun-if-changed={script}");
    let (object, image) = (out.join("vdso.o"), out.join("vdso.so"));
    let rustc = env::var_os("RUSTC").expect("cargo sets it");
    let host = env::var("HOST").expect("cargo sets it");
    run(Command::new(rustc)
        .args(["--edition=2024", "--crate-type=lib", "--emit=obj", "--target", &host, "-Copt-level=3"])
        .args(["-Cpanic=abort", "-Ccodegen-units=1", "-Crelocation-model=pic", "-Coverflow-checks=off"])
        .args(["-Cforce-unwind-tables=no", "-Cdebuginfo=0", source, "-o"])
        .arg(&object));
    run(Command::new("cc")
        .args(["-shared", "-nostdlib", "-Wl,-soname,linux-vdso.so.1", "-Wl,--hash-style=both", "-Wl,--build-id=none"])
        .args(["-Wl,-z,noexecstack", "-Wl,-z,max-page-size=4096", "-Wl,--no-undefined", "-Wl,-z,text"])
        .arg(format!("-Wl,-T,{script}"))
        .arg(&object)
        .arg("-o")
        .arg(&image));
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    assert!(status.success(), "{command:?} failed");
}
