//! Tar files, honest and hostile, in a tree.

use tar::EntryType;

use super::super::testing::{Tar, paths, told};
use super::*;

fn unpacked(layers: &[Vec<u8>], flavour: Flavour) -> Building {
    let mut building = Building::new().unwrap();
    for layer in layers {
        add(&mut building, layer.as_slice(), flavour).unwrap();
        building.tree.next_layer();
    }
    building
}

fn refused_with(tar: Vec<u8>) -> String {
    told(&add(&mut Building::new().unwrap(), tar.as_slice(), Flavour::Layer).unwrap_err())
}

#[test]
fn a_layer_hides_what_is_below_and_nothing_of_its_own() {
    let lower = Tar::new().file("etc/a", b"1", 0o644).file("etc/b", b"1", 0o644).file("opt/x/y", b"1", 0o644).finish();
    let upper = Tar::new()
        .file("etc/.wh.a", b"", 0o644)
        .file("etc/c", b"1", 0o644)
        .file("opt/.wh..wh..opq", b"", 0o644)
        .file("opt/z", b"1", 0o644)
        .file("opt/.wh.z", b"", 0o644)
        .file(".wh..wh.aufs", b"", 0o644)
        .finish();
    let building = unpacked(&[lower.clone(), upper.clone()], Flavour::Layer);
    assert_eq!(paths(&building), ["/etc", "/etc/b", "/etc/c", "/opt", "/opt/z"]);
    // Anywhere but in a layer these are names like any other.
    let building = unpacked(&[lower, upper], Flavour::Plain);
    assert!(paths(&building).contains(&"/etc/.wh.a".to_owned()));
}

#[test]
fn long_names_times_owners_and_attributes_come_from_extended_headers() {
    let long = format!("deep/{}", "n".repeat(200));
    let tar = Tar::new()
        .extensions(&[
            ("path", long.as_bytes()),
            ("mtime", b"1600000000.25"),
            ("uid", b"3000000"),
            ("gid", b"70000"),
            ("SCHILY.xattr.security.capability", b"\x01\x00\x00\x02\xff"),
        ])
        .file("short", b"contents", 0o4711)
        .finish();
    let building = unpacked(&[tar], Flavour::Layer);
    let node = building.tree.node(building.tree.find(long.as_bytes(), false).unwrap());
    assert_eq!((node.metadata.uid, node.metadata.gid, node.metadata.permissions), (3_000_000, 70_000, 0o4711));
    assert_eq!((node.metadata.mtime, node.metadata.mtime_nanoseconds), (1_600_000_000, 250_000_000));
    assert_eq!(node.metadata.attributes[b"security.capability".as_slice()], b"\x01\x00\x00\x02\xff");
}

#[test]
fn links_and_devices_are_data() {
    let tar = Tar::new()
        .directory("./")
        .file("bin/tool", b"x", 0o755)
        .hard_link("bin/same", "./bin/tool")
        .link("escape", "/etc/passwd")
        .file("escape/x", b"", 0o644);
    // The link leads to /etc/passwd of the tree, which is made a folder there: this machine's file is not touched.
    let building = unpacked(&[tar.entry("dev/null", EntryType::Char, "", b"", 0o666).finish()], Flavour::Layer);
    let find = |path: &str| building.tree.find(path.as_bytes(), false).unwrap();
    assert_eq!(find("bin/same"), find("bin/tool"));
    assert_eq!(building.tree.node(find("dev/null")).content, Content::Special(Kind::CharacterDevice, 1, 3));
    assert!(paths(&building).contains(&"/etc/passwd/x".to_owned()));
}

#[test]
fn later_entries_take_the_place_of_earlier_ones() {
    let tar = Tar::new()
        .file("x", b"first", 0o644)
        .file("x", b"second", 0o600)
        .link("d", "/somewhere")
        .directory("d/")
        .file("d/inside", b"", 0o644)
        .finish();
    let mut building = unpacked(&[tar], Flavour::Layer);
    assert_eq!(building.read("x").unwrap().unwrap(), b"second");
    assert_eq!(paths(&building), ["/d", "/d/inside", "/x"]);
}

#[test]
fn entries_that_could_lead_outside_are_refused_by_name() {
    let outside = refused_with(Tar::new().file("../../etc/cron.d/x", b"", 0o644).finish());
    assert!(
        outside.contains("the entry `../../etc/cron.d/x` cannot be taken: ") && outside.contains("`..`"),
        "{outside}"
    );
    let link = refused_with(Tar::new().hard_link("x", "../../etc/shadow").finish());
    assert!(link.contains("`..`"), "{link}");
    let missing = refused_with(Tar::new().hard_link("x", "/etc/shadow").finish());
    assert!(missing.contains("there is no `/etc/shadow`"), "{missing}");
    let below = refused_with(Tar::new().file("x", b"", 0o644).file("x/y", b"", 0o644).finish());
    assert!(below.contains("not a directory"), "{below}");
    let whiteout = refused_with(Tar::new().file("a/../../.wh.x", b"", 0o644).finish());
    assert!(whiteout.contains("`..`"), "{whiteout}");
}

#[test]
fn links_in_circles_end() {
    let tar = Tar::new().link("a", "b").link("b", "a").file("a/x", b"", 0o644).finish();
    let circle = refused_with(tar);
    assert!(circle.contains("symbolic links"), "{circle}");
}

#[test]
fn damaged_tar_files_are_errors_and_never_panics() {
    let good = Tar::new().extensions(&[("mtime", b"1.5")]).file("a", &[1; 700], 0o644).link("b", "a").finish();
    for at in 0..good.len().min(3000) {
        for value in [0, b'0', b'9', 0xff] {
            let mut spoiled = good.clone();
            spoiled[at] = value;
            let _ = add(&mut Building::new().unwrap(), spoiled.as_slice(), Flavour::Layer);
        }
        if at % 64 == 0 {
            let _ = add(&mut Building::new().unwrap(), &good[..at], Flavour::Layer);
        }
    }
    let text = b"this is no tar file".repeat(100);
    let told = told(&add(&mut Building::new().unwrap(), text.as_slice(), Flavour::Plain).unwrap_err());
    assert!(told.contains("tar file"), "{told}");
}

#[test]
fn the_documentation_of_packages_stays_out() {
    let tar = Tar::new()
        .file("./usr/share/man/man1/x.1.gz", b"x", 0o644)
        .file("./usr/share/doc/x/README", b"x", 0o644)
        .file("./usr/share/doc/x/copyright", b"x", 0o644)
        .file("./usr/bin/x", b"x", 0o755)
        .finish();
    let building = unpacked(&[tar], Flavour::Package);
    let files: Vec<String> = paths(&building).into_iter().filter(|path| path.matches('/').count() > 3).collect();
    assert_eq!(files, ["/usr/share/doc/x", "/usr/share/doc/x/copyright"]);
}
