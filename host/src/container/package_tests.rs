//! Saved images and OCI layouts, whole and spoiled.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::super::source::Source;
use super::super::testing::{AARCH64, Tar, X86_64, configuration, layout, paths, program, saved, told, write_files};
use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn layers() -> Vec<Vec<u8>> {
    let lower = Tar::new().file("bin/program", &program(X86_64, None), 0o755).file("gone", b"x", 0o644).finish();
    vec![lower, Tar::new().file(".wh.gone", b"", 0o644).file("new", b"x", 0o644).finish()]
}

fn unpacked(source: &Source) -> Result<Unpacked> {
    source.unpack(&mut Step::start("test"), false)
}

/// Unpacks a file with these bytes.
fn file(name: &str, bytes: &[u8]) -> Result<Unpacked> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    unpacked(&Source::of(path.to_str().unwrap()).unwrap())
}

fn check(unpacked: &Unpacked) {
    let paths = paths(&unpacked.building);
    assert!(paths.contains(&"/new".to_owned()) && !paths.contains(&"/gone".to_owned()), "{paths:?}");
    for path in ["/etc/resolv.conf", "/etc/hosts", "/proc", "/dev", "/tmp"] {
        assert!(paths.contains(&path.to_owned()), "{path}");
    }
    assert_eq!(unpacked.settings.command, ["/bin/program"]);
    assert_eq!(unpacked.settings.directory, "/srv");
}

#[test]
fn a_saved_image_is_unpacked_packed_or_not() {
    let image = saved(&configuration("amd64", &layers()), &layers());
    check(&file("image.tar", &image).unwrap());
    check(&file("image.tar.gz", &gzip(&image)).unwrap());
    let zstandard = ruzstd::encoding::compress_to_vec(image.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
    check(&file("image.tar.zst", &zstandard).unwrap());
}

#[test]
fn an_oci_layout_is_unpacked_as_a_folder_and_as_an_archive() {
    let packed: Vec<Vec<u8>> = layers().iter().map(|layer| gzip(layer)).collect();
    let files = layout(&configuration("amd64", &layers()), &packed);
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path(), &files);
    check(&unpacked(&Source::of(folder.path().to_str().unwrap()).unwrap()).unwrap());
    let tar = files.iter().fold(Tar::new(), |tar, (name, contents)| tar.file(name, contents, 0o644)).finish();
    check(&file("archive.tar", &tar).unwrap());
}

#[test]
fn a_root_file_system_is_unpacked_as_a_tar_file_and_as_a_folder() {
    let tar = Tar::new().directory("./").file("./bin/sh", b"x", 0o755).file("manifest.json", b"{}", 0o644).finish();
    let from_tar = file("root.tar", &tar).unwrap();
    assert_eq!(from_tar.settings.command, ["/bin/sh"]);
    assert!(paths(&from_tar.building).contains(&"/manifest.json".to_owned()), "a file like any other");

    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("bin")).unwrap();
    fs::write(folder.path().join("bin/sh"), b"x").unwrap();
    fs::hard_link(folder.path().join("bin/sh"), folder.path().join("bin/same")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", folder.path().join("shadow")).unwrap();
    let from_folder = unpacked(&Source::of(folder.path().to_str().unwrap()).unwrap()).unwrap();
    let find = |path: &str| from_folder.building.tree.find(path.as_bytes(), false).unwrap();
    assert_eq!(find("bin/sh"), find("bin/same"));
    assert_eq!(from_folder.building.tree.node(find("bin/sh")).metadata.uid, 0);
    assert_eq!(from_folder.building.tree.node(find("shadow")).kind(), tessera_rootfs::Kind::Link);
}

#[test]
fn an_image_for_another_processor_is_refused_with_the_mend() {
    let image = saved(&configuration("arm64", &layers()), &layers());
    let refused = told(&file("image.tar", &image).err().unwrap());
    assert!(
        refused.contains("for another processor: arm64") && refused.contains("--platform linux/amd64"),
        "{refused}"
    );
    let manifests: Vec<Descriptor> = serde_json::from_value(json!([
        { "digest": "sha256:0", "platform": { "architecture": "arm64", "os": "linux" } },
        { "digest": "sha256:1", "platform": { "architecture": "unknown", "os": "unknown" } },
    ]))
    .unwrap();
    let refused = told(&choose(&manifests).err().unwrap());
    assert!(refused.contains("it has linux/arm64;"), "{refused}");
}

#[test]
fn a_layer_that_was_changed_on_its_way_is_refused() {
    let mut changed = layers();
    changed[1] = Tar::new().file("new", b"evil", 0o644).finish();
    let refused = told(&file("image.tar", &saved(&configuration("amd64", &layers()), &changed)).err().unwrap());
    assert!(refused.contains("layer 2 of 2") && refused.contains("SHA-256 differs"), "{refused}");
}

#[test]
fn digests_never_become_other_paths() {
    for digest in ["sha256:../../../../etc/passwd", "sha256:", "md5:00", "", &format!("sha256:{}", "A".repeat(64))] {
        assert!(blob_name(digest).is_err(), "{digest}");
    }
}

#[test]
fn several_images_in_one_file_are_named() {
    let one = json!({ "Config": "c", "RepoTags": ["one:1"], "Layers": [] });
    let two = json!({ "Config": "c", "RepoTags": ["two:2"], "Layers": [] });
    let tar = Tar::new().file("manifest.json", json!([one, two]).to_string().as_bytes(), 0o644).finish();
    let refused = told(&file("image.tar", &tar).err().unwrap());
    assert!(refused.contains("2 images in it: one:1, two:2"), "{refused}");
}

#[test]
fn what_is_no_image_at_all_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    fs::write(&path, b"just a text").unwrap();
    let refused = told(&Source::of(path.to_str().unwrap()).unwrap_err());
    assert!(refused.contains("neither an image, nor a tar file, nor a program"), "{refused}");
    let refused = told(&Source::of("nginx").unwrap_err());
    assert!(refused.contains("`docker://nginx` pulls"), "{refused}");
    fs::write(&path, b"\xfd7zXZ\0...").unwrap();
    let refused = told(&Source::of(path.to_str().unwrap()).unwrap_err());
    assert!(refused.contains("xz -d"), "{refused}");
}

#[test]
fn a_single_program_must_bring_all_it_needs() {
    let alone = file("tool", &program(X86_64, None)).unwrap();
    assert_eq!(alone.settings.entrypoint, ["/tool"]);
    assert!(paths(&alone.building).contains(&"/tool".to_owned()));
    let refused = told(&file("tool", &program(X86_64, Some("/lib64/ld-linux-x86-64.so.2"))).err().unwrap());
    assert!(refused.contains("needs the loader /lib64/ld-linux-x86-64.so.2"), "{refused}");
    assert!(refused.contains("link it statically"), "{refused}");
    let refused = told(&file("tool", &program(AARCH64, None)).err().unwrap());
    assert!(refused.contains("for another processor: AArch64"), "{refused}");
}
