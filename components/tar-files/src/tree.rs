//! The tree that an archive's headers describe, in memory: names, and where on the disk each file's bytes are.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use tessera_interfaces::{BlockError, NodeKind};

use crate::Disk;
use crate::header::{BLOCK, Header, Kind, record, text};

/// The most bytes of a path or a target.
const LONGEST: usize = 4096;
/// The most bytes of records about an object.
const LONGEST_RECORDS: usize = 64 << 10;
/// The longest name that clients can be told.
const LONGEST_NAME: usize = 255;

/// Why an archive cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// The disk failed.
    Disk(BlockError),
    /// The disk does not begin with an archive.
    NoArchive,
    /// At this byte there is no header that makes sense, or one whose contents are not on the disk.
    Header(u64),
    /// It has more files than may be.
    TooMany(usize),
}

impl fmt::Display for Damaged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damaged::Disk(error) => write!(formatter, "the disk cannot be read: {error:?}"),
            Damaged::NoArchive => write!(formatter, "the disk does not begin with a tar archive"),
            Damaged::Header(at) => write!(formatter, "the archive is damaged at byte {at}"),
            Damaged::TooMany(most) => {
                write!(formatter, "the archive has more than {most} files; the argument files=N lets it have more")
            }
        }
    }
}

/// An object of the tree.
#[derive(Clone, Debug)]
pub struct Object {
    /// A file, a directory or a symbolic link.
    pub kind: NodeKind,
    /// Permissions.
    pub mode: u32,
    /// The user and the group.
    pub owner: (u32, u32),
    /// Seconds since 1970.
    pub modified: u64,
    /// Where on the disk a file's bytes are.
    pub bytes: Range<u64>,
    /// What a symbolic link leads to.
    pub target: Box<[u8]>,
    /// Of a directory, what is in it, in the order in which it came.
    pub children: Vec<(Box<[u8]>, usize)>,
}

impl Object {
    fn directory() -> Object {
        let (owner, target) = ((0, 0), Box::default());
        Object { kind: NodeKind::Directory, mode: 0o755, owner, modified: 0, bytes: 0..0, target, children: Vec::new() }
    }
}

/// The tree. Object 0 is its root.
#[derive(Debug)]
pub struct Tree {
    objects: Vec<Object>,
    /// Objects by the number of the directory that they are in, and their name there.
    names: BTreeMap<(usize, Box<[u8]>), usize>,
    limit: usize,
}

/// Blocks in a row, read together: headers of small files follow one another closely.
struct Ahead<'a> {
    disk: &'a Disk,
    start: u64,
    bytes: Vec<u8>,
}

impl Ahead<'_> {
    fn block(&mut self, at: u64) -> Result<[u8; BLOCK], BlockError> {
        const BYTES: u64 = 16 << 10;
        let is_there = |ahead: &Self| {
            let inside = usize::try_from(at.checked_sub(ahead.start)?).ok()?;
            ahead.bytes.get(inside..)?.first_chunk().copied()
        };
        if let Some(block) = is_there(self) {
            return Ok(block);
        }
        let length = self.disk.length().saturating_sub(at).min(BYTES);
        self.bytes.resize(length as usize, 0);
        self.start = at;
        self.disk.read(at, &mut self.bytes)?;
        is_there(self).ok_or(BlockError::OutOfRange)
    }
}

/// What the headers before an object's own say of it.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Tree {
    /// Reads all headers of the archive on `disk`, which may have `limit` files.
    ///
    /// # Errors
    /// See [`Damaged`]. An archive whose end is missing is one that ends with the disk.
    pub fn read(disk: &Disk, limit: usize) -> Result<Tree, Damaged> {
        let mut tree = Tree { objects: vec![Object::directory()], names: BTreeMap::new(), limit };
        let mut said = Said::default();
        let mut at = 0_u64;
        let mut ahead = Ahead { disk, start: 0, bytes: Vec::new() };
        while disk.length().saturating_sub(at) >= BLOCK as u64 {
            let block = ahead.block(at).map_err(Damaged::Disk)?;
            if block == [0; BLOCK] {
                break;
            }
            let damaged = if at == 0 { Damaged::NoArchive } else { Damaged::Header(at) };
            let header = Header::read(&block).ok_or(damaged)?;
            let start = at.saturating_add(BLOCK as u64);
            let own_size = said.size.filter(|_| header.kind == Kind::File).unwrap_or(header.size);
            // Links have no contents, whatever size their header tells.
            let size = if matches!(header.kind, Kind::Link | Kind::Symbolic | Kind::Directory) { 0 } else { own_size };
            let end = start.checked_add(size).filter(|end| *end <= disk.length()).ok_or(Damaged::Header(at))?;
            let contents = |limit: usize| -> Result<Vec<u8>, Damaged> {
                let length = usize::try_from(size).ok().filter(|length| *length <= limit);
                let mut bytes = vec![0; length.ok_or(Damaged::Header(at))?];
                disk.read(start, &mut bytes).map_err(Damaged::Disk)?;
                Ok(bytes)
            };
            match header.kind {
                Kind::LongName => said.path = Some(text(&contents(LONGEST)?).to_vec()),
                Kind::LongTarget => said.target = Some(text(&contents(LONGEST)?).to_vec()),
                Kind::Records => {
                    let records = contents(LONGEST_RECORDS)?;
                    let value = |key: &str| record(&records, key.as_bytes());
                    said.path = value("path").map(<[u8]>::to_vec).or(said.path);
                    said.target = value("linkpath").map(<[u8]>::to_vec).or(said.target);
                    let size = value("size").and_then(|size| core::str::from_utf8(size).ok()?.parse().ok());
                    said.size = size.or(said.size);
                }
                Kind::Other => said = Said::default(),
                _ => tree.add(&header, core::mem::take(&mut said), start..end)?,
            }
            at = end.checked_next_multiple_of(BLOCK as u64).ok_or(Damaged::Header(at))?;
        }
        Ok(tree)
    }

    fn add(&mut self, header: &Header<'_>, said: Said, bytes: Range<u64>) -> Result<(), Damaged> {
        let path = said.path.unwrap_or_else(|| match header.path {
            ([], name) => name.to_vec(),
            (prefix, name) => [prefix, b"/", name].concat(),
        });
        let target = said.target.unwrap_or_else(|| header.target.to_vec());
        let Some(names) = names(&path) else { return Ok(()) };
        let Some((name, parents)) = names.split_last() else {
            // The root itself, which some archives name `./`.
            self.describe(0, header);
            return Ok(());
        };
        let mut directory = 0;
        for parent in parents {
            directory = match self.find(directory, parent) {
                Some(found) if self.get(found).is_some_and(|object| object.kind == NodeKind::Directory) => found,
                _ => self.insert(directory, parent, Object::directory())?,
            };
        }
        let kind = match header.kind {
            Kind::Directory => NodeKind::Directory,
            Kind::Symbolic => NodeKind::SymbolicLink,
            Kind::Link => {
                // Another name of what it leads to, if that came before, as it must.
                if let Some(found) = self.resolve(&target) {
                    self.name(directory, name, found);
                }
                return Ok(());
            }
            _ => NodeKind::File,
        };
        let known = self.find(directory, name);
        if kind == NodeKind::Directory
            && let Some(known) = known
            && self.get(known).is_some_and(|object| object.kind == kind)
        {
            self.describe(known, header);
            return Ok(());
        }
        let target = if kind == NodeKind::SymbolicLink { target.into() } else { Box::default() };
        let number = self.insert(directory, name, Object { kind, bytes, target, ..Object::directory() })?;
        self.describe(number, header);
        Ok(())
    }

    /// Takes over what a header says beside names and contents.
    fn describe(&mut self, number: usize, header: &Header<'_>) {
        if let Some(object) = self.objects.get_mut(number) {
            (object.mode, object.owner, object.modified) = (header.mode & 0o7777, header.owner, header.modified);
        }
    }

    /// Makes an object with a name, which what had it before loses.
    fn insert(&mut self, directory: usize, name: &[u8], object: Object) -> Result<usize, Damaged> {
        let number = self.objects.len();
        if number > self.limit {
            return Err(Damaged::TooMany(self.limit));
        }
        self.objects.push(object);
        self.name(directory, name, number);
        Ok(number)
    }

    fn name(&mut self, directory: usize, name: &[u8], number: usize) {
        let before = self.names.insert((directory, name.into()), number);
        let Some(parent) = self.objects.get_mut(directory) else { return };
        match before {
            None => parent.children.push((name.into(), number)),
            Some(_) => {
                for (known, child) in &mut parent.children {
                    if &**known == name {
                        *child = number;
                    }
                }
            }
        }
    }

    fn resolve(&self, path: &[u8]) -> Option<usize> {
        let found = names(path)?.iter().try_fold(0, |directory, name| self.find(directory, name))?;
        (self.get(found)?.kind != NodeKind::Directory).then_some(found)
    }

    /// What is called `name` in a directory.
    pub fn find(&self, directory: usize, name: &[u8]) -> Option<usize> {
        // The map's key owns its name; names are short.
        self.names.get(&(directory, name.into())).copied()
    }

    /// An object.
    pub fn get(&self, number: usize) -> Option<&Object> {
        self.objects.get(number)
    }

    /// How many objects there are, the root among them.
    pub fn count(&self) -> usize {
        self.objects.len()
    }
}

/// The names of a path, from the root on. None if one of them is none: such an object has no place in a tree.
fn names(path: &[u8]) -> Option<Vec<&[u8]>> {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !matches!(name, [] | [b'.'])).collect();
    let fine = |name: &&[u8]| *name != b".." && name.len() <= LONGEST_NAME && !name.contains(&0);
    (path.len() <= LONGEST && names.iter().all(fine)).then_some(names)
}
