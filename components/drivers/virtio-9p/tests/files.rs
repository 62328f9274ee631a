//! Files over 9P, against a server in memory, and against servers that lie.

mod server;

use std::sync::Arc;

use proptest::prelude::*;
use tessera_interfaces::{
    AttributeChange, Cap, Changes, FileError, Node, NodeKind, Owner, Rename, SetAttribute, Time, Unlink,
};
use tessera_virtio_9p::{Exchange, File, Session};

use server::Server;

const OWNER: Owner = Owner { user: 1, group: 2 };
const NO_CHANGE: AttributeChange = AttributeChange {
    which: 0,
    mode: 0,
    owner: OWNER,
    size: 0,
    accessed: Time { seconds: 0, nanoseconds: 0 },
    modified: Time { seconds: 0, nanoseconds: 0 },
};

fn serve(server: &Server, is_read_only: bool) -> Cap<dyn Node> {
    let root = Session::begin(Box::new(server.clone())).unwrap();
    Cap::local(Arc::new(File::root(root, is_read_only).unwrap()) as Arc<dyn Node>)
}

fn make(directory: &Cap<dyn Node>, name: &str, content: &[u8]) -> Cap<dyn Node> {
    let file = directory.create(name.as_bytes(), NodeKind::File, 0o644, OWNER, 0).unwrap();
    let mut done = 0;
    while done < content.len() {
        done += file.write(done as u64, &content[done..]).unwrap() as usize;
    }
    file
}

fn names(directory: &Cap<dyn Node>, buffer: usize) -> Vec<String> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let mut into = vec![0; buffer];
        let entries = directory.entries(from, &mut into).unwrap();
        if entries.bytes == 0 {
            return all;
        }
        let mut rest = &into[..entries.bytes as usize];
        while !rest.is_empty() {
            let length = usize::from(rest[17]);
            all.push(String::from_utf8(rest[18..18 + length].to_vec()).unwrap());
            rest = &rest[18 + length..];
        }
        from = entries.next;
    }
}

#[test]
fn what_is_written_is_read_and_every_fid_is_given_back() {
    let server = Server::new();
    let root = serve(&server, false);
    let content: Vec<u8> = (0..100_000_u32).map(|at| (at * 31) as u8).collect();
    let file = make(&root, "large", &content);
    let mut into = vec![0; 120_000];
    assert_eq!(file.read(0, &mut into), Ok(100_000));
    assert!(into[..100_000] == content);
    assert_eq!(file.read(99_990, &mut into), Ok(10));
    assert_eq!(file.read(1 << 40, &mut into), Ok(0));
    let appended = file.append(b"end").unwrap();
    assert_eq!((appended.at, appended.bytes), (100_000, 3));
    let attributes = file.attributes().unwrap();
    assert_eq!((attributes.kind, attributes.mode, attributes.size), (NodeKind::File, 0o644, 100_003));
    assert_eq!(attributes.owner.group, 2);
    assert_eq!(file.synchronise(), Ok(()));
    drop(file);
    assert_eq!(server.fids(), 1, "the root's is left");
}

#[test]
fn attributes_are_changed() {
    let root = serve(&Server::new(), false);
    let file = make(&root, "file", b"0123456789");
    let which = Changes::MODE | Changes::USER | Changes::SIZE | Changes::MODIFIED;
    let modified = Time { seconds: 5, nanoseconds: 6 };
    let owner = Owner { user: 33, group: 99 };
    assert_eq!(
        file.set_attributes(AttributeChange { which, mode: 0o600, owner, size: 4, modified, ..NO_CHANGE }),
        Ok(())
    );
    let now = file.attributes().unwrap();
    assert_eq!((now.mode, now.owner, now.size, now.modified), (0o600, Owner { user: 33, group: 2 }, 4, modified));
    let statistics = root.statistics().unwrap();
    assert_eq!((statistics.blocks, statistics.free_blocks, statistics.longest_name), (1000, 500, 255));
}

#[test]
fn directories_hold_what_was_put_into_them() {
    let root = serve(&Server::new(), false);
    let folder = root.create(b"folder", NodeKind::Directory, 0o755, OWNER, 0).unwrap();
    let mut expected: Vec<String> = (0..500).map(|number| format!("file-{number:0>40}")).collect();
    for name in &expected {
        make(&folder, name, b"");
    }
    // More than fit into one message, and into one buffer.
    for buffer in [100, 4096, 1 << 20] {
        assert_eq!(names(&folder, buffer), expected);
    }
    assert_eq!(folder.entries(0, &mut [0; 20]).unwrap_err(), FileError::BufferTooSmall);
    assert_eq!(root.unlink(b"folder", Unlink::Directory), Err(FileError::NotEmpty));
    assert_eq!(root.unlink(b"folder", Unlink::File), Err(FileError::IsDirectory));
    assert_eq!(folder.unlink(expected[0].as_bytes(), Unlink::File), Ok(()));
    assert_eq!(folder.rename(expected[1].as_bytes(), root.clone(), b"moved", Rename::Replace), Ok(()));
    assert_eq!(names(&folder, 4096), expected.split_off(2));
    assert_eq!(root.rename(b"moved", folder.clone(), expected[0].as_bytes(), Rename::NoReplace), Ok(()));
    make(&root, "other", b"");
    assert_eq!(root.rename(b"other", root.clone(), b"folder", Rename::NoReplace), Err(FileError::AlreadyExists));
    assert_eq!(root.rename(b"other", root.clone(), b"folder", Rename::Exchange), Err(FileError::InvalidArgument));
    assert_eq!(root.lookup(b"gone").unwrap_err(), FileError::NotFound);
    assert_eq!(root.create(b"other", NodeKind::File, 0, OWNER, 0).unwrap_err(), FileError::AlreadyExists);
    let stranger = serve(&Server::new(), false);
    assert_eq!(root.rename(b"other", stranger, b"x", Rename::Replace), Err(FileError::CrossDevice));
}

#[test]
fn links_and_extended_attributes_are_kept() {
    let root = serve(&Server::new(), false);
    let link = root.symlink(b"link", b"../target", OWNER).unwrap();
    let mut into = [0; 64];
    assert_eq!(link.target(&mut into), Ok(9));
    assert_eq!(&into[..9], b"../target");
    assert_eq!(link.target(&mut [0; 8]), Err(FileError::BufferTooSmall));
    let file = make(&root, "file", b"x");
    assert_eq!(root.link(b"second", file.clone()), Ok(()));
    assert_eq!(file.attributes().unwrap().links, 2);
    let value = vec![b'v'; 20_000];
    assert_eq!(file.set_attribute(b"user.a", &value, SetAttribute::Any), Ok(()));
    assert_eq!(file.attribute(b"user.a", &mut []), Ok(20_000));
    let mut got = vec![0; 20_000];
    assert_eq!(file.attribute(b"user.a", &mut got), Ok(20_000));
    assert!(got == value);
    assert_eq!(file.attribute_names(&mut into), Ok(7));
    assert_eq!(&into[..7], b"user.a\0");
    assert_eq!(file.remove_attribute(b"user.a"), Ok(()));
    assert_eq!(file.attribute(b"user.a", &mut []), Err(FileError::NoAttribute));
    assert_eq!(file.remove_attribute(b"user.a"), Err(FileError::NoAttribute));
}

#[test]
fn names_that_lead_elsewhere_are_not_asked_for() {
    let server = Server::new();
    let root = serve(&server, false);
    let before = server.0.lock().unwrap().count;
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
        assert_eq!(root.lookup(name).unwrap_err(), FileError::InvalidArgument);
        assert_eq!(root.create(name, NodeKind::File, 0o644, OWNER, 0).unwrap_err(), FileError::InvalidArgument);
        assert_eq!(root.unlink(name, Unlink::File), Err(FileError::InvalidArgument));
        assert_eq!(root.rename(b"a", root.clone(), name, Rename::Replace), Err(FileError::InvalidArgument));
    }
    assert_eq!(root.lookup(&[b'n'; 256]).unwrap_err(), FileError::NameTooLong);
    assert_eq!(server.0.lock().unwrap().count, before);
}

#[test]
fn what_is_read_only_is_not_changed() {
    let server = Server::new();
    make(&serve(&server, false), "file", b"content");
    let root = serve(&server, true);
    let file = root.lookup(b"file").unwrap();
    let mut into = [0; 7];
    assert_eq!(file.read(0, &mut into), Ok(7));
    let before = server.0.lock().unwrap().nodes.len();
    assert_eq!(file.write(0, b"x"), Err(FileError::ReadOnly));
    assert_eq!(file.append(b"x").unwrap_err(), FileError::ReadOnly);
    assert_eq!(file.set_attributes(AttributeChange { which: Changes::SIZE, ..NO_CHANGE }), Err(FileError::ReadOnly));
    assert_eq!(file.set_attribute(b"user.a", b"", SetAttribute::Any), Err(FileError::ReadOnly));
    assert_eq!(root.create(b"new", NodeKind::File, 0o644, OWNER, 0).unwrap_err(), FileError::ReadOnly);
    assert_eq!(root.symlink(b"new", b"x", OWNER).unwrap_err(), FileError::ReadOnly);
    assert_eq!(root.link(b"new", file.clone()), Err(FileError::ReadOnly));
    assert_eq!(root.unlink(b"file", Unlink::File), Err(FileError::ReadOnly));
    assert_eq!(root.rename(b"file", root.clone(), b"new", Rename::Replace), Err(FileError::ReadOnly));
    assert!(root.statistics().unwrap().read_only);
    let state = server.0.lock().unwrap();
    assert_eq!((state.nodes.len(), &state.nodes[1].content[..]), (before, &b"content"[..]));
}

/// Answers each request with what a server would, changed.
struct Liar {
    server: Server,
    lies: Vec<(u8, u8, u16)>,
    asked: usize,
}

impl Exchange for Liar {
    fn exchange(&mut self, request: &[u8]) -> Result<Vec<u8>, FileError> {
        let mut answer = self.server.exchange(request)?;
        let (how, value, place) = self.lies[self.asked % self.lies.len()];
        self.asked += 1;
        let at = usize::from(place) % answer.len();
        match how % 5 {
            0 => answer[at] = value,
            1 => answer.truncate(at),
            2 => answer.extend(std::iter::repeat_n(value, at)),
            // The size is right, the rest is not.
            3 => answer.iter_mut().skip(7).for_each(|byte| *byte = value),
            _ => {}
        }
        Ok(answer)
    }
}

proptest! {
    #[test]
    fn a_server_that_lies_is_an_error_and_no_more(lies in prop::collection::vec(any::<(u8, u8, u16)>(), 1..40)) {
        let server = Server::new();
        make(&serve(&server, false), "file", b"content");
        // It tells the truth until there is something to lie about.
        let lies = [vec![(4, 0, 0); 3], lies].concat();
        let Ok(root) = Session::begin(Box::new(Liar { server, lies, asked: 0 })) else { return Ok(()) };
        let Ok(root) = File::root(root, false) else { return Ok(()) };
        let root = Cap::local(Arc::new(root) as Arc<dyn Node>);
        let mut into = [0; 64];
        let _ = (root.attributes(), root.entries(0, &mut into), root.statistics(), root.attribute_names(&mut into));
        if let Ok(file) = root.lookup(b"file") {
            let _ = (file.read(0, &mut into), file.write(3, b"x"), file.target(&mut into), file.attribute(b"a", &mut into));
            let _ = (root.link(b"a", file.clone()), root.rename(b"a", root.clone(), b"b", Rename::NoReplace));
        }
        let _ = (root.symlink(b"s", b"t", OWNER), root.unlink(b"s", Unlink::File));
    }
}
