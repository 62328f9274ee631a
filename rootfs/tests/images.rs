//! Images that the builder makes, read by the reader; and by other tools where this machine has them.

mod common;

use std::process::Command;

use common::{at, contents, directory, file, image, link, put, sample, spool};
use tessera_rootfs::build::Tree;
use tessera_rootfs::{Image, Kind, PAGE};

#[test]
fn everything_comes_back() {
    let (tree, mut spool) = sample();
    let bytes = image(&tree, &mut spool);
    let image = Image::new(&bytes).unwrap();
    assert_eq!(contents(&image, &at(&image, "etc/passwd").unwrap()), b"root:x:0:0::/root:/bin/sh\n");

    let program = at(&image, "usr/bin/program").unwrap();
    assert_eq!((program.permissions(), program.uid, program.gid, program.links), (0o4755, 70_000, 5, 2));
    assert_eq!((program.mtime, program.mtime_nanoseconds), (1_700_000_000, 123_456_789));
    assert_eq!(at(&image, "usr/bin/second").unwrap(), program, "both names are one inode");
    let attributes: Vec<_> = image.attributes(&program).unwrap().map(Result::unwrap).collect();
    assert_eq!(attributes.len(), 3, "{attributes:?}");
    let colour = attributes.iter().find(|attribute| attribute.is_called(b"user.colour")).unwrap();
    assert_eq!(colour.value, b"blue");
    assert!(attributes.iter().any(|attribute| attribute.is_called(b"system.posix_acl_access")));

    let extent = image.data_extent(&program).unwrap().unwrap();
    assert!(extent.start.is_multiple_of(PAGE));
    assert_eq!(bytes[extent.start as usize..extent.end as usize], contents(&image, &program));
    let rest = &bytes[extent.end as usize..extent.end.next_multiple_of(PAGE) as usize];
    assert!(rest.iter().all(|byte| *byte == 0), "the rest of the last page is zeroes");
    assert_eq!(image.data_extent(&at(&image, "empty").unwrap()).unwrap(), Some(0..0));

    assert_eq!(image.link_target(&at(&image, "bin").unwrap()).unwrap(), b"usr/bin");
    assert_eq!(image.link_target(&at(&image, "names/link").unwrap()).unwrap().len(), 3000);
    assert_eq!(at(&image, "dev/null").unwrap().device(), Some((1, 3)));
    assert_eq!(at(&image, "dev/disk").unwrap().device(), Some((259, 70_000)));
    assert_eq!(at(&image, "dev/pipe").unwrap().kind(), Kind::Fifo);
    assert_eq!(at(&image, "tmp").unwrap().permissions(), 0o1777);
    assert_eq!(at(&image, "").unwrap().links, 2 + 6);
    assert!(at(&image, "nothing").is_none());
}

#[test]
fn a_large_directory_is_listed_from_anywhere_and_every_name_is_found() {
    let (tree, mut spool) = sample();
    let bytes = image(&tree, &mut spool);
    let image = Image::new(&bytes).unwrap();
    let many = at(&image, "many").unwrap();
    let entries: Vec<_> = image.entries(&many, 0).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 702);
    assert!(entries.windows(2).all(|pair| pair[0].name < pair[1].name && pair[0].next < pair[1].next));
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!(image.lookup(&many, entry.name).unwrap().unwrap().number, entry.number);
        let rest: Vec<_> = image.entries(&many, entry.next).unwrap().map(Result::unwrap).collect();
        assert_eq!(rest, entries[index + 1..]);
    }
    for absent in ["", "a", "z", "a rather long name of a file, number 5x", "a rather long name of a file, number 700"]
    {
        assert_eq!(image.lookup(&many, absent.as_bytes()).unwrap(), None);
    }
    let parent = image.lookup(&many, b"..").unwrap().unwrap();
    assert_eq!(parent.number, image.root());
}

#[test]
fn the_order_of_building_does_not_show() {
    let build = |names: &[&str]| {
        let (mut tree, mut spool) = (Tree::default(), spool());
        for name in names {
            put(&mut tree, name, file(&mut spool, name.rsplit('/').next().unwrap().as_bytes(), 0o644));
        }
        image(&tree, &mut spool)
    };
    assert_eq!(build(&["a/x", "b", "c/y"]), build(&["c/y", "a/x", "b"]));
    assert_ne!(build(&["a/x", "b"]), build(&["a/x", "d"]));
}

#[test]
fn files_with_the_same_bytes_lie_in_the_image_once() {
    let build = |contents: [Vec<u8>; 2]| {
        let (mut tree, mut spool) = (Tree::default(), spool());
        for (name, contents) in ["one", "other"].iter().zip(&contents) {
            put(&mut tree, name, file(&mut spool, contents, 0o644));
        }
        image(&tree, &mut spool)
    };
    let contents = vec![7; 70_001];
    let changed = contents.iter().enumerate().map(|(at, byte)| byte + u8::from(at == 70_000)).collect();
    let (equal, different) = (build([contents.clone(), contents.clone()]), build([contents.clone(), changed]));
    assert_eq!(different.len() - equal.len(), 70_001_usize.next_multiple_of(4096));
    let image = Image::new(&equal).unwrap();
    let inodes = ["one", "other"].map(|name| at(&image, name).unwrap());
    assert_ne!(inodes[0].number, inodes[1].number, "they are two files");
    for inode in inodes {
        let mut into = vec![0; 70_001];
        assert_eq!((image.read(&inode, 0, &mut into).unwrap(), inode.links), (70_001, 1));
        assert!(into == contents);
    }
}

#[test]
fn reading_stops_at_the_end_of_a_file() {
    let (mut tree, mut spool) = (Tree::default(), spool());
    put(&mut tree, "f", file(&mut spool, b"0123456789", 0o644));
    let bytes = image(&tree, &mut spool);
    let image = Image::new(&bytes).unwrap();
    let inode = at(&image, "f").unwrap();
    let mut into = [0; 8];
    assert_eq!(image.read(&inode, 4, &mut into).unwrap(), 6);
    assert_eq!(&into[..6], b"456789");
    assert_eq!(image.read(&inode, 10, &mut into).unwrap(), 0);
    assert_eq!(image.read(&inode, u64::MAX, &mut into).unwrap(), 0);
}

/// Whether a tool of `erofs-utils` is there; the tests that need one say so where it is not.
fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--help").output().is_ok();
    if !found {
        eprintln!("{tool} is not installed: nothing was compared");
    }
    found
}

#[test]
fn another_implementation_finds_nothing_wrong_and_extracts_the_same() {
    if !has("fsck.erofs") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut tree, mut spool) = (Tree::default(), spool());
    put(&mut tree, "etc/passwd", file(&mut spool, b"root\n", 0o644));
    put(&mut tree, "large", file(&mut spool, &vec![7; 70_001], 0o755));
    put(&mut tree, "large.copy", file(&mut spool, &vec![7; 70_001], 0o644));
    put(&mut tree, "bin", link("usr/bin"));
    put(&mut tree, "tmp", directory(0o1777));
    for index in 0..500 {
        put(&mut tree, &format!("many/{index:0>40}"), file(&mut spool, format!("{index}").as_bytes(), 0o644));
    }
    let path = folder.path().join("image");
    std::fs::write(&path, image(&tree, &mut spool)).unwrap();
    let extracted = folder.path().join("extracted");
    let output =
        Command::new("fsck.erofs").arg(format!("--extract={}", extracted.display())).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["large", "large.copy"] {
        assert_eq!(std::fs::read(extracted.join(name)).unwrap(), vec![7; 70_001]);
    }
    assert_eq!(std::fs::read_link(extracted.join("bin")).unwrap().to_str(), Some("usr/bin"));
    assert_eq!(std::fs::read_dir(extracted.join("many")).unwrap().count(), 500);

    let (tree, mut spool) = sample();
    std::fs::write(&path, image(&tree, &mut spool)).unwrap();
    let output = Command::new("fsck.erofs").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn images_of_another_implementation_are_read() {
    if !has("mkfs.erofs") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::create_dir_all(source.join("many")).unwrap();
    for index in 0..500 {
        std::fs::write(source.join(format!("many/{index:0>40}")), index.to_string()).unwrap();
    }
    // With a tail that this tool packs behind the inode.
    let pattern: Vec<u8> = (0..9_000u32).map(|at| (at / 3) as u8).collect();
    std::fs::write(source.join("tail"), &pattern).unwrap();
    std::os::unix::fs::symlink("many", source.join("link")).unwrap();
    for more in [&[] as &[&str], &["-Eforce-inode-compact"], &["-Eforce-inode-extended"]] {
        let path = folder.path().join("image");
        let output = Command::new("mkfs.erofs").args(more).arg(&path).arg(&source).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes = std::fs::read(&path).unwrap();
        let image = Image::new(&bytes).unwrap();
        let tail = at(&image, "tail").unwrap();
        assert_eq!(contents(&image, &tail), pattern);
        let mut into = [0; 20];
        assert_eq!(image.read(&tail, 8_185, &mut into).unwrap(), 20);
        assert_eq!(into, pattern[8_185..8_205]);
        assert_eq!(image.link_target(&at(&image, "link").unwrap()).unwrap(), b"many");
        for index in 0..500 {
            let inode = at(&image, &format!("many/{index:0>40}")).unwrap();
            assert_eq!(contents(&image, &inode), index.to_string().as_bytes());
        }
    }
}
