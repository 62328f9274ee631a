//! Trees and images for the tests.

use std::io::Cursor;

use tessera_rootfs::build::{self, Content, Existing, Metadata, Node, Spool, Tree};
use tessera_rootfs::{Image, Inode, Kind, NodeNumber};

pub type Memory = Spool<Cursor<Vec<u8>>>;

pub fn spool() -> Memory {
    Spool::new(Cursor::new(Vec::new()), 1 << 30)
}

pub fn metadata(permissions: u16) -> Metadata {
    Metadata { permissions, ..Metadata::default() }
}

pub fn file(spool: &mut Memory, mut contents: &[u8], permissions: u16) -> Node {
    Node { metadata: metadata(permissions), content: Content::Regular(spool.add(&mut contents).unwrap()) }
}

pub fn directory(permissions: u16) -> Node {
    Node { metadata: metadata(permissions), content: Content::Directory(Default::default()) }
}

pub fn link(target: &str) -> Node {
    Node { metadata: metadata(0o777), content: Content::Link(target.into()) }
}

pub fn put(tree: &mut Tree, path: &str, node: Node) {
    tree.put(path.as_bytes(), node, Existing::Replace).unwrap();
}

#[allow(dead_code, reason = "each test program uses a part of this module")]
pub fn image(tree: &Tree, spool: &mut Memory) -> Vec<u8> {
    let mut out = Vec::new();
    let length = build::write(tree, spool, &mut out).unwrap();
    assert_eq!(length, out.len() as u64);
    out
}

/// A tree with one of everything.
#[allow(dead_code, reason = "each test program uses a part of this module")]
pub fn sample() -> (Tree, Memory) {
    let (mut tree, mut spool) = (Tree::default(), spool());
    put(&mut tree, "etc/passwd", file(&mut spool, b"root:x:0:0::/root:/bin/sh\n", 0o644));
    put(&mut tree, "empty", file(&mut spool, b"", 0o600));
    let pattern: Vec<u8> = (0..10_000u32).map(|at| (at / 7) as u8).collect();
    let mut program = file(&mut spool, &pattern, 0o4755);
    program.metadata = Metadata {
        permissions: 0o4755,
        uid: 70_000,
        gid: 5,
        mtime: 1_700_000_000,
        mtime_nanoseconds: 123_456_789,
        attributes: [
            (b"user.colour".to_vec(), b"blue".to_vec()),
            (b"security.capability".to_vec(), vec![1, 0, 0, 2]),
            (b"system.posix_acl_access".to_vec(), vec![2, 0, 0, 0]),
            (b"foreign.thing".to_vec(), vec![1]),
        ]
        .into(),
    };
    put(&mut tree, "usr/bin/program", program);
    tree.hard_link(b"usr/bin/second", b"usr/bin/program").unwrap();
    put(&mut tree, "bin", link("usr/bin"));
    put(&mut tree, "tmp", directory(0o1777));
    let special =
        |kind, major, minor| Node { metadata: metadata(0o660), content: Content::Special(kind, major, minor) };
    put(&mut tree, "dev/null", special(Kind::CharacterDevice, 1, 3));
    put(&mut tree, "dev/disk", special(Kind::BlockDevice, 259, 70_000));
    put(&mut tree, "dev/pipe", special(Kind::Fifo, 0, 0));
    put(&mut tree, "dev/socket", special(Kind::Socket, 0, 0));
    for index in 0..700 {
        let name = format!("many/a rather long name of a file, number {index}");
        put(&mut tree, &name, file(&mut spool, index.to_string().as_bytes(), 0o644));
    }
    let longest = "l".repeat(255);
    put(&mut tree, &format!("names/{longest}"), file(&mut spool, b"long", 0o644));
    put(&mut tree, "names/link", link(&"t/".repeat(1500)));
    (tree, spool)
}

/// The inode at `path`, by lookups alone; links are not followed.
#[allow(dead_code, reason = "each test program uses a part of this module")]
pub fn at(image: &Image, path: &str) -> Option<Inode> {
    let mut number: NodeNumber = image.root();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        number = image.lookup(&image.inode(number).unwrap(), part.as_bytes()).unwrap()?.number;
    }
    Some(image.inode(number).unwrap())
}

/// All contents of a regular file.
#[allow(dead_code, reason = "each test program uses a part of this module")]
pub fn contents(image: &Image, inode: &Inode) -> Vec<u8> {
    let mut bytes = vec![0; inode.size as usize];
    assert_eq!(image.read(inode, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}
