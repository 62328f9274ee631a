//! Random sequences of calls against a model that is a few lines of maps: same answers, same tree, same link counts.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tessera_files::root;
use tessera_interfaces::{
    AttributeChange, Cap, Changes, FileError, Node, NodeKind, Owner, Rename, SetAttribute, Time, Unlink,
};
use tessera_runtime::own;

const OWNER: Owner = Owner { user: 7, group: 8 };
const ZERO: Time = Time { seconds: 0, nanoseconds: 0 };

fn empty() -> Cap<dyn Node> {
    let pool = tessera_runtime::Object::try_clone(&*own::pool()).unwrap();
    root(pool, 64 << 20, None, Box::new(|| ZERO)).unwrap()
}

fn resize(to: u64) -> AttributeChange {
    AttributeChange { which: Changes::SIZE, mode: 0, owner: OWNER, size: to, accessed: ZERO, modified: ZERO }
}

/// A place in the tree: a directory's path and a name in it.
type Place = (Vec<u8>, u8);

#[derive(Clone, Debug)]
enum Step {
    Create(Place, bool),
    Link(Place, Place),
    Unlink(Place, bool),
    Rename(Place, Place, u8),
    Write(Place, u32, u8, u32),
    Resize(Place, u32),
    Append(Place, u8, u32),
    Map(Place),
}

fn place() -> impl Strategy<Value = Place> {
    (prop::collection::vec(0..3_u8, 0..3), 0..3_u8)
}

fn step() -> impl Strategy<Value = Step> {
    // Around the limit of the heap, and small.
    let size = || prop_oneof![0..40_u32, 65_000..70_000_u32, 0..300_000_u32];
    prop_oneof![
        4 => (place(), any::<bool>()).prop_map(|(place, directory)| Step::Create(place, directory)),
        1 => (place(), place()).prop_map(|(place, to)| Step::Link(place, to)),
        2 => (place(), any::<bool>()).prop_map(|(place, directory)| Step::Unlink(place, directory)),
        3 => (place(), place(), 0..3_u8).prop_map(|(from, to, how)| Step::Rename(from, to, how)),
        2 => (place(), size(), any::<u8>(), size()).prop_map(|(place, at, byte, length)| Step::Write(place, at, byte, length)),
        2 => (place(), size()).prop_map(|(place, size)| Step::Resize(place, size)),
        1 => (place(), any::<u8>(), size()).prop_map(|(place, byte, length)| Step::Append(place, byte, length)),
        1 => place().prop_map(Step::Map),
    ]
}

#[derive(Default)]
struct Model {
    objects: Vec<Object>,
}

#[derive(Clone, Default, Debug)]
struct Object {
    entries: Option<BTreeMap<u8, usize>>,
    bytes: Vec<u8>,
    names: u32,
}

impl Model {
    fn walk(&self, path: &[u8]) -> Result<usize, FileError> {
        path.iter().try_fold(0, |at, name| self.child(at, *name))
    }

    fn child(&self, at: usize, name: u8) -> Result<usize, FileError> {
        let entries = self.objects[at].entries.as_ref().ok_or(FileError::NotDirectory)?;
        entries.get(&name).copied().ok_or(FileError::NotFound)
    }

    fn entries(&mut self, at: usize) -> &mut BTreeMap<u8, usize> {
        self.objects[at].entries.as_mut().unwrap()
    }

    fn is_directory(&self, at: usize) -> bool {
        self.objects[at].entries.is_some()
    }

    fn below(&self, top: usize, other: usize) -> bool {
        top == other
            || self.objects[top]
                .entries
                .iter()
                .flat_map(|entries| entries.values())
                .any(|child| self.below(*child, other))
    }

    fn removable(&self, at: usize, as_directory: bool) -> Result<(), FileError> {
        match (&self.objects[at].entries, as_directory) {
            (Some(_), false) => Err(FileError::IsDirectory),
            (None, true) => Err(FileError::NotDirectory),
            (Some(entries), true) if !entries.is_empty() => Err(FileError::NotEmpty),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, step: &Step) -> Result<(), FileError> {
        match step {
            Step::Create((path, name), directory) => {
                let at = self.walk(path)?;
                match self.child(at, *name) {
                    Err(FileError::NotFound) => {}
                    found => return found.and(Err(FileError::AlreadyExists)),
                }
                let entries = directory.then(BTreeMap::new);
                self.objects.push(Object { entries, names: 1, ..Object::default() });
                let new = self.objects.len() - 1;
                self.entries(at).insert(*name, new);
                Ok(())
            }
            Step::Link((path, name), (to_path, to_name)) => {
                let at = self.walk(path)?;
                let to = self.child(self.walk(to_path)?, *to_name)?;
                if self.is_directory(to) {
                    return Err(FileError::NotPermitted);
                }
                match self.child(at, *name) {
                    Err(FileError::NotFound) => {}
                    found => return found.and(Err(FileError::AlreadyExists)),
                }
                self.entries(at).insert(*name, to);
                self.objects[to].names += 1;
                Ok(())
            }
            Step::Unlink((path, name), directory) => {
                let at = self.walk(path)?;
                let child = self.child(at, *name)?;
                self.removable(child, *directory)?;
                self.entries(at).remove(name);
                self.objects[child].names -= 1;
                Ok(())
            }
            Step::Rename((path, name), (to_path, to_name), how) => {
                let (at, to) = (self.walk(path)?, self.walk(to_path)?);
                let child = self.child(at, *name)?;
                let other = match self.child(to, *to_name) {
                    Err(FileError::NotFound) => None,
                    found => Some(found?),
                };
                if self.below(child, to) {
                    return Err(FileError::InvalidArgument);
                }
                match (other, how) {
                    (Some(_), 1) => return Err(FileError::AlreadyExists),
                    (None, 2) => return Err(FileError::NotFound),
                    (Some(other), 2) if self.below(other, at) => return Err(FileError::InvalidArgument),
                    (Some(other), 0) if other == child => return Ok(()),
                    (Some(other), 0) => {
                        self.removable(other, self.is_directory(child))?;
                        self.objects[other].names -= 1;
                    }
                    _ => {}
                }
                self.entries(at).remove(name);
                self.entries(to).insert(*to_name, child);
                if let (Some(other), 2) = (other, how) {
                    self.entries(at).insert(*name, other);
                    // The exchange of a name with itself.
                    if at == to && name == to_name {
                        self.entries(at).insert(*name, child);
                    }
                }
                Ok(())
            }
            Step::Write((path, name), at, byte, length) => {
                let file = self.file(path, *name)?;
                if *length > 0 {
                    let end = (at + length) as usize;
                    let bytes = &mut self.objects[file].bytes;
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[*at as usize..end].fill(*byte);
                }
                Ok(())
            }
            Step::Append((path, name), byte, length) => {
                let file = self.file(path, *name)?;
                let bytes = &mut self.objects[file].bytes;
                bytes.resize(bytes.len() + *length as usize, *byte);
                Ok(())
            }
            Step::Resize((path, name), to) => {
                let file = self.file(path, *name)?;
                self.objects[file].bytes.resize(*to as usize, 0);
                Ok(())
            }
            Step::Map((path, name)) => self.file(path, *name).map(|_| ()),
        }
    }

    fn file(&self, path: &[u8], name: u8) -> Result<usize, FileError> {
        let at = self.child(self.walk(path)?, name)?;
        if self.is_directory(at) { Err(FileError::IsDirectory) } else { Ok(at) }
    }
}

fn walk(root: &Cap<dyn Node>, path: &[u8]) -> Result<Cap<dyn Node>, FileError> {
    path.iter().try_fold(root.clone(), |at, name| at.lookup(&[b'a' + name]))
}

fn apply(root: &Cap<dyn Node>, step: &Step) -> Result<(), FileError> {
    let name = |name: &u8| [b'a' + name];
    let find = |(path, last): &Place| walk(root, path)?.lookup(&name(last));
    match step {
        Step::Create((path, last), directory) => {
            let kind = if *directory { NodeKind::Directory } else { NodeKind::File };
            walk(root, path)?.create(&name(last), kind, 0o644, OWNER, 0).map(|_| ())
        }
        Step::Link((path, last), to) => {
            let at = walk(root, path)?;
            at.link(&name(last), find(to)?)
        }
        Step::Unlink((path, last), directory) => {
            walk(root, path)?.unlink(&name(last), if *directory { Unlink::Directory } else { Unlink::File })
        }
        Step::Rename((path, last), (to_path, to_last), how) => {
            let how = [Rename::Replace, Rename::NoReplace, Rename::Exchange][usize::from(*how)];
            let from = walk(root, path)?;
            from.rename(&name(last), walk(root, to_path)?, &name(to_last), how)
        }
        Step::Write(place, at, byte, length) => {
            let (file, bytes) = (find(place)?, vec![*byte; *length as usize]);
            let written = file.write(u64::from(*at), &bytes)?;
            assert_eq!(written, u64::from(*length));
            Ok(())
        }
        Step::Append(place, byte, length) => {
            let file = find(place)?;
            let before = file.attributes()?.size;
            let appended = file.append(&vec![*byte; *length as usize])?;
            assert_eq!((appended.at, appended.bytes), (before, u64::from(*length)));
            Ok(())
        }
        Step::Resize(place, to) => find(place)?.set_attributes(resize(u64::from(*to))),
        Step::Map(place) => find(place)?.memory().map(|_| ()),
    }
}

/// Packed entries, as names and kinds, read with a buffer that holds few at a time.
fn list(directory: &Cap<dyn Node>) -> Vec<(u8, u8)> {
    let (mut from, mut found, mut buffer) = (0, Vec::new(), [0; 50]);
    loop {
        let entries = directory.entries(from, &mut buffer).unwrap();
        let mut rest = &buffer[..entries.bytes as usize];
        if rest.is_empty() {
            found.sort_unstable();
            return found;
        }
        while !rest.is_empty() {
            let length = usize::from(rest[17]);
            assert_eq!(length, 1);
            found.push((rest[18] - b'a', rest[16]));
            rest = &rest[18 + length..];
        }
        from = entries.next;
    }
}

fn compare(model: &Model, at: usize, node: &Cap<dyn Node>) {
    let attributes = node.attributes().unwrap();
    let object = &model.objects[at];
    match &object.entries {
        Some(entries) => {
            let subdirectories = entries.values().filter(|child| model.is_directory(**child)).count();
            assert_eq!(attributes.links as usize, 2 + subdirectories);
            let kind = |child: usize| if model.is_directory(child) { NodeKind::Directory } else { NodeKind::File };
            let expected: Vec<_> = entries.iter().map(|(name, child)| (*name, kind(*child) as u8)).collect();
            assert_eq!(list(node), expected);
            for (name, child) in entries {
                compare(model, *child, &node.lookup(&[b'a' + name]).unwrap());
            }
        }
        None => {
            assert_eq!((attributes.links, attributes.size), (object.names, object.bytes.len() as u64));
            let mut bytes = vec![0; object.bytes.len() + 10];
            assert_eq!(node.read(0, &mut bytes).unwrap(), object.bytes.len() as u64);
            assert!(bytes[..object.bytes.len()] == object.bytes, "the content differs");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let root = empty();
        let mut model = Model { objects: vec![Object { entries: Some(BTreeMap::new()), names: 1, ..Object::default() }] };
        for step in &steps {
            prop_assert_eq!(model.apply(step), apply(&root, step), "{:?}", step);
        }
        compare(&model, 0, &root);
    }
}

#[test]
fn a_replaced_file_keeps_its_other_names() {
    let root = empty();
    let old = root.create(b"old", NodeKind::File, 0o600, OWNER, 0).unwrap();
    root.link(b"kept", old.clone()).unwrap();
    root.create(b"new", NodeKind::File, 0o600, OWNER, 0).unwrap();
    assert_eq!(old.attributes().unwrap().links, 2);
    root.rename(b"new", root.clone(), b"old", Rename::Replace).unwrap();
    assert_eq!(old.attributes().unwrap().links, 1);
    assert_eq!(root.lookup(b"kept").unwrap().attributes().unwrap().number, old.attributes().unwrap().number);
}

#[test]
fn an_unnamed_file_can_be_named_later() {
    let root = empty();
    let file = root.create_unnamed(0o600, OWNER).unwrap();
    assert_eq!(file.attributes().unwrap().links, 0);
    file.append(b"text").unwrap();
    root.link(b"named", file).unwrap();
    assert_eq!(root.lookup(b"named").unwrap().attributes().unwrap().size, 4);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let root = empty();
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
        assert_eq!(root.lookup(name).err(), Some(FileError::InvalidArgument), "{name:?}");
        assert_eq!(root.create(name, NodeKind::File, 0, OWNER, 0).err(), Some(FileError::InvalidArgument));
    }
    assert_eq!(root.lookup(&[b'x'; 256]).err(), Some(FileError::NameTooLong));
}

#[test]
fn a_client_that_makes_too_much_is_told_and_gets_it_back_by_removing() {
    let pool = tessera_runtime::Object::try_clone(&*own::pool()).unwrap();
    let root = root(pool, 100 << 10, None, Box::new(|| ZERO)).unwrap();
    let name = |index: u32| format!("file-{index}").into_bytes();
    let full = (0..1000).find(|index| root.create(&name(*index), NodeKind::File, 0, OWNER, 0).is_err()).unwrap();
    assert_eq!(root.create(b"one-more", NodeKind::File, 0, OWNER, 0).err(), Some(FileError::NoSpace));
    for index in 0..full {
        root.unlink(&name(index), Unlink::File).unwrap();
    }
    root.create(b"one-more", NodeKind::File, 0, OWNER, 0).unwrap();
}

#[test]
fn extended_attributes_are_kept_and_bounded() {
    let root = empty();
    assert_eq!(root.attribute(b"user.a", &mut []).err(), Some(FileError::NoAttribute));
    assert_eq!(root.set_attribute(b"user.a", b"1", SetAttribute::Replace).err(), Some(FileError::NoAttribute));
    root.set_attribute(b"user.a", b"value", SetAttribute::Create).unwrap();
    assert_eq!(root.set_attribute(b"user.a", b"1", SetAttribute::Create).err(), Some(FileError::AlreadyExists));
    let mut value = [0; 8];
    assert_eq!((root.attribute(b"user.a", &mut value).unwrap(), &value[..5]), (5, &b"value"[..]));
    assert_eq!(root.attribute(b"user.a", &mut value[..3]).err(), Some(FileError::BufferTooSmall));
    assert_eq!(root.attribute_names(&mut value).unwrap(), 7);
    assert_eq!(root.set_attribute(b"user.b", &vec![0; 70_000], SetAttribute::Any).err(), Some(FileError::TooLarge));
    root.remove_attribute(b"user.a").unwrap();
    assert_eq!(root.attribute_names(&mut []).unwrap(), 0);
}
