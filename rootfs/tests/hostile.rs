//! Images that somebody spoiled: every answer is a value or an error, and each walk ends.

mod common;

use std::sync::OnceLock;

use proptest::prelude::*;
use tessera_rootfs::{Error, Image, Kind};

/// Reads all that can be reached, up to a bound, and answers how much that was.
fn walk(bytes: &[u8]) -> usize {
    let Ok(image) = Image::new(bytes) else { return 0 };
    let mut stack = vec![image.root()];
    let mut read = 0;
    while let Some(number) = stack.pop() {
        read += 1;
        if read > 2_000 {
            break;
        }
        let Ok(inode) = image.inode(number) else { continue };
        if let Ok(attributes) = image.attributes(&inode) {
            read += attributes.take(300).count();
        }
        let _ = (inode.device(), image.link_target(&inode));
        if let Ok(Some(extent)) = image.data_extent(&inode) {
            assert!(extent.end <= image.length(), "an extent outside of the image");
        }
        let _ = image.read(&inode, inode.size / 2, &mut [0; 100]);
        if inode.kind() == Kind::Directory
            && let Ok(entries) = image.entries(&inode, 0)
        {
            for entry in entries.flatten().take(1_000) {
                let _ = image.lookup(&inode, entry.name);
                if entry.name != b"." && entry.name != b".." {
                    stack.push(entry.number);
                }
            }
            let _ = image.lookup(&inode, b"program");
        }
    }
    read
}

fn good() -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let (tree, mut spool) = common::sample();
        common::image(&tree, &mut spool)
    })
}

#[test]
fn a_sound_image_is_walked_whole() {
    assert!(walk(good()) > 700);
}

#[test]
fn an_image_that_is_cut_short_is_refused() {
    for length in (0..good().len()).step_by(509) {
        let refused = Image::new(&good()[..length]);
        assert!(matches!(refused, Err(Error::NotAnImage | Error::Damaged)), "{length}");
    }
}

#[test]
fn a_directory_that_contains_itself_is_read_without_end_only_by_a_caller_who_wants_it() {
    let mut bytes = good().to_vec();
    let image = Image::new(&bytes).unwrap();
    let root = image.inode(image.root()).unwrap();
    let child = image.lookup(&root, b"tmp").unwrap().unwrap().number;
    // Every entry that leads to `tmp` leads to the root.
    let (from, to) = (child.0.to_le_bytes(), image.root().0.to_le_bytes());
    for at in (4096..12_288).step_by(4) {
        if bytes[at..at + 8] == from {
            bytes[at..at + 8].copy_from_slice(&to);
        }
    }
    let image = Image::new(&bytes).unwrap();
    assert_eq!(image.lookup(&root, b"tmp").unwrap().unwrap().number, image.root());
    assert!(walk(&bytes) > 700);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn spoiled_bytes_do_no_harm(spoils in prop::collection::vec((0usize..60_000, any::<u8>()), 1..40)) {
        let mut bytes = good().to_vec();
        for (at, value) in spoils {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        walk(&bytes);
    }

    #[test]
    fn spoiled_superblocks_and_first_inodes_do_no_harm(
        spoils in prop::collection::vec((1024usize..6000, prop::sample::select(vec![0u8, 1, 2, 0x7f, 0x80, 0xff])), 1..8)
    ) {
        let mut bytes = good().to_vec();
        for (at, value) in spoils {
            bytes[at] = value;
        }
        walk(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_good_superblock_do_no_harm(rest in prop::collection::vec(any::<u8>(), 12_288)) {
        let mut bytes = good()[..4096].to_vec();
        bytes.extend_from_slice(&rest);
        bytes[1024 + 36..1024 + 40].copy_from_slice(&4u32.to_le_bytes());
        walk(&bytes);
    }
}
