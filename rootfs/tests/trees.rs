//! Putting trees together: layers, links, and names that try to lead outside.

mod common;

use common::{directory, file, link, put, spool};
use tessera_rootfs::Kind;
use tessera_rootfs::build::{Content, Existing, NodeId, Tree, TreeError};

fn size(tree: &Tree, id: NodeId) -> u64 {
    match &tree.node(id).content {
        Content::Regular(blob) => blob.length(),
        other => panic!("no regular file: {other:?}"),
    }
}

#[test]
fn paths_stay_inside() {
    let (mut tree, mut spool) = (Tree::default(), spool());
    for path in ["../x", "a/../../x", "..", "/../etc/passwd"] {
        let node = file(&mut spool, b"x", 0o644);
        assert!(matches!(tree.put(path.as_bytes(), node, Existing::Replace), Err(TreeError::Outside(_))), "{path}");
    }
    put(&mut tree, "//./a//b", file(&mut spool, b"x", 0o644));
    assert!(tree.find(b"/a/b", false).is_ok());
    let long = [b'n'; 256];
    assert!(matches!(tree.put(&long, directory(0o755), Existing::Replace), Err(TreeError::NameTooLong(_))));
    assert!(matches!(tree.put(b"/", link("x"), Existing::Replace), Err(TreeError::Root(_))));
}

#[test]
fn links_are_followed_inside_the_tree_alone() {
    let (mut tree, mut spool) = (Tree::default(), spool());
    put(&mut tree, "usr/lib/x", file(&mut spool, b"1", 0o644));
    put(&mut tree, "lib", link("usr/lib"));
    put(&mut tree, "up", link("../../../../usr"));
    put(&mut tree, "usr/absolute", link("/lib"));
    put(&mut tree, "lib/y", file(&mut spool, b"22", 0o644));
    assert_eq!(size(&tree, tree.find(b"usr/lib/y", false).unwrap()), 2);
    assert_eq!(size(&tree, tree.find(b"up/absolute/x", false).unwrap()), 1);
    assert_eq!(tree.node(tree.find(b"lib", false).unwrap()).kind(), Kind::Link);
    assert_eq!(tree.find(b"lib", true), tree.find(b"usr/lib", false));
    put(&mut tree, "loop", link("loop"));
    assert!(matches!(tree.find(b"loop", true), Err(TreeError::TooManyLinks(_))));
    assert!(matches!(tree.find(b"loop/x", true), Err(TreeError::TooManyLinks(_))));
    assert!(matches!(tree.find(b"lib/x/z", true), Err(TreeError::NotADirectory(_))));
}

#[test]
fn a_directory_replaces_a_link_in_layers_and_follows_it_in_packages() {
    for (existing, replaced) in [(Existing::Replace, true), (Existing::KeepLink, false)] {
        let (mut tree, mut spool) = (Tree::default(), spool());
        put(&mut tree, "usr/lib/x", file(&mut spool, b"1", 0o644));
        put(&mut tree, "lib", link("usr/lib"));
        tree.put(b"lib", directory(0o700), existing).unwrap();
        tree.put(b"lib/y", file(&mut spool, b"1", 0o644), existing).unwrap();
        assert_eq!(tree.find(b"usr/lib/y", false).is_err(), replaced);
        assert_eq!(tree.node(tree.find(b"lib", false).unwrap()).kind() == Kind::Directory, replaced);
    }
}

#[test]
fn whiteouts_hide_lower_layers_alone() {
    let (mut tree, mut spool) = (Tree::default(), spool());
    for path in ["d/old", "d/sub/old", "e/old", "gone/deep/old", "kept"] {
        put(&mut tree, path, file(&mut spool, b"1", 0o644));
    }
    tree.next_layer();
    put(&mut tree, "d/sub/new", file(&mut spool, b"1", 0o644));
    put(&mut tree, "d/same", file(&mut spool, b"1", 0o644));
    tree.hide_contents(b"d").unwrap();
    tree.hide(b"e/old").unwrap();
    tree.hide(b"gone").unwrap();
    tree.hide(b"d/same").unwrap();
    tree.hide(b"never/was/there").unwrap();
    for hidden in ["d/old", "d/sub/old", "e/old", "gone"] {
        assert!(tree.find(hidden.as_bytes(), false).is_err(), "{hidden}");
    }
    for there in ["d/sub/new", "d/same", "e", "kept"] {
        assert!(tree.find(there.as_bytes(), false).is_ok(), "{there}");
    }
}

#[test]
fn hard_links_share_a_node_and_never_name_directories() {
    let (mut tree, mut spool) = (Tree::default(), spool());
    put(&mut tree, "a", file(&mut spool, b"1", 0o644));
    put(&mut tree, "d", directory(0o755));
    tree.hard_link(b"d/b", b"a").unwrap();
    assert_eq!(tree.find(b"d/b", false), tree.find(b"a", false));
    assert!(matches!(tree.hard_link(b"x", b"d"), Err(TreeError::LinkToDirectory(_))));
    assert!(matches!(tree.hard_link(b"x", b"nothing"), Err(TreeError::NotFound(_))));
    assert!(matches!(tree.hard_link(b"x", b"../a"), Err(TreeError::Outside(_))));
}

#[test]
fn a_spool_has_a_limit() {
    let mut small = tessera_rootfs::build::Spool::new(std::io::Cursor::new(Vec::new()), 10);
    small.add(&mut [0; 10].as_slice()).unwrap();
    let error = small.add(&mut [0; 1].as_slice()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
}
