//! Archives as the `tar` crate writes them are read as they were written; whatever else is on the disk, nothing panics.

use std::sync::Arc;

use proptest::prelude::*;
use tessera_interfaces::{Block, BlockError, Cap, FileError, Geometry, Node, NodeKind, Owner};
use tessera_tar_files::{Damaged, Disk, Tree, root};

/// A disk in memory.
struct Memory(Vec<u8>, u32);

impl Block for Memory {
    fn geometry(&self) -> Result<Geometry, BlockError> {
        Ok(Geometry { block_size: self.1, blocks: self.0.len() as u64 / u64::from(self.1), read_only: true })
    }

    fn read(&self, first: u64, into: &mut [u8]) -> Result<(), BlockError> {
        let start = first as usize * self.1 as usize;
        assert!(into.len().is_multiple_of(self.1 as usize), "whole blocks");
        into.copy_from_slice(self.0.get(start..start + into.len()).ok_or(BlockError::OutOfRange)?);
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}

fn disk(mut bytes: Vec<u8>, unit: u32) -> Disk {
    bytes.resize(bytes.len().next_multiple_of(unit as usize), 0);
    Disk::new(Arc::new(Memory(bytes, unit))).unwrap()
}

fn open(bytes: Vec<u8>, unit: u32) -> Result<Cap<dyn Node>, Damaged> {
    let disk = disk(bytes, unit);
    let tree = Tree::read(&disk, 1000)?;
    Ok(Cap::local(Arc::new(root(disk, tree)) as Arc<dyn Node>))
}

fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, contents: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(contents.len() as u64);
    header.set_mode(0o640);
    header.set_uid(5);
    header.set_mtime(99);
    tar.append_data(&mut header, path, contents).unwrap();
}

fn find(root: &Cap<dyn Node>, path: &str) -> Result<Cap<dyn Node>, FileError> {
    path.split('/').try_fold(root.clone(), |node, name| node.lookup(name.as_bytes()))
}

fn contents(node: &Cap<dyn Node>, piece: usize) -> Vec<u8> {
    let (mut all, mut bytes) = (Vec::new(), vec![0; piece]);
    loop {
        match node.read(all.len() as u64, &mut bytes).unwrap() {
            0 => return all,
            count => all.extend_from_slice(&bytes[..count as usize]),
        }
    }
}

fn long() -> Vec<u8> {
    (0..200_000_u32).map(|index| (index % 251) as u8).collect()
}

fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "index.html", b"<p>old</p>");
    add(&mut tar, "a/b/large", &long());
    add(&mut tar, &format!("{}/{}", "d".repeat(90), "f".repeat(90)), b"long name");
    add(&mut tar, "empty", b"");
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "soft", "x".repeat(150)).unwrap();
    link.set_entry_type(tar::EntryType::Link);
    tar.append_link(&mut link, "hard", "a/b/large").unwrap();
    // Later ones take the place of those before.
    add(&mut tar, "index.html", b"<p>new</p>");
    tar.into_inner().unwrap()
}

#[test]
fn files_are_found_and_read_whatever_the_blocks_and_pieces() {
    for unit in [512, 4096] {
        let root = open(archive(), unit).unwrap();
        assert_eq!(contents(&find(&root, "index.html").unwrap(), 4096), b"<p>new</p>");
        for piece in [100, 512, 4097, 1 << 20] {
            assert_eq!(contents(&find(&root, "a/b/large").unwrap(), piece), long());
        }
        assert_eq!(contents(&find(&root, "hard").unwrap(), 1 << 20), long());
        assert_eq!(contents(&find(&root, "empty").unwrap(), 10), b"");
        let name = format!("{}/{}", "d".repeat(90), "f".repeat(90));
        assert_eq!(contents(&find(&root, &name).unwrap(), 100), b"long name");
        let mut target = [0; 200];
        assert_eq!(find(&root, "soft").unwrap().target(&mut target), Ok(150));
        assert_eq!(target[..150], [b'x'; 150]);
        assert_eq!(find(&root, "soft").unwrap().target(&mut [0; 10]), Err(FileError::BufferTooSmall));
        let attributes = find(&root, "index.html").unwrap().attributes().unwrap();
        assert_eq!((attributes.mode, attributes.size, attributes.modified.seconds), (0o640, 10, 99));
        assert_eq!((attributes.owner.user, attributes.kind), (5, NodeKind::File));
    }
}

#[test]
fn what_is_not_there_cannot_be_done_or_would_change_something_is_refused() {
    let root = open(archive(), 512).unwrap();
    assert_eq!(find(&root, "none").unwrap_err(), FileError::NotFound);
    assert_eq!(find(&root, "index.html/x").unwrap_err(), FileError::NotDirectory);
    assert_eq!(root.read(0, &mut [0]), Err(FileError::IsDirectory));
    let owner = Owner { user: 0, group: 0 };
    assert_eq!(root.create(b"x", NodeKind::File, 0o644, owner, 0).unwrap_err(), FileError::ReadOnly);
    assert_eq!(find(&root, "empty").unwrap().write(0, b"x"), Err(FileError::ReadOnly));
}

#[test]
fn directories_are_listed_in_pieces_each_name_once() {
    let root = open(archive(), 512).unwrap();
    let (mut names, mut from, mut bytes) = (Vec::new(), 0, [0; 120]);
    loop {
        let entries = root.entries(from, &mut bytes).unwrap();
        if entries.bytes == 0 {
            break;
        }
        let mut rest = &bytes[..entries.bytes as usize];
        while let [head @ .., _] = rest.get(..18).unwrap_or_default() {
            let _ = head;
            let length = usize::from(rest[17]);
            names.push(String::from_utf8(rest[18..18 + length].to_vec()).unwrap());
            rest = &rest[18 + length..];
        }
        from = entries.next;
    }
    assert_eq!(names, ["index.html", "a", &"d".repeat(90), "empty", "soft", "hard"]);
    assert_eq!(root.entries(0, &mut [0; 20]).unwrap_err(), FileError::BufferTooSmall);
}

#[test]
fn pax_records_count_and_paths_that_lead_out_have_no_place() {
    let mut tar = tar::Builder::new(Vec::new());
    let path = format!("p/{}", "n".repeat(120));
    let record = format!("path={path}\n");
    let length = (0..).find(|length: &usize| format!("{length} {record}").len() == *length).unwrap();
    let record = format!("{length} {record}");
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(record.len() as u64);
    header.set_path("pax").unwrap();
    header.set_cksum();
    tar.append(&header, record.as_bytes()).unwrap();
    add(&mut tar, "short", b"pax");
    let mut bytes = tar.into_inner().unwrap();
    let root = open(bytes.clone(), 512).unwrap();
    assert_eq!(contents(&find(&root, &path).unwrap(), 10), b"pax");
    assert!(find(&root, "short").is_err());
    // The name `pax` of the first header, and its checksum, made into `../`.
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..9].copy_from_slice(b"../secret");
    header.set_size(0);
    header.set_cksum();
    bytes.splice(0..0, header.as_bytes().iter().copied());
    let root = open(bytes, 512).unwrap();
    assert!(find(&root, "..").is_err() && find(&root, "secret").is_err());
    assert_eq!(contents(&find(&root, &path).unwrap(), 10), b"pax");
}

#[test]
fn a_disk_without_an_archive_and_too_many_files_are_told() {
    assert_eq!(open(vec![7; 2048], 512).unwrap_err(), Damaged::NoArchive);
    assert!(open(vec![0; 2048], 512).unwrap().attributes().is_ok(), "an empty archive");
    let disk = disk(archive(), 512);
    assert_eq!(Tree::read(&disk, 3).unwrap_err(), Damaged::TooMany(3));
    let mut cut = archive();
    cut.truncate(4096);
    assert_eq!(open(cut, 512).unwrap_err(), Damaged::Header(1024));
}

/// Visits all that can be reached.
fn visit(node: &Cap<dyn Node>, depth: usize) {
    let Ok(attributes) = node.attributes() else { return };
    let mut bytes = [0; 3000];
    match attributes.kind {
        NodeKind::Directory if depth < 20 => {
            let (mut from, mut rounds) = (0, 0);
            while let Ok(entries) = node.entries(from, &mut bytes)
                && entries.bytes > 0
                && rounds < 100
            {
                let length = usize::from(bytes[17]);
                if let Ok(child) = node.lookup(&bytes[18..18 + length]) {
                    visit(&child, depth + 1);
                }
                (from, rounds) = (entries.next, rounds + 1);
            }
        }
        NodeKind::SymbolicLink => drop(node.target(&mut bytes)),
        _ => {
            let _ = node.read(0, &mut bytes);
            let _ = node.read(u64::MAX, &mut bytes);
        }
    }
}

proptest! {
    #[test]
    fn a_damaged_archive_is_an_error_or_other_files(at in 0_usize..4096, bytes in proptest::collection::vec(any::<u8>(), 1..40), right in any::<bool>()) {
        let mut archive = archive();
        let at = at.min(archive.len() - bytes.len());
        archive[at..at + bytes.len()].copy_from_slice(&bytes);
        if right {
            // With a checksum that says that all is well.
            let first = at / 512 * 512;
            let sum: u32 = archive[first..first + 512].iter().enumerate()
                .map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum();
            archive[first + 148..first + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        if let Ok(root) = open(archive, 512) {
            visit(&root, 0);
        }
    }
}
