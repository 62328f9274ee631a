//! Paths: from `/`, the directory that the program was given, with symbolic links followed. There is nothing above it.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use tessera_interfaces::{Cap, FileError, Node, NodeKind};

use crate::errno::{Errno, Result};

/// Most symbolic links of one path.
const LINKS: usize = 40;
/// The longest target of a symbolic link.
const TARGET: usize = 4096;

/// Where a path leads.
pub struct Place {
    /// The directory of its last name.
    pub directory: Cap<dyn Node>,
    /// That name; empty if the path is the root's.
    pub name: Vec<u8>,
    /// What is there, if anything is.
    pub node: Option<Cap<dyn Node>>,
}

impl Place {
    /// What is there.
    ///
    /// # Errors
    /// `ENOENT`: nothing is.
    pub fn found(self) -> Result<Cap<dyn Node>> {
        self.node.ok_or(Errno::ENOENT)
    }
}

fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec)
}

/// Follows `path` from `root`. Whether a symbolic link at its end is followed too says `follow`.
///
/// # Errors
/// `ENOENT`, `ENOTDIR`, `ELOOP`, and what the file system refuses.
pub fn walk(root: &Cap<dyn Node>, path: &[u8], follow: bool) -> Result<Place> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut rest: VecDeque<Vec<u8>> = names(path).collect();
    let mut above = vec![root.clone()];
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == b".." {
            if above.len() > 1 {
                above.pop();
            }
            continue;
        }
        let directory = above.last().unwrap_or(root).clone();
        let node = match directory.lookup(&name) {
            Ok(node) => node,
            Err(FileError::NotFound) if rest.is_empty() => return Ok(Place { directory, name, node: None }),
            Err(error) => return Err(error.into()),
        };
        let kind = node.attributes()?.kind;
        if kind == NodeKind::SymbolicLink && (follow || !rest.is_empty()) {
            links += 1;
            if links > LINKS {
                return Err(Errno::ELOOP);
            }
            let mut target = vec![0; TARGET];
            let length = node.target(&mut target)? as usize;
            let target = target.get(..length).unwrap_or_default();
            if target.first() == Some(&b'/') {
                above.truncate(1);
            }
            names(target).rev().for_each(|name| rest.push_front(name));
        } else if rest.is_empty() {
            return Ok(Place { directory, name, node: Some(node) });
        } else if kind == NodeKind::Directory {
            above.push(node);
        } else {
            return Err(Errno::ENOTDIR);
        }
    }
    let directory = above.last().unwrap_or(root).clone();
    Ok(Place { name: Vec::new(), node: Some(directory.clone()), directory })
}
