//! A file system that begins with an image: what is in it is there, changes stay apart from it, and a damaged one gives errors.

use std::io::Cursor;

use proptest::prelude::*;
use tessera_files::{Image, root};
use tessera_interfaces::{AttributeChange, Cap, Changes, FileError, Node, NodeKind, Owner, Time, Unlink};
use tessera_rootfs::build::{Content, Existing, Metadata, Node as Built, Spool, Tree, write};
use tessera_runtime::object::Vmo;
use tessera_runtime::{Object, own};

const OWNER: Owner = Owner { user: 0, group: 0 };
const ZERO: Time = Time { seconds: 0, nanoseconds: 0 };
/// Longer than a page, so that the pieces show.
const LONG: usize = 10_000;
/// More than what files have on the heap.
const LARGE: usize = 200_000;

fn long() -> Vec<u8> {
    (0..LARGE).map(|index| (index % 251) as u8).collect()
}

fn built() -> Vec<u8> {
    let (mut tree, mut spool) = (Tree::default(), Spool::new(Cursor::new(Vec::new()), 1 << 30));
    let metadata = Metadata { permissions: 0o751, uid: 5, gid: 6, mtime: 99, ..Metadata::default() };
    let mut put = |path: &str, content: Content| {
        tree.put(path.as_bytes(), Built { metadata: metadata.clone(), content }, Existing::Replace).unwrap();
    };
    let bytes = long();
    put("etc", Content::Directory(Default::default()));
    put("etc/name", Content::Regular(spool.add(&mut &b"tessera\n"[..]).unwrap()));
    put("etc/long", Content::Regular(spool.add(&mut &bytes[..LONG]).unwrap()));
    put("etc/large", Content::Regular(spool.add(&mut &bytes[..]).unwrap()));
    put("link", Content::Link(b"etc/name".to_vec()));
    put("null", Content::Special(tessera_rootfs::Kind::CharacterDevice, 1, 3));
    tree.hard_link(b"other", b"etc/name").unwrap();
    let mut out = Vec::new();
    write(&tree, &mut spool, &mut out).unwrap();
    out
}

fn open(bytes: Vec<u8>) -> Result<Cap<dyn Node>, FileError> {
    let pool = own::pool().try_clone().unwrap();
    let vmo = Vmo::create(&pool, bytes.len() as u64 + 4096).unwrap();
    assert_eq!(vmo.write(4096, &bytes).unwrap(), bytes.len());
    let image = Image::new(bytes.leak(), vmo, 4096).map_err(|_| FileError::Device)?;
    root(pool, 1 << 20, Some(image), Box::new(|| ZERO))
}

fn content(file: &Cap<dyn Node>) -> Vec<u8> {
    let mut bytes = vec![0; LARGE + 1000];
    let count = file.read(0, &mut bytes).unwrap();
    bytes.truncate(count as usize);
    bytes
}

#[test]
fn what_the_image_holds_is_there() {
    let root = open(built()).unwrap();
    let etc = root.lookup(b"etc").unwrap();
    let name = etc.lookup(b"name").unwrap();
    let attributes = name.attributes().unwrap();
    assert_eq!((attributes.mode, attributes.size, attributes.links), (0o751, 8, 2));
    assert_eq!((attributes.owner, attributes.modified.seconds), (Owner { user: 5, group: 6 }, 99));
    assert_eq!(content(&name), b"tessera\n");
    assert!(content(&etc.lookup(b"large").unwrap()) == long());
    let mut target = [0; 20];
    assert_eq!(root.lookup(b"link").unwrap().target(&mut target).unwrap(), 8);
    assert_eq!(&target[..8], b"etc/name");
    let null = root.lookup(b"null").unwrap().attributes().unwrap();
    assert_eq!((null.kind, null.device), (NodeKind::CharacterDevice, 0x103));
}

#[test]
fn files_of_the_image_are_mapped_where_they_lie() {
    let root = open(built()).unwrap();
    let file = root.lookup(b"etc").unwrap().lookup(b"long").unwrap();
    let memory = file.memory().unwrap();
    assert!(memory.offset >= 4096 && memory.offset.is_multiple_of(4096));
    let mut bytes = vec![0; LONG];
    assert_eq!(memory.vmo.read(memory.offset, &mut bytes).unwrap(), LONG);
    assert!(bytes == long()[..LONG]);
}

#[test]
fn names_of_one_file_stay_one_file_when_it_changes() {
    let root = open(built()).unwrap();
    root.lookup(b"other").unwrap().write(0, b"T").unwrap();
    let name = root.lookup(b"etc").unwrap().lookup(b"name").unwrap();
    assert_eq!(content(&name), b"Tessera\n");
    root.unlink(b"other", Unlink::File).unwrap();
    assert_eq!((name.attributes().unwrap().links, content(&name)), (1, b"Tessera\n".to_vec()));
}

#[test]
fn a_change_keeps_the_rest_of_the_file() {
    let root = open(built()).unwrap();
    let etc = root.lookup(b"etc").unwrap();
    for (name, size) in [(&b"long"[..], LONG), (b"large", LARGE)] {
        let file = etc.lookup(name).unwrap();
        file.write(5000, b"changed").unwrap();
        let mut expected = long()[..size].to_vec();
        expected[5000..5007].copy_from_slice(b"changed");
        assert!(content(&file) == expected);
        let change =
            AttributeChange { which: Changes::SIZE, mode: 0, owner: OWNER, size: 3, accessed: ZERO, modified: ZERO };
        file.set_attributes(change).unwrap();
        assert_eq!(content(&file), long()[..3]);
    }
}

/// Reads everything below a directory, to a depth.
fn visit(directory: &Cap<dyn Node>, depth: u32) {
    let mut entries = [0; 4096];
    let Ok(found) = directory.entries(0, &mut entries) else { return };
    let mut rest = &entries[..found.bytes as usize];
    while let Some(length) = rest.get(17) {
        let end = 18 + usize::from(*length);
        if let Ok(node) = directory.lookup(&rest[18..end]) {
            let _ = (node.attributes(), node.target(&mut [0; 100]), node.read(3, &mut [0; 5000]), node.memory());
            let _ = node.write(1, b"x");
            if depth > 0 {
                visit(&node, depth - 1);
            }
        }
        rest = &rest[end..];
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_image_gives_errors_only(changes in prop::collection::vec((0..12_000_usize, any::<u8>()), 1..8)) {
        let mut bytes = built();
        for (place, byte) in changes {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        if let Ok(root) = open(bytes) {
            visit(&root, 4);
        }
    }
}
