//! Hands the linker the kernel's script. The image is linked at a fixed address, so that nothing relocates it at boot.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo:rerun-if-changed=kernel.ld");
    println!("cargo:rustc-link-arg-bins=-T{folder}/kernel.ld");
    for argument in ["--no-pie", "--icf=all", "-zmax-page-size=64", "--build-id=none", "--gc-sections"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
