//! A tree of files in memory, with the operations that unpacking archives needs.
//!
//! Paths are bytes, relative to the tree's root; symbolic links on the way are followed inside the tree, the last
//! component never is. Each name remembers in which layer it was put there, because a layer hides names of lower
//! layers only.

use std::collections::BTreeMap;
use std::fmt;

use super::Blob;
use crate::Kind;
use crate::format::NAME;

/// Links that are followed on the way to one file; Linux's limit too.
const LINKS: usize = 40;
/// Most names that a tree takes: an archive with more is no system.
const NAMES: usize = 8 << 20;

/// Names and values of extended attributes.
pub type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a file has besides its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Set-id and sticky bits and permissions.
    pub permissions: u16,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970, and nanoseconds below a second.
    pub mtime: u64,
    pub mtime_nanoseconds: u32,
    pub attributes: Attributes,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Directory(BTreeMap<Vec<u8>, Name>),
    Regular(Blob),
    Link(Vec<u8>),
    /// A device, a FIFO or a socket; the numbers are those of devices.
    Special(Kind, u32, u32),
}

/// A file of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub metadata: Metadata,
    pub content: Content,
}

impl Node {
    pub fn kind(&self) -> Kind {
        match &self.content {
            Content::Directory(_) => Kind::Directory,
            Content::Regular(_) => Kind::Regular,
            Content::Link(_) => Kind::Link,
            Content::Special(kind, _, _) => *kind,
        }
    }
}

/// Names a node of one tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

/// One name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    pub node: NodeId,
    layer: u32,
}

/// What becomes of a symbolic link to a directory where an archive has a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// The directory takes its place: tar files and layers.
    Replace,
    /// The link stays, and the files go where it points: Debian packages on a system whose `/lib` is a link.
    KeepLink,
}

/// Why a path cannot be used. Each carries the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// It has a component `..`.
    Outside(String),
    NameTooLong(String),
    /// Something on the way is not a directory.
    NotADirectory(String),
    NotFound(String),
    TooManyLinks(String),
    /// A hard link to a directory.
    LinkToDirectory(String),
    /// It would replace the root directory by something else.
    Root(String),
    TooManyNames,
}

impl fmt::Display for TreeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside(path) => write!(formatter, "`{path}` has `..` in it, which could lead outside"),
            Self::NameTooLong(path) => write!(formatter, "a name in `{path}` is longer than {NAME} bytes"),
            Self::NotADirectory(path) => write!(formatter, "something on the way to `{path}` is not a directory"),
            Self::NotFound(path) => write!(formatter, "there is no `{path}`"),
            Self::TooManyLinks(path) => write!(formatter, "`{path}` leads through more than {LINKS} symbolic links"),
            Self::LinkToDirectory(path) => write!(formatter, "`{path}` is a directory, and cannot be hard-linked"),
            Self::Root(path) => write!(formatter, "`{path}` is the root directory"),
            Self::TooManyNames => write!(formatter, "there are more than {NAMES} files"),
        }
    }
}

impl std::error::Error for TreeError {}

type Result<T> = std::result::Result<T, TreeError>;

/// The tree. There is always a root directory.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    layer: u32,
    names: usize,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![directory(Metadata { permissions: 0o755, ..Metadata::default() })], layer: 0, names: 0 }
    }
}

fn directory(metadata: Metadata) -> Node {
    Node { metadata, content: Content::Directory(BTreeMap::new()) }
}

fn told(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The components of a path; empty ones and `.` mean nothing.
fn components(path: &[u8]) -> Result<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(TreeError::Outside(told(path)));
    }
    if parts.iter().any(|part| part.len() > NAME || part.contains(&0)) {
        return Err(TreeError::NameTooLong(told(path)));
    }
    Ok(parts)
}

impl Tree {
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    pub fn metadata_mut(&mut self, id: NodeId) -> &mut Metadata {
        &mut self.nodes[id.0].metadata
    }

    /// The names in a directory, in order; none if it is no directory.
    pub fn children(&self, id: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
        let names = match &self.node(id).content {
            Content::Directory(names) => Some(names),
            _ => None,
        };
        names.into_iter().flatten().map(|(name, entry)| (name.as_slice(), entry.node))
    }

    /// From here on, names belong to the next layer.
    pub fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// Puts `node` at `path`, in place of what is there: only a directory keeps its names when a directory comes.
    /// Missing directories on the way are made.
    pub fn put(&mut self, path: &[u8], node: Node, existing: Existing) -> Result<NodeId> {
        let parts = components(path)?;
        let Some((name, parents)) = parts.split_last() else {
            // The root's own entry.
            return match node.content {
                Content::Directory(_) => {
                    self.nodes[0].metadata = node.metadata;
                    Ok(self.root())
                }
                _ => Err(TreeError::Root(told(path))),
            };
        };
        let parent = self.make_directories(parents, path)?;
        let found = self.child(parent, name);
        if let (Content::Directory(_), Some(found)) = (&node.content, found) {
            match &self.node(found).content {
                Content::Directory(_) => {
                    *self.metadata_mut(found) = node.metadata;
                    self.set(parent, name, found)?;
                    return Ok(found);
                }
                Content::Link(_) if existing == Existing::KeepLink => match self.walk(&parts, true, path)? {
                    Found::Node(target) if self.node(target).kind() == Kind::Directory => return Ok(target),
                    _ => {}
                },
                _ => {}
            }
        }
        let id = self.add(node)?;
        self.set(parent, name, id)?;
        Ok(id)
    }

    /// Gives the file at `target` the further name `path`. Symbolic links at the end of `target` are not followed.
    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let id = self.find(target, false)?;
        if self.node(id).kind() == Kind::Directory {
            return Err(TreeError::LinkToDirectory(told(target)));
        }
        let parts = components(path)?;
        let Some((name, parents)) = parts.split_last() else { return Err(TreeError::Root(told(path))) };
        let parent = self.make_directories(parents, path)?;
        self.set(parent, name, id)
    }

    /// Takes away what lower layers have at `path`. A path that is not there is no error: there is nothing to hide.
    pub fn hide(&mut self, path: &[u8]) -> Result<()> {
        let parts = components(path)?;
        let Some((name, parents)) = parts.split_last() else { return Err(TreeError::Root(told(path))) };
        let Some(parent) = self.directory_at(parents, path)? else { return Ok(()) };
        if let Some(found) = self.child(parent, name) {
            self.hide_below(found)?;
            let is_empty = self.children(found).next().is_none();
            let layer = self.layer;
            if let Content::Directory(names) = &mut self.nodes[parent.0].content
                && names.get(*name).is_some_and(|entry| entry.layer < layer)
                && is_empty
            {
                names.remove(*name);
            }
        }
        Ok(())
    }

    /// Takes away what lower layers have in the directory at `path` (an opaque directory).
    pub fn hide_contents(&mut self, path: &[u8]) -> Result<()> {
        match self.directory_at(&components(path)?, path)? {
            Some(directory) => self.hide_below(directory),
            None => Ok(()),
        }
    }

    /// Finds the file at `path`; with `follow`, a symbolic link at its end is followed too.
    pub fn find(&self, path: &[u8], follow: bool) -> Result<NodeId> {
        match self.walk(&components(path)?, follow, path)? {
            Found::Node(id) => Ok(id),
            Found::Missing { .. } => Err(TreeError::NotFound(told(path))),
        }
    }

    fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.node(parent).content {
            Content::Directory(names) => names.get(name).map(|entry| entry.node),
            _ => None,
        }
    }

    fn add(&mut self, node: Node) -> Result<NodeId> {
        if self.nodes.len() >= NAMES {
            return Err(TreeError::TooManyNames);
        }
        self.nodes.push(node);
        Ok(NodeId(self.nodes.len() - 1))
    }

    fn set(&mut self, parent: NodeId, name: &[u8], node: NodeId) -> Result<()> {
        self.names += 1;
        if self.names > NAMES {
            return Err(TreeError::TooManyNames);
        }
        let entry = Name { node, layer: self.layer };
        match &mut self.nodes[parent.0].content {
            Content::Directory(names) => {
                names.insert(name.to_vec(), entry);
                Ok(())
            }
            _ => Err(TreeError::NotADirectory(told(name))),
        }
    }

    /// Takes away the names of lower layers below a directory; directories with names of this layer stay.
    fn hide_below(&mut self, directory: NodeId) -> Result<()> {
        // Directories have one name each, so this ends; a stack of ours cannot overflow on deep trees.
        let mut order = vec![directory];
        let mut next = 0;
        while let Some(id) = order.get(next).copied() {
            let below: Vec<NodeId> = self.children(id).map(|(_, node)| node).collect();
            order.extend(below.into_iter().filter(|id| self.node(*id).kind() == Kind::Directory));
            next += 1;
        }
        // Children before their parents.
        for id in order.into_iter().rev() {
            let layer = self.layer;
            let kept: Vec<Vec<u8>> = match &self.node(id).content {
                Content::Directory(names) => names
                    .iter()
                    .filter(|(_, entry)| entry.layer >= layer || self.children(entry.node).next().is_some())
                    .map(|(name, _)| name.clone())
                    .collect(),
                _ => continue,
            };
            if let Content::Directory(names) = &mut self.nodes[id.0].content {
                names.retain(|name, _| kept.binary_search(name).is_ok());
            }
        }
        Ok(())
    }

    /// The directory that `parts` lead to; `None` if a part is not there.
    fn directory_at(&self, parts: &[&[u8]], path: &[u8]) -> Result<Option<NodeId>> {
        match self.walk(parts, true, path)? {
            Found::Node(id) if self.node(id).kind() == Kind::Directory => Ok(Some(id)),
            Found::Node(_) => Err(TreeError::NotADirectory(told(path))),
            Found::Missing { .. } => Ok(None),
        }
    }

    /// Like `directory_at`, and makes what is missing.
    fn make_directories(&mut self, parts: &[&[u8]], path: &[u8]) -> Result<NodeId> {
        loop {
            match self.walk(parts, true, path)? {
                Found::Node(id) if self.node(id).kind() == Kind::Directory => return Ok(id),
                Found::Node(_) => return Err(TreeError::NotADirectory(told(path))),
                Found::Missing { parent, name } => {
                    let new = self.add(directory(Metadata { permissions: 0o755, ..Metadata::default() }))?;
                    self.set(parent, &name, new)?;
                }
            }
        }
    }

    /// Goes from the root along `parts`, through symbolic links; through one at the end if `follow_last` says so.
    fn walk(&self, parts: &[&[u8]], follow_last: bool, path: &[u8]) -> Result<Found> {
        // The next component is the last of `rest`; `trail` holds the directories above `at`.
        let mut rest: Vec<Vec<u8>> = parts.iter().rev().map(|part| part.to_vec()).collect();
        let (mut at, mut trail, mut links) = (self.root(), Vec::new(), 0);
        while let Some(part) = rest.pop() {
            if part == b".." {
                // Only out of a link's target: components of paths were checked. The root's parent is the root.
                at = trail.pop().unwrap_or(self.root());
                continue;
            }
            let Some(found) = self.child(at, &part) else { return Ok(Found::Missing { parent: at, name: part }) };
            match &self.node(found).content {
                Content::Directory(_) => {
                    trail.push(at);
                    at = found;
                }
                Content::Link(target) if follow_last || !rest.is_empty() => {
                    links += 1;
                    if links > LINKS {
                        return Err(TreeError::TooManyLinks(told(path)));
                    }
                    if target.starts_with(b"/") {
                        trail.clear();
                        at = self.root();
                    }
                    let target = target.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
                    let target: Vec<Vec<u8>> = target.map(<[u8]>::to_vec).collect();
                    rest.extend(target.into_iter().rev());
                }
                _ if rest.is_empty() => return Ok(Found::Node(found)),
                _ => return Err(TreeError::NotADirectory(told(path))),
            }
        }
        Ok(Found::Node(at))
    }
}

/// Where a walk ended.
enum Found {
    Node(NodeId),
    /// `parent` is a directory without this name.
    Missing {
        parent: NodeId,
        name: Vec<u8>,
    },
}
